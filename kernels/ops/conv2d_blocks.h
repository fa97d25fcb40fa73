/* Convolution with channels in the lanes (conv/channels.h), image by image.
 *
 * A task takes a strip of an image's output rows, or some small images: the input that they see is copied from planes into blocks of
 * channels, with the padding around it, convolved there and copied back to planes, all of it in this thread's L2. Few channels stay in
 * planes. The weight gradient is a sum over strips: the batch is cut into runs of images by its size alone, each with partial sums of
 * its own, added in order.
 */
#ifndef FASTNN_CONV2D_BLOCKS_H
#define FASTNN_CONV2D_BLOCKS_H

#include "conv/channels_forward.h"
#include "conv/channels_weight.h"
#include "ops/conv2d_weight.h"

enum { CONV_STRIP_FLOATS = 64 << 10 };  /* of an image and its output: a strip of both stays in L2 */

INLINE struct channels_conv conv_channels(const struct conv2d_shape *s) {
    return (struct channels_conv){
        .C = s->C, .O = s->O, .H = s->H, .W = s->W, .OH = s->OH, .OW = s->OW, .kh = s->kh, .kw = s->kw, .stride_h = s->stride_h,
        .stride_w = s->stride_w, .pad_h = s->pad_h, .pad_w = s->pad_w, .dilation_h = s->dilation_h, .dilation_w = s->dilation_w,
        .groups = s->groups, .pixel = 2 * s->C <= VL ? 1 : VL,
    };
}

/* What a convolution reads: images (N, C, H, W), with columns of zeros beside them; pixel as in channels_conv */
struct conv_source { const float *at; i64 C, H, W, left, right, pixel; };

/* Floats of a row of the padded image, of all channels */
INLINE i64 source_row_floats(const struct conv_source *s) { return round_up(s->C, s->pixel) * (s->W + s->left + s->right); }

/* Rows [first, first + rows) of an image at `to`, zeros where there is no image */
static struct wide_view lay_out_rows(const struct conv_source *s, i64 image, i64 first, i64 rows, float *to) {
    const i64 row = (s->W + s->left + s->right) * s->pixel, left = s->left * s->pixel, right = s->right * s->pixel, HW = s->H * s->W;
    const i64 begin = i64_min(i64_max(first, 0), first + rows), end = i64_max(begin, i64_min(first + rows, s->H));
    const struct wide_view v = {to, rows * row, row};
    const float *from = s->at + image * s->C * HW + begin * s->W;
    for (i64 c = 0; c < ceil_div(s->C, s->pixel); c++) {
        float *plane = to + c * v.plane;
        memset(plane, 0, sizeof *to * (size_t)((begin - first) * row));
        for (i64 h = begin - first; h < end - first; h++) {
            float *at = plane + h * row;
            if (left) memset(at, 0, sizeof *to * (size_t)left);
            if (s->pixel == 1) memcpy(at + left, from + c * HW + (h - begin + first) * s->W, sizeof *to * (size_t)s->W);
            if (right) memset(at + row - right, 0, sizeof *to * (size_t)right);
        }
        memset(plane + (end - first) * row, 0, sizeof *to * (size_t)((first + rows - end) * row));
    }
    if (s->pixel == VL)
        wide_to_blocks(s->C, end - begin, s->W, from, HW, (struct wide_view){to + (begin - first) * row + left, v.plane, v.row});
    return v;
}

/* ---- forward, and the input gradient ---- */

struct conv_blocks {
    i64 N;
    struct channels_conv conv;
    struct channels_packing packing;
    struct conv_source source;
    const float *weight, *bias;     /* bias (O rounded up), or NULL */
    float *packed;
    float *out;                     /* (N, packing.to, H, W) */
    i64 H, W;
    i64 up, down, above;            /* output row h reads from row h * up / down - above of the source on */
    i64 rows, strips, seen;         /* rows a strip (a multiple of down), strips an image, rows of the source that a strip sees */
    i64 images;                     /* a task takes, where an image is one strip */
    int failed;
};

static void conv_blocks_task(void *context, i64 index) {
    struct conv_blocks *t = context;
    const i64 image = index / t->strips * t->images, first = index % t->strips * t->rows, count = i64_min(t->images, t->N - image);
    const i64 rows = i64_min(t->rows, t->H - first), to = t->packing.to, P = t->H * t->W;
    const i64 source_floats = t->seen * source_row_floats(&t->source), out_floats = round_up(to, VL) * rows * t->W;
    float *source = fastnn_scratch(SCRATCH_CONV_IMAGE, sizeof *source * (size_t)(count * source_floats));
    float *out = fastnn_scratch(SCRATCH_CONV_OUTPUT, sizeof *out * (size_t)(count * out_floats));
    if (!source || !out) { t->failed = 1; return; }
    struct wide_view src = {0};
    const struct wide_view dst = {out, rows * t->W * VL, t->W * VL};
    for (i64 n = count; n-- > 0;)
        src = lay_out_rows(&t->source, image + n, first * t->up / t->down - t->above, t->seen, source + n * source_floats);
    const struct channels_images images = {count, source_floats, out_floats};
    const struct channels_ends ends = {.bias = t->bias};
    struct channels_conv c = t->conv;
    if (t->packing.exchanged) {
        c.H = rows, src.at += t->above * src.row + t->source.left * VL;
        channels_backward_input(&c, images, t->packed, src, dst, ends);
    } else {
        c.OH = rows;
        channels_forward(&c, images, t->packed, src, dst, ends);
    }
    for (i64 n = 0; n < count; n++)
        wide_from_blocks(to, rows * t->W, out + n * out_floats, dst.plane, t->out + (image + n) * to * P + first * t->W, P);
}

/* Rows of a strip: as many as fit, and fewer where there would be too few strips for all threads. */
INLINE i64 conv_strip_rows(i64 N, i64 rows, i64 row_floats, double flops) {
    i64 strips = ceil_div(rows * row_floats, CONV_STRIP_FLOATS);
    if (N < CONV_TASKS && flops >= 4e6) strips = i64_max(strips, ceil_div(CONV_TASKS, N));
    return ceil_div(rows, i64_min(rows, strips));
}

INLINE struct channels_tile channels_tile_number(const struct channels_packing *p, i64 index) {
    struct channels_tile t = {0};
    while (channels_next_tile(p, &t) && index-- > 0) {}
    return t;
}

static void conv_blocks_pack(void *context, i64 index) {
    struct conv_blocks *t = context;
    const struct channels_tile tile = channels_tile_number(&t->packing, index);
    channels_pack_tile(&t->packing, &tile, t->weight, t->packed);
}

INLINE double conv_weights(const struct channels_conv *c) { return (double)(c->O * (c->C / c->groups) * c->kh * c->kw); }

/* span: rows of the source that an output row, or `down` of them, sees */
static int conv_blocks_run(struct conv_blocks *t, const float *bias, i64 span) {
    const i64 to = round_up(t->packing.to, VL), floats = channels_packed_floats(&t->packing);
    const double weights = conv_weights(&t->conv), flops = 2.0 * (double)(t->N * t->conv.OH * t->conv.OW) * weights;
    t->packed = fastnn_scratch(SCRATCH_CONV_WEIGHT, sizeof(float) * (size_t)(floats + to));
    if (!t->packed) return -1;
    fastnn_parallel(channels_tiles(&t->packing), 10.0 * weights, conv_blocks_pack, t);
    if (bias) {
        t->bias = t->packed + floats;
        memset(t->packed + floats, 0, sizeof *bias * (size_t)to);
        memcpy(t->packed + floats, bias, sizeof *bias * (size_t)t->packing.to);
    }
    const i64 row_floats = source_row_floats(&t->source) * t->up / t->down + to * t->W;
    t->rows = round_up(conv_strip_rows(t->N, t->H, row_floats, flops), t->down);
    t->strips = ceil_div(t->H, t->rows);
    t->seen = (t->rows - 1) / t->down * t->up + span;
    t->images = t->strips > 1 ? 1 : i64_max(1, i64_min(t->N / CONV_TASKS, CONV_STRIP_FLOATS / (row_floats * t->rows)));
    fastnn_parallel(ceil_div(t->N, t->images) * t->strips, flops, conv_blocks_task, t);
    return t->failed ? -1 : 0;
}

KERNEL int conv2d_forward_blocks(const struct conv2d_shape *s, const float *x, const float *weight, const float *bias, float *y) {
    struct conv_blocks t = {.N = s->N, .conv = conv_channels(s), .weight = weight, .out = y, .H = s->OH, .W = s->OW, .up = s->stride_h,
                            .down = 1, .above = s->pad_h};
    t.packing = channels_packing(&t.conv);
    t.source = (struct conv_source){x, s->C, s->H, s->W, s->pad_w, s->pad_w, t.conv.pixel};
    return conv_blocks_run(&t, bias, (s->kh - 1) * s->dilation_h + 1);
}

KERNEL int conv2d_backward_input_blocks(const struct conv2d_shape *s, const float *grad, const float *weight, float *grad_x) {
    struct conv_blocks t = {.N = s->N, .conv = conv_channels(s), .weight = weight, .out = grad_x, .H = s->H, .W = s->W, .up = 1,
                            .down = s->stride_h, .source = {grad, s->O, s->OH, s->OW, 0, 0, VL}};
    i64 below;
    t.packing = channels_packing_input(&t.conv);
    channels_grad_border(s->H, s->OH, s->kh, s->stride_h, s->dilation_h, s->pad_h, &t.above, &below);
    channels_grad_border(s->W, s->OW, s->kw, s->stride_w, s->dilation_w, s->pad_w, &t.source.left, &t.source.right);
    return conv_blocks_run(&t, NULL, t.above + (s->stride_h - 1 + s->pad_h) / s->stride_h + 1);
}

/* ---- weight gradient ---- */

struct conv_blocks_weight {
    i64 N, parts;
    i64 rows, images;               /* rows a strip; strips of several images, where they are small, are laid out together */
    struct conv_source x, grad;
    struct channels_conv conv;
    struct channels_packing packing;
    i64 floats;                     /* of a packed weight gradient; the bias gradient (O rounded up) follows */
    i64 part_floats, runs;          /* runs: that are added to a part's sums */
    float *partial;
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

INLINE i64 conv_seen(const struct channels_conv *c, i64 rows) { return (rows - 1) * c->stride_h + (c->kh - 1) * c->dilation_h + 1; }

static void conv_blocks_weight_part(void *context, i64 part) {
    struct conv_blocks_weight *t = context;
    const i64 OB = ceil_div(t->conv.O, VL), x_floats = conv_seen(&t->conv, t->rows) * source_row_floats(&t->x);
    const i64 grad_floats = t->rows * source_row_floats(&t->grad);
    float *x = fastnn_scratch(SCRATCH_CONV_IMAGE, sizeof *x * (size_t)(t->images * (x_floats + grad_floats)));
    if (!x) { t->failed = 1; return; }
    float *grad = x + t->images * x_floats;
    struct joined sums = joined_at(t->partial + part * t->part_floats, t->floats + OB * VL, t->runs);
    memset(sums.part, 0, sizeof *x * (size_t)sums.count);
    for (i64 n = part * t->N / t->parts, end = (part + 1) * t->N / t->parts; n < end && !fastnn_stopped(); n += t->images) {
        for (i64 first = 0; first < t->conv.OH; first += t->rows) {
            struct channels_conv c = t->conv;
            c.OH = i64_min(t->rows, c.OH - first);
            struct wide_view from = {0}, to = {0};
            const i64 count = i64_min(t->images, end - n);
            for (i64 i = count; i-- > 0;) {
                from = lay_out_rows(&t->x, n + i, first * c.stride_h - c.pad_h, conv_seen(&c, c.OH), x + i * x_floats);
                to = lay_out_rows(&t->grad, n + i, first, c.OH, grad + i * grad_floats);
            }
            add_pixels(OB, c.OH * c.OW, count, grad_floats, to.at, sums.part + t->floats);
            channels_backward_weight(&c, (struct channels_images){count, x_floats, grad_floats}, from, to, &sums);
        }
    }
    joined_end(&sums);
}

/* A tile of output channels: the sums over the parts */
static void conv_blocks_weight_sum(void *context, i64 index) {
    const struct conv_blocks_weight *t = context;
    const struct channels_tile tile = channels_tile_number(&t->packing, index);
    channels_unpack_tile(&t->packing, &tile, t->partial, t->parts, t->part_floats, t->grad_weight);
    for (i64 o = tile.block * VL; o < i64_min(t->conv.O, (tile.block + tile.blocks) * VL); o += VL) {
        vf total = {0};
        for (i64 part = 0; part < t->parts; part++) total += v_load(t->partial + part * t->part_floats + t->floats + o);
        v_store_lanes(t->grad_bias + o, total, i64_min(VL, t->conv.O - o));
    }
}

KERNEL int conv2d_backward_weight_blocks(const struct conv2d_shape *s, const float *grad, const float *x, float *grad_weight,
                                         float *grad_bias) {
    struct conv_blocks_weight t = {.N = s->N, .conv = conv_channels(s), .parts = conv_parts(s, s->C / s->groups * s->kh * s->kw),
                                   .grad = {grad, s->O, s->OH, s->OW, 0, 0, VL}, .grad_weight = grad_weight, .grad_bias = grad_bias};
    const double weights = conv_weights(&t.conv), flops = 2.0 * (double)(s->N * s->OH * s->OW) * weights;
    t.packing = channels_packing(&t.conv);
    t.x = (struct conv_source){x, s->C, s->H, s->W, s->pad_w, s->pad_w, t.conv.pixel};
    t.floats = channels_packed_floats(&t.packing);
    const i64 row_floats = source_row_floats(&t.x) * s->stride_h + source_row_floats(&t.grad);
    t.rows = conv_strip_rows(CONV_TASKS, s->OH, row_floats, flops);
    t.images = i64_max(1, i64_min(ceil_div(s->N, t.parts), CONV_STRIP_FLOATS / (t.rows * row_floats)));
    t.runs = ceil_div(s->N, t.parts) * (channels_weight_runs(s->OH * s->OW) + 1);
    t.part_floats = joined_floats(t.floats + round_up(s->O, VL), t.runs);
    t.partial = fastnn_scratch(SCRATCH_PARTIAL, sizeof(float) * (size_t)(t.parts * t.part_floats));
    if (!t.partial) return -1;
    fastnn_parallel(t.parts, flops, conv_blocks_weight_part, &t);
    if (t.failed) return -1;
    fastnn_parallel(channels_tiles(&t.packing), 4.0 * (double)t.parts * weights, conv_blocks_weight_sum, &t);
    return 0;
}

#endif
