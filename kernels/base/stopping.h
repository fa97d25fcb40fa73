/* Giving up long computations when a signal comes: Ctrl-C should not have to wait for a step over a whole data set.
 *
 * Python runs its handlers between two of its instructions, not within a kernel. Between _begin and _end, which the main thread
 * calls, a C handler notes the signals that end the work and passes them on; all that this thread has not begun to compute is then
 * left out, also in later kernels. What was to be computed is undefined, and the caller must not use it: _end says whether that
 * has happened. Between a _hold and the _end nothing is given up. */
#ifndef FASTNN_STOPPING_H
#define FASTNN_STOPPING_H

void fastnn_stoppable_begin(int on_interrupt, int on_terminate); /* by SIGINT, by SIGTERM */
void fastnn_stoppable_hold(void);
int fastnn_stoppable_end(void);

int fastnn_stop_noted(void);    /* whether what the calling thread computes is given up; kernels ask fastnn_stopped() of threads.h */

#endif
