/* Changes of members and transfers, as an operator without patience would ask for them; and how one voter
 * becomes three.
 *
 * The making of three of one (the old voter is node 1, the joiners are 2 and 3). L is the last entry, all is
 * committed.
 *
 *   1. The old voter takes no more writes, waits until L is committed, and chooses a term: the one behind its
 * own.
 *   2. It tells the joiners to prepare (term, L). A joiner stops its engine, if it has one, and fetches what
 * it lacks up to L; then it says so. An attempt of a term that is not newer than one that it has stored is
 * ignored.
 *   3. With both ready, the old voter stops its engine and makes the term durable. From here on an attempt
 * that fails is one whose (L + 1, term) will never be used again: at its next start as sole voter it takes a
 * term behind (RG2).
 *   4. It tells the joiners to store the configuration as entry L + 1 of that term. They make term and entry
 * durable, stay passive, and say so.
 *   5. With both stored, the old voter stores it too, and only when that is durable it starts its engine with
 * it: the three exist. If it gives up before, it starts as the sole voter again.
 *
 * A joiner with such an entry at its end in its newest durable term does not know whether step 5 happened.
 * Two joiners that started would be a majority of three beside a sole voter that knows of nothing. So it
 * starts only with a message which shows that the entry is in use, and drops the entry with one which shows
 * that it is not: cluster_grow_judge.
 */
#include "room.h"

#include <stdlib.h>

#include "base/memory.h"

enum { GROW_PATIENCE_US = 2 * SECOND };

static void carry_out(struct world *w, struct node *n, int r, struct cluster_update *u)
{
        if (r == 0)
                node_carry_out(w, n, u);
        else if (r < 0)
                world_fail(w, "node %llu: a change gives %d, %s", (unsigned long long)n->id, r, fault_last());
}

static void promote(struct world *w, struct node *n, uint64_t id)
{
        struct cluster_update u;
        int r = cluster_raft_is_caught_up(n->raft, node_clock(w, n), id, &u);

        if (r == CLUSTER_NOT_NOW || r == 0)
                carry_out(w, n, 0, &u);
        if (r == 0 && n->is_up && !w->result->has_failed) {
                r = cluster_raft_promote(n->raft, node_clock(w, n), id, &u);
                w->result->totals.changes += r == 0;
                carry_out(w, n, r, &u);
        }
}

/* Without RG3's patience for those who have not caught up. */
static void promote_at_once(struct world *w, struct node *n, uint64_t id)
{
        struct cluster_update u;
        int r = cluster_raft_promote(n->raft, node_clock(w, n), id, &u);

        w->result->totals.changes += r == 0;
        carry_out(w, n, r, &u);
}

/* Mostly what can be done with the node as it is; now and then what cannot. */
static unsigned choose(struct world *w, const struct node *n, uint64_t id)
{
        struct cluster_configuration in_use;
        uint64_t at;
        bool is_committed;

        cluster_raft_configuration(n->raft, &in_use, &at, &is_committed);
        for (unsigned i = 0; i < in_use.count && !world_chance(w, 100); i++) {
                if (in_use.servers[i].node_id != id)
                        continue;
                if (in_use.servers[i].role == CLUSTER_STANDBY)
                        return world_chance(w, 700) ? 3 : 2;
                return 1 + (unsigned)world_random(w, 2);
        }
        return (unsigned)world_random(w, 4) * world_chance(w, 200);
}

static void change(struct world *w, struct node *n, uint64_t id)
{
        char address[16] = "node0:1";
        struct cluster_update u;
        int r;

        address[4] = (char)('0' + id);
        switch (choose(w, n, id)) {
        case 0:
                r = cluster_raft_add(n->raft, node_clock(w, n), id, address, &u);
                break;
        case 1:
                r = cluster_raft_demote(n->raft, node_clock(w, n), id, &u);
                break;
        case 2:
                r = cluster_raft_remove(n->raft, node_clock(w, n), id, &u);
                break;
        default:
                if (w->options.guards_off & (1u << 3))
                        promote_at_once(w, n, id);
                else
                        promote(w, n, id);
                return;
        }
        w->result->totals.changes += r == 0;
        w->result->totals.refused_changes += r != 0;
        carry_out(w, n, r, &u);
}

void members_act(struct world *w, struct node *n)
{
        if (!n->is_up || !n->raft || cluster_raft_state(n->raft) != CLUSTER_LEADER ||
                n->paused_until > w->now)
                return;
        node_step_begins(w, n);
        change(w, n, 1 + world_random(w, w->node_count));
}

void members_transfer(struct world *w, struct node *n)
{
        struct cluster_update u;
        int r;

        if (!n->is_up || !n->raft || n->paused_until > w->now)
                return;
        node_step_begins(w, n);
        r = cluster_raft_transfer(n->raft, node_clock(w, n), 1 + world_random(w, w->node_count), &u);
        w->result->totals.transfers += r == 0;
        carry_out(w, n, r, &u);
}

/* ---- one voter becomes three: the joiners ---- */

/* The entry that makes three of one, if it stands at the end of the log and its term is the newest that is
 * durable. Any life after it is in a later term, so this needs no mark of its own on the disk. */
bool grow_is_passive(const struct world *w, const struct node *n)
{
        const struct entry *last = log_at(&n->log, n->log.count);
        struct cluster_configuration c;
        unsigned voters = 0;

        if (w->schedule != GROW || n->id == 1 || n->is_awake || !last || last->type != CLUSTER_CHANGE ||
                n->term != last->term)
                return false;
        if (cluster_configuration_decode(world_payload(w, last->value), &c))
                return false;
        for (unsigned i = 0; i < c.count; i++)
                voters += c.servers[i].role == CLUSTER_VOTER;
        return voters == 3;
}

static void answer(struct world *w, struct node *n, enum packet_kind kind, uint64_t term)
{
        struct packet *p = world_packet(n->id, 1, kind);

        p->a = term;
        world_send(w, p);
}

/* A stand-by has its entries from the engine, which may lack some and may have some that the old voter has
 * lost; only the engine may set that right, since the old voter counts on what was acknowledged. */
static bool is_member(const struct world *w, const struct node *n)
{
        struct cluster_configuration c;

        if (!n->change_index ||
                cluster_configuration_decode(world_payload(w, log_at(&n->log, n->change_index)->value), &c))
                return false;
        for (unsigned i = 0; i < c.count; i++)
                if (c.servers[i].node_id == n->id)
                        return true;
        return false;
}

static void begin_preparing(struct node *n, const struct packet *p)
{
        if (n->raft)
                node_stop_engine(n);
        n->grow = GROW_PREPARING;
        n->grow_term = p->a;
        n->grow_last = p->b;
        n->commit = n->applied = 0;
        n->install_generation++;
        /* What is fetched has terms below the attempt's; no entry's is above the durable one. */
        if (n->term < p->a - 1)
                node_save_vote(n, p->a - 1, 0);
}

static void prepare(struct world *w, struct node *n, const struct packet *p)
{
        bool is_equal = n->log.count == p->b && log_chain(&n->log, p->b) == p->c;

        if (n->is_passive) {
                /* A newer attempt: the older one is never used. */
                if (p->a > log_at(&n->log, n->log.count)->term && !n->wakes_when_written) {
                        n->commit = 0;
                        n->wakes_when_written = true;
                        node_write(w, n, n->log.count, NULL, 0);
                }
                return;
        }
        if (p->a <= n->term || n->wakes_when_written)
                return; /* an attempt of the past, or its end is known */
        if (is_member(w, n) && n->grow == GROW_NONE && !is_equal)
                return;
        if (n->grow != GROW_PREPARING || n->grow_term < p->a)
                begin_preparing(n, p);
        if (n->grow_term != p->a)
                return;
        n->grow_until = w->now + GROW_PATIENCE_US;
        if (is_equal && n->stored == n->grow_last)
                answer(w, n, GROW_PREPARED, p->a);
        if (is_equal || is_member(w, n))
                return;
        if (n->log.count >= n->grow_last)
                node_write(w, n, 1, NULL, 0); /* a copy of another time */
        node_fetch(w, n, 1);
}

static void store(struct world *w, struct node *n, const struct packet *p)
{
        if (n->is_passive) {
                if (log_at(&n->log, n->log.count)->term == p->a && n->stored == n->log.count)
                        answer(w, n, GROW_STORED, p->a);
                return;
        }
        if (n->grow != GROW_PREPARING || n->grow_term != p->a || n->stored != n->grow_last ||
                n->log.count != n->grow_last)
                return;
        node_save_vote(n, p->a, 0);
        node_write(w, n, n->grow_last + 1, p->entries, 1);
        n->grow = GROW_NONE;
        n->is_passive = true;
        n->is_awake = false;
        if (w->options.mutant == GROW_WAKES_EARLY)
                node_start(w, n);
}

bool grow_wakes(struct world *w, struct node *n, const struct cluster_message *m)
{
        const struct entry *last = log_at(&n->log, n->log.count);
        struct cluster_message hint;

        if (!n->is_passive || n->wakes_when_written || n->stored != n->log.count)
                return false;
        switch (cluster_grow_judge(m, n->log.count, last->term, &hint)) {
        case CLUSTER_GROW_UNKNOWN:
                return false;
        case CLUSTER_GROW_ASK: {
                struct packet *p = world_packet(n->id, m->node_id, ENGINE);

                cluster_message_encode(&hint, &p->bytes);
                world_send(w, p);
                return false;
        }
        case CLUSTER_GROW_DONE:
                world_say(w, "n%llu wakes: the three are in use", (unsigned long long)n->id);
                break;
        case CLUSTER_GROW_ABANDONED:
                /* The end of the entry is durable before any newer term is, or after a crash it would be
                 * used. */
                world_say(w, "n%llu wakes: the three were given up", (unsigned long long)n->id);
                n->commit = 0;
                n->wakes_when_written = true;
                node_write(w, n, n->log.count, NULL, 0);
                return false;
        }
        n->is_awake = true;
        node_start(w, n);
        return n->raft != NULL;
}

/* ---- the old voter ---- */

static unsigned bit(uint64_t id)
{
        return 1u << id;
}

static void tell_joiners(struct world *w, struct node *n)
{
        for (uint64_t id = 2; id <= 3; id++) {
                struct packet *p;

                if (n->grow_answers & bit(id))
                        continue;
                p = world_packet(n->id, id, n->grow == GROW_PREPARING ? GROW_PREPARE : GROW_STORE);
                p->a = n->grow_term;
                p->b = n->grow_last;
                p->c = log_chain(&n->log, n->grow_last);
                if (n->grow == GROW_STORING) {
                        p->entries = memory_new_array(1, sizeof(*p->entries));
                        p->entry_count = 1;
                        p->entries[0] = n->grow_entry;
                }
                world_send(w, p);
        }
}

static void make_entry(struct world *w, struct node *n)
{
        struct cluster_configuration three = {.count = 3};
        struct buffer payload = {0};

        for (unsigned i = 0; i < 3; i++) {
                three.servers[i].node_id = i + 1;
                three.servers[i].role = CLUSTER_VOTER;
                memcpy(three.servers[i].address, "node0:1", 8);
                three.servers[i].address[4] = (char)('1' + i);
        }
        if (cluster_configuration_encode(&three, &payload))
                world_fail(w, "no configuration");
        n->grow_entry = (struct entry){.term = n->grow_term,
                .type = CLUSTER_CHANGE,
                .value = world_configuration(w, buffer_bytes(&payload))};
        buffer_fini(&payload);
}

void grow_begin(struct world *w, struct node *n)
{
        struct cluster_configuration in_use;
        uint64_t at;
        bool is_committed;

        if (!n->is_up || !n->raft || n->grow != GROW_NONE || !cluster_raft_can_write(n->raft))
                return;
        cluster_raft_configuration(n->raft, &in_use, &at, &is_committed);
        if (in_use.count == 3 && in_use.servers[1].role == CLUSTER_VOTER)
                return;
        w->result->totals.grow_tries++;
        n->grow = GROW_PREPARING;
        n->grow_term = cluster_raft_term(n->raft) + 1;
        n->grow_last = 0;
        n->grow_answers = 0;
        n->grow_until = w->now + GROW_PATIENCE_US;
}

void grow_forget(struct node *n)
{
        n->grow = GROW_NONE;
        n->is_passive = n->is_awake = n->wakes_when_written = n->grow_is_written = false;
}

/* It starts as what its log says: the sole voter, in a term of its own. Not before its log is durable: the
 * engine takes what it is given at the start for that. */
static void give_up(struct world *w, struct node *n)
{
        if (!n->raft && n->write_count)
                return;
        world_say(w, "n%llu gives up making three", (unsigned long long)n->id);
        n->grow = GROW_NONE;
        if (!n->raft)
                node_start(w, n);
}

static void old_voter_tick(struct world *w, struct node *n)
{
        bool all = n->grow_answers == (bit(2) | bit(3));

        if (n->grow_is_written) {
                if (n->write_count)
                        return;
                world_say(w, "n%llu starts as one of three", (unsigned long long)n->id);
                w->result->totals.grown++;
                n->grow = GROW_NONE;
                n->grow_is_written = false;
                node_start(w, n);
                return;
        }
        if (w->now > n->grow_until) {
                give_up(w, n);
                return;
        }
        if (!n->grow_last) {
                if (n->applied != n->log.count)
                        return;
                n->grow_last = n->log.count;
        }
        if (all && n->grow == GROW_PREPARING) {
                node_stop_engine(n);
                if (w->options.mutant != GROW_WITHOUT_TERM)
                        node_save_vote(n, n->grow_term, n->id);
                make_entry(w, n);
                n->grow = GROW_STORING;
                n->grow_answers = 0;
        } else if (all) {
                if (w->options.mutant == GROW_WITHOUT_TERM)
                        node_save_vote(n, n->grow_term, n->id);
                node_write(w, n, n->grow_last + 1, &n->grow_entry, 1);
                n->grow_is_written = true;
                return;
        }
        tell_joiners(w, n);
}

void grow_tick(struct world *w, struct node *n)
{
        if (n->wakes_when_written && !n->write_count) {
                n->wakes_when_written = n->is_passive = false;
                n->grow = GROW_NONE;
                node_start(w, n);
                return;
        }
        if (n->grow == GROW_NONE)
                return;
        if (n->id == 1)
                old_voter_tick(w, n);
        else if (w->now > n->grow_until)
                give_up(w, n);
}

void grow_packet(struct world *w, struct node *n, const struct packet *p)
{
        switch (p->kind) {
        case GROW_PREPARE:
                prepare(w, n, p);
                break;
        case GROW_STORE:
                store(w, n, p);
                break;
        case GROW_PREPARED:
        case GROW_STORED:
                if (n->grow == (p->kind == GROW_PREPARED ? GROW_PREPARING : GROW_STORING) &&
                        n->grow_term == p->a)
                        n->grow_answers |= bit(p->from);
                break;
        default:
                break;
        }
}
