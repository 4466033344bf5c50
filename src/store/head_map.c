/* The hot map of heads. A head speaks of a stream and of its metastream at once, since no append can be
 * decided without both. What is not here is found in the log's index; what is in flight is always here.
 *
 * The buckets are made once for the whole limit: a growing table would stop the loop for as long as it moves.
 */
#include <stdlib.h>

#include "base/memory.h"
#include "store/room.h"

/* A head with a name of usual length; only for the number of buckets. */
enum { HEAD_USUAL_SIZE = 320, HEAD_BUCKETS_MIN = 1024 };

void head_map_init(struct head_map *m, uint64_t size_max)
{
        *m = (struct head_map){.size_max = size_max, .bucket_count = HEAD_BUCKETS_MIN};
        while (m->bucket_count < size_max / HEAD_USUAL_SIZE)
                m->bucket_count *= 2;
        m->buckets = memory_new_array(m->bucket_count, sizeof(*m->buckets));
        list_init(&m->lru);
}

static uint64_t head_size(const struct head *h)
{
        return sizeof(*h) + h->name_size + h->soft_body.size;
}

static void head_free(struct head_map *m, struct head *h)
{
        m->count--;
        m->size -= head_size(h);
        free((void *)h->soft_body.data);
        free(h);
}

void head_map_fini(struct head_map *m)
{
        for (uint64_t i = 0; i < m->bucket_count; i++) {
                while (m->buckets[i]) {
                        struct head *h = m->buckets[i];

                        m->buckets[i] = h->next;
                        head_free(m, h);
                }
        }
        free(m->buckets);
        buffer_fini(&m->scratch);
        *m = (struct head_map){0};
}

void head_keep_body(struct head_map *m, struct head *h, struct bytes body)
{
        uint8_t *copy = NULL;

        if (body.size) {
                copy = memory_new(body.size);
                memcpy(copy, body.data, body.size);
        }
        m->size -= h->soft_body.size;
        free((void *)h->soft_body.data);
        h->soft_body = bytes_of(copy, body.size);
        m->size += h->soft_body.size;
}

/* The newest metadata event decides; one that is not JSON counts as empty. */
static int load_metadata(struct head_map *m, struct head *h, struct bytes metastream)
{
        struct persistence_reader_options options = {
                .is_backward = true,
                .stream = metastream,
                .from = h->committed.next_meta_revision - 1,
        };
        struct persistence_reader *reader = NULL;
        struct event_view event;
        int r;

        r = persistence_reader_open(m->persistence, &options, &reader);
        if (!r)
                r = persistence_reader_next(reader, &event);
        if (!r && event.content_type == CONTENT_JSON) {
                h->committed.metadata = stream_metadata_parse(event.data);
                if (head_is_soft_deleted(&h->committed))
                        head_keep_body(m, h, event.data);
        }
        persistence_reader_close(&reader);
        if (r == PERSISTENCE_CORRUPT)
                return PERSISTENCE_CORRUPT;
        return fault_fold(r);
}

static int load(struct head_map *m, struct head *h)
{
        struct persistence_head found;
        struct bytes metastream;
        int r;

        r = persistence_stream_head(m->persistence, head_name(h), &found);
        if (r == PERSISTENCE_CORRUPT)
                return PERSISTENCE_CORRUPT;
        if (r && r != PERSISTENCE_NOT_FOUND)
                return fault_fold(r);
        if (!r) {
                h->committed.next_revision = found.has_events ? found.revision + 1 : 0;
                h->committed.is_tombstoned = found.is_tombstoned;
        }
        buffer_clear(&m->scratch);
        buffer_add_string(&m->scratch, "$$");
        buffer_add_bytes(&m->scratch, head_name(h));
        metastream = buffer_bytes(&m->scratch);
        r = persistence_stream_head(m->persistence, metastream, &found);
        if (r == PERSISTENCE_NOT_FOUND || (!r && !found.has_events))
                return 0;
        if (r == PERSISTENCE_CORRUPT)
                return PERSISTENCE_CORRUPT;
        if (r)
                return fault_fold(r);
        h->committed.next_meta_revision = found.revision + 1;
        r = load_metadata(m, h, metastream);
        return r == PERSISTENCE_CORRUPT ? PERSISTENCE_CORRUPT : fault_fold(r);
}

static int load_anew(struct head_map *m, struct head *h)
{
        int r;

        h->committed = (struct head_state){0};
        if (h->soft_body.data)
                head_keep_body(m, h, BYTES_EMPTY);
        r = load(m, h);
        if (r)
                return r == PERSISTENCE_CORRUPT ? PERSISTENCE_CORRUPT : fault_fold(r);
        h->is_outdated = false;
        if (!h->in_flight)
                h->latest = h->committed;
        return 0;
}

int head_map_get(struct head_map *m, struct bytes base, struct head **ret)
{
        uint64_t hash = name_hash(base);
        struct head **bucket = &m->buckets[hash & (m->bucket_count - 1)];
        struct head *h;
        int r;

        for (h = *bucket; h; h = h->next) {
                if (h->hash != hash || !bytes_equal(head_name(h), base))
                        continue;
                if (h->is_outdated && (r = load_anew(m, h)))
                        return r == PERSISTENCE_CORRUPT ? PERSISTENCE_CORRUPT : fault_fold(r);
                if (!h->in_flight) {
                        list_remove(&h->lru);
                        list_add_last(&m->lru, &h->lru);
                }
                *ret = h;
                return 0;
        }
        h = memory_new(sizeof(*h) + base.size);
        h->hash = hash;
        h->name_size = (uint32_t)base.size;
        memcpy(h->name, base.data, base.size);
        m->count++;
        m->size += head_size(h);
        r = load(m, h);
        if (r) {
                head_free(m, h);
                return r == PERSISTENCE_CORRUPT ? PERSISTENCE_CORRUPT : fault_fold(r);
        }
        h->latest = h->committed;
        h->next = *bucket;
        *bucket = h;
        list_init(&h->lru);
        list_add_last(&m->lru, &h->lru);
        *ret = h;
        return 0;
}

void head_map_trim(struct head_map *m)
{
        while (m->size > m->size_max && !list_is_empty(&m->lru)) {
                struct head *h = CONTAINER_OF(m->lru.next, struct head, lru);
                struct head **link = &m->buckets[h->hash & (m->bucket_count - 1)];

                assert(!h->in_flight);
                while (*link != h)
                        link = &(*link)->next;
                *link = h->next;
                list_remove(&h->lru);
                head_free(m, h);
        }
}

void head_map_outdate(struct head_map *m, struct bytes base)
{
        uint64_t hash = name_hash(base);

        for (struct head *h = m->buckets[hash & (m->bucket_count - 1)]; h; h = h->next)
                if (h->hash == hash && bytes_equal(head_name(h), base))
                        h->is_outdated = true;
}

/* Nothing is in flight there any more: what it knows is what is committed. */
static void settle_head(struct head_map *m, struct head *h)
{
        h->latest = h->committed;
        list_add_last(&m->lru, &h->lru);
}

void head_begin_change(struct head_map *m, struct head *h, struct pending *by, const struct head_state *after)
{
        assert(after->next_revision >= h->latest.next_revision);
        assert(after->next_meta_revision >= h->latest.next_meta_revision);
        h->latest = *after;
        h->newest = by;
        h->in_flight++;
        list_remove(&h->lru);
        if (!head_is_soft_deleted(after) && h->soft_body.data)
                head_keep_body(m, h, BYTES_EMPTY);
}

void head_end_change(struct head_map *m, struct head *h, struct pending *by, const struct head_state *after)
{
        assert(h->in_flight > 0);
        assert(after->next_revision >= h->committed.next_revision);
        h->committed = *after;
        h->in_flight--;
        if (h->newest == by)
                h->newest = NULL;
        /* The newest one may have been dropped while others are in flight: then nothing new is decided here
         * before they are. */
        assert(h->in_flight || !h->newest);
        if (!h->in_flight)
                settle_head(m, h);
}

void head_drop_change(struct head_map *m, struct head *h, struct pending *by)
{
        assert(h->in_flight > 0);
        h->in_flight--;
        if (h->newest == by)
                h->newest = NULL;
        /* A body that this change, or one behind it, took or gave is read again from the log. */
        h->is_outdated = true;
        if (!h->in_flight)
                settle_head(m, h);
}
