/* Images in blocks of channels: [ceil(C / VL)][H][W][VL], lanes = channels, unused lanes zero; and the copies from planes
 * [C][H][W] and back.
 */
#ifndef FASTNN_CONV_BLOCKS_H
#define FASTNN_CONV_BLOCKS_H

#include "base/lanes.h"

#if VL == 16
enum { CHANNELS_NV = 4 };                   /* vectors of output channels of a register tile */
#else
enum { CHANNELS_NV = 2 };
#endif

/* Pixels of one image: at[block * plane + row * i + pixel * j]; the border that a padded convolution reads lies around them. */
struct wide_view { float *at; i64 plane, row; };

/* dst[c][p] = src[c / VL][p][c % VL] for c < C, p < P: pixels without gaps between rows */
KERNEL void wide_from_blocks(i64 C, i64 P, const float *src, i64 src_plane, float *dst, i64 dst_plane) {
    for (i64 c = 0; c < C; c += VL) {
        const float *block = src + c / VL * src_plane;
        i64 lanes = i64_min(VL, C - c), p = 0;
        while (p + VL <= P) {
            vf r[VL];
            UNROLL for (int i = 0; i < VL; i++) r[i] = v_load(block + (p + i) * VL);
            v_transpose(r);
            if (lanes == VL) UNROLL for (int i = 0; i < VL; i++) v_store(dst + (c + i) * dst_plane + p, r[i]);
            else UNROLL for (int i = 0; i < VL; i++) if (i < lanes) v_store(dst + (c + i) * dst_plane + p, r[i]);
            p = p + VL < P && p + 2 * VL > P ? P - VL : p + VL;     /* the last few once more, with some before them */
        }
        for (; p < P; p++)
            for (i64 i = 0; i < lanes; i++) dst[(c + i) * dst_plane + p] = block[p * VL + i];
    }
}

/* dst[c / VL][h][w][c % VL] = src[c][h][w] for c < C, h < H, w < W: rows of src without gaps between them */
KERNEL void wide_to_blocks(i64 C, i64 H, i64 W, const float *src, i64 src_plane, struct wide_view dst) {
    const i64 P = H * W, gap = dst.row - W * VL;            /* floats of border between two rows */
    for (i64 c = 0; c < C; c += VL, dst.at += dst.plane) {
        const i64 lanes = i64_min(VL, C - c);
        i64 p = 0;
        while (p + VL <= P) {
            vf r[VL];
            if (lanes == VL) UNROLL for (int i = 0; i < VL; i++) r[i] = v_load(src + (c + i) * src_plane + p);
            else UNROLL for (int i = 0; i < VL; i++) r[i] = i < lanes ? v_load(src + (c + i) * src_plane + p) : (vf){0};
            v_transpose(r);
            float *to = dst.at + p * VL + p / W * gap;
            i64 left = W - p % W;                           /* pixels up to the end of this row */
            UNROLL for (int i = 0; i < VL; i++) {
                v_store(to, r[i]);
                to += VL;
                if (--left == 0) to += gap, left = W;
            }
            p = p + VL < P && p + 2 * VL > P ? P - VL : p + VL;
        }
        for (; p < P; p++) {
            float *to = dst.at + p * VL + p / W * gap;
            for (i64 i = 0; i < VL; i++) to[i] = i < lanes ? src[(c + i) * src_plane + p] : 0.0f;
        }
    }
}

#endif
