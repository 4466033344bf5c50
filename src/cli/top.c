/* nilo top: a server, or all nodes of its cluster, live.
 *
 * Each node is asked by a thread of its own, so that one which does not answer holds up nobody; what came
 * last is put together for the screen. Only the samples are shared, under one lock. */
#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/memory.h"
#include "cli/top.h"

enum {
        INTERVAL_MS_MIN = 100,
        INTERVAL_MS_MAX = 3600 * 1000,
        INTERVAL_MS_DEFAULT = 1000,
        LATE_MS_MAX = 1000,
        ANSWER_MS_MAX = 5000,
        LOOK_AROUND_MS = 100,
        TIME_SIZE = 40
};

struct top;

/* The thread that asks one node. */
struct sampler {
        struct top *top;
        struct nilo_client *client;
        pthread_t thread;
        bool is_started;
        /* lock: top->lock */
        struct top_sample sample;
        char problem[TOP_PROBLEM_SIZE];
        unsigned answers; /* and failures, ever */
};

struct top {
        const struct cli_line *line;
        struct nilo_client *client; /* of the server that was named */
        uint64_t interval_ms;
        uint64_t limit; /* of samples; 0: none */
        pthread_mutex_t lock;
        pthread_cond_t has_news; /* with the lock: an answer, or the end */
        bool ends;               /* lock */
        bool has_screen;         /* lock */
        unsigned count;
        struct top_node *nodes;
        struct sampler samplers[TOP_NODES_MAX];
        unsigned taken[TOP_NODES_MAX]; /* answers of each that are in its node */
        struct top_view view;
        char time[TIME_SIZE];
        struct frame frame;
};

static uint64_t now_us(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static struct timespec time_of(uint64_t us)
{
        return (struct timespec){.tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000};
}

/* ---- asking ---- */

static void ask(struct sampler *s)
{
        char *page = NULL;
        enum nilo_result result = nilo_client_send(s->client, "GET", "/metrics", NULL, NULL, 0, &page);
        struct top_sample *sample = MEMORY_NEW(struct top_sample);
        bool is_read = !result && top_read(page, now_us(), sample);

        pthread_mutex_lock(&s->top->lock);
        if (is_read)
                s->sample = *sample;
        snprintf(s->problem, sizeof s->problem, "%s",
                is_read  ? ""
                : result ? nilo_client_problem(s->client)
                         : "its /metrics are not those of this server");
        s->answers++;
        pthread_cond_broadcast(&s->top->has_news);
        if (s->top->has_screen)
                screen_wake();
        pthread_mutex_unlock(&s->top->lock);
        free(sample);
        free(page);
}

/* Waits for the next time of the interval; false: it is over. */
static bool pause_until(struct top *top, uint64_t at_us)
{
        struct timespec at = time_of(at_us);
        bool ends;

        pthread_mutex_lock(&top->lock);
        while (!top->ends && now_us() < at_us)
                pthread_cond_timedwait(&top->has_news, &top->lock, &at);
        ends = top->ends;
        pthread_mutex_unlock(&top->lock);
        return !ends;
}

static void *run_sampler(void *arg)
{
        struct sampler *s = arg;
        uint64_t at_us = now_us();

        do {
                ask(s);
                /* Times that were missed are left out. */
                do
                        at_us += s->top->interval_ms * 1000;
                while (at_us <= now_us());
        } while (pause_until(s->top, at_us));
        return NULL;
}

static int start_samplers(struct top *top)
{
        for (unsigned i = 0; i < top->count; i++) {
                struct sampler *s = &top->samplers[i];

                s->is_started = pthread_create(&s->thread, NULL, run_sampler, s) == 0;
                if (!s->is_started)
                        return cli_problem(CLI_UNEXPECTED, "no thread could be started");
        }
        return CLI_OK;
}

static void stop_samplers(struct top *top)
{
        pthread_mutex_lock(&top->lock);
        top->ends = true;
        pthread_cond_broadcast(&top->has_news);
        pthread_mutex_unlock(&top->lock);
        for (unsigned i = 0; i < top->count; i++) {
                struct sampler *s = &top->samplers[i];

                if (s->client)
                        nilo_client_interrupt(s->client);
                if (s->is_started)
                        pthread_join(s->thread, NULL);
                nilo_client_close(&s->client);
        }
}

/* ---- the nodes ---- */

static int add_node(struct top *top, const char *url, uint64_t id)
{
        struct sampler *s = &top->samplers[top->count];
        char problem[NILO_CLIENT_PROBLEM_SIZE];

        if (nilo_client_open_like(top->client, url, ANSWER_MS_MAX, &s->client, problem))
                return cli_problem(CLI_USAGE, "node %" PRIu64 ": %s", id, problem);
        s->top = top;
        snprintf(top->nodes[top->count].url, TOP_NAME_SIZE, "%s", nilo_client_url(s->client));
        top->nodes[top->count].id = id;
        top->count++;
        return CLI_OK;
}

static int add_members(struct top *top, const json_t *members)
{
        const json_t *member;
        size_t i;
        int code = CLI_OK;

        json_array_foreach(members, i, member)
        {
                const char *url = json_string_value(json_object_get(member, "url"));
                bool is_self = json_is_true(json_object_get(member, "self"));
                json_int_t id = json_integer_value(json_object_get(member, "node"));

                /* The one that was named is reached under this name, whatever it calls itself. */
                if (!code && top->count < TOP_NODES_MAX && (is_self || (url && *url)))
                        code = add_node(top, is_self ? NULL : url, (uint64_t)id);
        }
        return code;
}

/* Which nodes there are, by the one that was named. */
static int find_nodes(struct top *top)
{
        char *body = NULL;
        enum nilo_result result;
        json_t *cluster;
        int code = CLI_OK;

        top->client = cli_client(top->line);
        if (!top->client)
                return CLI_USAGE;
        result = nilo_client_send(top->client, "GET", "/v1/cluster", NULL, NULL, 0, &body);
        cluster = result ? NULL : json_loads(body, 0, NULL);
        /* A server that says nothing of a cluster is watched by itself. */
        if (result && result != NILO_NOT_FOUND)
                code = cli_failed(top->client, result);
        else if (json_array_size(json_object_get(cluster, "members")) > 1)
                code = add_members(top, json_object_get(cluster, "members"));
        if (!code && !top->count)
                code = add_node(top, NULL, 0);
        json_decref(cluster);
        top->view.url = nilo_client_url(top->client);
        free(body);
        return code;
}

/* ---- showing ---- */

static bool is_any_there(const struct top *top)
{
        for (unsigned i = 0; i < top->count; i++)
                if (!*top->nodes[i].problem && top->nodes[i].last.at_us)
                        return true;
        return false;
}

/* Puts what came into the nodes. True: something did. */
static bool take_samples(struct top *top)
{
        bool is_new = false;

        pthread_mutex_lock(&top->lock);
        for (unsigned i = 0; i < top->count; i++) {
                const struct sampler *s = &top->samplers[i];

                if (s->answers == top->taken[i])
                        continue;
                top->taken[i] = s->answers;
                is_new = true;
                if (*s->problem)
                        top_lost(&top->nodes[i], s->problem);
                else
                        top_take(&top->nodes[i], &s->sample);
        }
        pthread_mutex_unlock(&top->lock);
        return is_new;
}

/* For people the time of the day here, for programs the whole time in UTC. */
static void set_time(struct top *top, bool is_for_people)
{
        struct timespec now;
        struct tm parts;

        clock_gettime(CLOCK_REALTIME, &now);
        if (is_for_people)
                strftime(top->time, sizeof top->time, "%H:%M:%S", localtime_r(&now.tv_sec, &parts));
        else
                strftime(top->time, sizeof top->time, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now.tv_sec, &parts));
        top->view.time = top->time;
}

static bool draw(struct top *top)
{
        unsigned width;
        unsigned height;

        screen_size(&width, &height);
        frame_begin(&top->frame, width, height);
        top_show(&top->frame, top->nodes, top->count, &top->view);
        return screen_show(&top->frame);
}

/* True: draw. */
static bool on_key(struct top *top, char key, bool *ret_quits)
{
        switch (key) {
        case 'q':
        case 'Q':
                *ret_quits = true;
                return false;
        case 'p':
        case ' ':
                top->view.is_paused = !top->view.is_paused;
                return true;
        case 's':
                top->view.sort = (top->view.sort + 1) % TOP_SORTS;
                return true;
        case 'n':
                top->view.node = (top->view.node + 1) % top->count;
                return true;
        default:
                return false;
        }
}

static void watch(struct top *top)
{
        bool has_chosen = false; /* a node; until then the leader is shown */
        bool quits = false;

        set_time(top, true);
        if (!draw(top))
                return;
        while (!quits) {
                char key = 0;
                enum screen_event event = screen_wait((unsigned)INTERVAL_MS_MAX, &key);
                bool is_due = event == SCREEN_CHANGED;

                if (event == SCREEN_END)
                        return;
                if (event == SCREEN_KEY) {
                        is_due = on_key(top, key, &quits);
                        has_chosen |= key == 'n';
                }
                if (!top->view.is_paused && take_samples(top)) {
                        set_time(top, true);
                        is_due = true;
                        if (!has_chosen)
                                top->view.node = top_leader(top->nodes, top->count);
                }
                if (is_due && !quits && !draw(top))
                        return;
        }
}

static int run_screen(struct top *top)
{
        int code = screen_begin();

        if (code)
                return code;
        top->has_screen = true; /* nobody else is there yet */
        top->view.has_keys = true;
        top->frame.has_color = top->line->has_color;
        top->frame.has_utf8 = screen_has_utf8();
        code = start_samplers(top);
        if (!code)
                watch(top);
        /* Before the threads are waited for: one may hang on its node for a second. */
        pthread_mutex_lock(&top->lock);
        top->has_screen = false;
        pthread_mutex_unlock(&top->lock);
        screen_end();
        return code;
}

/* ---- lines ---- */

static bool print_sample(struct top *top)
{
        struct buffer out = {0};
        bool is_read;

        if (top->line->is_json) {
                set_time(top, false);
                top_json(top->nodes, top->count, top->time, &out);
                is_read = cli_print_line((const char *)out.data, out.size) && cli_flush();
        } else {
                struct frame *f = &top->frame;
                unsigned width;
                unsigned height;

                set_time(top, true);
                screen_size(&width, &height);
                frame_begin_page(f, width);
                f->has_color = top->line->has_color;
                f->has_utf8 = screen_has_utf8();
                top_show(f, top->nodes, top->count, &top->view);
                is_read = fwrite(f->out.data, 1, f->out.size, stdout) == f->out.size && cli_flush();
        }
        buffer_fini(&out);
        return is_read;
}

/* Whether every node has answered, or failed to, since its last sample was taken. Locked. */
static bool have_answered(const struct top *top)
{
        for (unsigned i = 0; i < top->count; i++)
                if (top->samplers[i].answers == top->taken[i])
                        return false;
        return true;
}

/* Waits until the interval is over, and somewhat longer for nodes that are late. */
static void wait_for_answers(struct top *top, uint64_t at_us)
{
        uint64_t until_us = at_us + LATE_MS_MAX * 1000;
        uint64_t now = now_us();

        pthread_mutex_lock(&top->lock);
        while (!cli_is_interrupted() && now < until_us && (now < at_us || !have_answered(top))) {
                /* In slices: a signal does not end this wait. */
                struct timespec at =
                        time_of(MIN(now < at_us ? at_us : until_us, now + LOOK_AROUND_MS * 1000));

                pthread_cond_timedwait(&top->has_news, &top->lock, &at);
                now = now_us();
        }
        pthread_mutex_unlock(&top->lock);
}

/* A sample each interval; the first when there are two to compare. */
static int run_lines(struct top *top)
{
        uint64_t at_us = now_us();
        uint64_t shown = 0;
        int code;

        cli_catch_interrupt(NULL);
        code = start_samplers(top);
        if (!code)
                wait_for_answers(top, at_us);
        take_samples(top);
        while (!code && !cli_is_reader_gone() && (!top->limit || shown < top->limit)) {
                at_us += top->interval_ms * 1000;
                wait_for_answers(top, at_us);
                if (cli_is_interrupted())
                        break;
                take_samples(top);
                top->view.node = top_leader(top->nodes, top->count);
                if (!print_sample(top))
                        break;
                shown++;
        }
        if (!code && shown && !is_any_there(top))
                code = cli_problem(CLI_UNAVAILABLE, "no node was reached: %s", top->nodes[0].problem);
        return code;
}

/* ---- the command ---- */

static int read_flags(struct top *top)
{
        const char *interval = cli_value(top->line, "interval");
        char *end = NULL;
        double seconds = interval ? strtod(interval, &end) : INTERVAL_MS_DEFAULT / 1000.0;

        if (interval && (!*interval || *end ||
                                !(seconds * 1000 >= INTERVAL_MS_MIN && seconds * 1000 <= INTERVAL_MS_MAX)))
                return cli_problem(CLI_USAGE, "--interval: 0.1 to 3600 seconds");
        top->interval_ms = (uint64_t)(seconds * 1000);
        if (!cli_number_of(top->line, "limit", 0, &top->limit))
                return CLI_USAGE;
        if (cli_has(top->line, "limit") && !top->limit)
                return cli_problem(CLI_USAGE, "--limit: at least 1");
        if (cli_has(top->line, "once"))
                top->limit = 1;
        top->view = (struct top_view){.url = "", .time = "", .interval_seconds = seconds};
        return CLI_OK;
}

static void init_lock(struct top *top)
{
        pthread_condattr_t monotonic;

        pthread_mutex_init(&top->lock, NULL);
        pthread_condattr_init(&monotonic);
        pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
        pthread_cond_init(&top->has_news, &monotonic);
        pthread_condattr_destroy(&monotonic);
}

int command_top(const struct cli_line *line)
{
        struct top *top = MEMORY_NEW(struct top);
        int code;

        top->line = line;
        top->nodes = memory_new_array(TOP_NODES_MAX, sizeof *top->nodes);
        init_lock(top);
        code = read_flags(top);
        if (!code)
                code = find_nodes(top);
        if (!code)
                code = line->is_json || cli_has(line, "once") || top->limit ? run_lines(top)
                                                                            : run_screen(top);
        stop_samplers(top);
        nilo_client_close(&top->client);
        frame_free(&top->frame);
        pthread_cond_destroy(&top->has_news);
        pthread_mutex_destroy(&top->lock);
        free(top->nodes);
        free(top);
        return code;
}
