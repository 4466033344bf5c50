/* The screen of `nilo top`: the nodes, one of them at length with its curves, its subscriptions, and the
 * keys. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/top.h"

enum {
        LABEL_WIDTH = 11,
        VALUE_WIDTH = 13,
        HIGHEST_WIDTH = 18, /* "  max 1 234.5 MiB/s" fits */
        CURVE_WIDTH_MIN = 8,
        GROUP_ROWS_MIN = 3, /* an empty one, the head and one more */
        TEXT_SIZE = 64,
};

/* ---- numbers ---- */

static void format_number(double n, char ret[TEXT_SIZE])
{
        char count[CLI_SIZE_TEXT];

        if (isnan(n)) {
                snprintf(ret, TEXT_SIZE, "-");
        } else if (n > 0 && n < 9.95 && n != floor(n)) {
                snprintf(ret, TEXT_SIZE, "%.1f", n);
        } else {
                cli_format_count((uint64_t)(n + 0.5), count);
                snprintf(ret, TEXT_SIZE, "%s", count);
        }
}

static void format_bytes(double n, char ret[TEXT_SIZE])
{
        char size[CLI_SIZE_TEXT];

        cli_format_size(isnan(n) ? 0 : (uint64_t)(n + 0.5), size);
        snprintf(ret, TEXT_SIZE, "%s", isnan(n) ? "-" : size);
}

/* Of syncs: none took no time. */
static void format_ms(double ms, char ret[TEXT_SIZE])
{
        if (!(ms > 0))
                snprintf(ret, TEXT_SIZE, "-");
        else
                snprintf(ret, TEXT_SIZE,
                        ms < 10     ? "%.2f ms"
                        : ms < 1000 ? "%.0f ms"
                                    : "%.1f s",
                        ms < 1000 ? ms : ms / 1000);
}

/* "0.4 s", "12 s", "3 min": ages are read at a glance. */
static void format_age(double seconds, char ret[TEXT_SIZE])
{
        char text[CLI_SIZE_TEXT];

        cli_format_seconds(isnan(seconds) ? 0 : seconds, text);
        if (seconds > 0 && seconds < 9.95)
                snprintf(ret, TEXT_SIZE, "%.1f s", seconds);
        else
                snprintf(ret, TEXT_SIZE, "%s", isnan(seconds) ? "-" : text);
}

static bool answers(const struct top_node *n)
{
        return !*n->problem && n->last.at_us;
}

/* ---- the head ---- */

static void show_head(
        struct frame *f, const struct top_node *nodes, unsigned count, const struct top_view *view)
{
        const struct top_node *leader = &nodes[top_leader(nodes, count)];
        char left[TOP_NAME_SIZE + 128];
        char up[TEXT_SIZE];
        int used;

        format_age(leader->numbers[TOP_UP], up);
        if (!answers(leader))
                used = snprintf(left, sizeof left, " nilo top  %s  not reached", view->url);
        else if (count == 1)
                used = snprintf(left, sizeof left, " nilo top  %s  %s, term %.0f, up %s", view->url,
                        *leader->last.state ? leader->last.state : "starting", leader->numbers[TOP_TERM], up);
        else if (strcmp(leader->last.state, "Leader") == 0)
                used = snprintf(left, sizeof left, " nilo top  %s  %u nodes, leader node %llu, term %.0f",
                        view->url, count, (unsigned long long)leader->id, leader->numbers[TOP_TERM]);
        else
                used = snprintf(left, sizeof left, " nilo top  %s  %u nodes, no leader", view->url, count);
        /* One bar over the whole width; the time gives way first. */
        if ((unsigned)used + strlen(view->time) + 3 <= f->width) {
                frame_text(f, FRAME_HEAD, (int)(f->width - strlen(view->time) - 1), left);
                frame_format(f, FRAME_HEAD, 0, "%s ", view->time);
        } else {
                frame_text(f, FRAME_HEAD, (int)f->width, left);
        }
        frame_next_row(f);
}

/* ---- nodes ---- */

static enum frame_style style_of_state(const struct top_node *n)
{
        if (!answers(n))
                return FRAME_BAD;
        if (strcmp(n->last.state, "Leader") == 0)
                return FRAME_GOOD;
        return strcmp(n->last.state, "Follower") == 0 || strcmp(n->last.state, "ReadOnlyReplica") == 0
                       ? FRAME_PLAIN
                       : FRAME_WARNING;
}

static void cell_number(struct frame *f, int width, double n)
{
        char text[TEXT_SIZE];

        format_number(n, text);
        frame_text(f, FRAME_PLAIN, -width, text);
}

static void cell_bytes(struct frame *f, int width, double n)
{
        char text[TEXT_SIZE];

        format_bytes(n, text);
        frame_text(f, FRAME_PLAIN, -width, text);
}

static void show_nodes(
        struct frame *f, const struct top_node *nodes, unsigned count, const struct top_view *view)
{
        frame_format(f, FRAME_STRONG, 0, "%-7s%-17s%10s%10s%10s%6s%9s%11s", "  NODE", "STATE", "APPENDS/S",
                "EVENTS/S", "READ/S", "CONNS", "SYNC", "MEMORY");
        frame_next_row(f);
        for (unsigned i = 0; i < count; i++) {
                const struct top_node *n = &nodes[i];
                char text[TEXT_SIZE];

                frame_format(f, i == view->node ? FRAME_STRONG : FRAME_PLAIN, 7, "%s %llu",
                        i == view->node ? ">" : " ", (unsigned long long)n->id);
                if (!answers(n)) {
                        frame_text(f, FRAME_BAD, 0, *n->problem ? n->problem : "waiting for its answer");
                        frame_next_row(f);
                        continue;
                }
                frame_text(f, style_of_state(n), 17, *n->last.state ? n->last.state : "starting");
                cell_number(f, 10, n->numbers[TOP_APPENDS]);
                cell_number(f, 10, n->numbers[TOP_EVENTS]);
                cell_number(f, 10, n->numbers[TOP_READ]);
                cell_number(f, 6, n->numbers[TOP_CONNECTIONS]);
                format_ms(n->sync_ms, text);
                frame_text(f, FRAME_PLAIN, -9, text);
                cell_bytes(f, 11, n->numbers[TOP_MEMORY]);
                frame_next_row(f);
        }
        frame_next_row(f);
}

/* ---- one node: curves ---- */

static void show_curve(struct frame *f, const char *label, const struct curve *c,
        void (*format)(double n, char ret[TEXT_SIZE]), const char *unit)
{
        unsigned fixed = LABEL_WIDTH + VALUE_WIDTH + 2;
        bool has_highest = f->width >= fixed + CURVE_WIDTH_MIN + HIGHEST_WIDTH;
        unsigned width = has_highest        ? f->width - fixed - HIGHEST_WIDTH
                         : f->width > fixed ? f->width - fixed
                                            : 0;
        char text[TEXT_SIZE];

        frame_text(f, FRAME_FAINT, LABEL_WIDTH, label);
        format(c->count ? c->values[(c->count - 1) % CURVE_VALUES_MAX] : 0, text);
        frame_format(f, FRAME_STRONG, -VALUE_WIDTH, "%s%s", text, unit);
        frame_text(f, FRAME_PLAIN, 2, "");
        frame_curve(f, FRAME_GOOD, c, MIN(width, (unsigned)CURVE_VALUES_MAX));
        if (has_highest) {
                format(curve_max(c, width), text);
                frame_format(f, FRAME_FAINT, 0, "  max %s%s", text, unit);
        }
        frame_next_row(f);
}

static void show_curves(struct frame *f, const struct top_node *n)
{
        show_curve(f, "appends", &n->appends, format_number, "/s");
        show_curve(f, "events", &n->events, format_number, "/s");
        show_curve(f, "read", &n->read, format_number, "/s");
        show_curve(f, "delivered", &n->delivered, format_number, "/s");
        show_curve(f, "received", &n->received, format_bytes, "/s");
        show_curve(f, "sent", &n->sent, format_bytes, "/s");
        show_curve(f, "disk sync", &n->syncs, format_ms, "");
        frame_next_row(f);
}

/* ---- one node: numbers ---- */

/* Pairs of a name and a value, one behind the other; those that do not fit go to the next row. */
static void pair(struct frame *f, enum frame_style style, const char *name, const char *value)
{
        unsigned width = (unsigned)(strlen(name) + strlen(value)) + 1;

        if (f->column && f->column + 3 + width > f->width)
                frame_next_row(f);
        if (f->column)
                frame_text(f, FRAME_PLAIN, 3, "");
        frame_format(f, FRAME_FAINT, 0, "%s ", name);
        frame_text(f, style, 0, value);
}

static void pair_number(struct frame *f, enum frame_style style, const char *name, double n, const char *unit)
{
        char text[TEXT_SIZE];
        char value[TEXT_SIZE + 16];

        format_number(n, text);
        snprintf(value, sizeof value, "%s%s", text, unit);
        pair(f, style, name, value);
}

static void pair_bytes(struct frame *f, enum frame_style style, const char *name, double n)
{
        char text[TEXT_SIZE];

        format_bytes(n, text);
        pair(f, style, name, text);
}

static void pair_lag(struct frame *f, double events, double seconds)
{
        char count[TEXT_SIZE];
        char age[TEXT_SIZE];
        char value[2 * TEXT_SIZE + 16];

        format_number(events, count);
        format_age(seconds, age);
        snprintf(value, sizeof value, "%s events, %s", count, age);
        pair(f, seconds >= 60 ? FRAME_BAD : seconds >= 5 ? FRAME_WARNING : FRAME_PLAIN, "worst lag", value);
}

static void show_numbers(struct frame *f, const struct top_node *node)
{
        const double *n = node->numbers;
        char text[TEXT_SIZE];

        pair_number(f, FRAME_PLAIN, "conflicts", n[TOP_CONFLICTS], "/s");
        pair_number(f, n[TOP_REFUSED] > 0 ? FRAME_WARNING : FRAME_PLAIN, "refused", n[TOP_REFUSED], "/s");
        pair_number(f, FRAME_PLAIN, "requests", n[TOP_REQUESTS], "/s");
        pair_number(f, FRAME_PLAIN, "gRPC calls", n[TOP_CALLS], "/s");
        pair_number(f, FRAME_PLAIN, "connections", n[TOP_CONNECTIONS], "");
        frame_next_row(f);
        pair_number(f, FRAME_PLAIN, "subscriptions", n[TOP_LIVE] + n[TOP_HISTORY], "");
        pair_number(f, FRAME_PLAIN, "in history", n[TOP_HISTORY], "");
        pair_lag(f, n[TOP_LAG], n[TOP_LAG_SECONDS]);
        frame_next_row(f);
        pair_number(f, FRAME_PLAIN, "groups", n[TOP_GROUPS], "");
        pair_number(f, FRAME_PLAIN, "consumers", n[TOP_CONSUMERS], "");
        pair_number(f, FRAME_PLAIN, "in flight", n[TOP_IN_FLIGHT], "");
        pair_number(f, node->parked > 0 ? FRAME_WARNING : FRAME_PLAIN, "parked", node->parked, "");
        pair_lag(f, n[TOP_GROUP_LAG], n[TOP_GROUP_LAG_SECONDS]);
        frame_next_row(f);
        format_ms(n[TOP_SYNC_MAX] * 1000, text);
        pair_number(f, FRAME_PLAIN, "processor", n[TOP_CPU] * 100, " %");
        pair_bytes(f, FRAME_PLAIN, "memory", n[TOP_MEMORY]);
        pair_bytes(f, FRAME_PLAIN, "log", n[TOP_LOG]);
        pair_bytes(f, FRAME_PLAIN, "index", n[TOP_INDEX]);
        if (n[TOP_FULL] > 0)
                pair(f, FRAME_BAD, "disk", "FULL: appends are refused");
        else
                pair_bytes(f, FRAME_PLAIN, "disk free", n[TOP_FREE]);
        pair(f, FRAME_PLAIN, "longest sync", text);
        frame_next_row(f);
}

/* ---- one node: groups ---- */

static const char *const sort_names[TOP_SORTS] = {
        [TOP_BY_LAG] = "lag",
        [TOP_BY_AGE] = "age",
        [TOP_BY_PARKED] = "parked",
        [TOP_BY_RATE] = "rate",
        [TOP_BY_NAME] = "name",
};

static int by_name(const struct top_group *a, const struct top_group *b)
{
        int order = strcmp(a->stream, b->stream);

        return order ? order : strcmp(a->group, b->group);
}

/* The highest first; equal ones by name, so that they do not jump about. */
static int by_number(double a, double b, const struct top_group *x, const struct top_group *y)
{
        return a > b ? -1 : a < b ? 1 : by_name(x, y);
}

static int compare(const void *a, const void *b, void *sort)
{
        const struct top_group *x = a;
        const struct top_group *y = b;

        switch (*(const enum top_sort *)sort) {
        case TOP_BY_AGE:
                return by_number(x->lag_seconds, y->lag_seconds, x, y);
        case TOP_BY_PARKED:
                return by_number(x->parked, y->parked, x, y);
        case TOP_BY_RATE:
                return by_number(x->rate, y->rate, x, y);
        case TOP_BY_NAME:
                return by_name(x, y);
        default:
                return by_number(x->lag_events, y->lag_events, x, y);
        }
}

static void show_group(struct frame *f, const struct top_group *g, int name_width)
{
        char text[TEXT_SIZE];

        frame_text(f, FRAME_PLAIN, name_width - 1, g->group);
        frame_text(f, FRAME_PLAIN, 1, "");
        frame_text(f, FRAME_PLAIN, name_width - 1, g->stream);
        frame_text(f, FRAME_PLAIN, 1, "");
        cell_number(f, 10, g->lag_events);
        format_age(g->lag_seconds, text);
        frame_text(f, g->lag_seconds >= 5 ? FRAME_WARNING : FRAME_PLAIN, -9, text);
        cell_number(f, 11, g->in_flight);
        format_number(g->parked, text);
        frame_text(f, g->parked > 0 ? FRAME_WARNING : FRAME_PLAIN, -8, text);
        cell_number(f, 10, g->rate);
        frame_next_row(f);
}

static void show_groups(struct frame *f, struct top_node *node, const struct top_view *view)
{
        struct top_sample *s = &node->last;
        enum top_sort sort = view->sort;
        int numbers_width = 10 + 9 + 11 + 8 + 10;
        int name_width = MAX(((int)f->width - numbers_width) / 2, 12);

        if (!s->group_count || frame_rows_left(f) < GROUP_ROWS_MIN)
                return;
        qsort_r(s->groups, s->group_count, sizeof s->groups[0], compare, &sort);
        frame_next_row(f);
        frame_format(f, FRAME_STRONG, 0, "%-*s%-*s%10s%9s%11s%8s%10s", name_width, "GROUP", name_width,
                "STREAM", "LAG", "AGE", "IN FLIGHT", "PARKED", "EVENTS/S");
        frame_next_row(f);
        for (unsigned i = 0; i < s->group_count && frame_rows_left(f); i++)
                show_group(f, &s->groups[i], name_width);
}

/* ---- all of it ---- */

static void show_keys(struct frame *f, unsigned count, const struct top_view *view)
{
        while (frame_rows_left(f) > 1)
                frame_next_row(f);
        frame_format(f, FRAME_FAINT, 0, "q quit  p %s  s sorted by %s%s  every %g s",
                view->is_paused ? "go on" : "pause", sort_names[view->sort], count > 1 ? "  n next node" : "",
                view->interval_seconds);
        if (view->is_paused)
                frame_text(f, FRAME_WARNING, 0, "  PAUSED");
}

void top_show(struct frame *f, struct top_node *nodes, unsigned count, const struct top_view *view)
{
        struct top_node *node = &nodes[view->node];
        unsigned height = f->height;

        /* The last row is for the keys, however little room there is. */
        f->height -= view->has_keys && height > 1;
        show_head(f, nodes, count, view);
        if (count > 1)
                show_nodes(f, nodes, count, view);
        if (answers(node) || node->last.at_us) {
                if (*node->problem) {
                        frame_format(f, FRAME_BAD, 0, "not reached, these are its last numbers: %s",
                                node->problem);
                        frame_next_row(f);
                }
                show_curves(f, node);
                show_numbers(f, node);
                show_groups(f, node, view);
        } else if (count == 1) {
                frame_text(f, FRAME_BAD, 0, *node->problem ? node->problem : "waiting for its answer");
                frame_next_row(f);
        }
        frame_grow(f, height);
        if (view->has_keys)
                show_keys(f, count, view);
}
