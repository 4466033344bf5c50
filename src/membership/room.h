/* What the files of this room share.
 *
 * membership.c    opening and closing; the links, and the messages of stores over them
 * file.c          cluster.json
 * init.c          a lone node becomes a cluster
 * join.c          a node that asks to be let in
 * nodes.c         what nodes tell each other of themselves
 * status.c        what is known, for people and clients
 * commands.c      commands: where they are carried out, and their answers
 * plans.c         what a command does to the members, step by step
 * changes.c       changes of members, carried out at the leader
 * grow.c          one voter becomes three
 * ledger.c        the stream $nilo-cluster: tokens, and who was let in
 * admission.c     tokens and joins, at the leader
 * discovery.c     addresses, by multicast
 * datagram.c      what is said there
 * version.c       the cluster version
 * certificates.c  making, signing and renewing */
#ifndef MEMBERSHIP_ROOM_H
#define MEMBERSHIP_ROOM_H

#include <jansson.h>

#include "base/list.h"
#include "base/memory.h"
#include "membership/membership.h"
#include "membership/plans.h"

enum {
        TICK_US = 500 * 1000,
        TELL_US = 2 * 1000 * 1000, /* between two times that a node tells of itself */
        STRANGERS_SHOWN_MAX = 8,
        COMMAND_TIMEOUT_US = 30 * 1000 * 1000,
        WHY_SIZE_MAX = 512,
        VERSION_TEXT_SIZE = 32,
};

/* Messages between nodes; those of stores lie at PEERS_TYPE_MIN + their own type. */
enum membership_message {
        MESSAGE_STORE_FIRST = PEERS_TYPE_MIN,
        MESSAGE_STORE_LAST = PEERS_TYPE_MIN + 0x7f,
        MESSAGE_NODE = PEERS_TYPE_MIN + 0x80, /* what a node tells of itself: a JSON object */
        MESSAGE_COMMAND,                      /* number (8), JSON object */
        MESSAGE_ANSWER,                       /* number (8), JSON object */
};
enum { MESSAGES_VERSION = 1 };

#define LISTEN_DEFAULT "127.0.0.1"

static inline void json_freep(json_t **json)
{
        json_decref(*json);
        *json = NULL;
}

/* ---- file.c ---- */

struct known_member {
        uint64_t node_id;
        char address[PEERS_ADDRESS_SIZE];
};
/* cluster.json: how this node is a member. */
struct cluster_file {
        bool is_joining;   /* asks to be let in, has no identity yet */
        bool has_joined;   /* by a token: its store is never founded here */
        bool is_insecure;
        uint8_t request[16]; /* names its wish to join, so that a second ask gets the same answer */
        char listen[OS_ADDRESS_SIZE];
        uint16_t port;
        char advertise[PEERS_ADDRESS_SIZE];
        uint8_t store_uuid[16]; /* of the default store, if it has joined */
        uint32_t epoch;
        unsigned voters_wanted; /* to grow to by itself; 0: none */
        unsigned member_count;  /* as they were last; they are looked for at a start */
        struct known_member members[CLUSTER_MEMBERS_MAX];
};
/* 0, MEMBERSHIP_DAMAGED (`why` says how) or a fault; *ret_exists false: there is none. */
MUST_CHECK int cluster_file_read(struct membership *m, bool *ret_exists, char why[WHY_SIZE_MAX]);
/* Replaces it. 0, MEMBERSHIP_DAMAGED (no space) or a fault. */
MUST_CHECK int cluster_file_write(struct membership *m, char why[WHY_SIZE_MAX]);

/* ---- nodes.c ---- */

/* What a node told of itself. */
struct node_news {
        uint64_t node_id;
        bool is_known; /* it has told something */
        uint8_t instance[16];
        enum membership_state state;
        char name[PEERS_NAME_SIZE];
        char version[MEMBERSHIP_VERSION_SIZE];
        unsigned version_min, version_max;
        char host[MEMBERSHIP_HOST_SIZE];
        uint16_t port;
        char address[PEERS_ADDRESS_SIZE];
        uint64_t next_position;
        uint64_t last_index;
        uint64_t applied_index;
        bool has_authority;
};
/* As the other nodes are told. */
void node_news_add(const struct node_news *n, struct json_out *j);
/* False: it says not what it must. The node is for the caller to fill in. */
MUST_CHECK bool node_news_parse(struct bytes body, struct node_news *ret);
struct node_news *nodes_find(struct membership *m, uint64_t node_id); /* NULL: nothing is known */
/* Until it tells itself. `name` NULL: stays as it is. */
void nodes_note_client(struct membership *m, uint64_t node_id, const char *name, const char *host, uint16_t port);
void nodes_self(struct membership *m, struct node_news *ret);
/* Tells the others, now if something changed or it is time. */
void nodes_tell(struct membership *m, bool at_once);
void nodes_tell_one(struct membership *m, uint64_t node_id);
void nodes_on_message(struct membership *m, uint64_t from, struct bytes body);
/* Its link is lost: it may come back as another release. */
void nodes_forget_versions(struct membership *m, uint64_t node_id);
void nodes_keep_members(struct membership *m); /* forgets who is none any more */

/* ---- ledger.c ---- */

enum { TOKENS_MAX = 64, ADMITTED_MAX = 256 };
struct ledger_token {
        struct tls_join_token_hash hash;
        uint64_t made_us;
        uint64_t expires_us;
        unsigned uses;
        unsigned used;
        bool is_revoked;
};
struct ledger_node {
        uint8_t request[16];
        uint64_t node_id;
        uint64_t token_id;
        uint64_t admitted_us;
        char name[PEERS_NAME_SIZE];
        char host[MEMBERSHIP_HOST_SIZE];
        uint16_t port;
};
/* What the stream says, read whole: it grows by a few events in the life of a cluster. */
struct ledger {
        bool has_events;
        uint64_t revision; /* of the last event */
        struct ledger_token tokens[TOKENS_MAX]; /* the newest of them */
        unsigned token_count;
        struct ledger_node nodes[ADMITTED_MAX];
        unsigned node_count;
        uint64_t node_id_max;
        unsigned version; /* of the cluster; 0: none was agreed */
};
/* Takes in the next event of the stream. */
void ledger_note(struct ledger *l, uint64_t revision, struct bytes type, struct bytes data);
/* False: it cannot be read, `why` says so. */
MUST_CHECK bool ledger_read(struct membership *m, struct ledger *ret, char why[WHY_SIZE_MAX]);
/* Has it grown? As store_stream_info. */
MUST_CHECK int ledger_info(struct membership *m, struct store_stream_info *ret);
/* Appends an event where `ledger` says that the stream ends; STORE_CONFLICT: others were faster. Takes `data`. */
typedef void ledger_done(void *arg, enum store_verdict verdict, const char *problem);
void ledger_append(struct membership *m, const struct ledger *ledger, const char *type, json_t *data, ledger_done *done, void *arg);
struct ledger_token *ledger_find_token(struct ledger *l, uint64_t id);
bool ledger_token_is_open(const struct membership *m, const struct ledger_token *t);

/* ---- commands.c ---- */

struct command;
typedef void command_done(struct command *c, json_t *answer); /* borrows the answer */

/* A command on its way, here or at another node. */
struct command {
        struct list link;
        struct membership *m;
        json_t *request;
        uint64_t deadline_us;
        uint64_t number;   /* by which another node's answer finds it; 0: it is carried out here */
        uint64_t sent_to;  /* node; 0: none */
        unsigned holds; /* completions that will still come */
        bool is_ended;
        command_done *done;
        void *arg;
        /* Of who has sent it. */
        membership_answered *answered;
        uint64_t from_node;
        uint64_t from_number;
        uint64_t ask;
        struct tls_identity proved; /* of an ask; node_id 0: none */
        /* Of the one that carries it out. */
        struct command_state *state;
};
struct command_state {
        struct os_timer timer;
        void (*go_on)(struct command *c); /* when it comes; see command_again */
        struct plan plan;
        unsigned at;
        uint64_t node_id;
        struct ledger ledger;
        struct tls_join_token token;
};
/* Begins a command; takes `request`. */
struct command *command_begin(struct membership *m, json_t *request, uint64_t deadline_us, command_done *done, void *arg);
/* Decides where it is carried out, and sees to it. */
void command_run(struct command *c);
/* Ends it; takes `answer`. */
void command_end(struct command *c, json_t *answer);
void command_end_ok(struct command *c, json_t *body); /* takes `body` */
void command_refuse(struct command *c, int status, const char *code, const char *title, const char *next, const char *format, ...)
        PRINTF_LIKE(6, 7);
/* What a store's verdict about a change or an append means to who asked. */
void command_refuse_verdict(struct command *c, enum store_verdict verdict, const char *problem);
/* Not done by the deadline, and still possible. */
void command_not_yet(struct command *c, const char *why);
/* Goes on in `us`, or is not yet done, when that would be behind the deadline. */
void command_again(struct command *c, void (*go_on)(struct command *c), uint64_t us, const char *why);
void commands_on_message(struct membership *m, uint64_t from, struct bytes body);
void commands_on_answer(struct membership *m, uint64_t from, struct bytes body);
void commands_on_ask(void *arg, uint64_t ask, const char *address, const struct tls_identity *identity, struct bytes request);
void commands_link_lost(struct membership *m, uint64_t node_id);
void commands_tick(struct membership *m);
void commands_end_all(struct membership *m);
/* A completion that has the command will come; then command_resume says whether it still goes on, else it is gone. */
void command_hold(struct command *c);
MUST_CHECK bool command_resume(struct command *c);
const char *command_text(const struct command *c, const char *key); /* "" if there is none */
uint64_t command_number(const struct command *c, const char *key, uint64_t otherwise);
bool command_flag(const struct command *c, const char *key);
struct command_state *command_state(struct command *c); /* made at the first call */

/* ---- what carries commands out ---- */

typedef void command_handler(struct command *c);
command_handler init_run;                                        /* init.c */
command_handler tokens_run, token_run, revoke_run, join_run;     /* admission.c */
command_handler sign_run, authority_run;                         /* certificates.c */
command_handler changes_run;                                     /* changes.c */
command_handler grow_run;                                        /* grow.c */
command_handler finalize_run;                                    /* version.c */
void grow_tick(struct membership *m);

/* ---- version.c ---- */

unsigned version_min(const struct membership *m);
unsigned version_max(const struct membership *m);
bool version_is_supported(const struct membership *m, unsigned version, char why[WHY_SIZE_MAX]);
unsigned version_possible(struct membership *m); /* to which `finalize` would raise it now */
/* Follows what the log says; at the leader, sees to it that it says something. */
void version_tick(struct membership *m);
/* False: the command is refused. `version` is the ledger's. */
MUST_CHECK bool version_check_joiner(struct command *c, unsigned version);

/* ---- certificates.c ---- */

/* The CA and the certificate of this node, for `init`. 0 or MEMBERSHIP_DAMAGED. */
MUST_CHECK int certificates_make(struct membership *m, char why[WHY_SIZE_MAX]);
/* Has a request signed here or where the CA's key is. `done` gets the certificate, or a problem with it empty. */
typedef void certificate_done(void *arg, const char *problem, struct bytes certificate_pem);
void certificates_sign(struct membership *m, uint64_t node_id, const char *address, const char *request_pem, uint64_t deadline_us,
        certificate_done *done, void *arg);
bool certificates_has_authority(struct membership *m);
/* Asks for a new one when it is due. */
void certificates_tick(struct membership *m);

/* ---- join.c ---- */

/* What a node that is let in is told. */
struct join_answer {
        struct persistence_identity identity;
        uint8_t store_uuid[16];
        uint32_t epoch;
        unsigned version; /* of the cluster; 0: none is agreed */
        const char *ca;          /* PEM; "": none. Of the body */
        const char *certificate;
        struct known_member members[CLUSTER_MEMBERS_MAX]; /* the others */
        unsigned member_count;
};
MUST_CHECK bool join_answer_take(json_t *body, struct join_answer *ret, char why[WHY_SIZE_MAX]);

struct join;
void join_begin(struct membership *m);
void join_end(struct membership *m);
void join_found_seed(struct membership *m, const char *address);

/* ---- datagram.c ---- */

enum { DATAGRAM_NONCE_SIZE = 16 };
enum datagram_outcome { DATAGRAM_MALFORMED = 1, DATAGRAM_WRONG_SECRET };
struct datagram {
        uint8_t cluster_uuid[16];
        uint64_t node_id;
        uint64_t wall_us; /* of the sender */
        uint8_t nonce[DATAGRAM_NONCE_SIZE];
        char address[PEERS_ADDRESS_SIZE];
        char clients[PEERS_ADDRESS_SIZE]; /* "": none */
};
void datagram_make(const struct datagram *d, const char *secret, struct buffer *out);
/* 0 or an outcome of datagram_outcome. */
MUST_CHECK int datagram_parse(struct bytes bytes, const char *secret, struct datagram *ret);

/* ---- discovery.c ---- */

struct discovery;
bool discovery_is_wanted(const struct membership *m);
/* False: what was asked for cannot be, `why` says what. */
MUST_CHECK bool discovery_check(const struct membership *m, char why[WHY_SIZE_MAX]);
void discovery_open(struct membership *m); /* if it is wanted, and not open */
void discovery_close(struct membership *m);
void discovery_tick(struct membership *m);
void discovery_members_changed(struct membership *m); /* peers have the log's addresses */
const char *discovery_hint(const struct membership *m); /* why nobody was found, for people */
struct membership_discovery discovery_counts(const struct membership *m);
void discovery_to_json(const struct membership *m, struct json_out *j);

/* ---- membership.c ---- */

struct membership_store {
        struct membership *m;
        struct store *store; /* NULL: free */
        uint8_t uuid[16];
        bool has_uuid;
};
struct stranger {
        uint64_t at_us; /* wall clock */
        char address[64];
        char why[200];
};

struct membership {
        struct os *os;
        struct control *control;
        struct persistence_node *node;
        struct persistence_identity identity;
        struct membership_options options; /* with strings of its own */
        char *certificates; /* their directory */
        uint8_t instance[16];
        struct cluster_file file;
        bool has_file;
        bool is_ready_told;
        bool is_stopping; /* no command is begun any more */
        bool is_closing;
        struct peers *peers; /* NULL: not opened */
        struct tls_context *tls;
        struct membership_store stores[MEMBERSHIP_STORES_MAX];
        struct cluster_configuration configuration; /* the default store's, in use */
        bool has_configuration;
        struct os_timer members_timer; /* the configuration was told */
        uint64_t leaving[PEERS_MEMBERS_MAX]; /* linked, and no members any more */
        unsigned leaving_count;
        uint64_t leaving_since_us;
        struct node_news news[CLUSTER_MEMBERS_MAX];
        unsigned news_count;
        struct node_news told; /* the last that the others were told */
        uint64_t told_us;
        struct stranger strangers[STRANGERS_SHOWN_MAX]; /* the newest first */
        unsigned stranger_count;
        struct os_timer tick;
        uint64_t looked_at_certificate_us;
        uint64_t look_again_us;
        uint64_t asked_authority_us;
        uint64_t certificate_until_us;
        bool is_renewing;
        bool has_authority;
        unsigned version;     /* of the cluster, as the log has it here, or cluster.json from before; 0: none */
        bool version_is_looked_at;
        bool version_has_events; /* of the ledger, when it was read for it */
        uint64_t version_revision;
        uint64_t version_position;
        bool version_is_writing;
        bool is_unfit;        /* on_unfit has run */
        bool is_changing;     /* this room itself changes the members */
        uint64_t elections;
        uint64_t seen_leader;
        uint64_t command_numbers;
        struct list commands;
        unsigned command_count;
        unsigned ask_count; /* of them, those of who is no member */
        struct join *join;
        struct discovery *discovery; /* NULL: off */
};

void membership_tell_ready(struct membership *m, int result, const char *format, ...) PRINTF_LIKE(3, 4);
/* Opens the links by what the file says. 0, MEMBERSHIP_ADDRESS, MEMBERSHIP_DAMAGED or a fault. */
MUST_CHECK int membership_open_peers(struct membership *m, char why[WHY_SIZE_MAX]);
struct store *membership_default_store(const struct membership *m); /* NULL: none is open */
const uint8_t *membership_store_uuid(struct membership_store *s);    /* NULL: not known yet */
/* An address that cannot be dialled (written by another version, or by hand) leaves the member waiting for. */
void membership_set_member(struct membership *m, uint64_t node_id, const char *address);
bool membership_is_linked(const struct membership *m, uint64_t node_id);
void membership_fact(struct membership *m, enum fact_type type, uint64_t node_id, const char *format, ...) PRINTF_LIKE(4, 5);
/* "10.0.0.1:2112" or "[::1]:2112" */
void address_format(const char *host, uint16_t port, char ret[PEERS_ADDRESS_SIZE]);
/* The host of "host:port", without brackets; false: it is no such text. */
MUST_CHECK bool address_split(const char *address, char host[MEMBERSHIP_HOST_SIZE], uint16_t *ret_port);
/* Such a text, fit to be shown and to stand in the log as a member's. */
bool address_is_fit(const char *address);
bool host_is_wildcard(const char *host);
/* Copies what fits, and nothing that could end a line. */
void text_copy(char *to, size_t size, const char *from);
void uuid_format(const uint8_t uuid[16], char ret[EVENT_ID_TEXT_SIZE + 1]);
MUST_CHECK bool uuid_parse(const char *text, uint8_t ret[16]);

#endif
