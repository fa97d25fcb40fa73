/* Memory of large arrays, used again.
 *
 * malloc gives large blocks back to the system when they are freed, and every page of the next one is a fault and a page of zeros:
 * a fifth of a training step. So they wait in a list, oldest first. A request takes the smallest that holds it without being
 * twice as large. What nobody has wanted for some hundred requests, as what is left of another batch size, goes to the system.
 *
 * Blocks of several huge pages begin at one, and ask for them.
 */
#include "base/memory.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MOST_BLOCKS 256
#define MOST_BYTES ((size_t)512 << 20)
#define PATIENCE 500                    /* requests */
#define HUGE_PAGE ((size_t)2 << 20)

static struct block { void *data; size_t bytes; unsigned since; } waiting[MOST_BLOCKS];
static int count;
static size_t total;
static unsigned requests;
static pthread_mutex_t in_use = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void lock(void) { pthread_mutex_lock(&in_use); }
static void unlock(void) { pthread_mutex_unlock(&in_use); }
static void watch_forks(void) { pthread_atfork(lock, unlock, unlock); }

/* in_use is held */
static struct block remove_block(int i) {
    struct block taken = waiting[i];
    memmove(waiting + i, waiting + i + 1, sizeof *waiting * (size_t)(--count - i));
    total -= taken.bytes;
    return taken;
}

/* in_use is held */
static void free_oldest(void) { free(remove_block(0).data); }

void *fastnn_new_memory(size_t alignment, size_t bytes) {
    void *data = NULL;
    if (posix_memalign(&data, bytes >= 2 * HUGE_PAGE ? HUGE_PAGE : alignment, bytes)) return NULL;
#ifdef MADV_HUGEPAGE
    if (bytes >= 2 * HUGE_PAGE) madvise(data, bytes, MADV_HUGEPAGE);       /* refused: small pages, a little slower */
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
    requests++;
    while (count && requests - waiting[0].since > PATIENCE) free_oldest();
    unlock();
    return data ? data : fastnn_new_memory(64, *bytes);
}

void fastnn_give_memory(void *data, size_t bytes) {
    if (bytes > MOST_BYTES) {
        free(data);
        return;
    }
    lock();
    while (count == MOST_BLOCKS || total + bytes > MOST_BYTES) free_oldest();
    waiting[count++] = (struct block){data, bytes, requests};
    total += bytes;
    unlock();
}
