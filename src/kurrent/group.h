/* Persistent subscriptions: what the files of their service share. A group is named by its stream, or "$all", and its own name. */
#ifndef KURRENT_GROUP_H
#define KURRENT_GROUP_H

#include "emitter/emitter.h"
#include "kurrent/persistent_subscriptions.pb-c.h"
#include "kurrent/selection.h"

#define GROUP_SERVICE  "event_store.client.persistent_subscriptions.PersistentSubscriptions"
#define GROUP_FEATURES "stream all"
#define GROUP_ALL      BYTES_LITERAL("$all")

struct group {
        struct bytes stream;
        struct bytes name;
};
/* `stream` is ignored where `is_all`. The bytes stay in the message. NULL, or what is wrong. */
const char *group_of(const EventStore__Client__StreamIdentifier *stream, bool is_all, ProtobufCBinaryData name, struct group *ret);
/* Why the emitter refused something. */
struct refusal group_refusal(struct kurrent *k, const struct group *g, enum emitter_verdict verdict, const char *problem);
void group_refuse(struct kurrent *k, struct gateway_request *call, const struct group *g, enum emitter_verdict verdict,
        const char *problem);
#define GROUP_MALFORMED "the request is malformed or has no options"
/* The emitter, or NULL: the call has been told that it must wait, or `problem` unless that is NULL. */
struct emitter *group_begin(struct kurrent *k, struct gateway_request *call, const char *problem);

#endif
