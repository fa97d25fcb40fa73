/* Convolution of images with channels in the lanes, forward and input gradient: channels.h has the layouts, channels_tiles.h the tiles,
 * depthwise.h those of depthwise convolutions.
 */
#ifndef FASTNN_CHANNELS_FORWARD_H
#define FASTNN_CHANNELS_FORWARD_H

#include "conv/depthwise.h"

/* packed, of channels_packed_floats(p) <- weight (O, C / groups, kh, kw) */
KERNEL void channels_pack(const struct channels_packing *p, const float *weight, float *packed) {
    for (struct channels_tile t = {0}; channels_next_tile(p, &t);) channels_pack_tile(p, &t, weight, packed);
}

/* Distances of a product's entries, which tiles that read the same channels share. end < 0: none yet */
struct channels_shared { i64 first, end, count; int32_t offset[CHANNELS_ENTRIES + VL]; };

/* One product of one tile: the entries of the channels [t->first, t->end) and of the taps, for all pixels of the grid */
static void channels_product(int depthwise, const struct channels_tile *t, const float *weight, struct channels_taps rows,
                             struct channels_taps columns, i64 pixel, struct wide_view src, const struct channels_grid *g, float *out,
                             i64 out_plane, const float *add, const struct channels_ends *ends, struct channels_shared *shared) {
    if (depthwise) src.at += t->block * src.plane;
    struct channels_entries e = {.offset = shared->offset, .rows = rows, .columns = columns, .pixel = pixel, .row = src.row,
                                 .plane = src.plane, .c = t->first, .end = rows.count && columns.count ? t->end : t->first};
    struct channels_sums s = {.offset = shared->offset, .weight = weight, .bias = ends->bias ? ends->bias + t->block * VL : NULL,
                              .out_plane = out_plane, .add_plane = ends->residual.plane};
    struct channels_pixel first = {src.at, out + t->block * out_plane, add ? add + t->block * ends->residual.plane : NULL};
    struct channels_grid grid = *g;
    const int plain = rows.count == 3 && columns.count == 3 && rows.by == 1 && columns.by == 1;
    const i64 stride = grid.in.pixel / VL;
    do {
        if (shared->first == t->first && shared->end == e.end) e.c = e.end, e.count = shared->count;
        else {
            const i64 first = e.c == t->first && !e.i && !e.j;
            channels_next_entries(&e);
            shared->first = t->first, shared->count = e.count, shared->end = first && e.c == e.end ? e.end : -1;
        }
        s.count = e.count;
        if (e.c == e.end) s.activation = ends->activation, s.slope = ends->slope;
        if (depthwise) depthwise_pixels(&grid, first, &s, plain && stride * src.row == grid.in.row ? stride : 0);
        else channels_blocks(&grid, first, &s, t->blocks);
        s.weight += e.count * t->blocks * VL;
        s.bias = NULL, s.add_plane = out_plane, first.add = first.out, grid.add = grid.out;     /* go on with what is there */
    } while (e.c < e.end);
}

/* src begins at the border: with pixel (-pad_h, -pad_w); dst at pixel (0, 0) */
KERNEL void channels_forward_tile(const struct channels_conv *s, const struct channels_tile *t, struct channels_images images,
                                  const float *packed, struct wide_view src, struct wide_view dst, struct channels_ends ends,
                                  struct channels_shared *shared) {
    const struct channels_grid grid = {images.count, s->OH, s->OW, {images.input, s->stride_h * src.row, s->stride_w * s->pixel},
                                       {images.output, dst.row, VL}, {ends.residual_image, ends.residual.row, VL}};
    const struct channels_taps rows = {s->kh, 0, s->dilation_h}, columns = {s->kw, 0, s->dilation_w};
    channels_product(channels_packing(s).depthwise, t, packed + t->at, rows, columns, s->pixel, src, &grid, dst.at, dst.plane,
                     ends.residual.at, &ends, shared);
}

/* Of the input's rows phase, phase + stride, ... of one direction: those there are, where they read, and the class of taps that they see.
 * Row h reads, for tap i, row (h + pad - i * dilation) / stride of the gradient, where that is whole. */
struct channels_phase { i64 count, r; struct channels_taps taps; };

INLINE struct channels_phase channels_phase(i64 size, i64 k, i64 stride, i64 dilation, i64 pad, i64 phase) {
    const i64 step = channels_step(stride, dilation);
    struct channels_phase f = {phase < size ? ceil_div(size - phase, stride) : 0, 0, {0}};
    while (f.r < step && (phase + pad + f.r * (stride - dilation % stride)) % stride) f.r++;
    if (f.r == step || f.r >= k) return f;
    f.taps.count = channels_class(k, step, f.r);
    f.taps.by = dilation * step / stride;
    f.taps.at = (phase + pad - (f.r + (f.taps.count - 1) * step) * dilation) / stride;      /* of the last one: exact, maybe negative */
    return f;
}

/* Rows, or columns, of zeros that the gradient needs around it for the input gradient */
INLINE void channels_grad_border(i64 size, i64 out, i64 k, i64 stride, i64 dilation, i64 pad, i64 *before, i64 *after) {
    *before = i64_max(0, ((k - 1) * dilation - pad) / stride);
    *after = i64_max(0, (size - 1 + pad) / stride - (out - 1));
}

/* packed: channels_packing_input. grad begins at its pixel (0, 0), with channels_grad_border zeros around; dst at pixel (0, 0).
 * images: input is of the gradient, output of dst. */
KERNEL void channels_backward_input_tile(const struct channels_conv *s, const struct channels_tile *t, struct channels_images images,
                                         const float *packed, struct wide_view grad, struct wide_view dst, struct channels_ends ends) {
    const i64 step_h = channels_step(s->stride_h, s->dilation_h), step_w = channels_step(s->stride_w, s->dilation_w);
    for (i64 a = 0; a < i64_min(s->H, s->stride_h); a++) for (i64 b = 0; b < i64_min(s->W, s->stride_w); b++) {
        const struct channels_phase row = channels_phase(s->H, s->kh, s->stride_h, s->dilation_h, s->pad_h, a);
        const struct channels_phase column = channels_phase(s->W, s->kw, s->stride_w, s->dilation_w, s->pad_w, b);
        const struct channels_grid grid = {images.count, row.count, column.count, {images.input, grad.row, VL},
                                           {images.output, s->stride_h * dst.row, s->stride_w * VL},
                                           {ends.residual_image, s->stride_h * ends.residual.row, s->stride_w * VL}};
        const i64 before = channels_before(s->kh, step_h, row.r) * s->kw + row.taps.count * channels_before(s->kw, step_w, column.r);
        const float *weight = packed + t->at + (t->end - t->first) * before * t->blocks * VL;
        const float *add = ends.residual.at ? ends.residual.at + a * ends.residual.row + b * VL : NULL;
        struct channels_shared shared;
        shared.end = -1;
        channels_product(channels_packing(s).depthwise, t, weight, row.taps, column.taps, VL, grad, &grid, dst.at + a * dst.row + b * VL,
                         dst.plane, add, &ends, &shared);
    }
}

/* All tiles. What packed, src and dst are: as above. */
KERNEL void channels_forward(const struct channels_conv *s, struct channels_images images, const float *packed, struct wide_view src,
                             struct wide_view dst, struct channels_ends ends) {
    const struct channels_packing p = channels_packing(s);
    struct channels_shared shared;
    shared.end = -1;
    for (struct channels_tile t = {0}; channels_next_tile(&p, &t);) channels_forward_tile(s, &t, images, packed, src, dst, ends, &shared);
}
KERNEL void channels_backward_input(const struct channels_conv *s, struct channels_images images, const float *packed, struct wide_view grad,
                                    struct wide_view dst, struct channels_ends ends) {
    const struct channels_packing p = channels_packing_input(s);
    for (struct channels_tile t = {0}; channels_next_tile(&p, &t);) channels_backward_input_tile(s, &t, images, packed, grad, dst, ends);
}

#endif
