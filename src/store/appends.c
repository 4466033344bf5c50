/* Appends and deletes: checks their form, has heads.c decide, gives events their positions, builds the record
 * in the group's buffer. The group leaves at the end of the turn (replica.c).
 *
 * Nothing is refused after its positions were given: what could refuse (room on disk, memory) is asked
 * before. */
#include "base/memory.h"
#include "store/room.h"

/* Counted for each event and each stream beside their bytes: headers of the payload, ids, heads. */
enum { APPEND_OVERHEAD = 256, EVENT_OVERHEAD = 128 };

/* ---- refusals ---- */

static const char *const verdict_texts[] = {
        [STORE_OK] = "ok",
        [STORE_CONFLICT] = "the expected revision does not hold",
        [STORE_STREAM_DELETED] = "the stream is deleted",
        [STORE_INVALID] = "invalid",
        [STORE_TOO_LARGE] = "too large",
        [STORE_BUSY] = "too much in flight",
        [STORE_FULL] = "the disk is full",
        [STORE_NOT_READY] = "the store takes no appends now",
        [STORE_NOT_LEADER] = "another node leads",
        [STORE_CORRUPT] = "what the stream holds cannot be read: see nilo verify",
        [STORE_UNKNOWN] = "the deadline has passed",
};

static void count_refusal(struct store *s, enum store_verdict verdict)
{
        switch (verdict) {
        case STORE_CONFLICT:
        case STORE_STREAM_DELETED:
                s->stats.conflicts++;
                break;
        case STORE_INVALID:
        case STORE_TOO_LARGE:
                s->stats.invalid++;
                break;
        case STORE_UNKNOWN:
                s->stats.unknown++;
                break;
        default:
                s->stats.refused++;
        }
}

struct request {
        struct store *store;
        const struct store_append *append;
        store_append_done *done;
        void *arg;
};

static void refuse(const struct request *rq, const struct store_append_result *result)
{
        struct store *s = rq->store;
        struct store_append_result told = *result;
        bool has_stream = result->stream < rq->append->stream_count;
        struct bytes name = has_stream ? rq->append->streams[result->stream].stream : BYTES_EMPTY;

        if (!told.problem || !*told.problem)
                told.problem = verdict_texts[told.verdict];
        count_refusal(s, told.verdict);
        publish_write(s, FACT_write_rejected, rq->append->write_id, name, name_hash(name),
                rq->append->event_count, told.problem);
        rq->done(rq->arg, &told);
}

static void refuse_plainly(const struct request *rq, enum store_verdict verdict, const char *problem)
{
        refuse(rq, &(struct store_append_result){.verdict = verdict, .problem = problem});
}

/* Where the leader is, if anybody knows. */
static void refuse_without_leader(const struct request *rq)
{
        uint64_t leader_id = cluster_raft_leader(rq->store->raft);

        refuse(rq, &(struct store_append_result){.verdict = leader_id && leader_id != rq->store->node_id
                                                                    ? STORE_NOT_LEADER
                                                                    : STORE_NOT_READY,
                           .leader_id = leader_id});
}

/* ---- the form ---- */

static bool fail(struct store_append_result *ret, enum store_verdict verdict, const char *problem,
        uint64_t size, uint64_t limit)
{
        ret->verdict = verdict;
        ret->problem = problem;
        ret->size = size;
        ret->limit = limit;
        return false;
}

static bool check_stream(const struct store_append_stream *named, struct store_append_result *ret)
{
        struct bytes name = named->stream;
        uint64_t limit = LIMIT_STREAM_NAME_SIZE_MAX + (stream_is_meta(name) ? 2 : 0);

        if (name.size > limit)
                return fail(ret, STORE_TOO_LARGE, "the stream name is too long", name.size, limit);
        if (!stream_name_is_valid(name))
                return fail(ret, STORE_INVALID, "the stream name is invalid", 0, 0);
        if (stream_is_meta(name)) {
                struct bytes base = stream_of_meta(name);

                if (base.size == 0 || stream_is_meta(base))
                        return fail(ret, STORE_INVALID, "a metastream has no metastream", 0, 0);
        }
        if (named->expected.kind == EXPECTED_EXACT && named->expected.revision >= REVISION_MAX)
                return fail(ret, STORE_INVALID, "the expected revision is beyond 2^63-1", 0, 0);
        return true;
}

static bool check_type(struct bytes type, struct store_append_result *ret)
{
        if (type.size == 0)
                return fail(ret, STORE_INVALID, "an event has no type", 0, 0);
        if (type.size > LIMIT_EVENT_TYPE_SIZE_MAX)
                return fail(ret, STORE_TOO_LARGE, "the event type is too long", type.size,
                        LIMIT_EVENT_TYPE_SIZE_MAX);
        if (!bytes_is_utf8(type))
                return fail(ret, STORE_INVALID, "the event type is no UTF-8", 0, 0);
        return true;
}

/* `before`: the event before, which was found good, or NULL. */
static bool check_event(
        const struct event_draft *e, const struct event_draft *before, struct store_append_result *ret)
{
        uint64_t size = event_draft_size(e);
        bool has_same_type = before && before->type.data == e->type.data && before->type.size == e->type.size;

        if (!has_same_type && !check_type(e->type, ret))
                return false;
        if (e->metadata.size > LIMIT_METADATA_SIZE_MAX)
                return fail(ret, STORE_TOO_LARGE, "the event's metadata is too large", e->metadata.size,
                        LIMIT_METADATA_SIZE_MAX);
        if (size > LIMIT_EVENT_SIZE_MAX)
                return fail(ret, STORE_TOO_LARGE, "the event is too large", size, LIMIT_EVENT_SIZE_MAX);
        if (e->tag_count > LIMIT_TAGS_MAX)
                return fail(
                        ret, STORE_TOO_LARGE, "the event has too many tags", e->tag_count, LIMIT_TAGS_MAX);
        for (unsigned i = 0; i < e->tag_count; i++)
                if (e->tags[i].size > LIMIT_TAG_SIZE_MAX)
                        return fail(ret, STORE_TOO_LARGE, "a tag is too long", e->tags[i].size,
                                LIMIT_TAG_SIZE_MAX);
        return true;
}

/* What the append takes in the log and in memory at most. */
static uint64_t size_of_event(const struct event_draft *e)
{
        uint64_t size = EVENT_OVERHEAD + e->data.size + e->metadata.size + e->type.size;

        for (unsigned i = 0; i < e->tag_count; i++)
                size += e->tags[i].size + VARINT_SIZE_MAX;
        return size;
}

/* False, and why in *ret, if the append cannot be taken in any state of the store (G17). */
static bool check_form(const struct store_append *a, struct store_append_result *ret, uint64_t *ret_size)
{
        uint64_t size = APPEND_OVERHEAD;
        uint64_t events_size = 0;

        if (a->stream_count == 0)
                return fail(ret, STORE_INVALID, "the append names no stream", 0, 0);
        if (a->stream_count > LIMIT_APPEND_STREAMS_MAX)
                return fail(
                        ret, STORE_TOO_LARGE, "too many streams", a->stream_count, LIMIT_APPEND_STREAMS_MAX);
        if (a->event_count > LIMIT_APPEND_EVENTS_MAX)
                return fail(ret, STORE_TOO_LARGE, "too many events", a->event_count, LIMIT_APPEND_EVENTS_MAX);
        for (ret->stream = 0; ret->stream < a->stream_count; ret->stream++) {
                if (!check_stream(&a->streams[ret->stream], ret))
                        return false;
                size += APPEND_OVERHEAD + a->streams[ret->stream].stream.size;
        }
        for (ret->event = 0; ret->event < a->event_count; ret->event++) {
                const struct store_append_event *e = &a->events[ret->event];

                ret->stream = e->stream;
                if (e->stream >= a->stream_count)
                        return fail(ret, STORE_INVALID, "an event belongs to no stream of the append", 0, 0);
                if (!check_event(&e->draft, ret->event ? &e[-1].draft : NULL, ret))
                        return false;
                events_size += event_draft_size(&e->draft);
                size += size_of_event(&e->draft);
        }
        ret->stream = 0;
        ret->event = 0;
        if (events_size > LIMIT_APPEND_SIZE_MAX)
                return fail(
                        ret, STORE_TOO_LARGE, "the append is too large", events_size, LIMIT_APPEND_SIZE_MAX);
        *ret_size = size;
        return true;
}

/* ---- building the record ---- */

struct build {
        struct store *store;
        struct pending *pending;
        struct record_events_writer writer;
        uint64_t next_position;
};

static struct head_change *change_of(struct build *b, struct head *h)
{
        struct pending *p = b->pending;

        if (h->slot_mark != b->store->mark) {
                h->slot_mark = b->store->mark;
                h->slot = p->change_count++;
                p->changes[h->slot] = (struct head_change){.head = h, .after = h->latest};
        }
        return &p->changes[h->slot];
}

static void build_begin(struct build *b, struct store *s, struct pending *p)
{
        uint64_t wall = os_turn_time(s->os).wall_us;

        *b = (struct build){.store = s, .pending = p, .next_position = s->next_position};
        /* The wall clock may jump back; times in the log do not (G19). */
        s->last_time_us = MAX(s->last_time_us, wall);
        p->payload_start = s->group.size;
        p->first_position = s->next_position;
        record_events_begin(&b->writer, &s->group, s->last_time_us);
}

/* `before`: the event before if it is one of the same stream, else NULL. */
static uint64_t build_event(
        struct build *b, struct target *t, const struct event_draft *e, const struct event_draft *before)
{
        struct head_change *c = change_of(b, t->head);
        uint64_t revision = heads_add_event(c, t->is_meta, b->next_position, e);

        if (before)
                record_events_add_another(&b->writer, revision, e,
                        e->type.data == before->type.data ? e->type.size == before->type.size
                                                          : bytes_equal(e->type, before->type));
        else
                record_events_add(&b->writer, t->name, revision, e);
        flying_ids_add(&b->store->ids, b->pending, &e->id, t->hash, revision, b->next_position);
        return b->next_position++;
}

static void random_id(struct store *s, struct event_id *ret)
{
        os_random(s->os, ret->bytes, sizeof(ret->bytes));
        event_id_stamp_random(ret);
}

/* Writes a metadata event of our own for the stream of `h`. */
static uint64_t build_metadata(struct build *b, struct head *h, struct bytes body)
{
        struct store *s = b->store;
        struct event_draft e = {.type = EVENT_TYPE_METADATA, .content_type = CONTENT_JSON, .data = body};
        struct target meta = {.head = h, .is_meta = true};
        uint8_t *name = arena_get(&s->scratch, h->name_size + 2);

        memcpy(name, "$$", 2);
        memcpy(name + 2, h->name, h->name_size);
        meta.name = bytes_of(name, h->name_size + 2);
        meta.hash = name_hash(meta.name);
        random_id(s, &e.id);
        return build_event(b, &meta, &e, NULL);
}

/* A soft-deleted stream begins anew: its metadata as `body` has it, but with what was before out of sight. */
static uint64_t build_revival(struct build *b, struct head *h, struct bytes body)
{
        struct buffer revived = {0};
        uint64_t position;

        stream_metadata_with_truncate_before(body, h->latest.next_revision, &revived);
        position = build_metadata(b, h, buffer_bytes(&revived));
        buffer_fini(&revived);
        return position;
}

static void keep_soft_body(struct build *b, struct head_change *c, struct bytes body)
{
        if (head_is_soft_deleted(&c->after))
                head_keep_body(&b->store->heads, c->head, body);
}

/* The record is built: heads, positions and the group take it. */
static void build_end(struct build *b, uint64_t size)
{
        struct store *s = b->store;
        struct pending *p = b->pending;

        record_events_end(&b->writer);
        assert(b->next_position > s->next_position);
        p->event_count = (uint32_t)(b->next_position - s->next_position);
        p->payload_size = s->group.size - p->payload_start;
        p->size = size;
        s->next_position = b->next_position;
        for (unsigned i = 0; i < p->change_count; i++)
                head_begin_change(&s->heads, p->changes[i].head, p, &p->changes[i].after);
        arena_reset(&s->scratch);
        pending_gather(s, p);
}

/* ---- results ---- */

static struct store_stream_outcome outcome_of(uint64_t next_revision)
{
        return (struct store_stream_outcome){
                .has_revision = next_revision > 0, .revision = next_revision ? next_revision - 1 : 0};
}

/* One always fits, however small the limit: "busy, try again" must not be the answer for ever. */
static bool fits_in_flight(const struct store *s, uint64_t size)
{
        return !s->stats.in_flight_size || s->stats.in_flight_size + size <= s->options.in_flight_size_max;
}

static struct store_stream_outcome *outcomes(struct pending *p)
{
        return (struct store_stream_outcome *)p->result.streams;
}

/* Answers now, or when what the answer rests on is committed. To wait takes memory, so that can be refused.
 */
static void answer_resting(const struct request *rq, struct pending *p, struct pending *rests_on)
{
        struct store *s = rq->store;
        struct bytes name = rq->append->streams[p->result.stream].stream;
        bool is_refusal = p->result.verdict != STORE_OK;

        if (rests_on && !fits_in_flight(s, APPEND_OVERHEAD)) {
                pending_release(s, p);
                refuse_plainly(rq, STORE_BUSY, "");
                return;
        }
        if (is_refusal)
                publish_write(s, FACT_write_rejected, rq->append->write_id, name, name_hash(name),
                        rq->append->event_count, p->result.problem);
        p->size = APPEND_OVERHEAD;
        if (rests_on)
                pending_wait_for(s, p, rests_on);
        else if (p->result.is_duplicate) /* that it is committed stays true whoever leads */
                pending_answer_now(s, p);
        else
                pending_confirm(s, p);
}

static struct pending *newest_of(struct pending *a, struct pending *b)
{
        return !a || (b && b->first_position > a->first_position) ? b : a;
}

static void conclude_refusal(
        const struct request *rq, const struct target *targets, enum decision decision, unsigned failed)
{
        const struct store_append *a = rq->append;
        struct pending *p =
                pending_new(rq->store, a->write_id, a->deadline_us, a->stream_count, rq->done, rq->arg);
        struct pending *rests_on = targets[failed].rests_on;

        p->result.verdict = decision == DECIDED_DELETED ? STORE_STREAM_DELETED : STORE_CONFLICT;
        p->result.problem = verdict_texts[p->result.verdict];
        p->result.stream = failed;
        p->result.is_soft_deleted = target_is_soft_deleted(&targets[failed]);
        /* It tells where each stream stands, so it rests on all of them. */
        for (unsigned i = 0; i < a->stream_count; i++) {
                struct store_stream_outcome *o = &outcomes(p)[i];

                *o = outcome_of(targets[i].next_revision);
                o->has_failed = targets[i].decision != DECIDED_WRITE;
                o->is_soft_deleted = target_is_soft_deleted(&targets[i]);
                o->is_tombstoned = targets[i].head->latest.is_tombstoned;
                rests_on = newest_of(rests_on, targets[i].head->newest);
        }
        answer_resting(rq, p, rests_on);
}

static void conclude_duplicate(const struct request *rq, const struct target *targets)
{
        const struct store_append *a = rq->append;
        struct pending *p =
                pending_new(rq->store, a->write_id, a->deadline_us, a->stream_count, rq->done, rq->arg);
        struct pending *rests_on = NULL;

        p->result.is_duplicate = true;
        p->result.has_position = true;
        p->result.first_position = UINT64_MAX;
        for (unsigned i = 0; i < a->stream_count; i++) {
                const struct target *t = &targets[i];

                rests_on = newest_of(rests_on, t->rests_on);
                outcomes(p)[i] = outcome_of(t->event_count ? t->found_next : t->next_revision);
                if (!t->event_count)
                        continue;
                p->result.first_position = MIN(p->result.first_position, t->found_first_position);
                p->result.position = MAX(p->result.position, t->found_position);
        }
        answer_resting(rq, p, rests_on);
}

/* An append without events, and nothing to revive: it was only asked. */
static void conclude_check(const struct request *rq, const struct target *targets)
{
        const struct store_append *a = rq->append;
        struct pending *p =
                pending_new(rq->store, a->write_id, a->deadline_us, a->stream_count, rq->done, rq->arg);
        struct pending *rests_on = NULL;

        for (unsigned i = 0; i < a->stream_count; i++) {
                rests_on = newest_of(rests_on, targets[i].rests_on);
                outcomes(p)[i] = outcome_of(targets[i].next_revision);
        }
        answer_resting(rq, p, rests_on);
}

/* ---- appends ---- */

/* Refuses what memory or disk cannot take now; nothing has been decided in the log yet. */
static bool has_room(const struct request *rq, uint64_t size)
{
        struct store *s = rq->store;

        if (!fits_in_flight(s, size)) {
                refuse_plainly(rq, STORE_BUSY, "");
                return false;
        }
        if (persistence_has_room(s->persistence, s->group.size + size, s->gathered_count + 1) != 0) {
                refuse_plainly(rq, STORE_FULL, "");
                return false;
        }
        return true;
}

/* Both sides of a soft-deleted stream are written: its last metadata event decides what the revival keeps. */
static bool is_meta_written(
        struct store *s, const struct store_append *a, const struct target *targets, const struct head *h)
{
        if (h->meta_mark != s->mark)
                return false;
        for (unsigned i = 0; i < a->stream_count; i++)
                if (targets[i].head == h && targets[i].is_meta)
                        return targets[i].event_count > 0;
        return false;
}

static void write_revivals_before(struct build *b, const struct store_append *a, struct target *targets)
{
        for (unsigned i = 0; i < a->stream_count; i++) {
                struct target *t = &targets[i];
                bool is_written = t->event_count > 0 || a->event_count == 0;

                if (!is_written || !target_is_soft_deleted(t) ||
                        is_meta_written(b->store, a, targets, t->head))
                        continue;
                b->pending->result.position = build_revival(b, t->head, t->head->soft_body);
                b->pending->result.first_position = b->pending->result.position;
        }
}

static void write_revivals_after(
        struct build *b, const struct store_append *a, struct target *targets, const struct bytes *bodies)
{
        for (unsigned i = 0; i < a->stream_count; i++) {
                struct target *t = &targets[i];

                if (t->is_meta && t->event_count && head_is_soft_deleted(&t->head->latest))
                        build_revival(b, t->head, bodies[i]);
        }
}

static void write_append(const struct request *rq, struct target *targets, uint64_t size)
{
        const struct store_append *a = rq->append;
        struct store *s = rq->store;
        struct pending *p = pending_new(s, a->write_id, a->deadline_us, a->stream_count, rq->done, rq->arg);
        struct bytes *bodies = arena_get(&s->scratch, a->stream_count * sizeof(*bodies));
        struct build b;

        p->result.has_position = true;
        build_begin(&b, s, p);
        write_revivals_before(&b, a, targets);
        for (unsigned i = 0; i < a->event_count; i++) {
                const struct store_append_event *e = &a->events[i];
                struct target *t = &targets[e->stream];
                bool is_another = i > 0 && e[-1].stream == e->stream;
                uint64_t position = build_event(&b, t, &e->draft, is_another ? &e[-1].draft : NULL);

                if (i == 0)
                        p->result.first_position = position;
                p->result.position = position;
                bodies[e->stream] = e->draft.content_type == CONTENT_JSON ? e->draft.data : BYTES_EMPTY;
        }
        for (unsigned i = 0; i < a->stream_count; i++) {
                const struct head *h = targets[i].head;
                const struct head_change *c = h->slot_mark == s->mark ? &p->changes[h->slot] : NULL;
                const struct head_state *after = c ? &c->after : &h->latest;

                outcomes(p)[i] =
                        outcome_of(targets[i].is_meta ? after->next_meta_revision : after->next_revision);
        }
        write_revivals_after(&b, a, targets, bodies);
        for (unsigned i = 0; i < a->stream_count; i++)
                if (targets[i].is_meta && targets[i].event_count)
                        keep_soft_body(&b, change_of(&b, targets[i].head), bodies[i]);
        build_end(&b, size);
}

static bool revives(const struct store_append *a, const struct target *targets)
{
        for (unsigned i = 0; i < a->stream_count; i++)
                if (target_is_soft_deleted(&targets[i]))
                        return true;
        return false;
}

static struct target *targets_for(struct store *s, unsigned count)
{
        if (count > s->target_capacity) {
                s->target_capacity = MAX(count, 16);
                s->targets = memory_resize(s->targets, s->target_capacity * sizeof(*s->targets));
        }
        return s->targets;
}

/* Decides; what is to be written is left to the caller: true. */
static bool decide(const struct request *rq, struct target *targets)
{
        enum decision decision = DECIDED_WRITE;
        unsigned failed = 0;
        int r = heads_decide(rq->store, rq->append, targets, &decision, &failed);

        if (r == HEADS_TWICE) {
                refuse(rq, &(struct store_append_result){.verdict = STORE_INVALID,
                                   .stream = failed,
                                   .problem = "a stream is named twice"});
                return false;
        }
        if (r) {
                /* Damaged or unreadable bytes are a refusal of this stream, not of the store (G13). */
                refuse(rq, &(struct store_append_result){.verdict = STORE_CORRUPT, .stream = failed});
                return false;
        }
        if (decision == DECIDED_DUPLICATE)
                conclude_duplicate(rq, targets);
        else if (decision != DECIDED_WRITE)
                conclude_refusal(rq, targets, decision, failed);
        return decision == DECIDED_WRITE;
}

static bool is_overdue(const struct request *rq)
{
        uint64_t deadline = rq->append->deadline_us;

        if (!deadline || deadline > os_turn_time(rq->store->os).monotonic_us)
                return false;
        refuse_plainly(rq, STORE_UNKNOWN, "");
        return true;
}

void appends_take(struct store *s, const struct store_append *append, store_append_done *done, void *arg)
{
        struct request rq = {.store = s, .append = append, .done = done, .arg = arg};
        struct store_append_result problem = {0};
        struct target *targets;
        uint64_t size;

        if (!check_form(append, &problem, &size)) {
                refuse(&rq, &problem);
                return;
        }
        if (is_overdue(&rq))
                return;
        targets = targets_for(s, append->stream_count);
        if (!decide(&rq, targets))
                return;
        if (append->event_count == 0 && !revives(append, targets)) {
                conclude_check(&rq, targets);
                return;
        }
        if (!has_room(&rq, size))
                return;
        publish_write(s, FACT_write_command_validated, append->write_id, targets[0].name, targets[0].hash,
                append->event_count, NULL);
        write_append(&rq, targets, size);
}

/* What no leader would take is refused here. */
static void append_elsewhere(const struct request *rq)
{
        struct store_append_result problem = {0};
        uint64_t size;

        if (!check_form(rq->append, &problem, &size))
                refuse(rq, &problem);
        else if (rq->append->requires_leader || !forward_append(rq->store, rq->append, rq->done, rq->arg))
                refuse_without_leader(rq);
}

void store_append(struct store *s, const struct store_append *append, store_append_done *done, void *arg)
{
        struct request rq = {.store = s, .append = append, .done = done, .arg = arg};

        if (s->state != STORE_READY) {
                refuse_plainly(&rq, STORE_NOT_READY, "");
                return;
        }
        if (!s->is_leading) {
                append_elsewhere(&rq);
                return;
        }
        appends_take(s, append, done, arg);
}

/* ---- deletes ---- */

static void write_delete(const struct request *rq, struct target *t, bool is_tombstone)
{
        static const char soft_delete[] = "{\"$tb\":9223372036854775807}";
        struct store *s = rq->store;
        const struct store_append *a = rq->append;
        struct pending *p = pending_new(s, a->write_id, a->deadline_us, 1, rq->done, rq->arg);
        struct bytes body = bytes_of_string(soft_delete);
        struct build b;

        p->result.has_position = true;
        outcomes(p)[0] = outcome_of(t->next_revision);
        build_begin(&b, s, p);
        if (is_tombstone) {
                struct event_draft e = {.type = EVENT_TYPE_STREAM_DELETED, .content_type = CONTENT_JSON};
                struct head_change *c = change_of(&b, t->head);

                random_id(s, &e.id);
                heads_add_tombstone(c, b.next_position);
                record_events_add(&b.writer, t->name, REVISION_MAX, &e);
                p->result.position = b.next_position++;
        } else {
                p->result.position = build_metadata(&b, t->head, body);
                keep_soft_body(&b, change_of(&b, t->head), body);
        }
        p->result.first_position = p->result.position;
        build_end(&b, 2 * APPEND_OVERHEAD + t->name.size);
}

void store_delete(struct store *s, const struct store_delete *del, store_append_done *done, void *arg)
{
        struct store_append_stream stream = {.stream = del->stream, .expected = del->expected};
        struct store_append append = {.streams = &stream,
                .stream_count = 1,
                .write_id = del->write_id,
                .deadline_us = del->deadline_us};
        struct request rq = {.store = s, .append = &append, .done = done, .arg = arg};
        struct store_append_result problem = {0};
        struct target *t = targets_for(s, 1);
        uint64_t size;

        if (s->state != STORE_READY) {
                refuse_plainly(&rq, STORE_NOT_READY, "");
                return;
        }
        if (!check_form(&append, &problem, &size)) {
                refuse(&rq, &problem);
                return;
        }
        if (stream_is_meta(del->stream)) {
                refuse_plainly(&rq, STORE_INVALID, "a metastream is deleted with its stream only");
                return;
        }
        if (!s->is_leading) {
                if (del->requires_leader || !forward_delete(s, del, done, arg))
                        refuse_without_leader(&rq);
                return;
        }
        if (is_overdue(&rq) || !decide(&rq, t))
                return;
        /* There is nothing to delete: a conflict whatever was expected (protocol 3.4). */
        if (!del->is_tombstone && !t->head->latest.next_revision && !t->head->latest.next_meta_revision) {
                conclude_refusal(&rq, t, DECIDED_CONFLICT, 0);
                return;
        }
        if (!has_room(&rq, 2 * APPEND_OVERHEAD + del->stream.size))
                return;
        publish_write(s, FACT_write_command_validated, del->write_id, t->name, t->hash, 1, NULL);
        write_delete(&rq, t, del->is_tombstone);
}
