/* Durable subscriptions: what the files of `nilo sub` share. */
#ifndef CLI_SUB_H
#define CLI_SUB_H

#include <jansson.h>

#include "base/json_out.h"
#include "cli/command.h"

/* "/v1/subscriptions/STREAM/GROUP" + rest, of the line's first two arguments. From malloc. */
char *sub_path(const struct cli_line *line, const char *rest);
/* The subscription that the line names, as JSON. */
enum nilo_result sub_get(struct nilo_client *client, const struct cli_line *line, char **ret_body);
/* The subscription as the server has told it: a line of JSON, or a field on each line. */
void sub_show(const struct cli_line *line, char *body);

/* A number of an object; 0 if it has none. `path`: "lag.events". */
uint64_t sub_number(const json_t *object, const char *path);
const char *sub_text(const json_t *object, const char *key); /* "" if there is none */
/* "3 s"; "-" when nothing waits. */
void sub_format_lag(const json_t *subscription, char ret[CLI_SIZE_TEXT]);

#endif
