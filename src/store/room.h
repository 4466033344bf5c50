/* What the files of the store share. Duties by file:
 *   opening.c   opens and closes
 *   replica.c   steps the engine and carries out its updates; group commit
 *   replication.c  messages of the engine to and from other nodes; entries for members that lag
 *   catch_up.c  fetches sealed history from another node, and gives it
 *   refetch.c   gets back a damaged end of the log, before the engine starts
 *   mend.c      rebuilds damaged segments from another node's entries
 *   compare.c   compares histories with the other nodes
 *   office.c    what begins and ends with leadership
 *   follow.c    heads, when another node's entries are committed
 *   forward.c   appends and deletes for the leader, and theirs for us
 *   waits.c     reads that wait
 *   members.c   who belongs to the cluster, and changes of that
 *   grow.c      one voter becomes three
 *   head_map.c  which stream stands where: committed and with what is in flight; bounded memory
 *   heads.c     decides expectations, idempotence and revisions; nobody else does
 *   ids.c       ids of events in flight
 *   appends.c   checks appends and deletes and gathers them
 *   pendings.c  appends on their way: gathered, in flight, decided, answered
 *   reads.c     readers: visibility, links, filters
 *   info.c      streams, lists, figures */
#ifndef STORE_ROOM_H
#define STORE_ROOM_H

#include "base/arena.h"
#include "cluster/cluster.h"
#include "store/store.h"

struct pending;

/* Faults on order, for the tests of the tests: each is one line at the place of the fault. */
enum store_mutant {
        STORE_MUTANT_VOTE_LOST = 1 << 0,        /* the term is durable, for whom this node voted is not */
        STORE_MUTANT_TERM_LOST = 1 << 1,        /* neither is */
        STORE_MUTANT_EARLY_PERSISTED = 1 << 2,  /* entries count as durable when they are issued */
        STORE_MUTANT_PAST_STORED = 1 << 3,      /* what is committed is applied before it is durable here */
        STORE_MUTANT_INSTALL_TRUSTED = 1 << 5,  /* what stands here is taken for what was committed elsewhere */
        STORE_MUTANT_RUN_UNVERIFIED = 1 << 6,   /* nobody looks at the chain of fetched history */
        STORE_MUTANT_OVERTAKEN_KEPT = 1 << 7,   /* appends that a later leader's overtook stay in flight */
        STORE_MUTANT_FOREIGN_UNSEEN = 1 << 8,   /* an entry at the index of an append is taken for that append */
        STORE_MUTANT_FLIGHT_REFUSED = 1 << 9,   /* what was submitted is refused when the office is lost */
        STORE_MUTANT_HEADS_STALE = 1 << 10,     /* heads do not follow other leaders' entries */
        STORE_MUTANT_DAM_OPEN = 1 << 12,        /* the entry of three voters is sent before it is durable */
        STORE_MUTANT_ANSWER_ANY = 1 << 14,      /* an answer to another request is taken for this one's */
        STORE_MUTANT_READ_UNPROBED = 1 << 15,   /* a leader answers reads without asking the voters */
        STORE_MUTANT_POSITION_EARLY = 1 << 16,  /* a read with a position does not wait for it */
        STORE_MUTANT_CHANGES_KEPT = 1 << 17,    /* configurations that were truncated are applied all the same */
        STORE_MUTANT_TIME_STANDS = 1 << 18,     /* times do not go on from another leader's */
        STORE_MUTANT_INSTALLING_MUTE = 1 << 20, /* who fetches history refuses its vote (RG21) */
        STORE_MUTANT_REFUSED_UNSURE = 1 << 21,  /* a leader refuses without being sure that it leads */
        STORE_MUTANT_HISTORY_UNJUDGED = 1 << 22, /* a node takes its own history for the right one */
        STORE_MUTANT_HISTORY_OF_ONE = 1 << 23,   /* another node's history is right without a majority */
};

/* ---- head_map.c ---- */

/* Where a stream and its metastream stand. */
struct head_state {
        uint64_t next_revision;      /* one behind the last event; 0: no events */
        uint64_t next_meta_revision; /* the same of "$$" + name */
        struct stream_metadata metadata;
        bool is_tombstoned;
};

struct head {
        struct head *next; /* in its bucket */
        struct list lru;   /* lone while in flight */
        uint64_t hash;
        struct head_state committed;
        struct head_state latest; /* with everything in flight */
        struct pending *newest;   /* the last append in flight that changes it; NULL: none */
        uint64_t mark; /* the append that named the stream last; its metastream; and that put it in slot
                          `slot` */
        uint64_t meta_mark;
        uint64_t slot_mark;
        uint32_t slot;
        struct bytes soft_body; /* metadata of a soft-deleted stream (latest), for its revival; owned */
        uint32_t in_flight;     /* appends in flight that change it */
        bool is_outdated;       /* `committed` is to be read from the log before it is used */
        uint32_t name_size;
        char name[];
};

struct head_map {
        struct persistence *persistence;
        struct head **buckets;
        uint64_t bucket_count; /* a power of two */
        struct list lru;       /* least recently used first */
        uint64_t count;
        uint64_t size;
        uint64_t size_max;
        struct buffer scratch; /* the name of a metastream */
};

void head_map_init(struct head_map *m, uint64_t size_max);
void head_map_fini(struct head_map *m);
/* The head of the stream `base` (never a metastream), loaded if need be. It stays until the next
 * head_map_trim, or longer while something in flight changes it. 0, PERSISTENCE_CORRUPT or a fault. */
MUST_CHECK int head_map_get(struct head_map *m, struct bytes base, struct head **ret);
/* Forgets what was used longest ago until the map is within its limit. */
void head_map_trim(struct head_map *m);
/* Another node's append to the stream was committed: who asks next reads the head from the log. */
void head_map_outdate(struct head_map *m, struct bytes base);
void head_begin_change(
        struct head_map *m, struct head *h, struct pending *by, const struct head_state *after);
void head_end_change(struct head_map *m, struct head *h, struct pending *by, const struct head_state *after);
/* The change will never be committed. */
void head_drop_change(struct head_map *m, struct head *h, struct pending *by);
/* Keeps the body of the metadata that soft-deleted the stream; empty: forgets it. */
void head_keep_body(struct head_map *m, struct head *h, struct bytes body);

static inline struct bytes head_name(const struct head *h)
{
        return bytes_of(h->name, h->name_size);
}

static inline bool head_is_soft_deleted(const struct head_state *s)
{
        return s->metadata.truncate_before == REVISION_MAX;
}

/* ---- ids.c ---- */

/* The id of an event in flight. */
struct flying_id {
        struct flying_id *next; /* in its bucket, or free */
        struct flying_id *next_of_pending;
        struct pending *pending;
        struct event_id id;
        uint64_t stream_hash;
        uint64_t revision;
        uint64_t position;
};
struct flying_block;
struct flying_ids {
        struct flying_id **buckets;
        uint64_t bucket_count;
        uint64_t count;       /* in buckets */
        struct list unlinked; /* appends whose ids are in no bucket yet, oldest first */
        struct flying_id *free;
        struct flying_block *blocks;
};
void flying_ids_init(struct flying_ids *f);
void flying_ids_fini(struct flying_ids *f);
/* Adds the id of an event of `pending`, newest first in pending->ids. */
void flying_ids_add(struct flying_ids *f, struct pending *pending, const struct event_id *id,
        uint64_t stream_hash, uint64_t revision, uint64_t position);
void flying_ids_remove_all(struct flying_ids *f, struct pending *pending);
/* The newest event in flight with this id in this stream; with `revision`, only the one that has it. NULL:
 * none. */
const struct flying_id *flying_ids_find(struct flying_ids *f, const struct event_id *id, uint64_t stream_hash,
        const uint64_t *revision);

/* ---- heads.c ---- */

/* One stream of an append as heads.c decides it. */
enum decision { DECIDED_WRITE, DECIDED_DUPLICATE, DECIDED_CONFLICT, DECIDED_DELETED };
struct target {
        struct head *head;
        struct bytes name;
        uint64_t hash; /* of the name */
        struct expected expected;
        bool is_meta;
        bool is_check_only;   /* others of the append are written, this one is not */
        unsigned event_count; /* to be written */
        uint32_t first_event; /* of those, among all of the append */
        const uint32_t *next_event; /* by event: the next one of the same stream; NULL: all are of one */
        enum decision decision;
        uint64_t next_revision; /* of the stream (or metastream) as decided: latest */
        uint64_t found_next;    /* of a duplicate: one behind its last event */
        uint64_t found_first_position;
        uint64_t found_position;
        struct pending *rests_on; /* the newest append in flight that the decision rests on */
};
enum heads_outcome { HEADS_CORRUPT = 1, HEADS_TWICE };
/* Decides all targets of an append and gives the whole: DECIDED_WRITE (with no events: checked and fine), a
 * duplicate, or the refusal of the target *ret_failed. 0, HEADS_CORRUPT, HEADS_TWICE (*ret_failed is named
 * twice) or a fault. */
MUST_CHECK int heads_decide(struct store *s, const struct store_append *append, struct target *targets,
        enum decision *ret, unsigned *ret_failed);

static inline bool target_is_soft_deleted(const struct target *t)
{
        return !t->is_meta && head_is_soft_deleted(&t->head->latest);
}

/* What an append does to a stream and its metastream. */
struct side_change {
        uint64_t first_position;
        uint64_t revision; /* of the last event */
        uint32_t event_count;
};
struct head_change {
        struct head *head;
        struct head_state after;
        struct side_change stream;
        struct side_change meta;
};
/* Gives the next event of a stream its revision and notes it, with what a metadata event says. */
uint64_t heads_add_event(struct head_change *c, bool is_meta, uint64_t position, const struct event_draft *e);
void heads_add_tombstone(struct head_change *c, uint64_t position);

/* ---- pendings.c ---- */

/* An append, or a delete, that is not decided yet. */
struct pending {
        struct list link; /* gathering, in flight, decided; or in the waiters of another */
        struct list waiters;
        store_append_done *done;
        void *arg;
        uint64_t write_id;
        uint64_t deadline_us; /* 0: none */
        uint64_t index;       /* in the log; 0: not submitted, or a waiter */
        uint64_t term;        /* in which it was submitted */
        uint64_t size;        /* counted in in_flight_size */
        size_t payload_start; /* in the group's buffer, until submitted */
        size_t payload_size;
        uint64_t first_position; /* of the record, which may begin with a revival */
        uint32_t event_count;
        bool is_waiter;
        bool is_answered;
        bool is_dropped; /* will never be committed; its heads may be gone */
        struct store_append_result result;
        struct head_change *changes; /* &change, or memory of its own */
        unsigned change_count;
        struct head_change change;
        struct store_stream_outcome outcome;
        struct flying_id *ids;
        struct list ids_link; /* while they are unlinked */
};

void pendings_init(struct store *s);
void pendings_fini(struct store *s); /* drops everything unanswered */
struct pending *pending_new(struct store *s, uint64_t write_id, uint64_t deadline_us, unsigned streams,
        store_append_done *done, void *arg);
/* Gives back one that nothing waits for; an answered one is given back by itself. */
void pending_release(struct store *s, struct pending *p);
/* Adds one that is to be written to the group; one that waits for another. Both count in in_flight_size. */
void pending_gather(struct store *s, struct pending *p);
void pending_wait_for(struct store *s, struct pending *p, struct pending *other);
void pending_answer_now(struct store *s, struct pending *p);
/* Answers a refusal, or a check, once it is sure that this node leads. */
void pending_confirm(struct store *s, struct pending *p);
/* Everything up to the log index is committed and visible: heads follow, then the answers go out. */
void pendings_commit(struct store *s, uint64_t index);
/* Answers all with STORE_UNKNOWN. */
void pendings_give_up(struct store *s);
/* What is in flight is answered within some seconds, as unknown if it must be (G3). */
void pendings_bound(struct store *s);
/* This node leads no more: what was not submitted is refused; what was is bounded. */
void pendings_office_lost(struct store *s);
/* Nobody waits for an answer any more. A member may have entries in flight whose outcome it will not learn. */
bool pendings_can_be_left(const struct store *s);
/* For the mutant that acknowledges before the sync. */
void pendings_answer_gathered(struct store *s);
/* The group's payloads were copied by the log. */
void pendings_group_left(struct store *s);
void pendings_at_turn_end(struct store *s);
void publish_write(struct store *s, enum fact_type type, uint64_t write_id, struct bytes stream,
        uint64_t hash, uint32_t count, const char *text);

/* ---- appends.c ---- */

/* Appends without asking whether the store takes appends yet: its own first event. */
void appends_take(struct store *s, const struct store_append *append, store_append_done *done, void *arg);

/* ---- info.c ---- */

/* What is visible of a stream or metastream, as committed. */
struct visibility {
        enum stream_state state;
        uint64_t next;      /* one behind the last event */
        uint64_t first;     /* by $tb and $maxCount; at most `next` */
        uint64_t oldest_us; /* by $maxAge, now; 0: no limit */
};
/* 0, PERSISTENCE_CORRUPT or a fault. */
MUST_CHECK int stream_visibility(struct store *s, struct bytes name, struct visibility *ret);

/* ---- replica.c ---- */

/* A configuration that is stored and not applied yet. */
struct stored_change {
        uint64_t index;
        struct buffer payload;
};
/* An entry of another node on its way into the log: the cookie of its cluster_entry. */
struct incoming {
        enum record_kind kind;
        uint64_t first_position;
        uint32_t event_count;
};
/* The kinds of the log and of the engine. */
enum cluster_entry_type entry_type_of(enum record_kind kind);
/* Appends entries to the log's group at `first`, in place of what is there. 0 or a fault. */
MUST_CHECK int replica_store(
        struct store *s, uint64_t first, const struct cluster_entry *entries, unsigned count);
/* Carries out what a step said; nothing of `u` may be used after it. 0 or a fault. */
MUST_CHECK int replica_carry_out(struct store *s, const struct cluster_update *u);
/* After the last update of a step: `r` is what the step gave. Steps on as long as there is reason; a fault ends
 * everything. */
void replica_stepped(struct store *s, int r);
void replica_on_turn_end(struct os_turn_hook *hook);
void replica_on_timer(struct os_timer *timer);
void replica_on_sealed(void *arg, const struct persistence_sealed *sealed);
void replica_flush(struct store *s);
/* The entry's configuration was stored at `index`. */
void replica_note_change(struct store *s, uint64_t index, struct bytes payload);

/* ---- opening.c ---- */

void opening_end(struct store *s, int result, const char *problem);
void opening_phase(struct store *s, enum subsystem phase);
void opening_ready(struct store *s); /* reads are taken */
void opening_post_close(struct store *s);
/* Closes the log and opens it once more. Not from inside one of its calls. */
void opening_again(struct store *s);

/* ---- replication.c ---- */

enum store_message {
        MESSAGE_RAFT = 1,
        MESSAGE_FETCH,      /* of entries that are sealed at the leader */
        MESSAGE_FETCHED,
        MESSAGE_FORWARD,    /* an append or delete for the leader */
        MESSAGE_FORWARDED,  /* its outcome */
        MESSAGE_READ_INDEX, /* which index must a linearizable read have? */
        MESSAGE_READ_INDEX_RESULT,
        MESSAGE_OFFER, /* of the entry that makes three voters of one */
        MESSAGE_MARK_ASK, /* what are term and chain hash of this entry? */
        MESSAGE_MARK,
};
enum { ENTRY_HEAD_SIZE = 32, RUN_ENTRIES_MAX = 512, RUN_SIZE_MAX = 1024 * 1024 };

enum { LINKED_MAX = 64 };

/* What another member is still to be sent: as indexes, not bytes, so that a member that lags costs no memory. */
struct follower {
        uint64_t node_id;
        bool is_fetching;
        uint64_t term; /* of the leadership that promised it */
        uint64_t next; /* the entries next ... last; next > last: none */
        uint64_t last;
};
struct replication {
        struct follower followers[CLUSTER_MEMBERS_MAX];
        unsigned count;
        uint64_t linked[LINKED_MAX]; /* nodes whose link is up, members or not yet; 0: free */
        bool has_sent; /* something waits for a flush */
        uint64_t dam_index; /* no entry is sent before this one is durable here; 0: none */
        struct buffer head;
        struct buffer entry_heads;
        struct bytes *pieces; /* of one message */
        unsigned pieces_capacity; /* entries that they are enough for */
        struct cluster_entry *entries; /* of one message that has come */
        struct incoming *incoming;
        unsigned capacity;
        uint64_t dropped; /* messages that made no sense, or found no room */
};
void replication_fini(struct store *s);
/* Sends the messages of an update; entries of theirs must be in the log, written or not. */
void replication_send(struct store *s, const struct cluster_update *u);
void replication_follow_members(struct store *s, const struct cluster_configuration *c);
void replication_flush(struct store *s);
bool replication_is_linked(const struct store *s, uint64_t node_id);
/* Sends one message of the store's. False: it was dropped. */
bool store_send(struct store *s, uint64_t node_id, enum store_link link, enum store_message type,
        const struct bytes *pieces, unsigned count);
/* What was held back by the dam, once its entry is durable. */
void replication_open_dam(struct store *s);
/* Feeds the engine with a message; its entries and their cookies are the caller's. */
void replication_take(struct store *s, const struct cluster_message *m);
/* Entries in the form that goes to other nodes: fills s->replication.entry_heads and .pieces, of which the first is
 * left for the message's own head. Gives the number of pieces. */
unsigned entries_to_pieces(struct store *s, const struct persistence_entries *run);
/* The entries that `rest` begins with, into .entries and .incoming; false if they are not all there. */
bool entries_from_bytes(struct store *s, struct bytes rest, unsigned count);

/* ---- catch_up.c ---- */

struct catch_up {
        bool is_on;
        uint64_t last_index; /* through here everything is committed and sealed at the leader */
        uint64_t asked_index; /* the fetch under way begins here; 0: none */
        uint64_t verified_index; /* equal to the leader's up to here: no more becomes visible */
        uint64_t checked_index;
        uint64_t check_index; /* the chain hash here is to be this; 0: nothing to check */
        struct record_chain check_chain;
        uint64_t run_index; /* the last run that came ended here, with this chain; 0: none yet */
        struct record_chain run_chain;
        unsigned damaged; /* runs at this place, one after the other */
        uint64_t suspected_index; /* up to here this node's history or the other's was changed: whose? 0: no */
        uint64_t next;         /* the entry to be asked for next; what is here already is compared */
        struct os_timer timer; /* an answer is overdue */
        unsigned serving;      /* fetches for others, under way */
};
void catch_up_init(struct store *s);
void catch_up_fini(struct store *s);
MUST_CHECK int catch_up_begin(struct store *s, const struct cluster_update *u);
/* Something was written. *ret_has_moved: more may become visible, or it has ended. 0 or a fault. */
MUST_CHECK int catch_up_go_on(struct store *s, bool *ret_has_moved);
void catch_up_on_fetch(struct store *s, uint64_t from, struct bytes body);
/* The voters have said that what is here up to the suspected index is right. */
void catch_up_trust(struct store *s);
/* An answer to a fetch. */
enum fetch_status { FETCH_OK, FETCH_MISMATCH, FETCH_ABSENT };
struct fetched {
        uint64_t first;
        uint32_t status;
        uint32_t count;            /* with FETCH_OK: 1 or more */
        struct record_chain chain; /* of the last entry */
        struct bytes entries;
        uint64_t leader_term; /* without entries: of a leader, and its last index; else 0 */
        uint64_t leader_last;
};
MUST_CHECK bool fetched_parse(struct bytes body, struct fetched *ret);
/* The run's entries, which are in .entries now, end with the chain that the other node says, from that of the entry before. */
MUST_CHECK bool fetched_is_intact(const struct store *s, const struct fetched *f, const struct record_chain *before);
/* How many of the run's entries, which are in .entries now, are here already: the same up to the first that differs in term.
 * 0, or what persistence_entry_mark gives. */
MUST_CHECK int fetched_count_same(struct store *s, uint64_t first, unsigned count, unsigned *ret);
/* The run's entry `i`, which is in .entries and .incoming now, for the log. */
struct persistence_entry fetched_entry(const struct store *s, unsigned i, uint64_t index);
/* The term of the entry before, for fetch_ask; 0: it is not known, and the answer is compared entry by entry. */
uint64_t fetch_term_before(struct store *s, uint64_t index);
/* Asks a member for entries. False: there is no link, or no room on it. */
bool fetch_ask(struct store *s, uint64_t node_id, uint64_t first, uint64_t previous_term, uint64_t last);
void catch_up_on_fetched(struct store *s, const struct fetched *f);

/* ---- mend.c ---- */

struct mending {
        bool is_on;
        bool is_writing; /* what came is being written */
        struct persistence_range range;
        uint64_t next;        /* the entry to be asked for next */
        uint64_t asked_index; /* the fetch under way begins here; 0: none */
        uint64_t asked_of;
        unsigned turn;     /* which member is asked */
        unsigned refusals; /* since entries came last */
        struct os_timer timer;
};
void mend_init(struct store *s);
void mend_fini(struct store *s);
void mend_start(struct store *s); /* the log is open */
/* False: it is no answer to what mending asked. */
bool mend_on_fetched(struct store *s, uint64_t from, const struct fetched *f);
/* A member other than this node, at or behind *turn in the configuration; *turn is set to its place. 0: there is none. */
uint64_t choose_member(const struct store *s, const struct cluster_configuration *c, unsigned *turn);

/* ---- compare.c ---- */

/* What a member says of the entry that is compared. */
struct opinion {
        uint64_t node_id;
        uint64_t term;
        struct record_chain chain;
        bool is_voter;
        bool has_answered;
        bool differs; /* as was told: its history is not the majority's */
};
struct compare {
        struct os_timer timer;
        uint64_t seen_index; /* applied at the last round: the next one is about it */
        uint64_t others_index; /* or about this, for which somebody asked since */
        bool was_others;
        uint64_t index;      /* is compared; 0: none */
        struct opinion opinions[CLUSTER_MEMBERS_MAX];
        unsigned opinion_count;
        unsigned answers;
        bool is_searching; /* for the last entry that this node shares with the majority */
        uint64_t low;      /* that is shared */
        uint64_t high;     /* that is not */
        unsigned tries;
        uint64_t rounds;
        uint64_t agreed_index;
        uint64_t agreed_us;
        bool is_undecided;
};
void compare_init(struct store *s);
void compare_fini(struct store *s);
void compare_start(struct store *s); /* the engine runs */
void compare_on_question(struct store *s, uint64_t from, struct bytes body);
void compare_on_answer(struct store *s, uint64_t from, struct bytes body);
bool compare_differs(const struct store *s, uint64_t node_id);
void compare_status(const struct store *s, struct store_comparison *ret);

/* ---- refetch.c ---- */

struct refetch {
        bool is_on; /* the engine does not run */
        bool is_writing;
        bool is_whole;
        uint64_t term;          /* what this node has promised was in this term or before */
        uint64_t saved_term;    /* of the vote file: not below that of any entry */
        uint64_t kept;          /* what the cut has left ends here */
        uint64_t verified;      /* the log is that of the others up to here */
        uint64_t next;          /* the entry to be asked for next */
        uint64_t enough;        /* nothing is missing once it is verified up to here; UINT64_MAX: not known */
        uint64_t asked_index;   /* the fetch under way begins here; 0: none */
        uint64_t asked_of;
        uint64_t check_index; /* the chain hash here is to be this */
        struct record_chain check_chain;
        unsigned turn;
        unsigned refusals;
        struct cluster_configuration members;
        uint64_t members_index; /* older ones that are fetched do not count */
        struct os_timer timer;
};
void refetch_init(struct store *s);
void refetch_fini(struct store *s);
/* Whether a log may be cut: there are others that have what is missing. */
bool refetch_is_possible(void *arg, struct bytes configuration);
/* The log was opened and has lost something: gets it back, then opens it again (opening_again). */
void refetch_start(struct store *s);
void refetch_on_fetched(struct store *s, uint64_t from, const struct fetched *f);

/* ---- grow.c ---- */

struct grow {
        bool is_holding; /* appends wait, for this or for a transfer */
        struct os_timer timer;
};
void grow_init(struct store *s);
void grow_fini(struct store *s);
/* As a step of the engine; appends are held from here to grow_let_go. 0 with an update, CLUSTER_NOT_NOW, CLUSTER_REFUSED,
 * CLUSTER_NOT_LEADER or a fault. */
MUST_CHECK int grow_submit(struct store *s, const uint64_t *node_ids, unsigned count, struct cluster_update *u);
void grow_let_go(struct store *s);
void grow_look(struct store *s);
void grow_on_offer(struct store *s, uint64_t from, struct bytes body);

/* ---- office.c ---- */

/* After an update that says who leads, and whenever something was applied. */
void office_look(struct store *s);

/* ---- follow.c ---- */

/* An entry of another leader was stored: times of this node's go on from there (G19). */
void follow_time(struct store *s, const struct persistence_entry *e);
/* The entries first ... last, which other leaders wrote, are about to become visible. 0, PERSISTENCE_CORRUPT or a
 * fault. */
MUST_CHECK int follow_entries(struct store *s, uint64_t first, uint64_t last);

/* ---- waits.c ---- */

struct waits {
        struct list waiting;
        struct os_timer timer;
        uint64_t asked_nonce; /* of the leader, from here */
        unsigned remote;      /* for other nodes */
};
void waits_init(struct store *s);
void waits_end_all(struct store *s);
void waits_go_on(struct store *s); /* something was applied or confirmed */
void waits_at_turn_end(struct store *s);
void waits_office_lost(struct store *s);
void waits_on_read_index(struct store *s, uint64_t from, struct bytes body);
void waits_on_read_index_result(struct store *s, uint64_t from, struct bytes body);

/* ---- forward.c ---- */

struct forwarding;
void forward_fini(struct store *s);
/* For another node that leads. False: none is known, or it cannot be reached. */
bool forward_append(struct store *s, const struct store_append *append, store_append_done *done, void *arg);
bool forward_delete(struct store *s, const struct store_delete *del, store_append_done *done, void *arg);
void forward_on_request(struct store *s, uint64_t from, struct bytes body);
void forward_on_result(struct store *s, uint64_t from, struct bytes body);
void forward_link_lost(struct store *s, uint64_t node_id);

/* ---- members.c ---- */

struct member_change;
void members_fini(struct store *s);
void members_go_on(struct store *s); /* something was applied, or time has passed */
void members_office_lost(struct store *s);

enum store_state { STORE_OPENING, STORE_STARTING, STORE_READY, STORE_CLOSING, STORE_FAILED };

struct store {
        struct store_options options;
        char *name;
        struct os *os;
        struct control *control;
        enum store_state state;
        uint64_t node_id;

        /* replica.c */
        struct persistence *persistence;
        struct cluster_raft *raft;
        struct os_work open_work;
        int open_result;
        char problem[512];
        uint64_t opened_at_us;
        struct os_turn_hook hook;
        struct os_timer engine_timer;
        uint64_t commit_index;
        uint64_t applied_index;
        struct stored_change *changes; /* configurations that are stored, not yet applied */
        unsigned change_count, change_capacity;
        uint64_t told_members;    /* index of the configuration that on_members was told */
        uint64_t foreign_through; /* no entry behind this was written by another leader, or found at the start */
        bool is_receiving; /* entries with a cookie are another node's */
        struct cluster_entry *entries; /* of one submit */
        unsigned entry_capacity;
        bool is_leading;  /* can write */
        bool is_settling; /* no step begins inside another */
        bool is_carrying;
        bool has_written; /* a write ended while an update was carried out */
        bool is_held;     /* leadership is being handed over: appends wait */
        bool wrote_first; /* the event that a fresh store begins with is on its way */
        uint64_t told_leader; /* the last leader_changed fact */
        uint64_t told_term;
        struct os_timer patience; /* of an opening that finds no leader */
        struct replication replication;
        struct catch_up catch_up;
        struct mending mend;
        struct refetch refetch;
        struct compare compare;
        struct grow grow;
        struct waits waits;
        struct forwarding *forwarding; /* NULL: nothing was forwarded yet */
        struct member_change *member_change; /* NULL: none is waiting */
        bool wants_close;
        bool is_close_posted;
        bool has_open_ended;
        bool is_opening_on_lane;
        void (*on_closed)(void *arg);
        void *on_closed_arg;
        uint32_t recent_appends; /* in a group, smoothed, times 16 */
        uint64_t recent_bytes;   /* of a group, smoothed */
        bool prefers_lane;

        /* pendings.c */
        struct list gathering;
        struct list in_flight;
        struct list decided;
        struct list confirming;
        struct list unused;
        unsigned unused_count;
        unsigned gathered_count;
        struct buffer group; /* payloads of the gathered appends */
        uint64_t next_position;
        uint64_t last_time_us;
        struct os_timer deadline_timer;
        unsigned deadlines; /* pending ones that have one and are not answered */

        /* appends.c */
        struct target *targets;
        unsigned target_capacity;
        uint64_t mark;        /* one more with each append that is decided */
        struct arena scratch; /* names and bodies of one append */

        struct head_map heads;
        struct flying_ids ids;
        unsigned reader_count;
        struct store_stats stats; /* the counters */
};

static inline bool store_is_mutant(const struct store *s, enum store_mutant mutant)
{
        return (s->options.mutants & (unsigned)mutant) != 0;
}

/* The disk failed (G15): everything stops here. */
void store_fail(struct store *s, const char *what);
/* And here, since what is in the log is not what a majority has (G22). */
void store_distrust(struct store *s, const char *problem);

#endif
