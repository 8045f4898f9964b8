/* Greets whoever stands on a line. stdin has some lines of the input: other devices may have the others. */
#include <stdio.h>
#include <stdlib.h>

int main(void) {
    const char *greeting = getenv("MSM_PARAM_GREETING");
    int c = getchar();
    while (c != EOF) {
        printf("%s, ", greeting ? greeting : "Hello");
        for (; c != EOF && c != '\n'; c = getchar()) putchar(c);
        puts("!");
        c = getchar();
    }
    return ferror(stdin) || fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}
