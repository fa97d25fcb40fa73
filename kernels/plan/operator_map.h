/* Operators of arrays with any strides, with broadcasting and between types: entry by entry, and sums over some dimensions.
 *
 *   map   y[i] = f(a[i], b[i], c[i])           i over size[0] x .. x size[dims-1], the strides of each array for itself
 *   sum   y[i] = sum over j of a[i, j]         i over the first `kept` dimensions, y contiguous, j over the others
 *
 * A map goes through the entries in the order of their indices, MAP_CHUNK at a time: arrays that lie in this order are used in place,
 * others are gathered into, or scattered from, a chunk in the first-level cache; formulas see contiguous floats alone. The floor is
 * memory for large arrays; small ones cost about 50 ns a chunk.
 */
#ifndef FASTNN_OPERATOR_MAP_H
#define FASTNN_OPERATOR_MAP_H

#include <math.h>

#include "base/sums.h"
#include "base/threads.h"
#include "base/vmath.h"
#include "plan/operator_functions.h"
#include "plan/operators.h"
#include "plan/stages.h"

enum { MAP_CHUNK = 512, MAP_TASK = 1 << 14, MAP_INPUTS = OPERATOR_ARRAYS - 1 };

/* ---- reading and writing entries of any type ---- */

#define GATHER(TYPE, CONVERTED) { for (i64 i = 0; i < n; i++) { const TYPE v = *(const TYPE *)(p + i * stride); to[i] = CONVERTED; } return; }
INLINE void map_load(i64 element, const char *p, i64 stride, i64 n, float *to) {
    switch (element) {
    case ELEMENT_DOUBLE: GATHER(double, (float)v)
    case ELEMENT_INT64: GATHER(int64_t, (float)v)
    case ELEMENT_INT32: GATHER(int32_t, (float)v)
    case ELEMENT_BYTE: GATHER(uint8_t, (float)v)
    default:
        if (stride == sizeof(float)) for (i64 i = 0; i < n; i++) to[i] = ((const float *)p)[i];
        else if (stride == 0) for (i64 i = 0; i < n; i++) to[i] = *(const float *)p;
        else GATHER(float, v)
    }
}
#undef GATHER

#define SCATTER(TYPE) { for (i64 i = 0; i < n; i++) *(TYPE *)(p + i * stride) = (TYPE)from[i]; return; }
INLINE void map_store(i64 element, char *p, i64 stride, i64 n, const float *from) {
    switch (element) {
    case ELEMENT_DOUBLE: SCATTER(double)
    case ELEMENT_INT64: SCATTER(int64_t)
    case ELEMENT_INT32: SCATTER(int32_t)
    case ELEMENT_BYTE: SCATTER(uint8_t)
    default: SCATTER(float)
    }
}
#undef SCATTER

/* A position among the entries of arrays of one shape. */
struct odometer { i64 dims; const int64_t *size; i64 index[OPERATOR_DIMS]; };

INLINE struct odometer odometer_at(i64 dims, const int64_t *size, i64 position) {
    struct odometer at = {dims, size, {0}};
    for (i64 d = dims; d-- > 0; position /= size[d]) at.index[d] = position % size[d];
    return at;
}

INLINE i64 odometer_offset(const struct odometer *at, const int64_t *stride) {
    i64 offset = 0;
    for (i64 d = 0; d < at->dims; d++) offset += at->index[d] * stride[d];
    return offset;
}

/* By so many entries, which lie within the row */
INLINE void odometer_advance(struct odometer *at, i64 entries) {
    i64 d = at->dims - 1;
    at->index[d] += entries;
    for (; d > 0 && at->index[d] == at->size[d]; d--) at->index[d] = 0, at->index[d - 1]++;
}

/* n entries from `at` on, gathered (to) or scattered (from). Rows that repeat, as those of a bias, are read once. */
INLINE void map_move(const int store, const struct operand *a, char *base, struct odometer at, i64 n, float *chunk) {
    const i64 last = at.dims - 1, stride = a->stride[last], row = at.size[last];
    const int repeats = !store && last > 0 && a->stride[last - 1] == 0 && 2 * row <= n;
    while (n > 0) {
        const i64 run = i64_min(n, row - at.index[last]);
        char *p = base + odometer_offset(&at, a->stride);
        if (store) map_store(a->element, p, stride, run, chunk);
        else map_load(a->element, p, stride, run, chunk);
        if (repeats && run == row) {
            const i64 rows = i64_min(n / row, at.size[last - 1] - at.index[last - 1]), all = rows * row;
            for (i64 done = row; done < all; done = i64_min(2 * done, all))
                memcpy(chunk + done, chunk, (size_t)i64_min(done, all - done) * sizeof(float));
            chunk += all;
            n -= all;
            at.index[last - 1] += rows - 1;
            odometer_advance(&at, row);
        } else {
            chunk += run;
            n -= run;
            odometer_advance(&at, run);
        }
    }
}

/* ---- formulas ---- */

/* log(x) for any x */
INLINE vf log_any(vf x) {
    const vi small = x < v_set1(0x1p-126f);
    const vf y = v_log(v_select(small, x * 0x1p24f, x)) - (vf)((vi)v_set1(16.6355323f) & small);
    vf special = v_select(x == (vf){0}, v_set1(-INFINITY), v_set1(NAN));
    special = v_select(x == v_set1(INFINITY), x, special);
    return v_select((x > (vf){0}) & (x < v_set1(INFINITY)), y, special);
}

/* log(1 - p) for 0 <= p <= 1, or NaN */
INLINE vf log_rest(vf p) { return v_select(p <= v_set1(0.25f), v_log1p(-v_min(v_set1(0.25f), p)), log_any(1.0f - p)); }

/* log(1 + x) for any x; where 1 + x is rounded it costs no digits */
INLINE vf log1p_any(vf x) {
    const vi near = (x >= v_set1(-0.3f)) & (x <= v_set1(1.0f));
    return v_select(near, v_select(v_abs(x) < v_set1(0x1p-100f), x, v_log1p(v_select(near, x, (vf){0}))), log_any(1.0f + x));
}

INLINE vf at_least(vf x, float least) { return v_max(v_set1(least), x); } /* NaN stays */

/* max(log(p), -100) and the like: as PyTorch does */
INLINE vf bce_loss(vf p, vf t) { return (t - 1.0f) * at_least(log_rest(p), -100.0f) - t * at_least(log_any(p), -100.0f); }

INLINE float map_remainder(float a, float b) {
    const float rest = fmodf(a, b);
    return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

#define EACH(FORMULA) { for (i64 i = 0; i < n; i++) y[i] = (FORMULA); return; }
#define EACH_VECTOR(FORMULA)                                                                    \
    { for (i64 i = 0; i < n; i += VL) {                                                         \
        const i64 lanes = i64_min(VL, n - i);                                                   \
        const vf v = v_load_lanes(a + i, lanes, 1), w = b ? v_load_lanes(b + i, lanes, 1) : v;  \
        (void)w;                                                                                \
        v_store_lanes(y + i, FORMULA, lanes);                                                   \
    } return; }

#define EACH_SINE(VECTOR, FUNCTION)                                                             \
    { for (i64 i = 0; i < n; i += VL) {                                                         \
        const i64 lanes = i64_min(VL, n - i);                                                   \
        const vf v = v_load_lanes(a + i, lanes, 1);                                             \
        if (v_any(beyond_sines(v))) for (i64 j = i; j < i + lanes; j++) y[j] = FUNCTION(a[j]);  \
        else v_store_lanes(y + i, VECTOR(v), lanes);                                            \
    } return; }

/* y, a, b, c (n,): what there are of them. `alike`: all entries of b are the same. y may be one of the others. */
static void map_formula(const struct operator_call *o, i64 n, const float *a, const float *b, const float *c, int alike, float *y) {
    const float p = (float)o->p[0], q = (float)o->p[1];
    switch (o->kind) {
    case OPERATOR_copy: EACH(a[i])
    case OPERATOR_add: EACH(a[i] + b[i])
    case OPERATOR_sub: EACH(a[i] - b[i])
    case OPERATOR_mul: EACH(a[i] * b[i])
    case OPERATOR_div: EACH(a[i] / b[i])
    case OPERATOR_pow:
        if (alike && *b == 2.0f) EACH(a[i] * a[i])
        if (alike && *b == 1.0f) EACH(a[i])
        EACH(powf(a[i], b[i]))
    case OPERATOR_neg: EACH(-a[i])
    case OPERATOR_abs: EACH(fabsf(a[i]))
    case OPERATOR_exp: EACH_VECTOR(v_exp(v))
    case OPERATOR_log: EACH_VECTOR(log_any(v))
    case OPERATOR_sqrt: EACH(sqrtf(a[i]))
    case OPERATOR_clamp:
        for (i64 i = 0; i < n; i++) {
            const float least = a[i] < p ? p : a[i];
            y[i] = least > q ? q : least;
        }
        return;
    case OPERATOR_sin: EACH_SINE(v_sin, sinf)
    case OPERATOR_cos: EACH_SINE(v_cos, cosf)
    case OPERATOR_tan: EACH_SINE(v_tan, tanf)
    case OPERATOR_asin: EACH(asinf(a[i]))
    case OPERATOR_acos: EACH(acosf(a[i]))
    case OPERATOR_atan: EACH_VECTOR(v_atan(v))
    case OPERATOR_sinh: EACH(sinhf(a[i]))
    case OPERATOR_cosh: EACH(coshf(a[i]))
    case OPERATOR_asinh: EACH(asinhf(a[i]))
    case OPERATOR_acosh: EACH(acoshf(a[i]))
    case OPERATOR_atanh: EACH(atanhf(a[i]))
    case OPERATOR_expm1: EACH_VECTOR(v_expm1_any(v))
    case OPERATOR_log1p: EACH_VECTOR(log1p_any(v))
    case OPERATOR_exp2: EACH_VECTOR(v_exp2(v))
    case OPERATOR_log2: EACH(log2f(a[i]))
    case OPERATOR_log10: EACH(log10f(a[i]))
    case OPERATOR_erf: EACH_VECTOR(v_erf(v))
    case OPERATOR_sign: EACH((float)((a[i] > 0) - (a[i] < 0)))
    case OPERATOR_floor: EACH(floorf(a[i]))
    case OPERATOR_ceil: EACH(ceilf(a[i]))
    case OPERATOR_round: EACH(rintf(a[i]))                                           /* halves to the even number */
    case OPERATOR_trunc: EACH(truncf(a[i]))
    case OPERATOR_atan2: EACH(atan2f(a[i], b[i]))
    case OPERATOR_fmod: EACH(fmodf(a[i], b[i]))                                      /* the sign of a */
    case OPERATOR_remainder: EACH(map_remainder(a[i], b[i]))                         /* the sign of b */
    case OPERATOR_minimum: EACH(a[i] <= b[i] || a[i] != a[i] ? a[i] : b[i])          /* NaN stays */
    case OPERATOR_maximum: EACH(a[i] >= b[i] || a[i] != a[i] ? a[i] : b[i])
    case OPERATOR_where: EACH(a[i] != 0 ? b[i] : c[i])
    case OPERATOR_equal: EACH(a[i] == b[i])
    case OPERATOR_not_equal: EACH(a[i] != b[i])
    case OPERATOR_less: EACH(a[i] < b[i])
    case OPERATOR_less_equal: EACH(a[i] <= b[i])
    case OPERATOR_greater: EACH(a[i] > b[i])
    case OPERATOR_greater_equal: EACH(a[i] >= b[i])
    /* gradients: a is the output's */
    case OPERATOR_div_backward_b: EACH(-(a[i] / c[i]) * b[i] / c[i])                 /* of b / c by c */
    case OPERATOR_pow_backward_a:                                                     /* of b ** c by b; 0 at c = 0 */
        if (alike && *c == 2.0f) EACH(a[i] * (2 * b[i]))
        EACH(c[i] == 0 ? a[i] * 0 : a[i] * (c[i] * powf(b[i], c[i] - 1)))
    case OPERATOR_pow_backward_b: EACH(a[i] * b[i] * logf(c[i] == 0 ? 1 : c[i]))     /* of b = c ** exponent */
    case OPERATOR_abs_backward: EACH(a[i] * (b[i] > 0 ? 1 : b[i] < 0 ? -1 : b[i] == 0 ? 0 : b[i]))
    case OPERATOR_sqrt_backward: EACH(a[i] / (2 * b[i]))
    case OPERATOR_deviation_backward: EACH(b[i] != 0 ? a[i] / (2 * b[i]) : 0)
    case OPERATOR_clamp_backward: EACH(b[i] < p || b[i] > q ? 0 : a[i])
    case OPERATOR_share: EACH(b[i] > c[i] ? 0 : b[i] == c[i] ? a[i] / 2 : a[i])      /* of minimum by b, of maximum by c */
    case OPERATOR_normalize: EACH((a[i] / p - b[i]) / c[i])
    case OPERATOR_follow: EACH(a[i] * (1 - c[i]) + c[i] * (b[i] * p))                /* running, batch's, momentum */
    case OPERATOR_bce: EACH_VECTOR(bce_loss(v, w))
    case OPERATOR_bce_backward: EACH((b[i] - c[i]) / fmaxf((1 - b[i]) * b[i], 1e-12f) * (a[i] * p))
    }
}
#undef EACH
#undef EACH_VECTOR
#undef EACH_SINE

/* ---- maps ---- */

/* A user's formula, compiled elsewhere, whose address is n[0]: so many entries of contiguous inputs to y, which may be one of them */
typedef void own_function(i64 count, void *const *inputs, void *y);

enum { MAP_GATHERED, MAP_IN_PLACE, MAP_ALIKE };

struct map {
    const struct operator_call *o;
    char *const *at;
    i64 count;
    int way[1 + MAP_INPUTS];
};

INLINE int map_way(const struct operator_call *o, const struct operand *a) {
    i64 step = sizeof(float), moves = 0;
    if (a->element != ELEMENT_FLOAT) return MAP_GATHERED;
    int in_order = 1;
    for (i64 d = o->dims; d-- > 0; step *= o->size[d]) {
        in_order &= a->stride[d] == step;
        moves |= a->stride[d];
    }
    return in_order ? MAP_IN_PLACE : moves ? MAP_GATHERED : MAP_ALIKE;
}

static void map_task(void *context, i64 index) {
    const struct map *t = context;
    const struct operator_call *o = t->o;
    float chunk[1 + MAP_INPUTS][MAP_CHUNK], *use[1 + MAP_INPUTS] = {0};
    own_function *own = o->kind == OPERATOR_own ? (own_function *)(intptr_t)o->n[0] : NULL;
    const i64 start = index * MAP_TASK, end = i64_min(start + MAP_TASK, t->count);
    for (i64 k = 1; k < o->operands; k++)
        if (t->way[k] == MAP_ALIKE) map_load(ELEMENT_FLOAT, t->at[k], 0, i64_min(MAP_CHUNK, end - start), use[k] = chunk[k]);
    for (i64 i = start; i < end; i += MAP_CHUNK) {
        const i64 n = i64_min(MAP_CHUNK, end - i);
        int placed = 1;
        for (i64 k = 0; k < o->operands; k++) {
            placed &= t->way[k] != MAP_GATHERED;
            if (t->way[k] == MAP_IN_PLACE) use[k] = (float *)t->at[k] + i;
        }
        const struct odometer at = placed ? (struct odometer){0} : odometer_at(o->dims, o->size, i);
        for (i64 k = 1; k < o->operands; k++)
            if (t->way[k] == MAP_GATHERED) map_move(0, &o->operand[k], t->at[k], at, n, use[k] = chunk[k]);
        float *y = t->way[0] == MAP_IN_PLACE ? use[0] : chunk[0];
        const int alike = (o->kind == OPERATOR_pow ? t->way[2] : t->way[3]) == MAP_ALIKE;
        if (own) own(n, (void *const *)use + 1, y);
        else map_formula(o, n, use[1], use[2], use[3], alike, y);
        if (y == chunk[0]) map_move(1, &o->operand[0], t->at[0], at, n, y);
    }
}

/* Task: a part of a user's formula of contiguous arrays, all of one type, float or double */
static void own_task(void *context, i64 index) {
    const struct map *t = context;
    const struct operator_call *o = t->o;
    const i64 start = index * MAP_TASK, width = o->operand[0].element == ELEMENT_DOUBLE ? sizeof(double) : sizeof(float);
    void *use[1 + MAP_INPUTS];
    for (i64 k = 0; k < o->operands; k++) use[k] = t->at[k] + start * width;
    ((own_function *)(intptr_t)o->n[0])(i64_min(MAP_TASK, t->count - start), use + 1, use[0]);
}

/* n floats, `from` and `to` bytes apart */
INLINE void copy_run(i64 n, const char *x, i64 from, char *y, i64 to) {
    const i64 one = sizeof(float);
    if (from == one && to == one && n >= VL && n < 8 * VL) {        /* sooner than a call; the last vector may overlap the one before */
        for (i64 i = 0; i + VL < n; i += VL) v_store((float *)y + i, v_load((const float *)x + i));
        v_store((float *)y + n - VL, v_load((const float *)x + n - VL));
    } else if (from == one && to == one) memcpy(y, x, (size_t)(n * one));
    else if (from == 0 && to == one) for (i64 i = 0; i < n; i++) ((float *)y)[i] = *(const float *)x;
    else for (i64 i = 0; i < n; i++) *(float *)(y + i * to) = *(const float *)(x + i * from);
}

/* Task: a part of a copy of floats, which needs no chunk: rows go from where they lie to where they are wanted. */
static void map_copy_task(void *context, i64 index) {
    const struct map *t = context;
    const struct operator_call *o = t->o;
    const struct operand *to = &o->operand[0], *from = &o->operand[1];
    const i64 last = o->dims - 1, end = i64_min((index + 1) * MAP_TASK, t->count);
    struct odometer place = odometer_at(o->dims, o->size, index * MAP_TASK);
    for (i64 i = index * MAP_TASK, n; i < end; i += n) {
        char *y = t->at[0] + odometer_offset(&place, to->stride);
        const char *x = t->at[1] + odometer_offset(&place, from->stride);
        const i64 row = o->size[last];
        i64 rows = 1;                       /* whole ones, of the dimension before */
        n = i64_min(end - i, row - place.index[last]);
        if (n == row && last > 0) rows = i64_min((end - i) / row, o->size[last - 1] - place.index[last - 1]);
        for (i64 r = 0; r < rows; r++)
            copy_run(n, x + (last ? r * from->stride[last - 1] : 0), from->stride[last], y + (last ? r * to->stride[last - 1] : 0), to->stride[last]);
        if (rows > 1) place.index[last - 1] += rows - 1;
        odometer_advance(&place, n);
        n *= rows;
    }
}

static void operator_map(const struct operator_call *o, char *const *at) {
    struct map t = {.o = o, .at = at, .count = 1};
    const int copies = o->kind == OPERATOR_copy && o->operand[0].element == ELEMENT_FLOAT && o->operand[1].element == ELEMENT_FLOAT;
    for (i64 d = 0; d < o->dims; d++) t.count *= o->size[d];
    for (i64 k = 0; k < o->operands; k++) t.way[k] = map_way(o, &o->operand[k]);
    if (t.way[0] == MAP_ALIKE) t.way[0] = MAP_GATHERED;
    if (o->kind == OPERATOR_own) {
        int straight = 1;
        for (i64 k = 0; k < o->operands; k++) straight &= t.way[k] == MAP_IN_PLACE || o->operand[k].element == ELEMENT_DOUBLE;
        fastnn_parallel(ceil_div(t.count, MAP_TASK), 40.0 * (double)t.count, straight ? own_task : map_task, &t);
        return;
    }
    fastnn_parallel(ceil_div(t.count, MAP_TASK), (double)t.count * (4.0 * (double)o->operands + 4.0), copies ? map_copy_task : map_task, &t);
}

/* ---- sums ---- */

enum { SUM_COLUMNS = 4, SUM_BESIDE = 4, SUM_BLOCK = 1 << 15, SUM_BLOCKS = 64 };

struct operator_sum {
    const struct operator_call *o;
    const char *x;
    float *y;                           /* (blocks, outputs) */
    i64 outputs, step;                  /* outputs, and how many of them a task makes */
    i64 blocks, rows;                   /* parts of the first summed dimension, and how many of its indices each has */
    int columns;                        /* lanes run along the last kept dimension */
    int straight;                       /* the terms of each output lie side by side */
};

/* The part of the sums [first, first + lanes * ..) that block b makes, for one or several vectors of outputs that lie side by side */
static void sum_columns(const struct operator_sum *t, i64 b, i64 output, i64 lanes) {
    const struct operator_call *o = t->o;
    const int64_t *stride = o->operand[1].stride, *size = o->size + o->kept, *step = stride + o->kept;
    const struct odometer kept = odometer_at(o->kept, o->size, output);
    const char *x = t->x + odometer_offset(&kept, stride);
    const i64 inner = o->dims - o->kept - 1, from = b * t->rows, until = i64_min(from + t->rows, size[0]);
    i64 rows = until - from, k = 0;
    for (i64 d = 1; d < inner; d++) rows *= size[d];
    struct folded sum[SUM_COLUMNS] = {};
    if (!inner && lanes == SUM_COLUMNS * VL) {
        for (i64 i = from; i < until;) {            /* up to the end of a run */
            const i64 end = i64_min(until, i + SUM_RUN);
            const int joins = end - i == SUM_RUN;
            for (; i < end; i++)
                UNROLL for (int j = 0; j < SUM_COLUMNS; j++) sum[j].part += v_load((const float *)(x + i * step[0]) + j * VL);
            if (joins) UNROLL for (int j = 0; j < SUM_COLUMNS; j++) v_join(&sum[j].total, sum[j].part), sum[j].part = (vf){0};
        }
        UNROLL for (int j = 0; j < SUM_COLUMNS; j++) v_store(t->y + b * t->outputs + output + j * VL, folded_sum(sum[j]));
        return;
    }
    struct odometer at = odometer_at(inner, size, 0);
    if (inner) at.index[0] = from;
    for (i64 r = 0; r < (inner ? rows : 1); r++) {
        const char *p = x + odometer_offset(&at, step);
        const i64 last = inner ? size[inner] : until;
        for (i64 i = inner ? 0 : from; i < last; i++, k++)
            for (i64 j = 0; j * VL < lanes; j++)
                fold(&sum[j], v_load_lanes((const float *)(p + i * step[inner]) + j * VL, i64_min(VL, lanes - j * VL), 0), k);
        if (inner) odometer_advance(&at, 1);
    }
    for (i64 j = 0; j * VL < lanes; j++)
        v_store_lanes(t->y + b * t->outputs + output + j * VL, folded_sum(sum[j]), i64_min(VL, lanes - j * VL));
}

/* Whole runs of SUM_RUN vectors from p on, to be joined in order: several side by side, whose additions do not wait for one another.
 * Returns how many vectors they are. */
INLINE i64 sum_runs(const float *p, i64 vectors, struct v_joined *total) {
    i64 done = 0;
    for (; done + SUM_BESIDE * SUM_RUN <= vectors; done += SUM_BESIDE * SUM_RUN) {
        vf part[SUM_BESIDE] = {};
        for (i64 i = 0; i < SUM_RUN; i++)
            UNROLL for (int j = 0; j < SUM_BESIDE; j++) part[j] += v_load(p + (done + j * SUM_RUN + i) * VL);
        UNROLL for (int j = 0; j < SUM_BESIDE; j++) v_join(total, part[j]);
    }
    return done;
}

/* The same as sum_row, bit for bit, of one row of neighbouring floats for each of `rows` outputs, 1 or SUM_BESIDE, side by side */
INLINE void sum_straight(const struct operator_sum *t, i64 b, i64 output, const int rows) {
    const struct operator_call *o = t->o;
    const i64 from = b * t->rows, size = i64_min(t->rows, o->size[o->kept] - from), whole = size / VL;
    const float *p[SUM_BESIDE];
    struct folded sum[SUM_BESIDE] = {};
    for (int j = 0; j < rows; j++) {
        i64 offset = (output + j) * o->operand[1].stride[0];
        if (o->kept > 1) {              /* dividing takes as long as a short row */
            const struct odometer kept = odometer_at(o->kept, o->size, output + j);
            offset = odometer_offset(&kept, o->operand[1].stride);
        }
        p[j] = (const float *)(t->x + offset) + from;
    }
    i64 k = rows == 1 ? sum_runs(p[0], whole, &sum[0].total) : 0;
    while (k < whole) {                 /* up to the end of a run */
        for (const i64 end = i64_min(whole, k + SUM_RUN); k < end; k++)
            UNROLL for (int j = 0; j < rows; j++) sum[j].part += v_load(p[j] + k * VL);
        if (k % SUM_RUN == 0) for (int j = 0; j < rows; j++) v_join(&sum[j].total, sum[j].part), sum[j].part = (vf){0};
    }
    for (int j = 0; j < rows; j++) {
        if (size > whole * VL) fold(&sum[j], v_load_partial(p[j] + whole * VL, size - whole * VL, 0), whole);
        t->y[b * t->outputs + output + j] = v_sum(folded_sum(sum[j]));
    }
}

/* The same of one output, lanes along the last summed dimension */
static void sum_row(const struct operator_sum *t, i64 b, i64 output) {
    const struct operator_call *o = t->o;
    const struct operand *a = &o->operand[1];
    const int64_t *size = o->size + o->kept, *step = a->stride + o->kept;
    const struct odometer kept = odometer_at(o->kept, o->size, output);
    const char *x = t->x + odometer_offset(&kept, a->stride);
    const i64 inner = o->dims - o->kept - 1, from = b * t->rows, until = i64_min(from + t->rows, size[0]);
    i64 rows = until - from, k = 0;
    for (i64 d = 1; d < inner; d++) rows *= size[d];
    struct folded sum = {};
    struct odometer at = odometer_at(inner, size, 0);
    if (inner) at.index[0] = from;
    for (i64 r = 0; r < (inner ? rows : 1); r++) {
        const char *p = x + odometer_offset(&at, step);
        const i64 last = inner ? size[inner] : until;
        for (i64 i = inner ? 0 : from; i < last; i += VL, k++) {
            const i64 lanes = i64_min(VL, last - i);
            const char *here = p + i * step[inner];
            float part[VL] = {0};
            if (step[inner] == sizeof(float) && a->element == ELEMENT_FLOAT) fold(&sum, v_load_lanes((const float *)here, lanes, 0), k);
            else map_load(a->element, here, step[inner], lanes, part), fold(&sum, v_load(part), k);
        }
        if (inner) odometer_advance(&at, 1);
    }
    t->y[b * t->outputs + output] = v_sum(folded_sum(sum));
}

/* Task: `step` outputs of one block. */
static void sum_task(void *context, i64 index) {
    const struct operator_sum *t = context;
    const i64 tiles = ceil_div(t->outputs, t->step), b = index / tiles, first = index % tiles * t->step;
    const i64 end = i64_min(first + t->step, t->outputs), row = t->columns ? t->o->size[t->o->kept - 1] : 1;
    i64 i = first;
    for (; t->straight && i + SUM_BESIDE <= end; i += SUM_BESIDE) sum_straight(t, b, i, SUM_BESIDE);
    for (; t->straight && i < end; i++) sum_straight(t, b, i, 1);
    for (i64 lanes; i < end; i += lanes) {
        lanes = t->columns ? i64_min(i64_min(SUM_COLUMNS * VL, end - i), row - i % row) : 1;
        if (t->columns) sum_columns(t, b, i, lanes);
        else sum_row(t, b, i);
    }
}

/* Large sums of few outputs are cut into blocks, by their shape alone, whose sums are joined in order. */
static int operator_sum(const struct operator_call *o, char *const *at) {
    struct operator_sum t = {.o = o, .x = at[1], .y = (float *)at[0], .outputs = 1};
    const struct operand *a = &o->operand[1];
    const i64 last = o->dims - 1;
    double terms = 1;
    for (i64 d = 0; d < o->kept; d++) t.outputs *= o->size[d];
    for (i64 d = o->kept; d < o->dims; d++) terms *= (double)o->size[d];
    t.columns = o->kept > 0 && a->element == ELEMENT_FLOAT && a->stride[o->kept - 1] == sizeof(float) && a->stride[last] != sizeof(float);
    t.straight = o->dims == o->kept + 1 && a->element == ELEMENT_FLOAT && a->stride[last] == sizeof(float);
    const double all = terms * (double)t.outputs;
    const i64 most = t.outputs < 16 * VL ? (i64)(all / SUM_BLOCK) : 1, first = o->size[o->kept];
    t.rows = ceil_div(first, i64_max(1, i64_min(i64_min(most, SUM_BLOCKS), first)));
    t.blocks = ceil_div(first, t.rows);
    t.step = t.columns ? SUM_COLUMNS * VL : i64_max(1, (i64)(MAP_TASK / terms));
    if (t.blocks > 1 && !(t.y = fastnn_scratch(SCRATCH_PARTIAL, (size_t)(t.blocks * t.outputs) * sizeof(float)))) return PROGRAM_NO_MEMORY;
    fastnn_parallel(t.blocks * ceil_div(t.outputs, t.step), 6 * all, sum_task, &t);
    for (i64 i = 0; i < t.outputs && t.blocks > 1; i += VL) {
        const i64 lanes = i64_min(VL, t.outputs - i);
        struct v_joined total = {};
        for (i64 b = 0; b < t.blocks; b++) v_join(&total, v_load_lanes(t.y + b * t.outputs + i, lanes, 0));
        v_store_lanes((float *)at[0] + i, v_joined_sum(total), lanes);
    }
    return PROGRAM_DONE;
}

#endif
