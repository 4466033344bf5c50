/* membership (ClusterSystem: StoreCoordinator, NodeMonitor): the life of a node among others.
 *
 * A data directory belongs to a lone node until `init` makes a cluster of it, or `join` makes it a node of one; cluster.json
 * remembers which, so a restart needs no flags. This room opens the links (peers), carries the messages of stores over them,
 * lets new nodes in, tells the other nodes where clients reach this one, and carries out the commands of operators. Who
 * belongs to the cluster is decided by the store's consensus alone; here are only the ways there.
 *
 * Threads: the loop thread. No callback runs from inside a call of this contract unless it says so. */
#ifndef MEMBERSHIP_MEMBERSHIP_H
#define MEMBERSHIP_MEMBERSHIP_H

#include "base/bytes.h"
#include "base/fault.h"
#include "base/json_out.h"
#include "control/control.h"
#include "os/os.h"
#include "peers/peers.h"
#include "persistence/persistence.h"
#include "store/store.h"

struct membership;

enum {
        MEMBERSHIP_HOST_SIZE = 254,
        MEMBERSHIP_VERSION_SIZE = 32,
        MEMBERSHIP_SEEDS_MAX = 16,
        MEMBERSHIP_STORES_MAX = 16,
        MEMBERSHIP_COMMANDS_MAX = 256, /* under way at one time; more are refused with 503 */
        MEMBERSHIP_REQUEST_SIZE_MAX = 48 * 1024,
        /* The cluster versions that this program supports (G20). */
        MEMBERSHIP_CLUSTER_VERSION_MIN = 1,
        MEMBERSHIP_CLUSTER_VERSION_MAX = 1,
};

enum membership_outcome {
        MEMBERSHIP_REFUSED = 1, /* flags and directory do not fit together, or the cluster said no */
        MEMBERSHIP_UNREACHABLE, /* nobody of the cluster answered in time */
        MEMBERSHIP_DAMAGED,     /* cluster.json or a certificate cannot be used */
        MEMBERSHIP_ADDRESS,     /* the peer address cannot be listened on */
};

struct membership_options {
        struct os *os;
        struct control *control;
        struct persistence_node *node; /* borrowed */
        const char *directory;         /* the node's data directory */
        const char *name;              /* of this node, for people */
        uint8_t instance[16];          /* of this life of the process */
        const char *listen;            /* IP literal for peers; "": as before, or 127.0.0.1 */
        uint16_t port;                 /* of it; 0: as before, or PEERS_PORT */
        const char *advertise;         /* host:port at which other nodes reach this one; "": as before, or listen:port */
        bool is_insecure;              /* no TLS between nodes, also off loopback */
        const char *join;              /* host:port[,host:port]... of the cluster to join, or "multicast"; "": none */
        const char *token;             /* for that */
        const char *discover_group;    /* IP:port, [v6]:port of multicast by which nodes find each other's addresses; "": not */
        const char *discover_secret;   /* that all of them know, of at least 32 bytes; never shown */
        const char *client_host;       /* where clients reach this node */
        uint16_t client_port;
        bool client_speaks_tls;        /* there, and so on all nodes */
        /* Once: the store may be opened now (0), or why this node cannot run. May run from inside membership_open. */
        void (*on_ready)(void *arg, int result, const char *problem);
        /* Once: the cluster has a version that this node does not support, so it must stop. Runs from a timer, or from inside
         * membership_may_serve. */
        void (*on_unfit)(void *arg, const char *problem);
        void *arg;
        unsigned version_min, version_max; /* claimed by tests; 0: MEMBERSHIP_CLUSTER_VERSION_MIN and _MAX */
};
/* Reads cluster.json, joins if asked to, opens the links. Strings are copied. */
void membership_open(const struct membership_options *options, struct membership **ret);
/* Closes the links; commands under way are answered. The store that uses it must be closed. Empties *membership; NULL is
 * fine. */
void membership_close(struct membership **membership);

/* What a store that is opened next needs of the others. */
void membership_store_cluster(struct membership *m, struct store_cluster *ret);
/* The store was opened with that; its messages reach it from now on. */
void membership_add_store(struct membership *m, struct store *store);
/* That store is open. False: on_unfit has run, and it must not be served. */
MUST_CHECK bool membership_may_serve(struct membership *m);
/* The cluster version: how far the nodes may use what not every release understands. Behaviour that depends on the version
 * asks here, and changes at the log's place where it was raised. */
unsigned membership_version(const struct membership *m);
/* Commands under way are answered, and none is taken any more: before the gateway closes. Messages still go to and fro. */
void membership_stop(struct membership *m);
/* Before an orderly stop: hands leadership to another voter if there is one that can take it, within two seconds. `done` may
 * run from inside. */
void membership_hand_over(struct membership *m, void (*done)(void *arg), void *arg);

/* ---- what is known of the nodes ---- */

/* In KurrentDB's words, since its clients choose by them. */
enum membership_state {
        MEMBERSHIP_INITIALIZING,
        MEMBERSHIP_UNKNOWN,          /* nothing was heard of it */
        MEMBERSHIP_DISCOVER_LEADER,  /* a voter that knows no leader */
        MEMBERSHIP_CATCHING_UP,
        MEMBERSHIP_FOLLOWER,
        MEMBERSHIP_LEADER,
        MEMBERSHIP_READ_ONLY_LEADERLESS, /* a stand-by that knows no leader */
        MEMBERSHIP_READ_ONLY_REPLICA,    /* a stand-by */
        MEMBERSHIP_STATES,
};
const char *membership_state_name(enum membership_state state); /* "ReadOnlyReplica" */

struct membership_node {
        uint64_t node_id;
        uint8_t instance[16]; /* of its life as a process; zeros: unknown */
        enum membership_state state;
        bool is_self;
        bool is_leader;
        bool is_alive;   /* this node, or one that is linked with it */
        bool is_standby;
        char name[PEERS_NAME_SIZE];
        char version[MEMBERSHIP_VERSION_SIZE];
        unsigned version_min, version_max; /* of the cluster, that it supports; 0: unknown */
        char host[MEMBERSHIP_HOST_SIZE]; /* for clients; "": not known */
        uint16_t port;
        char address[PEERS_ADDRESS_SIZE]; /* for nodes */
        uint64_t next_position;
        uint64_t last_index;
        uint64_t applied_index;
        uint64_t lag_entries;   /* behind the leader, as far as is known */
        uint64_t round_trip_us; /* 0: unknown */
        uint64_t heard_us;      /* monotonic; 0: never */
        bool has_authority;     /* the CA's key is there */
};
/* Members in the order of their ids; one that is alone is one member. Gives their number. */
unsigned membership_nodes(struct membership *m, struct membership_node *ret, unsigned max);
/* The leader, as far as this node knows; false: none, or its address for clients is unknown. */
bool membership_leader(struct membership *m, struct membership_node *ret);
bool membership_is_leading(const struct membership *m); /* this node, ready to write */

/* Why a datagram of discovery was not believed. */
enum membership_drop {
        MEMBERSHIP_DROP_MALFORMED,
        MEMBERSHIP_DROP_WRONG_SECRET,
        MEMBERSHIP_DROP_OLD,
        MEMBERSHIP_DROP_REPLAYED,
        MEMBERSHIP_DROP_OTHER_CLUSTER,
        MEMBERSHIP_DROP_FLOODED,
        MEMBERSHIP_DROPS,
};
struct membership_discovery {
        bool is_on;
        uint64_t sent;
        uint64_t accepted;
        uint64_t dropped[MEMBERSHIP_DROPS];
};

struct membership_summary {
        bool is_clustered;        /* others can be or are members */
        uint8_t cluster_uuid[16];
        unsigned members;
        unsigned voters;
        unsigned voters_reachable; /* from here, this node included */
        unsigned voters_needed;    /* a majority */
        bool has_quorum;
        uint64_t elections;        /* changes of leader seen */
        uint64_t refused;          /* hellos of strangers */
        unsigned links_up;
        unsigned version;          /* of the cluster */
        uint64_t certificate_until_us; /* wall clock; 0: none */
        struct store_mending mending;  /* of this node */
        struct store_comparison comparison;
        struct membership_discovery discovery; /* by multicast */
};
void membership_summary(struct membership *m, struct membership_summary *ret);
/* All of it as one JSON object: docs/cluster.md. */
void membership_status_to_json(struct membership *m, struct json_out *j);

/* ---- commands ---- */

/* How a command ended, in the terms of HTTP. All of it is borrowed for the call. */
struct membership_answer {
        int status;          /* 200; 202: not yet, ask again; 4xx and 5xx: a problem */
        const char *code;    /* of a problem: "not-leader" */
        const char *title;
        const char *detail;
        const char *next;    /* the next step; NULL: none */
        struct bytes body;   /* of a success: a JSON object */
};
typedef void membership_answered(void *arg, const struct membership_answer *answer);
/* Carries out a command: a JSON object whose "do" is one of init, tokens, token, revoke, add, promote, demote, remove, transfer,
 * leave, replace, grow, finalize. Where the leader has to do it, it is sent there. `done` runs once, perhaps from inside, also when the
 * room closes; by the deadline at the latest, as 202 when what was asked for is still possible. */
void membership_command(struct membership *m, struct bytes request, uint64_t deadline_us, membership_answered *done, void *arg);

#endif
