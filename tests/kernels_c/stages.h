/* Checks of the stages that compiled plans run: chains of convolutions and dense layers, both ways; the contracts are in plan/stages.h. */
#ifndef KERNELS_C_STAGES_H
#define KERNELS_C_STAGES_H

#include "common.h"

static void check_dense_stages(const struct kernels *k) {
    /* six forward by panels of outputs: a row past a tile, outputs past a vector, images of several tasks, a short I; then sums of the
     * backward that are joined, over outputs and over images */
    static const int64_t shapes[][3] = {{1, 5, 3},     {4, 16, 8},     {7, 33, 10},  {64, 40, 30},  {2, 300, 11},  {17, 10, 33}, {97, 65, 49},
                                        {300, 24, 100}, {130, 200, 70}, {40, 3, 257}, {65, 150, 96}, {40, 20, 4200}, {4200, 20, 17}};
    for (int64_t at = 0; at < 2 * (int64_t)(sizeof shapes / sizeof *shapes); at++) {
        const int64_t N = shapes[at / 2][0], I = shapes[at / 2][1], O = shapes[at / 2][2];
        const int relu = at % 2;
        float *x = some(N * I), *weight = some(O * I), *bias = some(O), *grad = some(N * O);
        struct dense d = {.N = N, .I = I, .O = O, .activation = relu ? ACTIVATION_RELU : ACTIVATION_NONE, .x = x, .weight = weight,
                          .bias = bias, .y = floats(N * O), .grad_y = grad, .grad_x = floats(N * I), .grad_weight = floats(O * I),
                          .grad_bias = floats(O)};
        struct program program = {.input = x};
        double *y = doubles(N * O), *grad_x = doubles(N * I), *grad_weight = doubles(O * I), *grad_bias = doubles(O);
        d.work = memory(k->dense_work_bytes(&d));
        for (int64_t n = 0; n < N; n++) for (int64_t o = 0; o < O; o++) {
            double sum = bias[o];
            for (int64_t i = 0; i < I; i++) sum += (double)x[n * I + i] * weight[o * I + i];
            y[n * O + o] = relu && sum < 0 ? 0 : sum;
            if (relu && sum <= 0) continue;
            grad_bias[o] += grad[n * O + o];
            for (int64_t i = 0; i < I; i++) {
                grad_x[n * I + i] += (double)grad[n * O + o] * weight[o * I + i];
                grad_weight[o * I + i] += (double)grad[n * O + o] * x[n * I + i];
            }
        }
        expect("dense_forward", at, k->dense_forward(&d, &program) == PROGRAM_DONE);
        near("dense_forward", at, N * O, d.y, y, 1e-5);
        expect("dense_backward", at, k->dense_backward(&d, &program) == PROGRAM_DONE);
        near("dense_backward, input", at, N * I, d.grad_x, grad_x, 1e-5);
        near("dense_backward, weight", at, O * I, d.grad_weight, grad_weight, 1e-5);
        near("dense_backward, bias", at, O, d.grad_bias, grad_bias, 1e-5);
        release();
    }
}

/* ---- chains ---- */

/* One layer on N images: convolution, bias, ReLU, max-pooling. x (N, C, H, W), conv (N, O, OH, OW) before the bias' ReLU, y (N, O, PH, PW) */
static void naive_layer(const struct chain_layer *l, int64_t N, const double *x, double *conv, double *y) {
    for (int64_t at = 0; at < N * l->O * l->OH * l->OW; at++) {
        const int64_t n = at / (l->O * l->OH * l->OW), o = at / (l->OH * l->OW) % l->O, oh = at / l->OW % l->OH, ow = at % l->OW;
        conv[at] = l->bias[o];
        for (int64_t c = 0; c < l->C; c++) for (int64_t i = 0; i < l->kh; i++) for (int64_t j = 0; j < l->kw; j++) {
            const int64_t h = oh + i - l->pad_h, w = ow + j - l->pad_w;
            if (h >= 0 && h < l->H && w >= 0 && w < l->W)
                conv[at] += x[((n * l->C + c) * l->H + h) * l->W + w] * l->weight[((o * l->C + c) * l->kh + i) * l->kw + j];
        }
    }
    for (int64_t at = 0; at < N * l->O * l->PH * l->PW; at++) {
        const int64_t plane = at / (l->PH * l->PW), ph = at / l->PW % l->PH, pw = at % l->PW;
        y[at] = 0; /* ReLU */
        for (int64_t i = 0; i < l->pool; i++) for (int64_t j = 0; j < l->pool; j++)
            y[at] = fmax(y[at], conv[(plane * l->OH + ph * l->pool + i) * l->OW + pw * l->pool + j]);
    }
}

/* The way back: grad_x, and into the last two the weights' gradients */
static void naive_layer_backward(const struct chain_layer *l, int64_t N, const double *x, const double *conv, const double *y,
                                 const double *grad_y, double *grad_x, double *grad_weight, double *grad_bias) {
    for (int64_t at = 0; at < N * l->O * l->PH * l->PW; at++) {
        const int64_t n = at / (l->O * l->PH * l->PW), plane = at / (l->PH * l->PW), o = plane % l->O;
        const int64_t ph = at / l->PW % l->PH, pw = at % l->PW;
        int64_t oh = -1, ow = -1;
        if (y[at] <= 0) continue;
        for (int64_t i = 0; i < l->pool; i++) for (int64_t j = 0; j < l->pool; j++)
            if (conv[(plane * l->OH + ph * l->pool + i) * l->OW + pw * l->pool + j] == y[at]) oh = ph * l->pool + i, ow = pw * l->pool + j;
        grad_bias[o] += grad_y[at];
        for (int64_t c = 0; c < l->C; c++) for (int64_t i = 0; i < l->kh; i++) for (int64_t j = 0; j < l->kw; j++) {
            const int64_t h = oh + i - l->pad_h, w = ow + j - l->pad_w;
            if (h < 0 || h >= l->H || w < 0 || w >= l->W) continue;
            const int64_t from = ((n * l->C + c) * l->H + h) * l->W + w, tap = ((o * l->C + c) * l->kh + i) * l->kw + j;
            grad_x[from] += grad_y[at] * l->weight[tap];
            grad_weight[tap] += grad_y[at] * x[from];
        }
    }
}

static void check_chain(const struct kernels *k, int64_t at, int64_t N, int64_t C, int64_t H, int64_t W, const int64_t (*layers)[4], int training) {
    struct chain c = {.N = N, .layers = 2, .training = training};
    struct program program = {0};
    double *values[3], *conv[2], *grads[3];
    int64_t sizes[3] = {C * H * W};
    for (int i = 0; i < 2; i++) {
        const int64_t O = layers[i][0], kernel = layers[i][1], pad = layers[i][2], pool = layers[i][3];
        struct chain_layer *l = &c.layer[i];
        *l = (struct chain_layer){
            .C = C, .H = H, .W = W, .O = O, .kh = kernel, .kw = kernel, .pad_h = pad, .pad_w = pad, .OH = H + 2 * pad - kernel + 1,
            .OW = W + 2 * pad - kernel + 1, .activation = ACTIVATION_RELU, .pool_kind = pool > 1 ? POOL_MAX : POOL_NONE, .pool = pool,
            .pool_h = pool, .pool_w = pool, .pool_stride_h = pool, .pool_stride_w = pool, .weight = some(O * C * kernel * kernel),
            .bias = some(O), .grad_weight = floats(O * C * kernel * kernel), .grad_bias = floats(O)};
        C = O, H = l->PH = l->OH / pool, W = l->PW = l->OW / pool;
        sizes[i + 1] = C * H * W;
    }
    float *x = some(N * sizes[0]), *grad = some(N * sizes[2]);
    c.x = x, c.y = floats(N * sizes[2]), c.grad_y = grad, c.grad_x = floats(N * sizes[0]);
    if (!k->chain_supports(&c)) return;
    values[0] = widened(N * sizes[0], x);
    for (int i = 0; i < 2; i++) {
        conv[i] = doubles(N * c.layer[i].O * c.layer[i].OH * c.layer[i].OW);
        values[i + 1] = doubles(N * sizes[i + 1]);
        naive_layer(&c.layer[i], N, values[i], conv[i], values[i + 1]);
    }
    c.state = memory(k->chain_state_bytes(&c));
    expect("chain_forward", at, k->chain_forward(&c, &program) == PROGRAM_DONE);
    near(k->chain_name(&c), at, N * sizes[2], c.y, values[2], 2e-5);
    if (!training) return;
    expect("chain_backward", at, k->chain_backward(&c, &program) == PROGRAM_DONE);
    grads[2] = widened(N * sizes[2], grad);
    for (int i = 1; i >= 0; i--) {
        const struct chain_layer *l = &c.layer[i];
        double *grad_weight = doubles(l->O * l->C * l->kh * l->kw), *grad_bias = doubles(l->O);
        grads[i] = doubles(N * sizes[i]);
        naive_layer_backward(l, N, values[i], conv[i], values[i + 1], grads[i + 1], grads[i], grad_weight, grad_bias);
        near("chain_backward, weight", at * 10 + i, l->O * l->C * l->kh * l->kw, l->grad_weight, grad_weight, 2e-5);
        near("chain_backward, bias", at * 10 + i, l->O, l->grad_bias, grad_bias, 2e-5);
    }
    near("chain_backward, input", at, N * sizes[0], c.grad_x, grads[0], 2e-5);
}

static void check_chains(const struct kernels *k) {
    static const int64_t networks[][2][4] = {   /* channels, kernel, padding, pooling */
        {{6, 5, 0, 2}, {5, 3, 1, 1}},
        {{16, 3, 1, 1}, {32, 3, 1, 2}},
        {{8, 3, 1, 2}, {16, 3, 0, 1}},
    };
    static const int64_t batches[] = {1, 3, 16};
    for (int64_t at = 0; at < 18; at++) {
        check_chain(k, at, batches[at / 2 % 3], at / 6 == 2 ? 3 : 1, 12, 14, networks[at / 6], (int)(at % 2));
        release();
    }
}

#endif
