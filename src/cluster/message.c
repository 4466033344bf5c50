/* Messages between the engines of one store, as bytes.
 *
 * All numbers are little-endian. Byte 0: the type. Bytes 1-8: the sender's term. Then by type:
 *
 *     1 request vote    candidate u64, last index u64, last term u64, flags u8 (1 disrupts the leader, 2
 * pre-vote) 2 vote            flags u8 (1 granted, 2 pre-vote) 3 append          previous index u64, previous
 * term u64, commit index u64, count of entries u32 4 append result   rejected u64, last index u64 5 install
 * last index u64, last term u64, configuration index u64, size of the configuration u32, configuration 6
 * timeout now     last index u64, last term u64 7 probe           nonce u64 8 probe result    nonce u64,
 * flags u8 (1 confirmed)
 *
 * Unknown flags are an error: who does not know them would do something else than the sender meant. What
 * stands behind is the caller's: the entries of an append. */
#include "cluster/cluster.h"

/* A configuration of the most members with the longest addresses, and room. */
enum { CONFIGURATION_SIZE_MAX = 16 * 1024 };
static_assert(CLUSTER_MEMBERS_MAX * (CLUSTER_ADDRESS_SIZE + 9) + 16 < CONFIGURATION_SIZE_MAX, "any fits");

enum { FLAG_FIRST = 1, FLAG_SECOND = 2 };

void cluster_message_encode(const struct cluster_message *m, struct buffer *out)
{
        buffer_add_u8(out, (uint8_t)m->type);
        buffer_add_u64(out, m->term);
        switch (m->type) {
        case CLUSTER_REQUEST_VOTE:
                buffer_add_u64(out, m->request_vote.candidate_id);
                buffer_add_u64(out, m->request_vote.last_index);
                buffer_add_u64(out, m->request_vote.last_term);
                buffer_add_u8(out, (uint8_t)((m->request_vote.disrupts_leader ? FLAG_FIRST : 0) |
                                             (m->request_vote.is_pre_vote ? FLAG_SECOND : 0)));
                break;
        case CLUSTER_VOTE:
                buffer_add_u8(out, (uint8_t)((m->vote.is_granted ? FLAG_FIRST : 0) |
                                             (m->vote.is_pre_vote ? FLAG_SECOND : 0)));
                break;
        case CLUSTER_APPEND:
                buffer_add_u64(out, m->append.previous_index);
                buffer_add_u64(out, m->append.previous_term);
                buffer_add_u64(out, m->append.commit_index);
                buffer_add_u32(out, m->append.entry_count);
                break;
        case CLUSTER_APPEND_RESULT:
                buffer_add_u64(out, m->append_result.rejected);
                buffer_add_u64(out, m->append_result.last_index);
                break;
        case CLUSTER_INSTALL:
                assert(m->install.configuration.size <= CONFIGURATION_SIZE_MAX);
                buffer_add_u64(out, m->install.last_index);
                buffer_add_u64(out, m->install.last_term);
                buffer_add_u64(out, m->install.configuration_index);
                buffer_add_u32(out, (uint32_t)m->install.configuration.size);
                buffer_add_bytes(out, m->install.configuration);
                break;
        case CLUSTER_TIMEOUT_NOW:
                buffer_add_u64(out, m->timeout_now.last_index);
                buffer_add_u64(out, m->timeout_now.last_term);
                break;
        case CLUSTER_PROBE:
                buffer_add_u64(out, m->probe.nonce);
                break;
        case CLUSTER_PROBE_RESULT:
                buffer_add_u64(out, m->probe.nonce);
                buffer_add_u8(out, m->probe.is_confirmed ? FLAG_FIRST : 0);
                break;
        }
}

/* Takes from the front; once there was too little nothing more is taken, and `is_short` says so. */
struct reader {
        struct bytes left;
        bool is_short;
};

static struct bytes take(struct reader *r, size_t size)
{
        struct bytes taken = {r->left.data, size};

        if (r->is_short || r->left.size < size) {
                r->is_short = true;
                return BYTES_EMPTY;
        }
        r->left.data += size;
        r->left.size -= size;
        return taken;
}

static uint64_t take_u64(struct reader *r)
{
        struct bytes b = take(r, 8);

        return b.size ? get_u64(b.data) : 0;
}

static uint32_t take_u32(struct reader *r)
{
        struct bytes b = take(r, 4);

        return b.size ? get_u32(b.data) : 0;
}

static uint8_t take_u8(struct reader *r)
{
        struct bytes b = take(r, 1);

        return b.size ? b.data[0] : 0;
}

static bool take_flags(struct reader *r, bool *ret_first, bool *ret_second)
{
        uint8_t flags = take_u8(r);

        *ret_first = flags & FLAG_FIRST;
        if (ret_second)
                *ret_second = flags & FLAG_SECOND;
        return !(flags & ~(FLAG_FIRST | (ret_second ? FLAG_SECOND : 0)));
}

static bool take_install(struct reader *r, struct cluster_message *m)
{
        uint32_t size;

        m->install.last_index = take_u64(r);
        m->install.last_term = take_u64(r);
        m->install.configuration_index = take_u64(r);
        size = take_u32(r);
        if (size > CONFIGURATION_SIZE_MAX)
                return false;
        m->install.configuration = take(r, size);
        return true;
}

static bool take_body(struct reader *r, struct cluster_message *m)
{
        switch (m->type) {
        case CLUSTER_REQUEST_VOTE:
                m->request_vote.candidate_id = take_u64(r);
                m->request_vote.last_index = take_u64(r);
                m->request_vote.last_term = take_u64(r);
                return take_flags(r, &m->request_vote.disrupts_leader, &m->request_vote.is_pre_vote);
        case CLUSTER_VOTE:
                return take_flags(r, &m->vote.is_granted, &m->vote.is_pre_vote);
        case CLUSTER_APPEND:
                m->append.previous_index = take_u64(r);
                m->append.previous_term = take_u64(r);
                m->append.commit_index = take_u64(r);
                m->append.entry_count = take_u32(r);
                return true;
        case CLUSTER_APPEND_RESULT:
                m->append_result.rejected = take_u64(r);
                m->append_result.last_index = take_u64(r);
                return true;
        case CLUSTER_INSTALL:
                return take_install(r, m);
        case CLUSTER_TIMEOUT_NOW:
                m->timeout_now.last_index = take_u64(r);
                m->timeout_now.last_term = take_u64(r);
                return true;
        case CLUSTER_PROBE:
                m->probe.nonce = take_u64(r);
                return true;
        case CLUSTER_PROBE_RESULT:
                m->probe.nonce = take_u64(r);
                return take_flags(r, &m->probe.is_confirmed, NULL);
        }
        return false;
}

int cluster_message_decode(struct bytes bytes, struct cluster_message *ret, struct bytes *ret_rest)
{
        struct reader r = {bytes, false};
        struct cluster_message m = {.type = (enum cluster_message_type)take_u8(&r)};

        m.term = take_u64(&r);
        if (!take_body(&r, &m) || r.is_short)
                return CLUSTER_INVALID;
        *ret = m;
        *ret_rest = r.left;
        return 0;
}
