/* Batch normalisation: statistics, y = (x - mean) / sqrt(var + eps) * weight + bias, and its gradients.
 *
 *   x, grad (N, C, HW), HW = H*W, or 1 for (N, C); arrays per channel (C,); m = N*HW values per channel
 *
 * Two layouts of one computation. Planes of NORM_PLANE pixels or more: vectors run along a plane, a channel's constants are the
 * same in all lanes. Smaller ones: x is a matrix (N, C*HW), vectors run along its rows, and each of its columns has sums of its
 * own, which belong together by channel only at the end.
 *
 * The batch is cut into runs of images by its size alone; each (run, channel or column) writes a pair of partial results, which
 * are combined in order, in double precision.
 */
#ifndef FASTNN_NORM_H
#define FASTNN_NORM_H

#include <math.h>

#include "base/sums.h"
#include "base/threads.h"

enum {
    NORM_PLANE = 32,
    NORM_BLOCK = 1 << 12,               /* floats that are summed in single precision before they join a sum in double */
    NORM_ROWS = 32,                     /* rows of a matrix that are summed before they join the total */
    NORM_STRIP = 128,                   /* most channels a task */
    NORM_COLUMNS = 256,                 /* columns a task */
    NORM_TASKS = 16,
};

struct norm_sums {
    i64 N, C, HW, runs;
    i64 columns, strip;                 /* partial results a run: C, or C*HW; how many of them a task makes */
    const float *x, *grad;              /* grad: NULL for the statistics */
    const float *mean;                  /* (C,), or (columns,); NULL for the statistics */
    float *first, *second;              /* (runs, columns): mean and sum of (x - mean)^2, or sums of grad and of grad * (x - mean);
                                         * these means are differences from the channel's or column's first value, so that
                                         * they are precise where the mean is much larger than the spread */
};

INLINE i64 run_begin(const struct norm_sums *t, i64 run) { return run * t->N / t->runs; }

/* ---- planes ---- */

/* *a, *b += sums over `pixels` floats of the plane at x: for the statistics of d = x - shift and of d*d, else of grad and of
 * grad * d */
INLINE void plane_sums(const int backward, const float *x, const float *grad, i64 pixels, float shift, vf *a, vf *b) {
    i64 i = 0;
    while (i < pixels) {
        vf a0 = {0}, b0 = {0}, a1 = {0}, b1 = {0};
        const i64 end = i64_min(pixels, i + 2 * VL * SUM_RUN);
        for (; i + 2 * VL <= end; i += 2 * VL) {
            vf d0 = v_load(x + i) - shift, g0 = backward ? v_load(grad + i) : d0;
            vf d1 = v_load(x + i + VL) - shift, g1 = backward ? v_load(grad + i + VL) : d1;
            a0 += g0;
            b0 += g0 * d0;
            a1 += g1;
            b1 += g1 * d1;
        }
        for (; i < end; i += VL) {
            i64 lanes = i64_min(VL, end - i);
            vf d = v_load_lanes(x + i, lanes, shift) - shift, g = backward ? v_load_lanes(grad + i, lanes, 0) : d;
            a1 += g;
            b1 += g * d;
        }
        *a += a0 + a1;
        *b += b0 + b1;
    }
}

/* A block's sum of squares about its mean is b - a*a/size. Where the shift was so far off that this cancels, the block is read
 * again with a better one. */
INLINE int shift_was_far(double a, double b, double size) { return a * a > 0.5 * b * size; }

/* Task: a strip of channels of one run, in memory order, in blocks of images or, where one plane is a block and more, pieces of
 * it. For the statistics the shift is the mean so far, and blocks are joined by Chan, Golub and LeVeque's formula (1979). */
INLINE void norm_channels(const int backward, const struct norm_sums *t, i64 index) {
    const i64 HW = t->HW, pitch = t->C * HW, strips = ceil_div(t->C, t->strip), run = index / strips;
    const i64 c0 = index % strips * t->strip, count = i64_min(t->strip, t->C - c0), end = run_begin(t, run + 1);
    const i64 group = i64_max(1, NORM_BLOCK / HW), piece = i64_min(HW, NORM_BLOCK);
    double first[NORM_STRIP], second[NORM_STRIP], seen = 0; /* seen: values of each channel so far */
    for (i64 c = 0; c < count; c++) {
        first[c] = backward ? 0 : t->x[(c0 + c) * HW];
        second[c] = 0;
    }
    for (i64 n = run_begin(t, run); n < end; n += group) for (i64 i = 0; i < HW; i += piece) {
        vf a[NORM_STRIP], b[NORM_STRIP];
        i64 images = i64_min(group, end - n), pixels = i64_min(piece, HW - i), at = n * pitch + c0 * HW + i;
        const double size = (double)(images * pixels);
        for (i64 c = 0; c < count; c++) a[c] = b[c] = (vf){0};
        for (i64 k = 0; k < images; k++) for (i64 c = 0; c < count; c++) {
            i64 plane = at + k * pitch + c * HW;
            if (backward) plane_sums(1, t->x + plane, t->grad + plane, pixels, t->mean[c0 + c], &a[c], &b[c]);
            else plane_sums(0, t->x + plane, NULL, pixels, (float)first[c], &a[c], &b[c]);
        }
        for (i64 c = 0; c < count; c++) {
            double sum_a = v_sum(a[c]), sum_b = v_sum(b[c]);
            if (backward) {
                first[c] += sum_a;
                second[c] += sum_b;
                continue;
            }
            float shift = (float)first[c];
            if (shift_was_far(sum_a, sum_b, size)) {
                shift += (float)(sum_a / size);
                a[c] = b[c] = (vf){0};
                for (i64 k = 0; k < images; k++) plane_sums(0, t->x + at + k * pitch + c * HW, NULL, pixels, shift, &a[c], &b[c]);
                sum_a = v_sum(a[c]);
                sum_b = v_sum(b[c]);
            }
            double share = sum_a / size, delta = shift + share - first[c], weight = size / (seen + size);
            first[c] += delta * weight;
            second[c] += sum_b - sum_a * share + (seen > 0 ? delta * delta * weight * seen : 0);
        }
        seen += size;
    }
    for (i64 c = 0; c < count; c++) {
        t->first[run * t->columns + c0 + c] = (float)(backward ? first[c] : first[c] - t->x[(c0 + c) * HW]);
        t->second[run * t->columns + c0 + c] = (float)second[c];
    }
}

static void norm_channel_moments(void *context, i64 index) { norm_channels(0, context, index); }
static void norm_channel_products(void *context, i64 index) { norm_channels(1, context, index); }

/* ---- columns of a matrix ---- */

/* NV vectors of columns, or `lanes` columns, over `rows` rows: as plane_sums does, for each column */
INLINE void column_sums(const int NV, const int backward, const float *x, const float *grad, i64 rows, i64 pitch, i64 lanes,
                        const vf *shift, vf *a, vf *b) {
    UNROLL for (int j = 0; j < NV; j++) a[j] = b[j] = (vf){0};
    for (i64 r = 0; r < rows; r++, x += pitch, grad += backward ? pitch : 0) UNROLL for (int j = 0; j < NV; j++) {
        vf d = v_load_lanes(x + j * VL, lanes, 0) - shift[j], g = backward ? v_load_lanes(grad + j * VL, lanes, 0) : d;
        a[j] += g;
        b[j] += g * d;
    }
}

/* Columns `at` and on of one run: NORM_ROWS rows at a time, as norm_channels does with blocks */
INLINE void norm_columns(const int NV, const int backward, const struct norm_sums *t, i64 run, i64 at, i64 lanes) {
    const i64 pitch = t->columns, begin = run_begin(t, run), end = run_begin(t, run + 1);
    struct v_joined first[4] = {0}, second[4] = {0};
    vf origin[4], shift[4], a[4], b[4];
    UNROLL for (int j = 0; j < NV; j++) {
        origin[j] = shift[j] = v_load_lanes((backward ? t->mean : t->x) + at + j * VL, lanes, 0);
    }
    for (i64 n = begin; n < end; n += NORM_ROWS) {
        i64 rows = i64_min(NORM_ROWS, end - n);
        const float *x = t->x + n * pitch + at, *grad = backward ? t->grad + n * pitch + at : NULL;
        float share = 1.0f / (float)rows, weight = (float)rows / (float)(n - begin + rows);
        column_sums(NV, backward, x, grad, rows, pitch, lanes, shift, a, b);
        vi far = {0};
        UNROLL for (int j = 0; j < NV; j++) far |= a[j] * a[j] * share > 0.5f * b[j];
        if (!backward && v_any(far)) {              /* see shift_was_far */
            UNROLL for (int j = 0; j < NV; j++) shift[j] += a[j] * share;
            column_sums(NV, 0, x, NULL, rows, pitch, lanes, shift, a, b);
        }
        UNROLL for (int j = 0; j < NV; j++) {
            if (backward) {
                v_join(&first[j], a[j]);
                v_join(&second[j], b[j]);
            } else {
                vf delta = (shift[j] - origin[j]) + a[j] * share - first[j].sum;
                v_join(&first[j], delta * weight);
                v_join(&second[j], b[j] - a[j] * a[j] * share + delta * delta * (weight * (float)(n - begin)));
                shift[j] = first[j].sum + origin[j];
            }
        }
    }
    UNROLL for (int j = 0; j < NV; j++) {
        v_store_lanes(t->first + run * pitch + at + j * VL, v_joined_sum(first[j]), lanes);
        v_store_lanes(t->second + run * pitch + at + j * VL, v_joined_sum(second[j]), lanes);
    }
}

/* Task: a strip of columns of one run. */
INLINE void norm_strip(const int backward, const struct norm_sums *t, i64 index) {
    i64 strips = ceil_div(t->columns, t->strip), run = index / strips, at = index % strips * t->strip;
    i64 end = i64_min(at + t->strip, t->columns);
    for (; at + 4 * VL <= end; at += 4 * VL) norm_columns(4, backward, t, run, at, VL);
    for (; at + VL <= end; at += VL) norm_columns(1, backward, t, run, at, VL);
    if (at < end) norm_columns(1, backward, t, run, at, end - at);
}

static void norm_strip_moments(void *context, i64 index) { norm_strip(0, context, index); }
static void norm_strip_products(void *context, i64 index) { norm_strip(1, context, index); }

/* ---- both ---- */

/* Fills in first and second; 0, or -1 out of memory. */
INLINE int norm_partial_sums(struct norm_sums *t) {
    const int backward = t->grad != NULL, planes = t->HW >= NORM_PLANE;
    t->columns = planes ? t->C : t->C * t->HW;
    t->strip = planes ? i64_min(t->C, ceil_div(NORM_BLOCK, t->HW)) : NORM_COLUMNS;
    i64 strips = ceil_div(t->columns, t->strip), enough = ceil_div(NORM_TASKS, strips);
    t->runs = i64_max(1, i64_min(enough, planes ? t->N : ceil_div(t->N, NORM_ROWS)));
    size_t partial = (size_t)(t->runs * t->columns), expanded = backward && !planes ? (size_t)t->columns : 0;
    t->first = fastnn_scratch(SCRATCH_PARTIAL, (2 * partial + expanded) * sizeof *t->first);
    if (!t->first) return -1;
    t->second = t->first + partial;
    if (expanded) {
        float *mean = t->second + partial;
        for (i64 c = 0; c < t->C; c++) for (i64 i = 0; i < t->HW; i++) mean[c * t->HW + i] = t->mean[c];
        t->mean = mean;
    }
    fastnn_task task = planes ? backward ? norm_channel_products : norm_channel_moments
                              : backward ? norm_strip_products : norm_strip_moments;
    fastnn_parallel(t->runs * strips, (backward ? 10.0 : 8.0) * (double)(t->N * t->C * t->HW), task, t);
    return 0;
}

/* mean, var (C,): var is divided by m */
KERNEL int batch_norm_statistics(i64 N, i64 C, i64 HW, const float *x, float *mean, float *var) {
    struct norm_sums t = {.N = N, .C = C, .HW = HW, .x = x};
    if (norm_partial_sums(&t)) return -1;
    const i64 group = t.columns / C;                /* columns a channel */
    const double pixels = (double)(HW / group);     /* values a column has of each image */
    for (i64 c = 0; c < C; c++) {
        const float *origin = x + c * HW;
        double centre = 0, squares = 0;
        for (i64 run = 0; run < t.runs; run++) {
            double images = (double)(run_begin(&t, run + 1) - run_begin(&t, run));
            for (i64 i = 0; i < group; i++) centre += images * (origin[i] + (double)t.first[run * t.columns + c * group + i]);
        }
        centre /= (double)(N * group);
        for (i64 run = 0; run < t.runs; run++) {
            double values = pixels * (double)(run_begin(&t, run + 1) - run_begin(&t, run));
            for (i64 i = 0; i < group; i++) {
                double delta = origin[i] + (double)t.first[run * t.columns + c * group + i] - centre;
                squares += t.second[run * t.columns + c * group + i] + values * delta * delta;
            }
        }
        mean[c] = (float)centre;
        var[c] = (float)(squares / (double)(N * HW));
    }
    return 0;
}

/* grad_weight = sum of grad * xhat, grad_bias = sum of grad (C,) */
KERNEL int batch_norm_backward_weight(i64 N, i64 C, i64 HW, const float *grad, const float *x, const float *mean, const float *var,
                                      double eps, float *grad_weight, float *grad_bias) {
    struct norm_sums t = {.N = N, .C = C, .HW = HW, .x = x, .grad = grad, .mean = mean};
    if (norm_partial_sums(&t)) return -1;
    const i64 group = t.columns / C;
    for (i64 c = 0; c < C; c++) {
        double first = 0, second = 0;
        for (i64 run = 0; run < t.runs; run++) for (i64 i = 0; i < group; i++) {
            first += t.first[run * t.columns + c * group + i];
            second += t.second[run * t.columns + c * group + i];
        }
        grad_bias[c] = (float)first;
        grad_weight[c] = (float)(second / sqrt(var[c] + eps));
    }
    return 0;
}

#endif
