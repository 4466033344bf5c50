/* KurrentDB's gRPC protocol under load: appends and reads. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"

struct load {
        const struct load_options *options;
        struct load_samples samples;
        uint64_t start_us;
        uint64_t end_us;
        struct appender *appenders;
        unsigned next; /* appender to be started, when there is a rate */
        uint64_t started;
};

static struct load load;

/* ---- appends ---- */

static void on_appended(struct client_call *c)
{
        struct appender *a = c->arg;

        load_sample(&load.samples, appender_finish(a));
        if (load_now_us() >= load.end_us)
                appender_stop(a);
        else if (!load.options->rate)
                appender_start(a);
}

/* Starts what is due; who is still waiting for an answer is passed over. */
static uint64_t keep_rate(void *arg)
{
        const struct load_options *o = load.options;
        uint64_t now = load_now_us();
        uint64_t due;

        (void)arg;
        if (now >= load.end_us) {
                for (unsigned i = 0; i < o->writers; i++)
                        appender_stop(&load.appenders[i]);
                return CLIENT_IDLE;
        }
        due = (now - load.start_us) * o->rate / 1000000 + 1;
        for (unsigned tried = 0; load.started < due && tried < o->writers; tried++) {
                struct appender *a = &load.appenders[load.next++ % o->writers];

                if (a->is_waiting)
                        continue;
                appender_start(a);
                load.started++;
        }
        return 1000000 / o->rate;
}

int load_grpc_append(const struct load_options *o)
{
        struct client *clients = client_connect(o);

        load.options = o;
        load.appenders = calloc(o->writers, sizeof *load.appenders);
        load.start_us = load_now_us();
        load.end_us = load.start_us + (uint64_t)(o->seconds * 1e6);
        for (unsigned i = 0; i < o->writers; i++) {
                struct appender *a = &load.appenders[i];

                (o->batch > 1 ? batch_appender_init : appender_init)(
                        a, &clients[i % o->connections], o, on_appended);
                snprintf(a->stream, sizeof a->stream, "%s-%u-%llu", o->stream, i,
                        (unsigned long long)load.start_us);
                if (!o->rate)
                        appender_start(a);
        }
        client_run(clients, o->connections, o->rate ? keep_rate : NULL, NULL);
        load_print(load.samples.count, load.samples.count * o->batch,
                (double)(load_now_us() - load.start_us) / 1e6, &load.samples);
        return 0;
}

/* ---- reads ---- */

struct reader {
        struct client_call call;
        uint64_t events;
};

static void start_read(struct reader *r)
{
        const char *name = load.options->stream;
        uint8_t identifier[160];
        uint8_t stream[256];
        uint8_t options[512];
        uint8_t message[600];
        size_t n = put_field(stream, 1, identifier, put_field(identifier, 3, name, strlen(name)));
        size_t size;

        n += put_field(stream + n, 3, "", 0); /* from the start */
        size = put_field(options, 1, stream, n);
        options[size++] = 5 << 3; /* count */
        size += put_varint(options + size, INT64_MAX);
        size += put_field(options + size, 8, "", 0);         /* no filter */
        size += put_field(options + size, 9, "\x12\x00", 2); /* ids as text */
        call_add(&r->call, message, put_field(message, 1, options, size));
        call_start(&r->call);
}

static void on_read(struct client_call *c, const uint8_t *message, size_t size)
{
        struct reader *r = c->arg;

        r->events += size && *message == 0x0a;
}

static void on_read_end(struct client_call *c)
{
        struct reader *r = c->arg;

        if (r->events % load.options->count) {
                fprintf(stderr, "read %llu events\n", (unsigned long long)r->events);
                exit(1);
        }
        if (load_now_us() < load.end_us)
                start_read(r);
}

int load_grpc_read(const struct load_options *o)
{
        struct client *clients = client_connect(o);
        struct reader *readers = calloc(o->writers, sizeof *readers);
        uint64_t events = 0;

        load.options = o;
        load.start_us = load_now_us();
        load.end_us = load.start_us + (uint64_t)(o->seconds * 1e6);
        for (unsigned i = 0; i < o->writers; i++) {
                readers[i].call = (struct client_call){.client = &clients[i % o->connections],
                        .method = "streams.Streams/Read",
                        .on_message = on_read,
                        .on_end = on_read_end,
                        .arg = &readers[i],
                        .is_half_closed = true};
                start_read(&readers[i]);
        }
        client_run(clients, o->connections, NULL, NULL);
        for (unsigned i = 0; i < o->writers; i++)
                events += readers[i].events;
        load_print(0, events, (double)(load_now_us() - load.start_us) / 1e6, NULL);
        return 0;
}
