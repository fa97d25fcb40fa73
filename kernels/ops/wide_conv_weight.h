/* Weight gradient of a dense convolution of one image, or of several small ones, by direct loops, in the layouts of wide_conv.h.
 *
 *   packed (k, O rounded up to VL) += sum over pixels of src[pixel + k] * grad[pixel]
 *
 * A register tile is 4 entries k x 4 vectors of output channels, or 8 x 2; a sum runs along some rows of pixels, then joins memory.
 * Measured (Zen 5, one thread): 90-94 % of the FMA peak with AVX-512, 80 % with AVX2.
 */
#ifndef FASTNN_WIDE_CONV_WEIGHT_H
#define FASTNN_WIDE_CONV_WEIGHT_H

#include "base/sums.h"
#include "ops/wide_conv.h"

/* Entries k of one register tile: where what each reads begins, from which row of the gradient to which, and where its sums lie */
struct wide_taps { i64 offset[8], at[8], first, end; int count; };

/* Images that one sum runs over, and floats from one to the next */
struct wide_images { i64 count, src, grad; };

/* MR entries from the m-th on x NV blocks: out[at][block] += sum over images, rows, pixels of src[offset + pixel] * grad[block][pixel] */
INLINE void wide_weight_tile(const int MR, const int NV, const int pixel, i64 OW, const struct wide_images *images,
                             const struct wide_taps *e, int m, struct wide_view src, struct wide_view grad, float *restrict out,
                             i64 out_row) {
    vf acc[8][CHANNELS_NV];
    const float *at[8];
    const i64 most = sum_run(images->count * (e->end - e->first) * OW);
    i64 run = 0;
#define WIDE_ADD() do { \
        UNROLL for (int i = 0; i < MR; i++) UNROLL for (int j = 0; j < NV; j++) { \
            float *const to = out + e->at[m + i] * out_row + j * VL; \
            v_store(to, v_load(to) + acc[i][j]); \
            acc[i][j] = (vf){0}; \
        } \
        run = 0; \
    } while (0)
    UNROLL for (int i = 0; i < MR; i++) {
        at[i] = src.at + e->offset[m + i] + e->first * src.row;
        UNROLL for (int j = 0; j < NV; j++) acc[i][j] = (vf){0};
    }
    const i64 next = images->src - (e->end - e->first) * src.row;
    for (i64 n = 0; n < images->count; n++) {
        for (i64 h = e->first; h < e->end; h++) {
            const float *g = grad.at + n * images->grad + h * grad.row;
            for (i64 w = 0, end; w < OW; w = end) {
                end = i64_min(OW, w + sum_run(OW));
                run += end - w;
                for (i64 k = w; k < end; k++) {
                    vf v[CHANNELS_NV];
                    UNROLL for (int j = 0; j < NV; j++) v[j] = v_load(g + k * VL + j * grad.plane);
                    UNROLL for (int i = 0; i < MR; i++) {
                        vf x = v_set1(at[i][k * pixel]);
                        UNROLL for (int j = 0; j < NV; j++) acc[i][j] += x * v[j];
                    }
                }
                if (run >= most) WIDE_ADD();
            }
            UNROLL for (int i = 0; i < MR; i++) at[i] += src.row;
        }
        UNROLL for (int i = 0; i < MR; i++) at[i] += next;
    }
    if (run) WIDE_ADD();
#undef WIDE_ADD
}

/* All entries whose lanes hold a channel, in tiles of MR; what is left of those that see the same rows in narrower ones. */
INLINE void wide_weight_entries(const int MR, const int NV, const int pixel, const struct wide_conv *s, const struct wide_images *images,
                                struct wide_view src, struct wide_view grad, float *out, i64 out_row) {
    struct wide_taps e = {.count = 0};
#define TILE(mr, m) wide_weight_tile(mr, NV, pixel, s->OW, images, &e, m, src, grad, out, out_row)
#define FLUSH() do { \
        int m = 0; \
        if (MR == 8) for (; m + 4 <= e.count; m += 4) TILE(4, m); \
        for (; m < e.count; m++) TILE(1, m); \
        e.count = 0; \
    } while (0)
    for (i64 c = 0; c < ceil_div(s->C, pixel); c++) for (i64 i = 0; i < s->kh; i++) {
        const i64 first = s->H ? i64_max(0, s->top - i) : 0, end = s->H ? i64_min(s->OH, s->top + s->H - i) : s->OH;
        if (first != e.first || end != e.end) FLUSH();
        e.first = first, e.end = end;
        for (i64 j = 0; j < s->kw; j++) for (i64 lane = 0; lane < i64_min(pixel, s->C - c * pixel); lane++) {
            e.offset[e.count] = c * src.plane + i * src.row + j * pixel + lane;
            e.at[e.count] = ((c * s->kh + i) * s->kw + j) * pixel + lane;
            if (++e.count == MR) TILE(MR, 0), e.count = 0;
        }
    }
    FLUSH();
#undef FLUSH
#undef TILE
}

/* How many runs an image of P pixels adds to a sum */
INLINE i64 wide_weight_runs(i64 P) { return ceil_div(P, SUM_RUN); }

INLINE void wide_weight_rows(const int pixel, const struct wide_conv *s, const struct wide_images *images, struct wide_view src,
                             struct wide_view grad, float *packed) {
    const i64 OB = ceil_div(s->O, VL);
    for (i64 o = 0; o < OB; o += CHANNELS_NV, grad.at += CHANNELS_NV * grad.plane, packed += CHANNELS_NV * VL) {
        const i64 blocks = i64_min(CHANNELS_NV, OB - o);
#define CALL(mr, nv) wide_weight_entries(mr, nv, pixel, s, images, src, grad, packed, OB * VL)
        WIDE_GROUPS(CALL)
#undef CALL
    }
}

/* As many rows at a time as add SUM_ADDS runs; sums: packed */
INLINE void wide_weight(const int pixel, const struct wide_conv *s, struct wide_images images, struct wide_view src, struct wide_view grad,
                        struct joined *sums) {
    const i64 most = i64_max(1, SUM_ADDS * SUM_RUN / (s->OW * images.count));
    for (i64 first = 0; first < s->OH; first += most) {
        struct wide_conv part = *s;
        part.OH = i64_min(most, s->OH - first), part.top -= first;
        wide_weight_rows(pixel, &part, &images, src, grad, sums->part);
        joined_added(sums, wide_weight_runs(part.OH * s->OW * images.count));
        src.at += most * src.row, grad.at += most * grad.row;
    }
}

KERNEL void wide_conv_weight_images(const struct wide_conv *s, struct wide_images images, struct wide_view src, struct wide_view grad,
                                    struct joined *sums) {
    wide_weight(VL, s, images, src, grad, sums);
}
KERNEL void wide_conv_weight(const struct wide_conv *s, struct wide_view src, struct wide_view grad, struct joined *sums) {
    wide_conv_weight_images(s, (struct wide_images){1, 0, 0}, src, grad, sums);
}
KERNEL void wide_conv_weight_planes(const struct wide_conv *s, struct wide_view src, struct wide_view grad, struct joined *sums) {
    wide_weight(1, s, (struct wide_images){1, 0, 0}, src, grad, sums);
}

/* grad_weight (O, C, kh, kw), output channels of one block <- the sum of `parts` packed gradients, `step` floats apart, in order */
static void wide_unpack_block(const struct wide_conv *s, const float *packed, i64 parts, i64 step, i64 block,
                              float *grad_weight) {
    const i64 taps = s->kh * s->kw, Op = round_up(s->O, VL), K = s->C * taps, lanes = i64_min(VL, s->O - block * VL);
    float *to = grad_weight + block * VL * K;
    for (i64 k = 0; k < K; k += VL) {
        vf r[VL];
        const i64 n = i64_min(VL, K - k);
        i64 c = k / taps, tap = k % taps;
        UNROLL for (int i = 0; i < VL; i++) {
            r[i] = (vf){0};
            if (i >= n) continue;
            const float *from = packed + wide_conv_entry(s, VL, c, tap) * Op + block * VL;
            for (i64 part = 0; part < parts; part++) r[i] += v_load(from + part * step);
            if (++tap == taps) tap = 0, c++;
        }
        v_transpose(r);
        UNROLL for (int i = 0; i < VL; i++) if (i < lanes) v_store_lanes(to + i * K + k, r[i], n);
    }
}

KERNEL void wide_conv_weight_unpack(const struct wide_conv *s, const float *packed, float *grad_weight) {
    for (i64 block = 0; block < ceil_div(s->O, VL); block++) wide_unpack_block(s, packed, 1, 0, block, grad_weight);
}

#endif
