/* Inverts the colours of some rows of a picture. stdin has four bytes a pixel (red, green, blue, opacity); how wide the
 * rows are, and which belong to the neighbours, stands in MSM_TILE_WIDTH, _HEIGHT, _TOP and _BOTTOM. */
#include <stdio.h>
#include <stdlib.h>

int main(void) {
    unsigned char pixel[4];
    while (fread(pixel, 1, sizeof pixel, stdin) == sizeof pixel) {
        for (int channel = 0; channel < 3; channel++) pixel[channel] = 255 - pixel[channel];
        if (fwrite(pixel, 1, sizeof pixel, stdout) != sizeof pixel) return EXIT_FAILURE;
    }
    return ferror(stdin) || fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}
