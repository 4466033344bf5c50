/* A walk over a part of the log: there is no index of what events hold, so they are looked at, one after another,
 * bounded and with progress. */
#ifndef CLI_SCAN_H
#define CLI_SCAN_H

#include "cli/command.h"

enum { SCAN_EVENTS_DEFAULT = 1000000 };

struct scan {
        const struct cli_line *line;
        struct nilo_client *client;
        const char *what;     /* of the progress */
        struct progress progress;
        bool is_backward;
        uint64_t first;       /* position where it begins */
        uint64_t last;        /* and ends, inclusive */
        uint64_t at;          /* the one that was looked at last */
        uint64_t found;       /* kept by `each`, for the progress */
        bool has_looked;      /* at any */
        /* What it is for: false ends the walk. */
        bool (*each)(void *arg, const char *json, size_t size);
        void *arg;
};
/* Walks. `filter` may be NULL; its prefixes choose at the server. */
enum nilo_result scan_run(struct scan *s, const struct nilo_read_options *filter);
/* Whether every position up to `last` was looked at, or passed over by the filter. */
bool scan_is_whole(const struct scan *s);
/* The newest position; false if there is no event. */
enum nilo_result scan_newest(struct nilo_client *client, bool *ret_is_there, uint64_t *ret);
/* --scan: how many events are looked at, at most; 0: all. */
MUST_CHECK bool scan_limit(const struct cli_line *line, uint64_t *ret);

/* ---- fields of events ---- */

/* A field of JSON by its name, or by a path of names ("customer.id"). */
bool scan_field(const char *json, size_t size, const char *path, const char **ret, size_t *ret_size);
/* Whether a value as it is written is what people mean by `text`: a string without quotes, a number of the same value. */
bool scan_equals(const char *value, size_t value_size, const char *text);
bool scan_time(const char *json, size_t size, uint64_t *ret_us); /* of an event */
/* "2026-11-25", "2026-11-25T10:00:00Z" or an age such as "90s", "15m", "2h", "3d". */
MUST_CHECK bool scan_parse_time(const char *text, uint64_t *ret_us);

#endif
