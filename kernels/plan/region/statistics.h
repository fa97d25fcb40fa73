/* What a region sums over the batch: statistics of norms, and the two sums of their gradients.
 *
 * Statistics: parts/moments.h. With g the gradient of affine(x) and m values a channel,
 *
 *   grad_beta = sum g,  grad_gamma = sum g * xhat,  grad x = scale * (g - grad_beta / m - xhat * grad_gamma / m)
 */
#ifndef FASTNN_REGION_STATISTICS_H
#define FASTNN_REGION_STATISTICS_H

#include <math.h>

#include "parts/moments.h"
#include "plan/region/value.h"

/* Of the block of channels from o on, in such sums */
INLINE struct v_joined region_get_sum(const float *sums, i64 Cp, int which, i64 o) {
    return (struct v_joined){v_load(sums + which * Cp + o), v_load(sums + (which + REGION_FIRST_LOW) * Cp + o)};
}
INLINE void region_set_sum(float *sums, i64 Cp, int which, i64 o, struct v_joined v) {
    v_store(sums + which * Cp + o, v.sum);
    v_store(sums + (which + REGION_FIRST_LOW) * Cp + o, v.low);
}
/* Of channel o, in double precision */
INLINE double region_exact(const float *sums, i64 Cp, int which, i64 o) {
    const double sum = sums[which * Cp + o], low = sums[(which + REGION_FIRST_LOW) * Cp + o];
    return isfinite(low) ? sum + low : sum;
}

/* ---- statistics ---- */

/* Operation: image n of source k of JOIN v */
KERNEL void region_statistics(const struct region_hands *h, i64 v, i64 k, i64 n) {
    const struct region_node *j = &h->r->node[v];
    const i64 Cp = h->p->value[v].Cp, pixels = region_inner(j);
    const float *x = region_value_at(h, j->source[k], n);
    float *sums = region_sums(h->r, h->p, v, k, h->block);
    for (i64 o = 0; o < Cp; o += VL, x += pixels * VL) {
        struct v_joined mean = region_get_sum(sums, Cp, REGION_FIRST, o), squares = region_get_sum(sums, Cp, REGION_SECOND, o);
        v_moments((n - h->begin) * pixels, pixels, j->inner_W, x, &mean, &squares);
        region_set_sum(sums, Cp, REGION_FIRST, o, mean);
        region_set_sum(sums, Cp, REGION_SECOND, o, squares);
    }
}

INLINE const float *region_bias(const struct region *r, const struct region_node *j, i64 k) {
    return r->node[j->source[k]].kind == REGION_CONV ? r->node[j->source[k]].bias : NULL;
}

/* The constants of a source without norm. x + -0 is x: nothing is added. */
KERNEL void region_given(const struct region *r, const struct region_plan *p, i64 v, i64 k) {
    const i64 Cp = p->value[v].Cp;
    const float *bias = region_bias(r, &r->node[v], k);
    float *c = region_constants(r, p, v, k);
    for (i64 o = 0; o < Cp; o++) {
        c[REGION_SCALE * Cp + o] = c[REGION_FROM_G * Cp + o] = 1;
        c[REGION_SHIFT * Cp + o] = bias && o < r->node[v].C ? bias[o] : -0.0f;
        c[REGION_MEAN * Cp + o] = c[REGION_FROM_X * Cp + o] = c[REGION_FROM_ONE * Cp + o] = 0;
    }
}

/* The constants of a normed source, from the blocks' statistics. FROM_X: the variance, until backward. A convolution's bias is
 * not in z, nor is it in the mean. */
KERNEL void region_join_statistics(const struct region *r, const struct region_plan *p, i64 v, i64 k) {
    const struct region_node *j = &r->node[v];
    const struct region_norm *norm = &j->norm[k];
    const i64 Cp = p->value[v].Cp;
    const double pixels = (double)region_inner(j), count = pixels * (double)r->N;
    float *c = region_constants(r, p, v, k);
    memset(c, 0, (size_t)(REGION_CONSTANTS * Cp) * sizeof *c);
    for (i64 o = 0; o < j->C; o++) {
        double mean = 0, squares = 0, seen = 0;
        for (i64 b = 0; b < p->blocks; b++) {
            const float *sums = region_sums(r, p, v, k, b);
            const double values = pixels * (double)(region_block_begin(r, p, b + 1) - region_block_begin(r, p, b));
            const double delta = region_exact(sums, Cp, REGION_FIRST, o) - mean;
            mean += delta * values / (seen + values);
            squares += region_exact(sums, Cp, REGION_SECOND, o) + delta * delta * seen * values / (seen + values);
            seen += values;
        }
        const double var = squares / count, scale = (norm->gamma ? norm->gamma[o] : 1.0) / sqrt(var + norm->eps);
        c[REGION_SCALE * Cp + o] = (float)scale;
        c[REGION_SHIFT * Cp + o] = (float)((norm->beta ? norm->beta[o] : 0.0) - mean * scale);
        c[REGION_MEAN * Cp + o] = (float)mean;
        c[REGION_FROM_X * Cp + o] = (float)var;
    }
}

/* The running statistics of a normed source take their share of the batch's, when forward is over: where several follow into the
 * same array, they do so in the order of the nodes, whatever that of the segments. */
KERNEL void region_follow(const struct region *r, const struct region_plan *p, i64 v, i64 k) {
    const struct region_node *j = &r->node[v];
    const struct region_norm *norm = &j->norm[k];
    const i64 Cp = p->value[v].Cp;
    const double count = (double)region_inner(j) * (double)r->N, unbiased = count / fmax(count - 1, 1), share = norm->momentum;
    const float *bias = region_bias(r, j, k), *c = region_constants(r, p, v, k);
    for (i64 o = 0; o < j->C; o++) {
        const double mean = c[REGION_MEAN * Cp + o] + (bias ? bias[o] : 0.0), var = c[REGION_FROM_X * Cp + o] * unbiased;
        if (norm->running_mean) norm->running_mean[o] += (float)(share * (mean - norm->running_mean[o]));
        if (norm->running_var) norm->running_var[o] += (float)(share * (var - norm->running_var[o]));
    }
}

/* ---- sums of gradients ---- */

/* sum += g, product += g * (x - mean) */
INLINE void region_gradient_sums(i64 pixels, const float *g, const float *x, vf mean, struct v_joined *sum, struct v_joined *product) {
    const i64 run = 2 * sum_run(ceil_div(pixels, 2));
    for (i64 i = 0, end; i < pixels; i = end) {
        vf a[2] = {{0}}, b[2] = {{0}};
        end = i64_min(pixels, i + run);
        for (; i + 2 <= end; i += 2) UNROLL for (int k = 0; k < 2; k++) {
            const vf v = v_load(g + (i + k) * VL);
            a[k] += v;
            b[k] += v * (v_load(x + (i + k) * VL) - mean);
        }
        for (; i < end; i++) {
            const vf v = v_load(g + i * VL);
            a[0] += v;
            b[0] += v * (v_load(x + i * VL) - mean);
        }
        v_join(sum, a[0] + a[1]);
        v_join(product, b[0] + b[1]);
    }
}

/* Whether source k of JOIN j wants sums of its gradient */
INLINE int region_wants_sums(const struct region *r, const struct region_node *j, i64 k) {
    const struct region_node *s = &r->node[j->source[k]];
    return j->norm[k].used || (s->kind == REGION_CONV && s->grad_bias);
}

/* Joins them over the blocks -> grad_beta, grad_gamma, grad_bias, and the constants of the gradient of x */
KERNEL void region_join_sums(const struct region *r, const struct region_plan *p, i64 v, i64 k) {
    const struct region_node *j = &r->node[v], *s = &r->node[j->source[k]];
    const struct region_norm *norm = &j->norm[k];
    const i64 Cp = p->value[v].Cp;
    const double count = (double)(r->N * region_inner(j));
    float *grad_bias = s->kind == REGION_CONV ? s->grad_bias : NULL, *c = region_constants(r, p, v, k);
    for (i64 o = 0; o < j->C; o++) {
        double sum = 0, product = 0;
        for (i64 b = 0; b < p->blocks; b++) {
            sum += region_exact(region_sums(r, p, v, k, b), Cp, REGION_FIRST, o);
            product += region_exact(region_sums(r, p, v, k, b), Cp, REGION_SECOND, o);
        }
        if (!norm->used) {
            grad_bias[o] = (float)sum;
            continue;
        }
        const double scale = c[REGION_SCALE * Cp + o], square = 1 / (c[REGION_FROM_X * Cp + o] + norm->eps);
        const double from_x = -scale * square * product / count;
        if (grad_bias) grad_bias[o] = 0;    /* norm takes the mean away again */
        if (norm->grad_beta) norm->grad_beta[o] = (float)sum;
        if (norm->grad_gamma) norm->grad_gamma[o] = (float)(product * sqrt(square));
        c[REGION_FROM_G * Cp + o] = (float)scale;
        c[REGION_FROM_X * Cp + o] = (float)from_x;
        c[REGION_FROM_ONE * Cp + o] = (float)(-scale * sum / count);
    }
}

#endif
