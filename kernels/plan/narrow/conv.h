/* Convolution of a block of images, lanes = images, with bias, ReLU and max-pooling while the outputs are in registers.
 *
 *   x [C][rows][cols][VL], weight [k][OT] for each tile of OT output channels, k = (c, r, s); y [O][PH][PW][VL]
 *   out[o][h][w] = bias[o] + sum over c, r, s of weight[o][c][r][s] * x[c][h + r][w + s]
 *
 * The register tile is OT channels x R rows x Q columns of outputs; a weight is one float for all lanes. With 2x2 pooling the tile
 * is the window: outputs before the pooling never reach memory. Taps that only meet the zero frame of x are left out.
 * 80 to 95 % of the FMA peak from 4 channels on: a tap is OT + R*Q loads for OT*R*Q multiplications.
 */
#ifndef FASTNN_NARROW_CONV_H
#define FASTNN_NARROW_CONV_H

#include "parts/pooling.h"
#include "plan/narrow/layout.h"

enum { NARROW_DEAD = -1 };              /* in place of a maximum's place: ReLU gave zero */

struct narrow_conv {
    i64 O, C, kh, kw;
    struct narrow_view x;               /* from output (0, 0)'s first tap on, but for rows and columns not stored: skip_h, skip_w */
    i64 skip_h, skip_w;
    i64 top, left, inner_h, inner_w;    /* taps outside rows top .. top + inner_h - 1 and columns alike meet zeros */
    const float *weight, *bias;         /* bias (O,) or NULL */
    i64 H, W;                           /* outputs before the pooling that are wanted */
    i64 pool;
    int relu;
    struct narrow_view y;
    int8_t *where;                      /* [O][PH][PW][VL]: place of the maximum in its window, or DEAD; NULL: not wanted */
    float *strip;                       /* pooling other than 2x2: narrow_strip_floats() */
};

#if VL == 16
enum { NARROW_TILE = 6 };
#else
enum { NARROW_TILE = 3 };
#endif

/* The next tile's channels, of those left: 6 only where fours do not fill up. */
INLINE int narrow_tile(i64 left) {
    if (NARROW_TILE == 6) return left >= 6 && left % 4 ? 6 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
    return left >= 3 && left != 4 ? 3 : left >= 2 ? 2 : 1;
}

INLINE i64 narrow_strip_floats(const struct chain_layer *l) { return NARROW_TILE * l->pool * l->OW * VL; }

/* packed: tiles of [k][OT], of weight (O, C, kh, kw) */
KERNEL void narrow_pack(i64 O, i64 K, const float *weight, float *packed) {
    for (i64 o = 0, tile; o < O; o += tile) {
        tile = narrow_tile(O - o);
        for (i64 k = 0; k < K; k++)
            for (i64 j = 0; j < tile; j++) *packed++ = weight[(o + j) * K + k];
    }
}

/* Of the convolution that makes the input gradient: C outputs, O inputs, the kernel turned by 180 degrees. */
KERNEL void narrow_pack_turned(i64 O, i64 C, i64 taps, const float *weight, float *packed) {
    for (i64 c = 0, tile; c < C; c += tile) {
        tile = narrow_tile(C - c);
        for (i64 o = 0; o < O; o++)
            for (i64 k = 0; k < taps; k++)
                for (i64 j = 0; j < tile; j++) *packed++ = weight[(o * C + c + j) * taps + taps - 1 - k];
    }
}

/* One tap, x for output (0, 0), of all outputs of a tile */
INLINE void narrow_tap(const int OT, const int R, const int Q, const float *x, i64 row, const float *weight, vf *acc) {
    vf m[NARROW_TILE];
    if (VL < 16) __asm__("" : "+r"(x)); /* else x stays in registers from tap to tap, and sums go to the stack */
    UNROLL for (int o = 0; o < OT; o++) m[o] = v_set1(weight[o]);
    UNROLL for (int p = 0; p < R * Q; p++) {
        vf v = v_load(x + p / Q * row + p % Q * VL);
        UNROLL for (int o = 0; o < OT; o++) acc[o * R * Q + p] += m[o] * v;
    }
}

/* acc[o * R * Q + i * Q + j]: output (h + i, w + j) of channel first + o */
INLINE void narrow_outputs(const int OT, const int R, const int Q, const struct narrow_conv *t, i64 first, i64 h, i64 w, vf *acc) {
    const i64 kh = t->kh, kw = t->kw, row = t->x.row;
    i64 r0 = i64_max(0, t->top - h - R + 1), r1 = i64_min(kh, t->top + t->inner_h - h);
    i64 s0 = i64_max(0, t->left - w - Q + 1), s1 = i64_min(kw, t->left + t->inner_w - w);
    const float *plane = t->x.at + (h - t->skip_h) * row + (w - t->skip_w) * VL;
    const float *weight = t->weight + first * t->C * kh * kw;
    UNROLL for (int o = 0; o < OT; o++) {
        vf bias = v_set1(t->bias ? t->bias[first + o] : 0.0f);
        UNROLL for (int p = 0; p < R * Q; p++) acc[o * R * Q + p] = bias;
    }
    for (i64 c = 0; c < t->C; c++, plane += t->x.plane, weight += kh * kw * OT)
        for (i64 r = r0; r < r1; r++) {
            const float *x = plane + r * row + s0 * VL, *u = weight + (r * kw + s0) * OT;
            i64 s = s1 - s0;
            for (; s >= 5; s -= 5, x += 5 * VL, u += 5 * OT)
                UNROLL for (int i = 0; i < 5; i++) narrow_tap(OT, R, Q, x + i * VL, row, u + i * OT, acc);
            for (; s > 0; s--, x += VL, u += OT) narrow_tap(OT, R, Q, x, row, u, acc);
        }
}

/* The largest of a window's outputs v, its ReLU to y, and its place: the first of equals, or the first NaN. */
INLINE void narrow_pool(const int count, const vf *v, int relu, float *y, int8_t *where) {
    vf best = v[0];
    vi place = {0};
    if (!where) {
        UNROLL for (int k = 1; k < count; k++) best = v_max_nan(best, v[k]);
        v_store(y, relu ? v_max((vf){0}, best) : best);
        return;
    }
    UNROLL for (int k = 1; k < count; k++) pool_take(v[k], k, &best, &place);
    v_store(y, relu ? v_max((vf){0}, best) : best);
    if (relu) place |= ~(best > (vf){0});           /* all bits: DEAD */
    *(vb_unaligned *)where = __builtin_convertvector(place, vb);
}

/* Pooled row h of OT channels, 2x2 windows. */
INLINE void narrow_window_row(const int OT, const struct narrow_conv *t, i64 first, i64 h) {
    const i64 PH = t->H / 2, PW = t->W / 2;
    for (i64 w = 0; w < PW; w++) {
        vf acc[NARROW_TILE * 4];
        narrow_outputs(OT, 2, 2, t, first, 2 * h, 2 * w, acc);
        UNROLL for (int o = 0; o < OT; o++)
            narrow_pool(4, acc + 4 * o, t->relu, t->y.at + (first + o) * t->y.plane + h * t->y.row + w * VL,
                        t->where ? t->where + (((first + o) * PH + h) * PW + w) * VL : NULL);
    }
}

INLINE void narrow_plain_tile(const int OT, const int R, const int Q, const struct narrow_conv *t, i64 first, i64 h, i64 w, float *y,
                              i64 plane, i64 row) {
    vf acc[NARROW_TILE * 4];
    narrow_outputs(OT, R, Q, t, first, h, w, acc);
    UNROLL for (int i = 0; i < OT * R * Q; i++) v_store(y + i / (R * Q) * plane + i / Q % R * row + (w + i % Q) * VL, acc[i]);
}

/* Rows h .. h + rows - 1 of the outputs as they are, of OT channels, to y */
INLINE void narrow_plain_rows(const int OT, const struct narrow_conv *t, i64 first, i64 h, i64 rows, float *y, i64 plane, i64 row) {
    for (; rows >= 2; h += 2, rows -= 2, y += 2 * row) {
        i64 w = 0;
        for (; w + 2 <= t->W; w += 2) narrow_plain_tile(OT, 2, 2, t, first, h, w, y, plane, row);
        if (w < t->W) narrow_plain_tile(OT, 2, 1, t, first, h, w, y, plane, row);
    }
    if (rows) {
        i64 w = 0;
        for (; w + 2 <= t->W; w += 2) narrow_plain_tile(OT, 1, 2, t, first, h, w, y, plane, row);
        if (w < t->W) narrow_plain_tile(OT, 1, 1, t, first, h, w, y, plane, row);
    }
}

#define NARROW_ROWS(OT)                                                                                                  \
    static void narrow_window_row_##OT(const struct narrow_conv *t, i64 first, i64 h) { narrow_window_row(OT, t, first, h); } \
    static void narrow_plain_rows_##OT(const struct narrow_conv *t, i64 first, i64 h, i64 rows, float *y, i64 plane, i64 row) { \
        narrow_plain_rows(OT, t, first, h, rows, y, plane, row);                                                         \
    }
NARROW_ROWS(1)
NARROW_ROWS(2)
#if VL == 16
NARROW_ROWS(4)
NARROW_ROWS(6)
#else
NARROW_ROWS(3)
#endif
#undef NARROW_ROWS

KERNEL void narrow_any_window_row(int tile, const struct narrow_conv *t, i64 first, i64 h) {
    switch (tile) {
#if VL == 16
    case 6: narrow_window_row_6(t, first, h); break;
    case 4: narrow_window_row_4(t, first, h); break;
#else
    case 3: narrow_window_row_3(t, first, h); break;
#endif
    case 2: narrow_window_row_2(t, first, h); break;
    default: narrow_window_row_1(t, first, h);
    }
}

KERNEL void narrow_any_plain_rows(int tile, const struct narrow_conv *t, i64 first, i64 h, i64 rows, float *y, i64 plane, i64 row) {
    switch (tile) {
#if VL == 16
    case 6: narrow_plain_rows_6(t, first, h, rows, y, plane, row); break;
    case 4: narrow_plain_rows_4(t, first, h, rows, y, plane, row); break;
#else
    case 3: narrow_plain_rows_3(t, first, h, rows, y, plane, row); break;
#endif
    case 2: narrow_plain_rows_2(t, first, h, rows, y, plane, row); break;
    default: narrow_plain_rows_1(t, first, h, rows, y, plane, row);
    }
}

/* Row h of the pooled outputs, or of the ReLU's, from the strip: its channels `plane` floats apart, rows W pixels */
KERNEL void narrow_pool_strip(const struct narrow_conv *t, i64 first, int tile, i64 h, i64 plane) {
    const i64 pool = t->pool, PH = t->H / pool, PW = t->W / pool;
    for (i64 o = 0; o < tile; o++)
        for (i64 w = 0; w < PW; w++) {
            const float *v = t->strip + o * plane + w * pool * VL;
            vf best = v_load(v);
            vi place = {0};
            for (i64 i = 0; i < pool; i++) for (i64 j = 0; j < pool; j++)
                pool_take(v_load(v + (i * t->W + j) * VL), (int)(i * pool + j), &best, &place);
            v_store(t->y.at + (first + o) * t->y.plane + h * t->y.row + w * VL, t->relu ? v_max((vf){0}, best) : best);
            if (t->where) {
                if (t->relu) place |= ~(best > (vf){0});
                *(vb_unaligned *)(t->where + (((first + o) * PH + h) * PW + w) * VL) = __builtin_convertvector(place, vb);
            }
        }
}

/* A block's convolution. */
KERNEL void narrow_convolve(const struct narrow_conv *t) {
    const i64 pool = t->pool, PH = t->H / pool, plane = pool * t->W * VL;
    if (pool == 1 && !t->relu && !t->where) {
        for (i64 h = 0; h < t->H; h += 2)
            for (i64 o = 0, tile; o < t->O; o += tile) {
                tile = narrow_tile(t->O - o);
                float *y = t->y.at + o * t->y.plane + h * t->y.row;
                narrow_any_plain_rows((int)tile, t, o, h, i64_min(2, t->H - h), y, t->y.plane, t->y.row);
            }
        return;
    }
    for (i64 h = 0; h < PH; h++)
        for (i64 o = 0, tile; o < t->O; o += tile) {
            tile = narrow_tile(t->O - o);
            if (pool == 2) {
                narrow_any_window_row((int)tile, t, o, h);
            } else {
                narrow_any_plain_rows((int)tile, t, o, h * pool, pool, t->strip, plane, t->W * VL);
                narrow_pool_strip(t, o, (int)tile, h, plane);
            }
        }
}

#endif
