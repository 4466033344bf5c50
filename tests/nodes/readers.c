/* Readers that follow: a stream, or everything, on any node, across changes of leaders. What they are given
 * comes in order and without a gap, is the same everywhere, and is there in the end. */
#include "room.h"

enum { GIVEN_MAX = 60 }; /* in a turn */

struct follower {
        struct list link;
        struct world *world;
        struct node *node;
        struct store_reader *reader; /* NULL: not opened yet */
        unsigned stream;             /* STREAMS: everything */
        uint64_t next;
        bool is_waiting, is_posted, is_over;
};

static void follower_free(struct follower *f)
{
        list_remove(&f->link);
        free(f);
}

static void on_ready(void *arg)
{
        struct follower *f = arg;

        f->is_waiting = false;
}

static void open(struct follower *f)
{
        struct store_read_options options = {
                .stream = f->stream == STREAMS ? BYTES_EMPTY : bytes_of_string(stream_names[f->stream]),
                .from = FROM_NUMBER,
                .number = f->next,
                .limit = UINT64_MAX,
                .is_follow = true,
                .on_ready = one_in(f->world, 2) ? on_ready : NULL,
                .arg = f};
        int r = store_reader_open(f->node->store, &options, &f->reader);

        if (r && !f->node->may_fail && !f->node->is_flipped)
                world_fail(f->world, "node %u: a reader does not open: %d", f->node->number + 1, r);
}

static void take(struct follower *f, const struct event_view *e)
{
        uint64_t number = f->stream == STREAMS ? e->position : e->revision;

        f->world->totals->followed++;
        if (number != f->next)
                world_fail(f->world, "node %u: a reader of %s is given %llu where %llu should come",
                        f->node->number + 1, f->stream == STREAMS ? "everything" : stream_names[f->stream],
                        (unsigned long long)number, (unsigned long long)f->next);
        f->next = number + 1;
        oracles_note_event(f->world, f->node, e);
}

/* False: it is over. */
static bool read_some(struct follower *f)
{
        struct store_read_item item;
        int r = 0;

        for (unsigned n = 0; n < GIVEN_MAX && !r; n++) {
                r = store_reader_next(f->reader, &item);
                if (!r)
                        take(f, &item.event);
        }
        f->is_waiting = r == STORE_READ_WAIT;
        if (!r || r == STORE_READ_END || r == STORE_READ_WAIT || r == STORE_READ_YIELD)
                return true;
        if (!f->node->may_fail && !f->node->is_flipped)
                world_fail(f->world, "node %u: a reader ends with %d", f->node->number + 1, r);
        return false;
}

static void on_turn(void *arg)
{
        struct follower *f = arg;
        bool goes_on = true;

        f->is_posted = false;
        if (f->is_over) {
                follower_free(f);
                return;
        }
        if (!f->node->store || f->node->is_doomed || f->is_waiting)
                return;
        if (!f->reader)
                open(f);
        if (f->reader)
                goes_on = read_some(f) && !one_in(f->world, 200);
        if (!f->reader || !goes_on) {
                store_reader_close(&f->reader);
                follower_free(f);
        }
}

static void begin(struct world *w)
{
        struct node *n = &w->nodes[choose(w, w->count)];
        struct follower *f;
        uint64_t end;

        if (!n->store || !store_is_ready(n->store) || n->is_paused || n->is_doomed)
                return;
        f = MEMORY_NEW(struct follower);
        *f = (struct follower){.world = w, .node = n, .stream = (unsigned)choose(w, STREAMS + 2)};
        f->stream = MIN(f->stream, STREAMS);
        end = f->stream == STREAMS ? store_next_position(n->store) : 0;
        f->next = end && one_in(w, 2) ? choose(w, end + 1) : 0;
        list_init(&f->link);
        list_add_last(&w->readers, &f->link);
}

void readers_act(struct world *w)
{
        unsigned count = 0;

        LIST_EACH (at, &w->readers) {
                struct follower *f = CONTAINER_OF(at, struct follower, link);

                count++;
                if (f->is_posted || !one_in(w, 8))
                        continue;
                f->is_posted = true;
                os_post(f->node->os, on_turn, f);
        }
        if (count < READERS_MAX && one_in(w, 10))
                begin(w);
}

static void end_all(struct world *w, const struct node *n, bool closes)
{
        LIST_EACH_SAFE (at, &w->readers) {
                struct follower *f = CONTAINER_OF(at, struct follower, link);

                if (f->node != n)
                        continue;
                if (closes)
                        store_reader_close(&f->reader);
                /* A turn that is posted finds it on its way out. */
                if (closes && f->is_posted)
                        f->is_over = true;
                else
                        follower_free(f);
        }
}

void readers_node_gone(struct world *w, struct node *n)
{
        end_all(w, n, false);
}

void readers_node_closes(struct world *w, struct node *n)
{
        end_all(w, n, true);
}
