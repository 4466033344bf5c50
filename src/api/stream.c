/* One stream: its state, metadata, truncation and deletion. */
#include "api/room.h"

#include <stdio.h>

/* ---- state ---- */

static const char *state_name(enum stream_state state)
{
        static const char *const names[] = {
                [STREAM_ABSENT] = "absent",
                [STREAM_METADATA_ONLY] = "metadata-only",
                [STREAM_LIVE] = "live",
                [STREAM_SOFT_DELETED] = "soft-deleted",
                [STREAM_TOMBSTONED] = "tombstoned",
        };

        return names[state];
}

struct state {
        struct bytes stream;
        struct store_stream_info info;
};

static void state_fields(void *arg, struct json_out *j)
{
        const struct state *s = arg;
        const struct store_stream_info *info = &s->info;

        json_field_bytes(j, "stream", s->stream);
        json_field_string(j, "state", state_name(info->state));
        if (info->has_events) {
                json_field_u64(j, "first_revision", info->first_revision);
                json_field_u64(j, "last_revision", info->last_revision);
                json_field_u64(j, "last_position", info->last_position);
        }
        if (!info->has_metadata)
                return;
        json_field_u64(j, "metadata_revision", info->metadata_revision);
        if (info->metadata.max_count)
                json_field_u64(j, "max_count", info->metadata.max_count);
        if (info->metadata.max_age_seconds)
                json_field_u64(j, "max_age_seconds", info->metadata.max_age_seconds);
        if (info->metadata.truncate_before)
                json_field_u64(j, "truncate_before", info->metadata.truncate_before);
}

/* False: the call was refused. */
static bool look(struct call *c, struct state *ret)
{
        int r = store_stream_info(c->store, c->stream, &ret->info);

        ret->stream = c->stream;
        if (!r)
                return true;
        call_refuse_read(c, r == PERSISTENCE_CORRUPT ? STORE_READ_CORRUPT : fault_fold(r), "");
        return false;
}

static void refuse_state(struct call *c, struct state *s)
{
        struct gateway_problem p = {.status = 404, .extra = state_fields, .arg = s};

        switch (s->info.state) {
        case STREAM_TOMBSTONED:
                p.status = 410;
                p.code = "stream-deleted";
                p.title = "The stream is deleted for good";
                p.next = "Choose another name";
                gateway_reply_problem(c->request, &p, "%.*s was tombstoned; its name is never used again",
                        SHOWN(c->stream));
                return;
        case STREAM_SOFT_DELETED:
                p.code = "soft-deleted";
                p.title = "The stream is deleted";
                p.next = "Append to it to begin it again";
                gateway_reply_problem(c->request, &p, "%.*s is deleted; its next event gets revision %llu",
                        SHOWN(c->stream),
                        (unsigned long long)(s->info.has_events ? s->info.last_revision + 1 : 0));
                return;
        case STREAM_METADATA_ONLY:
                p.code = "not-found";
                p.title = "The stream has no events";
                p.next = "Append to it to begin it";
                gateway_reply_problem(c->request, &p, "%.*s has metadata but no events", SHOWN(c->stream));
                return;
        default:
                p.code = "not-found";
                p.title = "There is no such stream";
                p.next = "Check the name: GET /v1/streams?prefix=... lists what there is";
                gateway_reply_problem(c->request, &p, "there is no stream '%.*s'", SHOWN(c->stream));
        }
}

void call_refuse_state(struct call *c)
{
        struct state *s = arena_get(call_arena(c), sizeof *s);

        if (look(c, s))
                refuse_state(c, s);
}

static bool is_there(const struct state *s)
{
        return s->info.state == STREAM_LIVE || s->info.state == STREAM_METADATA_ONLY;
}

/* The revision, which a write can be made conditional on, and that of the metadata, which changes the state
 * as well. */
static void state_tag(const struct store_stream_info *info, char *to, size_t size)
{
        char metadata[28] = "";

        if (info->has_metadata)
                snprintf(metadata, sizeof metadata, ";%llu", (unsigned long long)info->metadata_revision);
        if (info->has_events)
                snprintf(to, size, "%llu%s", (unsigned long long)info->last_revision, metadata);
        else
                snprintf(to, size, "none%s", metadata);
}

void handle_stream(struct call *c)
{
        struct state *s = arena_get(call_arena(c), sizeof *s);
        struct gateway_header_field headers[3];
        struct read_answer answer = {.headers = headers};
        struct buffer body = {0};
        struct json_out j = {.out = &body};
        char revision[24], position[24], tag[56];
        unsigned count = 0;

        if (!look(c, s))
                return;
        if (!is_there(s)) {
                refuse_state(c, s);
                return;
        }
        headers[count++] = (struct gateway_header_field){"nilo-state", state_name(s->info.state)};
        if (s->info.has_events) {
                snprintf(revision, sizeof revision, "%llu", (unsigned long long)s->info.last_revision);
                snprintf(position, sizeof position, "%llu", (unsigned long long)s->info.last_position);
                headers[count++] = (struct gateway_header_field){"nilo-revision", revision};
                headers[count++] = (struct gateway_header_field){"nilo-last-position", position};
        }
        json_object_begin(&j);
        state_fields(s, &j);
        json_object_end(&j);
        answer.header_count = count;
        answer.tag = tag;
        state_tag(&s->info, tag, sizeof tag);
        call_reply_read(c, &body, &answer);
}

/* ---- delete ---- */

struct deletion {
        struct call *call;
        struct store_append_stream stream;
        bool is_tombstone;
};

static void on_deleted(void *arg, const struct store_append_result *result)
{
        struct deletion *d = arg;
        struct refusal refusal = {.streams = &d->stream};
        struct buffer body = {0};
        struct json_out j = {.out = &body};

        if (result->verdict == STORE_CONFLICT && d->stream.expected.kind == EXPECTED_ANY) {
                call_refuse_state(d->call); /* there is nothing to delete */
                return;
        }
        if (result->verdict != STORE_OK) {
                call_refuse_write(d->call, &refusal, result);
                return;
        }
        json_object_begin(&j);
        json_field_bytes(&j, "stream", d->stream.stream);
        json_field_string(&j, "state", state_name(d->is_tombstone ? STREAM_TOMBSTONED : STREAM_SOFT_DELETED));
        if (result->has_position)
                json_field_u64(&j, "position", result->position);
        json_object_end(&j);
        call_reply_json(d->call, 200, &body, NULL, 0);
}

void handle_delete(struct call *c)
{
        struct deletion *d = arena_get(call_arena(c), sizeof *d);
        struct store_delete del = {.stream = c->stream, .deadline_us = c->deadline_us};

        *d = (struct deletion){.call = c, .stream = {.stream = c->stream}};
        if (!query_expected(c, &d->stream.expected) || !query_switch(c, "tombstone", &d->is_tombstone))
                return;
        del.expected = d->stream.expected;
        del.is_tombstone = d->is_tombstone;
        del.requires_leader = requires_leader(c);
        del.write_id = call_write_requested(c, c->stream, 1);
        store_delete(c->store, &del, on_deleted, d);
}

/* ---- metadata ---- */

static bool refuse_meta(struct call *c)
{
        if (!stream_is_meta(c->stream))
                return false;
        call_refuse_bad(c, "name the stream itself", "'%.*s' is a metastream and has no metadata of its own",
                SHOWN(c->stream));
        return true;
}

static void reply_metadata(void *arg, int outcome, const struct store_read_item *item, const char *problem)
{
        struct call *c = arg;
        bool has_body = !outcome && json_in_is_object(item->event.data);
        struct gateway_header_field header = {"nilo-revision", "none"};
        struct read_answer answer = {.headers = &header, .header_count = 1, .is_exact = true};
        struct buffer body = {0};
        char revision[24];

        if (outcome && outcome != STORE_READ_NOT_FOUND && outcome != STORE_READ_END) {
                call_refuse_read(c, outcome, problem);
                return;
        }
        if (!outcome) {
                snprintf(revision, sizeof revision, "%llu", (unsigned long long)item->event.revision);
                header.value = revision;
        }
        answer.tag = header.value;
        buffer_add_bytes(&body, has_body ? item->event.data : BYTES_LITERAL("{}"));
        call_reply_read(c, &body, &answer);
}

void handle_metadata_get(struct call *c)
{
        struct state *s = arena_get(call_arena(c), sizeof *s);
        struct store_read_options options;

        if (refuse_meta(c) || !look(c, s))
                return;
        if ((s->info.state == STREAM_ABSENT && !bytes_equal_string(c->stream, "$all")) ||
                s->info.state == STREAM_TOMBSTONED) {
                refuse_state(c, s);
                return;
        }
        options = newest_of(metastream_of(c, c->stream));
        call_fetch(c, &options, reply_metadata, c);
}

/* A write of metadata: put, or truncation, which changes what it has read and is repeated when others were
 * faster. */
struct metadata_write {
        struct call *call;
        struct store_append_stream stream; /* the metastream */
        struct store_append_event event;
        bool has_made_ids;
        bool is_truncation;
        unsigned tries;
        uint64_t truncate_before;
};

static void truncate_again(struct metadata_write *m);

static void on_metadata_written(void *arg, const struct store_append_result *result)
{
        struct metadata_write *m = arg;
        struct refusal refusal = {
                .streams = &m->stream, .events = &m->event, .has_made_ids = m->has_made_ids};
        struct store_stream_info info;
        struct buffer body = {0};
        struct json_out j = {.out = &body};

        if (result->verdict == STORE_CONFLICT && m->is_truncation && m->tries < TRUNCATE_TRIES_MAX) {
                truncate_again(m);
                return;
        }
        if (result->verdict != STORE_OK) {
                call_refuse_write(m->call, &refusal, result);
                return;
        }
        json_object_begin(&j);
        json_field_bytes(&j, "stream", m->call->stream);
        json_field_u64(&j, "metadata_revision", result->streams[0].revision);
        if (m->is_truncation) {
                json_field_u64(&j, "truncate_before", m->truncate_before);
                if (!store_stream_info(m->call->store, m->call->stream, &info))
                        json_field_u64(&j, "first_revision", info.first_revision);
        }
        if (result->has_position)
                json_field_u64(&j, "position", result->position);
        json_field_bool(&j, "duplicate", result->is_duplicate);
        json_object_end(&j);
        call_reply_json(m->call, 200, &body, NULL, 0);
}

static void write_metadata(struct metadata_write *m, struct bytes body)
{
        struct call *c = m->call;
        struct store_append append = {
                .streams = &m->stream,
                .stream_count = 1,
                .events = &m->event,
                .event_count = 1,
                .deadline_us = c->deadline_us,
                .requires_leader = requires_leader(c),
        };

        m->event.draft.type = EVENT_TYPE_METADATA;
        m->event.draft.content_type = CONTENT_JSON;
        m->event.draft.data = body;
        append.write_id = call_write_requested(c, m->stream.stream, 1);
        store_append(c->store, &append, on_metadata_written, m);
}

void handle_metadata_put(struct call *c)
{
        struct metadata_write *m = arena_get(call_arena(c), sizeof *m);
        struct bytes body = gateway_body(c->request);
        const char *problem;
        bool has_id;

        if (refuse_meta(c))
                return;
        if (!body_is_json(c)) {
                call_refuse_media(c, "application/json");
                return;
        }
        problem = json_in_is_object(body) ? stream_metadata_check(body) : "the body is no JSON object";
        if (problem) {
                call_refuse_bad(c, "send an object such as {\"$maxCount\":1000}", "%s", problem);
                return;
        }
        *m = (struct metadata_write){.call = c, .stream = {.stream = metastream_of(c, c->stream)}};
        if (!query_expected(c, &m->stream.expected) || !header_event_id(c, &m->event.draft.id, &has_id))
                return;
        m->has_made_ids = !has_id;
        write_metadata(m, body);
}

/* ---- truncation ---- */

static void truncate_with(void *arg, int outcome, const struct store_read_item *item, const char *problem)
{
        struct metadata_write *m = arg;
        struct call *c = m->call;
        struct buffer out = {0};
        struct bytes body;

        if (outcome && outcome != STORE_READ_NOT_FOUND && outcome != STORE_READ_END) {
                call_refuse_read(c, outcome, problem);
                return;
        }
        m->stream.expected = (struct expected){.kind = outcome ? EXPECTED_NONE : EXPECTED_EXACT};
        if (!outcome)
                m->stream.expected.revision = item->event.revision;
        stream_metadata_with_truncate_before(
                outcome ? BYTES_EMPTY : item->event.data, m->truncate_before, &out);
        body = arena_copy(call_arena(c), buffer_bytes(&out));
        buffer_fini(&out);
        os_random(c->api->os, &m->event.draft.id, sizeof m->event.draft.id);
        event_id_stamp_random(&m->event.draft.id);
        write_metadata(m, body);
}

static void truncate_again(struct metadata_write *m)
{
        struct store_read_options options = newest_of(m->stream.stream);

        m->tries++;
        call_fetch(m->call, &options, truncate_with, m);
}

/* The revision to begin with: a number, or "end" for one behind the last. */
static bool query_before(struct call *c, const struct state *s, uint64_t *ret)
{
        uint64_t next = s->info.has_events ? s->info.last_revision + 1 : 0;
        struct bytes text;

        if (!gateway_query(c->request, "before", &text)) {
                call_refuse_bad(c, "send ?before=N: events below N become invisible",
                        "the parameter before is missing");
                return false;
        }
        *ret = next;
        if (bytes_equal_string(text, "end"))
                return true;
        if (!bytes_to_number(text, ret)) {
                call_refuse_bad(c, "send a revision, or end", "before=%.*s is no revision", SHOWN(text));
                return false;
        }
        if (*ret <= next)
                return true;
        call_refuse_bad(c, "send at most the next revision, or end",
                "before=%llu lies behind the end: the next event of %.*s gets revision %llu, and would be "
                "invisible",
                (unsigned long long)*ret, SHOWN(c->stream), (unsigned long long)next);
        return false;
}

void handle_truncate(struct call *c)
{
        struct state *s = arena_get(call_arena(c), sizeof *s);
        struct metadata_write *m = arena_get(call_arena(c), sizeof *m);

        if (refuse_meta(c) || !look(c, s))
                return;
        if (s->info.state != STREAM_LIVE) {
                refuse_state(c, s);
                return;
        }
        *m = (struct metadata_write){
                .call = c,
                .stream = {.stream = metastream_of(c, c->stream)},
                .has_made_ids = true,
                .is_truncation = true,
        };
        if (!query_before(c, s, &m->truncate_before))
                return;
        truncate_again(m);
}
