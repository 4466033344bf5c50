/* Mending sealed segments (G13). When the log says that a sealed segment is damaged, its entries are fetched
 * from another member, whoever has them, and the log rebuilds it. What is sealed is committed, so any
 * member's copy will do, and the log takes it only if its chain of hashes leads over to the segment behind: a
 * member with another history is found out there. Index and term of every entry are known without the damaged
 * bytes, so this node votes and counts as before.
 *
 * Fetches are those of catch_up.c; a member that cannot answer, or whose copy is damaged as well, says so,
 * and the next one is asked. */
#include <stdlib.h>

#include "base/memory.h"
#include "store/room.h"

enum {
        OVERDUE_US = 1000 * 1000,
        /* When no member could help, and when the disk is full. */
        AGAIN_US = 5 * 1000 * 1000,
};

static void go_on(struct store *s);

static void again_in(struct store *s, uint64_t us)
{
        os_timer_stop(&s->mend.timer);
        os_timer_start(s->os, &s->mend.timer, us);
}

static void give_up(struct store *s)
{
        if (s->mend.is_on)
                persistence_mend_stop(s->persistence);
        s->mend.is_on = false;
        s->mend.refusals = 0;
        again_in(s, AGAIN_US);
}

uint64_t choose_member(const struct store *s, const struct cluster_configuration *c, unsigned *turn)
{
        for (unsigned i = 0; i < c->count; i++) {
                unsigned at = (*turn + i) % c->count;

                if (c->servers[at].node_id == s->node_id)
                        continue;
                *turn = at;
                return c->servers[at].node_id;
        }
        return 0;
}

/* Members take turns: what one does not have another may. */
static void ask(struct store *s)
{
        struct mending *m = &s->mend;
        struct cluster_configuration c;
        uint64_t index;
        bool is_committed;

        cluster_raft_configuration(s->raft, &c, &index, &is_committed);
        m->asked_of = choose_member(s, &c, &m->turn);
        m->asked_index = m->next;
        if (!m->asked_of) {
                give_up(s);
                return;
        }
        /* The chain at the end tells whether it is the same log. */
        fetch_ask(s, m->asked_of, m->next, 0, m->range.last);
        replication_flush(s);
        again_in(s, OVERDUE_US);
}

/* The member that was asked does not help. */
static void ask_another(struct store *s)
{
        struct mending *m = &s->mend;

        m->asked_index = 0;
        m->turn++;
        if (++m->refusals > CLUSTER_MEMBERS_MAX)
                give_up(s);
        else
                ask(s);
}

static void begin(struct store *s)
{
        struct mending *m = &s->mend;
        int r = persistence_mend_begin(s->persistence, &m->range);

        if (r < 0) {
                store_fail(s, "mending a segment");
                return;
        }
        if (r == PERSISTENCE_NOT_FOUND)
                return;
        m->is_on = r == 0;
        m->next = m->range.first;
        m->refusals = 0;
        if (r)
                again_in(s, AGAIN_US);
        else
                ask(s);
}

static void go_on(struct store *s)
{
        struct mending *m = &s->mend;

        if (s->state == STORE_FAILED || s->is_close_posted || m->is_writing)
                return;
        if (!m->is_on)
                begin(s);
        else
                ask_another(s);
}

static void on_timer(struct os_timer *timer)
{
        go_on(timer->arg);
}

/* From inside a read or a fetch: only takes note. */
static void on_damage(void *arg)
{
        struct store *s = arg;

        if (!s->mend.is_on)
                again_in(s, 0);
}

static void on_added(void *arg, int result)
{
        struct store *s = arg;
        struct mending *m = &s->mend;

        m->is_writing = false;
        if (result == PERSISTENCE_END || s->state == STORE_FAILED)
                return;
        if (result < 0) {
                store_fail(s, "mending a segment");
                return;
        }
        m->is_on = result == 0 && m->next <= m->range.last;
        if (m->is_on) {
                ask(s);
                return;
        }
        /* Given up by the log: another member's entries may fit. Mended: there may be more to mend. */
        m->turn += result > 0;
        again_in(s, result > 0 ? AGAIN_US : 0);
}

static void add(struct store *s, unsigned count)
{
        struct mending *m = &s->mend;
        struct persistence_entry *entries = memory_new_array(count, sizeof *entries);

        for (unsigned i = 0; i < count; i++)
                entries[i] = fetched_entry(s, i, m->next + i);
        m->asked_index = 0;
        m->refusals = 0;
        m->next += count;
        m->is_writing = true;
        os_timer_stop(&m->timer);
        persistence_mend_add(s->persistence, entries, count, on_added, s);
        free(entries);
}

bool mend_on_fetched(struct store *s, uint64_t from, const struct fetched *f)
{
        struct mending *m = &s->mend;

        if (!m->is_on || !m->asked_index || from != m->asked_of || f->first != m->asked_index)
                return false;
        if (f->status != FETCH_OK || f->count > m->range.last - m->next + 1 ||
                !entries_from_bytes(s, f->entries, f->count))
                ask_another(s);
        else
                add(s, f->count);
        return true;
}

void mend_init(struct store *s)
{
        s->mend.timer = (struct os_timer){.fn = on_timer, .arg = s};
}

void mend_start(struct store *s)
{
        struct persistence_range range;

        if (!s->options.cluster.is_member)
                return;
        persistence_on_damage(s->persistence, on_damage, s);
        if (persistence_damaged(s->persistence, &range))
                again_in(s, 0);
}

void mend_fini(struct store *s)
{
        os_timer_stop(&s->mend.timer);
}
