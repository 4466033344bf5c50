/* The groups of the match index, and what they are found by. A group is known by the hash of its canonical
 * JSON, and has a key for each name of its selection, all in one table. Beside it stand the lengths that
 * prefixes have and the places that fields stand at, so that an event is probed for no other. */
#include "notification/groups.h"

#include <stdlib.h>

#include "base/memory.h"

enum {
        BUCKETS_MIN = 64,
        PREFIX_LENGTHS = LIMIT_STREAM_NAME_SIZE_MAX + 3,
        PLACES_MAX = 32, /* of fields; each costs a look into every event's data, as much as a match */
};
static_assert(PREFIX_LENGTHS > (int)LIMIT_EVENT_TYPE_SIZE_MAX, "a prefix can be as long as a type");

/* ---- prefixes: which lengths there are ---- */

static void count_length(struct match_lengths *l, size_t length, int change)
{
        unsigned at = 0;

        assert(length < PREFIX_LENGTHS);
        if (!l->counts)
                l->counts = memory_new_array(PREFIX_LENGTHS, sizeof *l->counts);
        l->counts[length] += (uint32_t)change;
        if (l->counts[length] > (change > 0 ? 1u : 0u))
                return;
        while (at < l->count && l->lengths[at] < length)
                at++;
        if (change > 0) {
                l->lengths = memory_resize(l->lengths, (l->count + 1) * sizeof *l->lengths);
                memmove(l->lengths + at + 1, l->lengths + at, (l->count - at) * sizeof *l->lengths);
                l->lengths[at] = (uint16_t)length;
                l->count++;
        } else {
                l->count--;
                memmove(l->lengths + at, l->lengths + at + 1, (l->count - at) * sizeof *l->lengths);
        }
}

/* ---- places of fields ---- */

static bool is_field(enum selector_key kind)
{
        return kind == SELECT_KEY_FIELD || kind == SELECT_KEY_TYPED_FIELD;
}

static struct match_place *find_place(struct match_index *x, struct bytes place)
{
        for (unsigned i = 0; i < x->place_count; i++)
                if (bytes_equal(buffer_bytes(&x->places[i].place), place))
                        return &x->places[i];
        return NULL;
}

/* False: there are too many places already. */
static bool hold_place(struct match_index *x, struct bytes place)
{
        struct match_place *p = find_place(x, place);

        if (!p) {
                if (x->place_count == PLACES_MAX)
                        return false;
                if (!x->places)
                        x->places = memory_new_array(PLACES_MAX, sizeof *x->places);
                p = &x->places[x->place_count++];
                *p = (struct match_place){0};
                buffer_add_bytes(&p->place, place);
        }
        p->count++;
        return true;
}

static void release_place(struct match_index *x, struct bytes place)
{
        struct match_place *p = find_place(x, place);

        if (--p->count > 0)
                return;
        buffer_fini(&p->place);
        *p = x->places[--x->place_count];
}

/* ---- keys ---- */

static struct match_lengths *lengths_of(struct match_index *x, enum selector_key kind)
{
        if (kind == SELECT_KEY_STREAM_PREFIXES)
                return &x->stream_lengths;
        return kind == SELECT_KEY_TYPE_PREFIXES ? &x->type_lengths : NULL;
}

static void grow_keys(struct match_index *x)
{
        size_t capacity = x->key_capacity ? x->key_capacity * 2 : BUCKETS_MIN;
        struct match_key **buckets = memory_new_array(capacity, sizeof(struct match_key *));

        free(x->key_filter);
        x->key_filter = memory_new_array(capacity / BUCKETS_PER_WORD, sizeof *x->key_filter);
        for (size_t i = 0; i < x->key_capacity; i++) {
                for (struct match_key *k = x->keys[i], *next; k; k = next) {
                        size_t at = k->hash & (capacity - 1);

                        next = k->next;
                        k->next = buckets[at];
                        buckets[at] = k;
                        x->key_filter[at / BUCKETS_PER_WORD] |= key_bits(k->hash);
                }
        }
        free(x->keys);
        x->keys = buckets;
        x->key_capacity = capacity;
}

static void add_key(struct match_index *x, struct match_key *k)
{
        size_t at;

        if (x->key_count >= x->key_capacity)
                grow_keys(x);
        at = k->hash & (x->key_capacity - 1);
        k->next = x->keys[at];
        x->keys[at] = k;
        x->key_filter[at / BUCKETS_PER_WORD] |= key_bits(k->hash);
        x->key_count++;
        if (k->group->way == BY_KEY)
                x->keys_of_kind[k->group->kind]++;
}

static void remove_key(struct match_index *x, struct match_key *k)
{
        size_t bucket = k->hash & (x->key_capacity - 1);
        size_t first = bucket - bucket % BUCKETS_PER_WORD;
        struct match_key **at = &x->keys[bucket];
        uint64_t bits = 0;

        while (*at != k)
                at = &(*at)->next;
        *at = k->next;
        for (size_t i = 0; i < BUCKETS_PER_WORD; i++)
                for (const struct match_key *other = x->keys[first + i]; other; other = other->next)
                        bits |= key_bits(other->hash);
        x->key_filter[bucket / BUCKETS_PER_WORD] = bits;
        x->key_count--;
        if (k->group->way == BY_KEY)
                x->keys_of_kind[k->group->kind]--;
}

/* ---- groups ---- */

static void grow_groups(struct match_index *x)
{
        size_t capacity = x->group_capacity ? x->group_capacity * 2 : BUCKETS_MIN;
        struct match_group **buckets = memory_new_array(capacity, sizeof(struct match_group *));

        for (size_t i = 0; i < x->group_capacity; i++) {
                for (struct match_group *g = x->groups[i], *next; g; g = next) {
                        next = g->next;
                        g->next = buckets[g->hash & (capacity - 1)];
                        buckets[g->hash & (capacity - 1)] = g;
                }
        }
        free(x->groups);
        x->groups = buckets;
        x->group_capacity = capacity;
}

struct match_group *match_group_find(const struct match_index *x, uint64_t hash, struct bytes json)
{
        struct match_group *g = x->group_capacity ? x->groups[hash & (x->group_capacity - 1)] : NULL;

        while (g && (g->hash != hash || !bytes_equal(selector_json(g->selector), json)))
                g = g->next;
        return g;
}

static enum match_way find_way(struct match_index *x, const struct selector *selector, enum selector_key key)
{
        enum selector_kind kind = selector_kind(selector);

        if (kind == SELECT_ALL || kind == SELECT_STREAM)
                return BY_FACT;
        if (key == SELECT_KEY_NONE)
                return BY_EACH;
        return !is_field(key) || hold_place(x, selector_field_place(selector)) ? BY_KEY : BY_EACH;
}

static void enter_keys(struct match_index *x, struct match_group *g, const struct bytes *names)
{
        struct match_lengths *lengths = lengths_of(x, g->kind);

        for (unsigned i = 0; i < g->key_count; i++) {
                g->keys[i] = (struct match_key){
                        .hash = key_hash(g->kind, name_hash(names[i])), .group = g, .name = i};
                add_key(x, &g->keys[i]);
                if (lengths)
                        count_length(lengths, names[i].size, 1);
        }
}

struct match_group *match_group_new(struct match_index *x, struct selector *selector, uint64_t hash)
{
        const struct bytes *names;
        unsigned count;
        enum selector_key key = selector_keys(selector, &names, &count);
        enum match_way way = find_way(x, selector, key);
        struct match_group *g;

        if (way == BY_EACH)
                count = 0;
        g = memory_new(sizeof *g + count * sizeof g->keys[0]);
        g->hash = hash;
        g->selector = selector;
        g->kind = key;
        g->key_count = count;
        g->way = way;
        list_init(&g->members);
        list_init(&g->waiting);
        list_init(&g->matched);
        if (x->group_count >= x->group_capacity)
                grow_groups(x);
        g->next = x->groups[hash & (x->group_capacity - 1)];
        x->groups[hash & (x->group_capacity - 1)] = g;
        x->group_count++;
        /* First of the rest: those before the mark have been asked about the event at hand, which is none of
         * the new one's. */
        list_add_first(&x->ways[g->way], &g->link);
        enter_keys(x, g, names);
        if (selector_kind(selector) == SELECT_ALL)
                x->everything = g;
        return g;
}

void match_group_free(struct match_index *x, struct match_group *g)
{
        struct match_group **at = &x->groups[g->hash & (x->group_capacity - 1)];
        struct match_lengths *lengths = lengths_of(x, g->kind);
        const struct bytes *names;
        unsigned count;

        assert(list_is_empty(&g->matched));
        selector_keys(g->selector, &names, &count);
        for (unsigned i = 0; i < g->key_count; i++) {
                remove_key(x, &g->keys[i]);
                if (lengths)
                        count_length(lengths, names[i].size, -1);
        }
        if (is_field(g->kind) && g->way == BY_KEY)
                release_place(x, selector_field_place(g->selector));
        while (*at != g)
                at = &(*at)->next;
        *at = g->next;
        x->group_count--;
        list_remove(&g->link);
        if (x->everything == g)
                x->everything = NULL;
        free(g);
}
