/* How old what nobody has read yet is: the time of one event, looked up when somebody asks for a lag. Its
 * bytes are not waited for if they are not in memory; the look brings them there for whoever asks again. */
#include "notification/room.h"

enum { AGES_PER_TURN = 64 };

/* Nobody waits for it: the reader is closed by then. */
static void on_ready(void *arg)
{
        (void)arg;
}

bool notification_time_of(struct notification *n, struct bytes stream, uint64_t number, uint64_t *ret_us)
{
        struct store_read_options options = {
                .stream = stream, .from = FROM_NUMBER, .number = number, .limit = 1, .on_ready = on_ready};
        uint64_t now = os_turn_time(n->os).monotonic_us;
        struct store_reader *reader = NULL;
        struct store_read_item item;
        int r;

        if (n->ages_at_us != now) {
                n->ages_at_us = now;
                n->ages = 0;
        }
        if (n->ages == AGES_PER_TURN)
                return false;
        n->ages++;
        r = store_reader_open(n->store, &options, &reader);
        if (!r)
                r = store_reader_next(reader, &item);
        if (!r)
                *ret_us = item.event.time_us;
        store_reader_close(&reader);
        return r == 0;
}
