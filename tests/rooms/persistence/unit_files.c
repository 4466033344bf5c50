/* A store of more segments than the process may have open files (G12: it opens, reads and writes all the
 * same), and files that a crash left behind. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "persistence/log.h"
#include "support.h"

enum { SEGMENTS = 200, FILES_MAX = 128, RECORD_SIZE = 3000, UNSEALED_MAX = 16, WAIT_US = 1000 };

struct many {
        struct os *os;
        struct persistence *p;
        struct os_timer timer;
        uint64_t index;
};

static void append_segment(struct many *m)
{
        static const uint8_t data[RECORD_SIZE];
        struct event_draft draft = {.type = BYTES_LITERAL("T"), .data = bytes_of(data, sizeof data)};
        struct persistence_entry entry = {.index = m->index + 1,
                .term = 1,
                .kind = RECORD_EVENTS,
                .first_position = m->index,
                .event_count = 1};
        struct record_events_writer w;
        struct buffer payload = {0};

        record_events_begin(&w, &payload, 1000);
        record_events_add(&w, BYTES_LITERAL("s-1"), m->index, &draft);
        record_events_end(&w);
        entry.payload = buffer_bytes(&payload);
        persistence_append(m->p, &entry);
        persistence_write(m->p, true, NULL, NULL);
        persistence_commit(m->p, ++m->index);
        buffer_fini(&payload);
}

static void on_timer(struct os_timer *timer)
{
        struct many *m = timer->arg;

        /* Those that are not sealed yet are open: sealing must keep up. */
        while (m->p->segment_count < SEGMENTS && m->p->segment_count - m->p->sealed_count < UNSEALED_MAX)
                append_segment(m);
        if (m->p->segment_count == SEGMENTS && m->p->sealed_count + 1 == SEGMENTS)
                os_stop(m->os);
        else
                os_timer_start(m->os, timer, WAIT_US);
}

static void check_reads(struct many *m, struct bytes stream, bool is_backward)
{
        struct persistence_reader_options o = {
                .stream = stream, .is_backward = is_backward, .from = is_backward ? UINT64_MAX : 0};
        struct persistence_reader *r;
        struct event_view e;
        uint64_t n;
        int result = 0;

        assert_int_equal(persistence_reader_open(m->p, &o, &r), 0);
        for (n = 0; (result = persistence_reader_next(r, &e)) == 0; n++)
                assert_int_equal(e.revision, is_backward ? m->index - 1 - n : n);
        assert_int_equal(result, PERSISTENCE_END);
        assert_int_equal(n, m->index);
        persistence_reader_close(&r);
}

TEST(files, more_segments_than_open_files)
{
        char path[] = "/tmp/nilo-persistence-XXXXXX", command[64];
        struct persistence_options options = {.store_name = "default", .segment_size = 8 * KIB};
        struct rlimit before, limit;
        struct many m = {0};
        unsigned life;

        assert_non_null(mkdtemp(path));
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
        limit = before;
        limit.rlim_cur = FILES_MAX;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        assert_int_equal(os_real_new(&m.os), 0);
        options.os = m.os;
        for (life = 0; life < 2; life++) {
                assert_int_equal(persistence_node_open(m.os, path, false, &options.node), 0);
                assert_int_equal(persistence_open(&options, &m.p), 0);
                persistence_start(m.p);
                m.timer = (struct os_timer){.fn = on_timer, .arg = &m};
                os_timer_start(m.os, &m.timer, 0);
                persistence_commit(m.p, m.index);
                assert_int_equal(os_run(m.os), 0);
                check_reads(&m, BYTES_EMPTY, false);
                check_reads(&m, BYTES_EMPTY, true);
                check_reads(&m, BYTES_LITERAL("s-1"), false);
                check_reads(&m, BYTES_LITERAL("s-1"), true);
                persistence_close(&m.p);
                persistence_node_close(&options.node);
        }
        os_free(&m.os);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
        snprintf(command, sizeof command, "rm -rf %s", path);
        assert_int_equal(system(command), 0);
}

struct listing {
        char newest[64];
        unsigned checkpoints;
};

static int note_checkpoint(void *arg, const char *name, bool is_dir)
{
        struct listing *l = arg;

        (void)is_dir;
        if (strcmp(name + strlen(name) - 4, ".ids") != 0)
                return 0;
        snprintf(l->newest, sizeof l->newest, "%.63s", name);
        l->checkpoints++;
        return 0;
}

/* A crash between the new checkpoint's rename and the removal of the old one leaves both. */
TEST(files, an_old_checkpoint_is_removed_by_the_next_start)
{
        char newest[512], left[512];
        struct listing listing = {0};
        struct buffer content = {0};
        struct fixture f;
        unsigned i;

        fixture_init(&f, 90);
        fixture_open(&f);
        for (i = 0; i < 400; i++)
                fixture_put(&f, 2);
        fixture_settle(&f);
        assert_int_equal(os_dir_list(f.os, f.p->log_path, note_checkpoint, &listing), 0);
        assert_int_equal(listing.checkpoints, 1);
        snprintf(newest, sizeof newest, "%s/%s", f.p->log_path, listing.newest);
        snprintf(left, sizeof left, "%s/%020d.ids", f.p->log_path, 1);
        assert_string_not_equal(newest, left);
        assert_int_equal(os_read_whole(f.os, newest, 64 * MIB, &content), 0);
        assert_int_equal(os_replace_whole(f.os, left, buffer_bytes(&content)), 0);
        fixture_close(&f);
        fixture_open(&f);
        fixture_adopt_recovered(&f);
        listing = (struct listing){0};
        assert_int_equal(os_dir_list(f.os, f.p->log_path, note_checkpoint, &listing), 0);
        assert_int_equal(listing.checkpoints, 1);
        assert_non_null(strstr(newest, listing.newest));
        check_all(&f);
        buffer_fini(&content);
        fixture_fini(&f);
}

/* A log of several segments whose newest is empty of events or has some; gives the path of that one's file.
 */
static void make_segments(struct fixture *f, uint64_t seed, char ret_newest[512])
{
        unsigned i;

        fixture_init(f, seed);
        fixture_open(f);
        for (i = 0; i < 400; i++)
                fixture_put(f, 2);
        fixture_settle(f);
        assert_true(f->p->sealed_count >= 2 && f->p->sealed_count + 1 == f->p->segment_count);
        snprintf(ret_newest, 512, "%s/%020llu.seg", f->p->log_path,
                (unsigned long long)log_active(f->p)->header.first_index);
        fixture_close(f);
}

/* Acknowledged events are in it: a start must not go on without it (G2, G13). */
TEST(files, the_newest_segment_that_somebody_removed_is_missed)
{
        char newest[512], away[520];
        struct fixture f;

        make_segments(&f, 91, newest);
        snprintf(away, sizeof away, "%s.away", newest);
        assert_int_equal(os_rename(f.os, newest, away), 0);
        assert_int_equal(fixture_try_open(&f), PERSISTENCE_CORRUPT);
        assert_non_null(strstr(persistence_problem(), newest));
        assert_non_null(strstr(persistence_problem(), "is missing"));
        assert_int_equal(os_rename(f.os, away, newest), 0);
        fixture_open(&f);
        fixture_adopt_recovered(&f);
        check_all(&f);
        fixture_fini(&f);
}

/* A new segment whose header is damaged and that holds nothing is put away; the one before is the newest
 * again, at the starts after that too. */
TEST(files, an_empty_segment_with_a_damaged_header_is_not_missed)
{
        char newest[512];
        struct fixture f;
        struct os_file *file;
        unsigned i;

        make_segments(&f, 92, newest);
        assert_int_equal(os_file_open(f.os, newest, OS_OPEN_WRITE, &file), 0);
        assert_int_equal(os_file_truncate(file, 0), 0);
        assert_int_equal(os_file_write(file, BYTES_LITERAL("no header"), 0), 0);
        os_file_close(&file);
        f.acknowledged = 0; /* what it held is gone: the disk's doing */
        for (i = 0; i < 3; i++) {
                fixture_open(&f);
                fixture_adopt_recovered(&f);
                fixture_put(&f, 1);
                fixture_settle(&f);
                check_all(&f);
                fixture_close(&f);
        }
        fixture_fini(&f);
}

/* Numbers that no writer gives, with a right sum: nothing that follows from them could be written (G14). */
TEST(files, a_segment_header_with_impossible_numbers_is_none)
{
        struct segment_header good = {.first_index = 1, .first_position = 5, .previous_term = 3}, h, decoded;
        uint8_t raw[SEGMENT_HEADER_SIZE];

        segment_header_encode(&good, raw);
        assert_int_equal(segment_header_decode(raw, &decoded), 0);
        h = good;
        h.first_index = UINT64_MAX;
        segment_header_encode(&h, raw);
        assert_int_equal(segment_header_decode(raw, &decoded), SEGMENT_INVALID);
        h = good;
        h.first_position = INT64_MAX;
        segment_header_encode(&h, raw);
        assert_int_equal(segment_header_decode(raw, &decoded), SEGMENT_INVALID);
        h = good;
        h.previous_term = UINT64_MAX;
        segment_header_encode(&h, raw);
        assert_int_equal(segment_header_decode(raw, &decoded), SEGMENT_INVALID);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                TEST_ROW(files, more_segments_than_open_files),
                TEST_ROW(files, an_old_checkpoint_is_removed_by_the_next_start),
                TEST_ROW(files, the_newest_segment_that_somebody_removed_is_missed),
                TEST_ROW(files, an_empty_segment_with_a_damaged_header_is_not_missed),
                TEST_ROW(files, a_segment_header_with_impossible_numbers_is_none),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
