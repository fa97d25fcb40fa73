/* One convolution of the planes chain with what follows it, lanes = neighbouring pixels of a row.
 *
 *   y (O, PH, PW) = pool(ReLU(bias + sum over k of weight[o][k] * x[p + offset[k]]))      k = (channel, kernel row, kernel column)
 *
 * A tile is as many rows as a pooling window has x NV vectors x up to PLANES_MO output channels: its sums are pooled in registers.
 * The weights are read as they are given. The last vector of a row may reach past it, into the rows below or the slack
 * after the planes: those lanes are dropped.
 */
#ifndef FASTNN_PLANES_CONV_H
#define FASTNN_PLANES_CONV_H

#include "plan/wide/first.h"
#include "plan/wide/pool.h"

enum { PLANES_MO = 6, PLANES_NV = VL == 16 ? 2 : 1 };

struct planes_conv {
    const struct chain_layer *layer;
    struct wide_view src, dst;          /* x from its padding on; y from its pixel (0, 0) on */
    const i64 *offset;                  /* (K,) */
};

/* Rows h * rows ... of the convolution's output, columns w ..., MO channels. */
INLINE void planes_tile(const int rows, const int NV, const int MO, const struct planes_conv *t, i64 o, i64 h, i64 w) {
    const struct chain_layer *l = t->layer;
    const i64 K = l->C * l->kh * l->kw;
    const float *x = t->src.at + h * rows * t->src.row + w, *weight = l->weight + o * K;
    vf sum[2][PLANES_NV][PLANES_MO];
    UNROLL for (int m = 0; m < MO; m++) {
        const vf bias = v_set1(l->bias ? l->bias[o + m] : 0.0f);
        UNROLL for (int r = 0; r < rows; r++) UNROLL for (int j = 0; j < NV; j++) sum[r][j][m] = bias;
    }
    for (i64 k = 0; k < K; k++) {
        const float *at = x + t->offset[k];
        vf v[2][PLANES_NV];
        UNROLL for (int r = 0; r < rows; r++) UNROLL for (int j = 0; j < NV; j++) v[r][j] = v_load(at + r * t->src.row + j * VL);
        UNROLL for (int m = 0; m < MO; m++) {
            const vf weights = v_set1(weight[m * K + k]);
            UNROLL for (int r = 0; r < rows; r++) UNROLL for (int j = 0; j < NV; j++) sum[r][j][m] += v[r][j] * weights;
        }
    }
    const i64 left = l->PW - w / rows;
    UNROLL for (int m = 0; m < MO; m++) {
        float *y = t->dst.at + (o + m) * t->dst.plane + h * t->dst.row + w / rows;
        const int vectors = rows == 2 ? 1 : NV;
        vf out[PLANES_NV];
        UNROLL for (int j = 0; j < NV; j++) out[j] = rows == 2 ? v_max_nan(sum[0][j][m], sum[1][j][m]) : sum[0][j][m];
        if (rows == 2) out[0] = v_max_nan(V_EVEN(out[0], out[NV - 1]), V_ODD(out[0], out[NV - 1]));
        UNROLL for (int j = 0; j < vectors; j++) {
            const i64 lanes = i64_min(left - j * VL, rows == 2 && NV == 1 ? VL / 2 : VL);
            if (lanes > 0) v_store_lanes(y + j * VL, chain_relu(l) ? v_max((vf){0}, out[j]) : out[j], lanes);
        }
    }
}

INLINE void planes_rows(const int rows, const int NV, const int MO, const struct planes_conv *t, i64 o) {
    const struct chain_layer *l = t->layer;
    for (i64 h = 0; h < l->PH; h++)
        for (i64 w = 0; w < l->PW * rows; w += NV * VL) planes_tile(rows, NV, MO, t, o, h, w);
}

INLINE void planes_channels(const int rows, const int NV, const struct planes_conv *t) {
    i64 o = 0;
    for (; o + 6 <= t->layer->O; o += 6) planes_rows(rows, NV, 6, t, o);
    for (; o + 2 <= t->layer->O; o += 2) planes_rows(rows, NV, 2, t, o);
    for (; o < t->layer->O; o++) planes_rows(rows, NV, 1, t, o);
}

KERNEL void planes_by_pixels(const struct planes_conv *t) {
    const struct chain_layer *l = t->layer;
    const int wide = PLANES_NV == 2 && l->PW * l->pool > VL;
    if (l->pool == 2) {
        if (wide) planes_channels(2, PLANES_NV, t);
        else planes_channels(2, 1, t);
    } else if (wide) planes_channels(1, PLANES_NV, t);
    else planes_channels(1, 1, t);
}

/* Pools `strip`, blocks [OB][H][W][VL], to blocks `pooled`, and copies those into planes y. */
KERNEL void planes_from_strip(const struct planes_conv *t, struct wide_view strip, float *pooled) {
    const struct chain_layer *l = t->layer;
    struct wide_view out = strip;
    if (l->pool > 1) {
        out = (struct wide_view){pooled, l->PH * l->PW * VL, l->PW * VL};
        wide_pool_strip(l->pool, ceil_div(l->O, VL), l->PH, l->PW, strip, chain_relu(l), out, NULL);
    }
    for (i64 o = 0; o < l->O; o++)
        for (i64 h = 0; h < l->PH; h++) {
            const float *from = out.at + o / VL * out.plane + h * out.row + o % VL;
            float *y = t->dst.at + o * t->dst.plane + h * t->dst.row;
            for (i64 w = 0; w < l->PW; w++) y[w] = from[w * VL];
        }
}

#endif
