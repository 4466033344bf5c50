/* The checkpoint (G11): everything that is selected at or below it is acknowledged, skipped, or parked with
 * its parked event committed. What is written is one below the lowest event that is not finished.
 *
 * It is written when so many events are finished (max_checkpoint_count), or so many and so long after the
 * last (min_checkpoint_count, checkpoint_after_ms), or when the last consumer leaves; never while it has not
 * moved. Events that a subscription to all streams only passes over move it too, but are worth an event of
 * their own only by the ten thousand, or by the hundred for each subscription that there is, so that the
 * checkpoints of many such subscriptions do not cause each other; and these are written one after the other,
 * in no hurry, since after a start all such subscriptions have passed over the same at the same time. */
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "emitter/room.h"

#define CHECKPOINT_TYPE BYTES_LITERAL("$SubscriptionCheckpoint")

enum load_stage { LOAD_CHECKPOINT, LOAD_PARKED };

struct load {
        struct store_reader *reader;
        enum load_stage stage;
};

static void name_write(const struct pool *p, const char *end, struct buffer *out)
{
        buffer_add_string(out, "$persistentsubscription-");
        buffer_add_bytes(out, p->key);
        buffer_add_string(out, end);
}

void checkpoint_stream(const struct pool *p, struct buffer *out)
{
        name_write(p, "-checkpoint", out);
}

void parked_stream(const struct pool *p, struct buffer *out)
{
        name_write(p, "-parked", out);
}

void meta_of(struct bytes stream, struct buffer *out)
{
        buffer_add(out, "$$", 2);
        buffer_add_bytes(out, stream);
}

/* ---- reading it ---- */

static bool read_digits(struct bytes text, uint64_t *ret)
{
        uint64_t n = 0;

        if (!text.size || text.size > 19)
                return false;
        for (size_t i = 0; i < text.size; i++) {
                if (text.data[i] < '0' || text.data[i] > '9')
                        return false;
                n = n * 10 + (uint64_t)(text.data[i] - '0');
        }
        *ret = n;
        return n <= REVISION_MAX;
}

/* "41", with its quotes, or "C:41/P:41" of all streams. */
static bool checkpoint_parse(bool is_all, struct bytes data, uint64_t *ret)
{
        const uint8_t *slash;

        if (data.size < 2 || data.data[0] != '"' || data.data[data.size - 1] != '"')
                return false;
        data = bytes_of(data.data + 1, data.size - 2);
        if (!is_all)
                return read_digits(data, ret);
        slash = data.size ? memchr(data.data, '/', data.size) : NULL;
        if (!slash || !bytes_starts_with(data, BYTES_LITERAL("C:")))
                return false;
        return read_digits(bytes_of(data.data + 2, (size_t)(slash - data.data) - 2), ret);
}

static void on_ready(void *arg)
{
        checkpoint_load(arg);
}

void checkpoint_load_end(struct pool *p)
{
        if (!p->load)
                return;
        store_reader_close(&p->load->reader);
        free(p->load);
        p->load = NULL;
        p->emitter->loads_under_way--;
        if (!list_is_empty(&p->emitter->loading))
                emitter_again(p->emitter);
}

static int open_newest(struct pool *p, struct bytes stream)
{
        struct store_read_options options = {
                .stream = stream,
                .is_backward = true,
                .from = FROM_END,
                .limit = 1,
                .on_ready = on_ready,
                .arg = p,
        };

        return store_reader_open(p->emitter->store, &options, &p->load->reader);
}

/* 0: read; STORE_READ_END: there is none; STORE_READ_WAIT; or damage. */
static int read_newest(struct pool *p, struct bytes stream, struct store_read_item *ret)
{
        int r = 0;

        if (!p->load->reader)
                r = open_newest(p, stream);
        if (!r)
                r = store_reader_next(p->load->reader, ret);
        return r == STORE_READ_NOT_FOUND || r == STORE_READ_DELETED ? STORE_READ_END : r;
}

static bool take_checkpoint(struct pool *p, const struct event_view *v)
{
        uint64_t number;

        p->has_checkpoint_stream = true;
        if (!bytes_equal(v->type, CHECKPOINT_TYPE) || !checkpoint_parse(pool_is_all(p), v->data, &number))
                return false;
        p->has_checkpoint = true;
        p->cursor = p->written_resume = number + 1;
        return true;
}

/* 0, STORE_READ_WAIT, or damage. */
static int load_checkpoint(struct pool *p)
{
        CLEANUP(buffer_fini) struct buffer name = {0};
        struct store_read_item item;
        int r;

        checkpoint_stream(p, &name);
        r = read_newest(p, buffer_bytes(&name), &item);
        if (r == STORE_READ_WAIT)
                return r;
        if (!r && !take_checkpoint(p, &item.event)) {
                store_reader_close(&p->load->reader);
                return STORE_READ_CORRUPT;
        }
        store_reader_close(&p->load->reader);
        return r == STORE_READ_END ? 0 : r;
}

static int load_parked(struct pool *p)
{
        CLEANUP(buffer_fini) struct buffer name = {0};
        CLEANUP(buffer_fini) struct buffer meta = {0};
        struct store_stream_info info;
        struct store_read_item item;
        int r;

        parked_stream(p, &name);
        r = store_stream_info(p->emitter->store, buffer_bytes(&name), &info);
        if (r)
                return STORE_READ_CORRUPT;
        p->parked_next = info.has_events ? info.last_revision + 1 : 0;
        p->parked_first =
                info.state == STREAM_LIVE ? MIN(info.first_revision, p->parked_next) : p->parked_next;
        if (!info.has_metadata || info.state != STREAM_LIVE)
                return 0;
        meta_of(buffer_bytes(&name), &meta);
        r = read_newest(p, buffer_bytes(&meta), &item);
        if (r == STORE_READ_WAIT)
                return r;
        if (!r)
                parked_read_metadata(p, item.event.data);
        store_reader_close(&p->load->reader);
        return r == STORE_READ_END ? 0 : r;
}

void checkpoint_load(struct pool *p)
{
        int r = 0;

        assert(p->state == POOL_LOADING);
        if (p->definition.d.is_transient) {
                pool_loaded(p);
                return;
        }
        if (!p->load) {
                p->load = MEMORY_NEW(struct load);
                p->emitter->loads_under_way++;
        }
        if (p->load->stage == LOAD_CHECKPOINT) {
                r = load_checkpoint(p);
                if (!r)
                        p->load->stage = LOAD_PARKED;
        }
        if (!r)
                r = load_parked(p);
        if (r == STORE_READ_WAIT)
                return;
        checkpoint_load_end(p);
        if (!r) {
                pool_loaded(p);
                return;
        }
        pool_fail(p, "its checkpoint or its parked events cannot be read: seek to where it shall go on");
        mutations_go_on(p); /* may be its end */
}

/* ---- writing it ---- */

/* Finished events that a checkpoint of now would cover: what is finished above the lowest unfinished one has
 * to wait for that. */
static uint64_t covered(const struct pool *p)
{
        const struct delivery *d = p->work ? &p->work->delivery : NULL;
        uint64_t above = d ? delivery_finished_above(d) : 0;
        uint64_t finished = p->finished_since + (d ? d->finished : 0);

        return finished - MIN(finished, above);
}

static bool is_worth_it(const struct pool *p)
{
        uint64_t passed = MAX((uint64_t)p->emitter->defined_count * PASSED_PER_SUBSCRIPTION,
                (uint64_t)PASSED_BEFORE_CHECKPOINT);

        return covered(p) || (pool_is_all(p) && pool_resume(p) - p->written_resume >= passed);
}

bool checkpoint_has_moved(const struct pool *p)
{
        return pool_resume(p) > p->written_resume && is_worth_it(p);
}

static bool may_write(const struct pool *p)
{
        return !p->definition.d.is_transient && !p->is_writing_checkpoint && !p->is_sealed && p->is_defined &&
               checkpoint_has_moved(p);
}

static uint64_t due_by_time(const struct pool *p)
{
        return p->checkpoint_at_us +
               MAX((uint64_t)p->definition.d.settings.checkpoint_after_ms * 1000, CHECKPOINT_MIN_US);
}

static bool has_enough(const struct pool *p)
{
        return covered(p) >= MAX(p->definition.d.settings.min_checkpoint_count, 1u);
}

/* When it may write that it has only passed over events: its turn among all who want to. */
static uint64_t passing_turn(struct pool *p)
{
        struct emitter *e = p->emitter;

        if (!p->passing_at_us) {
                e->passing_next_us = MAX(e->passing_next_us + PASSING_STEP_US, due_by_time(p));
                p->passing_at_us = e->passing_next_us;
        }
        return MAX(p->passing_at_us, p->checkpoint_again_us);
}

uint64_t checkpoint_due(struct pool *p)
{
        if (!may_write(p))
                return UINT64_MAX;
        if (!covered(p))
                return passing_turn(p);
        if (p->wants_checkpoint)
                return p->checkpoint_again_us;
        return has_enough(p) ? MAX(due_by_time(p), p->checkpoint_again_us) : UINT64_MAX;
}

static void written(struct flight *f, const struct store_append_result *result)
{
        struct pool *p = f->pool;

        if (!p)
                return;
        p->is_writing_checkpoint = false;
        if (result->verdict == STORE_OK) {
                p->has_checkpoint = p->has_checkpoint_stream = true;
                p->written_resume = f->number;
                p->emitter->stats.checkpoints++;
        } else {
                /* Nothing is lost: the next one says at least as much. */
                p->checkpoint_again_us = emitter_now(p->emitter) + RETRY_APPEND_US;
                p->finished_since += f->count;
                if (p->emitter->is_stopping)
                        p->wants_checkpoint = false;
        }
        pool_touch(p);
        mutations_go_on(p); /* may be its end */
}

/* The first one also says that the newest is enough. */
static void write_checkpoint(struct pool *p, uint64_t resume)
{
        struct emitter *e = p->emitter;
        CLEANUP(buffer_fini) struct buffer name = {0};
        CLEANUP(buffer_fini) struct buffer meta = {0};
        struct store_append_stream streams[2];
        struct store_append_event events[2] = {{.stream = 0}, {.stream = 1}};
        struct store_append append = {.streams = streams, .events = events};
        struct store_stream_info info;
        char data[64], metadata[64];
        unsigned n = 0;

        checkpoint_stream(p, &name);
        if (!p->has_checkpoint_stream && !store_stream_info(e->store, buffer_bytes(&name), &info)) {
                meta_of(buffer_bytes(&name), &meta);
                snprintf(metadata, sizeof metadata, "{\"$maxCount\":1,\"$tb\":%llu}",
                        (unsigned long long)(info.has_events ? info.last_revision + 1 : 0));
                streams[n].stream = buffer_bytes(&meta);
                events[n].draft.type = EVENT_TYPE_METADATA;
                events[n].draft.data = bytes_of_string(metadata);
                n++;
        }
        if (pool_is_all(p))
                snprintf(data, sizeof data, "\"C:%llu/P:%llu\"", (unsigned long long)resume - 1,
                        (unsigned long long)resume - 1);
        else
                snprintf(data, sizeof data, "\"%llu\"", (unsigned long long)resume - 1);
        streams[n].stream = buffer_bytes(&name);
        events[n].draft.type = CHECKPOINT_TYPE;
        events[n].draft.data = bytes_of_string(data);
        n++;
        for (unsigned i = 0; i < n; i++) {
                streams[i].expected = (struct expected){.kind = EXPECTED_ANY};
                events[i].stream = i;
                events[i].draft.content_type = CONTENT_JSON;
                emitter_new_id(e, &events[i].draft.id);
        }
        append.stream_count = append.event_count = n;
        append.write_id = control_next_write_id(e->control);
        p->is_writing_checkpoint = true;
        p->wants_checkpoint = false;
        p->checkpoint_at_us = emitter_now(e);
        p->passing_at_us = 0;
        n = (unsigned)MIN(MIN(covered(p), p->finished_since), (uint64_t)UINT32_MAX);
        p->finished_since -= n;
        flight_start(e, p, &append, written, NULL, resume, n);
}

void checkpoint_run(struct pool *p)
{
        const struct emitter_settings *s = &p->definition.d.settings;
        uint64_t now = emitter_now(p->emitter);

        if (!may_write(p)) {
                /* A wish is kept only while there is something that it could wait for. */
                if (!p->is_writing_checkpoint && !p->is_sealed)
                        p->wants_checkpoint = false;
                return;
        }
        if (!covered(p)) {
                p->wants_checkpoint = false;
                if (passing_turn(p) <= now)
                        write_checkpoint(p, pool_resume(p));
                return;
        }
        if (p->checkpoint_again_us > now)
                return;
        if (p->wants_checkpoint || (s->max_checkpoint_count && covered(p) >= s->max_checkpoint_count) ||
                (has_enough(p) && due_by_time(p) <= now))
                write_checkpoint(p, pool_resume(p));
}
