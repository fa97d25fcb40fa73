/* Regions by plain loops in double precision: any region, slowly. The twin that the engines are tested against.
 *
 * All values and gradients lie in state, (N, C, H, W) each; forward fills the values, backward the gradients.
 */
#ifndef FASTNN_REGION_NAIVE_H
#define FASTNN_REGION_NAIVE_H

#include "parts/activation.h"
#include "plan/region/region.h"
#include "plan/stages.h"

struct naive_node {
    double *value, *grad;               /* (N, C, H, W) */
    double *sum, *grad_sum;             /* JOIN: (N, C, inner_H, inner_W), before the activation */
    double *mean[REGION_MOST_SOURCES], *scale[REGION_MOST_SOURCES]; /* JOIN: (C,) of its norms; scale: 1 / sqrt(var + eps) */
    double *plane;                      /* JOIN: (inner_H, inner_W), activated anew in backward */
    double *grad_weight;                /* CONV */
};

INLINE double *naive_take(double **memory, i64 count) {
    double *taken = *memory;
    *memory += count;
    return taken;
}

INLINE i64 naive_values(const struct region *r, const struct region_node *d) { return r->N * d->C * d->H * d->W; }
INLINE i64 naive_weights(const struct region *r, const struct region_node *d) {
    return d->C * (r->node[d->source[0]].C / d->groups) * d->kh * d->kw;
}

/* Where everything lies in `memory`; returns its size in doubles. */
KERNEL i64 naive_lay_out(const struct region *r, struct naive_node *to, double *memory) {
    const double *start = memory;
    for (i64 i = 0; i < r->nodes; i++) {
        const struct region_node *d = &r->node[i];
        const i64 inner = r->N * d->C * d->inner_H * d->inner_W;
        to[i] = (struct naive_node){.value = naive_take(&memory, naive_values(r, d))};
        if (r->training) to[i].grad = naive_take(&memory, naive_values(r, d));
        if (d->kind == REGION_CONV && r->training) to[i].grad_weight = naive_take(&memory, naive_weights(r, d));
        if (d->kind != REGION_JOIN) continue;
        to[i].sum = naive_take(&memory, inner);
        if (r->training) to[i].grad_sum = naive_take(&memory, inner), to[i].plane = naive_take(&memory, d->inner_H * d->inner_W);
        for (i64 k = 0; k < d->sources; k++) {
            to[i].mean[k] = naive_take(&memory, d->C);
            to[i].scale[k] = naive_take(&memory, d->C);
        }
    }
    return memory - start;
}

/* ---- convolution: y += w * x, and backward grad_x += w * grad, grad_weight += x * grad ---- */

KERNEL void naive_convolve(const struct region *r, const struct region_node *d, const struct naive_node *x, struct naive_node *y,
                           int backward) {
    const struct region_node *s = &r->node[d->source[0]];
    const i64 C = s->C / d->groups, O = d->C / d->groups;
    for (i64 plane = 0; plane < r->N * d->C; plane++)
        for (i64 tap = 0; tap < C * d->kh * d->kw; tap++) {
            const i64 n = plane / d->C, o = plane % d->C, b = tap % d->kw, a = tap / d->kw % d->kh, c = tap / d->kw / d->kh;
            const i64 from = (n * s->C + o / O * C + c) * s->H * s->W, left = b * d->dilation_w - d->pad_w;
            const double weight = d->weight[o * C * d->kh * d->kw + tap];
            double sum = 0;
            for (i64 i = 0; i < d->H; i++) {
                const i64 h = i * d->stride_h - d->pad_h + a * d->dilation_h, at = (plane * d->H + i) * d->W;
                const i64 first = left < 0 ? ceil_div(-left, d->stride_w) : 0;
                const i64 end = s->W > left ? i64_min(d->W, ceil_div(s->W - left, d->stride_w)) : 0;
                if (h < 0 || h >= s->H) continue;
                for (i64 j = first; j < end; j++) {
                    const i64 w = from + h * s->W + j * d->stride_w + left;
                    if (!backward) y->value[at + j] += weight * x->value[w];
                    else {
                        x->grad[w] += weight * y->grad[at + j];
                        sum += x->value[w] * y->grad[at + j];
                    }
                }
            }
            if (backward) y->grad_weight[o * C * d->kh * d->kw + tap] += sum;
        }
}

/* ---- activation and pooling of a JOIN ---- */

INLINE double naive_activate(const struct region_node *d, double x) {
    const vf v = v_set1((float)x), p = v_set1((float)d->parameter);
#define ACTIVATE(kind) return v_activate(kind, v, p)[0]
    ACTIVATION_CASES(d->activation, ACTIVATE)
#undef ACTIVATE
}

INLINE double naive_activate_backward(const struct region_node *d, double grad, double x) {
    const vf g = v_set1((float)grad), v = v_set1((float)x), p = v_set1((float)d->parameter);
#define BACKWARD(kind) return v_activate_backward(kind, g, v, p)[0]
    ACTIVATION_CASES(d->activation, BACKWARD)
#undef BACKWARD
}

/* Pooling of one plane: y from x, or backward grad_x (zero at first) from grad and x. */
KERNEL void naive_pool(const struct region_node *d, const double *x, double *y, const double *grad, double *grad_x) {
    const int whole = d->pool == POOL_GLOBAL_AVERAGE, none = d->pool == POOL_NONE;
    const i64 kh = whole ? d->inner_H : none ? 1 : d->pool_h, kw = whole ? d->inner_W : none ? 1 : d->pool_w;
    const i64 sh = whole || none ? 1 : d->pool_stride_h, sw = whole || none ? 1 : d->pool_stride_w;
    const i64 ph = whole || none ? 0 : d->pool_pad_h, pw = whole || none ? 0 : d->pool_pad_w;
    for (i64 i = 0; i < d->H; i++)
        for (i64 j = 0; j < d->W; j++) {
            const i64 top = i64_max(0, i * sh - ph), bottom = i64_min(d->inner_H, i * sh - ph + kh);
            const i64 left = i64_max(0, j * sw - pw), right = i64_min(d->inner_W, j * sw - pw + kw);
            const i64 at = i * d->W + j;
            i64 best = top * d->inner_W + left;
            double sum = 0, count = (double)(d->pool_counts_padding ? kh * kw : (bottom - top) * (right - left));
            if (d->pool == POOL_MAX) count = 1;
            if (whole || none) count = (double)(kh * kw);
            for (i64 h = top; h < bottom; h++)
                for (i64 w = left; w < right; w++) {
                    const double v = x[h * d->inner_W + w];
                    if (!(v <= x[best]) && x[best] == x[best]) best = h * d->inner_W + w;
                    sum += v;
                    if (grad && d->pool != POOL_MAX) grad_x[h * d->inner_W + w] += grad[at] / count;
                }
            if (grad && d->pool == POOL_MAX) grad_x[best] += grad[at];
            if (!grad) y[at] = d->pool == POOL_MAX ? x[best] : sum / count;
        }
}

/* ---- batch norm of source k ---- */

#define NAIVE_EACH(n, p) for (i64 n = 0; n < r->N; n++) for (i64 p = (n * d->C + c) * pixels, p##_end = p + pixels; p < p##_end; p++)

KERNEL void naive_statistics(const struct region *r, const struct region_node *d, i64 k, i64 c, const double *x, double bias,
                             const struct naive_node *to) {
    const struct region_norm *norm = &d->norm[k];
    const i64 pixels = d->inner_H * d->inner_W;
    const double count = (double)(r->N * pixels);
    double mean = 0, var = 0;
    if (r->training) {
        NAIVE_EACH(n, p) mean += x[p] / count;
        NAIVE_EACH(n, p) var += (x[p] - mean) * (x[p] - mean) / count;
        if (norm->running_mean) norm->running_mean[c] += (float)(norm->momentum * (mean + bias - norm->running_mean[c]));
        if (norm->running_var)
            norm->running_var[c] += (float)(norm->momentum * (var * count / (count - 1) - norm->running_var[c]));
    } else mean = norm->running_mean[c] - bias, var = norm->running_var[c];
    to->mean[k][c] = mean;
    to->scale[k][c] = 1 / __builtin_sqrt(var + norm->eps);
}

/* grad of the source's normalised value -> grad_x +=, and the parameters' gradients */
KERNEL void naive_norm_backward(const struct region *r, const struct region_node *d, i64 k, i64 c, const double *x,
                                const double *grad, const struct naive_node *of, double *grad_x) {
    const struct region_norm *norm = &d->norm[k];
    const i64 pixels = d->inner_H * d->inner_W;
    const double count = (double)(r->N * pixels), mean = of->mean[k][c], scale = of->scale[k][c];
    const double gamma = norm->gamma ? norm->gamma[c] : 1;
    double sum = 0, products = 0;
    NAIVE_EACH(n, p) sum += grad[p], products += grad[p] * (x[p] - mean) * scale;
    if (norm->grad_beta) norm->grad_beta[c] = (float)sum;
    if (norm->grad_gamma) norm->grad_gamma[c] = (float)products;
    NAIVE_EACH(n, p) grad_x[p] += gamma * scale * (grad[p] - sum / count - (x[p] - mean) * scale * products / count);
}

/* ---- joins ---- */

KERNEL void naive_join(const struct region *r, struct naive_node *nodes, i64 i) {
    const struct region_node *d = &r->node[i];
    struct naive_node *to = &nodes[i];
    const i64 pixels = d->inner_H * d->inner_W;
    memset(to->sum, 0, sizeof(double) * (size_t)(r->N * d->C * pixels));
    for (i64 k = 0; k < d->sources; k++) {
        const struct region_node *s = &r->node[d->source[k]];
        const double *x = nodes[d->source[k]].value;
        for (i64 c = 0; c < d->C; c++) {
            double scale = 1, shift = s->kind == REGION_CONV && s->bias ? s->bias[c] : 0;
            if (d->norm[k].used) {
                naive_statistics(r, d, k, c, x, shift, to);
                scale = to->scale[k][c] * (d->norm[k].gamma ? d->norm[k].gamma[c] : 1);
                shift = (d->norm[k].beta ? d->norm[k].beta[c] : 0) - to->mean[k][c] * scale;
            }
            NAIVE_EACH(n, p) to->sum[p] = k ? to->sum[p] + (x[p] * scale + shift) : x[p] * scale + shift;
        }
    }
    double *active = to->grad_sum ? to->grad_sum : to->sum;     /* free in forward; without training sum is not kept */
    for (i64 p = 0; p < r->N * d->C * pixels; p++) active[p] = naive_activate(d, to->sum[p]);
    for (i64 plane = 0; plane < r->N * d->C; plane++)
        naive_pool(d, active + plane * pixels, to->value + plane * d->H * d->W, NULL, NULL);
}

KERNEL void naive_join_backward(const struct region *r, struct naive_node *nodes, i64 i) {
    const struct region_node *d = &r->node[i];
    struct naive_node *of = &nodes[i];
    const i64 pixels = d->inner_H * d->inner_W, count = r->N * d->C * pixels;
    memset(of->grad_sum, 0, sizeof(double) * (size_t)count);
    for (i64 plane = 0; plane < r->N * d->C; plane++) {
        for (i64 p = 0; p < pixels; p++) of->plane[p] = naive_activate(d, of->sum[plane * pixels + p]);
        naive_pool(d, of->plane, NULL, of->grad + plane * d->H * d->W, of->grad_sum + plane * pixels);
    }
    for (i64 p = 0; p < count; p++) of->grad_sum[p] = naive_activate_backward(d, of->grad_sum[p], of->sum[p]);
    for (i64 k = 0; k < d->sources; k++) {
        const struct region_node *s = &r->node[d->source[k]];
        const struct naive_node *from = &nodes[d->source[k]];
        for (i64 c = 0; c < d->C; c++) {
            double sum = 0;
            if (d->norm[k].used) naive_norm_backward(r, d, k, c, from->value, of->grad_sum, of, from->grad);
            else NAIVE_EACH(n, p) from->grad[p] += of->grad_sum[p], sum += of->grad_sum[p];
            if (s->kind == REGION_CONV && s->grad_bias) s->grad_bias[c] = (float)sum;
        }
    }
}

/* Copies channels from each source, or adds their gradients to each source's. */
KERNEL void naive_concat(const struct region *r, struct naive_node *nodes, i64 i, int backward) {
    const struct region_node *d = &r->node[i];
    i64 C = 0;
    for (i64 k = 0; k < d->sources; C += r->node[d->source[k++]].C) {
        const struct naive_node *s = &nodes[d->source[k]];
        const i64 size = r->node[d->source[k]].C * d->H * d->W;
        for (i64 n = 0; n < r->N; n++)
            for (i64 p = 0, at = (n * d->C + C) * d->H * d->W; p < size; p++, at++) {
                if (backward) s->grad[n * size + p] += nodes[i].grad[at];
                else nodes[i].value[at] = s->value[n * size + p];
            }
    }
}

/* ---- the stage ---- */

KERNEL i64 region_naive_state_bytes(const struct region *r) {
    struct naive_node nodes[REGION_MOST_NODES];
    return naive_lay_out(r, nodes, NULL) * (i64)sizeof(double);
}

SMALL int region_naive_forward(const struct region *r, struct program *program) {
    struct naive_node nodes[REGION_MOST_NODES];
    naive_lay_out(r, nodes, r->state);
    for (i64 i = 0; i < r->nodes; i++) {
        const struct region_node *d = &r->node[i];
        const i64 count = naive_values(r, d), pixels = d->H * d->W;
        const void *x = d->x ? d->x : program->input;
        if (d->kind == REGION_INPUT)
            for (i64 p = 0; p < count; p++)
                nodes[i].value[p] = d->table ? d->table[p / pixels % d->C * 256 + ((const uint8_t *)x)[p]] : ((const float *)x)[p];
        else if (d->kind == REGION_CONV) {
            memset(nodes[i].value, 0, sizeof(double) * (size_t)count);
            naive_convolve(r, d, &nodes[d->source[0]], &nodes[i], 0);
        } else if (d->kind == REGION_JOIN) naive_join(r, nodes, i);
        else naive_concat(r, nodes, i, 0);
        for (i64 p = 0; d->y && p < count; p++) d->y[p] = (float)nodes[i].value[p];
    }
    return 0;
}

SMALL int region_naive_backward(const struct region *r) {
    struct naive_node nodes[REGION_MOST_NODES];
    naive_lay_out(r, nodes, r->state);
    for (i64 i = 0; i < r->nodes; i++) {
        const struct region_node *d = &r->node[i];
        for (i64 p = 0; p < naive_values(r, d); p++) nodes[i].grad[p] = d->grad_y ? d->grad_y[p] : 0;
        if (d->kind == REGION_CONV) memset(nodes[i].grad_weight, 0, sizeof(double) * (size_t)naive_weights(r, d));
    }
    for (i64 i = r->nodes - 1; i >= 0; i--) {
        const struct region_node *d = &r->node[i];
        if (d->kind == REGION_JOIN) naive_join_backward(r, nodes, i);
        else if (d->kind == REGION_CONCAT) naive_concat(r, nodes, i, 1);
        else if (d->kind == REGION_CONV) {
            naive_convolve(r, d, &nodes[d->source[0]], &nodes[i], 1);
            for (i64 w = 0; d->grad_weight && w < naive_weights(r, d); w++) d->grad_weight[w] = (float)nodes[i].grad_weight[w];
        }
        for (i64 p = 0; d->grad_x && p < naive_values(r, d); p++) d->grad_x[p] = (float)nodes[i].grad[p];
    }
    return 0;
}

#endif
