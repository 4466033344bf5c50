/* init: a lone node becomes a cluster that others can join. */
#include <stdio.h>

#include "membership/room.h"

static bool init_check(struct command *c, char listen[OS_ADDRESS_SIZE], uint16_t *ret_port)
{
        struct membership *m = c->m;
        const char *address = command_text(c, "address");
        char host[MEMBERSHIP_HOST_SIZE];

        snprintf(host, sizeof host, "%s", *m->options.listen ? m->options.listen : LISTEN_DEFAULT);
        *ret_port = m->options.port ? m->options.port : PEERS_PORT;
        if (*address && !address_split(address, host, ret_port)) {
                command_refuse(c, 400, "invalid", "The request cannot be understood", "say --address IP:PORT",
                        "'%.100s' is no address: it has the form host:port", address);
                return false;
        }
        if (strlen(host) >= OS_ADDRESS_SIZE) {
                command_refuse(c, 400, "invalid", "The request cannot be understood", "say --address IP:PORT",
                        "'%.100s' is no IP address to listen on", host);
                return false;
        }
        text_copy(listen, OS_ADDRESS_SIZE, host);
        return true;
}

static bool init_advertise(struct command *c, const char *listen, uint16_t port, char ret[PEERS_ADDRESS_SIZE])
{
        const char *advertise =
                *command_text(c, "advertise") ? command_text(c, "advertise") : c->m->options.advertise;

        if (*advertise && !address_is_fit(advertise)) {
                command_refuse(c, 400, "invalid", "The request cannot be understood",
                        "say --advertise HOST:PORT", "'%.100s' is no address: it has the form host:port",
                        advertise);
                return false;
        }
        if (!*advertise && host_is_wildcard(listen)) {
                command_refuse(c, 400, "invalid", "The address of this node is not known",
                        "say --advertise HOST:PORT",
                        "it listens on every address: say at which one the other nodes reach it");
                return false;
        }
        if (*advertise)
                text_copy(ret, PEERS_ADDRESS_SIZE, advertise);
        else
                address_format(listen, port, ret);
        return true;
}

static void init_answer(struct command *c)
{
        struct membership *m = c->m;
        char uuid[EVENT_ID_TEXT_SIZE + 1];
        json_t *body = json_object();

        uuid_format(m->identity.cluster_uuid, uuid);
        json_object_set_new(body, "cluster", json_string(uuid));
        json_object_set_new(body, "node", json_integer((json_int_t)m->identity.node_id));
        json_object_set_new(body, "address", json_string(m->file.advertise));
        json_object_set_new(body, "insecure", json_boolean(m->file.is_insecure));
        json_object_set_new(body, "voters_wanted", json_integer(m->file.voters_wanted));
        if (!m->file.is_insecure)
                json_object_set_new(body, "certificates", json_string(m->certificates));
        command_end_ok(c, body);
}

static void on_init_added(void *arg, enum store_verdict verdict, const char *problem)
{
        struct command *c = arg;

        c->m->is_changing = false;
        if (!command_resume(c))
                return;
        if (verdict == STORE_OK)
                init_answer(c);
        else
                command_refuse_verdict(c, verdict, problem);
}

/* The file comes first: what it says is true once the links are open, and a crash in between is mended by the
 * next start, which opens them and writes the address into the log. */
static void init_open(struct command *c)
{
        struct membership *m = c->m;
        char why[WHY_SIZE_MAX] = "";
        int r = m->file.is_insecure ? 0 : certificates_make(m, why);

        if (!r)
                r = membership_open_peers(m, why);
        if (!r) {
                m->has_file = true;
                r = cluster_file_write(m, why);
                if (r) {
                        m->has_file = false;
                        peers_close(&m->peers);
                        tls_context_close(&m->tls);
                }
        }
        if (r) {
                command_refuse(c, r == MEMBERSHIP_ADDRESS ? 409 : 500,
                        r == MEMBERSHIP_ADDRESS ? "address" : "failed", "The cluster could not be made", NULL,
                        "%s", r > 0 ? why : fault_last());
                return;
        }
        m->is_changing = true;
        command_hold(c);
        store_change_members(membership_default_store(m), STORE_ADD, m->identity.node_id, m->file.advertise,
                c->deadline_us, on_init_added, c);
}

void init_run(struct command *c)
{
        struct membership *m = c->m;
        struct store *store = membership_default_store(m);
        struct cluster_file file = {.is_insecure = command_flag(c, "insecure") || m->options.is_insecure};
        uint64_t voters = command_number(c, "voters", 0);

        if (m->has_file) {
                command_refuse(c, 409, "exists", "It is a cluster already",
                        "let others join: nilo cluster token", "this node is one of a cluster already");
                return;
        }
        if (!store || !store_is_leading(store)) {
                command_refuse(c, 503, "not-ready", "The store is not open yet", "try again in a second",
                        "the server is starting");
                return;
        }
        if (voters != 0 && voters != 1 && voters != 3) {
                command_refuse(c, 400, "invalid", "The request cannot be understood", NULL,
                        "a cluster begins with one voter and grows to three by itself, if --voters 3 says "
                        "so");
                return;
        }
        if (!init_check(c, file.listen, &file.port) ||
                !init_advertise(c, file.listen, file.port, file.advertise))
                return;
        if (command_flag(c, "dry_run")) {
                json_t *body = json_object();

                json_object_set_new(body, "dry_run", json_true());
                json_object_set_new(body, "allowed", json_true());
                json_object_set_new(body, "steps",
                        json_pack("[s]", "open the listener for nodes, make the cluster's certificates, "
                                         "write the address into the log"));
                command_end_ok(c, body);
                return;
        }
        file.voters_wanted = voters == 3 ? 3 : 0;
        file.epoch = persistence_epoch(store_persistence(store));
        os_random(m->os, file.request, sizeof file.request);
        m->file = file;
        init_open(c);
}
