#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void load_die(const char *what)
{
        perror(what);
        exit(1);
}

uint64_t load_now_us(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

void load_sample(struct load_samples *s, uint64_t us)
{
        if (s->count == s->capacity) {
                s->capacity = s->capacity ? s->capacity * 2 : 4096;
                s->us = realloc(s->us, s->capacity * sizeof *s->us);
                if (!s->us)
                        load_die("realloc");
        }
        s->us[s->count++] = us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

static int by_value(const void *a, const void *b)
{
        uint32_t x = *(const uint32_t *)a;
        uint32_t y = *(const uint32_t *)b;

        return (x > y) - (x < y);
}

void load_print(uint64_t operations, uint64_t events, double seconds, struct load_samples *samples)
{
        uint32_t p50 = 0;
        uint32_t p99 = 0;

        if (samples && samples->count) {
                qsort(samples->us, samples->count, sizeof *samples->us, by_value);
                p50 = samples->us[samples->count / 2];
                p99 = samples->us[samples->count * 99 / 100];
        }
        printf("{\"operations\":%llu,\"events\":%llu,\"seconds\":%.3f,\"events_per_second\":%.0f,\"p50_us\":%"
               "u,\"p99_us\":%u}\n",
                (unsigned long long)operations, (unsigned long long)events, seconds, (double)events / seconds,
                p50, p99);
}

static const struct {
        const char *name;
        int (*run)(const struct load_options *o);
} verbs[] = {
        {"floor-server", load_floor_server},
        {"floor", load_floor},
        {"fdatasync", load_fdatasync},
        {"grpc-append", load_grpc_append},
        {"grpc-read", load_grpc_read},
        {"grpc-follow", load_grpc_follow},
        {"grpc-group", load_grpc_group},
        {"grpc-live", load_grpc_live},
        {"embed-append", load_embed_append},
        {"embed-read", load_embed_read},
        {"embed-fill", load_embed_fill},
        {"embed-flat", load_embed_flat},
        {"embed-open", load_embed_open},
        {"facts", load_facts},
};

static int usage(void)
{
        fprintf(stderr, "usage: nilo-load VERB [--port N] [--connections N] [--writers N] [--batch N] "
                        "[--size N] [--seconds S]\n"
                        "                 [--stream NAME] [--file PATH] [--other NAME] [--count N]\n"
                        "                 [--streams N] [--window N] [--rate N] [--json 1] [--ordered 1] "
                        "[--tls 1]\nverbs:");
        for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
                fprintf(stderr, " %s", verbs[i].name);
        fprintf(stderr, "\n");
        return 2;
}

static int parse(int argc, char **argv, struct load_options *o)
{
        for (int i = 2; i + 1 < argc; i += 2) {
                const char *flag = argv[i];
                const char *value = argv[i + 1];

                if (strcmp(flag, "--port") == 0)
                        o->port = (uint16_t)atoi(value);
                else if (strcmp(flag, "--connections") == 0)
                        o->connections = (unsigned)atoi(value);
                else if (strcmp(flag, "--writers") == 0)
                        o->writers = (unsigned)atoi(value);
                else if (strcmp(flag, "--batch") == 0)
                        o->batch = (unsigned)atoi(value);
                else if (strcmp(flag, "--size") == 0)
                        o->size = (unsigned)atoi(value);
                else if (strcmp(flag, "--seconds") == 0)
                        o->seconds = atof(value);
                else if (strcmp(flag, "--stream") == 0)
                        o->stream = value;
                else if (strcmp(flag, "--file") == 0)
                        o->file = value;
                else if (strcmp(flag, "--other") == 0)
                        o->other = value;
                else if (strcmp(flag, "--count") == 0)
                        o->count = strtoull(value, NULL, 10);
                else if (strcmp(flag, "--streams") == 0)
                        o->streams = (unsigned)atoi(value);
                else if (strcmp(flag, "--window") == 0)
                        o->window = (unsigned)atoi(value);
                else if (strcmp(flag, "--rate") == 0)
                        o->rate = strtoull(value, NULL, 10);
                else if (strcmp(flag, "--json") == 0)
                        o->is_json = atoi(value);
                else if (strcmp(flag, "--tls") == 0)
                        o->is_tls = atoi(value);
                else if (strcmp(flag, "--ordered") == 0)
                        o->is_ordered = atoi(value);
                else
                        return usage();
        }
        return argc % 2 ? usage() : 0;
}

int main(int argc, char **argv)
{
        struct load_options o = {
                .address = "127.0.0.1",
                .connections = 1,
                .writers = 1,
                .batch = 1,
                .size = 256,
                .seconds = 2,
                .stream = "bench",
                .file = "floor.log",
                .other = "other",
                .count = 100000,
                .streams = 1,
                .window = 100,
        };

        if (argc < 2 || parse(argc, argv, &o))
                return usage();
        for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
                if (strcmp(argv[1], verbs[i].name) == 0)
                        return verbs[i].run(&o);
        return usage();
}
