/* The chain with batch norm, backward. See norm_chain_plan.h for the layout.
 *
 *   d          gradient of a layer's output (after pooling); through ReLU and pooling it is g, zero but where y won and is positive
 *   grad_beta  = sum g,  grad_gamma = sum g * xhat              over the batch, xhat = (z - mean) / sqrt(var + eps)
 *   grad z     = scale * (g - grad_beta / m - xhat * grad_gamma / m)      m = N * OH * OW
 *
 * A pass a layer, from the last: gradient of z, padded, from d and z; input of the layer again from the z before; weight gradient;
 * input gradient, which is the d of the layer before, and while that is in cache its two sums. The sums of the blocks, joined,
 * make three constants with which the next pass gets its gradient of z from d and z in one sweep.
 */
#ifndef FASTNN_NORM_CHAIN_BACKWARD_H
#define FASTNN_NORM_CHAIN_BACKWARD_H

#include "norm_chain_forward.h"

/* ---- sweeps over one block of channels of one image ---- */

struct normed_lanes { vf scale, shift, mean, from_d, from_z, from_one; };

INLINE struct normed_lanes normed_lanes_at(const struct normed_layer *m, const float *constants, i64 o) {
    const float *at = constants + o * VL;
    return (struct normed_lanes){v_load(at + NORMED_SCALE * m->Op), v_load(at + NORMED_SHIFT * m->Op), v_load(at + NORMED_MEAN * m->Op),
                               v_load(at + NORMED_FROM_D * m->Op), v_load(at + NORMED_FROM_Z * m->Op), v_load(at + NORMED_FROM_ONE * m->Op)};
}

/* sum += g, product += g * (z - mean) */
INLINE void normed_sums_block(const i64 pool, const struct chain_layer *l, const float *restrict z, const float *restrict d,
                              const struct normed_lanes *k, vf *sum, vf *product) {
    const vf least = normed_least(l), scale = k->scale, shift = k->shift, mean = k->mean;
    const i64 PH = l->PH, PW = l->PW, row = l->OW * VL, pixels = l->OH * l->OW;
    vf a = {0}, b = {0};
    if (l->global_average) {
        const vf share = v_load(d) / (float)pixels;
        for (i64 i = 0; i < pixels; i++) {
            vf x = v_load(z + i * VL), g = v_select(x * scale + shift > least, share, (vf){0});
            a += g;
            b += g * (x - mean);
        }
    } else for (i64 h = 0; h < PH; h++) for (i64 w = 0; w < PW; w++, d += VL) {
        const float *from = z + h * pool * row + w * pool * VL;
        vf best = least, winner = mean;
        vi live = {0};
        for (i64 i = 0; i < pool; i++) for (i64 j = 0; j < pool; j++) {
            vf x = v_load(from + i * row + j * VL), y = x * scale + shift;
            vi better = y > best;
            winner = v_select(better, x, winner);
            best = v_select(better, y, best);
            live |= better;
        }
        vf g = v_select(live, v_load(d), (vf){0});
        a += g;
        b += g * (winner - mean);
    }
    *sum += a;
    *product += b;
}

/* out (OH, OW) = gradient of z */
INLINE void normed_gradient_block(const i64 pool, const struct chain_layer *l, const float *restrict z, const float *restrict d,
                                  const struct normed_lanes *k, float *restrict out, i64 out_row) {
    const vf least = normed_least(l), scale = k->scale, shift = k->shift, from_d = k->from_d, from_z = k->from_z, from_one = k->from_one;
    const i64 OH = l->OH, OW = l->OW, PH = l->PH, PW = l->PW, row = OW * VL;
    if (l->global_average || pool == 1) {
        const vf share = v_load(d) / (float)(OH * OW);
        const int average = l->global_average;
        for (i64 h = 0; h < OH; h++) for (i64 w = 0; w < OW; w++, z += VL) {
            __builtin_prefetch(z + 24 * VL);
            __builtin_prefetch(d + (h * OW + w + 24) * VL);
            vf x = v_load(z), g = v_select(x * scale + shift > least, average ? share : v_load(d + (h * OW + w) * VL), (vf){0});
            v_store(out + h * out_row + w * VL, (x * from_z + from_one) + g * from_d);
        }
        return;
    }
    for (i64 h = 0; h < PH; h++) for (i64 w = 0; w < PW; w++, d += VL) {
        const float *from = z + h * pool * row + w * pool * VL;
        float *to = out + h * pool * out_row + w * pool * VL;
        vf best = least, g = v_load(d) * from_d;
        for (i64 i = 0; i < pool; i++) for (i64 j = 0; j < pool; j++) best = v_max(best, v_load(from + i * row + j * VL) * scale + shift);
        vi open = best > least;
        for (i64 i = 0; i < pool; i++) for (i64 j = 0; j < pool; j++) {
            vf x = v_load(from + i * row + j * VL);
            vi won = (x * scale + shift == best) & open;
            open &= ~won;
            v_store(to + i * out_row + j * VL, (x * from_z + from_one) + v_select(won, g, (vf){0}));
        }
    }
    for (i64 h = 0; h < OH; h++) for (i64 w = h < PH * pool ? PW * pool : 0; w < OW; w++)   /* dropped by pooling */
        v_store(out + h * out_row + w * VL, v_load(z + h * row + w * VL) * from_z + from_one);
}

/* sums: (2, Op) */
KERNEL void normed_sums_image(const struct normed_layer *m, const float *constants, const float *z, const float *d, float *sums) {
    const struct chain_layer *l = m->l;
    for (i64 o = 0; o < m->OB; o++, z += l->OH * l->OW * VL, d += l->PH * l->PW * VL) {
        struct normed_lanes k = normed_lanes_at(m, constants, o);
        vf sum = v_load(sums + o * VL), product = v_load(sums + m->Op + o * VL);
        if (l->pool == 1) normed_sums_block(1, l, z, d, &k, &sum, &product);
        else if (l->pool == 2) normed_sums_block(2, l, z, d, &k, &sum, &product);
        else normed_sums_block(l->pool, l, z, d, &k, &sum, &product);
        v_store(sums + o * VL, sum);
        v_store(sums + m->Op + o * VL, product);
    }
}

KERNEL void normed_gradient_image(const struct normed_layer *m, const float *constants, const float *z, const float *d, struct wide_view out) {
    const struct chain_layer *l = m->l;
    for (i64 o = 0; o < m->OB; o++, z += l->OH * l->OW * VL, d += l->PH * l->PW * VL, out.at += out.plane) {
        struct normed_lanes k = normed_lanes_at(m, constants, o);
        if (l->pool == 1) normed_gradient_block(1, l, z, d, &k, out.at, out.row);
        else if (l->pool == 2) normed_gradient_block(2, l, z, d, &k, out.at, out.row);
        else normed_gradient_block(l->pool, l, z, d, &k, out.at, out.row);
    }
}

/* ---- joining the blocks ---- */

/* The blocks' sums of a layer -> grad_beta, grad_gamma, grad_bias, and the constants of the gradient of z */
KERNEL void normed_join_sums(const struct normed_plan *p, i64 layer) {
    const struct normed_layer *m = &p->layer[layer];
    const struct chain_layer *l = m->l;
    const double count = (double)(p->c->N * l->OH * l->OW);
    float *k = normed_constants(p, layer);
    for (i64 o = 0; o < l->O; o++) {
        double sum = 0, product = 0;
        for (i64 b = 0; b < p->blocks; b++) {
            sum += normed_block_sums(p, b)[o];
            product += normed_block_sums(p, b)[m->Op + o];
        }
        if (!l->norm) {
            if (l->grad_bias) l->grad_bias[o] = (float)sum;
            continue;
        }
        double scale = k[NORMED_SCALE * m->Op + o], square = 1 / (k[NORMED_FROM_Z * m->Op + o] + l->eps);
        double from_z = -scale * square * product / count;
        if (l->grad_bias) l->grad_bias[o] = 0;      /* norm takes the mean away again */
        if (l->grad_beta) l->grad_beta[o] = (float)sum;
        if (l->grad_gamma) l->grad_gamma[o] = (float)(product * sqrt(square));
        k[NORMED_FROM_D * m->Op + o] = (float)scale;
        k[NORMED_FROM_Z * m->Op + o] = (float)from_z;
        k[NORMED_FROM_ONE * m->Op + o] = (float)(-scale * sum / count - from_z * k[NORMED_MEAN * m->Op + o]);
    }
}

/* Task: one input channel's weight gradient, the sum of the blocks' */
static void normed_add_partials(void *context, int64_t c) {
    struct normed_job *job = context;
    const struct normed_plan *p = job->plan;
    const struct normed_layer *m = &p->layer[job->layer];
    const struct chain_layer *l = m->l;
    const struct wide_conv s = normed_conv(l);
    const i64 taps = l->kh * l->kw;
    for (i64 tap = 0; tap < taps; tap++) {
        const float *from = job->partial + (job->layer && !m->winograd ? wide_conv_entry(&s, VL, c, tap) : wide_conv_entry(&s, 1, c, tap)) * m->Op;
        for (i64 o = 0; o < l->O; o += VL) {
            vf sum = {0};
            for (i64 b = 0; b < p->blocks; b++) sum += v_load(from + b * p->most_partial + o);
            for (i64 k = 0; k < i64_min(VL, l->O - o); k++) l->grad_weight[((o + k) * l->C + c) * taps + tap] = sum[k];
        }
    }
}

/* ---- passes ---- */

/* The last layer's d from grad_y, and its sums */
static void normed_upstream_block(void *context, int64_t index) {
    struct normed_job *job = context;
    const struct normed_plan *p = job->plan;
    const i64 layer = p->c->layers - 1, block = normed_turn(p, job->pass, index);
    const struct normed_layer *m = &p->layer[layer];
    const i64 pixels = m->l->PH * m->l->PW;
    float *sums = normed_block_sums(p, block);
    memset(sums, 0, (size_t)(2 * m->Op) * sizeof *sums);
    for (i64 n = normed_block_begin(p, block); n < normed_block_begin(p, block + 1); n++) {
        wide_to_blocks(m->l->O, pixels, p->c->grad_y + n * m->l->O * pixels, normed_d(p, layer, n), pixels * VL);
        normed_sums_image(m, normed_constants(p, layer), normed_z(p, layer, n), normed_d(p, layer, n), sums);
    }
}

/* `count` images' gradient of the input of layer l, to d of the layer before, or at the first to grad_x */
KERNEL void normed_input_gradient(const struct normed_plan *p, i64 layer, const float *packed, i64 n, i64 count, float *grad, float *image,
                                float *work) {
    const struct normed_layer *m = &p->layer[layer];
    const struct chain_layer *l = m->l;
    const i64 pixels = l->H * l->W, size = ceil_div(l->C, VL) * pixels * VL;
    for (i64 k = 0; k < count; k++) {       /* one by one where they go through `image` */
        const i64 together = layer ? count : 1;
        struct wide_view src = wide_bordered(&m->grad, grad + k * wide_place_floats(&m->grad));
        struct wide_view dst = {layer ? normed_d(p, layer - 1, n + k) : image, pixels * VL, l->W * VL};
        if (m->input_winograd) {
            const struct winograd w = normed_winograd_input(l);
            winograd_forward(&w, together, packed, src, wide_place_floats(&m->grad), dst, size, work);
            k += together - 1;
        } else {
            const struct wide_conv s = normed_conv_input(l);
            wide_conv_forward(&s, packed, NULL, src, dst);
        }
        if (layer == 0) wide_from_blocks(l->C, pixels, image, pixels * VL, p->c->grad_x + (n + k) * l->C * pixels);
    }
}

/* partial += `count` images' weight gradient; where by Winograd, product += */
KERNEL void normed_weight_gradient(const struct normed_layer *m, int first, i64 count, float *input, float *grad, float *product,
                                 float *partial, float *work) {
    const struct chain_layer *l = m->l;
    struct wide_view src = wide_bordered(&m->input, input), from = wide_interior(&m->grad, grad);
    if (m->winograd) {
        const struct winograd w = normed_winograd(l);
        winograd_weight(&w, count, src, wide_place_floats(&m->input), from, wide_place_floats(&m->grad), product, work);
        return;
    }
    const struct wide_conv s = normed_conv(l);
    for (i64 k = 0; k < count; k++, src.at += wide_place_floats(&m->input), from.at += wide_place_floats(&m->grad)) {
        if (first) wide_conv_weight_planes(&s, src, from, partial);
        else wide_conv_weight(&s, src, from, partial);
    }
}

static void normed_backward_block(void *context, int64_t index) {
    struct normed_job *job = context;
    const struct normed_plan *p = job->plan;
    const i64 layer = job->layer, block = normed_turn(p, job->pass, index), end = normed_block_begin(p, block + 1);
    const struct normed_layer *m = &p->layer[layer], *before = m - 1;
    const int wants_input = layer > 0 || p->c->grad_x, wants_weight = m->l->grad_weight != NULL;
    const i64 image_floats = layer ? 0 : round_up(p->image_floats, NORMED_ALIGN);
    float *input = fastnn_scratch(SCRATCH_CONV_IMAGE, (size_t)(p->input_floats + p->work_floats + p->product_floats) * sizeof *input);
    float *grad = fastnn_scratch(SCRATCH_CONV_OUTPUT, (size_t)(p->grad_floats + image_floats) * sizeof *grad);
    if (!input || !grad) { job->failed = 1; return; }
    float *work = input + p->input_floats, *product = work + p->work_floats, *partial = job->partial + block * p->most_partial;
    float *sums = normed_block_sums(p, block);
    normed_clear(&m->input, m->group, input);
    normed_clear(&m->grad, m->group, grad);
    memset(m->winograd ? product : partial, 0, (size_t)(m->winograd ? p->product_floats : p->most_partial) * sizeof *partial);
    if (layer) memset(sums, 0, (size_t)(2 * before->Op) * sizeof *sums);
    for (i64 n = normed_block_begin(p, block); n < end; n += m->group) {
        const i64 count = i64_min(m->group, end - n);
        for (i64 k = 0; k < count; k++)
            normed_gradient_image(m, normed_constants(p, layer), normed_z(p, layer, n + k), normed_d(p, layer, n + k),
                                wide_interior(&m->grad, grad + k * wide_place_floats(&m->grad)));
        if (wants_weight) {
            normed_load_input(job, layer, layer ? normed_constants(p, layer - 1) : NULL, n, count, layer ? normed_z(p, layer - 1, n) : NULL, input);
            normed_weight_gradient(m, layer == 0, count, input, grad, product, partial, work);
        }
        if (wants_input) normed_input_gradient(p, layer, job->packed + m->transposed_at, n, count, grad, grad + p->grad_floats, work);
        if (layer) for (i64 k = 0; k < count; k++)
            normed_sums_image(before, normed_constants(p, layer - 1), normed_z(p, layer - 1, n + k), normed_d(p, layer - 1, n + k), sums);
    }
    if (m->winograd && wants_weight) {
        const struct winograd w = normed_winograd(m->l);
        winograd_weight_unpack(&w, product, partial);
    }
}

KERNEL int norm_chain_backward(const void *arguments, struct program *program) {
    const struct chain *c = arguments;
    const struct normed_plan plan = normed_make_plan(c);
    struct normed_job job = {.plan = &plan, .program = program, .pass = 1};
    job.packed = fastnn_scratch(SCRATCH_CONV_WEIGHT, (size_t)plan.transposed_floats * sizeof(float));
    job.partial = fastnn_scratch(SCRATCH_PARTIAL, (size_t)(plan.blocks * plan.most_partial) * sizeof(float));
    if (!job.packed || !job.partial) return -1;
    normed_pack(&job, 1);
    fastnn_parallel(plan.blocks, normed_flops(c), normed_upstream_block, &job);
    for (i64 l = c->layers - 1; l >= 0; l--) {
        job.pass++;
        job.layer = l;
        normed_join_sums(&plan, l);
        fastnn_parallel(plan.blocks, normed_flops(c), normed_backward_block, &job);
        if (plan.layer[l].l->grad_weight)
            fastnn_parallel(c->layer[l].C, 2.0 * (double)(plan.blocks * plan.layer[l].partial_floats), normed_add_partials, &job);
    }
    return job.failed ? -1 : 0;
}

#endif
