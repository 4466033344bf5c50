/* What the tests of this room share: a log on a simulated machine, entries whose bytes follow from their
 * numbers, and a model of what must be read back. */
#ifndef TESTS_PERSISTENCE_SUPPORT_H
#define TESTS_PERSISTENCE_SUPPORT_H

#include <stdio.h>
#include <stdlib.h>

#include "base/crc32c.h"
#include "base/memory.h"
#include "os/os_sim.h"
#include "persistence/persistence.h"
#include "test.h"

enum { MODEL_STREAMS = 12, MODEL_ENTRIES_MAX = 20000 };

/* One entry that was appended. The salt tells entries apart that had the same index in turn (truncation). */
struct model_entry {
        uint64_t term;
        enum record_kind kind;
        uint64_t first_position;
        uint32_t event_count;
        uint32_t salt;
        uint32_t payload_size;
        uint32_t payload_sum;
        struct record_chain chain;
};

struct model_event {
        uint32_t stream;
        uint32_t salt;
        uint64_t revision;
        uint64_t index;
};

struct fixture {
        struct os *os;
        struct persistence_node *node;
        struct persistence *p;
        struct persistence_options options;
        uint64_t term;
        uint32_t salt;
        uint32_t event_size; /* about */
        uint64_t committed;  /* index */
        /* the model: by index - 1 and by position */
        struct model_entry *entries;
        uint64_t entry_count;
        struct model_event *events;
        uint64_t event_count;
        /* of writes */
        uint64_t acknowledged; /* index */
        uint64_t submitted[PERSISTENCE_WRITES_MAX + 1];
        unsigned submitted_count;
        int write_result;
};

static inline uint64_t mix(uint64_t a, uint64_t b)
{
        uint64_t h = (a + 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u ^ (b + 1) * 0x94d049bb133111ebu;

        h ^= h >> 31;
        h *= 0xd6e8feb86659fd93u;
        return h ^ (h >> 29);
}

static inline void stream_name(uint32_t stream, char ret[64])
{
        snprintf(ret, 64, stream % 3 ? "order-%u" : "invoice_%u", stream);
}

static inline struct bytes stream_bytes(uint32_t stream, char buffer[64])
{
        stream_name(stream, buffer);
        return bytes_of_string(buffer);
}

static inline struct event_id model_id(uint64_t position, uint32_t salt)
{
        struct event_id id;
        uint64_t h = mix(position, salt + 77);

        memcpy(id.bytes, &h, 8);
        h = mix(salt, position);
        memcpy(id.bytes + 8, &h, 8);
        return id;
}

/* The data of an event: its numbers, then bytes that follow from them. */
static inline void model_data(const struct fixture *f, uint64_t position, uint32_t salt, struct buffer *out)
{
        uint64_t h = mix(position, salt), size = f->event_size / 2 + h % (f->event_size + 1), i;

        buffer_clear(out);
        buffer_add_u64(out, position);
        buffer_add_u32(out, salt);
        buffer_reserve(out, size);
        for (i = 0; i < size; i++)
                out->data[out->size++] = (uint8_t)(h >> (i % 8 * 8)) ^ (uint8_t)i;
}

static inline uint64_t model_next_revision(const struct fixture *f, uint32_t stream)
{
        uint64_t i;

        for (i = f->event_count; i > 0; i--)
                if (f->events[i - 1].stream == stream && f->events[i - 1].revision != REVISION_MAX)
                        return f->events[i - 1].revision + 1;
        return 0;
}

static inline uint64_t model_next_position(const struct fixture *f)
{
        return f->event_count;
}

static inline void model_add_events(
        struct fixture *f, uint64_t index, uint32_t count, bool one_stream, struct buffer *payload)
{
        struct record_events_writer w;
        struct buffer data[64] = {{0}};
        char names[64][64];
        uint32_t i;

        assert(count <= 64);
        record_events_begin(&w, payload, 1000000 + index);
        for (i = 0; i < count; i++) {
                uint64_t position = f->event_count;
                struct model_event *e = &f->events[f->event_count];
                struct event_draft draft = {.id = model_id(position, f->salt),
                        .type = mix(position, 3) % 2 ? BYTES_LITERAL("Placed") : BYTES_LITERAL("Paid")};

                e->stream = (uint32_t)(mix(one_stream ? index : position, f->salt) % MODEL_STREAMS);
                e->salt = f->salt;
                e->index = index;
                e->revision = model_next_revision(f, e->stream);
                f->event_count++;
                model_data(f, position, f->salt, &data[i]);
                draft.data = buffer_bytes(&data[i]);
                record_events_add(&w, stream_bytes(e->stream, names[i]), e->revision, &draft);
        }
        record_events_end(&w);
        for (i = 0; i < count; i++)
                buffer_fini(&data[i]);
}

/* Notes what the log is given as the next entry. */
static inline void model_add_entry(struct fixture *f, const struct persistence_entry *entry)
{
        static const struct record_chain none;
        struct model_entry *m = &f->entries[f->entry_count];

        assert(f->entry_count < MODEL_ENTRIES_MAX);
        assert(entry->index == f->entry_count + 1);
        *m = (struct model_entry){.term = entry->term,
                .kind = entry->kind,
                .first_position = entry->first_position,
                .event_count = entry->event_count,
                .salt = f->salt,
                .payload_size = (uint32_t)entry->payload.size,
                .payload_sum = crc32c(0, entry->payload.data, entry->payload.size)};
        record_chain_next(f->entry_count ? &f->entries[f->entry_count - 1].chain : &none, entry->index, entry->term,
                entry->payload, &m->chain);
        f->entry_count++;
}

/* Appends an entry with `count` events; 0: a barrier. */
static inline void fixture_append(struct fixture *f, uint32_t count)
{
        struct buffer payload = {0};
        struct persistence_entry entry = {.index = f->entry_count + 1,
                .term = f->term,
                .kind = count ? RECORD_EVENTS : RECORD_BARRIER,
                .first_position = f->event_count,
                .event_count = count};

        f->salt++;
        if (count)
                model_add_events(f, entry.index, count, f->salt % 2, &payload);
        entry.payload = buffer_bytes(&payload);
        model_add_entry(f, &entry);
        persistence_append(f->p, &entry);
        buffer_fini(&payload);
}

static inline void fixture_append_configuration(struct fixture *f, struct bytes configuration)
{
        struct persistence_entry entry = {.index = f->entry_count + 1,
                .term = f->term,
                .kind = RECORD_CONFIGURATION,
                .first_position = f->event_count,
                .payload = configuration};

        f->salt++;
        model_add_entry(f, &entry);
        persistence_append(f->p, &entry);
}

static inline void fixture_written(void *arg, int result)
{
        struct fixture *f = arg;

        assert(f->submitted_count > 0);
        if (result == 0)
                f->acknowledged = MAX(f->acknowledged, f->submitted[0]);
        else
                f->write_result = result;
        memmove(f->submitted, f->submitted + 1, sizeof f->submitted - sizeof f->submitted[0]);
        f->submitted_count--;
}

static inline void fixture_write(struct fixture *f, bool on_this_thread)
{
        f->submitted[f->submitted_count++] = f->entry_count;
        persistence_write(f->p, on_this_thread, fixture_written, f);
}

static inline void fixture_commit(struct fixture *f, uint64_t index)
{
        persistence_commit(f->p, index);
        f->committed = MAX(f->committed, index);
}

/* Appends, writes and commits one entry at once. */
static inline void fixture_put(struct fixture *f, uint32_t count)
{
        fixture_append(f, count);
        fixture_write(f, true);
        assert(f->write_result == 0);
        fixture_commit(f, f->entry_count);
}

static inline void fixture_truncate(struct fixture *f, uint64_t index)
{
        assert_int_equal(persistence_truncate(f->p, index), 0);
        if (index > f->entry_count)
                return;
        f->event_count = f->entries[index - 1].first_position;
        f->entry_count = index - 1;
        f->acknowledged = MIN(f->acknowledged, index - 1);
}

/* Runs the machine long enough for everything in the background. */
static inline void fixture_settle(struct fixture *f)
{
        os_sim_run_for(f->os, 5 * 1000 * 1000);
}

static inline void fixture_init(struct fixture *f, uint64_t seed)
{
        *f = (struct fixture){.term = 1, .event_size = 200};
        assert_int_equal(os_sim_new(seed, &f->os), 0);
        f->entries = memory_new_array(MODEL_ENTRIES_MAX, sizeof f->entries[0]);
        f->events = memory_new_array(MODEL_ENTRIES_MAX * 8, sizeof f->events[0]);
        f->options =
                (struct persistence_options){.os = f->os, .store_name = "default", .segment_size = 64 * KIB};
}

/* Opens node and log. Gives what persistence_open gives. */
static inline int fixture_try_open(struct fixture *f)
{
        int r = persistence_node_open(f->os, "/data", false, &f->node);

        if (r)
                return r;
        f->options.node = f->node;
        f->submitted_count = 0;
        f->write_result = 0;
        r = persistence_open(&f->options, &f->p);
        if (r)
                persistence_node_close(&f->node);
        return r;
}

static inline void fixture_open(struct fixture *f)
{
        int r = fixture_try_open(f);

        if (r)
                print_error("open gave %d: %s %s\n", r, r > 0 ? persistence_problem() : "",
                        r < 0 ? fault_last() : "");
        assert_int_equal(r, 0);
        persistence_start(f->p);
}

static inline void fixture_close(struct fixture *f)
{
        persistence_close(&f->p);
        persistence_node_close(&f->node);
}

static inline void fixture_fini(struct fixture *f)
{
        if (f->p)
                fixture_close(f);
        os_sim_run_for(f->os, 5 * 1000 * 1000); /* lanes give back what they hold */
        os_free(&f->os);
        free(f->entries);
        free(f->events);
}

/* After a crash: the log and the model as far as it was recovered. What was acknowledged must be there, what
 * is there must have been appended, densely; entries are taken as committed. */
static inline void fixture_adopt_recovered(struct fixture *f)
{
        const struct persistence_recovered *rec = persistence_recovered(f->p);
        uint64_t last = rec->base_index + rec->entry_count, i;

        assert_true(last >= f->acknowledged);
        assert_true(last <= f->entry_count);
        assert_int_equal(last, persistence_last_index(f->p));
        assert_int_equal(last, persistence_synced_index(f->p));
        for (i = rec->base_index; i < last; i++) {
                assert_int_equal(rec->entries[i - rec->base_index].term, f->entries[i].term);
                assert_int_equal(rec->entries[i - rec->base_index].kind, f->entries[i].kind);
        }
        if (last < f->entry_count)
                f->event_count = f->entries[last].first_position;
        f->entry_count = last;
        f->acknowledged = last;
        assert_int_equal(rec->next_position, f->event_count);
        fixture_commit(f, last);
}

/* ---- checks ---- */

static inline void check_event(const struct fixture *f, const struct event_view *e, uint64_t position)
{
        const struct model_event *m = &f->events[position];
        struct buffer data = {0};
        struct event_id id;
        char name[64];

        assert_int_equal(e->position, position);
        assert_true(position < f->event_count);
        id = model_id(position, m->salt);
        assert_int_equal(e->revision, m->revision);
        assert_int_equal(e->log_index, m->index);
        assert_true(bytes_equal(e->stream, stream_bytes(m->stream, name)));
        assert_true(event_id_equal(&e->id, &id));
        model_data(f, position, m->salt, &data);
        assert_true(bytes_equal(e->data, buffer_bytes(&data)));
        buffer_fini(&data);
}

struct wakeup {
        bool is_ready;
};

static inline void on_ready(void *arg)
{
        ((struct wakeup *)arg)->is_ready = true;
}

/* The next event, through cold reads. */
static inline int next_event(
        struct fixture *f, struct persistence_reader *r, struct wakeup *wakeup, struct event_view *ret)
{
        int result;

        for (;;) {
                result = persistence_reader_next(r, ret);
                if (result != PERSISTENCE_WAIT)
                        return result;
                wakeup->is_ready = false;
                while (!wakeup->is_ready)
                        assert_true(os_sim_step(f->os));
        }
}

static inline struct persistence_reader *open_reader(
        struct fixture *f, struct bytes stream, uint64_t from, bool is_backward, struct wakeup *wakeup)
{
        struct persistence_reader_options o = {.is_backward = is_backward,
                .stream = stream,
                .from = from,
                .on_ready = on_ready,
                .arg = wakeup};
        struct persistence_reader *r;

        assert_int_equal(persistence_reader_open(f->p, &o, &r), 0);
        return r;
}

/* Reads the log from a position both ways. */
static inline void check_log(struct fixture *f, uint64_t from, bool is_backward)
{
        struct wakeup wakeup = {0};
        struct persistence_reader *r = open_reader(f, BYTES_EMPTY, from, is_backward, &wakeup);
        uint64_t at = from, count = 0;
        struct event_view e;
        int result;

        if (is_backward && at >= f->event_count)
                at = f->event_count - 1;
        while ((result = next_event(f, r, &wakeup, &e)) == 0) {
                check_event(f, &e, at);
                at += is_backward ? UINT64_MAX : 1;
                count++;
        }
        if (result != PERSISTENCE_END)
                print_error("result %d: %s\n", result, persistence_reader_problem(r));
        assert_int_equal(result, PERSISTENCE_END);
        if (is_backward)
                assert_int_equal(count, f->event_count ? MIN(from, f->event_count - 1) + 1 : 0);
        else
                assert_int_equal(count, from < f->event_count ? f->event_count - from : 0);
        persistence_reader_close(&r);
}

static inline void check_stream(struct fixture *f, uint32_t stream, uint64_t from, bool is_backward)
{
        struct wakeup wakeup = {0};
        char name[64];
        struct persistence_reader *r = open_reader(f, stream_bytes(stream, name), from, is_backward, &wakeup);
        struct event_view e;
        uint64_t i, position;
        int result;

        for (i = 0; i < f->event_count; i++) {
                position = is_backward ? f->event_count - 1 - i : i;
                if (f->events[position].stream != stream)
                        continue;
                if (is_backward ? f->events[position].revision > from : f->events[position].revision < from)
                        continue;
                result = next_event(f, r, &wakeup, &e);
                if (result)
                        print_error("stream %u position %llu result %d: %s\n", stream,
                                (unsigned long long)position, result, persistence_reader_problem(r));
                assert_int_equal(result, 0);
                check_event(f, &e, position);
        }
        assert_int_equal(next_event(f, r, &wakeup, &e), PERSISTENCE_END);
        persistence_reader_close(&r);
}

/* A run of entries that begins with `first`, against the model. */
static inline void check_entries(const struct fixture *f, const struct persistence_entries *run, uint64_t first)
{
        uint64_t size = 0;
        unsigned i;

        assert_true(run->count > 0);
        for (i = 0; i < run->count; i++) {
                const struct persistence_entry *e = &run->entries[i];
                const struct model_entry *m = &f->entries[first + i - 1];

                assert_true(first + i <= f->entry_count);
                assert_int_equal(e->index, first + i);
                assert_int_equal(e->term, m->term);
                assert_int_equal(e->kind, m->kind);
                assert_int_equal(e->first_position, m->first_position);
                assert_int_equal(e->event_count, m->event_count);
                assert_int_equal(e->payload.size, m->payload_size);
                assert_int_equal(crc32c(0, e->payload.data, e->payload.size), m->payload_sum);
                size += e->payload.size;
        }
        assert_int_equal(run->payload_size, size);
        if (run->has_chain)
                assert_memory_equal(&run->chain, &f->entries[first + run->count - 2].chain, sizeof run->chain);
}

static inline void check_mark(struct fixture *f, uint64_t index)
{
        struct record_chain chain;
        uint64_t term;

        assert_int_equal(persistence_entry_mark(f->p, index, &term, &chain), 0);
        assert_int_equal(term, f->entries[index - 1].term);
        assert_memory_equal(&chain, &f->entries[index - 1].chain, sizeof chain);
}

static inline void check_head(struct fixture *f, uint32_t stream)
{
        struct persistence_head head;
        char name[64];
        uint64_t next = model_next_revision(f, stream), i;
        int r = persistence_stream_head(f->p, stream_bytes(stream, name), &head);

        for (i = f->event_count; i > 0 && f->events[i - 1].stream != stream; i--)
                ;
        if (i == 0) {
                assert_int_equal(r, PERSISTENCE_NOT_FOUND);
                return;
        }
        assert_int_equal(r, 0);
        assert_int_equal(head.last_position, i - 1);
        assert_int_equal(head.is_tombstoned, f->events[i - 1].revision == REVISION_MAX);
        assert_int_equal(head.has_events, next > 0);
        if (next > 0)
                assert_int_equal(head.revision, next - 1);
}

static inline void check_ids(struct fixture *f)
{
        uint64_t i;
        char name[64];

        for (i = 0; i < f->event_count; i++) {
                struct event_id id = model_id(i, f->events[i].salt);
                struct persistence_id found;

                assert_int_equal(persistence_find_id(f->p, &id,
                                         name_hash(stream_bytes(f->events[i].stream, name)), &found),
                        0);
                assert_int_equal(found.position, i);
                assert_int_equal(found.revision, f->events[i].revision);
        }
}

static inline void print_problem(void *arg, const char *file, uint64_t offset, const char *what)
{
        if (arg)
                ++*(unsigned *)arg;
        else
                print_error("verify: %s at %llu: %s\n", file, (unsigned long long)offset, what);
}

/* Everything that the model knows, read in every way. All entries must be committed. */
static inline void check_all(struct fixture *f)
{
        struct persistence_verify verify = {.problem = print_problem};
        uint64_t problems;
        uint32_t s;

        assert_int_equal(persistence_next_position(f->p), f->event_count);
        check_log(f, 0, false);
        check_log(f, f->event_count / 3, false);
        check_log(f, f->event_count, false);
        check_log(f, UINT64_MAX, true);
        check_log(f, f->event_count / 2, true);
        for (s = 0; s < MODEL_STREAMS; s++) {
                uint64_t next = model_next_revision(f, s);

                check_head(f, s);
                check_stream(f, s, 0, false);
                check_stream(f, s, next / 2, false);
                check_stream(f, s, next ? next - 1 : 0, false);
                check_stream(f, s, UINT64_MAX, true);
                check_stream(f, s, next / 3, true);
        }
        check_ids(f);
        assert_int_equal(persistence_verify(f->p, &verify, &problems), 0);
        assert_int_equal(problems, 0);
}

#endif
