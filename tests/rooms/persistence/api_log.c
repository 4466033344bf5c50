/* The log through its contract, without faults: what is appended is read back in every way, across segments,
 * seals, reopening and truncation. */
#include "support.h"

const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
        return "detect_leaks=0"; /* a crash gives no memory back */
}

/* ---- small logs ---- */

TEST(log, empty_log_reads_nothing)
{
        struct fixture f;

        fixture_init(&f, 1);
        fixture_open(&f);
        check_all(&f);
        assert_int_equal(persistence_recovered(f.p)->base_index, 0);
        assert_int_equal(persistence_recovered(f.p)->entry_count, 0);
        fixture_fini(&f);
}

TEST(log, one_event_is_read_in_every_way)
{
        struct fixture f;

        fixture_init(&f, 2);
        fixture_open(&f);
        fixture_put(&f, 1);
        check_all(&f);
        fixture_fini(&f);
}

TEST(log, uncommitted_events_are_invisible_G9)
{
        struct fixture f;
        struct event_view e;
        struct wakeup wakeup = {0};
        struct persistence_reader *r;

        fixture_init(&f, 3);
        fixture_open(&f);
        r = open_reader(&f, BYTES_EMPTY, 0, false, &wakeup);
        fixture_append(&f, 2);
        fixture_write(&f, true);
        assert_int_equal(f.acknowledged, 1);
        assert_int_equal(next_event(&f, r, &wakeup, &e), PERSISTENCE_END);
        assert_int_equal(persistence_next_position(f.p), 0);
        fixture_commit(&f, 1);
        assert_int_equal(next_event(&f, r, &wakeup, &e), 0);
        check_event(&f, &e, 0);
        persistence_reader_close(&r);
        fixture_fini(&f);
}

TEST(log, writes_on_the_lane_finish_in_order)
{
        struct fixture f;
        unsigned i;

        fixture_init(&f, 4);
        fixture_open(&f);
        for (i = 0; i < 200; i++) {
                fixture_append(&f, i % 4);
                if (persistence_writes(f.p) < PERSISTENCE_WRITES_MAX)
                        fixture_write(&f, i % 7 == 0);
                while (persistence_writes(f.p) == PERSISTENCE_WRITES_MAX)
                        assert_true(os_sim_step(f.os));
                fixture_commit(&f, f.acknowledged);
        }
        fixture_write(&f, true);
        assert_int_equal(f.acknowledged, 200);
        fixture_commit(&f, 200);
        check_all(&f);
        fixture_fini(&f);
}

/* ---- segments ---- */

static void fill(struct fixture *f, unsigned entries)
{
        unsigned i;

        for (i = 0; i < entries; i++)
                fixture_put(f, (uint32_t)(mix(i, entries) % 5));
}

TEST(log, segments_are_sealed_and_read_back)
{
        struct fixture f;
        struct persistence_stats stats;

        fixture_init(&f, 5);
        fixture_open(&f);
        fill(&f, 700);
        check_all(&f); /* some segments are full, not sealed */
        fixture_settle(&f);
        check_all(&f);
        persistence_stats(f.p, &stats);
        assert_true(stats.segments >= 5);
        assert_true(stats.index_bytes > 0);
        fixture_fini(&f);
}

TEST(log, reopens_after_close_with_sealed_segments_and_a_tail)
{
        struct fixture f;
        int round;

        fixture_init(&f, 6);
        for (round = 0; round < 4; round++) {
                fixture_open(&f);
                fixture_adopt_recovered(&f);
                check_all(&f);
                fill(&f, 150);
                if (round % 2)
                        fixture_settle(&f);
                fixture_close(&f);
        }
        fixture_open(&f);
        assert_true(persistence_recovered(f.p)->base_index > 0);
        fixture_adopt_recovered(&f);
        check_all(&f);
        fixture_fini(&f);
}

TEST(log, segment_ends_at_its_number_of_events)
{
        struct fixture f;
        struct persistence_stats stats;

        fixture_init(&f, 7);
        f.options.segment_events_max = 10;
        fixture_open(&f);
        fill(&f, 100);
        fixture_settle(&f);
        persistence_stats(f.p, &stats);
        assert_true(stats.segments >= 15);
        check_all(&f);
        fixture_fini(&f);
}

TEST(log, record_larger_than_a_segment_has_one_of_its_own)
{
        struct fixture f;

        fixture_init(&f, 8);
        fixture_open(&f);
        fill(&f, 3);
        f.event_size = 300000;
        fixture_put(&f, 1);
        fixture_put(&f, 3);
        fixture_close(&f);
        fixture_open(&f);
        fixture_adopt_recovered(&f);
        f.event_size = 300000; /* data follows from the size as well: only the large ones are compared */
        check_log(&f, f.entries[3].first_position, false);
        fixture_fini(&f);
}

TEST(log, larger_segments_have_several_stretches)
{
        struct fixture f;
        uint64_t from;

        fixture_init(&f, 9);
        f.options.segment_size = 512 * KIB;
        fixture_open(&f);
        fill(&f, 2500);
        fixture_settle(&f);
        for (from = 0; from < f.event_count; from += 97) {
                check_log(&f, from, from % 2);
        }
        check_all(&f);
        fixture_fini(&f);
}

TEST(log, groups_cross_segments)
{
        struct fixture f;
        int i, j;

        fixture_init(&f, 10);
        fixture_open(&f);
        for (i = 0; i < 8; i++) {
                for (j = 0; j < 150; j++)
                        fixture_append(&f, 3);
                fixture_write(&f, i % 2);
                fixture_settle(&f);
                fixture_commit(&f, f.acknowledged);
        }
        fixture_settle(&f);
        check_all(&f);
        fixture_close(&f);
        fixture_open(&f);
        fixture_adopt_recovered(&f);
        check_all(&f);
        fixture_fini(&f);
}

/* ---- readers that stay ---- */

TEST(reader, follows_the_log_through_rolls_and_seals)
{
        struct fixture f;
        struct wakeup wakeup = {0}, stream_wakeup = {0};
        struct persistence_reader *log, *stream;
        struct os_sim_faults faults = {.reads_are_cold = true};
        struct event_view e;
        uint64_t at = 0, revision = 0;
        char name[64];
        int i;

        fixture_init(&f, 11);
        fixture_open(&f);
        os_sim_set_faults(f.os, &faults);
        log = open_reader(&f, BYTES_EMPTY, 0, false, &wakeup);
        stream = open_reader(&f, stream_bytes(4, name), 0, false, &stream_wakeup);
        for (i = 0; i < 500; i++) {
                fixture_put(&f, (uint32_t)i % 4);
                while (next_event(&f, log, &wakeup, &e) == 0)
                        check_event(&f, &e, at++);
                assert_int_equal(at, f.event_count);
                while (next_event(&f, stream, &stream_wakeup, &e) == 0) {
                        assert_int_equal(e.revision, revision);
                        check_event(&f, &e, e.position);
                        revision++;
                }
                assert_int_equal(revision, model_next_revision(&f, 4));
                if (i % 50 == 0)
                        fixture_settle(&f);
        }
        persistence_reader_close(&log);
        persistence_reader_close(&stream);
        fixture_fini(&f);
}

/* Readers of a stream and of the log, both ways, that give their bytes back after each event (G18). */
static void read_at_ease(struct fixture *f)
{
        struct wakeup wakeups[4] = {{0}};
        struct persistence_reader *readers[4];
        struct persistence_stats stats;
        struct event_view e;
        uint64_t at, n;
        char name[64];

        readers[0] = open_reader(f, BYTES_EMPTY, 0, false, &wakeups[0]);
        readers[1] = open_reader(f, BYTES_EMPTY, UINT64_MAX, true, &wakeups[1]);
        readers[2] = open_reader(f, stream_bytes(5, name), 0, false, &wakeups[2]);
        readers[3] = open_reader(f, stream_bytes(5, name), UINT64_MAX, true, &wakeups[3]);
        for (unsigned i = 0; i < 4; i++) {
                uint64_t count = i < 2 ? f->event_count : model_next_revision(f, 5);

                for (n = 0; next_event(f, readers[i], &wakeups[i], &e) == 0; n++) {
                        at = i % 2 ? count - 1 - n : n;
                        assert_int_equal(i < 2 ? e.position : e.revision, at);
                        check_event(f, &e, e.position);
                        persistence_reader_ease(readers[i]);
                        persistence_stats(f->p, &stats);
                        assert_true(stats.reader_bytes <= 4 * f->options.cache_size); /* a little each */
                }
                assert_int_equal(n, count);
        }
        for (unsigned i = 0; i < 4; i++)
                persistence_reader_close(&readers[i]);
        persistence_stats(f->p, &stats);
        assert_int_equal(stats.reader_bytes, 0);
}

TEST(reader, gives_bytes_back_at_any_event_and_goes_on_where_it_was_G18)
{
        struct os_sim_faults faults = {.reads_are_cold = true};
        struct fixture f;

        fixture_init(&f, 14);
        f.options.cache_size = 16 * KIB;
        fixture_open(&f);
        fill(&f, 300);
        read_at_ease(&f);
        os_sim_set_faults(f.os, &faults);
        read_at_ease(&f);
        fixture_settle(&f);
        read_at_ease(&f);
        fixture_fini(&f);
}

TEST(reader, is_not_disturbed_when_its_segment_is_sealed)
{
        struct fixture f;
        struct wakeup wakeups[4] = {{0}};
        struct persistence_reader *readers[4];
        struct event_view e;
        uint64_t at, back;
        char name[64];
        int i;

        fixture_init(&f, 12);
        fixture_open(&f);
        fill(&f, 400);
        readers[0] = open_reader(&f, BYTES_EMPTY, 0, false, &wakeups[0]);
        readers[1] = open_reader(&f, BYTES_EMPTY, UINT64_MAX, true, &wakeups[1]);
        readers[2] = open_reader(&f, stream_bytes(5, name), 0, false, &wakeups[2]);
        readers[3] = open_reader(&f, stream_bytes(5, name), UINT64_MAX, true, &wakeups[3]);
        for (at = 0, back = f.event_count; at < 100; at++) {
                assert_int_equal(next_event(&f, readers[0], &wakeups[0], &e), 0);
                check_event(&f, &e, at);
                assert_int_equal(next_event(&f, readers[1], &wakeups[1], &e), 0);
                check_event(&f, &e, --back);
        }
        for (i = 0; i < 20; i++)
                assert_int_equal(next_event(&f, readers[2 + i % 2], &wakeups[2 + i % 2], &e), 0);
        fixture_settle(&f); /* everything but the last segment is sealed now */
        while (next_event(&f, readers[0], &wakeups[0], &e) == 0)
                check_event(&f, &e, at++);
        assert_int_equal(at, f.event_count);
        while (next_event(&f, readers[1], &wakeups[1], &e) == 0)
                check_event(&f, &e, --back);
        assert_int_equal(back, 0);
        for (at = 10; next_event(&f, readers[2], &wakeups[2], &e) == 0; at++)
                assert_int_equal(e.revision, at);
        assert_int_equal(at, model_next_revision(&f, 5));
        for (at = model_next_revision(&f, 5) - 10; next_event(&f, readers[3], &wakeups[3], &e) == 0;)
                assert_int_equal(e.revision, --at);
        assert_int_equal(at, 0);
        for (i = 0; i < 4; i++)
                persistence_reader_close(&readers[i]);
        fixture_fini(&f);
}

TEST(reader, can_be_closed_while_it_waits)
{
        struct fixture f;
        struct wakeup wakeup = {0};
        struct os_sim_faults faults = {.reads_are_cold = true};
        struct persistence_reader *r;
        struct event_view e;
        unsigned waits = 0;
        int i;

        fixture_init(&f, 13);
        fixture_open(&f);
        fill(&f, 200);
        fixture_settle(&f);
        os_sim_set_faults(f.os, &faults);
        for (i = 0; i < 20; i++) {
                r = open_reader(&f, BYTES_EMPTY, 0, i % 2, &wakeup);
                waits += persistence_reader_next(r, &e) == PERSISTENCE_WAIT;
                persistence_reader_close(&r);
        }
        assert_true(waits > 0);
        fixture_settle(&f);
        fixture_fini(&f);
}

TEST(reader, from_the_future_begins_when_it_has_come)
{
        struct fixture f;
        struct wakeup wakeup = {0};
        struct persistence_reader *r;
        struct event_view e;

        fixture_init(&f, 14);
        fixture_open(&f);
        r = open_reader(&f, BYTES_EMPTY, 3, false, &wakeup);
        fixture_put(&f, 2);
        assert_int_equal(next_event(&f, r, &wakeup, &e), PERSISTENCE_END);
        fixture_put(&f, 3);
        assert_int_equal(next_event(&f, r, &wakeup, &e), 0);
        check_event(&f, &e, 3);
        persistence_reader_close(&r);
        fixture_fini(&f);
}

/* ---- tombstones ---- */

static void put_tombstone(struct fixture *f, uint32_t stream)
{
        struct buffer payload = {0};
        struct record_events_writer w;
        struct event_draft draft = {.type = EVENT_TYPE_STREAM_DELETED};
        struct persistence_entry entry = {.index = f->entry_count + 1,
                .term = f->term,
                .kind = RECORD_EVENTS,
                .first_position = f->event_count,
                .event_count = 1};
        struct buffer data = {0};
        char name[64];

        f->salt++;
        draft.id = model_id(f->event_count, f->salt);
        model_data(f, f->event_count, f->salt, &data);
        draft.data = buffer_bytes(&data);
        record_events_begin(&w, &payload, 1000000 + entry.index);
        record_events_add(&w, stream_bytes(stream, name), REVISION_MAX, &draft);
        record_events_end(&w);
        entry.payload = buffer_bytes(&payload);
        model_add_entry(f, &entry);
        f->events[f->event_count++] = (struct model_event){stream, f->salt, REVISION_MAX, entry.index};
        persistence_append(f->p, &entry);
        buffer_fini(&payload);
        buffer_fini(&data);
        fixture_write(f, true);
        fixture_commit(f, entry.index);
}

TEST(tombstone, is_the_last_event_of_its_stream)
{
        struct fixture f;
        uint32_t stream;
        uint64_t position;

        fixture_init(&f, 15);
        fixture_open(&f);
        fill(&f, 150);
        put_tombstone(&f, 900); /* a stream without events */
        stream = f.events[f.event_count - 2].stream;
        put_tombstone(&f, stream);
        position = f.event_count - 1;
        check_stream(&f, stream, 0, false);
        check_stream(&f, stream, UINT64_MAX, true);
        check_stream(&f, stream, 1, true);
        check_stream(&f, 900, 0, false);
        check_stream(&f, 900, UINT64_MAX, true);
        check_head(&f, stream);
        check_head(&f, 900);
        fixture_settle(&f);
        /* Seal it, and look again through the index. */
        while (persistence_last_index(f.p) < 400) {
                fixture_append(&f, 0);
                fixture_write(&f, true);
                fixture_commit(&f, f.entry_count);
        }
        f.options.segment_size = 4096 + 100;
        fixture_close(&f);
        fixture_open(&f);
        fixture_adopt_recovered(&f);
        fixture_append(&f, 0);
        fixture_write(&f, true);
        fixture_commit(&f, f.entry_count);
        fixture_settle(&f);
        assert_true(position < f.event_count);
        check_stream(&f, stream, 0, false);
        check_stream(&f, stream, UINT64_MAX, true);
        check_stream(&f, 900, UINT64_MAX, true);
        check_head(&f, stream);
        check_head(&f, 900);
        fixture_fini(&f);
}

/* ---- truncation ---- */

TEST(truncate, removes_uncommitted_entries_everywhere)
{
        struct fixture f;
        unsigned round;

        for (round = 0; round < 60; round++) {
                uint64_t keep;

                fixture_init(&f, 100 + round);
                fixture_open(&f);
                fill(&f, (unsigned)os_sim_choose(f.os, 60));
                keep = f.entry_count;
                /* Some on the disk, some on their way, some gathered; over the end of a segment. */
                while (f.entry_count < keep + 200) {
                        fixture_append(&f, (uint32_t)os_sim_choose(f.os, 4));
                        if (os_sim_choose(f.os, 10) == 0 && persistence_writes(f.p) < PERSISTENCE_WRITES_MAX)
                                fixture_write(&f, os_sim_choose(f.os, 2));
                        if (os_sim_choose(f.os, 10) == 0)
                                os_sim_step(f.os);
                }
                f.term++;
                fixture_truncate(&f, keep + 1 + os_sim_choose(f.os, 200));
                fixture_append(&f, 2);
                fixture_write(&f, true);
                f.event_size = 120 + round; /* no matter: data is compared with what was written last */
                f.event_size = 200;
                fixture_commit(&f, f.entry_count);
                check_all(&f);
                fixture_close(&f);
                fixture_open(&f);
                fixture_adopt_recovered(&f);
                check_all(&f);
                fixture_fini(&f);
        }
}

TEST(truncate, old_entries_do_not_come_back_after_a_crash_G13)
{
        struct fixture f;
        unsigned round;

        for (round = 0; round < 60; round++) {
                fixture_init(&f, 200 + round);
                fixture_open(&f);
                fill(&f, 20);
                while (f.entry_count < 200)
                        fixture_append(&f, 2);
                fixture_write(&f, true);
                f.term++;
                fixture_truncate(&f, 21 + os_sim_choose(f.os, 100));
                if (round % 2) {
                        fixture_append(&f, 1);
                        fixture_write(&f, round % 4 == 1);
                }
                os_sim_crash(f.os);
                fixture_open(&f);
                fixture_adopt_recovered(&f);
                check_all(&f);
                fixture_fini(&f);
        }
}

/* ---- configurations and the base ---- */

static struct persistence_sealed sealed_last;
static unsigned sealed_count;

static void on_sealed(void *arg, const struct persistence_sealed *sealed)
{
        (void)arg;
        sealed_last = *sealed;
        sealed_count++;
        assert_true(bytes_equal_string(sealed->configuration, "three nodes"));
}

TEST(configuration, in_force_is_told_at_seal_and_start)
{
        struct fixture f;
        const struct persistence_recovered *rec;

        sealed_count = 0;
        fixture_init(&f, 16);
        fixture_open(&f);
        persistence_on_sealed(f.p, on_sealed, NULL);
        fixture_append_configuration(&f, BYTES_LITERAL("one node"));
        fixture_append_configuration(&f, BYTES_LITERAL("three nodes"));
        fixture_append_configuration(&f, BYTES_LITERAL("taken back"));
        fixture_write(&f, true);
        fixture_truncate(&f, 3);
        fill(&f, 400);
        fixture_settle(&f);
        assert_true(sealed_count > 0);
        assert_int_equal(sealed_last.configuration_index, 2);
        fixture_append_configuration(&f, BYTES_LITERAL("five nodes"));
        fixture_write(&f, true);
        fixture_close(&f);
        fixture_open(&f);
        rec = persistence_recovered(f.p);
        assert_int_equal(rec->base_index, sealed_last.index);
        assert_int_equal(rec->base_term, 1);
        assert_true(bytes_equal_string(rec->base_configuration, "three nodes"));
        assert_int_equal(rec->base_configuration_index, 2);
        assert_int_equal(rec->entries[rec->entry_count - 1].kind, RECORD_CONFIGURATION);
        assert_true(bytes_equal_string(rec->entries[rec->entry_count - 1].payload, "five nodes"));
        fixture_fini(&f);
}

TEST(vote, is_there_after_close_and_crash)
{
        struct fixture f;

        fixture_init(&f, 17);
        fixture_open(&f);
        assert_int_equal(persistence_save_vote(f.p, 7, 3), 0);
        os_sim_crash(f.os);
        fixture_open(&f);
        assert_int_equal(persistence_recovered(f.p)->term, 7);
        assert_int_equal(persistence_recovered(f.p)->voted_for, 3);
        assert_int_equal(persistence_save_vote(f.p, 8, 0), 0);
        fixture_close(&f);
        fixture_open(&f);
        assert_int_equal(persistence_recovered(f.p)->term, 8);
        assert_int_equal(persistence_recovered(f.p)->voted_for, 0);
        fixture_fini(&f);
}

/* ---- names ---- */

struct listing {
        char names[64][64];
        uint64_t counts[64];
        unsigned count;
        unsigned stop_after;
};

static bool each_name(void *arg, struct bytes name, uint64_t event_count)
{
        struct listing *l = arg;

        assert(name.size < 64 && l->count < 64);
        memset(l->names[l->count], 0, 64);
        memcpy(l->names[l->count], name.data, name.size);
        l->counts[l->count++] = event_count;
        return l->count != l->stop_after;
}

static void check_streams_listed(struct fixture *f)
{
        struct listing l = {0}, page = {0};
        struct bytes after = BYTES_EMPTY;
        unsigned i, named = 0;
        uint64_t p;

        assert_int_equal(
                persistence_list(f->p, NAMES_STREAMS, BYTES_EMPTY, BYTES_EMPTY, 1000, each_name, &l), 0);
        for (i = 0; i < l.count; i++) {
                uint64_t expected = 0;

                if (i > 0)
                        assert_true(strcmp(l.names[i - 1], l.names[i]) < 0);
                for (p = 0; p < f->event_count; p++) {
                        char name[64];

                        stream_name(f->events[p].stream, name);
                        expected += strcmp(name, l.names[i]) == 0;
                }
                assert_int_equal(l.counts[i], expected);
        }
        assert_int_equal(l.count, MODEL_STREAMS);
        /* The same in pages of three. */
        do {
                page.count = 0;
                assert_int_equal(
                        persistence_list(f->p, NAMES_STREAMS, BYTES_EMPTY, after, 3, each_name, &page), 0);
                for (i = 0; i < page.count; i++)
                        assert_string_equal(page.names[i], l.names[named++]);
                if (page.count)
                        after = bytes_of_string(page.names[page.count - 1]);
        } while (page.count);
        assert_int_equal(named, l.count);
}

TEST(names, are_listed_from_segments_and_tail)
{
        struct fixture f;
        struct listing l = {0};
        uint64_t orders = 0, p;

        fixture_init(&f, 18);
        fixture_open(&f);
        fill(&f, 500);
        check_streams_listed(&f);
        fixture_settle(&f);
        check_streams_listed(&f);
        for (p = 0; p < f.event_count; p++)
                orders += f.events[p].stream % 3 != 0;
        assert_int_equal(
                persistence_list(f.p, NAMES_CATEGORIES, BYTES_EMPTY, BYTES_EMPTY, 10, each_name, &l), 0);
        assert_int_equal(l.count, 1);
        assert_string_equal(l.names[0], "order");
        assert_int_equal(l.counts[0], orders);
        l = (struct listing){0};
        assert_int_equal(persistence_list(f.p, NAMES_TYPES, BYTES_EMPTY, BYTES_EMPTY, 10, each_name, &l), 0);
        assert_int_equal(l.count, 2);
        assert_string_equal(l.names[0], "Paid");
        assert_int_equal(l.counts[0] + l.counts[1], f.event_count);
        l = (struct listing){.stop_after = 2};
        assert_int_equal(persistence_list(f.p, NAMES_STREAMS, BYTES_LITERAL("order-"), BYTES_EMPTY, 100,
                                 each_name, &l),
                0);
        assert_int_equal(l.count, 2);
        assert_memory_equal(l.names[0], "order-", 6);
        l = (struct listing){0};
        assert_int_equal(
                persistence_list(f.p, NAMES_STREAMS, BYTES_LITERAL("p"), BYTES_EMPTY, 100, each_name, &l), 0);
        assert_int_equal(l.count, 0);
        fixture_fini(&f);
}

/* ---- read only, and stores by name ---- */

TEST(read_only, changes_nothing_and_cuts_nothing)
{
        struct fixture f;
        struct os_sim_stats before, after;

        fixture_init(&f, 19);
        fixture_open(&f);
        fill(&f, 300);
        fixture_settle(&f);
        fixture_close(&f);
        f.options.read_only = true;
        assert_int_equal(persistence_node_open(f.os, "/data", true, &f.node), 0);
        f.options.node = f.node;
        before = os_sim_stats(f.os);
        assert_int_equal(persistence_open(&f.options, &f.p), 0);
        persistence_start(f.p);
        fixture_adopt_recovered(&f);
        check_all(&f);
        persistence_close(&f.p);
        after = os_sim_stats(f.os);
        assert_int_equal(before.writes, after.writes);
        assert_int_equal(before.syncs, after.syncs);
        persistence_node_close(&f.node);
        fixture_fini(&f);
}

TEST(node, keeps_stores_apart_and_its_lock)
{
        struct fixture f;
        struct persistence *other = NULL;
        struct persistence_node *second = NULL;
        char uuid[64];

        fixture_init(&f, 20);
        fixture_open(&f);
        fill(&f, 5);
        assert_int_equal(persistence_node_open(f.os, "/data", false, &second), PERSISTENCE_IN_USE);
        f.options.store_name = "other";
        f.options.must_exist = true;
        assert_int_equal(persistence_open(&f.options, &other), PERSISTENCE_NOT_FOUND);
        f.options.must_exist = false;
        assert_int_equal(persistence_open(&f.options, &other), 0);
        assert_string_not_equal(persistence_store_uuid(other), persistence_store_uuid(f.p));
        snprintf(uuid, sizeof uuid, "%s", persistence_store_uuid(other));
        assert_int_equal(persistence_last_index(other), 0);
        persistence_close(&other);
        assert_int_equal(persistence_open(&f.options, &other), 0);
        assert_string_equal(persistence_store_uuid(other), uuid);
        persistence_close(&other);
        f.options.store_name = "default";
        check_all(&f);
        fixture_fini(&f);
}

/* The checkpoint of ids is replaced while a segment is being sealed: that is no damage. */
TEST(verify, finds_nothing_at_any_step_of_sealing)
{
        struct persistence_verify verify = {.problem = print_problem};
        struct fixture f;
        uint64_t problems;
        unsigned i, steps;

        fixture_init(&f, 21);
        f.options.segment_size = 16 * KIB;
        fixture_open(&f);
        for (i = 0; i < 100; i++) {
                fixture_put(&f, 4);
                for (steps = 0; steps < 4; steps++) {
                        assert_int_equal(persistence_verify(f.p, &verify, &problems), 0);
                        assert_int_equal(problems, 0);
                        if (!os_sim_step(f.os))
                                break;
                }
        }
        fixture_fini(&f);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                TEST_ROW(log, empty_log_reads_nothing),
                TEST_ROW(log, one_event_is_read_in_every_way),
                TEST_ROW(log, uncommitted_events_are_invisible_G9),
                TEST_ROW(log, writes_on_the_lane_finish_in_order),
                TEST_ROW(log, segments_are_sealed_and_read_back),
                TEST_ROW(log, reopens_after_close_with_sealed_segments_and_a_tail),
                TEST_ROW(log, segment_ends_at_its_number_of_events),
                TEST_ROW(log, record_larger_than_a_segment_has_one_of_its_own),
                TEST_ROW(log, larger_segments_have_several_stretches),
                TEST_ROW(log, groups_cross_segments),
                TEST_ROW(reader, follows_the_log_through_rolls_and_seals),
                TEST_ROW(reader, gives_bytes_back_at_any_event_and_goes_on_where_it_was_G18),
                TEST_ROW(reader, is_not_disturbed_when_its_segment_is_sealed),
                TEST_ROW(reader, can_be_closed_while_it_waits),
                TEST_ROW(reader, from_the_future_begins_when_it_has_come),
                TEST_ROW(tombstone, is_the_last_event_of_its_stream),
                TEST_ROW(truncate, removes_uncommitted_entries_everywhere),
                TEST_ROW(truncate, old_entries_do_not_come_back_after_a_crash_G13),
                TEST_ROW(configuration, in_force_is_told_at_seal_and_start),
                TEST_ROW(vote, is_there_after_close_and_crash),
                TEST_ROW(names, are_listed_from_segments_and_tail),
                TEST_ROW(read_only, changes_nothing_and_cuts_nothing),
                TEST_ROW(node, keeps_stores_apart_and_its_lock),
                TEST_ROW(verify, finds_nothing_at_any_step_of_sealing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
