/* Asking a node of a cluster one thing without being a member: a connection of its own, a hello that says so,
 * one frame there and one back. */
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/sm.h"
#include "peers/room.h"

enum question_state {
        QUESTION_FINDING,
        QUESTION_CONNECTING,
        QUESTION_GREETING,
        QUESTION_WAITING,
        QUESTION_ENDED
};

static const struct sm_state question_states[] = {
        [QUESTION_FINDING] = {"finding", TO(QUESTION_CONNECTING) | TO(QUESTION_ENDED)},
        [QUESTION_CONNECTING] = {"connecting", TO(QUESTION_GREETING) | TO(QUESTION_ENDED)},
        [QUESTION_GREETING] = {"greeting", TO(QUESTION_WAITING) | TO(QUESTION_ENDED)},
        [QUESTION_WAITING] = {"waiting", TO(QUESTION_ENDED)},
        [QUESTION_ENDED] = {"ended", 0},
};

struct peers_question {
        struct os *os;
        struct tls_context *tls;
        bool is_insecure_anywhere;
        struct host_port to;
        struct hello hello;
        struct buffer request;
        void (*done)(void *arg, const char *problem, const struct tls_identity *who, struct bytes answer);
        void *arg;
        enum question_state state;
        struct os_lookup *lookup;
        struct os_addresses addresses;
        unsigned tried; /* of the addresses */
        struct wire *wire;
        struct os_timer limit;
        struct os_timer start;
        char problem[WHY_SIZE]; /* of the last address */
};

/* ---- end ---- */

static void question_free(struct peers_question *q)
{
        os_timer_stop(&q->limit);
        os_timer_stop(&q->start);
        os_lookup_drop(&q->lookup);
        buffer_fini(&q->request);
        free(q);
}

/* Its wire, if it has one, is the last that keeps it. */
static void question_let_go(struct peers_question *q, const char *why)
{
        if (q->state != QUESTION_ENDED)
                sm_move(question_states, &q->state, QUESTION_ENDED);
        os_timer_stop(&q->limit);
        os_timer_stop(&q->start);
        os_lookup_drop(&q->lookup);
        if (q->wire)
                wire_close(q->wire, why);
        else
                question_free(q);
}

static void question_end(
        struct peers_question *q, const char *problem, const struct tls_identity *who, struct bytes answer)
{
        if (q->state == QUESTION_ENDED)
                return;
        sm_move(question_states, &q->state, QUESTION_ENDED);
        q->done(q->arg, problem, who, answer);
        question_let_go(q, "asked");
}

static void on_limit(struct os_timer *timer)
{
        struct peers_question *q = timer->arg;

        question_end(q, q->problem[0] ? q->problem : "no answer in time", NULL, BYTES_EMPTY);
}

void peers_ask_cancel(struct peers_question **question)
{
        if (*question)
                question_let_go(*question, "not asked any more");
        *question = NULL;
}

/* ---- talking ---- */

static void greet(struct peers_question *q, const struct frame *frame)
{
        struct bytes request = buffer_bytes(&q->request);
        struct hello hello;
        const char *why = "it did not answer with a hello";

        if (frame->type != FRAME_HELLO || !hello_parse(frame->body, &hello, &why)) {
                question_end(q, why, NULL, BYTES_EMPTY);
                return;
        }
        sm_move(question_states, &q->state, QUESTION_WAITING);
        wire_trust(q->wire, PEERS_ANSWER_SIZE_MAX);
        frame_add(wire_out(q->wire), FRAME_ASK, 0, NULL, &request, 1);
        wire_push(q->wire);
}

static void on_frame(void *arg, const struct frame *frame)
{
        struct peers_question *q = arg;
        char said[WHY_SIZE], why[WHY_SIZE];
        struct tls_identity who;
        enum refusal refusal;

        if (frame->type == FRAME_REFUSED) {
                refusal_parse(frame->body, &refusal, said);
                snprintf(why, sizeof why, "refused there: %.200s", said);
                question_end(q, why, NULL, BYTES_EMPTY);
        } else if (q->state == QUESTION_GREETING) {
                greet(q, frame);
        } else if (q->state == QUESTION_WAITING && frame->type == FRAME_ANSWER) {
                question_end(q, NULL, wire_peer(q->wire, &who) ? &who : NULL, frame->body);
        }
}

static void on_ready(void *arg)
{
        struct peers_question *q = arg;
        struct tls_identity who;

        sm_move(question_states, &q->state, QUESTION_GREETING);
        /* A certificate says which cluster this is; without, any is asked. */
        if (wire_peer(q->wire, &who))
                memcpy(q->hello.identity.cluster_uuid, who.cluster_uuid, 16);
        hello_add(wire_out(q->wire), &q->hello);
        wire_push(q->wire);
}

static void on_broken(void *arg, const char *why)
{
        question_end(arg, why, NULL, BYTES_EMPTY);
}

static void connect_next(struct peers_question *q);

static void on_end(void *arg, const char *why)
{
        struct peers_question *q = arg;

        q->wire = NULL;
        if (q->state == QUESTION_ENDED) {
                question_free(q);
        } else if (q->state == QUESTION_CONNECTING) {
                snprintf(q->problem, sizeof q->problem, "%s", why);
                connect_next(q);
        } else {
                question_end(q, why, NULL, BYTES_EMPTY);
        }
}

static const struct wire_handler wire_handler = {
        .on_ready = on_ready, .on_frame = on_frame, .on_broken = on_broken, .on_end = on_end};

/* ---- connecting ---- */

static void connect_next(struct peers_question *q)
{
        while (q->tried < q->addresses.count) {
                const char *ip = q->addresses.text[q->tried++];

                if (!q->tls && !q->is_insecure_anywhere && !host_is_loopback(ip))
                        snprintf(q->problem, sizeof q->problem,
                                "%s is not of this machine, and there is no TLS", ip);
                else if (wire_connect(q->os, ip, q->to.port, q->tls, &wire_handler, q, &q->wire))
                        snprintf(q->problem, sizeof q->problem, "%s cannot be connected to", ip);
                else
                        return;
        }
        question_end(q, q->problem, NULL, BYTES_EMPTY);
}

static void on_found(void *arg, const struct os_addresses *found, const char *problem)
{
        struct peers_question *q = arg;

        q->lookup = NULL;
        q->addresses = *found;
        if (problem)
                snprintf(q->problem, sizeof q->problem, "%.100s: %.100s", q->to.host, problem);
        sm_move(question_states, &q->state, QUESTION_CONNECTING);
        connect_next(q);
}

static void on_start(struct os_timer *timer)
{
        struct peers_question *q = timer->arg;

        if (host_is_ip(q->to.host)) {
                struct os_addresses one = {.count = 1};

                snprintf(one.text[0], sizeof one.text[0], "%.45s", q->to.host);
                on_found(q, &one, NULL);
        } else if (os_resolve(q->os, q->to.host, on_found, q, &q->lookup)) {
                question_end(q, "its name is none", NULL, BYTES_EMPTY);
        }
}

int peers_ask(const struct peers_question_options *options, struct peers_question **ret)
{
        struct peers_question *q;
        struct host_port to;

        assert(options->done);
        assert(options->request.size <= PEERS_ASK_SIZE_MAX);
        if (!host_port_parse(options->address, &to))
                return PEERS_ADDRESS_INVALID;
        if (!options->tls && !options->is_insecure_anywhere && !host_is_loopback(to.host))
                return PEERS_ADDRESS_INSECURE;
        q = MEMORY_NEW(struct peers_question);
        q->os = options->os;
        q->tls = options->tls;
        q->is_insecure_anywhere = options->is_insecure_anywhere;
        q->to = to;
        q->done = options->done;
        q->arg = options->arg;
        /* Asks are understood by every version. */
        q->hello =
                (struct hello){.kind = HELLO_ASK, .identity = {.version_min = 1, .version_max = UINT16_MAX}};
        snprintf(q->hello.identity.name, sizeof q->hello.identity.name, "%s",
                options->name ? options->name : "");
        buffer_add_bytes(&q->request, options->request);
        q->limit = (struct os_timer){.fn = on_limit, .arg = q};
        q->start = (struct os_timer){.fn = on_start, .arg = q};
        os_timer_start(q->os, &q->limit, options->timeout_us ? options->timeout_us : ASKING_US_MAX);
        os_timer_start(q->os, &q->start, 0);
        *ret = q;
        return 0;
}
