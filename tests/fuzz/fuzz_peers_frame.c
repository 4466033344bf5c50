/* What a stranger says on the port of peers: frames, hellos, refusals (F5), and addresses and join tokens
 * (F13). Whole or in pieces the outcome is the same, what is taken can be said again in the same bytes, and
 * texts are fit to be shown. Links: base os model control tls peers */
#include <stdlib.h>

#include "base/memory.h"
#include "peers/frame.h"
#include "peers/room.h"

static void require(bool holds)
{
        if (!holds)
                abort();
}

static void require_shown(const char *text)
{
        for (; *text; text++)
                require((uint8_t)*text >= 0x20 && *text != 0x7f);
}

static void look_at_hello(struct bytes body)
{
        struct hello hello, again;
        struct buffer out = {0};
        const char *why = NULL;
        char reason[WHY_SIZE] = "";
        struct bytes said;

        if (!hello_parse(body, &hello, &why)) {
                require(why != NULL);
                return;
        }
        require_shown(hello.identity.name);
        hello_add(&out, &hello);
        said = bytes_of(out.data + PEERS_FRAME_HEADER_SIZE, out.size - PEERS_FRAME_HEADER_SIZE);
        require(hello_parse(said, &again, &why));
        require(memcmp(&again, &hello, sizeof again) == 0);
        if (!hello_check(&hello, &again, NULL, reason))
                require_shown(reason);
        if (!hello_check_asker(&hello, &again, NULL, reason))
                require_shown(reason);
        buffer_fini(&out);
}

static void look_at_frame(const struct frame *frame, struct bytes whole)
{
        struct buffer out = {0};
        enum refusal refusal;
        char why[WHY_SIZE];

        frame_add(&out, frame->type, frame->version, frame->store_uuid, &frame->body, 1);
        require(bytes_equal(buffer_bytes(&out), whole));
        buffer_fini(&out);
        if (frame->type == FRAME_HELLO)
                look_at_hello(frame->body);
        refusal_parse(frame->body, &refusal, why);
        require_shown(why);
}

static void look_at_texts(const uint8_t *data, size_t size)
{
        char *text = bytes_to_string(bytes_of(data, size)), again[TLS_TOKEN_TEXT_SIZE];
        struct tls_join_token token;
        struct host_port to;

        if (host_port_parse(text, &to))
                require(to.port > 0 && to.host[0]);
        if (tls_join_token_parse(text, &token)) {
                tls_join_token_encode(&token, again);
                require(strcasecmp(text, again) == 0);
        }
        free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        enum { LIMIT = 4096 };
        struct frame frame;
        const char *why = NULL;
        size_t at = 0, frame_size, part;

        look_at_texts(data, size);
        /* The sum keeps random bytes out: what would be a body is looked at without. */
        look_at_hello(bytes_of(data, size));
        while (at < size) {
                struct bytes rest = bytes_of(data + at, size - at);
                enum frame_result result = frame_parse(rest, LIMIT, &frame, &frame_size, &why);

                if (result == FRAME_BAD)
                        require(why != NULL);
                if (result != FRAME_WHOLE)
                        break;
                require(frame_size <= rest.size && frame.body.size <= LIMIT);
                for (part = 0; part < MIN(frame_size, (size_t)64); part++)
                        require(frame_parse(bytes_of(rest.data, part), LIMIT, &frame, &frame_size, &why) ==
                                FRAME_PART);
                require(frame_parse(rest, LIMIT, &frame, &frame_size, &why) == FRAME_WHOLE);
                look_at_frame(&frame, bytes_of(rest.data, frame_size));
                at += frame_size;
        }
        return 0;
}
