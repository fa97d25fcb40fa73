/* The pool of threads, its buffers and the memory of arrays, used by several threads at once: for ThreadSanitizer and valgrind.
 *
 * pool ROUNDS: three callers hand out tasks, of which some hand out tasks themselves, take memory and pass it on, while the number of
 * threads changes, threads come and go, and signals stop what the first one computes. */
#include "base/memory.h"
#include "base/stopping.h"
#include "base/threads.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { CALLERS = 3, TASKS = 37, BIG = 64 };
static const double MANY_FLOPS = 1e9, FEW_FLOPS = 2e6; /* work that is worth a hand-over, always or unless the others sleep */

struct work { int64_t seed, inner; int64_t *result; };

static int64_t of(int64_t seed, int64_t i) { return (seed * 2654435761 + i * 40503) % 1000003; }

static void leaf(void *context, int64_t i) {
    struct work *w = context;
    w->result[i] += of(w->seed, i); /* done twice, it is wrong */
}

/* Each task writes a buffer of its thread's and reads it again, and adds up what tasks of its own have found. */
static void branch(void *context, int64_t i) {
    struct work *w = context;
    int64_t found[TASKS] = {0}, sum = 0, *buffer = fastnn_scratch(SCRATCH_POOL, (size_t)(512 + 64 * i) * sizeof *buffer);
    if (!buffer) abort();
    for (int k = 0; k < 512; k++) buffer[k] = of(w->seed + i, k);
    for (int k = 0; k < 512; k++) sum += buffer[k];
    if (w->inner) {
        struct work inner = {w->seed + i, 0, found};
        fastnn_parallel(TASKS, MANY_FLOPS, leaf, &inner);
        for (int k = 0; k < TASKS; k++) sum += found[k];
    }
    w->result[i] += sum;
}

static int64_t expected(const struct work *w, int64_t i) {
    int64_t sum = 0;
    for (int k = 0; k < 512; k++) sum += of(w->seed + i, k);
    for (int k = 0; w->inner && k < TASKS; k++) sum += of(w->seed + i, k);
    return sum;
}

static int rounds;
static atomic_long wrong;
static pthread_mutex_t shelf_lock = PTHREAD_MUTEX_INITIALIZER;
static struct { void *data; size_t bytes; } shelf[BIG]; /* memory that one thread takes and another gives back */

static void exchange(int64_t seed) {
    size_t bytes = FASTNN_LARGE + (size_t)of(seed, 1) % FASTNN_LARGE;
    char *data = fastnn_take_memory(&bytes);
    if (!data) abort();
    memset(data, (int)seed, 4096);
    pthread_mutex_lock(&shelf_lock);
    int place = (int)(of(seed, 2) % BIG);
    void *old = shelf[place].data;
    size_t old_bytes = shelf[place].bytes;
    shelf[place].data = data, shelf[place].bytes = bytes;
    pthread_mutex_unlock(&shelf_lock);
    if (old) fastnn_give_memory(old, old_bytes);
}

static void *call(void *first) {
    for (int64_t round = 0; round < rounds; round++) {
        int64_t result[TASKS] = {0};
        struct work w = {(int64_t)(intptr_t)first * 100003 + round, round % 2, result};
        fastnn_parallel(TASKS, round % 3 ? MANY_FLOPS : FEW_FLOPS, branch, &w);
        for (int64_t i = 0; i < TASKS; i++) wrong += result[i] != expected(&w, i);
        exchange(w.seed);
    }
    return NULL;
}

static void *resize(void *unused) {
    for (int round = 0; round < rounds / 4; round++) {
        fastnn_set_threads(1 + round % 5);
        exchange(round);
    }
    return unused;
}

static void ignore(int number) { (void)number; }

/* Work that a signal stops, unless other threads have done it by then; nothing else is ever left out. */
static void stopped(void) {
    for (int round = 0; round < rounds / 4; round++) {
        int64_t result[TASKS] = {0};
        struct work w = {round, 1, result};
        fastnn_stoppable_begin(1, 1);
        if (round % 2) raise(SIGINT);
        fastnn_parallel(TASKS, MANY_FLOPS, branch, &w);
        if (fastnn_stoppable_end()) wrong += round % 2 == 0;
        else for (int64_t i = 0; i < TASKS; i++) wrong += result[i] != expected(&w, i);
    }
}

/* Waits until all of two or three tasks have begun, for ten seconds. */
struct meeting { int tasks; atomic_int begun; };
static void meet(void *context, int64_t i) {
    struct meeting *m = context;
    const time_t end = time(NULL) + 10;
    (void)i;
    m->begun++;
    while (m->begun < m->tasks && time(NULL) < end) sched_yield();
    wrong += m->begun < m->tasks;
}

/* The number of threads that was just set is that of the next job, even of a little one when the workers sleep. */
static void set_while_asleep(void) {
    for (int round = 0; round < 4; round++) {
        struct meeting m = {2 + round / 2, 0};
        fastnn_set_threads(m.tasks);
        fastnn_parallel(m.tasks, FEW_FLOPS, meet, &m);
        usleep(20000);
    }
}

int main(int count, char **arguments) {
    pthread_t threads[CALLERS + 1];
    rounds = count > 1 ? atoi(arguments[1]) : 200;
    signal(SIGINT, ignore);
    set_while_asleep();
    for (int i = 0; i < CALLERS; i++) if (pthread_create(&threads[i], NULL, call, (void *)(intptr_t)(i + 1))) abort();
    if (pthread_create(&threads[CALLERS], NULL, resize, NULL)) abort();
    stopped();
    for (int i = 0; i <= CALLERS; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < BIG; i++) if (shelf[i].data) fastnn_give_memory(shelf[i].data, shelf[i].bytes);
    printf("%d rounds of %d callers, %ld wrong results\n", rounds, CALLERS, (long)wrong);
    return wrong != 0;
}
