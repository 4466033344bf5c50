/* The life of a follower's log, by seeds: runs of entries of rising terms are appended and written, suffixes
 * that are not committed are replaced again and again across segments, with writes and fetches under way, and
 * power fails at any step and inside of any. What is found then is always a prefix of the log as it was:
 * never a mixture of entries that replaced each other (G2, G13). The model is the list of entries; each one's
 * chain stands for all before it. */
#include "support.h"

/* Memory of what a crash abandons is never given back: that is the crash. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
        return "detect_leaks=0";
}

#if defined(__SANITIZE_THREAD__)
enum { SEEDS = 30 };
#elif defined(__SANITIZE_ADDRESS__)
enum { SEEDS = 200 };
#else
enum { SEEDS = 600 };
#endif
enum { STEPS = 150, RUN_MAX = 14, CONFIGURATION_SIZE = 40, MANY = 1000000, CRASH_WITHIN_SYNCS = 4 };

struct follower {
        struct fixture f;
        unsigned fetches; /* under way */
        uint64_t told;    /* commit index that this life has been told of */
        bool is_plain;    /* all entries are barriers, so that records of different lives stand at the same
                             offsets */
        bool is_doomed;   /* the disk will give a fault */
        bool has_failed;  /* a fault was given: nothing but a crash can follow */
        /* what came about, over all seeds */
        unsigned crashes;
        unsigned truncations;
        unsigned runs;
        unsigned cold_runs;
};

struct asked {
        struct follower *w;
        uint64_t first;
};

/* ---- configurations follow from their entry ---- */

static struct bytes configuration_of(uint64_t index, uint32_t salt, char text[CONFIGURATION_SIZE])
{
        snprintf(text, CONFIGURATION_SIZE, "members of %llu %u", (unsigned long long)index, salt);
        return bytes_of_string(text);
}

static void check_configuration(const struct fixture *f, uint64_t index, struct bytes payload)
{
        char text[CONFIGURATION_SIZE];

        assert_true(bytes_equal(payload, configuration_of(index, f->entries[index - 1].salt, text)));
}

static void check_recovered(const struct fixture *f)
{
        const struct persistence_recovered *rec = persistence_recovered(f->p);
        uint64_t i, configuration = 0;

        for (i = 1; i <= rec->base_index; i++)
                if (f->entries[i - 1].kind == RECORD_CONFIGURATION)
                        configuration = i;
        assert_int_equal(rec->base_configuration_index, configuration);
        if (configuration)
                check_configuration(f, configuration, rec->base_configuration);
        assert_int_equal(rec->base_term, rec->base_index ? f->entries[rec->base_index - 1].term : 0);
        for (i = 0; i < rec->entry_count; i++) {
                const struct model_entry *m = &f->entries[rec->base_index + i];

                assert_int_equal(rec->entries[i].term, m->term);
                assert_int_equal(rec->entries[i].kind, m->kind);
                if (m->kind == RECORD_CONFIGURATION)
                        check_configuration(f, rec->base_index + i + 1, rec->entries[i].payload);
        }
        assert_int_equal(rec->next_position, f->event_count);
}

/* ---- reading ---- */

static void on_fetched(void *arg, int result, const struct persistence_entries *run)
{
        struct asked *asked = arg;
        struct follower *w = asked->w;

        w->fetches--;
        if (result == PERSISTENCE_NOT_FOUND)
                assert_true(asked->first > w->f.entry_count);
        else if (result != PERSISTENCE_END)
                assert_true(result == 0 || (result < 0 && w->is_doomed));
        if (!result) {
                check_entries(&w->f, run, asked->first);
                w->runs++;
        }
        free(asked);
}

static void fetch_some(struct follower *w, uint64_t first)
{
        struct asked *asked;

        if (w->fetches == PERSISTENCE_FETCHES_MAX)
                return;
        asked = MEMORY_NEW(struct asked);
        *asked = (struct asked){w, first};
        w->fetches++;
        persistence_fetch(w->f.p, first, first + os_sim_choose(w->f.os, 60), os_sim_choose(w->f.os, 30000),
                on_fetched, asked);
}

static void read_some(struct follower *w, uint64_t first)
{
        struct fixture *f = &w->f;
        struct persistence_entries run;
        int r = persistence_entries_read(f->p, first, first + os_sim_choose(f->os, 60),
                1 + (unsigned)os_sim_choose(f->os, 40), os_sim_choose(f->os, 30000), &run);

        if (r == PERSISTENCE_NOT_FOUND) {
                assert_true(first > f->entry_count);
        } else if (r == PERSISTENCE_COLD) {
                w->cold_runs++;
                fetch_some(w, first);
        } else {
                assert_int_equal(r, 0);
                check_entries(f, &run, first);
                assert_true(run.has_chain || first + run.count - 1 > persistence_synced_index(f->p));
        }
}

static void mark_some(struct follower *w, uint64_t index)
{
        struct record_chain chain;
        uint64_t term;

        if (index <= persistence_synced_index(w->f.p))
                check_mark(&w->f, index);
        else
                assert_int_equal(persistence_entry_mark(w->f.p, index, &term, &chain), PERSISTENCE_NOT_FOUND);
}

/* The whole log against the model, entry by entry. */
static void check_entries_all(struct follower *w)
{
        struct fixture *f = &w->f;
        uint64_t next = 1;

        assert_int_equal(persistence_last_index(f->p), f->entry_count);
        assert_int_equal(persistence_appended_position(f->p), f->event_count);
        while (next <= f->entry_count) {
                struct persistence_entries run;
                int r = persistence_entries_read(f->p, next, UINT64_MAX, MANY, MIB, &run);

                if (r == PERSISTENCE_COLD) {
                        mark_some(w, next);
                        next++;
                        continue;
                }
                assert_int_equal(r, 0);
                check_entries(f, &run, next);
                next += run.count;
        }
        for (next = 1; next <= f->entry_count; next += 40) {
                while (w->fetches == PERSISTENCE_FETCHES_MAX)
                        assert_true(os_sim_step(f->os));
                fetch_some(w, next);
        }
        while (w->fetches)
                assert_true(os_sim_step(f->os));
}

/* Before `end` an event's id is known, behind it is not (G6). */
static void check_id(const struct fixture *f, uint64_t position, uint64_t end)
{
        const struct model_event *m = &f->events[position];
        struct event_id id = model_id(position, m->salt);
        struct persistence_id found;
        char name[64];
        int r;

        if (position >= f->event_count)
                return;
        r = persistence_find_id(f->p, &id, name_hash(stream_bytes(m->stream, name)), &found);
        assert_int_equal(r, position < end ? 0 : PERSISTENCE_NOT_FOUND);
        if (!r)
                assert_int_equal(found.position, position);
}

static void check_committed_head(const struct fixture *f, uint32_t stream, uint64_t end)
{
        struct persistence_head head;
        uint64_t at = end;
        char name[64];
        int r = persistence_stream_head(f->p, stream_bytes(stream, name), &head);

        while (at > 0 && f->events[at - 1].stream != stream)
                at--;
        assert_int_equal(r, at ? 0 : PERSISTENCE_NOT_FOUND);
        if (!r)
                assert_int_equal(head.last_position, at - 1);
        if (!r)
                assert_int_equal(head.revision, f->events[at - 1].revision);
}

/* What is committed is what readers see, and no more (G9). */
static void check_events(struct follower *w)
{
        struct fixture *f = &w->f;
        struct wakeup wakeup = {0};
        uint64_t end = persistence_next_position(f->p), at = end ? os_sim_choose(f->os, end) : 0;
        struct persistence_reader *r = open_reader(f, BYTES_EMPTY, at, false, &wakeup);
        struct event_view e;
        int result;

        assert_int_equal(end, w->told < f->entry_count ? f->entries[w->told].first_position : f->event_count);
        while ((result = next_event(f, r, &wakeup, &e)) == 0)
                check_event(f, &e, at++);
        assert_int_equal(result, PERSISTENCE_END);
        assert_int_equal(at, end);
        persistence_reader_close(&r);
        check_id(f, f->event_count ? os_sim_choose(f->os, f->event_count) : 0, end);
        check_committed_head(f, (uint32_t)os_sim_choose(f->os, MODEL_STREAMS), end);
}

/* ---- writing ---- */

/* Of the next entry: terms rise along the log, but what replaces an entry may have a lower one than that had.
 */
static void choose_term(struct fixture *f)
{
        f->term = (f->entry_count ? f->entries[f->entry_count - 1].term : 1) + os_sim_choose(f->os, 3);
}

static void append_run(struct follower *w)
{
        struct fixture *f = &w->f;
        uint64_t count = 1 + os_sim_choose(f->os, RUN_MAX);

        for (; count > 0 && f->entry_count < 2000; count--) {
                char text[CONFIGURATION_SIZE];

                if (os_sim_choose(f->os, 12) == 0)
                        f->term += 1 + os_sim_choose(f->os, 3);
                if (w->is_plain)
                        fixture_append(f, 0);
                else if (os_sim_choose(f->os, 10) == 0)
                        fixture_append_configuration(
                                f, configuration_of(f->entry_count + 1, f->salt + 1, text));
                else
                        fixture_append(f, (uint32_t)os_sim_choose(f->os, 5));
        }
}

static void write_some(struct follower *w)
{
        if (persistence_writes(w->f.p) == PERSISTENCE_WRITES_MAX)
                return;
        fixture_write(&w->f, os_sim_choose(w->f.os, 3) == 0);
        w->has_failed = w->f.write_result != 0;
}

static void commit_some(struct follower *w)
{
        struct fixture *f = &w->f;

        if (w->told >= f->acknowledged)
                return;
        w->told += 1 + os_sim_choose(f->os, f->acknowledged - w->told);
        fixture_commit(f, w->told);
}

/* A new leader's log differs from some entry on. */
static void truncate_some(struct follower *w)
{
        struct fixture *f = &w->f;
        uint64_t index;

        if (f->entry_count == f->committed)
                return;
        index = f->committed + 1 + os_sim_choose(f->os, f->entry_count - f->committed);
        if (os_sim_choose(f->os, 4) == 0)
                index = f->committed + 1;
        /* From here on a crash may have cut it or not, or cut some of it. */
        f->acknowledged = MIN(f->acknowledged, index - 1);
        if (persistence_truncate(f->p, index) < 0) {
                w->has_failed = true;
                f->acknowledged = MIN(f->acknowledged, index - 1);
                return;
        }
        f->event_count = f->entries[index - 1].first_position;
        f->entry_count = index - 1;
        f->acknowledged = MIN(f->acknowledged, index - 1);
        choose_term(f);
        w->truncations++;
}

/* ---- lives ---- */

/* The log as a start has found it. */
static void adopt(struct follower *w)
{
        struct fixture *f = &w->f;
        const struct persistence_recovered *rec = persistence_recovered(f->p);
        uint64_t last = rec->base_index + rec->entry_count;

        assert_in_range(last, f->acknowledged, f->entry_count);
        assert_int_equal(persistence_synced_index(f->p), last);
        if (last < f->entry_count)
                f->event_count = f->entries[last].first_position;
        f->entry_count = last;
        f->acknowledged = last;
        check_recovered(f);
        choose_term(f);
        w->told = rec->base_index;
        assert_true(w->told <= f->committed);
        w->has_failed = false;
        w->is_doomed = false;
        w->fetches = 0;
        check_entries_all(w);
}

static void crash(struct follower *w)
{
        if (os_sim_choose(w->f.os, 3))
                os_sim_crash(w->f.os);
        else
                os_sim_kill(w->f.os);
        os_sim_set_faults(w->f.os, &(struct os_sim_faults){.reads_are_cold = true});
        w->crashes++;
        fixture_open(&w->f);
        adopt(w);
}

/* One of the next writes or syncs is the last: the end comes inside of what is done then. */
static void doom(struct follower *w)
{
        struct os_sim_faults faults = {.reads_are_cold = true};
        uint64_t at = 1 + os_sim_choose(w->f.os, CRASH_WITHIN_SYNCS);

        switch (os_sim_choose(w->f.os, 5)) {
        case 0:
                faults.write_fails_at = at;
                break;
        case 1:
        case 2:
                faults.dir_sync_fails_at = at;
                break;
        default:
                faults.sync_fails_at = at;
        }
        os_sim_set_faults(w->f.os, &faults);
        w->is_doomed = true;
        if (os_sim_choose(w->f.os, 3) == 0)
                os_sim_run_for(w->f.os, os_sim_choose(w->f.os, 3000000));
        else
                truncate_some(w);
        crash(w);
}

/* The power fails between the write of a group and its sync: any part of it may be there. */
static void tear(struct follower *w)
{
        while (persistence_writes(w->f.p))
                assert_true(os_sim_step(w->f.os));
        append_run(w);
        os_sim_set_faults(w->f.os, &(struct os_sim_faults){.reads_are_cold = true, .sync_fails_at = 1});
        w->is_doomed = true;
        fixture_write(&w->f, true);
        crash(w);
}

static void reopen(struct follower *w)
{
        struct fixture *f = &w->f;
        uint64_t submitted = f->submitted_count ? f->submitted[f->submitted_count - 1] : f->acknowledged;

        if (w->has_failed || f->write_result)
                return;
        fixture_close(f);
        assert_int_equal(w->fetches, 0);
        assert_true(f->acknowledged >= submitted);
        fixture_open(f);
        adopt(w);
        assert_int_equal(f->entry_count, f->acknowledged);
}

static void run_some(struct follower *w)
{
        if (os_sim_choose(w->f.os, 2))
                os_sim_step(w->f.os);
        else
                os_sim_run_for(w->f.os, os_sim_choose(w->f.os, 3000000));
}

static void end_life(struct follower *w)
{
        switch (os_sim_choose(w->f.os, 7)) {
        case 0:
                reopen(w);
                break;
        case 1:
                crash(w);
                break;
        case 2:
                doom(w);
                break;
        case 3:
                tear(w);
                break;
        default: /* not yet */
                break;
        }
}

static void step(struct follower *w)
{
        struct fixture *f = &w->f;
        uint64_t some = 1 + os_sim_choose(f->os, f->entry_count + 2);

        switch (os_sim_choose(f->os, 12)) {
        case 0:
        case 1:
        case 2:
                append_run(w);
                break;
        case 3:
        case 4:
                write_some(w);
                break;
        case 5:
                run_some(w);
                break;
        case 6:
                commit_some(w);
                break;
        case 7:
        case 8:
                truncate_some(w);
                break;
        case 9:
                fetch_some(w, some);
                read_some(w, some);
                mark_some(w, some);
                break;
        case 10:
                check_events(w);
                break;
        default:
                end_life(w);
        }
        if (w->has_failed || f->write_result)
                crash(w);
}

static void run_seed(uint64_t seed, struct follower *totals)
{
        struct follower w = {0};
        unsigned i;

        fixture_init(&w.f, 7000 + seed);
        w.f.event_size = 50 + (uint32_t)os_sim_choose(w.f.os, 1500);
        w.f.options.segment_size = (6 + os_sim_choose(w.f.os, seed % 2 ? 6 : 60)) * KIB;
        w.is_plain = seed % 3 == 0;
        os_sim_set_faults(w.f.os, &(struct os_sim_faults){.reads_are_cold = true});
        fixture_open(&w.f);
        for (i = 0; i < STEPS; i++)
                step(&w);
        check_entries_all(&w);
        fixture_fini(&w.f);
        totals->crashes += w.crashes;
        totals->truncations += w.truncations;
        totals->runs += w.runs;
        totals->cold_runs += w.cold_runs;
}

TEST(follower, that_replaces_entries_and_crashes_has_a_prefix_and_never_a_mixture_G2)
{
        const char *only = getenv("FOLLOWER_SEED"); /* to look at one that failed */
        struct follower totals = {0};
        uint64_t seed;

        for (seed = 0; seed < SEEDS; seed++)
                run_seed(only ? strtoull(only, NULL, 10) : seed, &totals);
        print_message("%u crashes, %u truncations, %u runs fetched, %u cold\n", totals.crashes,
                totals.truncations, totals.runs, totals.cold_runs);
        /* The seeds reach what the test is about. */
        assert_true(totals.crashes > SEEDS * 2);
        assert_true(totals.truncations > SEEDS * 5);
        assert_true(totals.runs > SEEDS * 5);
        assert_true(totals.cold_runs > SEEDS / 10);
}

/* The first record of a group is lost and those behind it are not, which a disk may do. One of a lower term
 * and the same size takes its place: what stood behind must be gone, or it would follow. */
TEST(follower, after_a_torn_write_never_finds_what_stood_behind_it_G13)
{
        static const uint8_t zeros[RECORD_HEADER_SIZE];
        struct fixture f;
        struct os_file *file;
        char path[256];
        unsigned i;

        fixture_init(&f, 1);
        fixture_open(&f);
        fixture_append(&f, 0);
        fixture_append(&f, 0);
        fixture_write(&f, true);
        f.term = 5;
        for (i = 0; i < 6; i++)
                fixture_append(&f, 0);
        fixture_write(&f, true);
        snprintf(path, sizeof path, "%s/log/%020d.seg", persistence_store_path(f.p), 1);
        os_sim_kill(f.os);
        assert_int_equal(os_file_open(f.os, path, OS_OPEN_WRITE, &file), 0);
        assert_int_equal(
                os_file_write(file, bytes_of(zeros, sizeof zeros), 4096 + 2 * RECORD_HEADER_SIZE), 0);
        assert_int_equal(os_file_sync(file), 0);
        os_file_close(&file);
        f.acknowledged = 2; /* as if the sync of the second group had not ended */
        fixture_open(&f);
        assert_int_equal(persistence_last_index(f.p), 2);
        f.entry_count = 2;
        f.term = 2;
        fixture_append(&f, 0);
        fixture_write(&f, true);
        os_sim_kill(f.os);
        fixture_open(&f);
        assert_int_equal(persistence_last_index(f.p), 3);
        check_mark(&f, 3);
        fixture_fini(&f);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                TEST_ROW(follower, that_replaces_entries_and_crashes_has_a_prefix_and_never_a_mixture_G2),
                TEST_ROW(follower, after_a_torn_write_never_finds_what_stood_behind_it_G13),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
