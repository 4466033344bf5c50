/* The machine: its clock, its limits and its memory. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#include "cli/doctor.h"

enum {
        CLOCK_LOOK_US = 200 * 1000,
        CLOCK_JUMP_US = 20 * 1000,
        YEAR_2026_S = 1767225600,
        FILES_BESIDE_CONNECTIONS = 512, /* segments, indexes, peers */
        CGROUP_LINE_MAX = 4096,
};

/* ---- clock ---- */

static int64_t us_of(clockid_t clock)
{
        struct timespec t;

        clock_gettime(clock, &t);
        return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void look_at_clock(struct doctor *d)
{
        struct timex state = {0};
        int64_t wall = us_of(CLOCK_REALTIME);
        int64_t monotonic = us_of(CLOCK_MONOTONIC);
        int64_t apart;
        bool is_synchronised;

        is_synchronised = adjtimex(&state) >= 0 && !(state.status & STA_UNSYNC);
        usleep(CLOCK_LOOK_US);
        apart = (us_of(CLOCK_REALTIME) - wall) - (us_of(CLOCK_MONOTONIC) - monotonic);
        if (wall / 1000000 < YEAR_2026_S)
                doctor_say(d, "clock", DOCTOR_FAIL,
                        "Set the clock: events get their time from it, and certificates look not yet valid.",
                        "it stands in the past");
        else if (llabs(apart) > CLOCK_JUMP_US)
                doctor_say(d, "clock", DOCTOR_WARN,
                        "Events keep their order, but their times will not be right: look at who sets the "
                        "clock.",
                        "it jumped by %.1f ms within %.1f s", (double)apart / 1000, CLOCK_LOOK_US / 1e6);
        else if (!is_synchronised)
                doctor_say(d, "clock", DOCTOR_WARN,
                        "Run chrony or systemd-timesyncd: times of events, tokens and certificates rest on "
                        "it.",
                        "nothing keeps it in step, as far as the kernel knows");
        else
                doctor_say(
                        d, "clock", DOCTOR_OK, "", "in step, within %.1f ms", (double)state.maxerror / 1000);
}

/* ---- limits ---- */

static void format_limit(rlim_t n, char ret[CLI_SIZE_TEXT])
{
        if (n == RLIM_INFINITY)
                snprintf(ret, CLI_SIZE_TEXT, "no limit");
        else
                snprintf(ret, CLI_SIZE_TEXT, "%" PRIu64, (uint64_t)n);
}

/* Of this process: a server that is started from here gets the same. */
static void look_at_limits(struct doctor *d)
{
        uint64_t needed = d->settings.connections_max + FILES_BESIDE_CONNECTIONS;
        struct rlimit files = {0};
        struct rlimit core = {0};
        struct rlimit locked = {0};
        char text[CLI_SIZE_TEXT];
        bool is_enough;

        getrlimit(RLIMIT_NOFILE, &files);
        getrlimit(RLIMIT_CORE, &core);
        getrlimit(RLIMIT_MEMLOCK, &locked);
        is_enough = files.rlim_cur == RLIM_INFINITY || files.rlim_cur >= needed;
        format_limit(files.rlim_cur, text);
        doctor_say(d, "open files", is_enough ? DOCTOR_OK : DOCTOR_WARN,
                is_enough ? ""
                          : "ulimit -n, or LimitNOFILE= of the systemd unit; else connections are refused "
                            "before --connections-max.",
                "%s here; %" PRIu64 " connections and their files need %" PRIu64, text,
                d->settings.connections_max, needed);
        format_limit(core.rlim_cur, text);
        doctor_say(d, "core dumps", core.rlim_cur ? DOCTOR_WARN : DOCTOR_OK,
                core.rlim_cur
                        ? "A dump holds events and keys: ulimit -c 0, or LimitCORE=0 of the systemd unit."
                        : "",
                "%s", core.rlim_cur ? text : "off");
        if (locked.rlim_cur == RLIM_INFINITY)
                format_limit(locked.rlim_cur, text);
        else
                cli_format_size(locked.rlim_cur, text);
        doctor_say(d, "locked memory", DOCTOR_OK, "", "%s; a server locks none", text);
}

/* ---- memory ---- */

static bool read_number(const char *path, uint64_t *ret)
{
        FILE *file = fopen(path, "re");
        bool is_number;

        if (!file)
                return false;
        is_number = fscanf(file, "%" SCNu64, ret) == 1; /* "max" is no number: no limit */
        fclose(file);
        return is_number;
}

/* The tightest limit of the groups that this process is in, of cgroup 2 and 1; UINT64_MAX without one. */
static uint64_t cgroup_limit(void)
{
        char line[CGROUP_LINE_MAX];
        uint64_t tightest = UINT64_MAX;
        FILE *file = fopen("/proc/self/cgroup", "re");

        while (file && fgets(line, sizeof line, file)) {
                bool is_v2 = strncmp(line, "0::", 3) == 0;
                char *path = strrchr(line, ':');
                uint64_t limit;

                if (!path || (!is_v2 && !strstr(line, ":memory:")))
                        continue;
                path++;
                path[strcspn(path, "\n")] = 0;
                for (;;) {
                        char *slash = strrchr(path, '/');
                        char name[CGROUP_LINE_MAX + 64];

                        snprintf(name, sizeof name,
                                is_v2 ? "/sys/fs/cgroup%s/memory.max"
                                      : "/sys/fs/cgroup/memory%s/memory.limit_in_bytes",
                                strcmp(path, "/") == 0 ? "" : path);
                        if (read_number(name, &limit))
                                tightest = MIN(tightest, limit);
                        if (!slash)
                                break;
                        *slash = 0;
                }
        }
        if (file)
                fclose(file);
        return tightest;
}

static void look_at_memory(struct doctor *d)
{
        struct sysinfo machine = {0};
        uint64_t group = cgroup_limit();
        uint64_t total;
        uint64_t needed = d->settings.memory + d->settings.memory / 2 + 64 * MIB;
        char cap[CLI_SIZE_TEXT];
        char text[CLI_SIZE_TEXT];
        bool is_enough;

        sysinfo(&machine);
        total = MIN((uint64_t)machine.totalram * machine.mem_unit, group);
        is_enough = total >= needed;
        cli_format_size(d->settings.memory, cap);
        cli_format_size(total, text);
        doctor_say(d, "memory", is_enough ? DOCTOR_OK : DOCTOR_WARN,
                is_enough
                        ? ""
                        : "A server may be killed for want of memory: a smaller --memory, or a larger limit.",
                "%s%s; the cap of caches (--memory) is %s", text,
                group < (uint64_t)machine.totalram * machine.mem_unit ? ", the limit of the control group"
                                                                      : "",
                cap);
}

void doctor_machine(struct doctor *d)
{
        look_at_clock(d);
        look_at_limits(d);
        look_at_memory(d);
}
