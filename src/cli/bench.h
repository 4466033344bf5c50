/* A measurement of a running server, by threads that are clients. */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include <pthread.h>
#include <stdatomic.h>

#include "cli/command.h"
#include "cli/latency.h"

enum { BENCH_NAME_SIZE = 64, BENCH_PROBLEM_SIZE = 512 };

enum bench_kind { BENCH_APPEND, BENCH_READ, BENCH_FOLLOW };

struct bench;

/* A client in a thread of its own. */
struct bench_worker {
        struct bench *bench;
        unsigned index;
        struct nilo_client *client;
        pthread_t thread;
        bool is_started;
        struct latency latency;
        uint64_t calls;
        uint64_t events;
        uint64_t bytes; /* of data */
        uint64_t failed;
        uint64_t unsent; /* open loop: due, and never sent */
        enum nilo_result result; /* of the first that failed */
        char problem[BENCH_PROBLEM_SIZE];
        char next_step[BENCH_PROBLEM_SIZE];
};

struct bench {
        const struct cli_line *line;
        struct nilo_client *client;
        enum bench_kind kind;
        /* what is asked for */
        uint64_t writers;
        uint64_t readers; /* or followers */
        uint64_t batch;   /* events of one append or read */
        uint64_t size;    /* of the data of an event */
        uint64_t seconds;
        uint64_t streams;
        uint64_t events;  /* to read from */
        uint64_t rate;    /* events a second, of all writers or readers; 0: as fast as answers come */
        char prefix[BENCH_NAME_SIZE]; /* of the streams: "nilo-bench-1a2b3c4d-" */
        /* what goes on */
        uint64_t follow_from; /* the position behind what there was */
        uint64_t start_us;
        uint64_t end_us;
        atomic_bool stops;
        atomic_uint_fast64_t done_events;  /* appended or read */
        atomic_uint_fast64_t done_delivered;
        atomic_uint ready_followers;
        struct bench_worker *workers; /* the writers (of read: the readers), then the followers */
        unsigned worker_count;
        uint64_t elapsed_us;
        uint64_t missing; /* follow: appended and not delivered when it ended */
        bool has_written;
};

uint64_t bench_now_us(void);
void bench_stream(const struct bench *b, uint64_t n, char ret[BENCH_NAME_SIZE + 24]);
bool bench_goes_on(const struct bench *b);

/* ---- what the threads do (bench_load.c) ---- */

void *bench_write(void *worker);
void *bench_read(void *worker);
void *bench_follow(void *worker);
/* Writes what is read then. CLI_OK, or a code after a message. */
MUST_CHECK int bench_prepare(struct bench *b);
/* The event with which followers begin. */
enum nilo_result bench_begin_following(struct bench *b);

/* ---- what came out (bench_report.c) ---- */

void bench_report(const struct bench *b);

#endif
