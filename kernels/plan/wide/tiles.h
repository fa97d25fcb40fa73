/* A 3x3 layer of the wide chain by Winograd's F(4x4, 3x3) (wide/winograd.h), with bias, ReLU and 2x2 pooling before its outputs
 * leave the registers. 32 -> 64 channels, 26x26 -> 24x24: 83 thousand cycles of products (AVX-512), measured 117 thousand in all.
 *
 * Of tiles that lie over flat parts of the image (wide/flat.h) only the first is computed, the others are copies of it.
 */
#ifndef FASTNN_WIDE_TILES_H
#define FASTNN_WIDE_TILES_H

#include "plan/wide/plan.h"

/* A 4x4 tile of outputs is four windows of 2x2; rows, cols: of windows that the layer's output has from here on. */
INLINE void wide_pool_tile(const vf y[4][4], vf bias, int relu, i64 rows, i64 cols, float *dst, i64 row, int8_t *where, i64 where_row,
                           i64 where_step) {
    UNROLL for (int i = 0; i < 2; i++) UNROLL for (int j = 0; j < 2; j++) if (i < rows && j < cols) {
        vf best = y[2 * i][2 * j];
        vi place = {0};
        UNROLL for (int k = 1; k < 4; k++) pool_take(y[2 * i + k / 2][2 * j + k % 2], k, &best, &place);
        wide_pool_give(best + bias, place, relu, dst + i * row + j * VL, where ? where + i * where_row + j * where_step : NULL);
    }
}

/* What the tiles are written to: pooled outputs, or the convolution's own. */
struct wide_tiles {
    const struct wide_layer *layer;
    struct winograd shape;
    struct wide_view to;
    i64 size;                       /* pixels of `to` a tile's side has: 4, or 2 where pooled */
    i64 H, W;                       /* of `to` */
    int8_t *where;                  /* [H][W][OB][VL], or NULL */
    int relu;
};

static void wide_write_tile(const struct wide_tiles *t, i64 tile, const float *M, i64 step, const float *bias) {
    const i64 h = tile / t->shape.TW * t->size, w = tile % t->shape.TW * t->size, OB = t->layer->OB;
    for (i64 ob = 0; ob < OB; ob++) {
        vf y[4][4], b = v_load(bias + ob * VL);
        float *at = t->to.at + ob * t->to.plane + h * t->to.row + w * VL;
        winograd_output(M + ob * VL, step, y);
        if (t->size == 2) {
            int8_t *where = t->where ? t->where + ((h * t->W + w) * OB + ob) * VL : NULL;
            wide_pool_tile(y, b, t->relu, t->H - h, t->W - w, at, t->to.row, where, t->W * OB * VL, OB * VL);
        } else {
            UNROLL for (int i = 0; i < 4; i++) UNROLL for (int j = 0; j < 4; j++) if (h + i < t->H && w + j < t->W)
                v_store(at + i * t->to.row + j * VL, t->relu ? v_max((vf){0}, y[i][j] + b) : y[i][j] + b);
        }
    }
}

static void wide_copy_tile(const struct wide_tiles *t, i64 from, i64 to) {
    const i64 OB = t->layer->OB, h0 = from / t->shape.TW * t->size, w0 = from % t->shape.TW * t->size;
    const i64 h1 = to / t->shape.TW * t->size, w1 = to % t->shape.TW * t->size;
    for (i64 i = 0; i < t->size; i++) {
        for (i64 ob = 0; ob < OB; ob++) {
            const float *source = t->to.at + ob * t->to.plane + (h0 + i) * t->to.row + w0 * VL;
            float *copy = t->to.at + ob * t->to.plane + (h1 + i) * t->to.row + w1 * VL;
            for (i64 j = 0; j < t->size * VL; j += VL) v_store(copy + j, v_load(source + j));
        }
        int8_t *const where = t->where;
        if (where) memcpy(where + ((h1 + i) * t->W + w1) * OB * VL, where + ((h0 + i) * t->W + w0) * OB * VL, (size_t)(t->size * OB * VL));
    }
}

/* Of image n. */
INLINE struct wide_tiles wide_tiles_of(const struct wide_plan *p, i64 l, i64 n, float *scratch) {
    const struct wide_layer *m = &p->layer[l];
    const struct chain_layer *c = &p->chain->layer[l];
    const int pooled = c->pool == 2, later = c->pool > 2;           /* later: from the convolution's own outputs */
    const struct wide_view strip = {scratch + p->strip_at, m->conv.OH * m->conv.OW * VL, m->conv.OW * VL};
    return (struct wide_tiles){
        m, winograd_shape(m->conv.C, m->conv.O, m->conv.OH, m->conv.OW),
        later ? strip : wide_interior(&p->place[l + 1], wide_at(p, l + 1, n, scratch)), pooled ? 2 : 4,
        pooled ? c->PH : m->conv.OH, pooled ? c->PW : m->conv.OW, pooled ? wide_where(p, l, n) : NULL, chain_relu(c) && !later};
}

/* Images n ... of several at a time only where no strip is pooled later. flat: of the layer's bordered input, or NULL */
static void wide_winograd_layer(const struct wide_plan *p, i64 l, const float *packed, i64 n, i64 images, const struct wide_flat *flat,
                                float *scratch) {
    const struct wide_layer *m = &p->layer[l];
    const struct chain_layer *c = &p->chain->layer[l];
    const struct wide_tiles t = wide_tiles_of(p, l, n, scratch);
    const struct winograd *w = &t.shape;
    const i64 in_image = w->TH * w->TW;
    struct wide_flat whole = {};
    i64 first_flat = -1, next = 0;
    if (flat) {
        whole = *flat;
        wide_flat_windows(&whole, m->conv.OH, 6, 6);
    }
#define FLAT(tile) (whole.row[4 * ((tile) / w->TW)] >> 4 * ((tile) % w->TW) & 1)
    while (next < in_image * images) {
        i64 tile[WIDE_TILES], T = 0;
        for (; next < in_image * images && T < m->tiles; next++) {
            if (flat && FLAT(next)) {
                if (first_flat >= 0) continue;
                first_flat = next;
            }
            tile[T++] = next;
        }
        const i64 v_step = winograd_step(T, w->Cp), m_step = winograd_step(T, w->Op);
        float *V = scratch + p->work_at, *M = V + WINOGRAD_POINTS * v_step;
        for (i64 i = 0; i < T; i++) {
            const struct wide_view src = wide_bordered(&p->place[l], wide_at(p, l, n + tile[i] / in_image, scratch));
            const float *from = src.at + 4 * (tile[i] % in_image / w->TW) * src.row + 4 * (tile[i] % w->TW) * VL;
            for (i64 cb = 0; cb < m->CB; cb++) winograd_input(from + cb * src.plane, src.row, V + i * w->Cp + cb * VL, v_step);
        }
        winograd_multiply(w, T, packed + m->packed_at, V, M);
        for (i64 i = 0; i < T; i++) {
            const struct wide_tiles of = wide_tiles_of(p, l, n + tile[i] / in_image, scratch);
            wide_write_tile(&of, tile[i] % in_image, M + i * w->Op, m_step, packed + m->bias_at);
        }
    }
    for (i64 i = first_flat + 1; first_flat >= 0 && i < in_image; i++) if (FLAT(i)) wide_copy_tile(&t, first_flat, i);
#undef FLAT
    if (c->pool <= 2) return;
    const struct wide_view dst = wide_interior(&p->place[l + 1], wide_at(p, l + 1, n, scratch));
    wide_pool_strip(c->pool, m->OB, c->PH, c->PW, t.to, chain_relu(c), dst, wide_where(p, l, n));
}

#endif
