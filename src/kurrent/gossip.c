/* Gossip/Read: the members of the cluster, with what clients choose by. Until its store takes requests a node
 * is no leader, so that clients which look for one ask again. */
#include <stdio.h>

#include "kurrent/gossip.pb-c.h"
#include "kurrent/room.h"

typedef EventStore__Client__Gossip__MemberInfo__VNodeState wire_state;

static const wire_state states[MEMBERSHIP_STATES] = {
        [MEMBERSHIP_INITIALIZING] = EVENT_STORE__CLIENT__GOSSIP__MEMBER_INFO__VNODE_STATE__Initializing,
        [MEMBERSHIP_UNKNOWN] = EVENT_STORE__CLIENT__GOSSIP__MEMBER_INFO__VNODE_STATE__Unknown,
        [MEMBERSHIP_DISCOVER_LEADER] = EVENT_STORE__CLIENT__GOSSIP__MEMBER_INFO__VNODE_STATE__DiscoverLeader,
        [MEMBERSHIP_CATCHING_UP] = EVENT_STORE__CLIENT__GOSSIP__MEMBER_INFO__VNODE_STATE__CatchingUp,
        [MEMBERSHIP_FOLLOWER] = EVENT_STORE__CLIENT__GOSSIP__MEMBER_INFO__VNODE_STATE__Follower,
        [MEMBERSHIP_LEADER] = EVENT_STORE__CLIENT__GOSSIP__MEMBER_INFO__VNODE_STATE__Leader,
        [MEMBERSHIP_READ_ONLY_LEADERLESS] =
                EVENT_STORE__CLIENT__GOSSIP__MEMBER_INFO__VNODE_STATE__ReadOnlyLeaderless,
        [MEMBERSHIP_READ_ONLY_REPLICA] =
                EVENT_STORE__CLIENT__GOSSIP__MEMBER_INFO__VNODE_STATE__ReadOnlyReplica,
};

/* One member, and room for the messages in it. */
struct told_member {
        EventStore__Client__Gossip__MemberInfo info;
        EventStore__Client__Gossip__EndPoint end_point;
        EventStore__Client__UUID id;
        EventStore__Client__UUID__Structured halves;
        char host[MEMBERSHIP_HOST_SIZE];
};

static void tell(struct kurrent *k, const struct membership_node *n, struct told_member *t)
{
        struct event_id instance;

        memcpy(instance.bytes, n->instance, sizeof(instance.bytes));
        event_store__client__uuid__structured__init(&t->halves);
        event_id_to_halves(&instance, &t->halves.most_significant_bits, &t->halves.least_significant_bits);
        event_store__client__uuid__init(&t->id);
        t->id.value_case = EVENT_STORE__CLIENT__UUID__VALUE_STRUCTURED;
        t->id.structured = &t->halves;
        memcpy(t->host, n->host, sizeof(t->host));
        event_store__client__gossip__end_point__init(&t->end_point);
        t->end_point.address = t->host;
        t->end_point.port = n->port;
        event_store__client__gossip__member_info__init(&t->info);
        t->info.instance_id = &t->id;
        t->info.time_stamp = (int64_t)(os_turn_time(k->os).wall_us * 10);
        t->info.state = states[n->state];
        t->info.is_alive = n->is_alive;
        t->info.http_end_point = &t->end_point;
}

/* Before the data directory is open, and where nobody else can be: this node. */
static unsigned look(struct kurrent *k, struct membership_node nodes[CLUSTER_MEMBERS_MAX])
{
        if (k->membership)
                return membership_nodes(k->membership, nodes, CLUSTER_MEMBERS_MAX);
        nodes[0] = (struct membership_node){.is_alive = true,
                .state = gateway_store(k->gateway) ? MEMBERSHIP_LEADER : MEMBERSHIP_INITIALIZING,
                .port = gateway_port(k->gateway)};
        memcpy(nodes[0].instance, k->node_uuid, sizeof(nodes[0].instance));
        snprintf(nodes[0].host, sizeof(nodes[0].host), "%s", k->host);
        return 1;
}

static void on_message(void *arg, struct gateway_request *call, struct bytes message)
{
        struct kurrent *k = arg;
        struct membership_node nodes[CLUSTER_MEMBERS_MAX];
        struct told_member told[CLUSTER_MEMBERS_MAX];
        EventStore__Client__Gossip__MemberInfo *members[CLUSTER_MEMBERS_MAX];
        EventStore__Client__Gossip__ClusterInfo answer;
        unsigned count = look(k, nodes);

        (void)message; /* empty, whatever is in it */
        event_store__client__gossip__cluster_info__init(&answer);
        answer.members = members;
        for (unsigned i = 0; i < count; i++) {
                /* Nobody can use a member whose address for clients was never heard. */
                if (!*nodes[i].host)
                        continue;
                tell(k, &nodes[i], &told[answer.n_members]);
                members[answer.n_members] = &told[answer.n_members].info;
                answer.n_members++;
        }
        message_answer(call, &answer.base);
}

void gossip_method(struct kurrent *k, struct gateway_method *ret)
{
        (void)k;
        *ret = (struct gateway_method){
                .service = "event_store.client.gossip.Gossip",
                .name = "Read",
                .features = "",
                .access = ACCESS_ANYONE,
                .message_size_max = SMALL_MESSAGE_SIZE_MAX,
                .when_not_ready = true,
                .on_message = on_message,
        };
}
