// One program for every kind of work: the parameter `do` says what `run` does.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned char *input(size_t *length) {
    size_t room = 1 << 16;
    unsigned char *bytes = malloc(room);
    for (*length = 0;;) {
        size_t got = fread(bytes + *length, 1, room - *length, stdin);
        if (!got) return bytes;
        if ((*length += got) == room) bytes = realloc(bytes, room *= 2);
    }
}

static void frame(const unsigned char *bytes, size_t length) {
    unsigned char head[4] = {length, length >> 8, length >> 16, length >> 24};
    fwrite(head, 1, 4, stdout);
    fwrite(bytes, 1, length, stdout);
}

int main(int argc, char **argv) {
    size_t length;
    unsigned char *bytes = input(&length);
    const char *deed = getenv("MSM_PARAM_DO");
    if (!strcmp(argv[1], "split")) {
        size_t want = atoi(getenv("MSM_WANT")), size = (length + want - 1) / want;
        for (size_t at = 0; at < length; at += size) frame(bytes + at, length - at < size ? length - at : size);
    } else if (!strcmp(argv[1], "merge")) {
        for (size_t at = 0; at < length;) {
            size_t part = bytes[at] | bytes[at + 1] << 8 | bytes[at + 2] << 16 | (size_t)bytes[at + 3] << 24;
            fwrite(bytes + at + 4, 1, part, stdout);
            at += 4 + part;
        }
    } else if (!strcmp(deed, "flip")) {
        for (size_t i = 0; i < length; i++) putchar(bytes[i] ^ 0x20);
    } else if (!strcmp(deed, "same")) {
        fwrite(bytes, 1, length, stdout);
    } else if (!strcmp(deed, "sum")) {
        // Each row plus the rows around it: needs its halo.
        long width = atol(getenv("MSM_TILE_WIDTH")), height = atol(getenv("MSM_TILE_HEIGHT"));
        long top = atol(getenv("MSM_TILE_TOP")), bottom = atol(getenv("MSM_TILE_BOTTOM"));
        long halo = atol(getenv("MSM_PARAM_HALO")), stride = width * 4;
        for (long y = top; y < height - bottom; y++)
            for (long i = 0; i < stride; i++) {
                unsigned sum = 0;
                for (long d = -halo; d <= halo; d++) {
                    long row = y + d < 0 ? 0 : y + d >= height ? height - 1 : y + d;
                    sum += bytes[row * stride + i];
                }
                putchar((uint8_t)sum);
            }
    } else {
        return 9;
    }
    return 0;
}
