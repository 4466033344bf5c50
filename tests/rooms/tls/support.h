/* Two sides of a TLS session without sockets, on the simulated machine's disk and clock. */
#ifndef TESTS_TLS_SUPPORT_H
#define TESTS_TLS_SUPPORT_H

#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "os/os_sim.h"
#include "tls/tls.h"

#define DAY_US ((int64_t)86400 * 1000000)

static const uint8_t cluster_a[16] = {0xa0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
static const uint8_t cluster_b[16] = {0xb0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
static const char *const local_names[] = {"localhost", "127.0.0.1", "::1"};

static inline struct os *machine_new(void)
{
        struct os *os;

        assert_int_equal(os_sim_new(1, &os), 0);
        return os;
}

static inline void authority_make(struct os *os, const char *directory, const uint8_t cluster_uuid[16])
{
        struct tls_problem problem;

        assert_int_equal(tls_authority_make(os, directory, cluster_uuid, &problem), 0);
}

/* A node of the CA in `authority`, with files of its own in `directory`, made as a joiner does. */
static inline void node_make(struct os *os, const char *authority, const char *directory, uint64_t node_id)
{
        struct buffer request = {0}, certificate = {0}, ca = {0};
        struct tls_problem problem;
        char path[64];

        snprintf(path, sizeof path, "%s/ca.pem", authority);
        assert_int_equal(os_read_whole(os, path, TLS_PEM_SIZE_MAX, &ca), 0);
        assert_int_equal(tls_request_make(os, directory, &request, &problem), 0);
        assert_int_equal(tls_request_sign(os, authority, buffer_bytes(&request), node_id, local_names, 3, &certificate,
                                 &problem),
                0);
        assert_int_equal(
                tls_certificate_install(os, directory, buffer_bytes(&ca), buffer_bytes(&certificate), &problem), 0);
        buffer_fini(&request);
        buffer_fini(&certificate);
        buffer_fini(&ca);
}

static inline struct tls_context *context_open(struct os *os, const char *directory)
{
        struct tls_context_options options = {.os = os, .directory = directory};
        struct tls_context *context = NULL;
        struct tls_problem problem;

        assert_int_equal(tls_context_open(&options, &context, &problem), 0);
        return context;
}

/* ---- a pair of sessions ---- */

struct pair {
        struct tls_session *client, *server;
        struct buffer at_client, at_server; /* plaintext that has come */
        uint64_t flown;                     /* bytes on the wire */
};

static inline void pair_new(struct pair *p, struct tls_context *client, struct tls_context *server)
{
        memset(p, 0, sizeof *p);
        assert_int_equal(tls_session_new(client, false, &p->client), 0);
        assert_int_equal(tls_session_new(server, true, &p->server), 0);
}

static inline void pair_free(struct pair *p)
{
        tls_session_free(&p->client);
        tls_session_free(&p->server);
        buffer_fini(&p->at_client);
        buffer_fini(&p->at_server);
}

/* Moves the output of one side to the other in pieces of `step`. */
static inline bool carry(struct tls_session *from, struct tls_session *to, struct buffer *plain, size_t step, uint64_t *flown)
{
        struct bytes output = tls_session_output(from);
        uint8_t *copy;
        size_t at, n, size = output.size;

        if (!size)
                return false;
        copy = memory_new(size);
        memcpy(copy, output.data, size);
        tls_session_sent(from);
        for (at = 0; at < size; at += n) {
                n = MIN(step, size - at);
                tls_session_feed(to, bytes_of(copy + at, n), plain);
        }
        *flown += size;
        free(copy);
        return true;
}

static inline void pair_run(struct pair *p, size_t step)
{
        bool has_moved = true;

        while (has_moved) {
                has_moved = carry(p->client, p->server, &p->at_server, step, &p->flown);
                has_moved |= carry(p->server, p->client, &p->at_client, step, &p->flown);
        }
}

/* Neither side took the other: at least one knows why, and no plaintext came through. */
static inline void assert_refused(struct pair *p, const char *client_says, const char *server_says)
{
        pair_run(p, 1000);
        if (tls_session_state(p->client) == TLS_OPEN)
                tls_session_write(p->client, BYTES_LITERAL("let me in"));
        pair_run(p, 1000);
        assert_int_equal(p->at_server.size, 0);
        assert_int_equal(tls_session_state(p->client), TLS_FAILED);
        assert_int_equal(tls_session_state(p->server), TLS_FAILED);
        if (!strstr(tls_session_problem(p->client), client_says) || !strstr(tls_session_problem(p->server), server_says))
                fail_msg("client: %s; server: %s", tls_session_problem(p->client), tls_session_problem(p->server));
}

#endif
