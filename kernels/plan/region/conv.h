/* The convolutions of a region that trains, over some images: 3x3 with stride 1, and 4x4 and 5x5 with stride 2, in Winograd's domain where
 * that pays, all others by the products of conv/channels.h, from planes where few channels come from outside.
 *
 * Weights are packed in every step, forward and for the input gradients, on all threads. A block of images has weight gradients of
 * its own, packed, which are added in order of the blocks.
 */
#ifndef FASTNN_REGION_CONV_H
#define FASTNN_REGION_CONV_H

#include "conv/channels_forward.h"
#include "conv/channels_weight.h"
#include "plan/region/region.h"
#include "plan/wide/layout.h"
#include "plan/wide/strided_backward.h"
#include "plan/wide/winograd_backward.h"

enum { REGION_ALIGN = 64 / sizeof(float), REGION_PIXELS = 128 };   /* images go together until they have so many pixels */

struct region_conv {
    struct channels_conv shape;
    int winograd, strided;                  /* in Winograd's domain, with stride 1 or 2 (wide/winograd.h, wide/strided.h) */
    i64 down, across, step_h, step_w;       /* a mosaic of down x across images, pixels from one to the next */
    struct wide_place input, grad;          /* with borders, of a mosaic: what it reads, and the gradient of z */
    i64 group;                              /* images at a time, at least, where there are as many */
    i64 packed_at, packed_floats, transposed_at, transposed_floats;     /* in the packed weights */
    i64 partial_floats, runs;               /* a block's weight gradient, and runs that are added to it */
    i64 sums_count, sums_floats;            /* sums that it is made of, and what memory they take */
    i64 partial_at, sums_at, work_floats;   /* in a block's partial gradients, and in a task's scratch */
};

/* ---- mosaics: several small images, a border apart, as one image of Winograd's, so that tiles are full at their edges ----
 *
 * What is not finite spreads over a tile, and so here over its neighbours in a batch. */

INLINE i64 region_cells(const struct region_conv *m) { return m->down * m->across; }
INLINE i64 region_mosaics(const struct region_conv *m, i64 images) { return ceil_div(images, region_cells(m)); }
INLINE i64 region_mosaic_H(const struct region_conv *m) { return (m->down - 1) * m->step_h + m->shape.OH; }
INLINE i64 region_mosaic_W(const struct region_conv *m) { return (m->across - 1) * m->step_w + m->shape.OW; }

/* Of an image of a place that holds mosaics: pixel (0, 0) */
INLINE struct wide_view region_cell(const struct region_conv *m, const struct wide_place *place, float *at, i64 image) {
    const i64 cells = region_cells(m), cell = image % cells;
    struct wide_view v = wide_interior(place, at + image / cells * wide_place_floats(place));
    v.at += cell / m->across * m->step_h * v.row + cell % m->across * m->step_w * place->lanes;
    return v;
}

/* Zeros where a place of `images` images is not going to be written */
KERNEL void region_clear(const struct region_conv *m, const struct wide_place *place, i64 images, float *at) {
    const i64 floats = wide_place_floats(place);
    if (region_cells(m) > 1) memset(at, 0, (size_t)(region_mosaics(m, images) * floats) * sizeof(float));
    else for (i64 k = 0; k < images; k++) wide_clear_border(place, at + k * floats);
}

INLINE struct winograd region_winograd(const struct region_conv *m) {
    return winograd_shape(m->shape.C, m->shape.O, region_mosaic_H(m), region_mosaic_W(m));
}
INLINE struct winograd region_winograd_exchanged(const struct region_conv *m) {
    return winograd_shape(m->shape.O, m->shape.C, region_mosaic_H(m), region_mosaic_W(m));
}

INLINE int region_is_strided(const struct region_conv *m) { return STRIDED_HERE && m->strided; }
INLINE struct strided region_strided(const struct region_conv *m) {
    return strided_shape(m->shape.kh, m->shape.C, m->shape.O, m->shape.OH, m->shape.OW);
}
INLINE struct strided region_strided_exchanged(const struct region_conv *m) {
    return strided_shape(m->shape.kh, m->shape.O, m->shape.C, m->shape.OH, m->shape.OW);
}

INLINE i64 region_tiles(const struct region_conv *m) {
    const struct winograd w = region_winograd(m);
    return w.TH * w.TW;
}

enum { REGION_MOSAIC = 4 };                 /* images down and across, at most */

/* The mosaic with the fewest tiles for so many images; a single image where none saves a twentieth */
KERNEL void region_choose_mosaic(i64 images, struct region_conv *m) {
    const struct channels_conv *s = &m->shape;
    struct region_conv best = *m;
    i64 least = images * region_tiles(m) * 19 / 20;
    m->step_h = i64_max(s->OH + 2 - s->pad_h, s->H + s->pad_h);
    m->step_w = i64_max(s->OW + 2 - s->pad_w, s->W + s->pad_w);
    for (m->down = 1; m->down <= REGION_MOSAIC; m->down++) for (m->across = 1; m->across <= REGION_MOSAIC && region_cells(m) <= images; m->across++) {
        const i64 tiles = region_mosaics(m, images) * region_tiles(m);
        if (tiles < least) best = *m, least = tiles;
    }
    *m = best;
}

INLINE i64 region_weights(const struct region_conv *m) { return m->shape.O * (m->shape.C / m->shape.groups) * m->shape.kh * m->shape.kw; }
INLINE double region_conv_flops(const struct region_conv *m) { return 2.0 * (double)(m->shape.OH * m->shape.OW) * (double)region_weights(m); }

/* Winograd pays where there are enough channels to sum over and the tiles are mostly full. */
INLINE int region_wants_winograd(const struct channels_conv *s) {
    return s->kh == 3 && s->kw == 3 && s->stride_h == 1 && s->stride_w == 1 && s->dilation_h == 1 && s->dilation_w == 1 && s->groups == 1 &&
           s->pad_h < 3 && s->pad_w < 3 && s->C >= 8 && s->O >= 8 && 2 * s->OH * s->OW >= round_up(s->OH, 4) * round_up(s->OW, 4);
}

INLINE int region_wants_strided(const struct channels_conv *s, i64 images) {
    return s->kh == s->kw && (s->kh == 4 || s->kh == 5) && s->stride_h == 2 && s->stride_w == 2 && s->dilation_h == 1 && s->dilation_w == 1 &&
           s->groups == 1 && s->pad_h < s->kh && s->pad_w < s->kw && strided_pays(s->kh, s->C, s->O, s->OH, s->OW, images);
}

/* images: of the largest block */
KERNEL void region_plan_conv(const struct region_node *c, const struct region_node *x, int exact, i64 images, struct region_conv *m) {
    const int planar = x->kind == REGION_INPUT && x->C < 8 && c->groups == 1;
    m->shape = (struct channels_conv){x->C, c->C, x->H, x->W, c->H, c->W, c->kh, c->kw, c->stride_h, c->stride_w, c->pad_h, c->pad_w,
                                      c->dilation_h, c->dilation_w, c->groups, planar ? 1 : VL};
    const struct channels_conv *s = &m->shape;
    const i64 rows = i64_max(x->H + 2 * c->pad_h, (c->H - 1) * c->stride_h + (c->kh - 1) * c->dilation_h + 1);
    const i64 columns = i64_max(x->W + 2 * c->pad_w, (c->W - 1) * c->stride_w + (c->kw - 1) * c->dilation_w + 1);
    m->down = m->across = 1;
    m->winograd = !exact && !planar && region_wants_winograd(s);
    m->strided = !exact && !planar && region_wants_strided(s, images);
    m->input = (struct wide_place){x->C, x->H, x->W, rows, columns, c->pad_h, c->pad_w, planar ? 1 : VL};
    if (m->winograd) {
        region_choose_mosaic(images, m);
        const struct winograd w = region_winograd(m), exchanged = region_winograd_exchanged(m);
        const i64 tiles = w.TH * w.TW, cells = region_cells(m), strip = winograd_strip(&w);
        m->input.rows = i64_max((m->down - 1) * m->step_h + rows, 4 * w.TH + 2);
        m->input.cols = i64_max((m->across - 1) * m->step_w + columns, 4 * w.TW + 2);
        m->grad = (struct wide_place){c->C, c->H, c->W, 4 * w.TH, 4 * w.TW, 0, 0, VL};
        m->group = i64_max(cells, i64_min(images, strip / tiles * cells));
        m->runs = region_mosaics(m, images) * ceil_div(tiles, strip);
        m->work_floats = winograd_work_floats(&w);
        m->packed_floats = winograd_weight_floats(&w);
        m->transposed_floats = winograd_weight_floats(&exchanged);
        m->partial_floats = x->C * 9 * w.Op;
        m->sums_count = WINOGRAD_POINTS * winograd_step(w.Cp, w.Op);
    } else if (m->strided) {
        const struct strided w = region_strided(m), exchanged = region_strided_exchanged(m);
        const i64 tiles = w.TH * w.TW;
        m->input.rows = i64_max(rows, 8 * w.TH + c->kh - 2);
        m->input.cols = i64_max(columns, 8 * w.TW + c->kw - 2);
        m->grad = (struct wide_place){c->C, c->H, c->W, 4 * w.TH, 4 * w.TW, 0, 0, VL};
        m->group = i64_min(images, ceil_div(strided_strip(&w), tiles));
        m->runs = images * ceil_div(tiles, strided_strip(&w));
        m->work_floats = strided_work_floats(&w);
        m->packed_floats = strided_weight_floats(&w);
        m->transposed_floats = strided_weight_floats(&exchanged);
        m->partial_floats = m->sums_count = x->C * c->kh * c->kw * w.Op;
    } else {
        const struct channels_packing p = channels_packing(s), exchanged = channels_packing_input(s);
        i64 top, left, bottom, right;
        channels_grad_border(x->H, c->H, c->kh, c->stride_h, c->dilation_h, c->pad_h, &top, &bottom);
        channels_grad_border(x->W, c->W, c->kw, c->stride_w, c->dilation_w, c->pad_w, &left, &right);
        m->grad = (struct wide_place){c->C, c->H, c->W, top + c->H + bottom, left + c->W + right, top, left, VL};
        m->group = i64_max(1, i64_min(images, REGION_PIXELS / (c->H * c->W)));
        m->runs = images * channels_weight_runs(c->H * c->W);
        m->packed_floats = m->partial_floats = m->sums_count = channels_packed_floats(&p);
        m->transposed_floats = channels_packed_floats(&exchanged);
    }
    m->sums_floats = joined_floats(m->sums_count, m->runs);
}

/* H x W pixels of `blocks` blocks: to = or += from */
KERNEL void region_copy(i64 blocks, i64 H, i64 W, int add, struct wide_view from, struct wide_view to) {
    if (from.row == W * VL && to.row == W * VL) W *= H, H = 1;
    for (i64 o = 0; o < blocks; o++, from.at += from.plane, to.at += to.plane) for (i64 h = 0; h < H; h++) {
        const float *source = from.at + h * from.row;
        float *target = to.at + h * to.row;
        if (!add) memcpy(target, source, (size_t)(W * VL) * sizeof(float));
        else for (i64 i = 0; i < W * VL; i += VL) v_store(target + i, v_load(target + i) + v_load(source + i));
    }
}

/* ---- packing ---- */

enum { REGION_PACK_ROWS = 8 };              /* of Winograd's weights, a task */

INLINE struct channels_packing region_packing(const struct region_conv *m, int transposed) {
    return transposed ? channels_packing_input(&m->shape) : channels_packing(&m->shape);
}

INLINE i64 region_pack_tasks(const struct region_conv *m, int transposed) {
    const struct channels_packing p = region_packing(m, transposed);
    return m->winograd || region_is_strided(m) ? ceil_div(p.from, REGION_PACK_ROWS) : channels_tiles(&p);
}

KERNEL void region_pack_task(const struct region_conv *m, const float *weight, int transposed, i64 task, float *to) {
    if (m->winograd) {
        const struct winograd w = transposed ? region_winograd_exchanged(m) : region_winograd(m);
        winograd_pack(&w, weight, transposed, to, task * REGION_PACK_ROWS, i64_min(w.C, (task + 1) * REGION_PACK_ROWS));
        return;
    }
    if (region_is_strided(m)) {
        const struct strided w = transposed ? region_strided_exchanged(m) : region_strided(m);
        strided_pack(&w, weight, transposed, to, task * REGION_PACK_ROWS, i64_min(w.C, (task + 1) * REGION_PACK_ROWS));
        return;
    }
    const struct channels_packing p = region_packing(m, transposed);
    struct channels_tile t = {0};
    while (channels_next_tile(&p, &t) && task--) {}
    channels_pack_tile(&p, &t, weight, to);
}

/* ---- passes over `count` images ---- */

/* Floats of mosaics of z, and of the input's gradient, of so many images */
INLINE i64 region_mosaic_floats(const struct region_conv *m, i64 images) {
    return region_cells(m) > 1 ? region_mosaics(m, images) * round_up(m->shape.O, VL) * region_mosaic_H(m) * region_mosaic_W(m) : 0;
}
INLINE i64 region_input_grad_floats(const struct region_conv *m, i64 images) {
    return m->winograd || region_is_strided(m) ? region_mosaics(m, images) * wide_place_floats(&m->input) : images * round_up(m->shape.C, VL) * m->shape.H * m->shape.W;
}

/* z, its images z_image apart, from the bordered input; mosaic: region_mosaic_floats of scratch */
KERNEL void region_convolve(const struct region_conv *m, i64 count, const float *packed, float *input, float *z, i64 z_image, float *work,
                            float *mosaic) {
    const struct channels_conv *s = &m->shape;
    const i64 image = wide_place_floats(&m->input), MW = region_mosaic_W(m), plane = region_mosaic_H(m) * MW * VL, blocks = ceil_div(s->O, VL);
    const struct wide_view src = wide_bordered(&m->input, input), dst = {z, s->OH * s->OW * VL, s->OW * VL}, whole = {mosaic, plane, MW * VL};
    const struct winograd w = region_winograd(m);
    if (region_is_strided(m)) {
        const struct strided strided = region_strided(m);
        strided_forward(&strided, count, packed, src, image, dst, z_image, work);
    } else if (!m->winograd) {
        channels_forward(s, (struct channels_images){count, image, z_image}, packed, src, dst, (struct channels_ends){0});
    } else if (region_cells(m) == 1) {
        winograd_forward(&w, count, packed, src, image, dst, z_image, work);
    } else {
        winograd_forward(&w, region_mosaics(m, count), packed, src, image, whole, blocks * plane, work);
        for (i64 k = 0; k < count; k++) {
            const i64 cell = k % region_cells(m);
            struct wide_view from = whole, to = dst;
            from.at += k / region_cells(m) * blocks * plane + (cell / m->across * m->step_h * MW + cell % m->across * m->step_w) * VL;
            to.at += k * z_image;
            region_copy(blocks, s->OH, s->OW, 0, from, to);
        }
    }
}

/* Where region_convolve_backward leaves an image's input gradient */
INLINE struct wide_view region_input_grad(const struct region_conv *m, float *input_grad, i64 image) {
    const i64 plane = m->shape.H * m->shape.W * VL;
    if (m->winograd || region_is_strided(m)) return region_cell(m, &m->input, input_grad, image);
    return (struct wide_view){input_grad + image * ceil_div(m->shape.C, VL) * plane, plane, m->shape.W * VL};
}

/* weight += gradient of the weight (add: there is something), input_grad = that of the input, for region_input_grad; both unless NULL.
 * input, grad: bordered */
KERNEL void region_convolve_backward(const struct region_conv *m, i64 count, int add, const float *packed, float *input, float *grad,
                                     struct joined *weight, float *input_grad, float *work) {
    const i64 image = wide_place_floats(&m->input), grad_image = wide_place_floats(&m->grad);
    const struct wide_view src = wide_bordered(&m->input, input), at = wide_interior(&m->grad, grad);
    if (input_grad && (m->winograd || region_is_strided(m))) memset(input_grad, 0, (size_t)region_input_grad_floats(m, count) * sizeof(float));
    if (region_is_strided(m)) {
        const struct strided w = region_strided(m);
        strided_backward(&w, count, packed, src, image, at, grad_image, weight, input_grad, work);
        return;
    }
    if (m->winograd) {
        const struct winograd w = region_winograd(m);
        winograd_backward(&w, region_mosaics(m, count), add, packed, src, image, at, grad_image, weight, input_grad, work);
        return;
    }
    if (weight) channels_backward_weight(&m->shape, (struct channels_images){count, image, grad_image}, src, at, weight);
    if (input_grad) channels_backward_input(&m->shape, (struct channels_images){count, grad_image, region_input_grad_floats(m, 1)}, packed, at,
                                            region_input_grad(m, input_grad, 0), (struct channels_ends){0});
}

/* ---- the blocks' weight gradients, added in order ---- */

INLINE i64 region_add_tasks(const struct region_conv *m) {
    const struct channels_packing p = channels_packing(&m->shape);
    return m->winograd || region_is_strided(m) ? ceil_div(m->shape.O, VL) : channels_tiles(&p);
}

/* grad_weight <- the sum of `parts` partial gradients, step floats apart: a tile, or block of output channels */
KERNEL void region_add_task(const struct region_conv *m, const float *partial, i64 parts, i64 step, i64 task, float *grad_weight) {
    if (!m->winograd && !region_is_strided(m)) {
        const struct channels_packing p = channels_packing(&m->shape);
        struct channels_tile t = {0};
        while (channels_next_tile(&p, &t) && task--) {}
        channels_unpack_tile(&p, &t, partial, parts, step, grad_weight);
        return;
    }
    const i64 K = m->shape.C * m->shape.kh * m->shape.kw, Op = round_up(m->shape.O, VL), lanes = i64_min(VL, m->shape.O - task * VL);
    for (i64 k = 0; k < K; k += VL) {
        vf r[VL];
        const i64 n = i64_min(VL, K - k);
        UNROLL for (int i = 0; i < VL; i++) {
            r[i] = (vf){0};
            for (i64 part = 0; part < parts && i < n; part++) r[i] += v_load(partial + part * step + (k + i) * Op + task * VL);
        }
        v_transpose(r);
        UNROLL for (int i = 0; i < VL; i++) if (i < lanes) v_store_lanes(grad_weight + (task * VL + i) * K + k, r[i], n);
    }
}

#endif
