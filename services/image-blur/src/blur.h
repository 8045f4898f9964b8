// The two passes of each kind of blur. A row is RGBA, 8 bits a channel; `bytes` is what it has, with room up to the next
// STEP behind it: the loops take no care of a rest.
#pragma once

#include <stddef.h>
#include <stdint.h>

// Vectors of 16 bytes are what WebAssembly has, and most processors.
#define STEP 16

// Largest radius, as service.toml says: sums of 2 * 50 + 1 bytes stay below 2^15.
#define RADIUS_MAX 50

// Box: the mean of 2 * radius + 1 pixels, by a sum that moves along.
struct box {
    int radius, shift;
    uint16_t factor;  // x / (2 * radius + 1) is (x * factor) >> shift
    uint16_t *columns; // their sums, from row to row
};

// Chooses factor and shift.
void box_start(struct box *box, int radius);
// Blurs a row. `line` has `radius` pixels before the row and `radius` + 1 behind it.
void box_along(const struct box *box, const uint8_t *line, uint8_t *row, size_t bytes);
// Adds a row to the sums of the columns.
void box_enter(const struct box *box, const uint8_t *row, size_t bytes);
// Moves the sums of the columns down by one row, and gives their means.
void box_down(const struct box *box, const uint8_t *enters, const uint8_t *leaves, uint8_t *out, size_t bytes);

// Gaussian: weights[d] for the pixels at distance d; all 2 * radius + 1 together are 1 << 15.
void gaussian_weights(int radius, int16_t weights[RADIUS_MAX + 1]);
// One pass in either direction: taps[radius + d] is where the pixels at distance d begin.
void gaussian(const uint8_t *const *taps, const int16_t *weights, int radius, uint8_t *out, size_t bytes);
