/* The inside: streams that share hashes, the window of ids beyond its size, files with many names. */
#include "persistence/cache.h"
#include "persistence/ids.h"
#include "persistence/index.h"
#include "persistence/log.h"
#include "persistence/segment.h"
#include "persistence/tail.h"
#include "support.h"

/* With few bits of hash nearly all streams collide; every read must still be right. */
TEST(hash, collisions_are_told_apart_by_name)
{
        static const unsigned bits[] = {1, 2, 4};
        struct fixture f;
        unsigned b, i;

        for (b = 0; b < COUNT_OF(bits); b++) {
                index_hash_set_bits(bits[b]);
                fixture_init(&f, 50 + b);
                f.options.segment_size = 32 * KIB;
                fixture_open(&f);
                for (i = 0; i < 500; i++) {
                        fixture_put(&f, (uint32_t)mix(i, b) % 6);
                        if (i % 100 == 50)
                                fixture_settle(&f);
                }
                check_all(&f);
                fixture_settle(&f);
                check_all(&f);
                fixture_close(&f);
                fixture_open(&f);
                fixture_adopt_recovered(&f);
                check_all(&f);
                fixture_fini(&f);
        }
        index_hash_set_bits(64);
}

/* ---- ids ---- */

static struct persistence_id numbered_id(uint64_t n)
{
        return (struct persistence_id){model_id(n, 5), n % 7, n, n};
}

TEST(ids, the_window_holds_the_newest)
{
        uint64_t n, total = LIMIT_IDEMPOTENCY_WINDOW_IDS + 1000;
        struct persistence_id id, found;
        struct ids ids = {.seed = 3};

        for (n = 0; n < total; n++) {
                id = numbered_id(n);
                ids_add(&ids, &id);
        }
        assert_int_equal(ids.count, LIMIT_IDEMPOTENCY_WINDOW_IDS);
        for (n = 0; n < total; n += 333) {
                bool is_in = n >= 1000;

                id = numbered_id(n);
                assert_int_equal(ids_find(&ids, &id.id, id.stream_hash, &found), is_in);
                if (is_in)
                        assert_int_equal(found.position, n);
                assert_false(ids_find(&ids, &id.id, id.stream_hash + 1, &found));
        }
        ids_fini(&ids);
}

/* G6: also while the numbers that say how old an id is begin anew at zero. */
TEST(ids, the_window_ends_exactly_where_it_should)
{
        uint64_t n, total = LIMIT_IDEMPOTENCY_WINDOW_IDS + 5000;
        struct persistence_id id, found;
        struct ids ids = {.seed = 3, .tickets = UINT32_MAX - LIMIT_IDEMPOTENCY_WINDOW_IDS - 2000};

        for (n = 0; n < total; n++) {
                id = numbered_id(n);
                ids_add(&ids, &id);
                assert_true(ids_find(&ids, &id.id, id.stream_hash, &found));
                if (n < LIMIT_IDEMPOTENCY_WINDOW_IDS)
                        continue;
                id = numbered_id(n - LIMIT_IDEMPOTENCY_WINDOW_IDS + 1);
                assert_true(ids_find(&ids, &id.id, id.stream_hash, &found));
                assert_int_equal(found.position, n - LIMIT_IDEMPOTENCY_WINDOW_IDS + 1);
                id = numbered_id(n - LIMIT_IDEMPOTENCY_WINDOW_IDS);
                assert_false(ids_find(&ids, &id.id, id.stream_hash, &found));
        }
        for (n = 5000; n < total; n++) {
                id = numbered_id(n);
                assert_true(ids_find(&ids, &id.id, id.stream_hash, &found));
                assert_int_equal(found.position, n);
        }
        ids_fini(&ids);
}

/* A stranger chooses ids: one in every stream must not make each look-up a walk through all of them. */
TEST(ids, one_id_in_many_streams_is_found_at_once)
{
        struct persistence_id id = numbered_id(1), found;
        struct ids ids = {.seed = 3};
        uint64_t n;

        for (n = 0; n < 200000; n++) {
                id.stream_hash = n * 0x9e3779b97f4a7c15u;
                id.position = n;
                assert_false(ids_find(&ids, &id.id, id.stream_hash, &found));
                ids_add(&ids, &id);
        }
        for (n = 0; n < 200000; n++) {
                assert_true(ids_find(&ids, &id.id, n * 0x9e3779b97f4a7c15u, &found));
                assert_int_equal(found.position, n);
        }
        ids_fini(&ids);
}

TEST(ids, the_newest_of_equal_ones_is_found)
{
        struct persistence_id id = numbered_id(1), found;
        struct ids ids = {0};
        uint64_t n;

        for (n = 0; n < 5000; n++) {
                id.position = n;
                ids_add(&ids, &id);
                assert_true(ids_find(&ids, &id.id, id.stream_hash, &found));
                assert_int_equal(found.position, n);
        }
        ids_fini(&ids);
}

/* G6: whenever ids are linked, after each one, some at a time, or only when somebody looks, the window is the
 * same, also while it grows and when it is full. */
TEST(ids, however_many_wait_to_be_linked_the_window_is_the_same)
{
        enum { PORTION_MAX = IDS_UNLINKED_MAX + 200 };
        struct segment_header h = {.first_index = 1, .node_id = 1};
        struct ids single = {.seed = 3}, many = {.seed = 4};
        struct buffer of_single = {0}, of_many = {0};
        struct persistence_id id, found;
        uint64_t n = 0;

        for (uint32_t turn = 0; n < LIMIT_IDEMPOTENCY_WINDOW_IDS + 3000; turn++) {
                uint32_t count = (uint32_t)(mix(turn, 9) % (PORTION_MAX + 1)), i;

                for (i = 0; i < count; i++, n++) {
                        id = numbered_id(n);
                        ids_add(&single, &id);
                        ids_link(&single);
                        ids_add(&many, &id);
                }
                if (mix(turn, 10) % 2)
                        ids_link(&many);
                for (i = 1; i <= count && mix(turn, 11) % 4; i += 37) {
                        id = numbered_id(n - i);
                        assert_true(ids_find(&many, &id.id, id.stream_hash, &found));
                        assert_int_equal(found.position, n - i);
                }
        }
        ids_encode(&single, &h, 99, &of_single);
        ids_encode(&many, &h, 99, &of_many);
        assert_true(bytes_equal(buffer_bytes(&of_single), buffer_bytes(&of_many)));
        for (uint64_t i = 0; i < n; i += 111) {
                id = numbered_id(i);
                assert_int_equal(ids_find(&many, &id.id, id.stream_hash, &found),
                        i >= n - LIMIT_IDEMPOTENCY_WINDOW_IDS);
        }
        ids_fini(&single);
        ids_fini(&many);
        buffer_fini(&of_single);
        buffer_fini(&of_many);
}

TEST(ids, a_checkpoint_gives_the_same_window_and_no_damaged_one_is_taken)
{
        struct segment_header h = {.first_index = 1, .node_id = 1};
        struct ids ids = {.seed = 1}, copy = {.seed = 2};
        struct buffer bytes = {0}, again = {0};
        struct persistence_id id;
        uint64_t n, bit;

        for (n = 0; n < 300; n++) {
                id = numbered_id(n);
                ids_add(&ids, &id);
        }
        ids_encode(&ids, &h, 99, &bytes);
        assert_int_equal(ids_decode(&copy, buffer_bytes(&bytes), &h, 99), 0);
        ids_encode(&copy, &h, 99, &again);
        assert_true(bytes_equal(buffer_bytes(&bytes), buffer_bytes(&again)));
        assert_int_equal(ids_decode(&copy, buffer_bytes(&bytes), &h, 98), IDS_INVALID);
        for (bit = 0; bit < bytes.size * 8; bit += 7) {
                bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
                assert_int_equal(ids_decode(&copy, buffer_bytes(&bytes), &h, 99), IDS_INVALID);
                bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        for (n = 0; n < bytes.size; n += 11)
                assert_int_equal(ids_decode(&copy, bytes_of(bytes.data, n), &h, 99), IDS_INVALID);
        ids_fini(&ids);
        ids_fini(&copy);
        buffer_fini(&bytes);
        buffer_fini(&again);
}

TEST(ids, the_window_spans_restarts_and_lost_checkpoints_G6)
{
        struct fixture f;
        unsigned round;

        fixture_init(&f, 60);
        f.options.segment_size = 16 * KIB;
        for (round = 0; round < 4; round++) {
                unsigned i;

                fixture_open(&f);
                fixture_adopt_recovered(&f);
                check_ids(&f);
                for (i = 0; i < 120; i++)
                        fixture_put(&f, 3);
                fixture_settle(&f);
                fixture_close(&f);
        }
        fixture_fini(&f);
}

/* ---- the tail ---- */

static void check_same_name(const struct tail_name *a, const struct tail_name *b)
{
        assert_true(bytes_equal(a->name, b->name));
        assert_int_equal(a->event_count, b->event_count);
        assert_int_equal(a->record_count, b->record_count);
        assert_true(bytes_equal(buffer_bytes(&a->postings), buffer_bytes(&b->postings)));
}

static void check_same_stream(const struct tail_stream *a, const struct tail_stream *b)
{
        assert_true(bytes_equal(a->name, b->name));
        assert_int_equal(a->event_count, b->event_count);
        assert_int_equal(a->last_revision, b->last_revision);
        assert_int_equal(a->last_position, b->last_position);
        assert_int_equal(a->is_tombstoned, b->is_tombstoned);
        assert_int_equal(a->has_events, b->has_events);
        assert_int_equal(a->run_count, b->run_count);
        for (uint32_t i = 0; i < a->run_count; i++) {
                assert_int_equal(tail_run(a, i)->first_revision, tail_run(b, i)->first_revision);
                assert_int_equal(tail_run(a, i)->count, tail_run(b, i)->count);
                assert_int_equal(tail_run(a, i)->offset8, tail_run(b, i)->offset8);
        }
}

TEST(tail, a_run_of_events_is_as_each_of_them)
{
        static const char *const streams[] = {"order-1", "order-2", "plain"}, *const types[] = {"A", "B"};
        struct tail *each = tail_new(true), *runs = tail_new(true);
        uint64_t next[COUNT_OF(streams)] = {0}, position = 0;

        for (uint32_t i = 0; i < 3000; i++) {
                uint32_t which = (uint32_t)mix(i, 1) % COUNT_OF(streams), count = 1 + (uint32_t)mix(i, 2) % 5;
                uint32_t offset8 = 10 + i / 3; /* several runs in a record */
                struct event_view event = {.stream = bytes_of_string(streams[which]),
                        .type = bytes_of_string(types[mix(i, 3) % COUNT_OF(types)]),
                        .revision = next[which],
                        .position = position};

                tail_add_run(runs, &event, count, offset8);
                for (uint32_t k = 0; k < count; k++, event.revision++, event.position++)
                        tail_add(each, &event, offset8);
                next[which] += count;
                position += count;
        }
        assert_int_equal(each->streams.count, runs->streams.count);
        assert_int_equal(each->types.count, runs->types.count);
        assert_int_equal(each->categories.count, runs->categories.count);
        for (uint32_t i = 0; i < each->streams.count; i++)
                check_same_stream(tail_stream_at(each, i), tail_stream_at(runs, i));
        for (uint32_t i = 0; i < each->types.count; i++)
                check_same_name(tail_name_at(&each->types, i), tail_name_at(&runs->types, i));
        for (uint32_t i = 0; i < each->categories.count; i++)
                check_same_name(tail_name_at(&each->categories, i), tail_name_at(&runs->categories, i));
        assert_int_equal(tail_size(each), tail_size(runs));
        tail_free(&each);
        tail_free(&runs);
}

/* ---- many names ---- */

static uint64_t listed;
static char last_listed[64];

static bool check_order(void *arg, struct bytes name, uint64_t event_count)
{
        (void)arg;
        assert_true(bytes_compare(bytes_of_string(last_listed), name) < 0);
        assert_int_equal(event_count, 1);
        memset(last_listed, 0, sizeof last_listed);
        memcpy(last_listed, name.data, name.size);
        listed++;
        return true;
}

/* The event number `i` of the log begins the stream number `i`. */
static void append_stream(struct fixture *f, unsigned i)
{
        struct buffer payload = {0};
        struct record_events_writer w;
        struct event_draft draft = {.id = model_id(i, 1), .type = BYTES_LITERAL("T")};
        struct persistence_entry entry = {
                .index = i + 1, .term = 1, .kind = RECORD_EVENTS, .first_position = i, .event_count = 1};
        char name[64];

        snprintf(name, sizeof name, "stream-%u", i);
        record_events_begin(&w, &payload, 5);
        record_events_add(&w, bytes_of_string(name), 0, &draft);
        record_events_end(&w);
        entry.payload = buffer_bytes(&payload);
        persistence_append(f->p, &entry);
        buffer_fini(&payload);
}

static void assert_stream_at(struct fixture *f, unsigned i)
{
        struct persistence_head head;
        char name[64];

        snprintf(name, sizeof name, "stream-%u", i);
        assert_int_equal(persistence_stream_head(f->p, bytes_of_string(name), &head), 0);
        assert_int_equal(head.last_position, i);
}

/* Enough streams for many blocks of entries and names. */
TEST(index, with_many_streams_finds_each)
{
        enum { STREAMS = 4000 };
        struct fixture f;
        unsigned i;

        fixture_init(&f, 61);
        f.options.segment_size = 4 * MIB;
        f.options.cache_size = 16 * KIB; /* a few blocks at a time */
        f.options.segment_events_max = STREAMS;
        fixture_open(&f);
        for (i = 0; i < STREAMS + 1; i++)
                append_stream(&f, i);
        f.entry_count = STREAMS + 1;
        fixture_write(&f, true);
        fixture_commit(&f, STREAMS + 1);
        fixture_settle(&f);
        for (i = 0; i < STREAMS; i += 3) {
                struct persistence_head head;
                char name[64];

                assert_stream_at(&f, i);
                snprintf(name, sizeof name, "absent-%u", i);
                assert_int_equal(
                        persistence_stream_head(f.p, bytes_of_string(name), &head), PERSISTENCE_NOT_FOUND);
        }
        listed = 0;
        last_listed[0] = 0;
        assert_int_equal(
                persistence_list(f.p, NAMES_STREAMS, BYTES_EMPTY, BYTES_EMPTY, UINT32_MAX, check_order, NULL),
                0);
        assert_int_equal(listed, STREAMS + 1);
        listed = 0;
        snprintf(last_listed, sizeof last_listed, "stream-2");
        assert_int_equal(persistence_list(f.p, NAMES_STREAMS, BYTES_LITERAL("stream-2"),
                                 BYTES_LITERAL("stream-2"), UINT32_MAX, check_order, NULL),
                0);
        assert_int_equal(listed, 1110); /* stream-2x, 2xx and 2xxx */
        fixture_fini(&f);
}

/* G18: the index of a segment that is not yet sealed is memory too, and grows with its streams, not its
 * bytes. */
TEST(index, of_an_unsealed_segment_is_bounded_by_sealing_it)
{
        enum { STREAMS = 150000, GROUP = 1000 };
        struct persistence_stats stats;
        struct fixture f;
        unsigned i;

        fixture_init(&f, 62);
        f.options.segment_size = 64 * MIB;
        f.options.cache_size = 1 * MIB;
        fixture_open(&f);
        for (i = 0; i < STREAMS; i++) {
                append_stream(&f, i);
                if (i % GROUP == GROUP - 1) {
                        f.entry_count = i + 1;
                        fixture_write(&f, true);
                        fixture_commit(&f, i + 1);
                        assert_true(tail_size(log_active(f.p)->tail) <= 2 * LOG_TAIL_SIZE_MIN);
                }
        }
        fixture_settle(&f);
        persistence_stats(f.p, &stats);
        assert_true(stats.segments > 1);
        for (i = 0; i < STREAMS; i += 1000)
                assert_stream_at(&f, i);
        fixture_fini(&f);
}

/* ---- the cache ---- */

TEST(cache, keeps_what_is_used_within_its_size)
{
        struct cache *c = cache_new(1000);
        struct bytes found;
        uint64_t i;

        for (i = 0; i < 100; i++) {
                memset(cache_add(c, (struct cache_key){1, i}, 100), (int)i, 100);
                assert_true(cache_stats(c).bytes <= 1000);
                assert_true(cache_get(c, (struct cache_key){1, 0}, &found) == true);
                assert_int_equal(found.data[0], 0);
        }
        assert_false(cache_get(c, (struct cache_key){1, 50}, &found));
        assert_true(cache_get(c, (struct cache_key){1, 99}, &found));
        assert_int_equal(found.data[99], 99);
        memset(cache_add(c, (struct cache_key){2, 0}, 5000), 7, 5000); /* larger than the cache: alone */
        assert_true(cache_get(c, (struct cache_key){2, 0}, &found));
        assert_false(cache_get(c, (struct cache_key){1, 0}, &found));
        cache_drop_file(c, 2);
        assert_false(cache_get(c, (struct cache_key){2, 0}, &found));
        assert_int_equal(cache_stats(c).bytes, 0);
        cache_free(&c);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                TEST_ROW(hash, collisions_are_told_apart_by_name),
                TEST_ROW(ids, the_window_holds_the_newest),
                TEST_ROW(ids, the_window_ends_exactly_where_it_should),
                TEST_ROW(ids, one_id_in_many_streams_is_found_at_once),
                TEST_ROW(ids, the_newest_of_equal_ones_is_found),
                TEST_ROW(ids, however_many_wait_to_be_linked_the_window_is_the_same),
                TEST_ROW(ids, a_checkpoint_gives_the_same_window_and_no_damaged_one_is_taken),
                TEST_ROW(ids, the_window_spans_restarts_and_lost_checkpoints_G6),
                TEST_ROW(tail, a_run_of_events_is_as_each_of_them),
                TEST_ROW(index, with_many_streams_finds_each),
                TEST_ROW(index, of_an_unsealed_segment_is_bounded_by_sealing_it),
                TEST_ROW(cache, keeps_what_is_used_within_its_size),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
