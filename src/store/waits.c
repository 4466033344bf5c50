/* Reads that wait. A linearizable one asks, after it arrived, whether the leader still leads (G7): the leader
 * asks the voters, another node asks the leader; then it waits until as much is applied here. All that arrive
 * in a turn share one question. One with a position waits for that event (G8).
 *
 * Request: nonce (8). Answer: nonce (8), index (8), which is 0 when the node does not lead. */
#include <stdlib.h>

#include "base/memory.h"
#include "store/room.h"

enum { ASK_AGAIN_US = 300 * 1000, READ_INDEX_DEADLINE_US = 2 * 1000 * 1000, REMOTE_MAX = 64 };

enum wait_state { WAIT_OFF, WAIT_NEW, WAIT_PROBING, WAIT_ASKING, WAIT_APPLYING, WAIT_POSITION };

static void on_timer(struct os_timer *timer);

void waits_init(struct store *s)
{
        list_init(&s->waits.waiting);
        s->waits.timer = (struct os_timer){.fn = on_timer, .arg = s};
}

static void finish(struct store_wait *w, enum store_verdict verdict)
{
        list_remove(&w->link);
        w->state = WAIT_OFF;
        w->done(w, verdict);
}

void store_wait_end(struct store_wait *w)
{
        if (w->state == WAIT_OFF)
                return;
        list_remove(&w->link);
        w->state = WAIT_OFF;
}

void waits_end_all(struct store *s)
{
        os_timer_stop(&s->waits.timer);
        while (!list_is_empty(&s->waits.waiting))
                finish(CONTAINER_OF(s->waits.waiting.next, struct store_wait, link), STORE_NOT_READY);
}

static void arm(struct store *s)
{
        uint64_t now = os_turn_time(s->os).monotonic_us;
        uint64_t due = UINT64_MAX;

        LIST_EACH (at, &s->waits.waiting) {
                const struct store_wait *w = CONTAINER_OF(at, struct store_wait, link);

                if (w->deadline_us)
                        due = MIN(due, w->deadline_us);
                if (w->state != WAIT_POSITION && w->state != WAIT_APPLYING)
                        due = MIN(due, now + ASK_AGAIN_US);
        }
        os_timer_stop(&s->waits.timer);
        if (due != UINT64_MAX)
                os_timer_start(s->os, &s->waits.timer, due > now ? due - now : 0);
}

static void begin(struct store *s, struct store_wait *w, enum wait_state state, uint64_t deadline_us)
{
        w->store = s;
        w->deadline_us = deadline_us;
        w->state = state;
        list_init(&w->link);
        list_add_last(&s->waits.waiting, &w->link);
        os_turn_again(s->os);
        arm(s);
}

bool store_wait_linearizable(struct store *s, struct store_wait *w, uint64_t deadline_us)
{
        assert(w->state == WAIT_OFF);
        if (s->is_leading && cluster_raft_is_only_voter(s->raft))
                return true;
        begin(s, w, WAIT_NEW, deadline_us);
        return false;
}

bool store_wait_position(struct store *s, struct store_wait *w, uint64_t position, uint64_t deadline_us)
{
        assert(w->state == WAIT_OFF);
        if (store_next_position(s) > position || store_is_mutant(s, STORE_MUTANT_POSITION_EARLY))
                return true;
        w->position = position;
        begin(s, w, WAIT_POSITION, deadline_us);
        return false;
}

/* ---- questions ---- */

static bool has_new(const struct store *s)
{
        LIST_EACH (at, &s->waits.waiting)
                if (CONTAINER_OF(at, struct store_wait, link)->state == WAIT_NEW)
                        return true;
        return false;
}

static void move_new(struct store *s, enum wait_state to, uint64_t nonce, uint64_t index)
{
        LIST_EACH (at, &s->waits.waiting) {
                struct store_wait *w = CONTAINER_OF(at, struct store_wait, link);

                if (w->state != WAIT_NEW)
                        continue;
                w->state = (int)to;
                w->nonce = nonce;
                w->index = index;
        }
}

static void ask_voters(struct store *s)
{
        struct cluster_update u;
        uint64_t nonce, index;

        if (cluster_raft_probe(s->raft, &nonce, &index, &u))
                return; /* not yet, or not any more: asked again */
        if (u.message_count)
                replication_send(s, &u);
        move_new(s, WAIT_PROBING, nonce, index);
}

static void ask_leader(struct store *s)
{
        uint64_t leader_id = cluster_raft_leader(s->raft);
        uint8_t request[8];
        struct bytes piece = bytes_of(request, sizeof(request));

        if (!leader_id || leader_id == s->node_id)
                return;
        put_u64(request, ++s->waits.asked_nonce);
        if (store_send(s, leader_id, STORE_LINK_CONTROL, MESSAGE_READ_INDEX, &piece, 1))
                move_new(s, WAIT_ASKING, s->waits.asked_nonce, 0);
}

static void ask(struct store *s)
{
        if (!s->raft || !has_new(s))
                return;
        if (s->is_leading)
                ask_voters(s);
        else
                ask_leader(s);
}

static bool is_over(const struct store *s, struct store_wait *w)
{
        if (w->state == WAIT_PROBING && (cluster_raft_probe_confirmed(s->raft) >= w->nonce ||
                                                store_is_mutant(s, STORE_MUTANT_READ_UNPROBED)))
                w->state = WAIT_APPLYING;
        if (w->state == WAIT_APPLYING)
                return s->applied_index >= w->index;
        return w->state == WAIT_POSITION && store_next_position(s) > w->position;
}

/* What `done` calls may begin and end others: so the list is looked at anew after each. */
static void finish_what_is_over(struct store *s)
{
        struct list *at = s->waits.waiting.next;

        while (at != &s->waits.waiting) {
                struct store_wait *w = CONTAINER_OF(at, struct store_wait, link);

                if (!is_over(s, w)) {
                        at = at->next;
                        continue;
                }
                finish(w, STORE_OK);
                at = s->waits.waiting.next;
        }
}

void waits_go_on(struct store *s)
{
        if (list_is_empty(&s->waits.waiting))
                return;
        finish_what_is_over(s);
}

void waits_at_turn_end(struct store *s)
{
        if (list_is_empty(&s->waits.waiting) || s->state == STORE_FAILED)
                return;
        ask(s);
        finish_what_is_over(s);
}

/* Whoever was asked leads no more, or another does: the question is put again. */
static void begin_anew(struct store *s)
{
        LIST_EACH (at, &s->waits.waiting) {
                struct store_wait *w = CONTAINER_OF(at, struct store_wait, link);

                if (w->state == WAIT_PROBING || w->state == WAIT_ASKING)
                        w->state = WAIT_NEW;
        }
}

void waits_office_lost(struct store *s)
{
        begin_anew(s);
}

static struct store_wait *find_overdue(struct store *s, uint64_t now)
{
        LIST_EACH (at, &s->waits.waiting) {
                struct store_wait *w = CONTAINER_OF(at, struct store_wait, link);

                if (w->deadline_us && w->deadline_us <= now)
                        return w;
        }
        return NULL;
}

static void on_timer(struct os_timer *timer)
{
        struct store *s = timer->arg;
        uint64_t now = os_monotonic_us(s->os);
        struct store_wait *w;

        while ((w = find_overdue(s, now)))
                finish(w, STORE_UNKNOWN);
        begin_anew(s);
        ask(s);
        arm(s);
}

/* ---- for other nodes ---- */

struct remote_wait {
        struct store_wait wait;
        uint64_t node_id;
        uint64_t nonce;
};

static void answer(struct store *s, uint64_t node_id, uint64_t nonce, uint64_t index)
{
        uint8_t body[16];
        struct bytes piece = bytes_of(body, sizeof(body));

        put_u64(body, nonce);
        put_u64(body + 8, index);
        store_send(s, node_id, STORE_LINK_CONTROL, MESSAGE_READ_INDEX_RESULT, &piece, 1);
}

static void on_remote_done(struct store_wait *wait, enum store_verdict verdict)
{
        struct remote_wait *r = CONTAINER_OF(wait, struct remote_wait, wait);
        struct store *s = wait->store;

        s->waits.remote--;
        if (verdict == STORE_OK)
                answer(s, r->node_id, r->nonce, s->applied_index);
        free(r);
}

void waits_on_read_index(struct store *s, uint64_t from, struct bytes body)
{
        struct remote_wait *r;

        if (body.size != 8 || !s->is_leading || s->waits.remote >= REMOTE_MAX)
                return; /* asked again, perhaps of another */
        r = MEMORY_NEW(struct remote_wait);
        r->node_id = from;
        r->nonce = get_u64(body.data);
        r->wait.done = on_remote_done;
        s->waits.remote++;
        begin(s, &r->wait, WAIT_NEW, os_turn_time(s->os).monotonic_us + READ_INDEX_DEADLINE_US);
}

void waits_on_read_index_result(struct store *s, uint64_t from, struct bytes body)
{
        uint64_t nonce, index;

        if (body.size != 16 || from != cluster_raft_leader(s->raft))
                return;
        nonce = get_u64(body.data);
        index = get_u64(body.data + 8);
        LIST_EACH (at, &s->waits.waiting) {
                struct store_wait *w = CONTAINER_OF(at, struct store_wait, link);

                if (w->state != WAIT_ASKING || w->nonce > nonce)
                        continue;
                w->state = WAIT_APPLYING;
                w->index = index;
        }
        finish_what_is_over(s);
}
