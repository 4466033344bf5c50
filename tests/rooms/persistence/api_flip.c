/* Damage of single bits anywhere in a store (G13, G14): it is repaired from what else there is, or it is
 * reported; a read never gives a wrong answer, and what is not damaged can be read. */
#include "support.h"

enum { FILES_MAX = 32, FLIP_EVENT_SIZE = 24 };

/* Each bit costs a start and many reads: with a sanitizer, which is slow, one bit of each byte has to do. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { IS_SAMPLED = true };
#else
enum { IS_SAMPLED = false };
#endif

struct files {
        struct os *os;
        char paths[FILES_MAX][256];
        uint64_t sizes[FILES_MAX];
        unsigned count;
        char directory[200];
};

static void add_files(struct os *os, const char *directory, struct files *files);

static int add_file(void *arg, const char *name, bool is_dir)
{
        struct files *files = arg;
        char path[512];
        struct buffer content = {0};

        snprintf(path, sizeof path, "%s/%s", files->directory, name);
        if (is_dir) {
                struct files *inner = files;
                char before[sizeof files->directory];

                memcpy(before, files->directory, sizeof before);
                add_files(files->os, path, inner);
                memcpy(files->directory, before, sizeof before);
                return 0;
        }
        if (strcmp(name, "LOCK") == 0 || strcmp(name, "spare") == 0)
                return 0;
        assert_true(files->count < FILES_MAX);
        assert_int_equal(os_read_whole(files->os, path, MIB, &content), 0);
        files->sizes[files->count] = content.size;
        snprintf(files->paths[files->count++], sizeof files->paths[0], "%.255s", path);
        buffer_fini(&content);
        return 0;
}

static void add_files(struct os *os, const char *directory, struct files *files)
{
        files->os = os;
        snprintf(files->directory, sizeof files->directory, "%.199s", directory);
        assert_int_equal(os_dir_list(os, directory, add_file, files), 0);
}

/* A store of a few small segments, the last but one of them sealed, closed in order. */
static void make_store(struct fixture *f)
{
        unsigned i;

        fixture_init(f, 77);
        f->event_size = FLIP_EVENT_SIZE;
        f->options.segment_size = 6 * KIB;
        fixture_open(f);
        assert_int_equal(persistence_save_vote(f->p, 3, 1), 0);
        fixture_append_configuration(f, BYTES_LITERAL("one node"));
        fixture_write(f, true);
        fixture_commit(f, 1);
        for (i = 0; i < 30; i++) {
                fixture_put(f, i % 4);
                if (i % 6 == 5)
                        fixture_settle(f);
        }
        fixture_settle(f);
        fixture_close(f);
}

/* What may come out of a read of a damaged store, beside the right answer. */
static bool is_refusal(int result)
{
        return result == PERSISTENCE_CORRUPT;
}

static bool walk(struct fixture *f, struct bytes stream, bool is_backward)
{
        struct wakeup wakeup = {0};
        struct persistence_reader *r =
                open_reader(f, stream, is_backward ? UINT64_MAX : 0, is_backward, &wakeup);
        uint64_t i, position;
        struct event_view e;
        char name[64];
        int result = 0;

        for (i = 0; i < f->event_count && !result; i++) {
                position = is_backward ? f->event_count - 1 - i : i;
                if (stream.size && !bytes_equal(stream, stream_bytes(f->events[position].stream, name)))
                        continue;
                result = next_event(f, r, &wakeup, &e);
                if (!result)
                        check_event(f, &e, position);
        }
        if (!result)
                result = next_event(f, r, &wakeup, &e); /* what follows the last event may be damaged too */
        assert_true(result == PERSISTENCE_END || is_refusal(result));
        persistence_reader_close(&r);
        return result == PERSISTENCE_END;
}

static bool sum_counts(void *arg, struct bytes name, uint64_t event_count)
{
        (void)name;
        *(uint64_t *)arg += event_count;
        return true;
}

/* Reads everything; gives whether all of it came without a refusal. */
static bool read_all(struct fixture *f)
{
        bool is_whole = walk(f, BYTES_EMPTY, false);
        uint64_t sum = 0;
        uint32_t s;
        int r;

        is_whole &= walk(f, BYTES_EMPTY, true);
        for (s = 0; s < MODEL_STREAMS; s++) {
                struct persistence_head head;
                char name[64];

                is_whole &= walk(f, stream_bytes(s, name), false);
                is_whole &= walk(f, stream_bytes(s, name), true);
                r = persistence_stream_head(f->p, stream_bytes(s, name), &head);
                if (is_refusal(r))
                        is_whole = false;
                else
                        check_head(f, s);
        }
        r = persistence_list(f->p, NAMES_STREAMS, BYTES_EMPTY, BYTES_EMPTY, 1000, sum_counts, &sum);
        if (r)
                assert_true(is_refusal(r));
        else
                assert_int_equal(sum, f->event_count);
        check_ids(f);
        return is_whole && r == 0;
}

static uint64_t refused_opens, refused_reads, harmless;

static void check_flipped(struct fixture *f, const char *path, uint64_t bit)
{
        struct persistence_verify verify = {0};
        uint64_t problems;
        int r;

        r = fixture_try_open(f);
        if (r) {
                if (r < 0)
                        print_error(
                                "%s bit %llu: fault %d %s\n", path, (unsigned long long)bit, r, fault_last());
                assert_true(r == PERSISTENCE_CORRUPT || r == PERSISTENCE_FORMAT);
                assert_true(strlen(persistence_problem()) > 10);
                refused_opens++;
                return;
        }
        if (persistence_last_index(f->p) != f->entry_count)
                print_error("%s bit %llu: %llu entries of %llu\n", path, (unsigned long long)bit,
                        (unsigned long long)persistence_last_index(f->p), (unsigned long long)f->entry_count);
        assert_int_equal(persistence_last_index(f->p), f->entry_count);
        assert_int_equal(persistence_recovered(f->p)->term, 3);
        assert_int_equal(persistence_recovered(f->p)->voted_for, 1);
        fixture_commit(f, f->entry_count);
        if (read_all(f)) {
                harmless++;
        } else {
                refused_reads++;
                assert_int_equal(persistence_verify(f->p, &verify, &problems), 0);
                assert_true(problems > 0);
        }
        fixture_close(f);
}

TEST(flip, of_any_bit_is_harmless_or_reported_G14)
{
        struct fixture f;
        struct files files = {0};
        unsigned file;
        uint64_t bit;

        make_store(&f);
        add_files(f.os, "/data", &files);
        assert_true(files.count >= 9); /* node, store, vote, three segments, two index files, ids */
        f.options.read_only = true;
        for (file = 0; file < files.count; file++) {
                struct buffer content = {0};

                assert_int_equal(os_read_whole(f.os, files.paths[file], MIB, &content), 0);
                for (bit = 0; bit < content.size * 8; bit++) {
                        /* Every bit of bytes that say something, some of the zeros. */
                        if (content.data[bit / 8] == 0 && mix(bit, file) % 32)
                                continue;
                        if (IS_SAMPLED && bit % 8 != mix(bit / 8, file) % 8)
                                continue;
                        assert_int_equal(os_sim_flip_bit(f.os, files.paths[file], bit), 0);
                        check_flipped(&f, files.paths[file], bit);
                        assert_int_equal(os_sim_flip_bit(f.os, files.paths[file], bit), 0);
                }
                buffer_fini(&content);
        }
        assert_true(refused_opens > 0);
        assert_true(refused_reads > 0);
        assert_true(harmless > 0);
        check_flipped(&f, "nothing", 0);
        fixture_fini(&f);
}

TEST(flip, of_an_index_or_vote_is_repaired_by_the_next_start)
{
        struct files files = {0};
        struct fixture f;
        unsigned file, n;

        make_store(&f);
        add_files(f.os, "/data", &files);
        fixture_fini(&f);
        for (n = 0; n < 150; n++) {
                uint64_t bit;
                const char *dot;

                make_store(&f);
                file = (unsigned)os_sim_choose(f.os, files.count + n) % files.count;
                dot = strrchr(files.paths[file], '.');
                bit = mix(n, file) % (files.sizes[file] * 8);
                assert_int_equal(os_sim_flip_bit(f.os, files.paths[file], bit), 0);
                check_flipped(&f, files.paths[file], bit);
                if (strstr(files.paths[file], "/vote") || (dot && strcmp(dot, ".ids") == 0)) {
                        fixture_open(&f);
                        fixture_commit(&f, f.entry_count);
                        check_all(&f); /* with verify, which finds no problem any more */
                }
                fixture_fini(&f);
        }
}

TEST(flip, of_an_index_found_while_running_is_repaired_in_the_background)
{
        struct files files = {0};
        struct fixture f;
        unsigned file, repaired = 0, n;

        for (n = 0; n < 60; n++) {
                make_store(&f);
                files.count = 0;
                add_files(f.os, "/data", &files);
                for (file = 0; file < files.count && !strstr(files.paths[file], ".idx"); file++)
                        ;
                assert_int_equal(
                        os_sim_flip_bit(f.os, files.paths[file], mix(n, 1) % (files.sizes[file] * 8)), 0);
                fixture_open(&f);
                fixture_commit(&f, f.entry_count);
                repaired += !read_all(&f);
                fixture_settle(&f);
                while (!read_all(&f)) /* one more for another part of the same file */
                        fixture_settle(&f);
                check_all(&f);
                fixture_fini(&f);
        }
        assert_true(repaired > 0);
}

/* Then its range is refused, and everything else goes on. */
TEST(flip, of_an_index_and_of_its_records_stops_nothing_else_G13)
{
        enum { IN_ENTRIES = 100, IN_FIRST_RECORD = 4096 + 90 };
        struct files files = {0};
        struct wakeup wakeup = {0};
        struct persistence_reader *r;
        struct event_view e;
        struct fixture f;
        unsigned file, n;

        make_store(&f);
        add_files(f.os, "/data", &files);
        fixture_open(&f);
        fixture_commit(&f, f.entry_count);
        for (file = 0; file < files.count && !strstr(files.paths[file], ".idx"); file++)
                ;
        assert_int_equal(os_sim_flip_bit(f.os, files.paths[file], IN_ENTRIES * 8), 0);
        memcpy(strrchr(files.paths[file], '.'), ".seg", 5);
        assert_int_equal(os_sim_flip_bit(f.os, files.paths[file], IN_FIRST_RECORD * 8), 0);
        for (n = 0; n < 3; n++) {
                assert_false(read_all(&f));
                fixture_settle(&f);
        }
        r = open_reader(&f, BYTES_EMPTY, f.event_count - 1, true, &wakeup);
        assert_int_equal(next_event(&f, r, &wakeup, &e), 0);
        persistence_reader_close(&r);
        fixture_put(&f, 3);
        assert_int_equal(f.acknowledged, f.entry_count);
        check_log(&f, f.event_count - 3, false);
        fixture_fini(&f);
}

TEST(missing, files_are_rebuilt_or_reported)
{
        struct files files = {0};
        struct fixture f;
        unsigned file;

        make_store(&f);
        add_files(f.os, "/data", &files);
        fixture_fini(&f);
        for (file = 0; file < files.count; file++) {
                bool is_rebuilt = strstr(files.paths[file], ".idx") || strstr(files.paths[file], ".ids");

                make_store(&f);
                assert_int_equal(os_remove(f.os, files.paths[file]), 0);
                if (is_rebuilt) {
                        fixture_open(&f);
                        fixture_commit(&f, f.entry_count);
                        check_all(&f);
                } else {
                        int r = fixture_try_open(&f);

                        if (r == 0) { /* the newest segment: nothing says that there was more than the sealed
                                         ones */
                                assert_non_null(strstr(files.paths[file], ".seg"));
                                assert_true(persistence_last_index(f.p) < f.entry_count);
                        } else {
                                assert_true(r == PERSISTENCE_CORRUPT || r == PERSISTENCE_FORMAT);
                        }
                }
                fixture_fini(&f);
        }
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                TEST_ROW(flip, of_any_bit_is_harmless_or_reported_G14),
                TEST_ROW(flip, of_an_index_or_vote_is_repaired_by_the_next_start),
                TEST_ROW(flip, of_an_index_found_while_running_is_repaired_in_the_background),
                TEST_ROW(flip, of_an_index_and_of_its_records_stops_nothing_else_G13),
                TEST_ROW(missing, files_are_rebuilt_or_reported),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
