/* Sums that keep their digits however many terms they have.
 *
 * Adding n floats one after the other loses up to n / 2 units in the last place, and where the terms are alike it loses a good part
 * of that: a million times 0.1 is 1 % off. So single precision adds runs of SUM_RUN terms; up to SUM_ADDS of their sums are added the
 * same way, and what these come to is joined by Knuth's sum of two (1969), which keeps the rounding error of each addition. The cut
 * depends on the number of terms alone.
 */
#ifndef FASTNN_SUMS_H
#define FASTNN_SUMS_H

#include "base/lanes.h"

enum {
    SUM_RUN = 64,                   /* terms of a run */
    SUM_SHORT = 128,                /* up to here there is one run */
    SUM_ADDS = 64,                  /* runs that are added before they are joined */
};

INLINE i64 sum_run(i64 terms) { return terms <= SUM_SHORT ? terms : SUM_RUN; }

/* ---- vectors ---- */

struct v_joined { vf sum, low; };

INLINE void v_join(struct v_joined *t, vf v) {
    const vf sum = t->sum + v, part = sum - t->sum;
    t->low += (t->sum - (sum - part)) + (v - part);
    t->sum = sum;
}

/* Of infinities the errors are NaN. */
INLINE vf v_joined_sum(struct v_joined t) {
    const vf sum = t.sum + t.low;
    return v_select(sum == sum, sum, t.sum);
}

/* A sum of many vectors, folded now and then into a total. */
struct folded { vf part; struct v_joined total; };

INLINE void fold(struct folded *sum, vf v, i64 k) {
    sum->part += v;
    if (k % SUM_RUN == SUM_RUN - 1) {
        v_join(&sum->total, sum->part);
        sum->part = (vf){0};
    }
}

INLINE vf folded_sum(struct folded sum) {
    v_join(&sum.total, sum.part);
    return v_joined_sum(sum.total);
}

/* The sum of `count` floats. */
INLINE float run_sum(const float *p, i64 count) {
    struct v_joined total = {};
    for (i64 i = 0, end; i < count; i = end) {
        vf part[2] = {{0}};
        end = i64_min(count, i + 2 * VL * SUM_RUN);
        for (; i + 2 * VL <= end; i += 2 * VL) UNROLL for (int j = 0; j < 2; j++) part[j] += v_load(p + i + j * VL);
        for (; i < end; i += VL) part[0] += v_load_lanes(p + i, i64_min(VL, end - i), 0);
        v_join(&total, part[0] + part[1]);
    }
    return v_sum(v_joined_sum(total));
}

/* ---- arrays ---- */

/* `count` sums that runs are added to in `part`. After SUM_ADDS of them it joins sum and low, and starts from zero again; with few
 * runs in all these are NULL, and part is the result. */
struct joined { float *part, *sum, *low; i64 count, added; int used; };

/* Floats that `count` sums of `runs` runs take, and the sums themselves in such memory; part is to be zero at first. */
INLINE i64 joined_floats(i64 count, i64 runs) { return (runs > SUM_ADDS ? 3 : 1) * round_up(count, 16); }
INLINE struct joined joined_at(float *memory, i64 count, i64 runs) {
    const i64 step = round_up(count, 16);
    struct joined t = {.part = memory, .count = count};
    if (runs > SUM_ADDS) t.sum = memory + step, t.low = memory + 2 * step;
    return t;
}

/* `count` of them from the one at `from` on, after as many runs */
INLINE struct joined joined_slice(const struct joined *t, i64 from, i64 count) {
    struct joined slice = *t;
    slice.part += from, slice.count = count;
    if (slice.sum) slice.sum += from, slice.low += from;
    return slice;
}

/* sum, low += part, part = 0 */
KERNEL void joined_flush(struct joined *t) {
    for (i64 i = 0; i < t->count; i += VL) {
        const i64 lanes = i64_min(VL, t->count - i);
        struct v_joined v = {v_load_lanes(t->part + i, lanes, 0), {0}};
        if (t->used) {
            const vf part = v.sum;
            v = (struct v_joined){v_load_lanes(t->sum + i, lanes, 0), v_load_lanes(t->low + i, lanes, 0)};
            v_join(&v, part);
        }
        v_store_lanes(t->sum + i, v.sum, lanes);
        v_store_lanes(t->low + i, v.low, lanes);
        v_store_lanes(t->part + i, (vf){0}, lanes);
    }
    t->used = 1;
    t->added = 0;
}

/* After `runs` more were added to part */
INLINE void joined_added(struct joined *t, i64 runs) {
    t->added += runs;
    if (t->sum && t->added >= SUM_ADDS) joined_flush(t);
}

/* part = the result */
KERNEL void joined_end(struct joined *t) {
    if (!t->used) return;
    joined_flush(t);
    for (i64 i = 0; i < t->count; i += VL) {
        const i64 lanes = i64_min(VL, t->count - i);
        const struct v_joined v = {v_load_lanes(t->sum + i, lanes, 0), v_load_lanes(t->low + i, lanes, 0)};
        v_store_lanes(t->part + i, v_joined_sum(v), lanes);
    }
}

#endif
