/* The driver of one engine, as small as it can be: what store/replica does, with a disk of its own. */
#include "room.h"

#include <stdlib.h>

#include "base/memory.h"

enum {
        FETCH_ENTRIES_MAX = 32,
        READ_EVERY = 150,
        CRASH_INSIDE_PER_MILLION = 300,
        CRASH_AT_CHANGE_PER_MILLION = 10000,
        CRASH_AT_GROWTH_PER_MILLION = 100000
};

/* A node's own clock runs a little fast or slow. */
uint64_t node_clock(const struct world *w, const struct node *n)
{
        return SECOND + w->now + (uint64_t)((int64_t)w->now * n->drift_ppm / 1000000);
}

static uint64_t world_time(const struct node *n, uint64_t clock)
{
        return clock <= SECOND ? 0 : (clock - SECOND) * 1000000 / (uint64_t)(1000000 + n->drift_ppm) + 1;
}

/* What the library reads without having written it (F3) looks like an index that would do harm. */
static __attribute__((noinline)) void poison_stack(uint64_t n)
{
        uint64_t garbage[1200];

        for (unsigned i = 0; i < COUNT_OF(garbage); i++)
                garbage[i] = n;
        __asm__ volatile("" : : "r"(garbage) : "memory"); /* it is not to be optimised away */
}

void node_step_begins(struct world *w, struct node *n)
{
        uint64_t longest = 0;

        oracle_steps(w, n, false);
        for (unsigned i = 0; i < w->node_count; i++)
                longest = MAX(longest, w->nodes[i].log.count);
        poison_stack(longest - w->poison++ % 4);
}

/* ---- disk ---- */

static void save_vote(struct node *n, uint64_t term, uint64_t vote)
{
        n->older_term = n->term;
        n->older_vote = n->vote;
        n->term = term;
        n->vote = vote;
}

/* Replaces what stands at `first` and behind in memory, and issues the write of it. */
static void issue_write(
        struct world *w, struct node *n, uint64_t first, const struct entry *entries, uint64_t count)
{
        struct write *write = &n->writes[(n->write_first + n->write_count) % WRITES_MAX];
        uint64_t takes = w->rates.write_us / 2 + world_random(w, w->rates.write_us);

        if (first <= n->log.count)
                w->result->totals.truncations++;
        oracle_truncation(w, n, first);
        log_cut(&n->log, first - 1);
        if (first <= n->seal.index)
                n->seal = (struct seal){0}; /* a copy that begins anew */
        while (n->change_index &&
                (n->change_index >= first || log_at(&n->log, n->change_index)->type != CLUSTER_CHANGE))
                n->change_index--;
        n->stored = MIN(n->stored, first - 1);
        for (uint64_t i = 0; i < count; i++) {
                if (entries[i].type == CLUSTER_CHANGE)
                        n->change_index = first + i;
                log_add(&n->log, entries[i]);
                oracle_entry(w, n, first + i);
        }
        if (n->write_count++ == WRITES_MAX) {
                world_fail(w, "node %llu: too many writes", (unsigned long long)n->id);
                n->write_count--;
                return;
        }
        /* What waits behind another write goes to the disk with it, nearly. */
        if (n->write_count > 1)
                takes /= 8;
        else if (world_chance(w, w->rates.stall))
                takes += world_random(w, w->rates.stall_us);
        n->disk_free_at = MAX(n->disk_free_at, w->now) + takes;
        *write = (struct write){.first = first, .count = count, .at = n->disk_free_at};
        write->entries = memory_new_array(count + 1, sizeof(*entries));
        if (count)
                memcpy(write->entries, entries, count * sizeof(*entries));
        world_at(w, n->disk_free_at, EVENT_WRITTEN, (unsigned)n->id - 1, n->incarnation, NULL);
}

static void put_on_disk(struct node *n, const struct write *write, uint64_t count)
{
        log_cut(&n->disk, write->first - 1);
        for (uint64_t i = 0; i < count; i++)
                log_add(&n->disk, write->entries[i]);
}

/* Through where the memory's log is durable: entries that a later write replaces do not count. */
static uint64_t durable_index(const struct world *w, const struct node *n, const struct write *done)
{
        uint64_t index = done->first + done->count - 1;

        if (w->options.mutant == PERSISTED_TRUNCATED)
                return MIN(index, n->log.count);
        for (unsigned i = 0; i < n->write_count; i++)
                index = MIN(index, n->writes[(n->write_first + i) % WRITES_MAX].first - 1);
        return index;
}

static void engine_failed(struct world *w, const struct node *n, const char *what, int r)
{
        world_fail(w, "node %llu: %s gives %d, %s", (unsigned long long)n->id, what, r, fault_last());
}

static void tell_persisted(struct world *w, struct node *n, uint64_t index)
{
        struct cluster_update u;
        int r;

        if (!n->raft)
                return;
        node_step_begins(w, n);
        r = cluster_raft_persisted(n->raft, node_clock(w, n), index, &u);
        if (r)
                engine_failed(w, n, "persisted", r);
        else
                node_carry_out(w, n, &u);
}

static void finish_install(struct world *w, struct node *n)
{
        struct cluster_update u;
        int r;

        if (!n->is_installing || n->stored < n->install_index)
                return;
        n->is_installing = false;
        w->result->totals.installs++;
        if (log_at(&n->log, n->install_index)->term != n->install_term)
                world_fail(w, "node %llu installs another entry %llu", (unsigned long long)n->id,
                        (unsigned long long)n->install_index);
        world_say(w, "n%llu installed %llu", (unsigned long long)n->id, (unsigned long long)n->install_index);
        node_step_begins(w, n);
        r = cluster_raft_installed(n->raft, node_clock(w, n), &u);
        if (r)
                engine_failed(w, n, "installed", r);
        else
                node_carry_out(w, n, &u);
}

void node_written(struct world *w, struct node *n)
{
        struct write done;

        if (!n->write_count || n->writes[n->write_first].at > w->now)
                return;
        done = n->writes[n->write_first];
        n->write_first = (n->write_first + 1) % WRITES_MAX;
        n->write_count--;
        put_on_disk(n, &done, done.count);
        n->stored = MAX(n->stored, durable_index(w, n, &done));
        free(done.entries);
        if (n->is_installing)
                finish_install(w, n);
        else
                tell_persisted(w, n, n->stored);
        if (n->is_up)
                grow_open_dam(w, n);
}

/* ---- messages ---- */

static void send_part(struct world *w, struct node *n, const struct cluster_message *m)
{
        struct packet *p = world_packet(n->id, m->node_id, ENGINE);

        cluster_message_encode(m, &p->bytes);
        if (m->type == CLUSTER_APPEND && m->append.entry_count) {
                uint64_t first = m->append.previous_index + 1;

                if (!log_at(&n->log, first + m->append.entry_count - 1)) {
                        world_fail(w, "node %llu is to send entries that it does not have",
                                (unsigned long long)n->id);
                } else {
                        p->entry_count = m->append.entry_count;
                        p->entries = memory_new_array(p->entry_count, sizeof(*p->entries));
                        memcpy(p->entries, log_at(&n->log, first), p->entry_count * sizeof(*p->entries));
                }
                if (grow_dams(n, p))
                        return;
        }
        world_send(w, p);
}

static void send_messages(struct world *w, struct node *n, const struct cluster_update *u)
{
        for (unsigned i = 0; i < u->message_count; i++) {
                struct cluster_message m = u->messages[i];

                w->result->totals.probes += m.type == CLUSTER_PROBE;
                /* A large one may be split anywhere. */
                if (m.type == CLUSTER_APPEND && m.append.entry_count > 1 && world_chance(w, 200)) {
                        uint32_t all = m.append.entry_count;

                        m.append.entry_count = 1 + (uint32_t)world_random(w, all - 1);
                        send_part(w, n, &m);
                        m.append.previous_index += m.append.entry_count;
                        m.append.previous_term = log_at(&n->log, m.append.previous_index)->term;
                        m.append.entry_count = all - m.append.entry_count;
                }
                send_part(w, n, &m);
        }
}

/* ---- updates ---- */

static struct entry entry_of(struct world *w, const struct cluster_entry *e)
{
        const struct entry *given = e->cookie;
        struct entry entry = {.term = e->term, .type = e->type};

        if (e->type == CLUSTER_CHANGE)
                entry.value = world_configuration(w, e->payload);
        else if (given)
                entry.value = given->value;
        return entry;
}

static void ask_for_entries(struct world *w, struct node *n, uint64_t to)
{
        struct packet *p;

        if (!to || to == n->id)
                return;
        p = world_packet(n->id, to, FETCH);
        p->a = n->log.count + 1;
        p->b = n->incarnation << 32 | n->install_generation;
        world_send(w, p);
}

static void begin_install(struct world *w, struct node *n, const struct cluster_update *u)
{
        n->is_installing = true;
        n->install_index = u->install_index;
        n->install_term = u->install_term;
        n->install_generation++;
        world_say(w, "n%llu installs %llu", (unsigned long long)n->id, (unsigned long long)u->install_index);
        if (n->log.count > n->commit)
                issue_write(w, n, n->commit + 1, NULL, 0);
        ask_for_entries(w, n, cluster_raft_leader(n->raft));
}

/* Now and then the power goes in the middle of an update; more often where a vote or a change has just been
 * made. */
static bool is_cut_off(struct world *w, struct node *n, const struct cluster_update *u)
{
        bool has_change = u->entry_count == 1 && n->change_index == u->first_index;
        uint64_t per_million = CRASH_INSIDE_PER_MILLION;

        if (u->has_term_or_vote || has_change)
                per_million = CRASH_AT_CHANGE_PER_MILLION;
        if (u->entry_count && cluster_raft_growing(n->raft) == u->first_index)
                per_million = CRASH_AT_GROWTH_PER_MILLION;
        if (w->is_healed || !w->rates.crash_every_us || world_random(w, 1000000) >= per_million)
                return false;
        world_crash(w, n);
        return true;
}

/* The first thing that counts; false: the node is no more. */
static bool carry_out_part(struct world *w, struct node *n, const struct cluster_update *u)
{
        if (u->has_term_or_vote)
                save_vote(n, u->term, u->voted_for);
        if (is_cut_off(w, n, u))
                return false;
        if (u->entry_count) {
                struct entry *entries = memory_new_array(u->entry_count, sizeof(*entries));

                for (unsigned i = 0; i < u->entry_count; i++)
                        entries[i] = entry_of(w, &u->entries[i]);
                issue_write(w, n, u->first_index, entries, u->entry_count);
                free(entries);
        }
        if (u->has_install)
                begin_install(w, n, u);
        if (is_cut_off(w, n, u))
                return false;
        send_messages(w, n, u);
        if (is_cut_off(w, n, u))
                return false;
        if (u->has_state) {
                world_say(w, "n%llu %s in term %llu, leader %llu", (unsigned long long)n->id,
                        u->state == CLUSTER_LEADER      ? "leads"
                        : u->state == CLUSTER_CANDIDATE ? "is candidate"
                                                        : "follows",
                        (unsigned long long)cluster_raft_term(n->raft), (unsigned long long)u->leader_id);
                n->read_count = 0;
                if (u->state == CLUSTER_LEADER)
                        oracle_leader(w, n);
        }
        if (u->has_commit_index)
                oracle_commit(w, n, u->commit_index);
        return !w->result->has_failed;
}

static void answer_proposals(struct world *w, struct node *n)
{
        unsigned done = 0;

        for (; done < n->proposal_count && n->proposals[done].index <= n->applied; done++) {
                const struct proposal *p = &n->proposals[done];
                const struct entry *e = log_at(&n->log, p->index);

                if (e->term != p->term) {
                        w->result->totals.failed++;
                        continue;
                }
                if (e->value != p->value || log_at(&w->committed, p->index)->value != p->value)
                        world_fail(w, "entry %llu is acknowledged with another value",
                                (unsigned long long)p->index);
                w->acknowledged = MAX(w->acknowledged, p->index);
                w->result->totals.acknowledged++;
        }
        n->proposal_count -= done;
        if (done && n->proposal_count)
                memmove(n->proposals, n->proposals + done, n->proposal_count * sizeof(*n->proposals));
}

static void answer_read(struct world *w, const struct node *n, uint64_t acknowledged)
{
        w->result->totals.reads++;
        if (n->applied < acknowledged)
                world_fail(w, "node %llu reads at %llu, and %llu was acknowledged before",
                        (unsigned long long)n->id, (unsigned long long)n->applied,
                        (unsigned long long)acknowledged);
}

static void answer_reads(struct world *w, struct node *n)
{
        uint64_t confirmed = cluster_raft_probe_confirmed(n->raft);
        unsigned left = 0;

        for (unsigned i = 0; i < n->read_count; i++) {
                const struct read r = n->reads[i];

                if (r.nonce <= confirmed && r.index <= n->applied)
                        answer_read(w, n, r.acknowledged);
                else
                        n->reads[left++] = r;
        }
        n->read_count = left;
}

/* Gives true if a change was applied, so that there is another update to carry out. */
static bool apply(struct world *w, struct node *n, struct cluster_update *ret)
{
        uint64_t until = w->options.mutant == APPLY_PAST_STORED ? MIN(n->commit, n->log.count)
                                                                : MIN(n->commit, n->stored);

        while (!n->is_installing && n->applied < until) {
                const struct entry *e = log_at(&n->log, ++n->applied);
                int r;

                if (n->applied == until)
                        oracle_applied(w, n, n->applied);
                if (e->type != CLUSTER_CHANGE)
                        continue;
                node_step_begins(w, n);
                r = cluster_raft_configured(
                        n->raft, node_clock(w, n), n->applied, world_payload(w, e->value), ret);
                if (r)
                        engine_failed(w, n, "configured", r);
                return !r;
        }
        return false;
}

void node_carry_out(struct world *w, struct node *n, struct cluster_update *u)
{
        uint64_t commit_before = n->commit, timeout_us;
        int r;

        do {
                if (!carry_out_part(w, n, u))
                        return;
                timeout_us = u->timeout_us;
                while (u->has_more) {
                        node_step_begins(w, n);
                        r = cluster_raft_more(n->raft, node_clock(w, n), u);
                        if (r) {
                                engine_failed(w, n, "more", r);
                                return;
                        }
                        if (!carry_out_part(w, n, u))
                                return;
                        timeout_us = u->timeout_us;
                }
                oracle_configuration(w, n);
        } while (apply(w, n, u) && !w->result->has_failed);
        answer_proposals(w, n);
        answer_reads(w, n);
        if (n->commit > commit_before && w->rates.pushes_commit) {
                cluster_raft_push_commit(n->raft, u);
                send_messages(w, n, u);
        }
        n->timer_generation++;
        if (timeout_us != UINT64_MAX)
                world_at(w, world_time(n, timeout_us), EVENT_TIMER, (unsigned)n->id - 1, n->timer_generation,
                        NULL);
        if (w->options.mutant == PERSISTED_AT_ISSUE && n->stored < n->log.count && !n->is_installing) {
                n->stored = n->log.count;
                tell_persisted(w, n, n->stored);
        }
}

/* ---- life ---- */

void node_start(struct world *w, struct node *n)
{
        struct cluster_options options = {.node_id = n->id,
                .address = "self",
                .seed = world_random(w, UINT32_MAX),
                .trailing = w->trailing,
                .in_flight_max = w->in_flight,
                .mutants = w->options.guards_off};
        struct cluster_start start = {.term = n->term, .voted_for = n->vote};
        struct cluster_entry *entries;
        struct cluster_update u;
        int r;

        n->is_up = true;
        n->incarnation++;
        log_cut(&n->log, 0);
        n->change_index = 0;
        for (uint64_t i = 0; i < n->disk.count; i++) {
                if (n->disk.entries[i].type == CLUSTER_CHANGE)
                        n->change_index = i + 1;
                log_add(&n->log, n->disk.entries[i]);
        }
        n->stored = n->log.count;
        n->commit = n->applied = 0;
        entries = memory_new_array(n->log.count + 1, sizeof(*entries));
        if (n->seal.index) {
                start.base_index = n->seal.index;
                start.base_term = n->seal.term;
                start.base_configuration = world_payload(w, n->seal.configuration);
                start.base_configuration_index = n->seal.configuration_index;
        }
        for (uint64_t i = n->seal.index + 1; i <= n->log.count; i++) {
                const struct entry *e = log_at(&n->log, i);

                entries[start.entry_count] = (struct cluster_entry){.term = e->term, .type = e->type};
                if (e->type == CLUSTER_CHANGE)
                        entries[start.entry_count].payload = world_payload(w, e->value);
                start.entry_count++;
        }
        start.entries = entries;
        if (cluster_start_needs_term(&options, &start, &start.term, &start.voted_for))
                save_vote(n, start.term, start.voted_for);
        else
                start.term = n->term, start.voted_for = n->vote;
        r = cluster_raft_new(&options, &n->raft);
        if (!r) {
                node_step_begins(w, n);
                r = cluster_raft_start(n->raft, node_clock(w, n), &start, &u);
        }
        free(entries);
        world_say(w, "n%llu starts with %llu entries, term %llu", (unsigned long long)n->id,
                (unsigned long long)n->log.count, (unsigned long long)n->term);
        if (r)
                engine_failed(w, n, "start", r);
        else
                node_carry_out(w, n, &u);
}

void node_stop_engine(struct node *n)
{
        cluster_raft_free(&n->raft);
        n->timer_generation++;
        n->proposal_count = 0;
        n->read_count = 0;
        n->is_installing = false;
}

/* What our own side could do wrong with a disk. */
static void spoil_disk(struct world *w, struct node *n)
{
        uint64_t lost = 0;

        if (w->options.mutant == SYNCED_LOST)
                lost = world_random(w, 20);
        if (w->options.mutant == PERSISTED_LAZILY)
                lost = world_random(w, 2);
        log_cut(&n->disk, MAX(n->disk.count - MIN(lost, n->disk.count), MAX(n->seal.index, 1)));
        if (!n->older_term || world_chance(w, 500))
                return;
        if (w->options.mutant == VOTE_NOT_DURABLE)
                n->vote = n->older_term == n->term ? n->older_vote : 0;
        if (w->options.mutant == TERM_ROLLED_BACK && n->disk.count &&
                n->older_term >= n->disk.entries[n->disk.count - 1].term && n->older_term >= n->seal.term) {
                n->term = n->older_term;
                n->vote = n->older_vote;
        }
}

void node_crash(struct world *w, struct node *n)
{
        world_say(w, "n%llu crashes", (unsigned long long)n->id);
        w->result->totals.crashes++;
        if (n->write_count && world_chance(w, 500)) {
                const struct write *torn = &n->writes[n->write_first];

                put_on_disk(n, torn, world_random(w, torn->count + 1));
        }
        for (; n->write_count; n->write_count--) {
                free(n->writes[n->write_first].entries);
                n->write_first = (n->write_first + 1) % WRITES_MAX;
        }
        spoil_disk(w, n);
        node_stop_engine(n);
        n->is_up = false;
        n->incarnation++;
        n->disk_free_at = 0;
        n->paused_until = 0;
        grow_forget(n);
}

/* ---- what comes in ---- */

void node_timer(struct world *w, struct node *n)
{
        struct cluster_update u;
        int r;

        if (!n->raft)
                return;
        oracle_steps(w, n, true);
        node_step_begins(w, n);
        r = cluster_raft_timeout(n->raft, node_clock(w, n), &u);
        if (r)
                engine_failed(w, n, "timeout", r);
        else
                node_carry_out(w, n, &u);
}

void node_receive(struct world *w, struct node *n, const struct cluster_message *m)
{
        struct cluster_update u;
        int r;

        node_step_begins(w, n);
        r = cluster_raft_receive(n->raft, node_clock(w, n), m, &u);
        if (r)
                engine_failed(w, n, "receive", r);
        else
                node_carry_out(w, n, &u);
}

static void receive(struct world *w, struct node *n, struct packet *packet)
{
        struct cluster_message m;
        struct cluster_entry *entries;
        struct bytes rest;

        if (cluster_message_decode(buffer_bytes(&packet->bytes), &m, &rest) || rest.size) {
                world_fail(w, "a message does not survive its bytes");
                return;
        }
        m.node_id = packet->from;
        entries = memory_new_array(packet->entry_count + 1, sizeof(*entries));
        for (unsigned i = 0; i < packet->entry_count; i++) {
                struct entry *e = &packet->entries[i];

                entries[i] = (struct cluster_entry){.term = e->term, .type = e->type, .cookie = e};
                if (e->type == CLUSTER_CHANGE)
                        entries[i].payload = world_payload(w, e->value);
        }
        if (m.type == CLUSTER_APPEND)
                m.append.entries = entries;
        if (n->raft)
                node_receive(w, n, &m);
        free(entries);
}

/* ---- fetching ---- */

static void serve_fetch(struct world *w, struct node *n, const struct packet *asked)
{
        uint64_t until = w->options.mutant == INSTALL_UNCOMMITTED ? n->log.count : n->applied;
        struct packet *p;

        if (!n->raft || asked->a > until)
                return;
        p = world_packet(n->id, asked->from, FETCHED);
        p->a = asked->a;
        p->b = asked->b;
        p->c = log_chain(&n->log, asked->a - 1);
        p->entry_count = (unsigned)MIN(until - asked->a + 1, FETCH_ENTRIES_MAX);
        p->entries = memory_new_array(p->entry_count, sizeof(*p->entries));
        memcpy(p->entries, log_at(&n->log, asked->a), p->entry_count * sizeof(*p->entries));
        world_send(w, p);
}

static void take_fetched(struct world *w, struct node *n, const struct packet *p)
{
        if (!n->is_installing || p->b != (n->incarnation << 32 | n->install_generation) ||
                p->a != n->log.count + 1 || p->a > n->install_index)
                return;
        if (p->c != log_chain(&n->log, n->log.count)) {
                world_fail(w, "node %llu has committed what node %llu has not", (unsigned long long)n->id,
                        (unsigned long long)p->from);
                return;
        }
        issue_write(w, n, p->a, p->entries, MIN(p->entry_count, n->install_index - p->a + 1));
        if (n->log.count < n->install_index)
                ask_for_entries(w, n, p->from);
}

void node_packet(struct world *w, struct node *n, struct packet *packet)
{
        world_hash(w, w->now ^ (packet->from << 8) ^ packet->kind);
        switch (packet->kind) {
        case ENGINE:
                receive(w, n, packet);
                break;
        case FETCH:
                serve_fetch(w, n, packet);
                break;
        case FETCHED:
                take_fetched(w, n, packet);
                break;
        case OFFER:
                grow_take_offer(w, n, packet);
                break;
        }
}

/* ---- clients and duties ---- */

void node_client(struct world *w, struct node *n)
{
        unsigned count = 1 + (unsigned)world_random(w, 4);
        struct cluster_entry entries[4];
        struct entry values[4];
        struct cluster_update u;
        int r;

        if (!n->raft || !cluster_raft_can_write(n->raft) || n->hold_until)
                return;
        for (unsigned i = 0; i < count; i++) {
                values[i].value = ++w->next_value;
                entries[i] = (struct cluster_entry){.type = CLUSTER_COMMAND, .cookie = &values[i]};
        }
        node_step_begins(w, n);
        r = cluster_raft_submit(n->raft, node_clock(w, n), entries, count, &u);
        if (r) {
                engine_failed(w, n, "submit", r);
                return;
        }
        if (n->proposal_count + count > n->proposal_capacity) {
                n->proposal_capacity = (n->proposal_count + count) * 2;
                n->proposals = memory_resize(n->proposals, n->proposal_capacity * sizeof(*n->proposals));
        }
        for (unsigned i = 0; i < count; i++)
                n->proposals[n->proposal_count++] =
                        (struct proposal){u.first_index + i, u.entries[i].term, values[i].value};
        node_carry_out(w, n, &u);
}

static void begin_read(struct world *w, struct node *n)
{
        struct read r = {.acknowledged = w->acknowledged};
        struct cluster_update u;

        if (w->options.mutant == READ_WITHOUT_PROBE) {
                if (cluster_raft_state(n->raft) == CLUSTER_LEADER)
                        answer_read(w, n, w->acknowledged);
                return;
        }
        if (n->read_count == READS_MAX || cluster_raft_probe(n->raft, &r.nonce, &r.index, &u))
                return;
        n->reads[n->read_count++] = r;
        node_carry_out(w, n, &u);
}

static void seal(struct world *w, struct node *n)
{
        uint64_t index = n->applied - world_random(w, MIN(n->applied, 10) + 1), change = index;
        struct cluster_update u;
        int r;

        while (change && log_at(&n->log, change)->type != CLUSTER_CHANGE)
                change--;
        if (n->is_installing || index <= n->seal.index || !change)
                return;
        n->seal = (struct seal){.index = index,
                .term = log_at(&n->log, index)->term,
                .configuration = log_at(&n->log, change)->value,
                .configuration_index = change};
        w->result->totals.seals++;
        node_step_begins(w, n);
        r = cluster_raft_sealed(n->raft, node_clock(w, n), index, n->seal.term,
                world_payload(w, n->seal.configuration), change, &u);
        if (r)
                engine_failed(w, n, "sealed", r);
        else
                node_carry_out(w, n, &u);
}

void node_tick(struct world *w, struct node *n)
{
        grow_tick(w, n);
        if (!n->is_up || !n->raft)
                return;
        if (n->is_installing)
                ask_for_entries(w, n, 1 + world_random(w, w->node_count));
        else if (w->rates.seal_every_us && world_random(w, w->rates.seal_every_us) < 35 * MS)
                seal(w, n);
        if (n->is_up && n->raft && world_chance(w, READ_EVERY))
                begin_read(w, n);
}
