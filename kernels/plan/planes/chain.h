/* The planes chain: convolution, bias, ReLU, max-pooling, once or more, forward only, for a few images whose channels do not fill
 * vectors. Activations are planes [C][rows][cols]; each layer runs with lanes = pixels or lanes = output channels, whichever
 * leaves fewer of them empty.
 *
 * planes/conv.h        lanes = pixels; and back to planes from lanes = channels
 * planes/winograd.h    lanes = channels, half the products
 */
#ifndef FASTNN_PLANES_CHAIN_H
#define FASTNN_PLANES_CHAIN_H

#include "base/threads.h"
#include "plan/layers.h"
#include "plan/planes/winograd.h"

struct planes_layer {
    struct wide_place place;            /* of its input */
    i64 place_at, packed_at, bias_at, copy_at;  /* floats in scratch, and in state */
    i64 m;                              /* rows of Winograd's tiles, 0: none */
    i64 H;                              /* rows of the convolution, whole tiles */
    int by_channels;
};

struct planes_plan {
    const struct chain *chain;
    const void *input;
    struct planes_layer layer[CHAIN_MOST_LAYERS];
    i64 work_at, scratch, state;        /* floats */
    int failed;
};

KERNEL i64 planes_chain_supports(const struct chain *c) {
    if (c->training) return 0;
    for (i64 i = 0; i < c->layers; i++) {
        const struct chain_layer *l = &c->layer[i];
        if (l->norm || !chain_simple(l) || l->pool > 2 || l->PH < 1 || l->PW < 1) return 0;
        if (l->C * l->kh * l->kw > WIDE_FIRST_TAPS || l->pad_h >= l->kh || l->pad_w >= l->kw) return 0;
    }
    return 1;
}

INLINE struct planes_plan planes_make_plan(const struct chain *c) {
    struct planes_plan p = {.chain = c};
    i64 work = 0;
    for (i64 i = 0; i < c->layers; i++) {
        const struct chain_layer *l = &c->layer[i];
        struct planes_layer *q = &p.layer[i];
        const i64 W = l->PW * l->pool, K = l->C * l->kh * l->kw, OB = ceil_div(l->O, VL);
        q->by_channels = OB * VL * W < l->O * round_up(W, VL);
        q->m = q->by_channels ? planes_tile_rows(c, l) : 0;
        q->H = q->m ? round_up(l->PH * l->pool, q->m) : l->PH * l->pool;
        const struct planes_winograd w = planes_winograd(l, i64_max(q->m, 1));
        const i64 rows = i64_max(l->H + 2 * l->pad_h, q->H + l->kh - 1);
        q->place = (struct wide_place){l->C, l->H, l->W, rows, l->W + 2 * l->pad_w, l->pad_h, l->pad_w, 1};
        q->place_at = p.scratch;
        p.scratch += round_up(wide_place_floats(&q->place) + PLANES_NV * VL, 16);
        if (!q->by_channels) continue;
        q->packed_at = p.state;
        q->bias_at = q->packed_at + OB * VL * (q->m ? PLANES_ENTRIES * w.taps : K);
        q->copy_at = q->bias_at + OB * VL;
        p.state = q->copy_at + round_up(chain_given_floats(l), 16);
        work = i64_max(work, OB * VL * (q->H * W + l->PH * l->PW) + (q->m ? w.input + w.products : 0));
    }
    p.work_at = p.scratch;
    p.scratch += work;
    return p;
}

SMALL i64 planes_chain_state_bytes(const struct chain *c) { return planes_make_plan(c).state * (i64)sizeof(float); }

/* Packs what has changed since the last call: state keeps what the packed weights were made of. */
INLINE void planes_pack(const struct chain_layer *l, const struct planes_layer *q, float *state) {
    const struct wide_conv s = {l->C, l->O, l->kh, l->kw, 0, 0, 0, 0};
    if (!chain_given_changed(l, state + q->copy_at)) return;
    if (q->m) planes_winograd_pack(l, state + q->packed_at);
    else wide_first_pack(&s, l->weight, state + q->packed_at);
    if (l->bias) memcpy(state + q->bias_at, l->bias, (size_t)l->O * sizeof(float));
}

static void planes_by_channels(const struct planes_conv *t, const struct planes_layer *q, const float *state, float *work) {
    const struct chain_layer *l = t->layer;
    const i64 W = l->PW * l->pool, OB = ceil_div(l->O, VL);
    const float *packed = state + q->packed_at, *bias = state + q->bias_at;
    const struct wide_view strip = {work, q->H * W * VL, W * VL};
    const int relu = chain_relu(l) && l->pool == 1;
    float *pooled = work + OB * strip.plane, *rest = pooled + OB * VL * l->PH * l->PW;
    if (q->m) {
        const struct planes_winograd w = planes_winograd(l, q->m);
        planes_winograd_forward(l, &w, relu, t->src, packed, bias, rest, strip);
    } else {
        const struct wide_conv s = {l->C, l->O, l->kh, l->kw, q->H, W, 0, 0};
        wide_first_forward(&s, packed, bias, relu, t->src, strip);
    }
    planes_from_strip(t, strip, pooled);
}

/* Task: one image. */
static void planes_forward_image(void *context, i64 n) {
    struct planes_plan *p = context;
    const struct chain *c = p->chain;
    float *scratch = fastnn_scratch(SCRATCH_WIDE, (size_t)p->scratch * sizeof(float));
    if (!scratch) { p->failed = 1; return; }
    for (i64 i = 0; i < c->layers; i++) wide_clear_border(&p->layer[i].place, scratch + p->layer[i].place_at);
    wide_load_image(&p->layer[0].place, p->input, c->table, n, scratch + p->layer[0].place_at);
    for (i64 i = 0; i < c->layers; i++) {
        const struct chain_layer *l = &c->layer[i];
        const struct planes_layer *q = &p->layer[i];
        const i64 P = l->PH * l->PW;
        i64 offset[WIDE_FIRST_TAPS];
        struct planes_conv t = {.layer = l, .src = wide_bordered(&q->place, scratch + q->place_at), .offset = offset};
        if (i + 1 < c->layers) t.dst = wide_interior(&q[1].place, scratch + q[1].place_at);
        else t.dst = (struct wide_view){c->y + n * l->O * P, P, l->PW};
        if (q->by_channels) {
            planes_by_channels(&t, q, c->state, scratch + p->work_at);
        } else {
            const struct wide_conv s = {l->C, l->O, l->kh, l->kw, 0, 0, 0, 0};
            wide_first_offsets(&s, t.src, offset);
            planes_by_pixels(&t);
        }
    }
}

KERNEL int planes_chain_forward(const void *arguments, struct program *program) {
    const struct chain *c = arguments;
    struct planes_plan p = planes_make_plan(c);
    p.input = c->x ? (const void *)c->x : program->input;
    for (i64 i = 0; i < c->layers; i++)
        if (p.layer[i].by_channels) planes_pack(&c->layer[i], &p.layer[i], c->state);
    fastnn_parallel(c->N, chain_flops(c), planes_forward_image, &p);
    return p.failed ? -1 : 0;
}

#endif
