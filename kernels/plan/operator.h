/* An operator as a stage of a plan: a kernel of ops/, or a formula of operator_map.h, with fixed arrays.
 *
 * What is around the kernel costs some 20 ns: operands' addresses and one switch.
 */
#ifndef FASTNN_OPERATOR_H
#define FASTNN_OPERATOR_H

#include "base/random.h"
#include "ops/conv2d.h"
#include "ops/elementwise.h"
#include "ops/gemm.h"
#include "ops/group_norm.h"
#include "ops/loss.h"
#include "ops/norm_apply.h"
#include "ops/pool2d_average.h"
#include "ops/recurrent.h"
#include "ops/softmax.h"
#include "plan/operator_map.h"

enum { MATMUL_MANY = 8 };            /* so many products are shared out whole */

/* ---- operators that eager code does in NumPy ---- */

/* x (outer, size, inner) -> y, index (outer, inner): the largest of each column, or the smallest; of equal ones the first, NaN wins */
struct extremum { i64 size, inner, tiles, units, step; int smallest; const float *x; float *y; int64_t *index; };

/* The best of `size` vectors, lane by lane, and which it is: NaN wins, of equal ones the first */
INLINE vf lanes_extremum(const float *p, i64 size, i64 stride, i64 lanes, const int smallest, vi *where) {
    vf best = v_load_lanes(p, lanes, 0);
    *where = (vi){0};
    for (i64 k = 1; k < size; k++) {
        const vf v = v_load_lanes(p + k * stride, lanes, 0);
        const vi wins = ((smallest ? v < best : v > best) | (v != v)) & (best == best);
        best = v_select(wins, v, best);
        *where = (wins & v_set1_int((int32_t)k)) | (~wins & *where);
    }
    return best;
}

/* The same of `size` floats, at least VL: its last vector may have some of the one before again. */
INLINE float row_extremum(const float *p, i64 size, const int smallest, i64 *where) {
    vi vector, again;
    const vf whole = lanes_extremum(p, size / VL, VL, VL, smallest, &vector), rest = lanes_extremum(p + size - VL, 1, 0, VL, smallest, &again);
    float best = whole[0];
    *where = vector[0] * VL;
    for (i64 j = 1; j < 2 * VL; j++) {
        const float v = j < VL ? whole[j] : rest[j - VL];
        const i64 at = j < VL ? (i64)vector[j] * VL + j : size - VL + j - VL;
        const int wins = (smallest ? v < best : v > best) || (v != v && best == best), ties = v == best || (v != v && best != best);
        if (wins || (ties && at < *where)) best = v, *where = at;
    }
    return best;
}

INLINE void extremum_units(const struct extremum *t, i64 from, i64 until, const int smallest) {
    for (i64 u = from; u < until; u++) {
        const i64 tile = u % t->tiles * VL, lanes = i64_min(VL, t->inner - tile), to = u / t->tiles * t->inner + tile;
        const float *p = t->x + u / t->tiles * t->size * t->inner + tile;
        vi where = {0};
        vf best;
        i64 at = 0;
        if (t->inner > 1 || t->size < VL) best = lanes_extremum(p, t->size, t->inner, lanes, smallest, &where), at = where[0];
        else best = v_set1(row_extremum(p, t->size, smallest, &at));
        if (t->y) v_store_lanes(t->y + to, best, lanes);
        if (t->index) for (i64 j = 0; j < lanes; j++) t->index[to + j] = t->inner > 1 ? where[j] : at;
    }
}

static void extremum_task(void *context, i64 index) {
    const struct extremum *t = context;
    const i64 from = index * t->step, until = i64_min(from + t->step, t->units);
    if (t->smallest) extremum_units(t, from, until, 1);
    else extremum_units(t, from, until, 0);
}

static void operator_extremum(const int64_t *n, int smallest, const float *x, float *y, int64_t *index) {
    struct extremum t = {.size = n[1], .inner = n[2], .tiles = ceil_div(n[2], VL), .smallest = smallest, .x = x, .y = y, .index = index};
    t.units = n[0] * t.tiles;
    t.step = i64_max(1, MAP_TASK / (t.size * i64_min(VL, t.inner)));
    fastnn_parallel(ceil_div(t.units, t.step), 4.0 * (double)(n[0] * n[1] * n[2]), extremum_task, &t);
}

/* grad_x (outer, size, inner): grad (outer, inner) at index, else zero */
static void operator_extremum_backward(const int64_t *n, const float *grad, const int64_t *index, float *grad_x) {
    memset(grad_x, 0, (size_t)(n[0] * n[1] * n[2]) * sizeof(float));
    for (i64 i = 0; i < n[0] * n[2]; i++) grad_x[i / n[2] * n[1] * n[2] + index[i] * n[2] + i % n[2]] = grad[i];
}

/* x (outer, size, inner) -> y: sums of each column up to each entry; from behind if `reversed` */
static void operator_cumsum(const int64_t *n, int reversed, const float *x, float *y) {
    enum { TOGETHER = 4 };              /* columns, whose additions do not wait for one another */
    const i64 size = n[1], inner = n[2], step = reversed ? -inner : inner, columns = n[0] * inner;
    for (i64 i = 0; i < columns; i += TOGETHER) {
        double sum[TOGETHER] = {0};
        i64 at[TOGETHER];
        const i64 some = i64_min(TOGETHER, columns - i);
        for (i64 j = 0; j < some; j++) at[j] = (i + j) / inner * size * inner + (i + j) % inner + (reversed ? (size - 1) * inner : 0);
        if (some == TOGETHER) for (i64 k = 0; k < size; k++) UNROLL for (int j = 0; j < TOGETHER; j++) {
            y[at[j] + k * step] = (float)(sum[j] += x[at[j] + k * step]);
        }
        else for (i64 j = 0; j < some; j++) for (i64 k = 0; k < size; k++) y[at[j] + k * step] = (float)(sum[j] += x[at[j] + k * step]);
    }
}

/* x (outer, size, inner) -> y (outer, inner): products */
static void operator_prod(const int64_t *n, const float *x, float *y) {
    const i64 size = n[1], inner = n[2];
    for (i64 o = 0; o < n[0]; o++, x += size * inner, y += inner) {
        vf part[4];
        UNROLL for (int j = 0; j < 4; j++) part[j] = v_set1(1.0f);
        i64 k = 0;
        for (i64 i = 0; i < inner; i++) y[i] = 1;
        for (; inner == 1 && k + 4 * VL <= size; k += 4 * VL) UNROLL for (int j = 0; j < 4; j++) part[j] *= v_load(x + k + j * VL);
        part[0] = (part[0] * part[1]) * (part[2] * part[3]);
        for (int j = 0; inner == 1 && j < VL; j++) *y *= part[0][j];
        for (; k < size; k++) for (i64 i = 0; i < inner; i++) y[i] *= x[k * inner + i];
    }
}

enum { PROD_COLUMNS = 4 };             /* whose products do not wait for one another */

/* Gradient of some columns where y does not tell it: the entries before times those behind, in double precision. `products`
 * (size, PROD_COLUMNS) is for those before. */
static void prod_backward_columns(const int64_t *n, i64 some, const i64 *column, const float *grad, const float *x, float *grad_x, double *products) {
    const i64 size = n[1], inner = n[2];
    double before[PROD_COLUMNS], behind[PROD_COLUMNS];
    i64 at[PROD_COLUMNS];
    for (int j = 0; j < PROD_COLUMNS; j++) {
        const i64 c = column[i64_min(j, some - 1)];
        at[j] = c / inner * size * inner + c % inner;
        before[j] = grad[c], behind[j] = 1;
    }
    for (i64 k = 0; k < size; k++) UNROLL for (int j = 0; j < PROD_COLUMNS; j++) {
        products[k * PROD_COLUMNS + j] = before[j];
        before[j] *= x[at[j] + k * inner];
    }
    for (i64 k = size; k-- > 0;) UNROLL for (int j = 0; j < PROD_COLUMNS; j++) {
        const i64 i = at[j] + k * inner;
        grad_x[i] = (float)(products[k * PROD_COLUMNS + j] * behind[j]);
        behind[j] *= x[i];
    }
}

/* grad, y (outer, inner), x -> grad_x (outer, size, inner): grad times the product of the other entries, y / x where y tells it */
static int operator_prod_backward(const int64_t *n, const float *grad, const float *x, const float *y, float *grad_x) {
    const i64 size = n[1], inner = n[2];
    double *products = NULL;
    i64 column[PROD_COLUMNS], some = 0;
    for (i64 o = 0; o < n[0]; o++) {
        const float *g = grad + o * inner, *of = y + o * inner, *from = x + o * size * inner;
        float *to = grad_x + o * size * inner;
        int plain = 1;
        for (i64 i = 0; i < inner; i++) plain &= fabsf(of[i]) >= 0x1p-126f && fabsf(of[i]) <= 0x1.fffffep127f;
        if (plain && inner == 1) for (i64 k = 0; k < size; k++) to[k] = *g * (*of / from[k]);
        else if (plain) for (i64 k = 0; k < size; k++) for (i64 i = 0; i < inner; i++) to[k * inner + i] = g[i] * (of[i] / from[k * inner + i]);
        for (i64 i = 0; i < inner && !plain; i++) {
            column[some++] = o * inner + i;
            if (!products && !(products = fastnn_scratch(SCRATCH_PARTIAL, (size_t)(PROD_COLUMNS * size) * sizeof *products))) return PROGRAM_NO_MEMORY;
            if (some < PROD_COLUMNS) continue;
            prod_backward_columns(n, some, column, grad, x, grad_x, products);
            some = 0;
        }
    }
    if (some) prod_backward_columns(n, some, column, grad, x, grad_x, products);
    return PROGRAM_DONE;
}

/* ---- the first in order ---- */

enum { TOPK_MOST = 64 };

/* Integers in the order of floats, NaN the largest, 0 and -0 the same; turned round for the smallest */
INLINE vi order_of(vf x, vi turned) {
    const vi bits = (vi)(x + (vf){0}), key = bits ^ ((bits >> 31) & 0x7fffffff);
    const vi number = x == x;
    return ((number & key) | (~number & 0x7fffffff)) ^ turned;
}

struct topk { i64 rows, size, count, step; vi turned; const float *x; int64_t *places; };

/* The best so far stand in order; only what beats the last of them is put among them. About n / VL compares, and k log(n / k) insertions
 * for entries in any order. */
static void topk_task(void *context, i64 index) {
    const struct topk *t = context;
    for (i64 row = index * t->step, end = i64_min(row + t->step, t->rows); row < end; row++) {
        const float *x = t->x + row * t->size;
        int64_t *places = t->places + row * t->count;
        int32_t best[TOPK_MOST + 1];
        i64 have = 0;
        for (i64 i = 0; i < t->size; i += VL) {
            const i64 lanes = i64_min(VL, t->size - i);
            const vi keys = order_of(v_load_lanes(x + i, lanes, 0), t->turned);
            if (have == t->count && !v_any(keys > v_set1_int(best[have - 1]))) continue;
            for (i64 j = 0; j < lanes; j++) {
                if (have == t->count && keys[j] <= best[have - 1]) continue;
                i64 at = have < t->count ? have++ : have - 1;
                for (; at > 0 && best[at - 1] < keys[j]; at--) best[at] = best[at - 1], places[at] = places[at - 1];
                best[at] = keys[j], places[at] = i + j;
            }
        }
    }
}

/* x (rows, size) -> places (rows, count) of the largest entries, or the smallest, in order, of equal ones the first first; count from 1 to
 * TOPK_MOST, no more than size */
static void operator_topk(i64 rows, i64 size, i64 count, int smallest, const float *x, int64_t *places) {
    struct topk t = {rows, size, count, i64_max(1, MAP_TASK / size), v_set1_int(smallest ? -1 : 0), x, places};
    fastnn_parallel(ceil_div(rows, t.step), 8.0 * (double)(rows * size), topk_task, &t);
}

/* Entries by one or two arrays of places, all arrays of one shape with any strides; n: how many places there are of each kind (0: no
 * second array), by how many bytes each moves, and what a negative one is increased by: as many, or 0, where it is refused.
 *
 *   pick     y[i] = x[i; places[i]]        y, x, places       x float
 *   spread   y[i; places[i]] += x[i]       y, x, places       y double where places that come often would lose digits
 *   put      y[i; places[i]] = x[i]        y, x, places       of several the last one stays
 *
 * One out of range is refused. */
INLINE int places_of(const int kind, const int arrays, const struct operator_call *o, char *const *at) {
    const i64 last = o->dims - 1, row = o->size[last], to = o->operand[0].stride[last], from = o->operand[1].stride[last];
    const i64 step[2] = {o->operand[2].stride[last], arrays == 2 ? o->operand[3].stride[last] : 0};
    const int fixed = step[0] == 0 && step[1] == 0, single = o->operand[0].element == ELEMENT_FLOAT;     /* fixed: rows move as they are */
    struct odometer place = odometer_at(o->dims, o->size, 0);
    i64 count = 1;
    for (i64 d = 0; d < o->dims; d++) count *= o->size[d];
    for (i64 i = 0; i < count; i += row) {
        char *y = at[0] + odometer_offset(&place, o->operand[0].stride);
        const char *x = at[1] + odometer_offset(&place, o->operand[1].stride), *index[2] = {0};
        for (int k = 0; k < arrays; k++) index[k] = at[2 + k] + odometer_offset(&place, o->operand[2 + k].stride);
        for (i64 j = 0, n; j < row; j += n, y += n * to, x += n * from) {
            i64 moved = 0;
            n = fixed ? row : 1;
            for (int k = 0; k < arrays; k++) {
                i64 found = *(const int64_t *)(index[k] + j * step[k]);
                found += found < 0 ? o->n[4 + k] : 0;
                if (found < 0 || found >= o->n[k]) return PROGRAM_REFUSED;
                moved += found * o->n[2 + k];
            }
            if (kind == OPERATOR_pick && n > 1) copy_run(n, x + moved, from, y, to);
            else if (kind == OPERATOR_put && n > 1) copy_run(n, x, from, y + moved, to);
            else for (i64 l = 0; l < n; l++) {
                if (kind == OPERATOR_pick) *(float *)(y + l * to) = *(const float *)(x + moved + l * from);
                else if (kind == OPERATOR_put) *(float *)(y + moved + l * to) = *(const float *)(x + l * from);
                else if (single) *(float *)(y + moved + l * to) += *(const float *)(x + l * from);
                else *(double *)(y + moved + l * to) += *(const float *)(x + l * from);
            }
        }
        odometer_advance(&place, row);
    }
    return PROGRAM_DONE;
}

static int operator_places(const struct operator_call *o, char *const *at) {
    const int two = o->n[1] != 0;
    if (o->kind == OPERATOR_pick) return two ? places_of(OPERATOR_pick, 2, o, at) : places_of(OPERATOR_pick, 1, o, at);
    if (o->kind == OPERATOR_put) return two ? places_of(OPERATOR_put, 2, o, at) : places_of(OPERATOR_put, 1, o, at);
    return two ? places_of(OPERATOR_spread, 2, o, at) : places_of(OPERATOR_spread, 1, o, at);
}

/* Each row by places of its own, as gather along the last dimension has them; n: rows, size, count, and whether x is one number.
 *
 *   pick_rows     y (rows, count)   y[r, j] = x[r, places[r, j]]
 *   spread_rows   y (rows, size)    y[r, places[r, j]] += x[r, j], from zeros, in double precision in the first-level cache; size up
 *                                   to SPREAD_SIZE
 *
 * Floor: memory, 12 bytes a place, and for spread_rows 4 an entry of y. One out of range is refused. */
enum { SPREAD_SIZE = 2048 };
struct row_places { i64 rows, size, count, step; int one, refused; const float *x; const int64_t *places; float *y; };

static void pick_rows_task(void *context, i64 index) {
    struct row_places *t = context;
    int outside = 0;
    for (i64 r = index * t->step, end = i64_min(r + t->step, t->rows); r < end; r++) {
        const float *x = t->x + r * t->size;
        for (i64 j = r * t->count; j < (r + 1) * t->count; j++) {
            const int out = (uint64_t)t->places[j] >= (uint64_t)t->size;
            outside |= out;
            t->y[j] = x[out ? 0 : t->places[j]];
        }
    }
    if (outside) __atomic_store_n(&t->refused, 1, __ATOMIC_RELAXED);
}

static void spread_rows_task(void *context, i64 index) {
    struct row_places *t = context;
    double sums[SPREAD_SIZE];
    int outside = 0;
    for (i64 r = index * t->step, end = i64_min(r + t->step, t->rows); r < end; r++) {
        memset(sums, 0, (size_t)t->size * sizeof *sums);
        for (i64 j = r * t->count; j < (r + 1) * t->count; j++) {
            const int out = (uint64_t)t->places[j] >= (uint64_t)t->size;
            outside |= out;
            sums[out ? 0 : t->places[j]] += t->x[t->one ? 0 : j];
        }
        for (i64 i = 0; i < t->size; i++) t->y[r * t->size + i] = (float)sums[i];
    }
    if (outside) __atomic_store_n(&t->refused, 1, __ATOMIC_RELAXED);
}

static int operator_row_places(const struct operator_call *o, char *const *at) {
    const int64_t *n = o->n;
    struct row_places t = {.rows = n[0], .size = n[1], .count = n[2], .one = n[3] != 0, .x = (const float *)at[1],
                           .places = (const int64_t *)at[2], .y = (float *)at[0]};
    const int picks = o->kind == OPERATOR_pick_rows;
    if (t.size < 1 || (!picks && t.size > SPREAD_SIZE)) return PROGRAM_REFUSED;
    t.step = i64_max(1, MAP_TASK / (t.size + t.count));
    fastnn_parallel(ceil_div(t.rows, t.step), 4.0 * (double)(t.rows * (t.size + 3 * t.count)), picks ? pick_rows_task : spread_rows_task, &t);
    return t.refused ? PROGRAM_REFUSED : PROGRAM_DONE;
}

/* y (.., M, N) = a (.., M, K) @ b (.., K, N), the sizes before M and N being size[0 .. dims-1]; n: M, N, K and the strides in floats of
 * a and b within a matrix */
struct operator_products { const struct operator_call *o; char *const *at; int failed; };

/* Task: the product of one pair of matrices */
static void operator_matmul_task(void *context, i64 i) {
    struct operator_products *t = context;
    const struct operator_call *o = t->o;
    const int64_t *n = o->n;
    const struct odometer place = odometer_at(o->dims, o->size, i);
    const float *a = (const float *)(t->at[1] + odometer_offset(&place, o->operand[1].stride));
    const float *b = (const float *)(t->at[2] + odometer_offset(&place, o->operand[2].stride));
    if (sgemm(n[0], n[1], n[2], a, n[3], n[4], b, n[5], n[6], (const float *)t->at[3], (float *)t->at[0] + i * n[0] * n[1]))
        __atomic_store_n(&t->failed, -1, __ATOMIC_RELAXED);
}

/* Threads share the pairs, or, of a few large ones, each product. */
static int operator_matmul(const struct operator_call *o, char *const *at) {
    struct operator_products t = {o, at, 0};
    const double flops = 2.0 * (double)o->n[0] * (double)o->n[1] * (double)o->n[2];
    i64 count = 1;
    for (i64 d = 0; d < o->dims; d++) count *= o->size[d];
    if (count >= MATMUL_MANY) fastnn_parallel(count, flops * (double)count, operator_matmul_task, &t);
    else for (i64 i = 0; i < count; i++) operator_matmul_task(&t, i);
    return t.failed;
}

/* grad_table (V, D): the rows of grad (N, D) added where index says, but for one row, `left_out`. The terms of each row are found by
 * counting, so that it is written once. Floor: 4 D (N + V) bytes. */
struct take_rows { i64 D, V, step, left_out; const float *grad; const i64 *ends, *terms; float *table; };

static void take_rows_backward_task(void *context, i64 index) {
    const struct take_rows *t = context;
    for (i64 v = index * t->step, end = i64_min(v + t->step, t->V); v < end; v++) {
        const i64 from = v ? t->ends[v - 1] : 0, until = v == t->left_out ? from : t->ends[v];
        for (i64 d = 0; d < t->D; d += VL) {
            const i64 lanes = i64_min(VL, t->D - d);
            struct folded sum = {};
            for (i64 k = from; k < until; k++) fold(&sum, v_load_lanes(t->grad + t->terms[k] * t->D + d, lanes, 0), k - from);
            v_store_lanes(t->table + v * t->D + d, folded_sum(sum), lanes);
        }
    }
}

static int take_rows_backward(i64 N, i64 D, i64 V, i64 left_out, const float *grad, const int64_t *index, float *grad_table) {
    i64 *ends = fastnn_scratch(SCRATCH_PARTIAL, (size_t)(V + N) * sizeof(i64)), *terms = ends + V, before = 0;
    if (!ends) return PROGRAM_NO_MEMORY;
    memset(ends, 0, (size_t)V * sizeof(i64));
    for (i64 i = 0; i < N; i++) ends[index[i]]++;
    for (i64 v = 0; v < V; v++) {
        const i64 count = ends[v];
        ends[v] = before, before += count;
    }
    for (i64 i = 0; i < N; i++) terms[ends[index[i]]++] = i;    /* what begins becomes what ends */
    struct take_rows t = {D, V, MAP_TASK / i64_max(1, i64_min(D, MAP_TASK)), left_out, grad, ends, terms, grad_table};
    fastnn_parallel(ceil_div(V, t.step), 4.0 * (double)((N + V) * D), take_rows_backward_task, &t);
    return PROGRAM_DONE;
}

static int labels_fit(i64 N, i64 C, const int64_t *labels) {
    for (i64 i = 0; i < N; i++)
        if (labels[i] < 0 || labels[i] >= C) return 0;
    return 1;
}

/* Whether all of x are in 0 .. 1; with `or_nan` also where any is NaN, else not. */
static int all_within(i64 count, const float *x, int or_nan) {
    int outside = 0, nan = 0;
    for (i64 i = 0; i < count; i++) outside |= (x[i] < 0) | (x[i] > 1), nan |= x[i] != x[i];
    return or_nan ? nan || !outside : !nan && !outside;
}

/* ---- the stage ---- */

KERNEL int operator_stage(const void *arguments, struct program *program) {
    const struct operator_call *o = arguments;
    const int64_t *n = o->n;
    const struct conv2d_shape *conv = (const struct conv2d_shape *)n;
    const float p = (float)o->p[0];
    char *at[OPERATOR_ARRAYS] = {0};
    for (i64 k = 0; k < o->operands; k++) {
        const struct operand *a = &o->operand[k];
        const void *base = a->place == OPERAND_INPUT ? program->input : a->place == OPERAND_TARGET ? program->target : NULL;
        at[k] = base ? (char *)base + (intptr_t)a->data : a->data;
    }
    if (o->kind < OPERATOR_FIRST_NO_MAP) {
        operator_map(o, at);
        return PROGRAM_DONE;
    }
#define F(K) ((float *)at[K])
#define I(K) ((int64_t *)at[K])
#define ELEMENTS(NAME) case OPERATOR_##NAME: NAME(n[0], F(1), n[1] != 0, F(2), p, F(0)); return PROGRAM_DONE;
#define MATRIX(NAME) case OPERATOR_##NAME: NAME(n[0], n[1], F(1), F(2), F(0)); return PROGRAM_DONE;
#define LOSSES(NAME) case OPERATOR_##NAME: NAME(n[0], F(2), F(3), o->p[1], o->p[0], F(0), F(1)); return PROGRAM_DONE;
    /* planes, H, W, kh, kw, OH, OW, stride, padding, whether averages count it */
    const struct pool2d_shape pool = {n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], n[9], n[10], (int)n[11]};
    switch (o->kind) {
    OPERATOR_ELEMENTS(ELEMENTS)
    OPERATOR_ROWS(MATRIX)
    OPERATOR_LOSSES(LOSSES)
    case OPERATOR_sum: return operator_sum(o, at);
    case OPERATOR_extremum: operator_extremum(n, n[3] != 0, F(2), F(0), I(1)); return PROGRAM_DONE;
    case OPERATOR_extremum_backward: operator_extremum_backward(n, F(1), I(2), F(0)); return PROGRAM_DONE;
    case OPERATOR_matmul: return operator_matmul(o, at);
    case OPERATOR_activation_forward: activation_forward((int)n[1], o->p[0], n[0], F(1), F(0)); return PROGRAM_DONE;
    case OPERATOR_activation_backward_input: activation_backward_input((int)n[1], o->p[0], n[0], F(1), n[2] != 0, F(2), F(0)); return PROGRAM_DONE;
    case OPERATOR_take_rows: /* y (N, D), table (V, D), index (N,); N, D, V */
        if (!labels_fit(n[0], n[2], I(2))) return PROGRAM_REFUSED;
        for (i64 i = 0; i < n[0]; i++) memcpy(F(0) + i * n[1], F(1) + I(2)[i] * n[1], (size_t)n[1] * sizeof(float));
        return PROGRAM_DONE;
    case OPERATOR_take_rows_backward: /* gradient of table, of y, index; N, D, V, the row without gradient or -1 */
        return labels_fit(n[0], n[2], I(2)) ? take_rows_backward(n[0], n[1], n[2], n[3], F(1), I(2), F(0)) : PROGRAM_REFUSED;
    case OPERATOR_dropout: dropout_forward(n[0], F(1), o->p[0], ((uint64_t *)at[2])[0], ((uint64_t *)at[2])[1], F(0)); return PROGRAM_DONE;
    case OPERATOR_conv2d_forward: return conv2d_forward(conv, CONV2D_AUTO, F(1), F(2), F(3), F(0));
    case OPERATOR_conv2d_backward_input: return conv2d_backward_input(conv, CONV2D_AUTO, F(1), F(2), F(0));
    case OPERATOR_conv2d_backward_weight: return conv2d_backward_weight(conv, CONV2D_AUTO, F(2), F(3), F(0), F(1));
    case OPERATOR_max_pool2d_forward: return max_pool2d_forward(&pool, F(2), F(0), (int32_t *)at[1]);
    case OPERATOR_max_pool2d_backward_input:
        max_pool2d_backward_input(n[0], n[1] * n[2], n[5] * n[6], F(1), (const int32_t *)at[2], F(0));
        return PROGRAM_DONE;
    case OPERATOR_avg_pool2d_forward: return avg_pool2d_forward(&pool, F(1), F(0));
    case OPERATOR_avg_pool2d_backward_input: return avg_pool2d_backward_input(&pool, F(1), F(0));
    case OPERATOR_global_avg_pool2d_forward: global_avg_pool2d_forward(n[0], n[1], F(1), F(0)); return PROGRAM_DONE;
    case OPERATOR_global_avg_pool2d_backward_input: global_avg_pool2d_backward_input(n[0], n[1], F(1), F(0)); return PROGRAM_DONE;
    case OPERATOR_batch_norm_statistics: return batch_norm_statistics(n[0], n[1], n[2], F(2), F(0), F(1));
    case OPERATOR_batch_norm_forward: /* y, x, mean, var, weight, bias */
        return batch_norm_forward(n[0], n[1], n[2], F(1), F(2), F(3), F(4), F(5), o->p[0], F(0));
    case OPERATOR_batch_norm_backward_weight: /* grad_weight, grad_bias, grad, x, mean, var */
        return batch_norm_backward_weight(n[0], n[1], n[2], F(2), F(3), F(4), F(5), o->p[0], F(0), F(1));
    case OPERATOR_batch_norm_backward_input: /* grad_x, grad, x, mean, var, weight, grad_weight, grad_bias */
        return batch_norm_backward_input(n[0], n[1], n[2], F(1), F(2), F(3), F(4), F(5), F(6), F(7), o->p[0], F(0));
    case OPERATOR_softmax_cross_entropy: /* losses, gradient, logits, target: labels, or with n[2] probabilities; label smoothing, scale */
        if (!n[2] && !labels_fit(n[0], n[1], I(3))) return PROGRAM_REFUSED;
        softmax_cross_entropy(n[0], n[1], F(2), n[2] ? NULL : I(3), n[2] ? F(3) : NULL, o->p[0], o->p[1], F(0), F(1));
        return PROGRAM_DONE;
    case OPERATOR_nll: /* losses, log-probabilities, labels */
        if (!labels_fit(n[0], n[1], I(2))) return PROGRAM_REFUSED;
        for (i64 i = 0; i < n[0]; i++) F(0)[i] = -F(1)[i * n[1] + I(2)[i]];
        return PROGRAM_DONE;
    case OPERATOR_nll_backward: /* gradient, the loss's (1 or N of them), labels; scale */
        memset(at[0], 0, (size_t)(n[0] * n[1]) * sizeof(float));
        for (i64 i = 0; i < n[0]; i++) F(0)[i * n[1] + I(2)[i]] = -p * F(1)[n[2] == 1 ? 0 : i];
        return PROGRAM_DONE;
    case OPERATOR_group_norm_forward: /* y, statistics, x, weight, bias; N, C, P, groups, centred */
        group_norm_forward(n[0], n[1], n[2], n[3], n[4] != 0, F(2), F(3), F(4), o->p[0], F(0), F(1));
        return PROGRAM_DONE;
    case OPERATOR_group_norm_backward: /* grad_x, grad_weight, grad_bias, grad, x, statistics, weight */
        return group_norm_backward(n[0], n[1], n[2], n[3], n[4] != 0, F(3), F(4), F(5), F(6), F(0), F(1), F(2));
    case OPERATOR_recurrent_forward: /* y, gates, extra, weight, bias, h0, c0; T, B, H, mode, reverse */
        return recurrent_forward(&(struct recurrent){
            .mode = n[3], .T = n[0], .B = n[1], .H = n[2], .reverse = n[4], .gates = F(1), .y = F(0), .extra = F(2), .weight = F(3),
            .bias = F(4), .h0 = F(5), .c0 = F(6)});
    case OPERATOR_recurrent_backward: /* grad_gates, grad_extra, grad_h0, grad_c0, grad, gates, y, extra, weight, h0, c0 */
        return recurrent_backward(&(struct recurrent){
            .mode = n[3], .T = n[0], .B = n[1], .H = n[2], .reverse = n[4], .gates = F(5), .y = F(6), .extra = F(7), .weight = F(8),
            .h0 = F(9), .c0 = F(10), .grad = F(4), .grad_gates = F(0), .grad_extra = F(1), .grad_h0 = F(2), .grad_c0 = F(3)});
    case OPERATOR_within: return all_within(n[0], F(0), n[1] != 0) ? PROGRAM_DONE : PROGRAM_REFUSED;
    case OPERATOR_cumsum: operator_cumsum(n, n[3] != 0, F(1), F(0)); return PROGRAM_DONE;
    case OPERATOR_prod: operator_prod(n, F(1), F(0)); return PROGRAM_DONE;
    case OPERATOR_prod_backward: return operator_prod_backward(n, F(1), F(2), F(3), F(0));
    case OPERATOR_topk: operator_topk(n[0], n[1], n[2], n[3] != 0, F(1), I(0)); return PROGRAM_DONE;
    case OPERATOR_pick_rows: case OPERATOR_spread_rows: return operator_row_places(o, at);
    case OPERATOR_pick: case OPERATOR_spread: case OPERATOR_put: return operator_places(o, at);
    case OPERATOR_loss:
        program->loss = *F(0);
        return isfinite(program->loss) ? PROGRAM_DONE : PROGRAM_NON_FINITE;
    default: return PROGRAM_REFUSED;
    }
#undef F
#undef I
#undef ELEMENTS
#undef MATRIX
#undef LOSSES
}

#endif
