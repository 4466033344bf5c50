#include "persistence/tail.h"

#include <stdlib.h>

#include "base/memory.h"

enum { TAIL_SLOTS_MIN = 64, TAIL_RUNS_MIN = 2 };

static uint64_t hash_mask = UINT64_MAX;

uint64_t index_hash(struct bytes stream)
{
        return name_hash(stream) & hash_mask;
}

void index_hash_set_bits(unsigned bits)
{
        assert(bits >= 1 && bits <= 64);
        hash_mask = bits == 64 ? UINT64_MAX : ((uint64_t)1 << bits) - 1;
}

/* ---- tables of names ---- */

/* Both kinds of items begin with hash and name. */
struct tail_item {
        uint64_t hash;
        struct bytes name;
};
static_assert(
        offsetof(struct tail_stream, hash) == 0 && offsetof(struct tail_stream, name) == 8, "a tail_item");
static_assert(offsetof(struct tail_name, hash) == 0 && offsetof(struct tail_name, name) == 8, "a tail_item");

static struct tail_item *table_item(const struct tail_table *t, size_t item_size, uint32_t ordinal)
{
        return (struct tail_item *)(void *)((char *)t->items + item_size * ordinal);
}

static uint32_t table_slot(const struct tail_table *t, uint64_t hash)
{
        /* The hash may have few bits in tests; the multiplication spreads what there is. */
        return (uint32_t)((hash * 0x9e3779b97f4a7c15u) >> 32) & (t->slot_count - 1);
}

static void table_place(struct tail_table *t, size_t item_size, uint64_t hash, uint32_t ordinal)
{
        uint32_t slot = table_slot(t, hash);

        while (t->slots[slot]) {
                if (table_item(t, item_size, t->slots[slot] - 1)->hash == hash)
                        t->has_collisions = true;
                slot = (slot + 1) & (t->slot_count - 1);
        }
        t->slots[slot] = ordinal + 1;
}

static void table_grow(struct tail_table *t, size_t item_size)
{
        uint32_t i;

        if (t->count == t->capacity) {
                uint32_t capacity = t->capacity ? t->capacity * 2 : TAIL_SLOTS_MIN / 2;

                t->items = memory_resize(t->items, item_size * capacity);
                memset((char *)t->items + item_size * t->capacity, 0, item_size * (capacity - t->capacity));
                t->capacity = capacity;
        }
        if ((t->count + 1) * 2 > t->slot_count) {
                t->slot_count = t->slot_count ? t->slot_count * 2 : TAIL_SLOTS_MIN;
                free(t->slots);
                t->slots = memory_new_array(t->slot_count, sizeof t->slots[0]);
                for (i = 0; i < t->count; i++)
                        table_place(t, item_size, table_item(t, item_size, i)->hash, i);
        }
}

/* UINT32_MAX when absent. */
static uint32_t table_find(const struct tail_table *t, size_t item_size, struct bytes name, uint64_t hash)
{
        uint32_t slot;

        if (!t->slot_count)
                return UINT32_MAX;
        for (slot = table_slot(t, hash); t->slots[slot]; slot = (slot + 1) & (t->slot_count - 1)) {
                const struct tail_item *item = table_item(t, item_size, t->slots[slot] - 1);

                if (item->hash == hash && bytes_equal(item->name, name))
                        return t->slots[slot] - 1;
        }
        return UINT32_MAX;
}

static uint32_t table_add(
        struct tail_table *t, size_t item_size, struct arena *names, struct bytes name, uint64_t hash)
{
        uint32_t ordinal = table_find(t, item_size, name, hash);
        struct tail_item *item;

        if (ordinal != UINT32_MAX)
                return ordinal;
        table_grow(t, item_size);
        ordinal = t->count++;
        item = table_item(t, item_size, ordinal);
        item->hash = hash;
        item->name = arena_copy(names, name);
        table_place(t, item_size, hash, ordinal);
        return ordinal;
}

static void table_fini(struct tail_table *t)
{
        free(t->items);
        free(t->slots);
        free(t->sorted);
}

/* ---- the tail ---- */

struct tail *tail_new(bool with_postings)
{
        struct tail *tail = MEMORY_NEW(struct tail);

        tail->with_postings = with_postings;
        tail->last_stream = UINT32_MAX;
        tail->last_type = UINT32_MAX;
        return tail;
}

static void free_postings(struct tail_table *t)
{
        uint32_t i;

        for (i = 0; i < t->count; i++)
                buffer_fini(&((struct tail_name *)t->items)[i].postings);
}

void tail_free(struct tail **tail)
{
        struct tail *t = *tail;
        uint32_t i;

        if (!t)
                return;
        for (i = 0; i < t->streams.count; i++)
                free(((struct tail_stream *)t->streams.items)[i].more_runs);
        free_postings(&t->types);
        free_postings(&t->categories);
        table_fini(&t->streams);
        table_fini(&t->types);
        table_fini(&t->categories);
        arena_fini(&t->names);
        free(t);
        *tail = NULL;
}

static void stream_add(struct tail *tail, struct tail_stream *s, const struct event_view *first,
        uint32_t count, uint32_t offset8)
{
        struct run *last = s->run_count > 1 ? &s->more_runs[s->run_count - 2] : &s->first_run;

        s->event_count += count;
        s->last_position = first->position + count - 1;
        if (first->revision == REVISION_MAX) {
                s->is_tombstoned = true;
        } else {
                s->has_events = true;
                s->last_revision = first->revision + count - 1;
        }
        if (s->run_count && last->offset8 == offset8 &&
                first->revision == last->first_revision + last->count) {
                last->count += count;
                return;
        }
        if (s->run_count > s->run_capacity) { /* of more_runs */
                tail->runs_size -= s->run_capacity * sizeof s->more_runs[0];
                s->run_capacity = s->run_capacity ? s->run_capacity * 2 : TAIL_RUNS_MIN;
                tail->runs_size += s->run_capacity * sizeof s->more_runs[0];
                s->more_runs = memory_resize(s->more_runs, s->run_capacity * sizeof s->more_runs[0]);
        }
        *(s->run_count ? &s->more_runs[s->run_count - 1] : &s->first_run) =
                (struct run){first->revision, count, offset8};
        s->run_count++;
}

static void name_add(struct tail *tail, struct tail_name *n, uint32_t count, uint32_t offset8)
{
        n->event_count += count;
        if (n->record_count && n->last_offset8 == offset8)
                return;
        if (tail->with_postings)
                buffer_add_varint(&n->postings, offset8 - n->last_offset8);
        n->last_offset8 = offset8;
        n->record_count++;
}

void tail_add_run(struct tail *tail, const struct event_view *first, uint32_t count, uint32_t offset8)
{
        struct tail_stream *stream;
        struct bytes category;

        assert(count > 0);
        assert(first->revision != REVISION_MAX || count == 1);
        if (tail->last_stream == UINT32_MAX ||
                !bytes_equal(tail_stream_at(tail, tail->last_stream)->name, first->stream))
                tail->last_stream = table_add(&tail->streams, sizeof(struct tail_stream), &tail->names,
                        first->stream, index_hash(first->stream));
        stream = (struct tail_stream *)tail->streams.items + tail->last_stream;
        stream_add(tail, stream, first, count, offset8);
        if (tail->last_type == UINT32_MAX ||
                !bytes_equal(tail_name_at(&tail->types, tail->last_type)->name, first->type))
                tail->last_type = table_add(&tail->types, sizeof(struct tail_name), &tail->names, first->type,
                        name_hash(first->type));
        name_add(tail, (struct tail_name *)tail->types.items + tail->last_type, count, offset8);
        category = stream_category(first->stream);
        if (category.size) {
                uint32_t ordinal = table_add(&tail->categories, sizeof(struct tail_name), &tail->names,
                        category, name_hash(category));

                name_add(tail, (struct tail_name *)tail->categories.items + ordinal, count, offset8);
        }
}

void tail_add(struct tail *tail, const struct event_view *event, uint32_t offset8)
{
        tail_add_run(tail, event, 1, offset8);
}

static uint64_t table_size(const struct tail_table *t, size_t item_size)
{
        return item_size * t->capacity + sizeof t->slots[0] * t->slot_count +
               sizeof t->sorted[0] * t->sorted_count;
}

uint64_t tail_size(const struct tail *tail)
{
        return tail->names.used + tail->runs_size + table_size(&tail->streams, sizeof(struct tail_stream)) +
               table_size(&tail->types, sizeof(struct tail_name)) +
               table_size(&tail->categories, sizeof(struct tail_name));
}

const struct tail_stream *tail_find(const struct tail *tail, struct bytes stream, uint64_t hash)
{
        uint32_t ordinal = table_find(&tail->streams, sizeof(struct tail_stream), stream, hash);

        return ordinal == UINT32_MAX ? NULL : tail_stream_at(tail, ordinal);
}

struct sort_context {
        const struct tail_table *table;
        size_t item_size;
};

static int compare_names(const void *a, const void *b, void *arg)
{
        const struct sort_context *c = arg;

        return bytes_compare(table_item(c->table, c->item_size, *(const uint32_t *)a)->name,
                table_item(c->table, c->item_size, *(const uint32_t *)b)->name);
}

const uint32_t *tail_sorted(struct tail *tail, enum persistence_names what, uint32_t *ret_count)
{
        struct tail_table *t = what == NAMES_STREAMS ? &tail->streams
                               : what == NAMES_TYPES ? &tail->types
                                                     : &tail->categories;
        struct sort_context context = {
                t, what == NAMES_STREAMS ? sizeof(struct tail_stream) : sizeof(struct tail_name)};
        uint32_t i;

        if (t->sorted_count != t->count) {
                t->sorted = memory_resize(t->sorted, t->count * sizeof t->sorted[0]);
                for (i = 0; i < t->count; i++)
                        t->sorted[i] = i;
                qsort_r(t->sorted, t->count, sizeof t->sorted[0], compare_names, &context);
                t->sorted_count = t->count;
        }
        *ret_count = t->count;
        return t->sorted;
}
