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
    const struct wide_view src = wide_bordered(&p->place[l], wide_at(p, l, n, scratch));
    const struct wide_view dst = wide_interior(&p->place[l + 1], wide_at(p, l + 1, n, scratch));
    const struct wide_flat *flat = l == 1 && p->flat ? (const struct wide_flat *)(scratch + p->flat_at) : NULL;
    if (m->winograd) wide_winograd_layer(p, l, packed, n, 1, flat, scratch);
    else wide_direct_layer(p, l, packed, src, dst, wide_where(p, l, n), scratch);
    wide_activate(&p->chain->layer[l], dst);
}

/* Planes in scratch keep their zero borders from image to image. */
static void wide_clear_scratch(const struct wide_plan *p, float *scratch) {
    for (i64 i = 0; i <= p->L; i++) for (i64 n = 0; n < p->group && !p->stored[i]; n++)
        wide_clear_border(&p->place[i], wide_at(p, i, n, scratch));
}

/* Image n, and where it is flat. */
static void wide_gather(const struct wide_plan *p, i64 n, float *scratch) {
    const struct chain_layer *first = &p->chain->layer[0];
    float *image = wide_at(p, 0, n, scratch);
    wide_load_image(&p->place[0], p->input, p->chain->table, n, image);
    if (p->flat) wide_find_flat(&p->place[0], image, first->kh, first->kw, &p->place[1], (struct wide_flat *)(scratch + p->flat_at));
}

/* y of image n from the last place */
static void wide_store_output(const struct wide_plan *p, i64 n, float *scratch) {
    const struct chain *c = p->chain;
    const struct chain_layer *last = &c->layer[p->L - 1];
    const struct wide_place *end = &p->place[p->L];
    const float *out = wide_at(p, p->L, n, scratch);
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

/* Images n .. end - 1, a group at most: layer by layer, each from the image or the layer before */
static void wide_forward_group(const struct wide_plan *p, const float *packed, i64 n, i64 end, float *scratch) {
    for (i64 k = n; k < end; k++) {
        for (i64 i = 0; i <= p->L; i++)
            if (p->stored[i]) wide_clear_border(&p->place[i], wide_at(p, i, k, scratch));
        wide_gather(p, k, scratch);
    }
    for (i64 l = 0; l < p->L; l++) {
        const int together = p->layer[l].winograd && p->chain->layer[l].pool <= 2 && p->group > 1;
        if (together) {
            wide_winograd_layer(p, l, packed, n, end - n, NULL, scratch);
            for (i64 k = n; k < end; k++)
                wide_activate(&p->chain->layer[l], wide_interior(&p->place[l + 1], wide_at(p, l + 1, k, scratch)));
        } else for (i64 k = n; k < end; k++) wide_forward_layer(p, l, packed, k, scratch);
    }
    for (i64 k = n; k < end; k++) wide_store_output(p, k, scratch);
}

/* ---- packed weights: a part of a layer's is a task ---- */

enum { WIDE_PACK_ROWS = 8 };            /* of Winograd's weights */

INLINE i64 wide_pack_parts(const struct wide_plan *p, i64 l) {
    const struct wide_layer *m = &p->layer[l];
    return m->winograd ? ceil_div(m->conv.C, WIDE_PACK_ROWS) : l ? m->OB : 1;
}

static void wide_pack_part(const struct wide_plan *p, i64 l, i64 part, float *packed) {
    const struct wide_layer *m = &p->layer[l];
    const struct chain_layer *c = &p->chain->layer[l];
    const i64 row = part * WIDE_PACK_ROWS;
    if (m->winograd) {
        struct winograd w = winograd_shape(c->C, c->O, m->conv.OH, m->conv.OW);
        winograd_pack(&w, c->weight, 0, packed + m->packed_at, row, i64_min(c->C, row + WIDE_PACK_ROWS));
    } else if (l) {
        const struct wide_weights given = wide_weights_of(&m->conv, c->weight);
        wide_pack_block(&m->conv, VL, &given, part, packed + m->packed_at);
    } else {
        wide_first_pack(&m->conv, c->weight, packed + m->packed_at);
    }
    if (part) return;
    memset(packed + m->bias_at, 0, (size_t)(m->OB * VL) * sizeof(float));
    if (c->bias) memcpy(packed + m->bias_at, c->bias, (size_t)c->O * sizeof(float));
}

struct wide_packing { const struct wide_plan *plan; i64 layer; float *packed; };

static void wide_pack_task(void *context, int64_t part) {
    const struct wide_packing *t = context;
    wide_pack_part(t->plan, t->layer, part, t->packed);
}

/* A hand-over costs more than packing a small layer: fastnn_parallel decides by the work, some 20 FLOPs an entry. */
KERNEL void wide_pack_layer(const struct wide_plan *p, i64 l, float *packed) {
    const struct chain_layer *c = &p->chain->layer[l];
    struct wide_packing t = {p, l, packed};
    fastnn_parallel(wide_pack_parts(p, l), 20.0 * (double)(c->C * c->O * c->kh * c->kw), wide_pack_task, &t);
}

struct wide_job { const struct wide_plan *plan; const float *packed, *transposed; int failed; };

static void wide_forward_block(void *context, int64_t block) {
    struct wide_job *job = context;
    const struct wide_plan *p = job->plan;
    float *scratch = fastnn_scratch(SCRATCH_WIDE, (size_t)p->scratch * sizeof(float));
    if (!scratch) { job->failed = 1; return; }
    wide_clear_scratch(p, scratch);
    const i64 task = p->group > 1 ? p->group : p->block, end = i64_min(p->chain->N, (block + 1) * task);
    for (i64 n = block * task; n < end && !fastnn_stopped(); n += p->group)
        wide_forward_group(p, job->packed, n, i64_min(end, n + p->group), scratch);
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
    const i64 tasks = plan.group > 1 ? ceil_div(plan.chain->N, plan.group) : plan.blocks;
    fastnn_parallel(tasks, chain_flops(plan.chain), wide_forward_block, &job);
    return job.failed ? -1 : 0;
}

#endif
