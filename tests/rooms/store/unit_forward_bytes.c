/* The bytes between a node that was asked to write and the leader: nothing is lost or made up, and nothing
 * that a broken or newer node sends is believed (G17, G20). */
#include "store/forward_bytes.h"
#include "support.h"

enum { SEED = 7, MUTATIONS = 20000 };

static const struct forward_tag TAG = {.life = 0x0123456789abcdef, .number = 0xfedcba9876543210};

static void check_bytes(struct bytes a, struct bytes b)
{
        assert_int_equal(a.size, b.size);
        assert_true(bytes_equal(a, b));
}

static void check_expectation(const struct expected *a, const struct expected *b)
{
        assert_int_equal(a->kind, b->kind);
        if (a->kind == EXPECTED_EXACT)
                assert_int_equal(a->revision, b->revision);
}

static void check_event(const struct store_append_event *a, const struct store_append_event *b)
{
        assert_int_equal(a->stream, b->stream);
        assert_true(event_id_equal(&a->draft.id, &b->draft.id));
        assert_int_equal(a->draft.content_type, b->draft.content_type);
        check_bytes(a->draft.type, b->draft.type);
        check_bytes(a->draft.data, b->draft.data);
        check_bytes(a->draft.metadata, b->draft.metadata);
        assert_int_equal(a->draft.tag_count, b->draft.tag_count);
        for (unsigned i = 0; i < a->draft.tag_count; i++)
                check_bytes(a->draft.tags[i], b->draft.tags[i]);
}

static void check_append(const struct store_append *a, const struct store_append *b)
{
        assert_int_equal(a->stream_count, b->stream_count);
        assert_int_equal(a->event_count, b->event_count);
        for (unsigned i = 0; i < a->stream_count; i++) {
                check_bytes(a->streams[i].stream, b->streams[i].stream);
                check_expectation(&a->streams[i].expected, &b->streams[i].expected);
        }
        for (unsigned i = 0; i < a->event_count; i++)
                check_event(&a->events[i], &b->events[i]);
}

/* One of everything. */
static const struct bytes TAGS[] = {{(const uint8_t *)"region=north", 12}, {(const uint8_t *)"gauge", 5}};
static const struct store_append_stream STREAMS[] = {
        {.stream = {(const uint8_t *)"order-1", 7}, .expected = {.kind = EXPECTED_ANY}},
        {.stream = {(const uint8_t *)"order-2", 7}, .expected = {.kind = EXPECTED_NONE}},
        {.stream = {(const uint8_t *)"order-3", 7}, .expected = {.kind = EXPECTED_EXISTS}},
        {.stream = {(const uint8_t *)"$$order-4", 9}, .expected = {.kind = EXPECTED_EXACT, .revision = 300}},
        {.stream = {(const uint8_t *)"order-5", 7}, .expected = {.kind = EXPECTED_SOFT_DELETED}},
};
static const struct store_append_event EVENTS[] = {
        {.stream = 3,
                .draft = {.id = {{1, 2, 3}},
                        .type = {(const uint8_t *)"Placed", 6},
                        .content_type = CONTENT_JSON,
                        .data = {(const uint8_t *)"{\"total\":5}", 11},
                        .metadata = {(const uint8_t *)"{}", 2},
                        .tags = TAGS,
                        .tag_count = 2}},
        {.stream = 0, .draft = {.id = {{4}}, .type = {(const uint8_t *)"Paid", 4}}},
        {.stream = 0, .draft = {.id = {{5}}, .content_type = CONTENT_BINARY, .tags = TAGS, .tag_count = 1}},
};
static const struct forward_request APPEND = {.tag = {0x0123456789abcdef, 0xfedcba9876543210},
        .remaining_us = 2500000,
        .append = {.streams = STREAMS,
                .stream_count = COUNT_OF(STREAMS),
                .events = EVENTS,
                .event_count = COUNT_OF(EVENTS)}};
static const struct forward_request DELETE = {.tag = {0x0123456789abcdef, 0xfedcba9876543210},
        .remaining_us = 1,
        .is_delete = true,
        .del = {.stream = {(const uint8_t *)"order-1", 7},
                .expected = {.kind = EXPECTED_EXACT, .revision = 7},
                .is_tombstone = true}};

TEST(request, of_an_append_comes_as_it_was_sent)
{
        struct forward_request rq;
        struct forward_tag tag;
        struct buffer out = {0};
        struct arena arena = {0};

        forward_request_encode(&APPEND, &out);
        assert_true(out.size <= forward_request_size_max(&APPEND));
        assert_true(forward_tag_decode(buffer_bytes(&out), &tag));
        assert_memory_equal(&tag, &TAG, sizeof(tag));
        assert_true(forward_request_decode(buffer_bytes(&out), &arena, &rq));
        assert_memory_equal(&rq.tag, &TAG, sizeof(tag));
        assert_int_equal(rq.remaining_us, 2500000);
        assert_false(rq.is_delete);
        check_append(&APPEND.append, &rq.append);
        arena_fini(&arena);
        buffer_fini(&out);
}

TEST(request, of_a_delete_comes_as_it_was_sent)
{
        struct forward_request rq;
        struct buffer out = {0};
        struct arena arena = {0};

        forward_request_encode(&DELETE, &out);
        assert_true(out.size <= forward_request_size_max(&DELETE));
        assert_true(forward_request_decode(buffer_bytes(&out), &arena, &rq));
        assert_true(rq.is_delete);
        assert_true(rq.del.is_tombstone);
        check_bytes(rq.del.stream, DELETE.del.stream);
        check_expectation(&rq.del.expected, &DELETE.del.expected);
        arena_fini(&arena);
        buffer_fini(&out);
}

/* Whatever the store takes here, it takes on another node. */
TEST(request, holds_the_largest_append_within_the_limits_G17)
{
        static uint8_t name[LIMIT_STREAM_NAME_SIZE_MAX + 2], tag[14], data[LIMIT_APPEND_SIZE_MAX / 1000];
        struct store_append_stream *streams = memory_new_array(LIMIT_APPEND_STREAMS_MAX, sizeof(*streams));
        struct store_append_event *events = memory_new_array(LIMIT_APPEND_EVENTS_MAX, sizeof(*events));
        struct forward_request sent = {.remaining_us = 1}, rq;
        struct bytes tags[LIMIT_TAGS_MAX];
        struct buffer out = {0};
        struct arena arena = {0};
        uint64_t left = LIMIT_APPEND_SIZE_MAX;

        for (unsigned i = 0; i < LIMIT_TAGS_MAX; i++)
                tags[i] = bytes_of(tag, sizeof(tag) - 10);
        for (unsigned i = 0; i < LIMIT_APPEND_STREAMS_MAX; i++)
                streams[i] = (struct store_append_stream){.stream = bytes_of(name, sizeof(name)),
                        .expected = {.kind = EXPECTED_EXACT, .revision = REVISION_MAX - 1}};
        for (unsigned i = 0; i < LIMIT_APPEND_EVENTS_MAX; i++) {
                struct event_draft *e = &events[i].draft;

                events[i].stream = LIMIT_APPEND_STREAMS_MAX - 1;
                e->type = BYTES_LITERAL("x");
                e->tags = tags;
                e->tag_count = LIMIT_TAGS_MAX;
                left -= event_draft_size(e);
        }
        for (unsigned i = 0; left; i++) {
                events[i].draft.data = bytes_of(data, MIN(left, sizeof(data)));
                left -= events[i].draft.data.size;
        }
        sent.append = (struct store_append){.streams = streams,
                .stream_count = LIMIT_APPEND_STREAMS_MAX,
                .events = events,
                .event_count = LIMIT_APPEND_EVENTS_MAX};
        assert_true(forward_request_size_max(&sent) <= FORWARD_REQUEST_SIZE_MAX);
        forward_request_encode(&sent, &out);
        assert_true(out.size <= forward_request_size_max(&sent));
        assert_true(forward_request_decode(buffer_bytes(&out), &arena, &rq));
        assert_int_equal(rq.append.event_count, LIMIT_APPEND_EVENTS_MAX);
        check_event(&events[LIMIT_APPEND_EVENTS_MAX - 1], &rq.append.events[LIMIT_APPEND_EVENTS_MAX - 1]);
        arena_fini(&arena);
        buffer_fini(&out);
        free(streams);
        free(events);
}

/* In memory of just its size, so that the sanitizer sees a read behind it. */
static bool decodes(struct bytes body)
{
        struct arena arena = {0};
        struct forward_request rq;
        uint8_t *copy = memory_new(body.size + !body.size);
        bool is_good;

        memcpy(copy, body.data, body.size);
        is_good = forward_request_decode(bytes_of(copy, body.size), &arena, &rq);
        assert_true(arena.used < 64 * KIB); /* memory is taken for what is there, not for what is promised */
        arena_fini(&arena);
        free(copy);
        return is_good;
}

TEST(request, that_is_cut_short_or_has_more_behind_is_refused_G17)
{
        const struct forward_request *requests[] = {&APPEND, &DELETE};

        for (unsigned i = 0; i < COUNT_OF(requests); i++) {
                struct buffer out = {0};

                forward_request_encode(requests[i], &out);
                assert_true(decodes(buffer_bytes(&out)));
                for (size_t size = 0; size < out.size; size++)
                        assert_false(decodes(bytes_of(out.data, size)));
                buffer_add_u8(&out, 0);
                assert_false(decodes(buffer_bytes(&out)));
                buffer_fini(&out);
        }
}

TEST(request, of_another_version_kind_or_without_time_is_refused_G20)
{
        struct buffer out = {0};

        forward_request_encode(&APPEND, &out);
        out.data[16]++;
        assert_false(decodes(buffer_bytes(&out)));
        out.data[16]--;
        out.data[17] = 3;
        assert_false(decodes(buffer_bytes(&out)));
        out.data[17] = 1;
        assert_true(decodes(buffer_bytes(&out)));
        put_u64(out.data + 18, 0);
        assert_false(decodes(buffer_bytes(&out)));
        buffer_fini(&out);
}

TEST(request, with_more_than_the_limits_allow_is_refused_before_memory_is_taken)
{
        struct buffer out = {0};
        size_t head;

        forward_request_encode(&(struct forward_request){.tag = TAG, .remaining_us = 1}, &out);
        head = out.size - 2;
        for (unsigned i = 0; i < 2; i++) {
                out.size = head;
                buffer_add_varint(&out, i ? 0 : LIMIT_APPEND_STREAMS_MAX + 1);
                buffer_add_varint(&out, i ? LIMIT_APPEND_EVENTS_MAX + 1 : 0);
                /* Bytes enough for all of them. */
                for (unsigned n = 0; n < 3 * MIB / 8; n++)
                        buffer_add_u64(&out, 0);
                assert_false(decodes(buffer_bytes(&out)));
                out.size = head;
                buffer_add_varint(&out, i ? 0 : UINT64_MAX);
                buffer_add_varint(&out, i ? UINT64_MAX : 0);
                buffer_add_u64(&out, 0);
                assert_false(decodes(buffer_bytes(&out)));
        }
        buffer_fini(&out);
}

/* ---- outcomes ---- */

static struct store_stream_outcome OUTCOMES[] = {
        {.has_revision = true, .has_failed = true, .revision = 41},
        {.is_soft_deleted = true},
        {.has_revision = true, .is_tombstoned = true, .revision = REVISION_MAX},
};

static struct store_append_result result_of(enum store_verdict verdict)
{
        return (struct store_append_result){.verdict = verdict,
                .stream = 2,
                .event = 1,
                .is_soft_deleted = true,
                .is_duplicate = true,
                .has_position = true,
                .first_position = 10,
                .position = 12,
                .limit = 1 << 20,
                .size = 1 << 21,
                .leader_id = 3,
                .streams = OUTCOMES,
                .stream_count = 3,
                .problem = "the expected revision does not hold"};
}

static bool outcome_decodes(struct bytes body, unsigned streams, unsigned events)
{
        struct arena arena = {0};
        struct store_append_result result;
        uint8_t *copy = memory_new(body.size + !body.size);
        bool is_good;

        memcpy(copy, body.data, body.size);
        is_good = forward_outcome_decode(bytes_of(copy, body.size), streams, events, &arena, &result);
        if (is_good) {
                assert_true(result.verdict <= STORE_UNKNOWN);
                assert_true(result.stream < MAX(streams, 1));
                assert_true(result.event < MAX(events, 1));
                assert_true(strlen(result.problem) <= FORWARD_PROBLEM_SIZE_MAX);
                assert_true(!result.streams || result.stream_count == streams);
        }
        arena_fini(&arena);
        free(copy);
        return is_good;
}

TEST(outcome, comes_whole_with_every_verdict)
{
        for (unsigned v = STORE_OK; v <= STORE_UNKNOWN; v++) {
                struct store_append_result sent = result_of(v), got;
                struct forward_tag tag;
                struct buffer out = {0};
                struct arena arena = {0};

                forward_outcome_encode(&TAG, &sent, &out);
                assert_true(forward_tag_decode(buffer_bytes(&out), &tag));
                assert_memory_equal(&tag, &TAG, sizeof(tag));
                assert_true(forward_outcome_decode(buffer_bytes(&out), 3, 2, &arena, &got));
                assert_int_equal(got.verdict, v);
                assert_int_equal(got.stream, 2);
                assert_int_equal(got.event, 1);
                assert_true(got.is_soft_deleted && got.is_duplicate && got.has_position);
                assert_int_equal(got.first_position, 10);
                assert_int_equal(got.position, 12);
                assert_int_equal(got.limit, sent.limit);
                assert_int_equal(got.size, sent.size);
                assert_int_equal(got.leader_id, 3);
                assert_int_equal(got.stream_count, 3);
                for (unsigned i = 0; i < 3; i++) {
                        assert_int_equal(got.streams[i].has_revision, OUTCOMES[i].has_revision);
                        assert_int_equal(got.streams[i].revision, OUTCOMES[i].revision);
                        assert_int_equal(got.streams[i].has_failed, OUTCOMES[i].has_failed);
                        assert_int_equal(got.streams[i].is_soft_deleted, OUTCOMES[i].is_soft_deleted);
                        assert_int_equal(got.streams[i].is_tombstoned, OUTCOMES[i].is_tombstoned);
                }
                assert_string_equal(got.problem, sent.problem);
                for (size_t size = 0; size < out.size; size++)
                        assert_false(outcome_decodes(bytes_of(out.data, size), 3, 2));
                arena_fini(&arena);
                buffer_fini(&out);
        }
}

TEST(outcome, of_a_plain_refusal_has_no_streams)
{
        struct store_append_result sent = {.verdict = STORE_BUSY, .problem = ""}, got;
        struct buffer out = {0};
        struct arena arena = {0};

        forward_outcome_encode(&TAG, &sent, &out);
        assert_true(forward_outcome_decode(buffer_bytes(&out), 3, 2, &arena, &got));
        assert_null(got.streams);
        assert_int_equal(got.stream_count, 0);
        assert_string_equal(got.problem, "");
        arena_fini(&arena);
        buffer_fini(&out);
}

TEST(outcome, that_does_not_fit_the_request_is_refused)
{
        struct store_append_result r = result_of(STORE_OK);
        struct buffer out = {0};

        forward_outcome_encode(&TAG, &r, &out);
        assert_true(outcome_decodes(buffer_bytes(&out), 3, 2));
        assert_false(outcome_decodes(buffer_bytes(&out), 2, 2)); /* the failed stream */
        assert_false(outcome_decodes(buffer_bytes(&out), 4, 2)); /* not every stream's revision */
        assert_false(outcome_decodes(buffer_bytes(&out), 3, 1)); /* the failed event */
        out.data[17] = STORE_UNKNOWN + 1;
        assert_false(outcome_decodes(buffer_bytes(&out), 3, 2)); /* a newer verdict */
        buffer_clear(&out);
        r.streams = NULL;
        forward_outcome_encode(&TAG, &r, &out);
        assert_false(outcome_decodes(buffer_bytes(&out), 3, 2)); /* success without revisions */
        buffer_clear(&out);
        r = result_of(STORE_OK);
        r.first_position = 13;
        forward_outcome_encode(&TAG, &r, &out);
        assert_false(outcome_decodes(buffer_bytes(&out), 3, 2)); /* it ends before it begins */
        buffer_fini(&out);
}

TEST(outcome, shortens_a_long_problem_between_characters)
{
        char text[2 * FORWARD_PROBLEM_SIZE_MAX] = "x";
        struct store_append_result sent = {.verdict = STORE_INVALID, .problem = text}, got;
        struct buffer out = {0};
        struct arena arena = {0};

        while (strlen(text) + 2 < sizeof(text))
                memcpy(text + strlen(text), "\u00e9", 3);
        forward_outcome_encode(&TAG, &sent, &out);
        assert_true(forward_outcome_decode(buffer_bytes(&out), 1, 1, &arena, &got));
        assert_int_equal(strlen(got.problem), FORWARD_PROBLEM_SIZE_MAX - 1);
        assert_memory_equal(got.problem, text, FORWARD_PROBLEM_SIZE_MAX - 1);
        arena_fini(&arena);
        buffer_fini(&out);
}

/* ---- what nobody sent ---- */

static uint64_t next_random(uint64_t *chance)
{
        *chance = *chance * 6364136223846793005u + 1442695040888963407u;
        return *chance >> 33;
}

TEST(bytes, changed_anyhow_are_refused_or_make_sense_G17)
{
        struct store_append_result result = result_of(STORE_CONFLICT);
        struct buffer messages[3] = {{0}};
        uint64_t chance = SEED;

        forward_request_encode(&APPEND, &messages[0]);
        forward_request_encode(&DELETE, &messages[1]);
        forward_outcome_encode(&TAG, &result, &messages[2]);
        for (unsigned i = 0; i < MUTATIONS; i++) {
                struct buffer *m = &messages[i % 3];
                struct buffer changed = {0};

                buffer_add_bytes(&changed, buffer_bytes(m));
                for (unsigned n = 1 + next_random(&chance) % 4; n; n--)
                        changed.data[16 + next_random(&chance) % (changed.size - 16)] =
                                (uint8_t)next_random(&chance);
                if (i % 3 == 2)
                        outcome_decodes(buffer_bytes(&changed), 3, 2);
                else
                        decodes(buffer_bytes(&changed));
                buffer_fini(&changed);
        }
        for (unsigned i = 0; i < 3; i++)
                buffer_fini(&messages[i]);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(request, of_an_append_comes_as_it_was_sent),
                TEST_ROW(request, of_a_delete_comes_as_it_was_sent),
                TEST_ROW(request, holds_the_largest_append_within_the_limits_G17),
                TEST_ROW(request, that_is_cut_short_or_has_more_behind_is_refused_G17),
                TEST_ROW(request, of_another_version_kind_or_without_time_is_refused_G20),
                TEST_ROW(request, with_more_than_the_limits_allow_is_refused_before_memory_is_taken),
                TEST_ROW(outcome, comes_whole_with_every_verdict),
                TEST_ROW(outcome, of_a_plain_refusal_has_no_streams),
                TEST_ROW(outcome, that_does_not_fit_the_request_is_refused),
                TEST_ROW(outcome, shortens_a_long_problem_between_characters),
                TEST_ROW(bytes, changed_anyhow_are_refused_or_make_sense_G17),
        };

        return cmocka_run_group_tests_name("forward bytes", tests, NULL, NULL);
}
