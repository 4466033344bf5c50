/* Commands: where each is carried out, how it gets there, and how its answer gets back.
 *
 * A command is a JSON object with "do". Most are the leader's; the signing of a certificate is for the node
 * that has the CA's key. An answer is a JSON object: {"status":200,"body":{...}}, or status, code, title,
 * detail and next of a problem. Commands follow from the state of the cluster, so one that was cut off may be
 * asked again. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "membership/room.h"

enum {
        RETRY_US = 200 * 1000,
        ANSWER_GRACE_US = 1000 * 1000,
        ASK_TIMEOUT_US = 10 * 1000 * 1000,
        ASKS_MAX = 64, /* under way: who asks and goes away must not take the place of operators */
        NUMBER_SIZE = 8
};

static_assert((int)ASKS_MAX < (int)MEMBERSHIP_COMMANDS_MAX, "operators have room");

enum command_place { PLACE_HERE, PLACE_LEADER, PLACE_AUTHORITY };
enum command_source { FROM_CLIENT = 1, FROM_NODE = 2, FROM_ASK = 4 };

static const struct command_description {
        const char *name;
        enum command_place place;
        unsigned sources;
        command_handler *run;
} descriptions[] = {
        {"init", PLACE_HERE, FROM_CLIENT, init_run},
        {"token", PLACE_LEADER, FROM_CLIENT | FROM_NODE, token_run},
        {"tokens", PLACE_LEADER, FROM_CLIENT | FROM_NODE, tokens_run},
        {"revoke", PLACE_LEADER, FROM_CLIENT | FROM_NODE, revoke_run},
        {"join", PLACE_LEADER, FROM_NODE | FROM_ASK, join_run},
        {"add", PLACE_LEADER, FROM_CLIENT | FROM_NODE, changes_run},
        {"promote", PLACE_LEADER, FROM_CLIENT | FROM_NODE, changes_run},
        {"demote", PLACE_LEADER, FROM_CLIENT | FROM_NODE, changes_run},
        {"remove", PLACE_LEADER, FROM_CLIENT | FROM_NODE, changes_run},
        {"transfer", PLACE_LEADER, FROM_CLIENT | FROM_NODE, changes_run},
        {"leave", PLACE_LEADER, FROM_CLIENT | FROM_NODE, changes_run},
        {"replace", PLACE_LEADER, FROM_CLIENT | FROM_NODE, changes_run},
        {"grow", PLACE_LEADER, FROM_CLIENT | FROM_NODE, grow_run},
        {"finalize", PLACE_LEADER, FROM_CLIENT | FROM_NODE, finalize_run},
        {"sign", PLACE_AUTHORITY, FROM_NODE, sign_run},
        {"authority", PLACE_AUTHORITY, FROM_NODE, authority_run},
};

static const struct command_description *describe(const struct command *c, unsigned source)
{
        const char *what = command_text(c, "do");

        for (unsigned i = 0; i < COUNT_OF(descriptions); i++)
                if (strcmp(descriptions[i].name, what) == 0)
                        return descriptions[i].sources & source ? &descriptions[i] : NULL;
        return NULL;
}

static bool is_one_too_many(const struct command *c)
{
        return c->m->command_count > MEMBERSHIP_COMMANDS_MAX || (c->ask && c->m->ask_count > ASKS_MAX);
}

static void take(struct command *c, unsigned source, const char *title, const char *why_not)
{
        if (is_one_too_many(c))
                command_refuse(c, 503, "busy", "Too many commands", "ask again in a second",
                        "too many commands are under way");
        else if (!describe(c, source))
                command_refuse(c, 400, "invalid", title, NULL, "%s", why_not);
        else
                command_run(c);
}

/* ---- what it says ---- */

const char *command_text(const struct command *c, const char *key)
{
        const char *text = json_string_value(json_object_get(c->request, key));

        return text ? text : "";
}

uint64_t command_number(const struct command *c, const char *key, uint64_t otherwise)
{
        json_t *value = json_object_get(c->request, key);

        return json_is_integer(value) && json_integer_value(value) >= 0 ? (uint64_t)json_integer_value(value)
                                                                        : otherwise;
}

bool command_flag(const struct command *c, const char *key)
{
        return json_is_true(json_object_get(c->request, key));
}

struct command_state *command_state(struct command *c)
{
        if (!c->state)
                c->state = MEMORY_NEW(struct command_state);
        return c->state;
}

/* ---- life ---- */

static void release(struct command *c)
{
        if (c->state)
                os_timer_stop(&c->state->timer);
        free(c->state);
        json_decref(c->request);
        free(c);
}

struct command *command_begin(
        struct membership *m, json_t *request, uint64_t deadline_us, command_done *done, void *arg)
{
        struct command *c = MEMORY_NEW(struct command);

        c->m = m;
        c->request = request;
        c->deadline_us = deadline_us ? deadline_us : os_monotonic_us(m->os) + COMMAND_TIMEOUT_US;
        c->done = done;
        c->arg = arg;
        list_add_last(&m->commands, &c->link);
        m->command_count++;
        return c;
}

void command_hold(struct command *c)
{
        c->holds++;
}

bool command_resume(struct command *c)
{
        assert(c->holds > 0);
        c->holds--;
        if (!c->is_ended)
                return true;
        if (!c->holds)
                release(c);
        return false;
}

void command_end(struct command *c, json_t *answer)
{
        assert(!c->is_ended);
        c->is_ended = true;
        c->number = 0;
        list_remove(&c->link);
        c->m->command_count--;
        c->m->ask_count -= c->ask != 0;
        if (c->state)
                os_timer_stop(&c->state->timer);
        c->done(c, answer);
        json_decref(answer);
        if (!c->holds)
                release(c);
}

void command_end_ok(struct command *c, json_t *body)
{
        json_t *answer = json_object();

        json_object_set_new(answer, "status", json_integer(200));
        json_object_set_new(answer, "body", body);
        command_end(c, answer);
}

static json_t *problem_json(
        int status, const char *code, const char *title, const char *next, const char *detail)
{
        json_t *answer = json_object();

        json_object_set_new(answer, "status", json_integer(status));
        json_object_set_new(answer, "code", json_string(code));
        json_object_set_new(answer, "title", json_string(title));
        json_object_set_new(answer, "detail", json_string(detail));
        if (next)
                json_object_set_new(answer, "next", json_string(next));
        return answer;
}

void command_refuse(struct command *c, int status, const char *code, const char *title, const char *next,
        const char *format, ...)
{
        char detail[WHY_SIZE_MAX];
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(detail, sizeof detail, format, arguments);
        va_end(arguments);
        command_end(c, problem_json(status, code, title, next, detail));
}

void command_not_yet(struct command *c, const char *why)
{
        command_refuse(c, 202, "not-yet", "It is not done yet", "ask again: it goes on where it stands", "%s",
                *why ? why : "it is under way");
}

static void on_again(struct os_timer *timer)
{
        struct command *c = timer->arg;

        c->state->go_on(c);
}

void command_again(struct command *c, void (*go_on)(struct command *c), uint64_t us, const char *why)
{
        struct command_state *state = command_state(c);

        if (os_monotonic_us(c->m->os) + us >= c->deadline_us) {
                command_not_yet(c, why);
                return;
        }
        state->go_on = go_on;
        state->timer = (struct os_timer){.fn = on_again, .arg = c};
        os_timer_start(c->m->os, &state->timer, us);
}

void command_refuse_verdict(struct command *c, enum store_verdict verdict, const char *problem)
{
        switch (verdict) {
        case STORE_INVALID:
                command_refuse(c, 409, "refused", "The cluster does not allow it", NULL, "%s", problem);
                return;
        case STORE_BUSY:
        case STORE_NOT_LEADER:
        case STORE_NOT_READY:
        case STORE_UNKNOWN:
        case STORE_CONFLICT:
                command_not_yet(c, problem);
                return;
        case STORE_FULL:
                command_refuse(
                        c, 507, "disk-full", "The disk is full", "make space, then ask again", "%s", problem);
                return;
        default:
                command_refuse(c, 500, "failed", "It failed", NULL, "%s",
                        *problem ? problem : "the store refused it");
        }
}

/* ---- to another node ---- */

static bool send_command(struct command *c, uint64_t node_id)
{
        static const uint8_t no_store[16];
        struct membership *m = c->m;
        uint64_t now = os_monotonic_us(m->os);
        uint8_t number[NUMBER_SIZE];
        struct bytes pieces[2];
        char *text;
        bool is_sent;

        json_object_set_new(c->request, "timeout_ms",
                json_integer((json_int_t)(c->deadline_us > now ? (c->deadline_us - now) / 1000 : 1)));
        text = json_dumps(c->request, JSON_COMPACT);
        assert(text);
        put_u64(number, ++m->command_numbers);
        pieces[0] = bytes_of(number, sizeof number);
        pieces[1] = bytes_of_string(text);
        is_sent = peers_send(m->peers, node_id, PEERS_CONTROL, no_store, MESSAGE_COMMAND, pieces, 2);
        free(text);
        if (is_sent) {
                c->number = m->command_numbers;
                c->sent_to = node_id;
        }
        return is_sent;
}

/* Where it has to be carried out: 0: not known, or it cannot be reached. */
static uint64_t node_for(const struct command *c, enum command_place place)
{
        struct membership *m = c->m;
        struct store *store = membership_default_store(m);
        struct store_cluster_status status;

        if (place == PLACE_HERE)
                return m->identity.node_id;
        if (place == PLACE_AUTHORITY) {
                if (m->has_authority)
                        return m->identity.node_id;
                for (unsigned i = 0; i < m->news_count; i++)
                        if (m->news[i].has_authority && membership_is_linked(m, m->news[i].node_id))
                                return m->news[i].node_id;
                return 0;
        }
        if (!store || !store_persistence(store))
                return 0;
        if (store_is_leading(store))
                return m->identity.node_id;
        store_cluster_status(store, &status);
        if (status.leader_id == m->identity.node_id)
                return 0; /* soon */
        return status.leader_id && membership_is_linked(m, status.leader_id) ? status.leader_id : 0;
}

static void on_retry(struct os_timer *timer)
{
        command_run(timer->arg);
}

static void wait_and_retry(struct command *c, enum command_place place)
{
        struct command_state *state = command_state(c);

        if (os_monotonic_us(c->m->os) + RETRY_US < c->deadline_us) {
                state->timer = (struct os_timer){.fn = on_retry, .arg = c};
                os_timer_start(c->m->os, &state->timer, RETRY_US);
        } else if (place == PLACE_AUTHORITY) {
                command_refuse(c, 503, "no-authority", "The CA's key cannot be reached",
                        "start the node that has it; cluster status says which",
                        "no node that answers has the key of the cluster's CA");
        } else {
                command_refuse(c, 503, "no-leader", "No leader is known", "look at the cluster's status",
                        "no leader is known that could do it: fewer than a majority of the voters may be up");
        }
}

void command_run(struct command *c)
{
        const struct command_description *d = describe(c, FROM_CLIENT | FROM_NODE | FROM_ASK);
        uint64_t node_id;

        assert(d && !c->is_ended);
        if (c->m->is_stopping) {
                command_refuse(
                        c, 503, "stopping", "The node stops", "ask another node", "the node is stopping");
                return;
        }
        node_id = node_for(c, d->place);
        if (node_id == c->m->identity.node_id)
                d->run(c);
        else if (c->from_node && d->place == PLACE_AUTHORITY)
                /* Who has the CA's key judges by the link who asks. What was passed on would come from a
                 * voter that a stand-by has asked. */
                command_refuse(c, 503, "no-authority", "The CA's key is not here",
                        "ask a node that has it; cluster status says which", "node %llu has not the CA's key",
                        (unsigned long long)c->m->identity.node_id);
        else if (!node_id || !send_command(c, node_id))
                wait_and_retry(c, d->place);
}

/* ---- from another node ---- */

static json_t *parse(struct bytes body)
{
        json_t *object = json_loadb((const char *)body.data, body.size, JSON_REJECT_DUPLICATES, NULL);

        if (json_is_object(object))
                return object;
        json_decref(object);
        return NULL;
}

static void answer_node(struct command *c, json_t *answer)
{
        static const uint8_t no_store[16];
        char *text = json_dumps(answer, JSON_COMPACT);
        uint8_t number[NUMBER_SIZE];
        struct bytes pieces[2];

        assert(text);
        put_u64(number, c->from_number);
        pieces[0] = bytes_of(number, sizeof number);
        pieces[1] = bytes_of_string(text);
        /* One that cannot be sent is missed by its asker when the link is lost or its deadline passes. */
        if (c->m->peers &&
                peers_send(c->m->peers, c->from_node, PEERS_CONTROL, no_store, MESSAGE_ANSWER, pieces, 2))
                c->from_number = 0;
        free(text);
}

void commands_on_message(struct membership *m, uint64_t from, struct bytes body)
{
        uint64_t timeout_ms;
        struct command *c;
        json_t *request;
        char why[80];

        if (body.size < NUMBER_SIZE || body.size > 2 * MEMBERSHIP_REQUEST_SIZE_MAX)
                return;
        request = parse(bytes_of(body.data + NUMBER_SIZE, body.size - NUMBER_SIZE));
        if (!request)
                return;
        c = command_begin(m, request, 0, answer_node, NULL);
        c->from_node = from;
        c->from_number = get_u64(body.data);
        timeout_ms = MIN(command_number(c, "timeout_ms", COMMAND_TIMEOUT_US / 1000), (uint64_t)600000);
        c->deadline_us = os_monotonic_us(m->os) + timeout_ms * 1000;
        snprintf(why, sizeof why, "'%.40s' is no command between nodes", command_text(c, "do"));
        take(c, FROM_NODE, "There is no such command", why);
}

void commands_on_answer(struct membership *m, uint64_t from, struct bytes body)
{
        json_t *answer;

        if (body.size < NUMBER_SIZE)
                return;
        LIST_EACH (at, &m->commands) {
                struct command *c = CONTAINER_OF(at, struct command, link);

                if (!c->number || c->number != get_u64(body.data) || c->sent_to != from)
                        continue;
                answer = parse(bytes_of(body.data + NUMBER_SIZE, body.size - NUMBER_SIZE));
                if (answer)
                        command_end(c, answer);
                else
                        command_refuse(c, 500, "failed", "It failed", NULL,
                                "the answer of node %llu cannot be read", (unsigned long long)from);
                return;
        }
}

void commands_link_lost(struct membership *m, uint64_t node_id)
{
        LIST_EACH_SAFE (at, &m->commands) {
                struct command *c = CONTAINER_OF(at, struct command, link);

                if (c->number && c->sent_to == node_id)
                        command_not_yet(c, "the node that carries it out was lost on the way");
        }
}

void commands_tick(struct membership *m)
{
        uint64_t now = os_monotonic_us(m->os);

        LIST_EACH_SAFE (at, &m->commands) {
                struct command *c = CONTAINER_OF(at, struct command, link);

                if (c->number && now > c->deadline_us + ANSWER_GRACE_US)
                        command_not_yet(c, "the node that carries it out has not answered in time");
        }
}

void commands_end_all(struct membership *m)
{
        while (!list_is_empty(&m->commands))
                command_refuse(CONTAINER_OF(m->commands.next, struct command, link), 503, "stopping",
                        "The node stops", "ask another node", "the node is stopping");
}

/* ---- from somebody who is no member ---- */

static void answer_ask(struct command *c, json_t *answer)
{
        char *text = json_dumps(answer, JSON_COMPACT);

        assert(text);
        if (c->m->peers && strlen(text) <= PEERS_ANSWER_SIZE_MAX)
                peers_answer(c->m->peers, c->ask, bytes_of_string(text));
        free(text);
}

void commands_on_ask(void *arg, uint64_t ask, const char *address, const struct tls_identity *identity,
        struct bytes request)
{
        struct membership *m = arg;
        json_t *object = request.size <= MEMBERSHIP_REQUEST_SIZE_MAX ? parse(request) : NULL;
        struct command *c = command_begin(m, object ? object : json_object(), 0, answer_ask, NULL);

        (void)address;
        assert(ask);
        c->ask = ask;
        m->ask_count++;
        c->deadline_us = os_monotonic_us(m->os) + ASK_TIMEOUT_US;
        if (identity)
                c->proved = *identity;
        take(c, FROM_ASK, "There is no such request", "who is no member may only ask to join");
}

/* ---- from a client ---- */

static const char *text_at(json_t *answer, const char *key)
{
        return json_string_value(json_object_get(answer, key));
}

static void answer_client(struct command *c, json_t *answer)
{
        json_t *body = json_object_get(answer, "body");
        char *text = json_is_object(body) ? json_dumps(body, JSON_COMPACT) : NULL;
        const char *code = text_at(answer, "code");
        const char *title = text_at(answer, "title");
        const char *detail = text_at(answer, "detail");
        int status = (int)json_integer_value(json_object_get(answer, "status"));
        struct membership_answer said = {
                .status = status >= 200 && status < 600 ? status : 500,
                .code = code ? code : "failed",
                .title = title ? title : "It failed",
                .detail = detail ? detail : "",
                .next = text_at(answer, "next"),
                .body = text ? bytes_of_string(text) : BYTES_LITERAL("{}"),
        };

        c->answered(c->arg, &said);
        free(text);
}

void membership_command(struct membership *m, struct bytes request, uint64_t deadline_us,
        membership_answered *done, void *arg)
{
        json_t *object = request.size <= MEMBERSHIP_REQUEST_SIZE_MAX ? parse(request) : NULL;
        struct command *c =
                command_begin(m, object ? object : json_object(), deadline_us, answer_client, arg);
        char why[80];

        c->answered = done;
        snprintf(why, sizeof why, "'%.40s' is no command of a cluster", command_text(c, "do"));
        take(c, FROM_CLIENT, "The request cannot be understood", why);
}
