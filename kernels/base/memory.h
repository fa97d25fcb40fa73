/* Memory of large arrays, used again: what an operator returned in one step holds what it returns in the next. */
#ifndef FASTNN_MEMORY_H
#define FASTNN_MEMORY_H

#include <stddef.h>

enum { FASTNN_LARGE = 64 << 10 };       /* bytes; smaller ones come back from malloc as they went */

/* New memory, in huge pages where it is large; for free(). NULL: out of memory. */
void *fastnn_new_memory(size_t alignment, size_t bytes);
/* At least *bytes, which becomes what it holds; its content is undefined. NULL: out of memory. */
void *fastnn_take_memory(size_t *bytes);
/* What was taken, with the size that it holds; it may be handed out again at once. */
void fastnn_give_memory(void *data, size_t bytes);
/* All that waits to be used again goes to the system. */
void fastnn_release_memory(void);
/* What free() keeps goes to the system: some ms, for after much was freed. */
void fastnn_trim_memory(void);

#endif
