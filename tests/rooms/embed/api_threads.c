/* libnilo from several threads at once: what they append is all there once, in one order, and followers miss
 * nothing (G4, G5, G10). Meant for TSan too. */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "support.h"

#if defined(__SANITIZE_THREAD__)
/* libuv closes descriptors by system calls that the sanitizer does not see, so that it takes the next file
 * with the same number, on another thread, for the one that an ended loop has closed. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
        return "race:epoll_create1\nrace:epoll_ctl\nrace:uv_pipe\nrace:uv_async_init\n";
}
#endif

enum { WRITERS = 4, FOLLOWERS = 3, APPENDS = 150 };

struct shared {
        struct nilo *nilo;
        atomic_uint next_writer;
        atomic_uint next_follower;
        atomic_uint conflicts;
        unsigned total; /* events that will be there, after the first */
        atomic_bool has_failed;
        char problem[512];
};

static void note_failure(struct shared *s, const char *what)
{
        if (!atomic_exchange(&s->has_failed, true))
                snprintf(s->problem, sizeof s->problem, "%s: %s", what, nilo_problem());
}

static void join_all(struct shared *s, pthread_t *threads, unsigned count)
{
        for (unsigned i = 0; i < count; i++)
                assert_int_equal(pthread_join(threads[i], NULL), 0);
        if (s->has_failed)
                fail_msg("%s", s->problem);
}

/* Appends one to three events at a time to a stream of its own, each on top of the last. */
static void *write_own(void *arg)
{
        struct shared *s = arg;
        char stream[32];
        int64_t last = NILO_NONE;

        snprintf(stream, sizeof stream, "writer-%u", atomic_fetch_add(&s->next_writer, 1));
        for (unsigned i = 0; i < APPENDS; i++) {
                struct nilo_event e[3] = {event_of("A", "{}"), event_of("B", "{}"), event_of("C", "{}")};
                struct nilo_appended a;

                if (nilo_append(s->nilo, stream, last, e, 1 + i % 3, &a)) {
                        note_failure(s, "append");
                        return NULL;
                }
                if (a.last_revision != last + 1 + (int64_t)(i % 3))
                        note_failure(s, "revision");
                last = a.last_revision;
        }
        return NULL;
}

/* Follows everything until it has seen `total` events behind the first; positions must be 0, 1, 2, ... */
static void *follow_all(void *arg)
{
        struct shared *s = arg;
        struct nilo_reader *reader = NULL;
        struct nilo_recorded e;
        unsigned which = atomic_fetch_add(&s->next_follower, 1);

        if (nilo_read(s->nilo, &(struct nilo_read_options){0}, &reader)) {
                note_failure(s, "read");
                return NULL;
        }
        for (uint64_t n = 0; n <= s->total && !s->has_failed;) {
                enum nilo_result r = nilo_next(reader, which == 0 ? 5 : 2000, &e);

                if (r == NILO_END && which == 0)
                        continue;
                if (r || e.position != n++)
                        note_failure(s, r ? "next" : "a gap or a repeat");
        }
        nilo_reader_close(&reader);
        return NULL;
}

TEST(threads, write_and_follow_at_once)
{
        struct shared s = {.nilo = open_memory(), .total = WRITERS * APPENDS * 2};
        pthread_t threads[WRITERS + FOLLOWERS];

        for (unsigned i = 0; i < WRITERS + FOLLOWERS; i++)
                assert_int_equal(
                        pthread_create(&threads[i], NULL, i < FOLLOWERS ? follow_all : write_own, &s), 0);
        join_all(&s, threads, WRITERS + FOLLOWERS);
        assert_int_equal(count_events(s.nilo, &(struct nilo_read_options){0}, NILO_END), s.total + 1);
        for (unsigned i = 0; i < WRITERS; i++) {
                char stream[32];

                snprintf(stream, sizeof stream, "writer-%u", i);
                assert_int_equal(count_stream(s.nilo, stream), APPENDS * 2);
        }
        nilo_close(&s.nilo);
}

/* All on one stream: each takes the revision that a conflict names, and tries again. */
static void *write_shared(void *arg)
{
        struct shared *s = arg;
        int64_t expected = NILO_NONE;

        for (unsigned done = 0; done < 50 && !s->has_failed;) {
                struct nilo_event e = event_of("A", "{}");
                struct nilo_appended a;
                enum nilo_result r = nilo_append(s->nilo, "shared", expected, &e, 1, &a);

                if (r == NILO_OK) {
                        expected = a.last_revision;
                        done++;
                } else if (r == NILO_CONFLICT) {
                        expected = a.actual_revision < 0 ? NILO_NONE : a.actual_revision;
                        s->conflicts++;
                } else {
                        note_failure(s, "append");
                }
        }
        return NULL;
}

TEST(threads, optimistic_writers_of_one_stream_lose_nothing)
{
        struct shared s = {.nilo = open_memory()};
        pthread_t threads[WRITERS];

        for (unsigned i = 0; i < WRITERS; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, write_shared, &s), 0);
        join_all(&s, threads, WRITERS);
        assert_int_equal(count_stream(s.nilo, "shared"), WRITERS * 50);
        print_message("%u conflicts\n", atomic_load(&s.conflicts));
        nilo_close(&s.nilo);
}

/* ---- followers that sleep ---- */

static void *wait_for_one(void *arg)
{
        struct shared *s = arg;
        struct nilo_reader *reader = NULL;
        struct nilo_recorded e;
        char stream[32];

        snprintf(stream, sizeof stream, "quiet-%u", atomic_fetch_add(&s->next_follower, 1));
        if (nilo_read(s->nilo, &(struct nilo_read_options){.stream = stream}, &reader) ||
                nilo_next(reader, -1, &e) || strcmp(e.stream, stream) != 0)
                note_failure(s, "wait");
        nilo_reader_close(&reader);
        return NULL;
}

TEST(threads, that_wait_for_streams_to_come_are_woken)
{
        struct shared s = {.nilo = open_memory()};
        pthread_t threads[8];

        for (unsigned i = 0; i < 8; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, wait_for_one, &s), 0);
        for (unsigned i = 0; i < 8; i++) {
                char stream[32];

                snprintf(stream, sizeof stream, "quiet-%u", i);
                append_n(s.nilo, stream, 1);
        }
        join_all(&s, threads, 8);
        nilo_close(&s.nilo);
}

/* G8: who was told a position by another thread reads nothing older. */
static void *read_after(void *arg)
{
        struct shared *s = arg;
        struct nilo_read_options options = {
                .stream = "late", .has_after = true, .after = s->total, .wait_ms_max = 5000};
        struct nilo_reader *reader = NULL;
        struct nilo_recorded e;
        bool has_it = false;

        if (nilo_read(s->nilo, &options, &reader))
                note_failure(s, "read");
        while (reader && !nilo_next(reader, 0, &e))
                has_it |= e.position == s->total;
        if (!has_it)
                note_failure(s, "the event is not there");
        nilo_reader_close(&reader);
        return NULL;
}

TEST(threads, that_read_after_a_position_wait_for_it_G8)
{
        struct shared s = {.nilo = open_memory()};
        struct nilo_read_options options = {.stream = "late", .has_after = true, .wait_ms_max = 20};
        struct nilo_event e = event_of("Late", "{}");
        struct nilo_reader *reader = NULL;
        struct nilo_appended a;
        pthread_t threads[4];

        assert_int_equal(nilo_append(s.nilo, "late", NILO_NONE, &e, 1, &a), NILO_OK);
        options.after = a.position;
        assert_int_equal(nilo_read(s.nilo, &options, &reader), NILO_OK);
        nilo_reader_close(&reader);
        options.after = s.total = (unsigned)a.position + 3;
        assert_int_equal(nilo_read(s.nilo, &options, &reader), NILO_UNAVAILABLE);
        assert_null(reader);
        assert_non_null(strstr(nilo_problem(), "is not here yet"));
        options.stream = NULL;
        options.type_prefix = "L"; /* whose filter is given up too */
        assert_int_equal(nilo_read(s.nilo, &options, &reader), NILO_UNAVAILABLE);
        for (unsigned i = 0; i < 4; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, read_after, &s), 0);
        append_n(s.nilo, "other", 2);
        usleep(10000);
        assert_int_equal(nilo_append(s.nilo, "late", NILO_ANY, &e, 1, &a), NILO_OK);
        assert_int_equal(a.position, s.total);
        join_all(&s, threads, 4);
        nilo_close(&s.nilo);
}

/* A filter that finds nothing in a long log, again and again, with short waits: the wait may end anywhere in
 * it. */
static void *search_in_vain(void *arg)
{
        struct shared *s = arg;

        for (unsigned i = 0; i < 20 && !s->has_failed; i++) {
                struct nilo_reader *reader = NULL;
                struct nilo_recorded e;

                if (nilo_read(s->nilo, &(struct nilo_read_options){.type_prefix = "Never"}, &reader) ||
                        nilo_next(reader, 1, &e) != NILO_END)
                        note_failure(s, "search");
                nilo_reader_close(&reader);
        }
        return NULL;
}

TEST(threads, that_search_long_do_not_keep_others_from_writing_G18)
{
        struct shared s = {.nilo = open_memory()};
        pthread_t threads[2];

        append_n(s.nilo, "order-1", 60000);
        assert_int_equal(pthread_create(&threads[0], NULL, search_in_vain, &s), 0);
        assert_int_equal(pthread_create(&threads[1], NULL, write_own, &s), 0);
        join_all(&s, threads, 2);
        nilo_close(&s.nilo);
}

/* ---- too much at once ---- */

enum { BIG = 700 * 1024 };

static void *write_big(void *arg)
{
        struct shared *s = arg;
        struct nilo_event e = {.type = "Big", .data = calloc(1, BIG), .data_size = BIG, .is_binary = true};

        for (unsigned i = 0; i < 40; i++) {
                enum nilo_result r = nilo_append(s->nilo, "big", NILO_ANY, &e, 1, NULL);

                if (r == NILO_BUSY)
                        s->conflicts++;
                else if (r == NILO_OK)
                        atomic_fetch_add(&s->next_writer, 1);
                else
                        note_failure(s, "append");
        }
        free((void *)e.data);
        return NULL;
}

TEST(threads, that_ask_for_too_much_are_told_busy_and_nothing_of_it_is_written_G18)
{
        char data[256];
        struct shared s = {0};
        pthread_t threads[6];

        directory_make(data);
        assert_int_equal(nilo_open(&(struct nilo_options){.data = data, .memory_size = 1}, &s.nilo), NILO_OK);
        for (unsigned i = 0; i < 6; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, write_big, &s), 0);
        join_all(&s, threads, 6);
        print_message("%u busy\n", atomic_load(&s.conflicts));
        assert_true(s.conflicts > 0);
        assert_true(s.next_writer > 0);
        assert_int_equal(count_stream(s.nilo, "big"), s.next_writer);
        nilo_close(&s.nilo);
        directory_remove(data);
}

/* ---- several stores ---- */

static void *open_write_close(void *arg)
{
        struct shared *s = arg;

        for (unsigned i = 0; i < 5; i++) {
                struct nilo *nilo = NULL;
                struct nilo_event e = event_of("A", "{}");

                if (nilo_open(&(struct nilo_options){.memory_only = true}, &nilo) ||
                        nilo_append(nilo, "order-1", NILO_NONE, &e, 1, NULL))
                        note_failure(s, "open");
                nilo_close(&nilo);
        }
        return NULL;
}

TEST(threads, may_each_have_a_store)
{
        struct shared s = {0};
        pthread_t threads[4];

        for (unsigned i = 0; i < 4; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, open_write_close, &s), 0);
        join_all(&s, threads, 4);
}

/* ---- the host's threads ---- */

TEST(host, keeps_its_signals_to_itself)
{
        struct nilo *nilo;
        sigset_t usr1, pending;
        int sig;

        sigemptyset(&usr1);
        sigaddset(&usr1, SIGUSR1);
        nilo = open_memory(); /* made while the signal may come */
        pthread_sigmask(SIG_BLOCK, &usr1, NULL);
        kill(getpid(), SIGUSR1); /* a thread of the library that took it would end the process */
        append_n(nilo, "order-1", 10);
        sigpending(&pending);
        assert_true(sigismember(&pending, SIGUSR1));
        assert_int_equal(sigwait(&usr1, &sig), 0);
        pthread_sigmask(SIG_UNBLOCK, &usr1, NULL);
        nilo_close(&nilo);
}

TEST(host, is_not_interrupted_by_stores_that_come_and_go)
{
        const struct timeval wait = {.tv_usec = 150 * 1000};
        int ends[2];
        char byte;

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
        setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
        for (unsigned i = 0; i < 5; i++) {
                struct nilo *nilo = open_memory();

                append_n(nilo, "order-1", 10);
                nilo_close(&nilo);
                assert_int_equal(recv(ends[0], &byte, 1, 0), -1);
                assert_int_equal(errno, EAGAIN); /* not EINTR */
        }
        close(ends[0]);
        close(ends[1]);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(threads, write_and_follow_at_once),
                TEST_ROW(threads, optimistic_writers_of_one_stream_lose_nothing),
                TEST_ROW(threads, that_wait_for_streams_to_come_are_woken),
                TEST_ROW(threads, that_read_after_a_position_wait_for_it_G8),
                TEST_ROW(threads, that_search_long_do_not_keep_others_from_writing_G18),
                TEST_ROW(threads, that_ask_for_too_much_are_told_busy_and_nothing_of_it_is_written_G18),
                TEST_ROW(threads, may_each_have_a_store),
                TEST_ROW(host, keeps_its_signals_to_itself),
                TEST_ROW(host, is_not_interrupted_by_stores_that_come_and_go),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
