/* Messages between nodes, with faults: dropped, copied, late, out of order; over cut links none comes. Each
 * runs on the machine that it is for, in a turn of its own. */
#include "room.h"

enum { RAFT_MESSAGE = 1, FETCHED_MESSAGE = 3, FETCHED_HEAD = 32, ENTRY_HEAD = 32, VOTE_LATE_US = 300 * 1000 };

static void parcel_free(struct parcel *p)
{
        list_remove(&p->link);
        buffer_fini(&p->body);
        free(p);
}

static void on_arrived(void *arg)
{
        struct parcel *p = arg;
        struct node *to = &p->world->nodes[p->to];

        if (to->store && (to->life == p->to_life || p->does_outlive))
                store_receive(to->store, p->from + 1, p->on, p->type, buffer_bytes(&p->body));
        parcel_free(p);
}

static void on_room(void *arg)
{
        struct parcel *p = arg;
        struct node *from = &p->world->nodes[p->from];

        if (from->store && from->life == p->from_life)
                store_link_has_room(from->store, p->to + 1, p->on);
        parcel_free(p);
}

static void leave_queue(struct parcel *p)
{
        struct world *w = p->world;
        uint64_t *queued = &w->queued[p->from][p->to][p->on];
        bool was_full = *queued >= w->link_room;
        struct parcel *news;

        if (p->is_copy)
                return;
        *queued -= MIN(*queued, p->body.size);
        if (!was_full || *queued >= w->link_room || !w->nodes[p->from].store)
                return;
        news = MEMORY_NEW(struct parcel);
        news->world = w;
        news->from = p->from;
        news->to = p->to;
        news->from_life = p->from_life;
        news->on = p->on;
        list_init(&news->link);
        list_add_last(&w->parcels, &news->link);
        os_post(w->nodes[p->from].os, on_room, news);
}

/* The network hands it over. */
static void on_due(void *arg)
{
        struct parcel *p = arg;
        struct world *w = p->world;
        struct node *to = &w->nodes[p->to];

        leave_queue(p);
        if (!to->store || (to->life != p->to_life && !p->does_outlive) || w->is_cut[p->from][p->to]) {
                parcel_free(p);
                return;
        }
        os_post(to->os, on_arrived, p);
}

static struct parcel *parcel_new(struct node *from, unsigned to, enum store_link link, uint16_t type,
        const struct bytes *pieces, unsigned count)
{
        struct world *w = from->world;
        struct parcel *p = MEMORY_NEW(struct parcel);

        p->world = w;
        p->from = from->number;
        p->to = to;
        p->from_life = from->life;
        p->to_life = w->nodes[to].life;
        p->on = link;
        p->type = type;
        for (unsigned i = 0; i < count; i++)
                buffer_add_bytes(&p->body, pieces[i]);
        list_init(&p->link);
        list_add_last(&w->parcels, &p->link);
        return p;
}

/* A bit of an entry of fetched history flips, in its term or payload. Links have sums of their own; behind
 * them there is memory. */
static void damage(struct parcel *p)
{
        struct world *w = p->world;
        uint64_t count = p->body.size >= FETCHED_HEAD ? get_u32(p->body.data + 12) : 0;
        size_t at = FETCHED_HEAD;
        uint32_t size;

        if (!count)
                return;
        for (uint64_t skip = choose(w, count); skip > 0; skip--)
                at += ENTRY_HEAD + get_u32(p->body.data + at + 20);
        size = get_u32(p->body.data + at + 20);
        at += size && !one_in(w, 4) ? ENTRY_HEAD + choose(w, size) : choose(w, 8);
        p->body.data[at] ^= (uint8_t)(1u << choose(w, 8));
        w->totals->damaged_runs++;
}

static uint64_t delay(struct world *w)
{
        uint64_t us = 100 + choose(w, 600);

        if (!w->is_healing && in_1000(w, w->rates.late))
                us += choose(w, w->rates.late_us + 1);
        return us;
}

enum vote { VOTE_NONE, VOTE_ASKED, VOTE_GRANTED };

static enum vote look_at_vote(struct bytes message)
{
        struct cluster_message m;
        struct bytes rest;

        if (cluster_message_decode(message, &m, &rest))
                return VOTE_NONE;
        if (m.type == CLUSTER_REQUEST_VOTE && !m.request_vote.is_pre_vote)
                return VOTE_ASKED;
        return m.type == CLUSTER_VOTE && m.vote.is_granted && !m.vote.is_pre_vote ? VOTE_GRANTED : VOTE_NONE;
}

bool bus_send(void *arg, uint64_t node_id, enum store_link link, uint16_t type, const struct bytes *pieces,
        unsigned count)
{
        struct node *from = arg;
        struct world *w = from->world;
        unsigned to = (unsigned)node_id - 1;
        enum vote vote;
        struct parcel *p;

        if (node_id == 0 || node_id > w->count || !w->nodes[to].store ||
                w->queued[from->number][to][link] >= w->link_room)
                return false;
        w->totals->messages++;
        if (type == FETCHED_MESSAGE && w->rates.fetched_lost && !w->is_healing &&
                in_1000(w, w->rates.fetched_lost)) {
                w->totals->dropped++;
                return true;
        }
        vote = w->rates.is_restless && type == RAFT_MESSAGE ? look_at_vote(pieces[0]) : VOTE_NONE;
        if (vote == VOTE_GRANTED)
                faults_on_vote(from);
        if (!w->is_healing && in_1000(w, w->rates.drop)) {
                w->totals->dropped++;
                return true;
        }
        p = parcel_new(from, to, link, type, pieces, count);
        if (type == FETCHED_MESSAGE && !w->is_healing && in_1000(w, w->rates.damage))
                damage(p);
        p->does_outlive = vote == VOTE_ASKED && w->rates.do_requests_outlive;
        w->queued[p->from][p->to][link] += p->body.size;
        /* Elections in which requests come late are where a vote must be remembered. */
        os_sim_world_call(w->sim,
                delay(w) +
                        (vote == VOTE_ASKED && !w->is_healing && one_in(w, 2) ? choose(w, VOTE_LATE_US) : 0),
                on_due, p);
        /* Links give each message once; the engines must bear more, the requests between stores need not. */
        if (!w->is_healing && type == RAFT_MESSAGE && in_1000(w, w->rates.copy)) {
                p = parcel_new(from, to, link, type, pieces, count);
                p->is_copy = true;
                os_sim_world_call(w->sim, delay(w), on_due, p);
        }
        return true;
}

static void on_link_news(void *arg)
{
        struct parcel *p = arg;
        struct node *to = &p->world->nodes[p->to];

        if (to->store && to->life == p->to_life)
                store_link_changed(to->store, p->from + 1, p->type);
        parcel_free(p);
}

static void tell_link(struct world *w, unsigned from, unsigned to, bool is_up)
{
        struct parcel *p;

        if (!w->nodes[to].store)
                return;
        p = MEMORY_NEW(struct parcel);
        p->world = w;
        p->from = from;
        p->to = to;
        p->to_life = w->nodes[to].life;
        p->type = is_up;
        list_init(&p->link);
        list_add_last(&w->parcels, &p->link);
        os_post(w->nodes[to].os, on_link_news, p);
}

void bus_tell_links(struct world *w, unsigned node, bool is_up)
{
        for (unsigned i = 0; i < w->count; i++) {
                if (i == node)
                        continue;
                w->queued[node][i][STORE_LINK_CONTROL] = w->queued[node][i][STORE_LINK_BULK] = 0;
                tell_link(w, node, i, is_up);
                if (w->nodes[i].store)
                        tell_link(w, i, node, is_up);
        }
}

/* The world is about to be freed, and with it whatever was to run. */
void bus_forget(struct world *w)
{
        while (!list_is_empty(&w->parcels))
                parcel_free(CONTAINER_OF(w->parcels.next, struct parcel, link));
}
