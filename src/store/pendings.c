/* Appends on their way. Each is in one list: gathering (has its place in the log, not yet given to the
 * engine), in flight (in the log, in log order), decided (committed, about to be answered), or the waiters of
 * another, which are answered right after it: duplicates of it, and refusals that rest on it (G5, G6).
 *
 * An append that was answered because its deadline passed stays in its list until it is decided: the heads
 * need it. */
#include <stdlib.h>

#include "base/memory.h"
#include "store/room.h"

/* Kept for the next appends. */
enum { UNUSED_PENDINGS_MAX = 4096 };
/* A group's buffer larger than this is given back. */
enum { GROUP_BUFFER_KEPT_MAX = 8 * 1024 * 1024 };
/* How long an append whose leader was lost may wait for its outcome: longer than an election. */
enum { GRACE_US = 5 * 1000 * 1000 };

static void on_deadline(struct os_timer *timer);

void pendings_init(struct store *s)
{
        list_init(&s->gathering);
        list_init(&s->in_flight);
        list_init(&s->decided);
        list_init(&s->unused);
        list_init(&s->confirming);
        flying_ids_init(&s->ids);
        s->deadline_timer.fn = on_deadline;
        s->deadline_timer.arg = s;
}

struct pending *pending_new(struct store *s, uint64_t write_id, uint64_t deadline_us, unsigned streams,
        store_append_done *done, void *arg)
{
        struct pending *p;

        if (list_is_empty(&s->unused)) {
                p = memory_new(sizeof(*p));
        } else {
                p = CONTAINER_OF(s->unused.next, struct pending, link);
                list_remove(&p->link);
                s->unused_count--;
                memset(p, 0, sizeof(*p));
        }
        list_init(&p->link);
        list_init(&p->waiters);
        list_init(&p->ids_link);
        p->done = done;
        p->arg = arg;
        p->write_id = write_id;
        p->deadline_us = deadline_us;
        p->changes = streams > 1 ? memory_new_array(streams, sizeof(*p->changes)) : &p->change;
        p->result.streams = streams > 1 ? memory_new_array(streams, sizeof(*p->result.streams)) : &p->outcome;
        p->result.stream_count = streams;
        p->result.problem = "";
        return p;
}

void pending_release(struct store *s, struct pending *p)
{
        assert(list_is_empty(&p->waiters));
        assert(!p->ids);
        list_remove(&p->link);
        if (p->changes != &p->change)
                free(p->changes);
        if (p->result.streams != &p->outcome)
                free((void *)p->result.streams);
        if (s->unused_count >= UNUSED_PENDINGS_MAX) {
                free(p);
                return;
        }
        list_add_first(&s->unused, &p->link);
        s->unused_count++;
}

static void drop_confirmations(struct store *s);

static void drop_all(struct store *s, struct list *list)
{
        while (!list_is_empty(list)) {
                struct pending *p = CONTAINER_OF(list->next, struct pending, link);

                drop_all(s, &p->waiters);
                flying_ids_remove_all(&s->ids, p);
                pending_release(s, p);
        }
}

void pendings_fini(struct store *s)
{
        os_timer_stop(&s->deadline_timer);
        drop_all(s, &s->gathering);
        drop_all(s, &s->in_flight);
        drop_all(s, &s->decided);
        drop_confirmations(s);
        while (!list_is_empty(&s->unused)) {
                struct pending *p = CONTAINER_OF(s->unused.next, struct pending, link);

                list_remove(&p->link);
                free(p);
        }
        buffer_fini(&s->group);
}

bool pendings_can_be_left(const struct store *s)
{
        if (!list_is_empty(&s->gathering) || !list_is_empty(&s->decided) || !list_is_empty(&s->confirming))
                return false;
        if (!s->options.cluster.is_member)
                return list_is_empty(&s->in_flight);
        LIST_EACH (at, &s->in_flight) {
                const struct pending *p = CONTAINER_OF(at, struct pending, link);

                if (!p->is_answered)
                        return false;
                LIST_EACH (waiting, &p->waiters)
                        if (!CONTAINER_OF(waiting, struct pending, link)->is_answered)
                                return false;
        }
        return true;
}

/* ---- deadlines ---- */

static void arm_deadline(struct store *s, uint64_t deadline_us)
{
        uint64_t now = os_turn_time(s->os).monotonic_us;

        if (s->deadline_timer.is_on && s->deadline_timer.due_us <= deadline_us)
                return;
        os_timer_stop(&s->deadline_timer);
        os_timer_start(s->os, &s->deadline_timer, deadline_us > now ? deadline_us - now : 0);
}

static void note_deadline(struct store *s, struct pending *p)
{
        if (!p->deadline_us)
                return;
        s->deadlines++;
        arm_deadline(s, p->deadline_us);
}

static void answer(struct store *s, struct pending *p)
{
        struct store_stats *stats = &s->stats;

        if (p->is_answered)
                return;
        p->is_answered = true;
        if (p->deadline_us) {
                assert(s->deadlines > 0);
                s->deadlines--;
        }
        switch (p->result.verdict) {
        case STORE_OK:
                stats->appends++;
                if (p->result.is_duplicate)
                        stats->duplicates++;
                else
                        stats->events += p->event_count;
                break;
        case STORE_CONFLICT:
        case STORE_STREAM_DELETED:
                stats->conflicts++;
                break;
        default:
                stats->unknown++;
        }
        p->done(p->arg, &p->result);
}

/* The outcome is open: the caller must not take it for a refusal (G3). */
static void answer_unknown(struct store *s, struct pending *p, const char *problem)
{
        struct store_append_result kept = p->result;

        if (p->is_answered)
                return;
        p->result = (struct store_append_result){
                .verdict = STORE_UNKNOWN, .streams = kept.streams, .problem = problem, .stream_count = 0};
        answer(s, p);
        p->result = kept;
}

/* Answers what is overdue; gives the earliest deadline of the rest. */
static uint64_t answer_overdue(struct store *s, struct list *list, uint64_t now)
{
        uint64_t earliest = UINT64_MAX;

        LIST_EACH (at, list) {
                struct pending *p = CONTAINER_OF(at, struct pending, link);
                uint64_t of_waiters = answer_overdue(s, &p->waiters, now);

                earliest = MIN(earliest, of_waiters);
                if (!p->deadline_us || p->is_answered)
                        continue;
                if (p->deadline_us <= now)
                        answer_unknown(s, p, "not committed within the deadline");
                else
                        earliest = MIN(earliest, p->deadline_us);
        }
        return earliest;
}

static void on_deadline(struct os_timer *timer)
{
        struct store *s = timer->arg;
        uint64_t now = os_turn_time(s->os).monotonic_us;
        uint64_t in_flight = answer_overdue(s, &s->in_flight, now);
        uint64_t gathering = answer_overdue(s, &s->gathering, now);
        uint64_t earliest = MIN(in_flight, gathering);

        if (earliest != UINT64_MAX)
                arm_deadline(s, earliest);
}

void pendings_at_turn_end(struct store *s)
{
        /* A timer only while something is pending: an idle store leaves the loop asleep. */
        if (!s->deadlines && s->deadline_timer.is_on)
                os_timer_stop(&s->deadline_timer);
        head_map_trim(&s->heads);
}

/* ---- the way ---- */

void pendings_group_left(struct store *s)
{
        s->gathered_count = 0;
        if (s->group.capacity > GROUP_BUFFER_KEPT_MAX)
                buffer_fini(&s->group);
        buffer_clear(&s->group);
}

void pending_gather(struct store *s, struct pending *p)
{
        assert(!p->is_waiter);
        assert(p->change_count > 0);
        s->stats.in_flight_size += p->size;
        s->gathered_count++;
        list_add_last(&s->gathering, &p->link);
        note_deadline(s, p);
}

void pending_wait_for(struct store *s, struct pending *p, struct pending *other)
{
        assert(!other->is_waiter);
        p->is_waiter = true;
        s->stats.in_flight_size += p->size;
        list_add_last(&other->waiters, &p->link);
        note_deadline(s, p);
}

void publish_write(struct store *s, enum fact_type type, uint64_t write_id, struct bytes stream,
        uint64_t hash, uint32_t count, const char *text)
{
        struct fact_payload payload = {.write_id = write_id, .count = count};

        fact_set_stream(&payload, stream, hash);
        if (text)
                fact_set_text(&payload, "%s", text);
        control_publish(s->control, type, &payload);
}

static void publish_side(struct store *s, enum fact_type type, const struct pending *p,
        const struct side_change *side, struct bytes stream, uint64_t hash)
{
        struct fact_payload payload = {
                .write_id = p->write_id,
                .revision = side->revision,
                .position = side->first_position,
                .count = side->event_count,
        };

        fact_set_stream(&payload, stream, hash);
        control_publish(s->control, type, &payload);
}

/* One fact for each stream that was written, so that whoever waits for a stream hears of it. */
static void publish_written(struct store *s, enum fact_type type, const struct pending *p)
{
        for (unsigned i = 0; i < p->change_count; i++) {
                const struct head_change *c = &p->changes[i];

                if (c->stream.event_count)
                        publish_side(s, type, p, &c->stream, head_name(c->head), c->head->hash);
                if (c->meta.event_count) {
                        struct buffer *name = &s->heads.scratch;

                        buffer_clear(name);
                        buffer_add_string(name, "$$");
                        buffer_add_bytes(name, head_name(c->head));
                        publish_side(s, type, p, &c->meta, buffer_bytes(name), name_hash(buffer_bytes(name)));
                }
        }
}

void pending_answer_now(struct store *s, struct pending *p)
{
        s->deadlines += p->deadline_us != 0;
        answer(s, p);
        pending_release(s, p);
}

/* ---- refusals that must be true of whoever leads ---- */

static void refuse_lost(struct store *s, struct pending *p)
{
        p->result = (struct store_append_result){.verdict = STORE_NOT_LEADER,
                .streams = p->result.streams,
                .problem = "another node was elected before this was committed: nothing was written",
                .leader_id = cluster_raft_leader(s->raft)};
}

/* What was lost is the proof: it may be in the log of all (G3). */
static void lose_track(struct store *s, struct pending *p)
{
        (void)s;
        p->result = (struct store_append_result){.verdict = STORE_UNKNOWN,
                .streams = p->result.streams,
                .problem = "the entry that tells what became of it cannot be read here"};
}

struct confirmation {
        struct store_wait wait;
        struct list link;
        struct store *store;
        struct pending *pending;
        uint64_t term; /* in which this node led when it refused */
};

static void confirmation_free(struct confirmation *c)
{
        store_wait_end(&c->wait);
        list_remove(&c->link);
        free(c);
}

static void on_confirmed(struct store_wait *wait, enum store_verdict verdict)
{
        struct confirmation *c = CONTAINER_OF(wait, struct confirmation, wait);
        struct store *s = c->store;
        struct pending *p = c->pending;
        /* Who lost the office meanwhile was told by another leader that reads are fresh here now; what was
         * looked at before that may have been old. */
        bool is_sure = verdict == STORE_OK && s->is_leading && c->term == cluster_raft_term(s->raft);

        confirmation_free(c);
        if (!is_sure)
                refuse_lost(s, p);
        pending_answer_now(s, p);
}

/* A leader that was replaced and does not know it yet would refuse by what was true before (G5). */
void pending_confirm(struct store *s, struct pending *p)
{
        struct confirmation *c;

        if (cluster_raft_is_only_voter(s->raft) || store_is_mutant(s, STORE_MUTANT_REFUSED_UNSURE)) {
                pending_answer_now(s, p);
                return;
        }
        c = MEMORY_NEW(struct confirmation);
        *c = (struct confirmation){
                .wait = {.done = on_confirmed}, .store = s, .pending = p, .term = cluster_raft_term(s->raft)};
        list_init(&c->link);
        list_add_last(&s->confirming, &c->link);
        if (store_wait_linearizable(s, &c->wait,
                    p->deadline_us ? p->deadline_us : os_turn_time(s->os).monotonic_us + GRACE_US))
                on_confirmed(&c->wait, STORE_OK);
}

static void drop_confirmations(struct store *s)
{
        while (!list_is_empty(&s->confirming)) {
                struct confirmation *c = CONTAINER_OF(s->confirming.next, struct confirmation, link);
                struct pending *p = c->pending;

                confirmation_free(c);
                pending_release(s, p);
        }
}

static void finish_waiters(struct store *s, struct pending *p)
{
        while (!list_is_empty(&p->waiters)) {
                struct pending *w = CONTAINER_OF(p->waiters.next, struct pending, link);

                list_remove(&w->link);
                answer(s, w);
                s->stats.in_flight_size -= w->size;
                pending_release(s, w);
        }
}

/* The answers of one commit. What they call may append again: that is gathered, never finished here. */
static void finish_decided(struct store *s)
{
        while (!list_is_empty(&s->decided)) {
                struct pending *p = CONTAINER_OF(s->decided.next, struct pending, link);
                bool was_answered = p->is_answered;

                list_remove(&p->link);
                if (!p->is_dropped)
                        publish_written(s, FACT_events_persisted, p);
                answer(s, p);
                if (!was_answered && !p->is_dropped)
                        publish_written(s, FACT_write_acknowledged, p);
                if (p->is_dropped)
                        publish_write(s, FACT_write_rejected, p->write_id, BYTES_EMPTY, 0, p->event_count,
                                p->result.problem);
                finish_waiters(s, p);
                s->stats.in_flight_size -= p->size;
                pending_release(s, p);
        }
}

/* ---- what will never be committed ---- */

/* Nothing of it was written, or nobody here can tell (`say` says which), and what was decided on top of it is
 * as open. The heads are read again from the log. */
static void drop_as(struct store *s, struct pending *p, void (*say)(struct store *s, struct pending *p))
{
        flying_ids_remove_all(&s->ids, p);
        for (unsigned i = 0; i < p->change_count; i++)
                head_drop_change(&s->heads, p->changes[i].head, p);
        p->is_dropped = true;
        say(s, p);
        LIST_EACH (at, &p->waiters)
                say(s, CONTAINER_OF(at, struct pending, link));
        list_remove(&p->link);
        list_add_last(&s->decided, &p->link);
}

/* Its place in the log was taken by another leader's entry, or it never got one. */
static void drop(struct store *s, struct pending *p)
{
        drop_as(s, p, refuse_lost);
}

static void drop_gathering(struct store *s)
{
        while (!list_is_empty(&s->gathering))
                drop(s, CONTAINER_OF(s->gathering.next, struct pending, link));
        pendings_group_left(s);
}

static void bound(struct store *s, struct list *list, uint64_t deadline_us)
{
        LIST_EACH (at, list) {
                struct pending *p = CONTAINER_OF(at, struct pending, link);

                bound(s, &p->waiters, deadline_us);
                if (p->is_answered || (p->deadline_us && p->deadline_us <= deadline_us))
                        continue;
                if (!p->deadline_us)
                        s->deadlines++;
                p->deadline_us = deadline_us;
                arm_deadline(s, deadline_us);
        }
}

void pendings_bound(struct store *s)
{
        bound(s, &s->in_flight, os_turn_time(s->os).monotonic_us + GRACE_US);
        bound(s, &s->gathering, os_turn_time(s->os).monotonic_us + GRACE_US);
}

void pendings_office_lost(struct store *s)
{
        drop_gathering(s);
        while (store_is_mutant(s, STORE_MUTANT_FLIGHT_REFUSED) && !list_is_empty(&s->in_flight))
                drop(s, CONTAINER_OF(s->in_flight.next, struct pending, link));
        pendings_bound(s);
        finish_decided(s);
}

/* ---- what is committed ---- */

/* The engine forgets what is sealed, and all of it when history is fetched: then the log tells. 0: it cannot.
 */
static uint64_t term_at(const struct store *s, uint64_t index)
{
        uint64_t term = cluster_raft_term_of(s->raft, index);
        struct record_chain chain;

        if (term || persistence_entry_mark(s->persistence, index, &term, &chain) == 0)
                return term;
        return 0;
}

/* The term of the entry at its index: its own, or it is another's: another leader's, or this node's own of a
 * later term, in the place of what another leader had cut off. In the term that is still on nobody else
 * writes. 0: not known. */
static uint64_t term_at_its_place(const struct store *s, const struct pending *p)
{
        if (store_is_mutant(s, STORE_MUTANT_FOREIGN_UNSEEN))
                return p->term;
        if (p->term == cluster_raft_term(s->raft) && p->index > s->foreign_through)
                return p->term;
        return term_at(s, p->index);
}

/* An entry of a later term was committed before its index: whoever leads from now on has that one, and behind
 * it none of an earlier term. */
static bool is_overtaken(const struct store *s, const struct pending *p, uint64_t index)
{
        return !store_is_mutant(s, STORE_MUTANT_OVERTAKEN_KEPT) && p->term != cluster_raft_term(s->raft) &&
               term_at(s, index) > p->term;
}

/* All heads and ids first: what an answer calls must find the store as it is after the whole commit. */
void pendings_commit(struct store *s, uint64_t index)
{
        while (!list_is_empty(&s->in_flight)) {
                struct pending *p = CONTAINER_OF(s->in_flight.next, struct pending, link);
                uint64_t term;

                assert(p->index > 0);
                if (p->index > index && !is_overtaken(s, p, index))
                        break;
                term = p->index > index ? 0 : term_at_its_place(s, p);
                if (term != p->term) {
                        drop_as(s, p, term || p->index > index ? refuse_lost : lose_track);
                        continue;
                }
                flying_ids_remove_all(&s->ids, p);
                for (unsigned i = 0; i < p->change_count; i++)
                        head_end_change(&s->heads, p->changes[i].head, p, &p->changes[i].after);
                list_remove(&p->link);
                list_add_last(&s->decided, &p->link);
        }
        finish_decided(s);
}

static void give_up(struct store *s, struct list *list)
{
        LIST_EACH (at, list) {
                struct pending *p = CONTAINER_OF(at, struct pending, link);

                answer_unknown(s, p, "the disk failed before the outcome was known");
                give_up(s, &p->waiters);
        }
}

void pendings_give_up(struct store *s)
{
        give_up(s, &s->decided);
        give_up(s, &s->in_flight);
        give_up(s, &s->gathering);
}

void pendings_answer_gathered(struct store *s)
{
        LIST_EACH (at, &s->in_flight)
                answer(s, CONTAINER_OF(at, struct pending, link));
}
