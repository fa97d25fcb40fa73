/* Dense convolution of one image by direct loops, lanes = output channels.
 *
 *   out (OB, OH, OW, VL) = bias + sum over k of weight[k] * src[pixel + k]      OB = ceil(O / VL) blocks of channels
 *
 * src lies as blocks of VL channels (blocks, H, W, VL), unused lanes zero, or as planes (C, H, W): `pixel` is VL or 1 floats from
 * one pixel to the next, and in both layouts what one kernel row reads of one block is a run of kw * pixel floats. So k = (block
 * or channel, kernel row, float of the run). Zero borders are already around the image.
 *
 * A register tile is up to 6 pixels x 4 vectors or 8 x 2 (AVX2: 6 x 2): each weight vector is loaded once for the pixels, each
 * pixel's float broadcast once for the vectors. A row is cut into tiles of about the same width. The input gradient is the same
 * with flipped weights and C and O exchanged.
 *
 * Measured (Zen 5, one thread, share of the FMA peak): 97-98 % with AVX-512 (3x3, 32 to 128 channels), 85 % from planes of 3 channels;
 * 95 % with AVX2.
 */
#ifndef FASTNN_WIDE_CONV_H
#define FASTNN_WIDE_CONV_H

#include "conv/blocks.h"

/* Rows of src outside [top, top + H) are border: their taps are skipped, and they need not be there. H = 0: all rows count. */
struct wide_conv { i64 C, O, kh, kw, OH, OW, top, H; };

/* Entries k; k of channel c and tap = kernel row * kw + kernel column */
INLINE i64 wide_conv_entries(const struct wide_conv *s, const int pixel) { return ceil_div(s->C, pixel) * pixel * s->kh * s->kw; }
INLINE i64 wide_conv_entry(const struct wide_conv *s, const int pixel, i64 c, i64 tap) {
    return (c / pixel * s->kh * s->kw + tap) * pixel + c % pixel;
}
/* Floats of packed weights, or of a packed weight gradient (k, O rounded up to VL) */
INLINE i64 wide_conv_packed_floats(const struct wide_conv *s) { return wide_conv_entries(s, VL) * round_up(s->O, VL); }
INLINE i64 wide_conv_planes_floats(const struct wide_conv *s) { return wide_conv_entries(s, 1) * round_up(s->O, VL); }

/* How weights lie in memory: entry (o, c, tap) at o * by_o + c * by_c + tap, taps from the last where flipped, `floats` in all. */
struct wide_weights { const float *at; i64 by_o, by_c, floats; int flipped; };

/* A block of VL output channels of packed [group of CHANNELS_NV blocks][k][group]; channels past O become zero. VL entries of VL
 * channels are transposed at a time, along what is contiguous: all taps of all channels, or the taps of one. */
static void wide_pack_block(const struct wide_conv *s, const int pixel, const struct wide_weights *w, i64 block, float *packed) {
    const i64 taps = s->kh * s->kw, Op = round_up(s->O, VL), K = wide_conv_entries(s, pixel), o = block * VL;
    const i64 group = block / CHANNELS_NV * CHANNELS_NV * VL, wide = i64_min(CHANNELS_NV * VL, Op - group), lanes = i64_min(VL, s->O - o);
    const int whole = w->by_c == taps;
    const i64 run = whole ? s->C * taps : taps;
    float *const to = packed + group * K + o - group;
    for (i64 first = 0; first < s->C; first += whole ? s->C : 1) for (i64 k = 0; k < run; k += VL) {
        vf r[VL];
        UNROLL for (int i = 0; i < VL; i++) {
            const i64 at = (o + i) * w->by_o + first * w->by_c + k;
            r[i] = i >= lanes ? (vf){0} : at + VL <= w->floats ? v_load(w->at + at) : v_load_partial(w->at + at, w->floats - at, 0);
        }
        v_transpose(r);
        const i64 n = i64_min(VL, run - k);
        i64 c = first + k / taps, tap = k % taps;
        UNROLL for (int i = 0; i < VL; i++) if (i < n) {
            v_store(to + wide_conv_entry(s, pixel, c, w->flipped ? taps - 1 - tap : tap) * wide, r[i]);
            if (++tap == taps) tap = 0, c++;
        }
    }
}

INLINE void wide_pack(const struct wide_conv *s, const int pixel, struct wide_weights w, float *packed) {
    for (i64 block = 0; block < ceil_div(s->O, VL); block++) wide_pack_block(s, pixel, &w, block, packed);
}

/* Weights (O, C, kh, kw) as they are, and for the input gradient of s: those of the convolution t with C and O exchanged. */
INLINE struct wide_weights wide_weights_of(const struct wide_conv *s, const float *weight) {
    const i64 taps = s->kh * s->kw;
    return (struct wide_weights){weight, s->C * taps, taps, s->O * s->C * taps, 0};
}
INLINE struct wide_weights wide_weights_exchanged(const struct wide_conv *t, const float *weight) {
    const i64 taps = t->kh * t->kw;
    return (struct wide_weights){weight, taps, t->O * taps, t->O * t->C * taps, 1};
}

KERNEL void wide_conv_pack(const struct wide_conv *s, const float *weight, float *packed) {
    wide_pack(s, VL, wide_weights_of(s, weight), packed);
}
KERNEL void wide_conv_pack_planes(const struct wide_conv *s, const float *weight, float *packed) {
    wide_pack(s, 1, wide_weights_of(s, weight), packed);
}
KERNEL void wide_conv_pack_transposed(const struct wide_conv *s, const float *weight, float *packed) {
    const struct wide_conv t = {.C = s->O, .O = s->C, .kh = s->kh, .kw = s->kw};
    wide_pack(&t, VL, wide_weights_exchanged(&t, weight), packed);
}

/* MR pixels of a row x NV blocks, from kernel rows [top, end) */
INLINE void wide_tile(const int MR, const int NV, const int pixel, const struct wide_conv *s, i64 top, i64 end_row,
                      const float *restrict weight, const float *bias, const float *restrict src, struct wide_view from,
                      float *restrict out, i64 out_plane) {
    const i64 blocks = ceil_div(s->C, pixel), run = s->kw * pixel;
    vf acc[8][CHANNELS_NV];
    UNROLL for (int i = 0; i < MR; i++) UNROLL for (int j = 0; j < NV; j++) acc[i][j] = bias ? v_load(bias + j * VL) : (vf){0};
    for (i64 c = 0; c < blocks; c++) {
        /* a kernel row is one run of entries; where the block's last lanes hold no channel, a run for each pixel */
        const i64 lanes = i64_min(pixel, s->C - c * pixel), step = lanes == pixel ? run : pixel, end = lanes == pixel ? run : lanes;
        const float *w = weight + (c * s->kh + top) * run * NV * VL;
        for (i64 i = top; i < end_row; i++) for (i64 first = 0; first < run; first += step, w += step * NV * VL) {
            const float *at = src + c * from.plane + i * from.row + first;
            for (i64 k = 0; k < end; k++) {
                vf v[CHANNELS_NV];
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

/* A row in tiles of at most MR pixels: of two widths next to each other, at least 4, where that fills it, else of 4, the last one
 * over what is done already, and single pixels of rows that are shorter. */
INLINE void wide_rows(const int MR, const int NV, const int pixel, const struct wide_conv *s, const float *w, const float *bias,
                      struct wide_view src, struct wide_view dst) {
    const i64 tiles = ceil_div(s->OW, MR), narrow = i64_max(s->OW / tiles, i64_min(s->OW, 4));
    for (i64 h = 0; h < s->OH; h++) {
        const i64 top = s->H ? i64_max(0, s->top - h) : 0, end = s->H ? i64_min(s->kh, s->top + s->H - h) : s->kh;
        i64 p = 0, left = tiles;
        while (p < s->OW) {
            const i64 width = narrow < 4 ? 1 : i64_max(ceil_div(s->OW - p, left), 4);
            p = i64_min(p, s->OW - width);
#define PIXELS(mr) case mr: if (mr <= MR) wide_tile(mr, NV, pixel, s, top, end, w, bias, src.at + h * src.row + p * pixel, src, \
                                                    dst.at + h * dst.row + p * VL, dst.plane); break;
            switch (width) { PIXELS(8) PIXELS(7) PIXELS(6) PIXELS(5) PIXELS(4) PIXELS(1) }
#undef PIXELS
            p += width, left -= left > 1;
        }
    }
}

#if VL == 16
#define WIDE_GROUPS(call) \
    switch (blocks) { case 4: call(6, 4); break; case 3: call(8, 3); break; case 2: call(8, 2); break; default: call(8, 1); }
#else
#define WIDE_GROUPS(call) switch (blocks) { case 2: call(6, 2); break; default: call(8, 1); }
#endif

INLINE void wide_forward(const int pixel, const struct wide_conv *s, const float *packed, const float *bias, struct wide_view src,
                         struct wide_view dst) {
    const i64 OB = ceil_div(s->O, VL), K = wide_conv_entries(s, pixel);
    for (i64 o = 0; o < OB; o += CHANNELS_NV, dst.at += CHANNELS_NV * dst.plane) {
        const i64 blocks = i64_min(CHANNELS_NV, OB - o);
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
