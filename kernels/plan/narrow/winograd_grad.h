/* Gradients of a block's Winograd convolution, lanes = images: see narrow/winograd.h.
 *
 * One entry f at a time goes through all tiles, so that a weight's 36 sums are made one after another in registers. Both gradients come
 * from the same Y, and from tiles of outputs only: the direct input gradient also meets the frame around dy. The products run near
 * the FMA peak; the transforms, half of the time, at the speed of L2: each entry reads the half-transformed x and dy.
 */
#ifndef FASTNN_NARROW_WINOGRAD_GRAD_H
#define FASTNN_NARROW_WINOGRAD_GRAD_H

#include "plan/narrow/grad.h"
#include "plan/narrow/winograd.h"

/* Where columns are transformed, the rows r with equal r % m lie together: then entry i of all tiles is one run of vectors. */
INLINE i64 narrow_half_rows(const struct chain_layer *l, i64 m) { return narrow_tiles_h(l, m) + (m == 2 ? 2 : 1); }

INLINE i64 narrow_winograd_grad_floats(const struct chain_layer *l, i64 m) {
    i64 TH = narrow_tiles_h(l, m), TW = narrow_tiles_w(l, m), T = narrow_tiles(l, m), rows = narrow_half_rows(l, m) * m;
    return VL * (l->O * TH * m * TW * m + l->O * m * T + l->C * rows * TW + (l->O + 7 * l->C) * T + 6 * l->C * rows * TW
                 + l->O * l->C + TW * m + 6 - m + 1);
}

struct narrow_winograd_grad {
    const struct chain_layer *l;
    struct narrow_view x;               /* padded input */
    i64 TH, TW, T, rows;                /* tiles, T rounded up to groups; narrow_half_rows() */
    const float *dy;                    /* [O][TH*m][TW*m][VL] */
    float *x_half, *dy_half;            /* [C][m][rows][TW], [O][m][T]: column j transformed */
    float *v, *y;                       /* [C][T], [O][T]: one entry */
    float *dv;                          /* [6][C][T]: column j */
    float *dx_half;                     /* [6][C][m][rows][TW] */
    float *pairs;                       /* [O][C][VL] */
    const float *weight;                /* NULL: no input gradient */
    float *sums;                        /* [36][O][C], NULL: no weight gradient */
};

INLINE void narrow_winograd_columns(const int m, const int j, const struct narrow_winograd_grad *t) {
    const struct narrow_view x = t->x;
    const i64 TH = t->TH, TW = t->TW, row = TW * VL, rows = t->rows, C = t->sums ? t->l->C : 0, O = t->l->O;
    const float *dy = t->dy;
    float *x_half = t->x_half, *dy_half = t->dy_half;
    for (i64 c = 0; c < C; c++, x_half += m * rows * row)
        for (i64 r = 0; r < TH * m + 6 - m; r++) {
            const float *d[6];
            float *to = x_half + (r % m * rows + r / m) * row;
            UNROLL for (int k = 0; k < 6; k++) d[k] = x.at + c * x.plane + r * x.row + k * VL;
            for (i64 w = 0; w < row; w += VL) v_store(to + w, narrow_bt_entry(j, d, w * m));
        }
    for (i64 o = 0; o < O; o++, dy_half += m * t->T * VL)
        for (i64 r = 0; r < TH * m; r++, dy += m * row) {
            float *to = dy_half + r % m * t->T * VL + r / m * row;
            for (i64 w = 0; w < row; w += VL) v_store(to + w, narrow_a_entry(m, j, dy + w * m, VL));
        }
}

INLINE void narrow_winograd_rows(const int m, const int i, const struct narrow_winograd_grad *t) {
    const i64 row = t->TW * VL, phase = t->rows * row, run = t->TH * row, T = t->T * VL, C = t->sums ? t->l->C : 0, O = t->l->O;
    const float *x_half = t->x_half, *dy_half = t->dy_half;
    float *v = t->v, *y = t->y;
    for (i64 c = 0; c < C; c++, v += T, x_half += m * phase) {
        const float *d[6];
        UNROLL for (int k = 0; k < 6; k++) d[k] = x_half + k % m * phase + k / m * row;
        for (i64 w = 0; w < run; w += VL) v_store(v + w, narrow_bt_entry(i, d, w));
    }
    if (i == 0 || i == 5) return;                   /* as they are in dy_half */
    for (i64 o = 0; o < O; o++, y += T, dy_half += m * T)
        for (i64 w = 0; w < T; w += VL) v_store(y + w, narrow_a_entry(m, i, dy_half + w, T));
}

#define NARROW_BY_ENTRY(f, m, entry, t)                                                                                  \
    switch (entry) {                                                                                                     \
    case 0: f(m, 0, t); break;                                                                                           \
    case 1: f(m, 1, t); break;                                                                                           \
    case 2: f(m, 2, t); break;                                                                                           \
    case 3: f(m, 3, t); break;                                                                                           \
    case 4: f(m, 4, t); break;                                                                                           \
    default: f(m, 5, t);                                                                                                 \
    }

/* dx_half of column j from dv: rows of tiles overlap */
INLINE void narrow_winograd_add_rows(const int m, const struct narrow_winograd_grad *t, float *dx_half) {
    const i64 row = t->TW * VL, phase = t->rows * row, run = t->TH * row, T = t->T * VL, C = t->l->C;
    const float *dv = t->dv;
    for (i64 c = 0; c < C; c++, dv += T, dx_half += m * phase)
        for (i64 w = 0; w < run; w += VL) {
            vf d[6], e[6];
            UNROLL for (int i = 0; i < 6; i++) d[i] = v_load(dv + i * C * T + w);
            narrow_b(d, e);
            UNROLL for (int r = 0; r < 6; r++) {
                float *to = dx_half + r % m * phase + r / m * row + w;
                v_store(to, w >= row && r < 6 - m ? v_load(to) + e[r] : e[r]);
            }
        }
}

/* grad_x [C][H][W][VL] from dx_half; line: a row with its padding */
INLINE void narrow_winograd_add_columns(const int m, const struct narrow_winograd_grad *t, float *line, float *grad_x) {
    const struct chain_layer *l = t->l;
    const i64 plane = m * t->rows * t->TW * VL, covered = t->TW * m + 6 - m;
    for (i64 c = 0; c < l->C; c++)
        for (i64 h = 0; h < l->H; h++, grad_x += l->W * VL) {
            i64 r = h + l->pad_h, wanted = i64_max(0, i64_min(l->W, covered - l->pad_w));
            const float *from = t->dx_half + c * plane + (r % m * t->rows + r / m) * t->TW * VL;
            if (r >= t->TH * m + 6 - m) wanted = 0;
            for (i64 w = 0; w < t->TW && wanted; w++) {
                vf d[6], e[6];
                float *to = line + w * m * VL;
                UNROLL for (int j = 0; j < 6; j++) d[j] = v_load(from + j * l->C * plane + w * VL);
                narrow_b(d, e);
                UNROLL for (int k = 0; k < 6; k++) v_store(to + k * VL, w && k < 6 - m ? v_load(to + k * VL) + e[k] : e[k]);
            }
            memcpy(grad_x, line + l->pad_w * VL, (size_t)(wanted * VL) * sizeof *line);
            memset(grad_x + wanted * VL, 0, (size_t)((l->W - wanted) * VL) * sizeof *line);
        }
}

/* A block's part of the gradients. grad, where [O][PH][PW][VL]; sums [36][O][C] and grad_bias (O,), or sums NULL; weight and grad_x, or
 * both NULL. */
INLINE void narrow_winograd_backward_m(const int m, const struct chain_layer *l, const float *grad, const int8_t *where,
                                       struct narrow_view x, const float *weight, float *work, float *sums, float *grad_bias, float *grad_x) {
    const i64 C = l->C, O = l->O, rows = narrow_half_rows(l, m);
    const i64 TH = narrow_tiles_h(l, m), TW = narrow_tiles_w(l, m), T = narrow_tiles(l, m);
    const i64 plane = TH * m * TW * m * VL;
    struct narrow_winograd_grad t = {.l = l, .x = x, .TH = TH, .TW = TW, .T = T, .rows = rows, .weight = weight, .sums = sums};
    float *dy = work, *line;
    t.dy = dy;
    t.dy_half = dy + O * plane;
    t.x_half = t.dy_half + O * m * T * VL;
    t.v = t.x_half + C * m * rows * TW * VL;
    t.y = t.v + C * T * VL;
    t.dv = t.y + O * T * VL;
    t.dx_half = t.dv + 6 * C * T * VL;
    t.pairs = t.dx_half + 6 * C * m * rows * TW * VL;
    line = t.pairs + O * C * VL;
    narrow_clear_frame(O, TH * m, TW * m, 0, 0, l->PH * l->pool, l->PW * l->pool, dy);
    for (i64 o = 0; o < O; o++) {
        i64 from = o * l->PH * l->PW * VL;
        float sum[VL] = {0};
        struct narrow_view to = {dy + o * plane, plane, TW * m * VL};
        narrow_spread(1, l->PH, l->PW, 0, l->pool, grad + from, where ? where + from : NULL, to, sum);
        if (sums) grad_bias[o] = v_sum(v_load(sum));
    }
    memset(t.v, 0, (size_t)(C * T * VL) * sizeof *t.v); /* what rounding T up has added stays zero */
    memset(t.dy_half, 0, (size_t)(O * m * T * VL) * sizeof *t.dy_half);
    for (i64 j = 0; j < 6; j++) {
        NARROW_BY_ENTRY(narrow_winograd_columns, m, j, &t)
        for (i64 i = 0; i < 6; i++) {
            NARROW_BY_ENTRY(narrow_winograd_rows, m, i, &t)
            const float *y = i == 0 ? t.dy_half : i == 5 ? t.dy_half + (m - 1) * T * VL : t.y;
            i64 y_step = i == 0 || i == 5 ? m * T * VL : T * VL;
            if (sums) {
                narrow_all_pairs(O, C, T, y, y_step, t.v, t.pairs);
                narrow_sum_lanes(O * C, t.pairs, sums + (6 * j + i) * O * C);
            }
            for (i64 g = 0; weight && g < T; g += NARROW_GROUP)
                for (i64 tile = 0; tile < ceil_div(C, NARROW_ROWS); tile++) {
                    i64 c = narrow_cut(C, tile), CT = narrow_cut(C, tile + 1) - c;
                    const float *u = weight + ((6 * j + i) * C + c) * O;
                    narrow_any_multiply(CT, O, u, y + g * VL, y_step, t.dv + ((i * C + c) * T + g) * VL, T * VL);
                }
        }
        if (weight) narrow_winograd_add_rows(m, &t, t.dx_half + j * C * m * rows * TW * VL);
    }
    if (weight) narrow_winograd_add_columns(m, &t, line, grad_x);
}
KERNEL void narrow_winograd_backward(i64 m, const struct chain_layer *l, const float *grad, const int8_t *where, struct narrow_view x,
                                     const float *weight, float *work, float *sums, float *grad_bias, float *grad_x) {
    if (m == 2) narrow_winograd_backward_m(2, l, grad, where, x, weight, work, sums, grad_bias, grad_x);
    else narrow_winograd_backward_m(4, l, grad, where, x, weight, work, sums, grad_bias, grad_x);
}

#endif
