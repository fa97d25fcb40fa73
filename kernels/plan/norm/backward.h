/* The chain with batch norm, backward. See norm/plan.h for the layout.
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

#include "plan/norm/forward.h"

/* ---- sweeps over one block of channels of one image ---- */

struct normed_lanes { vf scale, shift, mean, from_d, from_z, from_one; };

INLINE struct normed_lanes normed_lanes_at(const struct normed_layer *m, const float *constants, i64 o) {
    const float *at = constants + o * VL;
    return (struct normed_lanes){
        v_load(at + NORMED_SCALE * m->Op), v_load(at + NORMED_SHIFT * m->Op), v_load(at + NORMED_MEAN * m->Op),
        v_load(at + NORMED_FROM_D * m->Op), v_load(at + NORMED_FROM_Z * m->Op), v_load(at + NORMED_FROM_ONE * m->Op),
    };
}

/* sum += g, product += g * (z - mean); d, its rows d_row floats apart, is copied to `keep` unless that is NULL */
INLINE void normed_sums_block(const i64 pool, const struct chain_layer *l, const float *restrict z, const float *restrict d,
                              i64 d_row, float *restrict keep, const struct normed_lanes *k, struct v_joined *sum,
                              struct v_joined *product) {
    const vf least = normed_least(l), scale = k->scale, shift = k->shift, mean = k->mean;
    const i64 PH = l->PH, PW = l->PW, row = l->OW * VL, pixels = l->OH * l->OW;
    if (chain_average(l)) {
        const vf share = v_load(d) / (float)pixels;
        for (i64 i = 0, end; i < pixels; i = end) {
            vf a = {0}, b = {0};
            end = i64_min(pixels, i + SUM_SHORT);
            for (; i < end; i++) {
                vf x = v_load(z + i * VL), g = v_select(x * scale + shift > least, share, (vf){0});
                a += g;
                b += g * (x - mean);
            }
            v_join(sum, a);
            v_join(product, b);
        }
        return;
    }
    vf a = {0}, b = {0};
    for (i64 h = 0, run = 0; h < PH; h++) for (i64 first = 0, end; first < PW; first = end) {
        end = i64_min(PW, first + SUM_SHORT);
        for (i64 w = first; w < end; w++) {
            const float *from = z + h * pool * row + w * pool * VL;
            vf best = least, winner = mean, all = v_load(d + h * d_row + w * VL);
            vi live = {0};
            for (i64 i = 0; i < pool; i++) for (i64 j = 0; j < pool; j++) {
                vf x = v_load(from + i * row + j * VL), y = x * scale + shift;
                vi better = y > best;
                winner = v_select(better, x, winner);
                best = v_select(better, y, best);
                live |= better;
            }
            vf g = v_select(live, all, (vf){0});
            a += g;
            b += g * (winner - mean);
            if (keep) v_store(keep + (h * PW + w) * VL, all);
        }
        run += end - first;
        if (run < SUM_RUN && (h + 1 < PH || end < PW)) continue;
        v_join(sum, a);
        v_join(product, b);
        a = b = (vf){0};
        run = 0;
    }
}

/* out (OH, OW) = gradient of z */
INLINE void normed_gradient_block(const i64 pool, const struct chain_layer *l, const float *restrict z, const float *restrict d,
                                  const struct normed_lanes *k, float *restrict out, i64 out_row) {
    const vf least = normed_least(l), scale = k->scale, shift = k->shift;
    const vf from_d = k->from_d, from_z = k->from_z, from_one = k->from_one;
    const i64 OH = l->OH, OW = l->OW, PH = l->PH, PW = l->PW, row = OW * VL;
    if (chain_average(l) || pool == 1) {
        const vf share = v_load(d) / (float)(OH * OW);
        const int average = chain_average(l);
        for (i64 h = 0; h < OH; h++) for (i64 w = 0; w < OW; w++, z += VL) {
            vf x = v_load(z), g = v_select(x * scale + shift > least, average ? share : v_load(d + (h * OW + w) * VL), (vf){0});
            v_store(out + h * out_row + w * VL, (x * from_z + from_one) + g * from_d);
        }
        return;
    }
    for (i64 h = 0; h < PH; h++) for (i64 w = 0; w < PW; w++, d += VL) {
        const float *from = z + h * pool * row + w * pool * VL;
        float *to = out + h * pool * out_row + w * pool * VL;
        vf best = least, g = v_load(d) * from_d;
        for (i64 i = 0; i < pool; i++) for (i64 j = 0; j < pool; j++)
            best = v_max(best, v_load(from + i * row + j * VL) * scale + shift);
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

/* sums: (NORMED_SUMS, Op); keep: d's place in the state, or NULL where d lies there already */
KERNEL void normed_sums_image(const struct normed_layer *m, const float *constants, const float *z, struct wide_view d, float *keep,
                              float *sums) {
    const struct chain_layer *l = m->l;
    const i64 pixels = l->PH * l->PW;
    for (i64 o = 0; o < m->OB; o++, z += l->OH * l->OW * VL, d.at += d.plane) {
        struct normed_lanes k = normed_lanes_at(m, constants, o);
        struct v_joined sum = normed_sum(m, sums, NORMED_FIRST, o * VL), product = normed_sum(m, sums, NORMED_SECOND, o * VL);
        float *to = keep ? keep + o * pixels * VL : NULL;
        if (l->pool == 1) normed_sums_block(1, l, z, d.at, d.row, to, &k, &sum, &product);
        else if (l->pool == 2) normed_sums_block(2, l, z, d.at, d.row, to, &k, &sum, &product);
        else normed_sums_block(l->pool, l, z, d.at, d.row, to, &k, &sum, &product);
        normed_set_sum(m, sums, NORMED_FIRST, o * VL, sum);
        normed_set_sum(m, sums, NORMED_SECOND, o * VL, product);
    }
}

KERNEL void normed_gradient_image(const struct normed_layer *m, const float *constants, const float *z, const float *d,
                                  struct wide_view out) {
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
            sum += normed_exact(m, normed_block_sums(p, b), NORMED_FIRST, o);
            product += normed_exact(m, normed_block_sums(p, b), NORMED_SECOND, o);
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
    const int blocks = job->layer && !m->winograd;      /* the order of partial: see ops/wide_conv.h */
    for (i64 tap = 0; tap < taps; tap++) {
        const float *from = job->partial + (blocks ? wide_conv_entry(&s, VL, c, tap) : wide_conv_entry(&s, 1, c, tap)) * m->Op;
        for (i64 o = 0; o < l->O; o += VL) {
            vf sum = {0};
            for (i64 b = 0; b < p->blocks; b++) sum += v_load(from + b * p->most_partial + o);
            for (i64 k = 0; k < i64_min(VL, l->O - o); k++) l->grad_weight[((o + k) * l->C + c) * taps + tap] = sum[k];
        }
    }
}

/* ---- passes ---- */

INLINE struct wide_view normed_compact(const struct chain_layer *l, float *d) {
    return (struct wide_view){d, l->PH * l->PW * VL, l->PW * VL};
}

/* The last layer's d from grad_y, and its sums */
static void normed_upstream_block(void *context, int64_t index) {
    struct normed_job *job = context;
    const struct normed_plan *p = job->plan;
    const i64 layer = p->c->layers - 1, block = normed_turn(p, job->pass, index);
    const struct normed_layer *m = &p->layer[layer];
    const i64 pixels = m->l->PH * m->l->PW;
    float *sums = normed_block_sums(p, block);
    memset(sums, 0, (size_t)(NORMED_SUMS * m->Op) * sizeof *sums);
    for (i64 n = normed_block_begin(p, block); n < normed_block_begin(p, block + 1); n++) {
        const struct wide_view d = normed_compact(m->l, normed_d(p, layer, n));
        wide_to_blocks(m->l->O, m->l->PH, m->l->PW, p->c->grad_y + n * m->l->O * pixels, pixels, d);
        normed_sums_image(m, normed_constants(p, layer), normed_z(p, layer, n), d, NULL, sums);
    }
}

/* What a task of a backward pass has in hand; weight: the sums of the weight gradient, for Winograd's way transformed, in product */
struct normed_hands { float *input, *grad, *input_grad, *image, *work, *product, *partial; struct joined weight; };

/* Winograd: weight = or += weight gradient of `count` images, input_grad, bordered as the input is */
KERNEL void normed_gradients_winograd(const struct normed_layer *m, i64 count, int add, int wants_input, const float *packed,
                                      struct normed_hands *h) {
    const struct winograd w = normed_winograd(m->l);
    const i64 size = wide_place_floats(&m->input);
    if (wants_input) memset(h->input_grad, 0, (size_t)(count * size) * sizeof(float));
    winograd_backward(&w, count, add, packed, wide_bordered(&m->input, h->input), size, wide_bordered(&m->grad, h->grad),
                      wide_place_floats(&m->grad), m->l->grad_weight ? &h->weight : NULL, wants_input ? h->input_grad : NULL, h->work);
}

/* Direct, one image: weight += weight gradient, image = input gradient */
KERNEL void normed_gradients_direct(const struct normed_layer *m, int first, int wants_input, const float *packed,
                                    struct normed_hands *h) {
    const struct chain_layer *l = m->l;
    const struct wide_conv s = normed_conv(l), t = normed_conv_input(l);
    const struct wide_view grad = wide_interior(&m->grad, h->grad), input = wide_bordered(&m->input, h->input);
    if (l->grad_weight) (first ? wide_conv_weight_planes : wide_conv_weight)(&s, input, grad, &h->weight);
    const struct wide_view image = {h->image, l->H * l->W * VL, l->W * VL};
    if (wants_input) wide_conv_forward(&t, packed, NULL, wide_bordered(&m->grad, h->grad), image);
}

/* Whether anything before layer l wants a gradient */
INLINE int normed_wants_input(const struct chain *c, i64 layer) {
    int wants = c->grad_x != NULL;
    for (i64 i = 0; i < layer; i++) {
        const struct chain_layer *l = &c->layer[i];
        wants |= l->grad_weight || l->grad_bias || l->grad_gamma || l->grad_beta;
    }
    return wants;
}

static int normed_take(const struct normed_plan *p, struct normed_hands *h) {
    const i64 floats = 2 * p->input_floats + p->work_floats + p->product_floats;
    h->input = fastnn_scratch(SCRATCH_CONV_IMAGE, (size_t)floats * sizeof(float));
    h->grad = fastnn_scratch(SCRATCH_CONV_OUTPUT, (size_t)(p->grad_floats + p->image_floats) * sizeof(float));
    if (!h->input || !h->grad) return -1;
    h->input_grad = h->input + p->input_floats;
    h->work = h->input_grad + p->input_floats;
    h->product = h->work + p->work_floats;
    h->image = h->grad + p->grad_floats;
    return 0;
}

static void normed_backward_block(void *context, int64_t index) {
    struct normed_job *job = context;
    const struct normed_plan *p = job->plan;
    const i64 layer = job->layer, block = normed_turn(p, job->pass, index);
    const i64 begin = normed_block_begin(p, block), end = normed_block_begin(p, block + 1);
    const struct normed_layer *m = &p->layer[layer], *before = m - 1;
    const struct chain_layer *l = m->l;
    const i64 pixels = l->H * l->W;
    const int wants_input = normed_wants_input(p->c, layer);
    const float *packed = job->packed + m->transposed_at, *constants = layer ? normed_constants(p, layer - 1) : NULL;
    float *sums = normed_block_sums(p, block);
    struct normed_hands hands = {.partial = job->partial + block * p->most_partial};
    if (normed_take(p, &hands)) { job->failed = 1; return; }
    normed_clear(&m->input, m->group, hands.input);
    normed_clear(&m->grad, m->group, hands.grad);
    if (m->winograd) {
        const struct winograd w = normed_winograd(l);
        hands.weight = joined_at(hands.product, WINOGRAD_POINTS * winograd_step(w.Cp, w.Op), m->runs);
    } else {
        hands.weight = joined_at(hands.partial, m->partial_floats, m->runs);
        memset(hands.partial, 0, (size_t)m->partial_floats * sizeof(float));
    }
    if (wants_input && layer) memset(sums, 0, (size_t)(NORMED_SUMS * before->Op) * sizeof *sums);
    for (i64 n = begin; n < end && !fastnn_stopped(); n += m->group) {
        const i64 count = i64_min(m->group, end - n);
        for (i64 k = 0; k < count; k++)
            normed_gradient_image(m, normed_constants(p, layer), normed_z(p, layer, n + k), normed_d(p, layer, n + k),
                                  wide_interior(&m->grad, hands.grad + k * wide_place_floats(&m->grad)));
        if (l->grad_weight) normed_load_input(job, layer, constants, n, count, layer ? normed_z(p, layer - 1, n) : NULL, hands.input);
        if (m->winograd) normed_gradients_winograd(m, count, n > begin, wants_input, packed, &hands);
        else normed_gradients_direct(m, layer == 0, wants_input, packed, &hands);
        if (!wants_input) continue;
        if (layer == 0) wide_from_blocks(l->C, pixels, hands.image, pixels * VL, p->c->grad_x + n * l->C * pixels, pixels);
        else for (i64 k = 0; k < count; k++) {
            struct wide_view d = m->winograd ? wide_interior(&m->input, hands.input_grad + k * wide_place_floats(&m->input))
                                             : normed_compact(before->l, hands.image);
            normed_sums_image(before, constants, normed_z(p, layer - 1, n + k), d, normed_d(p, layer - 1, n + k), sums);
        }
    }
    if (l->grad_weight) joined_end(&hands.weight);
    if (m->winograd && l->grad_weight) {
        const struct winograd w = normed_winograd(l);
        winograd_weight_unpack(&w, hands.product, hands.partial);
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
    fastnn_parallel(plan.blocks, chain_flops(c), normed_upstream_block, &job);
    for (i64 l = c->layers - 1; l >= 0; l--) {
        job.pass++;
        job.layer = l;
        normed_join_sums(&plan, l);
        if (!plan.layer[l].l->grad_weight && !normed_wants_input(c, l)) break;
        fastnn_parallel(plan.blocks, chain_flops(c), normed_backward_block, &job);
        if (plan.layer[l].l->grad_weight)
            fastnn_parallel(c->layer[l].C, 2.0 * (double)(plan.blocks * plan.layer[l].partial_floats), normed_add_partials, &job);
    }
    return job.failed ? -1 : 0;
}

#endif
