/* A wire: frames over one connection, with or without TLS, corked per turn. It knows nothing of nodes. */
#ifndef PEERS_WIRE_H
#define PEERS_WIRE_H

#include "peers/frame.h"

enum {
        /* What is queued in a turn leaves at its end, or when there is so much of it. */
        WIRE_CORK_SIZE = 256 * 1024,
        WIRE_BUFFER_KEPT_MAX = 1024 * 1024,
        /* Of who has not said who it is: a TLS handshake with certificates, and a hello. */
        WIRE_STRANGER_SIZE_MAX = 64 * 1024,
};

struct wire;

/* Nothing here is called from inside a call with the wire. */
struct wire_handler {
        /* Connected, and with TLS: the other side's certificate is verified. Not of one that was accepted without TLS: it is
         * ready from the beginning. */
        void (*on_ready)(void *arg);
        void (*on_frame)(void *arg, const struct frame *frame); /* borrowed */
        /* Bytes have left; wire_queued is less. May be NULL. */
        void (*on_sent)(void *arg);
        /* The wire closes by itself: what came makes no sense, TLS failed, the other side said its end. Only on_end follows. */
        void (*on_broken)(void *arg, const char *why);
        /* The last call; the wire is gone afterwards. */
        void (*on_end)(void *arg, const char *why);
};

/* `tls` NULL: none. The address is an IP literal. 0, OS_ADDRESS_INVALID or a fault. */
MUST_CHECK int wire_connect(struct os *os, const char *address, uint16_t port, struct tls_context *tls,
        const struct wire_handler *handler, void *arg, struct wire **ret);
/* Takes a connection that a listener offers; on a fault it is closed. */
MUST_CHECK int wire_accept(struct os *os, struct os_conn *conn, struct tls_context *tls, const struct wire_handler *handler,
        void *arg, struct wire **ret);

/* The other side is known: no bound on bytes any more, and frames with bodies of so much. */
void wire_trust(struct wire *wire, size_t body_size_max);
/* Frames are added here, then wire_push. */
struct buffer *wire_out(struct wire *wire);
void wire_push(struct wire *wire);
size_t wire_queued(const struct wire *wire);
/* What was pushed leaves now, not at the end of the turn. */
void wire_flush(struct wire *wire);
/* on_sent is to be called at the end of this turn, sent or not. */
void wire_ask_sent(struct wire *wire);
/* Sends what is queued, then closes; of what comes, only on_end. */
void wire_close(struct wire *wire, const char *why);
bool wire_is_closing(const struct wire *wire);

bool wire_peer(const struct wire *wire, struct tls_identity *ret); /* what its certificate proves */
const char *wire_address(const struct wire *wire);
uint64_t wire_heard_us(const struct wire *wire);  /* monotonic: when bytes came */
uint64_t wire_said_us(const struct wire *wire);   /* when frames were pushed */
uint64_t wire_sent_bytes(const struct wire *wire);
uint64_t wire_received_bytes(const struct wire *wire);

#endif
