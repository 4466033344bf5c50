/* Decides expectations, idempotence and revisions (G5, G6; protocol 3.2 to 3.4). Everything is decided
 * against heads that include what is in flight; a decision that rests on something in flight says on what,
 * and is told only after that.
 *
 * The table, by the state of the stream: A absent, M metadata only, L live, D soft-deleted, T tombstoned.
 *
 *   expected       A         M         L                            D                            T
 *   any            ok        ok        ok                           ok                           deleted
 *   none           ok        ok        by ids, else conflict        by ids, else ok              deleted
 *   exists         conflict  ok        ok                           deleted                      deleted
 *   exact r        conflict  conflict  r = n ok, r < n by ids,      as L                         deleted
 *                                      else conflict
 *   soft-deleted   conflict  conflict  by ids, else conflict        ok                           conflict
 *   tombstoned     conflict  conflict  by ids, else conflict        by ids, else conflict        deleted
 *
 * Idempotence comes before the answer "ok" of any, exists and soft-deleted as well: if all ids are known
 * nothing is written. Of a stream that is only checked, "none" and "tombstoned" hold where it is tombstoned.
 */
#include "store/room.h"

struct side {
        uint64_t next;
        bool is_tombstoned;
        bool is_soft_deleted;
        bool has_metadata;
};

static struct side latest_side(const struct target *t)
{
        const struct head_state *s = &t->head->latest;

        /* A metastream has no metadata of its own; it goes with its stream's tombstone. */
        if (t->is_meta)
                return (struct side){.next = s->next_meta_revision, .is_tombstoned = s->is_tombstoned};
        return (struct side){
                .next = s->next_revision,
                .is_tombstoned = s->is_tombstoned,
                .is_soft_deleted = head_is_soft_deleted(s),
                .has_metadata = s->next_meta_revision > 0,
        };
}

enum check { CHECK_OK, CHECK_CONFLICT, CHECK_DELETED, CHECK_OLDER };

static enum check check_expected(const struct side *side, const struct expected *expected, bool is_check_only)
{
        if (side->is_tombstoned) {
                if (expected->kind == EXPECTED_SOFT_DELETED)
                        return CHECK_CONFLICT;
                /* A condition on a stream that is not written holds where there is nothing to read
                 * (protocol 3.10). */
                if ((expected->kind == EXPECTED_NONE || expected->kind == EXPECTED_TOMBSTONED) &&
                        is_check_only)
                        return CHECK_OK;
                return CHECK_DELETED;
        }
        switch (expected->kind) {
        case EXPECTED_ANY:
                return CHECK_OK;
        case EXPECTED_NONE:
                return side->next ? CHECK_OLDER : CHECK_OK;
        case EXPECTED_EXISTS:
                if (side->is_soft_deleted)
                        return CHECK_DELETED;
                return side->next || side->has_metadata ? CHECK_OK : CHECK_CONFLICT;
        case EXPECTED_EXACT:
                if (expected->revision + 1 == side->next)
                        return CHECK_OK;
                return expected->revision + 1 < side->next ? CHECK_OLDER : CHECK_CONFLICT;
        case EXPECTED_SOFT_DELETED:
                return side->is_soft_deleted ? CHECK_OK : CHECK_CONFLICT;
        case EXPECTED_TOMBSTONED:
                return CHECK_CONFLICT;
        }
        return CHECK_CONFLICT;
}

static struct pending *later(struct pending *a, struct pending *b)
{
        if (!a || !b)
                return a ? a : b;
        return a->first_position > b->first_position ? a : b;
}

static void note_found(struct target *t, unsigned i, uint64_t revision, uint64_t position)
{
        if (i == 0)
                t->found_first_position = position;
        t->found_next = revision + 1;
        t->found_position = position;
}

/* Weak expectations: by the window of recent ids. All known: a duplicate; the first unknown: a new write;
 * anything else is a conflict. */
static enum decision look_for_ids(struct store *s, const struct store_append *append, struct target *t)
{
        struct pending *rests_on = NULL;
        unsigned i = t->first_event;

        for (unsigned seen = 0; seen < t->event_count; seen++, i = t->next_event ? t->next_event[i] : i + 1) {
                const struct event_id *id = &append->events[i].draft.id;
                const struct flying_id *flying;
                struct persistence_id known;

                flying = flying_ids_find(&s->ids, id, t->hash, NULL);
                if (flying) {
                        note_found(t, seen, flying->revision, flying->position);
                        rests_on = later(rests_on, flying->pending);
                } else if (persistence_find_id(s->persistence, id, t->hash, &known) == 0) {
                        note_found(t, seen, known.revision, known.position);
                } else {
                        return seen ? DECIDED_CONFLICT : DECIDED_WRITE;
                }
        }
        t->rests_on = rests_on;
        return DECIDED_DUPLICATE;
}

/* Reads stored events of one stream one after the other. */
struct stored {
        struct persistence_reader *reader;
        uint64_t next;
};

static int stored_event(
        struct store *s, struct stored *st, const struct target *t, uint64_t revision, struct event_view *ret)
{
        int r = 0;

        if (!st->reader || st->next != revision) {
                struct persistence_reader_options options = {.stream = t->name, .from = revision};

                persistence_reader_close(&st->reader);
                r = persistence_reader_open(s->persistence, &options, &st->reader);
                if (r)
                        return r == PERSISTENCE_CORRUPT ? HEADS_CORRUPT : fault_fold(r);
        }
        r = persistence_reader_next(st->reader, ret);
        if (r == PERSISTENCE_END) /* the head says that it is there */
                return HEADS_CORRUPT;
        if (r)
                return r == PERSISTENCE_CORRUPT ? HEADS_CORRUPT : fault_fold(r);
        st->next = revision + 1;
        return 0;
}

/* One event against what stands at `revision`. */
static int compare_event(struct store *s, struct stored *st, struct target *t, const struct event_id *id,
        uint64_t revision, uint64_t *ret_position, bool *ret_is_same)
{
        const struct head_state *committed = &t->head->committed;
        uint64_t committed_next = t->is_meta ? committed->next_meta_revision : committed->next_revision;
        const struct flying_id *flying;
        struct persistence_id known;
        struct event_view event;
        int r;

        *ret_is_same = false;
        if (revision >= t->next_revision)
                return 0;
        if (revision >= committed_next) {
                flying = flying_ids_find(&s->ids, id, t->hash, &revision);
                if (flying) {
                        *ret_is_same = true;
                        *ret_position = flying->position;
                        t->rests_on = later(t->rests_on, flying->pending);
                }
                return 0;
        }
        if (persistence_find_id(s->persistence, id, t->hash, &known) == 0 && known.revision == revision) {
                *ret_is_same = true;
                *ret_position = known.position;
                return 0;
        }
        r = stored_event(s, st, t, revision, &event);
        if (r)
                return r == HEADS_CORRUPT ? HEADS_CORRUPT : fault_fold(r);
        *ret_is_same = event.revision == revision && event_id_equal(&event.id, id);
        *ret_position = event.position;
        return 0;
}

/* Strong expectations below the head: by comparing with what stands there. */
static int look_at_stored(
        struct store *s, const struct store_append *append, struct target *t, enum decision *ret)
{
        uint64_t first = t->expected.kind == EXPECTED_NONE ? 0 : t->expected.revision + 1;
        struct stored stored = {0};
        unsigned i = t->first_event;
        unsigned seen;
        int r = 0;

        *ret = t->event_count ? DECIDED_DUPLICATE : DECIDED_CONFLICT;
        for (seen = 0; seen < t->event_count; seen++, i = t->next_event ? t->next_event[i] : i + 1) {
                uint64_t position = 0;
                bool is_same = false;

                r = compare_event(
                        s, &stored, t, &append->events[i].draft.id, first + seen, &position, &is_same);
                if (r)
                        break;
                if (!is_same) {
                        *ret = DECIDED_CONFLICT;
                        break;
                }
                note_found(t, seen, first + seen, position);
        }
        persistence_reader_close(&stored.reader);
        if (*ret == DECIDED_CONFLICT && seen == 0 && t->expected.kind == EXPECTED_NONE &&
                target_is_soft_deleted(t))
                *ret = DECIDED_WRITE;
        return r == HEADS_CORRUPT ? HEADS_CORRUPT : fault_fold(r);
}

static int decide_target(struct store *s, const struct store_append *append, struct target *t)
{
        struct side side = latest_side(t);
        enum check check = check_expected(&side, &t->expected, t->is_check_only);
        bool is_weak = t->expected.kind != EXPECTED_EXACT && t->expected.kind != EXPECTED_NONE;
        int r = 0;

        t->next_revision = side.next;
        t->decision = check == CHECK_OK        ? DECIDED_WRITE
                      : check == CHECK_DELETED ? DECIDED_DELETED
                                               : DECIDED_CONFLICT;
        if (check == CHECK_OLDER)
                r = look_at_stored(s, append, t, &t->decision);
        else if (is_weak && check != CHECK_DELETED && !side.is_tombstoned && side.next && t->event_count) {
                enum decision by_ids = look_for_ids(s, append, t);

                if (by_ids != DECIDED_WRITE)
                        t->decision = by_ids;
        }
        /* What is no duplicate rests on the head itself. */
        if (t->decision != DECIDED_DUPLICATE)
                t->rests_on = t->head->newest;
        return r == HEADS_CORRUPT ? HEADS_CORRUPT : fault_fold(r);
}

static int resolve(struct store *s, const struct store_append *append, struct target *t, unsigned ordinal)
{
        const struct store_append_stream *named = &append->streams[ordinal];
        uint64_t *mark;
        int r;

        *t = (struct target){
                .name = named->stream,
                .expected = named->expected,
                .is_meta = stream_is_meta(named->stream),
        };
        r = head_map_get(&s->heads, t->is_meta ? stream_of_meta(t->name) : t->name, &t->head);
        if (r)
                return r == PERSISTENCE_CORRUPT ? HEADS_CORRUPT : fault_fold(r);
        t->hash = t->is_meta ? name_hash(t->name) : t->head->hash;
        mark = t->is_meta ? &t->head->meta_mark : &t->head->mark;
        if (*mark == s->mark)
                return HEADS_TWICE;
        *mark = s->mark;
        return 0;
}

/* Chains the events of each stream, so that many streams and many events in one append do not multiply. */
static void link_events(struct store *s, const struct store_append *append, struct target *targets)
{
        uint32_t *next = NULL;

        if (append->stream_count > 1)
                next = arena_get(&s->scratch, append->event_count * sizeof(*next));
        for (unsigned i = append->event_count; i > 0; i--) {
                struct target *t = &targets[append->events[i - 1].stream];

                if (next)
                        next[i - 1] = t->first_event;
                t->next_event = next;
                t->first_event = i - 1;
                t->event_count++;
        }
}

int heads_decide(struct store *s, const struct store_append *append, struct target *targets,
        enum decision *ret, unsigned *ret_failed)
{
        unsigned written = 0;
        unsigned duplicates = 0;
        int r;

        s->mark++;
        arena_reset(&s->scratch);
        for (unsigned i = 0; i < append->stream_count; i++) {
                r = resolve(s, append, &targets[i], i);
                *ret_failed = i;
                if (r == HEADS_TWICE || r == HEADS_CORRUPT)
                        return r;
                if (r)
                        return fault_fold(r);
        }
        link_events(s, append, targets);
        for (unsigned i = 0; i < append->stream_count; i++) {
                targets[i].is_check_only = append->event_count > 0 && targets[i].event_count == 0;
                r = decide_target(s, append, &targets[i]);
                if (r)
                        return r == HEADS_CORRUPT ? HEADS_CORRUPT : fault_fold(r);
                written += targets[i].event_count > 0;
                duplicates += targets[i].event_count > 0 && targets[i].decision == DECIDED_DUPLICATE;
        }
        *ret = DECIDED_DUPLICATE;
        if (written && duplicates == written)
                return 0;
        *ret = DECIDED_WRITE;
        for (unsigned i = append->stream_count; i-- > 0;) {
                struct target *t = &targets[i];

                if (t->decision == DECIDED_WRITE)
                        continue;
                /* Part of the append was written before, part was not: no place fits the whole. */
                if (t->decision == DECIDED_DUPLICATE) {
                        t->decision = DECIDED_CONFLICT;
                        t->rests_on = later(t->rests_on, t->head->newest);
                }
                *ret = t->decision;
                *ret_failed = i;
        }
        return 0;
}

uint64_t heads_add_event(struct head_change *c, bool is_meta, uint64_t position, const struct event_draft *e)
{
        struct side_change *side = is_meta ? &c->meta : &c->stream;
        uint64_t *next = is_meta ? &c->after.next_meta_revision : &c->after.next_revision;

        assert(*next < REVISION_MAX);
        if (!side->event_count)
                side->first_position = position;
        side->event_count++;
        side->revision = (*next)++;
        if (is_meta)
                c->after.metadata = e->content_type == CONTENT_JSON ? stream_metadata_parse(e->data)
                                                                    : STREAM_METADATA_NONE;
        return side->revision;
}

void heads_add_tombstone(struct head_change *c, uint64_t position)
{
        assert(!c->after.is_tombstoned);
        c->stream =
                (struct side_change){.first_position = position, .revision = REVISION_MAX, .event_count = 1};
        c->after.is_tombstoned = true;
}
