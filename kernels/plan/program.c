/* Runs a plan's program: its stages in order, each on as many threads as it takes. */
#include "base/stopping.h"
#include "base/threads.h"
#include "plan/stages.h"

#include <math.h>
#include <time.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int fastnn_run(struct program *p) {
    double before = now();
    p->loss = NAN; /* unless a stage computes it */
    for (int64_t i = 0; i < p->stages; i++) {
        if (fastnn_stopped()) return PROGRAM_STOPPED;
        if (i == p->updates_from) fastnn_stoppable_hold();
        int status = p->function[i](p->arguments[i], p);
        if (status) return status;
        double after = now();
        p->seconds[i] = after - before;
        before = after;
    }
    return PROGRAM_DONE;
}
