/* The simulated machine's clock and loop. What is to run waits in queues, each in the order of its due times:
 * timers, posts, and for each lane the works that run next and the works whose `done` comes next. A step
 * takes the one that is due first, the older one of two. Whatever is started now is due a microsecond later
 * at the earliest, so that a clock that only steps move does move. What is due first is kept until something
 * changes it, because the world asks every machine before each step. */
#include "os/sim.h"

#include <stdlib.h>

#include "base/crc32c.h"
#include "base/memory.h"
#include "os/ram_disk.h"

enum { WORK_US_MIN = 10, WORK_US_MAX = 500, DONE_US_MAX = 50, QUEUE_CAPACITY_MIN = 64 };
#define WALL_BEGIN_US ((int64_t)1767225600000000) /* 2026-01-01 */
#define DISK_SIZE_MAX (64 * GIB)

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

static uint64_t draw(struct sim_random *random)
{
        uint64_t *s = random->s, result = rotate(s[1] * 5, 7) * 9, t = s[1] << 17;

        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = rotate(s[3], 45);
        return result;
}

void sim_random_init(struct sim_random *random, uint64_t seed)
{
        unsigned i;

        for (i = 0; i < COUNT_OF(random->s); i++)
                random->s[i] = split(&seed);
}

uint64_t sim_random_below(struct sim_random *random, uint64_t below)
{
        assert(below > 0);
        return (uint64_t)((unsigned __int128)draw(random) * below >> 64);
}

uint64_t sim_choose(struct sim *sim, uint64_t below)
{
        return sim_random_below(&sim->random, below);
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
                uint64_t n = draw(&sim_of(os)->random);
                size_t part = MIN(size, sizeof n);

                memcpy(at, &n, part);
                at += part;
                size -= part;
        }
}

/* ---- hash ---- */

void sim_hash_mix(uint64_t *hash, uint64_t n)
{
        uint64_t h = (*hash ^ n) * 0x9e3779b97f4a7c15;

        *hash = h ^ h >> 29;
}

void sim_note(struct sim *sim, uint64_t kind, uint64_t a, uint64_t b)
{
        sim_hash_mix(&sim->stats.hash, sim_now(sim) << 8 | kind);
        sim_hash_mix(&sim->stats.hash, a);
        sim_hash_mix(&sim->stats.hash, b);
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

uint64_t sim_local_of(const struct sim *sim, uint64_t true_us)
{
        uint64_t passed = true_us - sim->base_true_us;

        assert(true_us >= sim->base_true_us);
        if (sim->rate_ppm != SIM_RATE_RIGHT)
                passed = (uint64_t)((unsigned __int128)passed * sim->rate_ppm / SIM_RATE_RIGHT);
        return sim->base_local_us + passed;
}

/* The first true time at which the machine's clock shows `local_us` or more. */
static uint64_t sim_true_of(const struct sim *sim, uint64_t local_us)
{
        unsigned __int128 passed;

        if (local_us <= sim->base_local_us)
                return sim->base_true_us;
        passed = local_us - sim->base_local_us;
        if (sim->rate_ppm != SIM_RATE_RIGHT)
                passed = (passed * SIM_RATE_RIGHT + sim->rate_ppm - 1) / sim->rate_ppm;
        return passed < UINT64_MAX - sim->base_true_us ? sim->base_true_us + (uint64_t)passed : UINT64_MAX;
}

uint64_t sim_now(const struct sim *sim)
{
        return MAX(sim->now_us, sim_local_of(sim, sim->world->now_us));
}

static uint64_t sim_monotonic_us(struct os *os)
{
        return sim_now(sim_of(os));
}

static uint64_t sim_wall_us(struct os *os)
{
        return sim_now(sim_of(os)) + (uint64_t)sim_of(os)->wall_offset_us;
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

void sim_sync_clock(struct sim *sim)
{
        move_clock(sim, sim_now(sim));
}

void os_sim_shift_wall(struct os *os, int64_t us)
{
        sim_of(os)->wall_offset_us += us;
        os->has_turn_time = false;
}

void os_sim_set_rate(struct os *os, uint32_t rate_ppm)
{
        struct sim *sim = sim_of(os);

        assert(rate_ppm >= SIM_RATE_RIGHT / 10);
        assert(rate_ppm <= SIM_RATE_RIGHT * 10);
        sim_sync_clock(sim);
        sim->base_local_us = sim->now_us;
        sim->base_true_us = sim->world->now_us;
        sim->rate_ppm = rate_ppm;
        sim->has_next = false;
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
        sim->has_next = false;
        if (q->count == q->capacity)
                queue_grow(q);
        q->events[(q->first + q->count++) & (q->capacity - 1)] =
                (struct sim_event){MAX(due_us, last), sim->sequence++, fn, arg};
}

static struct sim_event queue_take(struct sim *sim, struct sim_queue *q)
{
        struct sim_event event = *queue_first(q);

        sim->has_next = false;

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
        uint64_t now = sim_now(sim);

        after_us = MAX(after_us, (uint64_t)1);
        timer->os = os;
        sim->has_next = false;
        timers_start(&sim->timers, timer, after_us < UINT64_MAX - now ? now + after_us : UINT64_MAX,
                sim->sequence++);
}

static void sim_timer_stop(struct os *os, struct os_timer *timer)
{
        sim_of(os)->has_next = false;
        timers_stop(&sim_of(os)->timers, timer);
}

static void sim_post(struct os *os, void (*fn)(void *arg), void *arg)
{
        struct sim *sim = sim_of(os);

        queue_add(sim, &sim->posts, sim_now(sim) + 1, fn, arg);
}

void sim_wake(struct sim *sim, void (*fn)(void *arg), void *arg)
{
        queue_add(sim, &sim->sockets, sim_now(sim) + 1, fn, arg);
}

static void sim_work_submit(struct os *os, enum os_lane lane, struct os_work *work)
{
        struct sim *sim = sim_of(os);
        struct sim_queue *q = &sim->lanes[lane].works;
        uint64_t begin = MAX(sim_now(sim), queue_last_due(q));

        if (sim->faults.work_us_max)
                begin += sim_choose(sim, sim->faults.work_us_max + 1);
        queue_add(sim, q, begin + WORK_US_MIN + sim_choose(sim, WORK_US_MAX - WORK_US_MIN + 1), NULL, work);
}

static void consider(struct sim_choice *best, struct sim_queue *q, struct sim_lane *lane)
{
        const struct sim_event *event = queue_first(q);

        if (!event || event->due_us > best->due_us ||
                (event->due_us == best->due_us && event->sequence > best->sequence))
                return;
        *best = (struct sim_choice){event->due_us, event->sequence, NULL, q, lane};
}

static const struct sim_choice *choose_next(struct sim *sim)
{
        struct sim_choice best = {.due_us = UINT64_MAX, .sequence = UINT64_MAX};
        const struct timers_entry *timer = timers_first(&sim->timers);
        unsigned i;

        if (sim->has_next)
                return &sim->next;
        if (timer)
                best = (struct sim_choice){timer->due_us, timer->sequence, timer->timer, NULL, NULL};
        consider(&best, &sim->posts, NULL);
        consider(&best, &sim->sockets, NULL);
        for (i = 0; i < OS_LANES; i++) {
                consider(&best, &sim->lanes[i].works, &sim->lanes[i]);
                consider(&best, &sim->lanes[i].dones, &sim->lanes[i]);
        }
        sim->next = best;
        sim->next_true_us = best.timer || best.queue ? sim_true_of(sim, best.due_us) : UINT64_MAX;
        sim->has_next = true;
        return &sim->next;
}

/* A machine that wants a turn gets it a microsecond after its last step, whatever else is due. */
uint64_t sim_due(struct sim *sim)
{
        if (sim->is_paused)
                return UINT64_MAX;
        if (sim->os.wants_turn)
                return sim_true_of(sim, sim->now_us + 1);
        if (!sim->has_next)
                (void)choose_next(sim);
        return sim->next_true_us;
}

static void run_timer(struct sim *sim, struct os_timer *timer)
{
        sim_note(sim, SIM_TIMER, 0, 0);
        sim->has_next = false;
        timers_stop(&sim->timers, timer);
        timer->fn(timer);
}

static void run_lane(struct sim *sim, struct sim_lane *lane, struct sim_queue *q)
{
        struct os_work *work = queue_take(sim, q).arg;
        uint64_t life = sim->life;

        if (q == &lane->dones) {
                sim_note(sim, SIM_DONE, (uint64_t)(lane - sim->lanes), 0);
                work->done(work);
                return;
        }
        sim_note(sim, SIM_WORK, (uint64_t)(lane - sim->lanes), 0);
        work->work(work);
        if (life == sim->life) /* else it has cut the power */
                queue_add(sim, &lane->dones, sim_now(sim) + 1 + sim_choose(sim, DONE_US_MAX), NULL, work);
}

static void run_choice(struct sim *sim, struct sim_choice choice)
{
        struct sim_event event;

        move_clock(sim, choice.due_us);
        if (choice.timer) {
                run_timer(sim, choice.timer);
        } else if (choice.lane) {
                run_lane(sim, choice.lane, choice.queue);
        } else {
                sim_note(sim, choice.queue == &sim->posts ? SIM_POST : SIM_SOCKET, 0, 0);
                event = queue_take(sim, choice.queue);
                event.fn(event.arg);
        }
}

void sim_step(struct sim *sim)
{
        const struct sim_choice *next = choose_next(sim);
        struct os *os = &sim->os;
        bool wants_turn = os->wants_turn;
        uint64_t before_us = sim->now_us;

        assert(!sim->is_paused);
        sim_sync_clock(sim);
        if (wants_turn)
                move_clock(sim, before_us + 1);
        os->wants_turn = false;
        if ((next->timer || next->queue) && (!wants_turn || next->due_us <= sim->now_us))
                run_choice(sim, *next);
        os_run_hooks(os);
        os->has_turn_time = false;
}

bool os_sim_step(struct os *os)
{
        return os_sim_world_step(sim_of(os)->world);
}

void os_sim_run_for(struct os *os, uint64_t us)
{
        os_sim_world_run_for(sim_of(os)->world, us);
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

static void sim_on_signal(struct os *os, void (*fn)(void *arg), void *arg)
{
        (void)os;
        (void)fn;
        (void)arg;
        assert(!"a simulated process gets no signals");
}

/* ---- crashes ---- */

void os_sim_pause(struct os *os)
{
        sim_of(os)->is_paused = true;
}

void os_sim_resume(struct os *os)
{
        sim_of(os)->is_paused = false;
}

/* All that the process had is gone, without a callback. */
static void lose_process(struct sim *sim, enum sim_loss loss)
{
        unsigned i;

        sim->life++;
        sim->is_paused = false;
        sim->has_next = false;
        timers_fini(&sim->timers);
        queue_fini(&sim->posts);
        queue_fini(&sim->sockets);
        sim_tcp_lose(sim, loss);
        sim_udp_lose(sim);
        os_lookups_lose(&sim->os);
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

        lose_process(sim, SIM_LOSS_CRASH);
        loss = ram_disk_crash(os->ram, &chance);
        sim->stats.crashes++;
        sim->stats.lost_writes += loss.lost;
        sim->stats.torn_writes += loss.torn;
        sim_note(sim, SIM_CRASH, loss.lost, loss.torn);
}

void os_sim_kill(struct os *os)
{
        lose_process(sim_of(os), SIM_LOSS_KILL);
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

        sim_tcp_fini(sim);
        finish_works(sim);
        lose_process(sim, SIM_LOSS_KILL);
        ram_disk_free(&os->ram);
        world_forget(sim);
        free(sim);
}

static const struct os_loop_table sim_loop_table = {
        .run = sim_run,
        .stop = sim_stop,
        .timer_start = sim_timer_start,
        .timer_stop = sim_timer_stop,
        .post = sim_post,
        .work_submit = sim_work_submit,
        .on_stop_signal = sim_on_signal,
        .on_reload_signal = sim_on_signal,
        .free = sim_free,
};

struct sim *sim_new(struct os_sim_world *world, uint64_t seed, uint64_t local_us)
{
        struct sim *sim = MEMORY_NEW(struct sim);

        sim->world = world;
        sim->os.clock = &sim_clock_table;
        sim->os.disk = &sim_disk_table;
        sim->os.loop = &sim_loop_table;
        sim->os.net = &no_net_table;
        sim->os.ram = ram_disk_new(DISK_SIZE_MAX, true);
        os_machine_init(&sim->os);
        sim_random_init(&sim->random, seed);
        sim->rate_ppm = SIM_RATE_RIGHT;
        sim->base_true_us = world->now_us;
        sim->base_local_us = sim->now_us = local_us;
        sim->wall_offset_us =
                WALL_BEGIN_US + (int64_t)(world->now_us - SIM_CLOCK_BEGIN_US) - (int64_t)local_us;
        list_init(&sim->listeners);
        list_init(&sim->ends);
        list_init(&sim->udps);
        return sim;
}
