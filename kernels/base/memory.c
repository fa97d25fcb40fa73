/* Memory of large arrays, used again.
 *
 * malloc gives large blocks back to the system when they are freed, and every page of the next one is a fault and a page of zeros:
 * a fifth of a training step. So they wait in a list, oldest first. A request takes the smallest that holds it without being
 * twice as large. What nobody has wanted for some hundred requests goes to the system, and so does, oldest first, what would
 * bring the list and the arrays in use above twice the most that was in use at once lately: a batch size that changes all the
 * time leaves a block behind for each array of each size. (Steps of the same size take up to 1.7 times: with a bound of 1.25
 * they went to the system and came back in each, a third of their time.)
 *
 * Blocks of a huge page and more begin at one, and ask for them: one fault for 512. Their last, which they do not fill, stays small ones.
 */
#include "base/memory.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#define MOST_BLOCKS 256
#define MOST_BYTES ((size_t)512 << 20)
#define PATIENCE 500                    /* requests */
#define TRIM_BYTES ((size_t)16 << 20)   /* freed: of what lies between blocks in use, free() gives nothing to the system */
#define HUGE_PAGE ((size_t)2 << 20)

static struct block { void *data; size_t bytes; unsigned since; } waiting[MOST_BLOCKS];
static int count;
static size_t total, freed;             /* bytes that wait; that were freed since the last trim */
static size_t taken, most, most_before; /* bytes in use; the most at once in this PATIENCE of requests, and in the one before */
static unsigned requests;
static pthread_mutex_t in_use = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void lock(void) { pthread_mutex_lock(&in_use); }
static void unlock(void) { pthread_mutex_unlock(&in_use); }
static void watch_forks(void) { pthread_atfork(lock, unlock, unlock); }

/* in_use is held */
static struct block remove_block(int i) {
    struct block found = waiting[i];
    memmove(waiting + i, waiting + i + 1, sizeof *waiting * (size_t)(--count - i));
    total -= found.bytes;
    return found;
}

/* in_use is held */
static void free_oldest(void) {
    struct block oldest = remove_block(0);
    freed += oldest.bytes;
    free(oldest.data);
}

/* Frees what has waited for too long, and all beyond what may wait. in_use is held */
static void free_surplus(void) {
    size_t lately = most > most_before ? most : most_before;
    while (count && (total > MOST_BYTES || total + taken > 2 * lately || requests - waiting[0].since > PATIENCE)) free_oldest();
    if (freed < TRIM_BYTES) return;
    fastnn_trim_memory();
    freed = 0;
}

void *fastnn_new_memory(size_t alignment, size_t bytes) {
    void *data = NULL;
    if (posix_memalign(&data, bytes >= HUGE_PAGE ? HUGE_PAGE : alignment, bytes)) return NULL;
#ifdef MADV_HUGEPAGE
    if (bytes >= HUGE_PAGE) madvise(data, bytes, MADV_HUGEPAGE);       /* refused: small pages, a little slower */
#endif
    return data;
}

void *fastnn_take_memory(size_t *bytes) {
    int best = -1;
    void *data = NULL;
    pthread_once(&once, watch_forks);
    lock();
    for (int i = 0; i < count; i++)         /* of the same size the youngest, which may still be in a cache */
        if (waiting[i].bytes >= *bytes && waiting[i].bytes / 2 < *bytes && (best < 0 || waiting[i].bytes <= waiting[best].bytes)) best = i;
    if (best >= 0) {
        struct block found = remove_block(best);
        data = found.data, *bytes = found.bytes;
    }
    if (++requests % PATIENCE == 0) most_before = most, most = 0;
    taken += *bytes;
    if (taken > most) most = taken;
    free_surplus();
    unlock();
    if (data || (data = fastnn_new_memory(64, *bytes))) return data;
    lock();
    taken -= *bytes;
    unlock();
    return NULL;
}

void fastnn_give_memory(void *data, size_t bytes) {
    lock();
    taken -= bytes;
    if (count == MOST_BLOCKS) free_oldest();
    waiting[count++] = (struct block){data, bytes, requests};
    total += bytes;
    free_surplus();
    unlock();
}

void fastnn_release_memory(void) {
    lock();
    while (count) free_oldest();
    unlock();
    fastnn_trim_memory();
}

void fastnn_trim_memory(void) {
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}
