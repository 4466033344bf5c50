/* Subscriptions under load: catch-up readers, consumers of groups, and live subscribers beside appends. What
 * comes is verified: each event once, in the order of its stream. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"

enum { ACK_IDS_MAX = 1000, UUID_MAX = 48 };

static const struct load_options *options;
static uint64_t start_us;
static uint64_t end_us;

static void begin(const struct load_options *o)
{
        options = o;
        start_us = load_now_us();
        end_us = start_us + (uint64_t)(o->seconds * 1e6);
}

static double seconds(void)
{
        return (double)(load_now_us() - start_us) / 1e6;
}

/* A subscription from the start, to $all, or to a stream of this name from its end. */
static void add_subscription(struct client_call *c, const char *stream)
{
        uint8_t identifier[160];
        uint8_t from[256];
        uint8_t body[512];
        uint8_t message[600];
        size_t n = 0;
        size_t size;

        if (stream)
                n = put_field(from, 1, identifier, put_field(identifier, 3, stream, strlen(stream)));
        n += put_field(from + n, stream ? 3 : 2, "", 0); /* start */
        size = put_field(body, stream ? 1 : 2, from, n);
        size += put_field(body + size, 6, "", 0);         /* a subscription */
        size += put_field(body + size, 8, "", 0);         /* no filter */
        size += put_field(body + size, 9, "\x0a\x00", 2); /* ids as two numbers */
        call_add(c, message, put_field(message, 1, body, size));
}

static void lost(const char *what, uint64_t number, uint64_t wanted)
{
        fprintf(stderr, "%s: %llu instead of %llu\n", what, (unsigned long long)number,
                (unsigned long long)wanted);
        exit(1);
}

/* ---- catch-up readers ---- */

struct follower {
        struct client_call call;
        uint64_t next; /* revision of the one stream that the log has, beside the system's */
        uint64_t started_us;
        uint64_t total;
};

static struct load_samples rounds;

static void follow(struct follower *f)
{
        f->next = 0;
        f->started_us = load_now_us();
        add_subscription(&f->call, NULL);
        call_start(&f->call);
}

static void on_followed(struct client_call *c, const uint8_t *message, size_t size)
{
        struct follower *f = c->arg;
        struct client_event event;

        if (!client_parse_event(message, size, false, &event) || event.stream[0] == '$')
                return;
        if (event.revision != f->next)
                lost("a catch-up reader got a revision", event.revision, f->next);
        f->total++;
        if (++f->next < options->count)
                return;
        load_sample(&rounds, load_now_us() - f->started_us);
        call_cancel(c);
}

static void on_follow_end(struct client_call *c)
{
        struct follower *f = c->arg;

        if (f->next < options->count)
                lost("a catch-up reader ended with events", f->next, options->count);
        if (load_now_us() < end_us)
                follow(f);
}

int load_grpc_follow(const struct load_options *o)
{
        struct client *clients = client_connect(o);
        struct follower *followers = calloc(o->writers, sizeof *followers);
        uint64_t total = 0;

        begin(o);
        for (unsigned i = 0; i < o->writers; i++) {
                followers[i].call = (struct client_call){.client = &clients[i % o->connections],
                        .method = "streams.Streams/Read",
                        .on_message = on_followed,
                        .on_end = on_follow_end,
                        .arg = &followers[i],
                        .is_half_closed = true};
                follow(&followers[i]);
        }
        client_run(clients, o->connections, NULL, NULL);
        for (unsigned i = 0; i < o->writers; i++)
                total += followers[i].total;
        load_print(rounds.count, total, seconds(), &rounds);
        return 0;
}

/* ---- consumers of a group ---- */

struct consumer {
        struct client_call call;
        unsigned count; /* ids to be acknowledged */
        size_t size;    /* of `ids`, as fields of the message Ack */
        uint8_t ids[ACK_IDS_MAX * UUID_MAX];
};

static struct {
        struct consumer *consumers;
        uint8_t *is_seen; /* of each stream's each event */
        uint64_t *next;   /* of each stream */
        uint64_t seen;
        uint64_t duplicates;
        uint64_t disorder;
        bool is_closing;
} group;

static void acknowledge(struct consumer *c)
{
        static uint8_t message[sizeof c->ids + 16];

        if (!c->count)
                return;
        call_add(&c->call, message, put_field(message, 2, c->ids, c->size));
        c->count = 0;
        c->size = 0;
}

/* The number behind the last '-'; a log of one stream has none. */
static uint64_t stream_number(const struct client_event *event)
{
        uint64_t n = 0;

        for (size_t i = strlen(options->stream) + 1; options->streams > 1 && i < event->stream_size; i++)
                n = n * 10 + (uint64_t)(event->stream[i] - '0');
        if (n >= options->streams)
                lost("a group got an event of the stream", n, options->streams);
        return n;
}

static void check(const struct client_event *event)
{
        uint64_t stream = stream_number(event);
        uint64_t per_stream = options->count / options->streams;

        if (event->revision >= per_stream)
                lost("a group got the revision", event->revision, per_stream);
        if (group.is_seen[stream * per_stream + event->revision]++) {
                group.duplicates++;
                return;
        }
        group.disorder += event->revision != group.next[stream];
        group.next[stream] = event->revision + 1;
        group.seen++;
}

static void on_consumed(struct client_call *call, const uint8_t *message, size_t size)
{
        struct consumer *c = call->arg;
        struct client_event event;

        if (!client_parse_event(message, size, false, &event))
                return; /* the confirmation */
        if (event.id_size + 4 > UUID_MAX)
                lost("an id has bytes", event.id_size, UUID_MAX);
        check(&event);
        c->size += put_field(c->ids + c->size, 2, event.id, event.id_size);
        if (++c->count == ACK_IDS_MAX)
                acknowledge(c);
}

/* What came in one look at the network is acknowledged together. Behind the last one the calls are ended; the
 * server ends them when it has taken the acknowledgements. */
static uint64_t finish_turn(void *arg)
{
        (void)arg;
        for (unsigned i = 0; i < options->writers; i++)
                acknowledge(&group.consumers[i]);
        if (group.seen == options->count && !group.is_closing) {
                group.is_closing = true;
                for (unsigned i = 0; i < options->writers; i++)
                        call_half_close(&group.consumers[i].call);
        }
        return CLIENT_IDLE;
}

static void on_consumer_end(struct client_call *call)
{
        (void)call;
        if (!group.is_closing)
                lost("a consumer was dropped with events", group.seen, options->count);
}

/* --stream NAME --other GROUP; --streams above 1: of all streams. */
static void consume(struct consumer *c, struct client *client)
{
        uint8_t name[160];
        uint8_t body[512];
        uint8_t message[600];
        size_t size;

        c->call = (struct client_call){.client = client,
                .method = "persistent_subscriptions.PersistentSubscriptions/Read",
                .on_message = on_consumed,
                .on_end = on_consumer_end,
                .arg = c};
        size = options->streams > 1 ? put_field(body, 5, "", 0)
                                    : put_field(body, 1, name,
                                              put_field(name, 3, options->stream, strlen(options->stream)));
        size += put_field(body + size, 2, options->other, strlen(options->other));
        body[size++] = 3 << 3; /* buffer_size */
        size += put_varint(body + size, options->window);
        size += put_field(body + size, 4, "\x0a\x00", 2);
        call_add(&c->call, message, put_field(message, 1, body, size));
        call_start(&c->call);
}

int load_grpc_group(const struct load_options *o)
{
        struct client *clients = client_connect(o);

        begin(o);
        group.consumers = calloc(o->writers, sizeof *group.consumers);
        group.is_seen = calloc(o->count, 1);
        group.next = calloc(o->streams, sizeof *group.next);
        for (unsigned i = 0; i < o->writers; i++)
                consume(&group.consumers[i], &clients[i % o->connections]);
        client_run(clients, o->connections, finish_turn, NULL);
        if (o->is_ordered && (group.disorder || group.duplicates))
                lost("out of order", group.disorder + group.duplicates, 0);
        printf("{\"events\":%llu,\"seconds\":%.3f,\"events_per_second\":%.0f,\"duplicates\":%llu,\"out_of_"
               "order\":%llu}\n",
                (unsigned long long)group.seen, seconds(), (double)group.seen / seconds(),
                (unsigned long long)group.duplicates, (unsigned long long)group.disorder);
        return 0;
}

/* ---- live subscribers beside appends ---- */

struct subscriber {
        struct client_call call;
        char stream[128];
        uint64_t next;
        bool is_live;
};

static struct {
        struct client *clients;
        struct subscriber *subscribers;
        struct appender *appenders;
        struct load_samples appended;
        struct load_samples delivered;
        unsigned live;
        uint64_t started;
        uint64_t random;
        unsigned next;
        bool is_closing;
} live;

static void on_delivered(struct client_call *c, const uint8_t *message, size_t size)
{
        struct subscriber *s = c->arg;
        struct client_event event;
        uint64_t sent_us;

        if (!client_parse_event(message, size, true, &event)) {
                if (!s->is_live && size && *message == 0x42) { /* caught_up */
                        s->is_live = true;
                        live.live++;
                }
                return;
        }
        if (event.revision != s->next++)
                lost("a live subscriber got a revision", event.revision, s->next - 1);
        memcpy(&sent_us, event.data, 8);
        load_sample(&live.delivered, load_now_us() - sent_us);
}

static void on_subscriber_end(struct client_call *c)
{
        (void)c;
        if (!live.is_closing)
                lost("a live subscriber was dropped with events", live.delivered.count, live.started);
}

static void append_somewhere(struct appender *a)
{
        live.random = live.random * 6364136223846793005ull + 1442695040888963407ull;
        snprintf(a->stream, sizeof a->stream, "%s",
                live.subscribers[(live.random >> 33) % options->streams].stream);
        live.started++;
        appender_start(a);
}

static void on_live_appended(struct client_call *c)
{
        struct appender *a = c->arg;

        load_sample(&live.appended, appender_finish(a));
        if (!options->rate && load_now_us() < end_us)
                append_somewhere(a);
}

static void close_subscribers(void)
{
        live.is_closing = true;
        for (unsigned i = 0; i < options->streams; i++)
                call_cancel(&live.subscribers[i].call);
}

/* First all subscribers become live, then appends go on for the time given, then what was appended is
 * awaited. */
static uint64_t go_on(void *arg)
{
        uint64_t now = load_now_us();

        (void)arg;
        if (live.live < options->streams)
                return CLIENT_IDLE;
        if (!live.started) {
                begin(options);
                for (unsigned i = 0; !options->rate && i < options->writers; i++)
                        append_somewhere(&live.appenders[i]);
        }
        if (now >= end_us) {
                if (!live.is_closing && live.delivered.count == live.started &&
                        live.appended.count == live.started)
                        close_subscribers();
                return CLIENT_IDLE;
        }
        if (!options->rate)
                return end_us - now;
        for (unsigned tried = 0; tried < options->writers; tried++) {
                struct appender *a = &live.appenders[live.next++ % options->writers];

                if (live.started >= (now - start_us) * options->rate / 1000000 + 1)
                        break;
                if (!a->call.is_open)
                        append_somewhere(a);
        }
        return 1000000 / options->rate;
}

int load_grpc_live(const struct load_options *o)
{
        begin(o);
        live.clients = client_connect(o);
        live.subscribers = calloc(o->streams, sizeof *live.subscribers);
        live.appenders = calloc(o->writers, sizeof *live.appenders);
        for (unsigned i = 0; i < o->streams; i++) {
                struct subscriber *s = &live.subscribers[i];

                snprintf(s->stream, sizeof s->stream, "%s-%u-%llu", o->stream, i,
                        (unsigned long long)start_us);
                s->call = (struct client_call){.client = &live.clients[i % o->connections],
                        .method = "streams.Streams/Read",
                        .on_message = on_delivered,
                        .on_end = on_subscriber_end,
                        .arg = s,
                        .is_half_closed = true};
                add_subscription(&s->call, s->stream);
                call_start(&s->call);
        }
        for (unsigned i = 0; i < o->writers; i++) {
                appender_init(&live.appenders[i], &live.clients[i % o->connections], o, on_live_appended);
                live.appenders[i].takes_any_revision = true;
        }
        client_run(live.clients, o->connections, go_on, NULL);
        printf("[");
        load_print(live.appended.count, live.appended.count, o->seconds, &live.appended);
        printf(",");
        load_print(live.delivered.count, live.delivered.count, o->seconds, &live.delivered);
        printf("]\n");
        return 0;
}
