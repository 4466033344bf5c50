/* What the tests of this room share: a store on a machine, appends whose events follow from numbers, and reads
 * into plain rows. Each case runs on the machine with a disk in memory and on the simulated one. */
#ifndef TESTS_STORE_SUPPORT_H
#define TESTS_STORE_SUPPORT_H

#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "os/os_sim.h"
#include "store/store.h"
#include "test.h"

enum machine { MACHINE_MEMORY, MACHINE_SIM };
enum { ROWS_MAX = 4096, STREAMS_MAX = 8, WAIT_US_MAX = 20 * 1000 * 1000, NAP_US_MAX = 150 * 1000 };

/* Which machine the cases run on; main changes it between groups. */
static enum machine machine = MACHINE_SIM;

struct fixture {
        struct os *os;
        struct control *control;
        struct persistence_node *node;
        struct store *store;
        struct store_options options;
        bool is_sim;
        bool has_opened; /* on_open ran */
        int open_result;
        char problem[512];
        bool is_closed;
        unsigned disk_faults;
        unsigned phases; /* bit for each that was told */
        /* waiting */
        const bool *wanted;
        struct os_turn_hook hook;
        struct os_timer guard;
};

/* The answer to an append, copied. */
struct answer {
        bool is_done;
        bool was_at_once; /* from inside the call */
        unsigned times;
        enum store_verdict verdict;
        struct store_append_result result;
        struct store_stream_outcome streams[STREAMS_MAX];
        char problem[256];
        uint64_t next_position; /* committed when it came */
        struct store *store;
};

/* ---- waiting ---- */

static inline void nothing(void *arg)
{
        (void)arg;
}

static inline void on_guard(struct os_timer *timer)
{
        (void)timer;
        assert(!"a test waits for what never comes");
}

static inline void on_turn(struct os_turn_hook *hook)
{
        struct fixture *f = hook->arg;

        if (f->wanted && *f->wanted)
                os_stop(f->os);
}

/* Lets the machine run until *wanted. At least one turn, so that a group leaves. */
static inline void wait_for(struct fixture *f, const bool *wanted)
{
        os_post(f->os, nothing, NULL);
        if (f->is_sim) {
                assert_true(os_sim_step(f->os));
                while (!*wanted)
                        assert_true(os_sim_step(f->os));
                return;
        }
        f->wanted = wanted;
        f->guard = (struct os_timer){.fn = on_guard};
        os_timer_start(f->os, &f->guard, WAIT_US_MAX);
        assert_int_equal(os_run(f->os), 0);
        os_timer_stop(&f->guard);
        f->wanted = NULL;
        assert_true(*wanted);
}

struct nap {
        struct os_timer timer;
        bool is_over;
};

static inline void on_nap(struct os_timer *timer)
{
        ((struct nap *)timer->arg)->is_over = true;
}

/* Lets the machine run for a time: a real one only as long as background work takes. */
static inline void run_for(struct fixture *f, uint64_t us)
{
        struct nap nap = {.timer = {.fn = on_nap}};

        nap.timer.arg = &nap;
        os_timer_start(f->os, &nap.timer, f->is_sim ? us : MIN(us, NAP_US_MAX));
        wait_for(f, &nap.is_over);
}

/* ---- life ---- */

static inline void on_open(void *arg, int result, const char *problem)
{
        struct fixture *f = arg;

        assert_false(f->has_opened);
        f->has_opened = true;
        f->open_result = result;
        snprintf(f->problem, sizeof(f->problem), "%s", problem);
}

static inline void on_phase(void *arg, enum subsystem phase)
{
        struct fixture *f = arg;

        f->phases |= 1u << phase;
}

static inline void on_disk_fault(void *arg, const char *problem)
{
        struct fixture *f = arg;

        (void)problem;
        f->disk_faults++;
}

static inline void on_closed(void *arg)
{
        ((struct fixture *)arg)->is_closed = true;
}

static inline void fixture_init(struct fixture *f, uint64_t seed)
{
        *f = (struct fixture){.is_sim = machine == MACHINE_SIM};
        if (f->is_sim) {
                assert_int_equal(os_sim_new(seed, &f->os), 0);
        } else {
                assert_int_equal(os_real_new(&f->os), 0);
                os_memory_disk(f->os);
        }
        f->hook = (struct os_turn_hook){.fn = on_turn, .arg = f};
        f->options = (struct store_options){
                .os = f->os,
                .name = "default",
                .segment_size = 1024 * 1024,
                .memory_size = 8 * 1024 * 1024,
                .on_phase = on_phase,
                .on_open = on_open,
                .on_disk_fault = on_disk_fault,
                .arg = f,
        };
}

/* Opens node and store as far as it gets; gives what on_open told, or the fault of the node. */
static inline int fixture_try_open(struct fixture *f)
{
        struct control_options control = {
                .os = f->os, .node_name = "test", .log_fd = -1, .log_level = LEVEL_ERROR};
        int r = control_open(&control, &f->control);

        assert_int_equal(r, 0);
        r = persistence_node_open(f->os, "/data", false, &f->node);
        if (r)
                return r;
        f->has_opened = f->is_closed = false;
        f->phases = 0;
        f->options.control = f->control;
        f->options.node = f->node;
        assert_int_equal(store_open(&f->options, &f->store), 0);
        if (!f->is_sim) /* behind the store's, which answers at the end of a turn */
                os_turn_hook_add(f->os, &f->hook);
        wait_for(f, &f->has_opened);
        return f->open_result;
}

static inline void fixture_open(struct fixture *f)
{
        int r = fixture_try_open(f);

        if (r)
                print_error("open gave %d: %s\n", r, f->problem);
        assert_int_equal(r, 0);
        assert_true(store_is_ready(f->store));
}

static inline void fixture_close(struct fixture *f)
{
        if (f->store) {
                store_close(&f->store, on_closed, f);
                wait_for(f, &f->is_closed);
        }
        os_turn_hook_remove(&f->hook);
        persistence_node_close(&f->node);
        control_close(&f->control);
}

static inline void fixture_reopen(struct fixture *f)
{
        fixture_close(f);
        fixture_open(f);
}

/* After a crash or kill of the simulated machine: what the process had is gone. */
static inline void fixture_drop(struct fixture *f)
{
        store_abandon(&f->store);
        f->node = NULL;
        f->control = NULL;
}

static inline void fixture_fini(struct fixture *f)
{
        fixture_close(f);
        if (f->is_sim)
                os_sim_run_for(f->os, 5 * 1000 * 1000);
        os_free(&f->os);
}

static inline void fixture_new(struct fixture *f, uint64_t seed)
{
        fixture_init(f, seed);
        fixture_open(f);
}

/* ---- appends ---- */

static inline struct event_id id_of(uint64_t n)
{
        struct event_id id = {{0}};

        for (unsigned i = 0; i < 8; i++)
                id.bytes[15 - i] = (uint8_t)(n >> 8 * i);
        return id;
}

#define ANY     ((struct expected){.kind = EXPECTED_ANY})
#define NONE    ((struct expected){.kind = EXPECTED_NONE})
#define EXISTS  ((struct expected){.kind = EXPECTED_EXISTS})
#define DELETED ((struct expected){.kind = EXPECTED_SOFT_DELETED})
static inline struct expected EXACT(uint64_t revision)
{
        return (struct expected){.kind = EXPECTED_EXACT, .revision = revision};
}

static inline void on_answer(void *arg, const struct store_append_result *result)
{
        struct answer *a = arg;

        a->times++;
        assert_int_equal(a->times, 1);
        a->is_done = true;
        a->verdict = result->verdict;
        a->result = *result;
        assert_non_null(result->problem);
        snprintf(a->problem, sizeof(a->problem), "%s", result->problem);
        a->result.problem = a->problem;
        if (result->streams) {
                assert_true(result->stream_count <= STREAMS_MAX);
                memcpy(a->streams, result->streams, result->stream_count * sizeof(a->streams[0]));
        }
        a->result.streams = a->streams;
        a->next_position = store_next_position(a->store);
}

/* An append under construction: streams in order of first mention. */
struct draft {
        struct store_append append;
        struct store_append_stream streams[STREAMS_MAX];
        struct store_append_event *events;
        unsigned capacity;
        char data[64];
};

static inline unsigned draft_stream(struct draft *d, const char *stream, struct expected expected)
{
        assert(d->append.stream_count < STREAMS_MAX);
        d->streams[d->append.stream_count] =
                (struct store_append_stream){.stream = bytes_of_string(stream), .expected = expected};
        return d->append.stream_count++;
}

static inline struct event_draft *draft_event(struct draft *d, unsigned stream, uint64_t id)
{
        struct store_append_event *e;

        if (d->append.event_count == d->capacity) {
                d->capacity = d->capacity ? d->capacity * 2 : 16;
                d->events = memory_resize(d->events, d->capacity * sizeof(*d->events));
        }
        e = &d->events[d->append.event_count++];
        *e = (struct store_append_event){.stream = stream,
                .draft = {.id = id_of(id),
                        .type = BYTES_LITERAL("Placed"),
                        .content_type = CONTENT_JSON,
                        .data = BYTES_LITERAL("{\"total\":5}")}};
        return &e->draft;
}

static inline void draft_begin(struct fixture *f, struct draft *d, struct answer *a)
{
        *a = (struct answer){.store = f->store};
        d->append.streams = d->streams;
        d->append.events = d->events;
        d->append.write_id = control_next_write_id(f->control);
        store_append(f->store, &d->append, on_answer, a);
        a->was_at_once = a->is_done;
        free(d->events);
        d->events = NULL;
}

/* `count` events with the ids from `id` on into one stream; does not wait. */
static inline void begin(struct fixture *f, struct answer *a, const char *stream, struct expected expected,
        uint64_t id, unsigned count)
{
        struct draft d = {0};

        draft_stream(&d, stream, expected);
        for (unsigned i = 0; i < count; i++)
                draft_event(&d, 0, id + i);
        draft_begin(f, &d, a);
}

static inline struct answer finish(struct fixture *f, struct draft *d)
{
        struct answer a;

        draft_begin(f, d, &a);
        if (!a.is_done)
                wait_for(f, &a.is_done);
        return a;
}

static inline struct answer put(
        struct fixture *f, const char *stream, struct expected expected, uint64_t id, unsigned count)
{
        struct answer a;

        begin(f, &a, stream, expected, id, count);
        if (!a.is_done)
                wait_for(f, &a.is_done);
        return a;
}

static inline struct answer put_metadata(
        struct fixture *f, const char *metastream, struct expected expected, uint64_t id, const char *body)
{
        struct draft d = {0};
        struct event_draft *e;

        e = draft_event(&d, draft_stream(&d, metastream, expected), id);
        e->type = EVENT_TYPE_METADATA;
        e->data = bytes_of_string(body);
        return finish(f, &d);
}

static inline void begin_delete(struct fixture *f, struct answer *a, const char *stream,
        struct expected expected, bool is_tombstone)
{
        struct store_delete del = {.stream = bytes_of_string(stream),
                .expected = expected,
                .is_tombstone = is_tombstone,
                .write_id = control_next_write_id(f->control)};

        *a = (struct answer){.store = f->store};
        store_delete(f->store, &del, on_answer, a);
        a->was_at_once = a->is_done;
}

static inline struct answer delete_stream(
        struct fixture *f, const char *stream, struct expected expected, bool is_tombstone)
{
        struct answer a;

        begin_delete(f, &a, stream, expected, is_tombstone);
        if (!a.is_done)
                wait_for(f, &a.is_done);
        return a;
}

/* ---- reads ---- */

struct row {
        uint64_t revision;
        uint64_t position;
        uint64_t time_us;
        struct event_id id;
        char stream[40];
        char type[24];
        char data[64];
        bool has_event;
        bool has_link;
        uint64_t link_revision;
};
struct rows {
        unsigned count;
        int end; /* the outcome that ended it, or of the opening */
        uint64_t examined;
        struct row row[ROWS_MAX];
};

struct wakeup {
        bool is_ready;
};

static inline void on_ready(void *arg)
{
        ((struct wakeup *)arg)->is_ready = true;
}

static inline void text_of(struct bytes from, char *to, size_t size)
{
        size_t n = MIN(from.size, size - 1);

        memcpy(to, from.data, n);
        to[n] = 0;
}

static inline struct row row_of(const struct store_read_item *item)
{
        const struct event_view *e = item->has_event ? &item->event : &item->link;
        struct row row;

        memset(&row, 0, sizeof(row)); /* the padding too: rows are compared by their bytes */
        row.revision = e->revision;
        row.position = e->position;
        row.time_us = e->time_us;
        row.id = e->id;
        row.has_event = item->has_event;
        row.has_link = item->has_link;
        row.link_revision = item->has_link ? item->link.revision : 0;
        text_of(e->stream, row.stream, sizeof(row.stream));
        text_of(e->type, row.type, sizeof(row.type));
        text_of(e->data, row.data, sizeof(row.data));
        return row;
}

/* Takes what comes up to the end (or what a following reader has for now). */
static inline void take_rows(
        struct fixture *f, struct store_reader *reader, struct wakeup *wakeup, struct rows *ret)
{
        struct store_read_item item;
        int r;

        ret->count = 0;
        for (;;) {
                r = store_reader_next(reader, &item);
                if (r == 0) {
                        assert_true(ret->count < ROWS_MAX);
                        ret->row[ret->count++] = row_of(&item);
                } else if (r == STORE_READ_WAIT) {
                        if (!wakeup->is_ready)
                                wait_for(f, &wakeup->is_ready);
                        wakeup->is_ready = false;
                } else if (r != STORE_READ_YIELD) {
                        break;
                }
        }
        ret->end = r;
        ret->examined = store_reader_examined(reader);
}

static inline struct rows *read_rows(struct fixture *f, struct store_read_options options)
{
        static struct rows rows;
        struct wakeup wakeup = {0};
        struct store_reader *reader = NULL;

        memset(&rows, 0, sizeof(rows));
        options.on_ready = on_ready;
        options.arg = &wakeup;
        if (!options.limit)
                options.limit = UINT64_MAX;
        rows.end = store_reader_open(f->store, &options, &reader);
        if (rows.end)
                return &rows;
        take_rows(f, reader, &wakeup, &rows);
        store_reader_close(&reader);
        return &rows;
}

static inline struct rows *read_stream(struct fixture *f, const char *stream)
{
        return read_rows(f, (struct store_read_options){.stream = bytes_of_string(stream)});
}

static inline struct rows *read_everything(struct fixture *f)
{
        return read_rows(f, (struct store_read_options){0});
}

/* Everything that can be read of everything, in one number: equal bytes, equal number. */
static inline uint64_t digest(struct fixture *f)
{
        struct rows *rows = read_everything(f);
        uint64_t h = 17;

        assert_int_equal(rows->end, STORE_READ_END);
        for (unsigned i = 0; i < rows->count; i++) {
                const struct row *row = &rows->row[i];

                assert_int_equal(row->position, i);
                h = h * 31 + name_hash(bytes_of((const void *)row, sizeof(*row)));
        }
        return h;
}

static inline struct store_stream_info info_of(struct fixture *f, const char *stream)
{
        struct store_stream_info info;

        assert_int_equal(store_stream_info(f->store, bytes_of_string(stream), &info), 0);
        return info;
}

/* ---- running ---- */

/* Runs the rows on a machine; gives the number of failures. */
#define RUN_ON(which, tests) \
        (machine = (which), \
                cmocka_run_group_tests_name(machine == MACHINE_SIM ? "simulated machine" : "disk in memory", \
                        tests, NULL, NULL))

#endif
