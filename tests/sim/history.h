/* What clients saw, and the log at the end: judged afterwards, without knowing how the store works.
 *
 * Each event that is asked to be written has content of its own, so a row of the log names the append that
 * wrote it. The rules, linear in the number of events but for one sort (reliability: C2 to C7, C9, C11):
 *   gapless      positions are 0, 1, 2, ...; revisions of each stream too; nothing follows a tombstone
 *   lost, place  each acknowledged event is there, where the answer said
 *   never        of a refused append, and of a duplicate, nothing is there
 *   atomic       an append is there whole, in one piece and in one record, or not at all
 *   once         no append is there twice
 *   foreign      nothing is there that nobody sent, but what the store itself writes
 *   expectation  the exact revision that was expected stood before the event
 *   conflict     a refusal named a revision that the stream had during the call
 *   time         what was acknowledged or read before another append began stands before it
 *   read         a read saw all that was acknowledged or read before it began
 *   retry        a duplicate's answer names the place where its ids stand */
#ifndef TESTS_SIM_HISTORY_H
#define TESTS_SIM_HISTORY_H

#include "model/event.h"

enum history_outcome { HISTORY_UNKNOWN, HISTORY_OK, HISTORY_DUPLICATE, HISTORY_REFUSED, HISTORY_CONFLICT };

struct history_stream {
        uint32_t side;
        struct expected expected;
        bool has_revision; /* told by the answer */
        uint64_t revision;
};
struct history_event {
        uint32_t side;
        struct event_id id;
        uint64_t content;
};
struct history_op {
        uint64_t begin; /* ticks of a clock that only counts */
        uint64_t end;   /* of the answer; UINT64_MAX: none came */
        enum history_outcome outcome;
        uint64_t first_position;
        uint64_t position;
        uint32_t failed; /* of a conflict: which of its streams */
        uint32_t first_stream;
        uint32_t stream_count;
        uint32_t first_event;
        uint32_t event_count;
};
struct history_read {
        uint64_t begin;
        uint64_t end;
        uint64_t length; /* of the log, as it was read */
};
struct history_row {
        uint64_t position;
        uint64_t revision;
        uint64_t record;
        uint64_t content; /* 0: the store wrote it */
        uint32_t side;
        struct event_id id;
};

struct history {
        uint64_t tick;
        struct history_op *ops;
        uint32_t op_count, op_capacity;
        struct history_stream *streams;
        uint32_t stream_count, stream_capacity;
        struct history_event *events;
        uint32_t event_count, event_capacity;
        struct history_read *reads;
        uint32_t read_count, read_capacity;
        struct history_row *rows;
        uint32_t row_count, row_capacity;
};

void history_fini(struct history *h);
/* Begins an append; gives its number. Streams and events are added before the next begins. */
uint32_t history_begin(struct history *h);
void history_add_stream(struct history *h, uint32_t side, struct expected expected);
void history_add_event(struct history *h, uint32_t side, const struct event_id *id, uint64_t content);
/* The answer came; the caller fills in what it said. */
struct history_op *history_end(struct history *h, uint32_t op, enum history_outcome outcome);
void history_add_read(struct history *h, uint64_t begin, uint64_t length);
void history_add_row(struct history *h, const struct history_row *row);

/* True: the history could be. Else `ret_problem` (256 bytes) names the rule and the place. */
bool history_check(const struct history *h, char ret_problem[256]);

#endif
