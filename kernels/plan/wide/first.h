/* The first layer of the wide chain: few input channels in planes (C, H, W), lanes = output channels.
 *
 *   y (OB, OH, OW, VL) = ReLU(bias + sum over k of weight[k] * x[p + offset[k]])      k = (channel, kernel row, kernel column)
 *
 * and its weight gradient, with the ReLU's mask and the bias gradient in the same pass. A register tile is up to 13 pixels of a row x 2
 * vectors; the last tile of a row overlaps the one before instead of being narrower. For 1 -> 32 channels, 3x3, 26x26 outputs
 * there are 6.1 thousand cycles of FMAs in either (AVX-512); measured 8.5 and 7.8 thousand.
 */
#ifndef FASTNN_WIDE_FIRST_H
#define FASTNN_WIDE_FIRST_H

#include "base/sums.h"
#include "plan/wide/layout.h"

enum {
    WIDE_FIRST_TAPS = 1024,         /* C*kh*kw at most */
    WIDE_FIRST_PIXELS = VL == 16 ? 13 : 6,
    WIDE_FIRST_ENTRIES = VL == 16 ? 9 : 4,  /* of the weight gradient, at a time */
};

INLINE i64 wide_first_taps(const struct wide_conv *s) { return s->C * s->kh * s->kw; }

INLINE void wide_first_offsets(const struct wide_conv *s, struct wide_view src, i64 *offset) {
    for (i64 c = 0; c < s->C; c++) for (i64 i = 0; i < s->kh; i++)
        for (i64 j = 0; j < s->kw; j++) *offset++ = c * src.plane + i * src.row + j;
}

/* weight (O, K) -> [OB][K][VL], and a gradient back */
KERNEL void wide_first_pack(const struct wide_conv *s, const float *weight, float *packed) {
    const i64 K = wide_first_taps(s);
    for (i64 o = 0; o < round_up(s->O, VL); o++)
        for (i64 k = 0; k < K; k++) packed[(o / VL * K + k) * VL + o % VL] = o < s->O ? weight[o * K + k] : 0.0f;
}
KERNEL void wide_first_unpack(const struct wide_conv *s, const float *packed, float *grad_weight) {
    const i64 K = wide_first_taps(s);
    for (i64 o = 0; o < s->O; o++) for (i64 k = 0; k < K; k++) grad_weight[o * K + k] = packed[(o / VL * K + k) * VL + o % VL];
}

/* P pixels of a row x NV blocks */
INLINE void wide_first_tile(const int P, const int NV, int relu, i64 K, const i64 *offset, const float *weight, const float *bias,
                            const float *x, float *y, i64 y_plane) {
    vf a[WIDE_FIRST_PIXELS][2];
    UNROLL for (int p = 0; p < P; p++) UNROLL for (int j = 0; j < NV; j++) a[p][j] = v_load(bias + j * VL);
    for (i64 k = 0; k < K; k++) {
        const float *at = x + offset[k];
        vf w[2];
        UNROLL for (int j = 0; j < NV; j++) w[j] = v_load(weight + (j * K + k) * VL);
        UNROLL for (int p = 0; p < P; p++) {
            const vf v = v_set1(at[p]);
            UNROLL for (int j = 0; j < NV; j++) a[p][j] += v * w[j];
        }
    }
    UNROLL for (int p = 0; p < P; p++) UNROLL for (int j = 0; j < NV; j++)
        v_store(y + j * y_plane + p * VL, relu ? v_max((vf){0}, a[p][j]) : a[p][j]);
}

/* The width of tile that takes least time for a row: pixels, those computed twice too, but eight sums (a tile's latency) at least. */
INLINE i64 wide_first_width(i64 OW, i64 blocks) {
    static const i64 widths[] = {13, 12, 10, 8, 6, 5, 4, 1};
    i64 best = 1, least = 8 * OW;
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        i64 time = ceil_div(OW, widths[i]) * i64_max(widths[i] * blocks, 8);
        if (widths[i] <= i64_min(OW, WIDE_FIRST_PIXELS) && time < least) best = widths[i], least = time;
    }
    return best;
}

INLINE void wide_first_rows(const int P, const int NV, int relu, const struct wide_conv *s, const i64 *offset, const float *weight,
                            const float *bias, struct wide_view src, struct wide_view dst) {
    for (i64 h = 0; h < s->OH; h++)
        for (i64 w = 0; w < s->OW; w += P) {
            const i64 at = i64_min(w, s->OW - P);
            wide_first_tile(P, NV, relu, wide_first_taps(s), offset, weight, bias, src.at + h * src.row + at,
                            dst.at + h * dst.row + at * VL, dst.plane);
        }
}

KERNEL void wide_first_forward(const struct wide_conv *s, const float *packed, const float *bias, int relu, struct wide_view src,
                               struct wide_view dst) {
    const i64 K = wide_first_taps(s), OB = ceil_div(s->O, VL);
    i64 offset[WIDE_FIRST_TAPS];
    wide_first_offsets(s, src, offset);
    for (i64 o = 0; o < OB; o += 2, packed += 2 * K * VL, bias += 2 * VL, dst.at += 2 * dst.plane) {
#define WIDTH(P) case P: \
        if (OB - o > 1) wide_first_rows(P, 2, relu, s, offset, packed, bias, src, dst); \
        else wide_first_rows(P, 1, relu, s, offset, packed, bias, src, dst); \
        break;
        switch (wide_first_width(s->OW, i64_min(OB, 2))) {
#if VL == 16
            WIDTH(13) WIDTH(12) WIDTH(10) WIDTH(8)
#endif
            WIDTH(6) WIDTH(5) WIDTH(4) WIDTH(1)
        }
#undef WIDTH
    }
}

/* n entries from the k-th on, NV blocks; y NULL: no mask. grad_bias NULL: not wanted */
INLINE void wide_first_entries(const int NV, i64 n, i64 K, const struct wide_conv *s, const i64 *offset, struct wide_view src,
                               struct wide_view grad, const struct wide_view *y, float *out, float *grad_bias) {
    enum { E = WIDE_FIRST_ENTRIES };
    vf a[E][2], sum[2];
    const float *at[E];
    UNROLL for (int i = 0; i < E; i++) {
        at[i] = src.at + offset[i64_min(i, n - 1)];         /* what is too many is computed and dropped */
        UNROLL for (int j = 0; j < NV; j++) a[i][j] = (vf){0};
    }
    UNROLL for (int j = 0; j < NV; j++) sum[j] = (vf){0};
    const i64 most = sum_run(s->OH * s->OW);
    i64 run = 0;
    for (i64 h = 0; h < s->OH; h++) for (i64 first = 0, end; first < s->OW; first = end) {
        end = i64_min(s->OW, first + sum_run(s->OW));
        run += end - first;
        for (i64 w = first; w < end; w++) {
            vf g[2];
            UNROLL for (int j = 0; j < NV; j++) {
                g[j] = v_load(grad.at + j * grad.plane + h * grad.row + w * VL);
                if (y) g[j] = v_select(v_load(y->at + j * y->plane + h * y->row + w * VL) > (vf){0}, g[j], (vf){0});
                sum[j] += g[j];
            }
            UNROLL for (int i = 0; i < E; i++) {
                const vf x = v_set1(at[i][h * src.row + w]);
                UNROLL for (int j = 0; j < NV; j++) a[i][j] += x * g[j];
            }
        }
        if (run < most && (h + 1 < s->OH || end < s->OW)) continue;
        run = 0;
        UNROLL for (int i = 0; i < E; i++) UNROLL for (int j = 0; j < NV; j++) {
            if (i < n) v_store(out + (j * K + i) * VL, v_load(out + (j * K + i) * VL) + a[i][j]);
            a[i][j] = (vf){0};
        }
        UNROLL for (int j = 0; j < NV; j++) {
            if (grad_bias) v_store(grad_bias + j * VL, v_load(grad_bias + j * VL) + sum[j]);
            sum[j] = (vf){0};
        }
    }
}

/* packed [OB][K][VL] += gradient of the weights; the mask of the ReLU is y > 0, y NULL: there is none. grad_bias (OB*VL) is added
 * to, or NULL. */
INLINE void wide_first_weight_rows(const struct wide_conv *s, const i64 *offset, struct wide_view src, struct wide_view grad,
                                   const struct wide_view *y, float *packed, float *grad_bias) {
    const i64 K = wide_first_taps(s), OB = ceil_div(s->O, VL);
    for (i64 o = 0; o < OB; o += 2, packed += 2 * K * VL) {
        struct wide_view g = {grad.at + o * grad.plane, grad.plane, grad.row}, mask = {0};
        if (y) mask = (struct wide_view){y->at + o * y->plane, y->plane, y->row};
        for (i64 k = 0; k < K; k += WIDE_FIRST_ENTRIES) {
            const i64 n = i64_min(WIDE_FIRST_ENTRIES, K - k);
            float *bias = grad_bias && k == 0 ? grad_bias + o * VL : NULL;
#define ENTRIES(nv, mask) wide_first_entries(nv, n, K, s, offset + k, src, g, mask, packed + k * VL, bias)
            if (OB - o > 1 && y) ENTRIES(2, &mask);
            else if (OB - o > 1) ENTRIES(2, NULL);
            else if (y) ENTRIES(1, &mask);
            else ENTRIES(1, NULL);
#undef ENTRIES
        }
    }
}

/* The same, as many rows at a time as add SUM_ADDS runs; sums: packed, and grad_bias, if it is wanted, in the same sums */
KERNEL void wide_first_weight(const struct wide_conv *s, struct wide_view src, struct wide_view grad, const struct wide_view *y,
                              struct joined *sums, float *grad_bias) {
    const i64 most = i64_max(1, SUM_ADDS * SUM_RUN / s->OW);
    struct wide_view mask = y ? *y : (struct wide_view){0};
    i64 offset[WIDE_FIRST_TAPS];
    wide_first_offsets(s, src, offset);
    for (i64 first = 0; first < s->OH; first += most) {
        struct wide_conv part = *s;
        part.OH = i64_min(most, s->OH - first);
        wide_first_weight_rows(&part, offset, src, grad, y ? &mask : NULL, sums->part, grad_bias);
        joined_added(sums, ceil_div(part.OH * s->OW, SUM_RUN));
        src.at += most * src.row, grad.at += most * grad.row;
        if (y) mask.at += most * mask.row;
    }
}

#endif
