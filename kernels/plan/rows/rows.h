/* Small dense networks as one stage: all layers, the loss and the way back for a block of rows of the batch at a time, while they lie in
 * L1 and L2; then the gradients of all parameters at once, or their steps.
 *
 * Layer l: y (N, O) = f(x (N, I) weight^T + bias). In a block of R rows every matrix has rows of features, padded to vectors between
 * layers, and all three products are product.h's, with nothing transposed but the weights, once a call:
 *   y (R, O)           = x (R, I) weight^T (I, O) + bias
 *   grad_x (R, I)      = grad (R, O) weight (O, I)
 *   grad_weight (O, I) = grad^T (O, R) x (R, I), or its transpose x^T grad where that pads less
 * Activations act on strips of rows that the product has just stored.
 *
 * Blocks are cut by shape alone and belong to at most ROWS_CHUNKS chunks, tasks with a partial gradient each; these are added in order,
 * VL rows of a weight at a time, into a tile that goes into the update of the weight and of the optimiser's state.
 *
 * 6 FLOPs a weight and row of the batch in training, 2 forward. Share of the FMA peak reached by a step with Adam on one core of Sapphire
 * Rapids (AVX-512): three layers 64 -> 64 with ReLU, 1000 rows, 83 %; five of 50 with tanh 55 % (64 lanes hold 50 features, and tanh takes
 * a fifth of the time); 4-32-16-4 with tanh, 10,000 rows, 37 % (tanh a third).
 */
#ifndef FASTNN_ROWS_H
#define FASTNN_ROWS_H

#include "base/denormals.h"
#include "base/threads.h"
#include "ops/update.h"
#include "parts/activation.h"
#include "plan/loss.h"
#include "plan/rows/product.h"
#include "plan/stages.h"

enum {
    ROWS_MOST_WIDTH = 512,              /* features of a layer */
    ROWS_MOST_WEIGHTS = 1 << 18,        /* of all layers */
    ROWS_LARGE = 1 << 16,               /* of all layers: with more, two copies and a partial gradient do not stay in L2 */
    ROWS_BLOCK = 64,                    /* rows of a block, where the batch has as many: what they need lies in L1 */
    ROWS_CHUNKS = 64, ROWS_CHUNKS_LARGE = 8,
    ROWS_STRIP = 24,                    /* rows that an activation follows the product in */
};
#define ROWS_ONE_BLOCK_FLOPS 2e6        /* with more, one block is cut in two */
#define ROWS_ONE_PACKED_FLOPS 8e6       /* the same where one thread has just packed the weights, which others have to fetch */

/* ---- shapes ---- */

INLINE i64 rows_padded(i64 features) { return round_up(features, VL); }
INLINE i64 rows_weights(const struct dense_rows *r) {
    i64 total = 0;
    for (i64 l = 0; l < r->layers; l++) total += r->layer[l].I * r->layer[l].O;
    return total;
}
INLINE int rows_in_training(const struct dense_rows *r) { return r->loss.kind != LOSS_NONE || r->layer[r->layers - 1].grad_y; }

/* Whether there is a grad_x of layer l, and whether its weight's gradient is made as (I, O). */
INLINE int rows_goes_on(const struct dense_rows *r, i64 l) { return l > 0 || r->layer[0].grad_x; }
INLINE int rows_is_transposed(const struct dense *d) { return d->I * rows_padded(d->O) < d->O * rows_padded(d->I); }
/* Whether the last layer has so few outputs that each is a dot product by itself. */
INLINE int rows_is_dotted(const struct dense_rows *r, i64 l) {
    return l > 0 && l == r->layers - 1 && r->layer[l].O <= VL / 4 && r->layer[l].I >= 2 * VL;
}
INLINE int rows_keeps_x(const struct dense *d) { return !activation_slope_from_y((int)d->activation, d->parameter); }

/* How the batch is cut: blocks of `rows` rows, `step` of them in a chunk */
struct rows_cut { i64 rows, blocks, step, chunks; };

INLINE struct rows_cut rows_cut(const struct dense_rows *r) {
    const i64 N = r->layer[0].N;
    const double flops = (rows_in_training(r) ? 6.0 : 2.0) * (double)rows_weights(r);
    const double most = rows_in_training(r) || r->layer[0].frozen ? ROWS_ONE_BLOCK_FLOPS : ROWS_ONE_PACKED_FLOPS;
    struct rows_cut cut = {.blocks = ceil_div(N, ROWS_BLOCK)};
    if (cut.blocks == 1 && N >= 16 && flops * (double)N > most) cut.blocks = 2;
    if (cut.blocks > 1 && cut.blocks < 8) cut.blocks = round_up(cut.blocks, 2);
    cut.rows = ceil_div(N, cut.blocks);
    if (cut.rows > PRODUCT_ROWS) cut.rows = round_up(cut.rows, PRODUCT_ROWS);
    cut.blocks = ceil_div(N, cut.rows);
    cut.step = ceil_div(cut.blocks, rows_weights(r) > ROWS_LARGE ? ROWS_CHUNKS_LARGE : ROWS_CHUNKS);
    cut.chunks = ceil_div(cut.blocks, cut.step);
    return cut;
}

/* ---- memory, in floats ---- */

/* A block's: each layer's y, and where backward needs it what it was before the activation; the input where vectors would read past
 * its end; two gradients. Between layers rows are padded; x and the last y, whose rows follow one another as outside, are followed by
 * room for a vector. */
struct rows_block_layout { i64 y[ROWS_MOST_LAYERS], kept[ROWS_MOST_LAYERS], x, grad[2], total; };

INLINE struct rows_block_layout rows_block_layout(const struct dense_rows *r, i64 rows) {
    struct rows_block_layout at = {};
    i64 widest = rows_padded(r->layer[0].I), end = 0;
    for (i64 l = 0; l < r->layers; l++) {
        const i64 floats = rows * rows_padded(r->layer[l].O);
        at.y[l] = at.kept[l] = end, end += floats;
        if (rows_keeps_x(&r->layer[l])) at.kept[l] = end, end += floats;
        widest = i64_max(widest, rows_padded(r->layer[l].O));
    }
    at.x = end, end += rows * rows_padded(r->layer[0].I);
    if (rows_in_training(r)) {
        at.grad[0] = end, end += rows * widest;
        at.grad[1] = end, end += rows * widest;
    }
    at.total = round_up(end, 16);
    return at;
}

/* A partial gradient: each layer's weight and bias. */
struct rows_gradient_layout { i64 weight[ROWS_MOST_LAYERS], bias[ROWS_MOST_LAYERS], total; };

INLINE struct rows_gradient_layout rows_gradient_layout(const struct dense_rows *r) {
    struct rows_gradient_layout at = {};
    i64 end = 0;
    for (i64 l = 0; l < r->layers; l++) {
        const struct dense *d = &r->layer[l];
        at.weight[l] = end, end += rows_is_transposed(d) ? d->I * rows_padded(d->O) : d->O * rows_padded(d->I);
        at.bias[l] = end, end += rows_padded(d->O);
    }
    at.total = round_up(end, 16);
    return at;
}

/* The work memory. */
struct rows_layout {
    i64 ready;                          /* an int: whether weights that never change are packed */
    i64 forward[ROWS_MOST_LAYERS];      /* weight^T (I, O) */
    i64 bias[ROWS_MOST_LAYERS];         /* (O,) */
    i64 backward[ROWS_MOST_LAYERS];     /* weight (O, I), where there is a grad_x or each output is a dot product */
    i64 sums;                           /* doubles: a block's sum of losses */
    i64 partial, partial_step;          /* the chunks' gradients, as struct joined has them */
    i64 blocks;                         /* all blocks, where forward and backward are two calls */
    i64 total;
};

INLINE struct rows_layout rows_layout(const struct dense_rows *r) {
    struct rows_layout at = {};
    const struct rows_cut cut = rows_cut(r);
    i64 end = 16;
    for (i64 l = 0; l < r->layers; l++) {
        const struct dense *d = &r->layer[l];
        at.forward[l] = end, end += round_up(d->I * rows_padded(d->O), 16);
        at.bias[l] = end, end += round_up(rows_padded(d->O), 16);
        if ((rows_in_training(r) && rows_goes_on(r, l)) || rows_is_dotted(r, l)) at.backward[l] = end, end += round_up(d->O * rows_padded(d->I), 16);
    }
    if (rows_in_training(r)) {
        at.sums = end, end += round_up(2 * cut.blocks, 16);
        at.partial = end, at.partial_step = joined_floats(rows_gradient_layout(r).total, cut.step), end += cut.chunks * at.partial_step;
        if (!r->loss.kind) at.blocks = end, end += cut.blocks * rows_block_layout(r, cut.rows).total;
    }
    at.total = end + VL;
    return at;
}

SMALL i64 rows_work_bytes(const struct dense_rows *r) { return rows_layout(r).total * (i64)sizeof(float); }

/* Layers that this is the way for; elsewhere a layer by itself is cut better. Weights are transposed first, which has to pay: once
 * where they never change, else at each call, which takes more rows the more weights there are. */
SMALL i64 rows_supports(const struct dense_rows *r, i64 training) {
    for (i64 l = 0; l < r->layers; l++)
        if (i64_max(r->layer[l].I, r->layer[l].O) > ROWS_MOST_WIDTH) return 0;
    const i64 weights = rows_weights(r);
    const int large = weights > ROWS_LARGE / 2;
    const i64 least = training ? weights / (large ? 350 : 700) : !r->layer[0].frozen ? weights / 1000 : large ? 2 : 1;
    return r->layers > 1 && weights <= ROWS_MOST_WEIGHTS && r->layer[0].N >= least;
}

/* ---- parts of the way ---- */

struct rows_task {
    const struct dense_rows *r;
    struct program *program;
    struct rows_cut cut;
    struct rows_layout at;
    struct rows_block_layout block;
    struct rows_gradient_layout gradient;
    float *work;
    const float *x;                     /* (N, I) */
    int forward, backward;              /* what of a block is to be done */
    int failed;                         /* enum program_status */
};

INLINE struct rows_task rows_task(const struct dense_rows *r, struct program *program) {
    const struct rows_cut cut = rows_cut(r);
    return (struct rows_task){.r = r, .program = program, .cut = cut, .at = rows_layout(r), .block = rows_block_layout(r, cut.rows),
                              .gradient = rows_gradient_layout(r), .work = r->work, .x = r->layer[0].x ? r->layer[0].x : program->input};
}

/* Floats from row to row of layer l's y */
INLINE i64 rows_step_of(const struct dense_rows *r, i64 l) { return l < r->layers - 1 ? rows_padded(r->layer[l].O) : r->layer[l].O; }

/* dst (rows, width) <- src (rows, padded), one after the other: whole vectors, but none past the last row. dst may be src. */
INLINE void rows_compact(float *dst, i64 rows, i64 width, const float *src, i64 padded) {
    if (width == padded && dst == src) return;
    for (i64 n = 0; n < rows; n++) for (i64 j = 0; j < width; j += VL) {
        const i64 left = (rows - n) * width - j;
        v_store_lanes(dst + n * width + j, v_load(src + n * padded + j), left >= VL ? VL : i64_min(left, width - j));
    }
}

/* What the products read of the weights, padded with zeros: the work memory was zero at first. */
static void rows_pack(const struct rows_task *t) {
    for (i64 l = 0; l < t->r->layers; l++) {
        const struct dense *d = &t->r->layer[l];
        const i64 I = d->I, O = d->O, padded = rows_padded(O);
        float *forward = t->work + t->at.forward[l];
        for (i64 i = 0; i < I; i += VL) for (i64 o = 0; o < O; o += VL) {
            const i64 lanes = i64_min(VL, I - i), rows = i64_min(VL, O - o);
            vf tile[VL];
            UNROLL for (int j = 0; j < VL; j++) tile[j] = j < rows ? v_load_lanes(d->weight + (o + j) * I + i, lanes, 0) : (vf){0};
            v_transpose(tile);
            for (i64 j = 0; j < lanes; j++) v_store(forward + (i + j) * padded + o, tile[j]);
        }
        if (d->bias) memcpy(t->work + t->at.bias[l], d->bias, (size_t)O * sizeof(float));
        if (t->at.backward[l]) for (i64 o = 0; o < O; o++) memcpy(t->work + t->at.backward[l] + o * rows_padded(I), d->weight + o * I, (size_t)I * sizeof(float));
    }
}

/* Layer l of a block: y from x (rows, x_step), a strip at a time. Where the product takes all columns in one panel, and each row after
 * those before, the last layer's rows are written one over the end of the other. */
static void rows_layer_forward(const struct rows_task *t, i64 l, i64 rows, const float *x, i64 x_step, float *block) {
    const struct dense *d = &t->r->layer[l];
    const i64 padded = rows_padded(d->O), step = padded <= PRODUCT_NV * VL ? rows_step_of(t->r, l) : padded;
    float *y = block + t->block.y[l], *before = block + t->block.kept[l];
    if (rows_is_dotted(t->r, l)) {
        const i64 I = rows_padded(d->I);
        for (i64 o = 0; o < d->O; o++)
            product_dots(rows, d->I, x, x_step, t->work + t->at.backward[l] + o * I, t->work[t->at.bias[l] + o], before + o, d->O);
        if (d->activation) activate((int)d->activation, d->parameter, rows * d->O, before, y);
        return;
    }
    const struct product p = {rows, padded, d->I, x, x_step, 1, t->work + t->at.forward[l], padded, t->work + t->at.bias[l], 0, before, step};
    for (i64 m = 0, end; m < rows; m = end) {
        end = d->activation ? i64_min(rows, m + ROWS_STRIP) : rows;
        product_rows(&p, m, end);
        if (d->activation) activate((int)d->activation, d->parameter, (end - m) * step, before + m * step, y + m * step);
    }
    if (step == rows_step_of(t->r, l)) return;
    rows_compact(before, rows, d->O, before, step);
    if (y != before) rows_compact(y, rows, d->O, y, step);
}

/* sums (padded,) = or += the columns' sums of grad (rows, step) */
INLINE void rows_column_sums(i64 rows, i64 padded, const float *grad, i64 step, float *sums, int add) {
    for (i64 o = 0; o < padded; o += VL) {
        vf sum[4] = {};
        i64 m = 0;
        for (; m + 4 <= rows; m += 4) UNROLL for (int j = 0; j < 4; j++) sum[j] += v_load(grad + (m + j) * step + o);
        for (; m < rows; m++) sum[0] += v_load(grad + m * step + o);
        const vf total = (sum[0] + sum[1]) + (sum[2] + sum[3]);
        v_store(sums + o, add ? v_load(sums + o) + total : total);
    }
}

/* Backward of a block, from the gradient of the last layer's y: into gradients at `partial`, which it is added to if `add`. */
static void rows_block_backward(const struct rows_task *t, i64 n0, i64 rows, const float *x, i64 x_step, float *block, float *partial, int add) {
    const struct dense_rows *r = t->r;
    float *grad = block + t->block.grad[0], *next = block + t->block.grad[1];
    const struct dense *last = &r->layer[r->layers - 1];
    activate_backward((int)last->activation, last->parameter, rows * last->O, grad, block + t->block.kept[r->layers - 1], grad);
    for (i64 l = r->layers - 1; l >= 0; l--) {
        const struct dense *d = &r->layer[l];
        const i64 I = rows_padded(d->I), O = rows_padded(d->O), step = rows_step_of(r, l), in_step = l ? I : x_step;
        const float *in = l ? block + t->block.y[l - 1] : x;
        float *weight = partial + t->gradient.weight[l];
        const float *from = add ? weight : NULL;
        rows_column_sums(rows, O, grad, step, partial + t->gradient.bias[l], add);
        const struct product straight = {d->O, I, rows, grad, 1, step, in, in_step, from, I, weight, I};
        const struct product transposed = {d->I, O, rows, in, 1, in_step, grad, step, from, O, weight, O};
        const struct product *p = rows_is_transposed(d) ? &transposed : &straight;
        product_rows(p, 0, p->M);
        if (!rows_goes_on(r, l)) break;
        const struct product back = {rows, I, d->O, grad, step, 1, t->work + t->at.backward[l], I, NULL, 0, next, I};
        product_rows(&back, 0, rows);
        if (l) {
            const struct dense *before = d - 1;
            activate_backward((int)before->activation, before->parameter, rows * I, next, block + t->block.kept[l - 1], next);
        } else {
            rows_compact(d->grad_x + n0 * d->I, rows, d->I, next, I);
        }
        float *const swapped = grad;
        grad = next, next = swapped;
    }
}

/* Task: the blocks of a chunk, one after the other. */
static void rows_chunk(void *context, i64 chunk) {
    struct rows_task *t = context;
    const struct dense_rows *r = t->r;
    const struct dense *first = &r->layer[0], *last = &r->layer[r->layers - 1];
    const i64 I = first->I, O = last->O, begin = chunk * t->cut.step, end = i64_min(begin + t->cut.step, t->cut.blocks);
    struct joined gradient = {};
    float *scratch = t->at.blocks ? NULL : fastnn_scratch(SCRATCH_DENSE, sizeof(float) * (size_t)t->block.total);
    if (!scratch && !t->at.blocks) {
        t->failed = PROGRAM_NO_MEMORY;
        return;
    }
    if (t->backward) gradient = joined_at(t->work + t->at.partial + chunk * t->at.partial_step, t->gradient.total, t->cut.step);
    for (i64 b = begin; b < end && !fastnn_stopped(); b++) {
        const i64 n0 = b * t->cut.rows, rows = i64_min(t->cut.rows, first->N - n0);
        float *block = scratch ? scratch : t->work + t->at.blocks + b * t->block.total, *y = block + t->block.y[r->layers - 1];
        float *grad = block + t->block.grad[0];
        const float *x = t->x + n0 * I;
        if (t->backward && I % VL) x = memcpy(block + t->block.x, x, (size_t)(rows * I) * sizeof(float));
        if (t->forward) {
            for (i64 l = 0; l < r->layers; l++)
                rows_layer_forward(t, l, rows, l ? block + t->block.y[l - 1] : x, l ? rows_padded(r->layer[l].I) : I, block);
            memcpy(last->y + n0 * O, y, (size_t)(rows * O) * sizeof(float));
        }
        if (!t->backward) continue;
        if (!t->forward) {
            memcpy(grad, last->grad_y + n0 * O, (size_t)(rows * O) * sizeof(float));
        } else if (loss_takes(&r->loss, y, t->program->target, n0, n0 + rows)) {
            ((double *)(t->work + t->at.sums))[b] = loss_rows(&r->loss, t->program->target, n0, n0 + rows, y, grad);
        } else {
            t->failed = PROGRAM_REFUSED;
            return;
        }
        const uint64_t control = without_denormals();
        rows_block_backward(t, n0, rows, x, I, block, gradient.part, b > begin && gradient.added > 0);
        set_float_control(control);
        joined_added(&gradient, 1);
    }
    if (t->backward) joined_end(&gradient);
}

/* ---- the gradients, in order of the chunks ---- */

/* Task: VL rows of a layer's weight, and as much of its bias. */
static void rows_finish(void *context, i64 index) {
    const struct rows_task *t = context;
    i64 l = 0;
    for (; index >= ceil_div(t->r->layer[l].O, VL); l++) index -= ceil_div(t->r->layer[l].O, VL);
    const struct dense *d = &t->r->layer[l];
    const i64 o = index * VL, rows = i64_min(VL, d->O - o), I = d->I, step = t->at.partial_step;
    const int transposed = rows_is_transposed(d);
    const float *weight = t->work + t->at.partial + t->gradient.weight[l], *bias = t->work + t->at.partial + t->gradient.bias[l];
    float tile[VL * ROWS_MOST_WIDTH + VL] __attribute__((aligned(64)));
    for (i64 j = 0; j < (transposed ? I : rows); j++) for (i64 i = 0; i < (transposed ? VL : I); i += VL) {
        const float *from = transposed ? weight + j * rows_padded(d->O) + o : weight + (o + j) * rows_padded(I) + i;
        vf sum = v_load(from);
        for (i64 c = 1; c < t->cut.chunks; c++) sum += v_load(from + c * step);
        if (!transposed) v_store(tile + j * I + i, sum);
        else UNROLL for (int k = 0; k < VL; k++) if (k < rows) tile[k * I + j] = sum[k];
    }
    vf sum = v_load(bias + o);
    for (i64 c = 1; c < t->cut.chunks; c++) sum += v_load(bias + o + c * step);
    if (d->optimizer) {
        const struct update_numbers numbers = update_numbers(d->optimizer, d->weight_state);
        update_rows(&numbers, 1, rows * I, tile, 0, d->weight, d->weight_state, o * I, 0);
    } else if (d->grad_weight) {
        memcpy(d->grad_weight + o * I, tile, (size_t)(rows * I) * sizeof(float));
    }
    v_store(tile, sum);
    if (d->bias && d->bias_optimizer) {
        const struct update_numbers numbers = update_numbers(d->bias_optimizer, d->bias_state);
        update_rows(&numbers, 1, rows, tile, 0, d->bias, d->bias_state, o, 0);
    } else if (d->grad_bias) {
        memcpy(d->grad_bias + o, tile, (size_t)rows * sizeof(float));
    }
}

/* ---- the stage: forward, with a loss also the way back; backward, without one also the way back ---- */

enum { ROWS_MOVE_FLOPS = 700 };     /* that take as long as a weight and its gradients on their way from one core to another */

INLINE int rows_run(struct rows_task *t) {
    const double weights = (double)rows_weights(t->r), pass = 2.0 * (double)t->r->layer[0].N * weights;
    fastnn_parallel(t->cut.chunks, pass * (t->forward + 2 * t->backward) - ROWS_MOVE_FLOPS * weights * t->backward, rows_chunk, t);
    return t->failed;
}

KERNEL int rows_forward(const void *arguments, struct program *program) {
    const struct dense_rows *r = arguments;
    struct rows_task t = rows_task(r, program);
    int32_t *ready = (int32_t *)t.work;
    if (!*ready) rows_pack(&t);
    *ready = (int32_t)r->layer[0].frozen;
    t.forward = 1, t.backward = r->loss.kind != LOSS_NONE;
    const int status = rows_run(&t);
    if (status || !t.backward) return status;
    double total = 0;
    for (i64 b = 0; b < t.cut.blocks; b++) total += ((const double *)(t.work + t.at.sums))[b];
    return loss_end(&r->loss, program, total);
}

KERNEL int rows_backward(const void *arguments, struct program *program) {
    const struct dense_rows *r = arguments;
    struct rows_task t = rows_task(r, program);
    if (!r->loss.kind) {
        t.backward = 1;
        const int status = rows_run(&t);
        if (status) return status;
    }
    i64 tasks = 0;
    for (i64 l = 0; l < r->layers; l++) tasks += ceil_div(r->layer[l].O, VL);
    fastnn_parallel(tasks, (double)(t.cut.chunks + 40) * (double)rows_weights(r), rows_finish, &t);
    return PROGRAM_DONE;
}

#endif
