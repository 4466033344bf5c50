/* Appends and deletes: made up, given to the store, and their answers held against the model's. */
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "room.h"

uint64_t content_hash(
        struct bytes type, enum content_type content_type, struct bytes data, struct bytes metadata)
{
        uint64_t h = name_hash(data) * 31 + name_hash(metadata) * 17 + name_hash(type) * 7 + content_type;

        h = (h ^ h >> 31) * 0x9e3779b97f4a7c15u;
        return h | 1;
}

/* ---- answers ---- */

static void check_positions(struct world *w, struct op *op, const struct store_append_result *r)
{
        const struct model_answer *e = &op->expected;

        if (r->has_position != e->has_position || r->is_duplicate != e->is_duplicate)
                world_fail(w, "op %u: position %d duplicate %d, expected %d %d", op->number, r->has_position,
                        r->is_duplicate, e->has_position, e->is_duplicate);
        else if (r->has_position && (r->first_position != e->first_position || r->position != e->position))
                world_fail(w, "op %u: positions %llu-%llu, expected %llu-%llu", op->number,
                        (unsigned long long)r->first_position, (unsigned long long)r->position,
                        (unsigned long long)e->first_position, (unsigned long long)e->position);
}

/* A definite answer from the log. */
static void check_answer(struct world *w, struct op *op, const struct store_append_result *r)
{
        const struct model_answer *e = &op->expected;

        if (r->verdict != e->verdict || (e->writes && op->is_in_call)) {
                world_fail(w, "op %u: verdict %d (%s), expected %d", op->number, r->verdict, r->problem,
                        e->verdict);
                return;
        }
        if (r->verdict == STORE_OK)
                check_positions(w, op, r);
        else if (r->stream != e->failed || r->is_soft_deleted != e->is_soft_deleted)
                world_fail(w, "op %u: stream %u failed, expected %u", op->number, r->stream, e->failed);
        if (!r->streams || r->stream_count != op->request.target_count) {
                world_fail(w, "op %u: no outcome for each stream", op->number);
                return;
        }
        for (unsigned i = 0; i < r->stream_count; i++) {
                uint64_t next = r->streams[i].has_revision ? r->streams[i].revision + 1 : 0;

                if (next != e->next[i])
                        world_fail(w, "op %u: stream %u is at %llu, expected %llu", op->number, i,
                                (unsigned long long)next, (unsigned long long)e->next[i]);
        }
        /* Nothing is told before it is committed; the crashes must find it when it is. */
        if (w->options.mutant != MUTANT_ACK_BEFORE_SYNC && e->rests_on > store_next_position(w->asked))
                world_fail(w, "op %u: answered before %llu was committed", op->number,
                        (unsigned long long)e->rests_on);
        w->must_survive = MAX(w->must_survive, e->rests_on);
}

static void record_answer(struct world *w, struct op *op, const struct store_append_result *r)
{
        static const enum history_outcome outcomes[] = {
                [STORE_OK] = HISTORY_OK,
                [STORE_CONFLICT] = HISTORY_CONFLICT,
                [STORE_UNKNOWN] = HISTORY_UNKNOWN,
                [STORE_NOT_READY] = HISTORY_REFUSED,
                [STORE_NOT_LEADER] = HISTORY_REFUSED,
                [STORE_STREAM_DELETED] = HISTORY_REFUSED,
                [STORE_BUSY] = HISTORY_REFUSED,
                [STORE_FULL] = HISTORY_REFUSED,
                [STORE_INVALID] = HISTORY_REFUSED,
                [STORE_CORRUPT] = HISTORY_REFUSED,
                [STORE_TOO_LARGE] = HISTORY_REFUSED,
        };
        struct history_op *h = history_end(
                &w->history, op->number, r->is_duplicate ? HISTORY_DUPLICATE : outcomes[r->verdict]);

        h->first_position = r->first_position;
        h->position = r->has_position ? r->position : UINT64_MAX;
        h->failed = r->stream;
        for (uint32_t i = 0; r->streams && i < r->stream_count && i < h->stream_count; i++) {
                w->history.streams[h->first_stream + i].has_revision = r->streams[i].has_revision;
                w->history.streams[h->first_stream + i].revision = r->streams[i].revision;
        }
}

static void count_answer(struct world *w, struct op *op, const struct store_append_result *r)
{
        struct world_totals *t = w->totals;

        switch (r->verdict) {
        case STORE_OK:
                t->duplicates += r->is_duplicate;
                if (!r->is_duplicate)
                        t->events += op->request.event_count ? op->request.event_count : r->has_position;
                break;
        case STORE_CONFLICT:
        case STORE_STREAM_DELETED:
                t->conflicts++;
                break;
        case STORE_UNKNOWN:
                t->unknown++;
                break;
        default:
                t->refused++;
                t->busy += r->verdict == STORE_BUSY;
                t->full += r->verdict == STORE_FULL;
        }
}

static void on_answer(void *arg, const struct store_append_result *r)
{
        struct op *op = arg;
        struct world *w = op->world;
        uint64_t seen[3] = {op->number, r->verdict, r->position};
        bool is_overdue = op->deadline_us && op->deadline_us <= os_monotonic_us(w->os);

        os_sim_observe(w->os, seen, sizeof(seen));
        if (op->is_answered) {
                world_fail(w, "op %u: answered twice", op->number);
                return;
        }
        op->is_answered = true;
        op->verdict = r->verdict;
        w->outstanding--;
        record_answer(w, op, r);
        count_answer(w, op, r);
        switch (r->verdict) {
        case STORE_OK:
        case STORE_CONFLICT:
        case STORE_STREAM_DELETED:
                check_answer(w, op, r);
                break;
        case STORE_UNKNOWN:
                w->gave_up |= !is_overdue;
                break;
        case STORE_BUSY:
                if (!w->is_small || !op->is_in_call)
                        world_fail(w, "op %u: busy without a reason", op->number);
                break;
        case STORE_FULL:
                if (!w->is_nearly_full || !op->is_in_call || !op->expected.writes)
                        world_fail(w, "op %u: full without a reason", op->number);
                break;
        case STORE_NOT_READY:
                if (!op->is_in_call || !(w->is_closing || w->has_disk_fault || w->gave_up))
                        world_fail(w, "op %u: not ready without a reason", op->number);
                break;
        case STORE_CORRUPT:
                if (!w->allows_corrupt || !op->is_in_call)
                        world_fail(w, "op %u: %s", op->number, r->problem);
                w->corrupt_answers++;
                break;
        case STORE_NOT_LEADER: /* there is one node */
        case STORE_INVALID:
        case STORE_TOO_LARGE:
                world_fail(w, "op %u: %s", op->number, r->problem);
                break;
        }
        /* Clients append again when they hear of the last. */
        if (!op->is_in_call && w->nested < 3 && one_in(w, 8)) {
                w->nested++;
                ops_issue(w);
                w->nested--;
        }
}

void ops_lose_outstanding(struct world *w)
{
        for (uint32_t i = 0; i < w->op_count; i++) {
                if (w->ops[i]->is_answered)
                        continue;
                w->ops[i]->is_answered = true;
                w->ops[i]->verdict = STORE_UNKNOWN;
                w->totals->unknown++;
        }
        w->outstanding = 0;
}

/* ---- making them up ---- */

struct texts {
        struct buffer data[OP_EVENTS_MAX];
        struct buffer metadata;
        struct bytes tags[2];
};

static struct expected choose_expected(struct world *w, uint32_t side)
{
        const struct model_stream *s = &w->model.streams[side / 2];
        uint64_t next = s->side[side % 2].count;
        struct expected e = {.kind = EXPECTED_ANY};

        switch (choose(w, 10)) {
        case 0:
        case 1:
                break;
        case 2:
                e.kind = EXPECTED_NONE;
                break;
        case 3:
                e.kind = EXPECTED_EXISTS;
                break;
        case 4:
                e.kind = one_in(w, 3) ? EXPECTED_SOFT_DELETED : EXPECTED_ANY;
                break;
        case 5: /* older, or beyond the end */
                e = (struct expected){EXPECTED_EXACT, choose(w, next + 3)};
                break;
        default:
                e.kind = next ? EXPECTED_EXACT : EXPECTED_NONE;
                e.revision = next ? next - 1 : 0;
        }
        return e;
}

static void make_metadata(struct world *w, struct model_draft *d, struct event_draft *e, struct buffer *data)
{
        struct stream_metadata m = STREAM_METADATA_NONE;
        char text[160];

        /* A number of its own makes the content unique. */
        switch (choose(w, 6)) {
        case 0:
                m.max_count = 1 + choose(w, 20);
                break;
        case 1:
                m.truncate_before = choose(w, 40);
                break;
        case 2:
                m.max_count = 1 + choose(w, 20);
                m.truncate_before = choose(w, 40);
                break;
        case 3:
                m.truncate_before = REVISION_MAX;
                m.max_count = choose(w, 2) ? 5 : 0;
                break;
        default:
                break;
        }
        snprintf(text, sizeof(text), "{\"n\":%llu", (unsigned long long)w->next_content++);
        buffer_add_string(data, text);
        if (m.max_count) {
                snprintf(text, sizeof(text), ",\"$maxCount\":%llu", (unsigned long long)m.max_count);
                buffer_add_string(data, text);
        }
        if (m.truncate_before) {
                snprintf(text, sizeof(text), ",\"$tb\":%llu", (unsigned long long)m.truncate_before);
                buffer_add_string(data, text);
        }
        buffer_add_string(data, "}");
        e->type = EVENT_TYPE_METADATA;
        e->content_type = CONTENT_JSON;
        if (one_in(w, 12)) { /* not JSON: counts as empty */
                e->content_type = CONTENT_BINARY;
                m = STREAM_METADATA_NONE;
        }
        d->limits = m;
}

static void make_data(struct world *w, struct event_draft *e, struct buffer *data)
{
        static const char *const types[] = {"Placed", "Paid", "Shipped", "$audit"};
        uint64_t size = one_in(w, 20) ? choose(w, CONTENT_SIZE_MAX) : choose(w, 200);
        uint64_t n = w->next_content++;

        if (w->is_big && one_in(w, 10))
                size = choose(w, BIG_SIZE_MAX);
        buffer_add_u64(data, n);
        buffer_reserve(data, size);
        memset(data->data + data->size, (int)(n % 251 + 1), size);
        data->size += size;
        e->type = bytes_of_string(types[choose(w, COUNT_OF(types))]);
        e->content_type = (enum content_type)choose(w, 2);
}

/* Appends of before that may be tried again. */
static const struct op *choose_earlier(struct world *w, uint32_t side)
{
        for (unsigned tries = 0; tries < 4 && w->op_count; tries++) {
                uint64_t among = one_in(w, 4) || w->op_count < 12 ? w->op_count : 12;
                const struct op *op = w->ops[w->op_count - 1 - choose(w, among)];

                if (op->request.event_count && op->request.targets[0].side == side)
                        return op;
        }
        return NULL;
}

static void make_events(
        struct world *w, struct op *op, unsigned count, const struct op *earlier, unsigned skip)
{
        for (unsigned i = 0; i < count; i++) {
                struct model_draft *d = &op->drafts[i];
                uint64_t n = w->next_id++;

                d->target = (unsigned)choose(w, op->request.target_count);
                if (earlier && i + skip < earlier->request.event_count) {
                        *d = earlier->drafts[i + skip];
                        d->target = MIN(d->target, op->request.target_count - 1);
                } else {
                        memcpy(d->id.bytes, &n, sizeof(n));
                        memcpy(d->id.bytes + 8, &w->options.seed, 8);
                }
                op->request.targets[d->target].event_count++;
        }
        op->request.event_count = count;
        op->request.events = op->drafts;
}

static bool is_named(const struct op *op, uint32_t side)
{
        for (unsigned i = 0; i < op->request.target_count; i++)
                if (op->request.targets[i].side == side)
                        return true;
        return false;
}

static uint32_t choose_side(struct world *w)
{
        /* Few streams get most of it. */
        uint64_t n = one_in(w, 2) ? choose(w, 3) : choose(w, w->stream_count - 1);

        return (uint32_t)(n % (w->stream_count - 1)) * 2 + one_in(w, 7);
}

static void make_append(struct world *w, struct op *op)
{
        unsigned targets = one_in(w, 4) ? 2 + (unsigned)choose(w, 3) : 1;
        unsigned count = one_in(w, 3) ? 1 + (unsigned)choose(w, OP_EVENTS_MAX) : 1;
        const struct op *earlier = NULL;
        unsigned skip = 0;

        op->request.kind = MODEL_APPEND;
        for (unsigned i = 0; i < targets; i++) {
                uint32_t side = choose_side(w);

                if (is_named(op, side))
                        continue;
                op->request.targets[op->request.target_count++] =
                        (struct model_target){.side = side, .expected = choose_expected(w, side)};
        }
        if (one_in(w, 6))
                earlier = choose_earlier(w, op->request.targets[0].side);
        if (earlier) {
                count = earlier->request.event_count;
                op->request.targets[0].expected = earlier->request.targets[0].expected;
                switch (choose(w, 5)) {
                case 0: /* the same, expected differently */
                        op->request.targets[0].expected = choose_expected(w, op->request.targets[0].side);
                        break;
                case 1: /* a part */
                        skip = (unsigned)choose(w, count);
                        count -= skip;
                        break;
                case 2: /* and more */
                        count = MIN(count + 1, OP_EVENTS_MAX);
                        break;
                default: /* just that */
                        op->request.target_count = earlier->request.target_count;
                        memcpy(op->request.targets, earlier->request.targets, sizeof(op->request.targets));
                        for (unsigned i = 0; i < op->request.target_count; i++)
                                op->request.targets[i].event_count = 0;
                }
        }
        if (!earlier && one_in(w, 25))
                count = 0;
        make_events(w, op, count, earlier, skip);
}

static void make_delete(struct world *w, struct op *op)
{
        uint32_t side = choose_side(w) & ~1u;

        /* Tombstones are for ever: seldom, so that streams live. */
        op->request.kind = one_in(w, 25) ? MODEL_TOMBSTONE : MODEL_DELETE;
        op->request.target_count = 1;
        op->request.targets[0] = (struct model_target){.side = side, .expected = choose_expected(w, side)};
}

static void fill_events(
        struct world *w, struct op *op, struct store_append_event *events, struct texts *texts)
{
        for (unsigned i = 0; i < op->request.event_count; i++) {
                struct model_draft *d = &op->drafts[i];
                struct event_draft *e = &events[i].draft;

                *e = (struct event_draft){.id = d->id};
                events[i].stream = d->target;
                if (op->request.targets[d->target].side % 2)
                        make_metadata(w, d, e, &texts->data[i]);
                else
                        make_data(w, e, &texts->data[i]);
                e->data = buffer_bytes(&texts->data[i]);
                if (one_in(w, 4))
                        e->metadata = buffer_bytes(&texts->metadata);
                if (one_in(w, 8)) {
                        e->tags = texts->tags;
                        e->tag_count = 2;
                }
                d->content = content_hash(e->type, e->content_type, e->data, e->metadata);
        }
}

static void begin_history(struct world *w, struct op *op)
{
        op->number = history_begin(&w->history);
        for (unsigned i = 0; i < op->request.target_count; i++)
                history_add_stream(&w->history, op->request.targets[i].side, op->request.targets[i].expected);
        for (unsigned i = 0; i < op->request.event_count; i++)
                history_add_event(&w->history, op->request.targets[op->drafts[i].target].side,
                        &op->drafts[i].id, op->drafts[i].content);
}

static void call_append(struct world *w, struct op *op)
{
        struct store_append_stream streams[MODEL_TARGETS_MAX];
        struct store_append_event events[OP_EVENTS_MAX];
        struct texts texts = {.tags = {BYTES_LITERAL("customer=7"), BYTES_LITERAL("plain")}};
        struct store_append append = {.streams = streams,
                .events = events,
                .stream_count = op->request.target_count,
                .event_count = op->request.event_count,
                .write_id = control_next_write_id(w->control),
                .deadline_us = op->deadline_us};

        buffer_add_string(&texts.metadata, "{\"$correlationId\":\"c1\"}");
        fill_events(w, op, events, &texts);
        for (unsigned i = 0; i < op->request.target_count; i++)
                streams[i] = (struct store_append_stream){
                        .stream = bytes_of_string(w->names[op->request.targets[i].side]),
                        .expected = op->request.targets[i].expected};
        begin_history(w, op);
        op->expected = model_decide(&w->model, &op->request);
        store_append(w->asked, &append, on_answer, op);
        for (unsigned i = 0; i < OP_EVENTS_MAX; i++)
                buffer_fini(&texts.data[i]);
        buffer_fini(&texts.metadata);
}

static void call_delete(struct world *w, struct op *op)
{
        struct store_delete del = {
                .stream = bytes_of_string(w->names[op->request.targets[0].side]),
                .expected = op->request.targets[0].expected,
                .is_tombstone = op->request.kind == MODEL_TOMBSTONE,
                .write_id = control_next_write_id(w->control),
                .deadline_us = op->deadline_us,
        };

        begin_history(w, op);
        op->expected = model_decide(&w->model, &op->request);
        store_delete(w->asked, &del, on_answer, op);
}

/* One append or delete, now. */
void ops_issue(struct world *w)
{
        struct op *op = MEMORY_NEW(struct op);

        op->world = w;
        if (one_in(w, 20))
                make_delete(w, op);
        else
                make_append(w, op);
        if (one_in(w, 15))
                op->deadline_us = os_monotonic_us(w->os) + choose(w, 1500);
        if (w->op_count == w->op_capacity) {
                w->op_capacity = MAX(w->op_capacity * 2, 256);
                w->ops = memory_resize(w->ops, w->op_capacity * sizeof(struct op *));
        }
        w->ops[w->op_count++] = op;
        w->outstanding++;
        w->totals->appends++;
        op->is_in_call = true;
        if (op->request.kind == MODEL_APPEND)
                call_append(w, op);
        else
                call_delete(w, op);
        op->is_in_call = false;
        if (op->expected.writes && !op->is_answered) {
                model_write(&w->model, &op->request, op->number, &op->expected);
                op->is_written = true;
        }
}
