/* What belongs to one event, by correlation and causation, and the tree that it makes. */
#ifndef CLI_TRACE_H
#define CLI_TRACE_H

#include "cli/screen.h"

enum { TRACE_EVENTS_MAX = 10000, TRACE_ID_SIZE = 128, TRACE_NONE = -1 };

struct trace_event {
        char id[TRACE_ID_SIZE];
        char cause[TRACE_ID_SIZE];       /* "": it names none */
        char correlation[TRACE_ID_SIZE];
        uint64_t position;
        uint64_t revision;
        uint64_t time_us;
        char *stream;
        char *type;
        char *json; /* as the server wrote it */
        /* the tree: places in the array */
        int parent;
        int first_child;
        int last_child;
        int next_sibling;
        unsigned depth;
};

struct trace {
        struct trace_event *events; /* in the order of the log */
        unsigned count;
        unsigned capacity;
        int *slots; /* by id: places in the array */
        unsigned slot_count;
};
void trace_init(struct trace *t, unsigned capacity); /* at most TRACE_EVENTS_MAX */
void trace_fini(struct trace *t);
/* What the metadata of an event says, in KurrentDB's spelling ($correlationId, $causationId) and others'. False: it is no
 * event. The texts and the JSON are not kept. */
bool trace_read(const char *json, size_t size, struct trace_event *ret);
/* Takes the texts of an event. Those come in the order of the log. False: it is full. */
bool trace_add(struct trace *t, const struct trace_event *e, const char *json, size_t size);
/* The place of an event by its id; TRACE_NONE. */
int trace_find(const struct trace *t, const char *id);
void trace_link(struct trace *t); /* makes the tree */
/* The place behind `at` in the order of the tree, each before its effects; TRACE_NONE: the end. Begins with TRACE_NONE. */
int trace_next(const struct trace *t, int at);
/* The tree as a page of lines. `named` is marked; TRACE_NONE: none. */
void trace_show(const struct trace *t, int named, struct frame *f);
void trace_json(const struct trace *t, int at, struct buffer *out);

#endif
