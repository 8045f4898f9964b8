// Ways for a C program to fail; the parameter `how` chooses.
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static volatile int zero = 0;
// What the compiler cannot do without.
static void *volatile kept;

__attribute__((noinline)) static int deeper(int n) {
    volatile char here[16];
    here[0] = n;
    return n ? deeper(n + 1) + here[0] : 0;
}

__attribute__((noinline)) static void wild(void) { *(volatile int *)0x7fffff00 = 1; }

int main(void) {
    const char *how = getenv("MSM_PARAM_HOW");
    fprintf(stderr, "about to %s\n", how);
    if (!strcmp(how, "exit")) return 3;
    if (!strcmp(how, "abort")) abort();
    if (!strcmp(how, "assert")) assert(zero);
    if (!strcmp(how, "divide")) return 100 / zero;
    if (!strcmp(how, "wild")) wild();
    if (!strcmp(how, "recurse")) return deeper(1);
    if (!strcmp(how, "loop")) for (;;) zero++;
    if (!strcmp(how, "eat"))
        for (;;) {
            if (!(kept = malloc(1 << 20))) abort();
            memset(kept, 1, 1 << 20);
        }
    if (!strcmp(how, "eat-and-say")) {
        while ((kept = malloc(1 << 20))) {}
        fprintf(stderr, "no memory\n");
        return 7;
    }
    if (!strcmp(how, "eat-and-live")) {
        while ((kept = malloc(1 << 20))) {}
        puts("alive");
    }
    return 0;
}
