/* Certificates of nodes: made where the CA's key is, asked for elsewhere, and renewed in time. */
#include <stdio.h>
#include <stdlib.h>

#include "membership/room.h"

#define LOOK_US      ((uint64_t)3600 * 1000 * 1000)
#define RETRY_US     ((uint64_t)60 * 1000 * 1000)
#define AUTHORITY_US ((uint64_t)5 * 1000 * 1000)

static void path_of(const struct membership *m, const char *file, struct buffer *ret)
{
        buffer_format(ret, "%s/%s", m->certificates, file);
        buffer_add_u8(ret, 0);
}

/* 0, OS_NOT_FOUND or a fault. The caller wipes it. */
static int read_key(const struct membership *m, struct buffer *ret)
{
        CLEANUP(buffer_fini) struct buffer path = {0};

        path_of(m, "ca.key", &path);
        return os_read_whole(m->os, (const char *)path.data, TLS_PEM_SIZE_MAX, ret);
}

static void wipe(struct buffer *b)
{
        if (b->data)
                explicit_bzero(b->data, b->capacity);
        buffer_fini(b);
}

bool certificates_has_authority(struct membership *m)
{
        CLEANUP(wipe) struct buffer key = {0};

        return m->tls && read_key(m, &key) == 0;
}

/* The names under which a node is reached: where it listens for nodes, as others know it, and this machine.
 */
static unsigned names_of(const char *host, const char *names[3])
{
        unsigned count = 0;

        names[count++] = host;
        if (strcmp(host, "localhost") != 0)
                names[count++] = "localhost";
        if (strcmp(host, "127.0.0.1") != 0)
                names[count++] = "127.0.0.1";
        return count;
}

int certificates_make(struct membership *m, char why[WHY_SIZE_MAX])
{
        struct tls_problem problem = {""};
        char host[MEMBERSHIP_HOST_SIZE];
        const char *names[3];
        uint16_t port;
        bool is_new;
        int r = tls_authority_make(m->os, m->certificates, m->identity.cluster_uuid, &problem);

        /* A CA that is there was made for clients, or by an attempt that a crash cut short. */
        if (r == TLS_EXISTS)
                r = 0;
        if (!address_split(m->file.advertise, host, &port))
                snprintf(host, sizeof host, "localhost");
        /* The certificate may be there with the names by which clients know this node: it keeps them. */
        if (!r)
                r = tls_node_certificate_cover(m->os, m->certificates, m->identity.node_id, names,
                        names_of(host, names), &is_new, &problem);
        if (r <= 0)
                return r;
        snprintf(why, WHY_SIZE_MAX, "%s", problem.text);
        return MEMBERSHIP_DAMAGED;
}

/* ---- signing ---- */

struct signing {
        certificate_done *done;
        void *arg;
};

static void on_signed(struct command *c, json_t *answer)
{
        struct signing *s = c->arg;
        json_t *body = json_object_get(answer, "body");
        const char *certificate = json_string_value(json_object_get(body, "certificate"));
        const char *detail = json_string_value(json_object_get(answer, "detail"));

        if (certificate)
                s->done(s->arg, NULL, bytes_of_string(certificate));
        else
                s->done(s->arg, detail ? detail : "the request was not signed", BYTES_EMPTY);
        free(s);
}

void certificates_sign(struct membership *m, uint64_t node_id, const char *address, const char *request_pem,
        uint64_t deadline_us, certificate_done *done, void *arg)
{
        struct signing *s = MEMORY_NEW(struct signing);
        json_t *request = json_object();

        *s = (struct signing){done, arg};
        json_object_set_new(request, "do", json_string("sign"));
        json_object_set_new(request, "node", json_integer((json_int_t)node_id));
        json_object_set_new(request, "address", json_string(address));
        json_object_set_new(request, "csr", json_string(request_pem));
        command_run(command_begin(m, request, deadline_us, on_signed, s));
}

/* A node asks for itself, or the leader for one that it lets in: whoever is linked is a member, and was let
 * in by the log. */
void sign_run(struct command *c)
{
        struct membership *m = c->m;
        struct tls_problem problem = {""};
        CLEANUP(buffer_fini) struct buffer certificate = {0};
        char host[MEMBERSHIP_HOST_SIZE];
        const char *names[3];
        uint16_t port;
        int r;

        if (!command_number(c, "node", 0) || !address_split(command_text(c, "address"), host, &port)) {
                command_refuse(c, 400, "invalid", "The request cannot be understood", NULL,
                        "which node, and where is it?");
                return;
        }
        r = tls_request_sign(m->os, m->certificates, bytes_of_string(command_text(c, "csr")),
                command_number(c, "node", 0), names, names_of(host, names), &certificate, &problem);
        if (r) {
                command_refuse(c, r == TLS_INVALID ? 400 : 500, "invalid", "The request cannot be signed",
                        NULL, "%s", r > 0 ? problem.text : fault_last());
                return;
        }
        command_end_ok(
                c, json_pack("{ss#}", "certificate", (const char *)certificate.data, (int)certificate.size));
}

/* ---- the CA's key ---- */

/* Every voter has it, so that the loss of one node does not end what needs it; voters have all that it guards
 * anyway. It goes from node to node over links with TLS only. */
static bool is_voter(const struct membership *m, uint64_t node_id)
{
        for (unsigned i = 0; i < m->configuration.count; i++)
                if (m->configuration.servers[i].node_id == node_id)
                        return m->configuration.servers[i].role == CLUSTER_VOTER;
        return false;
}

void authority_run(struct command *c)
{
        CLEANUP(wipe) struct buffer key = {0};

        if (!c->m->tls || !is_voter(c->m, c->from_node)) {
                command_refuse(c, 403, "denied", "Only voters have the CA's key", NULL,
                        "node %llu is no voter", (unsigned long long)c->from_node);
                return;
        }
        if (read_key(c->m, &key)) {
                command_refuse(c, 500, "failed", "It failed", NULL, "the CA's key cannot be read");
                return;
        }
        command_end_ok(c, json_pack("{ss#}", "key", (const char *)key.data, (int)key.size));
}

static void on_authority(struct command *c, json_t *answer)
{
        struct membership *m = c->m;
        const char *key = json_string_value(json_object_get(json_object_get(answer, "body"), "key"));
        CLEANUP(buffer_fini) struct buffer path = {0};

        if (!key || m->is_closing)
                return; /* it is asked for again */
        path_of(m, "ca.key", &path);
        if (os_replace_whole(m->os, (const char *)path.data, bytes_of_string(key)) == 0)
                m->has_authority = true;
}

static void look_for_authority(struct membership *m)
{
        uint64_t now = os_monotonic_us(m->os);

        if (m->has_authority || !is_voter(m, m->identity.node_id) || m->is_stopping ||
                (m->asked_authority_us && now - m->asked_authority_us < AUTHORITY_US))
                return;
        m->asked_authority_us = now;
        command_run(command_begin(
                m, json_pack("{ss}", "do", "authority"), now + AUTHORITY_US / 2, on_authority, NULL));
}

/* ---- renewing ---- */

static void reload(struct membership *m)
{
        struct tls_problem problem = {""};

        if (tls_context_reload(m->tls, &problem))
                membership_fact(m, FACT_certificate_problem, m->identity.node_id, "%s", problem.text);
        else
                membership_fact(m, FACT_certificate_renewed, m->identity.node_id, "used from now on");
        m->looked_at_certificate_us = 0;
}

static void on_renewed(void *arg, const char *said, struct bytes certificate)
{
        struct membership *m = arg;
        struct tls_problem problem = {""};
        CLEANUP(buffer_fini) struct buffer ca = {0};
        CLEANUP(buffer_fini) struct buffer path = {0};
        int r;

        m->is_renewing = false;
        if (m->is_closing)
                return;
        if (said) {
                membership_fact(m, FACT_certificate_problem, m->identity.node_id, "%s", said);
                return;
        }
        path_of(m, "ca.pem", &path);
        r = os_read_whole(m->os, (const char *)path.data, TLS_PEM_SIZE_MAX, &ca);
        if (!r)
                r = tls_certificate_install(m->os, m->certificates, buffer_bytes(&ca), certificate, &problem);
        if (r)
                membership_fact(m, FACT_certificate_problem, m->identity.node_id, "%s",
                        r > 0 ? problem.text : fault_last());
        else
                reload(m);
}

static void renew(struct membership *m)
{
        struct tls_problem problem = {""};
        CLEANUP(buffer_fini) struct buffer request = {0};
        int r;

        if (m->has_authority) {
                r = tls_node_certificate_renew(m->os, m->certificates, &problem);
                if (!r)
                        reload(m);
        } else {
                r = tls_request_make(m->os, m->certificates, &request, &problem);
                if (!r) {
                        buffer_add_u8(&request, 0);
                        m->is_renewing = true;
                        certificates_sign(m, m->identity.node_id, m->file.advertise,
                                (const char *)request.data, 0, on_renewed, m);
                }
        }
        if (r)
                membership_fact(m, FACT_certificate_problem, m->identity.node_id, "%s",
                        r > 0 ? problem.text : fault_last());
}

void certificates_tick(struct membership *m)
{
        uint64_t now = os_monotonic_us(m->os);
        struct tls_certificate_info info;
        struct tls_problem problem;

        if (m->tls)
                look_for_authority(m);
        if (!m->tls || m->is_renewing ||
                (m->looked_at_certificate_us && now - m->looked_at_certificate_us < m->look_again_us))
                return;
        m->looked_at_certificate_us = now;
        m->look_again_us = LOOK_US;
        m->has_authority = certificates_has_authority(m);
        if (tls_certificate_info(m->os, m->certificates, "node.pem", &info, &problem))
                return;
        m->certificate_until_us = info.until_us;
        if (!info.is_due)
                return;
        m->look_again_us = RETRY_US;
        renew(m);
}
