/* Plan of a region's inference: its nodes as steps, and where their values lie. Made in the first call, kept in the state.
 *
 * Layout: channels in the lanes, (blocks, rows, columns, VL), with the border of zeros that the value's readers need around the image; an
 * INPUT of few channels that convolutions alone read lies in planes, and where it needs no border it is read where the caller has it.
 * A convolution takes a JOIN's bias, batch norm (folded into its weights), residual sum, activation and 2x2 pooling into its
 * epilogue; what does not fit there is a step of its own.
 *
 * Memory: values of the same geometry that do not live at the same time share a slot, so that borders are cleared once, not once for
 * each image. All slots together are an arena for one image; a group of images has as many of each slot.
 */
#ifndef FASTNN_INFER_PLAN_H
#define FASTNN_INFER_PLAN_H

#include "base/threads.h"
#include "conv/channels_forward.h"
#include "parts/activation.h"
#include "plan/region/region.h"
#include "plan/wide/layout.h"
#include "plan/wide/winograd.h"

enum {
    INFER_VALUES = 3, INFER_STEPS = 4,  /* for each node, at most */
    INFER_PLANAR = VL < 8 ? VL : 8,     /* an INPUT of fewer channels lies in planes */
    INFER_ALIGN = 64 / sizeof(float),
    INFER_ARENA = 1 << 17,              /* floats of a group's arena: it stays in L2, or is no larger than the weights that pass by */
    INFER_GROUP = 8,                    /* images of a group at most, */
    INFER_TASKS = 4,                    /* groups that a batch of so many images is cut into, at least */
    INFER_PIXELS = 256,                 /* and no more than make so many pixels of the smallest plane that is convolved */
    INFER_TRANSFORMS = 440,             /* FLOPs in the time that Winograd's transforms of a tile take for each channel in or out */
    INFER_TILES = 4,                    /* Winograd's tiles that a layer has at least */
};

/* image: floats of one; at: of its slot in the arena. outside: not there, but where the caller's array lies. */
struct infer_value { struct wide_place place; i64 image, at, last; int outside; };

enum infer_kind { INFER_LOAD, INFER_CONV, INFER_WINOGRAD, INFER_JOIN, INFER_POOL, INFER_CONCAT, INFER_STORE };

struct infer_step {
    enum infer_kind kind;
    i64 node, out;                      /* whose pooling, output or input it is; value that is written */
    i64 sources, source[REGION_MOST_SOURCES];   /* values; of a convolution the second one is its residual */
    i64 affine_at[REGION_MOST_SOURCES]; /* JOIN: floats in the state, scale and shift of the source; -1: none */
    i64 slot[REGION_MOST_SOURCES];      /* JOIN: the node's source that this is */
    int activation;
    float parameter;
    i64 rows, columns;                  /* that are written */
    /* convolution */
    i64 conv, join, join_slot;          /* nodes: itself; whose affine is folded */
    int pooled;                         /* WINOGRAD: 2x2 maxima are written */
    struct channels_conv shape;
    struct channels_packing packing;
    struct winograd winograd;
    i64 packed_at, bias_at, copy_at;    /* floats in the state */
    i64 given_floats, pieces;           /* floats of the copy; pieces that packing is cut into */
    double flops;
};

struct infer_plan {
    i64 made, packed;                   /* once at least */
    i64 packed_floats;
    i64 values, steps, group;
    i64 arena_at, arena, state;         /* floats: of one image's arena; of all */
    double flops;                       /* of an image */
    struct infer_value *value;
    struct infer_step *step;
};

INLINE i64 infer_plan_bytes(const struct region *r) {
    return round_up((i64)(sizeof(struct infer_plan) +
                          (size_t)r->nodes * (INFER_VALUES * sizeof(struct infer_value) + INFER_STEPS * sizeof(struct infer_step))), 64);
}

INLINE i64 infer_reserve(i64 *end, i64 floats) {
    const i64 at = *end;
    *end += round_up(floats, INFER_ALIGN);
    return at;
}

/* ---- values ---- */

INLINE int infer_winograd_fits(const struct region *r, const struct region_node *d) {
    const i64 tiles = ceil_div(d->H, 4) * ceil_div(d->W, 4), images = i64_max(1, i64_min(r->N / INFER_TASKS, INFER_GROUP));
    return !r->exact && d->kh == 3 && d->kw == 3 && d->stride_h == 1 && d->stride_w == 1 && d->dilation_h == 1 && d->dilation_w == 1 &&
           d->groups == 1 && r->node[d->source[0]].C >= 8 && d->C >= 8 && tiles * images >= INFER_TILES &&
           2 * d->H * d->W >= 16 * tiles;
}

/* Where the value of a node of the region lies: in planes, and with which border. */
KERNEL void infer_place(const struct region *r, i64 v, struct infer_value *to) {
    const struct region_node *d = &r->node[v];
    int planar = d->kind == REGION_INPUT && d->C < INFER_PLANAR && !d->y;
    i64 top = 0, left = 0, below = d->H, right = d->W;
    for (i64 i = v + 1; i < r->nodes; i++) for (i64 k = 0; k < r->node[i].sources; k++) if (r->node[i].source[k] == v) {
        const struct region_node *c = &r->node[i];
        if (c->kind != REGION_CONV || c->groups > 1) planar = 0;
        if (c->kind != REGION_CONV) continue;
        top = i64_max(top, c->pad_h), left = i64_max(left, c->pad_w);
        i64 rows = (c->H - 1) * c->stride_h + (c->kh - 1) * c->dilation_h + 1;
        i64 columns = (c->W - 1) * c->stride_w + (c->kw - 1) * c->dilation_w + 1;
        if (infer_winograd_fits(r, c)) rows = round_up(c->H, 4) + 2, columns = round_up(c->W, 4) + 2;
        below = i64_max(below, rows - c->pad_h), right = i64_max(right, columns - c->pad_w);
    }
    to->place = (struct wide_place){d->C, d->H, d->W, top + below, left + right, top, left, planar ? 1 : VL};
    to->outside = planar && !d->table && top + below == d->H && left + right == d->W;
}

/* Another value, of C channels without a border */
INLINE i64 infer_new_value(struct infer_plan *p, i64 C, i64 H, i64 W) {
    p->value[p->values].place = (struct wide_place){C, H, W, H, W, 0, 0, VL};
    return p->values++;
}

/* ---- steps ---- */

INLINE struct infer_step *infer_add(struct infer_plan *p, enum infer_kind kind, i64 node, i64 out) {
    struct infer_step *s = &p->step[p->steps++];
    *s = (struct infer_step){.kind = kind, .node = node, .out = out, .rows = p->value[out].place.H, .columns = p->value[out].place.W};
    return s;
}
INLINE void infer_reads(struct infer_step *s, i64 value, i64 affine_at, i64 slot) {
    s->source[s->sources] = value, s->affine_at[s->sources] = affine_at, s->slot[s->sources++] = slot;
}

INLINE void infer_activates(const struct infer_plan *p, struct infer_step *s, const struct region_node *join) {
    const struct wide_place *to = &p->value[s->out].place;
    s->activation = (int)join->activation, s->parameter = (float)join->parameter;
    s->flops += activation_flops(s->activation) * (double)(to->C * to->H * to->W);
}

/* The convolution that is source `slot` of the JOIN, with its bias and norm */
static struct infer_step *infer_add_conv(const struct region *r, struct infer_plan *p, i64 join, i64 slot, i64 out) {
    const i64 conv = r->node[join].source[slot];
    const struct region_node *d = &r->node[conv], *x = &r->node[d->source[0]];
    const int by_winograd = infer_winograd_fits(r, d);
    struct infer_step *s = infer_add(p, by_winograd ? INFER_WINOGRAD : INFER_CONV, join, out);
    infer_reads(s, d->source[0], -1, 0);
    s->conv = conv, s->join = join, s->join_slot = slot;
    s->shape = (struct channels_conv){x->C, d->C, x->H, x->W, d->H, d->W, d->kh, d->kw, d->stride_h, d->stride_w, d->pad_h, d->pad_w,
                                      d->dilation_h, d->dilation_w, d->groups, p->value[d->source[0]].place.lanes};
    s->packing = channels_packing(&s->shape);
    s->winograd = winograd_shape(x->C, d->C, d->H, d->W);
    s->rows = d->H, s->columns = d->W;
    s->packed_at = infer_reserve(&p->state, by_winograd ? winograd_weight_floats(&s->winograd) : channels_packed_floats(&s->packing));
    s->bias_at = infer_reserve(&p->state, round_up(d->C, VL));
    p->packed_floats += s->bias_at - s->packed_at;
    s->given_floats = d->C * (x->C / d->groups * d->kh * d->kw + 5);
    s->copy_at = infer_reserve(&p->state, r->frozen ? 0 : s->given_floats);
    s->pieces = by_winograd ? ceil_div(x->C, 8) : channels_tiles(&s->packing);
    s->flops = 2.0 * (double)(d->C * d->H * d->W) * (double)(x->C / d->groups * d->kh * d->kw);
    if (by_winograd) s->flops = 0.25 * s->flops + INFER_TRANSFORMS * (double)(s->winograd.TH * s->winograd.TW * (s->winograd.Cp + s->winograd.Op));
    if (s->packing.depthwise) s->flops *= 2;                /* half as fast */
    return s;
}

/* A JOIN with a convolution among its sources ends in that one's epilogue: the last of them. */
static void infer_add_join(const struct region *r, struct infer_plan *p, i64 v) {
    const struct region_node *d = &r->node[v];
    i64 main = -1, value[REGION_MOST_SOURCES], plain = 0, others = 0;
    for (i64 k = 0; k < d->sources; k++) if (r->node[d->source[k]].kind == REGION_CONV) main = k;
    for (i64 k = 0; k < d->sources; k++) if (k != main) {
        value[k] = d->source[k];
        if (r->node[value[k]].kind == REGION_CONV) {
            value[k] = infer_new_value(p, d->C, d->inner_H, d->inner_W);
            infer_add_conv(r, p, v, k, value[k]);
        }
        plain += r->node[d->source[k]].kind == REGION_CONV || !d->norm[k].used, others++;
    }
    const int two = d->pool == POOL_MAX && d->pool_h == 2 && d->pool_w == 2 && d->pool_stride_h == 2 && d->pool_stride_w == 2 &&
                    !d->pool_pad_h && !d->pool_pad_w;
    const int monotone = activation_is_monotone((int)d->activation, d->parameter);
    const int pooled = main >= 0 && two && monotone && infer_winograd_fits(r, &r->node[d->source[main]]);
    const int later = d->pool == POOL_MAX && monotone && activation_flops((int)d->activation) > 2;  /* activation of the pooled values */
    i64 out = d->pool && !pooled ? -1 : v, rest = -1;
    if (main < 0 && others == 1 && plain == 1 && out < 0 && (later || d->activation == ACTIVATION_NONE)) out = value[0];
    if (out < 0) out = infer_new_value(p, d->C, d->inner_H, d->inner_W);
    struct infer_step *s = NULL;
    if (main < 0 && out != value[0]) s = infer_add(p, INFER_JOIN, v, out);
    if (main >= 0 && others == 1 && plain == 1) for (i64 k = 0; k < d->sources; k++) if (k != main) rest = value[k];
    if (main >= 0 && others && rest < 0) s = infer_add(p, INFER_JOIN, v, rest = infer_new_value(p, d->C, d->inner_H, d->inner_W));
    if (s) for (i64 k = 0; k < d->sources; k++) if (k != main) {
        const int affine = r->node[d->source[k]].kind != REGION_CONV && d->norm[k].used;
        infer_reads(s, value[k], affine ? infer_reserve(&p->state, 2 * round_up(d->C, VL)) : -1, k);
    }
    if (main >= 0) {
        s = infer_add_conv(r, p, v, main, out);
        if (rest >= 0) infer_reads(s, rest, -1, 0);
        s->pooled = pooled;
    }
    if (s && (pooled || !later)) infer_activates(p, s, d);
    if (!d->pool || pooled) return;
    s = infer_add(p, INFER_POOL, v, v);
    infer_reads(s, out, -1, 0);
    if (later) infer_activates(p, s, d);
}

KERNEL void infer_add_node(const struct region *r, struct infer_plan *p, i64 v) {
    const struct region_node *d = &r->node[v];
    if (d->kind == REGION_INPUT && !p->value[v].outside) infer_add(p, INFER_LOAD, v, v);
    if (d->kind == REGION_JOIN) infer_add_join(r, p, v);
    if (d->kind == REGION_CONCAT) {
        struct infer_step *s = infer_add(p, INFER_CONCAT, v, v);
        for (i64 k = 0; k < d->sources; k++) infer_reads(s, d->source[k], -1, k);
    }
    if (d->y) infer_reads(infer_add(p, INFER_STORE, v, v), v, -1, 0);
}

/* ---- memory ---- */

INLINE int infer_same_geometry(const struct wide_place *a, const struct wide_place *b) {
    return wide_place_planes(a) == wide_place_planes(b) && a->rows == b->rows && a->cols == b->cols && a->H == b->H && a->W == b->W &&
           a->top == b->top && a->left == b->left && a->lanes == b->lanes;
}

/* Gives each value a slot: one that was free before its step, of its geometry, or a new one. */
KERNEL void infer_lay_out(struct infer_plan *p) {
    i64 placed[INFER_VALUES * REGION_MOST_NODES], count = 0;
    for (i64 v = 0; v < p->values; v++) p->value[v].image = wide_place_floats(&p->value[v].place), p->value[v].last = -1;
    for (i64 i = 0; i < p->steps; i++) {
        p->value[p->step[i].out].last = i;
        for (i64 k = 0; k < p->step[i].sources; k++) p->value[p->step[i].source[k]].last = i;
    }
    for (i64 i = 0; i < p->steps; i++) {
        const i64 v = p->step[i].out;
        struct infer_value *to = &p->value[v];
        if (p->step[i].kind == INFER_STORE) continue;
        to->at = -1;
        for (i64 a = 0; a < count && to->at < 0; a++) {
            const struct infer_value *other = &p->value[placed[a]];
            int free = infer_same_geometry(&other->place, &to->place);
            for (i64 b = 0; b < count; b++) free &= p->value[placed[b]].at != other->at || p->value[placed[b]].last < i;
            if (free) to->at = other->at;
        }
        if (to->at < 0) to->at = infer_reserve(&p->arena, to->image);
        placed[count++] = v;
    }
}

/* Images at a time: enough to fill register tiles and products where planes are small, while their values stay in L2. */
KERNEL void infer_choose_group(const struct region *r, struct infer_plan *p) {
    i64 least = INFER_PIXELS;
    for (i64 i = 0; i < p->steps; i++) {
        const struct infer_step *s = &p->step[i];
        if (s->kind == INFER_CONV || s->kind == INFER_WINOGRAD) least = i64_min(least, s->rows * s->columns), p->flops += s->flops;
    }
    const i64 fit = i64_max(INFER_ARENA, p->packed_floats) / i64_max(1, p->arena);
    p->group = i64_max(1, i64_min(i64_min(r->N / INFER_TASKS, INFER_GROUP), i64_min(fit, ceil_div(INFER_PIXELS, least))));
}

/* In memory of infer_plan_bytes */
SMALL struct infer_plan *infer_make_plan(const struct region *r, void *memory) {
    struct infer_plan *p = memory;
    memset(p, 0, (size_t)infer_plan_bytes(r));
    p->value = (struct infer_value *)(p + 1);
    p->step = (struct infer_step *)(p->value + INFER_VALUES * r->nodes);
    p->state = infer_plan_bytes(r) / (i64)sizeof(float);
    p->values = r->nodes;
    for (i64 v = 0; v < r->nodes; v++) infer_place(r, v, &p->value[v]);
    for (i64 v = 0; v < r->nodes; v++) infer_add_node(r, p, v);
    infer_lay_out(p);
    infer_choose_group(r, p);
    p->arena_at = infer_reserve(&p->state, r->N == 1 ? p->arena : 0);
    p->made = 1;
    return p;
}

#endif
