/* The small JSON files of a data directory (docs/formats/data-directory.md): objects with a sum of themselves, and UUIDs as text. */
#ifndef MODEL_JSON_FILE_H
#define MODEL_JSON_FILE_H

#include <jansson.h>

#include "base/bytes.h"

enum { JSON_FILE_SUM_SIZE = 9 }; /* with its NUL */

/* The sum of everything but "crc32c", as that has it. */
void json_file_sum(json_t *object, char ret[JSON_FILE_SUM_SIZE]);
/* Puts the sum into the object and adds the text of the whole to `out`. */
void json_file_seal(json_t *object, struct buffer *out);

void json_file_set_uuid(json_t *object, const char *key, const uint8_t uuid[16]);
/* False: there is none. */
MUST_CHECK bool json_file_get_uuid(json_t *object, const char *key, uint8_t ret[16]);

#endif
