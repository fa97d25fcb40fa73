/* Products of pixels and output blocks with channels in the lanes (channels.h): the register tiles of channels_forward.h.
 *
 * A tile is up to 6 pixels x 4 vectors or 8 x 2 (AVX2: 6 x 2): each weight vector is loaded once for the pixels, each pixel's float is
 * broadcast once for the vectors. Pixels are numbered through all rows and images, so that tiles are full whatever the rows' length is.
 * One block is taken in patches of 2 x 8 pixels.
 *
 * The floor is the products themselves. Measured (Xeon with two 512-bit units, one thread, share of the FMA peak of 178 GFLOP/s), AVX-512:
 * 96-98 % from 32 channels to 32 and more, 3x3 and 4x4, strides of 1 and 2, dilation 2, 9x9 to 32x32 outputs; 91 % for 1x1 64 -> 128;
 * 93 % for 8x8/4 from planes of 4 channels; 84 % for 16 -> 16; 73 % for 3 -> 16 and 54 % for 1 -> 32 from planes, which the stores bound;
 * 75 % for 256 -> 256 on eight images of 4x4, and 35-45 % on one, which reads 2.3 MB of weights for 16 pixels. AVX2 (Zen 3, peak 96
 * GFLOP/s): 95 % for 8x8/4 and 4x4/2, 93 % for 1x1 128 -> 128, 81 % for 1x1 32 -> 64, whose sums are short beside a tile's ends.
 */
#ifndef FASTNN_CHANNELS_TILES_H
#define FASTNN_CHANNELS_TILES_H

#include "conv/channels.h"
#include "parts/kinds.h"

/* What a convolution's sums begin with, and what becomes of them: y = activation(bias + residual + sum).
 * A residual that is the output itself adds to what is there. Other activations are the caller's, over what was stored. */
struct channels_ends {
    const float *bias;                      /* O rounded up to VL, or NULL */
    struct wide_view residual;              /* .at NULL: none */
    i64 residual_image;                     /* floats from one image to the next */
    int activation;                         /* ACTIVATION_NONE, _RELU or _LEAKY_RELU */
    float slope;                            /* of LEAKY_RELU below zero */
};

/* Pixels of a product: steps in floats from one image, row and pixel to the next, of what is read, written and added */
struct channels_grid {
    i64 images, rows, columns;
    struct channels_steps { i64 image, row, pixel; } in, out, add;
};

/* A pixel: where it reads, where it is written, and where what is added to it lies (or NULL) */
struct channels_pixel { const float *in; float *out; const float *add; };

INLINE void channels_move(struct channels_pixel *p, i64 in, i64 out, i64 add) {
    p->in += in, p->out += out;
    if (p->add) p->add += add;
}

enum { CHANNELS_LISTED = 32 * 8 };          /* pixels of a list, at most */

/* Distances of pixels from the first one of the grid: the list goes on from `image`, `row` and `column`. */
struct channels_list { i64 image, row, column; int32_t in[CHANNELS_LISTED + VL], out[CHANNELS_LISTED + VL], add[CHANNELS_LISTED + VL]; };

INLINE void channels_next_list(const struct channels_grid *g, i64 pixels, struct channels_list *list) {
    for (i64 p = 0; p < pixels;) {
        const i64 here = i64_min(pixels - p, g->columns - list->column);
#define LIST(of) do { \
        const i64 at = list->image * g->of.image + list->row * g->of.row + list->column * g->of.pixel; \
        for (i64 i = 0; i < here; i += VL) { \
            const vi v = v_count(at + i * g->of.pixel, g->of.pixel); \
            memcpy(list->of + p + i, &v, sizeof v); \
        } \
    } while (0)
        LIST(in);
        LIST(out);
        LIST(add);
#undef LIST
        p += here, list->column += here;
        if (list->column < g->columns) continue;
        list->column = 0;
        if (++list->row == g->rows) list->row = 0, list->image++;
    }
}

/* The entries of a product from `offset` on, and their weights; what its sums begin with and become */
struct channels_sums {
    i64 count;
    const int32_t *offset;
    const float *weight, *bias;
    i64 out_plane, add_plane;
    int activation;
    float slope;
};

INLINE vf channels_activate(const int activation, vf v, float slope) {
    if (activation == ACTIVATION_RELU) return (vf)((vi)v & ~(v <= (vf){0}));
    return activation == ACTIVATION_LEAKY_RELU ? v_select(v > (vf){0}, v, slope * v) : v;
}

/* MR pixels x NV blocks */
INLINE void channels_tile(const int MR, const int NV, const struct channels_sums *s, const struct channels_pixel *first,
                          const int32_t *in, const int32_t *out, const int32_t *add) {
    vf sum[8][CHANNELS_NV];
    const float *at[8];
    UNROLL for (int m = 0; m < MR; m++) {
        at[m] = first->in + in[m];
        UNROLL for (int j = 0; j < NV; j++) sum[m][j] = s->bias ? v_load(s->bias + j * VL) : (vf){0};
    }
    if (first->add) UNROLL for (int m = 0; m < MR; m++) UNROLL for (int j = 0; j < NV; j++)
        sum[m][j] += v_load(first->add + add[m] + j * s->add_plane);
    const float *w = s->weight;
    const int32_t *const offset = s->offset;
    for (i64 k = 0, count = s->count; k < count; k++, w += NV * VL) {
        const i64 distance = offset[k];
        vf v[CHANNELS_NV];
        UNROLL for (int j = 0; j < NV; j++) v[j] = v_load(w + j * VL);
        UNROLL for (int m = 0; m < MR; m++) {
            const vf x = v_set1(at[m][distance]);
            UNROLL for (int j = 0; j < NV; j++) sum[m][j] += x * v[j];
        }
    }
#define STORE(activation) case activation: \
        UNROLL for (int m = 0; m < MR; m++) UNROLL for (int j = 0; j < NV; j++) \
            v_store(first->out + out[m] + j * s->out_plane, channels_activate(activation, sum[m][j], s->slope)); \
        break;
    switch (s->activation) { STORE(ACTIVATION_RELU) STORE(ACTIVATION_LEAKY_RELU) STORE(ACTIVATION_NONE) }
#undef STORE
}

/* All pixels in tiles of about the same size, of at most MR */
INLINE void channels_pixels(const int MR, const int NV, const struct channels_grid *g, struct channels_pixel first,
                            const struct channels_sums *s) {
    struct channels_list list;
    list.image = list.row = list.column = 0;
    i64 pixels = g->images * g->rows * g->columns;
    for (i64 tiles = ceil_div(pixels, MR), now; tiles; tiles -= now) {
        now = i64_min(tiles, CHANNELS_LISTED / MR);
        const i64 count = pixels * now / tiles;
        channels_next_list(g, count, &list);
        pixels -= count;
        for (i64 p = 0, left = now; left; left--) {
            const i64 n = ceil_div(count - p, left);
#define PIXELS(mr) case mr: if (mr <= MR) channels_tile(mr, NV, s, &first, list.in + p, list.out + p, list.add + p); break;
            switch (n) { PIXELS(8) PIXELS(7) PIXELS(6) PIXELS(5) PIXELS(4) PIXELS(3) PIXELS(2) PIXELS(1) }
#undef PIXELS
            p += n;
        }
    }
}

enum { CHANNELS_PATCH = VL == 16 ? 8 : 6 };      /* columns of a patch */

/* R rows x Q pixels of one block, `step` floats apart, which is a constant: one block wants more sums than there are registers for the
 * addresses of pixels. */
INLINE void channels_patch(const int R, const int Q, const int step, const struct channels_grid *g, const struct channels_sums *s,
                           const struct channels_pixel *p) {
    vf sum[2][8];
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int q = 0; q < Q; q++) {
        sum[r][q] = s->bias ? v_load(s->bias) : (vf){0};
        if (p->add) sum[r][q] += v_load(p->add + r * g->add.row + q * g->add.pixel);
    }
    for (i64 k = 0; k < s->count; k++) {
        const float *at[2] = {p->in + s->offset[k], p->in + s->offset[k] + g->in.row};
        const vf w = v_load(s->weight + k * VL);
        UNROLL for (int r = 0; r < R; r++) UNROLL for (int q = 0; q < Q; q++) sum[r][q] += v_set1(at[r][q * step]) * w;
    }
#define STORE(activation) case activation: \
        UNROLL for (int r = 0; r < R; r++) UNROLL for (int q = 0; q < Q; q++) \
            v_store(p->out + r * g->out.row + q * g->out.pixel, channels_activate(activation, sum[r][q], s->slope)); \
        break;
    switch (s->activation) { STORE(ACTIVATION_RELU) STORE(ACTIVATION_LEAKY_RELU) STORE(ACTIVATION_NONE) }
#undef STORE
}

INLINE void channels_patches(const int step, const struct channels_grid *g, struct channels_pixel image,
                             const struct channels_sums *s) {
    for (i64 n = 0; n < g->images; n++, channels_move(&image, g->in.image, g->out.image, g->add.image)) {
        struct channels_pixel row = image;
        for (i64 h = 0; h < g->rows; h += 2, channels_move(&row, 2 * g->in.row, 2 * g->out.row, 2 * g->add.row)) {
            struct channels_pixel p = row;
            for (i64 w = 0, left = ceil_div(g->columns, CHANNELS_PATCH); w < g->columns; left--) {
                const i64 wide = ceil_div(g->columns - w, left);
#define PIXELS(q) case q: if (q <= CHANNELS_PATCH) { \
        if (h + 1 < g->rows) channels_patch(2, q, step, g, s, &p); \
        else channels_patch(1, q, step, g, s, &p); \
    } break;
                switch (wide) { PIXELS(8) PIXELS(7) PIXELS(6) PIXELS(5) PIXELS(4) PIXELS(3) PIXELS(2) PIXELS(1) }
#undef PIXELS
                w += wide, channels_move(&p, wide * g->in.pixel, wide * g->out.pixel, wide * g->add.pixel);
            }
        }
    }
}

#if VL == 16
#define CHANNELS_TILES(blocks, call) \
    switch (blocks) { case 4: call(6, 4); break; case 3: call(8, 3); break; case 2: call(8, 2); break; default: call(8, 1); }
#else
#define CHANNELS_TILES(blocks, call) switch (blocks) { case 2: call(6, 2); break; default: call(8, 1); }
#endif

/* All pixels of the grid x `blocks` blocks */
KERNEL void channels_blocks(const struct channels_grid *g, struct channels_pixel first, const struct channels_sums *s, i64 blocks) {
    if (blocks == 1 && g->columns >= 4 && g->in.pixel == VL) channels_patches(VL, g, first, s);
    else if (blocks == 1 && g->columns >= 4 && g->in.pixel == 1) channels_patches(1, g, first, s);
    else
#define CALL(mr, nv) channels_pixels(mr, nv, g, first, s)
        CHANNELS_TILES(blocks, CALL)
#undef CALL
}

#endif
