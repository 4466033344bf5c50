/* What a fact costs while nobody watches: the payload of a write filled in, and a slot of the ring. */
#include <stdio.h>
#include <time.h>

#include "control/control.h"
#include "load.h"
#include "model/event.h"
#include "os/os.h"

enum { FACTS_A_LOOK = 1000 };

struct facts {
        const struct load_options *options;
        struct os *os;
        struct control *control;
        uint64_t count;
        double seconds;
};

/* Time of this thread on a processor: neighbours do not count. */
static double busy_seconds(void)
{
        struct timespec t;

        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* In a turn of the loop, as everything publishes. */
static void publish(void *arg)
{
        struct facts *f = arg;
        struct bytes stream = BYTES_LITERAL("bench-0-1234567890");
        uint64_t hash = name_hash(stream);
        double start = busy_seconds();

        do {
                for (unsigned i = 0; i < FACTS_A_LOOK; i++, f->count++) {
                        struct fact_payload payload = {.write_id = control_next_write_id(f->control),
                                .position = f->count,
                                .count = 1};

                        fact_set_stream(&payload, stream, hash);
                        control_publish(f->control, FACT_stream_write_requested, &payload);
                }
                f->seconds = busy_seconds() - start;
        } while (f->seconds < f->options->seconds);
        os_stop(f->os);
}

static int run(struct facts *f)
{
        struct control_options options = {.node_name = "bench", .log_fd = -1, .log_level = LEVEL_ERROR};
        int r = os_real_new(&f->os);

        if (r)
                return r;
        options.os = f->os;
        r = control_open(&options, &f->control);
        if (r)
                return r;
        os_post(f->os, publish, f);
        return os_run(f->os);
}

int load_facts(const struct load_options *o)
{
        struct facts f = {.options = o};

        if (run(&f)) {
                fprintf(stderr, "the fact bus does not work: %s\n", fault_last());
                return 1;
        }
        printf("{\"facts\":%llu,\"nanoseconds\":%.1f}\n", (unsigned long long)f.count,
                f.seconds * 1e9 / (double)f.count);
        control_close(&f.control);
        os_free(&f.os);
        return 0;
}
