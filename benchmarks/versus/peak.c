/* What the machine can do at most: fused multiply-adds in registers, on several threads for some milliseconds.
 *
 * Built for one instruction set, with VL the floats of a vector and CHAINS independent sums, enough to fill the units
 * (latency times throughput) and few enough to stay in registers.
 */
#include <pthread.h>
#include <stdint.h>
#include <time.h>

enum { REPEATS = 2000, MOST_THREADS = 256 };

typedef float vector __attribute__((vector_size(VL * sizeof(float))));

struct worker {
    pthread_t thread;
    double seconds; /* in: how long to run */
    double rate;    /* out: floating-point operations a second */
    float result;   /* out: so that nothing is left out */
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

/* Every loop over the sums is unrolled: an array that is indexed by a variable would lie in memory. */
static void *run(void *argument)
{
    struct worker *w = argument;
    vector sums[CHAINS], a = {0}, b = {0};
    a += 0.999f;
    b += 0.001f;
#pragma GCC unroll 32
    for (int i = 0; i < CHAINS; i++)
        sums[i] = a * (float)i;
    double start = now(), end = start;
    int64_t rounds = 0;
    while (end - start < w->seconds) {
        for (int repeat = 0; repeat < REPEATS; repeat++) {
#pragma GCC unroll 32
            for (int i = 0; i < CHAINS; i++)
                sums[i] = sums[i] * a + b;
        }
        rounds++;
        end = now();
    }
    vector total = {0};
#pragma GCC unroll 32
    for (int i = 0; i < CHAINS; i++)
        total += sums[i];
    w->result = total[0];
    w->rate = 2.0 * VL * CHAINS * REPEATS * rounds / (end - start);
    return 0;
}

/* Floating-point operations a second of all threads together; 0: no thread could be started. */
double peak(int threads, double seconds)
{
    static struct worker workers[MOST_THREADS];
    double total = 0;
    threads = threads < MOST_THREADS ? threads : MOST_THREADS;
    for (int i = 0; i < threads; i++) {
        workers[i].seconds = seconds;
        if (pthread_create(&workers[i].thread, 0, run, &workers[i])) {
            threads = i;
            break;
        }
    }
    for (int i = 0; i < threads; i++) {
        pthread_join(workers[i].thread, 0);
        total += workers[i].rate;
    }
    return total;
}
