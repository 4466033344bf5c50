/* peers: carries messages between the nodes of a cluster, and nothing about what they mean.
 *
 * A pair of nodes has two connections: CONTROL for consensus and small requests, BULK for catch-up. Each begins with a hello
 * in both directions (cluster, epoch, node, versions), checked before anything else; with TLS the certificate must name the
 * same node. Messages of one link arrive in order, whole and checked, or the link breaks: what was in flight is then lost.
 * Dead links are noticed within 2 s and dialled again. Both nodes dial; of two connections that meet, the one dialled by the
 * lower node id stays.
 *
 * Threads: the loop thread. No handler function is called from inside a call of this contract. Facts: peer_link_up,
 * peer_link_down, peer_refused, node_discovered, node_failure_detected. */
#ifndef PEERS_PEERS_H
#define PEERS_PEERS_H

#include "base/bytes.h"
#include "base/fault.h"
#include "control/control.h"
#include "model/record.h"
#include "os/os.h"
#include "tls/tls.h"

struct peers;

enum peers_link { PEERS_CONTROL, PEERS_BULK, PEERS_LINKS };

enum {
        PEERS_PORT = 2112,
        PEERS_MEMBERS_MAX = 64,
        PEERS_NAME_SIZE = 64,
        PEERS_ADDRESS_SIZE = 272,      /* host:port, [v6]:port */
        PEERS_TYPE_MIN = 0x100,        /* message types below are this room's own */
        PEERS_FRAME_HEADER_SIZE = 28,
        /* The largest entry of a log and what is said about it. */
        PEERS_BODY_SIZE_MAX = RECORD_PAYLOAD_SIZE_MAX + 1024 * 1024,
        /* A link takes messages while less than this is queued, so it holds at most this and one message. */
        PEERS_CONTROL_QUEUE_SIZE_MAX = 8 * 1024 * 1024,
        PEERS_BULK_QUEUE_SIZE_MAX = 8 * 1024 * 1024,
        PEERS_ASK_SIZE_MAX = 64 * 1024,
        PEERS_ANSWER_SIZE_MAX = 1024 * 1024,
};
#define PEERS_SILENCE_US_MAX ((uint64_t)1750000) /* a link without a word for so long is closed: "within 2 s" */

enum peers_outcome {
        PEERS_ADDRESS_IN_USE = 1,
        PEERS_ADDRESS_INVALID,  /* no IP literal, or not this machine's; for a member: no host:port */
        PEERS_ADDRESS_INSECURE, /* without TLS only loopback is allowed */
        PEERS_CERTIFICATE_WRONG, /* it names another node or cluster than the identity */
};

struct peers_identity {
        uint8_t cluster_uuid[16];
        uint64_t node_id;     /* > 0 */
        uint32_t epoch;
        uint16_t version_min; /* of the messages that this node speaks */
        uint16_t version_max;
        char name[PEERS_NAME_SIZE]; /* for people */
};

struct peers_handler {
        /* A message came. `body` is borrowed for the call. */
        void (*on_message)(void *arg, uint64_t from_node, enum peers_link link, const uint8_t store_uuid[16], uint16_t type,
                struct bytes body);
        /* The control link came up or went down. */
        void (*on_link)(void *arg, uint64_t node, bool is_up);
        /* A link that had refused a message, or was more than half full, has room again. */
        void (*on_room)(void *arg, uint64_t node, enum peers_link link);
        /* A hello was refused, here or by the other side; both are named in `why`. At most ten a second are told. May be NULL. */
        void (*on_stranger)(void *arg, const char *address, const char *why);
        /* Somebody who need not be a member asks (to join, or for a new certificate). `identity` is what its certificate
         * proved, NULL without one. Answer now or within 30 s by peers_answer. NULL: asks are refused. */
        void (*on_ask)(void *arg, uint64_t ask, const char *address, const struct tls_identity *identity, struct bytes request);
};

struct peers_options {
        struct os *os;
        struct control *control;
        struct peers_identity identity;
        const char *address;     /* to listen on: an IP literal */
        uint16_t port;           /* 0: the kernel chooses */
        /* Opened with TLS_PEER_OPTIONAL and the identity's certificate; borrowed. NULL: insecure, on loopback only. */
        struct tls_context *tls;
        bool is_insecure_anywhere; /* without TLS and off loopback: somebody has asked for it by name */
        const struct peers_handler *handler; /* borrowed */
        void *arg;
};
/* Listens. 0, an outcome of peers_outcome or a fault. */
MUST_CHECK int peers_open(const struct peers_options *options, struct peers **ret);
/* Ends every link, without on_link; no handler is called any more. Empties *peers; NULL is fine. Connections that still
 * close use the loop until they have (or os_free), nothing else. */
void peers_close(struct peers **peers);
uint16_t peers_port(const struct peers *peers);
/* What hellos say and ask from now on; links that are up stay. */
void peers_set_epoch(struct peers *peers, uint32_t epoch);

/* Makes a node a member, or gives it another address: it may connect, and is dialled until peers_remove_member. `address` is
 * host:port; "" for a member whose address is not known: it is waited for. 0, PEERS_ADDRESS_INVALID or
 * PEERS_ADDRESS_INSECURE; the own id and more than PEERS_MEMBERS_MAX are bugs. */
MUST_CHECK int peers_set_member(struct peers *peers, uint64_t node, const char *address);
/* Closes its links, without on_link, and refuses it from now on. */
void peers_remove_member(struct peers *peers, uint64_t node);

/* Queues a message of n pieces, together at most PEERS_BODY_SIZE_MAX bytes; the bytes are copied. What is queued in one turn
 * leaves together at its end. False, and nothing queued: the link is down or its queue is full; on_room follows when it has
 * room. */
MUST_CHECK bool peers_send(struct peers *peers, uint64_t node, enum peers_link link, const uint8_t store_uuid[16],
        uint16_t type, const struct bytes *pieces, unsigned n);
/* What was queued in this turn leaves now, not at its end: something follows that blocks the loop. */
void peers_flush(struct peers *peers);
/* Bytes that the queue takes before it is full; 0 while the link is down. */
size_t peers_room(const struct peers *peers, uint64_t node, enum peers_link link);
bool peers_is_up(const struct peers *peers, uint64_t node, enum peers_link link);
/* When anything was last heard of the node, monotonic; 0: never. */
uint64_t peers_heard_us(const struct peers *peers, uint64_t node);
/* The message version that both speak; 0 while the control link is down. */
uint16_t peers_version(const struct peers *peers, uint64_t node);

struct peers_link_stats {
        bool is_up;
        uint64_t sent_messages, sent_bytes;
        uint64_t received_messages, received_bytes;
        uint64_t refused_messages; /* by a full queue */
        uint64_t times_up;
        size_t queued_bytes;
};
struct peers_node_stats {
        uint64_t node;
        char address[PEERS_ADDRESS_SIZE];
        char name[PEERS_NAME_SIZE]; /* as it calls itself; "" before the first hello */
        uint16_t version;
        bool is_failed;             /* not heard for PEERS_SILENCE_US_MAX after it had been up */
        bool is_refused;            /* it has answered that this node is no member, and no link came up since */
        uint64_t heard_us;
        uint64_t round_trip_us;     /* smoothed; 0: unknown */
        char problem[256];          /* why the last attempt failed or the link went down; "" while up */
        struct peers_link_stats links[PEERS_LINKS];
};
/* Members in the order of their ids; gives their number. */
unsigned peers_stats(const struct peers *peers, struct peers_node_stats *ret, unsigned max);
struct peers_totals {
        uint64_t accepted; /* connections */
        uint64_t refused;  /* hellos, and connections beyond the limits */
        uint32_t strangers; /* connected and not yet known */
};
struct peers_totals peers_totals(const struct peers *peers);

/* ---- asking without being a member ---- */

/* Answers on_ask; at most PEERS_ANSWER_SIZE_MAX bytes. Harmless when the asker has gone. */
void peers_answer(struct peers *peers, uint64_t ask, struct bytes answer);

struct peers_question;
struct peers_question_options {
        struct os *os;
        const char *address;     /* host:port */
        struct tls_context *tls; /* a joiner's (by the token's fingerprint) or a node's; NULL: insecure, loopback only */
        bool is_insecure_anywhere;
        struct bytes request;    /* copied; at most PEERS_ASK_SIZE_MAX */
        const char *name;        /* who asks, for people; copied */
        uint64_t timeout_us;     /* 0: 30 s */
        /* Runs once, never from inside peers_ask. `problem` is NULL when it was answered; `who` is the verified identity of
         * the node that answered, NULL without TLS. Borrowed for the call. The question is gone afterwards. */
        void (*done)(void *arg, const char *problem, const struct tls_identity *who, struct bytes answer);
        void *arg;
};
/* 0, PEERS_ADDRESS_INVALID or PEERS_ADDRESS_INSECURE. */
MUST_CHECK int peers_ask(const struct peers_question_options *options, struct peers_question **ret);
/* `done` will not run. Empties *question; NULL is fine. Not after `done`. */
void peers_ask_cancel(struct peers_question **question);

#endif
