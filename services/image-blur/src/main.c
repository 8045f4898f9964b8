// image-blur as a filter: RGBA rows of a tile on stdin, its own rows, blurred, on stdout.
//
// Rows go through a ring that holds no more of them than one pixel needs, so a picture of any height takes little memory.
// Beyond its edges the picture goes on with its edge pixels. A tile that has fewer rows of its neighbour than the radius
// ends at the picture's edge.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blur.h"

// Bytes of a read or write; a row of a wide picture is about 16 KiB.
#define BUFFER (256 * 1024)

static void fail(const char *what) {
    fprintf(stderr, "image-blur: %s\n", what);
    exit(1);
}

// A number from the environment, at most `max`.
static size_t number(const char *name, size_t max) {
    const char *text = getenv(name);
    char *end = NULL;
    unsigned long value = text ? strtoul(text, &end, 10) : 0;
    if (!text || end == text || *end || value > max) {
        fprintf(stderr, "image-blur: %s must be a number up to %zu, not %s\n", name, max, text ? text : "missing");
        exit(1);
    }
    return value;
}

static void *room(size_t bytes) {
    // Zeroed: what lies behind a row is summed up too, and thrown away.
    void *memory = calloc(1, bytes);
    if (!memory) {
        fail("out of memory");
    }
    return memory;
}

struct tile {
    size_t width, height, top, bottom;
    int radius;
    int is_box;
};

static struct tile tile_asked_for(void) {
    struct tile tile = {.width = number("MSM_TILE_WIDTH", 1 << 24), .height = number("MSM_TILE_HEIGHT", 1 << 24)};
    tile.top = number("MSM_TILE_TOP", tile.height);
    tile.bottom = number("MSM_TILE_BOTTOM", tile.height);
    tile.radius = (int)number("MSM_PARAM_RADIUS", RADIUS_MAX);
    const char *kind = getenv("MSM_PARAM_KIND");
    tile.is_box = !kind || strcmp(kind, "box") == 0;
    if (!tile.is_box && strcmp(kind, "gaussian") != 0) {
        fail("MSM_PARAM_KIND must be box or gaussian");
    }
    if (tile.width == 0 || tile.radius == 0 || tile.top + tile.bottom >= tile.height) {
        fail("needs a width, a radius from 1, and rows of its own");
    }
    return tile;
}

// Reads the next row into `line`, and its edge pixels on both sides of it.
static void read_line(uint8_t *line, size_t bytes, size_t radius) {
    uint8_t *pixels = line + radius * 4;
    if (fread(pixels, 1, bytes, stdin) != bytes) {
        fail("stdin ends before the last row");
    }
    for (size_t i = 0; i < radius * 4; i++) {
        line[i] = pixels[i % 4];
    }
    for (size_t i = 0; i < (radius + 1) * 4; i++) {
        pixels[bytes + i] = pixels[bytes - 4 + i % 4];
    }
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "run") != 0) {
        fail("has `run` only: the host splits and merges rows");
    }
    struct tile tile = tile_asked_for();
    size_t radius = (size_t)tile.radius, taps = 2 * radius + 1, last = tile.height - 1;
    size_t bytes = tile.width * 4, padded = (bytes + STEP - 1) / STEP * STEP;
    // One row more than the blur needs: the one that leaves the sums of a box.
    size_t slots = taps < tile.height ? taps + 1 : tile.height;
    uint8_t *ring = room(slots * padded), *out = room(padded), *line = room(padded + taps * 4 + STEP);
    const uint8_t *across[2 * RADIUS_MAX + 1], *down[2 * RADIUS_MAX + 1];
    for (size_t d = 0; d < taps; d++) {
        across[d] = line + d * 4;
    }
    struct box box = {0};
    int16_t weights[RADIUS_MAX + 1];
    if (tile.is_box) {
        box_start(&box, tile.radius);
        box.columns = room(padded * sizeof *box.columns);
    } else {
        gaussian_weights(tile.radius, weights);
    }
    setvbuf(stdin, room(BUFFER), _IOFBF, BUFFER);
    setvbuf(stdout, room(BUFFER), _IOFBF, BUFFER);

    size_t read = 0;
    for (size_t y = tile.top; y < tile.height - tile.bottom; y++) {
        for (; read <= last && read <= y + radius; read++) {
            uint8_t *row = ring + read % slots * padded;
            read_line(line, bytes, radius);
            if (tile.is_box) {
                box_along(&box, line, row, padded);
            } else {
                gaussian(across, weights, tile.radius, row, padded);
            }
        }
        const uint8_t *leaves = down[0];
        for (size_t d = 0; d < taps; d++) {
            size_t from = y + d < radius ? 0 : y + d - radius;
            down[d] = ring + (from < last ? from : last) % slots * padded;
        }
        if (!tile.is_box) {
            gaussian(down, weights, tile.radius, out, padded);
        } else if (y > tile.top) {
            box_down(&box, down[taps - 1], leaves, out, padded);
        } else {
            for (size_t d = 0; d < taps; d++) {
                box_enter(&box, down[d], padded);
            }
            box_down(&box, down[0], down[0], out, padded); // one in, the same out
        }
        if (fwrite(out, 1, bytes, stdout) != bytes) {
            fail("stdout is closed");
        }
    }
    return fflush(stdout) == 0 ? 0 : 1;
}
