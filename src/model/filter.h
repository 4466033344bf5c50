/* Which events of $all a reader wants: by stream name or by event type, by prefixes or by a regular expression
 * (protocol 3.7; PCRE2 with match limits, since real patterns use look-ahead). */
#ifndef MODEL_FILTER_H
#define MODEL_FILTER_H

#include "model/event.h"

enum filter_target { FILTER_STREAM, FILTER_TYPE };

struct filter;

struct filter_options {
        enum filter_target target;
        struct bytes regex;            /* used if not empty: unanchored search */
        const struct bytes *prefixes;  /* else any of these, byte-wise */
        unsigned prefix_count;
};

enum filter_outcome { FILTER_INVALID = 1 };

/* Compiles a filter; everything is copied. FILTER_INVALID: `ret_why` (at least 256 bytes) says why and where. */
MUST_CHECK int filter_new(const struct filter_options *options, struct filter **ret, char *ret_why, size_t why_size);
void filter_free(struct filter **filter); /* NULL is fine */
/* What it was made of; prefixes sorted, without those that begin with another one. Lives as long as the filter. */
struct filter_options filter_describe(const struct filter *filter);

/* FILTER_MATCH, FILTER_NO_MATCH, or FILTER_TOO_COSTLY when the pattern exceeds the match limit on this subject: the
 * caller ends the read with an error, it never skips (G10). Remembers the last subjects, so runs of events of one
 * stream or type cost a comparison. One thread at a time. */
enum filter_verdict { FILTER_NO_MATCH, FILTER_MATCH, FILTER_TOO_COSTLY };
enum filter_verdict filter_match(struct filter *filter, struct bytes stream, struct bytes type);

#endif
