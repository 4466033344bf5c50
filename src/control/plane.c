/* The control plane: which subsystems start, which are ready, and when the system is.
 *
 * All starts are announced before the first is called, so that a start which is ready at once, or which
 * another start reports as ready, keeps the chain in order: starting (each), ready (each), system_ready. A
 * failure is final: the system never becomes ready after it, and starts that were not called yet are not
 * called any more. */
#include "control/room.h"

#include <stdio.h>

static bool is_missing(const struct plane *plane, enum subsystem subsystem)
{
        enum readiness r = plane->readiness[subsystem];

        return r == READINESS_STARTING || r == READINESS_FAILED;
}

static unsigned count_missing(const struct plane *plane)
{
        unsigned n = 0;

        for (unsigned i = 0; i < SUBSYSTEMS; i++)
                n += is_missing(plane, i);
        return n;
}

static bool has_failed(const struct plane *plane)
{
        for (unsigned i = 0; i < SUBSYSTEMS; i++)
                if (plane->readiness[i] == READINESS_FAILED)
                        return true;
        return false;
}

static void add_name(char *names, enum subsystem subsystem)
{
        size_t used = strlen(names);
        int size = snprintf(
                names + used, NAMES_SIZE_MAX - used, "%s%s", used ? ", " : "", subsystem_name(subsystem));

        assert(size > 0 && (size_t)size < NAMES_SIZE_MAX - used);
}

static void publish(struct control *control, enum fact_type type, enum subsystem subsystem, const char *text)
{
        struct fact_payload payload = {.subsystem = (uint8_t)subsystem};

        if (type == FACT_subsystem_ready)
                payload.duration_us = os_monotonic_us(control->os) - control->plane.started_us[subsystem];
        fact_set_text(&payload, "%s", text);
        control_publish(control, type, &payload);
}

static void publish_pending(struct control *control)
{
        struct fact_payload payload = {.count = count_missing(&control->plane)};

        if (!payload.count)
                return;
        fact_set_text(&payload, "%s", control_pending(control));
        control_publish(control, FACT_systems_pending, &payload);
}

static void publish_system_ready(struct control *control)
{
        struct plane *plane = &control->plane;
        struct fact_payload payload = {.duration_us = os_monotonic_us(control->os) - plane->begun_us};
        char names[NAMES_SIZE_MAX] = "";

        for (unsigned i = 0; i < SUBSYSTEMS; i++)
                if (plane->readiness[i] == READINESS_READY)
                        add_name(names, i);
        fact_set_text(&payload, "%s", names);
        control_publish(control, FACT_system_ready, &payload);
}

/* Calls `on_end` once, as soon as it is known how the start ended. */
static void end_if_decided(struct control *control)
{
        struct plane *plane = &control->plane;
        bool is_failed = has_failed(plane);

        if (!plane->is_begun || plane->is_calling || plane->is_ended)
                return;
        if (!is_failed && count_missing(plane))
                return;
        plane->is_ended = true;
        if (!is_failed)
                publish_system_ready(control);
        if (plane->on_end)
                plane->on_end(
                        plane->arg, !is_failed); /* may close what it likes, so nothing comes after it */
}

static void announce(struct control *control, const struct control_subsystem *subsystems, unsigned count)
{
        struct plane *plane = &control->plane;
        struct fact_payload payload = {.count = count};
        char names[NAMES_SIZE_MAX] = "";
        unsigned i;

        for (i = 0; i < count; i++)
                add_name(names, subsystems[i].subsystem);
        fact_set_text(&payload, "%s", names);
        control_publish(control, FACT_initialization_started, &payload);
        for (i = 0; i < count; i++) {
                plane->readiness[subsystems[i].subsystem] = READINESS_STARTING;
                plane->started_us[subsystems[i].subsystem] = plane->begun_us;
                publish(control, FACT_subsystem_starting, subsystems[i].subsystem, "");
        }
}

void control_start(struct control *control, const struct control_subsystem *subsystems, unsigned count,
        void (*on_end)(void *arg, bool is_ready), void *arg)
{
        struct plane *plane = &control->plane;
        unsigned i;

        assert(!plane->is_begun);
        assert(count <= SUBSYSTEMS);
        plane->is_begun = true;
        plane->begun_us = os_monotonic_us(control->os);
        plane->on_end = on_end;
        plane->arg = arg;
        plane->is_calling = true;
        announce(control, subsystems, count);
        for (i = 0; i < count && !has_failed(plane); i++)
                subsystems[i].start(subsystems[i].arg);
        plane->is_calling = false;
        end_if_decided(control);
}

/* Reports of subsystems that nobody waits for, and second reports, change nothing. */
void control_ready(struct control *control, enum subsystem subsystem)
{
        assert((unsigned)subsystem < SUBSYSTEMS);
        if (control->plane.readiness[subsystem] != READINESS_STARTING)
                return;
        control->plane.readiness[subsystem] = READINESS_READY;
        publish(control, FACT_subsystem_ready, subsystem, "");
        publish_pending(control);
        end_if_decided(control);
}

/* Also a subsystem that was ready can fail: the system is not ready any more, but its start has ended
 * already. */
void control_failed(struct control *control, enum subsystem subsystem, const char *reason)
{
        assert((unsigned)subsystem < SUBSYSTEMS);
        if (control->plane.readiness[subsystem] == READINESS_FAILED)
                return;
        control->plane.readiness[subsystem] = READINESS_FAILED;
        publish(control, FACT_subsystem_failed, subsystem, reason ? reason : "");
        publish_pending(control);
        end_if_decided(control);
}

bool control_is_ready(const struct control *control)
{
        return control->plane.is_ended && !count_missing(&control->plane);
}

enum readiness control_readiness(const struct control *control, enum subsystem subsystem)
{
        assert((unsigned)subsystem < SUBSYSTEMS);
        return control->plane.readiness[subsystem];
}

const char *control_pending(struct control *control)
{
        struct plane *plane = &control->plane;

        plane->names[0] = '\0';
        for (unsigned i = 0; i < SUBSYSTEMS; i++)
                if (is_missing(plane, i))
                        add_name(plane->names, i);
        return plane->names;
}
