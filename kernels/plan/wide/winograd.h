/* 3x3 convolution by Winograd's F(4x4, 3x3): 36 multiplications for 4x4 outputs where direct loops take 144.
 *
 *   Y = A' [ sum over C of (G g G') * (B' d B) ] A     d: 6x6 inputs, Y: 4x4 outputs, g: 3x3 weights, * element by element
 *
 * Lanes are channels (blocked layout, see ops/wide_conv.h), so the transforms need no shuffles and the sums over C are 36 matrix
 * products of (T, C) by (C, O), for strips of T tiles whose matrices stay in L2. The gradients are in wide/winograd_backward.h.
 *
 * The interpolation points are 0, +-3/4, +-3/2 and infinity: all constants of A and B are exact, and with C = 64 the largest error
 * is 1.5e-6 of the largest entry (with the usual 0, +-1, +-2: 6e-6; direct loops: 2e-7).
 *
 * Measured (Zen 5, AVX-512, one thread, peak 235 GFLOP/s, AVX2 118): the products run at 93-97 % of the peak (AVX2 91-95 %); a tile's
 * transforms take 110 cycles in and 110 out for each 16 channels. All in all 32 -> 32 channels of 32x32 take 29 us, 64 -> 64 of 16x16
 * 25 us: what direct loops would do in that time at 2.7 and 3.2 times the peak.
 */
#ifndef FASTNN_WIDE_WINOGRAD_H
#define FASTNN_WIDE_WINOGRAD_H

#include "base/threads.h"
#include "ops/wide_conv.h"

enum {
    WINOGRAD_POINTS = 36,
    WINOGRAD_STRIP = 32,                    /* tiles at a time, */
    WINOGRAD_LONG = 96,                     /* or so many where weights fill L2 and are read again for each strip: */
    WINOGRAD_LARGE = 32 << 10,              /* from so many weights of a point on */
    WINOGRAD_AHEAD = 16,                    /* rows of a matrix that are asked for before they are read: all come from L2 or beyond */
};

struct winograd {
    i64 C, O, OH, OW;
    i64 TH, TW;                             /* tiles of 4x4 outputs */
    i64 Cp, Op;                             /* C, O rounded up to VL */
};

INLINE struct winograd winograd_shape(i64 C, i64 O, i64 OH, i64 OW) {
    return (struct winograd){C, O, OH, OW, ceil_div(OH, 4), ceil_div(OW, 4), round_up(C, VL), round_up(O, VL)};
}

/* Floats from one point to the next of a matrix of `rows` rows: not a multiple of 4 KiB, or all points would share cache sets. */
INLINE i64 winograd_step(i64 rows, i64 columns) { return rows * columns + VL; }

INLINE i64 winograd_strip(const struct winograd *w) { return w->Cp * w->Op < WINOGRAD_LARGE ? WINOGRAD_STRIP : WINOGRAD_LONG; }
INLINE i64 winograd_weight_floats(const struct winograd *w) { return WINOGRAD_POINTS * winograd_step(w->C, w->Op); }
INLINE i64 winograd_work_floats(const struct winograd *w) {
    return WINOGRAD_POINTS * (winograd_step(winograd_strip(w), w->Cp) + winograd_step(winograd_strip(w), w->Op));
}

/* ---- transforms of a line: 6 -> 6, 6 -> 4, 3 -> 6 ---- */

#define WINOGRAD_A 0.75f
#define WINOGRAD_B 1.5f
#define WINOGRAD_A2 0.5625f
#define WINOGRAD_B2 2.25f
#define WINOGRAD_A3 0.421875f
#define WINOGRAD_B3 3.375f
/* G's rows are (1, p, p^2) / product of p's distances to the other points */
#define WINOGRAD_G0 (1.0f / (WINOGRAD_A2 * WINOGRAD_B2))
#define WINOGRAD_GA (0.5f / (WINOGRAD_A2 * (WINOGRAD_A2 - WINOGRAD_B2)))
#define WINOGRAD_GB (0.5f / (WINOGRAD_B2 * (WINOGRAD_B2 - WINOGRAD_A2)))

/* B' d */
INLINE void winograd_line_input(const vf *d, i64 step, vf *t) {
    vf d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step];
    vf even_a = d4 - WINOGRAD_B2 * d2, odd_a = d3 - WINOGRAD_B2 * d1;
    vf even_b = d4 - WINOGRAD_A2 * d2, odd_b = d3 - WINOGRAD_A2 * d1;
    t[0] = (d4 - (WINOGRAD_A2 + WINOGRAD_B2) * d2) + WINOGRAD_A2 * WINOGRAD_B2 * d[0];
    t[1] = even_a + WINOGRAD_A * odd_a;
    t[2] = even_a - WINOGRAD_A * odd_a;
    t[3] = even_b + WINOGRAD_B * odd_b;
    t[4] = even_b - WINOGRAD_B * odd_b;
    t[5] = (d[5 * step] - (WINOGRAD_A2 + WINOGRAD_B2) * d3) + WINOGRAD_A2 * WINOGRAD_B2 * d1;
}

/* A' m */
INLINE void winograd_line_output(const vf *m, i64 step, vf *y) {
    vf sum_a = m[step] + m[2 * step], diff_a = m[step] - m[2 * step];
    vf sum_b = m[3 * step] + m[4 * step], diff_b = m[3 * step] - m[4 * step];
    y[0] = m[0] + sum_a + sum_b;
    y[1] = WINOGRAD_A * diff_a + WINOGRAD_B * diff_b;
    y[2] = WINOGRAD_A2 * sum_a + WINOGRAD_B2 * sum_b;
    y[3] = (m[5 * step] + WINOGRAD_A3 * diff_a) + WINOGRAD_B3 * diff_b;
}

/* G g */
INLINE void winograd_line_weight(const vf *g, i64 step, vf *u) {
    vf even_a = WINOGRAD_GA * (g[0] + WINOGRAD_A2 * g[2 * step]), odd_a = WINOGRAD_GA * WINOGRAD_A * g[step];
    vf even_b = WINOGRAD_GB * (g[0] + WINOGRAD_B2 * g[2 * step]), odd_b = WINOGRAD_GB * WINOGRAD_B * g[step];
    u[0] = WINOGRAD_G0 * g[0];
    u[1] = even_a + odd_a;
    u[2] = even_a - odd_a;
    u[3] = even_b + odd_b;
    u[4] = even_b - odd_b;
    u[5] = g[2 * step];
}

/* Inlined into a loop, addresses that the compiler keeps for it take the registers (measured: 150 cycles instead of 110). */
#define WINOGRAD_TILE static __attribute__((noinline, unused))

/* ---- transforms of a tile: point p = 6 * row + column at V[p * step] ---- */

/* 6x6 pixels at src -> V. Lines of the result come by pairs, and pixels are loaded again for each pair: 36 of them and the
 * temporaries do not fit in registers, and to spill costs more. */
WINOGRAD_TILE void winograd_input(const float *restrict src, i64 row, float *restrict V, i64 step) {
    const vf a2 = v_set1(WINOGRAD_A2), b2 = v_set1(WINOGRAD_B2);
    const vf s2 = v_set1(WINOGRAD_A2 + WINOGRAD_B2), p2 = v_set1(WINOGRAD_A2 * WINOGRAD_B2);
    UNROLL for (int pair = 0; pair < 3; pair++) {
        vf line[2][6];
        UNROLL for (int j = 0; j < 6; j++) {
            const float *at = src + j * VL;
            vf d1 = v_load(at + row), d2 = v_load(at + 2 * row), d3 = v_load(at + 3 * row), d4 = v_load(at + 4 * row);
            if (pair == 2) {                /* 0 and infinity: lines 0 and 5 */
                line[0][j] = (d4 - s2 * d2) + p2 * v_load(at);
                line[1][j] = (v_load(at + 5 * row) - s2 * d3) + p2 * d1;
            } else {
                vf even = d4 - (pair ? a2 : b2) * d2, odd = d3 - (pair ? a2 : b2) * d1;
                line[0][j] = even + (pair ? WINOGRAD_B : WINOGRAD_A) * odd;
                line[1][j] = even - (pair ? WINOGRAD_B : WINOGRAD_A) * odd;
            }
        }
        UNROLL for (int k = 0; k < 2; k++) {
            vf t[6];
            winograd_line_input(line[k], 1, t);
            int i = pair == 2 ? 5 * k : 1 + 2 * pair + k;
            UNROLL for (int j = 0; j < 6; j++) v_store(V + (i * 6 + j) * step, t[j]);
        }
    }
}

/* M -> 4x4 outputs */
INLINE void winograd_output(const float *restrict M, i64 step, vf y[4][4]) {
    vf half[6][4];                          /* [column][row] */
    UNROLL for (int j = 0; j < 6; j++) {
        vf m[6];
        UNROLL for (int i = 0; i < 6; i++) m[i] = v_load(M + (i * 6 + j) * step);
        winograd_line_output(m, 1, half[j]);
    }
    UNROLL for (int i = 0; i < 4; i++) winograd_line_output(&half[0][i], 4, y[i]);
}

/* ---- weights: U [point][group of CHANNELS_NV blocks][C][group] ---- */

/* Rows [c0, c1) of U from weight (O, C, 3, 3); exchanged: from that of a convolution with C and O exchanged, for winograd_backward */
KERNEL void winograd_pack(const struct winograd *w, const float *weight, int exchanged, float *U, i64 c0, i64 c1) {
    const i64 step = winograd_step(w->C, w->Op), by_c = exchanged ? w->O * 9 : 9, by_o = exchanged ? 9 : w->C * 9;
    for (i64 c = c0; c < c1; c++) for (i64 o = 0; o < w->Op; o += VL) {
        i64 group = o / (CHANNELS_NV * VL) * CHANNELS_NV * VL, wide = i64_min(CHANNELS_NV * VL, w->Op - group);
        float *to = U + group * w->C + c * wide + o - group;
        vf g[9] = {{0}}, half[3][6];        /* half: [column][row] */
        for (i64 lane = 0; lane < i64_min(VL, w->O - o); lane++) {
            const float *from = weight + c * by_c + (o + lane) * by_o;
            UNROLL for (int k = 0; k < 9; k++) g[k][lane] = from[k];
        }
        UNROLL for (int j = 0; j < 3; j++) winograd_line_weight(g + j, 3, half[j]);
        UNROLL for (int i = 0; i < 6; i++) {
            vf u[6];
            winograd_line_weight(&half[0][i], 6, u);
            UNROLL for (int j = 0; j < 6; j++) v_store(to + (i * 6 + j) * step, u[j]);
        }
    }
}

/* ---- products ---- */

/* out[i][NV vectors] = or += sum over k of a[i * a_row + k * a_step] * b[k * b_step] for MR rows i */
INLINE void winograd_product(const int MR, const int NV, int add, i64 K, const float *restrict a, i64 a_row, i64 a_step,
                             const float *restrict b, i64 b_step, float *restrict out, i64 out_row) {
    vf acc[8][CHANNELS_NV];
    UNROLL for (int i = 0; i < MR; i++) UNROLL for (int j = 0; j < NV; j++) acc[i][j] = (vf){0};
    for (i64 k = 0; k < K; k++, a += a_step, b += b_step) {
        vf v[CHANNELS_NV];
        UNROLL for (int j = 0; j < NV; j++) v[j] = v_load(b + j * VL);
        UNROLL for (int j = 0; j < NV * VL; j += 16) __builtin_prefetch(b + WINOGRAD_AHEAD * b_step + j);
        UNROLL for (int i = 0; i < MR; i++) {
            vf s = v_set1(a[i * a_row]);
            UNROLL for (int j = 0; j < NV; j++) acc[i][j] += s * v[j];
        }
    }
    UNROLL for (int i = 0; i < MR; i++) UNROLL for (int j = 0; j < NV; j++) {
        float *const to = out + i * out_row + j * VL;
        v_store(to, add ? v_load(to) + acc[i][j] : acc[i][j]);
    }
}

/* All rows, in tiles of about the same size, of at most MR */
INLINE void winograd_rows(const int MR, const int NV, int add, i64 rows, i64 K, const float *a, i64 a_row, i64 a_step,
                          const float *b, i64 b_step, float *out, i64 out_row) {
    for (i64 i = 0, left = ceil_div(rows, MR), n; i < rows; i += n) {
        n = ceil_div(rows - i, left--);
#define ROWS(mr) case mr: \
        if (mr <= MR) winograd_product(mr, NV, add, K, a + i * a_row, a_row, a_step, b, b_step, out + i * out_row, out_row); \
        break;
        switch (n) { ROWS(8) ROWS(7) ROWS(6) ROWS(5) ROWS(4) ROWS(3) ROWS(2) ROWS(1) }
#undef ROWS
    }
}

static void winograd_panel(i64 blocks, int add, i64 rows, i64 K, const float *a, i64 a_row, i64 a_step, const float *b, i64 b_step,
                           float *out, i64 out_row) {
#define CALL(mr, nv) winograd_rows(mr, nv, add, rows, K, a, a_row, a_step, b, b_step, out, out_row)
    WIDE_GROUPS(CALL)
#undef CALL
}

struct winograd_products { const struct winograd *w; i64 T; const float *U, *V; float *M; };

enum { WINOGRAD_SHARE = 6 };            /* points a task */

static void winograd_multiply_share(void *context, i64 share) {
    const struct winograd_products *t = context;
    const struct winograd *w = t->w;
    const i64 u_step = winograd_step(w->C, w->Op), v_step = winograd_step(t->T, w->Cp), m_step = winograd_step(t->T, w->Op);
    for (i64 p = share * WINOGRAD_SHARE; p < (share + 1) * WINOGRAD_SHARE; p++) for (i64 o = 0; o < w->Op; o += CHANNELS_NV * VL) {
        i64 blocks = i64_min(CHANNELS_NV, (w->Op - o) / VL);
        winograd_panel(blocks, 0, t->T, w->C, t->V + p * v_step, w->Cp, 1, t->U + p * u_step + o * w->C, blocks * VL,
                       t->M + p * m_step + o, w->Op);
    }
}

/* M [point][T][Op] = V [point][T][Cp] U; shared among the threads where the image is the only one, and they are free */
INLINE void winograd_multiply(const struct winograd *w, i64 T, const float *U, const float *V, float *M) {
    struct winograd_products t = {w, T, U, V, M};
    fastnn_parallel(WINOGRAD_POINTS / WINOGRAD_SHARE, 2.0 * WINOGRAD_POINTS * (double)(T * w->C * w->Op), winograd_multiply_share, &t);
}

/* ---- whole images ---- */

struct winograd_place { i64 image, ty, tx; };

/* The tile after this one, of images of TH x TW tiles */
INLINE void winograd_next(i64 TH, i64 TW, struct winograd_place *at) {
    if (++at->tx < TW) return;
    at->tx = 0;
    if (++at->ty < TH) return;
    at->ty = 0;
    at->image++;
}

/* V of the strip of T tiles from `at` on */
INLINE void winograd_strip_input(const struct winograd *w, struct winograd_place at, i64 T, struct wide_view src, i64 src_image,
                                 float *V) {
    const i64 step = winograd_step(T, w->Cp);
    for (i64 t = 0; t < T; t++, winograd_next(w->TH, w->TW, &at)) {
        const float *from = src.at + at.image * src_image + 4 * at.ty * src.row + 4 * at.tx * VL;
        for (i64 c = 0; c < w->Cp; c += VL) winograd_input(from + c / VL * src.plane, src.row, V + t * w->Cp + c, step);
    }
}

/* dst (OH x OW) = convolution of src, which must be readable over (4*TH + 2) x (4*TW + 2) pixels; work: winograd_work_floats */
KERNEL void winograd_forward(const struct winograd *w, i64 images, const float *U, struct wide_view src, i64 src_image,
                             struct wide_view dst, i64 dst_image, float *work) {
    const i64 tiles = images * w->TH * w->TW, strip = winograd_strip(w);
    struct winograd_place in = {0}, out = {0};
    for (i64 t0 = 0; t0 < tiles; t0 += strip) {
        const i64 T = i64_min(strip, tiles - t0), step = winograd_step(T, w->Op);
        float *V = work, *M = V + WINOGRAD_POINTS * winograd_step(T, w->Cp);
        winograd_strip_input(w, in, T, src, src_image, V);
        for (i64 t = 0; t < T; t++) winograd_next(w->TH, w->TW, &in);
        winograd_multiply(w, T, U, V, M);
        for (i64 t = 0; t < T; t++, winograd_next(w->TH, w->TW, &out)) {
            float *to = dst.at + out.image * dst_image + 4 * out.ty * dst.row + 4 * out.tx * VL;
            const i64 rows = i64_min(4, w->OH - 4 * out.ty), columns = i64_min(4, w->OW - 4 * out.tx);
            for (i64 o = 0; o < w->Op; o += VL, to += dst.plane) {
                vf y[4][4];
                winograd_output(M + t * w->Op + o, step, y);
                if (rows == 4 && columns == 4) {
                    UNROLL for (int i = 0; i < 4; i++) UNROLL for (int j = 0; j < 4; j++) v_store(to + i * dst.row + j * VL, y[i][j]);
                } else {
                    for (i64 i = 0; i < rows; i++) for (i64 j = 0; j < columns; j++) v_store(to + i * dst.row + j * VL, y[i][j]);
                }
            }
        }
    }
}

#endif
