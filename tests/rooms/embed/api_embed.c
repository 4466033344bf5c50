/* libnilo's contract, call by call, in one thread. */
#include "support.h"

/* ---- open ---- */

TEST(open, needs_a_directory_or_memory_only)
{
        struct nilo *nilo = NULL;

        assert_int_equal(nilo_open(&(struct nilo_options){0}, &nilo), NILO_INVALID);
        assert_int_equal(nilo_open(&(struct nilo_options){.data = ""}, &nilo), NILO_INVALID);
        assert_null(nilo);
        assert_true(strlen(nilo_problem()) > 0);
        assert_int_equal(nilo_open(&(struct nilo_options){.memory_only = true, .segment_size = 4096}, &nilo),
                NILO_INVALID);
        nilo_close(&nilo); /* of nothing is fine */
}

TEST(open, must_exist_makes_nothing)
{
        char top[256], data[300];
        struct nilo *nilo = NULL;

        directory_make(top);
        snprintf(data, sizeof data, "%s/absent", top);
        assert_int_equal(
                nilo_open(&(struct nilo_options){.data = data, .must_exist = true}, &nilo), NILO_NOT_FOUND);
        assert_null(nilo);
        assert_non_null(strstr(nilo_problem(), data));
        assert_int_equal(access(data, F_OK), -1);
        nilo = open_at(data); /* is made with its parents */
        nilo_close(&nilo);
        assert_int_equal(nilo_open(&(struct nilo_options){.data = data, .must_exist = true}, &nilo), NILO_OK);
        nilo_close(&nilo);
        directory_remove(top);
}

TEST(open, of_a_path_that_is_no_directory_is_an_error_with_a_reason)
{
        char top[256], data[300];
        struct nilo *nilo = NULL;
        enum nilo_result r;
        FILE *f;

        directory_make(top);
        snprintf(data, sizeof data, "%s/file", top);
        f = fopen(data, "w");
        assert_non_null(f);
        fclose(f);
        r = nilo_open(&(struct nilo_options){.data = data}, &nilo);
        assert_true(r == NILO_ERROR || r == NILO_CORRUPT);
        assert_non_null(strstr(nilo_problem(), data));
        directory_remove(top);
}

TEST(open, twice_in_one_process_is_in_use)
{
        char data[256];
        struct nilo *first, *second = NULL;

        directory_make(data);
        first = open_at(data);
        assert_int_equal(nilo_open(&(struct nilo_options){.data = data}, &second), NILO_IN_USE);
        assert_null(second);
        assert_true(strlen(nilo_problem()) > 0);
        append_n(first, "order-1", 1); /* and harms nothing */
        nilo_close(&first);
        first = open_at(data);
        assert_int_equal(count_stream(first, "order-1"), 1);
        nilo_close(&first);
        directory_remove(data);
}

TEST(open, again_finds_everything_G1)
{
        char data[256];
        struct nilo *nilo;

        directory_make(data);
        for (unsigned round = 1; round <= 5; round++) {
                struct nilo_appended appended;
                struct nilo_event e = event_of("Counted", "{}");

                nilo = open_at(data);
                append_n(nilo, "order-1", 50);
                assert_int_equal(nilo_append(nilo, "order-1", round * 51 - 2, &e, 1, &appended), NILO_OK);
                assert_int_equal(appended.last_revision, round * 51 - 1);
                assert_int_equal(count_stream(nilo, "order-1"), round * 51);
                nilo_close(&nilo);
                assert_null(nilo);
        }
        directory_remove(data);
}

TEST(open, with_small_segments_and_little_memory)
{
        char data[256];
        struct nilo *nilo = NULL;
        struct nilo_options options = {.data = data, .segment_size = 64 * 1024, .memory_size = 1};

        directory_make(data);
        assert_int_equal(nilo_open(&options, &nilo), NILO_OK);
        append_n(nilo, "order-1", 20000);
        append_n(nilo, "order-2", 5);
        nilo_close(&nilo);
        assert_int_equal(nilo_open(&options, &nilo), NILO_OK);
        assert_int_equal(count_stream(nilo, "order-1"), 20000);
        assert_int_equal(count_stream(nilo, "order-2"), 5);
        nilo_close(&nilo);
        assert_int_equal(nilo_verify(data, NULL, NULL, NULL), NILO_OK);
        directory_remove(data);
}

TEST(open, memory_only_keeps_nothing)
{
        struct nilo *nilo = open_memory();

        append_n(nilo, "order-1", 10);
        assert_int_equal(count_stream(nilo, "order-1"), 10);
        nilo_close(&nilo);
        nilo = open_memory();
        count_events(nilo, &(struct nilo_read_options){.stream = "order-1"}, NILO_NOT_FOUND);
        nilo_close(&nilo);
        assert_int_equal(access("memory", F_OK), -1);
}

/* ---- append ---- */

TEST(append, decides_expectations_G5)
{
        struct nilo *nilo = open_memory();
        struct nilo_event e = event_of("Placed", "{}");
        struct nilo_appended a;

        assert_int_equal(nilo_append(nilo, "order-1", NILO_EXISTS, &e, 1, &a), NILO_CONFLICT);
        assert_int_equal(a.actual_revision, -1);
        assert_int_equal(nilo_append(nilo, "order-1", 0, &e, 1, &a), NILO_CONFLICT);
        assert_int_equal(nilo_append(nilo, "order-1", NILO_NONE, &e, 1, &a), NILO_OK);
        assert_int_equal(a.last_revision, 0);
        assert_false(a.is_duplicate);
        assert_int_equal(nilo_append(nilo, "order-1", NILO_NONE, &e, 1, &a), NILO_CONFLICT);
        assert_int_equal(a.actual_revision, 0);
        assert_non_null(strstr(nilo_problem(), "order-1"));
        assert_non_null(strstr(nilo_problem(), "revision 0"));
        assert_int_equal(nilo_append(nilo, "order-1", NILO_EXISTS, &e, 1, &a), NILO_OK);
        assert_int_equal(nilo_append(nilo, "order-1", 1, &e, 1, &a), NILO_OK);
        assert_int_equal(a.last_revision, 2);
        assert_int_equal(nilo_append(nilo, "order-1", NILO_ANY, &e, 1, NULL), NILO_OK);
        assert_int_equal(count_stream(nilo, "order-1"), 4);
        nilo_close(&nilo);
}

TEST(append, the_same_ids_again_are_written_once_G6)
{
        struct nilo *nilo = open_memory();
        const uint8_t ids[2][16] = {{1, 2, 3}, {4, 5, 6}};
        struct nilo_event events[2] = {event_of("Placed", "{}"), event_of("Paid", "{}")};
        struct nilo_appended first, again;

        events[0].id = ids[0];
        events[1].id = ids[1];
        assert_int_equal(nilo_append(nilo, "order-1", NILO_NONE, events, 2, &first), NILO_OK);
        assert_int_equal(nilo_append(nilo, "order-1", NILO_NONE, events, 2, &again), NILO_OK);
        assert_true(again.is_duplicate);
        assert_int_equal(again.last_revision, 1);
        assert_int_equal(nilo_append(nilo, "order-1", NILO_ANY, events, 2, &again), NILO_OK);
        assert_true(again.is_duplicate);
        assert_int_equal(count_stream(nilo, "order-1"), 2);
        nilo_close(&nilo);
}

TEST(append, bad_input_is_refused_and_changes_nothing_G17)
{
        struct nilo *nilo = open_memory();
        struct nilo_event e = event_of("Placed", "{}"), no_type = {.data = "x", .data_size = 1};
        struct nilo_event no_bytes = {.type = "T", .data_size = 1};
        char long_name[1200];

        memset(long_name, 'a', sizeof long_name);
        long_name[sizeof long_name - 1] = 0;
        assert_int_equal(nilo_append(nilo, NULL, NILO_ANY, &e, 1, NULL), NILO_INVALID);
        assert_int_equal(nilo_append(nilo, "", NILO_ANY, &e, 1, NULL), NILO_INVALID);
        assert_int_equal(nilo_append(nilo, "$all", NILO_ANY, &e, 1, NULL), NILO_INVALID);
        assert_int_equal(nilo_append(nilo, "bad\xff", NILO_ANY, &e, 1, NULL), NILO_INVALID);
        assert_int_equal(nilo_append(nilo, "order-1", -3, &e, 1, NULL), NILO_INVALID);
        assert_int_equal(nilo_append(nilo, "order-1", NILO_ANY, NULL, 1, NULL), NILO_INVALID);
        assert_int_equal(nilo_append(nilo, "order-1", NILO_ANY, &no_type, 1, NULL), NILO_INVALID);
        assert_int_equal(nilo_append(nilo, "order-1", NILO_ANY, &no_bytes, 1, NULL), NILO_INVALID);
        assert_int_equal(nilo_append(nilo, long_name, NILO_ANY, &e, 1, NULL), NILO_TOO_LARGE);
        e.type = long_name;
        assert_int_equal(nilo_append(nilo, "order-1", NILO_ANY, &e, 1, NULL), NILO_TOO_LARGE);
        assert_int_equal(nilo_append_all(nilo, NULL, 0, NULL, NULL), NILO_INVALID);
        assert_int_equal(nilo_delete(nilo, NULL, NILO_ANY, false), NILO_INVALID);
        assert_int_equal(nilo_delete(nilo, "order-1", -9, false), NILO_INVALID);
        count_events(nilo, &(struct nilo_read_options){.stream = "order-1"}, NILO_NOT_FOUND);
        nilo_close(&nilo);
}

TEST(append, limits_are_exact_G17)
{
        struct nilo *nilo = open_memory();
        const size_t event_max = 16 * 1024 * 1024 - 10000;
        char *big = calloc(1, event_max + 1);
        struct nilo_event e = {.type = "T", .data = big, .is_binary = true};
        struct nilo_event *many = calloc(100001, sizeof *many);
        struct nilo_event five[5];

        e.data_size = event_max - 2; /* the type counts twice */
        assert_int_equal(nilo_append(nilo, "big", NILO_ANY, &e, 1, NULL), NILO_OK);
        e.data_size++;
        assert_int_equal(nilo_append(nilo, "big", NILO_ANY, &e, 1, NULL), NILO_TOO_LARGE);
        e.data_size = 1;
        e.metadata = big;
        e.metadata_size = 1024 * 1024;
        assert_int_equal(nilo_append(nilo, "big", NILO_ANY, &e, 1, NULL), NILO_OK);
        e.metadata_size++;
        assert_int_equal(nilo_append(nilo, "big", NILO_ANY, &e, 1, NULL), NILO_TOO_LARGE);
        e = (struct nilo_event){.type = "T", .data = big, .data_size = event_max - 2, .is_binary = true};
        for (unsigned i = 0; i < 5; i++)
                five[i] = e;
        assert_int_equal(nilo_append(nilo, "big", NILO_ANY, five, 5, NULL), NILO_TOO_LARGE);
        for (unsigned i = 0; i < 100001; i++)
                many[i] = event_of("T", "");
        assert_int_equal(nilo_append(nilo, "many", NILO_ANY, many, 100001, NULL), NILO_TOO_LARGE);
        assert_int_equal(nilo_append(nilo, "many", NILO_NONE, many, 100000, NULL), NILO_OK);
        assert_int_equal(count_stream(nilo, "big"), 2);
        assert_int_equal(count_stream(nilo, "many"), 100000);
        free(many);
        free(big);
        nilo_close(&nilo);
}

TEST(append, one_that_is_larger_than_the_memory_cap_is_taken_when_nothing_else_is_under_way)
{
        struct nilo *nilo = NULL;
        struct nilo_event e = {.type = "T", .data_size = 8 * 1024 * 1024, .is_binary = true};

        e.data = calloc(1, e.data_size);
        assert_int_equal(
                nilo_open(&(struct nilo_options){.memory_only = true, .memory_size = 1024 * 1024}, &nilo),
                NILO_OK);
        assert_int_equal(nilo_append(nilo, "big", NILO_ANY, &e, 1, NULL), NILO_OK);
        free((void *)e.data);
        nilo_close(&nilo);
}

TEST(append, to_several_streams_is_all_or_nothing)
{
        struct nilo *nilo = open_memory();
        struct nilo_event e[2] = {event_of("Moved", "{}"), event_of("Noted", "{}")};
        struct nilo_write writes[3] = {
                {"from", NILO_NONE, e, 2}, {"to", NILO_NONE, e, 1}, {"gate", NILO_NONE, NULL, 0}};
        struct nilo_appended a[3];
        unsigned failed = 99;

        assert_int_equal(nilo_append_all(nilo, writes, 3, a, &failed), NILO_OK);
        assert_int_equal(a[0].last_revision, 1);
        assert_int_equal(a[1].last_revision, 0);
        assert_int_equal(a[2].last_revision, -1);
        append_n(nilo, "gate", 1);
        writes[0].expected = 1;
        writes[1].expected = 0;
        assert_int_equal(nilo_append_all(nilo, writes, 3, a, &failed), NILO_CONFLICT);
        assert_int_equal(failed, 2);
        assert_int_equal(a[2].actual_revision, 0);
        assert_int_equal(count_stream(nilo, "from"), 2);
        assert_int_equal(count_stream(nilo, "to"), 1);
        assert_int_equal(nilo_append_all(nilo, writes, 1, NULL, NULL), NILO_OK);
        nilo_close(&nilo);
}

TEST(delete, soft_and_for_good)
{
        struct nilo *nilo = open_memory();
        struct nilo_event e = event_of("Placed", "{}");
        struct nilo_appended a;

        append_n(nilo, "order-1", 3);
        assert_int_equal(nilo_delete(nilo, "order-1", 7, false), NILO_CONFLICT);
        assert_int_equal(nilo_delete(nilo, "order-1", 2, false), NILO_OK);
        count_events(nilo, &(struct nilo_read_options){.stream = "order-1"}, NILO_NOT_FOUND);
        assert_int_equal(nilo_append(nilo, "order-1", NILO_NONE, &e, 1, &a), NILO_OK);
        assert_int_equal(a.last_revision, 3);
        assert_int_equal(count_stream(nilo, "order-1"), 1);
        assert_int_equal(nilo_delete(nilo, "order-1", NILO_ANY, true), NILO_OK);
        count_events(nilo, &(struct nilo_read_options){.stream = "order-1"}, NILO_DELETED);
        assert_int_equal(nilo_append(nilo, "order-1", NILO_ANY, &e, 1, NULL), NILO_DELETED);
        assert_int_equal(nilo_delete(nilo, "order-1", NILO_ANY, false), NILO_DELETED);
        nilo_close(&nilo);
}

/* ---- read ---- */

TEST(read, gives_back_every_byte)
{
        struct nilo *nilo = open_memory();
        const uint8_t id[16] = {0xde, 0xad, 0xbe, 0xef, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
        struct nilo_event events[2] = {{.type = "Blob",
                                               .data = "a\0b",
                                               .data_size = 3,
                                               .metadata = "{\"by\":1}",
                                               .metadata_size = 8,
                                               .is_binary = true,
                                               .id = id},
                {.type = "Empty"}};
        struct nilo_reader *reader = NULL;
        struct nilo_appended a;
        struct nilo_recorded e;
        struct timespec now;

        clock_gettime(CLOCK_REALTIME, &now);
        assert_int_equal(nilo_append(nilo, "order-1", NILO_NONE, events, 2, &a), NILO_OK);
        assert_int_equal(nilo_read(nilo, &(struct nilo_read_options){.stream = "order-1"}, &reader), NILO_OK);
        assert_int_equal(nilo_next(reader, 0, &e), NILO_OK);
        assert_string_equal(e.stream, "order-1");
        assert_string_equal(e.type, "Blob");
        assert_int_equal(e.data_size, 3);
        assert_memory_equal(e.data, "a\0b", 3);
        assert_int_equal(e.metadata_size, 8);
        assert_memory_equal(e.metadata, "{\"by\":1}", 8);
        assert_true(e.is_binary);
        assert_memory_equal(e.id, id, 16);
        assert_int_equal(e.revision, 0);
        assert_int_equal(e.position, a.position - 1);
        assert_true(e.time_us / 1000000 + 5 >= (uint64_t)now.tv_sec &&
                    e.time_us / 1000000 <= (uint64_t)now.tv_sec + 60);
        assert_int_equal(nilo_next(reader, 0, &e), NILO_OK);
        assert_string_equal(e.stream, "order-1");
        assert_string_equal(e.type, "Empty");
        assert_int_equal(e.data_size, 0);
        assert_int_equal(e.metadata_size, 0);
        assert_false(e.is_binary);
        assert_int_equal(nilo_next(reader, 0, &e), NILO_END);
        assert_int_equal(nilo_next(reader, 0, &e), NILO_END);
        nilo_reader_close(&reader);
        nilo_reader_close(&reader);
        nilo_close(&nilo);
}

TEST(read, both_ways_from_any_number_with_a_limit)
{
        struct nilo *nilo = open_memory();
        unsigned all;

        append_n(nilo, "order-1", 10000); /* more than a page */
        append_n(nilo, "order-2", 10);
        all = count_events(nilo, &(struct nilo_read_options){0}, NILO_END);
        assert_true(all >= 10010);
        assert_int_equal(
                count_events(
                        nilo, &(struct nilo_read_options){.is_backward = true, .from_end = true}, NILO_END),
                all);
        assert_int_equal(
                count_events(
                        nilo, &(struct nilo_read_options){.is_backward = true, .from = UINT64_MAX}, NILO_END),
                all);
        assert_int_equal(
                count_events(nilo, &(struct nilo_read_options){.is_backward = true, .from = 0}, NILO_END), 1);
        assert_int_equal(
                count_events(nilo, &(struct nilo_read_options){.is_backward = true, .from = 7}, NILO_END), 8);
        assert_int_equal(count_events(nilo, &(struct nilo_read_options){.from = 7}, NILO_END), all - 7);
        assert_int_equal(count_stream(nilo, "order-1"), 10000);
        assert_int_equal(
                count_events(nilo, &(struct nilo_read_options){.stream = "order-1", .from = 9990}, NILO_END),
                10);
        assert_int_equal(
                count_events(nilo, &(struct nilo_read_options){.stream = "order-1", .from = 10000}, NILO_END),
                0);
        assert_int_equal(
                count_events(nilo,
                        &(struct nilo_read_options){.stream = "order-1", .from = 5000, .limit = 4500},
                        NILO_END),
                4500);
        assert_int_equal(
                count_events(nilo,
                        &(struct nilo_read_options){.stream = "order-1", .from = 99, .is_backward = true},
                        NILO_END),
                100);
        assert_int_equal(
                count_events(
                        nilo, &(struct nilo_read_options){.stream = "order-1", .from_end = true}, NILO_END),
                0);
        nilo_close(&nilo);
}

TEST(read, by_filter)
{
        struct nilo *nilo = open_memory();
        struct nilo_event placed = event_of("OrderPlaced", "{}"), paid = event_of("OrderPaid", "{}");
        struct nilo_reader *reader = NULL;

        for (unsigned i = 0; i < 50; i++) {
                assert_int_equal(
                        nilo_append(nilo, i % 2 ? "order-1" : "cart-1", NILO_ANY, &placed, 1, NULL), NILO_OK);
                assert_int_equal(nilo_append(nilo, "order-2", NILO_ANY, &paid, 1, NULL), NILO_OK);
        }
        assert_int_equal(
                count_events(nilo, &(struct nilo_read_options){.stream_prefix = "order-"}, NILO_END), 75);
        assert_int_equal(
                count_events(nilo, &(struct nilo_read_options){.type_prefix = "OrderPl"}, NILO_END), 50);
        assert_int_equal(
                count_events(nilo, &(struct nilo_read_options){.stream_regex = "^cart-\\d$"}, NILO_END), 25);
        assert_int_equal(count_events(nilo,
                                 &(struct nilo_read_options){
                                         .type_regex = "Paid$", .is_backward = true, .from_end = true},
                                 NILO_END),
                50);
        assert_int_equal(
                nilo_read(nilo, &(struct nilo_read_options){.type_regex = "("}, &reader), NILO_INVALID);
        assert_true(strlen(nilo_problem()) > 0);
        assert_int_equal(
                nilo_read(nilo, &(struct nilo_read_options){.type_regex = "a", .type_prefix = "b"}, &reader),
                NILO_INVALID);
        assert_int_equal(
                nilo_read(nilo, &(struct nilo_read_options){.type_regex = "a", .stream = "b"}, &reader),
                NILO_INVALID);
        assert_int_equal(nilo_read(nilo, &(struct nilo_read_options){.stream = ""}, &reader), NILO_INVALID);
        assert_null(reader);
        placed.type = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!";
        assert_int_equal(nilo_append(nilo, "order-1", NILO_ANY, &placed, 1, NULL), NILO_OK);
        count_events(
                nilo, &(struct nilo_read_options){.type_regex = "^(a+)+$"}, NILO_INVALID); /* too costly */
        nilo_close(&nilo);
}

/* ---- follow ---- */

TEST(follow, waits_as_long_as_it_is_told)
{
        struct nilo *nilo = open_memory();
        struct nilo_reader *reader = NULL;
        struct nilo_recorded e;
        uint64_t began;

        append_n(nilo, "order-1", 2);
        assert_int_equal(
                nilo_read(nilo, &(struct nilo_read_options){.stream = "order-1", .from = 1}, &reader),
                NILO_OK);
        assert_int_equal(nilo_next(reader, 60000, &e), NILO_OK); /* history at once */
        began = now_ms();
        assert_int_equal(nilo_next(reader, 80, &e), NILO_END);
        assert_true(now_ms() - began >= 75);
        assert_true(now_ms() - began < 5000);
        append_n(nilo, "order-1", 1);
        assert_int_equal(nilo_next(reader, 60000, &e), NILO_OK);
        assert_int_equal(e.revision, 2);
        nilo_reader_close(&reader);
        nilo_close(&nilo);
}

TEST(follow, ends_at_its_limit_and_never_waits_behind_it)
{
        struct nilo *nilo = open_memory();
        struct nilo_reader *reader = NULL;
        struct nilo_recorded e;

        append_n(nilo, "order-1", 5);
        assert_int_equal(
                nilo_read(nilo, &(struct nilo_read_options){.stream = "order-1", .limit = 2}, &reader),
                NILO_OK);
        assert_int_equal(nilo_next(reader, -1, &e), NILO_OK);
        assert_int_equal(nilo_next(reader, -1, &e), NILO_OK);
        assert_int_equal(nilo_next(reader, -1, &e), NILO_END);
        nilo_reader_close(&reader);
        nilo_close(&nilo);
}

TEST(follow, a_backward_reader_never_waits)
{
        struct nilo *nilo = open_memory();
        struct nilo_reader *reader = NULL;
        struct nilo_recorded e;

        append_n(nilo, "order-1", 1);
        assert_int_equal(nilo_read(nilo,
                                 &(struct nilo_read_options){
                                         .stream = "order-1", .is_backward = true, .from_end = true},
                                 &reader),
                NILO_OK);
        assert_int_equal(nilo_next(reader, -1, &e), NILO_OK);
        assert_int_equal(nilo_next(reader, -1, &e), NILO_END);
        nilo_reader_close(&reader);
        nilo_close(&nilo);
}

TEST(follow, ends_when_the_stream_is_tombstoned)
{
        struct nilo *nilo = open_memory();
        struct nilo_reader *reader = NULL;
        struct nilo_recorded e;

        append_n(nilo, "order-1", 1);
        assert_int_equal(nilo_read(nilo, &(struct nilo_read_options){.stream = "order-1"}, &reader), NILO_OK);
        assert_int_equal(nilo_next(reader, -1, &e), NILO_OK);
        assert_int_equal(nilo_delete(nilo, "order-1", NILO_ANY, true), NILO_OK);
        assert_int_equal(nilo_next(reader, -1, &e), NILO_DELETED);
        nilo_reader_close(&reader);
        nilo_close(&nilo);
}

TEST(name, of_every_result)
{
        for (int i = NILO_OK; i <= NILO_ERROR; i++) {
                assert_non_null(nilo_result_name((enum nilo_result)i));
                for (int k = NILO_OK; k < i; k++)
                        assert_string_not_equal(
                                nilo_result_name((enum nilo_result)i), nilo_result_name((enum nilo_result)k));
        }
        assert_string_equal(nilo_result_name(NILO_CONFLICT), "conflict");
        assert_string_equal(nilo_result_name((enum nilo_result)1000), "error");
        assert_true(strlen(nilo_version()) > 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(open, needs_a_directory_or_memory_only),
                TEST_ROW(open, must_exist_makes_nothing),
                TEST_ROW(open, of_a_path_that_is_no_directory_is_an_error_with_a_reason),
                TEST_ROW(open, twice_in_one_process_is_in_use),
                TEST_ROW(open, again_finds_everything_G1),
                TEST_ROW(open, with_small_segments_and_little_memory),
                TEST_ROW(open, memory_only_keeps_nothing),
                TEST_ROW(append, decides_expectations_G5),
                TEST_ROW(append, the_same_ids_again_are_written_once_G6),
                TEST_ROW(append, bad_input_is_refused_and_changes_nothing_G17),
                TEST_ROW(append, limits_are_exact_G17),
                TEST_ROW(append,
                        one_that_is_larger_than_the_memory_cap_is_taken_when_nothing_else_is_under_way),
                TEST_ROW(append, to_several_streams_is_all_or_nothing),
                TEST_ROW(delete, soft_and_for_good),
                TEST_ROW(read, gives_back_every_byte),
                TEST_ROW(read, both_ways_from_any_number_with_a_limit),
                TEST_ROW(read, by_filter),
                TEST_ROW(follow, waits_as_long_as_it_is_told),
                TEST_ROW(follow, ends_at_its_limit_and_never_waits_behind_it),
                TEST_ROW(follow, a_backward_reader_never_waits),
                TEST_ROW(follow, ends_when_the_stream_is_tombstoned),
                TEST_ROW(name, of_every_result),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
