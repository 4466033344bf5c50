/* A run of subscriptions: lives of a server with store, notification and emitter, one after the other. Events
 * are appended, durable subscriptions change, consumers join, take, answer and leave as the seed says,
 * catch-up subscriptions read beside them; each life ends by a power cut, a kill, a fault of the disk or an
 * orderly stop. After each start the log is read and everything that anybody was told is held against it.
 * After the last life nothing disturbs any more: then everything that is selected is delivered and finished.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "subscriptions.h"

enum {
        LIVES_MAX = 6,
        STEPS_MAX = 300,
        OPEN_STEPS_MAX = 100000, /* more to open or close is a hang */
        HEAL_ROUNDS_MAX = 4000,
        SPACE_RESERVE = 64 * KIB,
};

void subs_tell(struct subs *s, const char *format, ...)
{
        va_list arguments;

        if (!s->options.is_loud)
                return;
        printf("[%8llu] ", (unsigned long long)os_monotonic_us(s->os) / 1000);
        va_start(arguments, format);
        vprintf(format, arguments);
        va_end(arguments);
        printf("\n");
}

bool subs_has_failed(const struct subs *s)
{
        return s->result->has_failed;
}

void subs_fail(struct subs *s, const char *format, ...)
{
        va_list arguments;

        if (subs_has_failed(s))
                return;
        s->result->has_failed = true;
        va_start(arguments, format);
        vsnprintf(s->result->problem, sizeof s->result->problem, format, arguments);
        va_end(arguments);
        subs_tell(s, "FAILED: %s", s->result->problem);
}

uint64_t subs_choose(struct subs *s, uint64_t below)
{
        return os_sim_choose(s->os, below);
}

/* ---- opening and ending ---- */

static void on_open(void *arg, int result, const char *problem)
{
        struct subs *s = arg;

        s->has_opened = true;
        s->open_result = result;
        if (result)
                subs_tell(s, "opening: %s", problem);
}

static void on_disk_fault(void *arg, const char *problem)
{
        struct subs *s = arg;

        s->has_disk_fault = true;
        subs_tell(s, "disk fault: %s", problem);
}

static void on_stopped(void *arg)
{
        ((struct subs *)arg)->is_stopped = true;
}

static void on_closed(void *arg)
{
        ((struct subs *)arg)->is_closed = true;
}

static bool step_until(struct subs *s, const bool *flag)
{
        for (unsigned i = 0; !*flag && i < OPEN_STEPS_MAX; i++)
                if (!os_sim_step(s->os))
                        break;
        return *flag;
}

static bool is_serving(struct subs *s)
{
        struct consumer_options o = {
                .stream = BYTES_LITERAL("nobody"), .group = BYTES_LITERAL("nobody"), .window = 1};
        struct consumer *c;

        return consumer_open(s->emitter, &o, &c) == EMITTER_NOT_FOUND;
}

/* Their checkpoints are read. */
static bool are_loaded(struct subs *s)
{
        bool are = true;

        for (unsigned i = 0; i < s->group_count; i++) {
                struct buffer name = {0};

                are &= emitter_parked_stream(s->emitter, bytes_of_string(s->groups[i].stream),
                               bytes_of_string(s->groups[i].name), &name) != EMITTER_BUSY;
                buffer_fini(&name);
        }
        return are;
}

/* False: a fault on order came first, or the run has failed. */
static bool open_rooms(struct subs *s)
{
        struct control_options control = {
                .os = s->os, .node_name = "sim", .ring_facts = 256, .log_fd = -1, .log_level = LEVEL_ERROR};
        struct store_options store = {.os = s->os,
                .name = "default",
                .segment_size = s->segment_size,
                .in_flight_size_max = s->in_flight_size_max,
                .space_reserve = SPACE_RESERVE,
                .open_on_loop = subs_one_in(s, 2),
                .sync = (enum store_sync)subs_choose(s, 3),
                .on_open = on_open,
                .on_disk_fault = on_disk_fault,
                .arg = s};
        struct notification_options notification = {
                .os = s->os, .mutant_live_gap = s->options.mutant == MUTANT_LIVE_GAP};
        struct emitter_options emitter = {.os = s->os,
                .memory_size = s->memory_size,
                .mutant_checkpoint_before_ack = s->options.mutant == MUTANT_CHECKPOINT_BEFORE_ACK,
                .mutant_checkpoint_before_parked = s->options.mutant == MUTANT_CHECKPOINT_BEFORE_PARKED};
        int r;

        s->has_opened = s->is_stopped = s->is_closed = s->has_disk_fault = false;
        r = control_open(&control, &s->control);
        if (!r)
                r = persistence_node_open(s->os, "/data", false, &s->node);
        store.control = s->control;
        store.node = s->node;
        if (!r)
                r = store_open(&store, &s->store);
        if (!r && !step_until(s, &s->has_opened))
                subs_fail(s, "the store never opens");
        if (!r)
                r = s->open_result;
        if (r) {
                subs_fail(s, "opening gave %d", r);
                return false;
        }
        notification.control = emitter.control = s->control;
        notification.store = emitter.store = s->store;
        r = notification_open(&notification, &s->notification);
        emitter.notification = s->notification;
        if (!r)
                r = emitter_open(&emitter, &s->emitter);
        if (r)
                subs_fail(s, "the rooms do not open: %d", r);
        return !r;
}

static void serve(struct subs *s)
{
        for (unsigned i = 0; i < OPEN_STEPS_MAX && !is_serving(s) && os_sim_step(s->os); i++)
                continue;
        if (!is_serving(s)) {
                subs_fail(s, "the duties are never taken up");
                return;
        }
        for (unsigned i = 0; i < 1000 && !are_loaded(s); i++)
                os_sim_run_for(s->os, 100);
        if (!are_loaded(s))
                subs_fail(s, "a subscription loads for ever");
}

static void drop(struct subs *s, bool is_power_cut)
{
        subs_tell(s, is_power_cut ? "power cut" : "kill");
        if (is_power_cut)
                os_sim_crash(s->os);
        else
                os_sim_kill(s->os);
        s->totals->crashes += is_power_cut;
        s->totals->kills += !is_power_cut;
        groups_lose(s);
        sessions_lose(s);
        s->appends_outstanding = 0;
        if (s->store)
                store_abandon(&s->store);
        s->emitter = NULL;
        s->notification = NULL;
        s->node = NULL;
        s->control = NULL;
        s->faults = (struct os_sim_faults){.reads_are_cold = s->faults.reads_are_cold};
        s->is_short = s->is_deleting = false;
        os_sim_set_faults(s->os, &s->faults);
}

static void stop(struct subs *s)
{
        subs_tell(s, "stop");
        emitter_stop(s->emitter, on_stopped, s);
        if (!step_until(s, &s->is_stopped)) {
                subs_fail(s, "the emitter never stops");
                return;
        }
        for (unsigned i = 0; i < CONSUMERS_MAX; i++)
                if (s->takers[i].consumer)
                        taker_close(&s->takers[i]);
        emitter_free(&s->emitter);
        for (unsigned i = 0; i < SESSIONS_MAX; i++)
                session_close(&s->sessions[i]);
        notification_stop(s->notification);
        os_sim_run_for(s->os, 1000);
        notification_free(&s->notification);
        store_close(&s->store, on_closed, s);
        if (!step_until(s, &s->is_closed)) {
                subs_fail(s, "the store never closes");
                return;
        }
        persistence_node_close(&s->node);
        control_close(&s->control);
        groups_lose(s);
        s->totals->stops++;
}

/* ---- work ---- */

static struct group *any_group(struct subs *s)
{
        return &s->groups[subs_choose(s, s->group_count)];
}

static void use_taker(struct subs *s)
{
        struct taker *t = &s->takers[subs_choose(s, CONSUMERS_MAX)];

        if (!t->consumer) {
                struct group *g = any_group(s);

                if (g->exists || subs_one_in(s, 8))
                        taker_open(g, 1 + (uint32_t)subs_choose(s, subs_one_in(s, 2) ? 3 : 20));
                return;
        }
        if (subs_one_in(s, 40)) {
                taker_close(t);
                return;
        }
        taker_take(t, t->mode == TAKER_NORMAL ? 20
                      : t->mode == TAKER_SLOW ? 1
                                              : (unsigned)subs_one_in(s, 10));
        for (uint64_t n = t->mode == TAKER_NORMAL ? subs_choose(s, 12) : subs_choose(s, 2); n; n--)
                taker_answer(t, false);
}

/* The disk is nearly full for a while, or has room again (G16). */
static void turn_space(struct subs *s)
{
        s->is_short = !s->is_short;
        s->faults.free_bytes = s->is_short ? 1 + subs_choose(s, 2 * SPACE_RESERVE) : 0;
        s->totals->full += s->is_short;
        if (!s->is_short)
                s->was_short_us = os_monotonic_us(s->os);
        subs_tell(s, "%llu bytes free", (unsigned long long)s->faults.free_bytes);
        os_sim_set_faults(s->os, &s->faults);
}

/* Seconds or years, either way (G19). */
static void jump_clock(struct subs *s)
{
        int64_t by = (int64_t)subs_choose(s, 1000 * 1000) * (subs_one_in(s, 4) ? 31536000 : 100);

        os_sim_shift_wall(s->os, subs_one_in(s, 2) ? by : -by);
        s->totals->clock_jumps++;
}

static void work_once(struct subs *s)
{
        struct session *i;
        struct group *g;

        if (subs_one_in(s, 50))
                jump_clock(s);
        if (subs_one_in(s, 300))
                subs_delete_stream(s);
        if (subs_one_in(s, s->is_short ? 20 : 200))
                turn_space(s);
        switch (subs_choose(s, 16)) {
        case 0:
        case 1:
                for (uint64_t n = 1 + subs_choose(s, 3); n; n--)
                        subs_append(s);
                break;
        case 2:
        case 3:
        case 4:
                for (uint64_t n = 1 + subs_choose(s, 6); n; n--)
                        os_sim_step(s->os);
                break;
        case 5:
                os_sim_run_for(s->os, subs_choose(s, subs_one_in(s, 3) ? 600000 : 3000));
                break;
        case 6:
                g = any_group(s);
                if (subs_one_in(s, g->exists && !g->is_paused ? 4 : 2))
                        group_mutate(g);
                else if (subs_one_in(s, 2))
                        group_replay(g, false);
                break;
        case 7:
                i = &s->sessions[subs_choose(s, SESSIONS_MAX)];
                if (!i->is_used)
                        session_open(s);
                else if (subs_one_in(s, 20))
                        session_close(i);
                else
                        session_pull(i, 1 + (unsigned)subs_choose(s, 30));
                break;
        case 8:
                group_verify(any_group(s));
                break;
        default:
                use_taker(s);
        }
}

static void arm_fault(struct subs *s)
{
        if (subs_one_in(s, 2))
                s->faults.write_fails_at = 1 + subs_choose(s, 60);
        else
                s->faults.sync_fails_at = 1 + subs_choose(s, 60);
        os_sim_set_faults(s->os, &s->faults);
}

enum end { END_CUT, END_KILL, END_STOP, END_FAULT, ENDS };

static void begin_life(struct subs *s)
{
        s->totals->lives++;
        if (s->is_short)
                turn_space(s);
        if (!open_rooms(s))
                return;
        if (subs_one_in(s, 10)) { /* not even served */
                for (uint64_t n = subs_choose(s, 60); n; n--)
                        os_sim_step(s->os);
                drop(s, subs_one_in(s, 2));
                if (!open_rooms(s))
                        return;
        }
        serve(s);
        if (!subs_has_failed(s))
                subs_read_log(s);
        if (!subs_has_failed(s))
                sessions_verify(s, false);
        if (!subs_has_failed(s))
                groups_adopt(s);
        for (unsigned i = 0; i < s->group_count && !subs_has_failed(s); i++)
                group_verify(&s->groups[i]);
}

static void live(struct subs *s)
{
        enum end end = (enum end)subs_choose(s, ENDS);
        uint64_t steps = subs_choose(s, STEPS_MAX);

        begin_life(s);
        for (unsigned i = 0; i < s->group_count && !subs_has_failed(s); i++)
                if (!s->groups[i].exists && !subs_one_in(s, 3))
                        group_mutate(&s->groups[i]);
        for (uint64_t n = 0; n < steps && !subs_has_failed(s) && !s->has_disk_fault; n++) {
                if (end == END_FAULT && n == steps / 2)
                        arm_fault(s);
                work_once(s);
        }
        if (subs_has_failed(s))
                return;
        if (s->has_disk_fault) {
                s->totals->faults++;
                drop(s, subs_one_in(s, 2));
        } else if (end == END_STOP) {
                stop(s);
        } else {
                drop(s, end != END_KILL);
        }
}

/* ---- the end ---- */

/* One round of consumers that do all that is asked of them. */
static void finish_some(struct subs *s)
{
        for (unsigned i = 0; i < CONSUMERS_MAX; i++) {
                struct taker *t = &s->takers[i];

                if (!t->consumer)
                        continue;
                taker_take(t, 100);
                while (t->consumer && t->held_count)
                        taker_answer(t, true);
        }
        for (unsigned i = 0; i < SESSIONS_MAX; i++)
                session_pull(&s->sessions[i], 1000);
        os_sim_run_for(s->os, 5000);
}

static bool is_all_done(struct subs *s)
{
        for (unsigned i = 0; i < s->group_count; i++)
                if (!group_is_done(&s->groups[i]))
                        return false;
        return true;
}

static void heal(struct subs *s)
{
        unsigned round;

        begin_life(s);
        for (unsigned i = 0; i < SESSIONS_MAX && !subs_has_failed(s); i++)
                session_open(s);
        for (unsigned i = 0; i < s->group_count && !subs_has_failed(s); i++) {
                struct group *g = &s->groups[i];

                while (g->exists && g->is_paused && !g->asked)
                        group_resume(g);
                if (g->exists)
                        taker_open(g, 20);
        }
        for (unsigned i = 0; i < 20 && !subs_has_failed(s); i++)
                subs_append(s);
        for (round = 0; round < HEAL_ROUNDS_MAX && !subs_has_failed(s); round++) {
                if (round % 100 == 50)
                        for (unsigned i = 0; i < s->group_count; i++)
                                group_replay(&s->groups[i], true);
                finish_some(s);
                if (round > 100 && is_all_done(s) && !s->appends_outstanding)
                        break;
        }
        for (unsigned i = 0; i < s->group_count && !subs_has_failed(s); i++)
                group_fail_undone(&s->groups[i]);
        os_sim_run_for(s->os, 5 * 1000 * 1000);
        for (round = 0; round < 400 && !subs_has_failed(s); round++)
                finish_some(s);
        if (!subs_has_failed(s))
                subs_read_log(s);
        if (!subs_has_failed(s))
                sessions_verify(s, true);
        for (unsigned i = 0; i < s->group_count && !subs_has_failed(s); i++) {
                group_verify(&s->groups[i]);
                group_verify_end(&s->groups[i]);
        }
        if (!subs_has_failed(s))
                stop(s);
        if (subs_has_failed(s) || !open_rooms(s))
                return;
        serve(s);
        for (unsigned i = 0; i < s->group_count && !subs_has_failed(s); i++)
                group_verify_stopped(&s->groups[i]);
        if (!subs_has_failed(s))
                stop(s);
}

static void choose_options(struct subs *s)
{
        static const uint64_t memory_sizes[] = {16 * KIB, 256 * KIB, 0};

        s->memory_size = memory_sizes[subs_choose(s, COUNT_OF(memory_sizes))];
        s->in_flight_size_max = subs_one_in(s, 4) ? 8 * KIB : 0;
        s->segment_size = (uint64_t)KIB * (subs_one_in(s, 2) ? 64 : 1024);
        s->faults.reads_are_cold = subs_one_in(s, 2);
        os_sim_set_faults(s->os, &s->faults);
        groups_choose(s);
}

void subscriptions_run(const struct world_options *options, struct world_result *ret)
{
        struct subs *s = MEMORY_NEW(struct subs);
        struct os_sim_stats stats;
        unsigned lives;

        *ret = (struct world_result){0};
        s->options = *options;
        s->result = ret;
        s->totals = &ret->totals;
        for (unsigned i = 0; i < SUBS_STREAMS; i++)
                s->by_revision[i] = memory_new_array(SERIALS_MAX, sizeof(int));
        if (os_sim_new(options->seed, &s->os))
                subs_fail(s, "no machine");
        choose_options(s);
        lives = 1 + (unsigned)subs_choose(s, LIVES_MAX);
        for (unsigned i = 0; i < lives && !subs_has_failed(s); i++)
                live(s);
        if (!subs_has_failed(s))
                heal(s);
        stats = os_sim_stats(s->os);
        ret->hash = stats.hash;
        ret->totals.seeds = 1;
        ret->totals.lost_writes = stats.lost_writes;
        ret->totals.torn_writes = stats.torn_writes;
        /* A run that failed may have stopped anywhere; its machine goes with the process. */
        if (!subs_has_failed(s))
                os_free(&s->os);
        for (unsigned i = 0; i < SUBS_STREAMS; i++)
                free(s->by_revision[i]);
        for (unsigned i = 0; i < GROUPS_MAX; i++)
                free(s->groups[i].parked);
        free(s);
}
