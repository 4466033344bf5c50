/* The assembly: makes the machine, the bus, the gateway and the store, says to each what it needs of the
 * others, and takes them apart in reverse. ARCHITECTURE.md ("Start and stop") has the chain of facts. */
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "api/api.h"
#include "base/memory.h"
#include "cluster/cluster.h"
#include "control/control.h"
#include "emitter/emitter.h"
#include "gateway/gateway.h"
#include "kurrent/kurrent.h"
#include "membership/membership.h"
#include "notification/notification.h"
#include "ops/ops.h"
#include "os/os.h"
#include "persistence/persistence.h"
#include "server/config.h"
#include "server/greeting.h"
#include "server/privileges.h"
#include "server/process.h"
#include "server/server.h"
#include "server/tls.h"
#include "server/users.h"
#include "store/store.h"

struct server {
        struct config config;
        struct os *os;
        struct control *control;
        struct control_watcher watcher; /* for restarts_exhausted */
        struct server_tls tls;
        struct server_users users;
        struct gateway *gateway;
        struct kurrent *kurrent;
        struct api *api;
        struct ops *ops;
        struct persistence_node *node;
        struct membership *membership;
        struct store *store;
        struct notification *notification;
        struct emitter *emitter;
        uint8_t node_uuid[16]; /* of this life of the process */
        char node_name[256];
        char privileges[128];  /* what the process is, for people */
        struct buffer problem; /* why it does not run, for people */
        int exit_code;
        bool is_stopping;
        bool had_terminal; /* at the start */
        bool is_started;
        bool has_first_users;
        char password[64]; /* of "admin", until it was shown; "": it was not made now */
        struct os_timer memory_timer;
};

enum { MEMORY_LOOK_US = 5 * 1000 * 1000, MEMORY_UNUSED_MAX = 32 * MIB };
#define DAY_US ((uint64_t)24 * 3600 * 1000 * 1000)

static void fail_with(struct server *s, int exit_code, const char *format, ...) PRINTF_LIKE(3, 4);

/* The first reason counts: what follows from it says less. */
static void fail_with(struct server *s, int exit_code, const char *format, ...)
{
        char text[1024];
        va_list arguments;

        if (s->exit_code)
                return;
        va_start(arguments, format);
        vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
        s->exit_code = exit_code;
        buffer_add_string(&s->problem, text);
}

static void publish(struct server *s, enum fact_type type, enum subsystem subsystem, const char *text)
{
        struct fact_payload payload = {.subsystem = (uint8_t)subsystem};

        fact_set_text(&payload, "%s", text);
        control_publish(s->control, type, &payload);
}

/* ---- stop: reverse of the start ---- */

static void on_store_closed(void *arg)
{
        struct server *s = arg;

        publish(s, FACT_subsystem_stopped, SUBSYSTEM_STORE, "");
        membership_close(&s->membership);
        publish(s, FACT_subsystem_stopped, SUBSYSTEM_CLUSTER, "");
        persistence_node_close(&s->node);
        publish(s, FACT_subsystem_stopped, SUBSYSTEM_PERSISTENCE, "");
        os_timer_stop(&s->memory_timer);
        os_stop(s->os);
}

static void on_gateway_closed(void *arg)
{
        struct server *s = arg;

        publish(s, FACT_subsystem_stopped, SUBSYSTEM_GATEWAY, "");
        kurrent_close(&s->kurrent);
        api_close(&s->api);
        ops_close(&s->ops);
        emitter_free(&s->emitter);
        server_users_stop(&s->users);
        notification_free(&s->notification);
        publish(s, FACT_subsystem_stopped, SUBSYSTEM_NOTIFICATION, "");
        publish(s, FACT_subsystem_stopping, SUBSYSTEM_STORE, "");
        if (s->store)
                store_close(&s->store, on_store_closed, s);
        else
                on_store_closed(s);
}

static void on_emitter_stopped(void *arg)
{
        struct server *s = arg;

        if (s->notification)
                notification_stop(s->notification);
        publish(s, FACT_subsystem_stopping, SUBSYSTEM_GATEWAY, "");
        gateway_close(&s->gateway, on_gateway_closed, s);
}

/* Others lead while this node closes: clients do not wait for an election. */
static void on_handed_over(void *arg)
{
        struct server *s = arg;

        /* Streams of facts and subscriptions end first: as calls under way they would hold the gateway open.
         */
        ops_stop(s->ops);
        api_serve(s->api, NULL);
        if (s->membership)
                membership_stop(s->membership);
        publish(s, FACT_subsystem_stopping, SUBSYSTEM_NOTIFICATION, "");
        if (s->emitter)
                emitter_stop(s->emitter, on_emitter_stopped, s);
        else
                on_emitter_stopped(s);
}

/* A second signal changes nothing: what it would cut short is the part that keeps data. */
static void stop(struct server *s, const char *why)
{
        if (s->is_stopping)
                return;
        s->is_stopping = true;
        publish(s, FACT_system_stopping, SUBSYSTEM_SERVER, why);
        os_service_notify("STOPPING=1\nSTATUS=stopping");
        if (s->membership)
                membership_hand_over(s->membership, on_handed_over, s);
        else
                on_handed_over(s);
}

/* Programs that renew certificates send it, and so does a terminal that closes. */
static void on_reload_signal(void *arg)
{
        struct server *s = arg;

        if (s->had_terminal && !isatty(STDERR_FILENO))
                stop(s, "its terminal was closed");
        else if (!s->is_stopping)
                gateway_reload_tls(s->gateway);
}

static void on_stop_signal(void *arg)
{
        stop(arg, "a signal asked for it");
}

/* Whichever supervisor has given up: going on would mean a server that looks well and is not. */
static void on_facts(struct control_watcher *watcher)
{
        struct server *s = watcher->arg;
        struct fact fact;
        uint64_t missed;

        while (control_take(watcher, &fact, &missed)) {
                if (fact.type != FACT_restarts_exhausted)
                        continue;
                fail_with(s, EXIT_CODE_RESTARTS_EXHAUSTED,
                        "a worker of %s failed too often: %.*s. What was acknowledged is safe; start again, "
                        "and look "
                        "at the log above for the reason",
                        subsystem_name((enum subsystem)fact.payload.subsystem), (int)fact.payload.text_size,
                        fact.payload.text);
                stop(s, "a worker failed too often");
        }
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

static void fail_data(struct server *s, int result, const char *problem)
{
        switch (result) {
        case PERSISTENCE_IN_USE:
                fail_with(s, EXIT_CODE_DATA_IN_USE,
                        "the data directory %s is in use by another process. Stop that one, or choose "
                        "another with --data DIRECTORY",
                        s->config.data);
                break;
        case PERSISTENCE_FULL:
                fail_with(s, EXIT_CODE_DISK_FAULT, "the disk of %s is full: make space, then start again",
                        s->config.data);
                break;
        default:
                fail_with(s, exit_code_of(result), "the data directory %s: %s", s->config.data, problem);
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
                "Check the disk, then start again",
                problem);
}

static void on_wrong_history(void *arg, const char *problem)
{
        (void)arg;
        fault_exit(EXIT_CODE_WRONG_HISTORY, "nilo: %s. Start this node again", problem);
}

/* Ready means that durable subscriptions are there too: who connects at once need not ask again. */
static void on_serving(void *arg)
{
        struct server *s = arg;

        if (!s->is_stopping)
                control_ready(s->control, SUBSYSTEM_NOTIFICATION);
}

static int open_emitter(struct server *s)
{
        const struct emitter_options options = {
                .os = s->os,
                .control = s->control,
                .store = s->store,
                .notification = s->notification,
                .memory_size = s->config.memory / 4,
                .on_serving = on_serving,
                .arg = s,
        };

        return emitter_open(&options, &s->emitter);
}

/* It may come while the system still starts, from inside the store's opening: what it ends with is posted. */
static void stop_unfit(void *arg)
{
        stop(arg, "the cluster has a version that this program does not support");
}

static void on_unfit(void *arg, const char *problem)
{
        struct server *s = arg;

        fail_with(s, EXIT_CODE_CONFIGURATION, "%s", problem);
        control_failed(s->control, SUBSYSTEM_CLUSTER, problem);
        os_post(s->os, stop_unfit, s);
}

static void on_store_open(void *arg, int result, const char *problem)
{
        struct server *s = arg;
        struct notification_options options = {
                .os = s->os,
                .control = s->control,
                .store = s->store,
                .subscriptions_max = (unsigned)s->config.subscriptions_max,
                .duties_follow = true,
        };

        if (s->is_stopping)
                return;
        if (result) {
                fail_data(s, result, problem);
                control_failed(s->control, SUBSYSTEM_STORE, problem);
                return;
        }
        if (!membership_may_serve(s->membership))
                return;
        if (notification_open(&options, &s->notification) || open_emitter(s) ||
                server_users_serve(&s->users, s->store, s->notification)) {
                fail_with(s, EXIT_CODE_BUG, "the notification system did not start: %s", fault_last());
                control_failed(s->control, SUBSYSTEM_NOTIFICATION, fault_last());
                return;
        }
        notification_lead(s->notification);
        kurrent_serve(s->kurrent, s->emitter);
        api_serve(s->api, s->emitter);
        ops_serve(s->ops, s->emitter);
        gateway_serve(s->gateway, s->store, s->notification);
        control_ready(s->control, SUBSYSTEM_GATEWAY);
        /* Who does not lead has no duties to take up, and is ready for everything else. */
        if (!store_is_leading(s->store))
                control_ready(s->control, SUBSYSTEM_NOTIFICATION);
}

static int open_store(struct server *s)
{
        /* What --memory caps, by who holds it: caches of the store, appends that are not yet committed. What
         * the sessions have read and not yet sent, appends whose end has not come and the buffers of durable
         * subscriptions have a quarter each, too. */
        struct store_options options = {
                .os = s->os,
                .control = s->control,
                .node = s->node,
                .name = "default",
                .segment_size = s->config.segment_size,
                .space_reserve = s->config.space_reserve,
                .scrub_us = s->config.scrub_days * DAY_US,
                .memory_size = s->config.memory / 2,
                .in_flight_size_max = s->config.memory / 4,
                .sync = (enum store_sync)s->config.sync,
                .on_phase = on_phase,
                .on_open = on_store_open,
                .on_disk_fault = on_disk_fault,
                .on_wrong_history = on_wrong_history,
                .arg = s,
        };
        int r;

        membership_store_cluster(s->membership, &options.cluster);
        r = store_open(&options, &s->store);
        if (!r)
                membership_add_store(s->membership, s->store);
        return r;
}

/* Only now: a node that has just joined has the CA of its cluster. */
static int open_own_tls(struct server *s)
{
        struct persistence_identity identity = persistence_node_identity(s->node);
        struct tls_problem problem = {""};
        int r;

        if (!gateway_speaks_tls(s->gateway) || s->tls.context)
                return 0;
        r = server_tls_open_own(&s->tls, identity.cluster_uuid, identity.node_id, &problem);
        if (r) {
                fail_with(s, EXIT_CODE_CONFIGURATION, "the certificate for clients: %s",
                        r > 0 ? problem.text : fault_last());
                control_failed(s->control, SUBSYSTEM_GATEWAY, problem.text);
                return r;
        }
        gateway_set_tls(s->gateway, s->tls.context);
        return 0;
}

/* This node knows whether it is one of others: its store can be opened. */
static void on_membership_ready(void *arg, int result, const char *problem)
{
        struct server *s = arg;
        int r;

        if (s->is_stopping)
                return;
        if (result) {
                fail_with(s, result == MEMBERSHIP_DAMAGED ? EXIT_CODE_CORRUPT : EXIT_CODE_CONFIGURATION, "%s",
                        problem);
                control_failed(s->control, SUBSYSTEM_CLUSTER, problem);
                return;
        }
        if (open_own_tls(s))
                return;
        r = open_store(s);
        if (r) {
                fail_data(s, r, fault_last());
                control_failed(s->control, SUBSYSTEM_PERSISTENCE, fault_last());
        }
}

/* A node that joins has its identity from the cluster, so that comes before its store. */
static void join_others(void *arg)
{
        struct server *s = arg;
        const struct config *c = &s->config;
        struct membership_options options = {
                .os = s->os,
                .control = s->control,
                .node = s->node,
                .directory = c->data,
                .name = s->node_name,
                .listen = c->peer_listen,
                .port = c->origin[CONFIG_peer_port] == ORIGIN_DEFAULT ? 0 : (uint16_t)c->peer_port,
                .advertise = c->advertise,
                .is_insecure = c->cluster_insecure,
                .join = c->join,
                .token = c->token,
                .discover_group = c->discover ? c->discover_group : "",
                .discover_secret = c->discover_secret,
                .client_host = s->tls.host,
                .client_port = gateway_port(s->gateway),
                .client_speaks_tls = gateway_speaks_tls(s->gateway),
                .on_ready = on_membership_ready,
                .on_unfit = on_unfit,
                .arg = s,
        };

        if (s->is_stopping)
                return;
        memcpy(options.instance, s->node_uuid, sizeof options.instance);
        membership_open(&options, &s->membership);
        kurrent_join(s->kurrent, s->membership);
        api_join(s->api, s->membership);
        ops_join(s->ops, s->membership);
}

static void start_persistence(void *arg)
{
        struct server *s = arg;
        int r = persistence_node_open(s->os, s->config.data, false, &s->node);

        if (r) {
                const char *problem = r > 0 ? persistence_problem() : fault_last();

                fail_data(s, r, problem);
                control_failed(s->control, SUBSYSTEM_PERSISTENCE, problem);
                return;
        }
        os_post(s->os, join_others, s);
}

/* These wait for the store: their readiness is reported when it opens. */
static void start_with_the_store(void *arg)
{
        (void)arg;
}

/* ---- people ---- */

/* Also while the server stops: a password that was made in the last moment must not be lost. */
static struct greeting greeting_of(const struct server *s)
{
        return (struct greeting){
                .config = &s->config,
                .port = s->gateway ? gateway_port(s->gateway) : (uint16_t)s->config.port,
                .speaks_tls = server_tls_is_wanted(&s->config),
                .host = s->tls.host,
                .ca_file = s->tls.ca_file,
                .fingerprint = s->tls.fingerprint,
                .is_new_authority = s->tls.is_new_authority,
        };
}

static void print_where(const struct server *s)
{
        struct greeting greeting = greeting_of(s);

        greeting_print(&greeting);
}

/* Once in the life of the data: the CA and the password of "admin", of what was made now. */
static void print_first(struct server *s)
{
        struct greeting greeting = greeting_of(s);

        greeting_print_first(&greeting, *s->password ? s->password : NULL);
        explicit_bzero(s->password, sizeof s->password);
        s->tls.is_new_authority = false;
}

static void on_first_users(void *arg, const char *password)
{
        struct server *s = arg;

        if (password)
                snprintf(s->password, sizeof s->password, "%s", password);
        s->has_first_users = true;
        if (s->is_started)
                print_first(s);
}

static void on_started(void *arg, bool is_ready)
{
        struct server *s = arg;

        if (is_ready) {
                print_where(s);
                s->is_started = true;
                if (s->has_first_users || !access_is_enforced(s->users.access) || !store_is_leading(s->store))
                        print_first(s);
                os_service_notify("READY=1\nSTATUS=serving");
        } else {
                stop(s, "the start failed");
        }
}

static int open_tls(struct server *s)
{
        struct tls_problem problem = {""};
        int r;

        s->tls.os = s->os;
        s->tls.control = s->control;
        r = server_tls_open(&s->tls, &s->config, &problem);
        if (r)
                fail_with(s, EXIT_CODE_CONFIGURATION, "the certificate for clients: %s",
                        r > 0 ? problem.text : fault_last());
        return r;
}

static int open_gateway(struct server *s)
{
        struct gateway_options options = {
                .os = s->os,
                .control = s->control,
                .address = s->config.listen,
                .port = (uint16_t)s->config.port,
                .connections_max = (uint32_t)s->config.connections_max,
                .connections_per_address_max = (uint32_t)s->config.connections_per_address,
                .streams_max = (uint32_t)s->config.streams_max,
                .memory_size = s->config.memory / 4,
                .speaks_tls = server_tls_is_wanted(&s->config),
                .tls = s->tls.context,
                .is_insecure = s->config.insecure,
                .access = s->users.access,
        };
        const char *why = "";
        int r;

        memcpy(options.node_uuid, s->node_uuid, sizeof options.node_uuid);
        r = gateway_open(&options, &s->gateway, &why);
        if (r == GATEWAY_ADDRESS_IN_USE)
                fail_with(s, EXIT_CODE_CONFIGURATION,
                        "port %u of %s is in use. Choose another with --port N, or --port 0 for any free one",
                        (unsigned)s->config.port, s->config.listen);
        else if (r)
                fail_with(s, EXIT_CODE_CONFIGURATION, "--listen %s: %s", s->config.listen,
                        r > 0 ? why : fault_last());
        return r;
}

static void write_config(void *arg, struct json_out *j)
{
        config_to_json(&((struct server *)arg)->config, j);
}

static void look_at_process(void *arg, struct ops_process *ret)
{
        (void)arg;
        process_look(ret);
}

static void write_stats(void *arg, struct json_out *j)
{
        ops_stats_to_json(((struct server *)arg)->ops, j);
}

static void stop_for_operator(void *arg)
{
        stop(arg, "an operator asked for it");
}

/* From inside a call, whose answer leaves first. */
static void on_shut_down(void *arg)
{
        os_post(((struct server *)arg)->os, stop_for_operator, arg);
}

static void open_routes(struct server *s)
{
        struct kurrent_options kurrent = {
                .os = s->os,
                .control = s->control,
                .gateway = s->gateway,
                .host = s->tls.host,
                .memory_size = s->config.memory / 4,
                .stats_to_json = write_stats,
                .shut_down = on_shut_down,
                .arg = s,
        };
        struct api_options api = {
                .os = s->os,
                .control = s->control,
                .gateway = s->gateway,
                .access = s->users.access,
                .shut_down = on_shut_down,
                .arg = s,
        };
        struct ops_options ops = {
                .os = s->os,
                .control = s->control,
                .gateway = s->gateway,
                .host = s->tls.host,
                .node_name = s->node_name,
                .is_memory_only = s->config.memory_only,
                .config_to_json = write_config,
                .process = look_at_process,
                .arg = s,
        };

        memcpy(kurrent.node_uuid, s->node_uuid, sizeof kurrent.node_uuid);
        memcpy(ops.node_uuid, s->node_uuid, sizeof ops.node_uuid);
        kurrent_open(&kurrent, &s->kurrent);
        api_open(&api, &s->api);
        ops_open(&ops, &s->ops);
}

/* What a burst of readers needed stays with malloc for ever, in the middle of its heap, where other programs
 * of the machine cannot have it. */
static void on_memory_look(struct os_timer *timer)
{
        struct server *s = timer->arg;

        if (mallinfo2().fordblks > MEMORY_UNUSED_MAX)
                malloc_trim(0);
        os_timer_start(s->os, timer, MEMORY_LOOK_US);
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

        publish(s, FACT_system_startup_initiated, SUBSYSTEM_SERVER, "nilo " NILO_VERSION);
        publish(s, FACT_privileges_dropped, SUBSYSTEM_SERVER, s->privileges);
        s->watcher = (struct control_watcher){
                .on_facts = on_facts,
                .arg = s,
                .categories = 1u << CATEGORY_SYSTEM,
                .level = LEVEL_ERROR,
        };
        control_watch(s->control, &s->watcher, false);
        os_on_stop_signal(s->os, on_stop_signal, s);
        s->had_terminal = isatty(STDERR_FILENO);
        os_on_reload_signal(s->os, on_reload_signal, s);
        s->memory_timer = (struct os_timer){.fn = on_memory_look, .arg = s};
        os_timer_start(s->os, &s->memory_timer, MEMORY_LOOK_US);
        control_start(s->control, subsystems, COUNT_OF(subsystems), on_started, s);
        if (os_run(s->os))
                fail_with(s, EXIT_CODE_BUG, "the loop ended: %s", fault_last());
        control_unwatch(&s->watcher);
}

static int start(struct server *s)
{
        struct control_options control = {
                .node_name = s->node_name,
                .log_json = s->config.log_format == 1,
                .log_fd = STDERR_FILENO,
                .log_level = (enum log_level)s->config.log_level,
        };
        int r = os_real_new(&s->os);

        if (r) {
                fail_with(s, EXIT_CODE_BUG, "the machine's loop did not start: %s", fault_last());
                return r;
        }
        if (s->config.memory_only)
                os_memory_disk(s->os);
        os_random(s->os, s->node_uuid, sizeof s->node_uuid);
        s->node_uuid[6] = (s->node_uuid[6] & 0x0f) | 0x40; /* RFC 9562: version 4, at random */
        s->node_uuid[8] = (s->node_uuid[8] & 0x3f) | 0x80;
        if (*s->config.node_name)
                snprintf(s->node_name, sizeof s->node_name, "%s", s->config.node_name);
        else if (gethostname(s->node_name, sizeof s->node_name - 1))
                snprintf(s->node_name, sizeof s->node_name, "localhost");
        control.os = s->os;
        r = control_open(&control, &s->control);
        if (r) {
                fail_with(s, EXIT_CODE_BUG, "the control system did not start: %s", fault_last());
                return r;
        }
        s->users = (struct server_users){.on_first = on_first_users, .arg = s};
        r = server_users_open(&s->users, s->os, s->control, &s->config);
        if (r) {
                fail_with(s, EXIT_CODE_BUG, "the users could not be prepared: %s", fault_last());
                return r;
        }
        r = open_tls(s);
        return r ? r : open_gateway(s);
}

/* ---- the process ---- */

/* A failed assertion has said what it was. The process ends here and at once, with the code that says "a
 * bug": nothing more is written, so what is on the disk is what was acknowledged. */
static void on_abort(int number)
{
        (void)number;
        _exit(EXIT_CODE_BUG);
}

/* Standard descriptors that are closed would be given to sockets and files of ours, and get what is printed.
 */
static void open_standard_descriptors(void)
{
        int fd;

        do
                fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        while (fd >= 0 && fd <= STDERR_FILENO);
        if (fd >= 0)
                close(fd);
}

static void set_up_process(void)
{
        struct sigaction action = {.sa_handler = on_abort};

        open_standard_descriptors();
        sigaction(SIGABRT, &action, NULL);
        /* Arenas of malloc are for programs whose threads allocate in parallel; here the loop does nearly all
         * of it. */
        mallopt(M_ARENA_MAX, 2);
}

static int drop_privileges(struct server *s)
{
        struct privileges_options options = {
                .user = s->config.user,
                .data = s->config.memory_only ? NULL : s->config.data,
                .binds_low_ports = (s->config.port && s->config.port < 1024) || s->config.peer_port < 1024,
        };
        struct buffer said = {0};
        struct buffer problem = {0};
        int r = privileges_drop(&options, &said, &problem);

        if (r)
                fail_with(s, EXIT_CODE_CONFIGURATION, "%.*s", (int)problem.size, (const char *)problem.data);
        snprintf(s->privileges, sizeof s->privileges, "%.*s", (int)said.size, (const char *)said.data);
        buffer_fini(&said);
        buffer_fini(&problem);
        return r;
}

static bool wants_help(int count, char **arguments)
{
        for (int i = 0; i < count; i++)
                if (strcmp(arguments[i], "--help") == 0 || strcmp(arguments[i], "-h") == 0)
                        return true;
        return false;
}

static int print_help(void)
{
        struct buffer text = {0};

        buffer_add_string(&text,
                "nilo [FLAGS]\n  starts a server. Flags win over the environment (NILO_PORT for --port), "
                "that over the file of --config.\n");
        config_help(&text);
        fwrite(text.data, 1, text.size, stdout);
        buffer_fini(&text);
        return 0;
}

/* Takes apart what is left, says why it did not run, and gives the exit code. */
static int finish(struct server *s, struct buffer *problems)
{
        int exit_code = s->exit_code;

        server_users_close(&s->users);
        server_tls_close(&s->tls);
        control_close(&s->control);
        os_free(&s->os);
        fprintf(stderr, "%.*s", (int)problems->size, problems->size ? (const char *)problems->data : "");
        if (exit_code)
                fprintf(stderr, "nilo: %.*s\n", (int)s->problem.size, (const char *)s->problem.data);
        buffer_fini(problems);
        buffer_fini(&s->problem);
        config_fini(&s->config);
        return exit_code;
}

int server_main(int count, char **arguments, char **environment)
{
        struct server s = {0};
        struct buffer problems = {0};

        if (wants_help(count, arguments))
                return print_help();
        set_up_process();
        if (cluster_engine_version() != CLUSTER_ENGINE_VERSION)
                fail_with(&s, EXIT_CODE_WRONG_LIBRARY,
                        "the loaded libraft has version number %d, this program needs exactly %d (0.22.1): "
                        "others lose "
                        "data or corrupt memory. Install libraft 0.22.1",
                        cluster_engine_version(), CLUSTER_ENGINE_VERSION);
        else if (config_read(count, arguments, environment, &s.config, &problems))
                fail_with(&s, EXIT_CODE_CONFIGURATION,
                        "the configuration has problems, and the server did not start");
        else if (!drop_privileges(&s) && !start(&s)) {
                open_routes(&s);
                run(&s);
        }
        return finish(&s, &problems);
}
