/* Steps of a region's inference that are no convolutions: loading, sums, poolings, concatenation, storing. A run is a group of images
 * in one arena; a step works on blocks [begin, end) of channels of all of them.
 */
#ifndef FASTNN_INFER_VALUE_H
#define FASTNN_INFER_VALUE_H

#include "base/sums.h"
#include "plan/region/infer_plan.h"

struct infer_run {
    const struct region *r;
    const struct infer_plan *plan;
    const void *input;                  /* the program's */
    float *arena;
    i64 n, images;                      /* the group: images n, n + 1, ... */
    i64 pieces;                         /* that a step may be cut into */
};

/* A value from its pixel (0, 0) on, of all images of the group */
struct infer_images { struct wide_view view; i64 image; };

static struct infer_images infer_images(const struct infer_run *t, i64 v) {
    const struct infer_value *value = &t->plan->value[v];
    const struct wide_place *p = &value->place;
    if (value->outside) {
        const float *x = t->r->node[v].x ? t->r->node[v].x : (const float *)t->input;
        const i64 image = p->C * p->H * p->W;
        return (struct infer_images){{(float *)(uintptr_t)x + t->n * image, p->H * p->W, p->W}, image};
    }
    return (struct infer_images){wide_interior(p, t->arena + value->at * t->plan->group), value->image};
}

INLINE float *infer_row(const struct infer_images *v, i64 n, i64 block, i64 h) {
    return v->view.at + n * v->image + block * v->view.plane + h * v->view.row;
}

/* Some rows of some blocks, in place */
KERNEL void infer_activate(int kind, float parameter, const struct infer_images *v, i64 images, i64 blocks, i64 rows, i64 columns) {
    const vf p = v_set1(parameter);
    for (i64 n = 0; n < images; n++) for (i64 b = 0; b < blocks; b++) for (i64 h = 0; h < rows; h++) {
        float *at = infer_row(v, n, b, h);
#define CALL(kind) for (i64 w = 0; w < columns * VL; w += VL) v_store(at + w, v_activate(kind, v_load(at + w), p))
        ACTIVATION_CASES(kind, CALL)
#undef CALL
    }
}

/* ---- in and out ---- */

static void infer_load(const struct infer_run *t, const struct infer_step *s) {
    const struct region_node *d = &t->r->node[s->node];
    const struct wide_place *p = &t->plan->value[s->out].place;
    const void *input = d->x ? (const void *)d->x : t->input;
    const struct infer_images out = infer_images(t, s->out);
    const i64 pixels = d->H * d->W;
    for (i64 k = 0; k < t->images; k++) {
        float *at = t->arena + t->plan->value[s->out].at * t->plan->group + k * out.image;
        if (p->lanes == 1) {
            wide_load_image(p, input, d->table, t->n + k, at);
            continue;
        }
        const float *planes = (const float *)input + (t->n + k) * d->C * pixels;
        if (d->table) {
            const struct wide_place flat = {d->C, d->H, d->W, 1, d->H * d->W, 0, 0, 1};
            float *memory = fastnn_scratch(SCRATCH_CONV_IMAGE, (size_t)wide_place_floats(&flat) * sizeof(float));
            for (i64 c = 0; c < d->C && memory; c++) for (i64 i = 0; i < pixels; i++)
                memory[c * pixels + i] = d->table[c * 256 + ((const uint8_t *)input)[((t->n + k) * d->C + c) * pixels + i]];
            planes = memory;
        }
        struct wide_view view = out.view;
        view.at += k * out.image;
        if (planes) wide_to_blocks(d->C, d->H, d->W, planes, pixels, view);
    }
}

static void infer_store(const struct infer_run *t, const struct infer_step *s) {
    const struct region_node *d = &t->r->node[s->node];
    const struct infer_images in = infer_images(t, s->out);
    const i64 pixels = d->H * d->W;
    for (i64 k = 0; k < t->images; k++) {
        float *y = d->y + (t->n + k) * d->C * pixels;
        const float *at = infer_row(&in, k, 0, 0);
        if (pixels == 1) for (i64 c = 0; c < d->C; c += VL, at += in.view.plane) v_store_lanes(y + c, v_load(at), i64_min(VL, d->C - c));
        else if (in.view.row == d->W * VL) wide_from_blocks(d->C, pixels, at, in.view.plane, y, pixels);
        else for (i64 h = 0; h < d->H; h++, at += in.view.row) wide_from_blocks(d->C, d->W, at, in.view.plane, y + h * d->W, pixels);
    }
}

/* ---- sums ---- */

static void infer_join(const struct infer_run *t, const struct infer_step *s, i64 begin, i64 end) {
    const struct infer_images out = infer_images(t, s->out);
    const i64 Cp = round_up(t->r->node[s->node].C, VL);
    struct infer_images in[REGION_MOST_SOURCES];
    for (i64 k = 0; k < s->sources; k++) in[k] = infer_images(t, s->source[k]);
    for (i64 n = 0; n < t->images; n++) for (i64 b = begin; b < end; b++) for (i64 h = 0; h < s->rows; h++) {
        float *to = infer_row(&out, n, b, h);
        for (i64 k = 0; k < s->sources; k++) {
            const float *from = infer_row(&in[k], n, b, h), *affine = (const float *)t->r->state + s->affine_at[k] + b * VL;
            vf scale = v_set1(1), shift = -(vf){0};        /* of nothing: -0 + x is x, whatever its sign */
            if (s->affine_at[k] >= 0) scale = v_load(affine), shift = v_load(affine + Cp);
            for (i64 w = 0; w < s->columns * VL; w += VL) {
                const vf x = v_load(from + w) * scale + shift;
                v_store(to + w, k ? v_load(to + w) + x : x);
            }
        }
        const struct infer_images row = {{to, 0, 0}, 0};
        if (s->activation) infer_activate(s->activation, s->parameter, &row, 1, 1, 1, s->columns);
    }
}

/* ---- poolings ---- */

/* Rows and columns [h0, h1), [w0, w1) of one block */
INLINE vf infer_max(const float *at, i64 row, i64 h0, i64 h1, i64 w0, i64 w1) {
    vf best = v_load(at + h0 * row + w0 * VL);
    for (i64 h = h0; h < h1; h++) for (i64 w = w0; w < w1; w++) {
        const vf v = v_load(at + h * row + w * VL);
        best = v_select(v_beats(v, best), v, best);
    }
    return best;
}
INLINE vf infer_sum(const float *at, i64 row, i64 h0, i64 h1, i64 w0, i64 w1) {
    struct folded sum = {};
    i64 count = 0;
    for (i64 h = h0; h < h1; h++) for (i64 w = w0; w < w1; w++) fold(&sum, v_load(at + h * row + w * VL), count++);
    return folded_sum(sum);
}

/* Pooling of blocks [begin, end), rows [top, bottom) of the output; in, out: from block 0, row 0 on */
static void infer_pool(const struct region_node *d, const struct infer_images *in, const struct infer_images *out, i64 images,
                       i64 begin, i64 end) {
    const i64 row = in->view.row;
    const int all = d->pool == POOL_GLOBAL_AVERAGE;
    const int two = d->pool_h == 2 && d->pool_w == 2, three = d->pool_h == 3 && d->pool_w == 3;
    for (i64 n = 0; n < images; n++) for (i64 b = begin; b < end; b++) for (i64 h = 0; h < d->H; h++) {
        const float *from = infer_row(in, n, b, 0);
        float *to = infer_row(out, n, b, h);
        const i64 top = h * d->pool_stride_h - d->pool_pad_h, h0 = i64_max(0, top), h1 = i64_min(top + d->pool_h, d->inner_H);
        for (i64 w = 0; w < d->W; w++) {
            const i64 left = w * d->pool_stride_w - d->pool_pad_w, w0 = i64_max(0, left), w1 = i64_min(left + d->pool_w, d->inner_W);
            const int whole = !all && h1 - h0 == d->pool_h && w1 - w0 == d->pool_w;
            const float *at = from + h0 * row + w0 * VL;
            vf v;
            if (all) v = infer_sum(from, row, 0, d->inner_H, 0, d->inner_W) / (float)(d->inner_H * d->inner_W);
            else if (d->pool == POOL_AVERAGE)
                v = infer_sum(from, row, h0, h1, w0, w1) / (float)(d->pool_counts_padding ? d->pool_h * d->pool_w : (h1 - h0) * (w1 - w0));
            else if (whole && two) v = infer_max(at, row, 0, 2, 0, 2);
            else if (whole && three) v = infer_max(at, row, 0, 3, 0, 3);
            else v = infer_max(from, row, h0, h1, w0, w1);
            v_store(to + w * VL, v);
        }
    }
}

static void infer_pool_step(const struct infer_run *t, const struct infer_step *s, i64 begin, i64 end) {
    const struct infer_images in = infer_images(t, s->source[0]), out = infer_images(t, s->out);
    infer_pool(&t->r->node[s->node], &in, &out, t->images, begin, end);
    struct infer_images part = out;
    part.view.at += begin * out.view.plane;
    if (s->activation) infer_activate(s->activation, s->parameter, &part, t->images, end - begin, s->rows, s->columns);
}

/* ---- concatenation ---- */

/* Lanes of a source's block lie in one block of the result, or in two next to each other. */
static void infer_concat(const struct infer_run *t, const struct infer_step *s) {
    const struct infer_images out = infer_images(t, s->out);
    i64 before = 0;
    for (i64 k = 0; k < s->sources; k++) {
        const struct infer_images in = infer_images(t, s->source[k]);
        const i64 C = t->plan->value[s->source[k]].place.C;
        for (i64 n = 0; n < t->images; n++) for (i64 c = 0; c < C; c += VL) for (i64 h = 0; h < s->rows; h++) {
            const i64 lane = (before + c) % VL, lanes = i64_min(VL, C - c), first = i64_min(lanes, VL - lane);
            const float *from = infer_row(&in, n, c / VL, h);
            float *to = infer_row(&out, n, (before + c) / VL, h), *next = to + out.view.plane;
            for (i64 w = 0; w < s->columns * VL; w += VL) {
                v_store_lanes(to + w + lane, v_load(from + w), first);
                if (lanes > first) memcpy(next + w, from + w + first, (size_t)(lanes - first) * sizeof(float));
            }
        }
        before += C;
    }
}

#endif
