/* kurrent (GatewaySystem): the services of KurrentDB's client protocol, as gRPC methods registered with `gateway`: Streams
 * (Append, BatchAppend, Read, Delete, Tombstone), StreamsService of version 2 (AppendSession, AppendRecords),
 * PersistentSubscriptions, ServerFeatures, Gossip, Monitoring, Operations, Users. All meaning and no transport, as `api` is for HTTP;
 * docs/grpc.md lists the methods. Messages: proto/; what clients rely on, and how they tell errors apart: at the head of
 * the files that do it.
 *
 * Threads: the loop thread. */
#ifndef KURRENT_KURRENT_H
#define KURRENT_KURRENT_H

#include "control/control.h"
#include "emitter/emitter.h"
#include "gateway/gateway.h"
#include "membership/membership.h"
#include "os/os.h"

struct kurrent;
struct kurrent_options {
        struct os *os;
        struct control *control;
        struct gateway *gateway;
        const char *host;      /* where clients reach this node, shown by Gossip; copied */
        uint8_t node_uuid[16]; /* shown by Gossip */
        uint64_t memory_size;  /* appends whose end has not come; 0: 128 MiB, and never less than one append needs */
        void (*stats_to_json)(void *arg, struct json_out *j); /* one object of numbers and groups of them: what /stats shows */
        void (*shut_down)(void *arg); /* begins an orderly stop, not from inside */
        void *arg;
};
/* Adds the methods to the gateway; everything is borrowed. */
void kurrent_open(const struct kurrent_options *options, struct kurrent **ret);
/* From now on persistent subscriptions are served by this, until it is NULL again; borrowed. */
void kurrent_serve(struct kurrent *kurrent, struct emitter *emitter);
/* From now on this says which nodes there are; borrowed until the gateway has closed. */
void kurrent_join(struct kurrent *kurrent, struct membership *membership);
/* After the gateway has closed: its methods point here. NULL is fine. */
void kurrent_close(struct kurrent **kurrent);

#endif
