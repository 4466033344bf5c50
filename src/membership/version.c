/* The cluster version: what all nodes have agreed to do alike (G20). It is an event of the stream
 * $nilo-cluster, so every node that applies the log changes at the same place of it; the leader writes the
 * first when there is none, and only an operator's `finalize` raises it, once every member supports more.
 * Until then a node can go back to the release that it came from.
 *
 * A node that meets a version which it does not support would treat the log differently from the others: it
 * must not serve. cluster.json remembers the version, so such a node is stopped before it takes part at all.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "membership/room.h"

#define EVENT_TYPE "$nilo-cluster-version"

static void range_to_text(unsigned min, unsigned max, char ret[VERSION_TEXT_SIZE])
{
        if (min == max)
                snprintf(ret, VERSION_TEXT_SIZE, "%u", max);
        else
                snprintf(ret, VERSION_TEXT_SIZE, "%u to %u", min, max);
}

/* ---- what this node supports ---- */

unsigned version_min(const struct membership *m)
{
        return m->options.version_min;
}

unsigned version_max(const struct membership *m)
{
        return m->options.version_max;
}

unsigned membership_version(const struct membership *m)
{
        return m->version ? m->version : version_min(m);
}

bool version_is_supported(const struct membership *m, unsigned version, char why[WHY_SIZE_MAX])
{
        char range[VERSION_TEXT_SIZE];

        if (!version || (version >= version_min(m) && version <= version_max(m)))
                return true;
        range_to_text(version_min(m), version_max(m), range);
        snprintf(why, WHY_SIZE_MAX,
                "the cluster has version %u, and nilo " NILO_VERSION
                " supports version %s: it would not do what the other nodes do, so it does not serve. %s. "
                "Its data is untouched",
                version, range,
                version > version_max(m) ? "Start this node with the release that the other nodes run"
                                         : "Start this node with an older release, run `nilo cluster "
                                           "finalize`, then come back "
                                           "to this one");
        return false;
}

/* ---- following the log ---- */

static void take(struct membership *m, unsigned version)
{
        char why[WHY_SIZE_MAX];

        if (version == m->version)
                return;
        m->version = version;
        membership_fact(m, FACT_cluster_version_agreed, 0, "version %u", version);
        if (!m->has_file)
                return;
        /* The log has it; without space the next start finds it there. */
        if (cluster_file_write(m, why))
                membership_fact(m, FACT_disk_space_low, 0, "cluster.json could not be written");
}

/* Reads the stream only when it has grown, since a node looks twice a second. */
static void look(struct membership *m)
{
        struct store *store = membership_default_store(m);
        struct store_stream_info info;
        struct ledger *ledger;
        char why[WHY_SIZE_MAX];
        uint64_t position;

        if (!store || !store_is_ready(store))
                return;
        position = store_next_position(store);
        if (m->version_is_looked_at && position == m->version_position)
                return;
        if (ledger_info(m, &info))
                return; /* whoever reads it is told what is wrong with it */
        m->version_position = position;
        if (m->version_is_looked_at && info.has_events == m->version_has_events &&
                info.last_revision == m->version_revision)
                return;
        ledger = MEMORY_NEW(struct ledger);
        if (ledger_read(m, ledger, why)) {
                m->version_is_looked_at = true;
                m->version_has_events = info.has_events;
                m->version_revision = info.last_revision;
                take(m, ledger->version);
        }
        free(ledger);
}

static bool check(struct membership *m)
{
        char why[WHY_SIZE_MAX];

        if (version_is_supported(m, m->version, why))
                return true;
        if (!m->is_unfit) {
                m->is_unfit = true;
                m->options.on_unfit(m->options.arg, why);
        }
        return false;
}

bool membership_may_serve(struct membership *m)
{
        look(m);
        return check(m);
}

/* ---- the first ---- */

static void on_first(void *arg, enum store_verdict verdict, const char *problem)
{
        struct membership *m = arg;

        /* Another event may have come between; then it is looked at again. */
        (void)verdict;
        (void)problem;
        m->version_is_writing = false;
}

static json_t *event_of(unsigned version)
{
        json_t *data = json_object();

        json_object_set_new(data, "version", json_integer(version));
        return data;
}

/* A node that is alone writes none: nobody has to agree, and its log is its user's. */
static void write_first(struct membership *m)
{
        struct ledger *ledger;
        char why[WHY_SIZE_MAX];

        if (m->version || m->version_is_writing || m->is_stopping || !m->peers || !membership_is_leading(m))
                return;
        ledger = MEMORY_NEW(struct ledger);
        if (ledger_read(m, ledger, why) && !ledger->version) {
                m->version_is_writing = true;
                ledger_append(m, ledger, EVENT_TYPE, event_of(version_min(m)), on_first, m);
        }
        free(ledger);
}

void version_tick(struct membership *m)
{
        look(m);
        if (check(m))
                write_first(m);
}

/* ---- finalize ---- */

static const char *name_of(const struct membership_node *n, char ret[WHY_SIZE_MAX])
{
        snprintf(ret, WHY_SIZE_MAX, *n->name ? "node %llu (%.63s)" : "node %llu%s",
                (unsigned long long)n->node_id, n->name);
        return ret;
}

/* The highest version that every member supports; 0: one of them does not support the next, `why` names it.
 */
static unsigned highest_of_all(
        struct membership *m, unsigned version, unsigned *ret_highest_of_any, char why[WHY_SIZE_MAX])
{
        struct membership_node nodes[CLUSTER_MEMBERS_MAX];
        unsigned count = membership_nodes(m, nodes, CLUSTER_MEMBERS_MAX);
        unsigned highest = UINT_MAX;
        char name[WHY_SIZE_MAX], range[VERSION_TEXT_SIZE];

        *ret_highest_of_any = 0;
        *why = 0;
        for (unsigned i = 0; i < count; i++) {
                const struct membership_node *n = &nodes[i];
                bool is_known = n->version_max && n->is_alive;

                *ret_highest_of_any = MAX(*ret_highest_of_any, n->version_max);
                highest = MIN(highest, is_known ? n->version_max : 0);
                if (*why || (is_known && n->version_max > version))
                        continue;
                if (is_known) {
                        range_to_text(n->version_min, n->version_max, range);
                        snprintf(why, WHY_SIZE_MAX, "%.100s supports cluster version %s, and not %u",
                                name_of(n, name), range, version + 1);
                } else {
                        snprintf(why, WHY_SIZE_MAX,
                                "%.100s does not answer, so nobody knows which versions it supports",
                                name_of(n, name));
                }
        }
        return highest > version ? highest : 0;
}

unsigned version_possible(struct membership *m)
{
        unsigned any;
        char why[WHY_SIZE_MAX];
        unsigned highest = highest_of_all(m, membership_version(m), &any, why);

        return highest ? highest : membership_version(m);
}

static void answer(struct command *c, unsigned from, unsigned to, bool is_done)
{
        bool is_dry_run = command_flag(c, "dry_run");
        json_t *body = json_object();
        json_t *steps = json_array();
        char step[PLAN_TEXT_SIZE];

        snprintf(step, sizeof step, "raise the cluster version from %u to %u", from, to);
        if (to > from)
                json_array_append_new(steps, json_string(step));
        if (is_dry_run) {
                json_object_set_new(body, "dry_run", json_true());
                json_object_set_new(body, "allowed", json_true());
        } else {
                json_object_set_new(body, "done", json_boolean(is_done));
        }
        json_object_set_new(body, "cluster_version", json_integer(is_dry_run ? from : to));
        json_object_set_new(body, "raised", json_boolean(!is_dry_run && to > from));
        json_object_set_new(body, "steps", steps);
        command_end_ok(c, body);
}

static void on_raised(void *arg, enum store_verdict verdict, const char *problem)
{
        struct command *c = arg;

        if (!command_resume(c))
                return;
        if (verdict == STORE_OK)
                answer(c, (unsigned)c->state->node_id, c->state->at, true);
        else if (verdict == STORE_CONFLICT) /* a node was let in, or a token made: from the beginning */
                command_run(c);
        else
                command_refuse_verdict(c, verdict, problem);
}

void finalize_run(struct command *c)
{
        struct membership *m = c->m;
        struct command_state *state = command_state(c);
        char why[WHY_SIZE_MAX] = "";
        unsigned version, highest, any;

        if (!ledger_read(m, &state->ledger, why)) {
                command_refuse(c, 500, "failed", "It failed", NULL, "%s", why);
                return;
        }
        version = state->ledger.version ? state->ledger.version : version_min(m);
        highest = highest_of_all(m, version, &any, why);
        if (any <= version) {
                answer(c, version, version, true);
                return;
        }
        if (!highest) {
                command_refuse(c, 409, "version", "Not every member supports the next cluster version",
                        "bring every node to the new release, then ask again", "%s", why);
                return;
        }
        if (command_flag(c, "dry_run")) {
                answer(c, version, highest, false);
                return;
        }
        state->node_id = version;
        state->at = highest;
        command_hold(c);
        ledger_append(m, &state->ledger, EVENT_TYPE, event_of(highest), on_raised, c);
}

/* ---- who wants to join ---- */

bool version_check_joiner(struct command *c, unsigned version)
{
        unsigned min = (unsigned)MIN(command_number(c, "cluster_version_min", 1), (uint64_t)UINT_MAX);
        unsigned max = (unsigned)MIN(command_number(c, "cluster_version_max", 1), (uint64_t)UINT_MAX);
        char range[VERSION_TEXT_SIZE];

        if (!version)
                version = version_min(c->m);
        if (version >= min && version <= max)
                return true;
        range_to_text(min, max, range);
        command_refuse(c, 409, "version", "The node's release does not fit",
                version > max
                        ? "start that node with the release that the other nodes run"
                        : "run nilo cluster finalize first, or start that node with the release that the "
                          "other nodes run",
                "%.63s supports cluster version %s, and this cluster has version %u", command_text(c, "name"),
                range, version);
        return false;
}
