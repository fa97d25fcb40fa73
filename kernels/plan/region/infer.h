/* Inference of a region: its plan's steps (infer_plan.h), for a group of images at a time, while all their values stay in L2.
 *
 *   infer_pack.h       batch norm folded into weights, which are packed and kept
 *   infer_winograd.h   3x3 convolutions; all others are conv/channels_forward.h's
 *   infer_value.h      sums, poolings, concatenation, and the copies in and out
 *
 * A batch is split among the threads by images, each running all steps on its own. A single image is split inside of those steps that
 * take long enough to be worth handing over, and runs on one thread where none is.
 */
#ifndef FASTNN_INFER_H
#define FASTNN_INFER_H

#include <stdlib.h>

#include "plan/region/infer_pack.h"
#include "plan/region/infer_winograd.h"
#include "plan/stages.h"

enum {
    INFER_SHARED_FLOPS = 1500000,       /* of a step that several threads share: some 7 us of one */
    INFER_SHARES = 4,                   /* of a batch, for each thread */
};

KERNEL i64 region_infer_supports(const struct region *r) { return !r->training && r->nodes <= REGION_MOST_NODES; }

/* A step of a run, cut into tasks: pieces of its rows or tiles x parts of its output blocks */
struct infer_task {
    const struct infer_run *run;
    const struct infer_step *step;
    i64 across, parts;                  /* pieces; parts of the outputs */
    struct infer_tiles tiles;
    int failed;
};

/* Rows [top, bottom) of one tile of outputs or (-1) of all of them */
static void infer_conv_rows(const struct infer_run *t, const struct infer_step *s, i64 only, i64 top, i64 bottom) {
    const float *state = t->r->state;
    struct infer_images in = infer_images(t, s->source[0]), out = infer_images(t, s->out);
    struct channels_conv part = s->shape;
    struct channels_shared shared;
    struct channels_tile tile = {0};
    const int inside = s->activation == ACTIVATION_RELU || s->activation == ACTIVATION_LEAKY_RELU;
    struct channels_ends ends = {.bias = state + s->bias_at, .activation = inside ? s->activation : ACTIVATION_NONE, .slope = s->parameter};
    part.OH = bottom - top, shared.end = -1;
    in.view.at += (top * part.stride_h - part.pad_h) * in.view.row - part.pad_w * part.pixel;
    out.view.at += top * out.view.row;
    if (s->sources > 1) {
        const struct infer_images residual = infer_images(t, s->source[1]);
        ends.residual = residual.view, ends.residual_image = residual.image;
        ends.residual.at += top * residual.view.row;
    }
    for (i64 i = 0; channels_next_tile(&s->packing, &tile); i++) {
        if (only >= 0 && i != only) continue;
        channels_forward_tile(&part, &tile, (struct channels_images){t->images, in.image, out.image}, state + s->packed_at, in.view, out.view,
                              ends, &shared);
        if (inside || !s->activation) continue;
        struct infer_images made = out;
        made.view.at += tile.block * out.view.plane;
        infer_activate(s->activation, s->parameter, &made, t->images, tile.blocks, bottom - top, s->columns);
    }
}

static void infer_run_task(void *context, int64_t index) {
    struct infer_task *task = context;
    const struct infer_run *t = task->run;
    const struct infer_step *s = task->step;
    const i64 piece = index / task->parts, part = index % task->parts;
    const i64 blocks = ceil_div(t->plan->value[s->out].place.C, VL);
    const i64 begin = part * blocks / task->parts, end = (part + 1) * blocks / task->parts;
    switch (s->kind) {
    case INFER_LOAD: infer_load(t, s); break;
    case INFER_STORE: infer_store(t, s); break;
    case INFER_CONCAT: infer_concat(t, s); break;
    case INFER_JOIN: infer_join(t, s, begin, end); break;
    case INFER_POOL: infer_pool_step(t, s, begin, end); break;
    case INFER_CONV:
        infer_conv_rows(t, s, task->parts == 1 ? -1 : part, piece * s->rows / task->across, (piece + 1) * s->rows / task->across);
        break;
    case INFER_WINOGRAD: {
        float *work = fastnn_scratch(SCRATCH_CONV_IMAGE, (size_t)infer_winograd_work_floats(&s->winograd, task->tiles.strip) * sizeof(float));
        if (!work) { task->failed = 1; return; }
        infer_winograd_strip(&task->tiles, piece, begin, end, work);
        break;
    }
    }
}

static void infer_prepare_tiles(const struct infer_run *t, const struct infer_step *s, struct infer_task *task) {
    const float *state = t->r->state;
    struct infer_images in = infer_images(t, s->source[0]), none = {};
    in.view.at -= s->shape.pad_h * in.view.row + s->shape.pad_w * VL;
    task->tiles = (struct infer_tiles){&s->winograd, s, t->images, in, infer_images(t, s->out),
                                       s->sources > 1 ? infer_images(t, s->source[1]) : none, &t->plan->value[s->out].place,
                                       state + s->packed_at, state + s->bias_at, infer_strip(&s->winograd, t->images, t->pieces)};
    task->across = ceil_div(t->images * s->winograd.TH * s->winograd.TW, task->tiles.strip);
}

static int infer_run_step(const struct infer_run *run, const struct infer_step *s) {
    struct infer_run t = *run;
    struct infer_task task = {.run = &t, .step = s, .across = 1, .parts = 1};
    const int shared = t.pieces > 1 && s->flops * (double)t.images >= INFER_SHARED_FLOPS;
    if (!shared) t.pieces = 1;
    if (s->kind == INFER_WINOGRAD) {
        infer_prepare_tiles(&t, s, &task);
        if (task.across < t.pieces) task.parts = i64_min(ceil_div(t.pieces, task.across), s->winograd.Op / VL);
    } else if (s->kind == INFER_CONV && t.pieces > 1) {
        if (s->pieces >= t.pieces) task.parts = s->pieces;
        else task.across = i64_min(s->rows, t.pieces);
    } else if (s->kind == INFER_JOIN || s->kind == INFER_POOL) task.parts = i64_min(ceil_div(t.plan->value[s->out].place.C, VL), t.pieces);
    fastnn_parallel(task.across * task.parts, shared ? 1e9 : 0, infer_run_task, &task);
    return task.failed ? -1 : 0;
}

struct infer_job { const struct region *r; const struct infer_plan *plan; const void *input; i64 tasks; int failed; };

static int infer_group(struct infer_run *t) {
    int failed = 0;
    for (i64 i = 0; i < t->plan->steps && !failed; i++) failed = infer_run_step(t, &t->plan->step[i]);
    return failed;
}

/* Task: some images, in an arena of this thread's */
static void infer_some(void *context, int64_t index) {
    struct infer_job *job = context;
    const struct infer_plan *p = job->plan;
    float *arena = fastnn_scratch(SCRATCH_WIDE, (size_t)(p->arena * p->group) * sizeof(float));
    if (!arena) { job->failed = 1; return; }
    const i64 end = (index + 1) * job->r->N / job->tasks;
    struct infer_run t = {job->r, p, job->input, arena, 0, 0, 1};
    memset(arena, 0, (size_t)(p->arena * p->group) * sizeof(float));
    for (t.n = index * job->r->N / job->tasks; t.n < end && !fastnn_stopped(); t.n += p->group) {
        t.images = i64_min(p->group, end - t.n);
        if (infer_group(&t)) job->failed = 1;
    }
}

/* -1: no memory */
KERNEL i64 region_infer_state_bytes(const struct region *r) {
    void *memory = malloc((size_t)infer_plan_bytes(r));
    if (!memory) return -1;
    const i64 floats = infer_make_plan(r, memory)->state;
    free(memory);
    return floats * (i64)sizeof(float);
}

KERNEL int region_infer_forward(const struct region *r, struct program *program) {
    struct infer_plan *p = r->state;
    if (!p->made) infer_make_plan(r, p);
    if (infer_pack(r, p)) return -1;
    if (r->N == 1) {
        struct infer_run t = {r, p, program->input, (float *)r->state + p->arena_at, 0, 1, fastnn_get_threads()};
        return infer_group(&t);
    }
    struct infer_job job = {r, p, program->input, i64_min(ceil_div(r->N, p->group), INFER_SHARES * fastnn_get_threads()), 0};
    fastnn_parallel(job.tasks, p->flops * (double)r->N, infer_some, &job);
    return job.failed ? -1 : 0;
}

#endif
