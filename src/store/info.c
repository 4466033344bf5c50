/* What stands where: the visible part of a stream, lists of names, figures. */
#include <stdlib.h>

#include "base/memory.h"
#include "store/room.h"

/* The head of the stream that `name` is, or is the metastream of; NULL: a name that no stream can have. */
static int head_of_name(struct store *s, struct bytes name, struct head **ret)
{
        bool is_meta = stream_is_meta(name);
        struct bytes base = is_meta ? stream_of_meta(name) : name;
        int r;

        *ret = NULL;
        if (base.size == 0 || base.size > LIMIT_STREAM_NAME_SIZE_MAX || (is_meta && stream_is_meta(base)))
                return 0;
        r = head_map_get(&s->heads, base, ret);
        return r == PERSISTENCE_CORRUPT ? PERSISTENCE_CORRUPT : fault_fold(r);
}

static enum stream_state state_of(const struct head_state *h)
{
        if (h->is_tombstoned)
                return STREAM_TOMBSTONED;
        if (head_is_soft_deleted(h))
                return STREAM_SOFT_DELETED;
        if (h->next_revision)
                return STREAM_LIVE;
        return h->next_meta_revision ? STREAM_METADATA_ONLY : STREAM_ABSENT;
}

static uint64_t first_visible(const struct head_state *h)
{
        const struct stream_metadata *m = &h->metadata;
        uint64_t by_count =
                m->max_count && h->next_revision > m->max_count ? h->next_revision - m->max_count : 0;

        return MIN(MAX(m->truncate_before, by_count), h->next_revision);
}

static uint64_t oldest_visible_us(struct store *s, const struct head_state *h)
{
        uint64_t age = h->metadata.max_age_seconds;
        uint64_t now = os_wall_us(s->os);

        return age && age < now / 1000000 ? now - age * 1000000 : 0;
}

int stream_visibility(struct store *s, struct bytes name, struct visibility *ret)
{
        struct head *head;
        int r = head_of_name(s, name, &head);

        if (r == PERSISTENCE_CORRUPT)
                return PERSISTENCE_CORRUPT;
        if (r)
                return fault_fold(r);
        *ret = (struct visibility){.state = STREAM_ABSENT};
        if (!head)
                return 0;
        if (!stream_is_meta(name)) {
                *ret = (struct visibility){
                        .state = state_of(&head->committed),
                        .next = head->committed.next_revision,
                        .first = first_visible(&head->committed),
                        .oldest_us = oldest_visible_us(s, &head->committed),
                };
                return 0;
        }
        /* Only the last metadata event counts, and only it is visible (protocol 3.5). */
        ret->next = head->committed.next_meta_revision;
        ret->first = ret->next ? ret->next - 1 : 0;
        if (head->committed.is_tombstoned)
                ret->state = STREAM_TOMBSTONED;
        else if (ret->next)
                ret->state = STREAM_LIVE;
        return 0;
}

int store_stream_info(struct store *s, struct bytes stream, struct store_stream_info *ret)
{
        struct persistence_head found;
        struct visibility v;
        struct head *head;
        int r = stream_visibility(s, stream, &v);

        if (r == PERSISTENCE_CORRUPT)
                return PERSISTENCE_CORRUPT;
        if (r)
                return fault_fold(r);
        *ret = (struct store_stream_info){.state = v.state,
                .has_events = v.next > 0,
                .last_revision = v.next ? v.next - 1 : 0,
                .first_revision = v.first};
        r = head_of_name(s, stream, &head);
        if (!r && head && !stream_is_meta(stream)) {
                ret->metadata = head->committed.metadata;
                ret->has_metadata = head->committed.next_meta_revision > 0;
                ret->metadata_revision = ret->has_metadata ? head->committed.next_meta_revision - 1 : 0;
        }
        if (!r && (v.next || v.state == STREAM_TOMBSTONED)) {
                r = persistence_stream_head(s->persistence, stream, &found);
                if (r == PERSISTENCE_NOT_FOUND) /* the metastream of a stream that was tombstoned without one
                                                 */
                        return 0;
                if (!r)
                        ret->last_position = found.last_position;
        }
        return r == PERSISTENCE_CORRUPT ? PERSISTENCE_CORRUPT : fault_fold(r);
}

uint64_t store_next_position(const struct store *s)
{
        return s->persistence ? persistence_next_position(s->persistence) : 0;
}

bool store_is_ready(const struct store *s)
{
        return s->state == STORE_READY;
}

const char *store_name(const struct store *s)
{
        return s->name;
}

struct persistence *store_persistence(struct store *s)
{
        return s->persistence;
}

/* ---- lists ---- */

/* Names come from the log in pages and are looked at between them: looking up a stream while the log walks
 * its dictionaries would move what it stands on. */
enum { LIST_PAGE = 256 };
struct page {
        struct arena names;
        struct {
                struct bytes name;
                uint64_t event_count;
        } rows[LIST_PAGE];
        unsigned count;
};

static bool add_to_page(void *arg, struct bytes name, uint64_t event_count)
{
        struct page *page = arg;

        page->rows[page->count].name = arena_copy(&page->names, name);
        page->rows[page->count++].event_count = event_count;
        return page->count < LIST_PAGE;
}

static int is_listed(struct store *s, struct bytes name, bool *ret)
{
        struct visibility v;
        int r = stream_visibility(s, name, &v);

        if (r == PERSISTENCE_CORRUPT)
                return PERSISTENCE_CORRUPT;
        *ret = v.state != STREAM_TOMBSTONED && v.state != STREAM_SOFT_DELETED;
        return fault_fold(r);
}

/* Gives the rows of a page; *ret_more: the walk goes on. */
static int give_page(struct store *s, enum persistence_names what, const struct page *page, unsigned *left,
        persistence_each_name *each, void *arg, bool *ret_more)
{
        for (unsigned i = 0; i < page->count; i++) {
                bool is_wanted = true;
                int r = what == NAMES_STREAMS ? is_listed(s, page->rows[i].name, &is_wanted) : 0;

                if (r)
                        return r == PERSISTENCE_CORRUPT ? PERSISTENCE_CORRUPT : fault_fold(r);
                if (!is_wanted)
                        continue;
                --*left;
                if (!each(arg, page->rows[i].name, page->rows[i].event_count) || !*left) {
                        *ret_more = false;
                        return 0;
                }
        }
        *ret_more = page->count == LIST_PAGE;
        return 0;
}

int store_list(struct store *s, enum persistence_names what, struct bytes prefix, struct bytes after,
        unsigned limit, persistence_each_name *each, void *arg)
{
        struct page *page = MEMORY_NEW(struct page);
        struct buffer last = {0};
        bool more = limit > 0;
        int r = 0;

        buffer_add_bytes(&last, after);
        while (more && !r) {
                arena_reset(&page->names);
                page->count = 0;
                r = persistence_list(
                        s->persistence, what, prefix, buffer_bytes(&last), LIST_PAGE, add_to_page, page);
                if (!r)
                        r = give_page(s, what, page, &limit, each, arg, &more);
                if (!r && page->count) {
                        buffer_clear(&last);
                        buffer_add_bytes(&last, page->rows[page->count - 1].name);
                }
                head_map_trim(&s->heads);
        }
        buffer_fini(&last);
        arena_fini(&page->names);
        free(page);
        return r == PERSISTENCE_CORRUPT ? PERSISTENCE_CORRUPT : fault_fold(r);
}

/* ---- figures ---- */

void store_stats(const struct store *s, struct store_stats *ret)
{
        *ret = s->stats;
        ret->heads_cached = s->heads.count;
        ret->heads_size = s->heads.size;
        if (s->raft) {
                ret->commit_index = s->applied_index;
                ret->term = cluster_raft_term(s->raft);
                ret->leader_id = cluster_raft_state(s->raft) == CLUSTER_LEADER
                                         ? persistence_node_identity(s->options.node).node_id
                                         : 0;
        }
        if (s->persistence)
                persistence_stats(s->persistence, &ret->persistence);
}
