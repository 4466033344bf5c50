/* What operators ask of a node, its numbers, and the list of methods in the docs; and whom a node that does
 * not lead sends those who append records to. */
#include "kurrent/monitoring.pb-c.h"
#include "kurrent/node_errors.pb-c.h"
#include "record_messages.h"

#define OPERATIONS "/event_store.client.operations.Operations/"
#define STATS      "/event_store.client.monitoring.Monitoring/Stats"

typedef EventStore__Client__Monitoring__StatsResp stats_answer;

/* ---- what the methods are told of the others ---- */

struct membership {
        bool is_leading;
        bool has_successor;
        bool has_leader; /* another one */
        unsigned handed_over;
};

bool membership_leader(struct membership *m, struct membership_node *ret)
{
        if (!m->has_leader)
                return false;
        *ret = (struct membership_node){
                .node_id = 9, .is_leader = true, .host = "leader.example", .port = 2113, .instance = {0xab}};
        return true;
}

bool membership_is_leading(const struct membership *m)
{
        return m->is_leading;
}

unsigned membership_nodes(struct membership *m, struct membership_node *ret, unsigned max)
{
        return max && membership_leader(m, ret);
}

void membership_hand_over(struct membership *m, void (*done)(void *arg), void *arg)
{
        m->handed_over++;
        if (m->has_successor)
                m->is_leading = false;
        done(arg);
}

/* ---- operations ---- */

static int run(struct client *c, const char *path, char message[2048])
{
        struct rpc r;
        int status;

        rpc_open(&r, c, path);
        rpc_send(&r, BYTES_EMPTY);
        rpc_half_close(&r);
        rpc_wait_end(&r);
        status = r.status;
        if (message)
                memcpy(message, r.message, sizeof r.message);
        if (!status) {
                assert_int_equal(r.count, 1);
                assert_int_equal(r.answers[0].size, 0);
        }
        rpc_close(&r);
        return status;
}

TEST(operations, a_shutdown_is_answered_and_asked_of_the_process_once)
{
        struct world w = {0};
        struct client c;

        world_open(&w);
        client_open(&c, w.port);
        assert_int_equal(run(&c, OPERATIONS "Shutdown", NULL), 0);
        assert_int_equal(w.shut_downs, 1);
        client_close(&c);
        world_close(&w);
}

TEST(operations, who_resigns_leads_no_more_or_is_told_why)
{
        struct membership others = {.is_leading = true, .has_successor = true};
        struct world w = {.membership = &others};
        char message[2048];
        struct client c;

        world_open(&w);
        client_open(&c, w.port);
        assert_int_equal(run(&c, OPERATIONS "ResignNode", NULL), 0);
        assert_int_equal(others.handed_over, 1);
        /* Who does not lead has nothing to give. */
        assert_int_equal(run(&c, OPERATIONS "ResignNode", NULL), 0);
        assert_int_equal(others.handed_over, 1);
        others.is_leading = true;
        others.has_successor = false;
        assert_int_equal(run(&c, OPERATIONS "ResignNode", message), GRPC_FAILED_PRECONDITION);
        assert_non_null(strstr(message, "no other voter"));
        client_close(&c);
        world_close(&w);
}

TEST(operations, restart_subscriptions_where_the_leader_is)
{
        struct membership others = {.is_leading = true};
        struct world w = {.membership = &others};
        struct client c;

        world_open(&w);
        client_open(&c, w.port);
        assert_int_equal(run(&c, OPERATIONS "RestartPersistentSubscriptions", NULL), 0);
        others.is_leading = false;
        others.has_leader = true;
        assert_int_equal(run(&c, OPERATIONS "RestartPersistentSubscriptions", NULL), GRPC_NOT_FOUND);
        client_close(&c);
        world_close(&w);
}

/* What would do nothing says so. */
TEST(operations, that_this_server_does_not_have_are_unimplemented)
{
        static const char *const names[] = {
                "MergeIndexes", "SetNodePriority", "StartScavenge", "StopScavenge"};
        struct world w = {0};
        struct client c;
        char path[80];

        world_open(&w);
        client_open(&c, w.port);
        for (unsigned i = 0; i < COUNT_OF(names); i++) {
                snprintf(path, sizeof path, OPERATIONS "%s", names[i]);
                assert_int_equal(run(&c, path, NULL), GRPC_UNIMPLEMENTED);
        }
        client_close(&c);
        world_close(&w);
}

/* ---- numbers ---- */

static void begin_stats(struct rpc *r, struct client *c, uint64_t period_ms)
{
        EventStore__Client__Monitoring__StatsReq m = EVENT_STORE__CLIENT__MONITORING__STATS_REQ__INIT;

        m.refresh_time_period_in_ms = period_ms;
        rpc_open(r, c, STATS);
        send_message(r, &m);
        rpc_half_close(r);
}

static const char *stat_of(struct rpc *r, unsigned n, const char *name)
{
        stats_answer *m = unpack(&event_store__client__monitoring__stats_resp__descriptor, r->answers[n]);

        for (size_t i = 0; i < m->n_stats; i++)
                if (strcmp(m->stats[i]->key, name) == 0)
                        return m->stats[i]->value;
        return NULL;
}

TEST(stats, are_flat_names_again_and_again)
{
        struct world w = {0};
        struct client c;
        struct rpc r;
        uint64_t began;

        world_open(&w);
        client_open(&c, w.port);
        began = client_now_ms();
        begin_stats(&r, &c, 0); /* as fast as is allowed */
        rpc_wait(&r, 3);
        assert_true(client_now_ms() - began >= 900);
        assert_string_equal(stat_of(&r, 0, "proc-mem"), "1");
        assert_string_equal(stat_of(&r, 2, "proc-mem"), "3");
        assert_string_equal(stat_of(&r, 0, "proc-name"), "caf\u00e9 \"x\"");
        assert_string_equal(stat_of(&r, 0, "sys-loadavg-1m"), "0.5");
        assert_null(stat_of(&r, 0, "sys-unknown"));
        assert_null(stat_of(&r, 0, "sys-empty"));
        rpc_close(&r);
        client_close(&c);
        world_close(&w);
}

/* A period of centuries is one of an hour; who is too many is told; who leaves makes room. */
TEST(stats, are_bounded_G17)
{
        struct world w = {0};
        struct rpc *r = memory_new(66 * sizeof *r);
        struct client c;
        unsigned refused = 0;

        world_open(&w);
        client_open(&c, w.port);
        for (unsigned i = 0; i < 66; i++)
                begin_stats(&r[i], &c, UINT64_MAX);
        for (unsigned i = 0; i < 66; i++) {
                rpc_wait(&r[i], 1);
                refused += r[i].is_closed && r[i].status == GRPC_RESOURCE_EXHAUSTED;
                assert_int_equal(r[i].count, !r[i].is_closed);
        }
        assert_int_equal(refused, 2);
        for (unsigned i = 0; i < 66; i++)
                rpc_close(&r[i]);
        begin_stats(&r[0], &c, 1000);
        rpc_wait(&r[0], 1);
        assert_int_equal(r[0].count, 1);
        rpc_close(&r[0]);
        rpc_open(&r[0], &c, STATS);
        rpc_send(&r[0], BYTES_LITERAL("\x0a"));
        rpc_half_close(&r[0]);
        rpc_wait_end(&r[0]);
        assert_int_equal(r[0].status, GRPC_INVALID_ARGUMENT);
        rpc_close(&r[0]);
        client_close(&c);
        world_close(&w);
        free(r);
}

TEST(stats, end_with_the_server)
{
        struct world w = {0};
        struct client c;
        struct rpc r;

        world_open(&w);
        client_open(&c, w.port);
        begin_stats(&r, &c, 1000);
        rpc_wait(&r, 1);
        os_post(w.os, world_stop, &w);
        rpc_wait_end(&r);
        assert_int_equal(r.status, GRPC_UNAVAILABLE);
        pthread_join(w.thread, NULL);
        rpc_close(&r);
        client_close(&c);
        sem_destroy(&w.is_up);
}

/* ---- the leader ---- */

TEST(records, of_a_node_that_does_not_lead_are_sent_to_the_leader)
{
        struct membership others = {.has_leader = true};
        struct world w = {.seat = SEAT_FOLLOWER, .membership = &others};
        Kurrent__Rpc__NotLeaderNodeErrorDetails *told;
        records_request *m = RECORD_MESSAGE(append_records_request);
        struct client c;
        struct rpc r;

        world_open(&w);
        client_open(&c, w.port);
        add_record(m, record_of("s", 1));
        run_records(&r, &c, m);
        told = refused_as(&r, GRPC_FAILED_PRECONDITION, "NOT_LEADER_NODE",
                &kurrent__rpc__not_leader_node_error_details__descriptor);
        assert_string_equal(told->current_leader->host, "leader.example");
        assert_int_equal(told->current_leader->port, 2113);
        assert_string_equal(told->current_leader->node_id, "ab000000-0000-0000-0000-000000000000");
        assert_string_equal(rpc_trailer(&r, "exception"), "not-leader");
        assert_string_equal(rpc_trailer(&r, "leader-endpoint-host"), "leader.example");
        assert_string_equal(rpc_trailer(&r, "leader-endpoint-port"), "2113");
        rpc_close(&r);
        others.has_leader = false;
        RUN_SESSION(&r, &c, with_records(session_of("s", -2), 1, 1));
        refused_as(&r, GRPC_UNAVAILABLE, "SERVER_NOT_READY", &google__rpc__retry_info__descriptor);
        rpc_close(&r);
        client_close(&c);
        world_close(&w);
}

/* ---- the docs ---- */

enum { LISTED_MAX = 64 };

struct listed {
        char service[96];
        char name[48];
        const char *who;
        bool is_documented;
};
struct listing {
        struct listed all[LISTED_MAX];
        unsigned count;
};

static void list(void *arg, const struct gateway_method *method)
{
        static const char *const who[] = {[ACCESS_ANYONE] = "anyone",
                [ACCESS_USER] = "user",
                [ACCESS_OPS] = "ops",
                [ACCESS_ADMINS] = "admins",
                [ACCESS_STREAM] = "stream"};
        struct listing *l = arg;
        struct listed *at = &l->all[l->count++];

        assert_true(l->count <= LISTED_MAX);
        snprintf(at->service, sizeof at->service, "%s", method->service);
        snprintf(at->name, sizeof at->name, "%s", method->name);
        at->who = who[method->access];
}

static FILE *open_documentation(void)
{
        char path[512];
        FILE *file = fopen("docs/grpc.md", "r");

        if (!file) {
                snprintf(path, sizeof path, "%s", __FILE__);
                *strrchr(path, '/') = 0;
                strncat(path, "/../../../docs/grpc.md", sizeof path - strlen(path) - 1);
                file = fopen(path, "r");
        }
        return file;
}

TEST(methods, the_documentation_has_each_with_its_rule_and_no_other)
{
        FILE *file = open_documentation();
        struct listing *l = MEMORY_NEW(struct listing);
        struct world w = {0};
        char line[512];

        assert_non_null(file);
        world_open(&w);
        gateway_each_method(w.gateway, list, l);
        while (fgets(line, sizeof line, file)) {
                char service[96], name[48], who[16];
                bool is_known = false;

                if (sscanf(line, "| `%95[a-zA-Z0-9_.]` | `%47[A-Za-z]` | %15s |", service, name, who) != 3 ||
                        !strchr(service, '.'))
                        continue;
                for (unsigned i = 0; i < l->count; i++) {
                        struct listed *at = &l->all[i];

                        if (strcmp(at->service, service) != 0 || strcmp(at->name, name) != 0)
                                continue;
                        is_known = at->is_documented = true;
                        if (strcmp(at->who, who) != 0)
                                fail_msg("%s/%s is for %s, and documented for %s", service, name, at->who,
                                        who);
                }
                if (!is_known)
                        fail_msg("%s/%s is documented, but there is no such method", service, name);
        }
        for (unsigned i = 0; i < l->count; i++)
                if (!l->all[i].is_documented)
                        fail_msg("%s/%s is not documented", l->all[i].service, l->all[i].name);
        fclose(file);
        world_close(&w);
        free(l);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                ROW(operations, a_shutdown_is_answered_and_asked_of_the_process_once),
                ROW(operations, who_resigns_leads_no_more_or_is_told_why),
                ROW(operations, restart_subscriptions_where_the_leader_is),
                ROW(operations, that_this_server_does_not_have_are_unimplemented),
                ROW(stats, are_flat_names_again_and_again),
                ROW(stats, are_bounded_G17),
                ROW(stats, end_with_the_server),
                ROW(records, of_a_node_that_does_not_lead_are_sent_to_the_leader),
                ROW(methods, the_documentation_has_each_with_its_rule_and_no_other),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
