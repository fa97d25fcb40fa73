/* Products with a panel of 48 columns: what the dense stage's forward of many images and its backward are made of.
 *
 *   tile (up to ROWS, 48) = a (ROWS, K) b (K, 48)
 *
 * a's terms are broadcast from rows as they lie or from a packed copy, b is a copy of a panel or its transpose. All rows, MR at a time, are
 * multiplied with one run of K before the next run: its 12 KB of b stay in L1, and are read from L2 once, not once for every MR rows.
 */
#ifndef FASTNN_DENSE_PANEL_H
#define FASTNN_DENSE_PANEL_H

#include "plan/dense/dense.h"

enum {
    DENSE_ROWS = 4 * DENSE_MR,
    DENSE_TILE_FLOATS = 3 * DENSE_ROWS * DENSE_PANEL /* of its sums, with what joins those of a long K */
};

/* tile (MR, NV vectors), rows DENSE_PANEL apart, = or += the sum over k of a[row][k * step] b[k], b's rows DENSE_PANEL apart */
INLINE void dense_micro(const int NV, const int step, int add, i64 K, const float *const a[DENSE_MR], const float *restrict b,
                        float *restrict tile) {
    vf acc[DENSE_MR][DENSE_NV];
    UNROLL for (int i = 0; i < DENSE_MR; i++) UNROLL for (int j = 0; j < NV; j++) acc[i][j] = (vf){0};
    for (i64 k = 0; k < K; k++) {
        vf bv[DENSE_NV];
        UNROLL for (int j = 0; j < NV; j++) bv[j] = dense_hold(v_load(b + k * DENSE_PANEL + j * VL));
        UNROLL for (int i = 0; i < DENSE_MR; i++) {
            vf av = dense_hold(v_set1(a[i][k * step]));
            UNROLL for (int j = 0; j < NV; j++) acc[i][j] += av * bv[j];
        }
    }
    UNROLL for (int i = 0; i < DENSE_MR; i++) UNROLL for (int j = 0; j < NV; j++) {
        float *const to = tile + i * DENSE_PANEL + j * VL;
        v_store(to, add ? v_load(to) + acc[i][j] : acc[i][j]);
    }
}

/* The first `width` columns, in whole vectors, of the sums of `rows` <= ROWS rows; with the tile DENSE_TILE_FLOATS are to be had. Term k
 * of row r of a is at a[r * a_row + k], or, packed, at a[(r / MR * K + k) * MR + r % MR]. */
INLINE void dense_tile_of(const int packed, i64 rows, i64 K, const float *a, i64 a_row, const float *b, i64 width, float *tile) {
    const i64 run = sum_run(K);
    struct joined total = joined_at(tile, round_up(rows, DENSE_MR) * DENSE_PANEL, ceil_div(K, i64_max(1, run)));
    for (i64 k = 0; k < K; k += run, joined_added(&total, 1)) for (i64 r = 0; r < rows; r += DENSE_MR) {
        const i64 terms = i64_min(run, K - k);
        const float *at[DENSE_MR], *const bk = b + k * DENSE_PANEL;
        float *const to = tile + r * DENSE_PANEL;
        UNROLL for (int i = 0; i < DENSE_MR; i++) at[i] = packed ? a + (r * K + k * DENSE_MR) + i : a + i64_min(r + i, rows - 1) * a_row + k;
        for (i64 j = 0; j < width; j += DENSE_NV * VL) switch (i64_min(DENSE_NV, (width - j) / VL)) {
            case 1: dense_micro(1, packed ? DENSE_MR : 1, k > 0, terms, at, bk + j, to + j); break;
            case 2: dense_micro(2, packed ? DENSE_MR : 1, k > 0, terms, at, bk + j, to + j); break;
            default: dense_micro(DENSE_NV, packed ? DENSE_MR : 1, k > 0, terms, at, bk + j, to + j);
        }
    }
    joined_end(&total);
}

static __attribute__((noinline)) void dense_tile(i64 rows, i64 K, const float *a, i64 a_row, const float *b, i64 width, float *tile) {
    dense_tile_of(0, rows, K, a, a_row, b, width, tile);
}
static __attribute__((noinline)) void dense_packed_tile(i64 rows, i64 K, const float *a, const float *b, i64 width, float *tile) {
    dense_tile_of(1, rows, K, a, 0, b, width, tile);
}

#endif
