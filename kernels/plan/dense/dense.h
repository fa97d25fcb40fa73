/* A dense layer as a stage of a plan: y (N, O) = activation(x weight^T + bias), and its backward with the update inside.
 *
 * x (N, I) and weight (O, I) are row-major, as PyTorch has them: the sums of the forward run along the rows of both, those of the
 * backward across them.
 *
 * Forward, 2 N I O FLOPs, one of two ways (dense_by_panels):
 *   Many images. Panels of at most 48 outputs: the panel's weights are transposed to (I, 48), x is broadcast from where it lies, and
 *     the micro-kernel of the backward (dense/panel.h) runs down I.
 *   Few images, or a long I. Lanes along I: a tile of images times outputs keeps a vector of partial sums for each pair, and nothing
 *     is packed or transposed; at its end the vectors are added up lane by lane, VL of them at a time. Rows are cut into chunks of
 *     about DENSE_CHUNK floats, whatever their length: a tile's rows then lie in L1 together even where they are a multiple of 4 KiB
 *     apart.
 *
 * Backward, 4 N I O FLOPs. The gradient of y is multiplied by the activation's slope where it lies, and packed for the second product.
 * Then, for panels of at most 48 input columns, whose columns of weight and of x are copied to a scratch,
 *   grad_x[:, panel] (N, 48) = grad (N, O) weight[:, panel] (O, 48)         for parts of N whose rows of grad stay in L2
 *   grad_weight[:, panel] (O, 48) = grad^T (O, N) x[:, panel] (N, 48)
 * by one micro-kernel, lanes along I. A tile of the second goes straight into the update of the weight and of the optimiser's state: no
 * gradient of the weight is stored, and each of the arrays is read or written once.
 *
 * Share of the FMA peak reached on Zen 5 (AVX-512, AVX2), 128 images: 9216 -> 128 forward 80-82 %, 88 %, backward with momentum 77 %,
 * 77 % (40 MB to and from L3); 784 -> 1000 forward 92 %, 94 %, backward without grad_x 81 %, 83 %. Masks, packing and the sums over
 * lanes weigh more where O is small: 1000 -> 10 54 %, 79 %.
 * One core of a Xeon of 236 GFLOP/s (AVX-512; FMAs from L1 reach 217): 1000 images 256 -> 256 forward 70 %, 100 -> 256 69 %, by lanes
 * along I 51 % and 35 %; backward 61 %. Both cores, 2048 images 512 -> 512: forward 79 %, backward 73 % (61 % where all images' rows
 * come from L3 for each panel).
 * For up to DENSE_IMAGES images the floor is reading the weight: 90 GB/s a thread out of L3.
 *
 * Input that is mostly background: dense/sparse.h. A few images and a weight that never changes: dense/frozen.h.
 *
 * Cuts depend on shapes and data only, and sums run in a fixed order: the same bits for any number of threads.
 */
#ifndef FASTNN_DENSE_H
#define FASTNN_DENSE_H

#include <math.h>

#include "base/sums.h"
#include "plan/stages.h"
#include "base/threads.h"
#include "ops/update.h"
#include "parts/activation.h"

/* Tiles of images x outputs (forward) and rows x vectors (backward). */
#if VL == 16 || (VL == 4 && defined(__aarch64__))     /* 32 registers: 24 sums */
enum { DENSE_NR = 8, DENSE_MR = 8 };
#else                                                   /* 16 registers: 12 sums */
enum { DENSE_NR = 4, DENSE_MR = 4 };
#endif
enum {
    DENSE_IMAGES = 3,               /* of a forward tile */
    DENSE_NV = 3,                   /* vectors of a backward tile */
    DENSE_CHUNK = 1024,             /* floats of a row */
    DENSE_NEAR = 4096,              /* floats of all rows that are used again soon: half of L1 */
    DENSE_PANEL = 48,               /* input columns: a multiple of DENSE_NV vectors of any width */
    DENSE_PANEL_IMAGES = 128,       /* of a task by panels, at least */
    DENSE_PANEL_OUTPUTS = 64,       /* of a task of the weight's gradient, at least */
    DENSE_STEP_OUTPUTS = 256,       /* and at most */
    DENSE_PART_FLOATS = 1 << 17,    /* of the rows of a task by panels */
    DENSE_TASKS = 8,                /* a layer is cut into so many tasks or more, where it is large enough */
};

/* ---- background: what most of an input is, whose products with a weight need but the sum of its rows ---- */

/* Of floats, the first, where more than half are the same. */
INLINE int dense_first_is_background(const float *x, i64 count) {
    i64 same = 0;
    for (i64 i = 0; i < count; i++) same += x[i] == x[0];
    return 2 * same > count && isfinite(x[0]);
}

/* ---- sparse input: lists in the work memory, one for each group of images or of pixels (dense/sparse.h) ---- */

enum { DENSE_GROUP = 4, DENSE_SPARSE_IMAGES = 32 };

/* Layers that are worth a try: the program's input, rows enough for a transposed panel to pay, not most of a panel past the outputs. */
INLINE int dense_may_be_sparse(const struct dense *d) {
    return !d->x && !d->grad_x && d->N >= DENSE_SPARSE_IMAGES && round_up(d->O, DENSE_PANEL) < 2 * d->O;
}

/* count (groups,), value (groups, most, DENSE_GROUP), at (groups, most) */
INLINE i64 dense_lists_floats(i64 groups, i64 most) { return round_up(groups, 16) + groups * round_up(most, 16) * (1 + DENSE_GROUP); }

/* ---- cuts ---- */

/* Parts of the work memory, in floats from its start. */
struct dense_layout {
    i64 x;                          /* (N, I): the input as floats, where it comes through a table */
    i64 sparse;                     /* one int: whether the forward has found the input sparse (dense/sparse.h) */
    i64 lists;                      /* its lists */
    i64 kept;                       /* (N, O): y before the activation, where its slope does not follow from y; else -1 */
    i64 partial;                    /* forward: (chunks, N, O) where chunks are separate tasks */
    i64 grad_columns;               /* backward: [O / MR][N][MR], gradient of y before the activation, for grad_weight */
    i64 grad_bias;                  /* backward: (O,) */
    i64 total;
};

/* Columns are cut into panels of about the same number of vectors, at most DENSE_PANEL columns each; up to DENSE_TASKS panels are an even
 * number, for two threads. Where panel `index` begins is where the one before it ends. */
INLINE i64 dense_panels(i64 columns) {
    const i64 panels = ceil_div(columns, DENSE_PANEL);
    return panels == 1 || panels > DENSE_TASKS ? panels : round_up(panels, 2);
}
INLINE i64 dense_panel_start(i64 columns, i64 index) {
    return i64_min(columns, index * ceil_div(columns, VL) / i64_max(1, dense_panels(columns)) * VL);
}

/* Whether the forward goes by panels of outputs (dense/forward.h). Both ways take I products for an output of an image; as measured,
 * a transposed weight costs as much as 16 of them, an output of a tile 20, and one whose lanes are added up 7 a lane. */
INLINE int dense_by_panels(const struct dense *d) {
    const double I = (double)d->I, N = (double)d->N;
    return d->O > 16 && d->N >= 16 &&
           (double)round_up(d->O, VL) * (I + 16 * I / N + 20) < (double)round_up(d->O, DENSE_NR) * (I + 7 * VL);
}

/* Images of a task that multiplies a panel with rows of K floats: DENSE_TASKS tasks or more, and rows that stay in L2 while panel after
 * panel comes by; but so many images that making the panel costs little. */
INLINE i64 dense_panel_images(const struct dense *d, i64 panels, i64 K) {
    const i64 parts = i64_max(ceil_div(DENSE_TASKS, panels), ceil_div(d->N * K, DENSE_PART_FLOATS));
    return round_up(ceil_div(d->N, i64_max(1, i64_min(parts, d->N / DENSE_PANEL_IMAGES))), DENSE_MR);
}

/* The columns of a panel: the first, how many, and that in whole vectors */
struct dense_span { i64 begin, count, width; };
INLINE struct dense_span dense_panel_at(i64 columns, i64 index) {
    const i64 begin = dense_panel_start(columns, index), count = dense_panel_start(columns, index + 1) - begin;
    return (struct dense_span){begin, count, round_up(count, VL)};
}

/* How the other forward is cut into tasks: blocks of images x blocks of outputs, and chunks of I where that is not enough. */
struct dense_cut { i64 images, outputs, chunk, image_blocks, output_blocks, chunks; int split; };

INLINE struct dense_cut dense_cut(const struct dense *d) {
    struct dense_cut cut;
    /* rows of weight that only one tile of images uses are streamed: long runs, not chunks */
    cut.chunks = i64_max(1, ceil_div(d->I, d->N <= DENSE_IMAGES ? SUM_ADDS * SUM_RUN * VL : DENSE_CHUNK));
    cut.chunk = round_up(ceil_div(d->I, cut.chunks), 16);
    cut.chunks = i64_max(1, ceil_div(d->I, cut.chunk));
    cut.output_blocks = ceil_div(d->O, d->N <= DENSE_IMAGES ? 16 : 64);
    cut.outputs = round_up(ceil_div(d->O, cut.output_blocks), DENSE_NR);
    cut.output_blocks = ceil_div(d->O, cut.outputs);
    cut.split = !dense_by_panels(d) && (cut.chunks > SUM_ADDS || (cut.chunks > 1 && cut.output_blocks * ceil_div(d->N, 128) < 2 * DENSE_TASKS));
    i64 tasks = cut.output_blocks * (cut.split ? cut.chunks : 1);
    cut.image_blocks = i64_max(ceil_div(d->N, 128), i64_min(ceil_div(d->N, 24), ceil_div(DENSE_TASKS, tasks)));
    cut.images = round_up(ceil_div(d->N, cut.image_blocks), DENSE_IMAGES);
    cut.image_blocks = ceil_div(d->N, cut.images);
    return cut;
}

/* ---- a weight that never changes, and few images: input-major in the work memory (dense/frozen.h) ---- */

enum { FROZEN_VECTORS = 8, FROZEN_CHUNK = 512, FROZEN_IMAGES = 4, FROZEN_OUTPUTS = 32 };

INLINE int dense_is_frozen(const struct dense *d) {
    return d->frozen && d->N <= FROZEN_IMAGES && d->O >= FROZEN_OUTPUTS && d->I >= FROZEN_OUTPUTS;
}

/* Parts of that memory, in floats from its start. */
struct frozen_layout {
    i64 O;                          /* outputs, rounded up to vectors */
    i64 chunks;                     /* of a list, at most */
    i64 packed;                     /* [panels][I][outputs of the panel] */
    i64 sums;                       /* (channels, O): of a channel's rows */
    i64 bias;                       /* (O,) */
    i64 ready;                      /* an int: whether those three are made */
    i64 value, at, partial;         /* (N, I), (N, I) and (N, chunks, O) */
    i64 total;
};

INLINE struct frozen_layout frozen_layout(const struct dense *d) {
    struct frozen_layout l = {.O = round_up(d->O, VL), .chunks = ceil_div(d->I, FROZEN_CHUNK)};
    l.sums = round_up(d->I * l.O, 16);
    l.bias = l.sums + round_up(d->channels * l.O, 16);
    l.ready = l.bias + round_up(l.O, 16);
    l.value = l.ready + 16;
    l.at = l.value + round_up(d->N * d->I, 16);
    l.partial = l.at + round_up(d->N * d->I, 16);
    l.total = l.partial + round_up(d->N * l.chunks * l.O, 16);
    return l;
}

/* ---- the work memory ---- */

INLINE struct dense_layout dense_layout(const struct dense *d) {
    struct dense_layout at = {.kept = -1};
    if (dense_is_frozen(d)) {
        at.total = frozen_layout(d).total;
        return at;
    }
    struct dense_cut cut = dense_cut(d);
    i64 end = 0;
    if (d->table) at.x = end, end += round_up(d->N * d->I, 16);
    if (dense_may_be_sparse(d)) {
        at.sparse = end, end += 16;
        at.lists = end, end += i64_max(dense_lists_floats(ceil_div(d->N, DENSE_GROUP), d->I), dense_lists_floats(ceil_div(d->I, DENSE_GROUP), d->N));
    }
    if (d->grad_y && !activation_slope_from_y((int)d->activation, d->parameter)) at.kept = end, end += round_up(d->N * d->O, 16);
    i64 kept = end;                 /* forward and backward share the rest */
    at.partial = end;
    if (cut.split) at.total = end + cut.chunks * round_up(d->N * d->O, 16);
    if (d->grad_y) {
        end = kept;
        at.grad_columns = end, end += round_up(d->O, DENSE_MR) * round_up(d->N, 16);
        at.grad_bias = end, end += round_up(d->O, 16);
    }
    at.total = i64_max(at.total, end);
    return at;
}

KERNEL const char *dense_name(const struct dense *d) { return dense_is_frozen(d) ? "dense, frozen" : "dense"; }
SMALL i64 dense_work_bytes(const struct dense *d) { return dense_layout(d).total * (i64)sizeof(float); }

/* y (n0 .. n1, o0 .. o1), which is before the activation, becomes what is after it; but ReLU is applied where y is stored. */
INLINE void dense_activate(const struct dense *d, i64 n0, i64 n1, i64 o0, i64 o1) {
    if (d->activation == ACTIVATION_NONE || d->activation == ACTIVATION_RELU) return;
    const struct dense_layout at = dense_layout(d);
    for (i64 n = n0; n < n1; n++) {
        float *y = d->y + n * d->O + o0;
        if (at.kept >= 0) memcpy((float *)d->work + at.kept + n * d->O + o0, y, (size_t)(o1 - o0) * sizeof(float));
        activate((int)d->activation, d->parameter, o1 - o0, y, y);
    }
}

/* Keeps a loaded vector in a register: without it the compiler loads it again at each of its uses, and loads run out first. */
INLINE vf dense_hold(vf v) {
#if defined(__x86_64__)
    __asm__("" : "+v"(v));
#elif defined(__aarch64__)
    __asm__("" : "+w"(v));
#endif
    return v;
}

/* rows x count floats, dst <- src; row steps may differ. The last vector of a row may be a part, of dst filled up with zeros if
 * `fill`; whole panels, the usual case, are a loop of constants. */
INLINE void dense_copy(float *restrict dst, i64 dst_step, const float *restrict src, i64 src_step, i64 rows, i64 count, const int fill) {
    for (i64 r = 0; r < rows; r++, dst += dst_step, src += src_step) {
        if (count == DENSE_PANEL) {
            UNROLL for (int j = 0; j < DENSE_PANEL; j += VL) v_store(dst + j, v_load(src + j));
            continue;
        }
        for (i64 j = 0; j < count; j += VL) {
            i64 lanes = i64_min(VL, count - j);
            v_store_lanes(dst + j, v_load_lanes(src + j, lanes, 0), fill ? VL : lanes);
        }
    }
}

/* Asks for the lines of `rows` panel rows, to L2: rows are often a multiple of 4 KiB apart and would evict each other from L1. */
INLINE void dense_prefetch(const float *p, i64 rows, i64 step) {
    for (i64 r = 0; r < rows; r++, p += step)
        UNROLL for (int j = 0; j < DENSE_PANEL; j += 16) __builtin_prefetch(p + j, 0, 2);
}

/* of the weight and its state, what an update of these rows needs */
INLINE void dense_prefetch_update(const struct dense *d, i64 at, i64 rows) {
    dense_prefetch(d->weight + at, rows, d->I);
    for (int k = 0; k < UPDATE_STATES; k++) if (d->weight_state[k]) dense_prefetch(d->weight_state[k] + at, rows, d->I);
}

/* x as floats: d->x, the program's input, or the work memory where a table makes them */
INLINE const float *dense_input(const struct dense *d, const struct program *program) {
    if (d->table) return (const float *)d->work + dense_layout(d).x;
    return d->x ? d->x : program->input;
}

#endif
