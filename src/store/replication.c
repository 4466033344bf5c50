/* Messages between the engines of one store on different nodes.
 *
 * What the engine wants sent to a member is kept as a range of indexes. Bytes are read from the log, written
 * or still gathering, only when the link has room for them: so a member that lags costs no memory, and
 * history comes from the files. A long range leaves in parts; each names as previous the entry before it.
 *
 * A message: the engine's part (cluster.h), then for an append its entries, each with a head of 32 bytes,
 * little-endian: term (8), first position (8), number of events (4), size of the payload (4), kind (1),
 * zeros (7); then the payload. */
#include <stdlib.h>

#include "base/memory.h"
#include "store/room.h"

/* What has come and is not written yet; beyond it messages are dropped, and sent again by their leader. */
#define UNWRITTEN_MAX (64 * MIB)

void replication_fini(struct store *s)
{
        struct replication *r = &s->replication;

        buffer_fini(&r->head);
        buffer_fini(&r->entry_heads);
        free(r->pieces);
        free(r->entries);
        free(r->incoming);
}

/* ---- sending ---- */

bool store_send(struct store *s, uint64_t node_id, enum store_link link, enum store_message type,
        const struct bytes *pieces, unsigned count)
{
        const struct store_cluster *c = &s->options.cluster;
        bool is_sent = c->send && c->send(c->arg, node_id, link, (uint16_t)type, pieces, count);

        s->replication.has_sent |= is_sent;
        return is_sent;
}

void replication_flush(struct store *s)
{
        if (!s->replication.has_sent)
                return;
        s->replication.has_sent = false;
        if (s->options.cluster.flush)
                s->options.cluster.flush(s->options.cluster.arg);
}

unsigned entries_to_pieces(struct store *s, const struct persistence_entries *run)
{
        struct replication *r = &s->replication;
        unsigned n = 1;

        if (run->count >= r->pieces_capacity) {
                r->pieces_capacity = MAX(run->count + 1, RUN_ENTRIES_MAX);
                r->pieces =
                        memory_resize(r->pieces, (1 + 2 * (size_t)r->pieces_capacity) * sizeof(*r->pieces));
        }
        buffer_clear(&r->entry_heads);
        buffer_reserve(&r->entry_heads, (size_t)run->count * ENTRY_HEAD_SIZE);
        for (unsigned i = 0; i < run->count; i++) {
                const struct persistence_entry *e = &run->entries[i];
                uint8_t *at = r->entry_heads.data + r->entry_heads.size;

                memset(at, 0, ENTRY_HEAD_SIZE);
                put_u64(at, e->term);
                put_u64(at + 8, e->first_position);
                put_u32(at + 16, e->event_count);
                put_u32(at + 20, (uint32_t)e->payload.size);
                at[24] = (uint8_t)e->kind;
                r->entry_heads.size += ENTRY_HEAD_SIZE;
                r->pieces[n++] = bytes_of(at, ENTRY_HEAD_SIZE);
                if (e->payload.size)
                        r->pieces[n++] = e->payload;
        }
        return n;
}

static struct follower *find_follower(struct store *s, uint64_t node_id)
{
        for (unsigned i = 0; i < s->replication.count; i++)
                if (s->replication.followers[i].node_id == node_id)
                        return &s->replication.followers[i];
        return NULL;
}

static void forget_range(struct follower *f)
{
        f->next = 1;
        f->last = 0;
}

static bool has_range(const struct follower *f)
{
        return f->next <= f->last;
}

static bool send_message(struct store *s, const struct cluster_message *m)
{
        struct bytes piece;

        buffer_clear(&s->replication.head);
        cluster_message_encode(m, &s->replication.head);
        piece = buffer_bytes(&s->replication.head);
        return store_send(s, m->node_id, STORE_LINK_CONTROL, MESSAGE_RAFT, &piece, 1);
}

/* An append of the entries of a run that begins at f->next. */
static bool send_run(struct store *s, struct follower *f, const struct persistence_entries *run)
{
        struct cluster_message m = {.type = CLUSTER_APPEND,
                .node_id = f->node_id,
                .term = f->term,
                .append = {.previous_index = f->next - 1,
                        .previous_term = cluster_raft_term_of(s->raft, f->next - 1),
                        .commit_index = cluster_raft_commit_index(s->raft),
                        .entry_count = run->count}};
        unsigned n = entries_to_pieces(s, run);

        buffer_clear(&s->replication.head);
        cluster_message_encode(&m, &s->replication.head);
        s->replication.pieces[0] = buffer_bytes(&s->replication.head);
        return store_send(s, f->node_id, STORE_LINK_CONTROL, MESSAGE_RAFT, s->replication.pieces, n);
}

static bool is_promised(const struct store *s, const struct follower *f)
{
        return has_range(f) && cluster_raft_state(s->raft) == CLUSTER_LEADER &&
               f->term == cluster_raft_term(s->raft) &&
               (f->next == 1 || cluster_raft_term_of(s->raft, f->next - 1) > 0);
}

struct sending {
        struct store *store;
        uint64_t node_id;
        uint64_t first;
        uint64_t term;
};

static void pump(struct store *s, struct follower *f);

static void on_fetched(void *arg, int result, const struct persistence_entries *run)
{
        struct sending *sending = arg;
        struct store *s = sending->store;
        struct follower *f = result == PERSISTENCE_END ? NULL : find_follower(s, sending->node_id);
        uint64_t first = sending->first, term = sending->term;

        free(sending);
        if (!f)
                return;
        f->is_fetching = false;
        if (is_promised(s, f) && f->next == first && f->term == term) {
                if (result) /* what cannot be read is not sent */
                        forget_range(f);
                else if (send_run(s, f, run))
                        f->next += run->count;
                else
                        return; /* the link has no room */
        }
        pump(s, f);
        replication_flush(s);
}

static void fetch(struct store *s, struct follower *f)
{
        struct sending *sending = MEMORY_NEW(struct sending);

        *sending = (struct sending){s, f->node_id, f->next, f->term};
        f->is_fetching = true;
        persistence_fetch(s->persistence, f->next, f->last, RUN_SIZE_MAX, on_fetched, sending);
}

/* Sends what the link has room for. */
static void pump(struct store *s, struct follower *f)
{
        if (s->replication.dam_index)
                return;
        while (!f->is_fetching && is_promised(s, f)) {
                struct persistence_entries run;
                int r = persistence_entries_read(
                        s->persistence, f->next, f->last, RUN_ENTRIES_MAX, RUN_SIZE_MAX, &run);

                if (r == PERSISTENCE_COLD) {
                        fetch(s, f);
                        return;
                }
                if (r) {
                        forget_range(f);
                        return;
                }
                if (!send_run(s, f, &run))
                        return;
                f->next += run.count;
        }
}

/* A range that does not go on where the last one ended replaces it: the engine begins anew from there. */
static void promise(struct store *s, const struct cluster_message *m)
{
        struct follower *f = find_follower(s, m->node_id);
        uint64_t first = m->append.previous_index + 1;
        uint64_t last = m->append.previous_index + m->append.entry_count;

        if (!f)
                return;
        if (!has_range(f) || f->term != m->term || first != f->last + 1)
                f->next = first;
        f->term = m->term;
        f->last = last;
        pump(s, f);
}

/* Without entries it must not name as previous what is not sent yet: that would be refused as a gap. */
static void send_empty(struct store *s, const struct cluster_message *m)
{
        struct follower *f = find_follower(s, m->node_id);
        struct cluster_message told = *m;

        if (f && is_promised(s, f) && f->next - 1 < m->append.previous_index) {
                told.append.previous_index = f->next - 1;
                told.append.previous_term = cluster_raft_term_of(s->raft, f->next - 1);
        }
        send_message(s, &told);
}

void replication_open_dam(struct store *s)
{
        struct replication *r = &s->replication;

        if (!r->dam_index || persistence_synced_index(s->persistence) < r->dam_index)
                return;
        r->dam_index = 0;
        for (unsigned i = 0; i < r->count; i++)
                pump(s, &r->followers[i]);
}

void replication_send(struct store *s, const struct cluster_update *u)
{
        for (unsigned i = 0; i < u->message_count; i++) {
                const struct cluster_message *m = &u->messages[i];

                if (m->type != CLUSTER_APPEND)
                        send_message(s, m);
                else if (m->append.entry_count)
                        promise(s, m);
                else
                        send_empty(s, m);
        }
}

void replication_follow_members(struct store *s, const struct cluster_configuration *c)
{
        struct replication *r = &s->replication;
        struct follower kept[CLUSTER_MEMBERS_MAX];
        unsigned n = 0;

        for (unsigned i = 0; i < c->count; i++) {
                struct follower *known = find_follower(s, c->servers[i].node_id);

                if (c->servers[i].node_id == s->node_id)
                        continue;
                kept[n] = known ? *known : (struct follower){.node_id = c->servers[i].node_id, .next = 1};
                n++;
        }
        memcpy(r->followers, kept, n * sizeof(kept[0]));
        r->count = n;
}

void store_link_has_room(struct store *s, uint64_t node_id, enum store_link link)
{
        struct follower *f = find_follower(s, node_id);

        if (s->state == STORE_FAILED || !s->raft || !f || link != STORE_LINK_CONTROL)
                return;
        pump(s, f);
}

bool replication_is_linked(const struct store *s, uint64_t node_id)
{
        for (unsigned i = 0; i < LINKED_MAX; i++)
                if (s->replication.linked[i] == node_id)
                        return true;
        return false;
}

/* Links are known before their nodes are members. */
static void note_link(struct replication *r, uint64_t node_id, bool is_up)
{
        uint64_t *free_place = NULL;

        for (unsigned i = 0; i < LINKED_MAX; i++) {
                if (r->linked[i] == node_id) {
                        r->linked[i] = is_up ? node_id : 0;
                        return;
                }
                if (!r->linked[i])
                        free_place = &r->linked[i];
        }
        if (is_up && free_place)
                *free_place = node_id;
}

void store_link_changed(struct store *s, uint64_t node_id, bool is_up)
{
        struct follower *f = find_follower(s, node_id);

        note_link(&s->replication, node_id, is_up);
        /* What was promised may be lost on the way: the engine finds out where the member stands. */
        if (f)
                forget_range(f);
        if (!is_up)
                forward_link_lost(s, node_id);
}

/* ---- receiving ---- */

static void make_room_for(struct replication *r, unsigned count)
{
        if (count <= r->capacity)
                return;
        r->capacity = MAX(count, 64);
        r->entries = memory_resize(r->entries, r->capacity * sizeof(*r->entries));
        r->incoming = memory_resize(r->incoming, r->capacity * sizeof(*r->incoming));
}

static bool is_kind(uint8_t kind)
{
        return kind == RECORD_EVENTS || kind == RECORD_BARRIER || kind == RECORD_CONFIGURATION;
}

bool entries_from_bytes(struct store *s, struct bytes rest, unsigned count)
{
        struct replication *r = &s->replication;

        if (count > rest.size / ENTRY_HEAD_SIZE)
                return false;
        make_room_for(r, count);
        for (unsigned i = 0; i < count; i++) {
                uint32_t size;

                if (rest.size < ENTRY_HEAD_SIZE || !is_kind(rest.data[24]))
                        return false;
                size = get_u32(rest.data + 20);
                if (rest.size - ENTRY_HEAD_SIZE < size)
                        return false;
                r->incoming[i] = (struct incoming){.kind = (enum record_kind)rest.data[24],
                        .first_position = get_u64(rest.data + 8),
                        .event_count = get_u32(rest.data + 16)};
                if ((r->incoming[i].kind == RECORD_EVENTS) != (r->incoming[i].event_count > 0))
                        return false;
                r->entries[i] = (struct cluster_entry){.term = get_u64(rest.data),
                        .type = entry_type_of(r->incoming[i].kind),
                        .payload = bytes_of(rest.data + ENTRY_HEAD_SIZE, size),
                        .cookie = &r->incoming[i]};
                rest = bytes_of(rest.data + ENTRY_HEAD_SIZE + size, rest.size - ENTRY_HEAD_SIZE - size);
        }
        return rest.size == 0;
}

static bool has_room_for(struct store *s, const struct cluster_message *m, uint64_t size)
{
        if (persistence_group_size(s->persistence) > UNWRITTEN_MAX)
                return false;
        return persistence_has_room(s->persistence, size, m->append.entry_count) == 0;
}

static int receive(struct store *s, const struct cluster_message *m)
{
        struct cluster_update u;
        int r = cluster_raft_receive(s->raft, os_monotonic_us(s->os), m, &u);

        if (r == CLUSTER_INVALID) {
                s->replication.dropped++;
                return 0;
        }
        while (!r) {
                bool has_more = u.has_more;

                r = replica_carry_out(s, &u);
                if (r || !has_more)
                        break;
                r = cluster_raft_more(s->raft, os_monotonic_us(s->os), &u);
        }
        return fault_fold(r);
}

void replication_take(struct store *s, const struct cluster_message *m)
{
        int r;

        s->is_receiving = true;
        r = receive(s, m);
        s->is_receiving = false;
        replica_stepped(s, r);
}

static void on_raft(struct store *s, uint64_t from, struct bytes body)
{
        struct cluster_message m;
        struct bytes rest;

        if (cluster_message_decode(body, &m, &rest)) {
                s->replication.dropped++;
                return;
        }
        m.node_id = from;
        if (m.type == CLUSTER_APPEND) {
                if (!entries_from_bytes(s, rest, m.append.entry_count) || !has_room_for(s, &m, rest.size)) {
                        s->replication.dropped++;
                        return;
                }
                m.append.entries = s->replication.entries;
        }
        replication_take(s, &m);
}

static void on_fetched_answer(struct store *s, uint64_t from, struct bytes body)
{
        struct fetched f;

        if (!fetched_parse(body, &f))
                s->replication.dropped++;
        else if (s->refetch.is_on)
                refetch_on_fetched(s, from, &f);
        else if (!mend_on_fetched(s, from, &f))
                catch_up_on_fetched(s, &f);
}

/* While it gets back what it has lost this node speaks of nothing else: it makes no promises and has none to
 * keep that it knows of. */
static void receive_lost(struct store *s, uint64_t from, enum store_message type, struct bytes body)
{
        if (s->state == STORE_FAILED || s->is_close_posted)
                return;
        if (type == MESSAGE_FETCHED)
                on_fetched_answer(s, from, body);
        else if (type == MESSAGE_FETCH)
                catch_up_on_fetch(s, from, body); /* nothing is applied: others ask elsewhere at once */
}

void store_receive(struct store *s, uint64_t from, enum store_link link, uint16_t type, struct bytes body)
{
        (void)link;
        if (s->refetch.is_on) {
                receive_lost(s, from, (enum store_message)type, body);
                return;
        }
        if (s->state == STORE_OPENING || s->state == STORE_FAILED || !s->raft || s->is_close_posted)
                return;
        assert(!s->is_carrying);
        assert(!s->is_settling);
        switch ((enum store_message)type) {
        case MESSAGE_RAFT:
                on_raft(s, from, body);
                return;
        case MESSAGE_FETCH:
                catch_up_on_fetch(s, from, body);
                return;
        case MESSAGE_FETCHED:
                on_fetched_answer(s, from, body);
                return;
        case MESSAGE_FORWARD:
                forward_on_request(s, from, body);
                return;
        case MESSAGE_FORWARDED:
                forward_on_result(s, from, body);
                return;
        case MESSAGE_READ_INDEX:
                waits_on_read_index(s, from, body);
                return;
        case MESSAGE_READ_INDEX_RESULT:
                waits_on_read_index_result(s, from, body);
                return;
        case MESSAGE_OFFER:
                grow_on_offer(s, from, body);
                return;
        case MESSAGE_MARK_ASK:
                compare_on_question(s, from, body);
                return;
        case MESSAGE_MARK:
                compare_on_answer(s, from, body);
                return;
        }
        s->replication.dropped++;
}
