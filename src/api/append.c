/* Appending, and every refusal of the store as a problem that says what, where, who came first and the next
 * step. The three outcomes stay apart (G3): 200 and 201 are in the log, 504 is unknown, everything else is
 * not in the log and never will be. */
#include "api/room.h"

#include <stdio.h>

struct appending {
        struct call *call;
        struct write_in in;
        bool is_atomic;
};

uint64_t call_write_requested(struct call *c, struct bytes stream, unsigned event_count)
{
        struct fact_payload payload = {
                .write_id = control_next_write_id(c->api->control), .count = event_count};

        fact_set_stream(&payload, stream, name_hash(stream));
        control_publish(c->api->control, FACT_stream_write_requested, &payload);
        return payload.write_id;
}

/* ---- ok ---- */

static void stream_to_json(struct json_out *j, struct bytes stream, unsigned event_count,
        const struct store_stream_outcome *outcome)
{
        json_field_bytes(j, "stream", stream);
        if (!outcome->has_revision)
                return;
        if (event_count)
                json_field_u64(j, "first_revision", outcome->revision + 1 - event_count);
        json_field_u64(j, "last_revision", outcome->revision);
}

static void place_to_json(struct json_out *j, const struct store_append_result *result)
{
        if (result->has_position) {
                json_field_u64(j, "first_position", result->first_position);
                json_field_u64(j, "position", result->position);
        }
        json_field_bool(j, "duplicate", result->is_duplicate);
}

/* The ids that the server made, so that the caller can name the events. */
static void ids_to_json(struct json_out *j, const struct write_in *in)
{
        char id[EVENT_ID_TEXT_SIZE + 1];

        if (!in->has_made_ids)
                return;
        json_key(j, "ids");
        json_array_begin(j);
        for (unsigned i = 0; i < in->event_count; i++) {
                event_id_format(&in->events[i].draft.id, id);
                json_text(j, id);
        }
        json_array_end(j);
}

static void reply(struct appending *a, const struct store_append_result *result)
{
        const struct write_in *in = &a->in;
        struct buffer body = {0};
        struct json_out j = {.out = &body};

        json_object_begin(&j);
        if (a->is_atomic) {
                json_key(&j, "streams");
                json_array_begin(&j);
                for (unsigned i = 0; i < in->stream_count; i++) {
                        json_object_begin(&j);
                        stream_to_json(&j, in->streams[i].stream, in->event_counts[i], &result->streams[i]);
                        json_object_end(&j);
                }
                json_array_end(&j);
        } else {
                stream_to_json(&j, in->streams[0].stream, in->event_counts[0], &result->streams[0]);
        }
        place_to_json(&j, result);
        ids_to_json(&j, in);
        json_object_end(&j);
        call_reply_json(a->call, in->event_count && !result->is_duplicate ? 201 : 200, &body, NULL, 0);
}

/* ---- conflicts ---- */

/* A conflict waits for its newest event. Everything that the store gave is copied: it was valid for the call
 * only. */
struct conflict {
        struct call *call;
        const struct store_append_stream *streams;
        struct bytes stream; /* the first that fails */
        unsigned stream_ordinal;
        struct expected expected;
        struct store_stream_outcome actual;
        bool is_soft_deleted;
        struct store_stream_outcome *outcomes; /* of all streams; NULL: there is only the one */
        unsigned stream_count;
        bool has_newest;
        struct event_view newest; /* numbers and type only */
        uint64_t newest_age_us;
};

static void expected_format(const struct expected *e, char *to, size_t size)
{
        if (e->kind == EXPECTED_EXACT)
                snprintf(to, size, "%llu", (unsigned long long)e->revision);
        else
                snprintf(to, size, "%s",
                        e->kind == EXPECTED_NONE     ? "none"
                        : e->kind == EXPECTED_EXISTS ? "exists"
                                                     : "any");
}

/* A stream that fails: what was expected, and what is so. */
static void failing_to_json(struct json_out *j, struct bytes stream, unsigned ordinal,
        const struct expected *expected, const struct store_stream_outcome *actual)
{
        char text[32];

        json_field_bytes(j, "stream", stream);
        json_field_u64(j, "stream_index", ordinal);
        json_key(j, "expected");
        expected_format(expected, text, sizeof text);
        if (expected->kind == EXPECTED_EXACT)
                json_u64(j, expected->revision);
        else
                json_text(j, text);
        json_key(j, "actual");
        if (actual->has_revision)
                json_u64(j, actual->revision);
        else
                json_i64(j, -1);
        json_field_string(j, "state",
                actual->is_tombstoned     ? "tombstoned"
                : actual->is_soft_deleted ? "soft-deleted"
                : actual->has_revision    ? "live"
                                          : "absent");
}

static void conflict_fields(void *arg, struct json_out *j)
{
        const struct conflict *k = arg;
        char text[32];

        failing_to_json(j, k->stream, k->stream_ordinal, &k->expected, &k->actual);
        if (k->outcomes) {
                json_key(j, "failed");
                json_array_begin(j);
                for (unsigned i = 0; i < k->stream_count; i++) {
                        if (!k->outcomes[i].has_failed)
                                continue;
                        json_object_begin(j);
                        failing_to_json(j, k->streams[i].stream, i, &k->streams[i].expected, &k->outcomes[i]);
                        json_object_end(j);
                }
                json_array_end(j);
        }
        if (!k->has_newest)
                return;
        json_key(j, "newest");
        json_object_begin(j);
        json_field_bytes(j, "type", k->newest.type);
        json_field_u64(j, "revision", k->newest.revision);
        json_field_u64(j, "position", k->newest.position);
        time_format(k->newest.time_us, text);
        json_field_string(j, "time", text);
        json_object_end(j);
}
static_assert(TIME_TEXT_SIZE <= 32, "a time fits the text of a field");

static void age_format(uint64_t age_us, char *to, size_t size)
{
        uint64_t seconds = age_us / 1000000;

        if (seconds < 60)
                snprintf(to, size, "%llu.%llu s", (unsigned long long)seconds,
                        (unsigned long long)(age_us / 100000 % 10));
        else if (seconds < 2 * 3600)
                snprintf(to, size, "%llu min", (unsigned long long)(seconds / 60));
        else if (seconds < 2 * 86400)
                snprintf(to, size, "%llu h", (unsigned long long)(seconds / 3600));
        else
                snprintf(to, size, "%llu days", (unsigned long long)(seconds / 86400));
}

/* What stands where, what was expected, and who came last. */
static void conflict_text(const struct conflict *k, char *to, size_t size)
{
        char expected[64];
        char age[32];
        int n;

        if (k->expected.kind == EXPECTED_EXISTS)
                snprintf(expected, sizeof expected, "it to exist");
        else if (k->expected.kind == EXPECTED_NONE)
                snprintf(expected, sizeof expected, "no stream");
        else
                expected_format(&k->expected, expected, sizeof expected);
        if (!k->actual.has_revision)
                n = snprintf(to, size, "%.*s does not exist, you expected %s%s.", SHOWN(k->stream),
                        k->expected.kind == EXPECTED_EXACT ? "revision " : "", expected);
        else
                n = snprintf(to, size, "%.*s is %s revision %llu, you expected %s.", SHOWN(k->stream),
                        k->is_soft_deleted ? "deleted and was at" : "at",
                        (unsigned long long)k->actual.revision, expected);
        if (!k->has_newest || n < 0 || (size_t)n >= size)
                return;
        age_format(k->newest_age_us, age, sizeof age);
        snprintf(to + n, size - (size_t)n, " Newest: %.*s %s ago at position %llu.", SHOWN(k->newest.type),
                age, (unsigned long long)k->newest.position);
}

static void conflict_next(const struct conflict *k, char *to, size_t size)
{
        uint64_t actual = k->actual.revision;

        if (k->is_soft_deleted)
                snprintf(to, size, "To write to it again, expect none, any or %llu",
                        (unsigned long long)actual);
        else if (!k->actual.has_revision)
                snprintf(to, size, "Check the name, or expect none to begin the stream");
        else if (k->expected.kind == EXPECTED_EXACT && k->expected.revision > actual)
                snprintf(to, size,
                        "Read from the start, since the stream has fewer events than you expected, and "
                        "retry");
        else
                snprintf(to, size, "Read from %llu and retry",
                        (unsigned long long)(k->expected.kind == EXPECTED_EXACT ? k->expected.revision + 1
                                                                                : 0));
}

static void refuse_conflict(void *arg, int outcome, const struct store_read_item *item, const char *problem)
{
        struct conflict *k = arg;
        struct gateway_problem p = {
                .status = k->call->is_conditional ? 412 : 409,
                .code = "conflict",
                .title = "The stream is not where you expected it",
                .extra = conflict_fields,
                .arg = k,
        };
        char detail[DETAIL_SIZE];
        char next[128];

        (void)problem;
        if (!outcome) {
                uint64_t now = os_wall_us(k->call->api->os);

                k->has_newest = true;
                k->newest = item->event;
                k->newest_age_us = now > item->event.time_us ? now - item->event.time_us : 0;
        }
        conflict_text(k, detail, sizeof detail);
        conflict_next(k, next, sizeof next);
        p.next = next;
        gateway_reply_problem(k->call->request, &p, "%s", detail);
}

static struct conflict *conflict_of(
        struct call *c, const struct refusal *refusal, const struct store_append_result *result)
{
        struct conflict *k = arena_get(call_arena(c), sizeof *k);
        const struct store_append_stream *stream = &refusal->streams[result->stream];

        *k = (struct conflict){
                .call = c,
                .streams = refusal->streams,
                .stream = stream->stream,
                .stream_ordinal = result->stream,
                .expected = stream->expected,
                .actual =
                        result->streams ? result->streams[result->stream] : (struct store_stream_outcome){0},
                .is_soft_deleted = result->is_soft_deleted,
        };
        k->actual.is_soft_deleted = k->is_soft_deleted;
        if (result->streams && result->stream_count > 1) {
                size_t size = result->stream_count * sizeof *k->outcomes;

                k->stream_count = result->stream_count;
                k->outcomes = arena_get(call_arena(c), size);
                memcpy(k->outcomes, result->streams, size);
        }
        return k;
}

static void look_at_conflict(
        struct call *c, const struct refusal *refusal, const struct store_append_result *result)
{
        const struct store_append_stream *stream = &refusal->streams[result->stream];
        struct conflict *k = conflict_of(c, refusal, result);
        struct store_read_options options = newest_of(stream->stream);

        /* Who may only write is not told what somebody else has written. */
        if (k->actual.has_revision && !k->is_soft_deleted &&
                gateway_may(c->request, ACCESS_READ, stream->stream))
                call_fetch(c, &options, refuse_conflict, k);
        else
                refuse_conflict(k, STORE_READ_END, NULL, "");
}

/* ---- the other refusals ---- */

static void refuse_tombstoned(
        struct call *c, const struct refusal *refusal, const struct store_append_result *result)
{
        struct gateway_problem p = {
                .status = 410,
                .code = "stream-deleted",
                .title = "The stream is deleted for good",
                .next = "Choose another name",
                .extra = conflict_fields,
                .arg = conflict_of(c, refusal, result),
        };

        gateway_reply_problem(c->request, &p, "%.*s was tombstoned; nothing can be written to it again",
                SHOWN(refusal->streams[result->stream].stream));
}

struct excess {
        const struct store_append_result *result;
        struct bytes stream;
        bool has_event;
};

static void excess_fields(void *arg, struct json_out *j)
{
        const struct excess *x = arg;

        if (x->stream.size)
                json_field_bytes(j, "stream", x->stream);
        json_field_u64(j, "limit", x->result->limit);
        json_field_u64(j, "size", x->result->size);
        if (x->has_event)
                json_field_u64(j, "event_index", x->result->event);
}

static void refuse_excess(
        struct call *c, const struct refusal *refusal, const struct store_append_result *result)
{
        bool is_of_all = result->limit == LIMIT_APPEND_SIZE_MAX;
        struct excess excess = {
                .result = result,
                .stream = is_of_all ? BYTES_EMPTY : refusal->streams[result->stream].stream,
                .has_event = refusal->events && !is_of_all,
        };
        struct gateway_problem p = {
                .status = 413,
                .code = "too-large",
                .title = "The append exceeds a limit",
                .next = "Make it smaller, or split it",
                .extra = excess_fields,
                .arg = &excess,
        };

        gateway_reply_problem(c->request, &p, "%.*s%s%s: %llu, at most %llu are allowed",
                SHOWN(excess.stream), is_of_all ? "" : ": ", result->problem,
                (unsigned long long)result->size, (unsigned long long)result->limit);
}

static void refuse_unknown(struct call *c, const struct refusal *refusal)
{
        call_refuse(c, 504, "unknown", "The outcome is unknown",
                refusal->has_made_ids ? "Read the stream to see whether it was written; send ids with the "
                                        "events and a retry is safe"
                                      : "Retry with the same ids: what was written is not written again",
                "the deadline passed before the write was confirmed: it may or may not be in the log");
}

void call_refuse_write(
        struct call *c, const struct refusal *refusal, const struct store_append_result *result)
{
        const struct store_append_stream *stream = &refusal->streams[result->stream];

        switch (result->verdict) {
        case STORE_CONFLICT:
                look_at_conflict(c, refusal, result);
                return;
        case STORE_STREAM_DELETED:
                refuse_tombstoned(c, refusal, result);
                return;
        case STORE_INVALID:
                call_refuse_bad(c, "Correct it and send it again", "%.*s: %s", SHOWN(stream->stream),
                        result->problem);
                return;
        case STORE_TOO_LARGE:
                refuse_excess(c, refusal, result);
                return;
        case STORE_BUSY:
                call_refuse(c, 503, "busy", "The store is busy", "Try again in a second; nothing was written",
                        "more is being written than the store can take in");
                return;
        case STORE_FULL:
                call_refuse(c, 507, "disk-full", "The disk is full",
                        "Make space; nothing was written, reads go on and writes are taken again by "
                        "themselves",
                        "the disk has less free space than its reserve");
                return;
        case STORE_NOT_LEADER:
                if (cluster_check_leader(c->api, c->request))
                        call_refuse(c, 503, "not-ready", "The store takes no writes now",
                                "Try again in a second; nothing was written", "a leader is being elected");
                return;
        case STORE_NOT_READY:
                call_refuse(c, 503, "not-ready", "The store takes no writes now",
                        "Try again in a second; nothing was written", "the store is opening or closing");
                return;
        case STORE_CORRUPT:
                call_refuse(c, 500, "corrupt", "Stored bytes are damaged",
                        "run `nilo verify`; nothing was written, other streams take writes", "%.*s: %s",
                        SHOWN(stream->stream), result->problem);
                return;
        default:
                refuse_unknown(c, refusal);
        }
}

/* ---- the calls ---- */

static void on_done(void *arg, const struct store_append_result *result)
{
        struct appending *a = arg;
        struct refusal refusal = {
                .streams = a->in.streams,
                .events = a->in.events,
                .has_made_ids = a->in.has_made_ids,
        };

        if (result->verdict == STORE_OK)
                reply(a, result);
        else
                call_refuse_write(a->call, &refusal, result);
}

static void append(struct appending *a)
{
        struct call *c = a->call;
        struct store_append append = {
                .streams = a->in.streams,
                .stream_count = a->in.stream_count,
                .events = a->in.events,
                .event_count = a->in.event_count,
                .deadline_us = c->deadline_us,
                .requires_leader = requires_leader(c),
        };

        append.write_id = call_write_requested(
                c, a->in.stream_count ? a->in.streams[0].stream : BYTES_EMPTY, a->in.event_count);
        store_append(c->store, &append, on_done, a);
}

void handle_append_stream(struct call *c)
{
        struct appending *a = arena_get(call_arena(c), sizeof *a);

        *a = (struct appending){.call = c};
        if (write_in_stream(c, &a->in))
                append(a);
}

/* To write what is written, to read what is only checked: all of it or nothing. False: the call was refused.
 */
static bool check_rights(struct appending *a)
{
        struct call *c = a->call;

        for (unsigned i = 0; i < a->in.stream_count; i++) {
                enum access_right right = a->in.event_counts[i] ? ACCESS_WRITE : ACCESS_READ;
                struct bytes stream = a->in.streams[i].stream;

                if (gateway_may(c->request, right, stream))
                        continue;
                gateway_refuse(c->request, right, stream);
                return false;
        }
        return true;
}

void handle_append_atomic(struct call *c)
{
        struct appending *a = arena_get(call_arena(c), sizeof *a);

        *a = (struct appending){.call = c, .is_atomic = true};
        if (!write_in_atomic(c, &a->in))
                return;
        if (!a->in.stream_count)
                call_refuse_bad(c, "name at least one", "the append names no stream");
        else if (check_rights(a))
                append(a);
}
