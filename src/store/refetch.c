/* Getting back a damaged end of the log (G13), when the start has cut it off (persistence_lost).
 *
 * What was durable here was acknowledged, and may have counted for a majority. So until it is here again this
 * node must not vote, nor stand, nor lead, nor acknowledge: the engine is not started. The node fetches
 * committed entries from the other members, compares and verifies them as in catch_up.c, and starts the
 * engine when nothing that it has promised can be missing. When is that?
 *
 * Let t be the term that this node's vote file has: all that it ever acknowledged was in a term not above t,
 * and while it is in here it acknowledges nothing. Take any leader of a term T >= t, asked from here on, and
 * its last index M. Of every entry e that was committed, or still can be, with an acknowledgement of this
 * node in the count, that leader has e at or below M:
 *
 *  - e was appended in term T: then by this leader, which removes nothing, before this node was damaged.
 *  - e was appended in a term below T: the majority that has e and the one that elected this leader share a
 * node. If it is another one than this node, that one had e when it voted. If it is this node, its vote was
 * given before the damage, when it had e. Either way the leader has e.
 *
 * So an answer of any such leader, one that was deposed meanwhile too, says through which index this node
 * must have the log of the others: M, committed, since only committed entries are given. A majority without
 * this node has to commit M, which it does: that is what "does not count" means. When there is no such
 * majority (a second voter is damaged or down) there is no leader, and this node waits: it costs
 * availability, never an acknowledged entry.
 *
 * Then the mark is removed and the log opened once more, as in any start. */
#include <errno.h>
#include <stdlib.h>

#include "base/memory.h"
#include "store/room.h"

enum {
        OVERDUE_US = 1000 * 1000,
        PAUSE_US = 100 * 1000, /* when all members were asked and none could help */
        FULL_US = 5 * 1000 * 1000,
};

bool refetch_is_possible(void *arg, struct bytes configuration)
{
        const struct store *s = arg;
        uint64_t own_id = persistence_node_identity(s->options.node).node_id;
        struct cluster_configuration c;

        if (cluster_configuration_decode(configuration, &c))
                return false;
        for (unsigned i = 0; i < c.count; i++)
                if (c.servers[i].role == CLUSTER_VOTER && c.servers[i].node_id != own_id)
                        return true;
        return false;
}

static void again_in(struct store *s, uint64_t us)
{
        os_timer_stop(&s->refetch.timer);
        os_timer_start(s->os, &s->refetch.timer, us);
}

static void ask(struct store *s)
{
        struct refetch *r = &s->refetch;

        r->asked_of = choose_member(s, &r->members, &r->turn);
        r->asked_index = r->next;
        if (!r->asked_of || !fetch_ask(s, r->asked_of, r->next, fetch_term_before(s, r->next), UINT64_MAX)) {
                again_in(s, PAUSE_US); /* there is no link to it, or not yet */
                return;
        }
        replication_flush(s);
        again_in(s, OVERDUE_US);
}

static void ask_another(struct store *s)
{
        struct refetch *r = &s->refetch;

        r->asked_index = 0;
        r->turn++;
        if (++r->refusals % r->members.count == 0)
                again_in(s, PAUSE_US);
        else
                ask(s);
}

static void on_timer(struct os_timer *timer)
{
        struct store *s = timer->arg;
        struct refetch *r = &s->refetch;

        if (s->state == STORE_FAILED || s->is_close_posted || r->is_writing)
                return;
        if (r->is_whole) {
                r->is_on = false;
                opening_again(s);
                return;
        }
        r->turn += r->asked_index != 0; /* its answer is overdue */
        ask(s);
}

/* ---- members: as the log says ---- */

static void use_members(struct store *s, struct bytes payload)
{
        struct cluster_configuration c;

        if (cluster_configuration_decode(payload, &c) || !c.count)
                return;
        s->refetch.members = c;
        if (s->options.cluster.on_members)
                s->options.cluster.on_members(s->options.cluster.arg, &c);
}

static void use_recovered_members(struct store *s, const struct persistence_recovered *rec)
{
        struct bytes newest = rec->base_configuration, ordered;
        uint64_t index;

        s->refetch.members_index = 0;
        /* Those of today, when the log was cut far back. */
        if (persistence_lost_members(s->persistence, &ordered, &index)) {
                s->refetch.members_index = index;
                use_members(s, ordered);
                return;
        }
        for (uint64_t i = 0; i < rec->entry_count; i++)
                if (rec->entries[i].kind == RECORD_CONFIGURATION)
                        newest = rec->entries[i].payload;
        use_members(s, newest);
}

/* ---- runs of entries ---- */

static void fail(struct store *s, int fault)
{
        if (fault >= 0)
                (void)fault_raise(-EPROTO);
        store_fail(s, "getting back what the log has lost");
}

/* Through `verified` this is the log of the others. */
static void look_whether_whole(struct store *s)
{
        struct refetch *r = &s->refetch;
        int result;

        if (r->verified < r->enough) {
                ask(s);
                return;
        }
        result = persistence_lost_found(s->persistence);
        if (result) {
                fail(s, result);
                return;
        }
        r->is_whole = true;
        again_in(s, 0); /* this may be inside a call of the log */
}

static void check_run(struct store *s)
{
        struct refetch *r = &s->refetch;
        struct record_chain chain;
        uint64_t term;
        int result = persistence_entry_mark(s->persistence, r->check_index, &term, &chain);

        if (result || memcmp(&chain, &r->check_chain, sizeof(chain)) != 0) {
                fail(s, result);
                return;
        }
        r->verified = r->check_index;
        /* So that segments are sealed as they fill. */
        persistence_commit(s->persistence, r->verified);
        look_whether_whole(s);
}

static void on_written(void *arg, int result)
{
        struct store *s = arg;

        s->refetch.is_writing = false;
        if (s->state == STORE_FAILED || s->wants_close)
                return;
        if (result)
                fail(s, result);
        else
                check_run(s);
}

/* False: they do not follow what is here. */
static bool append_run(struct store *s, const struct fetched *f, unsigned from)
{
        const struct refetch *r = &s->refetch;
        uint64_t term = fetch_term_before(s, f->first + from);

        for (unsigned i = from; i < f->count; i++) {
                struct persistence_entry e = fetched_entry(s, i, f->first + i);

                if (e.term < term || e.first_position != persistence_appended_position(s->persistence))
                        return false;
                term = e.term;
                if (e.kind == RECORD_CONFIGURATION && e.index > r->members_index)
                        use_members(s, e.payload);
                persistence_append(s->persistence, &e);
        }
        return true;
}

/* No entry is of a term that the vote file has not seen. In the new term this node has voted for nobody. */
static int save_term(struct store *s, uint64_t term)
{
        int r = 0;

        if (term > s->refetch.saved_term)
                r = persistence_save_vote(s->persistence, term, 0);
        if (!r)
                s->refetch.saved_term = MAX(s->refetch.saved_term, term);
        return r;
}

/* Before anything of it is stored: it may have been damaged on its way. */
static bool is_intact(struct store *s, const struct fetched *f)
{
        struct record_chain before;
        uint64_t term;

        return persistence_entry_mark(s->persistence, f->first - 1, &term, &before) == 0 &&
               fetched_is_intact(s, f, &before);
}

static void take_run(struct store *s, const struct fetched *f)
{
        struct refetch *r = &s->refetch;
        unsigned same = 0;
        int result = fetched_count_same(s, f->first, f->count, &same);

        /* What is verified, or sealed, is committed: a difference would be two histories. */
        if (result || (same < f->count && f->first + same <= r->verified)) {
                fail(s, result);
                return;
        }
        r->refusals = 0;
        r->asked_index = 0;
        r->next = f->first + f->count;
        r->check_index = r->next - 1;
        r->check_chain = f->chain;
        os_timer_stop(&r->timer);
        if (same == f->count) {
                check_run(s);
                return;
        }
        result = save_term(s, s->replication.entries[f->count - 1].term);
        if (!result)
                result = persistence_truncate(s->persistence, f->first + same);
        if (result || !append_run(s, f, same)) {
                fail(s, result);
                return;
        }
        r->is_writing = true;
        persistence_write(s->persistence, false, on_written, s);
}

/* The member has nothing from there on. A leader says where its log ends. */
static void take_absence(struct store *s, const struct fetched *f)
{
        struct refetch *r = &s->refetch;

        if (f->leader_term >= r->term && f->leader_last > 0) {
                r->enough = f->leader_last;
                if (r->verified >= r->enough) {
                        look_whether_whole(s);
                        return;
                }
                /* What is here behind it was never committed; what is at its end is to be compared. */
                r->next = MAX(r->verified + 1, MIN(r->next, r->enough));
        }
        ask_another(s);
}

void refetch_on_fetched(struct store *s, uint64_t from, const struct fetched *f)
{
        struct refetch *r = &s->refetch;

        if (!r->asked_index || r->is_whole || from != r->asked_of || f->first != r->asked_index)
                return;
        if (f->status == FETCH_ABSENT) {
                take_absence(s, f);
        } else if (f->status == FETCH_MISMATCH) {
                if (r->next == r->verified + 1) {
                        fail(s, 0);
                        return;
                }
                r->next = r->verified + 1;
                ask(s);
        } else if (!entries_from_bytes(s, f->entries, f->count) || !is_intact(s, f)) {
                s->replication.dropped++;
                ask_another(s);
        } else if (persistence_has_room(s->persistence, f->entries.size, f->count)) {
                again_in(s, FULL_US);
        } else {
                take_run(s, f);
        }
}

void refetch_start(struct store *s)
{
        struct refetch *r = &s->refetch;
        const struct persistence_recovered *rec = persistence_recovered(s->persistence);

        s->node_id = persistence_node_identity(s->options.node).node_id;
        persistence_start(s->persistence);
        r->is_on = true;
        r->is_whole = false;
        r->term = rec->term;
        r->saved_term = rec->term;
        r->kept = persistence_last_index(s->persistence);
        r->verified = rec->base_index;
        /* The last entry is compared before anything is put behind it. */
        r->next = MAX(r->verified + 1, persistence_last_index(s->persistence));
        r->enough = UINT64_MAX;
        use_recovered_members(s, rec);
        persistence_recovered_free(s->persistence);
        if (!r->members.count) {
                opening_end(s, PERSISTENCE_CORRUPT,
                        "the log has lost entries, and names no member that could have them");
                return;
        }
        ask(s);
}

void refetch_init(struct store *s)
{
        s->refetch.timer = (struct os_timer){.fn = on_timer, .arg = s};
}

void refetch_fini(struct store *s)
{
        os_timer_stop(&s->refetch.timer);
}
