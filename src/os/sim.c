/* The simulated machine's clock and loop. What is to run waits in queues, each in the order of its due times:
 * timers, posts, and for each lane the works that run next and the works whose `done` comes next. A step
 * takes the one that is due first, the older one of two. Whatever is started now is due a microsecond later
 * at the earliest, so that a clock that only steps move does move. */
#include "os/sim.h"

#include <stdlib.h>

#include "base/crc32c.h"
#include "base/memory.h"
#include "os/ram_disk.h"

enum { WORK_US_MIN = 10, WORK_US_MAX = 500, DONE_US_MAX = 50, QUEUE_CAPACITY_MIN = 64 };
#define CLOCK_BEGIN_US ((uint64_t)1000000)
#define WALL_BEGIN_US  ((int64_t)1767225600000000) /* 2026-01-01 */
#define DISK_SIZE_MAX  (64 * GIB)

/* ---- chance ---- */

/* splitmix64: from one number many that look independent. */
static uint64_t split(uint64_t *state)
{
        uint64_t z = *state += 0x9e3779b97f4a7c15;

        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
        z = (z ^ z >> 27) * 0x94d049bb133111eb;
        return z ^ z >> 31;
}

static uint64_t rotate(uint64_t n, unsigned by)
{
        return n << by | n >> (64 - by);
}

/* xoshiro256** of Blackman and Vigna. */
static uint64_t draw(struct sim *sim)
{
        uint64_t *s = sim->random, result = rotate(s[1] * 5, 7) * 9, t = s[1] << 17;

        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = rotate(s[3], 45);
        return result;
}

uint64_t sim_choose(struct sim *sim, uint64_t below)
{
        assert(below > 0);
        return (uint64_t)((unsigned __int128)draw(sim) * below >> 64);
}

static uint64_t choose_for_disk(void *arg, uint64_t below)
{
        return sim_choose(arg, below);
}

uint64_t os_sim_choose(struct os *os, uint64_t below)
{
        return sim_choose(sim_of(os), below);
}

static void sim_random(struct os *os, void *data, size_t size)
{
        uint8_t *at = data;

        while (size) {
                uint64_t n = draw(sim_of(os));
                size_t part = MIN(size, sizeof n);

                memcpy(at, &n, part);
                at += part;
                size -= part;
        }
}

/* ---- hash ---- */

static void mix(struct sim *sim, uint64_t n)
{
        uint64_t h = (sim->stats.hash ^ n) * 0x9e3779b97f4a7c15;

        sim->stats.hash = h ^ h >> 29;
}

void sim_note(struct sim *sim, uint64_t kind, uint64_t a, uint64_t b)
{
        mix(sim, sim->now_us << 8 | kind);
        mix(sim, a);
        mix(sim, b);
}

void os_sim_observe(struct os *os, const void *data, size_t size)
{
        sim_note(sim_of(os), SIM_OBSERVE, size, crc32c(0, data, size));
}

struct os_sim_stats os_sim_stats(const struct os *os)
{
        return sim_of(os)->stats;
}

/* ---- clock ---- */

static uint64_t sim_monotonic_us(struct os *os)
{
        return sim_of(os)->now_us;
}

static uint64_t sim_wall_us(struct os *os)
{
        return sim_of(os)->now_us + (uint64_t)sim_of(os)->wall_offset_us;
}

static const struct os_clock_table sim_clock_table = {
        .monotonic_us = sim_monotonic_us,
        .wall_us = sim_wall_us,
        .random = sim_random,
};

static void move_clock(struct sim *sim, uint64_t to_us)
{
        sim->now_us = MAX(sim->now_us, to_us);
        sim->os.has_turn_time = false;
}

void os_sim_shift_wall(struct os *os, int64_t us)
{
        sim_of(os)->wall_offset_us += us;
        os->has_turn_time = false;
}

/* ---- queues ---- */

static struct sim_event *queue_first(const struct sim_queue *q)
{
        return q->count ? &q->events[q->first & (q->capacity - 1)] : NULL;
}

static uint64_t queue_last_due(const struct sim_queue *q)
{
        return q->count ? q->events[(q->first + q->count - 1) & (q->capacity - 1)].due_us : 0;
}

static void queue_grow(struct sim_queue *q)
{
        struct sim_queue larger = {
                .count = q->count, .capacity = MAX((size_t)QUEUE_CAPACITY_MIN, q->capacity * 2)};
        size_t i;

        larger.events = memory_new_array(larger.capacity, sizeof larger.events[0]);
        for (i = 0; i < q->count; i++)
                larger.events[i] = q->events[(q->first + i) & (q->capacity - 1)];
        free(q->events);
        *q = larger;
}

/* Due at `due_us`, or with the last one before it: a queue keeps its order. */
static void queue_add(struct sim *sim, struct sim_queue *q, uint64_t due_us, void (*fn)(void *arg), void *arg)
{
        uint64_t last = queue_last_due(q);

        assert(q->count < OS_POSTS_MAX);
        if (q->count == q->capacity)
                queue_grow(q);
        q->events[(q->first + q->count++) & (q->capacity - 1)] =
                (struct sim_event){MAX(due_us, last), sim->sequence++, fn, arg};
}

static struct sim_event queue_take(struct sim_queue *q)
{
        struct sim_event event = *queue_first(q);

        q->first++;
        q->count--;
        return event;
}

static void queue_fini(struct sim_queue *q)
{
        free(q->events);
        *q = (struct sim_queue){0};
}

/* ---- what is to run ---- */

static void sim_timer_start(struct os *os, struct os_timer *timer, uint64_t after_us)
{
        struct sim *sim = sim_of(os);

        after_us = MAX(after_us, (uint64_t)1);
        timer->os = os;
        timers_start(&sim->timers, timer,
                after_us < UINT64_MAX - sim->now_us ? sim->now_us + after_us : UINT64_MAX, sim->sequence++);
}

static void sim_timer_stop(struct os *os, struct os_timer *timer)
{
        timers_stop(&sim_of(os)->timers, timer);
}

static void sim_post(struct os *os, void (*fn)(void *arg), void *arg)
{
        struct sim *sim = sim_of(os);

        queue_add(sim, &sim->posts, sim->now_us + 1, fn, arg);
}

static void sim_work_submit(struct os *os, enum os_lane lane, struct os_work *work)
{
        struct sim *sim = sim_of(os);
        struct sim_queue *q = &sim->lanes[lane].works;
        uint64_t begin = MAX(sim->now_us, queue_last_due(q));

        queue_add(sim, q, begin + WORK_US_MIN + sim_choose(sim, WORK_US_MAX - WORK_US_MIN + 1), NULL, work);
}

/* What a step can take. */
struct choice {
        uint64_t due_us;
        uint64_t sequence;
        const struct timers_entry *timer; /* or */
        struct sim_queue *queue;
        struct sim_lane *lane; /* whose queue it is, NULL for posts */
};

static void consider(struct choice *best, struct sim_queue *q, struct sim_lane *lane)
{
        const struct sim_event *event = queue_first(q);

        if (!event || event->due_us > best->due_us ||
                (event->due_us == best->due_us && event->sequence > best->sequence))
                return;
        *best = (struct choice){event->due_us, event->sequence, NULL, q, lane};
}

static bool choose_next(struct sim *sim, struct choice *ret)
{
        struct choice best = {.due_us = UINT64_MAX, .sequence = UINT64_MAX};
        const struct timers_entry *timer = timers_first(&sim->timers);
        unsigned i;

        if (timer)
                best = (struct choice){timer->due_us, timer->sequence, timer, NULL, NULL};
        consider(&best, &sim->posts, NULL);
        for (i = 0; i < OS_LANES; i++) {
                consider(&best, &sim->lanes[i].works, &sim->lanes[i]);
                consider(&best, &sim->lanes[i].dones, &sim->lanes[i]);
        }
        *ret = best;
        return best.timer || best.queue;
}

static void run_timer(struct sim *sim, struct os_timer *timer)
{
        sim_note(sim, SIM_TIMER, 0, 0);
        timers_stop(&sim->timers, timer);
        timer->fn(timer);
}

static void run_lane(struct sim *sim, struct sim_lane *lane, struct sim_queue *q)
{
        struct os_work *work = queue_take(q).arg;
        uint64_t life = sim->life;

        if (q == &lane->dones) {
                sim_note(sim, SIM_DONE, (uint64_t)(lane - sim->lanes), 0);
                work->done(work);
                return;
        }
        sim_note(sim, SIM_WORK, (uint64_t)(lane - sim->lanes), 0);
        work->work(work);
        if (life == sim->life) /* else it has cut the power */
                queue_add(sim, &lane->dones, sim->now_us + 1 + sim_choose(sim, DONE_US_MAX), NULL, work);
}

static void run_choice(struct sim *sim, const struct choice *choice)
{
        struct sim_event post;

        move_clock(sim, choice->due_us);
        if (choice->timer) {
                run_timer(sim, choice->timer->timer);
        } else if (choice->lane) {
                run_lane(sim, choice->lane, choice->queue);
        } else {
                sim_note(sim, SIM_POST, 0, 0);
                post = queue_take(choice->queue);
                post.fn(post.arg);
        }
}

bool os_sim_step(struct os *os)
{
        struct sim *sim = sim_of(os);
        struct choice choice;
        bool has_next = choose_next(sim, &choice);

        if (!has_next && !os->wants_turn)
                return false;
        if (os->wants_turn)
                move_clock(sim, sim->now_us + 1);
        if (has_next && (!os->wants_turn || choice.due_us <= sim->now_us)) {
                os->wants_turn = false;
                run_choice(sim, &choice);
        } else {
                os->wants_turn = false;
        }
        os_run_hooks(os);
        os->has_turn_time = false;
        return true;
}

void os_sim_run_for(struct os *os, uint64_t us)
{
        struct sim *sim = sim_of(os);
        uint64_t end = sim->now_us + us;
        struct choice choice;

        while (os->wants_turn || (choose_next(sim, &choice) && choice.due_us <= end)) {
                if (os->wants_turn && sim->now_us >= end)
                        break;
                os_sim_step(os);
        }
        move_clock(sim, end);
}

/* Until os_stop, or until nothing is left that could ever call it. */
static int sim_run(struct os *os)
{
        struct sim *sim = sim_of(os);

        while (!sim->is_stopping && os_sim_step(os))
                continue;
        sim->is_stopping = false;
        return 0;
}

static void sim_stop(struct os *os)
{
        sim_of(os)->is_stopping = true;
}

static void sim_on_stop_signal(struct os *os, void (*fn)(void *arg), void *arg)
{
        (void)os;
        (void)fn;
        (void)arg;
        assert(!"a simulated process gets no signals");
}

/* ---- crashes ---- */

/* All that the process had is gone, without a callback. */
static void lose_process(struct sim *sim)
{
        unsigned i;

        sim->life++;
        timers_fini(&sim->timers);
        queue_fini(&sim->posts);
        for (i = 0; i < OS_LANES; i++) {
                queue_fini(&sim->lanes[i].works);
                queue_fini(&sim->lanes[i].dones);
        }
        while (!list_is_empty(&sim->os.hooks))
                list_remove(sim->os.hooks.next);
        sim->os.wants_turn = false;
        sim->is_stopping = false;
        ram_disk_drop_files(sim->os.ram);
}

void os_sim_crash(struct os *os)
{
        struct sim *sim = sim_of(os);
        struct ram_chance chance = {choose_for_disk, sim};
        struct ram_loss loss;

        lose_process(sim);
        loss = ram_disk_crash(os->ram, &chance);
        sim->stats.crashes++;
        sim->stats.lost_writes += loss.lost;
        sim->stats.torn_writes += loss.torn;
        sim_note(sim, SIM_CRASH, loss.lost, loss.torn);
}

void os_sim_kill(struct os *os)
{
        lose_process(sim_of(os));
        sim_note(sim_of(os), SIM_KILL, 0, 0);
}

/* ---- birth and end ---- */

/* As in the real machine: work that was submitted is finished. */
static void finish_works(struct sim *sim)
{
        bool has_run;
        unsigned i;

        do {
                has_run = false;
                for (i = 0; i < OS_LANES; i++) {
                        struct sim_lane *lane = &sim->lanes[i];

                        if (lane->works.count)
                                run_lane(sim, lane, &lane->works);
                        else if (lane->dones.count)
                                run_lane(sim, lane, &lane->dones);
                        else
                                continue;
                        has_run = true;
                }
        } while (has_run);
}

static void sim_free(struct os *os)
{
        struct sim *sim = sim_of(os);

        finish_works(sim);
        lose_process(sim);
        ram_disk_free(&os->ram);
        free(sim);
}

static const struct os_loop_table sim_loop_table = {
        .run = sim_run,
        .stop = sim_stop,
        .timer_start = sim_timer_start,
        .timer_stop = sim_timer_stop,
        .post = sim_post,
        .work_submit = sim_work_submit,
        .on_stop_signal = sim_on_stop_signal,
        .free = sim_free,
};

int os_sim_new(uint64_t seed, struct os **ret)
{
        struct sim *sim = MEMORY_NEW(struct sim);
        unsigned i;

        sim->os.clock = &sim_clock_table;
        sim->os.disk = &sim_disk_table;
        sim->os.loop = &sim_loop_table;
        sim->os.net = &no_net_table;
        sim->os.ram = ram_disk_new(DISK_SIZE_MAX, true);
        os_machine_init(&sim->os);
        for (i = 0; i < COUNT_OF(sim->random); i++)
                sim->random[i] = split(&seed);
        sim->now_us = CLOCK_BEGIN_US;
        sim->wall_offset_us = WALL_BEGIN_US - (int64_t)CLOCK_BEGIN_US;
        *ret = &sim->os;
        return 0;
}
