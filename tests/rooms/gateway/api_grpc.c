/* gRPC calls from a client of HTTP/2: every shape of call, and every way in which one ends (G17, G18). */
#include "support.h"

enum { FLOOD_MESSAGES = 40000, FLOOD_SIZE = 300, SMALL_MAX = 100, BIG_MAX = 17 * 1024 * 1024 };

static struct {
        unsigned messages;
        unsigned half_closes;
        unsigned gone;
        unsigned held;
        uint64_t bytes;
        struct gateway_request *call;
        uint64_t deadline_in_us;
        unsigned must_hold;
} seen;

static struct server server;

/* ---- methods; on the server's thread ---- */

static void answer(struct gateway_request *call, struct bytes message)
{
        buffer_add_bytes(gateway_message_begin(call), message);
        gateway_message_end(call);
}

static void on_echo(void *arg, struct gateway_request *call, struct bytes message)
{
        (void)arg;
        assert(bytes_equal_string(gateway_method(call), "POST"));
        count_up(&seen.messages);
        answer(call, message);
        gateway_call_end(call, GRPC_OK, NULL);
        assert(gateway_call_is_over(call));
        gateway_call_end(call, GRPC_INTERNAL, "twice is harmless");
        answer(call, message); /* and so is this */
}

static void on_gone(void *arg, struct gateway_request *call)
{
        (void)arg;
        assert(gateway_call_is_over(call));
        answer(call, BYTES_LITERAL("into the void"));
        count_up(&seen.gone);
}

/* Sums up what comes, and answers at the end. */
static void on_part(void *arg, struct gateway_request *call, struct bytes message)
{
        uint64_t *sum = gateway_call_state(call);

        (void)arg;
        if (!sum) {
                sum = arena_get(gateway_arena(call), 2 * sizeof *sum);
                sum[0] = sum[1] = 0;
                gateway_call_set_state(call, sum);
        }
        sum[0]++;
        sum[1] += message.size;
        for (size_t i = 0; i < message.size; i += 1 + message.size / 7)
                assert(message.data[i] == (uint8_t)('a' + sum[0] % 26));
        count_up(&seen.messages);
        seen.bytes += message.size;
}

static void on_parts_end(void *arg, struct gateway_request *call)
{
        uint64_t *sum = gateway_call_state(call);

        (void)arg;
        count_up(&seen.half_closes);
        buffer_format(gateway_message_begin(call), "%llu messages, %llu bytes",
                sum ? (unsigned long long)sum[0] : 0, sum ? (unsigned long long)sum[1] : 0);
        gateway_message_end(call);
        gateway_call_end(call, GRPC_OK, NULL);
}

/* Answers every message; "pause" pauses until the test resumes. */
static void on_chat(void *arg, struct gateway_request *call, struct bytes message)
{
        (void)arg;
        count_up(&seen.messages);
        if (bytes_equal_string(message, "pause")) {
                seen.call = call;
                gateway_call_pause(call, true);
        }
        answer(call, message);
}

static void on_chat_end(void *arg, struct gateway_request *call)
{
        (void)arg;
        count_up(&seen.half_closes);
        gateway_call_end(call, GRPC_OK, NULL);
}

static void resume(void *arg)
{
        (void)arg;
        gateway_call_pause(seen.call, false);
}

static void on_flood(void *arg, struct gateway_request *call, struct bytes message)
{
        uint64_t *sent = arena_get(gateway_arena(call), sizeof *sent);

        (void)arg;
        (void)message;
        *sent = 0;
        gateway_call_set_state(call, sent);
        gateway_call_wake(call);
}

static void on_flood_writable(void *arg, struct gateway_request *call)
{
        uint64_t *sent = gateway_call_state(call);
        static uint8_t message[FLOOD_SIZE];

        (void)arg;
        while (*sent < FLOOD_MESSAGES && gateway_stream_room(call) > 0) {
                memcpy(message, sent, sizeof *sent);
                answer(call, bytes_of(message, sizeof message));
                ++*sent;
        }
        if (*sent == FLOOD_MESSAGES)
                gateway_call_end(call, GRPC_OK, NULL);
}

/* "status text": ends so, with trailers. */
static void on_fail(void *arg, struct gateway_request *call, struct bytes message)
{
        char *text = arena_string(gateway_arena(call), message);

        (void)arg;
        gateway_call_trailer(call, "exception", BYTES_LITERAL("wrong-expected-version"));
        gateway_call_trailer(call, "stream-name", BYTES_LITERAL("a%\xc3\xa9 "));
        gateway_call_trailer(call, "grpc-status-details-bin", BYTES_LITERAL("\0\1\2"));
        for (int i = 0; i < 20; i++) /* too many are left out */
                gateway_call_trailer(call, "more", BYTES_LITERAL("x"));
        gateway_call_end(call, (enum grpc_status)atoi(text), strchr(text, ' ') + 1);
}

/* Never answers by itself. */
static void on_wait(void *arg, struct gateway_request *call, struct bytes message)
{
        (void)arg;
        (void)message;
        seen.call = call;
        if (look(&seen.must_hold))
                gateway_call_hold(call);
        if (gateway_call_deadline_us(call))
                seen.deadline_in_us = gateway_call_deadline_us(call) - os_turn_time(server.os).monotonic_us;
        count_up(&seen.held);
}

static void answer_held(void *arg)
{
        (void)arg;
        answer(seen.call, BYTES_LITERAL("late"));
        gateway_call_end(seen.call, GRPC_OK, NULL);
        gateway_call_release(seen.call);
}

static const struct gateway_method methods[] = {
        {.service = "test.Test",
                .name = "Echo",
                .features = "",
                .message_size_max = BIG_MAX,
                .access = ACCESS_ANYONE,
                .on_message = on_echo,
                .on_gone = on_gone},
        {.service = "test.Test",
                .name = "Small",
                .features = "",
                .message_size_max = SMALL_MAX,
                .access = ACCESS_ANYONE,
                .on_message = on_echo,
                .on_gone = on_gone},
        {.service = "test.Test",
                .name = "Sum",
                .features = "",
                .message_size_max = BIG_MAX,
                .is_client_stream = true,
                .access = ACCESS_ANYONE,
                .on_message = on_part,
                .on_half_close = on_parts_end,
                .on_gone = on_gone},
        {.service = "test.Test",
                .name = "Chat",
                .features = "",
                .message_size_max = BIG_MAX,
                .is_client_stream = true,
                .access = ACCESS_ANYONE,
                .on_message = on_chat,
                .on_half_close = on_chat_end,
                .on_gone = on_gone},
        {.service = "test.Test",
                .name = "Flood",
                .features = "",
                .message_size_max = BIG_MAX,
                .access = ACCESS_ANYONE,
                .on_message = on_flood,
                .on_writable = on_flood_writable,
                .on_gone = on_gone},
        {.service = "test.Test",
                .name = "Fail",
                .features = "",
                .message_size_max = BIG_MAX,
                .access = ACCESS_ANYONE,
                .on_message = on_fail,
                .on_gone = on_gone},
        {.service = "test.Test",
                .name = "Wait",
                .features = "",
                .message_size_max = BIG_MAX,
                .access = ACCESS_ANYONE,
                .on_message = on_wait,
                .on_gone = on_gone},
};
static const struct gateway_method early[] = {
        {.service = "test.Early",
                .name = "Echo",
                .features = "a b",
                .message_size_max = BIG_MAX,
                .when_not_ready = true,
                .access = ACCESS_ANYONE,
                .on_message = on_echo},
};

static int setup(void **state)
{
        (void)state;
        memset(&seen, 0, sizeof seen);
        server_open(&server, NULL);
        gateway_add_methods(server.gateway, methods, COUNT_OF(methods));
        gateway_add_methods(server.gateway, early, COUNT_OF(early));
        serve(&server);
        server_start(&server);
        return 0;
}

static int teardown(void **state)
{
        (void)state;
        server_stop(&server);
        return 0;
}

static void assert_message(const struct h2_stream *s, unsigned i, const char *text)
{
        struct bytes message = BYTES_EMPTY;

        assert_true(grpc_message(s, i, &message));
        assert_int_equal(message.size, strlen(text));
        assert_memory_equal(message.data, text, message.size);
}

/* The call has ended with this status, in trailers alone, and its message contains `text`. */
static void assert_refused(const struct h2_stream *s, int status, const char *text)
{
        const char *message;

        assert_true(h2_head_has(s, ":status: 200\n"));
        assert_true(h2_head_has(s, "content-type: application/grpc\n"));
        assert_int_equal(s->header_blocks, 1);
        assert_int_equal(s->body.size, 0);
        assert_int_equal(grpc_status_of(s), status);
        message = grpc_trailer(s, "grpc-message");
        assert_non_null(message);
        if (!strstr(message, text))
                fail_msg("'%s' is not in '%s'", text, message);
}

/* ---- shapes ---- */

TEST(call, unary_answers_once)
{
        struct h2_client c;
        struct h2_stream *a, *b, *empty, *typed;
        static const char *const proto[] = {"grpc-accept-encoding", "gzip", "grpc-timeout", "10S", NULL};
        static const char *const plus[] = {"content-type", "application/grpc+proto", "te", "trailers", NULL};

        h2_dial(&c, &server, NULL, 0);
        a = grpc_unary(&c, "/test.Test/Echo", "hello");
        b = grpc_call_with(&c, "/test.Test/Echo", proto);
        grpc_send(&c, b, "world", 5);
        grpc_half_close(&c, b);
        empty = grpc_unary(&c, "/test.Test/Echo", "");
        typed = h2_request(&c, "POST", "/test.Test/Echo", plus, true);
        grpc_send(&c, typed, "t", 1);
        grpc_half_close(&c, typed);
        H2_UNTIL(&c, a->is_closed && b->is_closed && empty->is_closed && typed->is_closed);
        assert_true(h2_head_has(a, ":status: 200\n"));
        assert_true(h2_head_has(a, "content-type: application/grpc\n"));
        assert_message(a, 0, "hello");
        assert_int_equal(grpc_message_count(a), 1);
        assert_int_equal(grpc_status_of(a), 0);
        assert_null(grpc_trailer(a, "grpc-message"));
        assert_message(b, 0, "world");
        assert_message(empty, 0, "");
        assert_message(typed, 0, "t");
        assert_int_equal(a->error, 0);
        assert_int_equal(look(&seen.messages), 4);
        assert_int_equal(look(&seen.gone), 0);
        h2_hang_up(&c);
}

static void send_letters(struct h2_client *c, struct h2_stream *s, unsigned n, size_t size)
{
        uint8_t *letters = memory_new(size + 1);

        memset(letters, 'a' + (int)(n % 26), size);
        grpc_send(c, s, letters, size);
        free(letters);
}

/* Small messages come many to a frame, large ones over many frames. */
TEST(call, client_stream_hands_over_messages_of_any_size_in_order)
{
        static const size_t sizes[] = {1, 10, 0, 16 * 1024 - 5, 16 * 1024, 3 * 1024 * 1024, 2, 70000, 100};
        struct h2_client c;
        struct h2_stream *s, *none;
        size_t sum = 0;
        char want[100];

        h2_dial(&c, &server, NULL, 0);
        s = grpc_call(&c, "/test.Test/Sum");
        for (unsigned i = 0; i < 500; i++) {
                send_letters(&c, s, i + 1, sizes[i < COUNT_OF(sizes) ? i : i % 3]);
                sum += sizes[i < COUNT_OF(sizes) ? i : i % 3];
        }
        none = grpc_call(&c, "/test.Test/Sum");
        grpc_half_close(&c, none);
        H2_UNTIL(&c, none->is_closed && look(&seen.messages) == 500);
        assert_false(s->is_closed);
        assert_int_equal(look(&seen.half_closes), 1);
        grpc_half_close(&c, s);
        H2_UNTIL(&c, s->is_closed);
        snprintf(want, sizeof want, "500 messages, %zu bytes", sum);
        assert_message(s, 0, want);
        assert_message(none, 0, "0 messages, 0 bytes");
        assert_int_equal(grpc_status_of(s), 0);
        h2_hang_up(&c);
}

/* Byte by byte, so that every boundary is met. */
TEST(call, messages_come_whole_however_the_bytes_are_cut)
{
        struct h2_client c;
        struct h2_stream *s;
        struct buffer wire = {0};

        h2_dial(&c, &server, NULL, 0);
        s = grpc_call(&c, "/test.Test/Chat");
        grpc_send(&c, s, "one", 3);
        grpc_send(&c, s, "", 0);
        grpc_send(&c, s, "three", 5);
        buffer_add_bytes(&wire, buffer_bytes(&s->out));
        buffer_clear(&s->out);
        for (size_t i = 0; i < wire.size; i++) {
                buffer_add_u8(&s->out, wire.data[i]);
                nghttp2_session_resume_data(c.session, s->id);
                h2_turn(&c, 1);
        }
        grpc_half_close(&c, s);
        H2_UNTIL(&c, s->is_closed);
        assert_int_equal(grpc_message_count(s), 3);
        assert_message(s, 0, "one");
        assert_message(s, 1, "");
        assert_message(s, 2, "three");
        buffer_fini(&wire);
        h2_hang_up(&c);
}

TEST(call, chat_answers_while_the_client_goes_on)
{
        struct h2_client c;
        struct h2_stream *s;

        h2_dial(&c, &server, NULL, 0);
        s = grpc_call(&c, "/test.Test/Chat");
        for (unsigned i = 0; i < 5; i++) {
                grpc_send(&c, s, "x", 1);
                H2_UNTIL(&c, grpc_message_count(s) == i + 1);
        }
        assert_false(s->is_closed);
        grpc_half_close(&c, s);
        H2_UNTIL(&c, s->is_closed);
        assert_int_equal(grpc_status_of(s), 0);
        h2_hang_up(&c);
}

static void assert_flood(const struct h2_stream *s)
{
        uint64_t n = 0;

        assert_int_equal(grpc_status_of(s), 0);
        assert_int_equal(s->body.size, FLOOD_MESSAGES * (5 + FLOOD_SIZE));
        for (size_t at = 0; at < s->body.size; at += 5 + FLOOD_SIZE, n++)
                assert_memory_equal(s->body.data + at + 5, &n, sizeof n);
}

/* G18: the server keeps little for the slow one, and the other gets all. */
TEST(call, slow_reader_does_not_stall_another_call)
{
        struct h2_client c;
        struct h2_stream *slow, *fast;

        h2_dial(&c, &server, NULL, 0);
        slow = grpc_unary(&c, "/test.Test/Flood", "x");
        slow->is_slow = true;
        H2_UNTIL(&c, slow->body.size == 65535);
        fast = grpc_unary(&c, "/test.Test/Flood", "x");
        H2_UNTIL(&c, fast->is_closed);
        assert_flood(fast);
        assert_int_equal(slow->body.size, 65535);
        assert_true(server_stats(&server).buffered_bytes < 512 * KIB);
        slow->is_slow = false;
        nghttp2_session_consume_stream(c.session, slow->id, slow->body.size);
        H2_UNTIL(&c, slow->is_closed);
        assert_flood(slow);
        h2_hang_up(&c);
}

/* A paused call's client runs out of window; its other calls do not. */
TEST(call, paused_makes_its_client_wait_and_no_other_call)
{
        enum { COUNT = 80, SIZE = 60000 };
        struct h2_client c;
        struct h2_stream *paused, *other;

        h2_dial(&c, &server, NULL, 0);
        paused = grpc_call(&c, "/test.Test/Chat");
        grpc_send(&c, paused, "pause", 5);
        H2_UNTIL(&c, grpc_message_count(paused) == 1);
        for (int i = 0; i < COUNT; i++) {
                uint8_t message[SIZE];

                memset(message, i, sizeof message);
                grpc_send(&c, paused, message, sizeof message);
        }
        grpc_half_close(&c, paused);
        h2_idle(&c, 200);
        assert_int_equal(look(&seen.messages), 1);
        assert_int_equal(look(&seen.half_closes), 0);
        assert_true(paused->out.size - paused->out_at >=
                    COUNT * (size_t)SIZE - 3 * MIB); /* unsent: the window is 2 MiB */
        assert_true(server_stats(&server).buffered_bytes < 3 * MIB);
        other = grpc_call(&c, "/test.Test/Sum");
        for (unsigned i = 0; i < 10; i++)
                send_letters(&c, other, i + 1, MIB);
        grpc_half_close(&c, other);
        H2_UNTIL(&c, other->is_closed);
        assert_message(other, 0, "10 messages, 10485760 bytes");
        assert_int_equal(grpc_message_count(paused), 1);
        assert_int_equal(look(&seen.half_closes), 1); /* of the other */
        server_run(&server, resume, NULL);
        H2_UNTIL(&c, paused->is_closed);
        assert_int_equal(grpc_message_count(paused), 1 + COUNT);
        for (int i = 0; i < COUNT; i++) {
                struct bytes message = BYTES_EMPTY;

                assert_true(grpc_message(paused, 1 + (unsigned)i, &message));
                assert_int_equal(message.size, SIZE);
                assert_int_equal(message.data[SIZE - 1], i);
        }
        assert_int_equal(look(&seen.half_closes), 2);
        h2_hang_up(&c);
}

/* A client that sends and never reads does not make the server pile up answers. */
TEST(call, answers_that_nobody_reads_stop_the_questions)
{
        enum { COUNT = 100000 };
        static char question[100];
        struct h2_client c;
        struct h2_stream *s;
        unsigned asked;

        memset(question, 'q', sizeof question);
        h2_dial(&c, &server, NULL, 0);
        s = grpc_call(&c, "/test.Test/Chat");
        s->is_slow = true;
        for (unsigned i = 0; i < COUNT; i++)
                grpc_send(&c, s, question, sizeof question);
        grpc_half_close(&c, s);
        H2_UNTIL(&c, s->body.size == 65535);
        h2_idle(&c, 200);
        asked = look(&seen.messages);
        assert_true(asked < COUNT / 10);
        assert_true(server_stats(&server).buffered_bytes < 3 * MIB); /* answers, and a window of questions */
        s->is_slow = false;
        nghttp2_session_consume_stream(c.session, s->id, s->body.size);
        H2_UNTIL(&c, s->is_closed);
        assert_int_equal(grpc_message_count(s), COUNT);
        assert_int_equal(grpc_status_of(s), 0);
        assert_int_equal(look(&seen.half_closes), 1);
        h2_hang_up(&c);
}

/* Pausing after every message, with the next ones already there, loses none and changes no order. */
TEST(call, paused_again_and_again_keeps_the_order)
{
        struct h2_client c;
        struct h2_stream *s;
        unsigned paused = 0;

        h2_dial(&c, &server, NULL, 0);
        s = grpc_call(&c, "/test.Test/Chat");
        for (int i = 0; i < 20; i++) {
                grpc_send(&c, s, "pause", 5);
                grpc_send(&c, s, "go on", 5);
        }
        grpc_half_close(&c, s);
        while (paused < 20) {
                H2_UNTIL(&c, grpc_message_count(s) == 2 * paused + 1);
                assert_false(s->is_closed);
                paused++;
                server_run(&server, resume, NULL);
        }
        H2_UNTIL(&c, s->is_closed);
        assert_int_equal(grpc_message_count(s), 40);
        for (unsigned i = 0; i < 40; i++)
                assert_message(s, i, i % 2 ? "go on" : "pause");
        assert_int_equal(look(&seen.half_closes), 1);
        h2_hang_up(&c);
}

/* ---- how calls end ---- */

TEST(call, ends_with_status_message_and_trailers)
{
        struct h2_client c;
        struct h2_stream *s, *l;
        char *message = memory_new(5000), *encoded;

        h2_dial(&c, &server, NULL, 0);
        s = grpc_unary(&c, "/test.Test/Fail", "9 100% \xc3\xa9\n");
        /* A long message is cut between two characters, and the call still ends. */
        memcpy(message, "3 ", 3);
        for (int i = 0; i < 1000; i++)
                strcat(message, "\xe2\x82\xac");
        l = grpc_unary(&c, "/test.Test/Fail", message);
        H2_UNTIL(&c, s->is_closed && l->is_closed);
        assert_refused(s, 9, "100%25 %C3%A9%0A");
        assert_string_equal(grpc_trailer(s, "exception"), "wrong-expected-version");
        assert_string_equal(grpc_trailer(s, "stream-name"), "a%25%C3%A9%20");
        assert_string_equal(grpc_trailer(s, "grpc-status-details-bin"), "AAEC");
        assert_refused(l, 3, "%E2%82%AC%E2%82%AC");
        encoded = (char *)(uintptr_t)grpc_trailer(l, "grpc-message");
        assert_int_equal(strlen(encoded), 1024 / 3 * 9);
        assert_int_equal(look(&seen.gone), 0);
        free(message);
        h2_hang_up(&c);
}

TEST(call, to_nothing_known_is_unimplemented)
{
        struct h2_client c;
        struct h2_stream *method, *service, *slash;

        h2_dial(&c, &server, NULL, 0);
        method = grpc_unary(&c, "/test.Test/Nope", "x");
        service = grpc_unary(&c, "/test.Nope/Echo", "x");
        slash = grpc_unary(&c, "/", "x");
        H2_UNTIL(&c, method->is_closed && service->is_closed && slash->is_closed);
        assert_refused(method, 12, "the service has no such method: /test.Test/Nope");
        assert_refused(service, 12, "unknown service: /test.Nope/Echo");
        assert_refused(slash, 12, "unknown service: /");
        assert_int_equal(server_stats(&server).grpc_unimplemented, 3);
        assert_int_equal(server_stats(&server).grpc_calls_open, 0);
        h2_hang_up(&c);
}

TEST(call, other_content_types_and_verbs_are_refused_as_http)
{
        static const char *const get[] = {"content-type", "application/grpc", NULL};
        static const char *const types[] = {
                "application/json", "application/grpc-web", "application/grpc+json", NULL};
        struct h2_client c;
        struct h2_stream *s;

        h2_dial(&c, &server, NULL, 0);
        for (unsigned i = 0; i < COUNT_OF(types); i++) {
                const char *fields[] = {types[i] ? "content-type" : NULL, types[i], NULL};

                s = h2_request(&c, "POST", "/test.Test/Echo", fields, false);
                H2_UNTIL(&c, s->is_closed);
                assert_true(h2_head_has(s, ":status: 415\n"));
                assert_true(body_has(&s->body, "application/grpc"));
        }
        s = h2_request(&c, "GET", "/test.Test/Echo", get, false);
        H2_UNTIL(&c, s->is_closed);
        assert_true(h2_head_has(s, ":status: 415\n"));
        assert_int_equal(look(&seen.messages), 0);
        h2_hang_up(&c);
}

TEST(call, unary_takes_exactly_one_message)
{
        struct h2_client c;
        struct h2_stream *none, *two, *cut;

        h2_dial(&c, &server, NULL, 0);
        none = grpc_call(&c, "/test.Test/Echo");
        grpc_half_close(&c, none);
        two = grpc_call(&c, "/test.Test/Echo");
        grpc_send(&c, two, "one", 3);
        grpc_send(&c, two, "two", 3);
        grpc_half_close(&c, two);
        cut = grpc_call(&c, "/test.Test/Echo");
        grpc_send(&c, cut, "hello", 5);
        cut->out.size -= 2;
        grpc_half_close(&c, cut);
        H2_UNTIL(&c, none->is_closed && two->is_closed && cut->is_closed);
        assert_refused(none, 3, "none came");
        assert_refused(two, 3, "more came");
        assert_refused(cut, 3, "ends inside a message");
        assert_int_equal(look(&seen.messages), 0); /* nothing has been done */
        assert_int_equal(look(&seen.gone), 3);
        h2_hang_up(&c);
}

TEST(call, refuses_messages_that_it_cannot_take)
{
        static const uint8_t huge[] = {0, 0xff, 0xff, 0xff, 0xff, 1};
        struct h2_client c;
        struct h2_stream *compressed, *strange, *large, *huger, *stream, *exact;
        char text[SMALL_MAX + 2];

        h2_dial(&c, &server, NULL, 0);
        memset(text, 'x', sizeof text);
        compressed = grpc_call(&c, "/test.Test/Echo");
        grpc_send_flagged(&c, compressed, 1, "x", 1);
        strange = grpc_call(&c, "/test.Test/Echo");
        grpc_send_flagged(&c, strange, 7, "x", 1);
        large = grpc_call(&c, "/test.Test/Small");
        grpc_send(&c, large, text, SMALL_MAX + 1);
        huger = grpc_call(&c, "/test.Test/Sum");
        buffer_add(&huger->out, huge, sizeof huge);
        stream = grpc_call(&c, "/test.Test/Sum");
        send_letters(&c, stream, 1, 10);
        grpc_send_flagged(&c, stream, 1, "x", 1);
        exact = grpc_call(&c, "/test.Test/Small");
        grpc_send(&c, exact, text, SMALL_MAX);
        grpc_half_close(&c, exact);
        H2_UNTIL(&c, compressed->is_closed && strange->is_closed && large->is_closed && huger->is_closed &&
                             stream->is_closed && exact->is_closed);
        assert_refused(compressed, 12, "identity");
        assert_string_equal(grpc_trailer(compressed, "grpc-accept-encoding"), "identity");
        assert_refused(strange, 3, "flag of 7");
        assert_refused(large, 8, "at most 100 are taken");
        assert_refused(huger, 8, "4294967295");
        assert_refused(stream, 12, "identity");
        assert_int_equal(grpc_status_of(exact), 0);
        assert_int_equal(look(&seen.gone), 5);
        h2_hang_up(&c);
}

TEST(call, ends_when_its_deadline_has_passed)
{
        static const char *const soon[] = {"grpc-timeout", "50m", NULL};
        static const char *const never[] = {"grpc-timeout", "1H", NULL};
        static const char *const past[] = {"grpc-timeout", "1n", NULL};
        static const char *const bad[] = {"grpc-timeout", "123456789S", NULL};
        struct h2_client c;
        struct h2_stream *a, *b, *p, *m, *waiting;
        uint64_t began = now_ms();

        h2_dial(&c, &server, NULL, 0);
        b = grpc_call_with(&c, "/test.Test/Wait", never);
        grpc_send(&c, b, "x", 1);
        grpc_half_close(&c, b);
        H2_UNTIL(&c, look(&seen.held) == 1);
        assert_true(seen.deadline_in_us > 3590 * (uint64_t)1000000);
        assert_true(seen.deadline_in_us <= 3600 * (uint64_t)1000000);
        a = grpc_call_with(&c, "/test.Test/Wait", soon);
        grpc_send(&c, a, "x", 1);
        grpc_half_close(&c, a);
        waiting = grpc_call_with(&c, "/test.Test/Sum", soon); /* has sent nothing */
        p = grpc_call_with(&c, "/test.Test/Wait", past);
        m = grpc_call_with(&c, "/test.Test/Wait", bad);
        H2_UNTIL(&c, a->is_closed && waiting->is_closed && p->is_closed && m->is_closed);
        assert_true(now_ms() - began >= 50);
        assert_true(now_ms() - began < 5000);
        assert_refused(a, 4, "deadline");
        assert_refused(waiting, 4, "deadline");
        assert_refused(p, 4, "deadline");
        assert_refused(m, 3, "grpc-timeout");
        assert_false(b->is_closed);
        assert_int_equal(look(&seen.gone), 3);
        assert_int_equal(server_stats(&server).grpc_deadline_exceeded, 3);
        assert_int_equal(server_stats(&server).grpc_calls_open, 1);
        h2_hang_up(&c);
        wait_for(&seen.gone, 4);
}

TEST(call, cancelled_is_told_once_and_late_answers_are_harmless)
{
        struct h2_client c;
        struct h2_stream *s, *after;

        count_up(&seen.must_hold);
        h2_dial(&c, &server, NULL, 0);
        s = grpc_unary(&c, "/test.Test/Wait", "x");
        H2_UNTIL(&c, look(&seen.held) == 1);
        nghttp2_submit_rst_stream(c.session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_CANCEL);
        after = grpc_unary(&c, "/test.Test/Echo", "x");
        H2_UNTIL(&c, after->is_closed);
        wait_for(&seen.gone, 1);
        server_run(&server, answer_held, NULL);
        assert_int_equal(look(&seen.gone), 1);
        assert_int_equal(server_stats(&server).grpc_calls_open, 0);
        /* The same when the whole connection breaks. */
        s = grpc_unary(&c, "/test.Test/Wait", "x");
        H2_UNTIL(&c, look(&seen.held) == 2);
        h2_hang_up(&c);
        wait_for(&seen.gone, 2);
        server_run(&server, answer_held, NULL);
        while (server_stats(&server).connections)
                usleep(1000);
        assert_int_equal(server_stats(&server).buffered_bytes, 0);
}

TEST(call, before_the_store_is_open_is_unavailable)
{
        struct server s;
        struct h2_client c;
        struct h2_stream *a, *b;

        server_open(&s, NULL);
        gateway_add_methods(s.gateway, methods, COUNT_OF(methods));
        gateway_add_methods(s.gateway, early, COUNT_OF(early));
        server_start(&s);
        h2_dial(&c, &s, NULL, 0);
        a = grpc_unary(&c, "/test.Test/Echo", "x");
        b = grpc_unary(&c, "/test.Early/Echo", "x");
        H2_UNTIL(&c, a->is_closed && b->is_closed);
        assert_refused(a, 14, "not open yet");
        assert_int_equal(grpc_status_of(b), 0);
        assert_message(b, 0, "x");
        h2_hang_up(&c);
        server_stop(&s);
}

/* A held call is an append under way: it gets its answer. One that only listens gets 14 at once. */
TEST(call, held_finishes_while_the_server_stops)
{
        struct server s;
        struct h2_client c;
        struct h2_stream *held, *idle, *parts;

        server_open(&s, NULL);
        gateway_add_methods(s.gateway, methods, COUNT_OF(methods));
        serve(&s);
        server_start(&s);
        count_up(&seen.must_hold);
        h2_dial(&c, &s, NULL, 0);
        held = grpc_unary(&c, "/test.Test/Wait", "x");
        idle = grpc_call(&c, "/test.Test/Chat");
        grpc_send(&c, idle, "x", 1);
        parts = grpc_call(&c, "/test.Test/Sum");
        H2_UNTIL(&c, look(&seen.held) == 1 && grpc_message_count(idle) == 1);
        os_post(s.os, server_close, &s);
        H2_UNTIL(&c, idle->is_closed && parts->is_closed && c.has_goaway);
        assert_int_equal(grpc_status_of(idle), 14);
        assert_refused(parts, 14, "stopping");
        assert_int_equal(look(&seen.gone), 2);
        assert_false(held->is_closed);
        os_post(s.os, answer_held, NULL);
        H2_UNTIL(&c, held->is_closed);
        assert_message(held, 0, "late");
        assert_int_equal(grpc_status_of(held), 0);
        pthread_join(s.thread, NULL);
        assert_true(s.is_closed);
        control_close(&s.control);
        os_free(&s.os);
        h2_hang_up(&c);
}

static void note_method(void *arg, const struct gateway_method *method)
{
        buffer_format(arg, "%s/%s(%s) ", method->service, method->name, method->features);
}

TEST(call, is_counted)
{
        struct gateway_stats stats;
        struct buffer names = {0};
        struct h2_client c;
        struct h2_stream *a, *b, *w;

        h2_dial(&c, &server, NULL, 0);
        a = grpc_unary(&c, "/test.Test/Echo", "x");
        b = grpc_unary(&c, "/test.Test/Fail", "5 nothing");
        w = grpc_unary(&c, "/test.Test/Wait", "x");
        H2_UNTIL(&c, a->is_closed && b->is_closed && look(&seen.held) == 1);
        stats = server_stats(&server);
        assert_int_equal(stats.grpc_calls, 3);
        assert_int_equal(stats.grpc_calls_open, 1);
        assert_int_equal(stats.grpc_failed, 1);
        assert_int_equal(stats.http_requests, 0);
        assert_false(w->is_closed);
        gateway_each_method(server.gateway, note_method, &names);
        assert_true(body_has(&names, "test.Test/Echo() "));
        assert_true(body_has(&names, "test.Early/Echo(a b) "));
        buffer_fini(&names);
        h2_hang_up(&c);
}

#define ROW(noun, story) cmocka_unit_test_setup_teardown(test_##noun##_##story, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                ROW(call, unary_answers_once),
                ROW(call, client_stream_hands_over_messages_of_any_size_in_order),
                ROW(call, messages_come_whole_however_the_bytes_are_cut),
                ROW(call, chat_answers_while_the_client_goes_on),
                ROW(call, slow_reader_does_not_stall_another_call),
                ROW(call, paused_makes_its_client_wait_and_no_other_call),
                ROW(call, answers_that_nobody_reads_stop_the_questions),
                ROW(call, paused_again_and_again_keeps_the_order),
                ROW(call, ends_with_status_message_and_trailers),
                ROW(call, to_nothing_known_is_unimplemented),
                ROW(call, other_content_types_and_verbs_are_refused_as_http),
                ROW(call, unary_takes_exactly_one_message),
                ROW(call, refuses_messages_that_it_cannot_take),
                ROW(call, ends_when_its_deadline_has_passed),
                ROW(call, cancelled_is_told_once_and_late_answers_are_harmless),
                ROW(call, before_the_store_is_open_is_unavailable),
                ROW(call, held_finishes_while_the_server_stops),
                ROW(call, is_counted),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
