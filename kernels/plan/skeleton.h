/* A stage to copy: y (N, C) = scale (C,) * x (N, C), row by row on all threads.
 *
 * First: shapes of all arrays; FLOPs and bytes, and the floor that they set; when it is done, the share of the floor reached. Here 1 FLOP
 * and 8 bytes an entry: memory bounds it, at some 10 GB/s a core where x does not fit a cache.
 */
#ifndef FASTNN_SKELETON_H
#define FASTNN_SKELETON_H

#include "base/lanes.h"
#include "base/threads.h"
#include "plan/stages.h"

/* To stages.h and stages.pxi. All arrays are C-contiguous float32, and their sizes were checked when the stage was made. */
struct skeleton {
    int64_t N, C;
    const float *x, *scale;             /* x NULL: the program's input */
    float *y;
};

/* Tasks are cut by shape alone, never by the number of threads: then the bits are the same for every number of them. */
enum { SKELETON_ROWS = 16 };

struct skeleton_task { const struct skeleton *s; const float *x; };

static void skeleton_rows(void *context, i64 index) {
    const struct skeleton_task *t = context;
    const i64 C = t->s->C, end = i64_min((index + 1) * SKELETON_ROWS, t->s->N);
    for (i64 n = index * SKELETON_ROWS; n < end; n++)
        for (i64 c = 0; c < C; c += VL) {               /* the last vector may be a part of one */
            const i64 lanes = i64_min(VL, C - c);
            v_store_lanes(t->s->y + n * C + c, v_load_lanes(t->s->scale + c, lanes, 0) * v_load_lanes(t->x + n * C + c, lanes, 0), lanes);
        }
}

/* The stage's forward; its backward has the same signature. Anything but PROGRAM_DONE ends the program. */
KERNEL int skeleton_forward(const void *arguments, struct program *program) {
    const struct skeleton *s = arguments;
    struct skeleton_task t = {s, s->x ? s->x : program->input};
    /* the second argument is the work in FLOPs: little of it runs on one thread */
    fastnn_parallel(ceil_div(s->N, SKELETON_ROWS), (double)(s->N * s->C), skeleton_rows, &t);
    return PROGRAM_DONE;
}

#endif
