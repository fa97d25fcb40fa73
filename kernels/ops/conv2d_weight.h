/* Weight gradient of a convolution by direct loops: design note (c) of conv2d_direct.h. */
#ifndef FASTNN_CONV2D_WEIGHT_H
#define FASTNN_CONV2D_WEIGHT_H

#include "base/sums.h"
#include "ops/conv2d_direct.h"

struct conv_backward_weight {
    const struct conv2d_shape *s;
    struct planes planes;
    const float *grad, *x;
    int32_t *offset;                /* (K,), the last one repeated up to a multiple of CONV_GRAD_NK */
    float *partial;                 /* of every part (O, K + 1): weight gradients, then the bias gradient */
    i64 K, parts, part_floats, runs;    /* runs: that are added to a part's sums */
    int failed;
};

/* sums (MR rows of K + 1) += grad (MR, P) times shifted src, over P positions, a multiple of VL */
INLINE void conv_grad_rows(const int MR, const struct conv_backward_weight *t, i64 P, const float *restrict grad, i64 grad_pitch,
                           const float *restrict src, float *restrict sums) {
    enum { NK = CONV_GRAD_NK };
    for (i64 k = 0; k < t->K; k += NK) {
        vf acc[CONV_GRAD_MR][NK];
        const float *at[NK];
        UNROLL for (int j = 0; j < NK; j++) at[j] = src + t->offset[k + j];
        UNROLL for (int i = 0; i < MR; i++) UNROLL for (int j = 0; j < NK; j++) acc[i][j] = (vf){0};
        for (i64 p = 0; p < P; p += VL) {
            vf v[NK];
            UNROLL for (int j = 0; j < NK; j++) v[j] = v_load(at[j] + p);
            UNROLL for (int i = 0; i < MR; i++) {
                vf gv = v_load(grad + i * grad_pitch + p);
                UNROLL for (int j = 0; j < NK; j++) acc[i][j] += gv * v[j];
            }
        }
        float tile[CONV_GRAD_MR][NK];
        UNROLL for (int i = 0; i < MR; i++) UNROLL for (int j = 0; j < NK; j++) tile[i][j] = v_sum(acc[i][j]);
        for (int i = 0; i < MR; i++) for (i64 j = 0; j < i64_min(NK, t->K - k); j++) sums[i * (t->K + 1) + k + j] += tile[i][j];
    }
}

/* Positions at a time, of a row of grad */
INLINE i64 conv_grad_chunk(i64 grad_pitch) {
    return round_up(ceil_div(grad_pitch, ceil_div(grad_pitch, i64_min(CONV_GRAD_P, SUM_SHORT * VL))), VL);
}

/* a stack of images and their laid-out gradients (O, grad_pitch): a chunk of positions at a time, so that both stay in L1 */
static void conv_grad_stack(const struct conv_backward_weight *t, const float *planes, const float *grad, i64 grad_pitch, i64 O,
                            struct joined *group) {
    float *sums = group->part;
    const i64 row = t->K + 1, chunk = conv_grad_chunk(grad_pitch);
    for (i64 o = 0; o < O; o++) sums[o * row + t->K] += run_sum(grad + o * grad_pitch, grad_pitch);     /* of the bias */
    for (i64 p = 0; p < grad_pitch; p += chunk) {
        i64 P = i64_min(chunk, grad_pitch - p), o = 0;
        for (; o + CONV_GRAD_MR <= O; o += CONV_GRAD_MR)
            conv_grad_rows(CONV_GRAD_MR, t, P, grad + o * grad_pitch + p, grad_pitch, planes + p, sums + o * row);
        for (; o + 2 <= O; o += 2) conv_grad_rows(2, t, P, grad + o * grad_pitch + p, grad_pitch, planes + p, sums + o * row);
        if (o < O) conv_grad_rows(1, t, P, grad + o * grad_pitch + p, grad_pitch, planes + p, sums + o * row);
        joined_added(group, 1);
    }
}

/* dst (O, grad_pitch) <- grad (O, OH, OW) at the pitch of the planes, the gaps left at zero */
static void lay_out_grad(const struct conv_backward_weight *t, float *restrict dst, i64 grad_pitch, const float *restrict grad, i64 O) {
    const struct conv2d_shape *s = t->s;
    const i64 P = s->OH * s->OW;
    for (i64 o = 0; o < O; o++, grad += P, dst += grad_pitch) {
        for (i64 r = 0; r < s->OH; r++)
            memcpy(dst + r * t->planes.pitch, grad + r * s->OW, sizeof(float) * (size_t)s->OW);
    }
}

/* Floats of a row of grad: the positions of a stack of images */
INLINE i64 conv_grad_pitch(const struct conv_backward_weight *t) {
    const struct planes *p = &t->planes;
    return round_up((p->images - 1) * p->rows * p->pitch + t->s->OH * p->pitch, VL);
}

/* Task: the images of one part. */
static void conv_grad_part(void *context, i64 part) {
    struct conv_backward_weight *t = context;
    const struct conv2d_shape *s = t->s;
    i64 C = s->C / s->groups, O = s->O / s->groups, row = t->K + 1;
    i64 image_plane = t->planes.rows * t->planes.pitch, images = t->planes.images;
    i64 grad_pitch = conv_grad_pitch(t), image_floats = round_up(planes_floats(&t->planes, C), VL);
    float *image = fastnn_scratch(SCRATCH_CONV_IMAGE, sizeof(float) * (size_t)(image_floats + O * grad_pitch));
    if (!image) { t->failed = 1; return; }
    float *grad = image + image_floats, *partial = t->partial + part * t->part_floats;
    struct joined sums = joined_at(partial, s->O * row, t->runs), group = sums;
    memset(partial, 0, sizeof(float) * (size_t)(s->O * row));
    memset(image, 0, sizeof(float) * (size_t)(image_floats + O * grad_pitch));
    for (i64 n = part * s->N / t->parts, end = (part + 1) * s->N / t->parts; n < end && !fastnn_stopped(); n += images) {
        i64 stacked = i64_min(images, end - n);
        if (stacked < images) memset(image, 0, sizeof(float) * (size_t)(image_floats + O * grad_pitch));
        for (i64 g = 0; g < s->groups; g++) {
            group = joined_slice(&sums, g * O * row, O * row);
            for (i64 i = 0; i < stacked; i++) {
                fill_planes(image, &t->planes, i, t->x + ((n + i) * s->C + g * C) * s->H * s->W, C, s->H, s->W);
                lay_out_grad(t, grad + i * image_plane, grad_pitch, t->grad + ((n + i) * s->O + g * O) * s->OH * s->OW, O);
            }
            conv_grad_stack(t, image, grad, grad_pitch, O, &group);
        }
        sums.added = group.added, sums.used = group.used;
    }
    joined_end(&sums);
}

/* gradients <- sum of `parts` partial sums (O, K + 1), `step` floats apart, in order */
static void add_parts(i64 parts, i64 step, i64 O, i64 K, const float *partial, float *grad_weight, float *grad_bias) {
    for (i64 o = 0; o < O; o++) {
        for (i64 k = 0; k <= K; k++) {
            float sum = 0;
            for (i64 part = 0; part < parts; part++) sum += partial[part * step + o * (K + 1) + k];
            if (k < K) grad_weight[o * K + k] = sum;
            else grad_bias[o] = sum;
        }
    }
}

KERNEL int conv2d_backward_weight_direct(const struct conv2d_shape *s, const float *grad, const float *x, float *grad_weight,
                                         float *grad_bias) {
    struct conv_backward_weight t = {.s = s, .planes = input_planes(s), .grad = grad, .x = x, .K = s->C / s->groups * s->kh * s->kw};
    i64 K = t.K, padded = round_up(K, CONV_GRAD_NK);
    t.planes.images = i64_max(1, i64_min(CONV_GRAD_P / (t.planes.rows * t.planes.pitch), s->N / 4));
    t.planes.plane = t.planes.images * t.planes.rows * t.planes.pitch * t.planes.stride_h * t.planes.stride_w;
    /* Positions run a vector past the last row: into zeros of the same channel, never into the next one. */
    t.planes.plane += round_up((s->kw - 1) * s->dilation_w / s->stride_w, VL) + VL;
    t.parts = i64_min(conv_parts(s, K), ceil_div(i64_max(1, s->N), t.planes.images));
    t.runs = ceil_div(ceil_div(s->N, t.parts), t.planes.images) * ceil_div(conv_grad_pitch(&t), conv_grad_chunk(conv_grad_pitch(&t)));
    t.part_floats = joined_floats(s->O * (K + 1), t.runs);
    t.partial = fastnn_scratch(SCRATCH_PARTIAL, sizeof(float) * (size_t)(t.parts * t.part_floats));
    t.offset = fastnn_scratch(SCRATCH_CONV_WEIGHT, sizeof(int32_t) * (size_t)padded);
    if (!t.partial || !t.offset) return -1;
    input_offsets(t.offset, s, &t.planes);
    for (i64 k = K; k < padded; k++) t.offset[k] = t.offset[K - 1];
    fastnn_parallel(t.parts, 2.0 * (double)(s->N * s->O * s->OH * s->OW * K), conv_grad_part, &t);
    if (t.failed) return -1;
    add_parts(t.parts, t.part_floats, s->O, K, t.partial, grad_weight, grad_bias);
    return 0;
}

#endif
