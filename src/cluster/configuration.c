/* Configurations: who is a member, in which role, where.
 *
 * The payload is the library's own encoding, since the library reads it itself: version u8 = 1, count u64,
 * then per server id u64, address with its NUL, role u8 (0 stand-by, 1 voter, 2 spare); zeros up to a
 * multiple of eight. The library trusts what it reads, so nothing reaches it that was not checked here. */
#include <errno.h>

#include "cluster/room.h"

enum { FORMAT = 1 };

static const uint8_t library_role[] = {[CLUSTER_VOTER] = RAFT_VOTER, [CLUSTER_STANDBY] = RAFT_STANDBY};

int cluster_configuration_encode(const struct cluster_configuration *configuration, struct buffer *out)
{
        size_t begin = out->size;

        if (!configuration->count || configuration->count > CLUSTER_MEMBERS_MAX)
                return fault_raise(-EINVAL);
        buffer_add_u8(out, FORMAT);
        buffer_add_u64(out, configuration->count);
        for (unsigned i = 0; i < configuration->count; i++) {
                const struct cluster_server *s = &configuration->servers[i];

                buffer_add_u64(out, s->node_id);
                buffer_add(out, s->address, strlen(s->address) + 1);
                buffer_add_u8(out, library_role[s->role]);
        }
        while ((out->size - begin) % 8)
                buffer_add_u8(out, 0);
        return 0;
}

static bool decode_server(const uint8_t **at, const uint8_t *end, struct cluster_server *ret)
{
        const uint8_t *nul;

        if (end - *at < 8 + 1 + 1)
                return false;
        ret->node_id = get_u64(*at);
        *at += 8;
        nul = memchr(*at, 0, (size_t)(end - *at));
        if (!nul || nul - *at >= CLUSTER_ADDRESS_SIZE || end - nul < 2)
                return false;
        memcpy(ret->address, *at, (size_t)(nul - *at) + 1);
        *at = nul + 2;
        if (nul[1] != RAFT_VOTER && nul[1] != RAFT_STANDBY)
                return false;
        ret->role = nul[1] == RAFT_VOTER ? CLUSTER_VOTER : CLUSTER_STANDBY;
        return true;
}

int cluster_configuration_decode(struct bytes bytes, struct cluster_configuration *ret)
{
        const uint8_t *at = bytes.data, *end = at + bytes.size;
        unsigned voters = 0;
        uint64_t count;

        if (bytes.size < 9 || *at != FORMAT)
                return CLUSTER_INVALID;
        count = get_u64(at + 1);
        at += 9;
        if (!count || count > CLUSTER_MEMBERS_MAX)
                return CLUSTER_INVALID;
        ret->count = (unsigned)count;
        for (unsigned i = 0; i < ret->count; i++) {
                struct cluster_server *s = &ret->servers[i];

                if (!decode_server(&at, end, s) || !s->node_id)
                        return CLUSTER_INVALID;
                if (i && s->node_id <= ret->servers[i - 1].node_id)
                        return CLUSTER_INVALID;
                for (unsigned j = 0; j < i; j++)
                        if (strcmp(s->address, ret->servers[j].address) == 0)
                                return CLUSTER_INVALID;
                voters += s->role == CLUSTER_VOTER;
        }
        return voters ? 0 : CLUSTER_INVALID;
}

int cluster_configuration_single(uint64_t node_id, const char *address, struct buffer *out)
{
        struct cluster_configuration one = {
                .count = 1, .servers = {{.node_id = node_id, .role = CLUSTER_VOTER}}};
        size_t size = strlen(address) + 1;

        if (size > sizeof(one.servers[0].address))
                return fault_raise(-ENAMETOOLONG);
        memcpy(one.servers[0].address, address, size);
        return cluster_configuration_encode(&one, out);
}

int cluster_configuration_for_library(struct bytes payload, struct raft_configuration *ret)
{
        struct cluster_configuration checked;
        struct raft_buffer buffer = {.base = (void *)payload.data, .len = payload.size};

        raft_configuration_init(ret);
        if (cluster_configuration_decode(payload, &checked) || raft_configuration_decode(&buffer, ret))
                return CLUSTER_INVALID;
        return 0;
}

void cluster_configuration_from_library(
        const struct raft_configuration *from, struct cluster_configuration *ret)
{
        assert(from->n <= CLUSTER_MEMBERS_MAX);
        ret->count = from->n;
        for (unsigned i = 0; i < from->n; i++) {
                struct cluster_server *s = &ret->servers[i];

                s->node_id = from->servers[i].id;
                s->role = from->servers[i].role == RAFT_VOTER ? CLUSTER_VOTER : CLUSTER_STANDBY;
                assert(strlen(from->servers[i].address) < sizeof(s->address));
                memcpy(s->address, from->servers[i].address, strlen(from->servers[i].address) + 1);
        }
}

const struct cluster_server *cluster_configuration_find(
        const struct cluster_configuration *in, uint64_t node_id)
{
        for (unsigned i = 0; i < in->count; i++)
                if (in->servers[i].node_id == node_id)
                        return &in->servers[i];
        return NULL;
}

int cluster_configuration_copy(const struct raft_configuration *from, struct raft_configuration *ret)
{
        raft_configuration_init(ret);
        for (unsigned i = 0; i < from->n; i++) {
                const struct raft_server *s = &from->servers[i];

                if (raft_configuration_add(ret, s->id, s->address, s->role)) {
                        raft_configuration_close(ret);
                        return fault_raise(-ENOMEM);
                }
        }
        return 0;
}

static bool is_voter_of(const struct raft_configuration *in, uint64_t node_id)
{
        for (unsigned i = 0; i < in->n; i++)
                if (in->servers[i].id == node_id)
                        return in->servers[i].role == RAFT_VOTER;
        return false;
}

/* A first configuration, and the one with which one voter becomes three, promote nobody: their voters have
 * them before they begin. */
void cluster_note_change(struct cluster_raft *c, const struct raft_configuration *before, uint64_t index)
{
        const struct raft_configuration *now = &c->raft.configuration;
        unsigned promoted = 0;
        uint64_t id = 0;

        cluster_note_growth(c, cluster_count_voters(before), cluster_count_voters(now), index);
        for (unsigned i = 0; i < now->n; i++) {
                if (now->servers[i].role == RAFT_VOTER && !is_voter_of(before, now->servers[i].id)) {
                        promoted++;
                        id = now->servers[i].id;
                }
        }
        if (promoted != 1 || before->n == 0)
                return;
        c->promoted_id = id;
        c->promotion_index = index;
}
