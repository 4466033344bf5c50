/* A history that was changed so that every sum in it is right: what only the comparison with other nodes
 * finds (G22). When all is healed, one node goes down, a byte of one of its events is changed, and with it
 * every sum and chain hash from there to the end of its log. It comes back, perhaps with all the others,
 * perhaps as leader, or so late that it or another one must fetch history; within some seconds it must have
 * found out, and in the end it has the log of the others.
 */
#include "room.h"

#include "base/crc32c.h"

enum {
        PATH_SIZE = 320,
        SEGMENTS_MAX = 512,
        HEADER_SIZE = 4096,
        AT_UUID = 48,
        AT_GENERATION = 72,
        AT_CHAIN = 112,
        AT_CRC = HEADER_SIZE - 4,
        FOUND_US_MAX = 30 * 1000 * 1000,
        STEP_US = 50 * 1000,
        WRITING_STEP_US = 5 * 1000,
};

struct segments {
        char names[SEGMENTS_MAX][32];
        unsigned count;
};

/* The walk through the log's files. */
struct rewriting {
        struct node *node;
        const char *log_path;
        uint64_t index; /* the first entry of events at or behind it is changed */
        bool has_begun;
        bool is_damaged; /* something stands there that is not to be understood: nothing is done */
        struct record_chain chain;
};

static int note_segment(void *arg, const char *name, bool is_dir)
{
        struct segments *s = arg;

        (void)is_dir;
        if (strlen(name) == 24 && strcmp(name + 20, ".seg") == 0 && s->count < SEGMENTS_MAX)
                snprintf(s->names[s->count++], sizeof s->names[0], "%.31s", name);
        return 0;
}

/* Ids and revisions are as they were, so readers that look at these notice nothing. */
static bool says_the_same(const struct record_header *h, struct bytes a, struct bytes b)
{
        struct record_events_reader one = {0}, other = {0};
        struct event_view x, y;
        bool is_same = !record_events_open(&one, h, a) && !record_events_open(&other, h, b);
        int r = 0, s = 0;

        while (is_same && !r && !s) {
                r = record_events_next(&one, &x);
                s = record_events_next(&other, &y);
                if (!r && !s)
                        is_same = memcmp(&x.id, &y.id, sizeof x.id) == 0 && x.revision == y.revision &&
                                  bytes_equal(x.stream, y.stream) && bytes_equal(x.type, y.type);
        }
        is_same = is_same && r == RECORD_EVENTS_END && s == RECORD_EVENTS_END && one.time_us == other.time_us;
        record_events_close(&one);
        record_events_close(&other);
        return is_same;
}

static bool change(const struct record_header *h, uint8_t *payload)
{
        struct buffer before = {0};
        bool is_changed = false;

        buffer_add(&before, payload, h->payload_size);
        for (uint32_t i = h->payload_size; i > 0 && !is_changed; i--) {
                payload[i - 1] ^= 1;
                is_changed = says_the_same(h, buffer_bytes(&before), bytes_of(payload, h->payload_size));
                if (!is_changed)
                        payload[i - 1] ^= 1;
        }
        buffer_fini(&before);
        return is_changed;
}

static void rewrite_record(struct rewriting *r, struct record_header *h, uint32_t seed, uint8_t *at)
{
        uint8_t *payload = at + RECORD_HEADER_SIZE;
        struct record_chain before = r->chain;

        if (!r->has_begun && h->kind == RECORD_EVENTS && h->index >= r->index)
                r->has_begun = change(h, payload);
        if (r->has_begun) {
                struct bytes bytes = bytes_of(payload, h->payload_size);

                h->payload_crc = record_payload_crc(seed, bytes);
                if (h->kind == RECORD_WATERMARK)
                        h->chain = before;
                else
                        record_chain_next(&before, h->index, h->term, bytes, &h->chain);
                record_header_encode(h, seed, at);
        }
        r->chain = h->chain;
}

static void rewrite_segment(struct rewriting *r, struct buffer *bytes)
{
        uint32_t seed = record_seed(bytes->data + AT_UUID, get_u32(bytes->data + AT_GENERATION));
        struct record_header h;
        size_t at = HEADER_SIZE;

        if (r->has_begun) {
                memcpy(bytes->data + AT_CHAIN, &r->chain, sizeof r->chain);
                put_u32(bytes->data + AT_CRC, crc32c(0, bytes->data, AT_CRC));
        }
        while (at + RECORD_HEADER_SIZE <= bytes->size &&
                record_header_decode(bytes->data + at, seed, &h) == 0 &&
                at + record_size(h.payload_size) <= bytes->size) {
                if (record_payload_crc(seed,
                            bytes_of(bytes->data + at + RECORD_HEADER_SIZE, h.payload_size)) != h.payload_crc)
                        r->is_damaged = true;
                rewrite_record(r, &h, seed, bytes->data + at);
                at += record_size(h.payload_size);
        }
}

static void replace(struct rewriting *r, const char *name, const struct buffer *bytes)
{
        struct os *os = r->node->os;
        struct os_file *file;
        char path[PATH_SIZE];

        snprintf(path, sizeof path, "%.250s/%s", r->log_path, name);
        if (os_file_open(os, path, OS_OPEN_WRITE, &file) || os_file_write(file, buffer_bytes(bytes), 0) ||
                os_file_sync(file))
                world_fail(r->node->world, "%s cannot be rewritten", path);
        os_file_close(&file);
        memcpy(path + strlen(path) - 3, "idx", 3);
        if (os_remove(os, path) < 0 || os_dir_sync(os, r->log_path))
                world_fail(r->node->world, "%s cannot be removed", path);
}

static void rewrite(struct rewriting *r)
{
        struct segments *s = MEMORY_NEW(struct segments);

        if (os_dir_list(r->node->os, r->log_path, note_segment, s))
                world_fail(r->node->world, "%s cannot be listed", r->log_path);
        for (unsigned i = 0; i < s->count && !r->is_damaged; i++) {
                struct buffer bytes = {0};
                char path[PATH_SIZE];

                snprintf(path, sizeof path, "%.250s/%s", r->log_path, s->names[i]);
                if (os_read_whole(r->node->os, path, 64 * MIB, &bytes) || bytes.size < HEADER_SIZE) {
                        r->is_damaged = true;
                } else {
                        rewrite_segment(r, &bytes);
                        if (r->has_begun && !r->is_damaged)
                                replace(r, s->names[i], &bytes);
                }
                buffer_fini(&bytes);
        }
        free(s);
}

/* ---- a run ---- */

/* A member of whom there is a whole majority besides. NULL: none. */
static struct node *choose_node(struct world *w)
{
        struct node *leader = find_leader(w), *n;
        struct store_cluster_status status;
        unsigned voters = 0;

        if (!leader || w->has_lost)
                return NULL;
        store_cluster_status(leader->store, &status);
        for (unsigned i = 0; i < status.count; i++)
                voters += status.members[i].server.role == CLUSTER_VOTER;
        n = &w->nodes[status.members[choose(w, status.count)].server.node_id - 1];
        return voters >= 3 && n->store && store_is_ready(n->store) && !n->is_lost && !n->is_broken ? n : NULL;
}

void rewriting_act(struct world *w)
{
        struct node *n = w->compares ? choose_node(w) : NULL;
        bool is_left_behind = w->rates.down_us != 0, all_off = one_in(w, 2) && !is_left_behind;
        char log_path[PATH_SIZE];
        struct rewriting r;

        if (!n)
                return;
        snprintf(
                log_path, sizeof log_path, "%.200s/log", persistence_store_path(store_persistence(n->store)));
        r = (struct rewriting){.node = n,
                .log_path = log_path,
                .index = 1 + choose(w, persistence_synced_index(store_persistence(n->store)))};
        if (is_left_behind && one_in(w, 2)) { /* it may lead, and be who gives what is missing */
                bring_down(&w->nodes[(n->number + 1) % w->count], false);
                w->rates.down_us = 0;
        }
        bring_down(n, false);
        if (all_off)
                for (unsigned i = 0; i < w->count; i++)
                        if (w->nodes[i].store)
                                bring_down(&w->nodes[i], false);
        rewrite(&r);
        if (!r.has_begun) /* there was nothing at or behind it */
                return;
        if (r.is_damaged) {
                world_fail(w, "node %u has a damaged log, and nothing was damaged", n->number + 1);
                return;
        }
        world_tell(w, "node %u: its history is another from entry %llu on", n->number + 1,
                (unsigned long long)r.index);
        n->has_other_history = true;
        w->totals->rewritten++;
        for (uint64_t end = os_sim_world_now_us(w->sim) + FOUND_US_MAX;
                n->has_other_history && !w->result->has_failed;) {
                os_sim_world_run_for(w->sim, is_left_behind ? WRITING_STEP_US : STEP_US);
                if (is_left_behind)
                        clients_act(w);
                subscribers_act(w);
                oracles_look(w);
                if (os_sim_world_now_us(w->sim) > end)
                        world_fail(w, "node %u has another history than the others, and nobody finds it",
                                n->number + 1);
        }
}
