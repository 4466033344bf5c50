/* Finding the addresses of nodes by multicast: each node of a cluster says every two seconds where it is, to
 * a group of its network. Off unless it is asked for. What is learned are addresses, and nothing else: who
 * belongs to the cluster is in the log, and who is at the other end of a connection is proved by its
 * certificate. A node that joins hears here whom it can ask; it says nothing itself.
 *
 * Anybody on the network can send to the group. So in this order: no more than so many are looked at in a
 * second; then the HMAC; then time and nonce, against what somebody has recorded and sends again. Only what
 * knows the secret takes memory, and that has a limit too. */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "membership/room.h"

enum {
        SECRET_SIZE_MIN = 32,
        NONCES_MAX = 2048, /* of as many members as there can be, for twice the window */
        LOOKED_AT_PER_SECOND_MAX = 1000,
        SAY_US = 2 * 1000 * 1000,
        WINDOW_US = 15 * 1000 * 1000, /* clocks may differ by so much */
        TRY_US = 3 * 1000 * 1000,     /* an address has so long to answer */
};

static_assert(NONCES_MAX >= CLUSTER_MEMBERS_MAX * (2 * WINDOW_US / SAY_US + 1), "none is forgotten too soon");

static const char *const drop_names[MEMBERSHIP_DROPS] = {
        [MEMBERSHIP_DROP_MALFORMED] = "malformed",
        [MEMBERSHIP_DROP_WRONG_SECRET] = "wrong_secret",
        [MEMBERSHIP_DROP_OLD] = "old",
        [MEMBERSHIP_DROP_REPLAYED] = "replayed",
        [MEMBERSHIP_DROP_OTHER_CLUSTER] = "other_cluster",
        [MEMBERSHIP_DROP_FLOODED] = "flooded",
};

struct nonce {
        uint8_t bytes[DATAGRAM_NONCE_SIZE];
        uint64_t until_us; /* monotonic: by then it is too old */
};

/* Where a member was last heard to be. */
struct sighting {
        uint64_t node_id;
        char address[PEERS_ADDRESS_SIZE];
        uint64_t heard_us;
        uint64_t switched_us; /* when an address was given to peers, or the link was up */
        bool is_tried;        /* peers dials this address, not the log's */
};

struct discovery {
        struct membership *m;
        char host[OS_ADDRESS_SIZE]; /* of the group */
        uint16_t port;
        struct os_udp *udp; /* NULL: it could not be opened; it is tried again */
        struct os_timer timer;
        char problem[WHY_SIZE_MAX];
        struct nonce nonces[NONCES_MAX]; /* a ring */
        unsigned nonce_count;
        unsigned nonce_next;
        struct sighting sightings[CLUSTER_MEMBERS_MAX];
        unsigned sighting_count;
        uint64_t second;
        unsigned looked_at;
        struct membership_discovery counts;
};

/* ---- what was asked for ---- */

static bool is_v4_group(const char *host)
{
        unsigned n[4];
        char rest;

        return sscanf(host, "%3u.%3u.%3u.%3u%c", &n[0], &n[1], &n[2], &n[3], &rest) == 4 && n[0] >= 224 &&
               n[0] <= 239 && n[1] <= 255 && n[2] <= 255 && n[3] <= 255;
}

/* Whether the rest of it is an address is seen when it is opened. */
static bool is_v6_group(const char *host)
{
        return strncasecmp(host, "ff", 2) == 0 && strchr(host, ':') &&
               host[strspn(host, "0123456789abcdefABCDEF:")] == 0;
}

static bool group_parse(const char *text, char host[OS_ADDRESS_SIZE], uint16_t *ret_port)
{
        char name[MEMBERSHIP_HOST_SIZE];

        if (!address_split(text, name, ret_port) || strlen(name) >= OS_ADDRESS_SIZE ||
                (*text == '[') != (strchr(name, ':') != NULL) || !(is_v4_group(name) || is_v6_group(name)))
                return false;
        for (size_t i = 0; i <= strlen(name); i++)
                host[i] = (char)tolower((uint8_t)name[i]);
        return true;
}

bool discovery_is_wanted(const struct membership *m)
{
        return *m->options.discover_group != 0;
}

bool discovery_check(const struct membership *m, char why[WHY_SIZE_MAX])
{
        char host[OS_ADDRESS_SIZE];
        uint16_t port;

        if (!discovery_is_wanted(m))
                return true;
        if (!group_parse(m->options.discover_group, host, &port)) {
                snprintf(why, WHY_SIZE_MAX,
                        "--discover-group '%.100s' is no group of multicast: it has the form "
                        "239.255.21.13:2114 or [ff05::2114]:2114",
                        m->options.discover_group);
                return false;
        }
        if (strlen(m->options.discover_secret) < SECRET_SIZE_MIN) {
                snprintf(why, WHY_SIZE_MAX,
                        "to discover nodes by multicast needs a secret of at least %d bytes, the same on all "
                        "of them: set NILO_DISCOVER_SECRET, or discover-secret in the file of --config",
                        SECRET_SIZE_MIN);
                return false;
        }
        return true;
}

/* ---- saying ---- */

static void make(struct membership *m, struct buffer *out)
{
        struct datagram d = {.node_id = m->identity.node_id, .wall_us = os_wall_us(m->os)};

        memcpy(d.cluster_uuid, m->identity.cluster_uuid, sizeof d.cluster_uuid);
        os_random(m->os, d.nonce, sizeof d.nonce);
        text_copy(d.address, sizeof d.address, m->file.advertise);
        if (m->options.client_port)
                address_format(m->options.client_host, m->options.client_port, d.clients);
        datagram_make(&d, m->options.discover_secret, out);
}

static void note_problem(struct discovery *d, const char *format, ...) PRINTF_LIKE(2, 3);

static void note_problem(struct discovery *d, const char *format, ...)
{
        char text[WHY_SIZE_MAX];
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
        if (*text && strcmp(text, d->problem) != 0)
                membership_fact(d->m, FACT_discovery_problem, 0, "%s", text);
        memcpy(d->problem, text, sizeof text);
}

static void say(struct discovery *d)
{
        CLEANUP(buffer_fini) struct buffer out = {0};

        make(d->m, &out);
        if (os_udp_send(d->udp, d->host, d->port, buffer_bytes(&out)))
                note_problem(d, "nothing can be sent to %s", d->host);
        else
                d->counts.sent++;
}

/* ---- hearing ---- */

static bool is_new(struct discovery *d, const uint8_t nonce[DATAGRAM_NONCE_SIZE], uint64_t now)
{
        struct nonce *n;

        for (unsigned i = 0; i < d->nonce_count; i++)
                if (memcmp(d->nonces[i].bytes, nonce, DATAGRAM_NONCE_SIZE) == 0)
                        return false;
        n = &d->nonces[d->nonce_next];
        if (d->nonce_count == NONCES_MAX && n->until_us > now)
                return false; /* more than all members can send: what cannot be remembered is not believed */
        memcpy(n->bytes, nonce, DATAGRAM_NONCE_SIZE);
        n->until_us = now + 2 * (uint64_t)WINDOW_US;
        d->nonce_next = (d->nonce_next + 1) % NONCES_MAX;
        d->nonce_count = MIN(d->nonce_count + 1, (unsigned)NONCES_MAX);
        return true;
}

/* NULL: no member, as far as this node knows. */
static const char *address_in_log(const struct membership *m, uint64_t node_id)
{
        if (node_id == m->identity.node_id)
                return NULL;
        for (unsigned i = 0; m->has_configuration && i < m->configuration.count; i++)
                if (m->configuration.servers[i].node_id == node_id)
                        return m->configuration.servers[i].address;
        for (unsigned i = 0; !m->has_configuration && i < m->file.member_count; i++)
                if (m->file.members[i].node_id == node_id)
                        return m->file.members[i].address;
        return NULL;
}

static void note_sighting(struct discovery *d, const struct datagram *h, uint64_t now)
{
        struct membership *m = d->m;
        struct sighting *s = d->sightings;
        char host[MEMBERSHIP_HOST_SIZE];
        uint16_t port;

        if (!address_in_log(m, h->node_id))
                return;
        while (s < d->sightings + d->sighting_count && s->node_id != h->node_id)
                s++;
        if (s == d->sightings + CLUSTER_MEMBERS_MAX)
                return;
        if (s == d->sightings + d->sighting_count) {
                *s = (struct sighting){.node_id = h->node_id, .switched_us = now};
                d->sighting_count++;
        }
        memcpy(s->address, h->address, sizeof s->address);
        s->heard_us = now;
        if (*h->clients && address_split(h->clients, host, &port))
                nodes_note_client(m, h->node_id, NULL, host, port);
}

/* MEMBERSHIP_DROPS: it is believed. */
static enum membership_drop judge(struct discovery *d, struct bytes datagram, struct datagram *ret)
{
        struct membership *m = d->m;
        uint64_t now = os_monotonic_us(m->os);
        uint64_t wall = os_wall_us(m->os);
        int r;

        if (d->second != now / 1000000)
                d->looked_at = 0;
        d->second = now / 1000000;
        if (d->looked_at == LOOKED_AT_PER_SECOND_MAX)
                return MEMBERSHIP_DROP_FLOODED;
        d->looked_at++;
        r = datagram_parse(datagram, m->options.discover_secret, ret);
        if (r)
                return r == DATAGRAM_WRONG_SECRET ? MEMBERSHIP_DROP_WRONG_SECRET : MEMBERSHIP_DROP_MALFORMED;
        if ((ret->wall_us > wall ? ret->wall_us - wall : wall - ret->wall_us) > WINDOW_US)
                return MEMBERSHIP_DROP_OLD;
        if (!m->join && memcmp(ret->cluster_uuid, m->identity.cluster_uuid, 16) != 0)
                return MEMBERSHIP_DROP_OTHER_CLUSTER;
        if (!is_new(d, ret->nonce, now))
                return MEMBERSHIP_DROP_REPLAYED;
        return MEMBERSHIP_DROPS;
}

static void on_datagram(void *arg, struct bytes datagram, const char *address, uint16_t port)
{
        struct discovery *d = arg;
        struct membership *m = d->m;
        struct datagram heard;
        enum membership_drop drop = judge(d, datagram, &heard);

        (void)address;
        (void)port;
        if (drop != MEMBERSHIP_DROPS) {
                d->counts.dropped[drop]++;
        } else if (m->join) {
                d->counts.accepted++;
                join_found_seed(m, heard.address);
        } else if (heard.node_id != m->identity.node_id) {
                d->counts.accepted++;
                note_sighting(d, &heard, os_monotonic_us(m->os));
        }
}

/* ---- trying what was learned ---- */

static void use(struct discovery *d, struct sighting *s, const char *in_log, uint64_t now)
{
        struct membership *m = d->m;
        bool is_better = !s->is_tried && now - s->heard_us <= WINDOW_US && strcmp(s->address, in_log) != 0;

        s->switched_us = now;
        if (is_better && !peers_set_member(m->peers, s->node_id, s->address)) {
                membership_fact(m, FACT_node_address_learned, s->node_id, "%s", s->address);
                s->is_tried = true;
        } else if (s->is_tried) {
                membership_set_member(m, s->node_id, in_log);
                s->is_tried = false;
        }
}

/* The log's address and the learned one take turns while neither answers: the network may have been at fault.
 */
void discovery_tick(struct membership *m)
{
        struct discovery *d = m->discovery;
        uint64_t now = os_monotonic_us(m->os);

        for (unsigned i = 0; d && m->peers && i < d->sighting_count; i++) {
                struct sighting *s = &d->sightings[i];
                const char *in_log = address_in_log(m, s->node_id);

                if (!in_log)
                        d->sightings[i--] = d->sightings[--d->sighting_count];
                else if (membership_is_linked(m, s->node_id))
                        s->switched_us = now;
                else if (now - s->switched_us >= TRY_US)
                        use(d, s, in_log, now);
        }
}

void discovery_members_changed(struct membership *m)
{
        struct discovery *d = m->discovery;

        for (unsigned i = 0; d && i < d->sighting_count; i++)
                d->sightings[i].is_tried = false;
}

/* ---- life ---- */

static bool is_loopback(const char *host)
{
        return strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0;
}

/* On the interface of the address for nodes, so that a cluster stays on the network where it is. */
static void open_socket(struct discovery *d)
{
        struct membership *m = d->m;
        bool is_v6 = strchr(d->host, ':') != NULL;
        bool is_same_family = is_v6 == (strchr(m->file.listen, ':') != NULL);
        struct os_udp_options options = {
                .address = is_v6 ? "::" : "0.0.0.0",
                .port = d->port,
                .group = d->host,
                .interface = host_is_wildcard(m->file.listen) || !is_same_family ? NULL : m->file.listen,
        };
        uint16_t port;
        int r;

        if (is_v6 && is_loopback(m->file.listen)) {
                note_problem(d,
                        "%s is a group of IPv6, which has none on loopback (%s, the address for nodes): use "
                        "a "
                        "group of IPv4, or listen for nodes on the network",
                        d->host, m->file.listen);
                return;
        }
        r = os_udp_open(m->os, &options, on_datagram, d, &d->udp, &port);
        if (r)
                note_problem(d, "group %s, port %u, cannot be listened to: %.200s", d->host, d->port,
                        r == OS_ADDRESS_IN_USE ? "another program has the port"
                        : r > 0                ? "this machine has no way to that group"
                                               : fault_last());
        else
                note_problem(d, "%s", "");
}

static void on_timer(struct os_timer *timer)
{
        struct discovery *d = timer->arg;
        struct membership *m = d->m;

        os_timer_start(m->os, timer, SAY_US);
        if (!d->udp)
                open_socket(d);
        if (d->udp && m->peers && !m->is_stopping)
                say(d);
}

void discovery_open(struct membership *m)
{
        struct discovery *d;

        if (!discovery_is_wanted(m) || m->discovery)
                return;
        d = MEMORY_NEW(struct discovery);
        d->m = m;
        d->counts.is_on = true;
        d->timer = (struct os_timer){.fn = on_timer, .arg = d};
        if (!group_parse(m->options.discover_group, d->host, &d->port))
                assert(!"it was checked");
        m->discovery = d;
        os_timer_start(m->os, &d->timer, 0);
}

void discovery_close(struct membership *m)
{
        struct discovery *d = m->discovery;

        m->discovery = NULL;
        if (!d)
                return;
        os_timer_stop(&d->timer);
        os_udp_close(&d->udp);
        free(d);
}

const char *discovery_hint(const struct membership *m)
{
        const struct discovery *d = m->discovery;

        if (d && *d->problem)
                return d->problem;
        if (d && d->counts.dropped[MEMBERSHIP_DROP_WRONG_SECRET])
                return "somebody was heard with another secret: it must be the same on all nodes";
        if (d && d->counts.dropped[MEMBERSHIP_DROP_OLD])
                return "somebody was heard whose clock differs by more than 15 s: set the clocks";
        return "nobody was heard: are the nodes started with --discover multicast, on this network?";
}

struct membership_discovery discovery_counts(const struct membership *m)
{
        return m->discovery ? m->discovery->counts : (struct membership_discovery){.is_on = false};
}

void discovery_to_json(const struct membership *m, struct json_out *j)
{
        const struct discovery *d = m->discovery;

        if (!d)
                return;
        json_key(j, "discovery");
        json_object_begin(j);
        json_field_string(j, "group", m->options.discover_group);
        json_field_u64(j, "sent", d->counts.sent);
        json_field_u64(j, "accepted", d->counts.accepted);
        json_key(j, "dropped");
        json_object_begin(j);
        for (unsigned i = 0; i < MEMBERSHIP_DROPS; i++)
                json_field_u64(j, drop_names[i], d->counts.dropped[i]);
        json_object_end(j);
        json_key(j, "learned");
        json_array_begin(j);
        for (unsigned i = 0; i < d->sighting_count; i++) {
                json_object_begin(j);
                json_field_u64(j, "node", d->sightings[i].node_id);
                json_field_string(j, "address", d->sightings[i].address);
                json_field_bool(j, "tried", d->sightings[i].is_tried);
                json_object_end(j);
        }
        json_array_end(j);
        if (*d->problem)
                json_field_string(j, "problem", d->problem);
        json_object_end(j);
}
