// Box blur: each pixel becomes the mean of its row's 2 * radius + 1 pixels around it, and then of its column's.

#include <string.h>

#include "blur.h"

// GCC's and clang's vectors: four, and here eight, channels at a time on any machine.
typedef uint8_t u8x8 __attribute__((vector_size(8)));
typedef uint16_t u16x8 __attribute__((vector_size(16)));
typedef uint32_t u32x8 __attribute__((vector_size(32)));

void box_start(struct box *box, int radius) {
    uint32_t n = 2 * (uint32_t)radius + 1;
    int bits = 0;
    while ((1u << bits) < n) {
        bits++;
    }
    // The factor is 2^shift / n rounded up, too big by e / n with e < n <= 2^bits: for a sum below 2^15 the quotient is
    // too big by less than 1 / n, which is the least that it lacks to the next whole number. So it is exact.
    box->radius = radius;
    box->shift = 15 + bits;
    box->factor = (uint16_t)(((1u << box->shift) + n - 1) / n);
}

static inline u16x8 wide(const uint8_t *bytes) {
    u8x8 narrow;
    memcpy(&narrow, bytes, sizeof narrow);
    return __builtin_convertvector(narrow, u16x8);
}

#ifdef __wasm_simd128__
#include <wasm_simd128.h>

static inline u16x8 quotients(u16x8 sums, uint16_t factor, int shift) {
    v128_t factors = wasm_u16x8_splat(factor);
    v128_t low = wasm_u32x4_shr(wasm_u32x4_extmul_low_u16x8((v128_t)sums, factors), (uint32_t)shift);
    v128_t high = wasm_u32x4_shr(wasm_u32x4_extmul_high_u16x8((v128_t)sums, factors), (uint32_t)shift);
    return (u16x8)wasm_u16x8_narrow_i32x4(low, high);
}
#else
static inline u16x8 quotients(u16x8 sums, uint16_t factor, int shift) {
    return __builtin_convertvector(__builtin_convertvector(sums, u32x8) * factor >> shift, u16x8);
}
#endif

// The nearest byte to each sum / n. n is odd, so no mean lies half-way.
static inline void means(const struct box *box, u16x8 sums, uint8_t *out) {
    u16x8 means = quotients(sums + (uint16_t)box->radius, box->factor, box->shift);
    u8x8 narrow = __builtin_convertvector(means, u8x8);
    memcpy(out, &narrow, sizeof narrow);
}

void box_along(const struct box *box, const uint8_t *line, uint8_t *row, size_t bytes) {
    size_t ahead = 4 * (2 * (size_t)box->radius + 1);
    uint16_t first[8] = {0};
    for (size_t i = 0; i < ahead; i++) {
        first[i % 4] += line[i];
        first[i % 4 + 4] += line[i];
    }
    const struct box fixed = *box;
    const u16x8 none = {0};
    // Two pixels at a time: the second one's sums are the first one's, moved on.
    u16x8 sums;
    memcpy(&sums, first, sizeof sums);
    for (size_t i = 0; i < bytes; i += 8) {
        u16x8 moves = wide(line + i + ahead) - wide(line + i);
        means(&fixed, sums + __builtin_shufflevector(none, moves, 0, 1, 2, 3, 8, 9, 10, 11), row + i);
        sums += moves + __builtin_shufflevector(moves, moves, 4, 5, 6, 7, 0, 1, 2, 3);
    }
}

void box_enter(const struct box *box, const uint8_t *row, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        box->columns[i] += row[i];
    }
}

void box_down(const struct box *box, const uint8_t *enters, const uint8_t *leaves, uint8_t *out, size_t bytes) {
    const struct box fixed = *box;
    for (size_t i = 0; i < bytes; i += 8) {
        u16x8 sums;
        memcpy(&sums, fixed.columns + i, sizeof sums);
        sums += wide(enters + i) - wide(leaves + i);
        memcpy(fixed.columns + i, &sums, sizeof sums);
        means(&fixed, sums, out + i);
    }
}
