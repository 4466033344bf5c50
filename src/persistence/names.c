/* Lists of names: a merge of the sorted dictionaries of all sealed segments and of the sorted names of the
 * tails. */
#include <stdlib.h>

#include "base/memory.h"
#include "persistence/commit.h"

/* One sorted source: a dictionary or a tail. */
struct names_source {
        struct index_names names; /* of a dictionary; index NULL: a tail */
        struct tail *tail;
        size_t segment;
        uint32_t next; /* in the tail */
        struct bytes name;
        uint64_t event_count;
        bool is_at_end;
};

static int source_advance(struct persistence *p, struct names_source *s, enum persistence_names what)
{
        const uint32_t *sorted;
        uint32_t count;
        int r;

        if (s->names.index) {
                r = index_names_next(&s->names);
                s->is_at_end = r == INDEX_ABSENT;
                s->name = s->names.name;
                s->event_count = s->names.event_count;
                if (r == INDEX_CORRUPT) {
                        log_index_damaged(p, s->segment);
                        return PERSISTENCE_CORRUPT;
                }
                return r < 0 ? r : 0;
        }
        sorted = tail_sorted(s->tail, what, &count);
        s->is_at_end = s->next == count;
        if (s->is_at_end)
                return 0;
        if (what == NAMES_STREAMS) {
                s->name = tail_stream_at(s->tail, sorted[s->next])->name;
                s->event_count = tail_stream_at(s->tail, sorted[s->next])->event_count;
        } else {
                const struct tail_name *n = tail_name_at(
                        what == NAMES_TYPES ? &s->tail->types : &s->tail->categories, sorted[s->next]);

                s->name = n->name;
                s->event_count = n->event_count;
        }
        s->next++;
        return 0;
}

/* Opens the source of a segment at its first name that is wanted. */
static int source_open(struct persistence *p, struct names_source *s, size_t number,
        enum persistence_names what, struct bytes prefix, struct bytes after)
{
        struct log_segment *segment = p->segments[number];
        struct bytes from = bytes_compare(prefix, after) > 0 ? prefix : after;
        int r = 0;

        *s = (struct names_source){.segment = number, .tail = segment->tail};
        if (segment->index) {
                r = index_names_open(&s->names, segment->index, p->cache, what, from);
                if (r == INDEX_CORRUPT) {
                        log_index_damaged(p, number);
                        return PERSISTENCE_CORRUPT;
                }
        } else if (!segment->tail) {
                s->is_at_end = true;
                return 0;
        }
        if (!r)
                r = source_advance(p, s, what);
        while (!r && !s->is_at_end &&
                (bytes_compare(s->name, prefix) < 0 || (after.size && bytes_compare(s->name, after) <= 0)))
                r = source_advance(p, s, what);
        return r;
}

/* The least name of all sources, with the sum of its events; every source that had it moves on. */
static int merge_next(struct persistence *p, struct names_source *sources, size_t count,
        enum persistence_names what, struct buffer *name, uint64_t *event_count, bool *found)
{
        const struct names_source *least = NULL;
        size_t i;
        int r = 0;

        for (i = 0; i < count; i++)
                if (!sources[i].is_at_end && (!least || bytes_compare(sources[i].name, least->name) < 0))
                        least = &sources[i];
        *found = least;
        if (!least)
                return 0;
        buffer_clear(name);
        buffer_add_bytes(name, least->name);
        *event_count = 0;
        for (i = 0; i < count && !r; i++) {
                if (sources[i].is_at_end || !bytes_equal(sources[i].name, buffer_bytes(name)))
                        continue;
                *event_count += sources[i].event_count;
                r = source_advance(p, &sources[i], what);
        }
        return r;
}

int persistence_list(struct persistence *p, enum persistence_names what, struct bytes prefix,
        struct bytes after, unsigned limit, persistence_each_name *each, void *arg)
{
        struct names_source *sources = memory_new_array(p->segment_count, sizeof sources[0]);
        struct buffer name = {0};
        uint64_t event_count;
        bool found = true;
        size_t i;
        int r = 0;

        for (i = 0; i < p->segment_count && !r; i++)
                r = source_open(p, &sources[i], i, what, prefix, after);
        for (; !r && limit > 0; limit--) {
                r = merge_next(p, sources, p->segment_count, what, &name, &event_count, &found);
                if (r || !found || !bytes_starts_with(buffer_bytes(&name), prefix))
                        break;
                if (!each(arg, buffer_bytes(&name), event_count))
                        break;
        }
        for (i = 0; i < p->segment_count; i++)
                index_names_close(&sources[i].names);
        buffer_fini(&name);
        free(sources);
        return r;
}
