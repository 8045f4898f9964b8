// Asks its device: every line of stdin is an operation, a blank and its body; what comes back is printed.
#include <stdint.h>
#include <stdio.h>
#include <string.h>

__attribute__((import_module("msm_v1"), import_name("call")))
int32_t msm_call(const char *op, uint32_t op_len, const void *in, uint32_t in_len);
__attribute__((import_module("msm_v1"), import_name("take")))
int32_t msm_take(void *to, uint32_t room);

static char body[2 << 20], taken[7];

int main(void) {
    char line[4096];
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        char *rest = strchr(line, ' ');
        *rest++ = 0;
        size_t length = strlen(rest);
        memcpy(body, rest, length);
        if (!strcmp(rest, "HUGE")) length = 100000;
        if (!strcmp(rest, "PICTURE")) {
            length = sprintf(body, "{\"width\":2,\"height\":3}\n") + 24;
            for (int i = 0; i < 24; i++) body[length - 24 + i] = i;
        }
        if (!strcmp(rest, "AGAIN")) length = 0; // what the last call gave
        static size_t kept;
        if (!strcmp(rest, "AGAIN")) length = kept;
        int32_t got = msm_call(line, strlen(line), !strcmp(rest, "AGAIN") ? body + (1 << 20) : body, length);
        printf("%s %d:", line, got);
        // In pieces smaller than most answers; the bytes after the line of JSON are kept.
        size_t total = 0;
        for (int32_t n; (n = msm_take(taken, sizeof taken)) > 0; total += n) memcpy(body + (1 << 20) + total, taken, n);
        char *from = body + (1 << 20), *end = memchr(from, '\n', total);
        size_t first = end ? end - from : total;
        printf("%.*s", (int)first, from);
        kept = end ? total - first - 1 : 0;
        if (kept) {
            memmove(from, end + 1, kept);
            printf(" + %zu", kept);
        }
        putchar('\n');
    }
    printf("take before call %d\n", msm_take(taken, sizeof taken));
    return 0;
}
