/* Power cuts and kills at every point (G1, G2, G13): what was reported done is there afterwards, nothing else
 * than what was appended is, and the log is dense. */
#include "support.h"

/* Memory of what a crash abandons is never given back: that is the crash. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
        return "detect_leaks=0";
}

/* The simulated machine has one thread, of which the sanitizer of threads has little to say and takes minutes
 * for it; the other finds in a third of the rounds what it finds. */
#if defined(__SANITIZE_THREAD__)
enum { ROUNDS = 30, LIVES = 4 };
#elif defined(__SANITIZE_ADDRESS__)
enum { ROUNDS = 100, LIVES = 4 };
#else
enum { ROUNDS = 300, LIVES = 4 };
#endif

/* One life of a server: random work until it has done so many steps. */
static void live(struct fixture *f, uint64_t steps)
{
        for (; steps > 0 && f->entry_count < 3000; steps--) {
                switch (os_sim_choose(f->os, 8)) {
                case 0:
                case 1:
                case 2:
                        fixture_append(f, (uint32_t)os_sim_choose(f->os, 12));
                        break;
                case 3:
                case 4:
                        if (persistence_writes(f->p) < PERSISTENCE_WRITES_MAX)
                                fixture_write(f, os_sim_choose(f->os, 2));
                        break;
                case 5:
                        os_sim_step(f->os);
                        break;
                case 6:
                        os_sim_run_for(f->os, os_sim_choose(f->os, 2000000));
                        break;
                default:
                        if (f->acknowledged > f->committed)
                                fixture_commit(
                                        f, f->committed + 1 +
                                                   os_sim_choose(f->os, f->acknowledged - f->committed));
                        if (os_sim_choose(f->os, 20) == 0 && f->entry_count > f->committed) {
                                f->term++;
                                fixture_truncate(
                                        f, f->committed + 1 +
                                                   os_sim_choose(f->os, f->entry_count - f->committed));
                        }
                        break;
                }
        }
}

static void run_lives(uint64_t seed, bool may_crash)
{
        struct fixture f;
        unsigned life;

        fixture_init(&f, seed);
        f.options.segment_size = seed % 3 ? 64 * KIB : 16 * KIB;
        for (life = 0; life < LIVES; life++) {
                fixture_open(&f);
                fixture_adopt_recovered(&f);
                if (life == 0 || os_sim_choose(f.os, 3) == 0)
                        check_all(&f);
                live(&f, os_sim_choose(f.os, 400));
                f.committed = 0;
                if (may_crash && os_sim_choose(f.os, 4))
                        os_sim_crash(f.os);
                else if (os_sim_choose(f.os, 2))
                        os_sim_kill(f.os);
                else {
                        fixture_close(&f);
                        f.acknowledged = MIN(f.acknowledged, f.entry_count);
                }
        }
        fixture_open(&f);
        fixture_adopt_recovered(&f);
        check_all(&f);
        fixture_fini(&f);
}

TEST(crash, at_any_point_loses_nothing_acknowledged_G2)
{
        uint64_t seed;

        for (seed = 0; seed < ROUNDS; seed++)
                run_lives(seed, true);
}

TEST(kill, at_any_point_loses_nothing_acknowledged_G2)
{
        uint64_t seed;

        for (seed = 0; seed < ROUNDS / 3; seed++)
                run_lives(10000 + seed, false);
}

/* Everything from the first call on: the machine is cut while node and store are being made. */
TEST(crash, while_a_store_is_made_is_never_fatal)
{
        uint64_t seed;

        for (seed = 0; seed < 100; seed++) {
                struct fixture f;
                unsigned i;

                fixture_init(&f, 20000 + seed);
                for (i = 0; i < 5; i++) {
                        /* The n-th write or sync fails, then the power goes: so every step is the last once.
                         */
                        struct os_sim_faults faults = {.sync_fails_at = 1 + seed % 20};
                        int r;

                        if (seed % 2)
                                faults = (struct os_sim_faults){.write_fails_at = 1 + seed % 12};
                        os_sim_set_faults(f.os, &faults);
                        r = fixture_try_open(&f);
                        assert_true(r <= 0);
                        os_sim_set_faults(f.os, &(struct os_sim_faults){0});
                        os_sim_crash(f.os);
                }
                fixture_open(&f);
                assert_int_equal(persistence_last_index(f.p), 0);
                fixture_put(&f, 3);
                check_all(&f);
                fixture_fini(&f);
        }
}

/* A vote that was saved stays; one that was not is the old or the new. */
TEST(crash, keeps_the_vote)
{
        uint64_t seed;

        for (seed = 0; seed < 100; seed++) {
                struct fixture f;
                struct os_sim_faults faults = {.sync_fails_at = 1 + seed % 2};
                const struct persistence_recovered *rec;

                fixture_init(&f, 30000 + seed);
                fixture_open(&f);
                assert_int_equal(persistence_save_vote(f.p, 5, 2), 0);
                os_sim_set_faults(f.os, &faults);
                assert_true(persistence_save_vote(f.p, 6, 3) < 0);
                os_sim_set_faults(f.os, &(struct os_sim_faults){0});
                os_sim_crash(f.os);
                fixture_open(&f);
                rec = persistence_recovered(f.p);
                assert_true(
                        (rec->term == 5 && rec->voted_for == 2) || (rec->term == 6 && rec->voted_for == 3));
                fixture_fini(&f);
        }
}

/* A save that is cut off, then the start after it, and the one after that: one slot is right at any time, and
 * a vote that somebody may have been told of never goes back. */
TEST(crash, again_and_again_while_the_vote_is_saved_leaves_a_vote)
{
        uint64_t seed;

        for (seed = 0; seed < 40; seed++) {
                struct os_sim_faults faults = {0};
                uint64_t term = 1, told = 0;
                struct fixture f;
                unsigned i;

                fixture_init(&f, 50000 + seed);
                fixture_open(&f);
                assert_int_equal(persistence_save_vote(f.p, term, 1), 0);
                for (i = 0; i < 8; i++) {
                        *(seed % 2 ? &faults.write_fails_at : &faults.sync_fails_at) =
                                1 + os_sim_choose(f.os, 4);
                        os_sim_set_faults(f.os, &faults);
                        if (f.p && persistence_save_vote(f.p, ++term, 1) == 0)
                                told = term;
                        if (os_sim_choose(f.os, 2))
                                os_sim_crash(f.os);
                        else
                                os_sim_kill(f.os);
                        /* The start may be cut off as well. */
                        faults.write_fails_at = seed % 2 ? os_sim_choose(f.os, 4) : 0;
                        faults.sync_fails_at = seed % 2 ? 0 : os_sim_choose(f.os, 4);
                        os_sim_set_faults(f.os, &faults);
                        f.p = NULL;
                        if (fixture_try_open(&f) != 0) {
                                f.p = NULL;
                                os_sim_crash(f.os);
                        }
                        os_sim_set_faults(f.os, &(struct os_sim_faults){0});
                        if (!f.p)
                                fixture_open(&f);
                        else
                                persistence_start(f.p);
                        assert_true(persistence_recovered(f.p)->term >= told);
                        /* What an open log says of its term counts as told. */
                        told = term = persistence_recovered(f.p)->term;
                }
                fixture_fini(&f);
        }
}

/* A disk that lies about syncs must be found out: the test of the test. */
TEST(crash, with_a_lying_disk_loses_acknowledged_entries)
{
        unsigned lost = 0;
        uint64_t seed;

        for (seed = 0; seed < 20; seed++) {
                struct fixture f;
                struct os_sim_faults faults = {.sync_lies = true};
                int r;

                fixture_init(&f, 40000 + seed);
                fixture_open(&f);
                os_sim_set_faults(f.os, &faults);
                fixture_append(&f, 3);
                fixture_write(&f, true);
                os_sim_crash(f.os);
                os_sim_set_faults(f.os, &(struct os_sim_faults){0});
                r = fixture_try_open(&f);
                lost += r != 0 || persistence_last_index(f.p) < f.acknowledged;
                if (r)
                        f.p = NULL;
                fixture_fini(&f);
        }
        assert_true(lost > 0);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                TEST_ROW(crash, at_any_point_loses_nothing_acknowledged_G2),
                TEST_ROW(kill, at_any_point_loses_nothing_acknowledged_G2),
                TEST_ROW(crash, while_a_store_is_made_is_never_fatal),
                TEST_ROW(crash, keeps_the_vote),
                TEST_ROW(crash, again_and_again_while_the_vote_is_saved_leaves_a_vote),
                TEST_ROW(crash, with_a_lying_disk_loses_acknowledged_entries),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
