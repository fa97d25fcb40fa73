/* Weight gradient of a convolution with channels in the lanes (channels.h), of one image or of several small ones.
 *
 *   packed[k][o] += sum over pixels of x[pixel + distance of entry k] * grad[pixel][o]          layout: channels_packing
 *
 * A register tile is 6 entries x 4 vectors of output channels, 8 x 2 or 16 x 1; a sum runs along some rows of pixels, then joins memory.
 * Measured as in channels_tiles.h: 86-94 % of the FMA peak from 32 channels to 32 and more, 69 % for 16 -> 16.
 */
#ifndef FASTNN_CHANNELS_WEIGHT_H
#define FASTNN_CHANNELS_WEIGHT_H

#include "conv/depthwise.h"

/* MR entries x NV blocks: sums[entry][block] += the sums over images, rows and columns; lanes: the entries are lanes of one pixel */
INLINE void channels_weight_entries(const int MR, const int NV, const int lanes, const struct channels_conv *s, i64 rows,
                                    const struct channels_images *images, const int32_t *offset, struct wide_view src,
                                    struct wide_view grad, float *restrict sums) {
    const i64 row = s->stride_h * src.row, step = s->stride_w * s->pixel, most = sum_run(images->count * rows * s->OW);
    vf sum[VL > 8 ? VL : 8][CHANNELS_NV];
    i64 run = 0;
    UNROLL for (int i = 0; i < MR; i++) UNROLL for (int j = 0; j < NV; j++) sum[i][j] = (vf){0};
#define ADD() do { \
        UNROLL for (int i = 0; i < MR; i++) UNROLL for (int j = 0; j < NV; j++) { \
            float *const to = sums + (i * NV + j) * VL; \
            v_store(to, v_load(to) + sum[i][j]); \
            sum[i][j] = (vf){0}; \
        } \
        run = 0; \
    } while (0)
    for (i64 n = 0; n < images->count; n++) for (i64 h = 0; h < rows; h++) {
        const float *at[VL > 8 ? VL : 8], *g = grad.at + n * images->output + h * grad.row;
        UNROLL for (int i = 0; i < MR; i++) at[i] = src.at + n * images->input + h * row + (lanes ? *offset + i : offset[i]);
        for (i64 w = 0, end; w < s->OW; w = end) {
            end = i64_min(s->OW, w + sum_run(s->OW));
            run += end - w;
            for (i64 k = w; k < end; k++) {
                vf v[CHANNELS_NV];
                UNROLL for (int j = 0; j < NV; j++) v[j] = v_load(g + k * VL + j * grad.plane);
                UNROLL for (int i = 0; i < MR; i++) {
                    const vf x = v_set1(at[i][k * step]);
                    UNROLL for (int j = 0; j < NV; j++) sum[i][j] += x * v[j];
                }
            }
            if (run >= most) ADD();
        }
    }
    if (run) ADD();
#undef ADD
}

/* All entries of a tile, MR at a time, and what is left of them in narrower ones */
INLINE void channels_weight_tile(const int MR, const int NV, const struct channels_conv *s, i64 rows, const struct channels_images *images,
                                 const struct channels_tile *t, struct wide_view src, struct wide_view grad, float *sums) {
    int32_t offset[CHANNELS_ENTRIES + VL];
    struct channels_entries e = {.offset = offset, .rows = {s->kh, 0, s->dilation_h}, .columns = {s->kw, 0, s->dilation_w}, .pixel = s->pixel,
                                 .row = src.row, .plane = src.plane, .c = t->first, .end = t->end};
    grad.at += t->block * grad.plane;
    while (channels_next_entries(&e)) {
        i64 k = 0;
#define ENTRIES(mr) for (; k + mr <= e.count; k += mr, sums += mr * NV * VL) \
        channels_weight_entries(mr, NV, 0, s, rows, images, offset + k, src, grad, sums)
        if (NV == 1 && VL > 8 && s->pixel == VL) for (; k + VL <= e.count && offset[k + VL - 1] == offset[k] + VL - 1; k += VL, sums += VL * VL)
            channels_weight_entries(VL, 1, 1, s, rows, images, offset + k, src, grad, sums);
        ENTRIES(MR);
        if (MR == 8) ENTRIES(4);
        ENTRIES(2);
        ENTRIES(1);
#undef ENTRIES
    }
}

KERNEL void channels_weight_blocks(const struct channels_conv *s, i64 rows, const struct channels_images *images, const struct channels_tile *t,
                                   struct wide_view src, struct wide_view grad, float *sums) {
#define CALL(mr, nv) channels_weight_tile(mr, nv, s, rows, images, t, src, grad, sums)
    CHANNELS_TILES(t->blocks, CALL)
#undef CALL
}

/* How many runs P pixels of all images together add to a sum */
INLINE i64 channels_weight_runs(i64 P) { return ceil_div(P, SUM_RUN); }

/* src as for channels_forward; grad at its pixel (0, 0), no border needed; sums: packed, of channels_packed_floats. As many rows at a
 * time as add SUM_ADDS runs. */
KERNEL void channels_backward_weight(const struct channels_conv *s, struct channels_images images, struct wide_view src,
                                     struct wide_view grad, struct joined *sums) {
    const struct channels_packing p = channels_packing(s);
    const i64 most = i64_max(1, SUM_ADDS * SUM_RUN / (s->OW * images.count));
    for (i64 first = 0; first < s->OH; first += most) {
        const i64 rows = i64_min(most, s->OH - first);
        if (p.depthwise) depthwise_weight(s, rows, &images, src, grad, sums->part);
        else for (struct channels_tile t = {0}; channels_next_tile(&p, &t);)
            channels_weight_blocks(s, rows, &images, &t, src, grad, sums->part + t.at);
        joined_added(sums, channels_weight_runs(rows * s->OW * images.count));
        src.at += most * s->stride_h * src.row, grad.at += most * grad.row;
    }
}

#endif
