/* The one thread pool.
 *
 * A job is open or closed. Each thread has a share of its task numbers, the same one in all jobs of that size, so that what it reads
 * again and again (the weights of one input's call, an image between forward and backward) is in its own cache; when its share is
 * used up it takes from the others'. A late worker's share is thus done by those who are there. Closing needs no
 * check-in of every worker: a worker first raises `inside`, then looks whether the job is open; the caller first closes
 * the job, then waits for `inside` to fall to zero. Both orders are sequentially consistent, so one always sees the other,
 * and a worker that overslept a job is not waited for.
 *
 * Idle workers spin for some time (the gap between two kernels of a training step), then sleep on a condition variable. They are not
 * woken for little work that comes after a pause: the caller alone is done with it sooner. pthread_atfork empties the pool in the
 * child, which starts threads of its own when it needs them.
 */
#include "base/threads.h"
#include "base/denormals.h"
#include "base/memory.h"
#include "base/stopping.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_THREADS 256
#define SPIN_NANOSECONDS 200000   /* that an idle worker spins: waking one takes tens of microseconds, of the caller's, too */
#define SPIN_ROUNDS 4000          /* of the caller, who waits for workers that end their last tasks */
#ifndef SERIAL_FLOPS              /* .ci/kernels has its checks share all work */
#define WAKING_FLOPS 1.0e7        /* about what one thread does while another one wakes up */
#define SERIAL_FLOPS 1.0e6        /* some tens of microseconds: below, a hand-over costs more than it saves */
#endif

#if defined(__x86_64__) || defined(__i386__)
#define pause_cpu() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define pause_cpu() __asm__ volatile("yield")
#else
#define pause_cpu() ((void)0)
#endif

static struct {
    fastnn_task task;
    void *context;
    uint64_t float_control;         /* the caller's: the same arithmetic on every thread */
    atomic_int shares, stopped;
} job;

/* Task numbers from `next` to `end`: each share lies on a cache line of its own */
static struct { _Alignas(64) _Atomic int64_t next; _Atomic int64_t end; } share[MAX_THREADS];

static atomic_int job_open, inside, sleepers, stopping;
static atomic_int wanted = 1;                              /* threads, the caller among them */
static int running;                                        /* workers that exist */
static int64_t last_job;                                   /* when one was handed out, in nanoseconds; in_use guards it */
static pthread_t workers[MAX_THREADS];
static pthread_mutex_t in_use = PTHREAD_MUTEX_INITIALIZER; /* held while a job runs or the pool changes size */
static pthread_mutex_t bed = PTHREAD_MUTEX_INITIALIZER;    /* guards falling asleep */
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static _Thread_local int in_task, is_worker, owns_job;

int fastnn_stopped(void) {
    if (is_worker) return atomic_load_explicit(&job.stopped, memory_order_relaxed);
    if (!fastnn_stop_noted()) return 0;
    if (owns_job) atomic_store(&job.stopped, 1);
    return 1;
}

static int used_up(int i) {
    return atomic_load_explicit(&share[i].next, memory_order_relaxed) >= atomic_load_explicit(&share[i].end, memory_order_relaxed);
}

static void take_tasks(int self) {
    const int shares = atomic_load(&job.shares);
    in_task = 1;
    for (int i = self; i < self + shares; i++) {
        const int from = i % shares;
        const int64_t end = atomic_load_explicit(&share[from].end, memory_order_relaxed);
        int64_t task;
        while (!used_up(from) && (task = atomic_fetch_add(&share[from].next, 1)) < end)
            if (!fastnn_stopped()) job.task(job.context, task);
    }
    in_task = 0;
}

static int work_left(void) {
    if (!atomic_load(&job_open)) return 0;
    for (int i = atomic_load(&job.shares) - 1; i >= 0; i--) if (!used_up(i)) return 1;
    return 0;
}

static int64_t nanoseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Until there is work, for a time that is told by a clock: a pause is ten times as long on one CPU as on another. */
static void spin(void) {
    const int64_t begin = nanoseconds();
    for (int round = 1; !work_left() && !atomic_load(&stopping); round++) {
        pause_cpu();
        if (round % 32 == 0 && nanoseconds() - begin > SPIN_NANOSECONDS) return;
    }
}

static void *worker(void *number) {
    const int self = (int)(intptr_t)number;
    is_worker = 1;
    for (;;) {
        spin();
        if (!work_left()) {
            pthread_mutex_lock(&bed);
            atomic_fetch_add(&sleepers, 1);
            while (!atomic_load(&job_open) && !atomic_load(&stopping)) pthread_cond_wait(&wake, &bed);
            atomic_fetch_sub(&sleepers, 1);
            pthread_mutex_unlock(&bed);
        }
        if (atomic_load(&stopping)) return NULL;
        atomic_fetch_add(&inside, 1);
        if (atomic_load(&job_open)) {
            set_float_control(job.float_control);
            take_tasks(self);
        }
        atomic_fetch_sub(&inside, 1);
    }
}

static void wake_sleepers(void) {
    if (atomic_load(&sleepers) > 0) {
        pthread_mutex_lock(&bed);
        pthread_cond_broadcast(&wake);
        pthread_mutex_unlock(&bed);
    }
}

/* in_use is held */
static void stop_workers(void) {
    atomic_store(&stopping, 1);
    wake_sleepers();
    for (int i = 0; i < running; i++) pthread_join(workers[i], NULL);
    running = 0;
    atomic_store(&stopping, 0);
}

static void reset_in_child(void) {
    running = 0;
    atomic_store(&stopping, 0);
    atomic_store(&job_open, 0);
    atomic_store(&inside, 0);
    atomic_store(&sleepers, 0);
    pthread_mutex_init(&in_use, NULL);
    pthread_mutex_init(&bed, NULL);
    pthread_cond_init(&wake, NULL);
}

static void watch_forks(void) { pthread_atfork(NULL, NULL, reset_in_child); }

/* in_use is held */
static void start_workers(void) {
    if (running > wanted - 1) stop_workers();
    while (running < wanted - 1) {
        if (pthread_create(&workers[running], NULL, worker, (void *)(intptr_t)(running + 1))) break; /* fewer threads: slower, the same result */
        running++;
    }
}

/* in_use is held. Whether the workers are asleep and not worth waking: for little work, before which there was none for a time. */
static int let_sleep(double flops) {
    const int64_t now = nanoseconds(), since = now - last_job;
    last_job = now;
    return flops < WAKING_FLOPS && since > SPIN_NANOSECONDS && running && atomic_load(&sleepers) == running;
}

void fastnn_parallel(int64_t count, double flops, fastnn_task task, void *context) {
    int alone = count <= 1 || wanted == 1 || in_task || flops < SERIAL_FLOPS || pthread_mutex_trylock(&in_use);
    if (!alone && let_sleep(flops)) {
        pthread_mutex_unlock(&in_use);
        alone = 1;
    }
    if (alone) {
        for (int64_t i = 0; i < count && !fastnn_stopped(); i++) task(context, i);
        return;
    }
    if (running != wanted - 1) start_workers();
    job.task = task;
    job.context = context;
    job.float_control = float_control();
    const int shares = running + 1;
    atomic_store(&job.shares, shares);
    for (int i = 0; i < shares; i++) {
        atomic_store_explicit(&share[i].next, i * count / shares, memory_order_relaxed);
        atomic_store_explicit(&share[i].end, (i + 1) * count / shares, memory_order_relaxed);
    }
    atomic_store(&job.stopped, 0);
    atomic_store(&job_open, 1);
    owns_job = 1;
    wake_sleepers();
    take_tasks(0);
    atomic_store(&job_open, 0);
    for (int round = 0; atomic_load(&inside) > 0; round++) {
        fastnn_stopped(); /* for the workers, who cannot know */
        if (round < SPIN_ROUNDS) pause_cpu();
        else sched_yield();
    }
    owns_job = 0;
    pthread_mutex_unlock(&in_use);
}

void fastnn_set_threads(int count) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
    pthread_mutex_lock(&in_use);
    wanted = count < 1 ? 1 : count > MAX_THREADS ? MAX_THREADS : count;
    last_job = INT64_MAX;                               /* the next job has that many, however small it is */
    pthread_mutex_unlock(&in_use);
}

int fastnn_get_threads(void) { return wanted; }

/* ---- scratch ---- */

struct scratch { void *data[SCRATCH_SLOTS]; size_t bytes[SCRATCH_SLOTS]; };

static _Thread_local struct scratch *own;
static _Atomic int64_t growths;
static pthread_key_t scratch_key;
static pthread_once_t scratch_once = PTHREAD_ONCE_INIT;

static void free_scratch(void *pointer) {
    struct scratch *s = pointer;
    for (int i = 0; i < SCRATCH_SLOTS; i++) free(s->data[i]);
    free(s);
    own = NULL;
}

static void make_key(void) { pthread_key_create(&scratch_key, free_scratch); }

void *fastnn_scratch(enum scratch_slot slot, size_t bytes) {
    if (!own) {
        pthread_once(&scratch_once, make_key);
        own = calloc(1, sizeof *own);
        if (!own) return NULL;
        pthread_setspecific(scratch_key, own);
    }
    if (own->bytes[slot] < bytes || !own->data[slot]) {
        size_t size = (bytes + 4095) / 4096 * 4096 + 4096;
        free(own->data[slot]);
        own->bytes[slot] = 0;
        atomic_fetch_add(&growths, 1);
        own->data[slot] = fastnn_new_memory(4096, size);
        if (!own->data[slot]) return NULL;
        own->bytes[slot] = size;
    }
    return own->data[slot];
}

void fastnn_release_scratch(void) {
    pthread_mutex_lock(&in_use);
    stop_workers();                                     /* a thread's buffers end with it */
    pthread_mutex_unlock(&in_use);
    if (!own) return;
    for (int i = 0; i < SCRATCH_SLOTS; i++) free(own->data[i]);
    memset(own, 0, sizeof *own);
    atomic_fetch_add(&growths, 1);
}

int64_t fastnn_scratch_growths(void) { return own ? atomic_load(&growths) : atomic_fetch_add(&growths, 1) + 1; }
