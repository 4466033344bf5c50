/* What the files of peers share: members and the links to them. */
#ifndef PEERS_ROOM_H
#define PEERS_ROOM_H

#include "peers/wire.h"

enum {
        STRANGERS_MAX = 64,             /* accepted connections that have not said who they are, or ask */
        STRANGERS_OF_ADDRESS_MAX = 16,  /* of those, from one IP */
        TOLD_PER_SECOND_MAX = 10,       /* facts and on_stranger of refusals */
        HOST_SIZE = OS_HOST_SIZE_MAX + 1,
};
#define GREETING_US_MAX ((uint64_t)5000000)  /* from the connection to the accepted hello, of one that was accepted */
#define DIAL_US_MAX     ((uint64_t)2500000)  /* of one that was dialled: it is tried again soon */
#define ASKING_US_MAX   ((uint64_t)30000000) /* until an ask is answered */

/* ---- addresses (address.c) ---- */

struct host_port {
        char host[HOST_SIZE]; /* name or IP literal, without brackets */
        uint16_t port;
};
MUST_CHECK bool host_port_parse(const char *text, struct host_port *ret);
bool host_is_ip(const char *host);
/* An IP of this machine alone, or "localhost". */
bool host_is_loopback(const char *host);

/* ---- members (members.c) ---- */

struct link;

/* One use of a pair of nodes: the link that is up, and the attempts at one. */
struct slot {
        struct link *up;
        struct link *dialling;
        struct os_lookup *lookup;
        unsigned attempts; /* since it was up */
        uint64_t next_us;  /* when to dial again */
        bool wants_room;   /* a message was refused, or the queue was more than half full */
        struct os_timer room_timer;
        struct peers_link_stats stats;
        uint64_t past_sent_bytes, past_received_bytes; /* of links that are gone */
};

struct member {
        struct peers *peers;
        uint64_t node;
        char address[PEERS_ADDRESS_SIZE]; /* "": not known */
        struct host_port to;
        char name[PEERS_NAME_SIZE];
        uint16_t version;
        bool was_up;
        bool is_failed;
        bool is_refused; /* there this node is no member */
        uint64_t heard_us;
        uint64_t round_trip_us;
        char problem[WHY_SIZE];
        char told[WHY_SIZE]; /* the last refusal that was told of it, and when */
        uint64_t told_us;
        struct slot slots[PEERS_LINKS];
};

struct peers {
        struct os *os;
        struct control *control;
        struct hello hello; /* what this node says: kind, dial and wanted node are filled in per connection */
        struct tls_context *tls;
        bool is_insecure_anywhere;
        const struct peers_handler *handler;
        void *arg;
        struct os_listener *listener;
        uint16_t port;
        bool is_closed; /* only connections that still close keep it */
        struct member *members[PEERS_MEMBERS_MAX]; /* in the order of ids */
        unsigned member_count;
        struct list links; /* every connection, until its end */
        unsigned link_count;
        uint64_t dials;
        uint64_t asks;
        struct os_timer tick;
        uint64_t ticked_us;
        uint64_t told_second; /* of the monotonic clock, and how many were told in it */
        unsigned told_in_second;
        struct peers_totals totals;
};

struct member *member_find(const struct peers *p, uint64_t node);
/* The connection `l` is the link to its member from now on; another that was it is closed. */
void member_up(struct member *m, struct link *l);
/* The link that was up is no more. */
void member_down(struct member *m, enum peers_link kind, const char *why);
/* An attempt at dialling has ended without a link. */
void member_dial_failed(struct member *m, enum peers_link kind, const char *why);
void member_heard(struct member *m, uint64_t now_us);
/* on_room comes in another turn if it is due. */
void member_check_room(struct member *m, enum peers_link kind);
/* Sees to it that what is due is done: in another turn. */
void members_wake(struct peers *p);
/* Dials, pings and closes what is due, and sees to it that it is called again. */
void members_tick(struct os_timer *timer);
struct member *member_new(struct peers *p, uint64_t node);
/* The node has another address: what goes to the old one is given up, and it is dialled anew. */
void member_set_address(struct member *m, const char *address, const struct host_port *to);
void member_free(struct member *m);
size_t queue_size_max(enum peers_link kind);

/* Tells the bus and the user that somebody was refused, within limits. `node` 0: unknown. */
void peers_tell_refused(struct peers *p, uint64_t node, const char *address, const char *why);
void peers_fact(struct peers *p, enum fact_type type, uint64_t node, const char *format, ...) PRINTF_LIKE(4, 5);
void peers_release(struct peers *p); /* frees it if it is closed and its last connection has ended */

/* ---- links (link.c) ---- */

enum link_state {
        LINK_CONNECTING, /* dialled */
        LINK_GREETING,   /* waits for the other side's hello */
        LINK_CONFIRMING, /* accepted: has answered the hello, waits for the first frame */
        LINK_UP,
        LINK_ASKING,     /* accepted from somebody who asks */
        LINK_CLOSING,
};

struct link {
        struct list at;
        struct peers *peers;
        struct wire *wire;
        enum link_state state;
        bool is_dialled;
        enum peers_link kind;  /* of a link to a member */
        struct member *member; /* NULL: a stranger, or removed */
        uint64_t node;
        uint64_t instance; /* of the other side's process */
        uint64_t dial;
        uint64_t begun_us;
        uint64_t pinged_us;
        uint16_t version;
        uint64_t ask; /* 0: none is waiting for its answer */
        char name[PEERS_NAME_SIZE];
};

/* Dials an IP literal. 0, OS_ADDRESS_INVALID or a fault. */
MUST_CHECK int link_dial(struct peers *p, struct member *m, enum peers_link kind, const char *ip, struct link **ret);
void link_accept(void *peers, struct os_conn *conn);
void link_ping(struct link *l, uint64_t now_us);
/* Closes what is not needed any more, and forgets its member. */
void link_drop(struct link *l, const char *why);
void link_answer(struct link *l, struct bytes answer);
void link_refuse(struct link *l, enum refusal refusal, const char *why);
bool link_is_stranger(const struct link *l);
/* Silence, and greetings that take too long. */
void link_tick(struct link *l, uint64_t now_us);

#endif
