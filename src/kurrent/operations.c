/* Operations: what an operator does with this node. Everything that KurrentDB has and this server has nothing
 * for (scavenges, merging of indexes, priorities of nodes) is not registered: clients hear UNIMPLEMENTED and
 * do not find it announced, instead of a success that means nothing. */
#include "kurrent/operations.pb-c.h"
#include "kurrent/room.h"

#define OPERATIONS_SERVICE "event_store.client.operations.Operations"

static void answer(struct gateway_request *call)
{
        EventStore__Client__Empty empty = EVENT_STORE__CLIENT__EMPTY__INIT;

        message_answer(call, &empty.base);
}

/* ---- Shutdown ---- */

static void on_shutdown(void *arg, struct gateway_request *call, struct bytes message)
{
        struct kurrent *k = arg;

        (void)message; /* empty, whatever is in it */
        answer(call);
        k->shut_down(k->arg);
}

/* ---- ResignNode ---- */

struct resigning {
        struct kurrent *kurrent;
        struct gateway_request *call;
};

static void on_handed_over(void *arg)
{
        struct resigning *r = arg;

        if (!gateway_call_is_over(r->call)) {
                if (membership_is_leading(r->kurrent->membership))
                        gateway_call_end(r->call, GRPC_FAILED_PRECONDITION,
                                "this node still leads: no other voter is there that can take over");
                else
                        answer(r->call);
        }
        gateway_call_release(r->call);
}

static void on_resign(void *arg, struct gateway_request *call, struct bytes message)
{
        struct kurrent *k = arg;
        struct resigning *r;

        (void)message;
        if (!k->membership) {
                gateway_call_end(call, GRPC_UNAVAILABLE, "the nodes are not known yet; try again");
                return;
        }
        r = arena_get(gateway_arena(call), sizeof(*r));
        *r = (struct resigning){.kurrent = k, .call = call};
        gateway_call_hold(call);
        if (membership_is_leading(k->membership))
                membership_hand_over(k->membership, on_handed_over, r);
        else
                on_handed_over(r); /* it is as it was asked for */
}

/* ---- methods ---- */

static struct gateway_method method_of(
        const char *name, void (*on_message)(void *arg, struct gateway_request *call, struct bytes message))
{
        return (struct gateway_method){
                .service = OPERATIONS_SERVICE,
                .name = name,
                .features = "",
                .access = ACCESS_OPS,
                .message_size_max = SMALL_MESSAGE_SIZE_MAX,
                .on_message = on_message,
        };
}

void shutdown_method(struct kurrent *k, struct gateway_method *ret)
{
        (void)k;
        *ret = method_of("Shutdown", on_shutdown);
}

void resign_method(struct kurrent *k, struct gateway_method *ret)
{
        (void)k;
        *ret = method_of("ResignNode", on_resign);
}

/* The same as PersistentSubscriptions/RestartSubsystem, under the name that operators know. */
void restart_groups_method(struct kurrent *k, struct gateway_method *ret)
{
        group_restart_method(k, ret);
        ret->service = OPERATIONS_SERVICE;
        ret->name = "RestartPersistentSubscriptions";
        ret->features = "";
}
