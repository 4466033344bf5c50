/* libnilo: opening, closing, appending, verifying. The same rooms as the server's, without a gateway, on a
 * loop of the library's own thread. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "cluster/cluster.h"
#include "embed/call.h"

#define SEGMENT_SIZE_MAX (2 * GIB)
enum {
        MEMORY_SIZE_DEFAULT_MIB = 256,
        MEMORY_SIZE_MIN_MIB = 1,
        SEGMENT_SIZE_MIN = 64 * 1024,
};

const char *nilo_version(void)
{
        return NILO_VERSION;
}

const char *nilo_result_name(enum nilo_result result)
{
        static const char *const names[] = {"ok", "end", "conflict", "not found", "deleted", "invalid",
                "too large", "busy", "disk full", "unknown outcome", "in use", "corrupt", "unavailable",
                "disk fault", "error", "denied"};

        return (unsigned)result < COUNT_OF(names) ? names[result] : "error";
}

/* ---- open and close ---- */

struct opening {
        struct call call;
        const struct nilo_options *options;
        bool has_machine; /* a loop runs, and can be asked to close */
};

static enum nilo_result result_of_open(int r)
{
        switch (r) {
        case 0:
                return NILO_OK;
        case PERSISTENCE_IN_USE:
                return NILO_IN_USE;
        case PERSISTENCE_CORRUPT:
        case PERSISTENCE_FORMAT:
                return NILO_CORRUPT;
        case PERSISTENCE_FULL:
                return NILO_FULL;
        case PERSISTENCE_NOT_FOUND:
                return NILO_NOT_FOUND;
        default:
                return NILO_ERROR;
        }
}

static void on_open(void *arg, int result, const char *problem)
{
        struct nilo *nilo = arg;
        struct call *call = nilo->opening;

        nilo->opening = NULL;
        if (result)
                call_problem(call, "%s", problem);
        call_end(call, call_result(call, result_of_open(result)));
}

static void on_disk_fault(void *arg, const char *problem)
{
        struct nilo *nilo = arg;

        snprintf(nilo->disk_fault, sizeof nilo->disk_fault,
                "the disk failed: %s. Nothing was acknowledged that is not on it: close the store, look at "
                "the disk",
                problem);
        readers_wake(nilo);
}

static void open_on_loop(struct call *call)
{
        struct opening *o = CONTAINER_OF(call, struct opening, call);
        uint64_t memory_size = o->options->memory_size
                                       ? MAX(o->options->memory_size, MEMORY_SIZE_MIN_MIB * MIB)
                                       : MEMORY_SIZE_DEFAULT_MIB * MIB;
        struct store_options options = {
                .os = call->nilo->os,
                .control = call->nilo->control,
                .name = "default",
                .segment_size = o->options->segment_size,
                .memory_size = memory_size / 2,
                .in_flight_size_max = memory_size / 2,
                .must_exist = o->options->must_exist,
                .open_on_loop = true,
                .on_open = on_open,
                .on_disk_fault = on_disk_fault,
                .arg = call->nilo,
        };
        const char *path = o->options->memory_only ? "memory" : o->options->data;
        int r = persistence_node_open(call->nilo->os, path, o->options->must_exist, &call->nilo->node);

        options.node = call->nilo->node;
        call->nilo->opening = call;
        if (!r)
                r = store_open(&options, &call->nilo->store);
        if (r) {
                call->nilo->opening = NULL;
                call_problem(call, "%s: %s", path, r > 0 ? persistence_problem() : fault_last());
                call_end(call, result_of_open(r));
        }
}

static bool make_machine(struct nilo *nilo, const struct nilo_options *options)
{
        struct control_options control = {.node_name = "embedded", .log_fd = -1, .log_level = LEVEL_ERROR};

        if (os_real_new(&nilo->os))
                return false;
        if (options->memory_only)
                os_memory_disk(nilo->os);
        control.os = nilo->os;
        return control_open(&control, &nilo->control) == 0;
}

/* The machine lives and dies in the library's thread: the kernel interrupts whoever made or closed an
 * io_uring of the loop, and a system call of the host's threads must not end with EINTR because of us. */
static void *run_loop(void *arg)
{
        struct opening *opening = arg;
        struct nilo *nilo = opening->call.nilo;

        if (make_machine(nilo, opening->options)) {
                opening->has_machine = true;
                open_on_loop(&opening->call);
                if (os_run(nilo->os))
                        fault_exit(EXIT_CODE_BUG, "libnilo: its loop ended: %s", fault_last());
        } else {
                call_problem(&opening->call, "the library's thread could not start: %s", fault_last());
                call_end(&opening->call, NILO_ERROR);
        }
        control_close(&nilo->control);
        os_free(&nilo->os);
        return NULL;
}

static void on_store_closed(void *arg)
{
        struct call *call = arg;

        persistence_node_close(&call->nilo->node);
        os_stop(call->nilo->os);
        call_end(call, NILO_OK);
}

static void close_on_loop(struct call *call)
{
        assert(list_is_empty(&call->nilo->waiting));
        if (call->nilo->store)
                store_close(&call->nilo->store, on_store_closed, call);
        else
                on_store_closed(call);
}

static void end_thread(struct nilo **nilo)
{
        pthread_join((*nilo)->thread, NULL);
        free(*nilo);
        *nilo = NULL;
}

void nilo_close(struct nilo **nilo)
{
        struct call call;

        if (!*nilo)
                return;
        call_init(&call, *nilo, close_on_loop);
        call_run(&call);
        end_thread(nilo);
}

/* The host's signals are for the host's threads. */
static int start_thread(struct nilo *nilo, struct opening *opening)
{
        sigset_t all, before;
        int r;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        r = pthread_create(&nilo->thread, NULL, run_loop, opening);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        return r;
}

enum nilo_result nilo_open(const struct nilo_options *options, struct nilo **ret)
{
        struct opening opening = {.options = options};
        struct nilo *nilo;
        enum nilo_result result;

        if (cluster_engine_version() != CLUSTER_ENGINE_VERSION)
                return problem_set(NILO_ERROR, "the loaded libraft is not exactly 0.22.1");
        if (!options->memory_only && (!options->data || !*options->data))
                return problem_set(NILO_INVALID, "nilo_open: name a data directory, or say memory_only");
        if (options->segment_size &&
                (options->segment_size < SEGMENT_SIZE_MIN || options->segment_size > SEGMENT_SIZE_MAX))
                return problem_set(NILO_INVALID, "nilo_open: segment_size lies between 64 KiB and 2 GiB");
        nilo = MEMORY_NEW(struct nilo);
        list_init(&nilo->waiting);
        call_init(&opening.call, nilo, open_on_loop);
        if (start_thread(nilo, &opening)) {
                free(nilo);
                return problem_set(NILO_ERROR, "the library's thread could not start");
        }
        result = call_wait(&opening.call);
        if (result) {
                char problem[512];

                snprintf(problem, sizeof problem, "%s", nilo_problem());
                if (opening.has_machine)
                        nilo_close(&nilo);
                else
                        end_thread(&nilo);
                return problem_set(result, "%s", problem);
        }
        *ret = nilo;
        return NILO_OK;
}

/* ---- append and delete ---- */

struct appending {
        struct call call;
        struct store_append append;
        struct store_delete del;
        bool is_delete;
        struct nilo_appended *ret; /* one for each stream; NULL: not wanted */
        unsigned failed;
};

static enum nilo_result result_of_append(const struct store_append_result *r)
{
        static const enum nilo_result results[] = {
                [STORE_OK] = NILO_OK,
                [STORE_CONFLICT] = NILO_CONFLICT,
                [STORE_STREAM_DELETED] = NILO_DELETED,
                [STORE_INVALID] = NILO_INVALID,
                [STORE_TOO_LARGE] = NILO_TOO_LARGE,
                [STORE_BUSY] = NILO_BUSY,
                [STORE_FULL] = NILO_FULL,
                [STORE_NOT_READY] = NILO_UNAVAILABLE,
                [STORE_NOT_LEADER] = NILO_UNAVAILABLE,
                [STORE_CORRUPT] = NILO_CORRUPT,
                [STORE_UNKNOWN] = NILO_UNKNOWN,
        };

        return results[r->verdict];
}

static void describe(struct appending *a, const struct store_append_result *r)
{
        struct bytes stream = a->is_delete ? a->del.stream : a->append.streams[r->stream].stream;

        if (r->verdict == STORE_CONFLICT && r->streams && r->streams[r->stream].has_revision)
                call_problem(&a->call,
                        "conflict: %.*s is at revision %" PRIu64 ". Read from there and retry.",
                        (int)stream.size, stream.data, r->streams[r->stream].revision);
        else if (r->verdict == STORE_CONFLICT)
                call_problem(&a->call, "conflict: %.*s does not exist.", (int)stream.size, stream.data);
        else if (r->problem && *r->problem)
                call_problem(&a->call, "%.*s: %s", (int)stream.size, stream.data, r->problem);
        else
                call_problem(&a->call, "%.*s: %s", (int)stream.size, stream.data,
                        nilo_result_name(result_of_append(r)));
}

static void on_appended(void *arg, const struct store_append_result *r)
{
        struct appending *a = arg;

        if (r->verdict != STORE_OK)
                describe(a, r);
        a->failed = r->stream;
        for (unsigned i = 0; a->ret && r->streams && i < r->stream_count; i++) {
                int64_t revision = r->streams[i].has_revision ? (int64_t)r->streams[i].revision : -1;

                a->ret[i] = (struct nilo_appended){
                        .last_revision = r->verdict == STORE_OK ? revision : -1,
                        .position = r->position,
                        .is_duplicate = r->is_duplicate,
                        .actual_revision = revision,
                };
        }
        call_end(&a->call, r->verdict == STORE_NOT_READY ? call_result(&a->call, NILO_UNAVAILABLE)
                                                         : result_of_append(r));
}

static void append_on_loop(struct call *call)
{
        struct appending *a = CONTAINER_OF(call, struct appending, call);
        struct control *control = call->nilo->control;
        struct bytes stream = a->is_delete ? a->del.stream : a->append.streams[0].stream;
        struct fact_payload payload = {
                .write_id = control_next_write_id(control),
                .count = a->is_delete ? 1 : a->append.event_count,
        };

        fact_set_stream(&payload, stream, name_hash(stream));
        control_publish(control, FACT_stream_write_requested, &payload);
        if (a->is_delete) {
                a->del.write_id = payload.write_id;
                store_delete(call->nilo->store, &a->del, on_appended, a);
        } else {
                a->append.write_id = payload.write_id;
                store_append(call->nilo->store, &a->append, on_appended, a);
        }
}

static bool expected_of(int64_t n, struct expected *ret)
{
        *ret = (struct expected){.kind = EXPECTED_EXACT, .revision = (uint64_t)n};
        if (n == NILO_ANY)
                ret->kind = EXPECTED_ANY;
        else if (n == NILO_NONE)
                ret->kind = EXPECTED_NONE;
        else if (n == NILO_EXISTS)
                ret->kind = EXPECTED_EXISTS;
        return n >= 0 || ret->kind != EXPECTED_EXACT;
}

/* What a caller can get wrong in C; the rest is the store's to judge. NULL: nothing. */
static const char *what_is_wrong(const struct nilo_write *write)
{
        struct expected unused;

        if (!write->stream)
                return "name a stream";
        if (!expected_of(write->expected, &unused))
                return "expect NILO_ANY, NILO_NONE, NILO_EXISTS or a revision from 0";
        if (write->count && !write->events)
                return "a count without events";
        for (unsigned i = 0; i < write->count; i++) {
                const struct nilo_event *e = &write->events[i];

                if (!e->type)
                        return "every event has a type";
                if ((!e->data && e->data_size) || (!e->metadata && e->metadata_size))
                        return "a size without bytes";
        }
        return NULL;
}

static struct event_draft draft_of(struct nilo *nilo, const struct nilo_event *e)
{
        struct event_draft draft = {
                .type = bytes_of_string(e->type),
                .content_type = e->is_binary ? CONTENT_BINARY : CONTENT_JSON,
                .data = bytes_of(e->data, e->data_size),
                .metadata = bytes_of(e->metadata, e->metadata_size),
        };

        if (e->id) {
                memcpy(draft.id.bytes, e->id, sizeof draft.id.bytes);
        } else {
                os_random(nilo->os, draft.id.bytes, sizeof draft.id.bytes);
                event_id_stamp_random(&draft.id);
        }
        return draft;
}

enum nilo_result nilo_append_all(struct nilo *nilo, const struct nilo_write *writes, unsigned count,
        struct nilo_appended *ret, unsigned *ret_failed)
{
        struct appending a = {.ret = ret};
        struct store_append_stream *streams;
        struct store_append_event *events;
        size_t event_count = 0;
        enum nilo_result result;
        unsigned n = 0;

        if (!count || count > LIMIT_APPEND_STREAMS_MAX)
                return problem_set(count ? NILO_TOO_LARGE : NILO_INVALID, "an append is to 1 to %d streams",
                        LIMIT_APPEND_STREAMS_MAX);
        for (unsigned i = 0; i < count; i++) {
                const char *what = what_is_wrong(&writes[i]);

                if (ret_failed)
                        *ret_failed = i;
                if (what)
                        return problem_set(NILO_INVALID, "write %u: %s", i, what);
                event_count += writes[i].count;
        }
        if (event_count > LIMIT_APPEND_EVENTS_MAX)
                return problem_set(NILO_TOO_LARGE, "%zu events in one append; at most %d are taken",
                        event_count, LIMIT_APPEND_EVENTS_MAX);
        streams = memory_new_array(count, sizeof *streams);
        events = memory_new_array(event_count, sizeof *events);
        for (unsigned i = 0; i < count; i++) {
                streams[i].stream = bytes_of_string(writes[i].stream);
                expected_of(writes[i].expected, &streams[i].expected);
                for (unsigned k = 0; k < writes[i].count; k++, n++)
                        events[n] = (struct store_append_event){i, draft_of(nilo, &writes[i].events[k])};
        }
        a.append = (struct store_append){
                .streams = streams, .stream_count = count, .events = events, .event_count = n};
        call_init(&a.call, nilo, append_on_loop);
        result = call_run(&a.call);
        if (ret_failed)
                *ret_failed = a.failed;
        free(streams);
        free(events);
        return result;
}

enum nilo_result nilo_append(struct nilo *nilo, const char *stream, int64_t expected,
        const struct nilo_event *events, unsigned count, struct nilo_appended *ret)
{
        const struct nilo_write write = {
                .stream = stream, .expected = expected, .events = events, .count = count};

        return nilo_append_all(nilo, &write, 1, ret, NULL);
}

enum nilo_result nilo_delete(struct nilo *nilo, const char *stream, int64_t expected, bool is_tombstone)
{
        const struct nilo_write write = {.stream = stream, .expected = expected};
        struct appending a = {.is_delete = true};
        const char *what = what_is_wrong(&write);

        if (what)
                return problem_set(NILO_INVALID, "nilo_delete: %s", what);
        a.del.stream = bytes_of_string(stream);
        a.del.is_tombstone = is_tombstone;
        expected_of(expected, &a.del.expected);
        call_init(&a.call, nilo, append_on_loop);
        return call_run(&a.call);
}

/* ---- verify ---- */

enum nilo_result nilo_verify(const char *data,
        void (*finding)(void *arg, const char *file, uint64_t offset, const char *what),
        void (*progress)(void *arg, uint64_t done_bytes, uint64_t total_bytes), void *arg)
{
        struct persistence_verify verify = {.problem = finding, .progress = progress, .arg = arg};
        struct persistence_options options = {.store_name = "default", .must_exist = true, .read_only = true};
        struct persistence *p = NULL;
        enum nilo_result result;
        uint64_t problems = 0;
        int r;

        if (!data || !*data)
                return problem_set(NILO_INVALID, "nilo_verify: name a data directory");
        r = os_real_new(&options.os);
        if (r)
                return problem_set(NILO_ERROR, "%s", fault_last());
        r = persistence_node_open(options.os, data, true, &options.node);
        if (!r)
                r = persistence_open(&options, &p);
        if (r) {
                result = problem_set(
                        result_of_open(r), "%s: %s", data, r > 0 ? persistence_problem() : fault_last());
                if (r == PERSISTENCE_CORRUPT && finding)
                        finding(arg, data, 0, nilo_problem());
        } else {
                r = persistence_verify(p, &verify, &problems);
                if (r)
                        result = problem_set(NILO_ERROR, "%s: %s", data, fault_last());
                else if (problems)
                        result = problem_set(NILO_CORRUPT, "%s: %" PRIu64 " problems found", data, problems);
                else
                        result = NILO_OK;
        }
        persistence_close(&p);
        persistence_node_close(&options.node);
        os_free(&options.os);
        return result;
}
