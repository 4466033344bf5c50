/* The events of appends while they come in: bounded alone and together (G17, G18), and given up when their
 * end does not come. On the simulated machine, since that takes half a minute. */
#include <stdlib.h>

#include "kurrent/room.h"
#include "kurrent/streams.pb-c.h"
#include "os/os_sim.h"
#include "test.h"

struct fixture {
        struct kurrent kurrent;
        unsigned given_up;
};

static struct fixture *current;

static void begin_with(struct fixture *f, uint64_t memory_size)
{
        *f = (struct fixture){0};
        assert_int_equal(os_sim_new(5, &f->kurrent.os), 0);
        drafts_watch(&f->kurrent, memory_size);
        current = f;
}

static void begin(struct fixture *f)
{
        begin_with(f, 0);
}

static void end(struct fixture *f)
{
        assert_true(list_is_empty(&f->kurrent.unfinished));
        assert_int_equal(f->kurrent.unfinished_size, 0);
        drafts_unwatch(&f->kurrent);
        buffer_fini(&f->kurrent.scratch);
        os_free(&f->kurrent.os);
}

static void give_up(struct drafts *d)
{
        current->given_up++;
        drafts_fini(d);
}

/* A proposed message with `size` bytes of data. */
static struct bytes proposed_of(struct arena *arena, size_t size)
{
        EventStore__Client__Streams__BatchAppendReq__ProposedMessage m =
                EVENT_STORE__CLIENT__STREAMS__BATCH_APPEND_REQ__PROPOSED_MESSAGE__INIT;
        EventStore__Client__Streams__BatchAppendReq__ProposedMessage__MetadataEntry entries[2] = {
                EVENT_STORE__CLIENT__STREAMS__BATCH_APPEND_REQ__PROPOSED_MESSAGE__METADATA_ENTRY__INIT,
                EVENT_STORE__CLIENT__STREAMS__BATCH_APPEND_REQ__PROPOSED_MESSAGE__METADATA_ENTRY__INIT,
        };
        EventStore__Client__Streams__BatchAppendReq__ProposedMessage__MetadataEntry *all[2] = {
                &entries[0], &entries[1]};
        EventStore__Client__UUID id = EVENT_STORE__CLIENT__UUID__INIT;
        struct buffer out = {0};
        struct bytes result;

        id.value_case = EVENT_STORE__CLIENT__UUID__VALUE_STRING;
        id.string = message_bytes(BYTES_LITERAL("11223344-5566-7788-0000-000000000099"));
        entries[0].key = arena_string(arena, BYTES_LITERAL("type"));
        entries[0].value = arena_string(arena, BYTES_LITERAL("T"));
        entries[1].key = arena_string(arena, BYTES_LITERAL("content-type"));
        entries[1].value = arena_string(arena, BYTES_LITERAL("application/json"));
        m.id = &id;
        m.metadata = all;
        m.n_metadata = 2;
        m.data.len = size;
        m.data.data = arena_get(arena, size);
        memset(m.data.data, 'x', size);
        message_pack(&m.base, &out);
        result = arena_copy(arena, buffer_bytes(&out));
        buffer_fini(&out);
        return result;
}

TEST(drafts, keep_what_came_after_the_message_is_gone)
{
        struct fixture f;
        struct arena arena = {0};
        struct drafts d;
        struct refusal refusal;
        struct bytes message, held;

        begin(&f);
        drafts_init(&d, &f.kurrent, give_up);
        for (unsigned i = 0; i < 100; i++) {
                message = proposed_of(&arena, i);
                assert_true(drafts_hold(&d, message, &held, &refusal));
                assert_true(drafts_add(&d, held, &refusal));
                memset((uint8_t *)(uintptr_t)message.data, 0xff, message.size);
        }
        assert_int_equal(d.count, 100);
        assert_int_equal(d.size, 99 * 100 / 2 + 100 * 2);
        for (unsigned i = 0; i < 100; i++) {
                const struct event_draft *e = &drafts_events(&d)[i].draft;

                assert_int_equal(e->data.size, i);
                assert_true(i == 0 || e->data.data[i - 1] == 'x');
                assert_true(bytes_equal(e->type, BYTES_LITERAL("T")));
                assert_int_equal(e->content_type, CONTENT_JSON);
        }
        drafts_fini(&d);
        arena_fini(&arena);
        end(&f);
}

/* Of a message only what the event needs is kept; memory of drafts that are done serves the next ones. */
TEST(drafts, keep_copies_of_events_after_their_messages_are_gone)
{
        struct fixture f;

        begin(&f);
        for (unsigned round = 0; round < 3; round++) {
                struct arena arena = {0};
                struct drafts d;
                struct refusal refusal;

                drafts_init(&d, &f.kurrent, give_up);
                for (unsigned i = 0; i < 100; i++) {
                        struct bytes proposed = proposed_of(&arena, 100 + i);

                        assert_true(drafts_add_copy(&d, proposed, &refusal));
                        memset((uint8_t *)(uintptr_t)proposed.data, 0xee, proposed.size);
                }
                for (unsigned i = 0; i < 100; i++) {
                        const struct event_draft *e = &drafts_events(&d)[i].draft;

                        assert_true(bytes_equal(e->type, BYTES_LITERAL("T")));
                        assert_int_equal(e->content_type, CONTENT_JSON);
                        assert_int_equal(e->data.size, 100 + i);
                        for (size_t k = 0; k < e->data.size; k++)
                                assert_int_equal(e->data.data[k], 'x');
                        assert_int_equal(e->metadata.size, 0);
                }
                drafts_fini(&d);
                arena_fini(&arena);
        }
        end(&f);
}

TEST(drafts, an_append_over_its_limit_is_refused_before_its_end)
{
        struct fixture f;
        struct arena arena = {0};
        struct bytes message = proposed_of(&arena, 8 * 1024 * 1024);
        struct drafts d;
        struct refusal refusal = {0};
        unsigned taken = 0;

        begin(&f);
        drafts_init_borrowing(&d, &f.kurrent);
        while (drafts_add(&d, message, &refusal))
                taken++;
        assert_int_equal(taken, 7); /* eight and their types are more than 64 MiB */
        assert_int_equal(refusal.kind, REFUSAL_APPEND_TOO_LARGE);
        assert_int_equal(refusal.limit, LIMIT_APPEND_SIZE_MAX);
        drafts_fini(&d);
        arena_fini(&arena);
        end(&f);
}

TEST(drafts, unfinished_ones_are_bounded_alone_and_together)
{
        struct fixture f;
        struct arena arena = {0};
        struct bytes filler = proposed_of(&arena, 16 * 1024 * 1024);
        struct drafts a, b;
        struct refusal refusal = {0};
        struct bytes held;
        uint64_t size = 0;

        begin(&f);
        drafts_init(&a, &f.kurrent, give_up);
        drafts_init(&b, &f.kurrent, give_up);
        for (; drafts_hold(&a, filler, &held, &refusal); size += filler.size)
                ;
        assert_int_equal(refusal.kind, REFUSAL_APPEND_TOO_LARGE);
        assert_true(size <= DRAFTS_SIZE_MAX && size + filler.size > DRAFTS_SIZE_MAX);
        for (; drafts_hold(&b, filler, &held, &refusal); size += filler.size)
                ;
        assert_int_equal(refusal.kind, REFUSAL_EXHAUSTED);
        assert_true(size <= UNFINISHED_SIZE_DEFAULT && size + filler.size > UNFINISHED_SIZE_DEFAULT);
        /* What one gives back the other can take. */
        drafts_fini(&a);
        assert_true(drafts_hold(&b, filler, &held, &refusal));
        drafts_fini(&b);
        arena_fini(&arena);
        end(&f);
}

/* How much all of them hold together before the first is refused, on a server with that much memory for them.
 */
static uint64_t held_by_all(uint64_t memory_size)
{
        enum { APPENDS = 16 };
        struct fixture f;
        struct arena arena = {0};
        struct bytes filler = proposed_of(&arena, 16 * 1024 * 1024);
        struct drafts all[APPENDS];
        struct refusal refusal = {0};
        struct bytes held;
        uint64_t size = 0;

        begin_with(&f, memory_size);
        for (unsigned i = 0; i < APPENDS; i++)
                drafts_init(&all[i], &f.kurrent, give_up);
        for (unsigned i = 0; drafts_hold(&all[i % APPENDS], filler, &held, &refusal); i++)
                size += filler.size;
        assert_int_equal(refusal.kind, REFUSAL_EXHAUSTED);
        for (unsigned i = 0; i < APPENDS; i++)
                drafts_fini(&all[i]);
        arena_fini(&arena);
        end(&f);
        return size;
}

/* What a session of records keeps beside its messages counts like them, alone and together (G18). */
TEST(drafts, count_what_they_keep_beside_messages)
{
        enum { MANY = 40000, EACH = 8 * 1024 };
        struct store_append_event event = {
                .draft = {.type = BYTES_LITERAL("T"), .metadata = BYTES_LITERAL("{\"a\":1}")}};
        struct drafts *all = memory_new(MANY * sizeof(*all));
        struct fixture f;
        struct refusal refusal = {0};
        unsigned count = 0;

        begin(&f);
        drafts_init(&all[0], &f.kurrent, give_up);
        assert_true(drafts_add_event(&all[0], &event, &refusal));
        assert_int_equal(f.kurrent.unfinished_size, sizeof(event) + event.draft.metadata.size);
        assert_int_equal(all[0].size, event_draft_size(&event.draft));
        while (drafts_book(&all[count], EACH, &refusal)) {
                assert_true(++count < MANY);
                drafts_init(&all[count], &f.kurrent, give_up);
        }
        assert_int_equal(refusal.kind, REFUSAL_EXHAUSTED);
        assert_true(f.kurrent.unfinished_size <= f.kurrent.unfinished_size_max);
        assert_true(f.kurrent.unfinished_size + EACH > f.kurrent.unfinished_size_max);
        for (unsigned i = 0; i <= count; i++)
                drafts_fini(&all[i]);
        /* One alone is told that it is too large, and how large. */
        drafts_init(&all[0], &f.kurrent, give_up);
        assert_false(drafts_book(&all[0], DRAFTS_SIZE_MAX + 1, &refusal));
        assert_int_equal(refusal.kind, REFUSAL_APPEND_TOO_LARGE);
        assert_int_equal(refusal.size, DRAFTS_SIZE_MAX + 1);
        drafts_fini(&all[0]);
        free(all);
        end(&f);
}

TEST(drafts, together_follow_the_memory_of_the_server_but_one_append_fits_always)
{
        uint64_t smallest = held_by_all(1), larger = held_by_all(200 * MIB);

        assert_true(smallest <= DRAFTS_SIZE_MAX && smallest >= LIMIT_APPEND_SIZE_MAX);
        assert_true(larger <= 200 * MIB && larger > 180 * MIB);
}

TEST(drafts, are_given_up_when_nothing_comes_for_half_a_minute)
{
        struct fixture f;
        struct arena arena = {0};
        struct bytes message = proposed_of(&arena, 10);
        struct drafts silent, slow;
        struct refusal refusal;
        struct bytes held;

        begin(&f);
        drafts_init(&silent, &f.kurrent, give_up);
        drafts_init(&slow, &f.kurrent, give_up);
        assert_true(drafts_hold(&silent, message, &held, &refusal));
        for (unsigned i = 0; i < 6; i++) {
                assert_true(drafts_hold(&slow, message, &held, &refusal));
                os_sim_run_for(f.kurrent.os, 10 * 1000 * 1000);
        }
        assert_int_equal(f.given_up, 1);
        assert_false(list_is_empty(&f.kurrent.unfinished));
        os_sim_run_for(f.kurrent.os, 40 * 1000 * 1000);
        assert_int_equal(f.given_up, 2);
        arena_fini(&arena);
        end(&f);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_ROW(drafts, keep_what_came_after_the_message_is_gone),
                TEST_ROW(drafts, keep_copies_of_events_after_their_messages_are_gone),
                TEST_ROW(drafts, an_append_over_its_limit_is_refused_before_its_end),
                TEST_ROW(drafts, unfinished_ones_are_bounded_alone_and_together),
                TEST_ROW(drafts, count_what_they_keep_beside_messages),
                TEST_ROW(drafts, together_follow_the_memory_of_the_server_but_one_append_fits_always),
                TEST_ROW(drafts, are_given_up_when_nothing_comes_for_half_a_minute),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
