/* Convolution with channels in the lanes: its shape, and how its weights are packed. The products are in channels_forward.h (forward and
 * input gradient), channels_weight.h (weight gradient) and depthwise.h.
 *
 *   y[o, h, w] = bias[o] + sum over (c, i, j) of weight[o, c, i, j] * x[c, h * stride + i * dilation - pad, ...]     any stride, dilation, groups
 *
 * x lies in blocks of VL channels (ceil(C / VL), rows, columns, VL), unused lanes zero (pixel = VL), or, where channels are few, in planes
 * (C, rows, columns) (pixel = 1), with zeros around the image wherever a tap reads; y lies in blocks. A product is a sum over entries
 * k = (block of channels, kernel row, kernel column, lane), each of which reads x at a fixed distance from the pixel. These distances are
 * tabulated (struct channels_entries), so that neither stride nor dilation, nor how many lanes of a block are used, costs anything.
 *
 * Output blocks are taken in tiles of up to CHANNELS_NV. A tile reads the channels [first, end) of the groups that it spans: all of them
 * where groups = 1, and nothing in vain where a group's outputs fill whole blocks. Otherwise weights of other groups are packed as zeros.
 *
 * Packed weights, and packed weight gradients:   [tile][class of taps][entries][blocks of the tile][VL]
 * Forward there is one class. An input gradient of stride s is s * s products, one for every s-th row and column of the input, each with
 * the taps that reach these: a class of taps i = r, r + step, ..., with step = stride / gcd(stride, dilation) in either direction.
 * Depthwise (groups = C = O, in blocks) has tiles of one block and entries of one tap: [block][class of taps][tap][VL].
 */
#ifndef FASTNN_CHANNELS_H
#define FASTNN_CHANNELS_H

#include "conv/blocks.h"

struct channels_conv {
    i64 C, O, H, W, OH, OW;                 /* x (C, H, W), y (O, OH, OW) */
    i64 kh, kw, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, groups;
    i64 pixel;                              /* of x: VL or 1 */
};

/* Images that one product runs over, and floats from one to the next in the input and in the output (or its gradient) */
struct channels_images { i64 count, input, output; };

/* The convolution that a weight is packed for: from the channels `from` to the channels `to`. The input gradient exchanges them. */
struct channels_packing { i64 from, to, groups, kh, kw, step_h, step_w, pixel; int exchanged, depthwise; };

INLINE i64 channels_step(i64 stride, i64 dilation) {
    i64 a = stride, b = dilation;
    while (b) { const i64 rest = a % b; a = b, b = rest; }
    return stride / a;
}
INLINE struct channels_packing channels_packing(const struct channels_conv *s) {
    const int depthwise = s->groups == s->C && s->groups == s->O && s->pixel == VL && s->C > 1;
    return (struct channels_packing){s->C, s->O, s->groups, s->kh, s->kw, 1, 1, s->pixel, 0, depthwise};
}
INLINE struct channels_packing channels_packing_input(const struct channels_conv *s) {
    struct channels_packing p = channels_packing(s);
    p.from = s->O, p.to = s->C, p.pixel = VL, p.exchanged = 1;
    p.step_h = channels_step(s->stride_h, s->dilation_h), p.step_w = channels_step(s->stride_w, s->dilation_w);
    return p;
}

/* Output blocks [block, block + blocks), which read the channels [first, end); `at`: floats of packed weights before it.
 * Depthwise: one block, one entry a tap (first = 0, end = 1), which reads the block of the same number. */
struct channels_tile { i64 block, blocks, first, end, at; };

/* The tile after t (or the first one, after one of zeros); 0: there is none. With one group tiles are about equally wide. */
INLINE int channels_next_tile(const struct channels_packing *p, struct channels_tile *t) {
    const i64 blocks = ceil_div(p->to, VL), outputs = p->to / p->groups, inputs = p->from / p->groups;
    t->at += t->blocks * VL * (t->end - t->first) * p->kh * p->kw;
    t->block += t->blocks;
    if (t->block >= blocks) return 0;
    if (p->depthwise) { t->blocks = t->end = 1; return 1; }
    if (p->groups == 1) t->blocks = ceil_div(blocks - t->block, ceil_div(blocks - t->block, CHANNELS_NV));
    else for (t->blocks = CHANNELS_NV; t->blocks > 1 && outputs % (t->blocks * VL); t->blocks--) {}
    t->first = t->block * VL / outputs * inputs;
    t->end = ceil_div(i64_min(p->to, (t->block + t->blocks) * VL), outputs) * inputs;
    return 1;
}

INLINE i64 channels_tiles(const struct channels_packing *p) {
    i64 count = 0;
    for (struct channels_tile t = {0}; channels_next_tile(p, &t);) count++;
    return count;
}

/* Floats of packed weights, or of a packed weight gradient */
INLINE i64 channels_packed_floats(const struct channels_packing *p) {
    struct channels_tile t = {0};
    while (channels_next_tile(p, &t)) {}
    return t.at;
}

/* Taps of the class r of one direction: how many there are, and how many are in the classes before */
INLINE i64 channels_class(i64 k, i64 step, i64 r) { return r < k ? ceil_div(k - r, step) : 0; }
INLINE i64 channels_before(i64 k, i64 step, i64 r) { return r * (k / step) + i64_min(r, k % step); }

/* Where channel c and kernel position (i, j) lie in a tile's packed weights, in entries. Taps of exchanged packings run backwards. */
INLINE i64 channels_entry(const struct channels_packing *p, const struct channels_tile *t, i64 c, i64 i, i64 j) {
    const i64 block = p->pixel == VL ? c / VL * VL : c, begin = i64_max(t->first, block), lanes = i64_min(t->end, block + p->pixel) - begin;
    i64 taps = p->kh * p->kw, before = 0, tap = i * p->kw + j;
    if (p->step_h > 1 || p->step_w > 1) {
        const i64 r = i % p->step_h, q = j % p->step_w;
        const i64 rows = channels_class(p->kh, p->step_h, r), columns = channels_class(p->kw, p->step_w, q);
        taps = rows * columns, tap = i / p->step_h * columns + j / p->step_w;
        before = channels_before(p->kh, p->step_h, r) * p->kw + rows * channels_before(p->kw, p->step_w, q);
    }
    if (p->exchanged) tap = taps - 1 - tap;
    return (t->end - t->first) * before + (begin - t->first) * taps + tap * lanes + c - begin;
}

/* Depthwise: one tile of packed <- weight (C, 1, kh, kw) */
KERNEL void channels_pack_depthwise(const struct channels_packing *p, const struct channels_tile *t, const float *weight, float *packed) {
    for (i64 i = 0; i < p->kh; i++) for (i64 j = 0; j < p->kw; j++) {
        float *to = packed + t->at + channels_entry(p, t, 0, i, j) * VL;
        for (i64 lane = 0, c = t->block * VL; lane < VL; lane++, c++) to[lane] = c < p->to ? weight[(c * p->kh + i) * p->kw + j] : 0.0f;
    }
}

/* One tile of packed <- weight (O, C / groups, kh, kw). VL vectors are transposed at a time, along what is contiguous: for each lane all
 * taps of all channels, or, exchanged, the taps of one. */
KERNEL void channels_pack_tile(const struct channels_packing *p, const struct channels_tile *t, const float *weight, float *packed) {
    if (p->depthwise) { channels_pack_depthwise(p, t, weight, packed); return; }
    const i64 taps = p->kh * p->kw, inputs = p->from / p->groups, outputs = p->to / p->groups, floats = p->to * inputs * taps;
    const i64 run = p->exchanged ? taps : inputs * taps, wide = t->blocks * VL;
    for (i64 block = t->block; block < t->block + t->blocks; block++) for (i64 c = t->first; c < t->end; c += run / taps) {
        const i64 group = c / inputs;
        float *const to = packed + t->at + (block - t->block) * VL;
        for (i64 k = 0; k < run; k += VL) {
            vf r[VL];
            UNROLL for (int i = 0; i < VL; i++) {
                const i64 o = block * VL + i, at = p->exchanged ? (c * outputs + o - group * outputs) * taps + k : o * inputs * taps + k;
                if (o < group * outputs || o >= (group + 1) * outputs) r[i] = (vf){0};
                else r[i] = at + VL <= floats ? v_load(weight + at) : v_load_partial(weight + at, floats - at, 0);
            }
            v_transpose(r);
            const i64 n = i64_min(VL, run - k);
            i64 channel = c + k / taps, i = k % taps / p->kw, j = k % p->kw;
            UNROLL for (int lane = 0; lane < VL; lane++) if (lane < n) {
                v_store(to + channels_entry(p, t, channel, i, j) * wide, r[lane]);
                if (++j == p->kw) j = 0, i++;
                if (i == p->kh) i = 0, channel++;
            }
        }
    }
}

/* Rows o of one tile of grad_weight (O, C / groups, kh, kw) <- the sum of `parts` packed gradients, `step` floats apart, in order */
KERNEL void channels_unpack_tile(const struct channels_packing *p, const struct channels_tile *t, const float *packed, i64 parts, i64 step,
                                 float *grad_weight) {
    if (p->depthwise) {
        for (i64 lane = 0, c = t->block * VL; c < i64_min(p->to, (t->block + 1) * VL); lane++, c++) for (i64 k = 0; k < p->kh * p->kw; k++) {
            float sum = 0;
            for (i64 part = 0; part < parts; part++) sum += packed[part * step + t->at + k * VL + lane];
            grad_weight[c * p->kh * p->kw + k] = sum;
        }
        return;
    }
    const i64 taps = p->kh * p->kw, inputs = p->from / p->groups, outputs = p->to / p->groups, run = inputs * taps, wide = t->blocks * VL;
    for (i64 block = t->block; block < t->block + t->blocks; block++) for (i64 c = t->first; c < t->end; c += inputs) {
        const i64 begin = c / inputs * outputs, end = i64_min(p->to, begin + outputs);
        for (i64 k = 0; k < run; k += VL) {
            vf r[VL];
            const i64 n = i64_min(VL, run - k);
            i64 channel = c + k / taps, i = k % taps / p->kw, j = k % p->kw;
            UNROLL for (int lane = 0; lane < VL; lane++) {
                r[lane] = (vf){0};
                if (lane >= n) continue;
                const float *from = packed + t->at + channels_entry(p, t, channel, i, j) * wide + (block - t->block) * VL;
                for (i64 part = 0; part < parts; part++) r[lane] += v_load(from + part * step);
                if (++j == p->kw) j = 0, i++;
                if (i == p->kh) i = 0, channel++;
            }
            v_transpose(r);
            UNROLL for (int lane = 0; lane < VL; lane++) {
                const i64 o = block * VL + lane;
                if (o >= begin && o < end) v_store_lanes(grad_weight + o * run + k, r[lane], n);
            }
        }
    }
}

/* ---- entries ---- */

enum { CHANNELS_ENTRIES = 1024 };           /* of a tile at a time: their weights stay in L2 while all pixels pass by */

/* The taps of one product in one direction: how many, and the pixels from where an output reads to the first of them, and to the next */
struct channels_taps { i64 count, at, by; };

/* Walks through a product's entries: distances in floats, up to CHANNELS_ENTRIES at a time */
struct channels_entries {
    struct channels_taps rows, columns;
    i64 pixel, row, plane;                  /* of the source */
    i64 end, c, i, j;                       /* channels up to end; the next one, and its tap */
    i64 count;
    int32_t *offset;                        /* CHANNELS_ENTRIES + VL of them */
};

INLINE int channels_next_entries(struct channels_entries *e) {
    e->count = 0;
    while (e->c < e->end) {
        const i64 block = e->c / e->pixel, lane = e->c % e->pixel, lanes = i64_min(e->pixel - lane, e->end - e->c);
        const i64 base = block * e->plane + lane;
        for (; e->i < e->rows.count; e->i++, e->j = 0) for (; e->j < e->columns.count; e->j++) {
            if (e->count + lanes > CHANNELS_ENTRIES) return 1;
            const i64 at = base + (e->rows.at + e->i * e->rows.by) * e->row + (e->columns.at + e->j * e->columns.by) * e->pixel;
            vi v = v_count(at, 1);
            memcpy(e->offset + e->count, &v, sizeof v);
            e->count += lanes;
        }
        e->i = e->j = 0, e->c += lanes;
    }
    return e->count > 0;
}

#endif
