/* Simulated connections. An end is what a process has of a connection (sim_tcp.c), a flow is what the kernels and the
 * network have of it, in one direction (sim_flow.c). Private to the room. */
#ifndef OS_SIM_TCP_H
#define OS_SIM_TCP_H

#include "os/sim.h"

enum { SIM_ROOM_MIN = 16 * 1024, SIM_SEND_ROOM_MAX = 256 * 1024, SIM_RECEIVE_ROOM_MAX = 64 * 1024, SIM_PEER_SIZE = 64 };

/* Bytes that come at one side and go at the other. The empty value is all zero. */
struct sim_bytes {
        struct buffer buffer;
        size_t begin;
};
static inline struct bytes sim_bytes_view(const struct sim_bytes *b)
{
        return bytes_of(b->buffer.data + b->begin, b->buffer.size - b->begin);
}
void sim_bytes_skip(struct sim_bytes *b, size_t size);
void sim_bytes_clear(struct sim_bytes *b);

/* Bytes that arrive together; none: the end of the flow. */
struct sim_piece {
        size_t size;
        uint64_t due_us;
};

/* From ends[i] to the other: what the sender's kernel has taken and the receiver's has not. */
struct sim_flow {
        struct sim_bytes wire;
        struct sim_piece *pieces; /* a ring */
        size_t piece_first;
        size_t piece_count;
        size_t piece_capacity; /* a power of two */
        uint64_t last_due_us;
        size_t send_room;    /* of the sender's kernel: how much may be unacknowledged */
        size_t receive_room; /* of the receiver's kernel */
        size_t unacked;      /* on the wire, and what arrived while no acknowledgement came back */
        size_t owed;         /* of it, the latter */
        bool has_end;        /* the sender sends no more */
        bool is_full;        /* the receiver's kernel has no room for what is due */
        struct os_timer arrival;
};

enum sim_end_state { SIM_END_NONE, SIM_END_CONNECTING, SIM_END_OFFERED, SIM_END_OPEN, SIM_END_FLUSHING, SIM_END_LINGERING,
        SIM_END_CLOSED };

struct sim_listener;

struct sim_end {
        struct os_conn conn;
        struct sim_tcp *tcp;
        unsigned side;    /* in the tcp */
        struct list link; /* of the machine */
        struct os_conn_handler handler;
        void *arg;
        char peer[SIM_PEER_SIZE];
        const char *problem;
        struct sim_listener *listener; /* of what is not offered yet; NULL: it is closed */
        /* process */
        enum sim_end_state state;
        struct sim_bytes queue;
        struct os_timer limit; /* of the machine: bounds connecting, flushing, lingering */
        bool is_offered; /* the listener's user has it */
        bool is_watched;
        bool is_read_stopped;
        bool must_drain;
        bool has_ended; /* the process has met the peer's end */
        /* kernel */
        struct sim_bytes inbox;
        bool is_attached;    /* a process has it */
        bool is_established; /* of a connecting one */
        bool has_peer_end;   /* behind the inbox */
        bool is_broken;      /* `problem` tells why; behind the inbox too */
        bool is_dead;        /* takes nothing more from the peer */
        bool is_awake;       /* the process will look at it */
        struct os_timer silence;
        struct os_timer reset;
};

enum sim_handshake { SIM_SYN, SIM_REFUSAL, SIM_SYN_ACK, SIM_ACK };

/* ends[0] has connected, ends[1] has listened. */
struct sim_tcp {
        struct os_sim_world *world;
        struct list link;
        uint64_t number;
        struct sim *hosts[2]; /* [1] NULL: nobody has that address; a freed one becomes NULL */
        struct sim_end ends[2];
        struct sim_flow flows[2]; /* from ends[i] */
        uint16_t client_port;
        uint16_t port;
        /* handshake */
        enum sim_handshake stage;
        unsigned attempts;
        struct os_timer handshake;
};

struct sim_listener {
        struct os_listener listener;
        struct list link;
        char address[OS_ADDRESS_SIZE];
        uint16_t port;
        os_listener_accept *on_accept;
        void *arg;
};

/* ---- flow ---- */

struct sim_tcp *sim_tcp_new(struct sim *from, struct sim *to);
/* Frees what no process has and nobody waits for. */
void sim_tcp_release(struct sim_tcp *tcp);
void sim_tcp_connect(struct sim_tcp *tcp); /* begins the handshake */
/* Gives the sender's kernel as much as it takes; gives the number of bytes. */
size_t sim_flow_take(struct sim_tcp *tcp, unsigned from, struct bytes bytes);
void sim_flow_end(struct sim_tcp *tcp, unsigned from); /* nothing follows what was taken */
void sim_flow_arm(struct sim_tcp *tcp, unsigned from); /* sets the time of the next arrival, if there can be one */
void sim_flow_drop(struct sim_tcp *tcp, unsigned from); /* what is on its way is lost */
void sim_flow_room(struct sim_tcp *tcp, unsigned from); /* the receiver's inbox has become shorter */
bool sim_flow_is_cut(const struct sim_tcp *tcp, unsigned from);
/* The kernel gives up an end that works: the process learns `problem`. */
void sim_end_break(struct sim_end *end, const char *problem);
/* The peer's kernel says in so long that it knows no such connection. */
void sim_end_reset(struct sim_end *end, uint64_t after_us);
/* Looks whether an end hears nothing that it should hear, and sets its timers. */
void sim_end_review(struct sim_end *end);
uint64_t sim_tcp_delay(struct sim_tcp *tcp, unsigned from);

static inline struct sim_end *sim_end_other(struct sim_end *end)
{
        return &end->tcp->ends[1 - end->side];
}

/* ---- end ---- */

void sim_end_wake(struct sim_end *end);
void sim_end_open(struct sim_end *end, struct sim *sim, enum sim_end_state state); /* a process has it now */
void sim_end_pump(struct sim_end *end); /* gives the kernel what is queued, as far as it takes it */
struct sim_listener *sim_listener_find(struct sim *sim, const struct sim *from, uint16_t port);

#endif
