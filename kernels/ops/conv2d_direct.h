/* Convolution by direct loops: no im2col, no matmul.
 *
 * A padded channel plane is a flat run of floats, and a kernel tap is a shift of it. So, over flat positions p,
 *
 *   out[m][p] = sum over k of w[k][m] * src[offset[k] + p]          k = (channel, kernel row, kernel column)
 *
 * is a register tile of MR rows x NV vectors that loads unaligned runs of src and broadcasts w. Positions between the end
 * of one output row and the start of the next are computed too and thrown away; rows are short of full by kernel - 1 only.
 *
 * K runs in blocks of a few hundred, all rows m for one block before the next: the source lines of a block stay in L1 while
 * the weights of every m pass by, and partial sums wait in a buffer.
 *
 * (a) Stride s: the padded plane is split into s x s phases (every s-th row and column), in which a tap is a shift again.
 * (b) Input gradient: the same sweep over the zero-padded output gradient, one sweep for each phase of the input, with the
 *     taps that reach this phase and the weights transposed.
 * (c) Weight gradient: the sum runs along p instead: dW[m][k] = sum over p of grad[m][p] * src[offset[k] + p], with grad laid out
 *     at the pitch of src and zeros in the gaps; small images are stacked to make long runs. The batch is cut into at most CONV_PARTS runs of images by its size alone,
 *     each run has partial sums of its own, and these are added in order: the same bits for any number of threads.
 */
#ifndef FASTNN_CONV2D_DIRECT_H
#define FASTNN_CONV2D_DIRECT_H

#include "base/simd.h"
#include "table.h"
#include "base/threads.h"

enum {
    CONV_PARTS = 16,                /* runs of images with partial weight gradients of their own */
    CONV_L1_FLOATS = 6 << 10,       /* source of a chunk and a block of K: 24 KiB of L1 */
    CONV_KC = 144,                  /* a block of K: whole channels, about this many taps */
    CONV_MAX_CHANNELS = 96,         /* and not more channels: a 1x1 kernel reads every line but once */
    CONV_GRAD_P = 1024,             /* positions of a weight-gradient chunk */
    CONV_TASKS = 8,                 /* a smaller batch is cut along output channels too, if there is work enough */
    CONV_MAX_NV = 8,
};

/* Rows of the register tile, by vector width; NV vectors go with each (conv_sweep_rows). */
#if VL == 16
static const int conv_tile_rows[] = {8, 6, 4, 2, 1};
static const double conv_tile_cost[] = {1.0, 1.0, 1.05, 1.3, 2.0};
enum { CONV_GRAD_MR = 8, CONV_GRAD_NK = 3 };
#else
static const int conv_tile_rows[] = {4, 6, 2, 1};
static const double conv_tile_cost[] = {1.0, 1.0, 1.3, 2.0};
enum { CONV_GRAD_MR = 4, CONV_GRAD_NK = 3 };
#endif

INLINE int conv_pick_rows(i64 M) {
    int best = 1;
    double best_cost = 1e300;
    for (size_t i = 0; i < sizeof conv_tile_rows / sizeof *conv_tile_rows; i++) {
        double cost = (double)round_up(M, conv_tile_rows[i]) * conv_tile_cost[i];
        if (cost < best_cost) best_cost = cost, best = conv_tile_rows[i];
    }
    return best;
}

/* Runs of images with partial weight gradients of their own; fewer where these would outgrow 16 MiB. */
INLINE i64 conv_parts(const struct conv2d_shape *s, i64 K) {
    return i64_max(1, i64_min(i64_min(s->N, CONV_PARTS), (4 << 20) / (s->O * (K + 1))));
}

/* Tasks an image is cut into, of whole blocks of rows: every one makes its own padded copy of the image. */
INLINE i64 conv_cuts(i64 N, i64 blocks, double flops) {
    return N >= CONV_TASKS || flops < 4e6 ? 1 : i64_min(blocks, ceil_div(CONV_TASKS, N));
}

/* ---- planes ---- */

/* Where channel planes lie in scratch: [channel][stride_h][stride_w][image][rows][pitch], top and left zero padding inside. */
struct planes {
    i64 rows, pitch, stride_h, stride_w, top, left;
    i64 images;                     /* stacked on one another */
    i64 plane;                      /* floats a channel */
};

INLINE i64 planes_floats(const struct planes *g, i64 channels) { return channels * g->plane + CONV_MAX_NV * VL; }

/* The planes of an input that a forward convolution or a weight gradient reads. */
INLINE struct planes input_planes(const struct conv2d_shape *s) {
    i64 high = (s->OH - 1) * s->stride_h + (s->kh - 1) * s->dilation_h + 1;
    i64 wide = (s->OW - 1) * s->stride_w + (s->kw - 1) * s->dilation_w + 1;
    struct planes g = {ceil_div(high, s->stride_h), ceil_div(wide, s->stride_w), s->stride_h, s->stride_w, s->pad_h, s->pad_w, 1, 0};
    g.plane = g.rows * g.pitch * g.stride_h * g.stride_w;
    return g;
}

/* image 0 .. images-1 of dst <- src (channels, H, W); what surrounds it must be zero already */
static void fill_planes(float *restrict dst, const struct planes *g, i64 image, const float *restrict src, i64 channels, i64 H, i64 W) {
    for (i64 c = 0; c < channels; c++) {
        for (i64 a = 0; a < g->stride_h; a++) for (i64 b = 0; b < g->stride_w; b++) {
            float *phase = dst + c * g->plane + ((a * g->stride_w + b) * g->images + image) * g->rows * g->pitch;
            /* columns q of the phase that lie inside the image: 0 <= q*stride + b - left < W */
            i64 q0 = i64_max(0, ceil_div(g->left - b, g->stride_w));
            i64 q1 = i64_min(g->pitch, W + g->left - b > 0 ? ceil_div(W + g->left - b, g->stride_w) : 0);
            for (i64 r = 0; r < g->rows; r++) {
                i64 h = r * g->stride_h + a - g->top;
                if (h < 0 || h >= H || q1 <= q0) continue;
                const float *row = src + (c * H + h) * W + q0 * g->stride_w + b - g->left;
                float *to = phase + r * g->pitch + q0;
                if (g->stride_w == 1) memcpy(to, row, sizeof(float) * (size_t)(q1 - q0));
                else for (i64 q = 0; q < q1 - q0; q++) to[q] = row[q * g->stride_w];
            }
        }
    }
}

/* ---- the sweep ---- */

struct sweep {                      /* out (M, rows, cols) = bias + sum over K of weight (K, M) * shifted src */
    i64 M, K, rows, cols, pitch;
    i64 chunk, k_block;             /* rows and entries of K at a time */
    int MR;
    const float *weight;            /* (ceil(M/MR), K, MR) */
    const int32_t *offset;          /* (K,) */
    const float *src;               /* at the position of the first row and column */
    const float *bias;              /* (M,) or NULL */
    float *out; i64 out_plane, out_row, out_col;
};

/* out (MR, NV vectors) = or += sum over K entries */
INLINE void conv_tile(const int MR, const int NV, int first, i64 K, const float *restrict w, const int32_t *restrict offset,
                      const float *restrict src, float *restrict out, i64 out_pitch) {
    vf acc[8][CONV_MAX_NV];
    UNROLL for (int i = 0; i < MR; i++) UNROLL for (int j = 0; j < NV; j++) acc[i][j] = (vf){0};
    _Pragma("GCC unroll 2") for (i64 k = 0; k < K; k++, w += MR) {
        const float *at = src + offset[k];
        vf v[CONV_MAX_NV];
        UNROLL for (int j = 0; j < NV; j++) v[j] = v_load(at + j * VL);
        UNROLL for (int i = 0; i < MR; i++) {
            vf wv = v_set1(w[i]);
            UNROLL for (int j = 0; j < NV; j++) acc[i][j] += wv * v[j];
        }
    }
    if (first) UNROLL for (int i = 0; i < MR; i++) UNROLL for (int j = 0; j < NV; j++)
        v_store(out + i * out_pitch + j * VL, acc[i][j]);
    else UNROLL for (int i = 0; i < MR; i++) UNROLL for (int j = 0; j < NV; j++)
        v_store(out + i * out_pitch + j * VL, v_load(out + i * out_pitch + j * VL) + acc[i][j]);
}

/* One block of K for MR rows and P positions. */
struct row_block {
    int first;
    i64 K, P, out_pitch;
    const float *weight, *src;
    const int32_t *offset;
    float *out;
};

/* tiles of NV vectors, then one narrower tile */
INLINE void conv_row_block(const int MR, const int NV, const struct row_block *b) {
    i64 p = 0;
#define TILE(nv) conv_tile(MR, nv, b->first, b->K, b->weight, b->offset, b->src + p, b->out + p, b->out_pitch)
    for (; p + NV * VL <= b->P; p += NV * VL) TILE(NV);
    i64 left = ceil_div(b->P - p, VL);
    if (left <= 0) return;
    if (left == 1) TILE(1);
    else if (left == 2) TILE(2);
    else if (left <= 4 && NV > 4) TILE(4);
    else TILE(NV);
#undef TILE
}

static void conv_rows(int MR, const struct row_block *b) {
    switch (MR) {
#if VL == 16
    case 8: conv_row_block(8, 3, b); break;
    case 6: conv_row_block(6, 4, b); break;
    case 4: conv_row_block(4, 6, b); break;
    case 2: conv_row_block(2, 8, b); break;
#else
    case 6: conv_row_block(6, 2, b); break;
    case 4: conv_row_block(4, 3, b); break;
    case 2: conv_row_block(2, 5, b); break;
#endif
    default: conv_row_block(1, 8, b); break;
    }
}

/* Cuts a sweep over `channels` planes: channels * taps = K. */
INLINE void sweep_cut(struct sweep *s, i64 channels, const struct planes *g, i64 reach) {
    i64 taps = i64_max(1, s->K / channels);
    i64 block = i64_max(1, i64_min(i64_min(channels, CONV_MAX_CHANNELS), CONV_KC / taps));
    block = ceil_div(channels, ceil_div(channels, block));
    s->k_block = block * taps;
    i64 fit = CONV_L1_FLOATS / (block * g->pitch * g->stride_h * g->stride_w) - reach;
    i64 floor = ceil_div(6 * VL, g->pitch);                 /* short runs would waste the last tile */
    i64 chunk = i64_min(s->rows, i64_max(i64_max(fit, floor), 1));
    s->chunk = ceil_div(s->rows, ceil_div(s->rows, chunk));
}

INLINE i64 sweep_out_pitch(i64 chunk, i64 pitch) { return round_up(chunk * pitch, VL) + CONV_MAX_NV * VL; }

/* rows [m0, m1) of out, m0 a multiple of MR; buffer (m1 - m0 rounded up to MR, out_pitch) */
static void conv_sweep(const struct sweep *s, i64 m0, i64 m1, float *buffer) {
    i64 out_pitch = sweep_out_pitch(s->chunk, s->pitch);
    for (i64 r0 = 0; r0 < s->rows; r0 += s->chunk) {
        i64 rows = i64_min(s->chunk, s->rows - r0);
        struct row_block b = {.P = (rows - 1) * s->pitch + s->cols, .out_pitch = out_pitch, .src = s->src + r0 * s->pitch};
        i64 k = 0;
        do {                                                /* once even for K = 0, a phase that no tap reaches */
            b.first = k == 0;
            b.K = i64_min(s->k_block, s->K - k);
            b.offset = s->offset + k;
            for (i64 m = m0; m < m1; m += s->MR) {
                b.weight = s->weight + m * s->K + k * s->MR;
                b.out = buffer + (m - m0) * out_pitch;
                conv_rows(s->MR, &b);
            }
            k += b.K;
        } while (k < s->K);
        for (i64 m = m0; m < m1; m++) for (i64 r = 0; r < rows; r++) {
            float bias = s->bias ? s->bias[m] : 0.0f;
            const float *from = buffer + (m - m0) * out_pitch + r * s->pitch;
            float *to = s->out + m * s->out_plane + (r0 + r) * s->out_row;
            if (s->out_col == 1) for (i64 c = 0; c < s->cols; c++) to[c] = from[c] + bias;
            else for (i64 c = 0; c < s->cols; c++) to[c * s->out_col] = from[c] + bias;
        }
    }
}

/* ---- forward ---- */

struct conv_forward {
    const struct conv2d_shape *s;
    struct planes planes;
    const float *x, *bias;
    float *y;
    float *weight;                  /* (groups, blocks, K, MR) */
    int32_t *offset;
    i64 K, blocks, cuts;            /* cuts: tasks an image */
    int MR;
    int failed;
};

static void conv_forward_image(void *context, i64 index) {
    struct conv_forward *t = context;
    const struct conv2d_shape *s = t->s;
    i64 n = index / t->cuts, cut = index % t->cuts, C = s->C / s->groups, O = s->O / s->groups;
    struct sweep w = {.M = O, .K = t->K, .rows = s->OH, .cols = s->OW, .pitch = t->planes.pitch, .MR = t->MR,
                      .offset = t->offset, .out_plane = s->OH * s->OW, .out_row = s->OW, .out_col = 1};
    sweep_cut(&w, C, &t->planes, (s->kh - 1) * s->dilation_h / s->stride_h);
    i64 per_cut = ceil_div(t->blocks, t->cuts) * t->MR, m0 = i64_min(O, cut * per_cut), m1 = i64_min(O, m0 + per_cut);
    if (m0 >= m1) return;
    float *image = fastnn_scratch(SCRATCH_CONV_IMAGE, sizeof(float) * (size_t)planes_floats(&t->planes, C));
    float *buffer = fastnn_scratch(SCRATCH_CONV_OUTPUT, sizeof(float) * (size_t)(per_cut * sweep_out_pitch(w.chunk, w.pitch)));
    if (!image || !buffer) { t->failed = 1; return; }
    memset(image, 0, sizeof(float) * (size_t)planes_floats(&t->planes, C));
    for (i64 g = 0; g < s->groups; g++) {
        fill_planes(image, &t->planes, 0, t->x + (n * s->C + g * C) * s->H * s->W, C, s->H, s->W);
        w.src = image;
        w.weight = t->weight + g * t->blocks * t->MR * t->K;
        w.bias = t->bias ? t->bias + g * O : NULL;
        w.out = t->y + (n * s->O + g * O) * s->OH * s->OW;
        conv_sweep(&w, m0, m1, buffer);
    }
}

/* offset (K,) of every (channel, tap) in input planes */
static void input_offsets(int32_t *offset, const struct conv2d_shape *s, const struct planes *g) {
    for (i64 c = 0; c < s->C / s->groups; c++) for (i64 i = 0; i < s->kh; i++) for (i64 j = 0; j < s->kw; j++) {
        i64 r = i * s->dilation_h, q = j * s->dilation_w;
        i64 phase = r % s->stride_h * s->stride_w + q % s->stride_w;
        *offset++ = (int32_t)(c * g->plane + phase * g->images * g->rows * g->pitch + r / s->stride_h * g->pitch + q / s->stride_w);
    }
}

KERNEL int conv2d_forward_direct(const struct conv2d_shape *s, const float *x, const float *weight, const float *bias, float *y) {
    i64 O = s->O / s->groups, K = s->C / s->groups * s->kh * s->kw;
    struct conv_forward t = {.s = s, .planes = input_planes(s), .x = x, .bias = bias, .y = y, .K = K, .MR = conv_pick_rows(O)};
    t.blocks = ceil_div(O, t.MR);
    double flops = 2.0 * (double)(s->N * s->O * s->OH * s->OW * K);
    t.cuts = conv_cuts(s->N, t.blocks, flops);
    i64 packed = s->groups * t.blocks * t.MR * K;
    t.weight = fastnn_scratch(SCRATCH_CONV_WEIGHT, sizeof(float) * (size_t)(packed + K));
    if (!t.weight) return -1;
    t.offset = (int32_t *)(t.weight + packed);
    input_offsets(t.offset, s, &t.planes);
    for (i64 g = 0; g < s->groups; g++) for (i64 m = 0; m < t.blocks * t.MR; m++) for (i64 k = 0; k < K; k++)
        t.weight[((g * t.blocks + m / t.MR) * K + k) * t.MR + m % t.MR] = m < O ? weight[(g * O + m) * K + k] : 0.0f;
    fastnn_parallel(s->N * t.cuts, flops, conv_forward_image, &t);
    return t.failed ? -1 : 0;
}

/* ---- input gradient ---- */

struct conv_phase { i64 taps; i64 first; };         /* taps that reach a phase of the input; where its K entries begin */

struct conv_backward_input {
    const struct conv2d_shape *s;
    struct planes planes;           /* of the output gradient */
    const float *grad;
    float *grad_x;
    float *weight;                  /* for every group and phase (blocks, K of the phase, MR) */
    int32_t *offset;
    i64 blocks, cuts, K;            /* K = O/groups * kh * kw over all phases */
    int MR;
    int failed;
};

/* taps (i, j) with i*dilation = a and j*dilation = b modulo the stride; offsets and packed weights are written if wanted */
static i64 phase_taps(const struct conv_backward_input *t, i64 a, i64 b, i64 group, const float *weight, float *packed, int32_t *offset) {
    const struct conv2d_shape *s = t->s;
    i64 C = s->C / s->groups, O = s->O / s->groups, taps = 0, top = t->planes.top, left = t->planes.left;
    for (i64 i = 0; i < s->kh; i++) for (i64 j = 0; j < s->kw; j++)
        taps += i * s->dilation_h % s->stride_h == a && j * s->dilation_w % s->stride_w == b;
    if (!packed) return taps;
    i64 k = 0, K = taps * O;
    for (i64 o = 0; o < O; o++) for (i64 i = 0; i < s->kh; i++) for (i64 j = 0; j < s->kw; j++) {
        if (i * s->dilation_h % s->stride_h != a || j * s->dilation_w % s->stride_w != b) continue;
        offset[k] = (int32_t)(o * t->planes.plane + (top - i * s->dilation_h / s->stride_h) * t->planes.pitch + left -
                              j * s->dilation_w / s->stride_w);
        for (i64 c = 0; c < t->blocks * t->MR; c++)
            packed[(c / t->MR * K + k) * t->MR + c % t->MR] =
                c < C ? weight[(((group * O + o) * C + c) * s->kh + i) * s->kw + j] : 0.0f;
        k++;
    }
    return taps;
}

static void conv_backward_input_image(void *context, i64 index) {
    struct conv_backward_input *t = context;
    const struct conv2d_shape *s = t->s;
    i64 n = index / t->cuts, cut = index % t->cuts, C = s->C / s->groups, O = s->O / s->groups;
    i64 reach = (s->kh - 1) * s->dilation_h / s->stride_h;
    struct sweep w = {.M = C, .pitch = t->planes.pitch, .MR = t->MR, .out_plane = s->H * s->W,
                      .out_row = s->stride_h * s->W, .out_col = s->stride_w};
    i64 per_cut = ceil_div(t->blocks, t->cuts) * t->MR, m0 = i64_min(C, cut * per_cut), m1 = i64_min(C, m0 + per_cut);
    if (m0 >= m1) return;
    float *image = fastnn_scratch(SCRATCH_CONV_IMAGE, sizeof(float) * (size_t)planes_floats(&t->planes, O));
    if (!image) { t->failed = 1; return; }
    memset(image, 0, sizeof(float) * (size_t)planes_floats(&t->planes, O));
    for (i64 g = 0; g < s->groups; g++) {
        fill_planes(image, &t->planes, 0, t->grad + (n * s->O + g * O) * s->OH * s->OW, O, s->OH, s->OW);
        const float *weight = t->weight + g * t->K * t->blocks * t->MR;
        const int32_t *offset = t->offset;
        for (i64 a = 0; a < s->stride_h; a++) for (i64 b = 0; b < s->stride_w; b++) {
            w.K = phase_taps(t, a, b, g, NULL, NULL, NULL) * O;
            /* phase rows rq with 0 <= rq*stride + a - pad < H */
            i64 r0 = s->pad_h > a ? ceil_div(s->pad_h - a, s->stride_h) : 0;
            i64 c0 = s->pad_w > b ? ceil_div(s->pad_w - b, s->stride_w) : 0;
            i64 h0 = r0 * s->stride_h + a - s->pad_h, w0 = c0 * s->stride_w + b - s->pad_w;
            w.rows = h0 < s->H ? ceil_div(s->H - h0, s->stride_h) : 0;
            w.cols = w0 < s->W ? ceil_div(s->W - w0, s->stride_w) : 0;
            if (w.rows > 0 && w.cols > 0) {
                sweep_cut(&w, O, &t->planes, reach);
                float *buffer = fastnn_scratch(SCRATCH_CONV_OUTPUT, sizeof(float) * (size_t)(per_cut * sweep_out_pitch(w.chunk, w.pitch)));
                if (!buffer) { t->failed = 1; return; }
                w.src = image + r0 * w.pitch + c0;
                w.weight = weight;
                w.offset = offset;
                w.out = t->grad_x + (n * s->C + g * C) * s->H * s->W + h0 * s->W + w0;
                conv_sweep(&w, m0, m1, buffer);
            }
            weight += w.K * t->blocks * t->MR;
            offset += w.K;
        }
    }
}

KERNEL int conv2d_backward_input_direct(const struct conv2d_shape *s, const float *grad, const float *weight, float *grad_x) {
    i64 C = s->C / s->groups, O = s->O / s->groups;
    struct conv_backward_input t = {.s = s, .grad = grad, .grad_x = grad_x, .K = O * s->kh * s->kw, .MR = conv_pick_rows(C)};
    i64 top = (s->kh - 1) * s->dilation_h / s->stride_h, left = (s->kw - 1) * s->dilation_w / s->stride_w;
    t.planes = (struct planes){(s->H - 1 + s->pad_h) / s->stride_h + top + 1, (s->W - 1 + s->pad_w) / s->stride_w + left + 1,
                               1, 1, top, left, 1, 0};
    t.planes.plane = t.planes.rows * t.planes.pitch;
    t.blocks = ceil_div(C, t.MR);
    double flops = 2.0 * (double)(s->N * s->C * s->OH * s->OW * t.K);
    t.cuts = conv_cuts(s->N, t.blocks, flops);
    i64 packed = s->groups * t.K * t.blocks * t.MR;
    t.weight = fastnn_scratch(SCRATCH_CONV_WEIGHT, sizeof(float) * (size_t)(packed + t.K));
    if (!t.weight) return -1;
    t.offset = (int32_t *)(t.weight + packed);
    for (i64 g = 0; g < s->groups; g++) {
        float *to = t.weight + g * t.K * t.blocks * t.MR;
        int32_t *offset = t.offset;
        for (i64 a = 0; a < s->stride_h; a++) for (i64 b = 0; b < s->stride_w; b++) {
            i64 K = phase_taps(&t, a, b, g, weight, to, offset) * O;
            to += K * t.blocks * t.MR;
            offset += K;
        }
    }
    fastnn_parallel(s->N * t.cuts, flops, conv_backward_input_image, &t);
    return t.failed ? -1 : 0;
}

#endif
