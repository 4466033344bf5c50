/* The stream $nilo-cluster: tokens to join with, who was let in by which, and the cluster version. It is
 * replicated with everything else, so the next leader knows it; appends name the revision that was read, so
 * two of them cannot both be right.
 *
 *   $nilo-token-made      {"id","salt","hash","made_us","expires_us","uses"}
 *   $nilo-token-revoked   {"id"}
 *   $nilo-node-admitted   {"request","node_id","token","name","host","port","at_us"}
 *   $nilo-cluster-version {"version"} */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "membership/room.h"

#define STREAM BYTES_LITERAL("$nilo-cluster")

enum { APPEND_US = 5 * 1000 * 1000, HEX_SIZE_MAX = 64 };

/* ---- reading ---- */

static bool hex_parse(const char *text, uint8_t *ret, size_t size)
{
        if (!text || strlen(text) != 2 * size)
                return false;
        for (size_t i = 0; i < 2 * size; i++) {
                char c = text[i];
                int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;

                if (digit < 0)
                        return false;
                ret[i / 2] = (uint8_t)(i % 2 ? ret[i / 2] | digit : digit << 4);
        }
        return true;
}

static const char *text_at(json_t *data, const char *key)
{
        const char *text = json_string_value(json_object_get(data, key));

        return text ? text : "";
}

static uint64_t number_at(json_t *data, const char *key)
{
        json_int_t n = json_integer_value(json_object_get(data, key));

        return n > 0 ? (uint64_t)n : 0;
}

static uint64_t id_at(json_t *data, const char *key)
{
        uint8_t bytes[8] = {0};

        return hex_parse(text_at(data, key), bytes, sizeof bytes) ? get_u64(bytes) : 0;
}

struct ledger_token *ledger_find_token(struct ledger *l, uint64_t id)
{
        for (unsigned i = 0; i < l->token_count; i++)
                if (l->tokens[i].hash.id == id)
                        return &l->tokens[i];
        return NULL;
}

static void note_token(struct ledger *l, json_t *data)
{
        struct ledger_token t = {
                .hash.id = id_at(data, "id"),
                .made_us = number_at(data, "made_us"),
                .expires_us = number_at(data, "expires_us"),
                .uses = (unsigned)MIN(number_at(data, "uses"), (uint64_t)UINT_MAX),
        };

        if (!hex_parse(text_at(data, "salt"), t.hash.salt, sizeof t.hash.salt) ||
                !hex_parse(text_at(data, "hash"), t.hash.hash, sizeof t.hash.hash))
                return;
        if (l->token_count == TOKENS_MAX) {
                memmove(l->tokens, l->tokens + 1, (TOKENS_MAX - 1) * sizeof l->tokens[0]);
                l->token_count--;
        }
        l->tokens[l->token_count++] = t;
}

static void note_node(struct ledger *l, json_t *data)
{
        struct ledger_node n = {
                .node_id = number_at(data, "node_id"),
                .token_id = id_at(data, "token"),
                .admitted_us = number_at(data, "at_us"),
                .port = (uint16_t)MIN(number_at(data, "port"), (uint64_t)UINT16_MAX),
        };
        struct ledger_token *t = ledger_find_token(l, n.token_id);

        if (!n.node_id || !uuid_parse(text_at(data, "request"), n.request))
                return;
        text_copy(n.name, sizeof n.name, text_at(data, "name"));
        text_copy(n.host, sizeof n.host, text_at(data, "host"));
        if (t)
                t->used++;
        l->node_id_max = MAX(l->node_id_max, n.node_id);
        if (l->node_count == ADMITTED_MAX) {
                memmove(l->nodes, l->nodes + 1, (ADMITTED_MAX - 1) * sizeof l->nodes[0]);
                l->node_count--;
        }
        l->nodes[l->node_count++] = n;
}

void ledger_note(struct ledger *l, uint64_t revision, struct bytes type, struct bytes body)
{
        CLEANUP(json_freep) json_t *data = json_loadb((const char *)body.data, body.size, 0, NULL);

        l->has_events = true;
        l->revision = revision;
        if (bytes_equal_string(type, "$nilo-token-made")) {
                note_token(l, data);
        } else if (bytes_equal_string(type, "$nilo-token-revoked")) {
                struct ledger_token *t = ledger_find_token(l, id_at(data, "id"));

                if (t)
                        t->is_revoked = true;
        } else if (bytes_equal_string(type, "$nilo-node-admitted")) {
                note_node(l, data);
        } else if (bytes_equal_string(type, "$nilo-cluster-version")) {
                l->version = MAX(l->version, (unsigned)MIN(number_at(data, "version"), (uint64_t)UINT_MAX));
        }
}

int ledger_info(struct membership *m, struct store_stream_info *ret)
{
        return store_stream_info(membership_default_store(m), STREAM, ret);
}

bool ledger_read(struct membership *m, struct ledger *ret, char why[WHY_SIZE_MAX])
{
        struct store_read_options options = {.stream = STREAM, .limit = UINT64_MAX};
        struct store *store = membership_default_store(m);
        struct store_reader *reader = NULL;
        struct store_read_item item;
        int r;

        *ret = (struct ledger){.node_id_max = 0};
        r = store_reader_open(store, &options, &reader);
        while (!r) {
                r = store_reader_next(reader, &item);
                if (r == STORE_READ_YIELD)
                        r = 0;
                else if (!r)
                        ledger_note(ret, item.event.revision, item.event.type, item.event.data);
        }
        if (r != STORE_READ_END && r != STORE_READ_NOT_FOUND)
                snprintf(why, WHY_SIZE_MAX, "the stream $nilo-cluster cannot be read: %.300s",
                        reader  ? store_reader_problem(reader)
                        : r < 0 ? fault_last()
                                : "it is damaged or deleted");
        store_reader_close(&reader);
        return r == STORE_READ_END || r == STORE_READ_NOT_FOUND;
}

bool ledger_token_is_open(const struct membership *m, const struct ledger_token *t)
{
        return !t->is_revoked && t->used < t->uses && os_wall_us(m->os) < t->expires_us;
}

/* ---- appending ---- */

struct appending {
        ledger_done *done;
        void *arg;
};

static void on_appended(void *arg, const struct store_append_result *result)
{
        struct appending a = *(struct appending *)arg;

        free(arg);
        a.done(a.arg, result->verdict, result->problem ? result->problem : "");
}

void ledger_append(struct membership *m, const struct ledger *ledger, const char *type, json_t *data,
        ledger_done *done, void *arg)
{
        struct appending *a = MEMORY_NEW(struct appending);
        char *text = json_dumps(data, JSON_COMPACT);
        struct store_append_stream stream = {.stream = STREAM,
                .expected = ledger->has_events
                                    ? (struct expected){.kind = EXPECTED_EXACT, .revision = ledger->revision}
                                    : (struct expected){.kind = EXPECTED_NONE}};
        struct store_append_event event = {.draft = {.type = bytes_of_string(type),
                                                   .content_type = CONTENT_JSON,
                                                   .data = bytes_of_string(text)}};
        struct store_append append = {
                .streams = &stream,
                .stream_count = 1,
                .events = &event,
                .event_count = 1,
                .write_id = control_next_write_id(m->control),
                .deadline_us = os_monotonic_us(m->os) + APPEND_US,
                .requires_leader = true,
        };

        assert(text);
        *a = (struct appending){done, arg};
        os_random(m->os, event.draft.id.bytes, sizeof event.draft.id.bytes);
        event_id_stamp_random(&event.draft.id);
        store_append(membership_default_store(m), &append, on_appended, a);
        free(text);
        json_decref(data);
}
