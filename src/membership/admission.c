/* Letting nodes in, at the leader: join tokens, and joins.
 *
 * A join has three steps, each of which may be asked for again: the event that gives the node its number
 * (found again by the request's name), the certificate for the key that it keeps, and its place as a
 * stand-by. */
#include <stdio.h>
#include <stdlib.h>

#include "membership/room.h"

enum { EXPIRES_S_DEFAULT = 3600, EXPIRES_S_MAX = 30 * 24 * 3600, USES_MAX = 1000 };

static void hex(const uint8_t *data, size_t size, char *ret)
{
        for (size_t i = 0; i < size; i++)
                snprintf(ret + 2 * i, 3, "%02x", data[i]);
}

static json_t *id_json(uint64_t id)
{
        uint8_t bytes[8];
        char text[17];

        put_u64(bytes, id);
        hex(bytes, sizeof bytes, text);
        return json_string(text);
}

static bool read_ledger(struct command *c)
{
        char why[WHY_SIZE_MAX] = "";

        if (ledger_read(c->m, &command_state(c)->ledger, why))
                return true;
        command_refuse(c, 500, "failed", "It failed", NULL, "%s", why);
        return false;
}

static bool check_clustered(struct command *c)
{
        if (c->m->peers)
                return true;
        command_refuse(c, 409, "not-clustered", "This node is alone",
                "make a cluster of it: nilo cluster init",
                "no node can join: this one has no listener for nodes");
        return false;
}

/* ---- tokens ---- */

static void on_token_made(void *arg, enum store_verdict verdict, const char *problem)
{
        struct command *c = arg;
        char text[TLS_TOKEN_TEXT_SIZE];
        json_t *body;

        if (!command_resume(c))
                return;
        if (verdict != STORE_OK) {
                command_refuse_verdict(c, verdict, problem);
                return;
        }
        tls_join_token_encode(&c->state->token, text);
        body = json_object();
        json_object_set_new(body, "token", json_string(text));
        json_object_set_new(body, "id", id_json(c->state->token.id));
        json_object_set_new(body, "address", json_string(c->m->file.advertise));
        json_object_set_new(body, "expires_s",
                json_integer((json_int_t)command_number(c, "expires_s", EXPIRES_S_DEFAULT)));
        json_object_set_new(body, "uses", json_integer((json_int_t)command_number(c, "uses", 1)));
        command_end_ok(c, body);
}

static bool read_fingerprint(struct command *c, uint8_t ret[TLS_FINGERPRINT_SIZE])
{
        struct tls_certificate_info info;
        struct tls_problem problem = {""};
        int r;

        memset(ret, 0, TLS_FINGERPRINT_SIZE);
        if (!c->m->tls)
                return true;
        r = tls_certificate_info(c->m->os, c->m->certificates, "ca.pem", &info, &problem);
        if (r) {
                command_refuse(
                        c, 500, "failed", "It failed", NULL, "%s", r > 0 ? problem.text : fault_last());
                return false;
        }
        memcpy(ret, info.fingerprint, TLS_FINGERPRINT_SIZE);
        return true;
}

void token_run(struct command *c)
{
        uint64_t expires_s = command_number(c, "expires_s", EXPIRES_S_DEFAULT);
        uint64_t uses = command_number(c, "uses", 1);
        uint64_t now = os_wall_us(c->m->os);
        uint8_t fingerprint[TLS_FINGERPRINT_SIZE];
        struct tls_join_token_hash hash;
        char salt[2 * sizeof hash.salt + 1], sum[2 * sizeof hash.hash + 1];
        json_t *data;

        if (!check_clustered(c))
                return;
        if (expires_s < 1 || expires_s > EXPIRES_S_MAX || uses < 1 || uses > USES_MAX) {
                command_refuse(c, 400, "invalid", "The request cannot be understood", NULL,
                        "a token lives for 1 s to 30 days and lets 1 to %d nodes in", USES_MAX);
                return;
        }
        if (!read_fingerprint(c, fingerprint) || !read_ledger(c))
                return;
        tls_join_token_make(c->m->os, fingerprint, &c->state->token);
        tls_join_token_hash(c->m->os, &c->state->token, &hash);
        hex(hash.salt, sizeof hash.salt, salt);
        hex(hash.hash, sizeof hash.hash, sum);
        data = json_object();
        json_object_set_new(data, "id", id_json(hash.id));
        json_object_set_new(data, "salt", json_string(salt));
        json_object_set_new(data, "hash", json_string(sum));
        json_object_set_new(data, "made_us", json_integer((json_int_t)now));
        json_object_set_new(data, "expires_us", json_integer((json_int_t)(now + expires_s * 1000000)));
        json_object_set_new(data, "uses", json_integer((json_int_t)uses));
        command_hold(c);
        ledger_append(c->m, &c->state->ledger, "$nilo-token-made", data, on_token_made, c);
}

void tokens_run(struct command *c)
{
        json_t *body, *tokens;

        if (!read_ledger(c))
                return;
        body = json_object();
        tokens = json_array();
        for (unsigned i = 0; i < c->state->ledger.token_count; i++) {
                const struct ledger_token *t = &c->state->ledger.tokens[i];
                json_t *token = json_object();

                json_object_set_new(token, "id", id_json(t->hash.id));
                json_object_set_new(token, "made_us", json_integer((json_int_t)t->made_us));
                json_object_set_new(token, "expires_us", json_integer((json_int_t)t->expires_us));
                json_object_set_new(token, "uses", json_integer(t->uses));
                json_object_set_new(token, "used", json_integer(t->used));
                json_object_set_new(token, "revoked", json_boolean(t->is_revoked));
                json_object_set_new(token, "open", json_boolean(ledger_token_is_open(c->m, t)));
                json_array_append_new(tokens, token);
        }
        json_object_set_new(body, "tokens", tokens);
        command_end_ok(c, body);
}

static void on_revoked(void *arg, enum store_verdict verdict, const char *problem)
{
        struct command *c = arg;

        if (!command_resume(c))
                return;
        if (verdict == STORE_OK)
                command_end_ok(c, json_pack("{sb}", "revoked", 1));
        else
                command_refuse_verdict(c, verdict, problem);
}

static struct ledger_token *find_by_text(struct ledger *l, const char *id)
{
        for (unsigned i = 0; i < l->token_count; i++) {
                CLEANUP(json_freep) json_t *text = id_json(l->tokens[i].hash.id);

                if (strcmp(json_string_value(text), id) == 0)
                        return &l->tokens[i];
        }
        return NULL;
}

void revoke_run(struct command *c)
{
        struct ledger_token *t;
        json_t *data;

        if (!read_ledger(c))
                return;
        t = find_by_text(&c->state->ledger, command_text(c, "id"));
        if (!t) {
                command_refuse(c, 404, "not-found", "There is no such token",
                        "nilo cluster tokens lists them", "there is no token with the id '%.40s'",
                        command_text(c, "id"));
                return;
        }
        if (t->is_revoked) {
                command_end_ok(c, json_pack("{sb}", "revoked", 1));
                return;
        }
        data = json_object();
        json_object_set_new(data, "id", id_json(t->hash.id));
        command_hold(c);
        ledger_append(c->m, &c->state->ledger, "$nilo-token-revoked", data, on_revoked, c);
}

/* ---- joins ---- */

static void join_answer(struct command *c, struct bytes certificate)
{
        struct membership *m = c->m;
        struct persistence *p = store_persistence(membership_default_store(m));
        struct store_cluster_status status;
        CLEANUP(buffer_fini) struct buffer ca = {0};
        CLEANUP(buffer_fini) struct buffer path = {0};
        char uuid[EVENT_ID_TEXT_SIZE + 1];
        json_t *body = json_object();
        json_t *members = json_array();

        store_cluster_status(membership_default_store(m), &status);
        uuid_format(m->identity.cluster_uuid, uuid);
        json_object_set_new(body, "cluster", json_string(uuid));
        json_object_set_new(body, "node", json_integer((json_int_t)c->state->node_id));
        uuid_format(persistence_store_id(p), uuid);
        json_object_set_new(body, "store", json_string(uuid));
        json_object_set_new(body, "epoch", json_integer(status.epoch));
        json_object_set_new(body, "cluster_version", json_integer(membership_version(m)));
        for (unsigned i = 0; i < status.count; i++)
                json_array_append_new(
                        members, json_pack("{sIss}", "node_id", (json_int_t)status.members[i].server.node_id,
                                         "address", status.members[i].server.address));
        json_object_set_new(body, "members", members);
        if (m->tls) {
                buffer_format(&path, "%s/ca.pem", m->certificates);
                buffer_add_u8(&path, 0);
                if (os_read_whole(m->os, (const char *)path.data, TLS_PEM_SIZE_MAX, &ca)) {
                        json_decref(body);
                        command_refuse(c, 500, "failed", "It failed", NULL,
                                "the certificate of the CA cannot be read");
                        return;
                }
                json_object_set_new(body, "ca", json_stringn((const char *)ca.data, ca.size));
                json_object_set_new(
                        body, "certificate", json_stringn((const char *)certificate.data, certificate.size));
        }
        membership_fact(m, FACT_node_discovered, c->state->node_id, "%s joins at %s", command_text(c, "name"),
                command_text(c, "address"));
        nodes_note_client(m, c->state->node_id, command_text(c, "name"), command_text(c, "host"),
                (uint16_t)MIN(command_number(c, "port", 0), (uint64_t)UINT16_MAX));
        command_end_ok(c, body);
}

static void on_certified(void *arg, const char *problem, struct bytes certificate)
{
        struct command *c = arg;

        if (!command_resume(c))
                return;
        if (problem)
                command_refuse(c, 503, "no-certificate", "The certificate could not be made", "ask again",
                        "%s", problem);
        else
                join_answer(c, certificate);
}

static void certify(struct command *c)
{
        if (!c->m->tls) {
                join_answer(c, BYTES_EMPTY);
                return;
        }
        command_hold(c);
        certificates_sign(c->m, c->state->node_id, command_text(c, "address"), command_text(c, "csr"),
                c->deadline_us, on_certified, c);
}

static void on_added(void *arg, enum store_verdict verdict, const char *problem)
{
        struct command *c = arg;

        if (!command_resume(c))
                return;
        if (verdict == STORE_OK)
                certify(c);
        else if (verdict == STORE_BUSY)
                command_refuse(
                        c, 503, "busy", "Another change of members is under way", "ask again", "%s", problem);
        else
                command_refuse_verdict(c, verdict, problem);
}

/* Only who has its identity can be linked, so its place may stand before it has its certificate. */
static void add_member(struct command *c)
{
        struct membership *m = c->m;
        struct store_cluster_status status;

        store_cluster_status(membership_default_store(m), &status);
        for (unsigned i = 0; i < status.count; i++) {
                const struct cluster_server *server = &status.members[i].server;

                if (server->node_id != c->state->node_id ||
                        strcmp(server->address, command_text(c, "address")) != 0)
                        continue;
                certify(c);
                return;
        }
        command_hold(c);
        store_change_members(membership_default_store(m), STORE_ADD, c->state->node_id,
                command_text(c, "address"), c->deadline_us, on_added, c);
}

static void on_admitted(void *arg, enum store_verdict verdict, const char *problem)
{
        struct command *c = arg;

        if (!command_resume(c))
                return;
        if (verdict == STORE_OK)
                add_member(c);
        else if (verdict == STORE_CONFLICT) /* another node was let in, or a token made: from the beginning */
                command_run(c);
        else
                command_refuse_verdict(c, verdict, problem);
}

static const struct ledger_node *find_request(const struct ledger *l, const uint8_t request[16])
{
        for (unsigned i = 0; i < l->node_count; i++)
                if (memcmp(l->nodes[i].request, request, 16) == 0)
                        return &l->nodes[i];
        return NULL;
}

static void admit(struct command *c, uint64_t token_id)
{
        struct ledger *l = &c->state->ledger;
        struct store_cluster_status status;
        json_t *data = json_object();

        store_cluster_status(membership_default_store(c->m), &status);
        c->state->node_id = l->node_id_max;
        for (unsigned i = 0; i < status.count; i++)
                c->state->node_id = MAX(c->state->node_id, status.members[i].server.node_id);
        c->state->node_id++;
        json_object_set_new(data, "request", json_string(command_text(c, "request")));
        json_object_set_new(data, "node_id", json_integer((json_int_t)c->state->node_id));
        json_object_set_new(data, "token", id_json(token_id));
        json_object_set_new(data, "name", json_string(command_text(c, "name")));
        json_object_set_new(data, "host", json_string(command_text(c, "host")));
        json_object_set_new(data, "port", json_integer((json_int_t)command_number(c, "port", 0)));
        json_object_set_new(data, "at_us", json_integer((json_int_t)os_wall_us(c->m->os)));
        command_hold(c);
        ledger_append(c->m, l, "$nilo-node-admitted", data, on_admitted, c);
}

/* Whoever fails here learns no more than that. */
static bool check_token(struct command *c, const struct tls_join_token *token, bool was_admitted)
{
        struct ledger_token *t = ledger_find_token(&c->state->ledger, token->id);

        if (t && tls_join_token_verify(&t->hash, token->id, token->secret) &&
                (was_admitted || ledger_token_is_open(c->m, t)))
                return true;
        command_refuse(c, 403, "denied", "The token is not accepted", "make a new one: nilo cluster token",
                "the token is unknown here, used up, expired or revoked");
        return false;
}

void join_run(struct command *c)
{
        struct membership *m = c->m;
        const struct ledger_node *known;
        struct tls_join_token token;
        uint8_t request[16];

        if (!check_clustered(c))
                return;
        if (!uuid_parse(command_text(c, "request"), request) ||
                !tls_join_token_parse(command_text(c, "token"), &token) ||
                !address_is_fit(command_text(c, "address")) ||
                strlen(command_text(c, "name")) >= PEERS_NAME_SIZE ||
                strlen(command_text(c, "host")) >= MEMBERSHIP_HOST_SIZE ||
                (m->tls && !*command_text(c, "csr"))) {
                command_refuse(c, 400, "invalid", "The request cannot be understood", NULL,
                        "a request to join names request, token, address, name, host and csr");
                return;
        }
        if (!*command_text(c, "version")) {
                command_refuse(
                        c, 400, "invalid", "The request cannot be understood", NULL, "it names no version");
                return;
        }
        if (!read_ledger(c))
                return;
        known = find_request(&c->state->ledger, request);
        if (!check_token(c, &token, known != NULL))
                return;
        if (!version_check_joiner(c, c->state->ledger.version))
                return;
        if (known) {
                c->state->node_id = known->node_id;
                add_member(c);
        } else {
                admit(c, token.id);
        }
}
