/* libnilo under load: threads that append, one that reads. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "load.h"
#include "nilo/nilo.h"

struct writer {
        struct nilo *nilo;
        const struct load_options *options;
        struct load_samples samples;
        uint64_t end_us;
        unsigned number;
};

static void check(enum nilo_result result)
{
        if (result == NILO_OK)
                return;
        fprintf(stderr, "%s: %s\n", nilo_result_name(result), nilo_problem());
        exit(1);
}

static struct nilo *open_store(const char *data)
{
        struct nilo_options options = {.data = data};
        struct nilo *nilo = NULL;

        check(nilo_open(&options, &nilo));
        return nilo;
}

static struct nilo_event *make_events(const struct load_options *o)
{
        struct nilo_event *events = calloc(o->batch, sizeof *events);
        char *data = malloc(o->size);

        memset(data, 'x', o->size);
        for (unsigned i = 0; i < o->batch; i++)
                events[i] = (struct nilo_event){
                        .type = "BenchHappened", .data = data, .data_size = o->size, .is_binary = true};
        return events;
}

static void *write_until(void *arg)
{
        struct writer *w = arg;
        struct nilo_event *events = make_events(w->options);
        struct nilo_appended appended = {.last_revision = NILO_NONE};
        char stream[128];

        snprintf(stream, sizeof stream, "%s-%u-%llu", w->options->stream, w->number,
                (unsigned long long)load_now_us());
        for (uint64_t before = load_now_us(); before < w->end_us;) {
                uint64_t after;

                check(nilo_append(
                        w->nilo, stream, appended.last_revision, events, w->options->batch, &appended));
                after = load_now_us();
                load_sample(&w->samples, after - before);
                before = after;
        }
        return NULL;
}

int load_embed_append(const struct load_options *o)
{
        struct nilo *nilo = open_store(o->file);
        struct writer *writers = calloc(o->writers, sizeof *writers);
        pthread_t *threads = calloc(o->writers, sizeof *threads);
        struct load_samples all = {0};
        uint64_t start = load_now_us();

        for (unsigned i = 0; i < o->writers; i++) {
                writers[i] = (struct writer){nilo, o, {0}, start + (uint64_t)(o->seconds * 1e6), i};
                if (pthread_create(&threads[i], NULL, write_until, &writers[i]))
                        load_die("pthread_create");
        }
        for (unsigned i = 0; i < o->writers; i++) {
                pthread_join(threads[i], NULL);
                for (size_t k = 0; k < writers[i].samples.count; k++)
                        load_sample(&all, writers[i].samples.us[k]);
        }
        load_print(all.count, all.count * o->batch, (double)(load_now_us() - start) / 1e6, &all);
        nilo_close(&nilo);
        return 0;
}

/* One event for each of `batch` streams at a time, round about. */
static void fill_streams(struct nilo *nilo, const struct load_options *o, const struct nilo_event *event)
{
        struct nilo_write *writes = calloc(o->batch, sizeof *writes);
        char(*names)[128] = calloc(o->batch, sizeof *names);

        for (uint64_t done = 0; done < o->count; done += o->batch) {
                for (unsigned i = 0; i < o->batch; i++) {
                        snprintf(names[i], sizeof names[i], "%s-%llu", o->stream,
                                (unsigned long long)((done + i) % o->streams));
                        writes[i] = (struct nilo_write){names[i], NILO_ANY, event, 1};
                }
                check(nilo_append_all(nilo, writes, o->batch, NULL, NULL));
        }
        free(names);
        free(writes);
}

int load_embed_fill(const struct load_options *o)
{
        struct nilo *nilo = open_store(o->file);
        struct nilo_event *events = make_events(o);
        uint64_t start = load_now_us();

        if (o->streams > 1)
                fill_streams(nilo, o, events);
        for (uint64_t done = 0; o->streams == 1 && done < o->count; done += o->batch)
                check(nilo_append(nilo, o->stream, NILO_ANY, events, o->batch, NULL));
        load_print(o->count / o->batch, o->count, (double)(load_now_us() - start) / 1e6, NULL);
        nilo_close(&nilo);
        return 0;
}

int load_embed_read(const struct load_options *o)
{
        struct nilo *nilo = open_store(o->file);
        struct nilo_read_options options = {.stream = o->stream};
        uint64_t events = 0;
        uint64_t bytes = 0;
        uint64_t start = load_now_us();

        while ((double)(load_now_us() - start) / 1e6 < o->seconds) {
                struct nilo_reader *reader = NULL;
                struct nilo_recorded event;
                enum nilo_result result;
                uint64_t before = events;

                check(nilo_read(nilo, &options, &reader));
                while ((result = nilo_next(reader, 0, &event)) == NILO_OK) {
                        events++;
                        bytes += event.data_size;
                }
                if (result != NILO_END || events - before < o->count) {
                        fprintf(stderr, "read %llu events of %llu: %s\n",
                                (unsigned long long)(events - before), (unsigned long long)o->count,
                                nilo_result_name(result));
                        return 1;
                }
                nilo_reader_close(&reader);
        }
        if (bytes != events * o->size)
                return 1;
        load_print(0, events, (double)(load_now_us() - start) / 1e6, NULL);
        nilo_close(&nilo);
        return 0;
}

/* ---- the same append to a short and to a long stream ---- */

enum { FLAT_BLOCK = 20 };

struct flat {
        struct nilo *nilo;
        struct nilo_appended appended;
        struct load_samples samples;
        uint64_t us;
};

static void append_block(struct flat *f, const struct load_options *o, const struct nilo_event *events)
{
        for (unsigned i = 0; i < FLAT_BLOCK; i++) {
                uint64_t before = load_now_us();
                uint64_t took;

                check(nilo_append(
                        f->nilo, o->stream, f->appended.last_revision, events, o->batch, &f->appended));
                took = load_now_us() - before;
                load_sample(&f->samples, took);
                f->us += took;
        }
}

/* By turns in small blocks, so that what the disk and the neighbours do meets both alike. */
int load_embed_flat(const struct load_options *o)
{
        struct flat flats[2] = {{.nilo = open_store(o->file)}, {.nilo = open_store(o->other)}};
        struct nilo_event *events = make_events(o);
        uint64_t end;

        for (unsigned i = 0; i < 2; i++)
                check(nilo_append(flats[i].nilo, o->stream, NILO_ANY, events, 1, &flats[i].appended));
        end = load_now_us() + (uint64_t)(o->seconds * 1e6);
        for (unsigned turn = 0; load_now_us() < end; turn++) {
                append_block(&flats[turn % 2], o, events);
                append_block(&flats[1 - turn % 2], o, events);
        }
        printf("[");
        for (unsigned i = 0; i < 2; i++) {
                if (i)
                        printf(",");
                load_print(flats[i].samples.count, flats[i].samples.count * o->batch,
                        (double)flats[i].us / 1e6, &flats[i].samples);
                nilo_close(&flats[i].nilo);
        }
        printf("]\n");
        return 0;
}

int load_embed_open(const struct load_options *o)
{
        uint64_t before = load_now_us();
        struct nilo *nilo = open_store(o->file);
        double milliseconds = (double)(load_now_us() - before) / 1e3;
        unsigned long pages = 0;
        FILE *f = fopen("/proc/self/statm", "r");

        if (!f || fscanf(f, "%*u %lu", &pages) != 1)
                load_die("/proc/self/statm");
        fclose(f);
        printf("{\"milliseconds\":%.1f,\"mebibytes\":%.1f}\n", milliseconds,
                (double)pages * (double)sysconf(_SC_PAGESIZE) / (1 << 20));
        fflush(stdout);
        /* As if killed: the next open finds a log without a watermark behind its newest records. */
        if (o->count == 0)
                _exit(0);
        nilo_close(&nilo);
        return 0;
}
