/* Checks of losses and of optimisers' updates; the contracts are in table.h. */
#ifndef KERNELS_C_TRAINING_H
#define KERNELS_C_TRAINING_H

#include "common.h"

/* ---- losses ---- */

struct entropy { int64_t N, C; const double *target; };

/* The sum of all rows' losses, in one number */
static void naive_entropy(const double *x, double *y, const void *arguments) {
    const struct entropy *e = arguments;
    for (int64_t n = 0; n < e->N; n++) {
        double sum = 0;
        for (int64_t c = 0; c < e->C; c++) sum += exp(x[n * e->C + c]);
        y[n] = 0;
        for (int64_t c = 0; c < e->C; c++) y[n] -= e->target[n * e->C + c] * (x[n * e->C + c] - log(sum));
    }
}

static void check_entropies(const struct kernels *k) {
    static const int64_t shapes[][2] = {{1, 2}, {7, 10}, {3, 150}, {33, 5}};
    for (int64_t at = 0; at < 12; at++) {
        const int64_t N = shapes[at / 3][0], C = shapes[at / 3][1], count = N * C;
        const double smoothing = at % 3 ? 0.1 : 0, scale = 1.0 / (double)N;
        float *x = drawn(count, -5, 5), *target = drawn(count, 0, 1), *loss = floats(N), *grad = floats(count);
        int64_t *labels = memory(N * 8);
        double *smooth = doubles(count), *wide = widened(count, x), *expected = doubles(N), *scales = doubles(N);
        for (int64_t i = 0; i < N; i++) labels[i] = (i * 7 + 3) % C, scales[i] = scale;
        for (int64_t i = 0; i < count; i++) {
            const double given = at % 3 == 2 ? target[i] : i % C == labels[i / C];
            smooth[i] = (1 - smoothing) * given + smoothing / (double)C;
        }
        const struct entropy e = {N, C, smooth};
        naive_entropy(wide, expected, &e);
        k->softmax_cross_entropy(N, C, x, at % 3 == 2 ? NULL : labels, at % 3 == 2 ? target : NULL, smoothing, scale, loss, grad);
        near("softmax_cross_entropy", at, N, loss, expected, 2e-6);
        near("softmax_cross_entropy, gradient", at, count, grad, derived(naive_entropy, &e, count, wide, N, scales), 2e-6);
        release();
    }
}

enum { BCE_LOGITS, SQUARED, HUBER, SMOOTH };

static double entry_loss(int kind, double x, double t, double p) {
    const double d = fabs(x - t);
    switch (kind) {
    case BCE_LOGITS: return fmax(x, 0) - x * t + log1p(exp(-fabs(x)));
    case SQUARED: return d * d;
    case HUBER: return d < p ? d * d / 2 : p * (d - p / 2);
    default: return d < p ? d * d / (2 * p) : d - p / 2;
    }
}

static void check_losses(const struct kernels *k) {
    enum { COUNT = 1003 };
    const elementwise_loss_kernel kernels[] = {k->bce_with_logits, k->mse, k->huber, k->smooth_l1};
    check_entropies(k);
    for (int kind = BCE_LOGITS; kind <= SMOOTH; kind++) {
        const double p = 0.8, scale = 0.3, step = 1e-6;
        float *x = drawn(COUNT, -3, 3), *target = drawn(COUNT, 0, 1), *loss = floats(COUNT), *grad = floats(COUNT);
        double *expected = doubles(COUNT), *slope = doubles(COUNT);
        for (int i = 0; i < COUNT; i++) {
            expected[i] = entry_loss(kind, x[i], target[i], p);
            slope[i] = scale * (entry_loss(kind, x[i] + step, target[i], p) - entry_loss(kind, x[i] - step, target[i], p)) / (2 * step);
        }
        kernels[kind](COUNT, x, target, p, scale, loss, grad);
        near("a loss of entries", kind, COUNT, loss, expected, 1e-6);
        near("a loss of entries, gradient", kind, COUNT, grad, slope, 2e-6);
        release();
    }
}

/* ---- updates ---- */

/* One entry's update, by the formulas of the papers as PyTorch has them; s: its state */
static double updated(const struct optimizer *o, int momentum_kept, int centred, double param, double grad, double *s) {
    double g = o->scale * grad + o->weight_decay * param + o->l1 * ((param > 0) - (param < 0)), square, step;
    switch (o->kind) {
    case OPTIMIZER_ADAM:
        s[0] = o->beta1 * s[0] + (1 - o->beta1) * g;
        s[1] = o->beta2 * s[1] + (1 - o->beta2) * g * g;
        return o->shrink * param - o->step_size * s[0] / (sqrt(s[1]) / o->correction + o->eps);
    case OPTIMIZER_ADAGRAD:
        s[0] += g * g;
        return param - o->lr * g / (sqrt(s[0]) + o->eps);
    case OPTIMIZER_RMSPROP:
        square = s[0] = o->beta2 * s[0] + (1 - o->beta2) * g * g;
        if (centred) s[2] = o->beta2 * s[2] + (1 - o->beta2) * g, square -= s[2] * s[2];
        step = g / (sqrt(fmax(0, square)) + o->eps);
        if (momentum_kept) step = s[1] = o->momentum * s[1] + step;
        return param - o->lr * step;
    case OPTIMIZER_RPROP:
        if (s[0] * g > 0) s[1] = fmin(s[1] * o->eta_plus, o->most_step);
        else if (s[0] * g < 0) s[1] = fmax(s[1] * o->eta_minus, o->least_step), g = 0;
        s[0] = g;
        return param - ((g > 0) - (g < 0)) * s[1];
    default:
        if (!momentum_kept) return param - o->lr * g;
        s[0] = o->momentum * s[0] + o->take * g;
        return param - o->lr * (o->nesterov ? g + o->momentum * s[0] : s[0]);
    }
}

static void check_updates(const struct kernels *k) {
    static const struct { int kind, kept, centred, nesterov; } ways[] = {
        {OPTIMIZER_SGD, 0, 0, 0},     {OPTIMIZER_SGD, 1, 0, 0},     {OPTIMIZER_SGD, 1, 0, 1},  {OPTIMIZER_RPROP, 0, 0, 0},
        {OPTIMIZER_ADAGRAD, 0, 0, 0}, {OPTIMIZER_RMSPROP, 0, 0, 0}, {OPTIMIZER_RMSPROP, 1, 0, 0}, {OPTIMIZER_RMSPROP, 0, 1, 0},
        {OPTIMIZER_RMSPROP, 1, 1, 0}, {OPTIMIZER_ADAM, 0, 0, 0},
    };
    for (int64_t at = 0; at < 3 * (int64_t)(sizeof ways / sizeof *ways); at++) {
        enum { COUNT = 8203 };
        const int kind = ways[at / 3].kind, kept = ways[at / 3].kept, centred = ways[at / 3].centred;
        const struct optimizer o = {
            .kind = kind, .lr = 0.01, .weight_decay = at % 3 ? 0.1 : 0, .l1 = at % 3 == 2 ? 0.05 : 0, .momentum = 0.9, .take = 0.8,
            .nesterov = ways[at / 3].nesterov, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-3, .step_size = 0.02, .correction = 0.5,
            .shrink = 0.999, .eta_minus = 0.5, .eta_plus = 1.2, .least_step = 1e-6, .most_step = 0.02, .scale = 0.7};
        const int used[3] = {kind != OPTIMIZER_SGD || kept, kind == OPTIMIZER_RPROP || kind == OPTIMIZER_ADAM || (kind == OPTIMIZER_RMSPROP && kept),
                             centred};
        float *param = some(COUNT), *state[3];
        double *wide = widened(COUNT, param), *states = doubles(3 * COUNT);
        for (int s = 0; s < 3; s++) state[s] = used[s] ? zeros(COUNT) : NULL;
        for (int i = 0; kind == OPTIMIZER_RPROP && i < COUNT; i++) states[3 * i + 1] = state[1][i] = 0.01f;
        for (int step = 0; step < 3; step++) {
            float *grad = some(COUNT);
            for (int i = 0; i < COUNT; i++) wide[i] = updated(&o, kept, centred, wide[i], grad[i], states + 3 * i);
            k->update(&o, COUNT, param, grad, state);
        }
        near("update", at, COUNT, param, wide, 5e-6);
        release();
    }
}

#endif
