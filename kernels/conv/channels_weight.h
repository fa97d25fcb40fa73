/* Weight gradient of a convolution with channels in the lanes (channels.h), of one image or of several small ones.
 *
 *   packed[k][o] += sum over pixels of x[pixel + distance of entry k] * grad[pixel][o]          layout: channels_packing
 *
 * A register tile is 6 entries x 4 vectors of output channels, 8 x 2 or 16 x 1; a sum runs along some pixels, numbered through rows and
 * images, then joins memory. Measured as in channels_tiles.h: 86-94 % of the FMA peak from 32 channels to 32 and more, 69 % for 16 -> 16; on a
 * Xeon where forward runs at 190-200 GFLOP/s: 165-180 with two vectors of output channels and more, for outputs of 4x4 to 32x32, and 125-135
 * with one. With rows one after the other and all pixels of a layer at a time these were 140-160 for 4x4 and for 32x32.
 */
#ifndef FASTNN_CHANNELS_WEIGHT_H
#define FASTNN_CHANNELS_WEIGHT_H

#include "conv/depthwise.h"

/* Pixels at a time: their gradients, of a tile's blocks, stay in L1 while all entries pass by */
enum { CHANNELS_WEIGHT_PIXELS = SUM_SHORT };

/* Some pixels: where they lie in the input and in the gradient, and how many make a run; the first row ends after `row` of them, each
 * further one after `columns`, and its pixels are `step` floats apart in the input */
struct channels_terms { i64 count, run, row, columns, step; const int32_t *in, *grad; };

/* MR entries x NV blocks: sums[entry][block] += the sums over the pixels; lanes: the entries are lanes of one pixel. One block has as many
 * loads as products: it goes by rows, to have no more of them. */
INLINE void channels_weight_entries(const int MR, const int NV, const int lanes, const struct channels_terms *t, const int32_t *offset,
                                    struct wide_view src, struct wide_view grad, float *restrict sums) {
    const float *at[VL > 8 ? VL : 8];
    UNROLL for (int i = 0; i < MR; i++) at[i] = src.at + (lanes ? *offset + i : offset[i]);
    for (i64 k = 0, end, row = t->row; k < t->count; k = end) {
        vf sum[VL > 8 ? VL : 8][CHANNELS_NV];
        UNROLL for (int i = 0; i < MR; i++) UNROLL for (int j = 0; j < NV; j++) sum[i][j] = (vf){0};
        end = i64_min(t->count, k + t->run);
        if (NV == 1) for (i64 p = k, stop; p < end; p = stop) {
            const float *here[VL > 8 ? VL : 8], *g = grad.at + t->grad[p];
            stop = i64_min(end, row);
            if (stop == row) row += t->columns;
            UNROLL for (int i = 0; i < MR; i++) here[i] = at[i] + t->in[p];
            for (i64 i = 0, n = stop - p, step = t->step; i < n; i++) {
                const vf v = v_load(g + i * VL);
                UNROLL for (int e = 0; e < MR; e++) sum[e][0] += v_set1(here[e][i * step]) * v;
            }
        } else for (i64 p = k; p < end; p++) {
            const i64 in = t->in[p];
            const float *g = grad.at + t->grad[p];
            vf v[CHANNELS_NV];
            UNROLL for (int j = 0; j < NV; j++) v[j] = v_load(g + j * grad.plane);
            UNROLL for (int i = 0; i < MR; i++) {
                const vf x = v_set1(at[i][in]);
                UNROLL for (int j = 0; j < NV; j++) sum[i][j] += x * v[j];
            }
        }
        UNROLL for (int i = 0; i < MR; i++) UNROLL for (int j = 0; j < NV; j++) {
            float *const to = sums + (i * NV + j) * VL;
            v_store(to, v_load(to) + sum[i][j]);
        }
    }
}

/* All entries of a tile, MR at a time, and what is left of them in narrower ones */
INLINE void channels_weight_tile(const int MR, const int NV, const struct channels_conv *s, const struct channels_terms *terms,
                                 const struct channels_tile *t, struct wide_view src, struct wide_view grad, float *sums) {
    int32_t offset[CHANNELS_ENTRIES + VL];
    struct channels_entries e = {.offset = offset, .rows = {s->kh, 0, s->dilation_h}, .columns = {s->kw, 0, s->dilation_w}, .pixel = s->pixel,
                                 .row = src.row, .plane = src.plane, .c = t->first, .end = t->end};
    grad.at += t->block * grad.plane;
    while (channels_next_entries(&e)) {
        i64 k = 0;
#define ENTRIES(mr) for (; k + mr <= e.count; k += mr, sums += mr * NV * VL) \
        channels_weight_entries(mr, NV, 0, terms, offset + k, src, grad, sums)
        if (NV == 1 && VL > 8 && s->pixel == VL) for (; k + VL <= e.count && offset[k + VL - 1] == offset[k] + VL - 1; k += VL, sums += VL * VL)
            channels_weight_entries(VL, 1, 1, terms, offset + k, src, grad, sums);
        ENTRIES(MR);
        if (MR == 8) ENTRIES(4);
        ENTRIES(2);
        ENTRIES(1);
#undef ENTRIES
    }
}

KERNEL void channels_weight_blocks(const struct channels_conv *s, const struct channels_terms *terms, const struct channels_tile *t,
                                   struct wide_view src, struct wide_view grad, float *sums) {
#define CALL(mr, nv) channels_weight_tile(mr, nv, s, terms, t, src, grad, sums)
    CHANNELS_TILES(t->blocks, CALL)
#undef CALL
}

/* How many runs P pixels of all images together add to a sum */
INLINE i64 channels_weight_runs(i64 P) { return ceil_div(P, SUM_RUN); }

/* As many rows at a time as add SUM_ADDS runs */
KERNEL void channels_weight_depthwise(const struct channels_conv *s, struct channels_images images, struct wide_view src, struct wide_view grad,
                                      struct joined *sums) {
    const i64 most = i64_max(1, SUM_ADDS * SUM_RUN / (s->OW * images.count));
    for (i64 first = 0; first < s->OH; first += most) {
        const i64 rows = i64_min(most, s->OH - first);
        depthwise_weight(s, rows, &images, src, grad, sums->part);
        joined_added(sums, channels_weight_runs(rows * s->OW * images.count));
        src.at += most * s->stride_h * src.row, grad.at += most * grad.row;
    }
}

/* src as for channels_forward; grad at its pixel (0, 0), no border needed; sums: packed, of channels_packed_floats. Pixels are numbered
 * through all rows and images, as forward. */
KERNEL void channels_backward_weight(const struct channels_conv *s, struct channels_images images, struct wide_view src,
                                     struct wide_view grad, struct joined *sums) {
    const struct channels_packing p = channels_packing(s);
    if (p.depthwise) { channels_weight_depthwise(s, images, src, grad, sums); return; }
    const struct channels_grid grid = {images.count, s->OH, s->OW, {images.input, s->stride_h * src.row, s->stride_w * s->pixel},
                                       {images.output, grad.row, VL}, {0}};
    const i64 pixels = images.count * s->OH * s->OW;
    struct channels_list list;
    list.image = list.row = list.column = 0;
    for (i64 left = pixels; left;) {
        const struct channels_terms terms = {i64_min(left, CHANNELS_WEIGHT_PIXELS), sum_run(pixels), s->OW - list.column, s->OW,
                                             s->stride_w * s->pixel, list.in, list.out};
        channels_next_list(&grid, terms.count, &list);
        for (struct channels_tile t = {0}; channels_next_tile(&p, &t);)
            channels_weight_blocks(s, &terms, &t, src, grad, sums->part + t.at);
        joined_added(sums, channels_weight_runs(terms.count));
        left -= terms.count;
    }
}

#endif
