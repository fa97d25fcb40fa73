/* What the checks of kernels in C share: arrays with guards, comparison, and derivatives by central differences.
 *
 * Expected values are made by plain loops in double precision from the same numbers. Arrays have a guard of floats before and after
 * them, which `near` finds changed where a kernel has written past an end. */
#ifndef KERNELS_C_COMMON_H
#define KERNELS_C_COMMON_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "table.h"

enum { GUARD = 16, MOST_ARRAYS = 256 };
static const float GUARDED = -12345.0f;

static int failures, checks;
static void *taken[MOST_ARRAYS];
static int takings;

/* Zeroed, 64-byte aligned memory; all of it is freed by release(). */
static void *memory(int64_t bytes) {
    if (takings == MOST_ARRAYS) abort();
    void *data = aligned_alloc(64, (size_t)(bytes + 127) / 64 * 64);
    if (!data) abort();
    memset(data, 0, (size_t)(bytes + 127) / 64 * 64);
    return taken[takings++] = data;
}

static void release(void) {
    while (takings) free(taken[--takings]);
}

static double *doubles(int64_t count) { return memory(count * (int64_t)sizeof(double)); }

/* Floats between two guards, NaN at first: what a kernel should write and does not stays different from all numbers. */
static float *floats(int64_t count) {
    float *data = (float *)memory((count + 2 * GUARD) * (int64_t)sizeof(float)) + GUARD;
    for (int64_t i = -GUARD; i < count + GUARD; i++) data[i] = i < 0 || i >= count ? GUARDED : NAN;
    return data;
}

static float *zeros(int64_t count) {
    float *data = floats(count);
    memset(data, 0, (size_t)count * sizeof(float));
    return data;
}

static uint64_t seed = 1;
static double uniform(double low, double high) { /* Knuth's MMIX generator */
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return low + (high - low) * (double)(seed >> 40) / (double)(1 << 24);
}

static float *drawn(int64_t count, double low, double high) {
    float *data = floats(count);
    for (int64_t i = 0; i < count; i++) data[i] = (float)uniform(low, high);
    return data;
}
static float *some(int64_t count) { return drawn(count, -1, 1); }

static double *widened(int64_t count, const float *x) {
    double *wide = doubles(count);
    for (int64_t i = 0; i < count; i++) wide[i] = x[i];
    return wide;
}

/* Counts a failure unless got is expected within tolerance * (1 + the largest expected), and its guards stand. */
static void near(const char *what, int64_t shape, int64_t count, const float *got, const double *expected, double tolerance) {
    double largest = 0, worst = 0;
    int64_t at = -1;
    for (int64_t i = 0; i < count; i++) largest = fmax(largest, fabs(expected[i]));
    for (int64_t i = 0; i < count; i++) {
        double error = fabs((double)got[i] - expected[i]);
        if (!(error <= worst)) worst = error, at = i; /* NaN, too */
        if (!(error == error)) break;
    }
    checks++;
    if (!(worst <= tolerance * (1 + largest))) {
        failures++;
        printf("%s, case %d: entry %d is %.9g, expected %.9g\n", what, (int)shape, (int)at, (double)got[at], expected[at]);
    }
    for (int64_t i = 0; i < GUARD; i++) if (got[-1 - i] != GUARDED || got[count + i] != GUARDED) {
        failures++;
        printf("%s, case %d: wrote outside its array of %d floats\n", what, (int)shape, (int)count);
        return;
    }
}

static void expect(const char *what, int64_t shape, int holds) {
    checks++;
    if (!holds) failures++, printf("%s, case %d: does not hold\n", what, (int)shape);
}

typedef void (*function)(const double *x, double *y, const void *arguments);

/* grad_x[i] = d (sum of grad * f(x)) / d x[i], by central differences */
static double *derived(function f, const void *arguments, int64_t inputs, const double *x, int64_t outputs, const double *grad) {
    double *at = doubles(inputs), *y = doubles(outputs), *grad_x = doubles(inputs);
    memcpy(at, x, (size_t)inputs * sizeof(double));
    for (int64_t i = 0; i < inputs; i++) {
        const double step = 1e-5;
        for (int side = -1; side <= 1; side += 2) {
            at[i] = x[i] + side * step;
            f(at, y, arguments);
            for (int64_t o = 0; o < outputs; o++) grad_x[i] += side * grad[o] * y[o] / (2 * step);
        }
        at[i] = x[i];
    }
    return grad_x;
}

#endif
