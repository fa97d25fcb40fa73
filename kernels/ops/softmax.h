/* Softmax and its logarithm over the rows of a matrix, and their input gradients. x, grad, y, out (N, C); out may be the first.
 *
 * A vector runs along one row where rows are long. Where they are short, VL rows are first transposed into a block (C, VL), so
 * that a vector holds the same class of VL rows, all lanes are used, and sums over classes need no sum over lanes. Both ways
 * read and write whole vectors VL floats apart, so one function does both: `along` says which, and the compiler makes two of it.
 */
#ifndef FASTNN_SOFTMAX_H
#define FASTNN_SOFTMAX_H

#include <math.h>

#include "base/sums.h"
#include "base/threads.h"
#include "base/vmath.h"

enum {
    ROWS_BLOCK_C = 128,                  /* up to here rows are short */
    ROWS_TASK = 1 << 13,                /* about so many floats a task */
};

/* ---- vectors along a row, or along a block ---- */

INLINE i64 row_vectors(const int along, i64 C) { return along ? ceil_div(C, VL) : C; }
INLINE i64 row_lanes(const int along, i64 C, i64 k) { return along ? i64_min(VL, C - k * VL) : VL; }

/* Over all classes: lanes are classes of a row, or already whole rows. */
INLINE vf row_sum(const int along, vf v) { return along ? v_set1(v_sum(v)) : v; }

INLINE vf row_max(const int along, i64 C, const float *x) {
    vf largest = v_set1(-INFINITY);
    for (i64 k = 0; k < row_vectors(along, C); k++)
        largest = v_max(v_load_lanes(x + k * VL, row_lanes(along, C, k), -INFINITY), largest); /* passes over NaN */
    if (along) {
        float lanes[VL];
        memcpy(lanes, &largest, sizeof lanes);
        UNROLL for (int i = 1; i < VL; i++) lanes[0] = lanes[i] > lanes[0] ? lanes[i] : lanes[0];
        largest = v_set1(lanes[0]);
    }
    return largest;
}

/* block (C, VL) <- rows (n, C), n <= VL; the other lanes become zeros */
INLINE void pack_rows(float *restrict block, const float *restrict rows, i64 n, i64 C) {
    i64 c = 0;
    if (n == VL) {
        for (; c + 4 <= C; c += 4)
            UNROLL for (int r = 0; r < VL; r += 4) transpose_4x4(block + c * VL + r, VL, rows + r * C + c, C);
        for (; c < C; c++) UNROLL for (int r = 0; r < VL; r++) block[c * VL + r] = rows[r * C + c];
    } else {
        for (; c < C; c++) for (int r = 0; r < VL; r++) block[c * VL + r] = r < n ? rows[r * C + c] : 0.0f;
    }
}

/* rows (n, C) <- block (C, VL) */
INLINE void unpack_rows(float *restrict rows, const float *restrict block, i64 n, i64 C) {
    i64 c = 0;
    if (n == VL) {
        for (; c + 4 <= C; c += 4)
            UNROLL for (int r = 0; r < VL; r += 4) transpose_4x4(rows + r * C + c, C, block + c * VL + r, VL);
        for (; c < C; c++) UNROLL for (int r = 0; r < VL; r++) rows[r * C + c] = block[c * VL + r];
    } else {
        for (; c < C; c++) for (int r = 0; r < n; r++) rows[r * C + c] = block[c * VL + r];
    }
}

/* ---- one row, or one block; a is x or grad ---- */

INLINE void softmax_row(const int along, i64 C, const float *x, float *out) {
    vf largest = row_max(along, C, x);
    struct folded sum = {};
    for (i64 k = 0; k < row_vectors(along, C); k++) {
        i64 lanes = row_lanes(along, C, k);
        vf e = v_exp(v_load_lanes(x + k * VL, lanes, -INFINITY) - largest);
        v_store_lanes(out + k * VL, e, lanes);
        fold(&sum, e, k);
    }
    vf factor = 1.0f / row_sum(along, folded_sum(sum));
    for (i64 k = 0; k < row_vectors(along, C); k++) {
        i64 lanes = row_lanes(along, C, k);
        v_store_lanes(out + k * VL, v_load_lanes(out + k * VL, lanes, 0) * factor, lanes);
    }
}

INLINE void log_softmax_row(const int along, i64 C, const float *x, float *out) {
    vf largest = row_max(along, C, x);
    struct folded sum = {};
    for (i64 k = 0; k < row_vectors(along, C); k++)
        fold(&sum, v_exp(v_load_lanes(x + k * VL, row_lanes(along, C, k), -INFINITY) - largest), k);
    vf log_sum = v_log(row_sum(along, folded_sum(sum)));
    for (i64 k = 0; k < row_vectors(along, C); k++) {
        i64 lanes = row_lanes(along, C, k);
        v_store_lanes(out + k * VL, v_load_lanes(x + k * VL, lanes, 0) - largest - log_sum, lanes);
    }
}

/* y * (grad - sum(grad * y)) */
INLINE void softmax_backward_row(const int along, i64 C, const float *grad, const float *y, float *out) {
    struct folded sum = {};
    for (i64 k = 0; k < row_vectors(along, C); k++) {
        i64 lanes = row_lanes(along, C, k);
        fold(&sum, v_load_lanes(grad + k * VL, lanes, 0) * v_load_lanes(y + k * VL, lanes, 0), k);
    }
    vf mean = row_sum(along, folded_sum(sum));
    for (i64 k = 0; k < row_vectors(along, C); k++) {
        i64 lanes = row_lanes(along, C, k);
        v_store_lanes(out + k * VL, v_load_lanes(y + k * VL, lanes, 0) * (v_load_lanes(grad + k * VL, lanes, 0) - mean), lanes);
    }
}

/* grad - exp(y) * sum(grad) */
INLINE void log_softmax_backward_row(const int along, i64 C, const float *grad, const float *y, float *out) {
    struct folded sum = {};
    for (i64 k = 0; k < row_vectors(along, C); k++) fold(&sum, v_load_lanes(grad + k * VL, row_lanes(along, C, k), 0), k);
    vf total = row_sum(along, folded_sum(sum));
    for (i64 k = 0; k < row_vectors(along, C); k++) {
        i64 lanes = row_lanes(along, C, k);
        vf p = v_exp(v_load_lanes(y + k * VL, lanes, 0));
        v_store_lanes(out + k * VL, v_load_lanes(grad + k * VL, lanes, 0) - p * total, lanes);
    }
}

/* ---- kernels ---- */

struct rows {
    i64 N, C, step;                     /* step: rows a task, a multiple of every vector width */
    const float *a, *y;
    float *out;
};

INLINE i64 rows_step(i64 C) { return round_up(i64_max(1, ROWS_TASK / C), 16); }

/* The kernel NAME: ROW on each long row (a, y and out are then its own), or on blocks of short ones. READS_Y: 1 where y is read. */
#define ROWS(NAME, READS_Y, FLOPS, ROW)                                                                                  \
    static void NAME##_rows(void *context, i64 index) {                                                                  \
        const struct rows t = *(const struct rows *)context;                                                             \
        i64 C = t.C, n = index * t.step, end = i64_min(n + t.step, t.N);                                                 \
        if (C > ROWS_BLOCK_C) {                                                                                          \
            for (; n < end; n++) {                                                                                       \
                const float *a = t.a + n * C, *y = READS_Y ? t.y + n * C : NULL;                                         \
                float *out = t.out + n * C;                                                                              \
                (void)y;                                                                                                 \
                ROW(1);                                                                                                  \
            }                                                                                                            \
            return;                                                                                                      \
        }                                                                                                                \
        for (; n < end; n += VL) {                                                                                       \
            i64 count = i64_min(VL, end - n);                                                                            \
            float a[ROWS_BLOCK_C * VL], y[READS_Y ? ROWS_BLOCK_C * VL : 1], *out = a;                                    \
            (void)y;                                                                                                     \
            pack_rows(a, t.a + n * C, count, C);                                                                         \
            if (READS_Y) pack_rows(y, t.y + n * C, count, C);                                                            \
            ROW(0);                                                                                                      \
            unpack_rows(t.out + n * C, out, count, C);                                                                   \
        }                                                                                                                \
    }                                                                                                                    \
    KERNEL void NAME(i64 N, i64 C, const float *a, const float *y, float *out) {                                         \
        struct rows t = {N, C, rows_step(C), a, y, out};                                                                 \
        fastnn_parallel(ceil_div(N, t.step), (double)(N * C) * FLOPS, NAME##_rows, &t);                                  \
    }

#define SOFTMAX_ROW(along) softmax_row(along, C, a, out)
#define SOFTMAX_BACKWARD_ROW(along) softmax_backward_row(along, C, a, y, out)
#define LOG_SOFTMAX_ROW(along) log_softmax_row(along, C, a, out)
#define LOG_SOFTMAX_BACKWARD_ROW(along) log_softmax_backward_row(along, C, a, y, out)

ROWS(softmax_forward, 0, 35, SOFTMAX_ROW)
ROWS(softmax_backward_input, 1, 15, SOFTMAX_BACKWARD_ROW)
ROWS(log_softmax_forward, 0, 35, LOG_SOFTMAX_ROW)
ROWS(log_softmax_backward_input, 1, 35, LOG_SOFTMAX_BACKWARD_ROW)

#endif
