/* Max-pooling and ReLU of a strip of convolution outputs, lanes = channels.
 *
 * A strip is a few rows of a convolution's output, blocked [OB][rows][cols][VL], that has just been written and is still in cache.
 * Backward needs of all this only where each maximum stood: one byte, the place in the window, -1 where ReLU gave zero.
 */
#ifndef FASTNN_WIDE_POOL_H
#define FASTNN_WIDE_POOL_H

#include "plan/wide/layout.h"

enum { WIDE_MOST_POOL = 4 };

/* Takes v at place k of a window into its maximum: the first of equals, or the first NaN. */
INLINE void wide_pool_take(vf v, int k, vf *best, vi *place) {
    const vi wins = v_beats(v, *best);
    *best = v_select(wins, v, *best);
    *place = (vi)v_select(wins, (vf)v_set1_int(k), (vf)*place);
}

/* Writes a window's output and, where wanted, the place of its maximum. */
INLINE void wide_pool_give(vf best, vi place, int relu, float *y, int8_t *where) {
    if (where) v_store_bytes(where, relu ? place | ~(best > (vf){0}) : place);
    v_store(y, relu ? v_max((vf){0}, best) : best);
}

/* One row of PW windows: src at its first pixel. where: PW pixels `where_step` bytes apart, or NULL. */
INLINE void wide_pool_row(const int pool, i64 PW, const float *src, i64 row, int relu, float *dst, int8_t *where, i64 where_step) {
    for (i64 w = 0; w < PW; w++, src += pool * VL) {
        vf best = v_load(src);
        vi place = {0};
        UNROLL for (int k = 1; k < pool * pool; k++) wide_pool_take(v_load(src + k / pool * row + k % pool * VL), k, &best, &place);
        wide_pool_give(best, place, relu, dst + w * VL, where ? where + w * where_step : NULL);
    }
}

KERNEL void wide_pool_strip(i64 pool, i64 OB, i64 PH, i64 PW, struct wide_view src, int relu, struct wide_view dst, int8_t *where) {
    for (i64 ob = 0; ob < OB; ob++)
        for (i64 h = 0; h < PH; h++) {
            const float *s = src.at + ob * src.plane + h * pool * src.row;
            float *d = dst.at + ob * dst.plane + h * dst.row;
            int8_t *a = where ? where + (h * PW * OB + ob) * VL : NULL;
            if (pool == 2) wide_pool_row(2, PW, s, src.row, relu, d, a, OB * VL);
            else if (pool == 3) wide_pool_row(3, PW, s, src.row, relu, d, a, OB * VL);
            else wide_pool_row(4, PW, s, src.row, relu, d, a, OB * VL);
        }
}

/* dst = src, or its ReLU */
KERNEL void wide_relu_strip(i64 OB, i64 H, i64 W, struct wide_view src, int relu, struct wide_view dst) {
    for (i64 ob = 0; ob < OB; ob++)
        for (i64 h = 0; h < H; h++) {
            const float *s = src.at + ob * src.plane + h * src.row;
            float *d = dst.at + ob * dst.plane + h * dst.row;
            for (i64 w = 0; w < W * VL; w += VL) {
                vf v = v_load(s + w);
                v_store(d + w, relu ? v_max((vf){0}, v) : v);
            }
        }
}

#endif
