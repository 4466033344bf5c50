/* What the tests of this room share: a directory of its own, events, and readers that check order. */
#ifndef TESTS_EMBED_SUPPORT_H
#define TESTS_EMBED_SUPPORT_H

#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "nilo/nilo.h"
#include "test.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* A new directory; $NILO_TEST_DIR chooses the disk. */
static inline void directory_make(char ret[256])
{
        const char *top = getenv("NILO_TEST_DIR");

        snprintf(ret, 256, "%s/nilo-embed-XXXXXX", top ? top : "/tmp");
        assert_non_null(mkdtemp(ret));
}

static inline int directory_remove_one(const char *path, const struct stat *s, int type, struct FTW *ftw)
{
        (void)s;
        (void)type;
        (void)ftw;
        return remove(path);
}

static inline void directory_remove(const char *path)
{
        nftw(path, directory_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline struct nilo_event event_of(const char *type, const char *data)
{
        return (struct nilo_event){.type = type, .data = data, .data_size = strlen(data)};
}

static inline struct nilo *open_at(const char *data)
{
        struct nilo *nilo = NULL;

        if (nilo_open(&(struct nilo_options){.data = data}, &nilo))
                fail_msg("%s", nilo_problem());
        return nilo;
}

static inline struct nilo *open_memory(void)
{
        struct nilo *nilo = NULL;

        if (nilo_open(&(struct nilo_options){.memory_only = true}, &nilo))
                fail_msg("%s", nilo_problem());
        return nilo;
}

static inline void append_n(struct nilo *nilo, const char *stream, unsigned n)
{
        for (unsigned done = 0; done < n;) {
                struct nilo_event events[100];
                unsigned count = n - done < ARRAY_SIZE(events) ? n - done : (unsigned)ARRAY_SIZE(events);

                for (unsigned i = 0; i < count; i++)
                        events[i] = event_of("Counted", "{\"n\":1}");
                if (nilo_append(nilo, stream, NILO_ANY, events, count, NULL))
                        fail_msg("%s", nilo_problem());
                done += count;
        }
}

/* Number of events of a read; checks that numbers go up, or down, by one. Ends with `end`. */
static inline unsigned count_events(struct nilo *nilo, const struct nilo_read_options *options, enum nilo_result end)
{
        struct nilo_reader *reader = NULL;
        struct nilo_recorded e;
        enum nilo_result r = nilo_read(nilo, options, &reader);
        int64_t last = -1;
        unsigned n = 0;

        while (!r && !(r = nilo_next(reader, 0, &e))) {
                int64_t number = options->stream ? e.revision : (int64_t)e.position;
                bool is_filtered = options->stream_prefix || options->type_prefix || options->stream_regex ||
                                   options->type_regex;

                if (n && !is_filtered)
                        assert_int_equal(number, options->is_backward ? last - 1 : last + 1);
                last = number;
                n++;
        }
        if (r != end)
                fail_msg("%s: %s", nilo_result_name(r), nilo_problem());
        nilo_reader_close(&reader);
        assert_null(reader);
        return n;
}

static inline unsigned count_stream(struct nilo *nilo, const char *stream)
{
        return count_events(nilo, &(struct nilo_read_options){.stream = stream}, NILO_END);
}

static inline uint64_t now_ms(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* The first file below `directory`, by name, whose name ends so. */
struct file_search {
        const char *ending;
        char path[1024];
        bool is_found;
};
static struct file_search file_search;

static inline int file_search_look(const char *path, const struct stat *s, int type, struct FTW *ftw)
{
        size_t size = strlen(path), ending = strlen(file_search.ending);

        (void)s;
        (void)ftw;
        if (type != FTW_F || size <= ending || size >= sizeof file_search.path ||
                strcmp(path + size - ending, file_search.ending) != 0)
                return 0;
        if (!file_search.is_found || strcmp(path, file_search.path) < 0)
                memcpy(file_search.path, path, size + 1);
        file_search.is_found = true;
        return 0;
}

static inline bool find_file(const char *directory, const char *ending, char *ret, size_t size)
{
        file_search = (struct file_search){.ending = ending};
        nftw(directory, file_search_look, 16, FTW_PHYS);
        assert_true(size >= sizeof file_search.path);
        memcpy(ret, file_search.path, sizeof file_search.path);
        return file_search.is_found;
}

#endif
