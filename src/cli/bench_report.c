/* What a measurement says, for people and for programs. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json_out.h"
#include "base/memory.h"
#include "cli/bench.h"

enum { TEXT_SIZE = 64 };

static const struct {
        const char *name;
        const char *key;
        double part;
} parts[] = {{"p50", "p50", 0.5}, {"p90", "p90", 0.9}, {"p99", "p99", 0.99}, {"p99.9", "p99_9", 0.999}};

static const char *const names[] = {
        [BENCH_APPEND] = "append", [BENCH_READ] = "read", [BENCH_FOLLOW] = "follow"};

/* All workers of a kind together. */
struct totals {
        struct latency latency;
        uint64_t calls;
        uint64_t events;
        uint64_t bytes;
        uint64_t failed;
        uint64_t unsent;
        const char *problem; /* the first */
};

/* The writers or readers come first, the followers behind them. */
static struct totals *sum(const struct bench *b, bool is_followers)
{
        struct totals *t = MEMORY_NEW(struct totals);
        unsigned first = is_followers ? (unsigned)b->writers : 0;
        unsigned end = b->kind == BENCH_FOLLOW && !is_followers ? (unsigned)b->writers : b->worker_count;

        for (unsigned i = first; i < end; i++) {
                const struct bench_worker *w = &b->workers[i];

                latency_merge(&t->latency, &w->latency);
                t->calls += w->calls;
                t->events += w->events;
                t->bytes += w->bytes;
                t->failed += w->failed;
                t->unsent += w->unsent;
                if (w->failed && !t->problem)
                        t->problem = w->problem;
        }
        return t;
}

static double per_second(const struct bench *b, uint64_t n)
{
        return b->elapsed_us ? (double)n / ((double)b->elapsed_us / 1e6) : 0;
}

/* ---- for people ---- */

static void format_us(double us, char ret[TEXT_SIZE])
{
        if (us < 10000)
                snprintf(ret, TEXT_SIZE, "%.2f ms", us / 1000);
        else if (us < 1000000)
                snprintf(ret, TEXT_SIZE, "%.0f ms", us / 1000);
        else
                snprintf(ret, TEXT_SIZE, "%.2f s", us / 1e6);
}

static void row_of_count(const struct bench *b, const char *name, uint64_t n)
{
        char count[CLI_SIZE_TEXT];
        char rate[CLI_SIZE_TEXT];

        cli_format_count(n, count);
        cli_format_count((uint64_t)(per_second(b, n) + 0.5), rate);
        printf("%-12s%14s%14s/s\n", name, count, rate);
}

static void row_of_size(const struct bench *b, const char *name, uint64_t n)
{
        char size[CLI_SIZE_TEXT];
        char rate[CLI_SIZE_TEXT];

        cli_format_size(n, size);
        cli_format_size((uint64_t)(per_second(b, n) + 0.5), rate);
        printf("%-12s%14s%14s/s\n", name, size, rate);
}

static void row_of_latency(const char *name, const struct latency *l)
{
        char text[TEXT_SIZE];

        printf("%-12s", name);
        for (size_t i = 0; i < COUNT_OF(parts); i++) {
                format_us((double)latency_at(l, parts[i].part), text);
                printf("%11s", l->count ? text : "-");
        }
        format_us((double)l->max_us, text);
        printf("%11s", l->count ? text : "-");
        format_us(latency_mean(l), text);
        printf("%11s\n", l->count ? text : "-");
}

static void print_what(const struct bench *b)
{
        char size[CLI_SIZE_TEXT];
        char rate[CLI_SIZE_TEXT];
        bool is_read = b->kind == BENCH_READ;
        const char *who = is_read ? "reader" : "writer";
        uint64_t clients = is_read ? b->readers : b->writers;

        cli_format_size(b->size, size);
        cli_format_count(b->rate, rate);
        if (b->rate)
                printf("%s, open loop: %s events/s are due whatever the answers, from %" PRIu64 " %s%s\n",
                        names[b->kind], rate, clients, who, clients == 1 ? "" : "s");
        else
                printf("%s, closed loop: %" PRIu64 " %s%s, each waits for its answer\n", names[b->kind],
                        clients, who, clients == 1 ? "" : "s");
        if (b->kind == BENCH_FOLLOW)
                printf("%" PRIu64 " followers of all of it, ", b->readers);
        printf("%" PRIu64 " event%s of %s a call, %" PRIu64 " stream%s, %.1f s\n\n", b->batch,
                b->batch == 1 ? "" : "s", size, b->streams, b->streams == 1 ? "" : "s",
                (double)b->elapsed_us / 1e6);
}

static void print_failures(const struct totals *t)
{
        char count[CLI_SIZE_TEXT];

        if (!t->failed)
                return;
        cli_format_count(t->failed, count);
        printf("%-12s%14s  %s\n", "failed", count, t->problem);
}

static void print_table(const struct bench *b, const struct totals *t, const struct totals *followed)
{
        bool is_read = b->kind == BENCH_READ;

        print_what(b);
        printf("%s%-12s%14s%16s%s\n", b->line->has_color ? "\033[1m" : "", "WHAT", "COUNT", "RATE",
                b->line->has_color ? "\033[0m" : "");
        row_of_count(b, is_read ? "reads" : "appends", t->calls);
        row_of_count(b, "events", t->events);
        row_of_size(b, "data", t->bytes);
        if (followed)
                row_of_count(b, "delivered", followed->events);
        print_failures(t);
        if (followed)
                print_failures(followed);
        if (t->unsent) {
                char count[CLI_SIZE_TEXT];

                cli_format_count(t->unsent, count);
                printf("%-12s%14s  due, and never sent: more than was answered\n", "unsent", count);
        }
        if (followed && b->missing)
                printf("%-12s%14" PRIu64 "  not delivered within 5 s of the end\n", "missing", b->missing);
        printf("\n%s%-12s", b->line->has_color ? "\033[1m" : "", "TIME");
        for (size_t i = 0; i < COUNT_OF(parts); i++)
                printf("%11s", parts[i].name);
        printf("%11s%11s%s\n", "max", "mean", b->line->has_color ? "\033[0m" : "");
        row_of_latency(is_read ? "read" : "append", &t->latency);
        if (followed)
                row_of_latency("to follower", &followed->latency);
        if (!b->rate)
                printf("\nA stall shows once for each client here; --rate counts it in every call due.\n");
}

/* ---- for programs ---- */

static void latency_to_json(struct json_out *j, const char *key, const struct latency *l)
{
        json_key(j, key);
        json_object_begin(j);
        for (size_t i = 0; i < COUNT_OF(parts); i++)
                json_field_u64(j, parts[i].key, latency_at(l, parts[i].part));
        json_field_u64(j, "max", l->max_us);
        json_field_u64(j, "mean", (uint64_t)(latency_mean(l) + 0.5));
        json_object_end(j);
}

static void print_json(const struct bench *b, const struct totals *t, const struct totals *followed)
{
        bool is_read = b->kind == BENCH_READ;
        struct buffer out = {0};
        struct json_out j = {.out = &out};

        json_object_begin(&j);
        json_field_string(&j, "bench", names[b->kind]);
        json_field_string(&j, "loop", b->rate ? "open" : "closed");
        if (b->rate)
                json_field_u64(&j, "rate", b->rate);
        if (!is_read)
                json_field_u64(&j, "writers", b->writers);
        if (b->kind != BENCH_APPEND)
                json_field_u64(&j, is_read ? "readers" : "followers", b->readers);
        json_field_u64(&j, "batch", b->batch);
        json_field_u64(&j, "size", b->size);
        json_field_u64(&j, "streams", b->streams);
        json_field_string(&j, "stream_prefix", b->prefix);
        json_key(&j, "seconds");
        json_double(&j, (double)b->elapsed_us / 1e6);
        json_field_u64(&j, "calls", t->calls);
        json_field_u64(&j, "events", t->events);
        json_field_u64(&j, "bytes", t->bytes);
        json_field_u64(&j, "failed", t->failed + (followed ? followed->failed : 0));
        if (t->problem)
                json_field_string(&j, "problem", t->problem);
        if (b->rate)
                json_field_u64(&j, "unsent", t->unsent);
        json_key(&j, "events_per_second");
        json_double(&j, per_second(b, t->events));
        latency_to_json(&j, is_read ? "read_us" : "append_us", &t->latency);
        if (followed) {
                json_field_u64(&j, "delivered", followed->events);
                json_field_u64(&j, "missing", b->missing);
                latency_to_json(&j, "delivery_us", &followed->latency);
        }
        json_object_end(&j);
        cli_print_line((const char *)out.data, out.size);
        buffer_fini(&out);
}

void bench_report(const struct bench *b)
{
        struct totals *t = sum(b, false);
        struct totals *followed = b->kind == BENCH_FOLLOW ? sum(b, true) : NULL;

        if (b->line->is_json)
                print_json(b, t, followed);
        else
                print_table(b, t, followed);
        cli_flush();
        free(t);
        free(followed);
}
