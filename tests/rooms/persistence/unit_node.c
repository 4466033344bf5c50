/* The identity of a node and of its stores: adoption by a cluster, given UUIDs, epochs. */
#include "base/crc32c.h"
#include "persistence/log.h"
#include "support.h"

/* Memory of what a crash abandons is never given back: that is the crash. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
        return "detect_leaks=0";
}

static const uint8_t cluster_store[16] = {1, 2, 3, 4, 5, 6, 0x47, 8, 0x89, 10, 11, 12, 13, 14, 15, 16};

static struct persistence_identity another_cluster(void)
{
        struct persistence_identity identity = {.node_id = 7};

        memset(identity.cluster_uuid, 0x4a, sizeof identity.cluster_uuid);
        return identity;
}

static void check_identity(const struct persistence_node *node, const struct persistence_identity *expected)
{
        struct persistence_identity identity = persistence_node_identity(node);

        assert_int_equal(identity.node_id, expected->node_id);
        assert_memory_equal(identity.cluster_uuid, expected->cluster_uuid, 16);
}

static void open_node(struct fixture *f)
{
        assert_int_equal(persistence_node_open(f->os, "/data", false, &f->node), 0);
        f->options.node = f->node;
}

TEST(node, without_stores_is_adopted_and_keeps_it)
{
        struct persistence_identity identity = another_cluster();
        struct fixture f;

        fixture_init(&f, 1);
        open_node(&f);
        assert_false(persistence_node_has_stores(f.node));
        assert_int_equal(persistence_node_adopt(f.node, &identity), 0);
        check_identity(f.node, &identity);
        os_sim_crash(f.os);
        open_node(&f);
        check_identity(f.node, &identity);
        /* Stores are made as that node's, and opened as such. */
        assert_int_equal(persistence_open(&f.options, &f.p), 0);
        persistence_close(&f.p);
        persistence_node_close(&f.node);
        fixture_open(&f);
        fixture_put(&f, 1);
        fixture_fini(&f);
}

/* Its stores' data belongs to the cluster that it was made in (G12). */
TEST(node, with_a_store_is_not_adopted)
{
        struct persistence_identity identity = another_cluster(), before;
        struct fixture f;

        fixture_init(&f, 2);
        fixture_open(&f);
        before = persistence_node_identity(f.node);
        assert_true(persistence_node_has_stores(f.node));
        assert_int_equal(persistence_node_adopt(f.node, &identity), PERSISTENCE_IN_USE);
        check_identity(f.node, &before);
        fixture_close(&f);
        open_node(&f);
        assert_true(persistence_node_has_stores(f.node));
        assert_int_equal(persistence_node_adopt(f.node, &identity), PERSISTENCE_IN_USE);
        persistence_node_close(&f.node);
        fixture_open(&f);
        check_identity(f.node, &before);
        fixture_fini(&f);
}

/* Neither the identity before nor the one after, but nothing in between. */
TEST(node, adopted_while_the_power_fails_is_one_or_the_other)
{
        uint64_t seed, adopted = 0, kept = 0;

        for (seed = 0; seed < 60; seed++) {
                struct persistence_identity identity = another_cluster(), before;
                struct os_sim_faults faults = {0};
                struct fixture f;
                int r;

                fixture_init(&f, 100 + seed);
                open_node(&f);
                before = persistence_node_identity(f.node);
                *(seed % 2 ? &faults.write_fails_at : &faults.sync_fails_at) = seed / 2 % 4;
                faults.full_at = seed % 5 == 4;
                os_sim_set_faults(f.os, &faults);
                r = persistence_node_adopt(f.node, &identity);
                os_sim_set_faults(f.os, &(struct os_sim_faults){0});
                if (r == PERSISTENCE_FULL)
                        check_identity(f.node, &before);
                if (seed % 3)
                        os_sim_crash(f.os);
                else
                        os_sim_kill(f.os);
                open_node(&f);
                if (r == 0 || persistence_node_identity(f.node).node_id == identity.node_id) {
                        check_identity(f.node, &identity);
                        adopted++;
                } else {
                        check_identity(f.node, &before);
                        kept++;
                }
                assert_int_equal(persistence_open(&f.options, &f.p), 0);
                fixture_fini(&f);
        }
        assert_true(adopted > 0);
        assert_true(kept > 0);
}

/* A crash while the first store was made leaves a directory that is no store yet: its vote is of the old
 * identity. */
TEST(node, with_a_store_that_was_never_finished_is_adopted)
{
        uint64_t seed;
        unsigned half_made = 0;

        for (seed = 0; seed < 40; seed++) {
                struct persistence_identity identity = another_cluster();
                struct fixture f;

                fixture_init(&f, 200 + seed);
                open_node(&f);
                os_sim_set_faults(f.os, &(struct os_sim_faults){.sync_fails_at = 1 + seed % 8});
                if (persistence_open(&f.options, &f.p) == 0) {
                        fixture_fini(&f);
                        continue;
                }
                f.p = NULL;
                os_sim_set_faults(f.os, &(struct os_sim_faults){0});
                os_sim_kill(f.os);
                open_node(&f);
                f.options.store_uuid = seed % 2 ? cluster_store : NULL;
                if (!persistence_node_has_stores(f.node)) {
                        half_made++;
                        assert_int_equal(persistence_node_adopt(f.node, &identity), 0);
                        assert_int_equal(persistence_open(&f.options, &f.p), 0);
                        if (f.options.store_uuid)
                                assert_memory_equal(persistence_store_id(f.p), cluster_store, 16);
                }
                fixture_fini(&f);
        }
        assert_in_range(half_made, 5, 40);
}

TEST(store, of_a_joiner_has_the_uuid_and_the_epoch_of_the_cluster)
{
        struct fixture f;
        uint8_t other[16] = {9};

        fixture_init(&f, 3);
        f.options.store_uuid = cluster_store;
        f.options.epoch = 5;
        fixture_open(&f);
        assert_memory_equal(persistence_store_id(f.p), cluster_store, 16);
        assert_string_equal(persistence_store_uuid(f.p), "01020304-0506-4708-890a-0b0c0d0e0f10");
        assert_int_equal(persistence_epoch(f.p), 5);
        fixture_put(&f, 2);
        fixture_close(&f);
        /* The epoch is that of a store that is made; the UUID must fit. */
        f.options.epoch = 0;
        fixture_open(&f);
        assert_int_equal(persistence_epoch(f.p), 5);
        fixture_close(&f);
        f.options.store_uuid = other;
        assert_int_equal(fixture_try_open(&f), PERSISTENCE_FORMAT);
        assert_non_null(strstr(persistence_problem(), "not the cluster's store"));
        f.p = NULL;
        /* Nor may two stores share one. */
        f.options.store_uuid = cluster_store;
        f.options.store_name = "another";
        assert_int_equal(fixture_try_open(&f), PERSISTENCE_FORMAT);
        assert_non_null(strstr(persistence_problem(), "the UUID that the cluster gives"));
        f.p = NULL;
        f.options.store_name = "default";
        f.options.store_uuid = NULL;
        fixture_open(&f);
        fixture_fini(&f);
}

/* The epoch in the header of the newest record of the log's only segment. */
static uint32_t newest_epoch(struct fixture *f)
{
        struct log_segment *s = log_active(f->p);
        uint8_t raw[RECORD_HEADER_SIZE];
        struct record_header h;
        size_t got;

        assert_int_equal(os_file_read(s->file, raw, sizeof raw, s->end_offset - record_size(0), &got), 0);
        assert_int_equal(record_header_decode(raw, segment_seed(&s->header), &h), 0);
        return h.epoch;
}

TEST(epoch, is_in_records_from_then_on_and_after_a_crash)
{
        struct fixture f;

        fixture_init(&f, 4);
        fixture_open(&f);
        assert_int_equal(persistence_epoch(f.p), 1);
        fixture_put(&f, 0);
        assert_int_equal(newest_epoch(&f), 1);
        assert_int_equal(persistence_set_epoch(f.p, 1), 0);
        assert_int_equal(persistence_set_epoch(f.p, 4), 0);
        fixture_settle(&f); /* a watermark */
        assert_int_equal(newest_epoch(&f), 4);
        fixture_put(&f, 0);
        assert_int_equal(newest_epoch(&f), 4);
        os_sim_crash(f.os);
        fixture_open(&f);
        assert_int_equal(persistence_epoch(f.p), 4);
        fixture_adopt_recovered(&f);
        fixture_put(&f, 0);
        assert_int_equal(newest_epoch(&f), 4);
        fixture_fini(&f);
}

TEST(epoch, that_cannot_be_saved_stays)
{
        struct fixture f;

        fixture_init(&f, 5);
        fixture_open(&f);
        os_sim_set_faults(f.os, &(struct os_sim_faults){.full_at = 1});
        assert_int_equal(persistence_set_epoch(f.p, 2), PERSISTENCE_FULL);
        assert_int_equal(persistence_epoch(f.p), 1);
        os_sim_set_faults(f.os, &(struct os_sim_faults){0});
        assert_int_equal(persistence_set_epoch(f.p, 2), 0);
        fixture_close(&f);
        fixture_open(&f);
        assert_int_equal(persistence_epoch(f.p), 2);
        os_sim_set_faults(f.os, &(struct os_sim_faults){.sync_fails_at = 1});
        assert_true(persistence_set_epoch(f.p, 3) < 0);
        os_sim_crash(f.os);
        fixture_open(&f);
        assert_in_range(persistence_epoch(f.p), 2, 3);
        fixture_fini(&f);
}

TEST(node, at_a_path_that_is_a_file_says_what_to_do)
{
        struct fixture f;
        struct os_file *file;

        fixture_init(&f, 6);
        assert_int_equal(os_file_open(f.os, "/data", OS_OPEN_WRITE | OS_OPEN_CREATE, &file), 0);
        os_file_close(&file);
        assert_int_equal(persistence_node_open(f.os, "/data", false, &f.node), PERSISTENCE_FORMAT);
        assert_non_null(strstr(persistence_problem(), "choose another"));
        assert_int_equal(persistence_node_open(f.os, "/data/below", false, &f.node), PERSISTENCE_FORMAT);
        assert_int_equal(persistence_node_open(f.os, "/data", true, &f.node), PERSISTENCE_FORMAT);
        fixture_fini(&f);
}

/* A later release wrote it (G20): nothing of it is guessed at, and nothing is changed. */
TEST(node, of_a_later_format_is_refused_with_the_next_step)
{
        static const char content[] = "{\"format\":2}";
        struct fixture f;
        char text[64];

        fixture_init(&f, 7);
        open_node(&f);
        persistence_node_close(&f.node);
        snprintf(text, sizeof text, "{\"crc32c\":\"%08x\",\"format\":2}",
                crc32c(0, content, sizeof content - 1));
        assert_int_equal(os_replace_whole(f.os, "/data/node.json", bytes_of_string(text)), 0);
        assert_int_equal(persistence_node_open(f.os, "/data", false, &f.node), PERSISTENCE_FORMAT);
        assert_non_null(strstr(persistence_problem(), "/data/node.json has format 2, this version reads 1"));
        assert_non_null(strstr(persistence_problem(), "use the version that made it"));
        fixture_fini(&f);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                TEST_ROW(node, without_stores_is_adopted_and_keeps_it),
                TEST_ROW(node, with_a_store_is_not_adopted),
                TEST_ROW(node, adopted_while_the_power_fails_is_one_or_the_other),
                TEST_ROW(node, with_a_store_that_was_never_finished_is_adopted),
                TEST_ROW(store, of_a_joiner_has_the_uuid_and_the_epoch_of_the_cluster),
                TEST_ROW(epoch, is_in_records_from_then_on_and_after_a_crash),
                TEST_ROW(epoch, that_cannot_be_saved_stays),
                TEST_ROW(node, at_a_path_that_is_a_file_says_what_to_do),
                TEST_ROW(node, of_a_later_format_is_refused_with_the_next_step),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
