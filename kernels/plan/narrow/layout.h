/* How the narrow chain lays out a block of images, and the copies in and out of that layout.
 *
 * A block is VL images, one a lane: activations are [C][rows][cols][VL], so that any number of channels fills the vectors. Lanes past
 * the batch's last image hold zeros. A layer's input has its zero padding around it: rows = H + 2*pad_h, cols = W + 2*pad_w.
 */
#ifndef FASTNN_NARROW_LAYOUT_H
#define FASTNN_NARROW_LAYOUT_H

#include "base/lanes.h"
#include "plan/stages.h"

/* Planes of a block in memory: at points to pixel (0, 0) of channel 0; steps in floats. */
struct narrow_view { float *at; i64 plane, row; };

/* Winograd's tiles of m x m outputs; m = 0: none. Their inputs may reach past the padding. */
INLINE i64 narrow_tiles_h(const struct chain_layer *l, i64 m) { return ceil_div(l->PH * l->pool, m); }
INLINE i64 narrow_tiles_w(const struct chain_layer *l, i64 m) { return ceil_div(l->PW * l->pool, m); }
INLINE i64 narrow_rows(const struct chain_layer *l, i64 m) {
    return i64_max(l->H + 2 * l->pad_h, m ? narrow_tiles_h(l, m) * m + l->kh - 1 : 0);
}
INLINE i64 narrow_cols(const struct chain_layer *l, i64 m) {
    return i64_max(l->W + 2 * l->pad_w, m ? narrow_tiles_w(l, m) * m + l->kw - 1 : 0);
}
INLINE i64 narrow_input_floats(const struct chain_layer *l, i64 m) { return l->C * narrow_rows(l, m) * narrow_cols(l, m) * VL; }

/* A layer's input from its first padding pixel on, and from the first pixel of the image itself on. */
INLINE struct narrow_view narrow_padded(const struct chain_layer *l, i64 m, float *at) {
    i64 row = narrow_cols(l, m) * VL;
    return (struct narrow_view){at, narrow_rows(l, m) * row, row};
}
INLINE struct narrow_view narrow_inside(const struct chain_layer *l, i64 m, float *at) {
    struct narrow_view v = narrow_padded(l, m, at);
    v.at += l->pad_h * v.row + l->pad_w * VL;
    return v;
}

/* The plane's frame: top rows above H rows, left columns left of W, and what is left of rows x cols */
KERNEL void narrow_clear_frame(i64 C, i64 rows, i64 cols, i64 top, i64 left, i64 H, i64 W, float *at) {
    if (rows == H && cols == W) return;
    for (i64 c = 0; c < C; c++, at += rows * cols * VL) {
        memset(at, 0, (size_t)(top * cols * VL) * sizeof *at);
        for (i64 h = top; h < top + H; h++) {
            memset(at + h * cols * VL, 0, (size_t)(left * VL) * sizeof *at);
            memset(at + (h * cols + left + W) * VL, 0, (size_t)((cols - left - W) * VL) * sizeof *at);
        }
        memset(at + (top + H) * cols * VL, 0, (size_t)((rows - top - H) * cols * VL) * sizeof *at);
    }
}

/* Lane i: the sum of the lanes of r[i], halves added as a tree. */
INLINE vf narrow_sums(vf *r) {
    UNROLL for (int n = VL / 2; n > 0; n /= 2)
        UNROLL for (int i = 0; i < n; i++) r[i] = V_ZIP_LOW(r[i], r[i + n]) + V_ZIP_HIGH(r[i], r[i + n]);
    return r[0];
}

/* sums[i] = sum of the lanes of from[i * VL ..], i < count */
KERNEL void narrow_sum_lanes(i64 count, const float *from, float *sums) {
    i64 i = 0;
    for (; i + VL <= count; i += VL) {
        vf r[VL];
        UNROLL for (int j = 0; j < VL; j++) r[j] = v_load(from + (i + j) * VL);
        v_store(sums + i, narrow_sums(r));
    }
    for (; i < count; i++) sums[i] = v_sum(v_load(from + i * VL));
}

/* Block to[c][h][w][lane] = x[lane][c][h][w], x float (lanes, C, H, W) */
KERNEL void narrow_load_floats(i64 lanes, i64 C, i64 H, i64 W, const float *x, struct narrow_view to) {
    const i64 image = C * H * W;
    i64 c = 0, h = 0, w = 0, i = 0;
    for (; i < image; i += VL) {
        vf r[VL];
        i64 n = i64_min(VL, image - i);
        UNROLL for (int j = 0; j < VL; j++) r[j] = j >= lanes ? (vf){0} : v_load_lanes(x + j * image + i, n, 0);
        v_transpose(r);
        float t[VL * VL];
        UNROLL for (int j = 0; j < VL; j++) v_store(t + j * VL, r[j]);
        for (i64 j = 0; j < n; j++) {
            v_store(to.at + c * to.plane + h * to.row + w * VL, v_load(t + j * VL));
            if (++w == W) {
                w = 0;
                if (++h == H) h = 0, c++;
            }
        }
    }
}

/* The same from bytes, through table[c * 256 + value] */
KERNEL void narrow_load_bytes(i64 lanes, i64 C, i64 H, i64 W, const uint8_t *x, const float *table, struct narrow_view to) {
    const i64 image = C * H * W;
    for (i64 c = 0; c < C; c++, table += 256)
        for (i64 h = 0; h < H; h++)
            for (i64 w = 0; w < W; w++, x++) {
                float *pixel = to.at + c * to.plane + h * to.row + w * VL;
                if (lanes == VL) UNROLL for (int j = 0; j < VL; j++) pixel[j] = table[x[j * image]];
                else for (int j = 0; j < VL; j++) pixel[j] = j < lanes ? table[x[j * image]] : 0.0f;
            }
}

/* x[lane][i] = from[i][lane], x (lanes, count) */
KERNEL void narrow_store_floats(i64 lanes, i64 count, const float *from, float *x) {
    for (i64 i = 0; i < count; i += VL) {
        vf r[VL];
        i64 n = i64_min(VL, count - i);
        UNROLL for (int j = 0; j < VL; j++) r[j] = j < n ? v_load(from + (i + j) * VL) : (vf){0};
        v_transpose(r);
        UNROLL for (int j = 0; j < VL; j++) if (j < lanes) v_store_lanes(x + j * count + i, r[j], n);
    }
}

#endif
