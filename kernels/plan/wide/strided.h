/* 4x4 and 5x5 convolutions of stride 2 by Winograd's way: 100 and 121 multiplications for 4x4 outputs where direct loops take 256 and 400.
 *
 * Along a line, even pixels meet the taps 0, 2, 4 and odd ones the taps 1, 3: two convolutions of stride 1, of 3 or 2 taps, whose sum is
 * wanted. Of 4 outputs, those of 3 taps take 6 multiplications (F(4, 3), as wide/winograd.h), those of 2 taps 5 (F(4, 2), at the points
 * +-1/2, +-1 and infinity). So a line of K + 6 pixels has K + 6 points, first those of even pixels, and a tile has their products.
 *
 *   Y = A' [ sum over C of (G g G') * (B' d B) ] A     with the even and the odd part below each other in A, B and G
 *
 * Errors with C = 64 are 1.1e-6 of the largest entry for 2 taps, 1.4e-6 for 3. The gradients are in wide/strided_backward.h.
 *
 * Measured (Xeon, AVX-512, one thread, where direct loops run at 190-200 GFLOP/s forward): the three products of a training step, direct
 * and this way, in microseconds an image: 5x5 32 -> 64 channels of 16x16 102, 52; 64 -> 128 of 8x8 103, 65; 16 -> 32 of 24x24 67, 37; 4x4
 * 32 -> 64 of 16x16 65, 43. A tile's transforms take 300 to 600 cycles for 16 channels, bound by their stores to L2. 3x3 would take 81
 * multiplications instead of 144; by itself it took 31 instead of 37 (32 -> 64 channels of 16x16), in networks it was no faster: more memory.
 */
#ifndef FASTNN_WIDE_STRIDED_H
#define FASTNN_WIDE_STRIDED_H

#include "plan/wide/winograd.h"

#if VL > 4 || !defined(__x86_64__)
#define STRIDED_HERE 1
#else
#define STRIDED_HERE 0
#endif

enum {
    STRIDED_MOST = 11,                      /* points of a line */
    STRIDED_LARGE = 600 << 10,              /* weights that fill L2, and are read again for each strip: from so many on it is longer */
    STRIDED_CHANNELS = 12,                  /* input channels whose weight gradients are in cache at a time */
    STRIDED_FEW = 16,                       /* tiles that do not pay for the weights' transform */
    STRIDED_COST = 12,                      /* of a tile's transforms, in multiplications for each point and channel of either side */
};

struct strided {
    i64 K, C, O, OH, OW;
    i64 TH, TW;                             /* tiles of 4x4 outputs */
    i64 Cp, Op;                             /* C, O rounded up to VL */
};

INLINE struct strided strided_shape(i64 K, i64 C, i64 O, i64 OH, i64 OW) {
    return (struct strided){K, C, O, OH, OW, ceil_div(OH, 4), ceil_div(OW, 4), round_up(C, VL), round_up(O, VL)};
}

/* ---- points of a line: of even pixels (phase 0), of odd ones (phase 1) ---- */

INLINE i64 strided_taps(i64 K, i64 phase) { return (K + 1 - phase) / 2; }
INLINE i64 strided_first(i64 K, i64 phase) { return phase ? strided_taps(K, 0) + 3 : 0; }
INLINE i64 strided_points(i64 K) { return (K + 6) * (K + 6); }

/* Whether products and transforms take four fifths of direct loops' time or less: in a network, where weights and tiles come from L2 and
 * beyond, what is closer does not pay. From 32 -> 32 channels of 4x4 and 16 -> 16 of 5x5 on. Four
 * lanes have it where they are all that there is: baseline x86 is kept small. */
INLINE int strided_pays(i64 K, i64 C, i64 O, i64 OH, i64 OW, i64 images) {
    const i64 tiles = ceil_div(OH, 4) * ceil_div(OW, 4), points = strided_points(K) * tiles;
    return STRIDED_HERE && images * tiles >= STRIDED_FEW && 4 * K * K * OH * OW * C * O >= 5 * points * (C * O + STRIDED_COST * (C + O));
}

/* Tiles at a time, at most, and of so many in all that strips are about equally long */
INLINE i64 strided_strip(const struct strided *w) { return strided_points(w->K) * w->Cp * w->Op < STRIDED_LARGE ? 24 : 48; }
INLINE i64 strided_tiles(const struct strided *w, i64 left) { return ceil_div(left, ceil_div(left, strided_strip(w))); }

INLINE i64 strided_weight_floats(const struct strided *w) { return strided_points(w->K) * winograd_step(w->C, w->Op); }
INLINE i64 strided_work_floats(const struct strided *w) {
    return strided_points(w->K) * (winograd_step(strided_strip(w), w->Cp) + winograd_step(strided_strip(w), w->Op) +
                                   winograd_step(STRIDED_CHANNELS, CHANNELS_NV * VL));
}

/* ---- transforms of a line, for t taps, by pairs: t + 3 points, pair g has the points 2 * g and 2 * g + 1 ----
 *
 * Of 2 and 3 taps the points are a, -a, b, -b; then 0, of 3 taps; and infinity. */

#define STRIDED_A(t) ((t) == 2 ? 0.5f : WINOGRAD_A)
#define STRIDED_B(t) ((t) == 2 ? 1.0f : WINOGRAD_B)
#define STRIDED_SQUARE(t, g) ((g) ? STRIDED_B(t) * STRIDED_B(t) : STRIDED_A(t) * STRIDED_A(t))
#define STRIDED_POINT(t, g) ((g) ? STRIDED_B(t) : STRIDED_A(t))
#define STRIDED_SUM(t) (STRIDED_SQUARE(t, 0) + STRIDED_SQUARE(t, 1))
#define STRIDED_PRODUCT(t) (STRIDED_SQUARE(t, 0) * STRIDED_SQUARE(t, 1))
/* 1 / the product of a point's distances to the others */
#define STRIDED_G(t, g) (0.5f / ((t) == 2 ? STRIDED_POINT(t, g) : STRIDED_SQUARE(t, g)) / (STRIDED_SQUARE(t, g) - STRIDED_SQUARE(t, !(g))))

INLINE i64 strided_in_pair(i64 t, i64 g) { return t == 2 && g == 2 ? 1 : 2; }

/* B' d */
INLINE void strided_line_input(const int t, const int g, const vf *d, const int by, vf *out) {
    const int z = t - 2;
    if (g < 2) {
        const vf even = d[(3 + z) * by] - STRIDED_SQUARE(t, !g) * d[(1 + z) * by], odd = d[(2 + z) * by] - STRIDED_SQUARE(t, !g) * d[z * by];
        out[0] = even + STRIDED_POINT(t, g) * odd;
        out[1] = even - STRIDED_POINT(t, g) * odd;
    } else UNROLL for (int k = 0; k <= z; k++) {
        out[k] = (d[(4 + k) * by] - STRIDED_SUM(t) * d[(2 + k) * by]) + STRIDED_PRODUCT(t) * d[k * by];
    }
}

/* y += A' m, of a pair */
INLINE void strided_line_output(const int t, const int g, const vf *m, vf *y, const int by) {
    if (g < 2) {
        const vf sum = m[0] + m[1], diff = STRIDED_POINT(t, g) * (m[0] - m[1]);
        y[0] += sum;
        y[by] += diff;
        y[2 * by] += STRIDED_SQUARE(t, g) * sum;
        y[3 * by] += STRIDED_SQUARE(t, g) * diff;
    } else {
        if (t == 3) y[0] += m[0];
        y[3 * by] += m[t - 2];
    }
}

/* G g */
INLINE void strided_line_weight(const int t, const vf *g, const int by, vf *u) {
    UNROLL for (int p = 0; p < 2; p++) {
        const vf even = t == 2 ? g[0] : g[0] + STRIDED_SQUARE(t, p) * g[2 * by], odd = STRIDED_POINT(t, p) * g[by];
        u[2 * p] = STRIDED_G(t, p) * (odd + even);
        u[2 * p + 1] = STRIDED_G(t, p) * (t == 2 ? odd - even : even - odd);
    }
    if (t == 3) u[4] = 1.0f / STRIDED_PRODUCT(t) * g[0];
    u[t + 2] = g[(t - 1) * by];
}

/* ---- transforms of a tile ---- */

/* Loops over lines stay loops: unrolled, they were no faster, and kernels are to be small. */
#define ROLLED _Pragma("GCC unroll 1")

/* (K + 6)^2 pixels at src -> V */
INLINE void strided_input(const int K, const float *restrict src, i64 row, float *restrict V, i64 step) {
    UNROLL for (int f = 0; f < 2; f++) UNROLL for (int g = 0; g < 3; g++) {
        const int t = (int)strided_taps(K, f), i = (int)strided_first(K, f) + 2 * g;
        vf line[2][STRIDED_MOST];
        ROLLED for (int j = 0; j < K + 6; j++) {
            vf d[6], pair[2];
            UNROLL for (int k = 0; k < t + 3; k++) d[k] = v_load(src + (2 * k + f) * row + j * VL);
            strided_line_input(t, g, d, 1, pair);
            UNROLL for (int k = 0; k < strided_in_pair(t, g); k++) line[k][j] = pair[k];
        }
        ROLLED for (int k = 0; k < strided_in_pair(t, g); k++) UNROLL for (int e = 0; e < 2; e++) {
            const int s = (int)strided_taps(K, e), j = (int)strided_first(K, e);
            UNROLL for (int h = 0; h < 3; h++) {
                vf pair[2];
                strided_line_input(s, h, line[k] + e, 2, pair);
                UNROLL for (int l = 0; l < strided_in_pair(s, h); l++) v_store(V + ((i + k) * (K + 6) + j + 2 * h + l) * step, pair[l]);
            }
        }
    }
}

/* Column j of M -> 4 rows of its outputs, `by` vectors apart */
INLINE void strided_output_column(const int K, const float *restrict M, i64 j, i64 step, vf *half, const int by) {
    UNROLL for (int i = 0; i < 4; i++) half[i * by] = (vf){0};
    UNROLL for (int f = 0; f < 2; f++) UNROLL for (int g = 0; g < 3; g++) {
        const int t = (int)strided_taps(K, f);
        const i64 i = strided_first(K, f) + 2 * g;
        vf pair[2];
        UNROLL for (int k = 0; k < strided_in_pair(t, g); k++) pair[k] = v_load(M + ((i + k) * (K + 6) + j) * step);
        strided_line_output(t, g, pair, half, by);
    }
}

/* M -> 4x4 outputs */
INLINE void strided_output(const int K, const float *restrict M, i64 step, vf *y) {
    UNROLL for (int i = 0; i < 16; i++) y[i] = (vf){0};
    UNROLL for (int e = 0; e < 2; e++) UNROLL for (int h = 0; h < 3; h++) {
        const int s = (int)strided_taps(K, e);
        vf half[4][2];
        UNROLL for (int l = 0; l < strided_in_pair(s, h); l++) strided_output_column(K, M, strided_first(K, e) + 2 * h + l, step, &half[0][l], 2);
        UNROLL for (int i = 0; i < 4; i++) strided_line_output(s, h, half[i], y + 4 * i, 1);
    }
}

WINOGRAD_TILE void strided_input_4(const float *restrict src, i64 row, float *restrict V, i64 step) { strided_input(4, src, row, V, step); }
WINOGRAD_TILE void strided_input_5(const float *restrict src, i64 row, float *restrict V, i64 step) { strided_input(5, src, row, V, step); }

/* rows x columns of the outputs, and no more, of block after block */
#define STRIDED_OUTPUT(K) \
WINOGRAD_TILE void strided_output_##K(const float *restrict M, i64 step, float *restrict to, i64 row, i64 rows, i64 columns) { \
    vf y[16]; \
    strided_output(K, M, step, y); \
    if (rows == 4 && columns == 4) { \
        UNROLL for (int i = 0; i < 4; i++) UNROLL for (int j = 0; j < 4; j++) v_store(to + i * row + j * VL, y[4 * i + j]); \
    } else { \
        for (i64 i = 0; i < rows; i++) for (i64 j = 0; j < columns; j++) v_store(to + i * row + j * VL, y[4 * i + j]); \
    } \
}
STRIDED_OUTPUT(4)
STRIDED_OUTPUT(5)

/* ---- weights: U [point][group of CHANNELS_NV blocks][C][group] ---- */

INLINE void strided_pack_block(const int K, const vf *g, float *to, i64 step) {
    vf half[5][STRIDED_MOST];               /* [column][row] */
    ROLLED for (int j = 0; j < K; j++) UNROLL for (int f = 0; f < 2; f++)
        strided_line_weight((int)strided_taps(K, f), g + f * K + j, 2 * K, half[j] + strided_first(K, f));
    ROLLED for (int i = 0; i < K + 6; i++) {
        vf u[STRIDED_MOST];
        UNROLL for (int f = 0; f < 2; f++) strided_line_weight((int)strided_taps(K, f), &half[f][i], 2 * STRIDED_MOST, u + strided_first(K, f));
        UNROLL for (int j = 0; j < K + 6; j++) v_store(to + (i * (K + 6) + j) * step, u[j]);
    }
}

/* Rows [c0, c1) of U from weight (O, C, K, K); exchanged: from that of a convolution with C and O exchanged, for strided_backward */
KERNEL void strided_pack(const struct strided *w, const float *weight, int exchanged, float *U, i64 c0, i64 c1) {
    const i64 taps = w->K * w->K, step = winograd_step(w->C, w->Op), by_c = exchanged ? w->O * taps : taps, by_o = exchanged ? taps : w->C * taps;
    for (i64 c = c0; c < c1; c++) for (i64 o = 0; o < w->Op; o += VL) {
        const i64 group = o / (CHANNELS_NV * VL) * CHANNELS_NV * VL, wide = i64_min(CHANNELS_NV * VL, w->Op - group);
        float *to = U + group * w->C + c * wide + o - group;
        vf g[25] = {{0}};
        for (i64 lane = 0; lane < i64_min(VL, w->O - o); lane++)
            for (i64 k = 0; k < taps; k++) ((float *)(g + k))[lane] = weight[c * by_c + (o + lane) * by_o + k];
        if (w->K == 4) strided_pack_block(4, g, to, step);
        else strided_pack_block(5, g, to, step);
    }
}

/* ---- whole images ---- */

/* M [point][T][Op] = V [point][T][Cp] U */
INLINE void strided_multiply(const struct strided *w, i64 T, const float *U, const float *V, float *M) {
    const i64 u_step = winograd_step(w->C, w->Op), v_step = winograd_step(T, w->Cp), m_step = winograd_step(T, w->Op);
    for (i64 p = 0; p < strided_points(w->K); p++, U += u_step, V += v_step, M += m_step) for (i64 o = 0; o < w->Op; o += CHANNELS_NV * VL) {
        const i64 blocks = i64_min(CHANNELS_NV, (w->Op - o) / VL);
        winograd_panel(blocks, 0, T, w->C, V, w->Cp, 1, U + o * w->C, blocks * VL, M + o, w->Op);
    }
}

/* V of the strip of T tiles from `at` on */
KERNEL void strided_strip_input(const struct strided *w, struct winograd_place at, i64 T, struct wide_view src, i64 src_image, float *V) {
    void (*const input)(const float *, i64, float *, i64) = w->K == 4 ? strided_input_4 : strided_input_5;
    for (i64 t = 0; t < T; t++, winograd_next(w->TH, w->TW, &at)) {
        const float *from = src.at + at.image * src_image + 8 * at.ty * src.row + 8 * at.tx * VL;
        for (i64 c = 0; c < w->Cp; c += VL) input(from + c / VL * src.plane, src.row, V + t * w->Cp + c, winograd_step(T, w->Cp));
    }
}

/* dst (OH x OW) = convolution of src, readable over (8*TH + K - 2) x (8*TW + K - 2) pixels; work: strided_work_floats */
KERNEL void strided_forward(const struct strided *w, i64 images, const float *U, struct wide_view src, i64 src_image, struct wide_view dst,
                            i64 dst_image, float *work) {
    void (*const output)(const float *, i64, float *, i64, i64, i64) = w->K == 4 ? strided_output_4 : strided_output_5;
    struct winograd_place in = {0}, out = {0};
    for (i64 left = images * w->TH * w->TW, T; left; left -= T) {
        T = strided_tiles(w, left);
        float *V = work, *M = V + strided_points(w->K) * winograd_step(T, w->Cp);
        strided_strip_input(w, in, T, src, src_image, V);
        for (i64 t = 0; t < T; t++) winograd_next(w->TH, w->TW, &in);
        strided_multiply(w, T, U, V, M);
        for (i64 t = 0; t < T; t++, winograd_next(w->TH, w->TW, &out)) {
            float *to = dst.at + out.image * dst_image + 4 * out.ty * dst.row + 4 * out.tx * VL;
            for (i64 o = 0; o < w->Op; o += VL, to += dst.plane)
                output(M + t * w->Op + o, winograd_step(T, w->Op), to, dst.row, i64_min(4, w->OH - 4 * out.ty), i64_min(4, w->OW - 4 * out.tx));
        }
    }
}

#endif
