/* The match index: who waits for which events.
 *
 * Waits with equal selections (one canonical JSON) form a group, and only groups are matched. What is told:
 *   - who wants everything, or one stream, by the facts of commits alone: they name the stream. Facts may be
 * missed; then each of these is told to look.
 *   - all others by the committed events, each of which is looked at once, by a reader at the log's end that
 * they share. The groups that an event concerns are found in one hash table by its stream, its type, the
 * prefixes of both, with one probe for each length that a prefix has, and the fields of its payload, with one
 * look into it for each place that such fields stand at. Then each group found matches the event once. Groups
 * without any key ("the rest") match every event. Bytes that are not in memory are not waited for: all are
 * told to look.
 *
 * A wait begins with the end of the log of that moment, in the turn in which its owner saw that end; so
 * whatever is committed later comes to it, by a fact or an event that is not yet passed (G10). Work is
 * bounded in each turn: events and matches by number and by time, tellings by number; where the index stopped
 * it goes on in the next turn, even in the middle of an event.
 *
 * A second index of the same kind is for those who are far behind and expect little: its reader goes through
 * the history once for all of them, from the lowest of their positions, waits for bytes that are not in
 * memory, and tells all who are left when it has come to the end. What they wait for then they wait for in
 * the first. */
#include <stdlib.h>

#include "base/memory.h"
#include "notification/groups.h"

enum {
        TELL_MAX = 1000,    /* waits told in one turn */
        EXAMINE_MAX = 5000, /* events, and matches, in one turn */
        EXAMINE_CLOCK = 64, /* of them, between looks at the clock */
};
#define EXAMINE_US_MAX ((uint64_t)2000)
#define HISTORY_US_MAX ((uint64_t)500) /* nobody waits for history as for news */

static uint64_t end_of_log(const struct match_index *x)
{
        return store_next_position(x->notification->store);
}

/* ---- waits that want to look at a position ---- */

static void heap_put(struct match_index *x, unsigned at, struct notification_wait *wait)
{
        x->heap[at] = wait;
        wait->heap_at = at + 1;
}

static void heap_move_up(struct match_index *x, unsigned at, struct notification_wait *wait)
{
        while (at > 0 && x->heap[(at - 1) / 2]->look_at > wait->look_at) {
                heap_put(x, at, x->heap[(at - 1) / 2]);
                at = (at - 1) / 2;
        }
        heap_put(x, at, wait);
}

static void heap_move_down(struct match_index *x, unsigned at, struct notification_wait *wait)
{
        for (;;) {
                unsigned child = 2 * at + 1;

                if (child + 1 < x->heap_count && x->heap[child + 1]->look_at < x->heap[child]->look_at)
                        child++;
                if (child >= x->heap_count || x->heap[child]->look_at >= wait->look_at)
                        break;
                heap_put(x, at, x->heap[child]);
                at = child;
        }
        heap_put(x, at, wait);
}

static void heap_add(struct match_index *x, struct notification_wait *wait)
{
        if (x->heap_count == x->heap_capacity) {
                x->heap_capacity = x->heap_capacity ? x->heap_capacity * 2 : 16;
                x->heap = memory_resize(x->heap, x->heap_capacity * sizeof(struct notification_wait *));
        }
        heap_move_up(x, x->heap_count++, wait);
}

static void heap_remove(struct match_index *x, struct notification_wait *wait)
{
        unsigned at = wait->heap_at - 1;
        struct notification_wait *last;

        if (!wait->heap_at)
                return;
        wait->heap_at = 0;
        last = x->heap[--x->heap_count];
        if (last == wait)
                return;
        if (at > 0 && x->heap[(at - 1) / 2]->look_at > last->look_at)
                heap_move_up(x, at, last);
        else
                heap_move_down(x, at, last);
}

/* ---- waiting ---- */

/* Takes the wait out of what it waits in, or off the list of those to be told. */
static void stop_waiting(struct match_index *x, struct notification_wait *wait)
{
        struct match_group *g = wait->key;

        list_remove(&wait->link);
        heap_remove(x, wait);
        if (!wait->is_waiting)
                return;
        wait->is_waiting = false;
        assert(x->waiting[g->way] > 0);
        x->waiting[g->way]--;
}

/* From now on it is to be told, with the place where it has to look. */
static void make_due(struct match_index *x, struct notification_wait *wait, uint64_t position)
{
        stop_waiting(x, wait);
        wait->position = position;
        list_add_last(&x->due, &wait->link);
        os_turn_again(x->notification->os);
}

static unsigned wake_group(struct match_index *x, struct match_group *g, uint64_t position)
{
        unsigned count = 0;

        LIST_EACH_SAFE (at, &g->waiting) {
                struct notification_wait *wait = CONTAINER_OF(at, struct notification_wait, link);

                if (wait->position > position) /* its owner has read beyond it */
                        continue;
                /* Who wants everything has its first event where it waits; a fact's may be a later one. */
                make_due(x, wait, g == x->everything ? wait->position : position);
                count++;
        }
        return count;
}

/* Everybody of these looks for himself. */
static unsigned wake_way(struct match_index *x, enum match_way way)
{
        unsigned count = 0;

        LIST_EACH (link, &x->ways[way]) {
                struct match_group *g;

                if (link == &x->mark)
                        continue;
                g = CONTAINER_OF(link, struct match_group, link);
                LIST_EACH_SAFE (at, &g->waiting) {
                        struct notification_wait *wait = CONTAINER_OF(at, struct notification_wait, link);

                        /* Of history, all that lies behind was looked at. */
                        make_due(x, wait, x->is_of_history ? MAX(wait->position, x->next) : wait->position);
                        count++;
                }
        }
        return count;
}

static unsigned waiting_for_events(const struct match_index *x)
{
        return x->waiting[BY_KEY] + x->waiting[BY_EACH];
}

static void watch(struct match_index *x);

/* Hooks run in the order of their registration: this one behind the gateway's, so that the answers of writers
 * are sent before their events are looked at. Known only now: the gateway comes to the store later than we
 * do. */
static void come_last(struct match_index *x)
{
        if (!x->is_running)
                return;
        os_turn_hook_remove(&x->hook);
        os_turn_hook_add(x->notification->os, &x->hook);
}

/* The first who waits for events begins at the end of the log; the reader stays where it is if it is there.
 */
static void begin_at_end(struct match_index *x)
{
        come_last(x);
        if (x->has_event || x->next != end_of_log(x)) {
                store_reader_close(&x->reader);
                x->has_event = false;
        }
        x->next = end_of_log(x);
}

/* Makes the wait known to the index, if it is not. */
static struct match_group *know(struct match_index *x, struct notification_wait *wait)
{
        struct match_group *g;
        struct bytes json;
        uint64_t hash;

        if (wait->key && wait->index != x)
                notification_wait_end(wait);
        if (wait->key)
                return wait->key;
        json = selector_json(wait->selector);
        hash = name_hash(json);
        list_init(&wait->link);
        list_init(&wait->member);
        wait->index = x;
        wait->is_waiting = false;
        wait->heap_at = 0;
        g = match_group_find(x, hash, json);
        if (!g)
                g = match_group_new(x, wait->selector, hash);
        list_add_last(&g->members, &wait->member);
        wait->key = g;
        return g;
}

void notification_wait(struct notification *n, struct notification_wait *wait, uint64_t position)
{
        struct match_index *x = &n->index;
        struct match_group *g = know(x, wait);
        uint64_t end = end_of_log(x);

        stop_waiting(x, wait);
        if (position < end || (wait->look_at && wait->look_at <= end)) {
                make_due(x, wait, MIN(position, end));
                return;
        }
        if (g->way != BY_FACT && !waiting_for_events(x))
                begin_at_end(x);
        wait->position = end;
        wait->is_waiting = true;
        x->waiting[g->way]++;
        list_add_last(&g->waiting, &wait->link);
        if (wait->look_at)
                heap_add(x, wait);
        watch(x);
}

/* Goes back for those who are further behind than it has come: what the others wait for lies ahead in any
 * case. */
void notification_wait_behind(struct notification *n, struct notification_wait *wait, uint64_t position)
{
        struct match_index *x = &n->history;
        struct match_group *g = know(x, wait);

        assert(!wait->look_at);
        stop_waiting(x, wait);
        if (g->way == BY_FACT || !x->is_running || position >= end_of_log(x)) {
                make_due(x, wait, position);
                return;
        }
        if (!waiting_for_events(x))
                come_last(x);
        if (!waiting_for_events(x) || position < x->next) {
                store_reader_close(&x->reader);
                x->has_event = x->is_cold = false;
                x->next = position;
        }
        wait->position = position;
        wait->is_waiting = true;
        x->waiting[g->way]++;
        list_add_last(&g->waiting, &wait->link);
        os_turn_again(n->os);
}

void match_index_leave(struct notification_wait *wait)
{
        if (wait->key)
                stop_waiting(wait->index, wait);
}

void notification_wait_end(struct notification_wait *wait)
{
        struct match_group *g = wait->key;

        if (!g)
                return;
        stop_waiting(wait->index, wait);
        list_remove(&wait->member);
        wait->key = NULL;
        if (list_is_empty(&g->members))
                match_group_free(wait->index, g);
        else
                g->selector = CONTAINER_OF(g->members.next, struct notification_wait, member)->selector;
}

uint64_t match_index_behind(const struct match_index *x, const struct notification_wait *wait)
{
        const struct match_group *g = wait->key;
        uint64_t end = end_of_log(x);
        uint64_t at = wait->position;

        /* Of everything, each event is its own; of a stream, news is told in the turn of the commit. */
        if (wait->is_waiting && g != x->everything)
                at = g->way == BY_FACT ? end : MAX(at, x->next);
        return end - MIN(at, end);
}

/* ---- by the facts of commits ---- */

static void tell_of_match(struct match_index *x, const struct fact_payload *write, uint32_t count)
{
        struct fact_payload payload = *write;

        if (!count)
                return;
        payload.count = count;
        control_publish(x->notification->control, FACT_notification_triggered, &payload);
}

static unsigned match_fact(struct match_index *x, const struct fact_payload *write)
{
        uint64_t hash = key_hash(SELECT_KEY_STREAMS, write->stream_hash);
        unsigned count = x->everything ? wake_group(x, x->everything, write->position) : 0;

        if (!x->key_capacity)
                return count;
        for (const struct match_key *k = keys_find(x, hash); k; k = k->next)
                if (k->hash == hash && k->group->way == BY_FACT)
                        count += wake_group(x, k->group, write->position);
        return count;
}

static void unwatch(struct match_index *x)
{
        if (!x->is_watching)
                return;
        control_unwatch(&x->watcher);
        x->is_watching = false;
}

static void on_facts(struct control_watcher *watcher)
{
        struct match_index *x = watcher->arg;
        struct fact fact;
        uint64_t missed;

        while (x->waiting[BY_FACT] && control_take(watcher, &fact, &missed)) {
                if (missed)
                        wake_way(x, BY_FACT);
                if (fact.type == FACT_events_persisted)
                        tell_of_match(x, &fact.payload, match_fact(x, &fact.payload));
        }
        if (!x->waiting[BY_FACT])
                unwatch(x);
}

/* Only while somebody waits for facts, so that an append without subscribers pays nothing. */
static void watch(struct match_index *x)
{
        if (x->is_watching || !x->is_running || !x->waiting[BY_FACT])
                return;
        x->watcher = (struct control_watcher){
                .on_facts = on_facts,
                .arg = x,
                .categories = 1u << CATEGORY_PERSISTENCE,
                .level = LEVEL_TRACE,
        };
        control_watch(x->notification->control, &x->watcher, false);
        x->is_watching = true;
}

/* ---- by the events themselves ---- */

/* At the end of the log the reader is closed: its bytes are not waited for. */
static void on_cold(void *arg)
{
        struct match_index *x = arg;

        x->is_cold = false;
        os_turn_again(x->notification->os);
}

static void match_group(struct match_index *x, struct match_group *g)
{
        if (list_is_empty(&g->waiting) || !list_is_empty(&g->matched))
                return;
        /* Too costly is for its owner to find out. */
        if (selector_match(g->selector, &x->event) != FILTER_NO_MATCH)
                list_add_last(&x->matched, &g->matched);
}

/* Groups that have matched and are not told of it yet: none is, between calls. */
static void wake_matched(struct match_index *x)
{
        while (!list_is_empty(&x->matched)) {
                struct list *at = x->matched.next;

                list_remove(at);
                x->woken += wake_group(x, CONTAINER_OF(at, struct match_group, matched), x->event.position);
        }
}

static struct bytes name_of_key(const struct match_key *k)
{
        const struct bytes *names;
        unsigned count;

        selector_keys(k->group->selector, &names, &count);
        return names[k->name];
}

/* Gives the number of groups that were asked. */
static unsigned probe(struct match_index *x, enum selector_key kind, struct bytes name)
{
        uint64_t hash;
        unsigned count = 0;

        if (!x->keys_of_kind[kind])
                return 0;
        hash = key_hash(kind, name_hash(name));
        for (const struct match_key *k = keys_find(x, hash); k; k = k->next) {
                if (k->hash != hash || k->group->way != BY_KEY || k->group->kind != kind ||
                        !bytes_equal(name_of_key(k), name))
                        continue;
                match_group(x, k->group);
                count++;
        }
        return count;
}

static unsigned probe_prefixes(
        struct match_index *x, enum selector_key kind, const struct match_lengths *l, struct bytes name)
{
        unsigned count = 0;

        for (unsigned i = 0; i < l->count && l->lengths[i] <= name.size; i++)
                count += probe(x, kind, bytes_of(name.data, l->lengths[i]));
        return count;
}

static unsigned probe_fields(struct match_index *x)
{
        unsigned count = 0;

        for (unsigned i = 0; i < x->place_count; i++) {
                buffer_clear(&x->field);
                if (!selector_read_field(buffer_bytes(&x->places[i].place), &x->event, &x->field))
                        continue;
                count += probe(x, SELECT_KEY_FIELD, buffer_bytes(&x->field));
                if (!x->keys_of_kind[SELECT_KEY_TYPED_FIELD])
                        continue;
                buffer_add_bytes(&x->field, x->event.type);
                count += probe(x, SELECT_KEY_TYPED_FIELD, buffer_bytes(&x->field));
        }
        return count + x->place_count;
}

static unsigned match_keys(struct match_index *x)
{
        unsigned count;

        if (!x->waiting[BY_KEY])
                return 0;
        count = probe(x, SELECT_KEY_STREAMS, x->event.stream) + probe(x, SELECT_KEY_TYPES, x->event.type) +
                probe_prefixes(x, SELECT_KEY_STREAM_PREFIXES, &x->stream_lengths, x->event.stream) +
                probe_prefixes(x, SELECT_KEY_TYPE_PREFIXES, &x->type_lengths, x->event.type) +
                probe_fields(x);
        wake_matched(x);
        return count;
}

static void end_event(struct match_index *x)
{
        struct fact_payload payload = {.revision = x->event.revision, .position = x->event.position};

        x->has_event = false;
        if (!x->woken)
                return;
        fact_set_stream(&payload, x->event.stream, name_hash(x->event.stream));
        tell_of_match(x, &payload, x->woken);
}

static void everybody_looks(struct match_index *x)
{
        store_reader_close(&x->reader);
        x->has_event = x->is_cold = false;
        wake_way(x, BY_KEY);
        wake_way(x, BY_EACH);
        x->next = end_of_log(x);
}

static int open_reader(struct match_index *x)
{
        struct store_read_options options = {
                .from = FROM_NUMBER,
                .number = x->next,
                .limit = UINT64_MAX,
                .is_follow = true,
                .on_ready = on_cold,
                .arg = x,
        };

        return x->reader ? 0 : store_reader_open(x->notification->store, &options, &x->reader);
}

/* The next event of the log into x->event; false: there is none now. */
static bool take_event(struct match_index *x)
{
        struct store_read_item item;
        int r = open_reader(x);

        if (!r)
                r = store_reader_next(x->reader, &item);
        if (r == STORE_READ_WAIT && x->is_of_history) {
                x->is_cold = true;
                return false;
        }
        if ((r == STORE_READ_END || r == STORE_READ_YIELD) && !x->is_of_history)
                return false;
        if (r) { /* cold or damaged, or history's end: whoever looks will wait for it, or say so */
                everybody_looks(x);
                return false;
        }
        x->event = item.event;
        x->woken = 0;
        x->next = item.event.position + 1;
        x->has_event = true;
        return true;
}

/* One event by its keys, or one of the rest on the event at hand. Gives what that cost; 0: nothing to do. */
static unsigned examine_one(struct match_index *x)
{
        struct list *at = x->mark.next;

        if (!x->has_event) {
                if (x->is_of_history && x->next >= end_of_log(x))
                        everybody_looks(x);
                if (x->is_cold || x->next >= end_of_log(x) || !take_event(x))
                        return 0;
                list_remove(&x->mark);
                list_add_first(&x->ways[BY_EACH], &x->mark);
                return 1 + match_keys(x);
        }
        if (at == &x->ways[BY_EACH] || !x->waiting[BY_EACH]) {
                end_event(x);
                return 1;
        }
        list_remove(&x->mark);
        list_add_first(at, &x->mark);
        match_group(x, CONTAINER_OF(at, struct match_group, link));
        wake_matched(x);
        return 1;
}

/* Gives whether it is at the end. */
static bool examine(struct match_index *x)
{
        struct os *os = x->notification->os;
        uint64_t begun = 0;
        unsigned done = 0, clock_at = EXAMINE_CLOCK;

        while (waiting_for_events(x) || x->has_event) {
                unsigned cost = examine_one(x);

                if (!cost)
                        return true;
                done += cost;
                if (done >= EXAMINE_MAX)
                        return false;
                if (done < clock_at)
                        continue;
                clock_at = done + EXAMINE_CLOCK;
                if (!begun)
                        begun = os_monotonic_us(os);
                else if (os_monotonic_us(os) - begun >= (x->is_of_history ? HISTORY_US_MAX : EXAMINE_US_MAX))
                        return false;
        }
        return true;
}

/* ---- once in each turn ---- */

static void look_at_positions(struct match_index *x)
{
        uint64_t end = end_of_log(x);

        while (x->heap_count && x->heap[0]->look_at <= end) {
                struct notification_wait *wait = x->heap[0];
                const struct match_group *g = wait->key;

                /* Whatever the events said up to here did not concern it. */
                make_due(x, wait,
                        g->way == BY_FACT ? wait->position : MAX(wait->position, x->next - x->has_event));
        }
}

/* Whoever is told may end any wait, or begin one: each is off the list before it is called. */
static bool tell(struct match_index *x, unsigned limit)
{
        for (unsigned i = 0; i < limit && !list_is_empty(&x->due); i++) {
                struct notification_wait *wait = CONTAINER_OF(x->due.next, struct notification_wait, link);

                list_remove(&wait->link);
                wait->on_match(wait, wait->position);
        }
        return list_is_empty(&x->due);
}

static void on_turn_end(struct os_turn_hook *hook)
{
        struct match_index *x = hook->arg;
        bool is_done = true;

        if (waiting_for_events(x) || x->has_event)
                is_done = examine(x);
        if (x->heap_count)
                look_at_positions(x);
        if (!list_is_empty(&x->due))
                is_done &= tell(x, TELL_MAX);
        if (!is_done)
                os_turn_again(x->notification->os);
}

/* ---- life ---- */

void match_index_init(struct match_index *x, struct notification *n)
{
        x->notification = n;
        for (unsigned i = 0; i < COUNT_OF(x->ways); i++)
                list_init(&x->ways[i]);
        list_init(&x->mark);
        list_init(&x->matched);
        list_init(&x->due);
}

int match_index_start(void *arg)
{
        struct match_index *x = arg;

        assert(!x->is_running);
        x->is_running = true;
        x->hook = (struct os_turn_hook){.fn = on_turn_end, .arg = x};
        os_turn_hook_add(x->notification->os, &x->hook);
        /* After a restart somebody may wait already, and news may have passed: everybody looks once. */
        wake_way(x, BY_FACT);
        if (waiting_for_events(x))
                everybody_looks(x);
        os_turn_again(x->notification->os);
        return 0;
}

void match_index_stop(void *arg)
{
        struct match_index *x = arg;

        unwatch(x);
        if (x->is_running)
                os_turn_hook_remove(&x->hook);
        store_reader_close(&x->reader);
        x->has_event = x->is_cold = false;
        x->is_running = false;
}

void match_index_tell_all(struct match_index *x)
{
        struct list due;

        wake_way(x, BY_FACT);
        everybody_looks(x);
        /* Only those of now: who waits again is not told a second time. */
        list_init(&due);
        while (!list_is_empty(&x->due)) {
                struct list *at = x->due.next;

                list_remove(at);
                list_add_last(&due, at);
        }
        while (!list_is_empty(&due)) {
                struct notification_wait *wait = CONTAINER_OF(due.next, struct notification_wait, link);

                list_remove(&wait->link);
                wait->on_match(wait, wait->position);
        }
}

void match_index_fini(struct match_index *x)
{
        for (unsigned way = 0; way < COUNT_OF(x->ways); way++) {
                list_remove(&x->mark);
                while (!list_is_empty(&x->ways[way])) {
                        struct match_group *g = CONTAINER_OF(x->ways[way].next, struct match_group, link);

                        /* The last one takes the group with it. */
                        notification_wait_end(
                                CONTAINER_OF(g->members.next, struct notification_wait, member));
                }
        }
        store_reader_close(&x->reader);
        free(x->keys);
        free(x->key_filter);
        free(x->groups);
        free(x->heap);
        free(x->stream_lengths.counts);
        free(x->stream_lengths.lengths);
        free(x->type_lengths.counts);
        free(x->type_lengths.lengths);
        free(x->places);
        buffer_fini(&x->field);
}
