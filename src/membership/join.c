/* A node that asks to be let in: one seed after another, until one answers for its cluster or it is clear
 * that none will. The key, and the name of the request, are on disk before anything is asked, so that an ask
 * after a crash gets the same answer. Nothing of a cluster is taken on before all of it is here; then, in
 * this order: identity, certificates, cluster.json. A crash in between asks again. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "membership/room.h"

enum {
        PAUSE_US = 500 * 1000,
        ASK_US = 20 * 1000 * 1000,
        SHOWN_SIZE = 6, /* bytes of a fingerprint */
};
/* Whoever started it may want to know soon that an address is wrong, and can start it again. */
#define PATIENCE_US ((uint64_t)20 * 1000 * 1000)

struct join {
        struct membership *m;
        struct tls_join_token token;
        struct tls_context *tls;
        char seeds[MEMBERSHIP_SEEDS_MAX][PEERS_ADDRESS_SIZE];
        bool is_of_other[MEMBERSHIP_SEEDS_MAX]; /* clusters, by the CA that it showed */
        unsigned seed_count;
        bool is_multicast; /* more seeds are heard of */
        unsigned at;
        uint64_t begun_us;
        struct os_timer timer;
        struct peers_question *question;
        char problem[WHY_SIZE_MAX];
};

void join_end(struct membership *m)
{
        struct join *j = m->join;

        m->join = NULL;
        if (!j)
                return;
        os_timer_stop(&j->timer);
        peers_ask_cancel(&j->question);
        tls_context_close(&j->tls);
        free(j);
}

static void fail(struct join *j, int result, const char *problem)
{
        struct membership *m = j->m;
        char text[WHY_SIZE_MAX];

        snprintf(text, sizeof text, "%s", problem);
        join_end(m);
        membership_tell_ready(m, result, "%s", text);
}

/* ---- taking it on ---- */

static const char *text_at(json_t *object, const char *key)
{
        const char *text = json_string_value(json_object_get(object, key));

        return text ? text : "";
}

static void take_members(json_t *body, struct join_answer *ret)
{
        json_t *array = json_object_get(body, "members");
        json_t *member;
        size_t i;

        json_array_foreach(array, i, member)
        {
                json_int_t id = json_integer_value(json_object_get(member, "node_id"));
                struct known_member *k;

                if (id <= 0 || (uint64_t)id == ret->identity.node_id ||
                        ret->member_count == CLUSTER_MEMBERS_MAX)
                        continue;
                k = &ret->members[ret->member_count++];
                k->node_id = (uint64_t)id;
                text_copy(k->address, sizeof k->address, text_at(member, "address"));
        }
}

bool join_answer_take(json_t *body, struct join_answer *ret, char why[WHY_SIZE_MAX])
{
        json_int_t node = json_integer_value(json_object_get(body, "node"));
        json_int_t epoch = json_integer_value(json_object_get(body, "epoch"));
        json_int_t version = json_integer_value(json_object_get(body, "cluster_version"));

        *ret = (struct join_answer){.ca = text_at(body, "ca"), .certificate = text_at(body, "certificate")};
        if (node <= 0 || epoch <= 0 || epoch > UINT32_MAX || version < 0 || version > INT_MAX ||
                !uuid_parse(text_at(body, "cluster"), ret->identity.cluster_uuid) ||
                !uuid_parse(text_at(body, "store"), ret->store_uuid)) {
                snprintf(why, WHY_SIZE_MAX, "the answer of the cluster lacks what it must have");
                return false;
        }
        ret->identity.node_id = (uint64_t)node;
        ret->epoch = (uint32_t)epoch;
        ret->version = (unsigned)version;
        take_members(body, ret);
        if (ret->member_count)
                return true;
        snprintf(why, WHY_SIZE_MAX, "the answer of the cluster names no other member");
        return false;
}

/* Memory first: the file is written when all else is there. */
static void use_answer(struct membership *m, const struct join_answer *a)
{
        m->version = a->version;
        m->identity = a->identity;
        m->file.epoch = a->epoch;
        memcpy(m->file.store_uuid, a->store_uuid, sizeof m->file.store_uuid);
        memcpy(m->file.members, a->members, sizeof m->file.members);
        m->file.member_count = a->member_count;
}

static int adopt(struct membership *m, json_t *body, char why[WHY_SIZE_MAX])
{
        struct tls_problem problem = {""};
        struct join_answer a;
        int r;

        if (!join_answer_take(body, &a, why))
                return MEMBERSHIP_DAMAGED;
        r = persistence_node_adopt(m->node, &a.identity);
        if (r) {
                snprintf(why, WHY_SIZE_MAX,
                        r == PERSISTENCE_IN_USE ? "%s has data of its own" : "the disk of %s is full",
                        m->options.directory);
                return r > 0 ? MEMBERSHIP_REFUSED : r;
        }
        use_answer(m, &a);
        if (!m->file.is_insecure) {
                r = tls_certificate_install(m->os, m->certificates, bytes_of_string(a.ca),
                        bytes_of_string(a.certificate), &problem);
                if (r) {
                        snprintf(
                                why, WHY_SIZE_MAX, "the certificate that the cluster gave: %s", problem.text);
                        return r > 0 ? MEMBERSHIP_DAMAGED : r;
                }
        }
        m->file.is_joining = false;
        m->file.has_joined = true;
        r = cluster_file_write(m, why);
        if (!r)
                m->has_file = true;
        return r ? r : membership_open_peers(m, why);
}

static void take_on(struct join *j, json_t *body)
{
        struct membership *m = j->m;
        char why[WHY_SIZE_MAX] = "";
        int r = adopt(m, body, why);

        if (r) {
                fail(j, r, r > 0 ? why : fault_last());
                return;
        }
        join_end(m);
        membership_fact(m, FACT_cluster_joined, m->identity.node_id, "as a stand-by");
        membership_tell_ready(m, 0, "%s", "");
}

/* ---- asking ---- */

static void ask(struct os_timer *timer);

static void try_again(struct join *j, const char *said)
{
        struct membership *m = j->m;
        uint64_t waited_us = os_monotonic_us(m->os) - j->begun_us;

        if (strcmp(said, j->problem) != 0)
                membership_fact(m, FACT_join_waits, 0, "%s", said);
        snprintf(j->problem, sizeof j->problem, "%s", said);
        if (waited_us > PATIENCE_US) {
                char text[WHY_SIZE_MAX];

                snprintf(text, sizeof text, "the cluster could not be joined: %.400s", j->problem);
                fail(j, MEMBERSHIP_UNREACHABLE, text);
                return;
        }
        os_timer_start(m->os, &j->timer, PAUSE_US);
}

static void try_next(struct join *j, const char *problem)
{
        char said[WHY_SIZE_MAX];

        snprintf(said, sizeof said, "%s: %.200s", j->seeds[j->at], problem);
        j->at = (j->at + 1) % j->seed_count;
        try_again(j, said);
}

static void hex(const uint8_t *bytes, char ret[2 * SHOWN_SIZE + 1])
{
        for (size_t i = 0; i < SHOWN_SIZE; i++)
                snprintf(ret + 2 * i, 3, "%02x", bytes[i]);
}

/* True, and the join has ended: nobody that can be asked has the CA that the token names, which will not
 * change. */
static bool is_elsewhere(struct join *j)
{
        uint8_t met[TLS_FINGERPRINT_SIZE];
        char named[2 * SHOWN_SIZE + 1], shown[2 * SHOWN_SIZE + 1];
        char text[WHY_SIZE_MAX];

        if (!j->tls || !tls_context_met_other_authority(j->tls, met))
                return false;
        j->is_of_other[j->at] = true;
        for (unsigned i = 0; i < j->seed_count; i++)
                if (!j->is_of_other[i])
                        return false;
        if (j->is_multicast)
                return false; /* others may be heard of */
        hex(j->token.ca_fingerprint, named);
        hex(met, shown);
        snprintf(text, sizeof text,
                "the token is of another cluster than %.200s: it names the CA %s..., there is the CA %s.... "
                "Next: make a token where the node is to join: nilo cluster token",
                j->seeds[j->at], named, shown);
        fail(j, MEMBERSHIP_REFUSED, text);
        return true;
}

static void on_answered(void *arg, const char *problem, const struct tls_identity *who, struct bytes answer)
{
        struct join *j = arg;
        CLEANUP(json_freep) json_t *object = NULL;
        int status;

        (void)who;
        j->question = NULL;
        if (problem) {
                if (!is_elsewhere(j))
                        try_next(j, problem);
                return;
        }
        object = json_loadb((const char *)answer.data, answer.size, JSON_REJECT_DUPLICATES, NULL);
        status = (int)json_integer_value(json_object_get(object, "status"));
        if (status == 200) {
                take_on(j, json_object_get(object, "body"));
        } else if (status >= 400 && status < 500) {
                char text[WHY_SIZE_MAX];

                snprintf(text, sizeof text, "the cluster said no: %.200s. Next: %.100s",
                        text_at(object, "detail"),
                        *text_at(object, "next") ? text_at(object, "next") : "look at its status");
                fail(j, MEMBERSHIP_REFUSED, text);
        } else {
                try_next(j,
                        *text_at(object, "detail") ? text_at(object, "detail") : "its answer cannot be read");
        }
}

static bool make_request(struct join *j, struct buffer *out, char why[WHY_SIZE_MAX])
{
        struct membership *m = j->m;
        CLEANUP(buffer_fini) struct buffer csr = {0};
        struct json_out o = {.out = out};
        struct tls_problem problem = {""};
        char uuid[EVENT_ID_TEXT_SIZE + 1];

        if (!m->file.is_insecure && tls_request_make(m->os, m->certificates, &csr, &problem)) {
                snprintf(why, WHY_SIZE_MAX, "the key of this node: %s",
                        *problem.text ? problem.text : fault_last());
                return false;
        }
        uuid_format(m->file.request, uuid);
        json_object_begin(&o);
        json_field_string(&o, "do", "join");
        json_field_string(&o, "request", uuid);
        json_field_string(&o, "token", m->options.token);
        json_field_string(&o, "version", NILO_VERSION);
        json_field_u64(&o, "cluster_version_min", version_min(m));
        json_field_u64(&o, "cluster_version_max", version_max(m));
        json_field_string(&o, "name", m->options.name);
        json_field_string(&o, "address", m->file.advertise);
        json_field_string(&o, "host", m->options.client_host);
        json_field_u64(&o, "port", m->options.client_port);
        if (csr.size)
                json_field_bytes(&o, "csr", buffer_bytes(&csr));
        json_object_end(&o);
        return true;
}

static void ask(struct os_timer *timer)
{
        struct join *j = timer->arg;
        struct membership *m = j->m;
        CLEANUP(buffer_fini) struct buffer request = {0};
        struct peers_question_options options = {
                .os = m->os,
                .address = j->seeds[j->at],
                .tls = j->tls,
                .is_insecure_anywhere = m->file.is_insecure && m->options.is_insecure,
                .name = m->options.name,
                .timeout_us = ASK_US,
                .done = on_answered,
                .arg = j,
        };
        char why[WHY_SIZE_MAX] = "";
        int r;

        if (!j->seed_count) {
                try_again(j, discovery_hint(m));
                return;
        }
        if (!make_request(j, &request, why)) {
                fail(j, MEMBERSHIP_DAMAGED, why);
                return;
        }
        options.request = buffer_bytes(&request);
        r = peers_ask(&options, &j->question);
        if (r == PEERS_ADDRESS_INSECURE)
                fail(j, MEMBERSHIP_REFUSED,
                        "the cluster has no certificates, and is not on this machine: everybody on the "
                        "network could read the token. "
                        "Say --cluster-insecure if that is meant");
        else if (r)
                try_next(j, r > 0 ? "it is no address: it has the form host:port" : fault_last());
}

/* ---- beginning ---- */

void join_found_seed(struct membership *m, const char *address)
{
        struct join *j = m->join;

        for (unsigned i = 0; i < j->seed_count; i++)
                if (strcmp(j->seeds[i], address) == 0)
                        return;
        if (!j->is_multicast || j->seed_count == MEMBERSHIP_SEEDS_MAX)
                return;
        text_copy(j->seeds[j->seed_count++], PEERS_ADDRESS_SIZE, address);
        /* Nobody waits for the next try once somebody can be asked. */
        if (j->seed_count == 1)
                os_timer_start(m->os, &j->timer, 0);
}

static bool take_seeds(struct join *j)
{
        const char *at = j->m->options.join;

        while (*at) {
                size_t size = strcspn(at, ", ");

                if (size == 9 && strncmp(at, "multicast", size) == 0) {
                        j->is_multicast = true;
                } else if (size && size < PEERS_ADDRESS_SIZE && j->seed_count < MEMBERSHIP_SEEDS_MAX) {
                        char host[MEMBERSHIP_HOST_SIZE];
                        uint16_t port;
                        char seed[PEERS_ADDRESS_SIZE];

                        snprintf(seed, sizeof seed, "%.*s", (int)size, at);
                        if (!address_split(seed, host, &port)) {
                                if (size >= MEMBERSHIP_HOST_SIZE || strpbrk(seed, ":[]"))
                                        return false;
                                text_copy(host, sizeof host, seed);
                                address_format(host, PEERS_PORT, seed);
                        }
                        snprintf(j->seeds[j->seed_count++], PEERS_ADDRESS_SIZE, "%s", seed);
                }
                at += size;
                at += strspn(at, ", ");
        }
        return j->seed_count > 0 || j->is_multicast;
}

static int open_tls(struct join *j, char why[WHY_SIZE_MAX])
{
        struct tls_context_options options = {
                .os = j->m->os,
                .peer_certificate = TLS_PEER_REQUIRED,
                .ca_fingerprint = bytes_of(j->token.ca_fingerprint, sizeof j->token.ca_fingerprint),
        };
        struct tls_problem problem = {""};
        int r = tls_context_open(&options, &j->tls, &problem);

        if (r > 0)
                snprintf(why, WHY_SIZE_MAX, "%s", problem.text);
        return r > 0 ? MEMBERSHIP_DAMAGED : r;
}

void join_begin(struct membership *m)
{
        static const uint8_t no_fingerprint[TLS_TOKEN_FINGERPRINT_SIZE];
        struct join *j = MEMORY_NEW(struct join);
        char why[WHY_SIZE_MAX] = "";
        int r = 0;

        j->m = m;
        j->begun_us = os_monotonic_us(m->os);
        j->timer = (struct os_timer){.fn = ask, .arg = j};
        m->join = j;
        if (!take_seeds(j)) {
                fail(j, MEMBERSHIP_REFUSED,
                        "--join names nobody that could be asked: say --join HOST:PORT[,HOST:PORT]...");
                return;
        }
        if (j->is_multicast && !discovery_is_wanted(m)) {
                fail(j, MEMBERSHIP_REFUSED,
                        "--join multicast needs --discover multicast, and the cluster's secret");
                return;
        }
        if (!tls_join_token_parse(m->options.token, &j->token)) {
                fail(j, MEMBERSHIP_REFUSED,
                        *m->options.token
                                ? "--token is no join token, or a letter of it is wrong: nilo cluster token "
                                  "makes one"
                                : "--join needs --token TOKEN: nilo cluster token makes one, at the cluster");
                return;
        }
        m->file.is_insecure = memcmp(j->token.ca_fingerprint, no_fingerprint, sizeof no_fingerprint) == 0;
        if (!m->has_file) {
                os_random(m->os, m->file.request, sizeof m->file.request);
                m->file.is_joining = true;
        }
        r = cluster_file_write(m, why);
        if (!r && !m->file.is_insecure)
                r = open_tls(j, why);
        if (r) {
                fail(j, r, r > 0 ? why : fault_last());
                return;
        }
        if (j->is_multicast)
                discovery_open(m);
        os_timer_start(m->os, &j->timer, 0);
}
