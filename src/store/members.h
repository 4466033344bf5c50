/* store, the second half of its contract, which comes with store.h: a store of this node among those of other nodes. How it
 * reaches them, who they are, what it knows of them. */
#ifndef STORE_MEMBERS_H
#define STORE_MEMBERS_H

#include "cluster/cluster.h"

struct store;

/* ---- this node among others ---- */

/* Two ways to another node: for consensus and small requests, and for catching up (as peers.h has them). */
enum store_link { STORE_LINK_CONTROL, STORE_LINK_BULK, STORE_LINKS };

/* How a store reaches the other nodes, given by whoever owns the links: the server's peers, or the simulator. Everything runs
 * on the loop; none of the calls comes back into the store from inside. */
struct store_cluster {
        bool is_member;         /* false: alone; nothing of the rest counts but `address` */
        bool joins;             /* a store that is made begins empty and takes its log from a leader */
        const uint8_t *store_uuid; /* of a store that is made; NULL: a new one. Copied, like the next two */
        uint32_t epoch;            /* 0: 1 */
        const struct cluster_configuration *founders; /* of a store that is made: its first members, the same on each of them.
                                                         NULL: this node alone */
        const char *address;    /* host:port of this node's peer listener, in the configuration of a store that is made; NULL:
                                   "localhost" */
        uint32_t election_timeout_ms; /* 0: 500 */
        uint64_t compare_us; /* so often is its history compared with the other nodes' (G22); 0: never */
        uint32_t trailing; /* who lags behind so many sealed entries fetches history; 0: CLUSTER_TRAILING */
        /* Sends a message that store_receive takes in at the other end, or drops it; false: no link, or no room in its queue
         * (store_link_has_room follows when there is). */
        bool (*send)(void *arg, uint64_t node_id, enum store_link link, uint16_t type, const struct bytes *pieces, unsigned count);
        void (*flush)(void *arg); /* what was sent must leave now: a sync follows */
        void (*on_members)(void *arg, const struct cluster_configuration *configuration); /* in use from now on */
        void *arg;
};
/* A message of another node's store has come. What makes no sense is dropped, and counted. */
void store_receive(struct store *store, uint64_t from, enum store_link link, uint16_t type, struct bytes body);
/* The queue of a link that refused has room again; a link came up or went down. */
void store_link_has_room(struct store *store, uint64_t node_id, enum store_link link);
void store_link_changed(struct store *store, uint64_t node_id, bool is_up);

/* ---- members ---- */

struct store_member {
        struct cluster_server server;
        bool is_leader;
        bool is_self;
        bool is_linked;       /* messages go to and fro */
        uint64_t match_index; /* at the leader: durable there; here: of this node */
        uint64_t lag_entries; /* at the leader: behind its log */
        bool has_another_history; /* as far as was compared here: it is not that of the majority */
};

/* Getting back what is damaged (G13). */
enum store_mending_kind {
        STORE_WHOLE,
        STORE_MENDING_SEGMENT, /* a sealed one; the node takes part meanwhile */
        STORE_MENDING_END,     /* of the log: the node takes no part, and serves nothing, before it has everything */
};
struct store_mending {
        enum store_mending_kind kind;
        uint64_t first_index; /* of what is fetched */
        uint64_t next_index;  /* everything before it is here */
        uint64_t last_index;  /* 0: not known yet, since no leader has answered */
};

/* The history of this node beside the others', by chain hashes (G22). */
struct store_comparison {
        bool is_on;
        uint64_t rounds;         /* in which at least one other node answered */
        uint64_t agreed_index;   /* up to here a majority of voters, and this node, have the same history */
        uint64_t agreed_us;      /* monotonic: when that was found last; 0: never */
        unsigned differing;      /* nodes whose history is not the majority's, with this one if it is */
        bool is_undecided;       /* nodes differ, and no majority is of one history */
};
struct store_cluster_status {
        enum cluster_state state;
        uint64_t node_id;
        uint64_t leader_id;   /* 0: none known */
        uint64_t term;
        uint64_t last_index;
        uint64_t commit_index;
        uint64_t applied_index;
        uint32_t epoch;
        bool can_write;       /* this node leads, with an entry of its own term committed */
        bool is_catching_up;  /* fetches sealed history from another node */
        uint64_t catch_up_index; /* through here it will have it */
        bool has_committed_members; /* no change of members is under way */
        struct store_mending mending;
        struct store_comparison comparison;
        unsigned count;
        struct store_member members[CLUSTER_MEMBERS_MAX];
};
void store_cluster_status(const struct store *store, struct store_cluster_status *ret);
/* Is this node the leader, ready to write? What the duties of the leader need. */
bool store_is_leading(const struct store *store);

#endif
