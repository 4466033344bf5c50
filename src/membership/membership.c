/* The life of the room; the links, and the messages of stores over them.
 *
 * Who the members are comes from the store (on_members), by a post, since the store must not be called from
 * inside. A member that was removed keeps its link for a moment, so that what was said to it last still
 * arrives. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "membership/room.h"

enum { HAND_OVER_US = 2 * 1000 * 1000, LEAVING_US = 2 * 1000 * 1000, COMPARE_US = 3 * 1000 * 1000 };

static_assert((int)CLUSTER_MEMBERS_MAX <= (int)PEERS_MEMBERS_MAX, "every member can be linked");

/* ---- words ---- */

void uuid_format(const uint8_t uuid[16], char ret[EVENT_ID_TEXT_SIZE + 1])
{
        struct event_id id;

        memcpy(id.bytes, uuid, 16);
        event_id_format(&id, ret);
}

bool uuid_parse(const char *text, uint8_t ret[16])
{
        struct event_id id;

        if (!event_id_parse(bytes_of_string(text), &id))
                return false;
        memcpy(ret, id.bytes, 16);
        return true;
}

void text_copy(char *to, size_t size, const char *from)
{
        size_t n = 0;

        for (; from && from[n] && n + 1 < size; n++) {
                to[n] = from[n];
                if ((uint8_t)to[n] < 0x20 || (uint8_t)to[n] == 0x7f)
                        to[n] = '?';
        }
        /* No half of a character at the end. */
        while (n && from[n] && ((uint8_t)from[n] & 0xc0) == 0x80)
                n--;
        to[n] = 0;
}

void address_format(const char *host, uint16_t port, char ret[PEERS_ADDRESS_SIZE])
{
        bool is_v6 = strchr(host, ':') != NULL;

        snprintf(ret, PEERS_ADDRESS_SIZE, "%s%.253s%s:%u", is_v6 ? "[" : "", host, is_v6 ? "]" : "", port);
}

bool address_split(const char *address, char host[MEMBERSHIP_HOST_SIZE], uint16_t *ret_port)
{
        const char *colon = strrchr(address, ':');
        size_t size = colon ? (size_t)(colon - address) : 0;
        unsigned long port = 0;

        if (!size || size >= MEMBERSHIP_HOST_SIZE + 2 || !colon[1])
                return false;
        for (const char *at = colon + 1; *at; at++) {
                if (*at < '0' || *at > '9' || port > UINT16_MAX)
                        return false;
                port = port * 10 + (unsigned long)(*at - '0');
        }
        if (address[0] == '[' && address[size - 1] == ']') {
                address++;
                size -= 2;
        }
        if (!size || size >= MEMBERSHIP_HOST_SIZE || !port || port > UINT16_MAX)
                return false;
        memcpy(host, address, size);
        host[size] = 0;
        *ret_port = (uint16_t)port;
        return true;
}

bool address_is_fit(const char *address)
{
        char host[MEMBERSHIP_HOST_SIZE];
        uint16_t port;

        for (const char *at = address; *at; at++)
                if ((uint8_t)*at <= 0x20 || (uint8_t)*at >= 0x7f)
                        return false;
        return strlen(address) < CLUSTER_ADDRESS_SIZE && address_split(address, host, &port);
}

bool host_is_wildcard(const char *host)
{
        return strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
}

void membership_fact(struct membership *m, enum fact_type type, uint64_t node_id, const char *format, ...)
{
        struct fact_payload payload = {.node_id = node_id};
        char text[FACT_TEXT_SIZE + 1];
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
        fact_set_text(&payload, "%s", text);
        control_publish(m->control, type, &payload);
}

/* ---- stores ---- */

struct store *membership_default_store(const struct membership *m)
{
        return m->stores[0].store;
}

const uint8_t *membership_store_uuid(struct membership_store *s)
{
        struct persistence *p = s->store && !s->has_uuid ? store_persistence(s->store) : NULL;

        if (p) {
                memcpy(s->uuid, persistence_store_id(p), sizeof s->uuid);
                s->has_uuid = true;
        }
        return s->has_uuid ? s->uuid : NULL;
}

static bool send_of_store(void *arg, uint64_t node_id, enum store_link link, uint16_t type,
        const struct bytes *pieces, unsigned count)
{
        static const enum peers_link links[STORE_LINKS] = {
                [STORE_LINK_CONTROL] = PEERS_CONTROL, [STORE_LINK_BULK] = PEERS_BULK};
        struct membership_store *s = arg;
        const uint8_t *uuid = membership_store_uuid(s);

        assert(MESSAGE_STORE_FIRST + type <= MESSAGE_STORE_LAST);
        return s->m->peers && uuid &&
               peers_send(s->m->peers, node_id, links[link], uuid, (uint16_t)(MESSAGE_STORE_FIRST + type),
                       pieces, count);
}

static void flush_of_store(void *arg)
{
        struct membership_store *s = arg;

        if (s->m->peers)
                peers_flush(s->m->peers);
}

static void on_members(void *arg, const struct cluster_configuration *configuration);

void membership_store_cluster(struct membership *m, struct store_cluster *ret)
{
        struct membership_store *s = m->stores;

        while (s->store)
                s++;
        assert(s < m->stores + MEMBERSHIP_STORES_MAX);
        *s = (struct membership_store){.m = m};
        *ret = (struct store_cluster){
                .is_member = true,
                .joins = m->has_file && m->file.has_joined,
                .address = m->has_file ? m->file.advertise : NULL,
                .send = send_of_store,
                .flush = flush_of_store,
                .on_members = on_members,
                .compare_us = COMPARE_US,
                .arg = s,
        };
        if (ret->joins) {
                ret->store_uuid = m->file.store_uuid;
                ret->epoch = m->file.epoch;
        }
}

/* A store learns of links as they change: of those that are up already, now. */
static void tell_links(struct membership *m, struct store *store)
{
        struct peers_node_stats stats[PEERS_MEMBERS_MAX];
        unsigned count = m->peers ? peers_stats(m->peers, stats, PEERS_MEMBERS_MAX) : 0;

        for (unsigned i = 0; i < count; i++)
                if (stats[i].links[PEERS_CONTROL].is_up)
                        store_link_changed(store, stats[i].node, true);
}

void membership_add_store(struct membership *m, struct store *store)
{
        for (unsigned i = 0; i < MEMBERSHIP_STORES_MAX; i++) {
                if (m->stores[i].store || !m->stores[i].m)
                        continue;
                m->stores[i].store = store;
                tell_links(m, store);
                return;
        }
        assert(!"a store that was not prepared");
}

void membership_stop(struct membership *m)
{
        m->is_stopping = true;
        commands_end_all(m);
}

/* ---- members ---- */

bool membership_is_linked(const struct membership *m, uint64_t node_id)
{
        return m->peers && peers_is_up(m->peers, node_id, PEERS_CONTROL);
}

static const struct cluster_server *find_server(const struct cluster_configuration *c, uint64_t node_id)
{
        for (unsigned i = 0; i < c->count; i++)
                if (c->servers[i].node_id == node_id)
                        return &c->servers[i];
        return NULL;
}

void membership_set_member(struct membership *m, uint64_t node_id, const char *address)
{
        int r = peers_set_member(m->peers, node_id, address);

        if (r)
                r = peers_set_member(m->peers, node_id, "");
        assert(!r);
}

/* The file has the members as they were last, since a node that starts has to find the others before its log
 * is read. */
static void keep_members(struct membership *m)
{
        struct cluster_file *file = &m->file;
        struct cluster_file before = *file;
        char why[WHY_SIZE_MAX];

        file->member_count = 0;
        for (unsigned i = 0; i < m->configuration.count; i++) {
                const struct cluster_server *server = &m->configuration.servers[i];
                struct known_member *k = &file->members[file->member_count];

                if (server->node_id == m->identity.node_id)
                        continue;
                memset(k, 0, sizeof *k);
                k->node_id = server->node_id;
                text_copy(k->address, sizeof k->address, server->address);
                file->member_count++;
        }
        if (before.member_count == file->member_count &&
                memcmp(before.members, file->members, file->member_count * sizeof file->members[0]) == 0)
                return;
        /* It is a help for the next start, no more: without space the old one stays. */
        if (cluster_file_write(m, why))
                membership_fact(m, FACT_disk_space_low, 0, "cluster.json could not be written");
}

static void follow_members(struct membership *m)
{
        struct peers_node_stats stats[PEERS_MEMBERS_MAX];
        unsigned known;

        if (!m->peers || !m->has_configuration)
                return;
        known = peers_stats(m->peers, stats, PEERS_MEMBERS_MAX);
        for (unsigned i = 0; i < m->configuration.count; i++) {
                const struct cluster_server *server = &m->configuration.servers[i];

                if (server->node_id == m->identity.node_id)
                        continue;
                membership_set_member(m, server->node_id, server->address);
        }
        discovery_members_changed(m);
        m->leaving_count = 0;
        for (unsigned i = 0; i < known; i++)
                if (!find_server(&m->configuration, stats[i].node) && m->leaving_count < PEERS_MEMBERS_MAX)
                        m->leaving[m->leaving_count++] = stats[i].node;
        m->leaving_since_us = os_monotonic_us(m->os);
        nodes_keep_members(m);
        keep_members(m);
        nodes_tell(m, true);
}

static void let_go(struct membership *m)
{
        struct store_cluster_status status;

        if (!m->leaving_count || os_monotonic_us(m->os) - m->leaving_since_us < LEAVING_US ||
                !membership_default_store(m))
                return;
        store_cluster_status(membership_default_store(m), &status);
        if (!status.has_committed_members)
                return;
        for (unsigned i = 0; i < m->leaving_count; i++) {
                peers_remove_member(m->peers, m->leaving[i]);
                commands_link_lost(m, m->leaving[i]);
        }
        m->leaving_count = 0;
}

static void members_posted(struct os_timer *timer)
{
        follow_members(timer->arg);
}

static void on_members(void *arg, const struct cluster_configuration *configuration)
{
        struct membership_store *s = arg;
        struct membership *m = s->m;

        if (s != m->stores)
                return; /* the default store's are the node's */
        m->configuration = *configuration;
        m->has_configuration = true;
        os_timer_start(m->os, &m->members_timer, 0);
}

/* ---- what comes over the links ---- */

static void on_message(void *arg, uint64_t from, enum peers_link link, const uint8_t store_uuid[16],
        uint16_t type, struct bytes body)
{
        struct membership *m = arg;
        enum store_link links[PEERS_LINKS] = {
                [PEERS_CONTROL] = STORE_LINK_CONTROL, [PEERS_BULK] = STORE_LINK_BULK};

        if (type <= MESSAGE_STORE_LAST) {
                for (unsigned i = 0; i < MEMBERSHIP_STORES_MAX; i++) {
                        struct membership_store *s = &m->stores[i];
                        const uint8_t *uuid = s->store ? membership_store_uuid(s) : NULL;

                        if (uuid && memcmp(uuid, store_uuid, 16) == 0) {
                                store_receive(s->store, from, links[link],
                                        (uint16_t)(type - MESSAGE_STORE_FIRST), body);
                                return;
                        }
                }
        } else if (type == MESSAGE_NODE) {
                nodes_on_message(m, from, body);
        } else if (type == MESSAGE_COMMAND) {
                commands_on_message(m, from, body);
        } else if (type == MESSAGE_ANSWER) {
                commands_on_answer(m, from, body);
        }
}

static void on_link(void *arg, uint64_t node, bool is_up)
{
        struct membership *m = arg;

        for (unsigned i = 0; i < MEMBERSHIP_STORES_MAX; i++)
                if (m->stores[i].store)
                        store_link_changed(m->stores[i].store, node, is_up);
        if (is_up)
                nodes_tell_one(m, node);
        if (is_up)
                return;
        nodes_forget_versions(m, node);
        commands_link_lost(m, node);
}

static void on_room(void *arg, uint64_t node, enum peers_link link)
{
        struct membership *m = arg;

        for (unsigned i = 0; i < MEMBERSHIP_STORES_MAX; i++)
                if (m->stores[i].store)
                        store_link_has_room(m->stores[i].store, node,
                                link == PEERS_BULK ? STORE_LINK_BULK : STORE_LINK_CONTROL);
}

static void on_stranger(void *arg, const char *address, const char *why)
{
        struct membership *m = arg;
        unsigned kept = MIN(m->stranger_count, (unsigned)STRANGERS_SHOWN_MAX - 1);

        memmove(m->strangers + 1, m->strangers, kept * sizeof m->strangers[0]);
        m->strangers[0].at_us = os_wall_us(m->os);
        text_copy(m->strangers[0].address, sizeof m->strangers[0].address, address);
        text_copy(m->strangers[0].why, sizeof m->strangers[0].why, why);
        m->stranger_count = kept + 1;
}

/* ---- opening the links ---- */

static void say_address(const struct membership *m, int result, char why[WHY_SIZE_MAX])
{
        const struct cluster_file *file = &m->file;

        switch (result) {
        case PEERS_ADDRESS_IN_USE:
                snprintf(why, WHY_SIZE_MAX, "port %u of %s is in use. Choose another with --peer-port",
                        file->port, file->listen);
                return;
        case PEERS_ADDRESS_INSECURE:
                snprintf(why, WHY_SIZE_MAX,
                        "%s is not loopback, and this cluster has no certificates: everybody on the network "
                        "could read and "
                        "write. Say --cluster-insecure if that is meant",
                        file->listen);
                return;
        case PEERS_CERTIFICATE_WRONG:
                snprintf(why, WHY_SIZE_MAX,
                        "the certificate in %s is of another node or cluster. Restore it from a copy",
                        m->certificates);
                return;
        default:
                snprintf(why, WHY_SIZE_MAX, "%s is no address of this machine", file->listen);
        }
}

static int open_tls(struct membership *m, char why[WHY_SIZE_MAX])
{
        struct tls_context_options options = {
                .os = m->os, .directory = m->certificates, .peer_certificate = TLS_PEER_OPTIONAL};
        struct tls_problem problem = {""};
        int r = tls_context_open(&options, &m->tls, &problem);

        if (r <= 0)
                return r;
        snprintf(why, WHY_SIZE_MAX, "the certificates of this node: %s", problem.text);
        return MEMBERSHIP_DAMAGED;
}

int membership_open_peers(struct membership *m, char why[WHY_SIZE_MAX])
{
        static const struct peers_handler handler = {
                .on_message = on_message,
                .on_link = on_link,
                .on_room = on_room,
                .on_stranger = on_stranger,
                .on_ask = commands_on_ask,
        };
        struct peers_options options = {
                .os = m->os,
                .control = m->control,
                .identity = {.node_id = m->identity.node_id,
                        .epoch = m->file.epoch,
                        .version_min = MESSAGES_VERSION,
                        .version_max = MESSAGES_VERSION},
                .address = m->file.listen,
                .port = m->file.port,
                .is_insecure_anywhere = m->file.is_insecure,
                .handler = &handler,
                .arg = m,
        };
        int r = m->file.is_insecure ? 0 : open_tls(m, why);

        if (r)
                return r;
        memcpy(options.identity.cluster_uuid, m->identity.cluster_uuid, 16);
        text_copy(options.identity.name, sizeof options.identity.name, m->options.name);
        options.tls = m->tls;
        r = peers_open(&options, &m->peers);
        if (r) {
                tls_context_close(&m->tls);
                if (r < 0)
                        return r;
                say_address(m, r, why);
                return r == PEERS_CERTIFICATE_WRONG ? MEMBERSHIP_DAMAGED : MEMBERSHIP_ADDRESS;
        }
        for (unsigned i = 0; i < m->file.member_count; i++)
                if (m->file.members[i].node_id != m->identity.node_id)
                        membership_set_member(m, m->file.members[i].node_id, m->file.members[i].address);
        m->has_authority = certificates_has_authority(m);
        discovery_open(m);
        return 0;
}

/* ---- from time to time ---- */

/* Where a member is reached is in the log. One that has moved says so; the leader writes it down. */
static void on_moved(void *arg, enum store_verdict verdict, const char *problem)
{
        (void)verdict;
        (void)problem;
        ((struct membership *)arg)->is_changing = false;
}

static void look_for_moved(struct membership *m)
{
        struct store *store = membership_default_store(m);

        if (!m->peers || m->is_changing || !store || !store_is_leading(store) || !m->has_configuration)
                return;
        for (unsigned i = 0; i < m->configuration.count; i++) {
                const struct cluster_server *server = &m->configuration.servers[i];
                const struct node_news *n = nodes_find(m, server->node_id);
                const char *address = server->node_id == m->identity.node_id ? m->file.advertise
                                      : n && n->is_known                     ? n->address
                                                                             : "";

                /* One that the log cannot hold would be written down again and again. */
                if (!address_is_fit(address) || strcmp(address, server->address) == 0)
                        continue;
                m->is_changing = true;
                store_change_members(store, STORE_ADD, server->node_id, address,
                        os_monotonic_us(m->os) + HAND_OVER_US, on_moved, m);
                return;
        }
}

static void look_at_store(struct membership *m)
{
        struct store *store = membership_default_store(m);
        struct store_cluster_status status;

        if (!store || !store_persistence(store))
                return;
        store_cluster_status(store, &status);
        if (status.leader_id && status.leader_id != m->seen_leader) {
                m->elections++;
                m->seen_leader = status.leader_id;
                nodes_tell(m, true);
        }
        if (m->peers && status.epoch && status.epoch != m->file.epoch) {
                char why[WHY_SIZE_MAX];

                m->file.epoch = status.epoch;
                peers_set_epoch(m->peers, status.epoch);
                if (cluster_file_write(m, why))
                        membership_fact(m, FACT_disk_space_low, 0, "cluster.json could not be written");
        }
}

static void on_tick(struct os_timer *timer)
{
        struct membership *m = timer->arg;

        os_timer_start(m->os, &m->tick, TICK_US);
        version_tick(m);
        if (!m->peers)
                return;
        look_at_store(m);
        commands_tick(m);
        let_go(m);
        discovery_tick(m);
        look_for_moved(m);
        grow_tick(m);
        certificates_tick(m);
        nodes_tell(m, false);
}

/* ---- life ---- */

void membership_tell_ready(struct membership *m, int result, const char *format, ...)
{
        char problem[WHY_SIZE_MAX];
        va_list arguments;

        assert(!m->is_ready_told);
        m->is_ready_told = true;
        va_start(arguments, format);
        vsnprintf(problem, sizeof problem, format, arguments);
        va_end(arguments);
        if (!result)
                os_timer_start(m->os, &m->tick, TICK_US);
        m->options.on_ready(m->options.arg, result, problem);
}

static void copy_options(struct membership *m, const struct membership_options *o)
{
        m->options = *o;
        m->options.directory = memory_copy_string(o->directory);
        m->options.name = memory_copy_string(o->name);
        m->options.listen = memory_copy_string(o->listen);
        m->options.advertise = memory_copy_string(o->advertise);
        m->options.join = memory_copy_string(o->join);
        m->options.token = memory_copy_string(o->token);
        m->options.client_host = memory_copy_string(o->client_host);
        m->options.discover_group = memory_copy_string(o->discover_group);
        m->options.discover_secret = memory_copy_string(o->discover_secret);
        if (!m->options.version_min)
                m->options.version_min = MEMBERSHIP_CLUSTER_VERSION_MIN;
        if (!m->options.version_max)
                m->options.version_max = MEMBERSHIP_CLUSTER_VERSION_MAX;
}

/* Flags move a member to another address; what they leave out stays as it was. */
static bool take_flags(struct membership *m, char why[WHY_SIZE_MAX])
{
        struct cluster_file *file = &m->file;
        struct cluster_file before = *file;
        bool is_moved;

        if (*m->options.listen)
                text_copy(file->listen, sizeof file->listen, m->options.listen);
        if (!*file->listen)
                snprintf(file->listen, sizeof file->listen, "%s", LISTEN_DEFAULT);
        if (m->options.port)
                file->port = m->options.port;
        if (!file->port)
                file->port = PEERS_PORT;
        is_moved = file->port != before.port || strcmp(file->listen, before.listen) != 0;
        if (*m->options.advertise && !address_is_fit(m->options.advertise)) {
                snprintf(why, WHY_SIZE_MAX,
                        "--advertise '%.100s' is no address of at most %d bytes: it has the form HOST:PORT",
                        m->options.advertise, CLUSTER_ADDRESS_SIZE - 1);
                return false;
        }
        if (*m->options.advertise)
                text_copy(file->advertise, sizeof file->advertise, m->options.advertise);
        else if ((is_moved || !*file->advertise) && !host_is_wildcard(file->listen))
                address_format(file->listen, file->port, file->advertise);
        if (*file->advertise)
                return true;
        snprintf(why, WHY_SIZE_MAX,
                "it listens for nodes on every address: say with --advertise HOST:PORT at which one they "
                "reach it");
        return false;
}

static void start(struct membership *m)
{
        char why[WHY_SIZE_MAX] = "";
        bool wants_join = *m->options.join != 0;
        struct cluster_file before;
        int r = cluster_file_read(m, &m->has_file, why);

        if (r) {
                membership_tell_ready(m, r > 0 ? MEMBERSHIP_DAMAGED : r, "%s", r > 0 ? why : fault_last());
                return;
        }
        if (!version_is_supported(m, m->version, why) || !discovery_check(m, why)) {
                membership_tell_ready(m, MEMBERSHIP_REFUSED, "%s", why);
                return;
        }
        if (!m->has_file && !wants_join) {
                membership_tell_ready(m, 0, "%s", "");
                return;
        }
        if (!m->has_file && persistence_node_has_stores(m->node)) {
                membership_tell_ready(m, MEMBERSHIP_REFUSED,
                        "%s has data of its own; a node joins with an empty directory, since its log comes "
                        "from the cluster. "
                        "Choose another with --data DIRECTORY, or leave out --join",
                        m->options.directory);
                return;
        }
        if (!m->has_file)
                m->file.is_insecure = m->options.is_insecure;
        before = m->file;
        if (!take_flags(m, why)) {
                membership_tell_ready(m, MEMBERSHIP_REFUSED, "%s", why);
                return;
        }
        if (!m->has_file || m->file.is_joining) {
                if (wants_join)
                        join_begin(m);
                else
                        membership_tell_ready(m, MEMBERSHIP_REFUSED,
                                "%s belongs to a node that has not been let in yet: say --join and --token "
                                "again",
                                m->options.directory);
                return;
        }
        r = membership_open_peers(m, why);
        /* Where it can be reached stays so without the flags. */
        if (!r && memcmp(&before, &m->file, sizeof before) != 0)
                r = cluster_file_write(m, why);
        membership_tell_ready(m, r, "%s", r > 0 ? why : r ? fault_last() : "");
}

void membership_open(const struct membership_options *options, struct membership **ret)
{
        struct membership *m = MEMORY_NEW(struct membership);
        struct buffer path = {0};

        copy_options(m, options);
        m->os = options->os;
        m->control = options->control;
        m->node = options->node;
        m->identity = persistence_node_identity(m->node);
        buffer_format(&path, "%s/certs", options->directory);
        buffer_add_u8(&path, 0);
        m->certificates = (char *)path.data;
        memcpy(m->instance, options->instance, sizeof m->instance);
        list_init(&m->commands);
        m->tick = (struct os_timer){.fn = on_tick, .arg = m};
        m->members_timer = (struct os_timer){.fn = members_posted, .arg = m};
        *ret = m;
        start(m);
}

void membership_close(struct membership **membership)
{
        struct membership *m = *membership;

        if (!m)
                return;
        *membership = NULL;
        m->is_stopping = m->is_closing = true;
        join_end(m);
        commands_end_all(m);
        discovery_close(m);
        os_timer_stop(&m->tick);
        os_timer_stop(&m->members_timer);
        peers_close(&m->peers);
        tls_context_close(&m->tls);
        free((void *)m->options.directory);
        free((void *)m->options.name);
        free((void *)m->options.listen);
        free((void *)m->options.advertise);
        free((void *)m->options.join);
        free((void *)m->options.token);
        free((void *)m->options.client_host);
        free((void *)m->options.discover_group);
        free((void *)m->options.discover_secret);
        free(m->certificates);
        free(m);
}

/* ---- an orderly stop ---- */

struct hand_over {
        void (*done)(void *arg);
        void *arg;
};

static void on_handed_over(void *arg, enum store_verdict verdict, const char *problem)
{
        struct hand_over h = *(struct hand_over *)arg;

        (void)verdict;
        (void)problem;
        free(arg);
        h.done(h.arg);
}

void membership_hand_over(struct membership *m, void (*done)(void *arg), void *arg)
{
        struct store *store = membership_default_store(m);
        struct store_cluster_status status;
        const struct store_member *best = NULL;
        struct hand_over *h;

        if (m->peers && store && store_is_leading(store)) {
                store_cluster_status(store, &status);
                for (unsigned i = 0; i < status.count; i++) {
                        const struct store_member *member = &status.members[i];

                        if (!member->is_self && member->server.role == CLUSTER_VOTER &&
                                membership_is_linked(m, member->server.node_id) &&
                                (!best || member->match_index > best->match_index))
                                best = member;
                }
        }
        if (!best) {
                done(arg);
                return;
        }
        h = MEMORY_NEW(struct hand_over);
        *h = (struct hand_over){done, arg};
        store_change_members(store, STORE_TRANSFER, best->server.node_id, NULL,
                os_monotonic_us(m->os) + HAND_OVER_US, on_handed_over, h);
}
