/* Frames: what goes over a connection between two nodes. Little-endian.
 *
 *   at size
 *    0    4  length of what follows the sum: 20 + body
 *    4    4  CRC-32C of that
 *    8    2  type
 *   10    2  version of the message
 *   12   16  store uuid
 *   28       body
 *
 * Hello, the first frame in each direction, version 0, no store; later versions add behind the name:
 *    0    4  magic "NILP"
 *    4    2  format, 1
 *    6    1  kind: 0 control, 1 bulk, 2 ask
 *    7    1  size of the name
 *    8   16  cluster uuid
 *   24    8  node id
 *   32    4  epoch
 *   36    2  lowest version of messages
 *   38    2  highest
 *   40    8  instance
 *   48    8  dial
 *   56    8  wanted node
 *   64       name, UTF-8 */
#include "peers/frame.h"

#include <stdio.h>

#include "base/crc32c.h"
#include "model/event.h"

enum {
        SUMMED_AT = 8,
        HELLO_SIZE = 64, /* without the name */
        HELLO_FORMAT = 1,
        HELLO_MAGIC = 'N' | 'I' << 8 | 'L' << 16 | 'P' << 24,
};

static const uint8_t no_store[16];

/* ---- frames ---- */

enum frame_result frame_parse(
        struct bytes in, size_t body_size_max, struct frame *ret, size_t *ret_size, const char **ret_why)
{
        size_t length;

        if (in.size < 4)
                return FRAME_PART;
        /* Before anything is gathered for it: what says it is too large is none of ours, or not meant for
         * now. */
        length = get_u32(in.data);
        if (length < PEERS_FRAME_HEADER_SIZE - SUMMED_AT) {
                *ret_why = "a frame is shorter than its header";
                return FRAME_BAD;
        }
        if (length - (PEERS_FRAME_HEADER_SIZE - SUMMED_AT) > body_size_max) {
                *ret_why = "a frame is larger than what is taken now";
                return FRAME_BAD;
        }
        if (in.size < SUMMED_AT + length)
                return FRAME_PART;
        if (get_u32(in.data + 4) != crc32c(0, in.data + SUMMED_AT, length)) {
                *ret_why = "the sum of a frame is wrong";
                return FRAME_BAD;
        }
        ret->type = get_u16(in.data + 8);
        ret->version = get_u16(in.data + 10);
        ret->store_uuid = in.data + 12;
        ret->body = bytes_of(in.data + PEERS_FRAME_HEADER_SIZE, SUMMED_AT + length - PEERS_FRAME_HEADER_SIZE);
        *ret_size = SUMMED_AT + length;
        return FRAME_WHOLE;
}

void frame_add(struct buffer *out, uint16_t type, uint16_t version, const uint8_t store_uuid[16],
        const struct bytes *pieces, unsigned n)
{
        size_t start = out->size, size = 0;
        uint8_t *header;
        uint32_t sum;
        unsigned i;

        for (i = 0; i < n; i++)
                size += pieces[i].size;
        assert(size <= PEERS_BODY_SIZE_MAX);
        buffer_reserve(out, PEERS_FRAME_HEADER_SIZE + size);
        header = out->data + start;
        put_u32(header, (uint32_t)(PEERS_FRAME_HEADER_SIZE - SUMMED_AT + size));
        put_u16(header + 8, type);
        put_u16(header + 10, version);
        memcpy(header + 12, store_uuid ? store_uuid : no_store, 16);
        sum = crc32c(0, header + SUMMED_AT, PEERS_FRAME_HEADER_SIZE - SUMMED_AT);
        out->size += PEERS_FRAME_HEADER_SIZE;
        for (i = 0; i < n; i++) {
                sum = crc32c(sum, pieces[i].data, pieces[i].size);
                buffer_add_bytes(out, pieces[i]);
        }
        put_u32(header + 4, sum);
}

/* ---- text of strangers ---- */

/* What a stranger calls itself or says is shown in logs: no controls, no half characters. */
static void text_copy(char *to, size_t to_size, struct bytes from)
{
        size_t size = MIN(from.size, to_size - 1), i;

        if (!bytes_is_utf8(from)) {
                for (i = 0; i < size; i++)
                        to[i] = (char)(from.data[i] < 0x80 ? from.data[i] : '?');
        } else {
                while (size < from.size && size > 0 && (from.data[size] & 0xc0) == 0x80)
                        size--; /* cut between characters */
                memcpy(to, from.data, size);
        }
        for (i = 0; i < size; i++)
                if ((uint8_t)to[i] < 0x20 || to[i] == 0x7f)
                        to[i] = '?';
        to[size] = 0;
}

static void uuid_text(const uint8_t uuid[16], char ret[EVENT_ID_TEXT_SIZE + 1])
{
        struct event_id id;

        memcpy(id.bytes, uuid, 16);
        event_id_format(&id, ret);
}

/* ---- hello ---- */

void hello_add(struct buffer *out, const struct hello *hello)
{
        const struct peers_identity *identity = &hello->identity;
        size_t name_size = strnlen(identity->name, PEERS_NAME_SIZE - 1);
        uint8_t body[HELLO_SIZE + PEERS_NAME_SIZE] = {0};
        struct bytes piece = bytes_of(body, HELLO_SIZE + name_size);

        put_u32(body, HELLO_MAGIC);
        put_u16(body + 4, HELLO_FORMAT);
        body[6] = (uint8_t)hello->kind;
        body[7] = (uint8_t)name_size;
        memcpy(body + 8, identity->cluster_uuid, 16);
        put_u64(body + 24, identity->node_id);
        put_u32(body + 32, identity->epoch);
        put_u16(body + 36, identity->version_min);
        put_u16(body + 38, identity->version_max);
        put_u64(body + 40, hello->instance);
        put_u64(body + 48, hello->dial);
        put_u64(body + 56, hello->wanted_node);
        memcpy(body + HELLO_SIZE, identity->name, name_size);
        frame_add(out, FRAME_HELLO, 0, no_store, &piece, 1);
}

bool hello_parse(struct bytes body, struct hello *ret, const char **ret_why)
{
        const uint8_t *at = body.data;

        if (body.size < 6 || get_u32(at) != HELLO_MAGIC) {
                *ret_why = "it is no node of Nilometer";
                return false;
        }
        if (get_u16(at + 4) < HELLO_FORMAT || body.size < HELLO_SIZE || body.size > HELLO_BODY_SIZE_MAX ||
                at[7] >= PEERS_NAME_SIZE || body.size < HELLO_SIZE + (size_t)at[7] || at[6] > HELLO_ASK) {
                *ret_why = "its hello makes no sense";
                return false;
        }
        memset(ret, 0, sizeof *ret);
        ret->kind = at[6];
        memcpy(ret->identity.cluster_uuid, at + 8, 16);
        ret->identity.node_id = get_u64(at + 24);
        ret->identity.epoch = get_u32(at + 32);
        ret->identity.version_min = get_u16(at + 36);
        ret->identity.version_max = get_u16(at + 38);
        ret->instance = get_u64(at + 40);
        ret->dial = get_u64(at + 48);
        ret->wanted_node = get_u64(at + 56);
        text_copy(ret->identity.name, sizeof ret->identity.name, bytes_of(at + HELLO_SIZE, at[7]));
        return true;
}

uint16_t hello_version(const struct hello *a, const struct hello *b)
{
        uint16_t low = MAX(a->identity.version_min, b->identity.version_min);
        uint16_t high = MIN(a->identity.version_max, b->identity.version_max);

        return low <= high ? high : 0;
}

static bool check_versions(const struct hello *own, const struct hello *theirs, char ret_why[WHY_SIZE])
{
        const struct peers_identity *a = &theirs->identity, *b = &own->identity;

        if (hello_version(own, theirs))
                return true;
        snprintf(ret_why, WHY_SIZE, "\"%s\" speaks versions %u to %u, \"%s\" speaks %u to %u", a->name,
                a->version_min, a->version_max, b->name, b->version_min, b->version_max);
        return false;
}

static bool check_cluster(const struct hello *own, const struct hello *theirs, char ret_why[WHY_SIZE])
{
        const struct peers_identity *a = &theirs->identity, *b = &own->identity;
        char their_cluster[EVENT_ID_TEXT_SIZE + 1], own_cluster[EVENT_ID_TEXT_SIZE + 1];

        if (memcmp(a->cluster_uuid, b->cluster_uuid, 16) == 0)
                return true;
        uuid_text(a->cluster_uuid, their_cluster);
        uuid_text(b->cluster_uuid, own_cluster);
        snprintf(ret_why, WHY_SIZE, "\"%s\" is of cluster %s, \"%s\" is of cluster %s", a->name,
                their_cluster, b->name, own_cluster);
        return false;
}

static bool check_proof(const struct hello *theirs, const struct tls_identity *proved, char ret_why[WHY_SIZE])
{
        const struct peers_identity *a = &theirs->identity;

        if (!proved ||
                (proved->node_id == a->node_id && memcmp(proved->cluster_uuid, a->cluster_uuid, 16) == 0))
                return true;
        snprintf(ret_why, WHY_SIZE, "\"%s\" says that it is node %llu, its certificate is of node %llu%s",
                a->name, (unsigned long long)a->node_id, (unsigned long long)proved->node_id,
                memcmp(proved->cluster_uuid, a->cluster_uuid, 16) == 0 ? "" : " of another cluster");
        return false;
}

bool hello_check(const struct hello *own, const struct hello *theirs, const struct tls_identity *proved,
        char ret_why[WHY_SIZE])
{
        const struct peers_identity *a = &theirs->identity, *b = &own->identity;

        if (!check_cluster(own, theirs, ret_why) || !check_proof(theirs, proved, ret_why))
                return false;
        if (theirs->instance == own->instance) {
                snprintf(ret_why, WHY_SIZE, "\"%s\" has connected to itself", b->name);
                return false;
        }
        if (a->node_id == 0 || a->node_id == b->node_id) {
                snprintf(ret_why, WHY_SIZE, "\"%s\" says that it is node %llu, which \"%s\" %s", a->name,
                        (unsigned long long)a->node_id, b->name, a->node_id ? "is" : "takes for no node");
                return false;
        }
        if (theirs->wanted_node && theirs->wanted_node != b->node_id) {
                snprintf(ret_why, WHY_SIZE, "\"%s\" looks for node %llu, \"%s\" is node %llu", a->name,
                        (unsigned long long)theirs->wanted_node, b->name, (unsigned long long)b->node_id);
                return false;
        }
        if (a->epoch != b->epoch) {
                snprintf(ret_why, WHY_SIZE, "\"%s\" is in epoch %u of the cluster, \"%s\" is in epoch %u",
                        a->name, a->epoch, b->name, b->epoch);
                return false;
        }
        return check_versions(own, theirs, ret_why);
}

bool hello_check_asker(const struct hello *own, const struct hello *theirs, const struct tls_identity *proved,
        char ret_why[WHY_SIZE])
{
        static const uint8_t unknown[16];

        /* Who does not know the cluster yet cannot name it; what a certificate says is the engine's to check.
         */
        if (memcmp(theirs->identity.cluster_uuid, unknown, 16) != 0 && !check_cluster(own, theirs, ret_why))
                return false;
        if (theirs->identity.node_id && !check_proof(theirs, proved, ret_why))
                return false;
        return check_versions(own, theirs, ret_why);
}

/* ---- refusals ---- */

void refusal_add(struct buffer *out, enum refusal refusal, const char *why)
{
        uint8_t code[2];
        struct bytes pieces[] = {bytes_of(code, 2), bytes_of(why, strnlen(why, WHY_SIZE - 1))};

        put_u16(code, (uint16_t)refusal);
        frame_add(out, FRAME_REFUSED, 0, no_store, pieces, 2);
}

void refusal_parse(struct bytes body, enum refusal *ret, char ret_why[WHY_SIZE])
{
        unsigned code = body.size >= 2 ? get_u16(body.data) : 0;

        *ret = code == REFUSAL_SUPERFLUOUS || code == REFUSAL_NO_MEMBER ? (enum refusal)code : REFUSAL_WRONG;
        text_copy(ret_why, WHY_SIZE,
                body.size > 2 ? bytes_of(body.data + 2, body.size - 2) : BYTES_LITERAL(""));
}

/* ---- two connections that meet ---- */

bool rival_stays(struct rival newer, struct rival older)
{
        if (newer.is_dialled_by_lower != older.is_dialled_by_lower)
                return newer.is_dialled_by_lower;
        /* The same process has dialled twice: it had given up the one that it dialled first. */
        return newer.dial > older.dial;
}
