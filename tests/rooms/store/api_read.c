/* Reads both ways from any point, filters, links, lists, following (G9, G10; protocol 3.6, 3.7). */
#include "support.h"

/* Some streams, interleaved, over several segments: 400 events behind the store's own first one. */
enum { SPREAD = 400, SPREAD_STREAMS = 5 };

static void spread(struct fixture *f)
{
        char stream[32];

        for (unsigned i = 0; i < SPREAD / 4; i++) {
                snprintf(stream, sizeof(stream), "%s-%u", i % 2 ? "order" : "invoice", i % SPREAD_STREAMS);
                assert_int_equal(put(f, stream, ANY, 1 + i * 4, 4).verdict, STORE_OK);
        }
        run_for(f, 3 * 1000 * 1000);
}

static void small_segments(struct fixture *f, uint64_t seed)
{
        fixture_init(f, seed);
        f->options.segment_size = 1024 * 1024;
        f->options.segment_events_max = 60;
        f->options.memory_size = 1024 * 1024;
        fixture_open(f);
        spread(f);
}

static void check_run(const struct rows *rows, uint64_t first, bool is_backward, unsigned count)
{
        assert_int_equal(rows->end, STORE_READ_END);
        assert_int_equal(rows->count, count);
        for (unsigned i = 0; i < count; i++)
                assert_int_equal(rows->row[i].position, is_backward ? first - i : first + i);
}

static void check_all_from_everywhere(struct fixture *f)
{
        uint64_t end = store_next_position(f->store);

        for (uint64_t from = 0; from <= end + 1; from += from % 59 ? 13 : 1) {
                struct store_read_options o = {.from = FROM_NUMBER, .number = from};

                check_run(read_rows(f, o), from, false, from < end ? (unsigned)(end - from) : 0);
                o.limit = 7;
                check_run(read_rows(f, o), from, false, from < end ? MIN(7u, (unsigned)(end - from)) : 0);
                o = (struct store_read_options){.from = FROM_NUMBER, .number = from, .is_backward = true};
                /* Backwards the position itself is left out. */
                check_run(read_rows(f, o), MIN(from, end) - 1, true, (unsigned)MIN(from, end));
        }
        check_run(read_rows(f, (struct store_read_options){.from = FROM_END}), 0, false, 0);
        check_run(read_rows(f, (struct store_read_options){.from = FROM_START, .is_backward = true}), 0, true,
                0);
        check_run(read_rows(f, (struct store_read_options){.from = FROM_END, .is_backward = true}), end - 1,
                true, (unsigned)end);
        check_run(read_rows(f,
                          (struct store_read_options){
                                  .from = FROM_NUMBER, .number = UINT64_MAX, .is_backward = true}),
                end - 1, true, (unsigned)end);
}

static void check_stream_from_everywhere(struct fixture *f, const char *stream)
{
        unsigned count = read_stream(f, stream)->count;

        assert_true(count > 20);
        for (unsigned from = 0; from <= count + 1; from++) {
                struct store_read_options o = {
                        .stream = bytes_of_string(stream), .from = FROM_NUMBER, .number = from};
                struct rows *rows = read_rows(f, o);

                assert_int_equal(rows->end, STORE_READ_END);
                assert_int_equal(rows->count, from < count ? count - from : 0);
                for (unsigned i = 0; i < rows->count; i++) {
                        assert_int_equal(rows->row[i].revision, from + i);
                        assert_string_equal(rows->row[i].stream, stream);
                }
                o.is_backward = true;
                rows = read_rows(f, o);
                assert_int_equal(rows->count, MIN(from, count - 1) + 1);
                for (unsigned i = 0; i < rows->count; i++)
                        assert_int_equal(rows->row[i].revision, MIN(from, count - 1) - i);
        }
}

TEST(read, both_ways_from_any_point_across_sealed_segments_and_tail)
{
        struct store_stats stats;
        struct fixture f;

        small_segments(&f, 1);
        store_stats(f.store, &stats);
        assert_true(stats.persistence.segments > 4);
        assert_true(stats.persistence.index_bytes > 0);
        for (unsigned round = 0; round < 2; round++) {
                check_all_from_everywhere(&f);
                check_stream_from_everywhere(&f, "order-1");
                check_stream_from_everywhere(&f, "invoice-0");
                fixture_reopen(&f);
        }
        fixture_fini(&f);
}

TEST(read, gives_the_same_when_everything_comes_from_the_disk)
{
        struct os_sim_faults faults = {.reads_are_cold = true};
        struct fixture f;

        small_segments(&f, 2);
        fixture_reopen(&f);
        os_sim_set_faults(f.os, &faults);
        check_all_from_everywhere(&f);
        check_stream_from_everywhere(&f, "order-3");
        os_sim_set_faults(f.os, &(struct os_sim_faults){0});
        fixture_fini(&f);
}

TEST(reader, may_be_closed_while_it_waits_for_the_disk)
{
        struct os_sim_faults faults = {.reads_are_cold = true};
        struct fixture f;
        unsigned waits = 0;

        small_segments(&f, 3);
        fixture_reopen(&f);
        os_sim_set_faults(f.os, &faults);
        for (unsigned i = 0; i < 40; i++) {
                struct wakeup wakeup = {0};
                struct store_read_options o = {.from = FROM_NUMBER,
                        .number = i * 9,
                        .limit = 9,
                        .on_ready = on_ready,
                        .arg = &wakeup};
                struct store_reader *reader;
                struct store_read_item item;
                int r;

                assert_int_equal(store_reader_open(f.store, &o, &reader), 0);
                do
                        r = store_reader_next(reader, &item);
                while (r == 0);
                waits += r == STORE_READ_WAIT;
                store_reader_close(&reader);
        }
        assert_true(waits > 0);
        run_for(&f, 1000 * 1000);
        os_sim_set_faults(f.os, &(struct os_sim_faults){0});
        fixture_fini(&f);
}

/* A read that began ends, however much is written meanwhile; and it shows nothing uncommitted. */
TEST(read, ends_where_the_log_ended_when_it_began_G9)
{
        struct store_read_options o = {.limit = UINT64_MAX};
        struct store_reader *all, *stream;
        struct store_read_item item;
        struct fixture f;
        struct answer a;
        unsigned count = 0;

        fixture_new(&f, 4);
        assert_int_equal(put(&f, "order-1", NONE, 1, 5).verdict, STORE_OK);
        begin(&f, &a, "order-1", ANY, 10, 5);
        assert_int_equal(read_stream(&f, "order-1")->count, 5);
        assert_int_equal(read_everything(&f)->count, 6);
        assert_int_equal(store_reader_open(f.store, &o, &all), 0);
        o.stream = BYTES_LITERAL("order-1");
        assert_int_equal(store_reader_open(f.store, &o, &stream), 0);
        wait_for(&f, &a.is_done);
        assert_int_equal(delete_stream(&f, "order-1", ANY, true).verdict, STORE_OK);
        while (store_reader_next(all, &item) == 0)
                count++;
        assert_int_equal(count, 6);
        for (count = 0; store_reader_next(stream, &item) == 0; count++)
                assert_int_equal(item.event.revision, count);
        assert_int_equal(count, 5);
        store_reader_close(&all);
        store_reader_close(&stream);
        fixture_fini(&f);
}

/* ---- following (G10) ---- */

TEST(follow, gives_what_comes_without_gap_or_repeat_G10)
{
        struct store_read_options o = {
                .stream = BYTES_LITERAL("order-1"), .is_follow = true, .limit = UINT64_MAX};
        struct wakeup wakeup = {0};
        struct store_reader *stream, *all;
        static struct rows rows;
        struct fixture f;
        uint64_t position = 0, revision = 0;

        fixture_init(&f, 5);
        f.options.segment_events_max = 20;
        fixture_open(&f);
        o.on_ready = on_ready;
        o.arg = &wakeup;
        /* The stream need not be there. */
        assert_int_equal(store_reader_open(f.store, &o, &stream), 0);
        o.stream = BYTES_EMPTY;
        assert_int_equal(store_reader_open(f.store, &o, &all), 0);
        for (unsigned round = 0; round < 60; round++) {
                const char *to = round % 3 == 1 ? "order-1" : "order-2";

                assert_int_equal(put(&f, to, ANY, 1 + round * 10, 1 + round % 4).verdict, STORE_OK);
                if (round == 30) {
                        assert_int_equal(delete_stream(&f, "order-1", ANY, false).verdict, STORE_OK);
                        run_for(&f, 2 * 1000 * 1000);
                }
                take_rows(&f, all, &wakeup, &rows);
                assert_int_equal(rows.end, STORE_READ_END);
                for (unsigned i = 0; i < rows.count; i++)
                        assert_int_equal(rows.row[i].position, position++);
                assert_int_equal(position, store_next_position(f.store));
                take_rows(&f, stream, &wakeup, &rows);
                assert_int_equal(rows.end, STORE_READ_END);
                for (unsigned i = 0; i < rows.count; i++)
                        assert_int_equal(rows.row[i].revision, revision++);
        }
        assert_int_equal(revision, info_of(&f, "order-1").last_revision + 1);
        assert_int_equal(delete_stream(&f, "order-1", ANY, true).verdict, STORE_OK);
        take_rows(&f, stream, &wakeup, &rows);
        assert_int_equal(rows.end, STORE_READ_DELETED);
        store_reader_close(&stream);
        store_reader_close(&all);
        fixture_fini(&f);
}

/* ---- filters ---- */

static struct filter *filter_of(enum filter_target target, const char *regex, const char *prefix)
{
        struct bytes prefixes[1] = {bytes_of_string(prefix ? prefix : "")};
        struct filter_options o = {.target = target,
                .regex = bytes_of_string(regex ? regex : ""),
                .prefixes = prefixes,
                .prefix_count = prefix ? 1 : 0};
        struct filter *filter = NULL;
        char why[256];

        assert_int_equal(filter_new(&o, &filter, why, sizeof(why)), 0);
        return filter;
}

TEST(filter, by_stream_and_by_type_both_ways)
{
        struct fixture f;
        struct rows *rows;
        struct store_stats before;
        struct store_stats after;
        unsigned orders = 0;

        small_segments(&f, 6);
        rows = read_everything(&f);
        for (unsigned i = 0; i < rows->count; i++)
                orders += strncmp(rows->row[i].stream, "order-", 6) == 0;
        for (unsigned i = 0; i < 2; i++) {
                rows = read_rows(&f, (struct store_read_options){.is_backward = i,
                                             .from = i ? FROM_END : FROM_START,
                                             .filter = filter_of(FILTER_STREAM, NULL, "order-")});
                assert_int_equal(rows->count, orders);
                for (unsigned k = 0; k < rows->count; k++)
                        assert_int_equal(strncmp(rows->row[k].stream, "order-", 6), 0);
                assert_true(rows->examined >= orders);
        }
        rows = read_rows(
                &f, (struct store_read_options){.filter = filter_of(FILTER_STREAM, "^order-[13]$", NULL)});
        assert_true(rows->count > 0 && rows->count <= orders);
        rows = read_rows(&f, (struct store_read_options){.filter = filter_of(FILTER_TYPE, "^\\$", NULL)});
        assert_int_equal(rows->count, 1);
        assert_string_equal(rows->row[0].type, "$nilo-store-created");
        assert_int_equal(rows->examined, store_next_position(f.store));
        /* The limit counts what matches. */
        rows = read_rows(
                &f, (struct store_read_options){.limit = 5, .filter = filter_of(FILTER_TYPE, NULL, "Pl")});
        assert_int_equal(rows->count, 5);
        /* Counted as read is what a reader was given, not what a filter passed over. */
        store_stats(f.store, &before);
        read_rows(&f, (struct store_read_options){.limit = 5, .filter = filter_of(FILTER_TYPE, NULL, "Pl")});
        store_stats(f.store, &after);
        assert_int_equal(after.events_read - before.events_read, 5);
        fixture_fini(&f);
}

TEST(filter, that_costs_too_much_ends_the_read_and_skips_nothing_G10)
{
        struct fixture f;
        struct rows *rows;
        char stream[200];

        fixture_new(&f, 7);
        memset(stream, 'a', sizeof(stream));
        stream[sizeof(stream) - 1] = 0;
        assert_int_equal(put(&f, stream, NONE, 1, 1).verdict, STORE_OK);
        assert_int_equal(put(&f, "b", NONE, 2, 1).verdict, STORE_OK);
        rows = read_rows(&f, (struct store_read_options){
                                     .filter = filter_of(FILTER_STREAM, "^(a+)+b?$|(a|aa|aaa)+c|^b", NULL)});
        if (rows->end == STORE_READ_END)
                rows = read_rows(&f, (struct store_read_options){.filter = filter_of(FILTER_STREAM,
                                                                         "(a*)*(a*)*(a*)*(a*)*x|^b", NULL)});
        assert_int_equal(rows->end, STORE_READ_TOO_COSTLY);
        assert_int_equal(rows->count, 0);
        fixture_fini(&f);
}

TEST(filter, without_a_match_lets_others_run_now_and_then)
{
        struct store_read_options o = {.limit = UINT64_MAX};
        struct store_reader *reader;
        struct store_read_item item;
        struct fixture f;
        unsigned yields = 0;
        int r;

        fixture_new(&f, 8);
        for (unsigned i = 0; i < 25; i++)
                assert_int_equal(put(&f, "order-1", ANY, 1 + i * 1000, 1000).verdict, STORE_OK);
        o.filter = filter_of(FILTER_STREAM, NULL, "nobody");
        assert_int_equal(store_reader_open(f.store, &o, &reader), 0);
        while ((r = store_reader_next(reader, &item)) == STORE_READ_YIELD)
                yields++;
        assert_int_equal(r, STORE_READ_END);
        assert_int_equal(yields, 2);
        assert_int_equal(store_reader_examined(reader), 25001);
        assert_int_equal(store_reader_position(reader), 25000);
        store_reader_close(&reader);
        fixture_fini(&f);
}

/* ---- links ---- */

static void put_link(struct fixture *f, uint64_t id, const char *data)
{
        struct draft d = {0};
        struct event_draft *e = draft_event(&d, draft_stream(&d, "links", ANY), id);

        e->type = EVENT_TYPE_LINK;
        e->content_type = CONTENT_BINARY;
        e->data = bytes_of_string(data);
        assert_int_equal(finish(f, &d).verdict, STORE_OK);
}

TEST(link, is_resolved_once_and_only_to_what_is_visible)
{
        struct fixture f;
        struct rows *rows;

        fixture_new(&f, 9);
        assert_int_equal(put(&f, "order-1", NONE, 1, 4).verdict, STORE_OK);
        assert_int_equal(put(&f, "gone", NONE, 11, 1).verdict, STORE_OK);
        assert_int_equal(put(&f, "soft", NONE, 21, 1).verdict, STORE_OK);
        assert_int_equal(put_metadata(&f, "$$order-1", ANY, 30, "{\"$tb\":1}").verdict, STORE_OK);
        put_link(&f, 31, "2@order-1");
        put_link(&f, 32, "0@order-1"); /* truncated */
        put_link(&f, 33, "9@order-1"); /* not there */
        put_link(&f, 34, "0@gone");
        put_link(&f, 35, "0@soft");
        put_link(&f, 36, "nonsense");
        put_link(&f, 37, "0@links"); /* to a link */
        assert_int_equal(put(&f, "links", ANY, 38, 1).verdict, STORE_OK);
        assert_int_equal(delete_stream(&f, "gone", ANY, true).verdict, STORE_OK);
        assert_int_equal(delete_stream(&f, "soft", ANY, false).verdict, STORE_OK);
        for (unsigned is_backward = 0; is_backward < 2; is_backward++) {
                rows = read_rows(&f, (struct store_read_options){.stream = BYTES_LITERAL("links"),
                                             .is_backward = is_backward,
                                             .from = is_backward ? FROM_END : FROM_START,
                                             .resolve_links = true});
                assert_int_equal(rows->count, 8);
                for (unsigned i = 0; i < 8; i++) {
                        const struct row *row = &rows->row[is_backward ? 7 - i : i];

                        assert_int_equal(row->has_link, i < 7);
                        assert_int_equal(row->has_event, i == 0 || i >= 6);
                        if (i < 7)
                                assert_int_equal(row->link_revision, i);
                        if (i == 0) {
                                assert_string_equal(row->stream, "order-1");
                                assert_int_equal(row->revision, 2);
                        }
                        if (i == 6)
                                assert_string_equal(row->type, "$>");
                }
        }
        rows = read_stream(&f, "links");
        assert_false(rows->row[0].has_link);
        assert_string_equal(rows->row[0].type, "$>");
        fixture_fini(&f);
}

/* ---- lists ---- */

struct names {
        unsigned count;
        char name[700][32];
        uint64_t events[700];
};

static bool add_name(void *arg, struct bytes name, uint64_t events)
{
        struct names *names = arg;

        text_of(name, names->name[names->count], 32);
        names->events[names->count++] = events;
        return true;
}

static unsigned list(struct fixture *f, struct names *names, enum persistence_names what, const char *prefix,
        const char *after, unsigned limit)
{
        names->count = 0;
        assert_int_equal(store_list(f->store, what, bytes_of_string(prefix), bytes_of_string(after), limit,
                                 add_name, names),
                0);
        return names->count;
}

TEST(list, names_streams_categories_and_types_in_pages_without_deleted_ones)
{
        static struct names names;
        struct fixture f;
        char stream[32], after[32] = "";
        unsigned total = 0, n;

        fixture_init(&f, 10);
        f.options.segment_events_max = 100;
        fixture_open(&f);
        for (unsigned i = 0; i < 600; i++) {
                struct draft d = {0};

                snprintf(stream, sizeof(stream), "order-%03u", i);
                draft_event(&d, draft_stream(&d, stream, NONE), 1 + i)->type =
                        i % 2 ? BYTES_LITERAL("Paid") : BYTES_LITERAL("Placed");
                assert_int_equal(finish(&f, &d).verdict, STORE_OK);
        }
        assert_int_equal(put(&f, "single", NONE, 5000, 3).verdict, STORE_OK);
        for (unsigned i = 0; i < 600; i += 3) {
                snprintf(stream, sizeof(stream), "order-%03u", i);
                assert_int_equal(delete_stream(&f, stream, ANY, i % 2).verdict, STORE_OK);
        }
        for (unsigned round = 0; round < 2; round++) {
                assert_int_equal(list(&f, &names, NAMES_STREAMS, "order-", "", 10000), 400);
                assert_string_equal(names.name[0], "order-001");
                assert_string_equal(names.name[399], "order-599");
                for (total = 0, after[0] = 0; (n = list(&f, &names, NAMES_STREAMS, "order-", after, 37)) > 0;
                        total += n)
                        snprintf(after, sizeof(after), "%s", names.name[n - 1]);
                assert_int_equal(total, 400);
                assert_int_equal(list(&f, &names, NAMES_STREAMS, "si", "", 10), 1);
                assert_int_equal(names.events[0], 3);
                assert_int_equal(list(&f, &names, NAMES_STREAMS, "zz", "", 10), 0);
                list(&f, &names, NAMES_CATEGORIES, "", "", 10);
                for (n = 0; n < names.count && strcmp(names.name[n], "order"); n++)
                        continue;
                assert_true(n < names.count);
                assert_int_equal(list(&f, &names, NAMES_TYPES, "P", "", 10), 2);
                assert_string_equal(names.name[0], "Paid");
                assert_int_equal(names.events[0], 300);
                run_for(&f, 2 * 1000 * 1000);
                fixture_reopen(&f);
        }
        fixture_fini(&f);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                TEST_ROW(read, both_ways_from_any_point_across_sealed_segments_and_tail),
                TEST_ROW(read, ends_where_the_log_ended_when_it_began_G9),
                TEST_ROW(follow, gives_what_comes_without_gap_or_repeat_G10),
                TEST_ROW(filter, by_stream_and_by_type_both_ways),
                TEST_ROW(filter, that_costs_too_much_ends_the_read_and_skips_nothing_G10),
                TEST_ROW(filter, without_a_match_lets_others_run_now_and_then),
                TEST_ROW(link, is_resolved_once_and_only_to_what_is_visible),
                TEST_ROW(list, names_streams_categories_and_types_in_pages_without_deleted_ones),
        };
        /* Only there a read can be made to come from the device. */
        static const struct CMUnitTest simulated[] = {
                TEST_ROW(read, gives_the_same_when_everything_comes_from_the_disk),
                TEST_ROW(reader, may_be_closed_while_it_waits_for_the_disk),
        };

        int failed = RUN_ON(MACHINE_SIM, tests);

        failed += RUN_ON(MACHINE_SIM, simulated);
        failed += RUN_ON(MACHINE_MEMORY, tests);
        return failed;
}
