/* Values of a region that trains: sums, activations and poolings of one image, and how a value is loaded into a padded input. */
#ifndef FASTNN_REGION_VALUE_H
#define FASTNN_REGION_VALUE_H

#include "base/threads.h"
#include "plan/region/plan.h"
#include "plan/stages.h"

struct region_job {
    const struct region *r;
    struct region_plan *p;
    const struct program *program;
    i64 segment;
    float *packed, *partial;                /* (blocks, most_partial) */
    int backward, failed;
};

/* What a task has in hand: its block's images `begin` on, of which `count` from n on are under way */
struct region_hands {
    const struct region_job *job;
    const struct region *r;
    const struct region_plan *p;
    i64 block, begin, n, count;
    float *input, *grad, *input_grad, *work, *plane, *sums, *local;
};

INLINE float *region_state(const struct region_hands *h, i64 at) { return (float *)h->r->state + at; }
/* Image n of a buffer */
INLINE float *region_at(const struct region_hands *h, const struct region_buffer *b, i64 n) {
    return b->local ? h->local + b->at + (n - h->n) * b->image : region_state(h, h->p->arena_at + b->at) + n * b->image;
}
INLINE float *region_value_at(const struct region_hands *h, i64 v, i64 n) {
    return region_at(h, region_y(h->r, (struct region_plan *)h->p, v), n);
}
INLINE float *region_constants(const struct region *r, const struct region_plan *p, i64 j, i64 k) {
    return (float *)r->state + p->value[j].constants_at[k];
}
INLINE float *region_sums(const struct region *r, const struct region_plan *p, i64 j, i64 k, i64 block) {
    return (float *)r->state + p->value[j].sums_at[k] + block * REGION_SUMS * p->value[j].Cp;
}
INLINE struct wide_view region_compact(const struct region_node *n, float *at) {
    return (struct wide_view){at, n->H * n->W * VL, n->W * VL};
}

/* ---- the sum of a JOIN and its activation ---- */

/* One block of channels of the sources, (pixels, VL) each */
struct region_terms { i64 count; const float *x[REGION_MOST_SOURCES]; vf scale[REGION_MOST_SOURCES], shift[REGION_MOST_SOURCES], parameter; };

INLINE struct region_terms region_terms(const struct region_hands *h, i64 v, i64 n, i64 o) {
    const struct region_node *j = &h->r->node[v];
    const struct region_value *m = &h->p->value[v];
    struct region_terms t = {.count = j->sources, .parameter = v_set1((float)j->parameter)};
    for (i64 k = 0; k < j->sources; k++) {
        const float *constants = region_constants(h->r, h->p, v, k) + o * VL;
        t.x[k] = region_value_at(h, j->source[k], n) + o * region_inner(j) * VL;
        t.scale[k] = v_load(constants + REGION_SCALE * m->Cp);
        t.shift[k] = v_load(constants + REGION_SHIFT * m->Cp);
    }
    return t;
}

INLINE vf region_sum(const i64 count, const struct region_terms *t, i64 at) {
    vf sum = v_load(t->x[0] + at) * t->scale[0] + t->shift[0];
    for (i64 k = 1; k < count; k++) sum += v_load(t->x[k] + at) * t->scale[k] + t->shift[k];
    return sum;
}

INLINE void region_activate_rows(const int kind, const i64 count, const struct region_terms *given, i64 H, i64 W, float *out, i64 row) {
    const struct region_terms t = *given;
    for (i64 h = 0, at = 0; h < H; h++) for (i64 w = 0; w < W; w++, at += VL)
        v_store(out + h * row + w * VL, v_activate(kind, region_sum(count, &t, at), t.parameter));
}

/* out, its rows `row` floats apart, = activation(sum); out may be the only source */
static void region_activate(int activation, const struct region_terms *t, i64 H, i64 W, float *out, i64 row) {
    if (row == W * VL) W *= H, H = 1;
#define CALL(kind) \
    if (kind <= ACTIVATION_LEAKY_RELU && t->count == 1) region_activate_rows(kind, 1, t, H, W, out, row); \
    else if (kind <= ACTIVATION_LEAKY_RELU && t->count == 2) region_activate_rows(kind, 2, t, H, W, out, row); \
    else region_activate_rows(kind, t->count, t, H, W, out, row)
    ACTIVATION_CASES(activation, CALL)
#undef CALL
}

/* ---- pooling ---- */

/* Rows or columns [begin, end) of a window that lie inside; origin: where it begins */
struct region_window { i64 origin, begin, end; };

INLINE struct region_window region_window(i64 at, i64 size, i64 stride, i64 pad, i64 inside) {
    const i64 origin = at * stride - pad;
    return (struct region_window){origin, i64_max(origin, 0), i64_min(origin + size, inside)};
}
INLINE struct region_window region_rows(const struct region_node *j, i64 h) {
    return region_window(h, j->pool_h, j->pool_stride_h, j->pool_pad_h, j->inner_H);
}
INLINE struct region_window region_columns(const struct region_node *j, i64 w) {
    return region_window(w, j->pool_w, j->pool_stride_w, j->pool_pad_w, j->inner_W);
}
/* What a sum over a window is divided by */
INLINE float region_share(const struct region_node *j, struct region_window h, struct region_window w) {
    const i64 inside = (h.end - h.begin) * (w.end - w.begin), whole = j->pool_h * j->pool_w;
    return 1.0f / (float)(j->pool_counts_padding ? whole : i64_max(inside, 1));
}

INLINE vf region_average(const float *y, i64 pixels) {
    struct folded sum = {};
    for (i64 i = 0; i < pixels; i++) fold(&sum, v_load(y + i * VL), i);
    return folded_sum(sum) / (float)pixels;
}

/* y (inner_H, inner_W, VL) -> H x W pixels */
static void region_pool_plane(const struct region_node *j, const float *y, float *out, i64 row) {
    const i64 inner = j->inner_W;
    if (j->pool == POOL_GLOBAL_AVERAGE) {
        v_store(out, region_average(y, region_inner(j)));
        return;
    }
    for (i64 h = 0; h < j->H; h++) for (i64 w = 0; w < j->W; w++) {
        const struct region_window rows = region_rows(j, h), columns = region_columns(j, w);
        vf v = {0};
        if (j->pool == POOL_MAX) {
            v = v_load(y + (rows.begin * inner + columns.begin) * VL);
            for (i64 a = rows.begin; a < rows.end; a++) for (i64 b = columns.begin; b < columns.end; b++) {
                const vf x = v_load(y + (a * inner + b) * VL);
                v = v_select(v_beats(x, v), x, v);
            }
        } else {
            for (i64 a = rows.begin; a < rows.end; a++) for (i64 b = columns.begin; b < columns.end; b++)
                v += v_load(y + (a * inner + b) * VL);
            v *= region_share(j, rows, columns);
        }
        v_store(out + h * row + w * VL, v);
    }
}

/* Image n of JOIN v -> out */
KERNEL void region_form(const struct region_hands *h, i64 v, i64 n, struct wide_view out) {
    const struct region_node *j = &h->r->node[v];
    for (i64 o = 0; o < h->p->value[v].CB; o++, out.at += out.plane) {
        const struct region_terms t = region_terms(h, v, n, o);
        if (j->pool == POOL_NONE) {
            region_activate((int)j->activation, &t, j->H, j->W, out.at, out.row);
            continue;
        }
        region_activate((int)j->activation, &t, j->inner_H, j->inner_W, h->plane, j->inner_W * VL);
        region_pool_plane(j, h->plane, out.at, out.row);
    }
}

/* ---- copies ---- */

/* `channels` channels of (pixels) each, from the first of `from` on, to or from the channel `at` of `whole`: where they lie in blocks */
KERNEL void region_copy_channels(i64 channels, i64 pixels, i64 at, int gather, int add, float *part, float *whole) {
    if (at % VL == 0) {                     /* whole blocks; unused lanes of the last one belong to others */
        const i64 blocks = channels / VL, plane = pixels * VL;
        const struct wide_view a = {part, plane, plane}, b = {whole + at / VL * plane, plane, plane};
        region_copy(blocks, 1, pixels, add, gather ? b : a, gather ? a : b);
        part += blocks * plane, at += blocks * VL, channels -= blocks * VL;
    }
    for (i64 c = 0; c < channels; c++) {
        float *a = part + c / VL * pixels * VL + c % VL, *b = whole + (at + c) / VL * pixels * VL + (at + c) % VL;
        const float *from = gather ? b : a;
        float *to = gather ? a : b;
        if (add) for (i64 i = 0; i < pixels; i++) to[i * VL] += from[i * VL];
        else for (i64 i = 0; i < pixels; i++) to[i * VL] = from[i * VL];
    }
}

/* ---- inputs ---- */

INLINE const void *region_outside(const struct region_hands *h, const struct region_node *x) {
    return x->x && !x->table ? (const void *)x->x : h->job->program->input;
}

/* Image n of an INPUT, in blocks of channels; scratch: C * H * W floats, for bytes */
KERNEL void region_load_input(const struct region_hands *h, const struct region_node *x, i64 n, float *scratch, struct wide_view out) {
    const i64 pixels = x->H * x->W;
    const float *from = (const float *)region_outside(h, x) + n * x->C * pixels;
    if (x->table) {
        const uint8_t *bytes = (const uint8_t *)region_outside(h, x) + n * x->C * pixels;
        for (i64 c = 0; c < x->C; c++) for (i64 i = 0; i < pixels; i++) scratch[c * pixels + i] = x->table[c * 256 + bytes[c * pixels + i]];
        from = scratch;
    }
    wide_to_blocks(x->C, x->H, x->W, from, pixels, out);
}

/* The input of convolution c, images h->n on, bordered */
KERNEL void region_load(const struct region_hands *h, i64 c, float *to) {
    const i64 v = h->r->node[c].source[0];
    const struct region_node *n = &h->r->node[v];
    const struct region_value *m = &h->p->value[v];
    const struct region_conv *conv = &h->p->value[c].conv;
    region_clear(conv, &conv->input, h->count, to);
    for (i64 k = 0; k < h->count; k++) {
        const struct wide_view inside = region_cell(conv, &conv->input, to, k);
        if (conv->input.lanes == 1) wide_load_image(&conv->input, region_outside(h, n), n->table, h->n + k, to + k * wide_place_floats(&conv->input));
        else if (m->planar) region_load_input(h, n, h->n + k, h->input_grad, inside);
        else if (m->kept == REGION_VIRTUAL) region_form(h, v, h->n + k, inside);
        else region_copy(m->CB, n->H, n->W, 0, region_compact(n, region_value_at(h, v, h->n + k)), inside);
    }
}

#endif
