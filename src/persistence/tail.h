/* The index of one segment in memory: its streams with their runs, and the names of types and categories.
 * Serves reads of an unsealed segment, and is what an index file is written from. */
#ifndef PERSISTENCE_TAIL_H
#define PERSISTENCE_TAIL_H

#include "base/arena.h"
#include "persistence/persistence.h"

/* The events of one stream in one record: revisions first_revision, first_revision + 1, ... */
struct run {
        uint64_t first_revision;
        uint32_t count;
        uint32_t offset8; /* of the record in the segment file, in units of 8 bytes */
};

struct tail_stream {
        uint64_t hash;
        struct bytes name;
        struct run first_run; /* runs rise; a tombstone is the last. Most streams of a segment have one */
        struct run *more_runs;
        uint32_t run_count;
        uint32_t run_capacity;
        uint32_t event_count; /* with the tombstone */
        bool has_events;
        bool is_tombstoned;
        uint64_t last_revision; /* of an event that is no tombstone */
        uint64_t last_position;
};

/* A type or category. */
struct tail_name {
        uint64_t hash;
        struct bytes name;
        uint64_t event_count;
        uint32_t record_count;
        uint32_t last_offset8;
        struct buffer postings; /* delta varints of offset8, one per record; only when asked for */
};

struct tail_table {
        void *items;
        uint32_t *slots; /* ordinal + 1; 0: free */
        uint32_t count;
        uint32_t capacity;
        uint32_t slot_count;
        uint32_t *sorted; /* ordinals by name, as of `sorted_count` names */
        uint32_t sorted_count;
        bool has_collisions; /* two names share a hash */
};

struct tail {
        struct arena names;
        struct tail_table streams; /* of struct tail_stream */
        struct tail_table types;   /* of struct tail_name */
        struct tail_table categories;
        bool with_postings;
        uint64_t runs_size;        /* bytes of all `more_runs` */
        uint32_t last_stream; /* ordinals of the last event's, which the next is likely to share */
        uint32_t last_type;
};

static inline bool tail_has_collisions(const struct tail *tail)
{
        return tail->streams.has_collisions;
}
struct tail *tail_new(bool with_postings);
void tail_free(struct tail **tail); /* NULL is fine */
/* Adds the next event in log order. `offset8` is that of its record. */
void tail_add(struct tail *tail, const struct event_view *event, uint32_t offset8);
/* Adds `count` events of one record that have stream and type of `first` and follow it directly; a tombstone is alone. */
void tail_add_run(struct tail *tail, const struct event_view *first, uint32_t count, uint32_t offset8);
/* Bytes of memory, without postings. */
uint64_t tail_size(const struct tail *tail);
const struct tail_stream *tail_find(const struct tail *tail, struct bytes stream, uint64_t hash);
static inline const struct run *tail_run(const struct tail_stream *s, uint32_t number)
{
        assert(number < s->run_count);
        return number ? &s->more_runs[number - 1] : &s->first_run;
}
/* Ordinals in byte order of names. Valid until the next tail_add. */
const uint32_t *tail_sorted(struct tail *tail, enum persistence_names what, uint32_t *ret_count);
static inline const struct tail_stream *tail_stream_at(const struct tail *tail, uint32_t ordinal)
{
        return (const struct tail_stream *)tail->streams.items + ordinal;
}
static inline const struct tail_name *tail_name_at(const struct tail_table *table, uint32_t ordinal)
{
        return (const struct tail_name *)table->items + ordinal;
}

/* The hash that index entries are sorted by. Names are verified in the record, since hashes collide. */
uint64_t index_hash(struct bytes stream);
/* For tests: keeps only so many bits of the hash, so that collisions are common. 64 at the start. */
void index_hash_set_bits(unsigned bits);

#endif
