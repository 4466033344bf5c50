/* Messages: memory for them, the span of the log that they cover, those in flight by id, those to be given
 * again by number. Each is O(1) or O(log n), and none costs an allocation of its own. */
#include <stdlib.h>

#include "base/memory.h"
#include "emitter/delivery.h"

enum { MESSAGES_PER_BLOCK = 16, SPAN_CAPACITY_MIN = 64, ID_BUCKETS_MIN = 64 };

struct message_block {
        struct message_block *next;
        struct message messages[MESSAGES_PER_BLOCK];
};

void messages_init(struct delivery *d)
{
        list_init(&d->fresh);
        list_init(&d->due);
        list_init(&d->parking);
        list_init(&d->loads);
}

void messages_fini(struct delivery *d)
{
        while (d->message_blocks) {
                struct message_block *b = d->message_blocks;

                d->message_blocks = b->next;
                for (unsigned i = 0; i < MESSAGES_PER_BLOCK; i++)
                        free(b->messages[i].reason);
                free(b);
        }
        free(d->span.places);
        free(d->ids);
        free(d->retries);
        free(d->replayed);
}

struct message *message_new(struct delivery *d)
{
        struct message *m;

        if (!d->free_messages) {
                struct message_block *b = MEMORY_NEW(struct message_block);

                b->next = d->message_blocks;
                d->size += sizeof *b;
                d->message_blocks = b;
                for (unsigned i = MESSAGES_PER_BLOCK; i-- > 0;) {
                        b->messages[i].next_by_id = d->free_messages;
                        d->free_messages = &b->messages[i];
                }
        }
        m = d->free_messages;
        d->free_messages = m->next_by_id;
        *m = (struct message){.parked = NOT_REPLAYED};
        list_init(&m->link);
        list_init(&m->lane_link);
        list_init(&m->due_link);
        list_init(&m->load_link);
        return m;
}

void message_free(struct delivery *d, struct message *m)
{
        assert(!m->payload);
        assert(m->lane_link.next == &m->lane_link);
        list_remove(&m->link);
        list_remove(&m->due_link);
        list_remove(&m->load_link);
        free(m->reason);
        m->reason = NULL;
        m->next_by_id = d->free_messages;
        d->free_messages = m;
}

/* ---- the span ---- */

static void span_grow(struct span *s)
{
        uint64_t capacity = s->capacity ? s->capacity * 2 : SPAN_CAPACITY_MIN;
        struct message **places = memory_new_array(capacity, sizeof *places);

        for (uint64_t i = s->first; i < s->next; i++)
                places[i & (capacity - 1)] = s->places[i & (s->capacity - 1)];
        free(s->places);
        s->places = places;
        s->capacity = capacity;
}

void span_push(struct span *s, struct message *m)
{
        if (span_size(s) == s->capacity)
                span_grow(s);
        m->place = s->next;
        s->places[s->next & (s->capacity - 1)] = m;
        s->next++;
}

void span_finish(struct span *s, uint64_t place)
{
        assert(place >= s->first && place < s->next);
        assert(s->places[place & (s->capacity - 1)]);
        s->places[place & (s->capacity - 1)] = NULL;
        while (s->first < s->next && !s->places[s->first & (s->capacity - 1)])
                s->first++;
}

/* ---- ids of what is flying ---- */

static uint64_t id_bucket(const struct delivery *d, const struct event_id *id)
{
        /* Clients choose ids: both halves take part, so that a pattern in one does no harm. */
        uint64_t h = get_u64(id->bytes) * 0x9e3779b97f4a7c15ull;

        h = (h ^ get_u64(id->bytes + 8) ^ (h >> 29)) * 0xbf58476d1ce4e5b9ull;
        return (h >> 20) & (d->id_buckets - 1);
}

static void ids_grow(struct delivery *d)
{
        uint64_t old_count = d->id_buckets;
        struct message **old = d->ids;

        d->id_buckets = old_count ? old_count * 2 : ID_BUCKETS_MIN;
        d->ids = memory_new_array(d->id_buckets, sizeof *d->ids);
        for (uint64_t i = 0; i < old_count; i++)
                while (old[i]) {
                        struct message *m = old[i];
                        struct message **head = &d->ids[id_bucket(d, &m->id)];

                        old[i] = m->next_by_id;
                        m->next_by_id = *head;
                        *head = m;
                }
        free(old);
}

void flying_add(struct delivery *d, struct message *m)
{
        struct message **head;

        if (d->flying_count >= d->id_buckets)
                ids_grow(d);
        head = &d->ids[id_bucket(d, &m->id)];
        m->next_by_id = *head;
        *head = m;
}

void flying_remove(struct delivery *d, struct message *m)
{
        struct message **at = &d->ids[id_bucket(d, &m->id)];

        while (*at != m)
                at = &(*at)->next_by_id;
        *at = m->next_by_id;
        m->next_by_id = NULL;
}

struct message *flying_find(const struct delivery *d, const struct slot *slot, const struct event_id *id)
{
        struct message *found = NULL;

        if (!d->id_buckets)
                return NULL;
        for (struct message *m = d->ids[id_bucket(d, id)]; m; m = m->next_by_id)
                if (m->slot == slot && m->is_given && event_id_equal(&m->id, id) &&
                        (!found || m->number < found->number))
                        found = m;
        return found;
}

/* ---- the retry queue: a heap by number ---- */

static bool is_before(const struct message *a, const struct message *b)
{
        return a->number < b->number;
}

void retries_push(struct delivery *d, struct message *m)
{
        uint32_t i = d->retrying_count;

        if (i == d->retries_capacity) {
                d->retries_capacity = i ? i * 2 : 16;
                d->retries = memory_resize(d->retries, d->retries_capacity * sizeof *d->retries);
        }
        d->retrying_count++;
        m->is_retry = true;
        while (i && is_before(m, d->retries[(i - 1) / 2])) {
                d->retries[i] = d->retries[(i - 1) / 2];
                i = (i - 1) / 2;
        }
        d->retries[i] = m;
}

struct message *retries_first(const struct delivery *d)
{
        return d->retrying_count && d->retries ? d->retries[0] : NULL;
}

void retries_pop(struct delivery *d)
{
        struct message *last;
        uint32_t count, i = 0;

        assert(d->retrying_count > 0);
        d->retries[0]->is_retry = false;
        count = --d->retrying_count;
        if (!count)
                return;
        last = d->retries[count];
        for (;;) {
                uint32_t child = i * 2 + 1;

                if (child >= count)
                        break;
                if (child + 1 < count && is_before(d->retries[child + 1], d->retries[child]))
                        child++;
                if (!is_before(d->retries[child], last))
                        break;
                d->retries[i] = d->retries[child];
                i = child;
        }
        d->retries[i] = last;
}
