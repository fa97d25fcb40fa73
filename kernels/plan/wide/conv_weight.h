/* Weight gradient of a dense convolution of one image by direct loops, in the layouts of wide/conv.h.
 *
 *   packed (k, O rounded up to VL) += sum over pixels of src[pixel + k] * grad[pixel]
 *
 * A register tile is 4 entries k x 4 vectors of output channels, or 8 x 2; the sum runs along all pixels of the image.
 * Measured (Zen 5, one thread): 90-94 % of the FMA peak with AVX-512, 80 % with AVX2.
 */
#ifndef FASTNN_WIDE_CONV_WEIGHT_H
#define FASTNN_WIDE_CONV_WEIGHT_H

#include "plan/wide/conv.h"

/* MR entries x NV blocks: out[entry][block] += sum over pixels of src[offset[entry] + pixel] * grad[block][pixel] */
INLINE void wide_weight_tile(const int MR, const int NV, const int pixel, const struct wide_conv *s, const i64 *offset,
                             struct wide_view src, struct wide_view grad, float *restrict out, i64 out_row) {
    vf acc[8][WIDE_NV];
    const float *at[8];
    UNROLL for (int i = 0; i < MR; i++) {
        at[i] = src.at + offset[i];
        UNROLL for (int j = 0; j < NV; j++) acc[i][j] = v_load(out + i * out_row + j * VL);
    }
    for (i64 h = 0; h < s->OH; h++) {
        const float *g = grad.at + h * grad.row;
        for (i64 w = 0; w < s->OW; w++) {
            vf v[WIDE_NV];
            UNROLL for (int j = 0; j < NV; j++) v[j] = v_load(g + w * VL + j * grad.plane);
            UNROLL for (int i = 0; i < MR; i++) {
                vf x = v_set1(at[i][w * pixel]);
                UNROLL for (int j = 0; j < NV; j++) acc[i][j] += x * v[j];
            }
        }
        UNROLL for (int i = 0; i < MR; i++) at[i] += src.row;
    }
    UNROLL for (int i = 0; i < MR; i++) UNROLL for (int j = 0; j < NV; j++) v_store(out + i * out_row + j * VL, acc[i][j]);
}

INLINE void wide_weight_entries(const int MR, const int NV, const int pixel, const struct wide_conv *s, struct wide_view src,
                                struct wide_view grad, float *out, i64 out_row) {
    const i64 run = s->kw * pixel, K = wide_conv_entries(s, pixel);
    i64 k = 0;
#define ENTRIES(mr) for (; k + mr <= K; k += mr) { \
        i64 offset[mr]; \
        for (i64 i = 0; i < mr; i++) \
            offset[i] = (k + i) / run / s->kh * src.plane + (k + i) / run % s->kh * src.row + (k + i) % run; \
        wide_weight_tile(mr, NV, pixel, s, offset, src, grad, out + k * out_row, out_row); \
    }
    ENTRIES(MR)
    if (MR > 4) ENTRIES(4)
    ENTRIES(1)
#undef ENTRIES
}

INLINE void wide_weight(const int pixel, const struct wide_conv *s, struct wide_view src, struct wide_view grad, float *packed) {
    const i64 OB = ceil_div(s->O, VL);
    for (i64 o = 0; o < OB; o += WIDE_NV, grad.at += WIDE_NV * grad.plane, packed += WIDE_NV * VL) {
        const i64 blocks = i64_min(WIDE_NV, OB - o);
#define CALL(mr, nv) wide_weight_entries(mr, nv, pixel, s, src, grad, packed, OB * VL)
        WIDE_GROUPS(CALL)
#undef CALL
    }
}

KERNEL void wide_conv_weight(const struct wide_conv *s, struct wide_view src, struct wide_view grad, float *packed) {
    wide_weight(VL, s, src, grad, packed);
}
KERNEL void wide_conv_weight_planes(const struct wide_conv *s, struct wide_view src, struct wide_view grad, float *packed) {
    wide_weight(1, s, src, grad, packed);
}

/* weight gradient (O, C, kh, kw) */
KERNEL void wide_conv_weight_unpack(const struct wide_conv *s, const float *packed, float *grad_weight) {
    const i64 taps = s->kh * s->kw, Op = round_up(s->O, VL);
    for (i64 o = 0; o < s->O; o++) for (i64 c = 0; c < s->C; c++) for (i64 tap = 0; tap < taps; tap++)
        grad_weight[(o * s->C + c) * taps + tap] = packed[wide_conv_entry(s, VL, c, tap) * Op + o];
}

#endif
