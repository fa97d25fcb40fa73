/* The plan of a region that trains: what is kept of each value, the operations in order, and where everything lies in memory.
 *
 * Values lie in blocks of channels without borders, (N, blocks, H * W, VL). A JOIN's value is
 *
 *   in place   of its only source's z, where the activation's slope follows from the value, without norm or pooling
 *   virtual    where it is cheap and read once: its reader makes it again from z while it loads its input
 *   stored     otherwise
 *
 * Forward and backward are lists of operations, each on a few images. They are cut into segments where the whole batch must be known:
 * between what sums over it (statistics of a norm; the two sums of its gradient) and what needs the sums. A segment takes a few images
 * at a time through all its operations, while they are in cache. The batch is cut into at most REGION_BLOCKS blocks of images by its
 * size alone; a block is a task, sums are kept by block and added in order.
 *
 * Memory is one arena. A buffer lives from the first segment that touches it to the last, buffers that never live at the same time
 * share memory, and what lives in one segment alone lies in its thread's scratch, for a few images.
 */
#ifndef FASTNN_REGION_PLAN_H
#define FASTNN_REGION_PLAN_H

#include "parts/activation.h"
#include "plan/region/conv.h"

enum {
    REGION_BLOCKS = 16,                     /* at most, */
    REGION_IMAGES = 8,                      /* of so many images or more, */
    REGION_FEW = 8,                         /* but at least so many blocks */
    REGION_MOST_OPS = 8 * REGION_MOST_NODES,
    REGION_MOST_BUFFERS = 3 * REGION_MOST_NODES,
    REGION_MOST_PARTIAL = 4 << 20,          /* floats of partial gradients of a segment with several convolutions, */
    REGION_MOST_WEIGHTS = 24 << 20,         /* and of the largest convolution alone, unless there are no more than */
    REGION_LEAST_BLOCKS = 4,
};

enum region_kept { REGION_STORED, REGION_VIRTUAL, REGION_IN_PLACE };

/* (images, blocks, pixels, VL): `image` floats an image, in the arena or, local, in scratch; lives in segments first to last */
struct region_buffer { i64 image, at, first, last; int used, local; };

/* Of a source of a JOIN, (Cp) each: affine(x) = x * scale + shift; gradient of x = from_g * g + from_x * (x - mean) + from_one; the batch's mean */
enum { REGION_SCALE, REGION_SHIFT, REGION_MEAN, REGION_FROM_G, REGION_FROM_X, REGION_FROM_ONE, REGION_CONSTANTS };

/* Of a block and channel: mean and squares about it, or sums of g and of g * (x - mean); and what joining them has rounded off */
enum { REGION_FIRST, REGION_SECOND, REGION_FIRST_LOW, REGION_SECOND_LOW, REGION_SUMS };

struct region_value {
    i64 CB, Cp;
    int planar, kept;                       /* INPUT: read from outside where it is needed; enum region_kept */
    int wants, has;                         /* whether a gradient of it is wanted, and one is made */
    i64 join, slot;                         /* CONV: its reader */
    i64 readers;
    struct region_buffer y, d, g;           /* value (CONV: z); its gradient, then without pooling that of the sum; with pooling that */
    i64 constants_at[REGION_MOST_SOURCES], sums_at[REGION_MOST_SOURCES];
    i64 known[REGION_MOST_SOURCES], summed;  /* segments that gather statistics, and the sums of the gradient */
    struct region_conv conv;
};

enum region_op_kind {
    REGION_LOAD, REGION_CONVOLVE, REGION_STATISTICS, REGION_FORM, REGION_CONCATENATE, REGION_OUTPUT,
    REGION_GRAD_OUTPUT, REGION_FORM_BACKWARD, REGION_SPREAD, REGION_CONVOLVE_BACKWARD, REGION_CONCATENATE_BACKWARD, REGION_GRAD_INPUT,
};

/* add: bits of the sources whose gradients are added to, not written. fresh: what CONVOLVE_BACKWARD leaves in scratch is taken from there
 * by FORM_BACKWARD, which comes next */
struct region_op { int kind, add, fresh; i64 node, slot; };

/* Operations [begin, end); group: images at a time; floats of a task's scratch, of a block's partial gradients */
struct region_segment { i64 begin, end, group, local_floats, sums_floats, partial_floats; double flops; };

struct region_plan {
    i64 made;
    i64 blocks, ops, segments, forward_segments;
    i64 input_floats, grad_floats, work_floats, plane_floats;       /* of a task's buffers */
    i64 packed_floats, transposed_floats, most_partial, most_local, most_sums;
    i64 arena_at, state_floats;
    struct region_op op[REGION_MOST_OPS];
    struct region_segment segment[REGION_MOST_OPS];
    struct region_value value[REGION_MOST_NODES];
};

INLINE i64 region_reserve(i64 *total, i64 floats) {
    i64 at = *total;
    *total += round_up(floats, REGION_ALIGN);
    return at;
}

INLINE void region_most(i64 *most, i64 floats) { *most = i64_max(*most, round_up(floats, REGION_ALIGN)); }

INLINE i64 region_block_begin(const struct region *r, const struct region_plan *p, i64 block) { return block * r->N / p->blocks; }

INLINE i64 region_inner(const struct region_node *j) { return j->inner_H * j->inner_W; }

/* ---- values ---- */

INLINE int region_normed(const struct region_node *j) {
    for (i64 k = 0; k < j->sources; k++)
        if (j->norm[k].used) return 1;
    return 0;
}

/* Where a JOIN's value is kept */
INLINE enum region_kept region_kept(const struct region *r, const struct region_plan *p, i64 v) {
    const struct region_node *j = &r->node[v];
    i64 conv_readers = 0;
    if (j->sources != 1 || j->pool != POOL_NONE || r->node[j->source[0]].kind != REGION_CONV) return REGION_STORED;
    if (!j->norm[0].used && activation_slope_from_y((int)j->activation, j->parameter)) return REGION_IN_PLACE;
    for (i64 i = v + 1; i < r->nodes; i++)
        conv_readers += r->node[i].kind == REGION_CONV && r->node[i].source[0] == v;
    if (p->value[v].readers == 0) return REGION_VIRTUAL;
    return p->value[v].readers == 1 && conv_readers == 1 && !j->y && activation_flops((int)j->activation) <= 2 ? REGION_VIRTUAL : REGION_STORED;
}

KERNEL void region_plan_values(const struct region *r, struct region_plan *p) {
    const i64 images = ceil_div(r->N, p->blocks);
    for (i64 v = 0; v < r->nodes; v++) {
        const struct region_node *n = &r->node[v];
        struct region_value *m = &p->value[v];
        m->CB = ceil_div(n->C, VL), m->Cp = m->CB * VL;
        m->planar = n->kind == REGION_INPUT;
        m->y.image = m->d.image = m->Cp * n->H * n->W;
        m->g.image = n->kind == REGION_JOIN ? m->Cp * region_inner(n) : 0;
        for (i64 k = 0; k < n->sources; k++) {
            struct region_value *s = &p->value[n->source[k]];
            s->readers++;
            if (n->kind != REGION_CONV) s->planar = 0;
            if (n->kind != REGION_JOIN) continue;
            if (r->node[n->source[k]].kind == REGION_CONV) s->join = v, s->slot = k;
            m->constants_at[k] = region_reserve(&p->state_floats, REGION_CONSTANTS * m->Cp);
            m->sums_at[k] = region_reserve(&p->state_floats, p->blocks * REGION_SUMS * m->Cp);
        }
        if (n->kind == REGION_JOIN && (n->pool != POOL_NONE || n->sources > 0))
            p->plane_floats = i64_max(p->plane_floats, region_inner(n) * VL);
    }
    for (i64 v = 0; v < r->nodes; v++) {
        const struct region_node *n = &r->node[v];
        struct region_value *m = &p->value[v];
        if (n->kind == REGION_JOIN) m->kept = region_kept(r, p, v);
        if (n->kind != REGION_CONV) continue;
        struct region_conv *c = &m->conv;
        region_plan_conv(n, &r->node[n->source[0]], r->exact != 0, images, c);
        c->packed_at = region_reserve(&p->packed_floats, c->packed_floats);
        c->transposed_at = region_reserve(&p->transposed_floats, c->transposed_floats);
    }
    for (i64 v = 0; v < r->nodes; v++)      /* an INPUT or output is turned round in the same scratch */
        region_most(&p->input_floats, i64_max(p->value[v].y.image, r->node[v].C * r->node[v].H * r->node[v].W));
}

/* Which gradients are wanted and which arrive */
KERNEL void region_plan_gradients(const struct region *r, struct region_plan *p) {
    for (i64 v = 0; v < r->nodes; v++) {
        const struct region_node *n = &r->node[v];
        int wants = n->grad_x || n->grad_weight || n->grad_bias;
        for (i64 k = 0; k < n->sources; k++)
            wants |= p->value[n->source[k]].wants || (n->kind == REGION_JOIN && (n->norm[k].grad_gamma || n->norm[k].grad_beta));
        p->value[v].wants = wants;
    }
    for (i64 v = r->nodes - 1; v >= 0; v--) {
        const struct region_node *n = &r->node[v];
        struct region_value *m = &p->value[v];
        m->has |= n->grad_y != NULL;        /* arrives */
        for (i64 k = 0; k < n->sources && m->has; k++) p->value[n->source[k]].has = 1;
    }
    for (i64 v = 0; v < r->nodes; v++) p->value[v].has &= p->value[v].wants;
}

/* ---- operations and segments ---- */

INLINE void region_new_segment(struct region_plan *p) {
    if (p->segment[p->segments].begin == p->ops) return;
    p->segment[p->segments].end = p->ops;
    p->segment[++p->segments] = (struct region_segment){.begin = p->ops};
}

INLINE struct region_op *region_add(struct region_plan *p, int kind, i64 node, i64 slot) {
    p->op[p->ops] = (struct region_op){.kind = kind, .node = node, .slot = slot};
    return &p->op[p->ops++];
}

INLINE void region_touch(struct region_plan *p, struct region_buffer *b) {
    if (!b->used) b->first = p->segments;
    b->used = 1;
    b->last = p->segments;
}

INLINE int region_in_place(const struct region_plan *p, i64 v) { return p->value[v].kept == REGION_IN_PLACE; }
/* Where value v lies: not for virtual ones */
INLINE struct region_buffer *region_y(const struct region *r, struct region_plan *p, i64 v) {
    return &p->value[region_in_place(p, v) ? r->node[v].source[0] : v].y;
}

/* Whether a JOIN's windows lie side by side and the largest of z tells the winner: then only what the winners get is kept of its gradient. */
INLINE int region_by_winners(const struct region *r, i64 v) {
    const struct region_node *j = &r->node[v];
    return j->pool == POOL_MAX && j->sources == 1 && r->node[j->source[0]].kind == REGION_CONV && j->pool_h == j->pool_stride_h &&
           j->pool_w == j->pool_stride_w && !j->pool_pad_h && !j->pool_pad_w && activation_is_monotone((int)j->activation, j->parameter);
}
/* Where the gradient of a JOIN's sum lies */
INLINE struct region_buffer *region_g(const struct region *r, struct region_plan *p, i64 v) {
    return r->node[v].pool == POOL_NONE || region_by_winners(r, v) ? &p->value[v].d : &p->value[v].g;
}

/* The statistics that join v's constants are made of must be known. */
INLINE void region_know(const struct region *r, struct region_plan *p, i64 v) {
    for (i64 k = 0; k < r->node[v].sources; k++)
        if (r->node[v].norm[k].used && p->value[v].known[k] == p->segments) region_new_segment(p);
}

/* Value v is read, by an operation that is about to be added. */
INLINE void region_read(const struct region *r, struct region_plan *p, i64 v) {
    if (p->value[v].kept == REGION_VIRTUAL) {
        region_know(r, p, v);
        region_touch(p, &p->value[r->node[v].source[0]].y);
    } else if (!p->value[v].planar) {
        region_touch(p, region_y(r, p, v));
    }
}

KERNEL void region_plan_forward(const struct region *r, struct region_plan *p) {
    for (i64 v = 0; v < r->nodes; v++) {
        const struct region_node *n = &r->node[v];
        struct region_value *m = &p->value[v];
        switch (n->kind) {
        case REGION_INPUT:
            if (m->planar) break;
            region_touch(p, &m->y);
            region_add(p, REGION_LOAD, v, 0);
            break;
        case REGION_CONV:
            region_read(r, p, n->source[0]);
            region_touch(p, &m->y);
            region_add(p, REGION_CONVOLVE, v, 0);
            p->segment[p->segments].group = i64_max(p->segment[p->segments].group, m->conv.group);
            p->segment[p->segments].flops += region_conv_flops(&m->conv);
            break;
        case REGION_JOIN:
            if (m->kept == REGION_VIRTUAL) break;
            region_know(r, p, v);
            for (i64 k = 0; k < n->sources; k++) region_read(r, p, n->source[k]);
            region_touch(p, region_y(r, p, v));
            region_add(p, REGION_FORM, v, 0);
            break;
        default:
            for (i64 k = 0; k < n->sources; k++) region_read(r, p, n->source[k]);
            region_touch(p, &m->y);
            region_add(p, REGION_CONCATENATE, v, 0);
        }
        if (n->y) {
            region_read(r, p, v);
            region_add(p, REGION_OUTPUT, v, 0);
        }
        for (i64 j = v + 1; j < r->nodes; j++) for (i64 k = 0; k < r->node[j].sources; k++) {
            if (r->node[j].kind != REGION_JOIN || r->node[j].source[k] != v || !r->node[j].norm[k].used) continue;
            region_read(r, p, v);
            region_add(p, REGION_STATISTICS, j, k);
            p->value[j].known[k] = p->segments;
        }
    }
    region_new_segment(p);
    p->forward_segments = p->segments;
}

/* Whether backward takes the activation's slope from the stored value */
INLINE int region_from_y(const struct region_node *j, int kept) {
    return kept != REGION_VIRTUAL && j->pool == POOL_NONE && activation_slope_from_y((int)j->activation, j->parameter);
}

/* A gradient of value v is written, or added to what is there: the answer is which. */
INLINE int region_give(struct region_plan *p, i64 v) {
    const int there = p->value[v].d.used;
    region_touch(p, &p->value[v].d);
    return there;
}

KERNEL void region_plan_backward(const struct region *r, struct region_plan *p) {
    for (i64 v = r->nodes - 1; v >= 0; v--) {
        const struct region_node *n = &r->node[v];
        struct region_value *m = &p->value[v];
        if (!m->has) continue;
        if (n->grad_y) {
            const int there = region_give(p, v);
            region_add(p, REGION_GRAD_OUTPUT, v, 0)->add = there;
        }
        if (n->kind == REGION_INPUT) {
            region_touch(p, &m->d);
            region_add(p, REGION_GRAD_INPUT, v, 0);
        } else if (n->kind == REGION_CONV) {
            const struct region_node *j = &r->node[m->join];
            struct region_segment *s = &p->segment[p->segments];
            const int full = s->partial_floats > 0 && (s->partial_floats + m->conv.partial_floats) * p->blocks > REGION_MOST_PARTIAL;
            if (full || (j->norm[m->slot].used && p->value[m->join].summed == p->segments)) region_new_segment(p);
            s = &p->segment[p->segments];
            region_touch(p, region_g(r, p, m->join));
            if (j->norm[m->slot].used || region_by_winners(r, m->join)) region_touch(p, &m->y);
            if (n->grad_weight) {
                region_read(r, p, n->source[0]);
                m->conv.partial_at = region_reserve(&s->partial_floats, m->conv.partial_floats);
                m->conv.sums_at = region_reserve(&s->sums_floats, m->conv.sums_floats);
                s->flops += region_conv_flops(&m->conv);
            }
            const int there = p->value[n->source[0]].has ? region_give(p, n->source[0]) : 0;
            region_add(p, REGION_CONVOLVE_BACKWARD, v, 0)->add = there;
            s->group = i64_max(s->group, m->conv.group);
            s->flops += region_conv_flops(&m->conv);
        } else if (n->kind == REGION_CONCAT) {
            int add = 0;
            region_touch(p, &m->d);
            for (i64 k = 0; k < n->sources; k++)
                if (p->value[n->source[k]].has) add |= region_give(p, n->source[k]) << k;
            region_add(p, REGION_CONCATENATE_BACKWARD, v, 0)->add = add;
        } else {
            int add = 0;
            region_touch(p, &m->d);
            region_touch(p, region_g(r, p, v));
            if (region_from_y(n, m->kept)) region_touch(p, region_y(r, p, v));
            for (i64 k = 0; k < n->sources; k++) {
                const i64 s = n->source[k];
                if (n->norm[k].used || !region_from_y(n, m->kept)) region_read(r, p, s);
                if (r->node[s].kind != REGION_CONV && p->value[s].has && !n->norm[k].used) add |= region_give(p, s) << k;
            }
            region_add(p, REGION_FORM_BACKWARD, v, 0)->add = add;
            m->summed = p->segments;
            for (i64 k = 0; k < n->sources; k++) {
                const i64 s = n->source[k];
                if (!n->norm[k].used || r->node[s].kind == REGION_CONV || !p->value[s].has) continue;
                if (m->summed == p->segments) region_new_segment(p);
                region_touch(p, region_g(r, p, v));
                region_read(r, p, s);
                const int there = region_give(p, s);
                region_add(p, REGION_SPREAD, v, k)->add = there;
            }
        }
    }
    region_new_segment(p);
    for (i64 i = 0; i + 1 < p->ops; i++)
        if (p->op[i].kind == REGION_CONVOLVE_BACKWARD && p->op[i + 1].kind == REGION_FORM_BACKWARD && r->node[p->op[i].node].source[0] == p->op[i + 1].node)
            p->op[i].fresh = p->op[i + 1].fresh = 1;
}

/* ---- memory ---- */

/* The lowest place in the arena where b meets none of the `count` buffers there that live at the same time */
INLINE void region_put(struct region_buffer *const *there, i64 count, i64 N, struct region_buffer *b) {
    b->at = 0;
    for (i64 i = 0; i < count; i++) {
        const struct region_buffer *o = there[i];
        if (o->last < b->first || o->first > b->last || o->at + N * o->image <= b->at || b->at + N * b->image <= o->at) continue;
        b->at = o->at + N * o->image;
        i = -1;
    }
}

SMALL void region_plan_memory(const struct region *r, struct region_plan *p) {
    struct region_buffer *there[REGION_MOST_BUFFERS];
    i64 count = 0, arena = 0;
    for (i64 v = 0; v < r->nodes; v++) {
        struct region_buffer *const buffers[] = {&p->value[v].y, &p->value[v].d, &p->value[v].g};
        for (int i = 0; i < 3; i++) {
            struct region_buffer *b = buffers[i];
            b->image = round_up(b->image, REGION_ALIGN);
            if (!b->used) continue;
            b->local = b->first == b->last;
            if (b->local) {
                struct region_segment *s = &p->segment[b->first];
                b->at = region_reserve(&s->local_floats, i64_max(s->group, 1) * b->image);
                continue;
            }
            region_put(there, count, r->N, b);
            arena = i64_max(arena, b->at + r->N * b->image);
            there[count++] = b;
        }
    }
    p->arena_at = region_reserve(&p->state_floats, arena);
    for (i64 i = 0; i < p->segments; i++) {
        struct region_segment *s = &p->segment[i];
        s->group = i64_max(s->group, 1);
        s->flops *= (double)r->N;
        for (i64 k = s->begin; k < s->end; k++) {
            const struct region_conv *c = &p->value[p->op[k].node].conv;
            if (p->op[k].kind != REGION_CONVOLVE && p->op[k].kind != REGION_CONVOLVE_BACKWARD) {
                const struct region_node *n = &r->node[p->op[k].node];
                const double values = (double)(p->value[p->op[k].node].Cp * (n->kind == REGION_JOIN ? region_inner(n) : n->H * n->W));
                s->flops += values * (double)r->N * (5 + (n->kind == REGION_JOIN ? activation_flops((int)n->activation) : 0));
                continue;
            }
            region_most(&p->input_floats, region_mosaics(c, s->group) * wide_place_floats(&c->input));
            region_most(&p->input_floats, i64_max(region_mosaic_floats(c, s->group), region_input_grad_floats(c, s->group)));
            region_most(&p->grad_floats, region_mosaics(c, s->group) * wide_place_floats(&c->grad));
            region_most(&p->work_floats, c->work_floats);
        }
        p->most_partial = i64_max(p->most_partial, s->partial_floats);
        p->most_local = i64_max(p->most_local, s->local_floats);
        p->most_sums = i64_max(p->most_sums, s->sums_floats);
    }
}

/* Blocks of images, by the batch and the weights alone */
INLINE i64 region_blocks(const struct region *r) {
    const i64 blocks = i64_min(REGION_BLOCKS, i64_max(r->N / REGION_IMAGES, i64_min(r->N, REGION_FEW)));
    i64 weights = 1;
    for (i64 v = 0; v < r->nodes; v++) {
        const struct region_node *c = &r->node[v];
        if (c->kind == REGION_CONV) weights = i64_max(weights, c->C * r->node[c->source[0]].C / c->groups * c->kh * c->kw);
    }
    return i64_min(blocks, i64_max(REGION_LEAST_BLOCKS, REGION_MOST_WEIGHTS / weights));
}

SMALL void region_make_plan(const struct region *r, struct region_plan *p) {
    memset(p, 0, sizeof *p);
    p->blocks = region_blocks(r);
    p->state_floats = round_up((i64)(sizeof *p / sizeof(float)) + 1, REGION_ALIGN);
    region_plan_values(r, p);
    region_plan_gradients(r, p);
    region_plan_forward(r, p);
    region_plan_backward(r, p);
    region_plan_memory(r, p);
    p->made = 1;
}

#endif
