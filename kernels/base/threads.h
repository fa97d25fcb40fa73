/* The one thread pool: POSIX threads, no OpenMP, no BLAS. The calling thread works too. */
#ifndef FASTNN_THREADS_H
#define FASTNN_THREADS_H

#include <stddef.h>
#include <stdint.h>

typedef void (*fastnn_task)(void *context, int64_t index);

/* Runs task(context, 0 .. count-1), each once, in any order, on the pool; returns when all are done. Kernels cut their
 * work into tasks by the data alone, so that results are the same bits for any number of threads.
 * flops: rough arithmetic in all the tasks together; what one thread does faster than a hand-over is done by the caller.
 * A call from inside a task, or while another thread uses the pool, runs on the calling thread alone. */
void fastnn_parallel(int64_t count, double flops, fastnn_task task, void *context);

/* Whether the work under way is given up (see base/stopping.h): fastnn_parallel then leaves out what has not begun, and a loop over
 * many images within a task asks, and ends. */
int fastnn_stopped(void);

void fastnn_set_threads(int count);
int fastnn_get_threads(void);

/* A buffer of this thread's own, 64-byte aligned, kept between calls and grown on demand; its content is undefined.
 * One slot a purpose, so that nested kernels (a convolution calling the matmul) never share one. NULL: out of memory. */
enum scratch_slot {
    SCRATCH_GEMM_B, SCRATCH_GEMM_A, SCRATCH_GEMM_C, SCRATCH_CONV_WEIGHT, SCRATCH_CONV_IMAGE, SCRATCH_CONV_OUTPUT, SCRATCH_PARTIAL,
    SCRATCH_POOL, SCRATCH_DENSE, SCRATCH_WIDE, SCRATCH_WIDE_WEIGHT, SCRATCH_RECURRENT,
    SCRATCH_SLOTS
};
void *fastnn_scratch(enum scratch_slot slot, size_t bytes);
/* Frees the buffers of the calling thread and of the pool's, which start again when they are needed. Not from inside a task. */
void fastnn_release_scratch(void);
/* A number that has changed where a kernel that ran before may need more buffers on this thread, or the pool's, than then. */
int64_t fastnn_scratch_growths(void);

#endif
