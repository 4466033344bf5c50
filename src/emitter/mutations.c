/* Create, update, delete, pause, seek. Each is an event of the store; it takes effect and is answered when
 * that event is committed, in the order of the log. Of one key, one is under way and the others wait behind
 * it. */
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "emitter/room.h"

enum mutation_kind { MUTATION_CREATE, MUTATION_UPDATE, MUTATION_DELETE, MUTATION_PAUSE, MUTATION_SEEK };

struct mutation {
        struct list link; /* in pool.mutations */
        enum mutation_kind kind;
        struct definition definition; /* as it will be */
        struct definition_extra extra;
        bool has_from; /* UPDATE */
        bool is_flying;
        enum store_from from; /* SEEK */
        uint64_t number;
        bool is_paused; /* PAUSE */
        emitter_done *done;
        void *arg;
};

static void mutation_begin(struct pool *p);

static void mutation_free(struct mutation *m)
{
        definition_fini(&m->definition);
        free(m);
}

/* Takes the first mutation off, lets the next begin, and answers. A pool that nobody defined goes with its
 * last one. */
static void conclude(struct pool *p, enum emitter_verdict verdict, const char *problem)
{
        struct mutation *m = CONTAINER_OF(p->mutations.next, struct mutation, link);
        struct emitter *e = p->emitter;
        emitter_done *done = m->done;
        void *arg = m->arg;

        list_remove(&m->link);
        mutation_free(m);
        if (!list_is_empty(&p->mutations)) {
                mutation_begin(p);
        } else if (!p->is_defined) {
                emitter_remove_pool(e, p);
                pool_free(&p);
        }
        done(arg, verdict, problem);
}

void mutations_end(struct pool *p, enum emitter_verdict verdict, const char *problem)
{
        while (!list_is_empty(&p->mutations)) {
                struct mutation *m = CONTAINER_OF(p->mutations.next, struct mutation, link);
                emitter_done *done = m->done;
                void *arg = m->arg;
                bool is_flying = m->is_flying;

                list_remove(&m->link);
                mutation_free(m);
                if (is_flying)
                        p->emitter->mutations_under_way--;
                done(arg, is_flying ? EMITTER_UNKNOWN : verdict, problem);
        }
}

/* ---- taking effect ---- */

static void apply_create(struct pool *p, struct mutation *m)
{
        pool_define(p, &m->definition, &m->extra);
        pool_up(p);
}

static void apply_update(struct pool *p, struct mutation *m)
{
        workers_stop(p);
        pool_drop_consumers(p, "the subscription was updated: connect again", false);
        pool_reset(p);
        pool_define(p, &m->definition, &m->extra);
        workers_start(p);
}

/* Mutations behind it begin with a pool of their own. */
static struct pool *apply_delete(struct pool *p)
{
        struct emitter *e = p->emitter;
        struct list waiting;
        struct pool *fresh;

        workers_stop(p);
        pool_drop_consumers(p, "the subscription was deleted", true);
        emitter_remove_pool(e, p);
        e->defined_count--;
        list_init(&waiting);
        LIST_EACH_SAFE (at, &p->mutations) {
                list_remove(at);
                list_add_last(&waiting, at);
        }
        fresh = pool_new(e, p->stream, p->definition.d.group);
        LIST_EACH_SAFE (at, &waiting) {
                list_remove(at);
                list_add_last(&fresh->mutations, at);
        }
        pool_free(&p);
        return fresh;
}

static void apply_seek(struct pool *p, struct mutation *m)
{
        pool_reset(p);
        p->has_checkpoint = false;
        pool_define(p, &m->definition, &m->extra);
        p->cursor = p->written_resume = p->extra.start; /* also when it began there before */
        p->finished_since = 0;
        pool_touch(p);
}

static struct pool *apply(struct pool *p, struct mutation *m)
{
        switch (m->kind) {
        case MUTATION_CREATE:
                apply_create(p, m);
                return p;
        case MUTATION_UPDATE:
                apply_update(p, m);
                return p;
        case MUTATION_DELETE:
                return apply_delete(p);
        case MUTATION_PAUSE:
                p->extra.is_paused = m->is_paused;
                LIST_EACH (at, &p->consumers)
                        consumer_wake(CONTAINER_OF(at, struct consumer, link));
                pool_touch(p);
                return p;
        default:
                apply_seek(p, m);
                return p;
        }
}

static enum emitter_verdict verdict_of(const struct store_append_result *result)
{
        switch (result->verdict) {
        case STORE_OK:
                return EMITTER_OK;
        case STORE_BUSY:
        case STORE_FULL:
                return EMITTER_BUSY;
        case STORE_NOT_READY:
        case STORE_NOT_LEADER:
                return EMITTER_NOT_LEADER;
        case STORE_UNKNOWN:
                return EMITTER_UNKNOWN;
        default:
                return EMITTER_INVALID;
        }
}

static void on_committed(struct flight *f, const struct store_append_result *result)
{
        struct emitter *e = f->emitter;
        struct pool *p = f->pool;
        struct mutation *m;

        if (!p)
                return; /* duties have ended: it was answered as unknown */
        e->mutations_under_way--;
        p->is_sealed = false;
        m = CONTAINER_OF(p->mutations.next, struct mutation, link);
        m->is_flying = false;
        if (result->verdict != STORE_OK) {
                conclude(p, verdict_of(result), result->problem);
                return;
        }
        definitions_note(e, result->streams[0].revision);
        /* "end" of all streams is behind the event that says so. */
        if (!m->extra.has_start) {
                m->extra.has_start = true;
                m->extra.start = result->first_position + 1;
        }
        p = apply(p, m);
        conclude(p, EMITTER_OK, "");
        definitions_compact(e);
}

/* ---- the append ---- */

/* Where `from` is, as a number; left open for the end of all streams, which the event itself decides. */
static bool start_of(struct emitter *e, const struct emitter_definition *d, struct definition_extra *extra)
{
        struct store_stream_info info;
        int r;

        extra->has_start = true;
        extra->start = d->from == FROM_NUMBER ? d->number : 0;
        if (d->from != FROM_END)
                return true;
        if (selector_kind(d->selector) != SELECT_STREAM) {
                extra->has_start = false;
                return true;
        }
        r = store_stream_info(e->store, d->stream, &info);
        extra->start = !r && info.has_events ? info.last_revision + 1 : 0;
        return r == 0;
}

enum { MUTATION_STREAMS_MAX = 3 };
struct mutation_append {
        struct store_append_stream streams[MUTATION_STREAMS_MAX];
        struct store_append_event events[MUTATION_STREAMS_MAX];
        struct buffer names[MUTATION_STREAMS_MAX];
        struct buffer bodies[MUTATION_STREAMS_MAX];
        unsigned count;
};

static struct buffer *add_event(struct emitter *e, struct mutation_append *a, struct bytes type)
{
        struct event_draft *draft = &a->events[a->count].draft;

        a->events[a->count].stream = a->count;
        draft->type = type;
        draft->content_type = CONTENT_JSON;
        emitter_new_id(e, &draft->id);
        return &a->bodies[a->count++];
}

/* Hides what stands in a stream of the pool, if there is any. `keep`: more of the metadata, or "". */
static void add_hiding(
        struct emitter *e, struct mutation_append *a, struct bytes stream, const char *keep, bool is_deleted)
{
        struct store_stream_info info;
        struct buffer *body;

        if (store_stream_info(e->store, stream, &info) || info.state != STREAM_LIVE)
                return;
        meta_of(stream, &a->names[a->count]);
        body = add_event(e, a, EVENT_TYPE_METADATA);
        buffer_format(body, "{%s\"$tb\":%llu}", keep,
                (unsigned long long)(is_deleted ? REVISION_MAX : info.last_revision + 1));
}

static void fly(struct pool *p, struct mutation *m, struct mutation_append *a)
{
        struct emitter *e = p->emitter;
        struct store_append append = {.streams = a->streams,
                .stream_count = a->count,
                .events = a->events,
                .event_count = a->count,
                .write_id = control_next_write_id(e->control)};

        for (unsigned i = 0; i < a->count; i++) {
                a->streams[i] = (struct store_append_stream){
                        i ? buffer_bytes(&a->names[i]) : DEFINITIONS_STREAM, {.kind = EXPECTED_ANY}};
                a->events[i].draft.data = buffer_bytes(&a->bodies[i]);
        }
        m->is_flying = true;
        e->mutations_under_way++;
        flight_start(e, p, &append, on_committed, NULL, 0, 0);
        for (unsigned i = 0; i < a->count; i++) {
                buffer_fini(&a->names[i]);
                buffer_fini(&a->bodies[i]);
        }
}

static void write_mutation(struct pool *p, struct mutation *m)
{
        struct emitter *e = p->emitter;
        struct mutation_append a = {0};
        CLEANUP(buffer_fini) struct buffer name = {0};

        if (m->kind == MUTATION_DELETE) {
                struct json_out j = {.out = add_event(e, &a, SUBSCRIPTION_REMOVED)};

                json_object_begin(&j);
                json_field_bytes(&j, "stream", p->stream);
                json_field_bytes(&j, "group", p->definition.d.group);
                json_object_end(&j);
        } else {
                definition_to_log(&m->definition.d, &m->extra, add_event(e, &a, SUBSCRIPTION_SET));
        }
        if (m->kind == MUTATION_DELETE || m->kind == MUTATION_SEEK) {
                checkpoint_stream(p, &name);
                add_hiding(e, &a, buffer_bytes(&name), m->kind == MUTATION_SEEK ? "\"$maxCount\":1," : "",
                        m->kind == MUTATION_DELETE);
        }
        if (m->kind == MUTATION_DELETE) {
                buffer_clear(&name);
                parked_stream(p, &name);
                add_hiding(e, &a, buffer_bytes(&name), "", true);
        }
        fly(p, m, &a);
}

/* ---- beginning ---- */

/* What the definition will be; false: `ret_problem`. */
static bool prepare(struct pool *p, struct mutation *m, const char **ret_problem)
{
        struct emitter *e = p->emitter;
        const struct emitter_definition *now = &p->definition.d;
        struct emitter_definition d;

        *ret_problem = "";
        if (m->kind == MUTATION_CREATE)
                return start_of(e, &m->definition.d, &m->extra);
        d = *now;
        m->extra = p->extra;
        if (m->kind == MUTATION_UPDATE) {
                const struct emitter_definition *asked = &m->definition.d;

                d.settings = asked->settings;
                if (asked->url.size)
                        d.url = asked->url;
                if (asked->secret.size)
                        d.secret = asked->secret;
                if (m->has_from) {
                        d.from = asked->from;
                        d.number = asked->number;
                }
        } else if (m->kind == MUTATION_SEEK) {
                d.from = m->from;
                d.number = m->number;
        } else if (m->kind == MUTATION_PAUSE) {
                m->extra.is_paused = m->is_paused;
        }
        if (m->kind != MUTATION_DELETE) {
                struct definition next;

                *ret_problem = definition_problem(&d);
                if (*ret_problem)
                        return false;
                *ret_problem = "";
                definition_copy(&next, &d);
                definition_fini(&m->definition);
                m->definition = next;
        }
        if (m->has_from || m->kind == MUTATION_SEEK)
                return start_of(e, &m->definition.d, &m->extra);
        return true;
}

/* The log knows nothing of transient ones, but for what they have parked, which must not outlive them. */
static bool is_unwritten(const struct pool *p, const struct mutation *m)
{
        if (m->kind == MUTATION_DELETE && p->parked_next)
                return false;
        return p->is_defined ? p->definition.d.is_transient : m->definition.d.is_transient;
}

static void mutation_begin(struct pool *p)
{
        struct mutation *m = CONTAINER_OF(p->mutations.next, struct mutation, link);
        const char *problem;

        if (m->is_flying)
                return;
        if (p->is_defined != (m->kind != MUTATION_CREATE)) {
                conclude(p, p->is_defined ? EMITTER_EXISTS : EMITTER_NOT_FOUND, "");
                return;
        }
        /* What is being read would be taken for news afterwards. */
        if (p->state == POOL_LOADING) {
                p->is_sealed = true;
                return;
        }
        /* What is on its way to the streams of the pool is in the log before they are hidden, or it would
         * stay. */
        if (m->kind == MUTATION_DELETE || m->kind == MUTATION_SEEK) {
                p->is_sealed = true;
                if (p->is_writing_checkpoint || p->is_parking || p->is_writing_replayed)
                        return;
        }
        if (!prepare(p, m, &problem)) {
                p->is_sealed = false;
                conclude(p, *problem ? EMITTER_INVALID : EMITTER_BUSY,
                        *problem ? problem : "the stream cannot be read");
                return;
        }
        if (is_unwritten(p, m)) {
                if (!m->extra.has_start) {
                        m->extra.has_start = true;
                        m->extra.start = store_next_position(p->emitter->store);
                }
                p->is_sealed = false;
                p = apply(p, m);
                conclude(p, EMITTER_OK, "");
                return;
        }
        write_mutation(p, m);
}

void mutations_go_on(struct pool *p)
{
        if (p->is_sealed && !list_is_empty(&p->mutations))
                mutation_begin(p);
}

static struct mutation *mutation_new(enum mutation_kind kind, emitter_done *done, void *arg)
{
        struct mutation *m = MEMORY_NEW(struct mutation);

        m->kind = kind;
        m->done = done;
        m->arg = arg;
        return m;
}

static void queue(struct pool *p, struct mutation *m)
{
        unsigned waiting = 0;

        LIST_EACH (at, &p->mutations)
                waiting++;
        if (waiting >= MUTATIONS_MAX) {
                emitter_done *done = m->done;
                void *arg = m->arg;

                mutation_free(m);
                done(arg, EMITTER_BUSY, "too many changes of this subscription wait already");
                return;
        }
        list_add_last(&p->mutations, &m->link);
        if (!waiting)
                mutation_begin(p);
}

/* A deletion that was refused is tried again; after another outcome the pool is gone, or about to go. */
static void on_ended(void *arg, enum emitter_verdict verdict, const char *problem)
{
        (void)problem;
        if (verdict != EMITTER_OK)
                pool_touch(arg);
}

void mutations_delete(struct pool *p)
{
        queue(p, mutation_new(MUTATION_DELETE, on_ended, p));
}

/* ---- the contract ---- */

static bool is_serving(struct emitter *e, emitter_done *done, void *arg)
{
        if (e->state == EMITTER_SERVING && !e->is_stopping)
                return true;
        done(arg, EMITTER_NOT_LEADER,
                e->is_stopping ? "the server stops" : "this node does not carry out the leader's duties now");
        return false;
}

void emitter_create(
        struct emitter *e, const struct emitter_definition *definition, emitter_done *done, void *arg)
{
        struct emitter_definition d = *definition;
        const char *problem;
        struct mutation *m;
        struct pool *p;
        unsigned at;

        if (!is_serving(e, done, arg))
                return;
        if (d.selector && !d.stream.size)
                d.stream = definition_default_stream(d.selector);
        problem = definition_problem(&d);
        if (!problem && d.from == FROM_NUMBER && selector_kind(d.selector) != SELECT_STREAM &&
                d.number > store_next_position(e->store))
                problem = "the position to begin with lies behind the end of the log";
        if (problem) {
                done(arg, EMITTER_INVALID, problem);
                return;
        }
        p = emitter_find_any(e, d.stream, d.group, &at);
        if (!p && e->pool_count >= e->subscriptions_max) {
                done(arg, EMITTER_LIMIT, "there are as many subscriptions as this server may have");
                return;
        }
        if (!p)
                p = pool_new(e, d.stream, d.group);
        m = mutation_new(MUTATION_CREATE, done, arg);
        definition_copy(&m->definition, &d);
        queue(p, m);
}

/* The pool of the key, whatever its state: what is under way decides whether it exists when the turn comes.
 */
static struct pool *find(
        struct emitter *e, struct bytes stream, struct bytes group, emitter_done *done, void *arg)
{
        unsigned at;
        struct pool *p;

        if (!is_serving(e, done, arg))
                return NULL;
        p = emitter_find_any(e, stream, group, &at);
        if (p && p->stream.size == stream.size)
                return p;
        done(arg, EMITTER_NOT_FOUND, "");
        return NULL;
}

void emitter_update(struct emitter *e, const struct emitter_definition *definition, bool has_from,
        emitter_done *done, void *arg)
{
        struct bytes stream = definition->stream;
        struct mutation *m;
        struct pool *p;

        if (definition->selector && !stream.size)
                stream = definition_default_stream(definition->selector);
        p = find(e, stream, definition->group, done, arg);
        if (!p)
                return;
        m = mutation_new(MUTATION_UPDATE, done, arg);
        m->has_from = has_from;
        definition_copy(&m->definition, definition);
        queue(p, m);
}

void emitter_delete(struct emitter *e, struct bytes stream, struct bytes group, emitter_done *done, void *arg)
{
        struct pool *p = find(e, stream, group, done, arg);

        if (p)
                queue(p, mutation_new(MUTATION_DELETE, done, arg));
}

void emitter_pause(struct emitter *e, struct bytes stream, struct bytes group, bool is_paused,
        emitter_done *done, void *arg)
{
        struct pool *p = find(e, stream, group, done, arg);
        struct mutation *m;

        if (!p)
                return;
        m = mutation_new(MUTATION_PAUSE, done, arg);
        m->is_paused = is_paused;
        queue(p, m);
}

void emitter_seek(struct emitter *e, struct bytes stream, struct bytes group, enum store_from from,
        uint64_t number, emitter_done *done, void *arg)
{
        struct pool *p = find(e, stream, group, done, arg);
        struct mutation *m;

        if (!p)
                return;
        if (from == FROM_NUMBER &&
                (number > REVISION_MAX ||
                        (pool_is_all(p) && p->is_defined && number > store_next_position(e->store)))) {
                done(arg, EMITTER_INVALID, "the position lies behind the end of the log");
                return;
        }
        m = mutation_new(MUTATION_SEEK, done, arg);
        m->from = from;
        m->number = from == FROM_NUMBER ? number : 0;
        queue(p, m);
}
