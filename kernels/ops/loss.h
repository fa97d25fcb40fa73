/* Losses and their gradients in one pass. The gradient is multiplied by `scale`, the loss is not. */
#ifndef FASTNN_LOSS_H
#define FASTNN_LOSS_H

#include "ops/softmax.h"
#include "base/vmath.h"

/* ---- softmax cross-entropy ----
 *
 *   t = kept * target + spread                   kept = 1 - label smoothing, spread = label smoothing / C
 *   loss (N,) = -sum of t * log_softmax(logits),  grad (N, C) = scale * (softmax(logits) * sum of t - t)
 *
 * With d = logits - their maximum and S = sum of exp(d): loss = sum of t * (log S - d), whose terms are all of one sign.
 */
struct softmax_loss {
    i64 N, C, step;
    const float *logits;                /* (N, C) */
    const int64_t *labels;              /* (N,), or NULL */
    const float *target;                /* (N, C), or NULL */
    float kept, spread, scale;
    float *loss, *grad;
};

INLINE vi lanes_below(i64 lanes) {
    vi number;
    UNROLL for (int i = 0; i < VL; i++) number[i] = i;
    return number < v_set1_int((int32_t)lanes);
}

/* One long row, or a block of VL short ones: grad, and the loss as vectors (all lanes the same along a row). With labels, what the
 * label alone adds is left to the caller: kept * (largest - logits[label]) to the loss, -scale * kept to its gradient. */
INLINE void cross_entropy_row(const int along, const int soft, const struct softmax_loss *t, const float *logits, const float *target,
                              float *grad, vf *loss, vf *largest) {
    i64 C = t->C;
    const vf m = row_max(along, C, logits);
    struct folded sum = {}, sum_t = {}, sum_td = {};
    for (i64 k = 0; k < row_vectors(along, C); k++) {
        i64 lanes = row_lanes(along, C, k);
        vf d = v_load_lanes(logits + k * VL, lanes, -INFINITY) - m, e = v_exp(d);
        v_store_lanes(grad + k * VL, e, lanes);
        fold(&sum, e, k);
        if (soft || t->spread != 0) {
            vf q = v_set1(t->spread);
            if (soft) q += t->kept * v_load_lanes(target + k * VL, lanes, 0);
            if (along) q = (vf)((vi)q & lanes_below(lanes));    /* lanes past the row count for nothing */
            fold(&sum_t, q, k);
            fold(&sum_td, v_select(q == (vf){0}, q, q * d), k);   /* 0 log 0 = 0 */
        }
    }
    vf S = row_sum(along, folded_sum(sum)), log_sum = v_log(S), factor = 1.0f / S;
    if (soft) {
        vf total = row_sum(along, folded_sum(sum_t));
        *loss = total * log_sum - row_sum(along, folded_sum(sum_td));
        factor *= total;
    } else {
        *loss = log_sum;
        if (t->spread != 0) *loss = t->kept * log_sum + (row_sum(along, folded_sum(sum_t)) * log_sum - row_sum(along, folded_sum(sum_td)));
    }
    for (i64 k = 0; k < row_vectors(along, C); k++) {
        i64 lanes = row_lanes(along, C, k);
        vf q = v_set1(t->spread);
        if (soft) q += t->kept * v_load_lanes(target + k * VL, lanes, 0);
        v_store_lanes(grad + k * VL, t->scale * (v_load_lanes(grad + k * VL, lanes, 0) * factor - q), lanes);
    }
    *largest = m;
}

INLINE void cross_entropy_rows(const int soft, const struct softmax_loss *t, i64 n, i64 end) {
    i64 C = t->C, count;
    for (; n < end; n += count) {
        float loss[VL], largest[VL], logits[ROWS_BLOCK_C * VL], target[ROWS_BLOCK_C * VL];
        vf loss_v, largest_v;
        const int along = C > ROWS_BLOCK_C;
        count = along ? 1 : i64_min(VL, end - n);
        if (along) {
            cross_entropy_row(1, soft, t, t->logits + n * C, soft ? t->target + n * C : NULL, t->grad + n * C, &loss_v, &largest_v);
        } else {
            pack_rows(logits, t->logits + n * C, count, C);
            if (soft) pack_rows(target, t->target + n * C, count, C);
            cross_entropy_row(0, soft, t, logits, target, logits, &loss_v, &largest_v);
            unpack_rows(t->grad + n * C, logits, count, C);
        }
        v_store(loss, loss_v);
        v_store(largest, largest_v);
        for (i64 i = 0; i < count; i++) {
            if (!soft) {
                i64 at = (n + i) * C + t->labels[n + i];
                if (t->kept != 0) loss[i] += t->kept * (largest[i] - t->logits[at]);
                t->grad[at] -= t->scale * t->kept;
            }
            t->loss[n + i] = loss[i];
        }
    }
}

static void cross_entropy_task(void *context, i64 index) {
    const struct softmax_loss t = *(const struct softmax_loss *)context;
    i64 n = index * t.step, end = i64_min(n + t.step, t.N);
    if (t.target) cross_entropy_rows(1, &t, n, end);
    else cross_entropy_rows(0, &t, n, end);
}

/* Either labels or target is NULL; labels lie in 0 .. C-1. */
KERNEL void softmax_cross_entropy(i64 N, i64 C, const float *logits, const int64_t *labels, const float *target, double label_smoothing,
                                  double scale, float *loss, float *grad) {
    struct softmax_loss t = {N, C, rows_step(C), logits, labels, target, (float)(1 - label_smoothing),
                              (float)(label_smoothing / (double)C), (float)scale, loss, grad};
    fastnn_parallel(ceil_div(N, t.step), 40.0 * (double)(N * C), cross_entropy_task, &t);
}

/* ---- element by element: x, target, loss, grad (count,), `parameter` what the loss has ----
 *
 * Floor: 16 bytes an entry, and the FLOPs that its line of ELEMENTWISE_LOSS says. */

enum { LOSS_CHUNK = 1 << 13 };

struct elementwise_loss {
    i64 count;
    const float *x, *target;
    float parameter, scale;
    float *loss, *grad;
};

/* max(z, 0) - z*t + log(1 + exp(-|z|)) = |z| * (z > 0 ? 1 - t : t) + log(...), where 0 times infinity is 0;
 * scale * (sigmoid(z) - t) */
INLINE void bce_formula(vf z, vf t, __attribute__((unused)) float none, float scale, vf *loss, vf *grad) {
    vf e = v_exp(-v_abs(z));
    const vi positive = z >= (vf){0};
    const vf weight = v_select(positive, 1.0f - t, t);
    *loss = v_select(weight == (vf){0}, weight, v_abs(z) * weight) + v_log1p(e);
    *grad = scale * (v_select(positive, v_set1(1.0f), e) / (1.0f + e) - t);
}

/* (x - t)^2,  2 * scale * (x - t) */
INLINE void mse_formula(vf x, vf t, __attribute__((unused)) float none, float scale, vf *loss, vf *grad) {
    vf difference = x - t;
    *loss = difference * difference;
    *grad = 2 * scale * difference;
}

/* With d = |x - t|: slope * d^2 / (2 delta) where d < delta, else slope * (d - delta / 2); delta may be 0. */
INLINE void pieced_formula(vf x, vf t, float delta, float slope, float scale, vf *loss, vf *grad) {
    const vf difference = x - t, d = v_abs(difference);
    const vi within = ~(d >= v_set1(delta));                /* NaN, too */
    const vf sign = v_select(difference > (vf){0}, v_set1(1.0f), v_select(difference < (vf){0}, v_set1(-1.0f), (vf){0}));
    *loss = v_select(within, difference * difference * (0.5f * (slope / delta)), slope * (d - 0.5f * delta));
    *grad = v_select(within, difference * (slope / delta), slope * sign) * scale;
}
INLINE void huber_formula(vf x, vf t, float delta, float scale, vf *loss, vf *grad) {
    pieced_formula(x, t, delta, delta, scale, loss, grad);
}
INLINE void smooth_l1_formula(vf x, vf t, float beta, float scale, vf *loss, vf *grad) {
    pieced_formula(x, t, beta, 1.0f, scale, loss, grad);
}

#define ELEMENTWISE_LOSS(NAME, FLOPS, FORMULA)                                                                           \
    static void NAME##_chunk(void *context, i64 index) {                                                                 \
        const struct elementwise_loss t = *(const struct elementwise_loss *)context;                                     \
        i64 i = index * LOSS_CHUNK, end = i64_min(i + LOSS_CHUNK, t.count);                                              \
        for (; i < end; i += VL) {                                                                                       \
            i64 lanes = i64_min(VL, end - i);                                                                            \
            vf loss, grad;                                                                                               \
            FORMULA(v_load_lanes(t.x + i, lanes, 0), v_load_lanes(t.target + i, lanes, 0), t.parameter, t.scale, &loss, &grad);  \
            v_store_lanes(t.loss + i, loss, lanes);                                                                          \
            v_store_lanes(t.grad + i, grad, lanes);                                                                          \
        }                                                                                                                \
    }                                                                                                                    \
    KERNEL void NAME(i64 count, const float *x, const float *target, double parameter, double scale, float *loss, float *grad) { \
        struct elementwise_loss t = {count, x, target, (float)parameter, (float)scale, loss, grad};                      \
        fastnn_parallel(ceil_div(count, LOSS_CHUNK), (16.0 + FLOPS) * (double)count, NAME##_chunk, &t);                  \
    }

/* log(x) for 0 <= x <= 1, no less than -100 */
INLINE vf log_of_probability(vf x) {
    const vi tiny = x < v_set1(0x1p-126f);              /* v_log takes normal numbers */
    const vf log = v_log(v_select(tiny, x * 0x1p24f, x)) - v_select(tiny, v_set1(16.6355323f), (vf){0});
    return v_select(x == (vf){0}, v_set1(-100), v_max(v_set1(-100), log));
}

/* -(t log p + (1 - t) log(1 - p)),  scale * (p - t) / (p (1 - p)), where the divisor is no less than 1e-12 */
INLINE void probability_formula(vf p, vf t, __attribute__((unused)) float none, float scale, vf *loss, vf *grad) {
    const vi small = p < v_set1(0.25f);
    const vf log_q = v_select(small, v_log1p(-v_select(small, p, (vf){0})), log_of_probability(1.0f - p));
    *loss = (t - 1.0f) * log_q - t * log_of_probability(p);
    *grad = scale * ((p - t) / v_max(v_set1(1e-12f), (1.0f - p) * p));
}

ELEMENTWISE_LOSS(bce, 100, probability_formula)
ELEMENTWISE_LOSS(bce_with_logits, 50, bce_formula)
ELEMENTWISE_LOSS(mse, 0, mse_formula)
ELEMENTWISE_LOSS(huber, 4, huber_formula)
ELEMENTWISE_LOSS(smooth_l1, 4, smooth_l1_formula)

/* ---- of log-probabilities x (N, C) and labels (N,): loss -x[label], and the gradient's one entry a row ---- */

KERNEL void nll(i64 N, i64 C, const float *x, const int64_t *labels, double scale, float *loss, float *grad) {
    memset(grad, 0, (size_t)(N * C) * sizeof(float));
    for (i64 n = 0; n < N; n++) {
        loss[n] = -x[n * C + labels[n]];
        grad[n * C + labels[n]] = (float)-scale;
    }
}

#endif
