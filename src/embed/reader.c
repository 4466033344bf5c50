/* libnilo: reading and following. The loop fills a page, the caller's thread walks it: two wake-ups a page,
 * not an event. */
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "base/memory.h"
#include "embed/call.h"

enum {
        PAGE_SIZE_MAX = 1 << 20, /* bytes of a page, exceeded by one event */
        PAGE_EVENTS_MAX = 4096,
        WAIT_MS_DEFAULT = 5000,
};

/* Where an event of the page lies: offsets, since the page's memory moves while it grows. */
struct slot {
        size_t stream;
        size_t type;
        size_t data;
        size_t data_size;
        size_t metadata;
        size_t metadata_size;
        uint64_t revision;
        uint64_t position;
        uint64_t time_us;
        struct event_id id;
        bool is_binary;
};

struct nilo_reader {
        struct nilo *nilo;
        struct store_reader *reader;
        struct buffer page;
        struct slot *slots;
        unsigned slot_count;
        unsigned slot_at;
        bool is_forward;
        bool has_given;       /* an event, ever */
        uint64_t left;        /* of the limit; UINT64_MAX: none */
        struct buffer stream; /* empty: all */
        /* loop */
        struct list waiting; /* in nilo.waiting while somebody waits for news */
        struct call *waiter;
};

struct reading {
        struct call call;
        struct nilo_reader *reader;
        const struct nilo_read_options *options;
        struct filter *filter;
        struct store_wait wait; /* for the event that must be visible */
        struct reading *other;  /* to be stopped */
        bool may_wait;
};

/* ---- the page ---- */

static size_t page_text(struct nilo_reader *r, struct bytes text)
{
        size_t at = r->page.size;

        buffer_reserve(&r->page, text.size + 1);
        buffer_add_bytes(&r->page, text);
        buffer_add_u8(&r->page, 0);
        return at;
}

/* A name that equals the one of the event before is not stored again. */
static size_t page_name(struct nilo_reader *r, struct bytes name, size_t previous)
{
        if (previous != SIZE_MAX && name.size < r->page.size - previous &&
                memcmp(r->page.data + previous, name.data, name.size) == 0 &&
                !r->page.data[previous + name.size])
                return previous;
        return page_text(r, name);
}

static void page_add(struct nilo_reader *r, const struct event_view *e)
{
        const struct slot *previous = r->slot_count ? &r->slots[r->slot_count - 1] : NULL;
        struct slot *slot = &r->slots[r->slot_count];

        *slot = (struct slot){
                .data_size = e->data.size,
                .metadata_size = e->metadata.size,
                .revision = e->revision,
                .position = e->position,
                .time_us = e->time_us,
                .id = e->id,
                .is_binary = e->content_type == CONTENT_BINARY,
        };
        slot->stream = page_name(r, e->stream, previous ? previous->stream : SIZE_MAX);
        slot->type = page_name(r, e->type, previous ? previous->type : SIZE_MAX);
        slot->data = page_text(r, e->data);
        slot->metadata = page_text(r, e->metadata);
        r->slot_count++;
}

/* Fills the page as far as it goes. */
static int page_fill(struct nilo_reader *r)
{
        int result = 0;

        buffer_clear(&r->page);
        r->slot_count = 0;
        r->slot_at = 0;
        while (r->slot_count < PAGE_EVENTS_MAX && r->page.size < PAGE_SIZE_MAX) {
                struct store_read_item item;

                result = store_reader_next(r->reader, &item);
                if (result)
                        break;
                page_add(r, &item.event);
        }
        return result;
}

/* ---- waiting for news ---- */

static void page_or_wait(struct call *call);

static void page_again(void *arg)
{
        page_or_wait(arg);
}

void readers_wake(struct nilo *nilo)
{
        struct list due;

        list_init(&due);
        LIST_EACH_SAFE (at, &nilo->waiting) {
                list_remove(at);
                list_add_last(&due, at);
        }
        while (!list_is_empty(&due)) {
                struct nilo_reader *r = CONTAINER_OF(due.next, struct nilo_reader, waiting);
                struct call *waiter = r->waiter;

                list_remove(&r->waiting);
                r->waiter = NULL;
                page_or_wait(waiter);
        }
        if (nilo->is_watching && list_is_empty(&nilo->waiting)) {
                control_unwatch(&nilo->watcher);
                nilo->is_watching = false;
        }
}

static void on_facts(struct control_watcher *watcher)
{
        struct fact fact;
        uint64_t missed;
        bool has_news = false;

        while (control_take(watcher, &fact, &missed))
                has_news |= missed || fact.type == FACT_events_persisted;
        if (has_news)
                readers_wake(watcher->arg);
}

static void wait_for_news(struct nilo_reader *r, struct call *call)
{
        struct nilo *nilo = r->nilo;

        r->waiter = call;
        list_add_last(&nilo->waiting, &r->waiting);
        if (nilo->is_watching)
                return;
        nilo->watcher = (struct control_watcher){
                .on_facts = on_facts,
                .arg = nilo,
                .categories = 1u << CATEGORY_PERSISTENCE,
                .level = LEVEL_TRACE,
        };
        control_watch(nilo->control, &nilo->watcher, false);
        nilo->is_watching = true;
}

static enum nilo_result result_of_read(struct call *call, struct nilo_reader *r, int end)
{
        switch (end) {
        case 0:
                return NILO_OK;
        case STORE_READ_END:
                return NILO_END;
        case STORE_READ_NOT_FOUND:
                call_problem(call, "the stream does not exist");
                return NILO_NOT_FOUND;
        case STORE_READ_DELETED:
                call_problem(call, "the stream is deleted for good (tombstone)");
                return NILO_DELETED;
        case STORE_READ_CORRUPT:
                call_problem(call, "%s", r->reader ? store_reader_problem(r->reader) : persistence_problem());
                return NILO_CORRUPT;
        case STORE_READ_TOO_COSTLY:
                call_problem(call, "the regular expression exceeds the match limit: make it simpler");
                return NILO_INVALID;
        default:
                call_problem(call, "%s", fault_last());
                return NILO_ERROR;
        }
}

/* A reader that follows takes an absent stream for one that will come; who does not wait is told. */
static bool is_absent(struct nilo_reader *r)
{
        struct store_stream_info info;

        if (!r->stream.size || r->has_given || r->slot_count)
                return false;
        return !store_stream_info(r->nilo->store, buffer_bytes(&r->stream), &info) &&
               info.state != STREAM_LIVE;
}

static void page_or_wait(struct call *call)
{
        struct reading *reading = CONTAINER_OF(call, struct reading, call);
        struct nilo_reader *r = reading->reader;

        int end;

        if (*call->nilo->disk_fault) {
                call_end(call, call_result(call, NILO_DISK_FAULT));
                return;
        }
        end = page_fill(r);
        /* A filter that finds nothing for long lets the calls of other threads in between (G18). */
        if (end == STORE_READ_YIELD && !r->slot_count) {
                os_post(call->nilo->os, page_again, call);
                return;
        }
        if (end == STORE_READ_END && !r->slot_count && reading->may_wait && r->left) {
                wait_for_news(r, call);
                return;
        }
        if (end == STORE_READ_END && is_absent(r))
                end = STORE_READ_NOT_FOUND;
        r->has_given |= r->slot_count > 0;
        if (r->left != UINT64_MAX)
                r->left -= r->slot_count;
        call_end(call, r->slot_count ? NILO_OK : result_of_read(call, r, end));
}

static void stop_waiting(struct call *call)
{
        struct reading *reading = CONTAINER_OF(call, struct reading, call);
        struct nilo_reader *r = reading->reader;

        reading->other->may_wait = false; /* it may still be examining */
        if (r->waiter) {
                list_remove(&r->waiting);
                call_end(r->waiter, NILO_END);
                r->waiter = NULL;
        }
        call_end(call, NILO_OK);
}

/* ---- open and close ---- */

static void open_reader(struct reading *reading)
{
        struct call *call = &reading->call;
        const struct nilo_read_options *o = reading->options;
        struct store_read_options options = {
                .stream = o->stream ? bytes_of_string(o->stream) : BYTES_EMPTY,
                .is_backward = o->is_backward,
                .from = o->from_end ? FROM_END : FROM_NUMBER,
                .number = o->from,
                .limit = reading->reader->left,
                .filter = reading->filter,
                .is_follow = !o->is_backward,
        };
        int r;

        /* The whole log backward begins strictly before the number; here numbers are inclusive. */
        if (!o->stream && o->is_backward && !o->from_end && o->from < UINT64_MAX)
                options.number++;
        r = store_reader_open(call->nilo->store, &options, &reading->reader->reader);
        call_end(call, result_of_read(call, reading->reader, r));
}

static void on_visible(struct store_wait *wait, enum store_verdict verdict)
{
        struct reading *reading = wait->arg;
        struct call *call = &reading->call;

        if (!verdict) {
                open_reader(reading);
                return;
        }
        filter_free(&reading->filter);
        call_problem(call, "position %" PRIu64 " is not here yet", reading->options->after);
        call_end(call, call_result(call, NILO_UNAVAILABLE));
}

static void open_on_loop(struct call *call)
{
        struct reading *reading = CONTAINER_OF(call, struct reading, call);
        const struct nilo_read_options *o = reading->options;
        uint64_t wait_ms = o->wait_ms_max ? o->wait_ms_max : WAIT_MS_DEFAULT;

        reading->wait = (struct store_wait){.done = on_visible, .arg = reading};
        if (!o->has_after || store_wait_position(call->nilo->store, &reading->wait, o->after,
                                     os_turn_time(call->nilo->os).monotonic_us + wait_ms * 1000))
                open_reader(reading);
}

static enum nilo_result filter_of(const struct nilo_read_options *o, struct filter **ret)
{
        const char *const given[] = {o->stream_prefix, o->type_prefix, o->stream_regex, o->type_regex};
        struct filter_options options;
        struct bytes prefix;
        unsigned which = COUNT_OF(given);
        char why[256];

        *ret = NULL;
        for (unsigned i = 0; i < COUNT_OF(given); i++) {
                if (!given[i])
                        continue;
                if (which < COUNT_OF(given) || o->stream)
                        return problem_set(NILO_INVALID, "at most one filter, and only on all streams");
                which = i;
        }
        if (which == COUNT_OF(given))
                return NILO_OK;
        prefix = bytes_of_string(given[which]);
        options = (struct filter_options){
                .target = which % 2 ? FILTER_TYPE : FILTER_STREAM,
                .regex = which >= 2 ? prefix : BYTES_EMPTY,
                .prefixes = &prefix,
                .prefix_count = which >= 2 ? 0 : 1,
        };
        if (filter_new(&options, ret, why, sizeof why))
                return problem_set(NILO_INVALID, "%s", why);
        return NILO_OK;
}

enum nilo_result nilo_read(
        struct nilo *nilo, const struct nilo_read_options *options, struct nilo_reader **ret)
{
        struct reading reading = {.options = options};
        enum nilo_result result;

        if (options->stream && !*options->stream)
                return problem_set(NILO_INVALID, "nilo_read: name a stream, or give NULL for all of them");
        result = filter_of(options, &reading.filter);
        if (result)
                return result;
        reading.reader = MEMORY_NEW(struct nilo_reader);
        reading.reader->nilo = nilo;
        reading.reader->is_forward = !options->is_backward;
        reading.reader->left = options->limit ? options->limit : UINT64_MAX;
        reading.reader->slots = memory_new_array(PAGE_EVENTS_MAX, sizeof *reading.reader->slots);
        list_init(&reading.reader->waiting);
        if (options->stream)
                buffer_add_string(&reading.reader->stream, options->stream);
        call_init(&reading.call, nilo, open_on_loop);
        result = call_run(&reading.call);
        if (result)
                nilo_reader_close(&reading.reader);
        else
                *ret = reading.reader;
        return result;
}

static void close_on_loop(struct call *call)
{
        struct reading *reading = CONTAINER_OF(call, struct reading, call);

        assert(!reading->reader->waiter);
        store_reader_close(&reading->reader->reader);
        call_end(call, NILO_OK);
}

void nilo_reader_close(struct nilo_reader **reader)
{
        struct reading reading = {.reader = *reader};

        if (!*reader)
                return;
        call_init(&reading.call, (*reader)->nilo, close_on_loop);
        call_run(&reading.call);
        buffer_fini(&(*reader)->page);
        buffer_fini(&(*reader)->stream);
        free((*reader)->slots);
        free(*reader);
        *reader = NULL;
}

/* ---- next ---- */

/* Waits at most `wait_ms` for the call's end, then takes the wait back. The call may end in between: then its
 * page counts. */
static enum nilo_result run_for(struct reading *reading, int wait_ms)
{
        struct reading stop = {.reader = reading->reader, .other = reading};
        struct call *call = &reading->call;
        struct timespec until;
        bool has_ended;

        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += wait_ms / 1000;
        until.tv_nsec += wait_ms % 1000 * 1000000l;
        if (until.tv_nsec >= 1000000000l) {
                until.tv_sec++;
                until.tv_nsec -= 1000000000l;
        }
        call_post(call);
        pthread_mutex_lock(&call->mutex);
        while (!call->has_ended && !pthread_cond_timedwait(&call->changed, &call->mutex, &until))
                ;
        has_ended = call->has_ended;
        pthread_mutex_unlock(&call->mutex);
        if (!has_ended) {
                call_init(&stop.call, call->nilo, stop_waiting);
                call_run(&stop.call);
        }
        return call_wait(call);
}

static enum nilo_result next_page(struct nilo_reader *r, int wait_ms)
{
        struct reading reading = {.reader = r, .may_wait = wait_ms && r->is_forward};

        call_init(&reading.call, r->nilo, page_or_wait);
        if (wait_ms > 0 && reading.may_wait)
                return run_for(&reading, wait_ms);
        return call_run(&reading.call);
}

enum nilo_result nilo_next(struct nilo_reader *r, int wait_ms, struct nilo_recorded *ret)
{
        const struct slot *slot;

        if (r->slot_at == r->slot_count) {
                enum nilo_result result = next_page(r, wait_ms);

                if (result)
                        return result;
        }
        slot = &r->slots[r->slot_at++];
        *ret = (struct nilo_recorded){
                .stream = (const char *)r->page.data + slot->stream,
                .type = (const char *)r->page.data + slot->type,
                .data = r->page.data + slot->data,
                .data_size = slot->data_size,
                .metadata = r->page.data + slot->metadata,
                .metadata_size = slot->metadata_size,
                .is_binary = slot->is_binary,
                .revision = (int64_t)slot->revision,
                .position = slot->position,
                .time_us = slot->time_us,
        };
        memcpy(ret->id, slot->id.bytes, sizeof ret->id);
        return NILO_OK;
}
