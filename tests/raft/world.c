/* Time, network and faults. Everything that is drawn comes from one generator, everything that happens from
 * one heap. */
#include "room.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"

const char *const schedule_names[SCHEDULES] = {
        "base", "membership", "everything", "harsh", "minority-down", "stalls", "elections", "sole", "grow"};

/* ---- chance, sayings ---- */

static uint64_t mix(uint64_t z)
{
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
}

uint64_t world_random(struct world *w, uint64_t below)
{
        w->random += 0x9e3779b97f4a7c15u;
        return below ? mix(w->random) % below : 0;
}

bool world_chance(struct world *w, uint64_t per_mille)
{
        return world_random(w, 1000) < per_mille;
}

void world_hash(struct world *w, uint64_t n)
{
        w->result->hash = mix(w->result->hash ^ n) + n;
}

void world_say(const struct world *w, const char *format, ...)
{
        va_list arguments;

        if (!w->options.is_loud)
                return;
        printf("%8llu.%03llu ", (unsigned long long)(w->now / MS), (unsigned long long)(w->now % MS));
        va_start(arguments, format);
        vprintf(format, arguments);
        va_end(arguments);
        printf("\n");
}

void world_fail(struct world *w, const char *format, ...)
{
        va_list arguments;

        if (w->result->has_failed)
                return;
        w->result->has_failed = true;
        va_start(arguments, format);
        vsnprintf(w->result->problem, sizeof(w->result->problem), format, arguments);
        va_end(arguments);
        world_say(w, "FAILED: %s", w->result->problem);
}

/* ---- logs and configurations ---- */

void log_add(struct log *log, struct entry entry)
{
        if (log->count == log->capacity) {
                log->capacity = MAX(log->capacity * 2, 256);
                log->entries = memory_resize(log->entries, log->capacity * sizeof(*log->entries));
        }
        entry.chain = mix(mix(mix(log_chain(log, log->count) + entry.term) + entry.type) + entry.value) | 1;
        log->entries[log->count++] = entry;
}

void log_cut(struct log *log, uint64_t last)
{
        log->count = MIN(log->count, last);
}

struct entry *log_at(const struct log *log, uint64_t index)
{
        return index && index <= log->count ? &log->entries[index - 1] : NULL;
}

uint64_t log_chain(const struct log *log, uint64_t index)
{
        const struct entry *e = log_at(log, index);

        return e ? e->chain : 0;
}

uint64_t world_configuration(struct world *w, struct bytes payload)
{
        for (uint64_t i = 0; i < w->configuration_count; i++)
                if (bytes_equal(buffer_bytes(&w->configurations[i]), payload))
                        return i;
        w->configurations =
                memory_resize(w->configurations, (w->configuration_count + 1) * sizeof(*w->configurations));
        w->configurations[w->configuration_count] = (struct buffer){0};
        buffer_add_bytes(&w->configurations[w->configuration_count], payload);
        return w->configuration_count++;
}

struct bytes world_payload(const struct world *w, uint64_t configuration)
{
        return buffer_bytes(&w->configurations[configuration]);
}

/* ---- events ---- */

static bool is_before(const struct event *a, const struct event *b)
{
        return a->at != b->at ? a->at < b->at : a->number < b->number;
}

void world_at(struct world *w, uint64_t at, enum event_kind kind, unsigned node, uint64_t generation,
        struct packet *packet)
{
        struct event e = {.at = MAX(at, w->now),
                .number = w->event_number++,
                .kind = kind,
                .node = node,
                .generation = generation,
                .packet = packet};
        unsigned i = w->heap_count++;

        if (w->heap_count > w->heap_capacity) {
                w->heap_capacity = w->heap_count * 2;
                w->heap = memory_resize(w->heap, w->heap_capacity * sizeof(*w->heap));
        }
        for (; i && is_before(&e, &w->heap[(i - 1) / 2]); i = (i - 1) / 2)
                w->heap[i] = w->heap[(i - 1) / 2];
        w->heap[i] = e;
}

static struct event next_event(struct world *w)
{
        struct event first = w->heap[0], last = w->heap[--w->heap_count];
        unsigned i = 0;

        for (;;) {
                unsigned child = 2 * i + 1;

                if (child >= w->heap_count)
                        break;
                if (child + 1 < w->heap_count && is_before(&w->heap[child + 1], &w->heap[child]))
                        child++;
                if (!is_before(&w->heap[child], &last))
                        break;
                w->heap[i] = w->heap[child];
                i = child;
        }
        w->heap[i] = last;
        return first;
}

/* ---- network ---- */

struct packet *world_packet(uint64_t from, uint64_t to, enum packet_kind kind)
{
        struct packet *p = MEMORY_NEW(struct packet);

        *p = (struct packet){.kind = kind, .references = 1, .from = from, .to = to};
        return p;
}

void world_drop(struct packet *p)
{
        if (--p->references)
                return;
        buffer_fini(&p->bytes);
        free(p->entries);
        free(p);
}

static uint64_t travel_us(struct world *w)
{
        if (w->rates.old && world_chance(w, w->rates.old))
                return world_random(w, w->rates.old_us);
        if (world_chance(w, w->rates.slow))
                return world_random(w, 400 * MS);
        return 200 + world_random(w, 2 * MS);
}

void world_send(struct world *w, struct packet *p)
{
        unsigned copies = 1;

        if (p->to < 1 || p->to > w->node_count) {
                world_drop(p);
                return;
        }
        if (w->is_cut[p->from - 1][p->to - 1] || world_chance(w, w->rates.drop))
                copies = 0;
        else if (world_chance(w, w->rates.duplicate))
                copies = 2;
        p->references += copies;
        w->result->totals.dropped += !copies;
        for (unsigned i = 0; i < copies; i++)
                world_at(w, w->now + travel_us(w), EVENT_PACKET, (unsigned)p->to - 1, 0, p);
        world_drop(p);
}

void world_send_late(struct world *w, struct packet *p, uint64_t after_us)
{
        p->references++;
        world_at(w, w->now + after_us, EVENT_PACKET, (unsigned)p->to - 1, 0, p);
}

/* ---- faults ---- */

static void cut(struct world *w)
{
        unsigned a = (unsigned)world_random(w, w->node_count), b = (unsigned)world_random(w, w->node_count);
        unsigned side = (unsigned)world_random(w, 1u << w->node_count);

        memset(w->is_cut, 0, sizeof(w->is_cut));
        switch (world_random(w, 4)) {
        case 0: /* one way */
                w->is_cut[a][b] = true;
                break;
        case 1: /* both ways */
                w->is_cut[a][b] = w->is_cut[b][a] = true;
                break;
        case 2: /* one node hears nobody */
                for (unsigned i = 0; i < w->node_count; i++)
                        w->is_cut[i][a] = true;
                break;
        default: /* two sides */
                for (unsigned i = 0; i < w->node_count; i++)
                        for (unsigned j = 0; j < w->node_count; j++)
                                w->is_cut[i][j] = ((side >> i) & 1) != ((side >> j) & 1);
        }
        w->result->totals.partitions++;
        w->cut_until = w->now + world_random(w, 4 * SECOND);
}

/* Each fault comes in the middle once in its time. */
static bool comes(struct world *w, uint64_t every_us)
{
        return every_us && world_random(w, every_us) < 10 * MS;
}

/* Some are back so soon that the others have not noticed. */
void world_crash(struct world *w, struct node *n)
{
        static const uint64_t most[] = {20 * MS, 20 * MS, 600 * MS, 600 * MS, 4 * SECOND};
        uint64_t back = w->now + world_random(w, most[world_random(w, COUNT_OF(most))]);

        node_crash(w, n);
        world_at(w, back, EVENT_RESTART, (unsigned)n->id - 1, n->incarnation, NULL);
}

void world_attack(struct world *w, const struct node *n)
{
        uint64_t most = world_chance(w, 500) ? 2 * w->rates.write_us : 600 * MS;

        if (w->is_healed || !w->rates.crash_every_us)
                return;
        if (w->rates.loses_old_voter) {
                struct node *sleeper = &w->nodes[1 + world_random(w, w->node_count - 1)];

                if (sleeper->is_up)
                        node_crash(w, sleeper); /* until the healing */
        }
        for (unsigned i = 0; i < w->node_count; i++)
                if (world_chance(w, i + 1 == n->id ? 500 : 250))
                        world_at(w, w->now + world_random(w, most), EVENT_CRASH, i, 0, NULL);
        if (w->rates.cut_every_us && world_chance(w, 500))
                cut(w);
}

static void chaos(struct world *w)
{
        struct node *n = &w->nodes[world_random(w, w->node_count)];

        if (w->is_healed)
                return;
        if (comes(w, w->rates.crash_every_us) && n->is_up)
                world_crash(w, n);
        if (w->cut_until && w->now > w->cut_until) {
                memset(w->is_cut, 0, sizeof(w->is_cut));
                w->cut_until = 0;
        }
        if (!w->cut_until && comes(w, w->rates.cut_every_us))
                cut(w);
        if (comes(w, w->rates.pause_every_us))
                n->paused_until = w->now + world_random(w, world_chance(w, 200) ? 3 * SECOND : 300 * MS);
        if (comes(w, w->rates.change_every_us))
                for (unsigned i = 0; i < w->node_count; i++)
                        members_act(w, &w->nodes[i]);
        if (comes(w, w->rates.transfer_every_us))
                for (unsigned i = 0; i < w->node_count; i++)
                        members_transfer(w, &w->nodes[i]);
        if (w->schedule == GROW && comes(w, 1500 * MS))
                grow_begin(w, &w->nodes[0]);
        world_at(w, w->now + 10 * MS, EVENT_CHAOS, 0, 0, NULL);
}

/* How many nodes may be down for good. Where nothing but the growth was changed, and that is committed, as
 * many as with voters that have voted from the beginning: the old one among them. */
static unsigned spare_voters(struct world *w)
{
        struct cluster_configuration c;
        uint64_t at = w->committed.count;

        if (w->schedule == MINORITY_DOWN)
                return (w->voters_at_first - 1) / 2;
        if (w->schedule != GROW || w->rates.changes_go_on || w->rates.seal_every_us)
                return 0;
        while (at > 1 && log_at(&w->committed, at)->type != CLUSTER_CHANGE)
                at--;
        if (cluster_configuration_decode(world_payload(w, log_at(&w->committed, at)->value), &c))
                return 0;
        w->voters_at_first = 0;
        for (unsigned i = 0; i < c.count; i++)
                if (c.servers[i].role == CLUSTER_VOTER)
                        w->voters_at_first++;
        return w->rates.loses_old_voter && w->voters_at_first > 1 ? 1 : (w->voters_at_first - 1) / 2;
}

static void heal(struct world *w)
{
        unsigned down = spare_voters(w);

        world_say(w, "heal");
        w->is_healed = true;
        memset(w->is_cut, 0, sizeof(w->is_cut));
        w->rates.drop = w->rates.duplicate = w->rates.slow = w->rates.old = w->rates.stall = 0;
        w->rates.seal_every_us = 0;
        for (unsigned i = 0; i < w->node_count; i++)
                w->nodes[i].paused_until = 0;
        while (down) {
                struct node *n =
                        &w->nodes[world_random(w, w->rates.loses_old_voter ? 1 : w->voters_at_first)];

                if (n->is_down_for_good)
                        continue;
                if (n->is_up)
                        node_crash(w, n);
                n->is_down_for_good = true;
                down--;
        }
        for (unsigned i = 0; i < w->node_count; i++)
                if (!w->nodes[i].is_up && !w->nodes[i].is_down_for_good)
                        node_start(w, &w->nodes[i]);
        if (w->schedule == GROW)
                grow_begin(w, &w->nodes[0]);
}

/* ---- the start ---- */

/* Many rates are zero in many seeds: faults in isolation find what all of them together hide. */
static uint64_t rate(struct world *w, uint64_t most)
{
        return world_chance(w, 400) ? 0 : world_random(w, most + 1);
}

static uint64_t every(struct world *w, uint64_t least_us, uint64_t most_us)
{
        return world_chance(w, 250) ? 0 : least_us + world_random(w, most_us - least_us);
}

static void draw_rates(struct world *w)
{
        bool has_members = w->schedule == MEMBERSHIP || w->schedule == EVERYTHING || w->schedule == HARSH;
        bool is_harsh = w->schedule == HARSH || (w->schedule == MINORITY_DOWN && world_chance(w, 500));
        bool has_seals = w->schedule != BASE && w->schedule != MEMBERSHIP && w->schedule != MINORITY_DOWN;
        struct rates *r = &w->rates;

        *r = (struct rates){
                .drop = rate(w, 100),
                .duplicate = rate(w, 80),
                .slow = rate(w, 150),
                .old = world_chance(w, is_harsh ? 1000 : 333) ? 5 + world_random(w, 60) : 0,
                .old_us = world_chance(w, 500) ? 6 * SECOND : 1500 * MS,
                .crash_every_us = every(w, 600 * MS, 5 * SECOND),
                .cut_every_us = every(w, 800 * MS, 5 * SECOND),
                .pause_every_us = every(w, 1 * SECOND, 8 * SECOND),
                .stall = rate(w, w->schedule == STALLS ? 8 : 60),
                .stall_us = w->schedule == STALLS ? 4 * SECOND : 400 * MS,
                .write_us = 200 + world_random(w, 5 * MS),
                .client_us = world_chance(w, 200) ? 5 * MS + world_random(w, 15 * MS)
                                                  : 30 * MS + world_random(w, 120 * MS),
                .pushes_commit = world_chance(w, 600),
                .reads = true,
        };
        if (has_members) {
                r->change_every_us = w->schedule == HARSH ? 100 * MS : 300 * MS + world_random(w, 2 * SECOND);
                r->transfer_every_us = every(w, 500 * MS, 4 * SECOND);
        } else if (w->schedule == SOLE || w->schedule == GROW) {
                r->change_every_us = 200 * MS + world_random(w, SECOND);
        }
        if (w->schedule == GROW) {
                r->changes_go_on = world_chance(w, 500);
                r->is_sloppy = world_chance(w, 300);
                r->loses_old_voter = !r->changes_go_on && world_chance(w, 300);
                if (r->changes_go_on)
                        r->transfer_every_us = every(w, 500 * MS, 4 * SECOND);
        }
        if (w->schedule == ELECTIONS) {
                r->crash_every_us = 100 * MS + world_random(w, 300 * MS);
                r->cut_every_us = 500 * MS + world_random(w, SECOND);
                r->client_us = 200 * MS + world_random(w, 300 * MS);
        }
        if (has_seals && !r->loses_old_voter)
                r->seal_every_us = every(w, 200 * MS, 2 * SECOND);
        if (w->schedule == HARSH) {
                r->seal_every_us = 100 * MS + world_random(w, 600 * MS);
                r->transfer_every_us = 100 * MS + world_random(w, 500 * MS);
        }
        if (is_harsh)
                r->crash_every_us = 500 * MS + world_random(w, 2 * SECOND);
        w->trailing = 1 + (uint32_t)world_random(w, 30);
        /* A small window carries about its entries per write of the follower's disk: not what busy clients
         * write. */
        w->in_flight =
                world_chance(w, 300) || r->client_us < 30 * MS ? 256 : 4 + (uint32_t)world_random(w, 40);
}

static void first_configuration(struct world *w, unsigned voters, unsigned standbys)
{
        struct cluster_configuration c = {.count = voters + standbys};
        struct buffer payload = {0};
        struct entry e = {.term = 1, .type = CLUSTER_CHANGE};

        for (unsigned i = 0; i < c.count; i++) {
                c.servers[i].node_id = i + 1;
                c.servers[i].role = i < voters ? CLUSTER_VOTER : CLUSTER_STANDBY;
                snprintf(c.servers[i].address, sizeof(c.servers[i].address), "node%u:1", i + 1);
        }
        if (cluster_configuration_encode(&c, &payload))
                world_fail(w, "no configuration");
        e.value = world_configuration(w, buffer_bytes(&payload));
        buffer_fini(&payload);
        log_add(&w->committed, e);
        for (unsigned i = 0; i < voters; i++) {
                log_add(&w->nodes[i].disk, e);
                w->nodes[i].term = 1;
        }
        w->voters_at_first = voters;
}

static void begin(struct world *w)
{
        bool is_sole = w->schedule == SOLE || w->schedule == GROW;
        unsigned voters = is_sole ? 1 : world_chance(w, 700) ? 3 : 5;
        bool has_joiners =
                w->schedule == MEMBERSHIP || w->schedule == EVERYTHING || w->schedule == HARSH || is_sole;

        w->node_count = voters + (has_joiners ? 2 : 0);
        if (w->schedule == GROW)
                w->node_count += (unsigned)world_random(w, 4);
        for (unsigned i = 0; i < w->node_count; i++) {
                w->nodes[i].id = i + 1;
                w->nodes[i].drift_ppm = (int64_t)world_random(w, 40000) - 20000;
        }
        first_configuration(w, voters,
                w->schedule == SOLE || (w->schedule == GROW && world_chance(w, 500)) ? w->node_count - 1 : 0);
        draw_rates(w);
        w->fault_end = 12 * SECOND;
        w->end = 20 * SECOND;
        for (unsigned i = 0; i < w->node_count; i++) {
                node_start(w, &w->nodes[i]);
                world_at(w, world_random(w, w->rates.client_us), EVENT_CLIENT, i, 0, NULL);
                world_at(w, world_random(w, 50 * MS), EVENT_TICK, i, 0, NULL);
        }
        world_at(w, 1000 * MS, EVENT_CHAOS, 0, 0, NULL);
}

/* ---- the run ---- */

static void happen(struct world *w, const struct event *e)
{
        struct node *n = &w->nodes[e->node];
        bool is_of_node = e->kind != EVENT_CHAOS && e->kind != EVENT_RESTART && e->kind != EVENT_CRASH;

        if (is_of_node && n->is_up && n->paused_until > w->now) {
                world_at(w, n->paused_until, e->kind, e->node, e->generation, e->packet);
                return;
        }
        switch (e->kind) {
        case EVENT_PACKET:
                if (n->is_up)
                        node_packet(w, n, e->packet);
                world_drop(e->packet);
                break;
        case EVENT_TIMER:
                if (n->is_up && n->timer_generation == e->generation)
                        node_timer(w, n);
                break;
        case EVENT_WRITTEN:
                if (n->is_up && n->incarnation == e->generation)
                        node_written(w, n);
                break;
        case EVENT_CRASH:
                if (n->is_up && !w->is_healed)
                        world_crash(w, n);
                break;
        case EVENT_RESTART:
                if (!n->is_up && n->incarnation == e->generation && !n->is_down_for_good)
                        node_start(w, n);
                break;
        case EVENT_CLIENT:
                if (n->is_up && w->now + 2 * SECOND < w->end)
                        node_client(w, n);
                world_at(w, w->now + w->rates.client_us / 2 + world_random(w, w->rates.client_us), e->kind,
                        e->node, 0, NULL);
                break;
        case EVENT_TICK:
                if (n->is_up)
                        node_tick(w, n);
                world_at(w, w->now + 20 * MS + world_random(w, 30 * MS), e->kind, e->node, 0, NULL);
                break;
        case EVENT_CHAOS:
                chaos(w);
                break;
        }
}

static void free_world(struct world *w)
{
        for (unsigned i = 0; i < w->heap_count; i++)
                if (w->heap[i].packet)
                        world_drop(w->heap[i].packet);
        for (unsigned i = 0; i < w->node_count; i++) {
                struct node *n = &w->nodes[i];

                node_stop_engine(n);
                free(n->disk.entries);
                free(n->log.entries);
                free(n->proposals);
                grow_forget(n);
                free(n->dammed);
                for (unsigned j = 0; j < n->write_count; j++)
                        free(n->writes[(n->write_first + j) % WRITES_MAX].entries);
        }
        for (uint64_t i = 0; i < w->configuration_count; i++)
                buffer_fini(&w->configurations[i]);
        free(w->configurations);
        free(w->committed.entries);
        free(w->histories);
        free(w->leaders);
        free(w->heap);
        free(w);
}

void world_run(const struct world_options *options, struct result *ret)
{
        static const enum schedule drawn[] = {
                BASE, MEMBERSHIP, EVERYTHING, HARSH, HARSH, MINORITY_DOWN, STALLS, ELECTIONS, SOLE, GROW};
        struct world *w = MEMORY_NEW(struct world);
        uint64_t extended = 0;

        *ret = (struct result){0};
        w->options = *options;
        w->result = ret;
        w->random = mix(options->seed + 1);
        w->schedule = options->has_schedule ? options->schedule : drawn[options->seed % COUNT_OF(drawn)];
        begin(w);
        while (!ret->has_failed && w->heap_count) {
                struct event e = next_event(w);

                w->now = e.at;
                if (!w->is_healed && w->now >= w->fault_end)
                        heal(w);
                if (w->now >= w->end) {
                        if (oracle_has_converged(w, false) || extended++ == 200) {
                                if (e.packet)
                                        world_drop(e.packet);
                                break;
                        }
                        w->end += 100 * MS;
                }
                happen(w, &e);
        }
        if (!ret->has_failed)
                oracle_end(w);
        ret->totals.seeds = 1;
        world_hash(w, w->now);
        free_world(w);
}
