/* The chain with batch norm, forward. See norm/plan.h for the layout.
 *
 * Training: a pass a layer, over all blocks of images: padded input from the layer before's z, convolution to z, statistics of z
 * while it is in cache; then the blocks' statistics are joined. Not training: nothing couples the images, so a block goes through
 * all layers at once, its z in scratch; the running statistics make scale and shift.
 */
#ifndef FASTNN_NORM_CHAIN_FORWARD_H
#define FASTNN_NORM_CHAIN_FORWARD_H

#include "plan/norm/plan.h"
#include "base/threads.h"
#include "parts/moments.h"

struct normed_job {
    const struct normed_plan *plan;
    const struct program *program;
    i64 pass, layer;
    float *packed;                          /* weights as the pass wants them */
    float *constants;                       /* not training: all layers' */
    float *partial;                         /* (blocks, most_partial), backward */
    int failed;
};

/* ---- output of a layer from its z ---- */

INLINE vf normed_least(const struct chain_layer *l) { return v_set1(chain_relu(l) ? 0.0f : -INFINITY); }

/* one block of channels: z (OH, OW, VL) -> PH x PW pixels */
INLINE void normed_activate_block(const i64 pool, const struct chain_layer *l, const float *restrict z, vf scale, vf shift,
                                  float *restrict out, i64 out_row) {
    const vf least = normed_least(l);
    const i64 PH = l->PH, PW = l->PW, row = l->OW * VL;
    for (i64 h = 0; h < PH; h++) for (i64 w = 0; w < PW; w++) {
        const float *from = z + h * pool * row + w * pool * VL;
        vf best = least;
        for (i64 i = 0; i < pool; i++) for (i64 j = 0; j < pool; j++) {
            const vf y = v_load(from + i * row + j * VL) * scale + shift;
            best = pool == 1 ? v_max(best, y) : v_max_nan(best, y);
        }
        v_store(out + h * out_row + w * VL, best);
    }
}

/* global average */
INLINE vf normed_average_block(const struct chain_layer *l, const float *z, vf scale, vf shift) {
    const vf least = normed_least(l);
    struct folded sum = {};
    for (i64 i = 0; i < l->OH * l->OW; i++) fold(&sum, v_max(least, v_load(z + i * VL) * scale + shift), i);
    return folded_sum(sum) / (float)(l->OH * l->OW);
}

/* one image of layer m: z -> out */
KERNEL void normed_activate(const struct normed_layer *m, const float *constants, const float *z, struct wide_view out) {
    const struct chain_layer *l = m->l;
    for (i64 o = 0; o < m->OB; o++, z += l->OH * l->OW * VL, out.at += out.plane) {
        vf scale = v_load(constants + NORMED_SCALE * m->Op + o * VL), shift = v_load(constants + NORMED_SHIFT * m->Op + o * VL);
        if (chain_average(l)) v_store(out.at, normed_average_block(l, z, scale, shift));
        else if (l->pool == 1) normed_activate_block(1, l, z, scale, shift, out.at, out.row);
        else if (l->pool == 2) normed_activate_block(2, l, z, scale, shift, out.at, out.row);
        else normed_activate_block(l->pool, l, z, scale, shift, out.at, out.row);
    }
}

/* ---- a pass's convolution ---- */

INLINE const void *normed_input(const struct normed_job *job) {
    const struct chain *c = job->plan->c;
    return c->x && !c->table ? c->x : job->program->input;
}

/* images n .. n + count of layer l's padded input; z: of the layer before, image n */
KERNEL void normed_load_input(const struct normed_job *job, i64 l, const float *constants, i64 n, i64 count, const float *z,
                              float *to) {
    const struct normed_plan *p = job->plan;
    const struct wide_place *place = &p->layer[l].input;
    for (i64 k = 0; k < count; k++, to += wide_place_floats(place)) {
        if (l == 0) wide_load_image(place, normed_input(job), p->c->table, n + k, to);
        else normed_activate(&p->layer[l - 1], constants, z + k * p->layer[l - 1].z_image, wide_interior(place, to));
    }
}

KERNEL void normed_convolve(const struct normed_layer *m, i64 first, i64 count, const float *packed, float *input, float *z,
                            float *work) {
    const struct chain_layer *l = m->l;
    const struct wide_view src = wide_bordered(&m->input, input), dst = {z, l->OH * l->OW * VL, l->OW * VL};
    if (m->winograd) {
        struct winograd w = normed_winograd(l);
        winograd_forward(&w, count, packed, src, wide_place_floats(&m->input), dst, m->z_image, work);
        return;
    }
    const struct wide_conv s = normed_conv(l);
    for (i64 k = 0; k < count; k++) {
        struct wide_view from = src, to = dst;
        from.at += k * wide_place_floats(&m->input);
        to.at += k * m->z_image;
        if (first) wide_conv_forward_planes(&s, packed, NULL, from, to);
        else wide_conv_forward(&s, packed, NULL, from, to);
    }
}

/* ---- statistics ---- */

/* scale and shift of y = (z + bias - mean) / sqrt(var + eps) * gamma + beta; var about mean, which is that of z without bias */
KERNEL void normed_fold(const struct normed_layer *m, i64 o, double mean, double var, float *constants) {
    const struct chain_layer *l = m->l;
    double scale = (l->gamma ? l->gamma[o] : 1.0) / sqrt(var + l->eps);
    constants[NORMED_SCALE * m->Op + o] = (float)scale;
    constants[NORMED_SHIFT * m->Op + o] = (float)((l->beta ? l->beta[o] : 0.0) - mean * scale);
    constants[NORMED_MEAN * m->Op + o] = (float)mean;
    constants[NORMED_FROM_Z * m->Op + o] = (float)var;        /* until backward */
}

/* From the blocks' statistics */
KERNEL void normed_join(const struct normed_plan *p, i64 layer) {
    const struct normed_layer *m = &p->layer[layer];
    const struct chain_layer *l = m->l;
    const double pixels = (double)(l->OH * l->OW), count = pixels * (double)p->c->N;
    for (i64 o = 0; o < l->O; o++) {
        double mean = 0, squares = 0, seen = 0, bias = l->bias ? l->bias[o] : 0;
        for (i64 b = 0; b < p->blocks; b++) {
            const float *sums = normed_block_sums(p, b);
            double values = pixels * (double)(normed_block_begin(p, b + 1) - normed_block_begin(p, b));
            double delta = normed_exact(m, sums, NORMED_FIRST, o) - mean;
            mean += delta * values / (seen + values);
            squares += normed_exact(m, sums, NORMED_SECOND, o) + delta * delta * seen * values / (seen + values);
            seen += values;
        }
        normed_fold(m, o, mean, squares / count, normed_constants(p, layer));
        if (l->running_mean) l->running_mean[o] += (float)(l->momentum * (mean + bias - l->running_mean[o]));
        if (l->running_var) l->running_var[o] += (float)(l->momentum * (squares / fmax(count - 1, 1) - l->running_var[o]));
    }
}

/* What is known before any image: all of it without norm, or with running statistics */
KERNEL void normed_constants_given(const struct normed_layer *m, int training, float *constants) {
    const struct chain_layer *l = m->l;
    memset(constants, 0, (size_t)(NORMED_CONSTANTS * m->Op) * sizeof *constants);
    for (i64 o = 0; o < l->O; o++) {
        double bias = l->bias ? l->bias[o] : 0;
        if (l->norm) {
            if (!training) normed_fold(m, o, l->running_mean[o] - bias, l->running_var[o], constants);
            continue;
        }
        constants[NORMED_SCALE * m->Op + o] = constants[NORMED_FROM_D * m->Op + o] = 1;
        constants[NORMED_SHIFT * m->Op + o] = (float)bias;
    }
}

/* ---- passes ---- */

enum { NORMED_PACK_ROWS = 8 };                /* of Winograd's weights, a task */

/* Task: some rows of a layer's weights, layers in order; transposed for the input gradients */
INLINE void normed_pack_rows(const struct normed_job *job, int transposed, i64 index) {
    const struct normed_plan *p = job->plan;
    for (i64 i = 0; i < p->c->layers; i++) {
        const struct normed_layer *m = &p->layer[i];
        const struct winograd w = transposed ? normed_winograd_exchanged(m->l) : normed_winograd(m->l);
        const struct wide_conv s = normed_conv(m->l);
        float *to = job->packed + (transposed ? m->transposed_at : m->packed_at);
        i64 tasks = m->winograd ? ceil_div(w.C, NORMED_PACK_ROWS) : 1;
        if (index >= tasks) {
            index -= tasks;
            continue;
        }
        i64 row = index * NORMED_PACK_ROWS;
        if (m->winograd) winograd_pack(&w, m->l->weight, transposed, to, row, i64_min(w.C, row + NORMED_PACK_ROWS));
        else if (transposed) wide_conv_pack_transposed(&s, m->l->weight, to);
        else if (i == 0) wide_conv_pack_planes(&s, m->l->weight, to);
        else wide_conv_pack(&s, m->l->weight, to);
        return;
    }
}
static void normed_pack_forward(void *job, int64_t index) { normed_pack_rows(job, 0, index); }
static void normed_pack_backward(void *job, int64_t index) { normed_pack_rows(job, 1, index); }

KERNEL void normed_pack(struct normed_job *job, int transposed) {
    i64 tasks = 0, weights = 0;
    for (i64 i = 0; i < job->plan->c->layers; i++) {
        const struct normed_layer *m = &job->plan->layer[i];
        tasks += m->winograd ? ceil_div(transposed ? m->l->O : m->l->C, NORMED_PACK_ROWS) : 1;
        weights += m->l->C * m->l->O;
    }
    fastnn_parallel(tasks, 200.0 * (double)weights, transposed ? normed_pack_backward : normed_pack_forward, job);
}

/* A task's buffers, their borders cleared for layer l */
INLINE void normed_clear(const struct wide_place *place, i64 count, float *at) {
    for (i64 k = 0; k < count; k++) wide_clear_border(place, at + k * wide_place_floats(place));
}

static void normed_forward_block(void *context, int64_t index) {
    struct normed_job *job = context;
    const struct normed_plan *p = job->plan;
    const i64 layer = job->layer, block = normed_turn(p, job->pass, index), end = normed_block_begin(p, block + 1);
    const struct normed_layer *m = &p->layer[layer];
    const i64 pixels = m->l->OH * m->l->OW;
    float *input = fastnn_scratch(SCRATCH_CONV_IMAGE, (size_t)(p->input_floats + p->work_floats) * sizeof *input);
    if (!input) { job->failed = 1; return; }
    normed_clear(&m->input, m->group, input);
    const float *constants = layer ? normed_constants(p, layer - 1) : NULL;
    float *sums = normed_block_sums(p, block);
    i64 seen = 0;
    for (i64 n = normed_block_begin(p, block); n < end && !fastnn_stopped(); n += m->group) {
        const i64 count = i64_min(m->group, end - n);
        normed_load_input(job, layer, constants, n, count, layer ? normed_z(p, layer - 1, n) : NULL, input);
        normed_convolve(m, layer == 0, count, job->packed + m->packed_at, input, normed_z(p, layer, n), input + p->input_floats);
        if (m->l->norm) for (i64 k = 0; k < count; k++, seen += pixels) for (i64 o = 0; o < m->OB; o++) {
            struct v_joined mean = normed_sum(m, sums, NORMED_FIRST, o * VL), squares = normed_sum(m, sums, NORMED_SECOND, o * VL);
            v_moments(seen, pixels, m->l->OW, normed_z(p, layer, n + k) + o * pixels * VL, &mean, &squares);
            normed_set_sum(m, sums, NORMED_FIRST, o * VL, mean);
            normed_set_sum(m, sums, NORMED_SECOND, o * VL, squares);
        }
    }
}

/* The last layer's output of one image, channels first; image: PH * PW * Op floats of scratch */
KERNEL void normed_store_output(const struct normed_plan *p, const float *constants, i64 n, const float *z, float *image) {
    const struct normed_layer *m = &p->layer[p->c->layers - 1];
    const i64 pixels = m->l->PH * m->l->PW;
    normed_activate(m, constants, z, (struct wide_view){image, pixels * VL, m->l->PW * VL});
    wide_from_blocks(m->l->O, pixels, image, pixels * VL, p->c->y + n * m->l->O * pixels, pixels);
}

static void normed_output_block(void *context, int64_t index) {
    struct normed_job *job = context;
    const struct normed_plan *p = job->plan;
    const i64 layer = p->c->layers - 1, block = normed_turn(p, job->pass, index);
    float *image = fastnn_scratch(SCRATCH_CONV_IMAGE, (size_t)p->layer[layer].d_image * sizeof *image);
    if (!image) { job->failed = 1; return; }
    for (i64 n = normed_block_begin(p, block); n < normed_block_begin(p, block + 1); n++)
        normed_store_output(p, normed_constants(p, layer), n, normed_z(p, layer, n), image);
}

/* Not training: images of one block through all layers, z of the layer before and this one in turn in the same place */
static void normed_infer_block(void *context, int64_t index) {
    struct normed_job *job = context;
    const struct normed_plan *p = job->plan;
    const i64 at = index * p->c->N / job->pass, end = (index + 1) * p->c->N / job->pass, images = end - at;
    const i64 floats = p->input_floats + p->work_floats + images * p->image_floats;
    float *input = fastnn_scratch(SCRATCH_CONV_IMAGE, (size_t)floats * sizeof *input);
    float *image = fastnn_scratch(SCRATCH_CONV_OUTPUT, (size_t)(images * p->image_floats) * sizeof *image);
    if (!input || !image) { job->failed = 1; return; }
    float *work = input + p->input_floats, *z = work + p->work_floats, *before = image;
    const float *constants = NULL;
    for (i64 l = 0; l < p->c->layers; l++) {
        const struct normed_layer *m = &p->layer[l];
        normed_clear(&m->input, m->group, input);
        for (i64 k = 0; k < images; k += m->group) {
            const i64 count = i64_min(m->group, images - k);
            normed_load_input(job, l, constants, at + k, count, l ? before + k * p->layer[l - 1].z_image : NULL, input);
            normed_convolve(m, l == 0, count, job->packed + m->packed_at, input, z + k * m->z_image, work);
        }
        constants = job->constants + m->constants_at;
        float *other = before;
        before = z;
        z = other;
    }
    for (i64 k = 0; k < images; k++)
        normed_store_output(p, constants, at + k, before + k * p->layer[p->c->layers - 1].z_image, z);
}

static int normed_infer(struct normed_job *job) {
    struct normed_plan plan = *job->plan;     /* constants lie close together: there is no z between them */
    i64 floats = plan.packed_floats;
    for (i64 l = 0; l < plan.c->layers; l++)
        plan.layer[l].constants_at = normed_reserve(&floats, NORMED_CONSTANTS * plan.layer[l].Op);
    job->plan = &plan;
    job->packed = job->constants = fastnn_scratch(SCRATCH_CONV_WEIGHT, (size_t)floats * sizeof(float));
    if (!job->packed) return -1;
    for (i64 l = 0; l < plan.c->layers; l++) normed_constants_given(&plan.layer[l], 0, job->constants + plan.layer[l].constants_at);
    normed_pack(job, 0);
    job->pass = ceil_div(plan.c->N, 4);     /* tasks: nothing is summed, so blocks may be small */
    fastnn_parallel(job->pass, chain_flops(plan.c), normed_infer_block, job);
    return job->failed ? -1 : 0;
}

KERNEL int norm_chain_forward(const void *arguments, struct program *program) {
    const struct chain *c = arguments;
    const struct normed_plan plan = normed_make_plan(c);
    struct normed_job job = {.plan = &plan, .program = program};
    if (!c->training) return normed_infer(&job);
    job.packed = fastnn_scratch(SCRATCH_CONV_WEIGHT, (size_t)plan.packed_floats * sizeof(float));
    if (!job.packed) return -1;
    normed_pack(&job, 0);
    for (i64 l = 0; l < c->layers; l++, job.pass++) {
        const struct normed_layer *m = &plan.layer[l];
        job.layer = l;
        normed_constants_given(m, 1, normed_constants(&plan, l));
        fastnn_parallel(plan.blocks, chain_flops(c), normed_forward_block, &job);
        if (m->l->norm) normed_join(&plan, l);
    }
    fastnn_parallel(plan.blocks, chain_flops(c), normed_output_block, &job);
    return job.failed ? -1 : 0;
}

#endif
