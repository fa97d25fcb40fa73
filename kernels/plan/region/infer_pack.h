/* Weights of a region's inference, as its kernels read them: batch norm folded in, packed, and kept in the state.
 *
 *   (conv + bias - mean) * scale + beta = conv with weight * scale + ((bias - mean) * scale + beta)      scale = gamma / sqrt(var + eps)
 *
 * Where the parameters are not frozen, what was packed is kept beside a copy of what it was made of, and made again where that
 * differs: comparing takes little, and packing takes longer than the convolutions of a few images.
 */
#ifndef FASTNN_INFER_PACK_H
#define FASTNN_INFER_PACK_H

#include <math.h>

#include "plan/region/infer_plan.h"

struct infer_pack {
    const struct region *r;
    struct infer_plan *plan;
    float *state, *folded;              /* folded: weights times scale, of all steps */
    i64 changed[INFER_STEPS * REGION_MOST_NODES];
    i64 folded_at[INFER_STEPS * REGION_MOST_NODES];
};

INLINE int infer_is_conv(const struct infer_step *s) { return s->kind == INFER_CONV || s->kind == INFER_WINOGRAD; }

/* scale and shift of a norm's channel c, with a bias before it */
INLINE float infer_affine(const struct region_norm *norm, i64 c, float bias, float *shift) {
    if (!norm->used) {
        *shift = bias;
        return 1;
    }
    const double scale = (norm->gamma ? norm->gamma[c] : 1) / sqrt(norm->running_var[c] + norm->eps);
    *shift = (float)((bias - (double)norm->running_mean[c]) * scale + (norm->beta ? norm->beta[c] : 0));
    return (float)scale;
}

/* Whether a step's parameters differ from the copy, which becomes them */
static int infer_given_changed(const struct region_node *d, const struct region_norm *norm, i64 weights, float *copy) {
    const struct { const float *at; i64 count; } given[] = {
        {d->weight, weights}, {d->bias, d->C}, {norm->gamma, norm->used ? d->C : 0}, {norm->beta, norm->used ? d->C : 0},
        {norm->running_mean, norm->used ? d->C : 0}, {norm->running_var, norm->used ? d->C : 0}};
    int changed = 0;
    for (size_t i = 0; i < sizeof given / sizeof *given; i++) {
        const size_t bytes = given[i].at ? (size_t)given[i].count * sizeof(float) : 0;
        if (bytes && memcmp(copy, given[i].at, bytes)) memcpy(copy, given[i].at, bytes), changed = 1;
        copy += bytes / sizeof(float);
    }
    return changed;
}

/* Task: whether step i is to be packed; then its bias, and its weights with the scale */
static void infer_fold_step(void *context, int64_t i) {
    struct infer_pack *t = context;
    const struct infer_step *s = &t->plan->step[i];
    t->changed[i] = 0;
    if (!infer_is_conv(s)) return;
    const struct region_node *d = &t->r->node[s->conv];
    const struct region_norm *norm = &t->r->node[s->join].norm[s->join_slot];
    const i64 K = s->shape.C / d->groups * d->kh * d->kw;
    t->changed[i] = !t->plan->packed;
    if (!t->r->frozen) t->changed[i] |= infer_given_changed(d, norm, d->C * K, t->state + s->copy_at);
    if (!t->changed[i]) return;
    for (i64 c = 0; c < round_up(d->C, VL); c++) {
        float shift = 0;
        if (c < d->C) {
            const float scale = infer_affine(norm, c, d->bias ? d->bias[c] : 0, &shift);
            if (norm->used) for (i64 k = 0; k < K; k++) t->folded[t->folded_at[i] + c * K + k] = d->weight[c * K + k] * scale;
        }
        t->state[s->bias_at + c] = shift;
    }
}

/* Task: one piece of one step */
static void infer_pack_piece(void *context, int64_t index) {
    const struct infer_pack *t = context;
    i64 i = 0;
    for (;; i++) {
        const i64 pieces = infer_is_conv(&t->plan->step[i]) ? t->plan->step[i].pieces : 0;
        if (index < pieces) break;
        index -= pieces;
    }
    const struct infer_step *s = &t->plan->step[i];
    if (!t->changed[i]) return;
    const float *weight = t->r->node[s->join].norm[s->join_slot].used ? t->folded + t->folded_at[i] : t->r->node[s->conv].weight;
    float *to = t->state + s->packed_at;
    if (s->kind == INFER_WINOGRAD) {
        winograd_pack(&s->winograd, weight, 0, to, index * 8, i64_min(s->shape.C, (index + 1) * 8));
        return;
    }
    struct channels_tile tile = {0};
    for (i64 k = 0; k <= index; k++) channels_next_tile(&s->packing, &tile);
    channels_pack_tile(&s->packing, &tile, weight, to);
}

/* Affines of sums, whose sources are no convolutions */
static void infer_pack_affines(const struct region *r, const struct infer_plan *p, float *state) {
    for (i64 i = 0; i < p->steps; i++) for (i64 k = 0; k < p->step[i].sources; k++) {
        const struct infer_step *s = &p->step[i];
        if (s->affine_at[k] < 0) continue;
        const struct region_node *d = &r->node[s->node];
        float *scale = state + s->affine_at[k], *shift = scale + round_up(d->C, VL);
        for (i64 c = 0; c < d->C; c++) scale[c] = infer_affine(&d->norm[s->slot[k]], c, 0, &shift[c]);
    }
}

/* Makes all packed weights what the parameters say now. -1: no memory */
KERNEL int infer_pack(const struct region *r, struct infer_plan *p) {
    if (r->frozen && p->packed) return 0;
    struct infer_pack t = {.r = r, .plan = p, .state = r->state};
    i64 floats = 0, pieces = 0;
    for (i64 i = 0; i < p->steps; i++) if (infer_is_conv(&p->step[i])) {
        t.folded_at[i] = infer_reserve(&floats, p->step[i].given_floats);
        pieces += p->step[i].pieces;
    }
    t.folded = fastnn_scratch(SCRATCH_CONV_WEIGHT, (size_t)floats * sizeof(float));
    if (!t.folded) return -1;
    fastnn_parallel(p->steps, 10.0 * (double)floats, infer_fold_step, &t);
    i64 changed = 0;
    for (i64 i = 0; i < p->steps; i++) changed |= t.changed[i];
    if (changed) fastnn_parallel(pieces, 40.0 * (double)floats, infer_pack_piece, &t);
    infer_pack_affines(r, p, r->state);
    p->packed = 1;
    return 0;
}

#endif
