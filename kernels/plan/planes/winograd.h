/* A convolution of the planes chain by Winograd's way along the columns alone, lanes = output channels: tiles of 2 rows of outputs for 5 rows
 * of taps, of 4 for 3 take the products of 6 rows, instead of 10 and 12.
 *
 *   out[rows of a tile][x] = A^T (sum over c, j of U[c][j] * V[c][x + j]),  U = G w[c][.][j],  V = B^T x[c][rows of the tile]
 *
 * with the points and transforms of narrow/winograd.h. The input's transform runs with lanes = pixels, then each of the six entries
 * is a convolution of kernels of one row. LeNet-5's second layer: 9,000 FMAs of vectors instead of 15,000 (AVX-512).
 */
#ifndef FASTNN_PLANES_WINOGRAD_H
#define FASTNN_PLANES_WINOGRAD_H

#include "plan/narrow/winograd.h"
#include "plan/planes/conv.h"

enum { PLANES_ENTRIES = 6, PLANES_LEAST_TAPS = 16, PLANES_MOST_OUTPUTS = 512 };

/* Rows of a tile; 0: direct loops are to be taken. */
INLINE i64 planes_tile_rows(const struct chain *c, const struct chain_layer *l) {
    const i64 m = l->kh == 5 ? 2 : l->kh == 3 ? 4 : 0;
    return c->exact || l->C * l->kw < PLANES_LEAST_TAPS || l->PH * l->pool < m || l->O > PLANES_MOST_OUTPUTS ? 0 : m;
}

/* A layer's sizes. Transformed input [tiles][6][C][cols], products [6][OB][tiles][W][VL] */
struct planes_winograd { i64 m, tiles, cols, W, taps, OB, input, products; };

INLINE struct planes_winograd planes_winograd(const struct chain_layer *l, i64 m) {
    struct planes_winograd w = {m, ceil_div(l->PH * l->pool, m), round_up(l->W + 2 * l->pad_w, VL), l->PW * l->pool,
                                l->C * l->kw, ceil_div(l->O, VL), 0, 0};
    w.input = w.tiles * PLANES_ENTRIES * l->C * w.cols;
    w.products = PLANES_ENTRIES * w.OB * w.tiles * w.W * VL;
    return w;
}

/* weight (O, C, kh, kw) -> [6][OB][C*kw][VL] */
KERNEL void planes_winograd_pack(const struct chain_layer *l, float *packed) {
    const i64 K = l->C * l->kw, step = ceil_div(l->O, VL) * VL * K;
    float g[6][5];
    narrow_g(l->kh, g);
    for (i64 o = 0; o < l->O; o++) for (i64 k = 0; k < K; k++) {
        const float *w = l->weight + (o * l->C + k / l->kw) * l->kh * l->kw + k % l->kw;
        for (i64 f = 0; f < PLANES_ENTRIES; f++) {
            float sum = 0;
            for (i64 i = 0; i < l->kh; i++) sum += g[f][i] * w[i * l->kw];
            packed[f * step + (o / VL * K + k) * VL + o % VL] = sum;
        }
    }
}

/* out [OB][tiles * m][W][VL], bias and ReLU included */
KERNEL void planes_winograd_forward(const struct chain_layer *l, const struct planes_winograd *w, int relu, struct wide_view src,
                                    const float *packed, const float *bias, float *work, struct wide_view out) {
    const struct wide_conv rows = {l->C, l->O, 1, l->kw, w->tiles, w->W, 0, 0};
    const i64 tile = PLANES_ENTRIES * l->C * w->cols, product = w->products / PLANES_ENTRIES;
    float *products = work + w->input, none[PLANES_MOST_OUTPUTS] = {0};
    for (i64 t = 0; t < w->tiles; t++) for (i64 c = 0; c < l->C; c++) for (i64 i = 0; i < w->cols; i += VL) {
        vf d[PLANES_ENTRIES], v[PLANES_ENTRIES];
        UNROLL for (int k = 0; k < PLANES_ENTRIES; k++) d[k] = v_load(src.at + c * src.plane + (t * w->m + k) * src.row + i);
        narrow_bt(d, v);
        UNROLL for (int f = 0; f < PLANES_ENTRIES; f++) v_store(work + t * tile + (f * l->C + c) * w->cols + i, v[f]);
    }
    for (i64 f = 0; f < PLANES_ENTRIES; f++) {
        const struct wide_view from = {work + f * l->C * w->cols, w->cols, tile};
        const struct wide_view to = {products + f * product, w->tiles * w->W * VL, w->W * VL};
        wide_first_forward(&rows, packed + f * w->OB * VL * w->taps, none, 0, from, to);
    }
    for (i64 ob = 0; ob < w->OB; ob++) for (i64 t = 0; t < w->tiles; t++) for (i64 x = 0; x < w->W; x++) {
        const float *from = products + ((ob * w->tiles + t) * w->W + x) * VL;
        float *to = out.at + ob * out.plane + t * w->m * out.row + x * VL;
        vf v[PLANES_ENTRIES], y[4], b = v_load(bias + ob * VL);
        UNROLL for (int f = 0; f < PLANES_ENTRIES; f++) v[f] = v_load(from + f * product);
        if (w->m == 2) narrow_at(2, v, y);
        else narrow_at(4, v, y);
        for (i64 r = 0; r < w->m; r++) v_store(to + r * out.row, relu ? v_max((vf){0}, y[r] + b) : y[r] + b);
    }
}

#endif
