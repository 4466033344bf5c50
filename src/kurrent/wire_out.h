/* Writing protobuf by hand, for the answers that come for every event and every append: sizes are computed once, then the
 * bytes are written straight behind what is in the buffer. Everything else is packed by the generated code. */
#ifndef KURRENT_WIRE_OUT_H
#define KURRENT_WIRE_OUT_H

#include "kurrent/wire_in.h"
#include "store/store.h"

/* How events are written, and the text of the time of the last one: events of one append share it. The empty value is all
 * zero. */
struct wire_events {
        bool is_uuid_text;
        uint8_t created_size;
        char created[20];
        uint64_t created_us;
};

/* ReadResp with an event, a link, or a link and its target. */
void wire_out_event(struct wire_events *w, const struct store_read_item *item, struct buffer *out);
/* The same of a persistent subscription. `retry_count`: at most INT32_MAX. */
void wire_out_group_event(
        struct wire_events *w, const struct store_read_item *item, uint32_t retry_count, struct buffer *out);

/* What an append that succeeded gave. */
struct wire_success {
        struct store_stream_outcome outcome;
        bool has_position;
        uint64_t position;
};
/* AppendResp */
void wire_out_append(const struct wire_success *success, struct buffer *out);

/* What every answer of BatchAppend repeats of its request. */
struct wire_asked {
        struct wire_uuid correlation;
        struct bytes stream;
        bool has_expected;
        struct expected expected;
};
/* BatchAppendResp */
void wire_out_batch(const struct wire_asked *asked, const struct wire_success *success, struct buffer *out);

#endif
