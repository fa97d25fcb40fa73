/* Gradients of joins, one block of channels of one image at a time: back through pooling and activation to the gradient of the sum. */
#ifndef FASTNN_REGION_GRADIENT_H
#define FASTNN_REGION_GRADIENT_H

#include "plan/region/statistics.h"

/* The gradient of one block of a JOIN's value: the sum of what `at` and, unless NULL, `more` hold, rows `row` and `more_row` floats apart */
struct region_grads { const float *at, *more; i64 row, more_row; };

INLINE vf region_grad(const int more, const struct region_grads *d, i64 h, i64 w) {
    const vf grad = v_load(d->at + h * d->row + w * VL);
    return more ? grad + v_load(d->more + h * d->more_row + w * VL) : grad;
}

/* ---- through pooling ---- */

/* g (inner_H, inner_W, VL) = gradient of y, the activation's values, from that of what was pooled */
static void region_unpool_plane(const struct region_node *j, const float *y, const struct region_grads *d, float *g) {
    const i64 inner = j->inner_W, pixels = region_inner(j);
    if (j->pool == POOL_GLOBAL_AVERAGE) {
        const vf share = region_grad(d->more != NULL, d, 0, 0) / (float)pixels;
        for (i64 i = 0; i < pixels; i++) v_store(g + i * VL, share);
        return;
    }
    memset(g, 0, (size_t)(pixels * VL) * sizeof(float));
    for (i64 h = 0; h < j->H; h++) for (i64 w = 0; w < j->W; w++) {
        const struct region_window rows = region_rows(j, h), columns = region_columns(j, w);
        vf all = region_grad(d->more != NULL, d, h, w);
        if (j->pool == POOL_AVERAGE) {
            all *= region_share(j, rows, columns);
            for (i64 a = rows.begin; a < rows.end; a++) for (i64 b = columns.begin; b < columns.end; b++) {
                float *to = g + (a * inner + b) * VL;
                v_store(to, v_load(to) + all);
            }
            continue;
        }
        vf best = v_load(y + (rows.begin * inner + columns.begin) * VL);
        vi at = {0};
        int32_t k = 0;
        for (i64 a = rows.begin; a < rows.end; a++) for (i64 b = columns.begin; b < columns.end; b++, k++) {
            const vf x = v_load(y + (a * inner + b) * VL);
            const vi better = v_beats(x, best);
            best = v_select(better, x, best);
            at = (better & v_set1_int(k)) | (~better & at);
        }
        k = 0;
        for (i64 a = rows.begin; a < rows.end; a++) for (i64 b = columns.begin; b < columns.end; b++, k++) {
            float *to = g + (a * inner + b) * VL;
            v_store(to, v_load(to) + v_select(at == k, all, (vf){0}));
        }
    }
}

/* ---- through the activation ---- */

struct region_two_sums { struct v_joined sum, product; };

/* g (H, W, VL) = d * slope, from the values y or from the sum of `count` sources, and its sums, product with x[0] - mean; g may be d */
INLINE void region_slope_rows(const int kind, const int from_y, const i64 count, const int more, const struct region_terms *given, i64 H,
                              i64 W, const float *y, const struct region_grads *grads, float *g, vf mean, struct region_two_sums *sums) {
    const struct region_terms t = *given;
    const struct region_grads d = *grads;
    vf a[4] = {{0}}, b[4] = {{0}};
    for (i64 h = 0, at = 0, run = 0; h < H; h++) for (i64 w = 0; w < W;) {
        const i64 end = i64_min(W, w + 2 * SUM_RUN);
        run += end - w;
#define PIXELS(n) for (; w + n <= end; w += n, at += n * VL) UNROLL for (int i = 0; i < n; i++) { \
            const i64 k = at + i * VL; \
            const vf grad = region_grad(more, &d, h, w + i); \
            const vf v = from_y ? v_activate_backward_from_y(kind, grad, v_load(y + k), t.parameter) \
                                : v_activate_backward(kind, grad, region_sum(count, &t, k), t.parameter); \
            v_store(g + k, v); \
            a[i] += v; \
            b[i] += v * (v_load(t.x[0] + k) - mean); \
        }
        if (kind <= ACTIVATION_LEAKY_RELU) PIXELS(4)    /* the others take longer than their sums */
        PIXELS(1)
#undef PIXELS
        if (run < 2 * SUM_RUN && (h + 1 < H || w < W)) continue;
        v_join(&sums->sum, (a[0] + a[1]) + (a[2] + a[3]));
        v_join(&sums->product, (b[0] + b[1]) + (b[2] + b[3]));
        UNROLL for (int i = 0; i < 4; i++) a[i] = b[i] = (vf){0};
        run = 0;
    }
}

static void region_slope(int activation, const struct region_terms *t, i64 H, i64 W, const float *y, const struct region_grads *d, float *g,
                         vf mean, struct region_two_sums *sums) {
    if (d->row == W * VL && (!d->more || d->more_row == W * VL)) W *= H, H = 1;
    const int alone = !d->more && (y || t->count == 1);
#define CALL(kind) \
    if (kind <= ACTIVATION_LEAKY_RELU && alone && y) region_slope_rows(kind, 1, 0, 0, t, H, W, y, d, g, mean, sums); \
    else if (kind <= ACTIVATION_LEAKY_RELU && alone) region_slope_rows(kind, 0, 1, 0, t, H, W, y, d, g, mean, sums); \
    else if (y) region_slope_rows(kind, 1, 0, d->more != NULL, t, H, W, y, d, g, mean, sums); \
    else region_slope_rows(kind, 0, t->count, d->more != NULL, t, H, W, y, d, g, mean, sums)
    ACTIVATION_CASES(activation, CALL)
#undef CALL
}

/* ---- by winners: see region_by_winners ---- */

/* The largest of a window of x, first of equals, as the affine function makes it; and its number */
INLINE vf region_winner(const i64 ph, const i64 pw, const float *x, i64 row, vf scale, vf shift, vf *value, vi *which) {
    vf best = v_load(x) * scale + shift, winner = v_load(x);
    vi at = {0};
    for (i64 i = 0; i < ph; i++) for (i64 j = 0; j < pw; j++) {
        const vf v = v_load(x + i * row + j * VL), y = v * scale + shift;
        const vi better = v_beats(y, best);
        best = v_select(better, y, best);
        winner = v_select(better, v, winner);
        at = (better & v_set1_int((int32_t)(i * pw + j))) | (~better & at);
    }
    *value = winner;
    *which = at;
    return best;
}

/* g (H, W, VL) = what the winners get, and its sums */
INLINE void region_winners_rows(const int kind, const i64 ph, const i64 pw, const struct region_node *j, const struct region_terms *given,
                                const struct region_grads *grads, float *g, vf mean, struct region_two_sums *sums) {
    const struct region_terms t = *given;
    const struct region_grads d = *grads;
    const i64 row = j->inner_W * VL;
    vf a = {0}, b = {0};
    for (i64 h = 0, run = 0; h < j->H; h++) for (i64 w = 0; w < j->W;) {
        const i64 end = i64_min(j->W, w + SUM_RUN);
        run += end - w;
        for (; w < end; w++) {
            vf x;
            vi at;
            const vf best = region_winner(ph, pw, t.x[0] + h * ph * row + w * pw * VL, row, t.scale[0], t.shift[0], &x, &at);
            const vf v = v_activate_backward(kind, region_grad(d.more != NULL, &d, h, w), best, t.parameter);
            v_store(g + (h * j->W + w) * VL, v);
            a += v;
            b += v * (x - mean);
        }
        if (run < SUM_RUN && (h + 1 < j->H || w < j->W)) continue;
        v_join(&sums->sum, a);
        v_join(&sums->product, b);
        a = b = (vf){0};
        run = 0;
    }
}

static void region_winners(const struct region_node *j, const struct region_terms *t, const struct region_grads *d, float *g, vf mean,
                           struct region_two_sums *sums) {
#define CALL(kind) \
    if (!activation_is_monotone(kind, 1)) break; \
    if (kind <= ACTIVATION_LEAKY_RELU && j->pool_h == 2 && j->pool_w == 2) region_winners_rows(kind, 2, 2, j, t, d, g, mean, sums); \
    else region_winners_rows(kind, j->pool_h, j->pool_w, j, t, d, g, mean, sums)
    ACTIVATION_CASES((int)j->activation, CALL)
#undef CALL
}

/* out (inner_H, inner_W) = (x - mean) * from_x + from_one, and for winners + g * from_g */
INLINE void region_winners_gradient(const i64 ph, const i64 pw, const struct region_node *j, const float *x, const float *g, vf scale, vf shift,
                                    vf mean, vf from_g, vf from_x, vf from_one, float *out, i64 out_row) {
    const i64 row = j->inner_W * VL;
    for (i64 h = 0; h < j->H; h++) for (i64 w = 0; w < j->W; w++, g += VL) {
        const float *from = x + h * ph * row + w * pw * VL;
        float *to = out + h * ph * out_row + w * pw * VL;
        const vf grad = v_load(g) * from_g;
        vf value;
        vi at;
        region_winner(ph, pw, from, row, scale, shift, &value, &at);
        for (i64 i = 0; i < ph; i++) for (i64 k = 0; k < pw; k++)
            v_store(to + i * out_row + k * VL, ((v_load(from + i * row + k * VL) - mean) * from_x + from_one) + v_select(at == (int32_t)(i * pw + k), grad, (vf){0}));
    }
    for (i64 h = 0; h < j->inner_H; h++) for (i64 w = h < j->H * ph ? j->W * pw : 0; w < j->inner_W; w++)   /* dropped by pooling */
        v_store(out + h * out_row + w * VL, (v_load(x + h * row + w * VL) - mean) * from_x + from_one);
}

#endif
