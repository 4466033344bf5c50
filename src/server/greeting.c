#include "server/greeting.h"

#include <stdio.h>
#include <unistd.h>

#include "base/json_out.h"
#include "base/macros.h"

static void add_address(const struct greeting *g, struct buffer *out)
{
        bool is_v6 = strchr(g->host, ':') != NULL;

        buffer_format(out, "%s%s%s:%u", is_v6 ? "[" : "", g->host, is_v6 ? "]" : "", g->port);
}

static void add_url(const struct greeting *g, struct buffer *out)
{
        buffer_add_string(out, g->speaks_tls ? "https://" : "http://");
        add_address(g, out);
}

/* As KurrentDB's clients take it. `user` is "" or "admin:password@". */
static void add_connection(const struct greeting *g, const char *user, struct buffer *out)
{
        buffer_format(out, "kurrentdb://%s", user);
        add_address(g, out);
        if (!g->speaks_tls)
                buffer_add_string(out, "?tls=false");
        else if (g->ca_file && !g->config->memory_only)
                buffer_format(out, "?tls=true&tlsCAFile=%s", g->ca_file);
        else
                buffer_add_string(out, "?tls=true");
}

static void print(struct buffer *out)
{
        /* Nobody may be reading, which is no reason to fail. */
        if (fwrite(out->data, 1, out->size, stdout) == out->size)
                fflush(stdout);
        /* It may have held a password. */
        explicit_bzero(out->data, out->capacity);
        buffer_fini(out);
}

static void add_json(const struct greeting *g, struct buffer *out)
{
        struct json_out j = {.out = out};
        CLEANUP(buffer_fini) struct buffer text = {0};

        json_object_begin(&j);
        add_url(g, &text);
        json_field_bytes(&j, "url", buffer_bytes(&text));
        json_field_u64(&j, "port", g->port);
        json_field_bool(&j, "insecure", g->config->insecure);
        if (g->ca_file && !g->config->memory_only)
                json_field_string(&j, "ca_file", g->ca_file);
        if (g->ca_file)
                json_field_string(&j, "ca_fingerprint", g->fingerprint);
        buffer_clear(&text);
        add_connection(g, "", &text);
        json_field_bytes(&j, "connection", buffer_bytes(&text));
        if (g->config->memory_only) {
                json_key(&j, "data");
                json_out_null(&j);
        } else {
                json_field_string(&j, "data", g->config->data);
        }
        json_field_bool(&j, "memory_only", g->config->memory_only);
        json_field_u64(&j, "pid", (uint64_t)getpid());
        json_field_string(&j, "version", NILO_VERSION);
        json_object_end(&j);
        buffer_add_string(out, "\n");
}

static void add_text(const struct greeting *g, struct buffer *out)
{
        bool is_default_address = !g->speaks_tls && g->port == 2113 && strcmp(g->host, "127.0.0.1") == 0;

        buffer_format(out, "Nilometer %s is ready.\n\n  URL     ", NILO_VERSION);
        add_url(g, out);
        buffer_add_string(out, "\n  client  ");
        add_connection(g, "", out);
        buffer_format(out, "\n  data    %s\n",
                g->config->memory_only ? "in memory only: nothing survives a stop" : g->config->data);
        if (g->config->insecure)
                buffer_format(out, "  INSECURE: %snobody is asked who he is\n",
                        g->speaks_tls ? "" : "no TLS, and ");
        buffer_add_string(out,
                "\nAppend an event:\n"
                "  echo '{\"total\":5}' | nilo stream append order-42 OrderPlaced --expect none");
        /* The command line looks at 127.0.0.1:2113 by itself. */
        if (!is_default_address) {
                buffer_add_string(out, " --url ");
                if (g->ca_file && !g->config->memory_only) {
                        buffer_add_string(out, "'");
                        add_connection(g, "", out);
                        buffer_add_string(out, "'");
                } else {
                        add_url(g, out);
                }
        }
        buffer_add_string(out, "\n\n");
}

void greeting_print(const struct greeting *g)
{
        struct buffer out = {0};

        if (g->config->json)
                add_json(g, &out);
        else
                add_text(g, &out);
        print(&out);
}

static void add_first_json(const struct greeting *g, const char *password, struct buffer *out)
{
        struct json_out j = {.out = out};

        json_object_begin(&j);
        if (g->is_new_authority) {
                json_field_string(&j, "new_ca_file", g->ca_file);
                json_field_string(&j, "new_ca_fingerprint", g->fingerprint);
        }
        if (password) {
                json_field_string(&j, "user", "admin");
                json_field_string(&j, "password", password);
        }
        json_object_end(&j);
        buffer_add_string(out, "\n");
}

static void add_first_text(const struct greeting *g, const char *password, struct buffer *out)
{
        char user[256] = "";

        buffer_add_string(out, "This is shown once:\n\n");
        if (g->is_new_authority) {
                buffer_format(out, "  CA           %s\n  fingerprint  %s\n", g->ca_file, g->fingerprint);
                if (g->config->memory_only)
                        buffer_add_string(out, "               in memory only, as everything: use "
                                               "--tls-certificate where clients are to verify it\n");
        }
        if (password) {
                buffer_format(out, "  user         admin\n  password     %s\n", password);
                snprintf(user, sizeof user, "admin:%s@", password);
        }
        buffer_add_string(out, "  client       ");
        add_connection(g, user, out);
        buffer_add_string(out, "\n\n");
        if (g->is_new_authority)
                buffer_add_string(out,
                        "Clients on other machines need a copy of the CA's file; it is no secret. Its key, "
                        "beside it, is one.\n\n");
        explicit_bzero(user, sizeof user);
}

void greeting_print_first(const struct greeting *g, const char *password)
{
        struct buffer out = {0};

        if (!password && !g->is_new_authority)
                return;
        if (g->config->json)
                add_first_json(g, password, &out);
        else
                add_first_text(g, password, &out);
        print(&out);
}
