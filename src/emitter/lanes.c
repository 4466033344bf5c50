/* Lanes: the events of one stream (or tag, or key of the metadata) in their order.
 *
 * A lane belongs to one consumer while anything of it is in flight there (fencing): only when all of that is
 * finished or has come back may another have the next event. Otherwise the lane goes to the consumer with the
 * highest weight for the lane's group (rendezvous hashing), so a join takes over only the groups that the
 * newcomer wins, and a leave gives away only those that the leaver had. A lane with something pending waits
 * in the heap of its consumer by its first number: one consumer alone gets the order of the log. */
#include <stdlib.h>

#include "base/memory.h"
#include "emitter/delivery.h"

enum { LANE_BUCKETS_MIN = 64 };

void lanes_init(struct delivery *d)
{
        list_init(&d->lanes);
        if (!strategy_has_lanes(d->strategy))
                return;
        d->owners = memory_new_array(LANE_GROUPS, sizeof *d->owners);
        d->size += LANE_GROUPS * sizeof *d->owners;
        d->lane_bucket_count = LANE_BUCKETS_MIN;
        d->lane_buckets = memory_new_array(d->lane_bucket_count, sizeof *d->lane_buckets);
}

void lanes_fini(struct delivery *d)
{
        LIST_EACH_SAFE (at, &d->lanes)
                free(CONTAINER_OF(at, struct lane, link));
        while (d->free_lanes) {
                struct lane *lane = d->free_lanes;

                d->free_lanes = lane->next;
                free(lane);
        }
        free(d->lane_buckets);
        free(d->owners);
}

/* ---- whose lane ---- */

static uint64_t mix(uint64_t h)
{
        h ^= h >> 31;
        h *= 0x9e3779b97f4a7c15ull;
        h ^= h >> 29;
        h *= 0xbf58476d1ce4e5b9ull;
        return h ^ (h >> 32);
}

static uint64_t group_of(uint64_t hash)
{
        return mix(hash) % LANE_GROUPS;
}

static uint64_t weight(const struct slot *slot, uint64_t group)
{
        return mix(slot->seed + mix(group + 1));
}

/* Ties cannot last: the seeds differ. */
static bool is_heavier(const struct slot *a, const struct slot *b, uint64_t group)
{
        uint64_t wa = weight(a, group), wb = weight(b, group);

        return wa != wb ? wa > wb : a->seed > b->seed;
}

struct slot *lanes_owner(struct delivery *d, uint64_t hash)
{
        uint64_t group = group_of(hash);

        if (d->owners[group])
                return d->owners[group];
        LIST_EACH (at, &d->slots) {
                struct slot *slot = CONTAINER_OF(at, struct slot, link);

                if (!slot->is_stalled && (!d->owners[group] || is_heavier(slot, d->owners[group], group)))
                        d->owners[group] = slot;
        }
        return d->owners[group];
}

/* ---- the heap of a slot ---- */

static uint64_t first_number(const struct lane *lane)
{
        return CONTAINER_OF(lane->pending.next, struct message, lane_link)->number;
}

static void heap_put(struct slot *s, struct lane *lane, uint32_t i)
{
        s->ready[i] = lane;
        lane->ready_index = i;
}

static void heap_up(struct slot *s, struct lane *lane)
{
        uint32_t i = lane->ready_index;

        while (i && first_number(lane) < first_number(s->ready[(i - 1) / 2])) {
                heap_put(s, s->ready[(i - 1) / 2], i);
                i = (i - 1) / 2;
        }
        heap_put(s, lane, i);
}

static void heap_down(struct slot *s, struct lane *lane)
{
        uint32_t i = lane->ready_index;

        for (;;) {
                uint32_t child = i * 2 + 1;

                if (child >= s->ready_count)
                        break;
                if (child + 1 < s->ready_count &&
                        first_number(s->ready[child + 1]) < first_number(s->ready[child]))
                        child++;
                if (first_number(s->ready[child]) >= first_number(lane))
                        break;
                heap_put(s, s->ready[child], i);
                i = child;
        }
        heap_put(s, lane, i);
}

static void heap_add(struct slot *s, struct lane *lane)
{
        if (s->ready_count == s->ready_capacity) {
                s->ready_capacity = s->ready_capacity ? s->ready_capacity * 2 : 16;
                s->ready = memory_resize(s->ready, s->ready_capacity * sizeof *s->ready);
        }
        lane->ready_at = s;
        lane->ready_index = s->ready_count++;
        heap_up(s, lane);
}

/* The lane's place in the heap is taken by the last one. The lane's own number is not looked at: it may have
 * none. */
static void heap_remove(struct slot *s, struct lane *lane)
{
        struct lane *last = s->ready[--s->ready_count];

        if (last != lane) {
                heap_put(s, last, lane->ready_index);
                heap_up(s, last);
                heap_down(s, last);
        }
        lane->ready_at = NULL;
}

/* ---- lanes ---- */

static void lanes_grow(struct delivery *d)
{
        uint64_t old_count = d->lane_bucket_count;
        struct lane **old = d->lane_buckets;

        d->lane_bucket_count = old_count * 2;
        d->lane_buckets = memory_new_array(d->lane_bucket_count, sizeof *d->lane_buckets);
        for (uint64_t i = 0; i < old_count; i++)
                while (old[i]) {
                        struct lane *lane = old[i];
                        struct lane **head = &d->lane_buckets[mix(lane->hash) & (d->lane_bucket_count - 1)];

                        old[i] = lane->next;
                        lane->next = *head;
                        *head = lane;
                }
        free(old);
}

static struct lane *lane_get(struct delivery *d, uint64_t hash)
{
        struct lane **head;
        struct lane *lane;

        if (d->lane_count >= d->lane_bucket_count)
                lanes_grow(d);
        head = &d->lane_buckets[mix(hash) & (d->lane_bucket_count - 1)];
        for (lane = *head; lane; lane = lane->next)
                if (lane->hash == hash)
                        return lane;
        lane = d->free_lanes;
        if (lane) {
                d->free_lanes = lane->next;
        } else {
                lane = memory_new(sizeof *lane);
                d->size += sizeof *lane;
        }
        *lane = (struct lane){.hash = hash, .next = *head};
        *head = lane;
        list_init(&lane->pending);
        list_init(&lane->flying);
        list_add_last(&d->lanes, &lane->link);
        d->lane_count++;
        return lane;
}

static void lane_end(struct delivery *d, struct lane *lane)
{
        struct lane **at = &d->lane_buckets[mix(lane->hash) & (d->lane_bucket_count - 1)];

        while (*at != lane)
                at = &(*at)->next;
        *at = lane->next;
        list_remove(&lane->link);
        d->lane_count--;
        lane->next = d->free_lanes;
        d->free_lanes = lane;
}

void lane_settle(struct delivery *d, struct lane *lane)
{
        bool has_pending = !list_is_empty(&lane->pending);
        struct slot *to = NULL;

        if (list_is_empty(&lane->flying))
                lane->owner = NULL;
        if (has_pending)
                to = lane->owner ? lane->owner : lanes_owner(d, lane->hash);
        if (lane->ready_at && lane->ready_at != to)
                heap_remove(lane->ready_at, lane);
        if (to && lane->ready_at) {
                heap_up(to, lane);
                heap_down(to, lane);
        } else if (to) {
                heap_add(to, lane);
        }
        if (!has_pending && !lane->owner)
                lane_end(d, lane);
}

void lane_add_pending(struct delivery *d, struct message *m)
{
        struct lane *lane = lane_get(d, m->lane_hash);
        struct list *at = lane->pending.previous;

        /* What is new comes last; what comes back comes before everything later. */
        while (at != &lane->pending && CONTAINER_OF(at, struct message, lane_link)->number > m->number)
                at = at->previous;
        list_add_first(at, &m->lane_link);
        m->lane = lane;
        lane_settle(d, lane);
}

struct message *lane_take(struct delivery *d, struct slot *slot)
{
        struct lane *lane;
        struct message *m;
        struct list *at;

        if (!slot->ready_count)
                return NULL;
        lane = slot->ready[0];
        assert(!lane->owner || lane->owner == slot);
        m = CONTAINER_OF(lane->pending.next, struct message, lane_link);
        list_remove(&m->lane_link);
        at = lane->flying.previous;
        while (at != &lane->flying && CONTAINER_OF(at, struct message, lane_link)->number > m->number)
                at = at->previous;
        list_add_first(at, &m->lane_link);
        lane->owner = slot;
        lane_settle(d, lane);
        return m;
}

void lane_landed(struct message *m)
{
        list_remove(&m->lane_link);
        m->lane = NULL;
}

/* ---- joins and leaves ---- */

static void settle_all(struct delivery *d)
{
        LIST_EACH_SAFE (at, &d->lanes)
                lane_settle(d, CONTAINER_OF(at, struct lane, link));
}

void lanes_join(struct delivery *d, struct slot *slot)
{
        for (uint64_t g = 0; g < LANE_GROUPS; g++)
                if (d->owners[g] && is_heavier(slot, d->owners[g], g))
                        d->owners[g] = slot;
        settle_all(d);
}

void lanes_leave(struct delivery *d, struct slot *slot)
{
        for (uint64_t g = 0; g < LANE_GROUPS; g++)
                if (d->owners[g] == slot)
                        d->owners[g] = NULL;
        settle_all(d);
}
