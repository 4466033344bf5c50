/* Catching up with sealed history. A member that lags behind what the leader's engine remembers is told
 * through where the log is committed and sealed; it fetches the entries over the bulk link and appends them
 * to its own log like any others: verified, in large groups, with its own segments and index files. So
 * nothing is ever half installed: after a crash there is a shorter log that is right, and it goes on from
 * there.
 *
 * What the member has stays: an entry that it has acknowledged may count for a majority. Only where an entry
 * differs in term from a committed one is the rest cut off, as an append of the leader would do. Equal chain
 * hashes at the end of each run say that both logs are equal up to there: that of what has come is looked at
 * before any of it is stored, that of what is here once it is durable. Where the terms are the same and the
 * chains are not, one of both nodes has a history that was changed: then nothing more is fetched until the
 * voters have said whose it is (compare.c).
 *
 * Request: first index, term of the entry before it (0: not compared), last index (8 each). Answer: first
 * index (8), status (4), number of entries (4), chain hash of the last (16), entries as in replication.c. An
 * answer without entries has, when it comes from a leader, its term (8) and its last index (8) in place of
 * the hash. */
#include <errno.h>
#include <stdlib.h>

#include "base/memory.h"
#include "store/room.h"

enum {
        ANSWER_OVERDUE_US = 1000 * 1000,
        SERVING_MAX = 4,
        REQUEST_SIZE = 24,
        ANSWER_HEAD_SIZE = 32,
        DAMAGED_MAX = 10,
};
/* Fetched and not written yet. */
#define UNWRITTEN_MAX (32 * MIB)
#define FETCH_SIZE    (4 * MIB)

/* ---- the one that lags ---- */

static void ask(struct store *s);

static void on_overdue(struct os_timer *timer)
{
        struct store *s = timer->arg;

        s->catch_up.asked_index = 0;
        ask(s);
        replication_flush(s);
}

void catch_up_init(struct store *s)
{
        s->catch_up.timer = (struct os_timer){.fn = on_overdue, .arg = s};
}

void catch_up_fini(struct store *s)
{
        os_timer_stop(&s->catch_up.timer);
}

uint64_t fetch_term_before(struct store *s, uint64_t index)
{
        struct record_chain chain;
        uint64_t term = 0;

        if (index > 1 && persistence_entry_mark(s->persistence, index - 1, &term, &chain))
                return 0; /* not known: the answer is compared entry by entry */
        return term;
}

bool fetch_ask(struct store *s, uint64_t node_id, uint64_t first, uint64_t previous_term, uint64_t last)
{
        uint8_t request[REQUEST_SIZE];
        struct bytes piece = bytes_of(request, sizeof(request));

        put_u64(request, first);
        put_u64(request + 8, previous_term);
        put_u64(request + 16, last);
        return store_send(s, node_id, STORE_LINK_BULK, MESSAGE_FETCH, &piece, 1);
}

bool fetched_parse(struct bytes body, struct fetched *ret)
{
        if (body.size < ANSWER_HEAD_SIZE)
                return false;
        *ret = (struct fetched){.first = get_u64(body.data),
                .status = get_u32(body.data + 8),
                .count = get_u32(body.data + 12),
                .entries = bytes_of(body.data + ANSWER_HEAD_SIZE, body.size - ANSWER_HEAD_SIZE)};
        if (ret->status == FETCH_OK) {
                memcpy(&ret->chain, body.data + 16, sizeof(ret->chain));
        } else {
                ret->leader_term = get_u64(body.data + 16);
                ret->leader_last = get_u64(body.data + 24);
        }
        return ret->status != FETCH_OK || ret->count > 0;
}

bool fetched_is_intact(const struct store *s, const struct fetched *f, const struct record_chain *before)
{
        struct record_chain chain = *before, next;

        for (unsigned i = 0; i < f->count; i++) {
                const struct cluster_entry *e = &s->replication.entries[i];

                record_chain_next(&chain, f->first + i, e->term, e->payload, &next);
                chain = next;
        }
        return memcmp(&chain, &f->chain, sizeof(chain)) == 0;
}

int fetched_count_same(struct store *s, uint64_t first, unsigned count, unsigned *ret)
{
        uint64_t last = persistence_last_index(s->persistence);
        struct record_chain chain;
        unsigned n = 0;

        for (; n < count && first + n <= last; n++) {
                uint64_t term;
                int r = persistence_entry_mark(s->persistence, first + n, &term, &chain);

                if (r)
                        return r;
                if (term != s->replication.entries[n].term)
                        break;
        }
        *ret = n;
        return 0;
}

struct persistence_entry fetched_entry(const struct store *s, unsigned i, uint64_t index)
{
        const struct cluster_entry *e = &s->replication.entries[i];
        const struct incoming *in = &s->replication.incoming[i];

        return (struct persistence_entry){.index = index,
                .term = e->term,
                .kind = in->kind,
                .first_position = in->first_position,
                .event_count = in->event_count,
                .payload = e->payload};
}

static void ask(struct store *s)
{
        struct catch_up *c = &s->catch_up;
        uint64_t leader_id = cluster_raft_leader(s->raft);
        uint64_t first = c->next;

        /* What is not durable yet cannot be compared with. */
        if (!c->is_on || c->suspected_index || c->asked_index || first > c->last_index ||
                ((c->run_index == 0 || c->run_index != first - 1) &&
                        persistence_synced_index(s->persistence) < persistence_last_index(s->persistence)) ||
                persistence_group_size(s->persistence) > UNWRITTEN_MAX)
                return;
        if (leader_id && leader_id != s->node_id &&
                fetch_ask(s, leader_id, first, fetch_term_before(s, first), c->last_index))
                c->asked_index = first;
        os_timer_stop(&c->timer);
        os_timer_start(s->os, &c->timer, ANSWER_OVERDUE_US);
}

int catch_up_begin(struct store *s, const struct cluster_update *u)
{
        struct catch_up *c = &s->catch_up;

        c->is_on = true;
        c->last_index = u->install_index;
        c->asked_index = 0;
        c->check_index = 0;
        c->run_index = 0;
        c->damaged = 0;
        c->suspected_index = 0;
        /* The engine counts all of it as committed from now on. What is here and was not known to be
         * committed before may be another leader's: it is compared before it counts. */
        c->verified_index = MIN(s->commit_index, persistence_last_index(s->persistence));
        if (store_is_mutant(s, STORE_MUTANT_INSTALL_TRUSTED))
                c->verified_index = MIN(c->last_index, persistence_synced_index(s->persistence));
        /* From the end of what is here; when that does not match, from the last committed entry on. */
        if (persistence_last_index(s->persistence) < c->last_index)
                c->next = persistence_last_index(s->persistence) + 1;
        else
                c->next = c->verified_index + 1;
        ask(s);
        return 0;
}

static int take_run(struct store *s, uint64_t first, unsigned count)
{
        struct replication *r = &s->replication;
        unsigned same = 0;
        int result = fetched_count_same(s, first, count, &same);

        if (result > 0)
                return fault_raise(-EIO);
        if (result || same == count)
                return fault_fold(result);
        if (first + same <=
                s->catch_up.verified_index) /* a committed entry of ours is another's: two histories */
                return fault_raise(-EPROTO);
        s->is_receiving = true;
        result = replica_store(s, first + same, r->entries + same, count - same);
        s->is_receiving = false;
        return fault_fold(result);
}

static void go_back(struct store *s)
{
        struct catch_up *c = &s->catch_up;

        c->next = c->verified_index + 1;
        c->run_index = 0;
        c->asked_index = 0;
        ask(s);
}

/* What is here up to `index` is not what the other node has, and was written in the same terms. */
static int suspect(struct store *s, uint64_t index)
{
        if (index == 0 || !s->options.cluster.compare_us)
                return fault_raise(-EBADMSG);
        s->catch_up.suspected_index = index;
        s->catch_up.asked_index = 0;
        return 0;
}

void catch_up_trust(struct store *s)
{
        s->catch_up.suspected_index = 0;
        s->catch_up.damaged = 0;
        if (s->catch_up.is_on)
                go_back(s);
}

/* The chain of a run, from that of the entry before it. *ret_is_intact: it ends as the other node says. */
static int look_at_chain(struct store *s, const struct fetched *f, bool *ret_is_intact)
{
        struct catch_up *c = &s->catch_up;
        struct record_chain chain = c->run_chain;
        uint64_t term;

        if (c->run_index == 0 || c->run_index != f->first - 1) {
                int r = persistence_entry_mark(s->persistence, f->first - 1, &term, &chain);

                if (r)
                        return r > 0 ? fault_raise(-EIO) : fault_fold(r);
        }
        *ret_is_intact = fetched_is_intact(s, f, &chain) || store_is_mutant(s, STORE_MUTANT_RUN_UNVERIFIED);
        return 0;
}

/* What is here may be another leader's; or it was damaged on its way, or there are two histories. */
static int run_is_damaged(struct store *s, uint64_t first)
{
        struct catch_up *c = &s->catch_up;

        if (c->run_index != first - 1 && c->next > c->verified_index + 1) {
                go_back(s);
                return 0;
        }
        s->replication.dropped++;
        if (++c->damaged > DAMAGED_MAX)
                return suspect(s, c->run_index == first - 1 ? 0 : first - 1);
        c->asked_index = 0;
        ask(s);
        return 0;
}

static bool take_answer(struct store *s, const struct fetched *f)
{
        struct catch_up *c = &s->catch_up;

        if (!c->is_on || c->suspected_index || !c->asked_index || f->first != c->asked_index)
                return false; /* late */
        if (f->status == FETCH_MISMATCH && c->next > c->verified_index + 1) {
                go_back(s);
                return false;
        }
        if (f->status != FETCH_OK || f->first + f->count - 1 > c->last_index)
                return false; /* asked again when it is overdue */
        if (!entries_from_bytes(s, f->entries, f->count))
                return false;
        return persistence_has_room(s->persistence, f->entries.size, f->count) == 0;
}

void catch_up_on_fetched(struct store *s, const struct fetched *f)
{
        struct catch_up *c = &s->catch_up;
        bool is_intact = false;
        int r;

        if (!take_answer(s, f))
                return;
        r = look_at_chain(s, f, &is_intact);
        if (!r)
                r = is_intact ? take_run(s, f->first, f->count) : run_is_damaged(s, f->first);
        if (r)
                store_fail(s, "catching up");
        if (r || !is_intact)
                return;
        c->damaged = 0;
        c->asked_index = 0;
        c->run_index = f->first + f->count - 1;
        c->run_chain = f->chain;
        c->next = f->first + f->count;
        c->check_index = f->first + f->count - 1;
        c->check_chain = f->chain;
        ask(s);
        replica_stepped(s, 0);
}

static int check(struct store *s)
{
        struct catch_up *c = &s->catch_up;
        struct record_chain chain;
        uint64_t term;
        int r = persistence_entry_mark(s->persistence, c->check_index, &term, &chain);

        if (r)
                return r > 0 ? fault_raise(-EIO) : fault_fold(r);
        c->checked_index = c->check_index;
        c->check_index = 0;
        if (store_is_mutant(s, STORE_MUTANT_RUN_UNVERIFIED))
                return 0;
        return memcmp(&chain, &c->check_chain, sizeof(chain)) == 0 ? 0 : suspect(s, c->checked_index);
}

static int finish(struct store *s)
{
        struct cluster_update u;
        int r;

        s->catch_up.is_on = false;
        os_timer_stop(&s->catch_up.timer);
        /* What is behind it is not of the log that the engine knows. */
        r = replica_store(s, s->catch_up.last_index + 1, NULL, 0);
        if (r)
                return fault_fold(r);
        r = cluster_raft_installed(s->raft, os_monotonic_us(s->os), &u);
        return r ? fault_fold(r) : replica_carry_out(s, &u);
}

int catch_up_go_on(struct store *s, bool *ret_has_moved)
{
        struct catch_up *c = &s->catch_up;
        int r = 0;

        *ret_has_moved = false;
        if (!c->is_on || c->suspected_index)
                return 0;
        if (c->check_index && persistence_synced_index(s->persistence) >= c->check_index) {
                r = check(s);
                if (r || c->suspected_index)
                        return fault_fold(r);
                /* It becomes visible, and is sealed, as it comes. */
                c->verified_index = c->checked_index;
                s->commit_index = MAX(s->commit_index, c->verified_index);
                *ret_has_moved = true;
        }
        if (c->verified_index >= c->last_index && s->applied_index >= c->last_index) {
                *ret_has_moved = true;
                return fault_fold(finish(s));
        }
        ask(s);
        return 0;
}

/* ---- the one that gives ---- */

struct serving {
        struct store *store;
        uint64_t node_id;
        uint64_t first;
};

static void answer(struct store *s, uint64_t node_id, uint64_t first, enum fetch_status status,
        const struct persistence_entries *run)
{
        struct buffer *head = &s->replication.head;
        unsigned n = 1;
        uint8_t *at;

        if (run)
                n = entries_to_pieces(s, run);
        buffer_clear(head);
        buffer_reserve(head, ANSWER_HEAD_SIZE);
        at = head->data;
        head->size = ANSWER_HEAD_SIZE;
        memset(at, 0, ANSWER_HEAD_SIZE);
        put_u64(at, first);
        put_u32(at + 8, status);
        if (run) {
                put_u32(at + 12, run->count);
                memcpy(at + 16, &run->chain, sizeof(run->chain));
                s->replication.pieces[0] = buffer_bytes(head);
                store_send(s, node_id, STORE_LINK_BULK, MESSAGE_FETCHED, s->replication.pieces, n);
        } else {
                struct bytes piece = buffer_bytes(head);

                if (s->raft && cluster_raft_state(s->raft) == CLUSTER_LEADER) {
                        put_u64(at + 16, cluster_raft_term(s->raft));
                        put_u64(at + 24, cluster_raft_last_index(s->raft));
                }
                store_send(s, node_id, STORE_LINK_BULK, MESSAGE_FETCHED, &piece, 1);
        }
        replication_flush(s);
}

static void on_fetched(void *arg, int result, const struct persistence_entries *run)
{
        struct serving *serving = arg;
        struct store *s = serving->store;
        uint64_t node_id = serving->node_id, first = serving->first;

        free(serving);
        if (result == PERSISTENCE_END)
                return;
        s->catch_up.serving--;
        if (s->state == STORE_FAILED || s->is_close_posted)
                return;
        if (result)
                answer(s, node_id, first, FETCH_ABSENT, NULL);
        else
                answer(s, node_id, first, FETCH_OK, run);
}

void catch_up_on_fetch(struct store *s, uint64_t from, struct bytes body)
{
        struct serving *serving;
        uint64_t first, last, term;
        struct record_chain chain;

        if (body.size != REQUEST_SIZE || s->catch_up.serving >= SERVING_MAX)
                return;
        first = get_u64(body.data);
        term = get_u64(body.data + 8);
        last = MIN(get_u64(body.data + 16), s->applied_index);
        if (first == 0 || first > last) {
                answer(s, from, first, FETCH_ABSENT, NULL);
                return;
        }
        if (term && first > 1) {
                uint64_t own = 0;
                int r = persistence_entry_mark(s->persistence, first - 1, &own, &chain);

                if (r || own != term) {
                        answer(s, from, first, r ? FETCH_ABSENT : FETCH_MISMATCH, NULL);
                        return;
                }
        }
        serving = MEMORY_NEW(struct serving);
        *serving = (struct serving){s, from, first};
        s->catch_up.serving++;
        persistence_fetch(s->persistence, first, last, FETCH_SIZE, on_fetched, serving);
}
