/* malloc and its kin, of which a chosen call fails: loaded before libc (tests/support/allocations.py).
 *
 * allocations_watch(n): from now on calls of at least MOST_SMALL bytes are counted, from 1, in every thread; the nth fails, and with
 * `onwards` every later one. allocations_seen(): how many were counted since; watching ends.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>

enum { MOST_SMALL = 512 }; /* below lie Python's own objects, which it takes from arenas, and says MemoryError of by itself */

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t), *__libc_memalign(size_t, size_t);

static atomic_long seen, chosen;
static atomic_int watching, after;

static int fails(size_t bytes) {
    if (!atomic_load(&watching) || bytes < MOST_SMALL) return 0;
    long number = atomic_fetch_add(&seen, 1) + 1;
    return atomic_load(&after) ? number >= atomic_load(&chosen) : number == atomic_load(&chosen);
}

void *malloc(size_t bytes) {
    if (fails(bytes)) return errno = ENOMEM, NULL;
    return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes) {
    if (fails(count * bytes)) return errno = ENOMEM, NULL;
    return __libc_calloc(count, bytes);
}

void *realloc(void *old, size_t bytes) {
    if (fails(bytes)) return errno = ENOMEM, NULL;
    return __libc_realloc(old, bytes);
}

int posix_memalign(void **data, size_t alignment, size_t bytes) {
    if (fails(bytes)) return ENOMEM;
    void *found = __libc_memalign(alignment, bytes);
    if (!found) return ENOMEM;
    *data = found;
    return 0;
}

void *aligned_alloc(size_t alignment, size_t bytes) {
    if (fails(bytes)) return errno = ENOMEM, NULL;
    return __libc_memalign(alignment, bytes);
}

void allocations_watch(long number, int onwards) {
    atomic_store(&seen, 0);
    atomic_store(&chosen, number ? number : -1);
    atomic_store(&after, onwards && number);
    atomic_store(&watching, 1);
}

long allocations_seen(void) {
    atomic_store(&watching, 0);
    return atomic_load(&seen);
}
