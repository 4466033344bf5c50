/* nilo-load: load generators for bench/run. One process makes one measurement and prints it as a line of
 * JSON. */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct load_options {
        const char *address; /* of the server, 127.0.0.1 */
        uint16_t port;
        unsigned connections;
        unsigned writers; /* calls in flight, spread over the connections; each has a stream of its own */
        unsigned batch;   /* events of an append */
        unsigned size;    /* bytes of an event's data */
        double seconds;
        const char *stream; /* what to read, or the prefix of the writers' streams */
        const char *file;   /* of the floor's log, or the data directory */
        const char *other;  /* a second data directory */
        uint64_t count;     /* events to prepare or read */
        unsigned streams;   /* to spread events over; above 1, their names are `stream`-N */
        unsigned window;    /* of a consumer of a group: events that it holds and has not acknowledged */
        uint64_t rate;      /* appends per second; 0: each writer's next one as soon as it has its answer */
        bool is_json;       /* the data of appended events */
        bool is_tls;        /* whoever answers is believed */
        bool is_ordered;    /* events out of their stream's order are an error */
};

/* Latencies in microseconds, collected one by one. */
struct load_samples {
        uint32_t *us;
        size_t count;
        size_t capacity;
};
void load_sample(struct load_samples *s, uint64_t us);
uint64_t load_now_us(void);
/* Prints {"events":…,"seconds":…,"events_per_second":…,"p50_us":…,"p99_us":…}. */
void load_print(uint64_t operations, uint64_t events, double seconds, struct load_samples *samples);
void load_die(const char *what);

int load_floor_server(const struct load_options *o); /* until killed */
int load_floor(const struct load_options *o);        /* the clients of the floor */
int load_fdatasync(const struct load_options *o);    /* 256 bytes over zeroed space, one at a time */
int load_grpc_append(const struct load_options *o);
int load_grpc_read(const struct load_options *o);
int load_grpc_follow(const struct load_options *o); /* catch-up readers of all streams, from the start */
int load_grpc_group(const struct load_options *o);  /* consumers of the group `other` */
int load_grpc_live(const struct load_options *o);   /* a subscriber for each stream, beside appends to them */
int load_embed_append(const struct load_options *o);
int load_embed_read(const struct load_options *o);
int load_embed_fill(const struct load_options *o); /* `count` events in batches, for what needs a large store */
int load_embed_flat(const struct load_options *o); /* appends to `stream` of two stores by turns */
int load_embed_open(const struct load_options *o); /* opens a store and says what that took */
int load_facts(const struct load_options *o);      /* publishes facts that nobody watches */

#endif
