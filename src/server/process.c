#include "server/process.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <unistd.h>

static void look_at_memory(struct ops_process *ret)
{
        FILE *file = fopen("/proc/self/statm", "re");
        unsigned long long total;
        unsigned long long resident;

        if (!file)
                return;
        if (fscanf(file, "%llu %llu", &total, &resident) == 2)
                ret->resident_bytes = resident * (uint64_t)sysconf(_SC_PAGESIZE);
        fclose(file);
}

static void look_at_threads(struct ops_process *ret)
{
        FILE *file = fopen("/proc/self/status", "re");
        char line[256];
        unsigned long long threads;

        if (!file)
                return;
        while (fgets(line, sizeof line, file))
                if (sscanf(line, "Threads: %llu", &threads) == 1)
                        ret->threads = threads;
        fclose(file);
}

void process_look(struct ops_process *ret)
{
        struct rusage usage;
        struct sysinfo machine;

        *ret = (struct ops_process){0};
        if (getrusage(RUSAGE_SELF, &usage) == 0)
                ret->cpu_seconds = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                                   (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
        if (getloadavg(ret->load_average, 3) != 3)
                ret->load_average[0] = ret->load_average[1] = ret->load_average[2] = 0;
        if (sysinfo(&machine) == 0) {
                ret->machine_memory_bytes = (uint64_t)machine.totalram * machine.mem_unit;
                ret->machine_memory_free_bytes = (uint64_t)machine.freeram * machine.mem_unit;
        }
        look_at_memory(ret);
        look_at_threads(ret);
}
