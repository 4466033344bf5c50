#include "server/tls.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/memory.h"

#define LOOK_US  ((uint64_t)3600 * 1000 * 1000)
#define RETRY_US ((uint64_t)60 * 1000 * 1000) /* where the CA's key is not here, or something failed */

static const char alpn[] = "h2,http/1.1";

static bool is_loopback(const char *address)
{
        struct in_addr v4;
        struct in6_addr v6;

        if (strcmp(address, "localhost") == 0)
                return true;
        if (inet_pton(AF_INET, address, &v4) == 1)
                return ntohl(v4.s_addr) >> 24 == 127;
        return inet_pton(AF_INET6, address, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

/* It stands for all addresses of the machine, and is none of them. */
static bool is_wildcard(const char *address)
{
        struct in_addr v4;
        struct in6_addr v6;

        if (inet_pton(AF_INET, address, &v4) == 1)
                return v4.s_addr == 0;
        return inet_pton(AF_INET6, address, &v6) == 1 && IN6_IS_ADDR_UNSPECIFIED(&v6);
}

bool server_tls_is_wanted(const struct config *config)
{
        enum { AUTO, ON, OFF }; /* the order of config.def */

        if (config->tls == AUTO)
                return *config->tls_certificate || (!config->insecure && !is_loopback(config->listen));
        return config->tls == ON;
}

/* ---- names ---- */

struct names {
        char *texts[TLS_NAMES_MAX];
        unsigned count;
};

static void names_fini(struct names *names)
{
        while (names->count)
                free(names->texts[--names->count]);
}

/* What does not fit is left out: the order is that of importance. */
static void add(struct names *names, const char *name)
{
        for (unsigned i = 0; i < names->count; i++)
                if (strcmp(names->texts[i], name) == 0)
                        return;
        if (names->count < TLS_NAMES_MAX && tls_name_is_valid(name))
                names->texts[names->count++] = memory_copy_string(name);
}

static void text_freep(char **text)
{
        free(*text);
}

/* "a,b,c" */
static int add_list(struct names *names, const char *list, struct tls_problem *problem)
{
        const char *end;

        for (; *list; list = *end ? end + 1 : end) {
                CLEANUP(text_freep) char *name = NULL;

                end = strchrnul(list, ',');
                name = bytes_to_string(bytes_of(list, (size_t)(end - list)));
                if (!tls_name_is_valid(name) || names->count == TLS_NAMES_MAX) {
                        snprintf(problem->text, sizeof problem->text,
                                "--tls-names: \"%.100s\" is neither a DNS name nor an IP address, or there "
                                "are "
                                "more than %u",
                                name, (unsigned)TLS_NAMES_MAX);
                        return SERVER_TLS_INVALID;
                }
                add(names, name);
        }
        return 0;
}

static void add_interfaces(struct names *names)
{
        struct ifaddrs *list = NULL;
        char text[INET6_ADDRSTRLEN];

        if (getifaddrs(&list))
                return;
        for (struct ifaddrs *at = list; at; at = at->ifa_next) {
                const void *address = NULL;

                if (!at->ifa_addr || !(at->ifa_flags & IFF_UP))
                        continue;
                if (at->ifa_addr->sa_family == AF_INET)
                        address = &((struct sockaddr_in *)(void *)at->ifa_addr)->sin_addr;
                else if (at->ifa_addr->sa_family == AF_INET6 &&
                         !IN6_IS_ADDR_LINKLOCAL(&((struct sockaddr_in6 *)(void *)at->ifa_addr)->sin6_addr))
                        address = &((struct sockaddr_in6 *)(void *)at->ifa_addr)->sin6_addr;
                if (address && inet_ntop(at->ifa_addr->sa_family, address, text, sizeof text))
                        add(names, text);
        }
        freeifaddrs(list);
}

/* By which this machine is reached. *ret_host: the one to tell to clients. */
static int collect(
        const struct config *config, struct names *names, char ret_host[256], struct tls_problem *problem)
{
        char host[256] = "";
        int r = add_list(names, config->tls_names, problem);

        if (r)
                return r;
        if (gethostname(host, sizeof host - 1))
                host[0] = 0;
        if (names->count && server_tls_is_wanted(config))
                snprintf(ret_host, 256, "%s", names->texts[0]);
        else if (!is_wildcard(config->listen))
                snprintf(ret_host, 256, "%s", config->listen);
        else
                snprintf(ret_host, 256, "%s", tls_name_is_valid(host) ? host : "localhost");
        if (!is_wildcard(config->listen))
                add(names, config->listen);
        add(names, "localhost");
        add(names, "127.0.0.1");
        add(names, "::1");
        if (*host)
                add(names, host);
        if (is_wildcard(config->listen))
                add_interfaces(names);
        return 0;
}

/* ---- files of the operator ---- */

static int open_context(struct server_tls *t, struct tls_problem *problem)
{
        const struct config *c = t->config;
        bool is_own = t->directory != NULL;
        struct tls_server_options options = {
                .os = t->os,
                .directory = t->directory,
                .certificate_file = is_own ? NULL : c->tls_certificate,
                .key_file = is_own ? NULL : c->tls_key,
                .client_ca_file = *c->tls_client_ca ? c->tls_client_ca : NULL,
                .alpn = alpn,
                .files = t->files,
        };
        int r = tls_server_open(&options, &t->context, problem);

        return r > 0 ? SERVER_TLS_INVALID : fault_fold(r);
}

int server_tls_open(struct server_tls *t, const struct config *config, struct tls_problem *problem)
{
        CLEANUP(names_fini) struct names names = {.count = 0};
        int r;

        t->config = config;
        t->files = t->os;
        r = collect(config, &names, t->host, problem);
        if (r || !server_tls_is_wanted(config))
                return r;
        if (config->memory_only && (*config->tls_certificate || *config->tls_client_ca)) {
                r = os_real_new(&t->files);
                if (r)
                        return fault_fold(r);
        }
        return *config->tls_certificate ? open_context(t, problem) : 0;
}

/* ---- the own CA ---- */

/* TLS_NOT_FOUND: the CA's key is on another node, which sees to the certificate of this one. */
static int cover(struct server_tls *t, struct tls_problem *problem)
{
        CLEANUP(names_fini) struct names names = {.count = 0};
        bool is_new;
        int r = collect(t->config, &names, t->host, problem);

        if (!r)
                r = tls_node_certificate_cover(t->os, t->directory, t->node_id,
                        (const char *const *)names.texts, names.count, &is_new, problem);
        return r;
}

static void on_look(struct os_timer *timer)
{
        struct server_tls *t = timer->arg;
        struct fact_payload payload = {.node_id = t->node_id};
        struct tls_problem problem = {""};
        int r = cover(t, &problem);

        if (r && r != TLS_NOT_FOUND) {
                fact_set_text(&payload, "%s", r > 0 ? problem.text : fault_last());
                control_publish(t->control, FACT_certificate_problem, &payload);
        }
        os_timer_start(t->os, timer, r ? RETRY_US : LOOK_US);
}

static int look_at_authority(struct server_tls *t, struct tls_problem *problem)
{
        CLEANUP(buffer_fini) struct buffer path = {0};
        struct tls_certificate_info info;
        int r = tls_certificate_info(t->os, t->directory, "ca.pem", &info, problem);

        if (r)
                return r;
        buffer_format(&path, "%s/ca.pem", t->directory);
        buffer_add_u8(&path, 0);
        /* Whole, since it is pasted somewhere else. In memory there is none. */
        t->ca_file = realpath((const char *)path.data, NULL);
        if (!t->ca_file)
                t->ca_file = memory_copy_string((const char *)path.data);
        for (unsigned i = 0; i < TLS_FINGERPRINT_SIZE; i++)
                snprintf(t->fingerprint + 3 * i, 4, "%02X%s", info.fingerprint[i],
                        i + 1 < TLS_FINGERPRINT_SIZE ? ":" : "");
        return 0;
}

int server_tls_open_own(
        struct server_tls *t, const uint8_t cluster_uuid[16], uint64_t node_id, struct tls_problem *problem)
{
        CLEANUP(buffer_fini) struct buffer path = {0};
        int r;

        assert(!t->context);
        t->node_id = node_id;
        buffer_format(&path, "%s/certs", t->config->data);
        t->directory = bytes_to_string(buffer_bytes(&path));
        r = tls_authority_make(t->os, t->directory, cluster_uuid, problem);
        t->is_new_authority = r == 0;
        if (!r || r == TLS_EXISTS)
                r = cover(t, problem);
        if (!r || r == TLS_NOT_FOUND)
                r = open_context(t, problem);
        if (!r)
                r = look_at_authority(t, problem);
        if (r)
                return r > 0 ? SERVER_TLS_INVALID : r;
        t->timer = (struct os_timer){.fn = on_look, .arg = t};
        os_timer_start(t->os, &t->timer, RETRY_US);
        return 0;
}

void server_tls_close(struct server_tls *t)
{
        os_timer_stop(&t->timer);
        tls_context_close(&t->context);
        if (t->files != t->os)
                os_free(&t->files);
        free(t->directory);
        free(t->ca_file);
        *t = (struct server_tls){0};
}
