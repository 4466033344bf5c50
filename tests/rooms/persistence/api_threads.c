/* The log on the real machine, with its lanes in threads of their own: groups on the lane and on the loop in
 * turn, zero-filling, sealing, cold reads, runs of entries for other nodes, scrubs and truncation at the same
 * time. Meant for the thread sanitizer as well. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "persistence/persistence.h"
#include "test.h"

enum { STEPS = 4000, LIVES = 3, READS_PER_STEP = 40, SCRUB_US = 200 * 1000 };

struct life {
        struct os *os;
        struct persistence *p;
        struct persistence_reader *reader;
        struct buffer payload;
        unsigned step;
        uint64_t index, position, committed, acknowledged, term;
        uint64_t submitted[PERSISTENCE_WRITES_MAX + 1];
        unsigned submitted_count;
        bool is_waiting;
        uint64_t read;
        unsigned fetches; /* under way */
        uint64_t fetched; /* the next index to fetch */
        unsigned runs, cold_runs, sum;
};

static void on_written(void *arg, int result)
{
        struct life *l = arg;
        unsigned i;

        assert_int_equal(result, 0);
        l->acknowledged = l->submitted[0];
        for (i = 1; i < l->submitted_count; i++)
                l->submitted[i - 1] = l->submitted[i];
        l->submitted_count--;
}

static void on_ready(void *arg)
{
        ((struct life *)arg)->is_waiting = false;
}

static void append_one(struct life *l)
{
        uint8_t data[300] = {1};
        struct record_events_writer w;
        struct event_draft draft = {.type = BYTES_LITERAL("T"), .data = bytes_of(data, l->step % 300)};
        struct persistence_entry entry = {.index = ++l->index,
                .term = l->term,
                .kind = RECORD_EVENTS,
                .first_position = l->position,
                .event_count = 1};

        buffer_clear(&l->payload);
        record_events_begin(&w, &l->payload, 1000 + l->position);
        record_events_add(&w, BYTES_LITERAL("s-1"), l->position++, &draft);
        record_events_end(&w);
        entry.payload = buffer_bytes(&l->payload);
        persistence_append(l->p, &entry);
}

/* Takes back half of what is not committed, in the middle of writes. */
static void truncate_some(struct life *l)
{
        uint64_t cut = l->committed + 1 + (l->index - l->committed) / 2;

        assert_int_equal(persistence_truncate(l->p, cut), 0);
        assert_int_equal(l->submitted_count, 0);
        l->position -= l->index - cut + 1;
        l->index = cut - 1;
        if (l->acknowledged > l->index)
                l->acknowledged = l->index;
        l->term++;
}

static void read_some(struct life *l)
{
        struct event_view e;
        unsigned i;
        int r;

        for (i = 0; i < READS_PER_STEP && !l->is_waiting; i++) {
                l->is_waiting = true; /* on_ready may come before we look */
                r = persistence_reader_next(l->reader, &e);
                if (r == PERSISTENCE_WAIT)
                        return;
                l->is_waiting = false;
                if (r == PERSISTENCE_END)
                        return;
                assert_int_equal(r, 0);
                assert_int_equal(e.position, l->read);
                assert_int_equal(e.revision, l->read);
                l->read++;
        }
}

/* ---- as a leader that sends its entries on ---- */

static void look_at(struct life *l, const struct persistence_entries *run, uint64_t first)
{
        unsigned i;

        assert_true(run->count > 0);
        for (i = 0; i < run->count; i++) {
                const struct persistence_entry *e = &run->entries[i];

                assert_int_equal(e->index, first + i);
                assert_int_equal(e->kind, RECORD_EVENTS);
                assert_true(e->payload.size > 0);
                l->sum += e->payload.data[0] + e->payload.data[e->payload.size - 1];
        }
        l->runs++;
}

struct asked {
        struct life *l;
        uint64_t first;
};

static void on_fetched(void *arg, int result, const struct persistence_entries *run)
{
        struct asked *asked = arg;
        struct life *l = asked->l;

        l->fetches--;
        if (result == PERSISTENCE_NOT_FOUND)
                assert_true(asked->first > l->index);
        else if (result != PERSISTENCE_END)
                assert_int_equal(result, 0);
        if (!result) {
                look_at(l, run, asked->first);
                l->fetched = asked->first + run->count;
        }
        free(asked);
}

static void fetch_some(struct life *l, uint64_t first, uint64_t size_max)
{
        struct asked *asked;

        if (l->fetches == PERSISTENCE_FETCHES_MAX)
                return;
        asked = malloc(sizeof *asked);
        assert_non_null(asked);
        *asked = (struct asked){l, first};
        l->fetches++;
        persistence_fetch(l->p, first, UINT64_MAX, size_max, on_fetched, asked);
}

static void send_some(struct life *l)
{
        uint64_t back = l->step % 97, first = l->index > back ? l->index - back : 1;
        struct persistence_entries run;
        struct record_chain chain;
        uint64_t term;
        int r;

        if (l->index == 0)
                return;
        r = persistence_entries_read(l->p, first, l->index, 64, 20000, &run);
        if (r == PERSISTENCE_COLD) {
                l->cold_runs++;
        } else {
                assert_int_equal(r, 0);
                look_at(l, &run, first);
        }
        if (l->step % 3 == 0)
                fetch_some(l, first, 20000);
        if (l->step % 7 == 0) /* one that lags far behind */
                fetch_some(l, l->fetched > l->index ? 1 : MAX(l->fetched, 1), 100000);
        if (l->step % 11 == 0 && l->acknowledged > 0)
                assert_int_equal(
                        persistence_entry_mark(l->p, 1 + l->step % l->acknowledged, &term, &chain), 0);
}

static void on_step(void *arg)
{
        struct life *l = arg;

        if (l->step == STEPS) {
                os_stop(l->os);
                return;
        }
        if (persistence_writes(l->p) < PERSISTENCE_WRITES_MAX) {
                append_one(l);
                l->step++;
                if (l->step % 5 == 0) {
                        l->submitted[l->submitted_count++] = l->index;
                        persistence_write(l->p, l->step % 35 == 0, on_written, l);
                }
                if (l->step % 1777 == 1776 && l->index > l->acknowledged)
                        truncate_some(l);
        }
        if (l->acknowledged > l->committed) {
                persistence_commit(l->p, l->acknowledged);
                l->committed = l->acknowledged;
        }
        read_some(l);
        send_some(l);
        os_post(l->os, on_step, l);
}

static void run_life(struct os *os, const char *path, uint64_t *index)
{
        struct life l = {.os = os};
        struct persistence_options options = {
                .os = os, .store_name = "default", .segment_size = MIB, .scrub_us = SCRUB_US};
        struct persistence_stats stats;
        struct persistence_reader_options from_start = {.on_ready = on_ready, .arg = &l};

        assert_int_equal(persistence_node_open(os, path, false, &options.node), 0);
        assert_int_equal(persistence_open(&options, &l.p), 0);
        l.index = l.acknowledged = l.committed = persistence_last_index(l.p);
        l.position = persistence_recovered(l.p)->next_position;
        l.term = 1 + l.index;
        assert_true(l.index >= *index);
        persistence_start(l.p);
        persistence_commit(l.p, l.index);
        assert_int_equal(persistence_reader_open(l.p, &from_start, &l.reader), 0);
        os_post(os, on_step, &l);
        assert_int_equal(os_run(os), 0);
        persistence_stats(l.p, &stats);
        assert_int_equal(stats.scrub.found_total, 0);
        assert_true(*index == 0 || stats.scrub.passes > 0);
        persistence_reader_close(&l.reader);
        persistence_close(&l.p);
        assert_int_equal(l.fetches, 0);
        assert_true(l.runs > STEPS);
        persistence_node_close(&options.node);
        buffer_fini(&l.payload);
        *index = l.acknowledged;
}

TEST(threads, write_fill_seal_read_and_truncate_at_once)
{
        char path[] = "/tmp/nilo-persistence-XXXXXX", command[64];
        uint64_t index = 0;
        struct os *os;
        int i;

        assert_non_null(mkdtemp(path));
        assert_int_equal(os_real_new(&os), 0);
        for (i = 0; i < LIVES; i++)
                run_life(os, path, &index);
        assert_true(index > STEPS);
        os_free(&os);
        snprintf(command, sizeof command, "rm -rf %s", path);
        assert_int_equal(system(command), 0);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                TEST_ROW(threads, write_fill_seal_read_and_truncate_at_once),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
