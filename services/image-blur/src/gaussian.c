// Gaussian blur with sigma = radius / 3, in whole numbers: the same bytes on every machine and in every language.

#include "blur.h"

// e^-x for 0 <= x <= 4.5. Sums and products of doubles are the same everywhere, an exp() of some library is not.
static double decay(double x) {
    double sum = 1, term = 1;
    for (int k = 1; k <= 40; k++) {
        term = term * x / k;
        sum = sum + term;
    }
    return 1 / sum;
}

void gaussian_weights(int radius, int16_t weights[RADIUS_MAX + 1]) {
    // exp(-d^2 / (2 sigma^2)) is q^(d^2); from d to d + 1 it is multiplied by q^(2d + 1).
    double q = decay(4.5 / (radius * radius));
    double bell[RADIUS_MAX + 1];
    double weight = 1, step = q, total = -1;
    for (int d = 0; d <= radius; d++) {
        bell[d] = weight;
        total = total + 2 * weight;
        weight = weight * step;
        step = step * q * q;
    }
    int rest = 1 << 15;
    for (int d = 1; d <= radius; d++) {
        weights[d] = (int16_t)(bell[d] / total * (1 << 15) + 0.5);
        rest -= 2 * weights[d];
    }
    weights[0] = (int16_t)rest;
}

void gaussian(const uint8_t *const *taps, const int16_t *weights, int radius, uint8_t *out, size_t bytes) {
    taps += radius;
    for (size_t i = 0; i < bytes; i += STEP) {
        int32_t sums[STEP];
        for (int j = 0; j < STEP; j++) {
            sums[j] = taps[0][i + j] * weights[0] + (1 << 14);
        }
        for (int d = 1; d <= radius; d++) {
            const uint8_t *before = taps[-d] + i, *behind = taps[d] + i;
            int16_t weight = weights[d];
            for (int j = 0; j < STEP; j++) {
                sums[j] += (int16_t)(before[j] + behind[j]) * weight;
            }
        }
        for (int j = 0; j < STEP; j++) {
            out[i + j] = (uint8_t)(sums[j] >> 15);
        }
    }
}
