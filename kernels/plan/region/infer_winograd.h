/* 3x3 convolution by Winograd's F(4x4, 3x3) (wide/winograd.h) with an epilogue in registers: bias, residual sum, activation, 2x2 maxima.
 *
 * A strip of tiles, through all images of the group, is transformed once; then a group of output blocks at a time is multiplied and
 * transformed back, so that what a strip needs beside the weights stays in L2.
 */
#ifndef FASTNN_INFER_WINOGRAD_H
#define FASTNN_INFER_WINOGRAD_H

#include "plan/region/infer_value.h"

enum {
    INFER_STRIP = 48,                       /* tiles of a strip, at most */
    INFER_STRIP_FLOATS = 1 << 16,           /* of its transformed inputs, or half as many as of the weights that it makes pass by */
};

struct infer_tiles {
    const struct winograd *w;
    const struct infer_step *step;
    i64 images;
    struct infer_images in, out, residual;  /* in: from the padding on */
    const struct wide_place *place;         /* of out */
    const float *packed, *bias;
    i64 strip;                              /* tiles of one */
};

/* out (MR, NV) = sum over k of a[i * a_row + k] * b[k * b_step] */
INLINE void infer_product(const int MR, const int NV, i64 K, const float *restrict a, i64 a_row, const float *restrict b, i64 b_step,
                          float *restrict out, i64 out_row) {
    vf acc[8][CHANNELS_NV];
    UNROLL for (int i = 0; i < MR; i++) UNROLL for (int j = 0; j < NV; j++) acc[i][j] = (vf){0};
    for (i64 k = 0; k < K; k++, b += b_step) {
        vf v[CHANNELS_NV];
        UNROLL for (int j = 0; j < NV; j++) v[j] = v_load(b + j * VL);
        UNROLL for (int i = 0; i < MR; i++) {
            const vf s = v_set1(a[i * a_row + k]);
            UNROLL for (int j = 0; j < NV; j++) acc[i][j] += s * v[j];
        }
    }
    UNROLL for (int i = 0; i < MR; i++) UNROLL for (int j = 0; j < NV; j++) v_store(out + i * out_row + j * VL, acc[i][j]);
}

/* All rows, in parts of about the same size */
INLINE void infer_rows(const int MR, const int NV, i64 rows, i64 K, const float *a, i64 a_row, const float *b, i64 b_step, float *out,
                       i64 out_row) {
    for (i64 i = 0, n, left = ceil_div(rows, MR); i < rows; i += n, left--) {
        n = ceil_div(rows - i, left);
#define LINES(mr) case mr: if (mr <= MR) infer_product(mr, NV, K, a + i * a_row, a_row, b, b_step, out + i * out_row, out_row); break;
        switch (n) { LINES(8) LINES(7) LINES(6) LINES(5) LINES(4) LINES(3) LINES(2) LINES(1) }
#undef LINES
    }
}

static void infer_panel(i64 blocks, i64 rows, i64 K, const float *a, i64 a_row, const float *b, i64 b_step, float *out, i64 out_row) {
#define CALL(mr, nv) infer_rows(mr, nv, rows, K, a, a_row, b, b_step, out, out_row)
    WIDE_GROUPS(CALL)
#undef CALL
}

/* One block of a tile: y -> rows x columns outputs, or maxima of 2x2 of them */
INLINE void infer_finish_tile(const int activation, const int pooled, vf y[4][4], vf bias, float slope, const float *residual,
                              i64 residual_row, i64 rows, i64 columns, float *to, i64 row) {
    UNROLL for (int i = 0; i < 4; i++) UNROLL for (int j = 0; j < 4; j++) {
        y[i][j] += bias;
        if (residual && i < rows && j < columns) y[i][j] += v_load(residual + i * residual_row + j * VL);
    }
    if (pooled) {
        UNROLL for (int i = 0; i < 2; i++) UNROLL for (int j = 0; j < 2; j++) if (2 * i + 1 < rows && 2 * j + 1 < columns) {
            vf best = y[2 * i][2 * j];
            UNROLL for (int k = 1; k < 4; k++) {
                const vf v = y[2 * i + k / 2][2 * j + k % 2];
                best = v_select(v_beats(v, best), v, best);
            }
            v_store(to + i * row + j * VL, channels_activate(activation, best, slope));
        }
        return;
    }
    UNROLL for (int i = 0; i < 4; i++) UNROLL for (int j = 0; j < 4; j++) if (i < rows && j < columns)
        v_store(to + i * row + j * VL, channels_activate(activation, y[i][j], slope));
}

/* Blocks [begin, end) of the tiles of one strip from M [point][T][end - begin] */
static void infer_finish_strip(const struct infer_tiles *t, struct winograd_place at, i64 T, i64 begin, i64 end, const float *M) {
    const struct winograd *w = t->w;
    const struct wide_place *p = t->place;
    const i64 O = (end - begin) * VL, step = winograd_step(T, O);
    const i64 size = t->step->pooled ? 2 : 4;
    const int inside = t->step->activation == ACTIVATION_RELU || t->step->activation == ACTIVATION_LEAKY_RELU;
    for (i64 k = 0; k < T; k++, winograd_next(w->TH, w->TW, &at)) {
        const i64 rows = i64_min(4, w->OH - 4 * at.ty), columns = i64_min(4, w->OW - 4 * at.tx);
        for (i64 b = begin; b < end; b++) {
            vf y[4][4];
            const vf bias = v_load(t->bias + b * VL);
            float *to = infer_row(&t->out, at.image, b, at.ty * size) + at.tx * size * VL;
            const float *residual = t->residual.view.at ? infer_row(&t->residual, at.image, b, at.ty * 4) + at.tx * 4 * VL : NULL;
            winograd_output(M + k * O + (b - begin) * VL, step, y);
#define FINISH(kind, pooled, rows, columns) \
    infer_finish_tile(kind, pooled, y, bias, t->step->parameter, residual, t->residual.view.row, rows, columns, to, t->out.view.row)
#define SIZES(kind) \
    if (t->step->pooled) FINISH(kind, 1, rows, columns); \
    else if (rows == 4 && columns == 4) FINISH(kind, 0, 4, 4); \
    else FINISH(kind, 0, rows, columns)
            if (!inside) SIZES(ACTIVATION_NONE);
            else if (t->step->activation == ACTIVATION_RELU) SIZES(ACTIVATION_RELU);
            else SIZES(ACTIVATION_LEAKY_RELU);
#undef SIZES
#undef FINISH
            if (inside || !t->step->activation) continue;
            const struct infer_images made = {{to, 0, t->out.view.row}, 0};
            infer_activate(t->step->activation, t->step->parameter, &made, 1, 1, i64_min(size, p->H - size * at.ty),
                           i64_min(size, p->W - size * at.tx));
        }
    }
}

/* Blocks [first, last) of the outputs of the strip's tiles; work: infer_winograd_work_floats */
static void infer_winograd_strip(const struct infer_tiles *t, i64 strip, i64 first, i64 last, float *work) {
    const struct winograd *w = t->w;
    const i64 tiles = t->images * w->TH * w->TW, t0 = strip * t->strip, T = i64_min(t->strip, tiles - t0);
    const i64 v_step = winograd_step(T, w->Cp), u_step = winograd_step(w->C, w->Op);
    struct winograd_place at = {t0 / (w->TH * w->TW), t0 / w->TW % w->TH, t0 % w->TW};
    float *V = work, *M = V + WINOGRAD_POINTS * v_step;
    winograd_strip_input(w, at, T, t->in.view, t->in.image, V);
    for (i64 b = first, end; b < last; b = end) {
        const i64 group = b / CHANNELS_NV * CHANNELS_NV, wide = i64_min(CHANNELS_NV, w->Op / VL - group) * VL;
        end = i64_min(last, group + CHANNELS_NV);
        const i64 O = (end - b) * VL, m_step = winograd_step(T, O);
        const float *U = t->packed + group * VL * w->C + (b - group) * VL;
        for (i64 p = 0; p < WINOGRAD_POINTS; p++)
            infer_panel(end - b, T, w->C, V + p * v_step, w->Cp, U + p * u_step, wide, M + p * m_step, O);
        infer_finish_strip(t, at, T, b, end, M);
    }
}

/* Tiles at a time: their transformed inputs stay in L2, and, cut for the threads, there is a strip for each. */
INLINE i64 infer_strip(const struct winograd *w, i64 images, i64 pieces) {
    const i64 floats = i64_max(INFER_STRIP_FLOATS, winograd_weight_floats(w) / 2) / (WINOGRAD_POINTS * w->Cp);
    const i64 tiles = images * w->TH * w->TW, most = i64_max(4, i64_min(floats, INFER_STRIP));
    const i64 strips = i64_max(ceil_div(tiles, most), i64_min(pieces, tiles / 4));
    return ceil_div(tiles, i64_max(1, strips));
}
INLINE i64 infer_winograd_work_floats(const struct winograd *w, i64 strip) {
    return WINOGRAD_POINTS * (winograd_step(strip, w->Cp) + winograd_step(strip, CHANNELS_NV * VL));
}

#endif
