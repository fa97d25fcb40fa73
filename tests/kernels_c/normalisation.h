/* Checks of batch, layer, group and RMS normalisation, and of recurrent layers; the contracts are in table.h. */
#ifndef KERNELS_C_NORMALISATION_H
#define KERNELS_C_NORMALISATION_H

#include "common.h"

static const double EPS = 1e-5;

/* What is normalised together: of batch norm a channel of all images, of group norm a group of channels of one image. */
struct norm { int64_t N, C, P, groups; int batch, centred; const double *weight, *bias; };

static int64_t norm_sets(const struct norm *t) { return t->batch ? t->C : t->N * t->groups; }
static int64_t norm_set_of(const struct norm *t, int64_t i) {
    const int64_t n = i / (t->C * t->P), c = i / t->P % t->C;
    return t->batch ? c : n * t->groups + c / (t->C / t->groups);
}

static void norm_moments(const struct norm *t, const double *x, double *mean, double *var) {
    const int64_t count = t->N * t->C * t->P, sets = norm_sets(t), members = count / sets;
    memset(mean, 0, (size_t)sets * sizeof(double));
    memset(var, 0, (size_t)sets * sizeof(double));
    for (int64_t i = 0; i < count && t->centred; i++) mean[norm_set_of(t, i)] += x[i] / (double)members;
    for (int64_t i = 0; i < count; i++) {
        const double d = x[i] - mean[norm_set_of(t, i)];
        var[norm_set_of(t, i)] += d * d / (double)members;
    }
}

static void naive_norm(const double *x, double *y, const void *arguments) {
    const struct norm *t = arguments;
    static double mean[64], var[64];
    norm_moments(t, x, mean, var);
    for (int64_t i = 0; i < t->N * t->C * t->P; i++) {
        const int64_t c = i / t->P % t->C, set = norm_set_of(t, i);
        y[i] = (x[i] - mean[set]) / sqrt(var[set] + EPS) * t->weight[c] + (t->bias ? t->bias[c] : 0);
    }
}

/* grad_weight = sum of grad * (x - mean) / deviation, grad_bias = sum of grad, of each channel */
static void naive_norm_weights(const struct norm *t, const double *x, const float *grad, double *grad_weight, double *grad_bias) {
    static double mean[64], var[64];
    norm_moments(t, x, mean, var);
    for (int64_t i = 0; i < t->N * t->C * t->P; i++) {
        const int64_t c = i / t->P % t->C, set = norm_set_of(t, i);
        grad_weight[c] += grad[i] * (x[i] - mean[set]) / sqrt(var[set] + EPS);
        grad_bias[c] += grad[i];
    }
}

static void check_batch_norm(const struct kernels *k) {
    static const int64_t shapes[][3] = {{8, 5, 1}, {3, 4, 9}, {2, 3, 49}, {6, 17, 4}};
    for (int64_t at = 0; at < (int64_t)(sizeof shapes / sizeof *shapes); at++) {
        struct norm t = {shapes[at][0], shapes[at][1], shapes[at][2], 1, 1, 1, NULL, NULL};
        const int64_t count = t.N * t.C * t.P;
        float *x = drawn(count, 2, 5), *weight = some(t.C), *bias = some(t.C), *grad = some(count), *mean = floats(t.C), *var = floats(t.C);
        float *y = floats(count), *grad_x = floats(count), *grad_weight = floats(t.C), *grad_bias = floats(t.C);
        double *wide = widened(count, x), *means = doubles(t.C), *vars = doubles(t.C), *expected = doubles(count);
        double *weights = doubles(t.C), *biases = doubles(t.C);
        t.weight = widened(t.C, weight), t.bias = widened(t.C, bias);
        norm_moments(&t, wide, means, vars);
        naive_norm(wide, expected, &t);
        naive_norm_weights(&t, wide, grad, weights, biases);
        expect("batch_norm_statistics", at, k->batch_norm_statistics(t.N, t.C, t.P, x, mean, var) == 0);
        near("batch_norm_statistics, mean", at, t.C, mean, means, 1e-6);
        near("batch_norm_statistics, variance", at, t.C, var, vars, 1e-6);
        expect("batch_norm_forward", at, k->batch_norm_forward(t.N, t.C, t.P, x, mean, var, weight, bias, EPS, y) == 0);
        near("batch_norm_forward", at, count, y, expected, 3e-6);
        expect("batch_norm_backward_weight", at,
               k->batch_norm_backward_weight(t.N, t.C, t.P, grad, x, mean, var, EPS, grad_weight, grad_bias) == 0);
        near("batch_norm_backward_weight", at, t.C, grad_weight, weights, 3e-6);
        near("batch_norm_backward_weight, bias", at, t.C, grad_bias, biases, 3e-6);
        expect("batch_norm_backward_input", at,
               k->batch_norm_backward_input(t.N, t.C, t.P, grad, x, mean, var, weight, grad_weight, grad_bias, EPS, grad_x) == 0);
        near("batch_norm_backward_input", at, count, grad_x, derived(naive_norm, &t, count, wide, count, widened(count, grad)), 1e-5);
        release();
    }
}

static void check_group_norm(const struct kernels *k) {
    static const int64_t shapes[][4] = {{3, 7, 1, 1}, {4, 33, 1, 1}, {2, 6, 10, 3}, {3, 8, 5, 2}};
    for (int64_t at = 0; at < 2 * (int64_t)(sizeof shapes / sizeof *shapes); at++) {
        struct norm t = {shapes[at / 2][0], shapes[at / 2][1], shapes[at / 2][2], shapes[at / 2][3], 0, (int)(at % 2), NULL, NULL};
        const int64_t count = t.N * t.C * t.P;
        float *x = drawn(count, -1, 3), *weight = some(t.C), *bias = some(t.C), *grad = some(count), *y = floats(count);
        float *statistics = floats(2 * t.N * t.groups), *grad_x = floats(count), *grad_weight = floats(t.C), *grad_bias = floats(t.C);
        double *wide = widened(count, x), *expected = doubles(count), *weights = doubles(t.C), *biases = doubles(t.C);
        t.weight = widened(t.C, weight), t.bias = widened(t.C, bias);
        naive_norm(wide, expected, &t);
        naive_norm_weights(&t, wide, grad, weights, biases);
        k->group_norm_forward(t.N, t.C, t.P, t.groups, t.centred, x, weight, bias, EPS, y, statistics);
        near("group_norm_forward", at, count, y, expected, 3e-6);
        expect("group_norm_backward", at, k->group_norm_backward(t.N, t.C, t.P, t.groups, t.centred, grad, x, statistics, weight,
                                                                 grad_x, grad_weight, grad_bias) == 0);
        near("group_norm_backward", at, count, grad_x, derived(naive_norm, &t, count, wide, count, widened(count, grad)), 1e-5);
        near("group_norm_backward, weight", at, t.C, grad_weight, weights, 3e-6);
        near("group_norm_backward, bias", at, t.C, grad_bias, biases, 3e-6);
        release();
    }
}

/* ---- recurrent layers ---- */

static double squashed(double x) { return 1 / (1 + exp(-x)); }

/* gates (T, B, G H) to y (T, B, H), and for LSTM the last c behind it; the weights are those of `arguments` */
static void naive_recurrent(const double *gates, double *y, const void *arguments) {
    const struct recurrent *r = arguments;
    const int64_t G = r->mode == RECURRENT_GRU ? 3 : r->mode == RECURRENT_LSTM ? 4 : 1, H = r->H;
    static double h[64], next[64], c[64];
    for (int64_t b = 0; b < r->B; b++) {
        for (int64_t j = 0; j < H; j++) h[j] = r->h0 ? r->h0[b * H + j] : 0, c[j] = r->c0 ? r->c0[b * H + j] : 0;
        for (int64_t step = 0; step < r->T; step++) {
            const int64_t t = r->reverse ? r->T - 1 - step : step;
            const double *x = gates + (t * r->B + b) * G * H;
            for (int64_t j = 0; j < H; j++) {
                double s[4] = {0};
                for (int64_t g = 0; g < G; g++) for (int64_t i = 0; i < H; i++) s[g] += r->weight[(g * H + j) * H + i] * h[i];
                if (r->mode == RECURRENT_TANH) next[j] = tanh(x[j] + s[0]);
                else if (r->mode == RECURRENT_RELU) next[j] = fmax(0, x[j] + s[0]);
                else if (r->mode == RECURRENT_GRU) {
                    const double reset = squashed(x[j] + s[0]), z = squashed(x[H + j] + s[1]);
                    const double n = tanh(x[2 * H + j] + reset * (s[2] + (r->bias ? r->bias[j] : 0)));
                    next[j] = n + z * (h[j] - n);
                } else {
                    c[j] = squashed(x[H + j] + s[1]) * c[j] + squashed(x[j] + s[0]) * tanh(x[2 * H + j] + s[2]);
                    next[j] = squashed(x[3 * H + j] + s[3]) * tanh(c[j]);
                }
            }
            for (int64_t j = 0; j < H; j++) h[j] = y[(t * r->B + b) * H + j] = next[j];
        }
        if (r->mode == RECURRENT_LSTM) for (int64_t j = 0; j < H; j++) y[(r->T * r->B + b) * H + j] = c[j];
    }
}

static void check_recurrent(const struct kernels *k) {
    static const int64_t sizes[][3] = {{1, 1, 1}, {3, 2, 5}, {4, 3, 6}, {2, 13, 4}};
    for (int64_t at = 0; at < 32; at++) {
        const int64_t *size = sizes[at / 8], mode = at / 2 % 4, G = mode == RECURRENT_GRU ? 3 : mode == RECURRENT_LSTM ? 4 : 1;
        const int64_t T = size[0], B = size[1], H = size[2], entries = T * B * G * H, outputs = T * B * H + (mode == RECURRENT_LSTM ? B * H : 0);
        float *gates = some(entries), *y = floats(outputs), *extra = floats(T * B * H), *grad = some(outputs);
        struct recurrent r = {.mode = mode, .T = T, .B = B, .H = H, .reverse = at % 2, .gates = gates, .y = y,
                              .extra = mode >= RECURRENT_GRU ? extra : NULL, .weight = some(G * H * H),
                              .bias = mode == RECURRENT_GRU ? some(H) : NULL, .h0 = some(B * H),
                              .c0 = mode == RECURRENT_LSTM ? some(B * H) : NULL, .grad = grad, .grad_gates = floats(entries),
                              .grad_extra = mode == RECURRENT_GRU ? floats(T * B * H) : NULL, .grad_h0 = floats(B * H),
                              .grad_c0 = mode == RECURRENT_LSTM ? floats(B * H) : NULL};
        double *wide = widened(entries, gates), *expected = doubles(outputs);
        naive_recurrent(wide, expected, &r);
        expect("recurrent_forward", at, k->recurrent_forward(&r) == 0);
        near("recurrent_forward", at, outputs, y, expected, 2e-6);
        expect("recurrent_backward", at, k->recurrent_backward(&r) == 0);
        near("recurrent_backward", at, entries, r.grad_gates,
             derived(naive_recurrent, &r, entries, wide, outputs, widened(outputs, grad)), 1e-5);
        release();
    }
}

#endif
