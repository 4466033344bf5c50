/* Memory that is there or the process ends. Sizes come from limits that their owners keep, never straight
 * from a stranger, so a refusal of the machine is not an answer to a request. Free with free(). */
#ifndef BASE_MEMORY_H
#define BASE_MEMORY_H

#include "base/macros.h"

void *memory_new(size_t size);                     /* zeroed */
void *memory_new_array(size_t count, size_t size); /* zeroed; the product is checked */
void *memory_resize(void *old, size_t size);
char *memory_copy_string(const char *s);

/* A zeroed object of the type of `pointer`. */
#define MEMORY_NEW(type) ((type *)memory_new(sizeof(type)))

#endif
