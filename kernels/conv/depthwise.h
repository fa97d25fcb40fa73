/* Depthwise convolution (groups = C = O) with channels in the lanes (channels.h): a product of vectors for each tap.
 *
 *   y[c, h, w] = bias[c] + sum over (i, j) of weight[c, i, j] * x[c, h * stride + i * dilation - pad, ...]
 *
 * A register tile is 2 rows x up to 8 pixels (AVX2: 6) of one block; a tap's weights are loaded once for them, and each product reads its
 * operand from L1. So the floor is a load for each product: as long as the products themselves on CPUs that begin two of either in a cycle.
 * The weight gradient keeps up to 9 taps in registers and reads the gradient once for them.
 *
 * Measured as in channels_tiles.h, 64 channels of 16x16, which come from L2: 42 % of the FMA peak for 3x3, 57 % for 5x5; weight gradient 40 %.
 * With a stride of 2 there is a quarter of the products for as much input: 22 %. AVX2 (Zen 3, peak 96 GFLOP/s), 3x3 unrolled: 55 %, and
 * 42 % with a stride of 2.
 */
#ifndef FASTNN_CONV_DEPTHWISE_H
#define FASTNN_CONV_DEPTHWISE_H

#include "base/sums.h"
#include "conv/channels_tiles.h"

enum { DEPTHWISE_COLUMNS = VL == 16 ? 8 : 6 };

/* R rows x Q pixels of one block; step: floats from one pixel read to the next. stride: of a 3x3 kernel without dilation, known when
 * compiled, whose taps are unrolled and whose rows of input are loaded once for both rows of outputs; 0: any kernel, by its offsets. */
INLINE void depthwise_tile(const int R, const int Q, const int stride, i64 step, const struct channels_grid *g, const struct channels_sums *s,
                           const struct channels_pixel *first) {
    vf sum[2][8];
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int q = 0; q < Q; q++) {
        sum[r][q] = s->bias ? v_load(s->bias) : (vf){0};
        if (first->add) sum[r][q] += v_load(first->add + r * g->add.row + q * g->add.pixel);
    }
    if (stride) {
        const float *at = first->in + s->offset[0];
        const i64 row = stride == 2 ? g->in.row / 2 : g->in.row;
        UNROLL for (int i = 0; i < 3 + (R - 1) * stride; i++, at += row) UNROLL for (int j = 0; j < 3; j++) UNROLL for (int q = 0; q < Q; q++) {
            const vf x = v_load(at + (q * stride + j) * VL);
            UNROLL for (int r = 0; r < R; r++) {
                const int tap = i - r * stride;
                if (tap >= 0 && tap < 3) sum[r][q] += v_load(s->weight + (tap * 3 + j) * VL) * x;
            }
        }
    } else for (i64 k = 0; k < s->count; k++) {
        const float *at = first->in + s->offset[k], *below = at + g->in.row;
        const vf w = v_load(s->weight + k * VL);
        UNROLL for (int q = 0; q < Q; q++) sum[0][q] += w * v_load(at + q * step);
        if (R == 2) UNROLL for (int q = 0; q < Q; q++) sum[1][q] += w * v_load(below + q * step);
    }
#define STORE(activation) case activation: \
        UNROLL for (int r = 0; r < R; r++) UNROLL for (int q = 0; q < Q; q++) \
            v_store(first->out + r * g->out.row + q * g->out.pixel, channels_activate(activation, sum[r][q], s->slope)); \
        break;
    switch (s->activation) { STORE(ACTIVATION_RELU) STORE(ACTIVATION_LEAKY_RELU) STORE(ACTIVATION_NONE) }
#undef STORE
}

INLINE void depthwise_rows(const int R, const int stride, i64 step, const struct channels_grid *g, const struct channels_sums *s,
                           struct channels_pixel p) {
    const int most = R == 2 ? DEPTHWISE_COLUMNS : 4; /* a last row by itself: not worth more code */
    const i64 tiles = ceil_div(g->columns, most), narrow = g->columns / tiles, wider = g->columns % tiles;
    for (i64 i = 0; i < tiles; i++) {
        const i64 n = narrow + (i < wider);
#define PIXELS(n) case n: if (n <= most) depthwise_tile(R, n, stride, step, g, s, &p); break;
        switch (n) { PIXELS(8) PIXELS(7) PIXELS(6) PIXELS(5) PIXELS(4) PIXELS(3) PIXELS(2) PIXELS(1) }
#undef PIXELS
        p.in += n * step, p.out += n * g->out.pixel, p.add += p.add ? n * g->add.pixel : 0;
    }
}

INLINE void depthwise_image(const int stride, i64 step, const struct channels_grid *g, const struct channels_sums *s, struct channels_pixel p) {
    for (i64 h = 0; h < g->rows; h += 2) {
        if (h + 1 < g->rows) depthwise_rows(2, stride, step, g, s, p);
        else depthwise_rows(1, stride, step, g, s, p);
        p.in += 2 * g->in.row, p.out += 2 * g->out.row, p.add += p.add ? 2 * g->add.row : 0;
    }
}

/* stride: of a 3x3 kernel without dilation; 0 of others */
KERNEL void depthwise_pixels(const struct channels_grid *g, struct channels_pixel first, const struct channels_sums *s, i64 stride) {
    for (i64 n = 0; n < g->images; n++) {
        if (stride == 1) depthwise_image(1, VL, g, s, first);
        else if (stride == 2) depthwise_image(2, 2 * VL, g, s, first);
        else if (g->in.pixel == VL) depthwise_image(0, VL, g, s, first);
        else depthwise_image(0, g->in.pixel, g, s, first);
        first.in += g->in.image, first.out += g->out.image, first.add += first.add ? g->add.image : 0;
    }
}

/* T taps: sums[tap] += the sums over images, rows and columns */
INLINE void depthwise_taps(const int T, const struct channels_conv *s, i64 rows, const struct channels_images *images, const int32_t *offset,
                           struct wide_view src, struct wide_view grad, float *restrict sums) {
    const i64 row = s->stride_h * src.row, step = s->stride_w * VL, most = sum_run(images->count * rows * s->OW);
    vf sum[9];
    i64 run = 0;
    UNROLL for (int t = 0; t < T; t++) sum[t] = (vf){0};
#define ADD() do { \
        UNROLL for (int t = 0; t < T; t++) { \
            v_store(sums + t * VL, v_load(sums + t * VL) + sum[t]); \
            sum[t] = (vf){0}; \
        } \
        run = 0; \
    } while (0)
    for (i64 n = 0; n < images->count; n++) for (i64 h = 0; h < rows; h++) {
        const float *at[9], *g = grad.at + n * images->output + h * grad.row;
        UNROLL for (int t = 0; t < T; t++) at[t] = src.at + n * images->input + h * row + offset[t];
        for (i64 w = 0, end; w < s->OW; w = end) {
            end = i64_min(s->OW, w + sum_run(s->OW));
            run += end - w;
            for (i64 k = w; k < end; k++) {
                const vf v = v_load(g + k * VL);
                UNROLL for (int t = 0; t < T; t++) sum[t] += v * v_load(at[t] + k * step);
            }
            if (run >= most) ADD();
        }
    }
    if (run) ADD();
#undef ADD
}

/* sums [block][tap][VL] += the weight gradient of some rows of the images */
KERNEL void depthwise_weight(const struct channels_conv *s, i64 rows, const struct channels_images *images, struct wide_view src,
                             struct wide_view grad, float *sums) {
    for (i64 block = 0; block < ceil_div(s->C, VL); block++, src.at += src.plane, grad.at += grad.plane) {
        int32_t offset[CHANNELS_ENTRIES + VL];
        struct channels_entries e = {.offset = offset, .rows = {s->kh, 0, s->dilation_h}, .columns = {s->kw, 0, s->dilation_w}, .pixel = VL,
                                     .row = src.row, .plane = src.plane, .end = 1};
        while (channels_next_entries(&e)) {
            i64 k = 0;
#define TAPS(t) for (; k + t <= e.count; k += t, sums += t * VL) depthwise_taps(t, s, rows, images, offset + k, src, grad, sums)
            TAPS(9);
            TAPS(6);
            TAPS(4);
            TAPS(2);
            TAPS(1);
#undef TAPS
        }
    }
}

#endif
