/* Dense convolution of one image by direct loops, lanes = output channels.
 *
 *   out (OB, OH, OW, VL) = bias + sum over k of weight[k] * src[pixel + k]      OB = ceil(O / VL) blocks of channels
 *
 * src lies as blocks of VL channels (blocks, H, W, VL), unused lanes zero, or as planes (C, H, W): `pixel` is VL or 1 floats from
 * one pixel to the next, and in both layouts what one kernel row reads of one block is a run of kw * pixel floats. So k = (block
 * or channel, kernel row, float of the run). Zero borders are already around the image.
 *
 * A register tile is 4 pixels x 4 vectors or 8 x 2: each weight vector is loaded once for the pixels, each pixel's float broadcast
 * once for the vectors. The input gradient is the same with flipped weights and C and O exchanged.
 *
 * Measured (Zen 5, one thread, share of the FMA peak): 97-98 % with AVX-512 (3x3, 32 to 128 channels), 85 % from planes of 3 channels;
 * 90 % with AVX2.
 */
#ifndef FASTNN_WIDE_CONV_H
#define FASTNN_WIDE_CONV_H

#include "base/simd.h"

/* Pixels of one image: at[block * plane + row * i + pixel * j]; the border that a padded convolution reads lies around them. */
struct wide_view { float *at; i64 plane, row; };

#if VL == 16
enum { WIDE_NV = 4 };                       /* vectors of output channels of a register tile */
#else
enum { WIDE_NV = 2 };
#endif

struct wide_conv { i64 C, O, kh, kw, OH, OW; };

/* Entries k; k of channel c and tap = kernel row * kw + kernel column */
INLINE i64 wide_conv_entries(const struct wide_conv *s, const int pixel) { return ceil_div(s->C, pixel) * pixel * s->kh * s->kw; }
INLINE i64 wide_conv_entry(const struct wide_conv *s, const int pixel, i64 c, i64 tap) {
    return (c / pixel * s->kh * s->kw + tap) * pixel + c % pixel;
}
/* Floats of packed weights, or of a packed weight gradient (k, O rounded up to VL) */
INLINE i64 wide_conv_packed_floats(const struct wide_conv *s) { return wide_conv_entries(s, VL) * round_up(s->O, VL); }
INLINE i64 wide_conv_planes_floats(const struct wide_conv *s) { return wide_conv_entries(s, 1) * round_up(s->O, VL); }

/* packed [group of WIDE_NV blocks][k][group]; weight entry (o, c, tap) at o * by_o + c * by_c + tap, taps from the last where
 * flipped */
INLINE void wide_pack(const struct wide_conv *s, const int pixel, const float *weight, i64 by_o, i64 by_c, int flipped,
                      float *packed) {
    const i64 taps = s->kh * s->kw, Op = round_up(s->O, VL), K = wide_conv_entries(s, pixel);
    memset(packed, 0, sizeof *packed * (size_t)(K * Op));
    for (i64 c = 0; c < s->C; c++) for (i64 tap = 0; tap < taps; tap++) {
        const float *from = weight + c * by_c + (flipped ? taps - 1 - tap : tap);
        i64 k = wide_conv_entry(s, pixel, c, tap);
        for (i64 o = 0; o < s->O; o++) {
            i64 group = o / (WIDE_NV * VL) * WIDE_NV * VL, wide = i64_min(WIDE_NV * VL, Op - group);
            packed[group * K + k * wide + o - group] = from[o * by_o];
        }
    }
}

/* weight (O, C, kh, kw) */
KERNEL void wide_conv_pack(const struct wide_conv *s, const float *weight, float *packed) {
    wide_pack(s, VL, weight, s->C * s->kh * s->kw, s->kh * s->kw, 0, packed);
}
KERNEL void wide_conv_pack_planes(const struct wide_conv *s, const float *weight, float *packed) {
    wide_pack(s, 1, weight, s->C * s->kh * s->kw, s->kh * s->kw, 0, packed);
}
/* For the input gradient of s: of the convolution with C and O exchanged */
KERNEL void wide_conv_pack_transposed(const struct wide_conv *s, const float *weight, float *packed) {
    const struct wide_conv t = {s->O, s->C, s->kh, s->kw, 0, 0};
    wide_pack(&t, VL, weight, s->kh * s->kw, s->C * s->kh * s->kw, 1, packed);
}

/* MR pixels of a row x NV blocks */
INLINE void wide_tile(const int MR, const int NV, const int pixel, const struct wide_conv *s, const float *restrict w,
                      const float *bias, const float *restrict src, struct wide_view from, float *restrict out, i64 out_plane) {
    const i64 blocks = ceil_div(s->C, pixel), run = s->kw * pixel;
    vf acc[8][WIDE_NV];
    UNROLL for (int i = 0; i < MR; i++) UNROLL for (int j = 0; j < NV; j++) acc[i][j] = bias ? v_load(bias + j * VL) : (vf){0};
    for (i64 c = 0; c < blocks; c++) {
        /* a kernel row is one run of entries; where the block's last lanes hold no channel, a run for each pixel */
        const i64 lanes = i64_min(pixel, s->C - c * pixel), step = lanes == pixel ? run : pixel, end = lanes == pixel ? run : lanes;
        for (i64 i = 0; i < s->kh; i++) for (i64 first = 0; first < run; first += step, w += step * NV * VL) {
            const float *at = src + c * from.plane + i * from.row + first;
            for (i64 k = 0; k < end; k++) {
                vf v[WIDE_NV];
                UNROLL for (int j = 0; j < NV; j++) v[j] = v_load(w + (k * NV + j) * VL);
                UNROLL for (int m = 0; m < MR; m++) {
                    vf x = v_set1(at[k + m * pixel]);
                    UNROLL for (int j = 0; j < NV; j++) acc[m][j] += x * v[j];
                }
            }
        }
    }
    UNROLL for (int i = 0; i < MR; i++) UNROLL for (int j = 0; j < NV; j++) v_store(out + j * out_plane + i * VL, acc[i][j]);
}

INLINE void wide_rows(const int MR, const int NV, const int pixel, const struct wide_conv *s, const float *w, const float *bias,
                      struct wide_view src, struct wide_view dst) {
    for (i64 h = 0; h < s->OH; h++) {
        i64 p = 0;
#define PIXELS(mr) for (; p + mr <= s->OW; p += mr) \
    wide_tile(mr, NV, pixel, s, w, bias, src.at + h * src.row + p * pixel, src, dst.at + h * dst.row + p * VL, dst.plane)
        PIXELS(MR);
        if (NV == 1 && p < s->OW && s->OW >= MR) p = s->OW - MR; /* once more: as long as a single pixel takes */
        PIXELS(MR);
        if (MR > 4) PIXELS(4);
        PIXELS(1);
#undef PIXELS
    }
}

#if VL == 16
#define WIDE_GROUPS(call) \
    switch (blocks) { case 4: call(4, 4); break; case 3: call(8, 3); break; case 2: call(8, 2); break; default: call(8, 1); }
#else
#define WIDE_GROUPS(call) switch (blocks) { case 2: call(4, 2); break; default: call(8, 1); }
#endif

INLINE void wide_forward(const int pixel, const struct wide_conv *s, const float *packed, const float *bias, struct wide_view src,
                         struct wide_view dst) {
    const i64 OB = ceil_div(s->O, VL), K = wide_conv_entries(s, pixel);
    for (i64 o = 0; o < OB; o += WIDE_NV, dst.at += WIDE_NV * dst.plane) {
        const i64 blocks = i64_min(WIDE_NV, OB - o);
        const float *w = packed + o * VL * K, *b = bias ? bias + o * VL : NULL;
#define CALL(mr, nv) wide_rows(mr, nv, pixel, s, w, b, src, dst)
        WIDE_GROUPS(CALL)
#undef CALL
    }
}

/* src of blocks; bias: O rounded up to VL, or NULL */
KERNEL void wide_conv_forward(const struct wide_conv *s, const float *packed, const float *bias, struct wide_view src,
                              struct wide_view dst) {
    wide_forward(VL, s, packed, bias, src, dst);
}

/* src of planes */
KERNEL void wide_conv_forward_planes(const struct wide_conv *s, const float *packed, const float *bias, struct wide_view src,
                                     struct wide_view dst) {
    wide_forward(1, s, packed, bias, src, dst);
}

#endif
