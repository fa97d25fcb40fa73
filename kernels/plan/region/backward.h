/* Regions that train, backward: the operations of region/plan.h, segment by segment. */
#ifndef FASTNN_REGION_BACKWARD_H
#define FASTNN_REGION_BACKWARD_H

#include "plan/region/forward.h"
#include "plan/region/gradient.h"

/* ---- joins ---- */

INLINE vf region_mean(const struct region_hands *h, i64 v, i64 k, i64 o) {
    return v_load(region_constants(h->r, h->p, v, k) + REGION_MEAN * h->p->value[v].Cp + o);
}

/* Operation: d of JOIN v, image n -> g, its sums, and what it adds to the gradients of sources that are not normed. fresh: what the
 * convolution just made of d, unless .at is NULL; there: more of it lies in d. */
KERNEL void region_form_backward(const struct region_hands *h, const struct region_op *op, i64 n, struct wide_view fresh, int there) {
    const i64 v = op->node;
    const struct region_node *j = &h->r->node[v];
    const struct region_value *m = &h->p->value[v];
    const i64 plane = region_inner(j) * VL, d_plane = j->H * j->W * VL;
    const int from_y = region_from_y(j, m->kept), pooled = j->pool != POOL_NONE, winners = region_by_winners(h->r, v);
    const int slope_from_y = activation_slope_from_y((int)j->activation, j->parameter);
    const float *y = from_y ? region_value_at(h, v, n) : NULL, *stored = region_at(h, &m->d, n);
    float *g = region_at(h, region_g(h->r, (struct region_plan *)h->p, v), n);
    const i64 g_plane = winners ? d_plane : plane;
    for (i64 o = 0; o < m->CB; o++, g += g_plane, stored += d_plane, fresh.at += fresh.plane) {
        struct region_terms t = {.count = 1, .parameter = v_set1((float)j->parameter)};
        struct region_grads d = {stored, NULL, j->W * VL, j->W * VL};
        const float *values = from_y ? y + o * plane : NULL;
        if (op->fresh) d = (struct region_grads){fresh.at, there ? stored : NULL, fresh.row, j->W * VL};
        if (!from_y || j->norm[0].used) t = region_terms(h, v, n, o);
        else t.x[0] = values;
        struct region_two_sums sums[REGION_MOST_SOURCES];
        for (i64 k = 0; k < j->sources; k++) {
            const float *at = region_sums(h->r, h->p, v, k, h->block);
            sums[k] = (struct region_two_sums){region_get_sum(at, m->Cp, REGION_FIRST, o * VL), region_get_sum(at, m->Cp, REGION_SECOND, o * VL)};
        }
        if (winners) {
            region_winners(j, &t, &d, g, region_mean(h, v, 0, o * VL), &sums[0]);
        } else {
            if (pooled) {
                if (j->pool == POOL_MAX || (slope_from_y && j->activation != ACTIVATION_NONE)) {
                    region_activate((int)j->activation, &t, j->inner_H, j->inner_W, h->plane, j->inner_W * VL);
                    values = slope_from_y ? h->plane : NULL;
                }
                region_unpool_plane(j, h->plane, &d, g);
                d = (struct region_grads){g, NULL, j->inner_W * VL, 0};
            }
            region_slope((int)j->activation, &t, j->inner_H, j->inner_W, values, &d, g, region_mean(h, v, 0, o * VL), &sums[0]);
        }
        for (i64 k = 0; k < j->sources; k++) {
            float *at = region_sums(h->r, h->p, v, k, h->block);
            if (k && region_wants_sums(h->r, j, k))
                region_gradient_sums(region_inner(j), g, j->norm[k].used ? region_value_at(h, j->source[k], n) + o * plane : g,
                                     region_mean(h, v, k, o * VL), &sums[k].sum, &sums[k].product);
            region_set_sum(at, m->Cp, REGION_FIRST, o * VL, sums[k].sum);
            region_set_sum(at, m->Cp, REGION_SECOND, o * VL, sums[k].product);
        }
    }
    g -= m->CB * g_plane;
    for (i64 k = 0; k < j->sources; k++) {
        const i64 s = j->source[k];
        if (j->norm[k].used || h->r->node[s].kind == REGION_CONV || !h->p->value[s].has) continue;
        const struct wide_view from = {g, plane, plane}, to = {region_at(h, &h->p->value[s].d, n), plane, plane};
        region_copy(m->CB, 1, region_inner(j), op->add >> k & 1, from, to);
    }
}

/* out (inner_H, inner_W) = or += gradient of source k of JOIN v, image n */
KERNEL void region_source_gradient(const struct region_hands *h, i64 v, i64 k, i64 n, int add, struct wide_view out) {
    const struct region_node *j = &h->r->node[v];
    const struct region_value *m = &h->p->value[v];
    const i64 H = j->inner_H, W = j->inner_W, plane = H * W * VL;
    const int winners = region_by_winners(h->r, v);
    const float *g = region_at(h, region_g(h->r, (struct region_plan *)h->p, v), n);
    if (!j->norm[k].used && !winners) {
        region_copy(m->CB, H, W, add, (struct wide_view){(float *)g, plane, W * VL}, out);
        return;
    }
    const float *x = region_value_at(h, j->source[k], n);
    for (i64 o = 0; o < m->CB; o++, out.at += out.plane) {
        const float *c = region_constants(h->r, h->p, v, k) + o * VL;
        const vf from_g = v_load(c + REGION_FROM_G * m->Cp), from_x = v_load(c + REGION_FROM_X * m->Cp), from_one = v_load(c + REGION_FROM_ONE * m->Cp);
        const vf mean = v_load(c + REGION_MEAN * m->Cp);
        if (winners) {
            const vf scale = v_load(c + REGION_SCALE * m->Cp), shift = v_load(c + REGION_SHIFT * m->Cp);
            if (j->pool_h == 2 && j->pool_w == 2) region_winners_gradient(2, 2, j, x, g, scale, shift, mean, from_g, from_x, from_one, out.at, out.row);
            else region_winners_gradient(j->pool_h, j->pool_w, j, x, g, scale, shift, mean, from_g, from_x, from_one, out.at, out.row);
            x += plane, g += j->H * j->W * VL;
            continue;
        }
        for (i64 i = 0; i < H; i++) for (i64 w = 0; w < W * VL; w += VL, x += VL, g += VL) {
            float *to = out.at + i * out.row + w;
            const vf grad = ((v_load(x) - mean) * from_x + from_one) + v_load(g) * from_g;
            v_store(to, add ? v_load(to) + grad : grad);
        }
    }
}

/* ---- operations ---- */

/* weight: the sums of the weight's gradient, by node */
KERNEL void region_run_convolve_backward(const struct region_hands *h, const struct region_op *op, struct joined *weight) {
    const struct region_node *c = &h->r->node[op->node];
    const struct region_value *m = &h->p->value[op->node], *source = &h->p->value[c->source[0]];
    const struct region_conv *conv = &m->conv;
    region_clear(conv, &conv->grad, h->count, h->grad);
    for (i64 k = 0; k < h->count; k++) region_source_gradient(h, m->join, m->slot, h->n + k, 0, region_cell(conv, &conv->grad, h->grad, k));
    if (c->grad_weight) region_load(h, op->node, h->input);
    region_convolve_backward(conv, h->count, h->n > h->begin, h->job->packed + conv->transposed_at, h->input, h->grad,
                             c->grad_weight ? &weight[op->node] : NULL, source->has ? h->input_grad : NULL, h->work);
    if (!source->has || op->fresh) return;
    const struct region_node *x = &h->r->node[c->source[0]];
    for (i64 k = 0; k < h->count; k++)
        region_copy(source->CB, x->H, x->W, op->add, region_input_grad(conv, h->input_grad, k), region_compact(x, region_at(h, &source->d, h->n + k)));
}

/* An image of what has the shape (C, H, W) outside -> d */
KERNEL void region_grad_output(const struct region_hands *h, const struct region_op *op, i64 n) {
    const struct region_node *s = &h->r->node[op->node];
    const i64 pixels = s->H * s->W;
    const struct wide_view d = region_compact(s, region_at(h, &h->p->value[op->node].d, n)), turned = region_compact(s, h->input);
    wide_to_blocks(s->C, s->H, s->W, s->grad_y + n * s->C * pixels, pixels, op->add ? turned : d);
    if (op->add) region_copy(h->p->value[op->node].CB, s->H, s->W, 1, turned, d);
}

KERNEL void region_concatenate_backward(const struct region_hands *h, const struct region_op *op, i64 n) {
    const struct region_node *c = &h->r->node[op->node];
    float *whole = region_at(h, &h->p->value[op->node].d, n);
    i64 at = 0;
    for (i64 k = 0; k < c->sources; at += h->r->node[c->source[k]].C, k++) {
        const struct region_node *s = &h->r->node[c->source[k]];
        const struct region_value *m = &h->p->value[c->source[k]];
        const i64 plane = c->H * c->W * VL;
        if (!m->has) continue;
        float *part = region_at(h, &m->d, n);
        const int add = op->add >> k & 1;
        if (!add && s->C % VL) memset(part + (m->CB - 1) * plane, 0, (size_t)plane * sizeof(float));
        region_copy_channels(s->C, c->H * c->W, at, 1, add, part, whole);
    }
}

KERNEL void region_run_backward(const struct region_hands *h, const struct region_op *op, struct joined *weight) {
    const struct region_node *s = &h->r->node[op->node];
    const i64 n = h->n, pixels = s->H * s->W;
    if (op->kind == REGION_CONVOLVE_BACKWARD) {
        region_run_convolve_backward(h, op, weight);
        return;
    }
    for (i64 k = n; k < n + h->count; k++)
        switch (op->kind) {
        case REGION_GRAD_OUTPUT: region_grad_output(h, op, k); break;
        case REGION_FORM_BACKWARD: {
            const struct wide_view none = {0};
            const struct region_conv *before = &h->p->value[op[-1].node].conv;
            region_form_backward(h, op, k, op->fresh ? region_input_grad(before, h->input_grad, k - n) : none, op[-1].add);
            break;
        }
        case REGION_CONCATENATE_BACKWARD: region_concatenate_backward(h, op, k); break;
        case REGION_SPREAD: {
            const i64 x = s->source[op->slot];
            region_source_gradient(h, op->node, op->slot, k, op->add, region_compact(&h->r->node[x], region_at(h, &h->p->value[x].d, k)));
            break;
        }
        default: wide_from_blocks(s->C, pixels, region_at(h, &h->p->value[op->node].d, k), pixels * VL, s->grad_x + k * s->C * pixels, pixels);
        }
}

/* A block's sums, zero at first; and the finished weight gradients from them */
INLINE void region_begin_sums(const struct region_hands *h, const struct region_op *op, struct joined *weight) {
    const struct region_node *s = &h->r->node[op->node];
    const struct region_value *m = &h->p->value[op->node];
    if (op->kind == REGION_FORM_BACKWARD) {
        for (i64 k = 0; k < s->sources; k++)
            memset(region_sums(h->r, h->p, op->node, k, h->block), 0, (size_t)(REGION_SUMS * m->Cp) * sizeof(float));
    } else if (op->kind == REGION_CONVOLVE_BACKWARD && s->grad_weight) {
        weight[op->node] = joined_at(h->sums + m->conv.sums_at, m->conv.sums_count, m->conv.runs);
        memset(h->sums + m->conv.sums_at, 0, (size_t)m->conv.sums_count * sizeof(float));
    }
}
INLINE void region_end_sums(const struct region_hands *h, const struct region_op *op, struct joined *weight) {
    const struct region_node *c = &h->r->node[op->node];
    const struct region_conv *m = &h->p->value[op->node].conv;
    if (op->kind != REGION_CONVOLVE_BACKWARD || !c->grad_weight) return;
    float *partial = h->job->partial + h->block * h->p->most_partial + m->partial_at;
    joined_end(&weight[op->node]);
    if (m->winograd) {
        const struct winograd w = region_winograd(m);
        winograd_weight_unpack(&w, weight[op->node].part, partial);
    } else {
        memcpy(partial, weight[op->node].part, (size_t)m->partial_floats * sizeof(float));
    }
}

static void region_backward_block(void *context, int64_t index) {
    struct region_job *job = context;
    const struct region_segment *s = &job->p->segment[job->segment];
    const i64 block = region_turn(job, index), end = region_block_begin(job->r, job->p, block + 1);
    struct joined weight[REGION_MOST_NODES];
    struct region_hands h;
    if (region_take(job, block, &h)) { job->failed = 1; return; }
    for (i64 i = s->begin; i < s->end; i++) region_begin_sums(&h, &job->p->op[i], weight);
    for (h.n = h.begin; h.n < end && !fastnn_stopped(); h.n += s->group) {
        h.count = i64_min(s->group, end - h.n);
        for (i64 i = s->begin; i < s->end; i++) region_run_backward(&h, &job->p->op[i], weight);
    }
    for (i64 i = s->begin; i < s->end; i++) region_end_sums(&h, &job->p->op[i], weight);
}

/* Task: a block of output channels of a weight gradient of this segment, the sum of the blocks' */
static void region_add_part(void *context, int64_t index) {
    struct region_job *job = context;
    const struct region_segment *s = &job->p->segment[job->segment];
    for (i64 i = s->begin; i < s->end; i++) {
        const i64 v = job->p->op[i].node;
        const struct region_node *c = &job->r->node[v];
        const struct region_conv *m = &job->p->value[v].conv;
        if (job->p->op[i].kind != REGION_CONVOLVE_BACKWARD || !c->grad_weight) continue;
        const i64 tasks = region_add_tasks(m);
        if (index < tasks) {
            region_add_task(m, job->partial + m->partial_at, job->p->blocks, job->p->most_partial, index, c->grad_weight);
            return;
        }
        index -= tasks;
    }
}

/* After a segment's blocks */
KERNEL void region_finish(struct region_job *job) {
    const struct region_segment *s = &job->p->segment[job->segment];
    i64 tasks = 0;
    for (i64 i = s->begin; i < s->end; i++) {
        const struct region_op *op = &job->p->op[i];
        const struct region_node *n = &job->r->node[op->node];
        if (op->kind == REGION_CONVOLVE_BACKWARD && n->grad_weight) tasks += region_add_tasks(&job->p->value[op->node].conv);
        if (op->kind != REGION_FORM_BACKWARD) continue;
        for (i64 k = 0; k < n->sources; k++)
            if (region_wants_sums(job->r, n, k)) region_join_sums(job->r, job->p, op->node, k);
    }
    fastnn_parallel(tasks, 2.0 * (double)(job->p->blocks * s->partial_floats), region_add_part, job);
}

INLINE void region_zero(float *grad, i64 count) {
    if (grad) memset(grad, 0, (size_t)count * sizeof(float));
}

/* Gradients of what nothing that has a gradient depends on */
KERNEL void region_clear_gradients(const struct region *r, const struct region_plan *p) {
    for (i64 v = 0; v < r->nodes; v++) {
        const struct region_node *n = &r->node[v];
        if (p->value[v].has) continue;
        region_zero(n->grad_x, r->N * n->C * n->H * n->W);
        if (n->kind == REGION_CONV) region_zero(n->grad_weight, region_weights(&p->value[v].conv));
        region_zero(n->grad_bias, n->C);
        for (i64 k = 0; k < n->sources && n->kind == REGION_JOIN; k++)
            region_zero(n->norm[k].grad_gamma, n->C), region_zero(n->norm[k].grad_beta, n->C);
    }
}

KERNEL int region_train_backward(const void *arguments, struct program *program) {
    const struct region *r = arguments;
    struct region_job job = {.r = r, .p = region_planned(r), .program = program, .backward = 1};
    region_clear_gradients(r, job.p);
    job.partial = fastnn_scratch(SCRATCH_PARTIAL, (size_t)(job.p->blocks * job.p->most_partial + 1) * sizeof(float));
    if (!job.partial || region_pack(&job)) return -1;
    for (job.segment = job.p->forward_segments; job.segment < job.p->segments && !job.failed; job.segment++) {
        fastnn_parallel(job.p->blocks, job.p->segment[job.segment].flops, region_backward_block, &job);
        region_finish(&job);
    }
    return job.failed ? -1 : 0;
}

#endif
