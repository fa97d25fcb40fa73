/* Checks of the kernels of single operators; the contracts are in table.h. */
#ifndef KERNELS_C_OPERATORS_H
#define KERNELS_C_OPERATORS_H

#include "common.h"

static void check_products(const struct kernels *k) {
    /* of the last one each thread packs panels for itself, in two blocks of K */
    static const int64_t shapes[][3] = {{1, 1, 1},   {3, 9, 5},    {4, 7, 33},     {5, 8, 4},      {6, 16, 40},
                                        {7, 17, 19}, {12, 31, 65}, {37, 70, 1100}, {20, 300, 1100}};
    for (int64_t i = 0; i < (int64_t)(sizeof shapes / sizeof *shapes); i++) for (int turned = 0; turned < 4; turned++) {
        const int64_t M = shapes[i][0], N = shapes[i][1], K = shapes[i][2];
        const int64_t a_row = turned & 1 ? 1 : K, a_col = turned & 1 ? M : 1, b_row = turned & 2 ? 1 : N, b_col = turned & 2 ? K : 1;
        float *a = some(M * K), *b = some(K * N), *bias = turned ? some(N) : NULL, *c = floats(M * N);
        double *expected = doubles(M * N);
        for (int64_t m = 0; m < M; m++) for (int64_t n = 0; n < N; n++) {
            expected[m * N + n] = bias ? bias[n] : 0;
            for (int64_t j = 0; j < K; j++) expected[m * N + n] += (double)a[m * a_row + j * a_col] * b[j * b_row + n * b_col];
        }
        expect("sgemm", i, k->sgemm(M, N, K, a, a_row, a_col, b, b_row, b_col, bias, c) == 0);
        near("sgemm", i, M * N, c, expected, 1e-5);
        release();
    }
    float *x = some(40001);
    double total = 0, expected = 0;
    for (int i = 0; i < 40001; i++) expected += (double)x[i] * x[i];
    expect("sum of squares", 0, k->sum_of_squares(40001, x, &total) == 0 && fabs(total - expected) < 1e-5 * expected);
}

/* ---- convolution ---- */

/* Calls VISIT(y's index, x's index, weight's index, o) for every product of a convolution. */
#define CONVOLVE(s, VISIT)                                                                                              \
    for (int64_t n = 0; n < s.N; n++) for (int64_t o = 0; o < s.O; o++)                                                 \
    for (int64_t oh = 0; oh < s.OH; oh++) for (int64_t ow = 0; ow < s.OW; ow++)                                         \
    for (int64_t c = 0; c < s.C / s.groups; c++) for (int64_t i = 0; i < s.kh; i++) for (int64_t j = 0; j < s.kw; j++) { \
        const int64_t h = oh * s.stride_h + i * s.dilation_h - s.pad_h, w = ow * s.stride_w + j * s.dilation_w - s.pad_w; \
        const int64_t from = o / (s.O / s.groups) * (s.C / s.groups) + c;                                               \
        if (h < 0 || h >= s.H || w < 0 || w >= s.W) continue;                                                           \
        VISIT(((n * s.O + o) * s.OH + oh) * s.OW + ow, ((n * s.C + from) * s.H + h) * s.W + w,                          \
              ((o * (s.C / s.groups) + c) * s.kh + i) * s.kw + j);                                                      \
    }

static void check_convolutions(const struct kernels *k) {
    static const struct { int64_t N, C, H, W, O, kh, kw, stride, pad, dilation, groups; } shapes[] = {
        {2, 1, 7, 9, 3, 3, 3, 1, 1, 1, 1},  {3, 3, 12, 12, 8, 5, 5, 1, 0, 1, 1},  {2, 8, 8, 8, 16, 3, 3, 2, 1, 1, 1},
        {1, 16, 9, 7, 24, 1, 1, 1, 0, 1, 1}, {2, 12, 10, 10, 12, 3, 3, 1, 1, 1, 12}, {2, 8, 9, 9, 12, 3, 3, 1, 2, 2, 4},
        {8, 16, 4, 4, 64, 4, 4, 1, 0, 1, 1}, {2, 5, 6, 17, 7, 3, 2, 1, 1, 1, 1},  {2, 17, 14, 14, 9, 3, 3, 1, 1, 1, 1},
    };
    for (int64_t at = 0; at < (int64_t)(sizeof shapes / sizeof *shapes); at++) {
        struct conv2d_shape s = {
            .N = shapes[at].N, .C = shapes[at].C, .H = shapes[at].H, .W = shapes[at].W, .O = shapes[at].O, .kh = shapes[at].kh,
            .kw = shapes[at].kw, .stride_h = shapes[at].stride, .stride_w = shapes[at].stride, .pad_h = shapes[at].pad,
            .pad_w = shapes[at].pad, .dilation_h = shapes[at].dilation, .dilation_w = shapes[at].dilation, .groups = shapes[at].groups};
        s.OH = (s.H + 2 * s.pad_h - (s.kh - 1) * s.dilation_h - 1) / s.stride_h + 1;
        s.OW = (s.W + 2 * s.pad_w - (s.kw - 1) * s.dilation_w - 1) / s.stride_w + 1;
        const int64_t ins = s.N * s.C * s.H * s.W, outs = s.N * s.O * s.OH * s.OW, weights = s.O * s.C / s.groups * s.kh * s.kw;
        float *x = some(ins), *weight = some(weights), *bias = some(s.O), *grad = some(outs);
        double *y = doubles(outs), *grad_x = doubles(ins), *grad_weight = doubles(weights), *grad_bias = doubles(s.O);
        for (int64_t i = 0; i < outs; i++) {
            const int64_t o = i / (s.OH * s.OW) % s.O;
            y[i] = bias[o];
            grad_bias[o] += grad[i];
        }
#define VISIT(to, source, tap)                             \
    y[to] += (double)x[source] * weight[tap];              \
    grad_x[source] += (double)grad[to] * weight[tap];      \
    grad_weight[tap] += (double)grad[to] * x[source]
        CONVOLVE(s, VISIT)
#undef VISIT
        for (int algorithm = CONV2D_AUTO; algorithm <= CONV2D_IM2COL; algorithm++) {
            float *got = floats(outs), *got_x = floats(ins), *got_weight = floats(weights), *got_bias = floats(s.O);
            expect("conv2d_forward", at, k->conv2d_forward(&s, algorithm, x, weight, bias, got) == 0);
            near("conv2d_forward", at, outs, got, y, 1e-5);
            expect("conv2d_backward_input", at, k->conv2d_backward_input(&s, algorithm, grad, weight, got_x) == 0);
            near("conv2d_backward_input", at, ins, got_x, grad_x, 1e-5);
            expect("conv2d_backward_weight", at, k->conv2d_backward_weight(&s, algorithm, grad, x, got_weight, got_bias) == 0);
            near("conv2d_backward_weight", at, weights, got_weight, grad_weight, 1e-5);
            near("conv2d_backward_weight, bias", at, s.O, got_bias, grad_bias, 1e-5);
        }
        release();
    }
}

/* ---- pooling ---- */

static void check_pooling(const struct kernels *k) {
    static const int64_t shapes[][6] = {{3, 8, 8, 2, 2, 0}, {2, 9, 7, 3, 2, 1}, {5, 5, 13, 2, 1, 1}, {2, 7, 19, 3, 3, 0}, {1, 6, 6, 5, 1, 2}};
    for (int64_t at = 0; at < (int64_t)(sizeof shapes / sizeof *shapes) * 2; at++) {
        const int64_t *p = shapes[at / 2], planes = p[0], H = p[1], W = p[2], OH = (H + 2 * p[5] - p[3]) / p[4] + 1;
        const int64_t OW = (W + 2 * p[5] - p[3]) / p[4] + 1, ins = planes * H * W, outs = planes * OH * OW;
        struct pool2d_shape s = {planes, H, W, p[3], p[3], OH, OW, p[4], p[4], p[5], p[5], (int)(at % 2)};
        float *x = some(ins), *grad = some(outs), *got = floats(outs), *got_x = floats(ins);
        int32_t *argmax = memory(outs * 4);
        double *largest = doubles(outs), *mean = doubles(outs), *grad_largest = doubles(ins), *grad_mean = doubles(ins);
        for (int64_t i = 0; i < outs; i++) {
            const int64_t plane = i / (OH * OW), h0 = i / OW % OH * p[4] - p[5], w0 = i % OW * p[4] - p[5];
            int64_t best = -1, inside = 0;
            for (int pass = 0; pass < 2; pass++) {
                const double share = at % 2 ? p[3] * p[3] : inside;
                for (int64_t h = h0; h < h0 + p[3]; h++) for (int64_t w = w0; w < w0 + p[3]; w++) {
                    const int64_t from = (plane * H + h) * W + w;
                    if (h < 0 || h >= H || w < 0 || w >= W) continue;
                    if (pass) {
                        mean[i] += x[from] / share;
                        grad_mean[from] += grad[i] / share;
                    } else if (inside++ == 0 || x[from] > x[best]) best = from;
                }
            }
            largest[i] = x[best];
            grad_largest[best] += grad[i];
        }
        expect("max_pool2d_forward", at, k->max_pool2d_forward(&s, x, got, argmax) == 0);
        near("max_pool2d_forward", at, outs, got, largest, 0);
        k->max_pool2d_backward_input(planes, H * W, OH * OW, grad, argmax, got_x);
        near("max_pool2d_backward_input", at, ins, got_x, grad_largest, 1e-6);
        expect("avg_pool2d_forward", at, k->avg_pool2d_forward(&s, x, got) == 0);
        near("avg_pool2d_forward", at, outs, got, mean, 1e-6);
        expect("avg_pool2d_backward_input", at, k->avg_pool2d_backward_input(&s, grad, got_x) == 0);
        near("avg_pool2d_backward_input", at, ins, got_x, grad_mean, 1e-6);

        double *whole = doubles(planes), *grad_whole = doubles(ins);
        float *got_whole = floats(planes);
        for (int64_t i = 0; i < ins; i++) {
            whole[i / (H * W)] += x[i] / (double)(H * W);
            grad_whole[i] = grad[i / (H * W)] / (double)(H * W);
        }
        k->global_avg_pool2d_forward(planes, H * W, x, got_whole);
        near("global_avg_pool2d_forward", at, planes, got_whole, whole, 1e-6);
        k->global_avg_pool2d_backward_input(planes, H * W, grad, got_x);
        near("global_avg_pool2d_backward_input", at, ins, got_x, grad_whole, 1e-6);
        release();
    }
}

/* ---- element by element ---- */

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

static double activated(int kind, double x, double p) {
    switch (kind) {
    case ACTIVATION_RELU: return x > 0 ? x : 0;
    case ACTIVATION_LEAKY_RELU: return x > 0 ? x : p * x;
    case ACTIVATION_TANH: return tanh(x);
    case ACTIVATION_SIGMOID: return sigmoid(x);
    case ACTIVATION_ELU: return x > 0 ? x : p * (exp(x) - 1);
    case ACTIVATION_GELU: return x / 2 * (1 + erf(x / sqrt(2)));
    case ACTIVATION_SILU: return x * sigmoid(x);
    case ACTIVATION_RELU6: return fmin(fmax(x, 0), 6);
    case ACTIVATION_HARDSWISH: return x * fmin(fmax(x + 3, 0), 6) / 6;
    case ACTIVATION_SOFTPLUS: return log1p(exp(x));
    case ACTIVATION_MISH: return x * tanh(log1p(exp(x)));
    default: return x;
    }
}

static void check_activations(const struct kernels *k) {
    enum { LONGEST = (1 << 14) + 77 };
    static const int64_t counts[] = {1, 3, 5, 67, LONGEST};
    for (int at = 0; at < 5; at++) for (int kind = ACTIVATION_RELU; kind <= ACTIVATION_MISH; kind++) {
        const int64_t count = counts[at];
        const double p = kind == ACTIVATION_LEAKY_RELU ? 0.01 : 0.7, step = 1e-6;
        float *x = drawn(count, -8, 8), *grad = some(count), *y = floats(count), *grad_x = floats(count);
        float *same = floats(count);
        double *expected = doubles(count), *slope = doubles(count), *of_one = doubles(count);
        for (int64_t i = 0; i < count; i++) {
            expected[i] = activated(kind, x[i], p);
            slope[i] = grad[i] * (activated(kind, x[i] + step, p) - activated(kind, x[i] - step, p)) / (2 * step);
        }
        k->activation_forward(kind, p, count, x, y);
        near("activation_forward", kind, count, y, expected, 1e-6);
        k->activation_backward_input(kind, p, count, grad, 0, x, grad_x);
        near("activation_backward_input", kind, count, grad_x, slope, 3e-6);
        for (int64_t i = 0; i < count; i++) same[i] = grad[0];
        k->activation_backward_input(kind, p, count, same, 0, x, grad_x);
        for (int64_t i = 0; i < count; i++) of_one[i] = grad_x[i];
        k->activation_backward_input(kind, p, count, grad, 1, x, grad_x);
        near("activation_backward_input of one number", kind, count, grad_x, of_one, 0);    /* the same bits */
        const elementwise_kernel own[][2] = {
            [ACTIVATION_RELU] = {k->relu_forward, k->relu_backward_input},
            [ACTIVATION_LEAKY_RELU] = {k->leaky_relu_forward, k->leaky_relu_backward_input},
            [ACTIVATION_TANH] = {k->tanh_forward, k->tanh_backward_input},
            [ACTIVATION_SIGMOID] = {k->sigmoid_forward, k->sigmoid_backward_input},
            [ACTIVATION_ELU] = {k->elu_forward, k->elu_backward_input},
            [ACTIVATION_GELU] = {k->gelu_forward, k->gelu_backward_input},
            [ACTIVATION_SILU] = {k->silu_forward, k->silu_backward_input},
            [ACTIVATION_MISH] = {NULL, NULL},
        };
        if (!own[kind][0]) continue;
        own[kind][0](count, x, 0, NULL, (float)p, y);
        near("its own kernel, forward", kind, count, y, expected, 1e-6);
        own[kind][1](count, grad, 0, kind == ACTIVATION_TANH || kind == ACTIVATION_SIGMOID ? y : x, (float)p, grad_x);
        near("its own kernel, backward", kind, count, grad_x, slope, 3e-6);
        const float *kept = kind == ACTIVATION_TANH || kind == ACTIVATION_SIGMOID ? y : x;
        own[kind][1](count, same, 0, kept, (float)p, grad_x);
        for (int64_t i = 0; i < count; i++) of_one[i] = grad_x[i];
        own[kind][1](count, grad, 1, kept, (float)p, grad_x);
        near("its own kernel, backward of one number", kind, count, grad_x, of_one, 0);
        release();
    }
}

/* Kept entries are x / (1 - p), as many as p says (within five standard deviations), and others with another seed. */
static void check_dropout(const struct kernels *k) {
    enum { COUNT = 20011 };
    float *x = drawn(COUNT, 1, 2), *y = floats(COUNT), *other = floats(COUNT);
    double *expected = doubles(COUNT);
    int64_t kept = 0, alike = 0;
    k->dropout_forward(COUNT, x, 0.25, 42, 1, y);
    k->dropout_forward(COUNT, x, 0.25, 43, 1, other);
    for (int64_t i = 0; i < COUNT; i++) {
        kept += y[i] != 0;
        alike += (y[i] != 0) == (other[i] != 0);
        expected[i] = y[i] != 0 ? x[i] / 0.75 : 0;
    }
    near("dropout_forward", 0, COUNT, y, expected, 1e-6);
    expect("dropout keeps three quarters", 0, llabs(kept - COUNT * 3 / 4) < 5 * 62);
    expect("another seed, another mask", 0, alike < COUNT * 0.66 && alike > COUNT * 0.59);
}

/* ---- rows ---- */

struct softmax_rows { int64_t N, C; int logarithm; };

static void naive_softmax(const double *x, double *y, const void *arguments) {
    const struct softmax_rows *r = arguments;
    for (int64_t n = 0; n < r->N; n++, x += r->C, y += r->C) {
        double sum = 0;
        for (int64_t c = 0; c < r->C; c++) sum += exp(x[c]);
        for (int64_t c = 0; c < r->C; c++) y[c] = r->logarithm ? x[c] - log(sum) : exp(x[c]) / sum;
    }
}

static void check_softmax(const struct kernels *k) {
    static const int64_t shapes[][2] = {{1, 1}, {3, 10}, {17, 5}, {2, 131}, {9, 33}};
    for (int64_t at = 0; at < 10; at++) {
        const struct softmax_rows r = {shapes[at / 2][0], shapes[at / 2][1], (int)(at % 2)};
        const int64_t count = r.N * r.C;
        float *x = drawn(count, -4, 4), *grad = some(count), *y = floats(count), *grad_x = floats(count);
        double *wide = widened(count, x), *expected = doubles(count);
        naive_softmax(wide, expected, &r);
        (r.logarithm ? k->log_softmax_forward : k->softmax_forward)(r.N, r.C, x, NULL, y);
        near("softmax", at, count, y, expected, 1e-6);
        (r.logarithm ? k->log_softmax_backward_input : k->softmax_backward_input)(r.N, r.C, grad, y, grad_x);
        near("softmax, backward", at, count, grad_x, derived(naive_softmax, &r, count, wide, count, widened(count, grad)), 3e-6);
        release();
    }
}

#endif
