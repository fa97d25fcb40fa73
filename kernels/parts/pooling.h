/* Pooling of vectors: how the next value of a window is taken, for every layout. */
#ifndef FASTNN_POOLING_H
#define FASTNN_POOLING_H

#include "base/sums.h"
#include "parts/kinds.h"

/* Takes v at place k of a window into its maximum: the first of equals, or the first NaN. */
INLINE void pool_take(vf v, int k, vf *best, vi *place) {
    const vi wins = v_beats(v, *best);
    *best = v_select(wins, v, *best);
    *place = (vi)v_select(wins, (vf)v_set1_int(k), (vf)*place);
}

/* A pooling: windows of kh x kw, sh and sw apart, from ph and pw before the first pixel on, of H x W pixels. */
struct pooling { i64 kind, kh, kw, sh, sw, ph, pw, H, W; int counts_padding; };

/* A window's pixels inside the image, rows h0 .. h1 - 1 and columns alike, and what an average divides by. */
struct pool_window { i64 h0, h1, w0, w1; float count; };

INLINE struct pool_window pool_window(const struct pooling *p, i64 h, i64 w) {
    const i64 top = h * p->sh - p->ph, left = w * p->sw - p->pw;
    struct pool_window at = {top, top + p->kh, left, left + p->kw, 0};
    if (p->ph) at.h0 = i64_max(0, top), at.h1 = i64_min(p->H, at.h1);
    if (p->pw) at.w0 = i64_max(0, left), at.w1 = i64_min(p->W, at.w1);
    at.count = (float)(p->counts_padding ? p->kh * p->kw : (at.h1 - at.h0) * (at.w1 - at.w0));
    return at;
}

/* The place in window (h, w) of its pixel in row i and column j of the image. */
INLINE int pool_place(const struct pooling *p, i64 h, i64 w, i64 i, i64 j) {
    return (int)((i - h * p->sh + p->ph) * p->kw + j - w * p->sw + p->pw);
}

/* Window (h, w) of pixels VL floats apart, rows `row` floats: its value and, of a maximum, the place. */
INLINE vf pool_value(const struct pooling *p, i64 h, i64 w, const float *x, i64 row, vi *place) {
    const struct pool_window at = pool_window(p, h, w);
    if (p->kind != POOL_MAX) {
        struct folded sum = {};
        if (p->kh * p->kw <= SUM_SHORT) {
            UNROLL for (i64 i = at.h0; i < at.h1; i++) UNROLL for (i64 j = at.w0; j < at.w1; j++) sum.part += v_load(x + i * row + j * VL);
            return sum.part / at.count;
        }
        for (i64 i = at.h0, k = 0; i < at.h1; i++) for (i64 j = at.w0; j < at.w1; j++) fold(&sum, v_load(x + i * row + j * VL), k++);
        return folded_sum(sum) / at.count;
    }
    vf best = v_load(x + at.h0 * row + at.w0 * VL);
    *place = v_set1_int(pool_place(p, h, w, at.h0, at.w0));
    for (i64 i = at.h0; i < at.h1; i++) for (i64 j = at.w0; j < at.w1; j++)
        pool_take(v_load(x + i * row + j * VL), pool_place(p, h, w, i, j), &best, place);
    return best;
}

/* Adds the gradient g of window (h, w) to those of its pixels, which are zero at first; stores it where windows do not overlap. */
INLINE void pool_spread(const struct pooling *p, i64 h, i64 w, vf g, vi place, float *dx, i64 row) {
    const struct pool_window at = pool_window(p, h, w);
    const int alone = p->sh >= p->kh && p->sw >= p->kw;
    if (p->kind != POOL_MAX) g /= at.count;
    for (i64 i = at.h0; i < at.h1; i++) for (i64 j = at.w0; j < at.w1; j++) {
        float *to = dx + i * row + j * VL;
        const vf part = p->kind == POOL_MAX ? (vf)((vi)g & (place == pool_place(p, h, w, i, j))) : g;
        v_store(to, alone ? part : v_load(to) + part);
    }
}

/* CALL(pooling) with what decides the loops a constant: the kind, and 2x2 windows side by side */
#define POOLING_CASES(p, CALL) do {                                                                                       \
        const int pairs = (p).kh == 2 && (p).kw == 2 && (p).sh == 2 && (p).sw == 2 && !(p).ph && !(p).pw;                 \
        if ((p).kind == POOL_MAX && pairs) CALL(((struct pooling){POOL_MAX, 2, 2, 2, 2, 0, 0, (p).H, (p).W, 1}));         \
        else if ((p).kind == POOL_MAX)                                                                                    \
            CALL(((struct pooling){POOL_MAX, (p).kh, (p).kw, (p).sh, (p).sw, (p).ph, (p).pw, (p).H, (p).W, 1}));          \
        else if (pairs) CALL(((struct pooling){POOL_AVERAGE, 2, 2, 2, 2, 0, 0, (p).H, (p).W, 1}));                        \
        else CALL(((struct pooling){POOL_AVERAGE, (p).kh, (p).kw, (p).sh, (p).sw, (p).ph, (p).pw, (p).H, (p).W, (p).counts_padding})); \
    } while (0)

#endif
