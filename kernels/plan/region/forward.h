/* Regions that train, forward: the operations of region/plan.h, segment by segment. */
#ifndef FASTNN_REGION_FORWARD_H
#define FASTNN_REGION_FORWARD_H

#include "plan/region/statistics.h"

/* Task: packs a part of one convolution's weights */
static void region_pack_part(void *context, int64_t index) {
    struct region_job *job = context;
    for (i64 v = 0; v < job->r->nodes; v++) {
        const struct region_node *c = &job->r->node[v];
        const struct region_conv *m = &job->p->value[v].conv;
        if (c->kind != REGION_CONV) continue;
        const i64 tasks = region_pack_tasks(m, job->backward);
        if (index < tasks) {
            region_pack_task(m, c->weight, job->backward, index, job->packed + (job->backward ? m->transposed_at : m->packed_at));
            return;
        }
        index -= tasks;
    }
}

/* All convolutions' weights, forward or for the input gradients */
KERNEL int region_pack(struct region_job *job) {
    const i64 floats = job->backward ? job->p->transposed_floats : job->p->packed_floats;
    i64 tasks = 0, weights = 0;
    job->packed = fastnn_scratch(SCRATCH_CONV_WEIGHT, (size_t)(floats + 1) * sizeof(float));
    if (!job->packed) return -1;
    for (i64 v = 0; v < job->r->nodes; v++) {
        if (job->r->node[v].kind != REGION_CONV) continue;
        tasks += region_pack_tasks(&job->p->value[v].conv, job->backward);
        weights += region_weights(&job->p->value[v].conv);
    }
    fastnn_parallel(tasks, 25.0 * (double)weights, region_pack_part, job);
    return 0;
}

/* A task's buffers; 0, or -1: no memory */
KERNEL int region_take(const struct region_job *job, i64 block, struct region_hands *h) {
    const struct region_plan *p = job->p;
    const i64 images = 2 * p->input_floats;
    *h = (struct region_hands){.job = job, .r = job->r, .p = p, .block = block, .begin = region_block_begin(job->r, p, block)};
    h->input = fastnn_scratch(SCRATCH_CONV_IMAGE, (size_t)(images + p->work_floats + p->most_sums) * sizeof(float));
    h->grad = fastnn_scratch(SCRATCH_CONV_OUTPUT, (size_t)(p->grad_floats + p->plane_floats + p->most_local + 1) * sizeof(float));
    if (!h->input || !h->grad) return -1;
    h->input_grad = h->input + p->input_floats;
    h->work = h->input + images;
    h->sums = h->work + p->work_floats;
    h->plane = h->grad + p->grad_floats;
    h->local = h->plane + p->plane_floats;
    return 0;
}

/* Image n of value v -> y */
KERNEL void region_output(const struct region_hands *h, i64 v, i64 n) {
    const struct region_node *s = &h->r->node[v];
    const struct region_value *m = &h->p->value[v];
    const i64 pixels = s->H * s->W;
    const float *from = h->input;
    if (m->kept == REGION_VIRTUAL) region_form(h, v, n, region_compact(s, h->input));
    else if (m->planar) region_load_input(h, s, n, h->input_grad, region_compact(s, h->input));
    else from = region_value_at(h, v, n);
    wide_from_blocks(s->C, pixels, from, pixels * VL, s->y + n * s->C * pixels, pixels);
}

KERNEL void region_concatenate(const struct region_hands *h, i64 v, i64 n) {
    const struct region_node *c = &h->r->node[v];
    float *whole = region_value_at(h, v, n);
    i64 at = 0;
    if (c->C % VL) memset(whole + (h->p->value[v].CB - 1) * c->H * c->W * VL, 0, (size_t)(c->H * c->W * VL) * sizeof(float));
    for (i64 k = 0; k < c->sources; at += h->r->node[c->source[k]].C, k++)
        region_copy_channels(h->r->node[c->source[k]].C, c->H * c->W, at, 0, 0, region_value_at(h, c->source[k], n), whole);
}

/* One operation on the images in hand */
KERNEL void region_run_forward(const struct region_hands *h, const struct region_op *op) {
    const struct region_node *node = &h->r->node[op->node];
    const i64 v = op->node, n = h->n;
    if (op->kind == REGION_CONVOLVE) {
        const struct region_value *m = &h->p->value[v];
        region_load(h, v, h->input);
        region_convolve(&m->conv, h->count, h->job->packed + m->conv.packed_at, h->input, region_value_at(h, v, n),
                        m->y.image, h->work, h->input_grad);
        return;
    }
    for (i64 k = n; k < n + h->count; k++)
        switch (op->kind) {
        case REGION_LOAD: region_load_input(h, node, k, h->input_grad, region_compact(node, region_value_at(h, v, k))); break;
        case REGION_STATISTICS: region_statistics(h, v, op->slot, k); break;
        case REGION_FORM: region_form(h, v, k, region_compact(node, region_value_at(h, v, k))); break;
        case REGION_CONCATENATE: region_concatenate(h, v, k); break;
        default: region_output(h, v, k);
        }
}

/* Every other segment goes through the batch backwards, over what the one before left in cache. */
INLINE i64 region_turn(const struct region_job *job, i64 index) { return job->segment % 2 ? job->p->blocks - 1 - index : index; }

static void region_forward_block(void *context, int64_t index) {
    struct region_job *job = context;
    const struct region_segment *s = &job->p->segment[job->segment];
    const i64 block = region_turn(job, index), end = region_block_begin(job->r, job->p, block + 1);
    struct region_hands h;
    if (region_take(job, block, &h)) { job->failed = 1; return; }
    for (h.n = h.begin; h.n < end && !fastnn_stopped(); h.n += s->group) {
        h.count = i64_min(s->group, end - h.n);
        for (i64 i = s->begin; i < s->end; i++) region_run_forward(&h, &job->p->op[i]);
    }
}

/* The plan lies in the state from the first call on. */
INLINE struct region_plan *region_planned(const struct region *r) {
    struct region_plan *p = r->state;
    if (!p->made) region_make_plan(r, p);
    return p;
}

KERNEL int region_train_forward(const void *arguments, struct program *program) {
    const struct region *r = arguments;
    struct region_job job = {.r = r, .p = region_planned(r), .program = program};
    if (region_pack(&job)) return -1;
    for (i64 v = 0; v < r->nodes; v++) for (i64 k = 0; k < r->node[v].sources && r->node[v].kind == REGION_JOIN; k++)
        if (!r->node[v].norm[k].used) region_given(r, job.p, v, k);
    for (; job.segment < job.p->forward_segments && !job.failed; job.segment++) {
        const struct region_segment *s = &job.p->segment[job.segment];
        fastnn_parallel(job.p->blocks, s->flops, region_forward_block, &job);
        for (i64 i = s->begin; i < s->end; i++)
            if (job.p->op[i].kind == REGION_STATISTICS) region_join_statistics(r, job.p, job.p->op[i].node, job.p->op[i].slot);
    }
    for (i64 v = 0; v < r->nodes && !job.failed; v++) for (i64 k = 0; k < r->node[v].sources && r->node[v].kind == REGION_JOIN; k++)
        if (r->node[v].norm[k].used) region_follow(r, job.p, v, k);
    return job.failed ? -1 : 0;
}

#endif
