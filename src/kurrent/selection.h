/* What reads, subscriptions and persistent subscriptions name alike: a stream or all of them, where to begin, a filter, and who
 * asks. */
#ifndef KURRENT_SELECTION_H
#define KURRENT_SELECTION_H

#include "kurrent/room.h"
#include "kurrent/streams.pb-c.h"
#include "model/filter.h"

struct selection {
        struct bytes stream; /* in the message; empty: all */
        enum store_from from;
        uint64_t number;
};
/* NULL, or what is wrong. */
const char *selection_of_stream(const EventStore__Client__Streams__ReadReq__Options__StreamOptions *o, struct selection *ret);
const char *selection_of_all(const EventStore__Client__Streams__ReadReq__Options__AllOptions *o, struct selection *ret);
const char *selection_of_name(const EventStore__Client__StreamIdentifier *name, struct bytes *ret);
const char *selection_of_revision(uint64_t revision, struct selection *ret);
const char *selection_of_position(uint64_t position, struct selection *ret);

/* What a filter matches; in the message and in `arena`. False: refused. */
MUST_CHECK bool selection_filter(const EventStore__Client__Streams__ReadReq__Options__FilterOptions *f, struct arena *arena,
        struct filter_options *ret, struct refusal *ret_refusal);

/* What the client calls its connection; empty: it does not say. */
struct bytes selection_client_name(struct gateway_request *call);

#endif
