/* Samples of a node: a page of metrics read, and what two of them say together. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json_out.h"
#include "cli/top.h"

#define COUNTER TOP_COUNTER
#define GAUGE   TOP_GAUGE

static const struct {
        const char *name;
        enum top_kind kind;
        const char *metric;
} numbers[] = {
#define TOP_ROW(id, name, kind, metric) {name, kind, metric},
        TOP_NUMBERS(TOP_ROW)
#undef TOP_ROW
};
static_assert(COUNT_OF(numbers) == TOP_NUMBERS_COUNT, "one row each");

/* The metrics that there are of each durable subscription, and where they go. */
static const struct {
        const char *metric;
        size_t offset;
} group_numbers[] = {
        {"nilo_subscription_lag_events{", offsetof(struct top_group, lag_events)},
        {"nilo_subscription_lag_seconds{", offsetof(struct top_group, lag_seconds)},
        {"kurrentdb_persistent_sub_connections{", offsetof(struct top_group, consumers)},
        {"kurrentdb_persistent_sub_in_flight_messages{", offsetof(struct top_group, in_flight)},
        {"kurrentdb_persistent_sub_parked_messages{", offsetof(struct top_group, parked)},
        {"kurrentdb_persistent_sub_items_processed_total{", offsetof(struct top_group, processed)},
};

/* ---- the page ---- */

/* The value of a label, with its escapes undone. */
static bool read_label(const char *line, size_t size, const char *name, char ret[TOP_NAME_SIZE])
{
        const char *at = memmem(line, size, name, strlen(name));
        const char *end = line + size;
        size_t n = 0;

        if (!at)
                return false;
        for (at += strlen(name); at < end && *at != '"' && n < TOP_NAME_SIZE - 1; at++) {
                if (*at == '\\' && at + 1 < end) {
                        at++;
                        ret[n++] = *at == 'n' ? '\n' : *at;
                } else {
                        ret[n++] = *at;
                }
        }
        ret[n] = 0;
        return true;
}

/* The subscriptions stand in one order in each family, so the one at `hint` is nearly always it. */
static struct top_group *find_group(
        struct top_sample *s, const char *stream, const char *group, unsigned hint)
{
        for (unsigned i = 0; i < s->group_count; i++) {
                struct top_group *g = &s->groups[(hint + i) % s->group_count];

                if (strcmp(g->group, group) == 0 && strcmp(g->stream, stream) == 0)
                        return g;
        }
        if (s->group_count == TOP_GROUPS_MAX)
                return NULL;
        s->groups[s->group_count] = (struct top_group){0};
        snprintf(s->groups[s->group_count].stream, TOP_NAME_SIZE, "%s", stream);
        snprintf(s->groups[s->group_count].group, TOP_NAME_SIZE, "%s", group);
        return &s->groups[s->group_count++];
}

static void read_group(
        struct top_sample *s, const char *line, size_t size, size_t offset, double value, unsigned *hint)
{
        char stream[TOP_NAME_SIZE];
        char group[TOP_NAME_SIZE];
        struct top_group *g;

        if (!read_label(line, size, "event_stream_id=\"", stream) ||
                !read_label(line, size, "group_name=\"", group))
                return;
        g = find_group(s, stream, group, *hint);
        if (!g)
                return;
        memcpy((char *)g + offset, &value, sizeof value);
        *hint = (unsigned)(g - s->groups) + 1;
}

static void read_state(struct top_sample *s, const char *line, size_t size, double value)
{
        if (value > 0 && strncmp(line, "kurrentdb_statuses{name=\"Node\"", 30) == 0) {
                char state[TOP_NAME_SIZE];

                if (read_label(line, size, "status=\"", state))
                        snprintf(s->state, sizeof s->state, "%.31s", state);
        }
}

static void read_line(struct top_sample *s, const char *line, size_t size, unsigned *next, unsigned *hint)
{
        const char *space = memrchr(line, ' ', size);
        size_t name_size = space ? (size_t)(space - line) : 0;
        double value;

        if (!name_size)
                return;
        value = strtod(space + 1, NULL); /* ends at the line's end at the latest */
        read_state(s, line, name_size, value);
        /* The page and the table are in about the same order. */
        for (unsigned i = 0; i < TOP_NUMBERS_COUNT; i++) {
                unsigned number = (*next + i) % TOP_NUMBERS_COUNT;

                if (strncmp(numbers[number].metric, line, name_size) == 0 &&
                        !numbers[number].metric[name_size]) {
                        s->values[number] = value;
                        *next = number + 1;
                        return;
                }
        }
        for (size_t i = 0; i < COUNT_OF(group_numbers); i++)
                if (strncmp(line, group_numbers[i].metric, strlen(group_numbers[i].metric)) == 0)
                        read_group(s, line, name_size, group_numbers[i].offset, value, hint);
}

bool top_read(const char *page, uint64_t at_us, struct top_sample *ret)
{
        unsigned next = 0;
        unsigned hint = 0;

        *ret = (struct top_sample){.at_us = at_us};
        for (unsigned i = 0; i < TOP_NUMBERS_COUNT; i++)
                ret->values[i] = NAN;
        for (const char *end; *page; page = end + (*end == '\n')) {
                end = strchrnul(page, '\n');
                if (*page != '#')
                        read_line(ret, page, (size_t)(end - page), &next, &hint);
        }
        return !isnan(ret->values[TOP_UP]);
}

/* ---- two samples ---- */

static double rate_of(double now, double before, double seconds)
{
        /* A counter that went back was begun again: how far it had come is not known. */
        return seconds > 0 && now >= before ? (now - before) / seconds : 0;
}

static void rate_groups(struct top_node *node, struct top_sample *s, double seconds)
{
        node->parked = 0;
        for (unsigned i = 0; i < s->group_count; i++) {
                struct top_group *g = &s->groups[i];

                node->parked += g->parked;
                for (unsigned j = 0; j < node->last.group_count; j++) {
                        const struct top_group *before = &node->last.groups[j];

                        if (strcmp(g->group, before->group) == 0 && strcmp(g->stream, before->stream) == 0)
                                g->rate = rate_of(g->processed, before->processed, seconds);
                }
        }
}

static void add_curves(struct top_node *node)
{
        const double *n = node->numbers;

        curve_add(&node->appends, n[TOP_APPENDS]);
        curve_add(&node->events, n[TOP_EVENTS]);
        curve_add(&node->read, n[TOP_READ]);
        curve_add(&node->delivered, n[TOP_DELIVERED] + n[TOP_GIVEN_OUT]);
        curve_add(&node->received, n[TOP_RECEIVED]);
        curve_add(&node->sent, n[TOP_SENT]);
        curve_add(&node->syncs, node->sync_ms);
}

void top_take(struct top_node *node, const struct top_sample *sample)
{
        const struct top_sample *before = &node->last;
        struct top_sample now = *sample;
        double seconds = before->at_us ? (double)(now.at_us - before->at_us) / 1e6 : 0;
        double syncs;

        node->problem[0] = 0;
        for (unsigned i = 0; i < TOP_NUMBERS_COUNT; i++) {
                bool is_rate = numbers[i].kind == TOP_COUNTER;

                node->numbers[i] = is_rate && !isnan(now.values[i])
                                           ? rate_of(now.values[i], before->values[i], seconds)
                                           : now.values[i];
        }
        syncs = node->numbers[TOP_SYNCS];
        node->sync_ms = syncs > 0 ? node->numbers[TOP_SYNC_SECONDS] / syncs * 1000 : 0;
        rate_groups(node, &now, seconds);
        node->has_rates = before->at_us != 0;
        node->last = now;
        if (node->has_rates)
                add_curves(node);
}

void top_lost(struct top_node *node, const char *why)
{
        size_t size = strlen(node->url);

        /* Which one it is stands beside it. */
        if (size && strncmp(why, node->url, size) == 0 && strncmp(why + size, ": ", 2) == 0)
                why += size + 2;
        snprintf(node->problem, sizeof node->problem, "%s", *why ? why : "no answer");
}

unsigned top_leader(const struct top_node *nodes, unsigned count)
{
        for (unsigned i = 0; i < count; i++)
                if (!*nodes[i].problem && strcmp(nodes[i].last.state, "Leader") == 0)
                        return i;
        for (unsigned i = 0; i < count; i++)
                if (!*nodes[i].problem && nodes[i].last.at_us)
                        return i;
        return 0;
}

/* ---- as JSON ---- */

static void json_number(struct json_out *j, const char *key, double value)
{
        json_key(j, key);
        if (value >= 0 && value < 9e15 && value == floor(value))
                json_u64(j, (uint64_t)value);
        else
                json_double(j, value);
}

static void group_to_json(const struct top_group *g, struct json_out *j)
{
        json_object_begin(j);
        json_field_string(j, "stream", g->stream);
        json_field_string(j, "group", g->group);
        json_number(j, "lag_events", g->lag_events);
        json_number(j, "lag_seconds", g->lag_seconds);
        json_number(j, "consumers", g->consumers);
        json_number(j, "in_flight", g->in_flight);
        json_number(j, "parked", g->parked);
        json_number(j, "events_per_second", g->rate);
        json_object_end(j);
}

static void node_to_json(const struct top_node *node, struct json_out *j)
{
        json_object_begin(j);
        json_field_string(j, "url", node->url);
        if (node->id)
                json_field_u64(j, "node", node->id);
        json_field_bool(j, "reached", !*node->problem && node->last.at_us);
        if (*node->problem)
                json_field_string(j, "problem", node->problem);
        if (node->last.at_us && !*node->problem) {
                json_field_string(j, "state", node->last.state);
                for (unsigned i = 0; i < TOP_NUMBERS_COUNT; i++) {
                        char key[64];

                        snprintf(key, sizeof key, "%s%s", numbers[i].name,
                                numbers[i].kind == TOP_COUNTER ? "_per_second" : "");
                        json_number(j, key, node->numbers[i]);
                }
                json_number(j, "sync_ms_mean", node->sync_ms);
                json_number(j, "parked", node->parked);
                json_key(j, "subscriptions");
                json_array_begin(j);
                for (unsigned i = 0; i < node->last.group_count; i++)
                        group_to_json(&node->last.groups[i], j);
                json_array_end(j);
        }
        json_object_end(j);
}

void top_json(const struct top_node *nodes, unsigned count, const char *time, struct buffer *out)
{
        struct json_out j = {.out = out};

        json_object_begin(&j);
        json_field_string(&j, "time", time);
        json_key(&j, "nodes");
        json_array_begin(&j);
        for (unsigned i = 0; i < count; i++)
                node_to_json(&nodes[i], &j);
        json_array_end(&j);
        json_object_end(&j);
}
