/* Gradients of a block's convolution, lanes = images.
 *
 *   dy [O][h][w][VL] the gradient of the outputs before pooling and ReLU: zero but where the maximum stood
 *   weight gradient: dw[o][k] = sum over h, w and the lanes of dy[o][h][w] * x[c][h + r][w + s], k = (c, r, s)
 *   input gradient: narrow_convolve() of dy in a frame of zeros, with the kernels turned
 *
 * The weight gradient keeps OT channels x T taps of sums in registers, each a vector of the images' own sums, over a band of rows that
 * stays in L1 together with the input below it; its runs of rows add up in memory, lanes at the end of the block. 85 % of the FMA peak with 4
 * channels, 60 % with 3: of the OT + T loads of a position 8 serve but 15 multiplications then.
 */
#ifndef FASTNN_NARROW_GRAD_H
#define FASTNN_NARROW_GRAD_H

#include "base/sums.h"
#include "plan/narrow/conv.h"

#if VL == 16
enum { NARROW_GRAD_TILE = 4, NARROW_TAPS = 5 };     /* channels and taps of the weight gradient's tile */
#else
enum { NARROW_GRAD_TILE = 3, NARROW_TAPS = 4 };
#endif
enum {
    NARROW_BAND_FLOATS = 13 << 9,       /* of dy: 26 KiB of L1 */
};

/* dy of OT channels and the windows of PH pooled rows; grad and where at the first of these, [O][plane] windows. where NULL: there is no
 * pooling, nor ReLU. Added to sums [OT][VL]: the channels' gradients. */
KERNEL void narrow_spread(i64 OT, i64 PH, i64 PW, i64 plane, i64 pool, const float *grad, const int8_t *where, struct narrow_view dy,
                          float *sums) {
    for (i64 o = 0; o < OT; o++, grad += plane * VL) {
        struct v_joined total = {};
        const int8_t *const places = where ? where + o * plane * VL : NULL;
        for (i64 h = 0; h < PH; h++) {
            vf sum = {0};
            for (i64 w = 0; w < PW; w++) {
                vf g = v_load(grad + (h * PW + w) * VL);
                float *to = dy.at + o * dy.plane + h * pool * dy.row + w * pool * VL;
                if (!places) {
                    sum += g;
                    v_store(to, g);
                    continue;
                }
                vi place = v_load_bytes(places + (h * PW + w) * VL);
                sum += (vf)((vi)g & (place >= 0));
                if (pool == 2) {
                    UNROLL for (int k = 0; k < 4; k++) v_store(to + k / 2 * dy.row + k % 2 * VL, (vf)((vi)g & (place == k)));
                } else {
                    for (i64 i = 0; i < pool; i++) for (i64 j = 0; j < pool; j++)
                        v_store(to + i * dy.row + j * VL, (vf)((vi)g & (place == (int32_t)(i * pool + j))));
                }
            }
            v_join(&total, sum);
        }
        v_store(sums + o * VL, v_load(sums + o * VL) + v_joined_sum(total));
    }
}

/* sums[t * OT + o] += sum over rows x cols positions of dy[o] * x at tap[t] */
INLINE void narrow_weight_tile(const int OT, i64 rows, i64 cols, const float *dy, i64 dy_plane, const float *x,
                               const i64 *tap, i64 x_row, float *sums) {
    vf acc[NARROW_TAPS * NARROW_GRAD_TILE];
    i64 run = 0;
    UNROLL for (int i = 0; i < NARROW_TAPS * OT; i++) acc[i] = (vf){0};
    for (i64 h = 0; h < rows; h++, dy += cols * VL) for (i64 first = 0, end; first < cols; first = end) {
        const float *at[NARROW_TAPS];
        UNROLL for (int t = 0; t < NARROW_TAPS; t++) at[t] = x + tap[t] + h * x_row;
        end = i64_min(cols, first + sum_run(cols));
        for (i64 i = first * VL; i < end * VL; i += VL) {
            vf d[NARROW_GRAD_TILE];
            UNROLL for (int o = 0; o < OT; o++) d[o] = v_load(dy + o * dy_plane + i);
            UNROLL for (int t = 0; t < NARROW_TAPS; t++) {
                vf v = v_load(at[t] + i);
                UNROLL for (int o = 0; o < OT; o++) acc[t * OT + o] += d[o] * v;
            }
        }
        run += end - first;
        if (run + i64_min(cols, SUM_RUN) <= SUM_SHORT && (h + 1 < rows || end < cols)) continue;
        run = 0;
        UNROLL for (int i = 0; i < NARROW_TAPS * OT; i++) {
            v_store(sums + i * VL, v_load(sums + i * VL) + acc[i]);
            acc[i] = (vf){0};
        }
    }
}

#define NARROW_WEIGHT_TILE(OT)                                                                                           \
    static void narrow_weight_tile_##OT(i64 rows, i64 cols, const float *dy, i64 dy_plane, const float *x, const i64 *tap, \
                                        i64 x_row, float *sums) {                                                        \
        narrow_weight_tile(OT, rows, cols, dy, dy_plane, x, tap, x_row, sums);                                           \
    }
NARROW_WEIGHT_TILE(1)
NARROW_WEIGHT_TILE(2)
NARROW_WEIGHT_TILE(3)
#if VL == 16
NARROW_WEIGHT_TILE(4)
#endif
#undef NARROW_WEIGHT_TILE

KERNEL void narrow_any_weight_tile(i64 OT, i64 rows, i64 cols, const float *dy, i64 dy_plane, const float *x,
                               const i64 *tap, i64 x_row, float *sums) {
    switch (OT) {
#if VL == 16
    case 4: narrow_weight_tile_4(rows, cols, dy, dy_plane, x, tap, x_row, sums); break;
#endif
    case 3: narrow_weight_tile_3(rows, cols, dy, dy_plane, x, tap, x_row, sums); break;
    case 2: narrow_weight_tile_2(rows, cols, dy, dy_plane, x, tap, x_row, sums); break;
    default: narrow_weight_tile_1(rows, cols, dy, dy_plane, x, tap, x_row, sums);
    }
}

/* Pooled rows of a band: equal ones */
INLINE i64 narrow_band(const struct chain_layer *l) {
    i64 most = i64_max(1, NARROW_BAND_FLOATS / (i64_min(l->O, NARROW_GRAD_TILE) * l->pool * l->pool * l->PW * VL));
    return ceil_div(l->PH, ceil_div(l->PH, most));
}
/* Runs of rows that are added to a sum: of a band, and of all */
INLINE i64 narrow_band_runs(const struct chain_layer *l) { return ceil_div(narrow_band(l) * l->pool * l->pool * l->PW, SUM_RUN); }
INLINE i64 narrow_runs(const struct chain_layer *l) { return narrow_band_runs(l) * ceil_div(l->PH, narrow_band(l)); }
/* dy of a band; also the transposed sums */
INLINE i64 narrow_band_floats(const struct chain_layer *l) {
    i64 pixels = narrow_band(l) * l->pool * l->pool * l->PW;
    return NARROW_GRAD_TILE * i64_max(pixels * VL, l->C * l->kh * l->kw);
}
INLINE i64 narrow_grad_floats(const struct chain_layer *l) {
    i64 taps = round_up(l->C * l->kh * l->kw, NARROW_TAPS);
    return round_up(narrow_band_floats(l), 16) + joined_floats(NARROW_GRAD_TILE * VL * (taps + 1), narrow_runs(l)) + 2 * taps;
}

/* A block's part of the gradients: grad_weight (O, K), grad_bias (O,). grad, where [O][PH][PW][VL], x the padded input. */
KERNEL void narrow_weight_gradient(const struct chain_layer *l, const float *grad, const int8_t *where, struct narrow_view x, float *work,
                                   float *grad_weight, float *grad_bias) {
    const i64 K = l->C * l->kh * l->kw, taps = round_up(K, NARROW_TAPS), band = narrow_band(l), plane = l->PH * l->PW;
    const i64 cols = l->PW * l->pool, tiles = ceil_div(l->O, NARROW_GRAD_TILE);
    const i64 floats = NARROW_GRAD_TILE * VL * (taps + 1), runs = narrow_runs(l);
    float *bias_sums = work, *sums = bias_sums + NARROW_GRAD_TILE * VL, *dy = work + joined_floats(floats, runs);
    i64 *tap = (i64 *)(dy + round_up(narrow_band_floats(l), 16));
    for (i64 k = 0; k < taps; k++) {                /* those past K repeat the last, and are not used */
        i64 at = i64_min(k, K - 1);
        tap[k] = at / (l->kh * l->kw) * x.plane + at / l->kw % l->kh * x.row + at % l->kw * VL;
    }
    for (i64 i = 0; i < tiles; i++) {
        i64 o = l->O * i / tiles, OT = l->O * (i + 1) / tiles - o;
        struct joined total = joined_at(work, floats, runs);
        memset(work, 0, (size_t)floats * sizeof *work);
        for (i64 h = 0; h < l->PH; h += band) {
            i64 PH = i64_min(band, l->PH - h), rows = PH * l->pool, from = (o * plane + h * l->PW) * VL;
            struct narrow_view to = {dy, rows * cols * VL, cols * VL};
            narrow_spread(OT, PH, l->PW, plane, l->pool, grad + from, where ? where + from : NULL, to, bias_sums);
            for (i64 k = 0; k < K; k += NARROW_TAPS)
                narrow_any_weight_tile(OT, rows, cols, dy, to.plane, x.at + h * l->pool * x.row, tap + k, x.row, sums + k * OT * VL);
            joined_added(&total, narrow_band_runs(l));
        }
        joined_end(&total);
        narrow_sum_lanes(OT, bias_sums, grad_bias + o);
        narrow_sum_lanes(K * OT, sums, dy);                             /* [k][OT] */
        for (i64 k = 0; k < K; k++) for (i64 j = 0; j < OT; j++) grad_weight[(o + j) * K + k] = dy[k * OT + j];
    }
}

/* ---- input gradient ---- */

/* dy of a whole block, one pixel of zeros around it */
INLINE i64 narrow_dense_floats(const struct chain_layer *l) { return l->O * (l->PH * l->pool + 2) * (l->PW * l->pool + 2) * VL; }

/* grad_x [C][H][W][VL]; packed as narrow_pack_turned() has it */
KERNEL void narrow_input_gradient(const struct chain_layer *l, const float *grad, const int8_t *where, const float *packed, float *dy,
                                  float *grad_x) {
    const i64 rows = l->PH * l->pool, cols = l->PW * l->pool, row = (cols + 2) * VL, plane = (rows + 2) * row;
    const i64 top = l->kh - 1 - l->pad_h, left = l->kw - 1 - l->pad_w;
    float unused[VL] = {0};
    narrow_clear_frame(l->O, rows + 2, cols + 2, 1, 1, rows, cols, dy);
    for (i64 o = 0; o < l->O; o++) {
        i64 from = o * l->PH * l->PW * VL;
        struct narrow_view to = {dy + o * plane + row + VL, plane, row};
        narrow_spread(1, l->PH, l->PW, 0, l->pool, grad + from, where ? where + from : NULL, to, unused);
    }
    struct narrow_conv t = {.O = l->C, .C = l->O, .kh = l->kh, .kw = l->kw, .x = {dy, plane, row}, .skip_h = top - 1, .skip_w = left - 1,
                            .top = top, .left = left, .inner_h = rows, .inner_w = cols, .weight = packed, .H = l->H, .W = l->W,
                            .pool = 1, .y = {grad_x, l->H * l->W * VL, l->W * VL}};
    narrow_convolve(&t);
}

#endif
