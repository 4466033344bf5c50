/* Delivery to a topic of the fact bus: one fact for each batch, with the key of the subscription as the
 * topic. A fact may be missed, so who must not miss an event reads from the position that it names; the
 * checkpoint moves as it does for any consumer. */
#include "emitter/room.h"

enum { TOPIC_WINDOW = 64 };

static void tell(struct worker *w, uint64_t first_position, const struct event_id *ids, unsigned count)
{
        struct pool *p = w->pool;
        struct fact_payload payload = {.position = first_position, .count = count};

        if (!count)
                return;
        fact_set_stream(&payload, p->stream, name_hash(p->stream));
        fact_set_text(
                &payload, "%.*s", (int)MIN(p->key.size, (size_t)FACT_TEXT_SIZE), (const char *)p->key.data);
        control_publish(p->emitter->control, FACT_notification_triggered, &payload);
        consumer_ack(w->consumer, ids, count);
}

static void run(struct worker *w)
{
        struct consumer_message message;
        struct event_id ids[TOPIC_WINDOW];
        uint64_t first_position = 0;
        unsigned count = 0;
        int r;

        while ((r = consumer_next(w->consumer, &message)) == 0) {
                const struct event_view *v = item_source(&message.item);

                if (!count)
                        first_position = v->position;
                ids[count++] = v->id;
                if (count < TOPIC_WINDOW)
                        continue;
                tell(w, first_position, ids, count);
                count = 0;
        }
        tell(w, first_position, ids, count);
        if (r != CONSUMER_WAIT)
                worker_lost(w);
}

const struct worker_kind topic_worker = {.window = TOPIC_WINDOW, .run = run};
