/* The engine behind the contract: events in, updates out, no I/O. Memory follows the ownership rules of
 * 0.22.1: arrays that are submitted stay ours until the update is handled, the automatic barrier of a new
 * leader is given to us, configurations that are passed in go to the library. */
#include <errno.h>
#include <pthread.h>
#include <raft.h>
#include <stdlib.h>

#include "base/memory.h"
#include "cluster/guards.h"

static_assert((int)CLUSTER_COMMAND == (int)RAFT_COMMAND, "types pass through");
static_assert((int)CLUSTER_BARRIER == (int)RAFT_BARRIER, "types pass through");
static_assert((int)CLUSTER_CHANGE == (int)RAFT_CHANGE, "types pass through");
static_assert((int)CLUSTER_LEADER == (int)RAFT_LEADER, "states pass through");
static_assert(RAFT_VERSION_NUMBER == CLUSTER_ENGINE_VERSION, "the header is of exactly 0.22.1 (RG17)");

enum {
        ELECTION_TIMEOUT_MS_DEFAULT = 500,
        INFLIGHT_ENTRIES_MAX =
                1 << 20, /* also bounds what is being written here; the store's own limit is far below */
};

struct cluster_raft {
        struct raft raft;
        uint64_t last_ms; /* newest time that the engine has seen */
        uint64_t last_timeout_ms;
        uint64_t own_term_index; /* first entry of the term in which this node leads; 0: none */
        uint64_t commit_index;
        struct raft_entry *batch; /* submitted, until the next step */
        void **cookies;
        unsigned batch_capacity;
        struct cluster_entry *entries; /* of the update */
        unsigned entries_capacity;
        enum cluster_state state;
        uint64_t leader_id;
        bool is_started;
};

/* The shared library does not export raft_version_number(), so the version is that of the header, which the
 * build takes from the very package whose library it links; packages depend on exactly that version. */
int cluster_engine_version(void)
{
        return RAFT_VERSION_NUMBER;
}

/* ---- configurations ---- */

static int decode(struct bytes payload, struct raft_configuration *ret)
{
        struct raft_buffer buffer = {.base = (void *)payload.data, .len = payload.size};

        raft_configuration_init(ret);
        return payload.size ? raft_configuration_decode(&buffer, ret) : RAFT_MALFORMED;
}

int cluster_configuration_single(uint64_t node_id, const char *address, struct buffer *out)
{
        struct raft_configuration configuration;
        struct raft_buffer encoded;
        int r;

        raft_configuration_init(&configuration);
        r = raft_configuration_add(&configuration, node_id, address, RAFT_VOTER);
        if (!r)
                r = raft_configuration_encode(&configuration, &encoded);
        raft_configuration_close(&configuration);
        if (r)
                return fault_raise(-ENOMEM);
        buffer_add(out, encoded.base, encoded.len);
        raft_free(encoded.base);
        return 0;
}

bool cluster_start_needs_term(const struct cluster_options *options, const struct cluster_start *start,
        uint64_t *ret_term, uint64_t *ret_voted_for)
{
        struct raft_configuration configuration;
        struct bytes newest = start->base_configuration;
        bool is_sole = false;

        for (uint64_t i = 0; i < start->entry_count; i++)
                if (start->entries[i].type == CLUSTER_CHANGE)
                        newest = start->entries[i].payload;
        if (decode(newest, &configuration) == 0) {
                is_sole = guard_sole_voter(options->node_id, &configuration);
                raft_configuration_close(&configuration);
        }
        *ret_term = start->term + 1;
        *ret_voted_for = options->node_id;
        return is_sole;
}

/* ---- life ---- */

int cluster_raft_new(const struct cluster_options *options, struct cluster_raft **ret)
{
        struct cluster_raft *c;

        assert(options->node_id > 0);
        if (!guard_version(cluster_engine_version()))
                return fault_raise(-ELIBBAD);
        c = MEMORY_NEW(struct cluster_raft);
        if (raft_init(&c->raft, NULL, NULL, options->node_id, options->address)) {
                free(c);
                return fault_raise(-ENOMEM);
        }
        raft_seed(&c->raft, (unsigned)options->seed);
        raft_set_election_timeout(&c->raft,
                options->election_timeout_ms ? options->election_timeout_ms : ELECTION_TIMEOUT_MS_DEFAULT);
        raft_set_pre_vote(&c->raft, true);
        raft_set_max_inflight_entries(&c->raft, INFLIGHT_ENTRIES_MAX);
        *ret = c;
        return 0;
}

void cluster_raft_free(struct cluster_raft **raft)
{
        struct cluster_raft *c = *raft;

        if (!c)
                return;
        *raft = NULL;
        raft_close(&c->raft, NULL);
        free(c->batch);
        free(c->cookies);
        free(c->entries);
        free(c);
}

/* ---- updates ---- */

static void take_entries(struct cluster_raft *c, const struct raft_update *update, struct cluster_update *ret)
{
        const struct raft_entry *batch = update->entries.batch;
        bool is_submitted = c->batch && batch >= c->batch && batch < c->batch + c->batch_capacity;

        if (update->entries.n > c->entries_capacity) {
                c->entries_capacity = update->entries.n * 2;
                c->entries = memory_resize(c->entries, c->entries_capacity * sizeof *c->entries);
        }
        for (unsigned i = 0; i < update->entries.n; i++) {
                c->entries[i] = (struct cluster_entry){
                        .term = batch[i].term,
                        .type = (enum cluster_entry_type)batch[i].type,
                        /* A barrier says nothing but that it is there. */
                        .payload = batch[i].type == RAFT_BARRIER
                                           ? BYTES_EMPTY
                                           : bytes_of(batch[i].buf.base, batch[i].buf.len),
                        .cookie = is_submitted ? c->cookies[batch - c->batch + i] : NULL,
                };
        }
        if (!is_submitted && update->entries.n == 1 && batch[0].type == RAFT_BARRIER && batch[0].batch)
                raft_free(batch[0].batch);
        ret->first_index = update->entries.index;
        ret->entries = c->entries;
        ret->entry_count = update->entries.n;
}

static bool is_alone(const struct cluster_raft *c)
{
        return c->raft.configuration.n == 1;
}

static void take_state(struct cluster_raft *c, struct cluster_update *ret)
{
        const char *address;
        raft_id leader = 0;

        c->state = (enum cluster_state)raft_state(&c->raft);
        raft_leader(&c->raft, &leader, &address);
        c->leader_id = leader;
        if (c->state != CLUSTER_LEADER)
                c->own_term_index = 0;
        ret->has_state = true;
        ret->state = c->state;
        ret->leader_id = leader;
}

/* The library writes its messages into a buffer of the whole process, and a process may have stores in
 * several threads (libnilo), so its steps take turns. */
static int step_alone(struct cluster_raft *c, struct raft_event *event, struct raft_update *ret)
{
        static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
        int r;

        pthread_mutex_lock(&turn);
        r = raft_step(&c->raft, event, ret);
        pthread_mutex_unlock(&turn);
        return r;
}

static int step(struct cluster_raft *c, uint64_t now_us, struct raft_event *event, struct cluster_update *ret)
{
        struct raft_update update = {0};
        bool was_leader = c->state == CLUSTER_LEADER;
        int r;

        event->time = guard_time_ms(now_us, &c->last_ms);
        r = step_alone(c, event, &update);
        *ret = (struct cluster_update){.timeout_us = UINT64_MAX};
        if (r)
                return r;
        if (update.flags & (RAFT_UPDATE_CURRENT_TERM | RAFT_UPDATE_VOTED_FOR)) {
                ret->has_term_or_vote = true;
                ret->term = raft_current_term(&c->raft);
                ret->voted_for = raft_voted_for(&c->raft);
        }
        if (update.flags & RAFT_UPDATE_STATE)
                take_state(c, ret);
        if (update.flags & RAFT_UPDATE_ENTRIES) {
                take_entries(c, &update, ret);
                if (!was_leader && c->state == CLUSTER_LEADER)
                        c->own_term_index = ret->first_index;
        }
        if ((update.flags & RAFT_UPDATE_COMMIT_INDEX) && raft_commit_index(&c->raft) > c->commit_index) {
                c->commit_index = raft_commit_index(&c->raft);
                ret->has_commit_index = true;
                ret->commit_index = c->commit_index;
        }
        /* Nobody to hear from and nobody to tell: an idle node of one does not wake up. */
        if (!is_alone(c))
                ret->timeout_us = guard_timeout_ms(raft_timeout(&c->raft), c->last_timeout_ms) * 1000;
        return 0;
}

/* A refusal that the contract has no word for is a bug of ours or of the engine. */
static int step_or_fault(
        struct cluster_raft *c, uint64_t now_us, struct raft_event *event, struct cluster_update *ret)
{
        int r = step(c, now_us, event, ret);

        return r ? fault_raise(r == RAFT_NOMEM ? -ENOMEM : -EPROTO) : 0;
}

/* ---- events ---- */

static struct raft_entry *start_entries(const struct cluster_start *start)
{
        struct raft_entry *entries = memory_new_array(start->entry_count, sizeof *entries);

        for (uint64_t i = 0; i < start->entry_count; i++) {
                const struct cluster_entry *e = &start->entries[i];

                entries[i].term = e->term;
                entries[i].type = (enum raft_entry_type)e->type;
                if (e->type == CLUSTER_CHANGE)
                        entries[i].buf = (struct raft_buffer){(void *)e->payload.data, e->payload.size};
        }
        return entries;
}

/* A leader by election gets its barrier from the engine. A sole voter that leads from its start gets none,
 * and counts all that it has stored as committed: its first entry is submitted here, so that nothing is
 * answered before an entry of its own term is committed (G9). */
static int start_leading(struct cluster_raft *c, uint64_t now_us, struct cluster_update *ret)
{
        struct cluster_entry barrier = {.type = CLUSTER_BARRIER};
        struct cluster_update started = *ret;
        int r;

        if (started.entry_count)
                return 0;
        r = cluster_raft_submit(c, now_us, &barrier, 1, ret);
        if (r)
                return fault_fold(r);
        c->own_term_index = ret->first_index;
        ret->has_term_or_vote |= started.has_term_or_vote;
        ret->term = raft_current_term(&c->raft);
        ret->voted_for = raft_voted_for(&c->raft);
        ret->has_state = true;
        ret->state = started.state;
        ret->leader_id = started.leader_id;
        if (started.has_commit_index && !ret->has_commit_index) {
                ret->has_commit_index = true;
                ret->commit_index = started.commit_index;
        }
        return 0;
}

int cluster_raft_start(struct cluster_raft *c, uint64_t now_us, const struct cluster_start *start,
        struct cluster_update *ret)
{
        struct raft_snapshot_metadata base = {.index = start->base_index,
                .term = start->base_term,
                .configuration_index = start->base_configuration_index};
        struct raft_event event = {.type = RAFT_START};
        int r;

        assert(!c->is_started);
        if (!guard_start(start))
                return CLUSTER_INVALID;
        for (uint64_t i = 0; i < start->entry_count; i++) {
                struct raft_configuration configuration;

                if (start->entries[i].type != CLUSTER_CHANGE)
                        continue;
                if (decode(start->entries[i].payload, &configuration))
                        return CLUSTER_INVALID;
                raft_configuration_close(&configuration);
        }
        /* Last, since from here on it is the library's to free. */
        if (start->base_index && decode(start->base_configuration, &base.configuration))
                return CLUSTER_INVALID;
        event.start.term = start->term;
        event.start.voted_for = start->voted_for;
        event.start.metadata = start->base_index ? &base : NULL;
        event.start.start_index = start->base_index + 1;
        event.start.n_entries = (unsigned)start->entry_count;
        event.start.entries = start->entry_count ? start_entries(start) : NULL;
        c->commit_index = start->base_index;
        r = step(c, now_us, &event, ret);
        if (r)
                return CLUSTER_INVALID; /* the library has freed the array */
        free(event.start.entries);
        c->is_started = true;
        take_state(c, ret);
        return c->state == CLUSTER_LEADER ? start_leading(c, now_us, ret) : 0;
}

int cluster_raft_submit(struct cluster_raft *c, uint64_t now_us, struct cluster_entry *entries,
        unsigned count, struct cluster_update *ret)
{
        struct raft_event event = {.type = RAFT_SUBMIT};
        int r;

        assert(c->is_started);
        assert(count > 0);
        if (count > c->batch_capacity) {
                c->batch_capacity = count * 2;
                c->batch = memory_resize(c->batch, c->batch_capacity * sizeof *c->batch);
                c->cookies = memory_resize(c->cookies, c->batch_capacity * sizeof *c->cookies);
        }
        for (unsigned i = 0; i < count; i++) {
                entries[i].term = raft_current_term(&c->raft);
                c->batch[i] = (struct raft_entry){
                        .term = entries[i].term,
                        .type = (enum raft_entry_type)entries[i].type,
                        .buf = {(void *)entries[i].payload.data, entries[i].payload.size},
                };
                c->cookies[i] = entries[i].cookie;
        }
        event.submit.entries = c->batch;
        event.submit.n = count;
        r = step(c, now_us, &event, ret);
        if (r == RAFT_NOTLEADER)
                return CLUSTER_NOT_LEADER;
        return r ? fault_raise(-EPROTO) : 0;
}

int cluster_raft_persisted(
        struct cluster_raft *c, uint64_t now_us, uint64_t index, struct cluster_update *ret)
{
        struct raft_event event = {.type = RAFT_PERSISTED_ENTRIES, .persisted_entries.index = index};

        if (!guard_persisted(&c->raft, index)) {
                *ret = (struct cluster_update){.timeout_us = UINT64_MAX};
                return 0;
        }
        return step_or_fault(c, now_us, &event, ret);
}

int cluster_raft_timeout(struct cluster_raft *c, uint64_t now_us, struct cluster_update *ret)
{
        struct raft_event event = {.type = RAFT_TIMEOUT};

        c->last_timeout_ms = now_us / 1000;
        return step_or_fault(c, now_us, &event, ret);
}

int cluster_raft_configured(struct cluster_raft *c, uint64_t now_us, uint64_t index,
        struct bytes configuration, struct cluster_update *ret)
{
        struct raft_event event = {.type = RAFT_CONFIGURATION, .configuration.index = index};

        if (!guard_configured(&c->raft, index)) {
                *ret = (struct cluster_update){.timeout_us = UINT64_MAX};
                return 0;
        }
        if (decode(configuration, &event.configuration.conf))
                return fault_raise(-EPROTO);
        return step_or_fault(c, now_us, &event, ret);
}

int cluster_raft_sealed(struct cluster_raft *c, uint64_t now_us, uint64_t index, uint64_t term,
        struct bytes configuration, uint64_t configuration_index, struct cluster_update *ret)
{
        struct raft_event event = {.type = RAFT_SNAPSHOT};

        if (!guard_sealed(&c->raft, index)) {
                *ret = (struct cluster_update){.timeout_us = UINT64_MAX};
                return 0;
        }
        event.snapshot.metadata.index = index;
        event.snapshot.metadata.term = term;
        event.snapshot.metadata.configuration_index = configuration_index;
        if (decode(configuration, &event.snapshot.metadata.configuration))
                return fault_raise(-EPROTO);
        return step_or_fault(c, now_us, &event, ret);
}

/* ---- what it knows ---- */

uint64_t cluster_raft_term(const struct cluster_raft *c)
{
        return raft_current_term(&c->raft);
}

uint64_t cluster_raft_commit_index(const struct cluster_raft *c)
{
        return c->commit_index;
}

enum cluster_state cluster_raft_state(const struct cluster_raft *c)
{
        return c->state;
}

bool cluster_raft_can_write(const struct cluster_raft *c)
{
        return c->state == CLUSTER_LEADER && c->own_term_index && c->commit_index >= c->own_term_index;
}

unsigned cluster_raft_members(const struct cluster_raft *c, struct cluster_member *ret, unsigned max)
{
        unsigned n = MIN(c->raft.configuration.n, max);

        for (unsigned i = 0; i < n; i++) {
                const struct raft_server *s = &c->raft.configuration.servers[i];

                ret[i] = (struct cluster_member){s->id, s->role == RAFT_VOTER, s->id == c->leader_id};
        }
        return c->raft.configuration.n;
}
