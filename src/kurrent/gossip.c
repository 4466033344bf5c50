/* Gossip/Read: the one node there is. Until its store takes requests it is no leader, so that clients which
 * look for one ask again. */
#include "kurrent/gossip.pb-c.h"
#include "kurrent/room.h"

static void on_message(void *arg, struct gateway_request *call, struct bytes message)
{
        struct kurrent *k = arg;
        EventStore__Client__Gossip__ClusterInfo answer;
        EventStore__Client__Gossip__MemberInfo member;
        EventStore__Client__Gossip__MemberInfo *members[] = {&member};
        EventStore__Client__Gossip__EndPoint end_point;
        EventStore__Client__UUID id;
        EventStore__Client__UUID__Structured halves;
        struct event_id node;

        (void)message; /* empty, whatever is in it */
        memcpy(node.bytes, k->node_uuid, sizeof(node.bytes));
        event_store__client__uuid__structured__init(&halves);
        event_id_to_halves(&node, &halves.most_significant_bits, &halves.least_significant_bits);
        event_store__client__uuid__init(&id);
        id.value_case = EVENT_STORE__CLIENT__UUID__VALUE_STRUCTURED;
        id.structured = &halves;
        event_store__client__gossip__end_point__init(&end_point);
        end_point.address = k->host;
        end_point.port = gateway_port(k->gateway);
        event_store__client__gossip__member_info__init(&member);
        member.instance_id = &id;
        member.time_stamp = (int64_t)(os_turn_time(k->os).wall_us * 10);
        member.state = gateway_store(k->gateway)
                               ? EVENT_STORE__CLIENT__GOSSIP__MEMBER_INFO__VNODE_STATE__Leader
                               : EVENT_STORE__CLIENT__GOSSIP__MEMBER_INFO__VNODE_STATE__Initializing;
        member.is_alive = 1;
        member.http_end_point = &end_point;
        event_store__client__gossip__cluster_info__init(&answer);
        answer.n_members = 1;
        answer.members = members;
        message_answer(call, &answer.base);
}

void gossip_method(struct kurrent *k, struct gateway_method *ret)
{
        (void)k;
        *ret = (struct gateway_method){
                .service = "event_store.client.gossip.Gossip",
                .name = "Read",
                .features = "",
                .message_size_max = SMALL_MESSAGE_SIZE_MAX,
                .when_not_ready = true,
                .on_message = on_message,
        };
}
