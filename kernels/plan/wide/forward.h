/* The wide chain forward: image by image through all layers, everything between them in one thread's cache. */
#ifndef FASTNN_WIDE_FORWARD_H
#define FASTNN_WIDE_FORWARD_H

#include "plan/wide/tiles.h"

/* Rows of the convolution by direct loops, a strip at a time, each strip pooled while it is in cache. */
static void wide_direct_layer(const struct wide_plan *p, i64 l, const float *packed, struct wide_view src, struct wide_view dst,
                              int8_t *where, float *scratch) {
    const struct wide_layer *m = &p->layer[l];
    const struct chain_layer *c = &p->chain->layer[l];
    if (l == 0 && !m->pooled) {
        wide_first_forward(&m->conv, packed + m->packed_at, packed + m->bias_at, chain_relu(c), src, dst);
        return;
    }
    for (i64 h = 0; h < m->conv.OH; h += m->strip_rows) {
        struct wide_conv s = m->conv;
        s.OH = i64_min(m->strip_rows, m->conv.OH - h);
        struct wide_view strip = {scratch + p->strip_at, s.OH * s.OW * VL, s.OW * VL};
        struct wide_view from = {src.at + h * src.row, src.plane, src.row};
        if (l == 0) wide_first_forward(&s, packed + m->packed_at, packed + m->bias_at, 0, from, strip);
        else wide_conv_forward(&s, packed + m->packed_at, packed + m->bias_at, from, strip);
        struct wide_view to = {dst.at + h / c->pool * dst.row, dst.plane, dst.row};
        if (m->pooled) wide_pool_strip(c->pool, m->OB, s.OH / c->pool, s.OW / c->pool, strip, chain_relu(c), to,
                                       where ? where + h / c->pool * c->PW * m->OB * VL : NULL);
        else wide_relu_strip(m->OB, s.OH, s.OW, strip, chain_relu(c), to);
    }
}

static void wide_forward_layer(const struct wide_plan *p, i64 l, const float *packed, i64 n, float *scratch) {
    const struct wide_layer *m = &p->layer[l];
    struct wide_view src = wide_bordered(&p->place[l], wide_at(p, l, n, scratch));
    struct wide_view dst = wide_interior(&p->place[l + 1], wide_at(p, l + 1, n, scratch));
    int8_t *where = p->chain->training && m->pooled ? (int8_t *)wide_record(p, n) + m->where_at : NULL;
    const struct wide_flat *flat = l == 1 && p->flat ? (const struct wide_flat *)(scratch + p->flat_at) : NULL;
    if (m->winograd) wide_winograd_layer(p, l, packed, src, dst, where, flat, scratch);
    else wide_direct_layer(p, l, packed, src, dst, where, scratch);
}

/* Planes in scratch keep their zero borders from image to image. */
static void wide_clear_scratch(const struct wide_plan *p, float *scratch) {
    for (i64 i = 0; i <= p->L; i++)
        if (!p->stored[i]) wide_clear_border(&p->place[i], scratch + p->place_at[i]);
}

/* Image n, and where it is flat. */
static void wide_gather(const struct wide_plan *p, i64 n, float *scratch) {
    const struct chain_layer *first = &p->chain->layer[0];
    float *image = scratch + p->place_at[0];
    wide_load_image(&p->place[0], p->input, p->chain->table, n, image);
    if (p->flat) wide_find_flat(&p->place[0], image, first->kh, first->kw, &p->place[1], (struct wide_flat *)(scratch + p->flat_at));
}

static void wide_forward_image(const struct wide_plan *p, const float *packed, i64 n, float *scratch) {
    const struct chain *c = p->chain;
    const struct chain_layer *last = &c->layer[p->L - 1];
    const struct wide_place *end = &p->place[p->L];
    const float *out;
    for (i64 i = 0; i <= p->L; i++)
        if (p->stored[i]) wide_clear_border(&p->place[i], wide_at(p, i, n, scratch));
    wide_gather(p, n, scratch);
    for (i64 l = 0; l < p->L; l++) wide_forward_layer(p, l, packed, n, scratch);
    out = wide_at(p, p->L, n, scratch);
    if (!chain_average(last)) {
        const i64 pixels = end->H * end->W;
        wide_from_blocks(end->C, pixels, out, wide_place_plane(end), c->y + n * end->C * pixels, pixels);
        return;
    }
    for (i64 o = 0; o < end->C; o += VL) {
        const float *plane = out + o / VL * wide_place_plane(end);
        struct folded sum = {};
        for (i64 i = 0; i < end->H * end->W; i++) fold(&sum, v_load(plane + i * VL), i);
        v_store_lanes(c->y + n * end->C + o, folded_sum(sum) / (float)(end->H * end->W), i64_min(VL, end->C - o));
    }
}

static void wide_pack_layer(const struct wide_plan *p, i64 l, float *packed) {
    const struct wide_layer *m = &p->layer[l];
    const struct chain_layer *c = &p->chain->layer[l];
    if (m->winograd) {
        struct winograd w = winograd_shape(c->C, c->O, m->conv.OH, m->conv.OW);
        winograd_pack(&w, c->weight, 0, packed + m->packed_at, 0, c->C);
    } else {
        (l == 0 ? wide_first_pack : wide_conv_pack)(&m->conv, c->weight, packed + m->packed_at);
    }
    memset(packed + m->bias_at, 0, (size_t)(m->OB * VL) * sizeof(float));
    if (c->bias) memcpy(packed + m->bias_at, c->bias, (size_t)c->O * sizeof(float));
}

struct wide_job { const struct wide_plan *plan; const float *packed, *transposed; int failed; };

static void wide_forward_block(void *context, int64_t block) {
    struct wide_job *job = context;
    const struct wide_plan *p = job->plan;
    float *scratch = fastnn_scratch(SCRATCH_WIDE, (size_t)p->scratch * sizeof(float));
    if (!scratch) { job->failed = 1; return; }
    wide_clear_scratch(p, scratch);
    for (i64 n = block * p->block; n < i64_min(p->chain->N, (block + 1) * p->block) && !fastnn_stopped(); n++)
        wide_forward_image(p, job->packed, n, scratch);
}

/* All layers' weights as the loops want them. For a few images packing takes longer than the convolutions: inference keeps what it
 * has packed in state, beside a copy of what it was made of, which takes little time to compare. */
static float *wide_packed_weights(const struct wide_plan *p) {
    const struct chain *c = p->chain;
    if (c->training) {
        float *packed = fastnn_scratch(SCRATCH_WIDE_WEIGHT, (size_t)p->packed * sizeof(float));
        for (i64 l = 0; packed && l < p->L; l++) wide_pack_layer(p, l, packed);
        return packed;
    }
    float *packed = c->state, *copy = packed + p->packed;
    for (i64 l = 0; l < p->L; copy += chain_given_floats(&c->layer[l]), l++)
        if (chain_given_changed(&c->layer[l], copy)) wide_pack_layer(p, l, packed);
    return packed;
}

KERNEL int wide_chain_forward(const void *arguments, struct program *program) {
    struct wide_plan plan = wide_make_plan(arguments);
    float *packed = wide_packed_weights(&plan);
    struct wide_job job = {.plan = &plan, .packed = packed};
    if (!packed) return -1;
    plan.input = plan.chain->x ? (const void *)plan.chain->x : program->input;
    fastnn_parallel(plan.blocks, chain_flops(plan.chain), wide_forward_block, &job);
    return job.failed ? -1 : 0;
}

#endif
