/* Recurrent layers over a whole sequence, one layer and one direction: RNN with tanh or ReLU, GRU, LSTM.
 *
 * The input's part of all gates of all times is one product that comes in; what is left is, time by time, h weight^T (B x H times
 * H x G H) and the gates. Rows of a batch do not depend on each other, so that a task takes some rows through all times, and threads
 * meet once a sequence. Weights are packed for VL units of all G gates, whose sums stay in registers until the new h is made of them.
 * The floor is 2 G H^2 flops a row and time, three times that with backward and the weights' gradient.
 *
 *   RNN   h = tanh(x + W h)
 *   GRU   r = s(x_r + W_r h), z = s(x_z + W_z h), n = tanh(x_n + r (W_n h + b_n)), h = n + z (h - n)
 *   LSTM  i, f, g, o = s, s, tanh, s (x + W h), c = f c + i g, h = o tanh(c)          as PyTorch has them
 */
#ifndef FASTNN_RECURRENT_H
#define FASTNN_RECURRENT_H

#include "base/sums.h"
#include "base/threads.h"
#include "base/vmath.h"
#include "table.h"

enum { RECURRENT_ROWS = 16, RECURRENT_TILE = VL == 16 ? 24 : 12, RECURRENT_BACK = 2, RECURRENT_GATES = 4 };

struct recurrent_work {
    const struct recurrent *r;
    i64 gates, rows;                    /* G; rows of the batch a task */
    float *packed, *zeros, *own;        /* own: rows x (2 + G) H of each task, in order */
};

INLINE i64 recurrent_gates(i64 mode) { return mode == RECURRENT_GRU ? 3 : mode == RECURRENT_LSTM ? 4 : 1; }

/* tile (MR, NV) = a (rows <= MR, K) times b (K, NV * VL); rows past the last repeat it */
INLINE void recurrent_product(const int MR, const int NV, i64 K, i64 rows, const float *a, i64 a_row, const float *restrict b,
                              vf tile[RECURRENT_TILE][RECURRENT_GATES]) {
    const i64 run = sum_run(K);
    const float *row[RECURRENT_TILE];
    UNROLL for (int i = 0; i < MR; i++) row[i] = a + i64_min(i, rows - 1) * a_row;
    UNROLL for (int i = 0; i < MR; i++) UNROLL for (int j = 0; j < NV; j++) tile[i][j] = (vf){0};
    for (i64 begin = 0; begin < K; begin += run) {
        vf sum[RECURRENT_TILE][RECURRENT_GATES];
        UNROLL for (int i = 0; i < MR; i++) UNROLL for (int j = 0; j < NV; j++) sum[i][j] = (vf){0};
        for (i64 k = begin; k < i64_min(begin + run, K); k++) {
            vf bv[RECURRENT_GATES];
            UNROLL for (int j = 0; j < NV; j++) bv[j] = v_load(b + (k * NV + j) * VL);
            UNROLL for (int i = 0; i < MR; i++) {
                const vf av = v_set1(row[i][k]);
                UNROLL for (int j = 0; j < NV; j++) sum[i][j] += av * bv[j];
            }
        }
        UNROLL for (int i = 0; i < MR; i++) UNROLL for (int j = 0; j < NV; j++) tile[i][j] += sum[i][j];
    }
}

INLINE vf recurrent_sigmoid(vf x) { return v_inverse(1.0f + v_exp(v_min(v_set1(80.0f), -x))); }

/* What came before step s of a row of `states` (T, B, H), and how far the next row is; zeros where there is nothing */
INLINE const float *recurrent_before(const struct recurrent_work *w, i64 s, i64 b, const float *states, const float *first, i64 *step) {
    const struct recurrent *r = w->r;
    *step = r->H;
    if (s) return states + ((r->reverse ? r->T - s : s - 1) * r->B + b) * r->H;
    if (first) return first + b * r->H;
    *step = 0;
    return w->zeros;
}

/* Units j .. j + lanes of one row at one time, from the sums of its gates */
INLINE void recurrent_cell(const int mode, const struct recurrent *r, i64 at, i64 j, i64 lanes, const float *h, const float *c, const vf *sum) {
    const i64 H = r->H;
    float *g = r->gates + at * recurrent_gates(mode) * H + j, *y = r->y + at * H + j, *extra = r->extra + at * H + j;
    if (mode == RECURRENT_TANH || mode == RECURRENT_RELU) {
        const vf v = v_load_lanes(g, lanes, 0) + sum[0];
        v_store_lanes(y, mode == RECURRENT_TANH ? v_tanh(v) : v_select(v <= (vf){0}, (vf){0}, v), lanes);
    } else if (mode == RECURRENT_GRU) {
        const vf reset = recurrent_sigmoid(v_load_lanes(g, lanes, 0) + sum[0]), z = recurrent_sigmoid(v_load_lanes(g + H, lanes, 0) + sum[1]);
        const vf hn = r->bias ? sum[2] + v_load_lanes(r->bias + j, lanes, 0) : sum[2];
        const vf n = v_tanh(v_load_lanes(g + 2 * H, lanes, 0) + reset * hn);
        v_store_lanes(g, reset, lanes);
        v_store_lanes(g + H, z, lanes);
        v_store_lanes(g + 2 * H, n, lanes);
        v_store_lanes(extra, hn, lanes);
        v_store_lanes(y, n + z * (v_load_lanes(h + j, lanes, 0) - n), lanes);
    } else {
        const vf i = recurrent_sigmoid(v_load_lanes(g, lanes, 0) + sum[0]), f = recurrent_sigmoid(v_load_lanes(g + H, lanes, 0) + sum[1]);
        const vf n = v_tanh(v_load_lanes(g + 2 * H, lanes, 0) + sum[2]), o = recurrent_sigmoid(v_load_lanes(g + 3 * H, lanes, 0) + sum[3]);
        const vf cell = f * v_load_lanes(c + j, lanes, 0) + i * n;
        v_store_lanes(g, i, lanes);
        v_store_lanes(g + H, f, lanes);
        v_store_lanes(g + 2 * H, n, lanes);
        v_store_lanes(g + 3 * H, o, lanes);
        v_store_lanes(extra, cell, lanes);
        v_store_lanes(y, o * v_tanh(cell), lanes);
    }
}

INLINE void recurrent_forward_rows(const int mode, const int G, const struct recurrent_work *w, i64 b0, i64 b1) {
    const struct recurrent *r = w->r;
    const int MR = G == 1 ? RECURRENT_TILE / 2 : RECURRENT_TILE / G;
    const i64 H = r->H;
    for (i64 s = 0; s < r->T; s++) {
        const i64 t = r->reverse ? r->T - 1 - s : s;
        i64 h_row, c_row;
        const float *h = recurrent_before(w, s, b0, r->y, r->h0, &h_row), *c = recurrent_before(w, s, b0, r->extra, r->c0, &c_row);
        for (i64 j = 0; j < H; j += VL) for (i64 b = b0; b < b1; b += MR) {
            vf tile[RECURRENT_TILE][RECURRENT_GATES];
            const i64 rows = i64_min(MR, b1 - b);
            recurrent_product(MR, G, H, rows, h + (b - b0) * h_row, h_row, w->packed + j * G * H, tile);
            for (i64 i = 0; i < rows; i++)
                recurrent_cell(mode, r, t * r->B + b + i, j, i64_min(VL, H - j), h + (b - b0 + i) * h_row, c + (b - b0 + i) * c_row, tile[i]);
        }
    }
    if (mode == RECURRENT_LSTM) /* behind the outputs: the last c */
        memcpy(r->y + (r->T * r->B + b0) * H, r->extra + ((r->reverse ? 0 : r->T - 1) * r->B + b0) * H, (size_t)((b1 - b0) * H) * sizeof(float));
}

/* Gradients before the gates' functions of units j .. j + lanes of one row, to grad_gates and to d (G H); dh, dc: what later times
 * gave, then what does not pass the weights to the time before */
INLINE void recurrent_cell_backward(const int mode, const struct recurrent *r, i64 at, i64 j, i64 lanes, const float *h, const float *c,
                                    float *dh, float *dc, float *d) {
    const i64 H = r->H;
    const float *g = r->gates + at * recurrent_gates(mode) * H + j;
    float *to = r->grad_gates + at * recurrent_gates(mode) * H + j;
    const vf grad = v_load_lanes(r->grad + at * H + j, lanes, 0) + v_load_lanes(dh + j, lanes, 0);
    vf out[4] = {0}, rest = {0};
    int count = 1;
    if (mode == RECURRENT_TANH || mode == RECURRENT_RELU) {
        const vf y = v_load_lanes(r->y + at * H + j, lanes, 0);
        out[0] = mode == RECURRENT_TANH ? grad * (1.0f - y * y) : v_select(y > (vf){0}, grad, (vf){0});
        v_store_lanes(d + j, out[0], lanes);
    } else if (mode == RECURRENT_GRU) {
        const vf reset = v_load_lanes(g, lanes, 0), z = v_load_lanes(g + H, lanes, 0), n = v_load_lanes(g + 2 * H, lanes, 0);
        const vf hn = v_load_lanes(r->extra + at * H + j, lanes, 0);
        out[2] = grad * (1.0f - z) * (1.0f - n * n);
        out[1] = grad * (v_load_lanes(h + j, lanes, 0) - n) * z * (1.0f - z);
        out[0] = out[2] * hn * reset * (1.0f - reset);
        rest = grad * z;
        count = 3;
        v_store_lanes(r->grad_extra + at * H + j, out[2] * reset, lanes);
        v_store_lanes(d + j, out[0], lanes);
        v_store_lanes(d + H + j, out[1], lanes);
        v_store_lanes(d + 2 * H + j, out[2] * reset, lanes);
    } else {
        const vf i = v_load_lanes(g, lanes, 0), f = v_load_lanes(g + H, lanes, 0), n = v_load_lanes(g + 2 * H, lanes, 0);
        const vf o = v_load_lanes(g + 3 * H, lanes, 0), tanh_c = v_tanh(v_load_lanes(r->extra + at * H + j, lanes, 0));
        const vf cell = v_load_lanes(dc + j, lanes, 0) + grad * o * (1.0f - tanh_c * tanh_c);
        out[0] = cell * n * i * (1.0f - i);
        out[1] = cell * v_load_lanes(c + j, lanes, 0) * f * (1.0f - f);
        out[2] = cell * i * (1.0f - n * n);
        out[3] = grad * tanh_c * o * (1.0f - o);
        count = 4;
        v_store_lanes(dc + j, cell * f, lanes);
        for (int k = 0; k < 4; k++) v_store_lanes(d + k * H + j, out[k], lanes);
    }
    for (int k = 0; k < count; k++) v_store_lanes(to + k * H, out[k], lanes);
    v_store_lanes(dh + j, rest, lanes);
}

INLINE void recurrent_backward_rows(const int mode, const int G, const struct recurrent_work *w, i64 b0, i64 b1) {
    enum { MR = RECURRENT_TILE / RECURRENT_BACK, NV = RECURRENT_BACK };
    const struct recurrent *r = w->r;
    const i64 H = r->H, rows = b1 - b0;
    float *dh = w->own + b0 * (2 + G) * H, *dc = dh + rows * H, *d = dc + rows * H;
    memset(dh, 0, (size_t)(2 * rows * H) * sizeof(float));
    if (mode == RECURRENT_LSTM) memcpy(dc, r->grad + (r->T * r->B + b0) * H, (size_t)(rows * H) * sizeof(float));
    for (i64 s = r->T; s-- > 0;) {
        const i64 t = r->reverse ? r->T - 1 - s : s;
        i64 h_row, c_row;
        const float *h = recurrent_before(w, s, b0, r->y, r->h0, &h_row), *c = recurrent_before(w, s, b0, r->extra, r->c0, &c_row);
        for (i64 i = 0; i < rows; i++) for (i64 j = 0; j < H; j += VL)
            recurrent_cell_backward(mode, r, t * r->B + b0 + i, j, i64_min(VL, H - j), h + i * h_row, c + i * c_row, dh + i * H, dc + i * H,
                                    d + i * G * H);
        for (i64 j = 0; j < H; j += NV * VL) for (i64 i = 0; i < rows; i += MR) {
            vf tile[RECURRENT_TILE][RECURRENT_GATES];
            const i64 count = i64_min(MR, rows - i);
            recurrent_product(MR, NV, G * H, count, d + i * G * H, G * H, w->packed + j * G * H, tile);
            for (i64 k = 0; k < count; k++) for (i64 q = 0; q < NV && j + q * VL < H; q++) {
                const i64 lanes = i64_min(VL, H - j - q * VL);
                float *to = dh + (i + k) * H + j + q * VL;
                v_store_lanes(to, v_load_lanes(to, lanes, 0) + tile[k][q], lanes);
            }
        }
    }
    if (r->grad_h0) memcpy(r->grad_h0 + b0 * H, dh, (size_t)(rows * H) * sizeof(float));
    if (r->grad_c0) memcpy(r->grad_c0 + b0 * H, dc, (size_t)(rows * H) * sizeof(float));
}

#define RECURRENT_TASK(WAY)                                                                                     \
    static void recurrent_##WAY##_task(void *context, i64 index) {                                              \
        const struct recurrent_work *w = context;                                                               \
        const i64 b0 = index * w->rows, b1 = i64_min(b0 + w->rows, w->r->B);                                    \
        switch (w->r->mode) {                                                                                   \
        case RECURRENT_TANH: recurrent_##WAY##_rows(RECURRENT_TANH, 1, w, b0, b1); break;                       \
        case RECURRENT_RELU: recurrent_##WAY##_rows(RECURRENT_RELU, 1, w, b0, b1); break;                       \
        case RECURRENT_GRU: recurrent_##WAY##_rows(RECURRENT_GRU, 3, w, b0, b1); break;                         \
        case RECURRENT_LSTM: recurrent_##WAY##_rows(RECURRENT_LSTM, 4, w, b0, b1); break;                       \
        }                                                                                                       \
    }
RECURRENT_TASK(forward)
RECURRENT_TASK(backward)

/* Weights in the order of use, and a task for every few rows. Forward: panels of VL units, (H, G, VL); backward: of NV VL, (G H, NV VL). */
INLINE int recurrent_run(const struct recurrent *r, const int backward) {
    const i64 G = recurrent_gates(r->mode), H = r->H, width = backward ? RECURRENT_BACK * VL : VL, padded = round_up(H, width);
    if (r->B == 0) return 0;
    struct recurrent_work w = {.r = r, .gates = G, .rows = ceil_div(r->B, ceil_div(r->B, RECURRENT_ROWS))};
    float *memory = fastnn_scratch(SCRATCH_RECURRENT, (size_t)(padded * G * H + H + VL + r->B * (2 + G) * H) * sizeof(float));
    if (!memory) return -1;
    w.packed = memory, w.zeros = w.packed + padded * G * H, w.own = w.zeros + H + VL;
    memset(w.zeros, 0, (size_t)H * sizeof(float));
    float *to = w.packed;
    for (i64 j = 0; j < padded; j += width) {
        if (backward) {
            for (i64 q = 0; q < G * H; q++) for (i64 v = 0; v < width; v++) *to++ = j + v < H ? r->weight[q * H + j + v] : 0.0f;
        } else {
            for (i64 g = 0; g < G; g++) for (i64 v = 0; v < VL; v++) for (i64 k = 0; k < H; k++)
                to[(k * G + g) * VL + v] = j + v < H ? r->weight[(g * H + j + v) * H + k] : 0.0f;
            to += H * G * VL;
        }
    }
    fastnn_parallel(ceil_div(r->B, w.rows), 2.0 * (double)(r->T * r->B * G * H) * (double)(H + 20),
                    backward ? recurrent_backward_task : recurrent_forward_task, &w);
    return 0;
}

/* gates become the gates' values, y and extra are written: struct recurrent of table.h */
KERNEL int recurrent_forward(const struct recurrent *r) { return recurrent_run(r, 0); }

/* grad_gates, which may be gates, grad_extra, grad_h0 and grad_c0 are written */
KERNEL int recurrent_backward(const struct recurrent *r) { return recurrent_run(r, 1); }

#endif
