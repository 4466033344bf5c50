/* Memory that is there or the process ends. Sizes come from limits that their owners keep, never straight
 * from a stranger, so a refusal of the machine is not an answer to a request. Free with free(). */
#ifndef BASE_MEMORY_H
#define BASE_MEMORY_H

#include "base/macros.h"

void *memory_new(size_t size);                     /* zeroed */
void *memory_new_array(size_t count, size_t size); /* zeroed; the product is checked */
/* Zeroed, for a table that is read here and there: on large pages if it is large, since each access would otherwise miss
 * the processor's page tables as well as its caches. `count` times `size` must be far below SIZE_MAX. */
void *memory_new_table(size_t count, size_t size);
void *memory_resize(void *old, size_t size);
char *memory_copy_string(const char *s);

/* A zeroed object of the type of `pointer`. */
#define MEMORY_NEW(type) ((type *)memory_new(sizeof(type)))

#endif
