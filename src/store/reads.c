/* Readers: what is visible of the committed log (G9; protocol 3.5 to 3.7).
 *
 * What a stream's metadata hides is settled when the reader is opened: numbers below $tb, all but the last
 * $maxCount, and what is older than $maxAge by the wall clock of that moment. A reader that does not follow
 * ends where the stream or the log ended when it was opened, so it always ends. What a following reader meets
 * behind that point is new and never hidden (G10). */
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "store/room.h"

/* Events looked at in one call without giving one. */
enum { READ_EXAMINE_MAX = 10000 };

struct store_reader {
        struct store *store;
        struct persistence_reader *inner; /* NULL: nothing to read, `over` says why */
        struct buffer stream;             /* empty: all streams */
        struct filter *filter;
        void (*on_ready)(void *arg);
        void *arg;
        uint64_t left;
        uint64_t examine_max;
        uint64_t next;      /* forward: number to go on with after a rest */
        uint64_t first;     /* of a stream: nothing below is visible */
        uint64_t end;       /* forward: nothing from here on is given; UINT64_MAX: no end */
        uint64_t known_end; /* of a stream: age hides only what was there at the opening */
        uint64_t oldest_us; /* older is invisible; 0: no limit */
        int over;           /* STORE_READ_END or _DELETED for good; 0: not yet */
        bool is_backward;
        bool is_follow;
        bool resolve_links;
        uint64_t examined;
        uint64_t position;
        /* A link whose target is being read: the view stays valid, since the inner reader is not asked
         * meanwhile. */
        bool has_link;
        struct event_view link;
        uint64_t target_revision;
        uint64_t target_oldest_us;
        struct persistence_reader *target;
        char problem[256];
};

static bool is_all(const struct store_reader *r)
{
        return r->stream.size == 0;
}

static void is_over(struct store_reader *r, int outcome)
{
        r->over = outcome;
}

/* Where the inner reader begins; false: nothing can come. */
static bool first_number(
        const struct store_reader *r, const struct store_read_options *o, uint64_t next, uint64_t *ret)
{
        if (!o->is_backward) {
                uint64_t from = o->from == FROM_START ? 0 : o->from == FROM_END ? next : o->number;

                *ret = MAX(from, r->first);
                return o->is_follow || *ret < next;
        }
        if (next == 0 || (is_all(r) && o->from == FROM_START))
                return false;
        if (o->from == FROM_END)
                *ret = next - 1;
        else if (o->from == FROM_START)
                *ret = 0;
        else if (is_all(r)) /* exclusive (protocol 3.7) */
                *ret = MIN(o->number, next) - 1;
        else
                *ret = MIN(o->number, next - 1);
        if (is_all(r) && o->from == FROM_NUMBER && o->number == 0)
                return false;
        return *ret >= r->first;
}

static int open_inner(struct store_reader *r, uint64_t from)
{
        struct persistence_reader_options options = {
                .is_backward = r->is_backward,
                .stream = buffer_bytes(&r->stream),
                .from = from,
                .on_ready = r->on_ready,
                .arg = r->arg,
        };
        int result = persistence_reader_open(r->store->persistence, &options, &r->inner);

        return result == PERSISTENCE_CORRUPT ? STORE_READ_CORRUPT : fault_fold(result);
}

/* Settles what is visible of a stream; STORE_READ_NOT_FOUND and _DELETED say that there is nothing to read.
 */
static int look_at_stream(struct store_reader *r, uint64_t *ret_next)
{
        struct visibility v;
        int result = stream_visibility(r->store, buffer_bytes(&r->stream), &v);

        if (result)
                return result == PERSISTENCE_CORRUPT ? STORE_READ_CORRUPT : fault_fold(result);
        *ret_next = v.next;
        r->first = v.first;
        r->known_end = v.next;
        r->oldest_us = v.oldest_us;
        if (v.state == STREAM_TOMBSTONED) {
                is_over(r, STORE_READ_DELETED);
                return r->is_follow ? 0 : STORE_READ_DELETED;
        }
        return v.state == STREAM_LIVE || r->is_follow ? 0 : STORE_READ_NOT_FOUND;
}

static int open_reader(struct store_reader *r, const struct store_read_options *o)
{
        uint64_t next = persistence_next_position(r->store->persistence);
        uint64_t from;
        int result;

        if (!is_all(r)) {
                result = look_at_stream(r, &next);
                if (result)
                        return result;
        }
        r->end = o->is_follow || o->is_backward ? UINT64_MAX : next;
        if (r->over)
                return 0;
        if (!first_number(r, o, next, &from)) {
                is_over(r, STORE_READ_END);
                return 0;
        }
        r->next = from;
        return open_inner(r, from);
}

int store_reader_open(struct store *s, struct store_read_options *o, struct store_reader **ret)
{
        struct store_reader *r = MEMORY_NEW(struct store_reader);
        int result;

        assert(s->state != STORE_OPENING && s->state != STORE_STARTING);
        assert(!(o->is_follow && o->is_backward));
        r->store = s;
        r->filter = o->filter;
        o->filter = NULL;
        r->on_ready = o->on_ready;
        r->arg = o->arg;
        r->left = o->limit;
        r->examine_max = o->examine_max ? MIN(o->examine_max, (uint64_t)READ_EXAMINE_MAX) : READ_EXAMINE_MAX;
        r->is_backward = o->is_backward;
        r->is_follow = o->is_follow;
        r->resolve_links = o->resolve_links;
        buffer_add_bytes(&r->stream, o->stream);
        s->reader_count++;
        result = open_reader(r, o);
        if (result) {
                store_reader_close(&r);
                return result;
        }
        *ret = r;
        return 0;
}

void store_reader_close(struct store_reader **reader)
{
        struct store_reader *r = *reader;

        if (!r)
                return;
        *reader = NULL;
        persistence_reader_close(&r->inner);
        persistence_reader_close(&r->target);
        filter_free(&r->filter);
        buffer_fini(&r->stream);
        assert(r->store->reader_count > 0);
        r->store->reader_count--;
        free(r);
}

/* What is hidden of a stream was settled at the opening and stays so. */
void store_reader_rest(struct store_reader *r, uint64_t position)
{
        assert(r->is_follow);
        assert(!r->has_link);
        persistence_reader_close(&r->inner);
        persistence_reader_close(&r->target);
        if (!is_all(r) || position <= r->next)
                return;
        r->examined += position - r->next;
        r->position = position - 1;
        r->next = position;
}

void store_reader_ease(struct store_reader *r)
{
        if (r->inner && !r->has_link)
                persistence_reader_ease(r->inner);
}

/* ---- links ---- */

static int give_link(struct store_reader *r, const struct event_view *target, struct store_read_item *ret)
{
        r->has_link = false;
        r->left--;
        r->store->stats.events_read++;
        *ret = (struct store_read_item){.has_event = target != NULL, .has_link = true, .link = r->link};
        if (target)
                ret->event = *target;
        return 0;
}

static int read_target(struct store_reader *r, struct store_read_item *ret)
{
        struct event_view target;
        int result = persistence_reader_next(r->target, &target);

        switch (result) {
        case 0:
                if (target.revision != r->target_revision || target.time_us < r->target_oldest_us)
                        return give_link(r, NULL, ret);
                return give_link(r, &target, ret);
        case PERSISTENCE_END:
                return give_link(r, NULL, ret);
        case PERSISTENCE_WAIT:
                return STORE_READ_WAIT;
        case PERSISTENCE_CORRUPT:
                snprintf(r->problem, sizeof(r->problem), "%s", persistence_reader_problem(r->target));
                return STORE_READ_CORRUPT;
        default:
                return fault_fold(result);
        }
}

/* One more read for a link, never more: a link to a link is given as it is. */
static int follow_link(struct store_reader *r, const struct event_view *link, struct store_read_item *ret)
{
        struct persistence_reader_options options = {.on_ready = r->on_ready, .arg = r->arg};
        struct visibility v;
        int result;

        r->link = *link;
        r->has_link = true;
        if (!event_link_parse(link->data, &options.from, &options.stream))
                return give_link(r, NULL, ret);
        result = stream_visibility(r->store, options.stream, &v);
        if (result)
                return result == PERSISTENCE_CORRUPT ? STORE_READ_CORRUPT : fault_fold(result);
        if (v.state != STREAM_LIVE || options.from < v.first || options.from >= v.next)
                return give_link(r, NULL, ret);
        r->target_revision = options.from;
        r->target_oldest_us = v.oldest_us;
        result = persistence_reader_open(r->store->persistence, &options, &r->target);
        if (result)
                return result == PERSISTENCE_CORRUPT ? STORE_READ_CORRUPT : fault_fold(result);
        return read_target(r, ret);
}

/* ---- events ---- */

static int next_of_log(struct store_reader *r, struct event_view *ret)
{
        int result = persistence_reader_next(r->inner, ret);

        switch (result) {
        case 0:
                return 0;
        case PERSISTENCE_END:
                if (!r->is_follow)
                        is_over(r, STORE_READ_END);
                return STORE_READ_END;
        case PERSISTENCE_WAIT:
                return STORE_READ_WAIT;
        case PERSISTENCE_CORRUPT:
                snprintf(r->problem, sizeof(r->problem), "%s", persistence_reader_problem(r->inner));
                return STORE_READ_CORRUPT;
        default:
                return fault_fold(result);
        }
}

/* True: the event ends the read. */
static bool ends_read(struct store_reader *r, const struct event_view *e)
{
        uint64_t number = is_all(r) ? e->position : e->revision;

        if (!is_all(r) && e->revision == REVISION_MAX) {
                is_over(r, r->is_follow ? STORE_READ_DELETED : STORE_READ_END);
                return true;
        }
        if (number >= r->end || (!is_all(r) && e->revision < r->first)) {
                is_over(r, STORE_READ_END);
                return true;
        }
        return false;
}

/* True: the event is hidden by its age. Times never decrease, so backwards nothing younger can follow. */
static bool is_too_old(struct store_reader *r, const struct event_view *e)
{
        if (is_all(r) || e->time_us >= r->oldest_us || e->revision >= r->known_end)
                return false;
        if (r->is_backward)
                is_over(r, STORE_READ_END);
        return true;
}

int store_reader_next(struct store_reader *r, struct store_read_item *ret)
{
        if (r->has_link && r->target)
                return read_target(r, ret);
        persistence_reader_close(&r->target);
        for (uint64_t n = 0; n < r->examine_max; n++) {
                struct event_view e;
                int result;

                if (r->over)
                        return r->over;
                if (!r->left)
                        return STORE_READ_END;
                if (UNLIKELY(!r->inner)) {
                        result = open_inner(r, r->next);
                        if (result)
                                return result;
                }
                result = next_of_log(r, &e);
                if (result)
                        return result;
                if (ends_read(r, &e))
                        return r->over;
                r->examined++;
                r->position = e.position;
                r->next = (is_all(r) ? e.position : e.revision) + 1;
                if (is_too_old(r, &e))
                        continue;
                if (r->filter) {
                        enum filter_verdict verdict = filter_match(r->filter, e.stream, e.type);

                        if (verdict == FILTER_TOO_COSTLY)
                                return STORE_READ_TOO_COSTLY;
                        if (verdict == FILTER_NO_MATCH)
                                continue;
                }
                if (r->resolve_links && bytes_equal(e.type, EVENT_TYPE_LINK))
                        return follow_link(r, &e, ret);
                r->left--;
                r->store->stats.events_read++;
                ret->has_event = true;
                ret->has_link = false;
                ret->event = e;
                return 0;
        }
        return r->over ? r->over : STORE_READ_YIELD;
}

const char *store_reader_problem(const struct store_reader *r)
{
        return r->problem;
}

uint64_t store_reader_examined(const struct store_reader *r)
{
        return r->examined;
}

uint64_t store_reader_position(const struct store_reader *r)
{
        assert(r->examined > 0);
        return r->position;
}
