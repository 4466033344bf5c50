/* The load. In a closed loop each client sends again when it has its answer; in an open one (--rate) calls
 * are due at fixed times, and the time of a call is counted from when it was due, so that a stall of the
 * server is seen in all the calls that it held up, and not in one. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/memory.h"
#include "cli/bench.h"

enum { PREPARE_BATCH = 500, SLICE_US = 100 * 1000, PREPARE_SIZE_MAX = 8 << 20 };

void bench_stream(const struct bench *b, uint64_t n, char ret[BENCH_NAME_SIZE + 24])
{
        snprintf(ret, BENCH_NAME_SIZE + 24, "%s%" PRIu64, b->prefix, n);
}

static void note_failure(struct bench_worker *w, enum nilo_result result)
{
        if (!w->failed++) {
                w->result = result;
                snprintf(w->problem, sizeof w->problem, "%s", nilo_client_problem(w->client));
                snprintf(w->next_step, sizeof w->next_step, "%s", nilo_client_next_step(w->client));
        }
        /* What is not allowed will not be. */
        if (result == NILO_DENIED || result == NILO_INVALID || result == NILO_TOO_LARGE)
                w->bench->stops = true;
        /* What is refused at once must not become a storm. */
        nanosleep(&(struct timespec){.tv_nsec = 10 * 1000 * 1000}, NULL);
}

/* ---- time ---- */

/* When the n-th call of a worker is due; the workers take turns. */
static uint64_t due_us(const struct bench_worker *w, uint64_t n)
{
        const struct bench *b = w->bench;
        uint64_t workers = b->kind == BENCH_READ ? b->readers : b->writers;
        double calls_per_us = (double)b->rate / (double)b->batch / 1e6;

        return b->start_us + (uint64_t)((double)(n * workers + w->index) / calls_per_us);
}

/* Waits until a call is due. False: the time is over. */
static bool wait_until(const struct bench *b, uint64_t at_us)
{
        for (;;) {
                uint64_t now = bench_now_us();
                uint64_t slice;

                if (!bench_goes_on(b) || at_us >= b->end_us)
                        return false;
                if (now >= at_us)
                        return true;
                slice = MIN(at_us - now, (uint64_t)SLICE_US);
                nanosleep(&(struct timespec){.tv_nsec = (long)slice * 1000}, NULL);
        }
}

/* From when the call is counted; false: it is over. */
static bool next_call(struct bench_worker *w, uint64_t n, uint64_t *ret_from_us)
{
        const struct bench *b = w->bench;

        if (!b->rate) {
                *ret_from_us = bench_now_us();
                return bench_goes_on(b) && *ret_from_us < b->end_us;
        }
        *ret_from_us = due_us(w, n);
        return wait_until(b, *ret_from_us) && bench_now_us() < b->end_us;
}

/* What was due before the end and was not sent. */
static void count_unsent(struct bench_worker *w, uint64_t n)
{
        uint64_t end_us = MIN(w->bench->end_us, bench_now_us());

        for (; w->bench->rate && !cli_is_interrupted() && due_us(w, n) < end_us; n++)
                w->unsent++;
}

/* ---- append ---- */

/* {"t":when,"w":writer,"n":number,"pad":"xxx"}, of the size that was asked for. */
static void fill_event(const struct bench *b, char *data, uint64_t t, uint64_t writer, uint64_t n)
{
        int size = snprintf(data, b->size + 1,
                "{\"t\":%" PRIu64 ",\"w\":%" PRIu64 ",\"n\":%" PRIu64 ",\"pad\":\"", t, writer, n);

        memset(data + size, 'x', b->size - (size_t)size - 2);
        memcpy(data + b->size - 2, "\"}", 2);
}

static enum nilo_result append(struct bench *b, struct nilo_client *client, uint64_t stream, uint64_t count,
        char *data, uint64_t t, uint64_t writer, uint64_t n)
{
        struct nilo_event *events = memory_new_array((size_t)count, sizeof *events);
        char name[BENCH_NAME_SIZE + 24];
        enum nilo_result result;

        for (uint64_t i = 0; i < count; i++) {
                fill_event(b, data + i * (b->size + 1), t, writer, n + i);
                events[i] = (struct nilo_event){
                        .type = "nilo-bench", .data = data + i * (b->size + 1), .data_size = (size_t)b->size};
        }
        bench_stream(b, stream, name);
        result = nilo_client_append(client, name, NILO_ANY, events, (unsigned)count, NULL);
        free(events);
        return result;
}

void *bench_write(void *worker)
{
        struct bench_worker *w = worker;
        struct bench *b = w->bench;
        char *data = memory_new_array((size_t)b->batch, (size_t)b->size + 1);
        uint64_t from_us;
        uint64_t n = 0;

        for (; next_call(w, n, &from_us); n++) {
                /* Each has streams of its own, if there are enough. */
                uint64_t stream = (w->index + n * b->writers) % b->streams;
                enum nilo_result result =
                        append(b, w->client, stream, b->batch, data, from_us, w->index, n * b->batch);

                if (result) {
                        note_failure(w, result);
                        continue;
                }
                latency_add(&w->latency, bench_now_us() - from_us);
                w->calls++;
                w->events += b->batch;
                w->bytes += b->batch * b->size;
                b->done_events += b->batch;
        }
        count_unsent(w, n);
        free(data);
        return NULL;
}

/* ---- read ---- */

int bench_prepare(struct bench *b)
{
        uint64_t count_max = MAX(MIN((uint64_t)PREPARE_BATCH, PREPARE_SIZE_MAX / b->size), (uint64_t)1);
        uint64_t per_stream = (b->events + b->streams - 1) / b->streams;
        char *data = memory_new_array((size_t)count_max, (size_t)b->size + 1);
        enum nilo_result result = NILO_OK;
        struct progress progress;

        b->events = per_stream * b->streams;
        progress_begin(&progress, b->line, "prepare", "events", b->events);
        for (uint64_t s = 0; s < b->streams && !result && !cli_is_interrupted(); s++)
                for (uint64_t n = 0; n < per_stream && !result && !cli_is_interrupted();) {
                        uint64_t count = MIN(count_max, per_stream - n);

                        result = append(b, b->client, s, count, data, 0, 0, n);
                        b->has_written |= !result || result == NILO_UNKNOWN;
                        n += count;
                        progress_at(&progress, s * per_stream + n, s * per_stream + n);
                }
        progress_end(&progress);
        free(data);
        if (result)
                return cli_failed(b->client, result);
        return cli_is_interrupted() ? cli_problem(CLI_UNEXPECTED, "stopped before anything was measured")
                                    : CLI_OK;
}

struct reading {
        uint64_t events;
        uint64_t bytes;
};

static bool on_read(void *arg, const char *json, size_t size)
{
        struct reading *r = arg;
        const char *data;
        size_t data_size;

        r->events++;
        if (nilo_json_field(json, size, "data", &data, &data_size))
                r->bytes += data_size;
        return true;
}

/* Places must be spread, not secret (xorshift). */
static uint64_t next_place(uint64_t *state)
{
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        return *state;
}

void *bench_read(void *worker)
{
        struct bench_worker *w = worker;
        struct bench *b = w->bench;
        uint64_t per_stream = b->events / b->streams;
        uint64_t state = (w->index + 1) * UINT64_C(0x9e3779b97f4a7c15);
        uint64_t from_us;
        uint64_t n = 0;

        for (; next_call(w, n, &from_us); n++) {
                char name[BENCH_NAME_SIZE + 24];
                struct nilo_read_options options = {.stream = name, .limit = b->batch};
                struct reading reading = {0};
                enum nilo_result result;

                bench_stream(b, next_place(&state) % b->streams, name);
                options.from = per_stream > b->batch ? next_place(&state) % (per_stream - b->batch + 1) : 0;
                result = nilo_client_read(w->client, &options, on_read, &reading);
                if (result) {
                        note_failure(w, result);
                        continue;
                }
                latency_add(&w->latency, bench_now_us() - from_us);
                w->calls++;
                w->events += reading.events;
                w->bytes += reading.bytes;
                b->done_events += reading.events;
        }
        count_unsent(w, n);
        return NULL;
}

/* ---- follow ---- */

static bool on_delivered(void *arg, const char *json, size_t size)
{
        struct bench_worker *w = arg;
        struct bench *b = w->bench;
        uint64_t now = bench_now_us();
        const char *data;
        size_t data_size;
        uint64_t t;

        if (!nilo_json_field(json, size, "data", &data, &data_size) ||
                !nilo_json_number(data, data_size, "t", &t))
                return !b->stops;
        if (!t) { /* the one with which it begins */
                b->ready_followers++;
                return !b->stops;
        }
        latency_add(&w->latency, now > t ? now - t : 0);
        w->events++;
        w->bytes += data_size;
        b->done_delivered++;
        return !b->stops;
}

static bool on_wait(void *arg, const char *why)
{
        struct bench_worker *w = arg;

        if (!w->failed++) {
                w->result = NILO_UNAVAILABLE;
                snprintf(w->problem, sizeof w->problem, "%s", why);
        }
        return !w->bench->stops;
}

enum nilo_result bench_begin_following(struct bench *b)
{
        char *data = memory_new_array(1, (size_t)b->size + 1);
        enum nilo_result result = append(b, b->client, 0, 1, data, 0, 0, 0);

        b->has_written |= !result || result == NILO_UNKNOWN;
        free(data);
        return result;
}

void *bench_follow(void *worker)
{
        struct bench_worker *w = worker;
        struct nilo_read_options options = {.stream_prefix = w->bench->prefix};
        enum nilo_result result;

        options.from = w->bench->follow_from;
        result = nilo_client_follow(w->client, &options, on_delivered, on_wait, w);
        if (result && !w->bench->stops) {
                w->failed++;
                w->result = result;
                snprintf(w->problem, sizeof w->problem, "%s", nilo_client_problem(w->client));
        }
        return NULL;
}
