/* A run: lives of a server, one after the other, each with random work and an end of its own: a power cut, a
 * kill, a fault of the disk, an orderly stop. After each start everything is read and held against the model;
 * after the last the whole history is judged. How likely what is, is drawn per seed, and much of it is left
 * out of many. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "room.h"

enum {
        SCRUBS_ONE_IN = 4,
        SCRUB_US = 1000 * 1000,
        LIVES_MAX = 10,
        STEPS_MAX = 260,
        OPEN_STEPS_MAX = 100000, /* more to open or close is a hang */
};

void world_tell(struct world *w, const char *format, ...)
{
        va_list arguments;

        if (!w->options.is_loud)
                return;
        printf("[%8llu] ", (unsigned long long)os_monotonic_us(w->os) / 1000);
        va_start(arguments, format);
        vprintf(format, arguments);
        va_end(arguments);
        printf("\n");
}

void world_fail(struct world *w, const char *format, ...)
{
        va_list arguments;

        if (has_failed(w))
                return;
        w->result->has_failed = true;
        va_start(arguments, format);
        vsnprintf(w->result->problem, sizeof(w->result->problem), format, arguments);
        va_end(arguments);
        world_tell(w, "FAILED: %s", w->result->problem);
}

static void set_faults(struct world *w)
{
        os_sim_set_faults(w->os, &w->faults);
}

/* ---- opening and ending ---- */

static void on_open(void *arg, int result, const char *problem)
{
        struct world *w = arg;

        if (w->has_opened)
                world_fail(w, "the opening ended twice");
        w->has_opened = true;
        w->open_result = result;
        snprintf(w->open_problem, sizeof(w->open_problem), "%s", problem);
}

static void on_disk_fault(void *arg, const char *problem)
{
        struct world *w = arg;

        if (w->has_disk_fault)
                world_fail(w, "two disk faults");
        w->has_disk_fault = true;
        world_tell(w, "disk fault: %s", problem);
}

static void on_closed(void *arg)
{
        ((struct world *)arg)->is_closed = true;
}

static void begin_open(struct world *w, int *ret)
{
        struct control_options control = {
                .os = w->os, .node_name = "sim", .ring_facts = 64, .log_fd = -1, .log_level = LEVEL_ERROR};

        w->has_opened = w->is_closed = w->is_closing = w->has_disk_fault = w->gave_up = false;
        *ret = control_open(&control, &w->control);
        if (!*ret)
                *ret = persistence_node_open(w->os, "/data", false, &w->node);
        w->store_options.control = w->control;
        w->store_options.node = w->node;
        if (!*ret)
                *ret = store_open(&w->store_options, &w->store);
        w->asked = w->store;
}

int world_open(struct world *w)
{
        unsigned steps = 0;
        int r;

        begin_open(w, &r);
        if (r)
                return r;
        while (!w->has_opened && steps++ < OPEN_STEPS_MAX && os_sim_step(w->os))
                continue;
        if (!w->has_opened) {
                world_fail(w, "the store never opens");
                return -1;
        }
        return w->open_result;
}

void world_adopt(struct world *w)
{
        uint64_t end = store_next_position(w->asked);

        world_tell(w, "opened with %llu of %llu events, %llu known", (unsigned long long)end,
                (unsigned long long)w->model.event_count, (unsigned long long)w->must_survive);
        if (w->model.event_count == 0) /* it begins with an event of its own */
                model_write_first(&w->model, w->stream_count - 1);
        if (end < w->must_survive)
                world_fail(w, "lost: %llu events are left, somebody knows of %llu", (unsigned long long)end,
                        (unsigned long long)w->must_survive);
        else if (end > w->model.event_count)
                world_fail(w, "the log has %llu events, only %llu were written", (unsigned long long)end,
                        (unsigned long long)w->model.event_count);
        else if (!model_is_boundary(&w->model, end))
                world_fail(w, "the log ends within an append, at %llu", (unsigned long long)end);
        else
                model_truncate(&w->model, end);
        w->must_survive = end;
}

void world_drop(struct world *w, bool is_power_cut)
{
        if (is_power_cut)
                os_sim_crash(w->os);
        else
                os_sim_kill(w->os);
        w->totals->crashes += is_power_cut;
        w->totals->kills += !is_power_cut;
        world_tell(w, is_power_cut ? "power cut" : "kill");
        reads_forget_all(w);
        ops_lose_outstanding(w);
        w->asked = NULL;
        if (w->store)
                store_abandon(&w->store);
        w->node = NULL;
        w->control = NULL;
        w->faults = (struct os_sim_faults){.reads_are_cold = w->faults.reads_are_cold};
        os_sim_set_faults(w->os, &w->faults);
        w->is_nearly_full = false;
}

void world_stop(struct world *w)
{
        unsigned steps = 0;

        world_tell(w, "stop with %u appends outstanding", w->outstanding);
        reads_end_all(w);
        w->is_closing = true;
        store_close(&w->store, on_closed, w);
        while (!w->is_closed && steps++ < OPEN_STEPS_MAX && os_sim_step(w->os))
                continue;
        if (!w->is_closed)
                world_fail(w, "the store never closes");
        else if (w->gave_up && !w->has_disk_fault)
                world_fail(w, "unknown without a reason");
        else if (w->outstanding)
                world_fail(w, "closed with %u appends unanswered", w->outstanding);
        w->asked = NULL;
        if (has_failed(w))
                return;
        persistence_node_close(&w->node);
        control_close(&w->control);
        w->faults.read_fails_at = 0;
        set_faults(w);
        w->totals->stops++;
}

/* ---- work ---- */

static void nothing(void *arg)
{
        (void)arg;
}

/* The machine is nearly full for a while, or has room again (G16). */
static void turn_space(struct world *w)
{
        w->faults.free_bytes = w->faults.free_bytes ? 0 : 1 + choose(w, 2 * w->store_options.space_reserve);
        /* The store looks again now and then: until then it answers as before. */
        w->is_nearly_full = true;
        world_tell(w, "%llu bytes free", (unsigned long long)w->faults.free_bytes);
        set_faults(w);
}

/* Bytes cannot be read, once: as if they were damaged, until the next start at most (G15). */
static void fail_a_read(struct world *w)
{
        w->faults.read_fails_at = 1 + choose(w, 5);
        w->allows_corrupt = true;
        w->totals->read_faults++;
        world_tell(w, "read %llu fails", (unsigned long long)w->faults.read_fails_at);
        set_faults(w);
}

static void jump_clock(struct world *w)
{
        int64_t by = (int64_t)choose(w, 1000 * 1000) * (one_in(w, 4) ? 31536000 : 100);

        os_sim_shift_wall(w->os, one_in(w, 2) ? by : -by);
        w->totals->clock_jumps++;
}

static void check_given_up(struct world *w)
{
        if (w->gave_up && !w->has_disk_fault)
                world_fail(w, "unknown without a reason");
}

static void work_once(struct world *w)
{
        uint64_t n;

        switch (choose(w, 12)) {
        case 0:
        case 1:
        case 2:
        case 3: /* appends of one turn */
                for (n = 1 + choose(w, one_in(w, 6) ? 12 : 4); n && !has_failed(w); n--)
                        ops_issue(w);
                os_post(w->os, nothing, NULL);
                break;
        case 4:
        case 5:
        case 6:
                for (n = 1 + choose(w, 4); n; n--)
                        os_sim_step(w->os);
                break;
        case 7:
                os_sim_run_for(w->os, choose(w, one_in(w, 6) ? 3000000 : 3000));
                break;
        case 8:
                reads_begin(w);
                break;
        case 9:
        case 10:
                reads_pull(w);
                break;
        default:
                if (one_in(w, 6))
                        jump_clock(w);
                else if (one_in(w, 60))
                        fail_a_read(w);
                else if (w->faults.free_bytes ? one_in(w, 2) : one_in(w, 12))
                        turn_space(w);
                else
                        reads_verify_info(w, (uint32_t)choose(w, w->stream_count * 2));
        }
}

static void on_problem(void *arg, const char *file, uint64_t offset, const char *what)
{
        world_tell(arg, "verify: %s at %llu: %s", file, (unsigned long long)offset, what);
}

static void verify(struct world *w, bool is_thorough)
{
        struct persistence_verify options = {.problem = on_problem, .arg = w};
        uint64_t problems = 0;

        reads_verify_log(w, false);
        if (is_thorough && !has_failed(w)) {
                reads_verify_streams(w);
                reads_verify_list(w);
        }
        if (is_thorough && !has_failed(w) &&
                (persistence_verify(store_persistence(w->asked), &options, &problems) || problems))
                world_fail(w, "verify finds %llu problems", (unsigned long long)problems);
}

enum end { END_CUT, END_KILL, END_STOP, END_FAULT };

/* The power may fail within a write or a sync: then it fails, and nothing comes after it. */
static void arm_fault(struct world *w, uint64_t within)
{
        if (one_in(w, 2))
                w->faults.write_fails_at = 1 + choose(w, within);
        else
                w->faults.sync_fails_at = 1 + choose(w, within);
        world_tell(w, "armed: write %llu sync %llu", (unsigned long long)w->faults.write_fails_at,
                (unsigned long long)w->faults.sync_fails_at);
        set_faults(w);
}

/* After a fault only definite refusals come; the process ends (G15). */
static void end_by_fault(struct world *w)
{
        w->totals->faults++;
        for (unsigned n = 0; n < 3 && !has_failed(w); n++)
                ops_issue(w);
        if (w->outstanding)
                world_fail(w, "%u appends are unanswered after the fault", w->outstanding);
        world_drop(w, !one_in(w, 3));
}

/* Each start has a term of its own, durable before anything of it: after a power cut it is not used again
 * (RG2). */
static void check_term(struct world *w)
{
        struct store_stats stats;

        store_stats(w->asked, &stats);
        if (stats.term <= w->last_term)
                world_fail(w, "term %llu again, after %llu", (unsigned long long)stats.term,
                        (unsigned long long)w->last_term);
        w->last_term = stats.term;
}

static bool begin_life(struct world *w)
{
        bool is_armed = one_in(w, 4);
        int r;

        w->totals->lives++;
        w->allows_corrupt = false;
        if (is_armed)
                arm_fault(w, 12);
        if (one_in(w, 12)) { /* not even opened */
                begin_open(w, &r);
                for (uint64_t n = choose(w, 30); !r && n; n--)
                        os_sim_step(w->os);
                if (!r || is_armed) {
                        world_drop(w, one_in(w, 2));
                        return false;
                }
        } else {
                r = world_open(w);
        }
        if (has_failed(w))
                return false;
        if (r && is_armed && r < 0) {
                world_drop(w, one_in(w, 2));
                return false;
        }
        if (r) {
                world_fail(w, "opening gave %d: %s", r,
                        r == PERSISTENCE_CORRUPT ? persistence_problem() : fault_last());
                return false;
        }
        if (w->has_disk_fault) {
                world_drop(w, one_in(w, 2));
                return false;
        }
        w->faults.write_fails_at = w->faults.sync_fails_at = 0;
        set_faults(w);
        world_adopt(w);
        check_term(w);
        return !has_failed(w);
}

static void live(struct world *w)
{
        uint64_t steps = choose(w, STEPS_MAX);
        enum end end = one_in(w, 2) ? END_FAULT : (enum end)choose(w, 3);

        if (!begin_life(w))
                return;
        verify(w, one_in(w, 4));
        for (uint64_t step = 0; step < steps && !has_failed(w) && !w->has_disk_fault; step++) {
                if (end == END_FAULT && step == steps / 3)
                        arm_fault(w, 20);
                work_once(w);
                check_given_up(w);
        }
        if (has_failed(w))
                return;
        if (w->has_disk_fault) {
                end_by_fault(w);
                return;
        }
        if (end == END_STOP && !w->faults.sync_fails_at && !w->faults.write_fails_at)
                world_stop(w);
        else
                world_drop(w, end != END_KILL);
}

/* ---- a run ---- */

static void name_streams(struct world *w)
{
        for (unsigned i = 0; i + 1 < w->stream_count; i++)
                snprintf(w->names[i * 2], sizeof(w->names[0]),
                        i % 4 == 1   ? "invoice_%u"
                        : i % 4 == 3 ? "$system-%u"
                                     : "order-%u",
                        i);
        snprintf(w->names[(w->stream_count - 1) * 2], sizeof(w->names[0]), "$nilo-store");
        for (unsigned i = 0; i < w->stream_count; i++) {
                memcpy(w->names[i * 2 + 1], "$$", 2);
                memcpy(w->names[i * 2 + 1] + 2, w->names[i * 2], sizeof(w->names[0]) - 2);
        }
}

static void choose_options(struct world *w)
{
        static const uint64_t sizes[] = {16 * KIB, 64 * KIB, 256 * KIB, 1024 * KIB};
        static const uint64_t counts[] = {20, 100, 0, 0};

        w->stream_count = 3 + (unsigned)choose(w, WORLD_STREAMS_MAX - 2);
        name_streams(w);
        w->is_small = one_in(w, 4);
        w->is_big = one_in(w, 12);
        w->faults.reads_are_cold = one_in(w, 2);
        w->store_options = (struct store_options){
                .os = w->os,
                .name = "default",
                .segment_size = sizes[choose(w, COUNT_OF(sizes))],
                .segment_events_max = counts[choose(w, COUNT_OF(counts))],
                .memory_size = (32 << choose(w, 6)) * (uint64_t)KIB,
                .in_flight_size_max = w->is_small ? 8 * KIB : 0,
                .space_reserve = 64 * KIB,
                .scrub_us = w->options.seed % SCRUBS_ONE_IN == 0 ? SCRUB_US : 0,
                .sync = (enum store_sync)choose(w, 3),
                .open_on_loop = one_in(w, 2),
                .mutant_skip_sync = w->options.mutant == MUTANT_SKIP_SYNC,
                .mutant_ack_before_sync = w->options.mutant == MUTANT_ACK_BEFORE_SYNC,
                .mutant_skip_crc = w->options.mutant == MUTANT_SKIP_CRC,
                .on_open = on_open,
                .on_disk_fault = on_disk_fault,
                .arg = w,
        };
        set_faults(w);
}

/* The last start: everything is read once more, and judged with all that was ever answered. */
static void judge(struct world *w)
{
        struct persistence_stats stats;
        char problem[256];
        int r = world_open(w);

        if (r)
                world_fail(w, "the last opening gave %d: %s", r, w->open_problem);
        if (has_failed(w))
                return;
        world_adopt(w);
        if (has_failed(w))
                return;
        verify(w, true);
        os_sim_run_for(w->os, 3 * 1000 * 1000);
        if (!has_failed(w))
                reads_verify_log(w, true);
        if (has_failed(w))
                return;
        persistence_stats(store_persistence(w->asked), &stats);
        w->totals->sealed += stats.segments - 1;
        if (stats.scrub.found_total)
                world_fail(w, "the scrub found damage, and nothing is damaged");
        if (!history_check(&w->history, problem))
                world_fail(w, "%s", problem);
}

static void count_kept(struct world *w)
{
        for (uint64_t i = 0; i < w->model.record_count; i++) {
                int64_t op = w->model.records[i].op;

                for (uint32_t n = 0; op >= 0 && n < w->op_count && (int64_t)w->ops[n]->number <= op; n++)
                        if (w->ops[n]->number == op && w->ops[n]->verdict == STORE_UNKNOWN)
                                w->totals->unknown_kept++;
        }
}

static void release(struct world *w)
{
        model_fini(&w->model);
        history_fini(&w->history);
        for (uint32_t i = 0; i < w->op_count; i++)
                free(w->ops[i]);
        free(w->ops);
}

void world_run(const struct world_options *options, struct world_result *ret)
{
        struct world *w = MEMORY_NEW(struct world);
        struct os_sim_stats stats;
        unsigned lives;

        *ret = (struct world_result){0};
        w->options = *options;
        w->result = ret;
        w->totals = &ret->totals;
        w->next_id = w->next_content = 1;
        if (os_sim_new(options->seed, &w->os))
                world_fail(w, "no machine");
        choose_options(w);
        model_init(&w->model, w->stream_count);
        lives = 1 + (unsigned)choose(w, LIVES_MAX);
        for (unsigned i = 0; i < lives && !has_failed(w); i++)
                live(w);
        if (!has_failed(w))
                judge(w);
        if (!has_failed(w))
                count_kept(w);
        if (!has_failed(w))
                world_stop(w);
        if (!has_failed(w))
                flips_run(w);
        stats = os_sim_stats(w->os);
        ret->hash = stats.hash;
        ret->totals.seeds = 1;
        ret->totals.lost_writes = stats.lost_writes;
        ret->totals.torn_writes = stats.torn_writes;
        /* A run that failed may have stopped anywhere; its machine goes with the process. */
        if (!has_failed(w))
                os_free(&w->os);
        release(w);
        free(w);
}
