/* One connection between two nodes, from its first byte.
 *
 * The dialler speaks first. The accepting side checks that hello, answers with its own, and takes the link as
 * up when the first frame follows, since only then has the dialler taken its hello too. So a link that is up
 * on one side is, or was, accepted by the other. Who does not take a hello says why before it closes; both
 * sides tell their people. */
#include "peers/room.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/sm.h"

/* A process that says nothing for so long may be gone: another one with its node's id takes over. */
#define DOUBTFUL_US ((uint64_t)600000)

static const struct sm_state link_states[] = {
        [LINK_CONNECTING] = {"connecting", TO(LINK_GREETING) | TO(LINK_CLOSING)},
        [LINK_GREETING] = {"greeting",
                TO(LINK_CONFIRMING) | TO(LINK_UP) | TO(LINK_ASKING) | TO(LINK_CLOSING)},
        [LINK_CONFIRMING] = {"confirming", TO(LINK_UP) | TO(LINK_CLOSING)},
        [LINK_UP] = {"up", TO(LINK_CLOSING)},
        [LINK_ASKING] = {"asking", TO(LINK_CLOSING)},
        [LINK_CLOSING] = {"closing", 0},
};

static uint64_t now_us(const struct link *l)
{
        return os_turn_time(l->peers->os).monotonic_us;
}

bool link_is_stranger(const struct link *l)
{
        return !l->is_dialled && l->state != LINK_UP && l->state != LINK_CLOSING;
}

/* ---- end ---- */

/* The link leaves its member. Told once: at the first reason. */
static void link_part(struct link *l, const char *why)
{
        struct member *m = l->member;
        bool was_up = l->state == LINK_UP;

        if (l->state == LINK_CLOSING)
                return;
        sm_move(link_states, &l->state, LINK_CLOSING);
        l->member = NULL;
        if (!m)
                return;
        if (was_up)
                member_down(m, l->kind, why);
        else if (l->is_dialled)
                member_dial_failed(m, l->kind, why);
}

static void link_close(struct link *l, const char *why)
{
        link_part(l, why);
        wire_close(l->wire, why);
}

void link_drop(struct link *l, const char *why)
{
        l->member = NULL;
        link_close(l, why);
}

void link_refuse(struct link *l, enum refusal refusal, const char *why)
{
        refusal_add(wire_out(l->wire), refusal, why);
        wire_push(l->wire);
        if (refusal != REFUSAL_SUPERFLUOUS)
                peers_tell_refused(l->peers, l->node, wire_address(l->wire), why);
        link_close(l, why);
}

static void on_broken(void *arg, const char *why)
{
        struct link *l = arg;

        if (l->state == LINK_CONNECTING || l->state == LINK_GREETING)
                peers_tell_refused(l->peers, l->node, wire_address(l->wire), why);
        link_part(l, why);
}

static void on_end(void *arg, const char *why)
{
        struct link *l = arg;
        struct peers *p = l->peers;

        link_part(l, why);
        list_remove(&l->at);
        p->link_count--;
        free(l);
        peers_release(p);
}

/* ---- up ---- */

static void send_frame(struct link *l, enum frame_type type, struct bytes body)
{
        frame_add(wire_out(l->wire), (uint16_t)type, 0, NULL, &body, 1);
        wire_push(l->wire);
}

void link_ping(struct link *l, uint64_t now)
{
        uint8_t body[8];

        l->pinged_us = now;
        put_u64(body, now);
        send_frame(l, FRAME_PING, bytes_of(body, sizeof body));
}

static struct rival rival_of(const struct link *l)
{
        bool is_lower = l->peers->hello.identity.node_id < l->node;

        return (struct rival){.is_dialled_by_lower = l->is_dialled ? is_lower : !is_lower, .dial = l->dial};
}

/* Whether `l` may take the place of the link that is up; if not, it is refused here. */
static bool link_supersedes(struct link *l)
{
        struct link *up = l->member->slots[l->kind].up;
        char why[WHY_SIZE];

        if (!up || up == l)
                return true;
        if (up->instance != l->instance) {
                if (now_us(l) - wire_heard_us(up->wire) > DOUBTFUL_US)
                        return true;
                snprintf(why, sizeof why, "\"%s\" says that it is node %llu, which is connected from %s",
                        l->name, (unsigned long long)l->node, wire_address(up->wire));
                link_refuse(l, REFUSAL_WRONG, why);
                return false;
        }
        /* A dialler that has a link meanwhile stays with that. The accepting side hears of this one only if
         * the dialler has none, or if both have dialled and each has taken its own. */
        if (!l->is_dialled && rival_stays(rival_of(l), rival_of(up)))
                return true;
        link_refuse(l, REFUSAL_SUPERFLUOUS, "another connection stays");
        return false;
}

static void link_become_up(struct link *l)
{
        if (!link_supersedes(l))
                return;
        sm_move(link_states, &l->state, LINK_UP);
        if (l->is_dialled)
                link_ping(l, now_us(l)); /* what the accepting side waits for */
        member_up(l->member, l);
}

/* ---- hello ---- */

static struct hello hello_of(const struct link *l, enum hello_kind kind)
{
        struct hello hello = l->peers->hello;

        hello.kind = kind;
        hello.dial = l->dial;
        hello.wanted_node = l->node;
        return hello;
}

static void send_hello(struct link *l, enum hello_kind kind)
{
        struct hello hello = hello_of(l, kind);

        hello_add(wire_out(l->wire), &hello);
        wire_push(l->wire);
}

static void link_note_hello(struct link *l, const struct hello *hello)
{
        l->node = hello->identity.node_id;
        l->instance = hello->instance;
        l->version = hello_version(&l->peers->hello, hello);
        memcpy(l->name, hello->identity.name, sizeof l->name);
}

static void take_asker(struct link *l, const struct hello *hello, const struct tls_identity *proved)
{
        char why[WHY_SIZE];

        if (!hello_check_asker(&l->peers->hello, hello, proved, why)) {
                link_refuse(l, REFUSAL_WRONG, why);
                return;
        }
        sm_move(link_states, &l->state, LINK_ASKING);
        l->begun_us = now_us(l);
        wire_trust(l->wire, PEERS_ASK_SIZE_MAX);
        send_hello(l, HELLO_ASK);
}

/* The accepting side hears who it is. */
static void take_hello(struct link *l, const struct hello *hello)
{
        struct peers *p = l->peers;
        struct tls_identity proved = {{0}, 0};
        bool has_proof = wire_peer(l->wire, &proved);
        char why[WHY_SIZE];

        link_note_hello(l, hello);
        l->dial = hello->dial;
        if (hello->kind == HELLO_ASK) {
                take_asker(l, hello, has_proof ? &proved : NULL);
                return;
        }
        l->kind = (enum peers_link)hello->kind;
        if (p->tls && !has_proof) {
                snprintf(why, sizeof why, "\"%s\" shows no certificate", l->name);
                link_refuse(l, REFUSAL_WRONG, why);
                return;
        }
        if (!hello_check(&p->hello, hello, p->tls ? &proved : NULL, why)) {
                link_refuse(l, REFUSAL_WRONG, why);
                return;
        }
        l->member = member_find(p, l->node);
        if (!l->member) {
                snprintf(why, sizeof why, "\"%s\" (node %llu) is no member of this cluster", l->name,
                        (unsigned long long)l->node);
                link_refuse(l, REFUSAL_NO_MEMBER, why);
                return;
        }
        if (!link_supersedes(l))
                return;
        if (p->hello.identity.node_id < l->node && l->member->slots[l->kind].dialling &&
                l->member->slots[l->kind].dialling->state == LINK_GREETING) {
                /* Ours has reached that node and would win: it is not worth a moment with two. */
                link_refuse(l, REFUSAL_SUPERFLUOUS, "another connection stays");
                return;
        }
        sm_move(link_states, &l->state, LINK_CONFIRMING);
        wire_trust(l->wire, PEERS_BODY_SIZE_MAX);
        send_hello(l, (enum hello_kind)l->kind);
}

/* The dialler hears the answer. */
static void take_answer(struct link *l, const struct hello *hello)
{
        struct tls_identity proved = {{0}, 0};
        uint64_t wanted = l->node;
        char why[WHY_SIZE];

        (void)wire_peer(l->wire, &proved);
        if (!hello_check(&l->peers->hello, hello, l->peers->tls ? &proved : NULL, why)) {
                link_refuse(l, REFUSAL_WRONG, why);
                return;
        }
        if (hello->identity.node_id != wanted || hello->kind != (enum hello_kind)l->kind ||
                hello->dial != l->dial) {
                snprintf(why, sizeof why, "at the address of node %llu there is \"%s\", node %llu",
                        (unsigned long long)wanted, hello->identity.name,
                        (unsigned long long)hello->identity.node_id);
                link_refuse(l, REFUSAL_WRONG, why);
                return;
        }
        link_note_hello(l, hello);
        wire_trust(l->wire, PEERS_BODY_SIZE_MAX);
        link_become_up(l);
}

static void take_refusal(struct link *l, struct bytes body)
{
        enum refusal refusal;
        char said[WHY_SIZE], why[WHY_SIZE];

        refusal_parse(body, &refusal, said);
        snprintf(why, sizeof why, "refused there: %.200s", said);
        if (l->member)
                l->member->is_refused = refusal == REFUSAL_NO_MEMBER;
        if (refusal != REFUSAL_SUPERFLUOUS)
                peers_tell_refused(l->peers, l->node, wire_address(l->wire), why);
        link_close(l, why);
}

static void greet(struct link *l, const struct frame *frame)
{
        struct hello hello;
        const char *why = "it did not begin with a hello";

        if (frame->type == FRAME_REFUSED && l->is_dialled) {
                take_refusal(l, frame->body);
        } else if (frame->type != FRAME_HELLO || !hello_parse(frame->body, &hello, &why)) {
                link_refuse(l, REFUSAL_WRONG, why);
        } else if (l->is_dialled) {
                take_answer(l, &hello);
        } else {
                take_hello(l, &hello);
        }
}

/* ---- asks ---- */

static void take_ask(struct link *l, const struct frame *frame)
{
        struct peers *p = l->peers;
        struct tls_identity proved;
        bool has_proof = wire_peer(l->wire, &proved);

        if (frame->type != FRAME_ASK || l->ask) {
                link_refuse(l, REFUSAL_WRONG, "it was to ask one thing");
        } else if (!p->handler->on_ask) {
                link_refuse(l, REFUSAL_WRONG, "nothing is answered here");
        } else {
                l->ask = ++p->asks;
                p->handler->on_ask(
                        p->arg, l->ask, wire_address(l->wire), has_proof ? &proved : NULL, frame->body);
        }
}

void link_answer(struct link *l, struct bytes answer)
{
        assert(l->state == LINK_ASKING);
        l->ask = 0;
        send_frame(l, FRAME_ANSWER, answer);
        link_close(l, "answered");
}

/* ---- frames ---- */

static void take_pong(struct link *l, struct bytes body)
{
        uint64_t now = now_us(l), then = body.size == 8 ? get_u64(body.data) : 0;
        uint64_t *smoothed = &l->member->round_trip_us;

        if (l->kind != PEERS_CONTROL || then == 0 || then != l->pinged_us || then > now)
                return;
        *smoothed = *smoothed ? (*smoothed * 7 + (now - then)) / 8 : MAX(now - then, 1);
}

static void take_frame(struct link *l, const struct frame *frame)
{
        struct peers *p = l->peers;
        struct slot *slot = &l->member->slots[l->kind];

        if (frame->type >= PEERS_TYPE_MIN) {
                if (frame->version != l->version) {
                        link_close(l, "a message of a version that was not agreed on");
                        return;
                }
                slot->stats.received_messages++;
                p->handler->on_message(p->arg, l->node, l->kind, frame->store_uuid, frame->type, frame->body);
        } else if (frame->type == FRAME_PING) {
                send_frame(l, FRAME_PONG, frame->body.size == 8 ? frame->body : BYTES_EMPTY);
        } else if (frame->type == FRAME_PONG) {
                take_pong(l, frame->body);
        } else if (frame->type == FRAME_REFUSED) {
                take_refusal(l, frame->body);
        } /* else: a later version's, which says no more than these */
}

static void on_frame(void *arg, const struct frame *frame)
{
        struct link *l = arg;

        if (l->member)
                member_heard(l->member, now_us(l));
        switch (l->state) {
        case LINK_GREETING:
                greet(l, frame);
                break;
        case LINK_CONFIRMING:
                if (frame->type == FRAME_REFUSED) {
                        take_refusal(l, frame->body);
                        break;
                }
                link_become_up(l);
                if (l->state == LINK_UP)
                        take_frame(l, frame);
                break;
        case LINK_UP:
                take_frame(l, frame);
                break;
        case LINK_ASKING:
                take_ask(l, frame);
                break;
        case LINK_CONNECTING:
        case LINK_CLOSING:
                break;
        }
}

static void on_ready(void *arg)
{
        struct link *l = arg;

        if (l->state != LINK_CONNECTING)
                return;
        sm_move(link_states, &l->state, LINK_GREETING);
        send_hello(l, (enum hello_kind)l->kind);
}

static void on_sent(void *arg)
{
        struct link *l = arg;

        if (l->state == LINK_UP)
                member_check_room(l->member, l->kind);
}

/* ---- time ---- */

void link_tick(struct link *l, uint64_t now)
{
        uint64_t age = now - l->begun_us;

        switch (l->state) {
        case LINK_UP:
                if (now - wire_heard_us(l->wire) >= PEERS_SILENCE_US_MAX)
                        link_close(l, "not heard for too long");
                break;
        case LINK_CONNECTING:
        case LINK_GREETING:
        case LINK_CONFIRMING:
                if (age < (l->is_dialled ? DIAL_US_MAX : GREETING_US_MAX))
                        break;
                if (!l->is_dialled)
                        peers_tell_refused(
                                l->peers, l->node, wire_address(l->wire), "it did not say who it is in time");
                link_close(l, "no hello in time");
                break;
        case LINK_ASKING:
                if (age >= ASKING_US_MAX)
                        link_close(l, "no answer in time");
                break;
        case LINK_CLOSING:
                break;
        }
}

/* ---- birth ---- */

static const struct wire_handler wire_handler = {.on_ready = on_ready,
        .on_frame = on_frame,
        .on_sent = on_sent,
        .on_broken = on_broken,
        .on_end = on_end};

static struct link *link_new(struct peers *p, enum link_state state)
{
        struct link *l = MEMORY_NEW(struct link);

        l->peers = p;
        l->state = state;
        l->begun_us = os_turn_time(p->os).monotonic_us;
        list_add_last(&p->links, &l->at);
        p->link_count++;
        return l;
}

static void link_discard(struct link *l)
{
        l->peers->link_count--;
        list_remove(&l->at);
        free(l);
}

int link_dial(struct peers *p, struct member *m, enum peers_link kind, const char *ip, struct link **ret)
{
        struct link *l = link_new(p, LINK_CONNECTING);
        int r;

        l->is_dialled = true;
        l->kind = kind;
        l->member = m;
        l->node = m->node;
        l->dial = ++p->dials;
        r = wire_connect(p->os, ip, m->to.port, p->tls, &wire_handler, l, &l->wire);
        if (r) {
                link_discard(l);
                return r;
        }
        *ret = l;
        return 0;
}

/* "10.0.0.1:5" and "10.0.0.1:6" are of one address. */
static bool is_same_host(const char *a, const char *b)
{
        const char *a_end = strrchr(a, ':'), *b_end = strrchr(b, ':');

        return a_end && b_end && a_end - a == b_end - b && memcmp(a, b, (size_t)(a_end - a)) == 0;
}

static bool has_room_for_stranger(const struct peers *p, const char *address)
{
        unsigned all = 0, of_address = 0;

        LIST_EACH (at, &p->links) {
                const struct link *l = CONTAINER_OF(at, struct link, at);

                if (!link_is_stranger(l))
                        continue;
                all++;
                of_address += is_same_host(wire_address(l->wire), address);
        }
        return all < STRANGERS_MAX && of_address < STRANGERS_OF_ADDRESS_MAX;
}

void link_accept(void *peers, struct os_conn *conn)
{
        struct peers *p = peers;
        struct link *l;

        p->totals.accepted++;
        if (!has_room_for_stranger(p, os_conn_peer(conn))) {
                peers_tell_refused(
                        p, 0, os_conn_peer(conn), "too many connections that have not said who they are");
                os_conn_close(conn);
                return;
        }
        l = link_new(p, LINK_GREETING);
        if (wire_accept(p->os, conn, p->tls, &wire_handler, l, &l->wire))
                link_discard(l);
        else
                members_wake(p);
}
