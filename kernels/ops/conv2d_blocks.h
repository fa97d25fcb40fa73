/* Convolution by direct loops, lanes = output channels: wide_conv.h image by image, for strides and dilations of 1.
 *
 * A task takes a strip of an image's output rows: the input that they see is copied from planes into blocks of channels, with
 * the padding around it, convolved there and copied back to planes, all of it in this thread's L2. The input gradient is the
 * same with flipped weights, C and O exchanged, and kernel - 1 - padding zeros around. The weight gradient is a sum over strips:
 * the batch is cut into runs of images by its size alone, each with partial sums of its own, added in order.
 */
#ifndef FASTNN_CONV2D_BLOCKS_H
#define FASTNN_CONV2D_BLOCKS_H

#include "ops/conv2d_weight.h"
#include "ops/wide_conv_weight.h"

enum { CONV_STRIP_FLOATS = 64 << 10 };  /* of an image and its output: a strip of both stays in L2 */

/* What a convolution reads: images (N, groups, C, H, W) with zeros around */
struct conv_source { const float *at; i64 C, H, W, top, left; };

/* Floats of a row of the padded image in blocks, of every block */
INLINE i64 source_row_floats(const struct conv_source *s) { return round_up(s->C, VL) * (s->W + 2 * s->left); }

/* Rows [first, first + rows) of the padded image, at `to`; of what is above and below the image nothing is written */
static struct wide_view lay_out_rows(const struct conv_source *s, i64 image, i64 first, i64 rows, float *to) {
    const struct wide_view v = {to, rows * (s->W + 2 * s->left) * VL, (s->W + 2 * s->left) * VL};
    const i64 begin = i64_max(first, s->top), end = i64_min(first + rows, s->top + s->H), HW = s->H * s->W, left = s->left * VL;
    const struct wide_view inside = {to + (begin - first) * v.row + left, v.plane, v.row};
    for (i64 c = 0; left && c < ceil_div(s->C, VL); c++) for (i64 h = begin - first; h < end - first; h++) {
        float *row = to + c * v.plane + h * v.row;
        memset(row, 0, sizeof *to * (size_t)left);
        memset(row + v.row - left, 0, sizeof *to * (size_t)left);
    }
    wide_to_blocks(s->C, i64_max(0, end - begin), s->W, s->at + image * s->C * HW + (begin - s->top) * s->W, HW, inside);
    return v;
}

/* ---- forward, and the input gradient ---- */

struct conv_blocks {
    i64 N, groups;
    struct conv_source source;
    struct wide_conv conv;          /* of one group of an image */
    struct wide_weights weights;    /* of the first group */
    float *packed;                  /* (groups, packed_floats) */
    i64 packed_floats;
    const float *bias;              /* (groups, conv.O rounded up), or NULL */
    float *out;                     /* (N, groups, conv.O, conv.OH, conv.OW) */
    i64 rows, strips;               /* rows a strip, strips an image */
    int failed;
};

static void conv_blocks_strip(void *context, i64 index) {
    struct conv_blocks *t = context;
    const i64 image = index / t->strips, first = index % t->strips * t->rows;
    struct wide_conv c = t->conv;
    const i64 P = c.OH * c.OW, OB = ceil_div(c.O, VL);
    c.OH = i64_min(t->rows, c.OH - first);
    c.top = t->source.top - first, c.H = t->source.H;
    const i64 seen = c.OH + c.kh - 1;
    float *source = fastnn_scratch(SCRATCH_CONV_IMAGE, sizeof *source * (size_t)(seen * source_row_floats(&t->source)));
    float *out = fastnn_scratch(SCRATCH_CONV_OUTPUT, sizeof *out * (size_t)(OB * c.OH * c.OW * VL));
    if (!source || !out) { t->failed = 1; return; }
    const struct wide_view to = {out, c.OH * c.OW * VL, c.OW * VL};
    for (i64 g = 0; g < t->groups; g++) {
        const struct wide_view from = lay_out_rows(&t->source, image * t->groups + g, first, seen, source);
        const float *packed = t->packed + g * t->packed_floats, *bias = t->bias ? t->bias + g * OB * VL : NULL;
        wide_conv_forward(&c, packed, bias, from, to);
        wide_from_blocks(c.O, c.OH * c.OW, out, to.plane, t->out + (image * t->groups + g) * c.O * P + first * c.OW, P);
    }
}

/* Rows of a strip: as many as fit, and fewer where there would be too few strips for all threads. */
INLINE i64 conv_strip_rows(i64 N, i64 rows, i64 row_floats, double flops) {
    i64 strips = ceil_div(rows * row_floats, CONV_STRIP_FLOATS);
    if (N < CONV_TASKS && flops >= 4e6) strips = i64_max(strips, ceil_div(CONV_TASKS, N));
    return ceil_div(rows, i64_min(rows, strips));
}

static void conv_blocks_pack(void *context, i64 index) {
    struct conv_blocks *t = context;
    const i64 OB = ceil_div(t->conv.O, VL), g = index / OB;
    struct wide_weights w = t->weights;
    w.at += g * w.floats;
    wide_pack_block(&t->conv, VL, &w, index % OB, t->packed + g * t->packed_floats);
}

static int conv_blocks_run(struct conv_blocks *t, const float *bias) {
    const struct wide_conv *c = &t->conv;
    const i64 OB = ceil_div(c->O, VL);
    const double weights = (double)(t->groups * c->O * c->C * c->kh * c->kw);
    const double flops = 2.0 * (double)(t->N * c->OH * c->OW) * weights;
    t->packed_floats = wide_conv_packed_floats(c);
    t->packed = fastnn_scratch(SCRATCH_CONV_WEIGHT, sizeof(float) * (size_t)(t->groups * (t->packed_floats + OB * VL)));
    if (!t->packed) return -1;
    fastnn_parallel(t->groups * OB, 10.0 * weights, conv_blocks_pack, t);
    if (bias) {
        float *to = t->packed + t->groups * t->packed_floats;
        t->bias = to;
        memset(to, 0, sizeof *to * (size_t)(t->groups * OB * VL));
        for (i64 g = 0; g < t->groups; g++) memcpy(to + g * OB * VL, bias + g * c->O, sizeof *to * (size_t)c->O);
    }
    t->rows = conv_strip_rows(t->N, c->OH, source_row_floats(&t->source) + c->OW * OB * VL, flops);
    t->strips = ceil_div(c->OH, t->rows);
    fastnn_parallel(t->N * t->strips, flops, conv_blocks_strip, t);
    return t->failed ? -1 : 0;
}

KERNEL int conv2d_forward_blocks(const struct conv2d_shape *s, const float *x, const float *weight, const float *bias, float *y) {
    const i64 C = s->C / s->groups, O = s->O / s->groups;
    struct conv_blocks t = {.N = s->N, .groups = s->groups, .source = {x, C, s->H, s->W, s->pad_h, s->pad_w},
                            .conv = {.C = C, .O = O, .kh = s->kh, .kw = s->kw, .OH = s->OH, .OW = s->OW}, .out = y};
    t.weights = wide_weights_of(&t.conv, weight);
    return conv_blocks_run(&t, bias);
}

KERNEL int conv2d_backward_input_blocks(const struct conv2d_shape *s, const float *grad, const float *weight, float *grad_x) {
    const i64 C = s->C / s->groups, O = s->O / s->groups;
    struct conv_blocks t = {.N = s->N, .groups = s->groups, .out = grad_x,
                            .source = {grad, O, s->OH, s->OW, s->kh - 1 - s->pad_h, s->kw - 1 - s->pad_w},
                            .conv = {.C = O, .O = C, .kh = s->kh, .kw = s->kw, .OH = s->H, .OW = s->W}};
    t.weights = wide_weights_exchanged(&t.conv, weight);
    return conv_blocks_run(&t, NULL);
}

/* ---- weight gradient ---- */

struct conv_blocks_weight {
    i64 N, groups, parts;
    i64 rows, images;               /* rows a strip; strips of several images, where they are small, are laid out together */
    struct conv_source x, grad;
    struct wide_conv conv;
    i64 partial_floats;             /* of a group: packed weight gradient, then the bias gradient (O rounded up) */
    i64 part_floats, runs;          /* runs: that are added to a part's sums */
    float *partial;                 /* of every part (groups, partial_floats) */
    float *grad_weight, *grad_bias;
    int failed;
};

/* bias (OB * VL) += sums over P pixels of the blocks of some images, `step` floats apart */
INLINE void add_pixels(i64 OB, i64 P, i64 images, i64 step, const float *blocks, float *bias) {
    for (i64 o = 0; o < OB; o++, blocks += P * VL) {
        struct v_joined total = {};
        for (i64 n = 0; n < images; n++) for (i64 p = 0, end; p < P; p = end) {
            vf sum[4] = {{0}};
            end = i64_min(P, p + 4 * SUM_RUN);
            for (; p + 4 <= end; p += 4) UNROLL for (int i = 0; i < 4; i++) sum[i] += v_load(blocks + n * step + (p + i) * VL);
            for (; p < end; p++) sum[0] += v_load(blocks + n * step + p * VL);
            v_join(&total, (sum[0] + sum[1]) + (sum[2] + sum[3]));
        }
        v_store(bias + o * VL, v_load(bias + o * VL) + v_joined_sum(total));
    }
}

static void conv_blocks_weight_part(void *context, i64 part) {
    struct conv_blocks_weight *t = context;
    const i64 seen = t->rows + t->conv.kh - 1, OB = ceil_div(t->conv.O, VL);
    const i64 x_floats = seen * source_row_floats(&t->x), grad_floats = t->rows * source_row_floats(&t->grad);
    float *x = fastnn_scratch(SCRATCH_CONV_IMAGE, sizeof *x * (size_t)(t->images * (x_floats + grad_floats)));
    if (!x) { t->failed = 1; return; }
    float *grad = x + t->images * x_floats, *partial = t->partial + part * t->part_floats;
    struct joined sums = joined_at(partial, t->groups * t->partial_floats, t->runs), group = sums;
    memset(partial, 0, sizeof *partial * (size_t)sums.count);
    for (i64 n = part * t->N / t->parts, end = (part + 1) * t->N / t->parts; n < end && !fastnn_stopped(); n += t->images) {
        for (i64 g = 0; g < t->groups; g++) {
            group = joined_slice(&sums, g * t->partial_floats, t->partial_floats);
            for (i64 first = 0; first < t->conv.OH; first += t->rows) {
                struct wide_conv c = t->conv;
                c.OH = i64_min(t->rows, c.OH - first);
                c.top = t->x.top - first, c.H = t->x.H;
                struct wide_view from = {0}, to = {0};
                float *bias = group.part + t->partial_floats - OB * VL;
                const i64 count = i64_min(t->images, end - n);
                for (i64 i = count; i-- > 0;) {
                    const i64 image = (n + i) * t->groups + g;
                    from = lay_out_rows(&t->x, image, first, c.OH + c.kh - 1, x + i * x_floats);
                    to = lay_out_rows(&t->grad, image, first, c.OH, grad + i * grad_floats);
                }
                add_pixels(OB, c.OH * c.OW, count, grad_floats, to.at, bias);
                wide_conv_weight_images(&c, (struct wide_images){count, x_floats, grad_floats}, from, to, &group);
            }
        }
        sums.added = group.added, sums.used = group.used;
    }
    joined_end(&sums);
}

/* A block of output channels of a group: the sums over the parts */
static void conv_blocks_weight_sum(void *context, i64 index) {
    const struct conv_blocks_weight *t = context;
    const struct wide_conv *c = &t->conv;
    const i64 OB = ceil_div(c->O, VL), g = index / OB, block = index % OB, step = t->part_floats;
    const float *sums = t->partial + g * t->partial_floats, *bias = sums + t->partial_floats - (OB - block) * VL;
    vf total = {0};
    wide_unpack_block(c, sums, t->parts, step, block, t->grad_weight + g * c->O * c->C * c->kh * c->kw);
    for (i64 part = 0; part < t->parts; part++) total += v_load(bias + part * step);
    v_store_lanes(t->grad_bias + g * c->O + block * VL, total, i64_min(VL, c->O - block * VL));
}

KERNEL int conv2d_backward_weight_blocks(const struct conv2d_shape *s, const float *grad, const float *x, float *grad_weight,
                                         float *grad_bias) {
    const i64 C = s->C / s->groups, O = s->O / s->groups, OB = ceil_div(O, VL);
    struct conv_blocks_weight t = {.N = s->N, .groups = s->groups, .x = {x, C, s->H, s->W, s->pad_h, s->pad_w},
                                   .grad = {grad, O, s->OH, s->OW, 0, 0},
                                   .conv = {.C = C, .O = O, .kh = s->kh, .kw = s->kw, .OH = s->OH, .OW = s->OW},
                                   .parts = conv_parts(s, C * s->kh * s->kw), .grad_weight = grad_weight, .grad_bias = grad_bias};
    const double weights = (double)(s->O * C * s->kh * s->kw), flops = 2.0 * (double)(s->N * s->OH * s->OW) * weights;
    t.partial_floats = wide_conv_packed_floats(&t.conv) + OB * VL;
    const i64 row_floats = source_row_floats(&t.x) + source_row_floats(&t.grad);
    t.rows = conv_strip_rows(CONV_TASKS, s->OH, row_floats, flops);
    t.images = i64_max(1, i64_min(ceil_div(s->N, t.parts), CONV_STRIP_FLOATS / (t.rows * row_floats)));
    t.runs = ceil_div(s->N, t.parts) * (wide_weight_runs(s->OH * s->OW) + 1);
    t.part_floats = joined_floats(t.groups * t.partial_floats, t.runs);
    t.partial = fastnn_scratch(SCRATCH_PARTIAL, sizeof(float) * (size_t)(t.parts * t.part_floats));
    if (!t.partial) return -1;
    fastnn_parallel(t.parts, flops, conv_blocks_weight_part, &t);
    if (t.failed) return -1;
    fastnn_parallel(t.groups * OB, 4.0 * (double)t.parts * weights, conv_blocks_weight_sum, &t);
    return 0;
}

#endif
