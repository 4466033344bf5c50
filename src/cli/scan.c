/* Walks over the log, and what is looked for in its events. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cli/scan.h"

enum { NAME_SIZE_MAX = 256, TIME_SIZE_MAX = 40 };

/* ---- the walk ---- */

static void show_progress(struct scan *s)
{
        uint64_t done = s->has_looked ? (s->is_backward ? s->first - s->at : s->at - s->first) + 1 : 0;

        progress_at(&s->progress, done, done);
}

static bool on_event(void *arg, const char *json, size_t size)
{
        struct scan *s = arg;
        uint64_t position;

        if (!nilo_json_number(json, size, "position", &position))
                return true;
        if (s->is_backward ? position < s->last : position > s->last) {
                s->at = s->last;
                s->has_looked = true;
                return false;
        }
        s->at = position;
        s->has_looked = true;
        show_progress(s);
        return s->each(s->arg, json, size) && position != s->last && !cli_is_interrupted();
}

/* While the server passes over what a filter leaves out, too. */
static bool on_idle(void *arg)
{
        struct scan *s = arg;

        show_progress(s);
        return !cli_is_interrupted();
}

enum nilo_result scan_run(struct scan *s, const struct nilo_read_options *filter)
{
        struct nilo_read_options options = {0};
        enum nilo_result result;

        if (filter)
                options = *filter;
        options.is_backward = s->is_backward;
        options.from = s->first;
        s->has_looked = false;
        progress_begin(&s->progress, s->line, s->what, "events",
                (s->is_backward ? s->first - s->last : s->last - s->first) + 1);
        nilo_client_on_idle(s->client, on_idle, s);
        result = nilo_client_read(s->client, &options, on_event, s);
        nilo_client_on_idle(s->client, NULL, NULL);
        progress_end(&s->progress);
        return result;
}

bool scan_is_whole(const struct scan *s)
{
        return s->has_looked && s->at == s->last;
}

struct newest {
        bool is_there;
        uint64_t position;
};

static bool on_newest(void *arg, const char *json, size_t size)
{
        struct newest *n = arg;

        n->is_there = nilo_json_number(json, size, "position", &n->position);
        return false;
}

enum nilo_result scan_newest(struct nilo_client *client, bool *ret_is_there, uint64_t *ret)
{
        struct nilo_read_options options = {.is_backward = true, .from_end = true, .limit = 1};
        struct newest n = {0};
        enum nilo_result result = nilo_client_read(client, &options, on_newest, &n);

        *ret_is_there = n.is_there;
        *ret = n.position;
        return result;
}

bool scan_limit(const struct cli_line *line, uint64_t *ret)
{
        if (!cli_number_of(line, "scan", SCAN_EVENTS_DEFAULT, ret))
                return false;
        if (!*ret)
                *ret = UINT64_MAX;
        return true;
}

/* ---- fields ---- */

bool scan_field(const char *json, size_t size, const char *path, const char **ret, size_t *ret_size)
{
        char name[NAME_SIZE_MAX];
        const char *dot;

        /* A name that has points in it itself goes first. */
        if (nilo_json_field(json, size, path, ret, ret_size))
                return true;
        for (dot = strchr(path, '.'); dot; dot = strchr(path, '.')) {
                if ((size_t)(dot - path) >= sizeof name)
                        return false;
                snprintf(name, sizeof name, "%.*s", (int)(dot - path), path);
                if (!nilo_json_field(json, size, name, &json, &size))
                        return false;
                path = dot + 1;
        }
        return nilo_json_field(json, size, path, ret, ret_size);
}

static bool is_number(const char *text, double *ret)
{
        char *end;

        *ret = strtod(text, &end);
        return end != text && !*end && (*text == '-' || (*text >= '0' && *text <= '9'));
}

bool scan_equals(const char *value, size_t value_size, const char *text)
{
        size_t size = strlen(text);
        char spelled[64];
        double a;
        double b;

        if (value_size == size && memcmp(value, text, size) == 0)
                return true;
        if (value_size == size + 2 && *value == '"' && memcmp(value + 1, text, size) == 0 &&
                !memchr(value, '\\', value_size))
                return true;
        if (*value == '"' && memchr(value, '\\', value_size)) {
                /* The value of an object made of it, which undoes the escapes. */
                struct buffer object = {0};
                char *string;
                bool is_equal;

                buffer_format(&object, "{\"v\":%.*s}", (int)value_size, value);
                string = nilo_json_string((const char *)object.data, object.size, "v");
                is_equal = string && strcmp(string, text) == 0;
                free(string);
                buffer_fini(&object);
                return is_equal;
        }
        /* 1.10 is 1.1; digits that a double does not hold have to be spelt alike. */
        if (value_size >= sizeof spelled || value_size > 15 || size > 15)
                return false;
        snprintf(spelled, sizeof spelled, "%.*s", (int)value_size, value);
        return is_number(spelled, &a) && is_number(text, &b) && a == b;
}

/* ---- times ---- */

static bool parse_rfc3339(const char *text, uint64_t *ret_us)
{
        struct tm t = {0};
        const char *rest = strptime(text, "%Y-%m-%d", &t);
        uint64_t us = 0;
        time_t seconds;

        if (!rest)
                return false;
        if (*rest == 'T' || *rest == ' ') {
                rest = strptime(rest + 1, "%H:%M:%S", &t);
                if (!rest)
                        return false;
                if (*rest == '.') {
                        uint64_t unit = 100000;

                        for (rest++; *rest >= '0' && *rest <= '9'; rest++, unit /= 10)
                                us += (uint64_t)(*rest - '0') * unit;
                }
        }
        seconds = timegm(&t);
        if ((*rest && strcmp(rest, "Z") != 0) || seconds < 0)
                return false;
        *ret_us = (uint64_t)seconds * 1000000 + us;
        return true;
}

bool scan_time(const char *json, size_t size, uint64_t *ret_us)
{
        const char *value;
        size_t value_size;
        char text[TIME_SIZE_MAX];

        if (!nilo_json_field(json, size, "time", &value, &value_size) || value_size < 2 ||
                value_size - 2 >= sizeof text)
                return false;
        snprintf(text, sizeof text, "%.*s", (int)value_size - 2, value + 1);
        return parse_rfc3339(text, ret_us);
}

bool scan_parse_time(const char *text, uint64_t *ret_us)
{
        static const struct {
                char letter;
                uint64_t seconds;
        } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 24 * 3600}};
        struct timespec now;
        char *end;
        uint64_t n;

        if (strchr(text, '-'))
                return parse_rfc3339(text, ret_us);
        errno = 0;
        n = strtoull(text, &end, 10);
        clock_gettime(CLOCK_REALTIME, &now);
        for (size_t i = 0; i < COUNT_OF(units); i++) {
                uint64_t now_s = (uint64_t)now.tv_sec;

                if (*text < '0' || *text > '9' || errno || *end != units[i].letter || end[1])
                        continue;
                *ret_us = n < now_s / units[i].seconds ? (now_s - n * units[i].seconds) * 1000000 : 0;
                return true;
        }
        return false;
}
