/* The convolutions of a region that trains: which way each is done, and its passes over some images.
 *
 *   planes     few input channels that lie as planes, as an image comes from outside: direct loops
 *   direct     stride 1, blocks of channels: direct loops; the input gradient by the flipped weights
 *   winograd   3x3, stride 1: both directions in Winograd's domain
 *   general    any stride, dilation and groups
 *
 * Weights are packed in every step, forward and for the input gradients, on all threads. A block of images has weight gradients of
 * its own, packed (k, O), which are added in order of the blocks.
 */
#ifndef FASTNN_REGION_CONV_H
#define FASTNN_REGION_CONV_H

#include "ops/wide_conv_weight.h"
#include "plan/region/region.h"
#include "plan/wide/layout.h"
#include "plan/wide/winograd_backward.h"

enum region_way { REGION_PLANES, REGION_DIRECT, REGION_WINOGRAD, REGION_GENERAL };

enum { REGION_ALIGN = 64 / sizeof(float) };

struct region_conv {
    int way;
    i64 C, H, W;                            /* of its input */
    struct wide_place input, grad;          /* with borders: what it reads, and the gradient of z */
    i64 group;                              /* images at a time, at least, where there are as many */
    i64 packed_at, packed_floats, transposed_at, transposed_floats;     /* in the packed weights */
    i64 partial_floats, runs;               /* a block's weight gradient, and runs that are added to it */
    i64 sums_count, sums_floats;            /* sums that it is made of, and what memory they take */
    i64 partial_at, sums_at, work_floats;   /* in a block's partial gradients, and in a task's scratch */
};

INLINE struct wide_conv region_wide(const struct region_node *c, const struct region_conv *m) {
    return (struct wide_conv){.C = m->C, .O = c->C, .kh = c->kh, .kw = c->kw, .OH = c->H, .OW = c->W};
}
INLINE struct wide_conv region_wide_exchanged(const struct region_node *c, const struct region_conv *m) {
    return (struct wide_conv){.C = c->C, .O = m->C, .kh = c->kh, .kw = c->kw, .OH = m->H, .OW = m->W};
}
INLINE struct winograd region_winograd(const struct region_node *c, const struct region_conv *m) {
    return winograd_shape(m->C, c->C, c->H, c->W);
}
INLINE struct winograd region_winograd_exchanged(const struct region_node *c, const struct region_conv *m) {
    return winograd_shape(c->C, m->C, c->H, c->W);
}

INLINE i64 region_taps(const struct region_node *c) { return c->kh * c->kw; }
INLINE i64 region_weights(const struct region_node *c, const struct region_conv *m) { return c->C * (m->C / c->groups) * region_taps(c); }
INLINE double region_conv_flops(const struct region_node *c, const struct region_conv *m) {
    return 2.0 * (double)(c->H * c->W) * (double)region_weights(c, m);
}

/* Chosen by shape alone; planar: the input lies outside */
INLINE enum region_way region_way(const struct region_node *c, const struct region_conv *m, int planar, int exact) {
    const int plain = c->stride_h == 1 && c->stride_w == 1 && c->dilation_h == 1 && c->dilation_w == 1 && c->groups == 1 &&
                      c->pad_h < c->kh && c->pad_w < c->kw;
    if (!plain) return REGION_GENERAL;
    if (planar && m->C < 8) return REGION_PLANES;
    if (!exact && c->kh == 3 && c->kw == 3 && m->C >= 8 && c->C >= 8 && 2 * c->H * c->W >= round_up(c->H, 4) * round_up(c->W, 4))
        return REGION_WINOGRAD;
    return REGION_DIRECT;
}

/* images: of the largest block */
KERNEL void region_plan_conv(const struct region_node *c, int planar, int exact, i64 images, struct region_conv *m) {
    const struct winograd w = region_winograd(c, m), exchanged = region_winograd_exchanged(c, m);
    const struct wide_conv s = region_wide(c, m), t = region_wide_exchanged(c, m);
    m->way = region_way(c, m, planar, exact);
    m->input = (struct wide_place){m->C, m->H, m->W, m->H + 2 * c->pad_h, m->W + 2 * c->pad_w, c->pad_h, c->pad_w,
                                   m->way == REGION_PLANES ? 1 : VL};
    m->grad = (struct wide_place){c->C, c->H, c->W, m->H + c->kh - 1, m->W + c->kw - 1, c->kh - 1 - c->pad_h, c->kw - 1 - c->pad_w, VL};
    m->group = 1;
    m->partial_floats = wide_conv_packed_floats(&s);
    m->transposed_floats = wide_conv_packed_floats(&t);
    m->runs = images * wide_weight_runs(c->H * c->W);
    switch (m->way) {
    case REGION_PLANES: m->partial_floats = wide_conv_planes_floats(&s); break;
    case REGION_GENERAL:
        m->grad = (struct wide_place){c->C, c->H, c->W, c->H, c->W, 0, 0, VL};
        m->partial_floats = region_weights(c, m);
        m->transposed_floats = 0;
        break;
    case REGION_WINOGRAD:
        m->input.rows = i64_max(m->input.rows, 4 * w.TH + 2);
        m->input.cols = i64_max(m->input.cols, 4 * w.TW + 2);
        m->grad = (struct wide_place){c->C, c->H, c->W, 4 * w.TH, 4 * w.TW, 0, 0, VL};
        m->group = i64_max(1, i64_min(images, WINOGRAD_STRIP / (w.TH * w.TW)));
        m->runs = images * ceil_div(w.TH * w.TW, WINOGRAD_STRIP);
        m->work_floats = winograd_work_floats(&w);
        m->partial_floats = m->C * 9 * w.Op;
        m->transposed_floats = winograd_weight_floats(&exchanged);
        break;
    default: break;
    }
    m->packed_floats = m->way == REGION_WINOGRAD ? winograd_weight_floats(&w) : m->way == REGION_GENERAL ? 0 : m->partial_floats;
    m->sums_count = m->way == REGION_WINOGRAD ? WINOGRAD_POINTS * winograd_step(w.Cp, w.Op) : m->partial_floats;
    m->sums_floats = joined_floats(m->sums_count, m->runs);
}

/* ---- packing ---- */

enum { REGION_PACK_ROWS = 8 };              /* of Winograd's weights, a task */

INLINE i64 region_pack_tasks(const struct region_node *c, const struct region_conv *m, int transposed) {
    return m->way == REGION_GENERAL ? 0 : m->way == REGION_WINOGRAD ? ceil_div(transposed ? c->C : m->C, REGION_PACK_ROWS) : 1;
}

KERNEL void region_pack_task(const struct region_node *c, const struct region_conv *m, int transposed, i64 task, float *to) {
    const struct wide_conv s = region_wide(c, m);
    if (m->way == REGION_WINOGRAD) {
        const struct winograd w = transposed ? region_winograd_exchanged(c, m) : region_winograd(c, m);
        winograd_pack(&w, c->weight, transposed, to, task * REGION_PACK_ROWS, i64_min(w.C, (task + 1) * REGION_PACK_ROWS));
    } else if (transposed) {
        wide_conv_pack_transposed(&s, c->weight, to);
    } else {
        (m->way == REGION_PLANES ? wide_conv_pack_planes : wide_conv_pack)(&s, c->weight, to);
    }
}

/* ---- any stride, dilation, groups ---- */

/* For each entry of the weight and pixel of the output whose input pixel is inside: BODY with o, lanes `from` and `to` and the entry */
#define REGION_GENERAL_LOOP(BODY) do { \
    const i64 Cg = m->C / c->groups, Og = c->C / c->groups; \
    for (i64 o = 0; o < c->C; o++) for (i64 k = 0; k < Cg; k++) for (i64 i = 0; i < c->kh; i++) for (i64 j = 0; j < c->kw; j++) { \
        const i64 channel = o / Og * Cg + k, entry = ((o * Cg + k) * c->kh + i) * c->kw + j; \
        for (i64 h = 0; h < c->H; h++) for (i64 w = 0; w < c->W; w++) { \
            const i64 from = channel / VL * src.plane + (h * c->stride_h + i * c->dilation_h) * src.row + \
                             (w * c->stride_w + j * c->dilation_w) * VL + channel % VL; \
            const i64 to = o / VL * grad.plane + h * grad.row + w * VL + o % VL; \
            BODY; \
        } \
    } \
} while (0)

KERNEL void region_general_forward(const struct region_node *c, const struct region_conv *m, struct wide_view src, struct wide_view grad) {
    for (i64 o = 0; o < ceil_div(c->C, VL); o++) for (i64 h = 0; h < c->H; h++)
        memset(grad.at + o * grad.plane + h * grad.row, 0, (size_t)(c->W * VL) * sizeof(float));
    REGION_GENERAL_LOOP(grad.at[to] += src.at[from] * c->weight[entry]);
}
KERNEL void region_general_weight(const struct region_node *c, const struct region_conv *m, struct wide_view src, struct wide_view grad,
                                  float *sums) {
    REGION_GENERAL_LOOP(sums[entry] += src.at[from] * grad.at[to]);
}
KERNEL void region_general_input(const struct region_node *c, const struct region_conv *m, struct wide_view src, struct wide_view grad) {
    REGION_GENERAL_LOOP(src.at[from] += grad.at[to] * c->weight[entry]);
}

/* ---- passes over `count` images ---- */

/* z, its images z_image apart, from the bordered input */
KERNEL void region_convolve(const struct region_node *c, const struct region_conv *m, i64 count, const float *packed, float *input,
                            float *z, i64 z_image, float *work) {
    const i64 input_image = wide_place_floats(&m->input);
    struct wide_view src = wide_bordered(&m->input, input), dst = {z, c->H * c->W * VL, c->W * VL};
    if (m->way == REGION_WINOGRAD) {
        const struct winograd w = region_winograd(c, m);
        winograd_forward(&w, count, packed, src, input_image, dst, z_image, work);
        return;
    }
    const struct wide_conv s = region_wide(c, m);
    for (i64 k = 0; k < count; k++, src.at += input_image, dst.at += z_image) {
        if (m->way == REGION_PLANES) wide_conv_forward_planes(&s, packed, NULL, src, dst);
        else if (m->way == REGION_DIRECT) wide_conv_forward(&s, packed, NULL, src, dst);
        else region_general_forward(c, m, src, dst);
    }
}

/* weight += gradient of the weight (add: there is something), input_grad = that of the input, for region_input_grad; both unless NULL.
 * input, grad: bordered */
KERNEL void region_convolve_backward(const struct region_node *c, const struct region_conv *m, i64 count, int add, const float *packed,
                                     float *input, float *grad, struct joined *weight, float *input_grad, float *work) {
    const i64 size = wide_place_floats(&m->input), grad_image = wide_place_floats(&m->grad);
    struct wide_view src = wide_bordered(&m->input, input), at = wide_interior(&m->grad, grad);
    if (input_grad && (m->way == REGION_WINOGRAD || m->way == REGION_GENERAL)) memset(input_grad, 0, (size_t)(count * size) * sizeof(float));
    if (m->way == REGION_WINOGRAD) {
        const struct winograd w = region_winograd(c, m);
        winograd_backward(&w, count, add, packed, src, size, wide_bordered(&m->grad, grad), grad_image, weight, input_grad, work);
        return;
    }
    const struct wide_conv s = region_wide(c, m), t = region_wide_exchanged(c, m);
    const i64 compact = ceil_div(m->C, VL) * m->H * m->W * VL;
    for (i64 k = 0; k < count; k++, src.at += size, at.at += grad_image) {
        if (m->way == REGION_GENERAL) {
            if (weight) {
                region_general_weight(c, m, src, at, weight->part);
                joined_added(weight, wide_weight_runs(c->H * c->W));
            }
            if (input_grad) region_general_input(c, m, wide_bordered(&m->input, input_grad + k * size), at);
            continue;
        }
        if (weight) (m->way == REGION_PLANES ? wide_conv_weight_planes : wide_conv_weight)(&s, src, at, weight);
        if (input_grad)
            wide_conv_forward(&t, packed, NULL, wide_bordered(&m->grad, grad + k * grad_image),
                              (struct wide_view){input_grad + k * compact, m->H * m->W * VL, m->W * VL});
    }
}
/* Where region_convolve_backward leaves an image's input gradient */
INLINE struct wide_view region_input_grad(const struct region_conv *m, float *input_grad, i64 image) {
    if (m->way == REGION_WINOGRAD || m->way == REGION_GENERAL)
        return wide_interior(&m->input, input_grad + image * wide_place_floats(&m->input));
    const i64 plane = m->H * m->W * VL;
    return (struct wide_view){input_grad + image * ceil_div(m->C, VL) * plane, plane, m->W * VL};
}

/* ---- the blocks' weight gradients, added in order ---- */

/* One block of output channels of `parts` partial gradients, step floats apart */
KERNEL void region_add_task(const struct region_node *c, const struct region_conv *m, const float *partial, i64 parts, i64 step,
                            i64 block) {
    const i64 taps = region_taps(c), K = m->C / c->groups * taps, Op = round_up(c->C, VL), lanes = i64_min(VL, c->C - block * VL);
    float *to = c->grad_weight + block * VL * K;
    if (m->way == REGION_GENERAL) {
        for (i64 i = 0; i < lanes * K; i += VL) {
            vf sum = {0};
            const i64 n = i64_min(VL, lanes * K - i);
            for (i64 part = 0; part < parts; part++) sum += v_load_lanes(partial + block * VL * K + i + part * step, n, 0);
            v_store_lanes(to + i, sum, n);
        }
        return;
    }
    const struct wide_conv s = region_wide(c, m);
    for (i64 k = 0; k < K; k += VL) {
        vf r[VL];
        const i64 n = i64_min(VL, K - k);
        i64 channel = k / taps, tap = k % taps;
        UNROLL for (int i = 0; i < VL; i++) {
            r[i] = (vf){0};
            if (i >= n) continue;
            const i64 entry = m->way == REGION_DIRECT ? wide_conv_entry(&s, VL, channel, tap) : k + i;
            for (i64 part = 0; part < parts; part++) r[i] += v_load(partial + part * step + entry * Op + block * VL);
            if (++tap == taps) tap = 0, channel++;
        }
        v_transpose(r);
        UNROLL for (int i = 0; i < VL; i++) if (i < lanes) v_store_lanes(to + i * K + k, r[i], n);
    }
}

#endif
