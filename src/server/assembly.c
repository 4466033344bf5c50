/* The assembly: makes the machine, the bus, the gateway and the store, says to each what it needs of the
 * others, and takes them apart in reverse. ARCHITECTURE.md, section 3, has the chain of start-up facts. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "api/api.h"
#include "base/memory.h"
#include "cluster/cluster.h"
#include "control/control.h"
#include "gateway/gateway.h"
#include "notification/notification.h"
#include "ops/ops.h"
#include "os/os.h"
#include "persistence/persistence.h"
#include "server/config.h"
#include "server/server.h"
#include "store/store.h"

struct server {
        struct config config;
        struct os *os;
        struct control *control;
        struct gateway *gateway;
        struct persistence_node *node;
        struct store *store;
        struct notification *notification;
        struct ops *ops;
        char *problem; /* why the start failed */
        int exit_code;
        bool is_stopping;
};

/* ---- stop: reverse of the start ---- */

static void on_store_closed(void *arg)
{
        struct server *s = arg;

        persistence_node_close(&s->node);
        os_stop(s->os);
}

static void on_gateway_closed(void *arg)
{
        struct server *s = arg;

        ops_close(&s->ops);
        notification_free(&s->notification);
        if (s->store)
                store_close(&s->store, on_store_closed, s);
        else
                on_store_closed(s);
}

static void stop(struct server *s, const char *why)
{
        struct fact_payload payload = {0};

        if (s->is_stopping)
                return;
        s->is_stopping = true;
        fact_set_text(&payload, "%s", why);
        control_publish(s->control, FACT_system_stopping, &payload);
        /* Subscriptions end first, so that their calls can: a call under way would hold the gateway open. */
        if (s->notification)
                notification_stop(s->notification);
        gateway_close(&s->gateway, on_gateway_closed, s);
}

static void on_stop_signal(void *arg)
{
        stop(arg, "signal");
}

static void fail(struct server *s, int exit_code, const char *problem)
{
        if (s->exit_code)
                return;
        s->exit_code = exit_code;
        s->problem = memory_copy_string(problem);
}

/* ---- start ---- */

static int exit_code_of(int result)
{
        switch (result) {
        case PERSISTENCE_IN_USE:
                return EXIT_CODE_DATA_IN_USE;
        case PERSISTENCE_CORRUPT:
        case PERSISTENCE_FORMAT:
                return EXIT_CODE_CORRUPT;
        default:
                return EXIT_CODE_DISK_FAULT;
        }
}

static void on_phase(void *arg, enum subsystem phase)
{
        control_ready(((struct server *)arg)->control, phase);
}

static void on_disk_fault(void *arg, const char *problem)
{
        (void)arg;
        fault_exit(EXIT_CODE_DISK_FAULT,
                "nilo: the disk failed: %s. Nothing was acknowledged that is not on it. "
                "Check the disk, then start again.",
                problem);
}

static void on_store_open(void *arg, int result, const char *problem)
{
        struct server *s = arg;
        struct notification_options options = {
                .os = s->os,
                .control = s->control,
                .store = s->store,
                .subscriptions_max = (unsigned)s->config.subscriptions_max,
        };

        if (result) {
                fail(s, exit_code_of(result), problem);
                control_failed(s->control, SUBSYSTEM_STORE, problem);
                return;
        }
        result = notification_open(&options, &s->notification);
        if (result) {
                fail(s, EXIT_CODE_BUG, fault_last());
                control_failed(s->control, SUBSYSTEM_NOTIFICATION, fault_last());
                return;
        }
        control_ready(s->control, SUBSYSTEM_NOTIFICATION);
        gateway_serve(s->gateway, s->store, s->notification);
        control_ready(s->control, SUBSYSTEM_GATEWAY);
}

static void start_persistence(void *arg)
{
        struct server *s = arg;
        struct store_options options = {
                .os = s->os,
                .control = s->control,
                .name = "default",
                .segment_size = s->config.segment_size,
                .space_reserve = s->config.space_reserve,
                .memory_size = s->config.memory / 2,
                .in_flight_size_max = s->config.memory / 2,
                .sync = (enum store_sync)s->config.sync,
                .on_phase = on_phase,
                .on_open = on_store_open,
                .on_disk_fault = on_disk_fault,
                .arg = s,
        };
        int r = persistence_node_open(s->os, s->config.data, false, &s->node);

        options.node = s->node;
        if (!r)
                r = store_open(&options, &s->store);
        if (r) {
                const char *problem = r > 0 ? persistence_problem() : fault_last();

                fail(s, exit_code_of(r), problem);
                control_failed(s->control, SUBSYSTEM_PERSISTENCE, problem);
        }
}

/* These wait for the store: their readiness is reported when it opens. */
static void start_with_the_store(void *arg)
{
        (void)arg;
}

/* ---- people ---- */

static void print_where(const struct server *s)
{
        const char *host = strchr(s->config.listen, ':') ? "[::1]" : s->config.listen;
        const char *data = s->config.memory_only ? "memory only: nothing survives a stop" : s->config.data;
        uint16_t port = gateway_port(s->gateway);
        struct buffer out = {0};

        if (s->config.json) {
                struct json_out j = {.out = &out};

                json_object_begin(&j);
                json_key(&j, "url");
                buffer_format(&out, "\"http://%s:%u\"", host, port);
                j.after_key = false;
                json_field_u64(&j, "port", port);
                json_field_string(&j, "connection", "kurrentdb");
                json_field_string(&j, "data", s->config.memory_only ? "" : s->config.data);
                json_field_bool(&j, "memory_only", s->config.memory_only);
                json_field_u64(&j, "pid", (uint64_t)getpid());
                json_field_string(&j, "version", NILO_VERSION);
                json_object_end(&j);
                buffer_add_string(&out, "\n");
        } else {
                buffer_format(&out, "Nilometer %s is ready.\n\n", NILO_VERSION);
                buffer_format(&out, "  URL     http://%s:%u\n", host, port);
                buffer_format(&out, "  client  kurrentdb://%s:%u?tls=false\n", host, port);
                buffer_format(&out, "  data    %s\n\n", data);
                buffer_format(&out,
                        "Append an event:\n  echo '{\"total\":5}' | nilo stream append order-42 OrderPlaced "
                        "--expect none%s%.0u\n\n",
                        port == 2113 ? "" : " --url http://127.0.0.1:PORT", port);
        }
        (void)!write(STDOUT_FILENO, out.data, out.size);
        buffer_fini(&out);
}

static void on_started(void *arg, bool is_ready)
{
        struct server *s = arg;

        if (is_ready)
                print_where(s);
        else
                stop(s, "the start failed");
}

static int open_gateway(struct server *s)
{
        struct gateway_options options = {
                .os = s->os,
                .control = s->control,
                .address = s->config.listen,
                .port = (uint16_t)s->config.port,
                .connections_max = (uint32_t)s->config.connections_max,
                .streams_max = (uint32_t)s->config.streams_max,
                .memory_size = s->config.memory / 4,
        };
        const char *why = "";
        char text[512];
        int r;

        os_random(s->os, options.node_uuid, sizeof options.node_uuid);
        r = gateway_open(&options, &s->gateway, &why);
        if (!r)
                return 0;
        if (r == GATEWAY_ADDRESS_IN_USE)
                snprintf(text, sizeof text,
                        "port %u of %s is in use. Choose another with --port N, or --port 0 for any free "
                        "one.",
                        (unsigned)s->config.port, s->config.listen);
        else if (r > 0)
                snprintf(text, sizeof text, "--listen %s: %s", s->config.listen, why);
        else
                snprintf(text, sizeof text, "--listen %s: %s", s->config.listen, fault_last());
        fail(s, EXIT_CODE_CONFIGURATION, text);
        return r;
}

static void run(struct server *s)
{
        const struct control_subsystem subsystems[] = {
                {SUBSYSTEM_PERSISTENCE, start_persistence, s},
                {SUBSYSTEM_CLUSTER, start_with_the_store, s},
                {SUBSYSTEM_STORE, start_with_the_store, s},
                {SUBSYSTEM_NOTIFICATION, start_with_the_store, s},
                {SUBSYSTEM_GATEWAY, start_with_the_store, s},
        };
        struct fact_payload payload = {0};

        fact_set_text(&payload, "nilo %s", NILO_VERSION);
        control_publish(s->control, FACT_system_startup_initiated, &payload);
        os_on_stop_signal(s->os, on_stop_signal, s);
        control_start(s->control, subsystems, COUNT_OF(subsystems), on_started, s);
        if (os_run(s->os))
                fail(s, EXIT_CODE_BUG, fault_last());
}

static int start(struct server *s)
{
        char host[256] = "localhost";
        struct control_options control = {
                .node_name = s->config.node_name,
                .log_json = s->config.log_format == 1,
                .log_fd = STDERR_FILENO,
                .log_level = (enum log_level)s->config.log_level,
        };
        int r = os_real_new(&s->os);

        if (r) {
                fail(s, EXIT_CODE_BUG, fault_last());
                return r;
        }
        if (s->config.memory_only)
                os_memory_disk(s->os);
        if (!*s->config.node_name && !gethostname(host, sizeof host - 1))
                control.node_name = host;
        control.os = s->os;
        r = control_open(&control, &s->control);
        if (r)
                fail(s, EXIT_CODE_BUG, fault_last());
        return r ? r : open_gateway(s);
}

int server_main(int count, char **arguments, char **environment)
{
        struct server s = {0};
        struct buffer problems = {0};
        struct ops_options ops;

        if (cluster_engine_version() != CLUSTER_ENGINE_VERSION) {
                fprintf(stderr,
                        "nilo: the loaded libraft has version number %d, this program needs exactly %d "
                        "(0.22.1): others "
                        "lose data or corrupt memory. Install libraft 0.22.1.\n",
                        cluster_engine_version(), CLUSTER_ENGINE_VERSION);
                return EXIT_CODE_WRONG_LIBRARY;
        }
        if (config_read(count, arguments, environment, &s.config, &problems)) {
                fprintf(stderr, "nilo: the configuration has problems:\n%.*s", (int)problems.size,
                        (char *)problems.data);
                buffer_fini(&problems);
                config_fini(&s.config);
                return EXIT_CODE_CONFIGURATION;
        }
        if (!start(&s)) {
                api_register(s.gateway);
                ops_fill(&s, &ops);
                run(&s);
        }
        control_close(&s.control);
        os_free(&s.os);
        if (s.problem)
                fprintf(stderr, "nilo: %s\n", s.problem);
        free(s.problem);
        config_fini(&s.config);
        return s.exit_code;
}
