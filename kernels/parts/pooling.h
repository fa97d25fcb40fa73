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
    struct pool_window at = {i64_max(0, top), i64_min(p->H, top + p->kh), i64_max(0, left), i64_min(p->W, left + p->kw), 0};
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
        for (i64 i = at.h0, k = 0; i < at.h1; i++) for (i64 j = at.w0; j < at.w1; j++) fold(&sum, v_load(x + i * row + j * VL), k++);
        return folded_sum(sum) / at.count;
    }
    vf best = v_load(x + at.h0 * row + at.w0 * VL);
    *place = v_set1_int(pool_place(p, h, w, at.h0, at.w0));
    for (i64 i = at.h0; i < at.h1; i++) for (i64 j = at.w0; j < at.w1; j++)
        pool_take(v_load(x + i * row + j * VL), pool_place(p, h, w, i, j), &best, place);
    return best;
}

/* Adds the gradient g of window (h, w) to those of its pixels. */
INLINE void pool_spread(const struct pooling *p, i64 h, i64 w, vf g, vi place, float *dx, i64 row) {
    const struct pool_window at = pool_window(p, h, w);
    if (p->kind != POOL_MAX) g /= at.count;
    for (i64 i = at.h0; i < at.h1; i++) for (i64 j = at.w0; j < at.w1; j++) {
        float *to = dx + i * row + j * VL;
        const vi here = place == pool_place(p, h, w, i, j);
        v_store(to, v_load(to) + (p->kind == POOL_MAX ? (vf)((vi)g & here) : g));
    }
}

#endif
