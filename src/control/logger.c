/* Loggers: one LoggerWorker per subsystem, a watcher for the facts that the subsystem publishes up to its
 * level; and the sink, through which all of them write. A fact above the level costs no more than one that
 * nobody watches.
 *
 * The lines of one delivery are merged in the order of the facts, since people read a log from top to bottom.
 *
 * The loop must not wait for whoever reads the log. O_NONBLOCK on the descriptor itself would change it for
 * every process that shares it, such as the shell that started us; a writer on the background lane would hold
 * the sealing of segments, and the end of the process, for as long as the reader sleeps. So:
 *   - a pipe or a terminal is opened once more through /proc, which gives a description of our own that can
 * be made non-blocking without anybody noticing;
 *   - a socket (the journal's) is written with a flag that says per call that it does not wait;
 *   - where neither is possible, poll() is asked before each write of at most PIPE_BUF bytes, which a pipe
 * that reports room takes whole. Only another writer of the same pipe between the two calls could make it
 * wait. What the descriptor does not take is kept up to a limit and tried again by timer. Lines beyond that
 * are dropped, whole and counted, and the log says how many as soon as there is room. */
#include "control/room.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
        BACKLOG_SIZE_MAX = 1024 * 1024,
        BACKLOG_SIZE_KEPT = 64 * 1024, /* memory kept when all is written */
        NOTICE_SIZE_MAX = 2048,        /* of the backlog, kept free for the line that tells of dropped ones */
        RETRY_AFTER_US = 20 * 1000,
        CLOSE_WAIT_MS_MAX = 200,
};
static_assert(PIPE_BUF >= 4096, "what poll() reports as writable takes a small write whole");

/* ---- the sink ---- */

static enum sink_way choose_way(struct log_sink *sink, int fd)
{
        char path[64];
        struct stat st;
        int own;

        if (fd < 0 || fstat(fd, &st))
                return SINK_NONE;
        sink->fd = fd;
        if (S_ISREG(st.st_mode))
                return SINK_WRITE;
        if (S_ISSOCK(st.st_mode))
                return SINK_SEND;
        if (!S_ISFIFO(st.st_mode) && !S_ISCHR(st.st_mode))
                return SINK_POLLED;
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        own = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (own < 0)
                return SINK_POLLED; /* no /proc, or the descriptor belongs to another user */
        sink->fd = own;
        sink->owns_fd = true;
        return SINK_WRITE;
}

static bool would_wait(int error)
{
        return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

static ssize_t write_polled(int fd, struct bytes bytes)
{
        struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
        int r = poll(&poll_fd, 1, 0);

        if (r == 0) {
                errno = EAGAIN;
                return -1;
        }
        if (r < 0)
                return -1;
        return write(fd, bytes.data, MIN(bytes.size, (size_t)PIPE_BUF));
}

/* Bytes written; 0 when the descriptor takes none now; -1 when it never will. */
static ssize_t write_some(struct log_sink *sink, struct bytes bytes)
{
        ssize_t n;

        switch (sink->way) {
        case SINK_WRITE:
                n = write(sink->fd, bytes.data, bytes.size);
                break;
        case SINK_SEND:
                n = send(sink->fd, bytes.data, bytes.size, MSG_DONTWAIT | MSG_NOSIGNAL);
                break;
        case SINK_POLLED:
                n = write_polled(sink->fd, bytes);
                break;
        default:
                return -1;
        }
        return n >= 0 ? n : would_wait(errno) ? 0 : -1;
}

static size_t waiting_size(const struct log_sink *sink)
{
        return sink->backlog.size - sink->sent;
}

static void drop_all(struct log_sink *sink)
{
        const uint8_t *at = sink->backlog.data;

        for (size_t i = sink->sent; i < sink->backlog.size; i++)
                sink->dropped_total += at[i] == '\n';
        sink->sent = sink->backlog.size;
}

static void write_backlog(struct log_sink *sink)
{
        while (waiting_size(sink)) {
                ssize_t n = write_some(sink, bytes_of(sink->backlog.data + sink->sent, waiting_size(sink)));

                if (n < 0) { /* the reader is gone for good: a log must not end the server */
                        sink->way = SINK_NONE;
                        drop_all(sink);
                }
                if (n == 0)
                        break;
                if (n > 0)
                        sink->sent += (size_t)n;
        }
        if (!waiting_size(sink)) {
                sink->sent = 0;
                if (sink->backlog.capacity > BACKLOG_SIZE_KEPT)
                        buffer_fini(&sink->backlog);
                else
                        buffer_clear(&sink->backlog);
        } else if (sink->sent > sink->backlog.size / 2) {
                buffer_consume(&sink->backlog, sink->sent);
                sink->sent = 0;
        }
}

static void render(struct control *control, const struct fact *fact, struct buffer *out)
{
        struct json_out j = {.out = out};

        if (control->loggers.sink.is_json)
                fact_to_json(control, fact, &j);
        else
                fact_to_text(control, fact, out);
        buffer_add_u8(out, '\n');
}

/* Keeps the line for writing if it fits: all of it or nothing. */
static bool keep_line(struct control *control, const struct fact *fact, size_t limit)
{
        struct log_sink *sink = &control->loggers.sink;
        size_t before = sink->backlog.size;

        /* A full backlog is seen before the work of rendering: the time to save is when lines come too fast.
         */
        if (waiting_size(sink) < limit) {
                render(control, fact, &sink->backlog);
                if (waiting_size(sink) <= limit)
                        return true;
                sink->backlog.size = before;
        }
        return false;
}

/* Says how many lines are missing, at the place where they are missing. */
static bool tell_dropped(struct control *control)
{
        struct log_sink *sink = &control->loggers.sink;
        struct fact fact;

        if (!sink->dropped)
                return true;
        bus_make_dropped(control, sink->dropped, "lines of the log; its reader is too slow", &fact);
        if (waiting_size(sink) > BACKLOG_SIZE_MAX / 2 || !keep_line(control, &fact, BACKLOG_SIZE_MAX))
                return false;
        sink->dropped = 0;
        return true;
}

static void add_line(struct control *control, const struct fact *fact)
{
        struct log_sink *sink = &control->loggers.sink;

        if (tell_dropped(control) && keep_line(control, fact, BACKLOG_SIZE_MAX - NOTICE_SIZE_MAX))
                return;
        sink->dropped++;
        sink->dropped_total++;
}

static void sink_flush(struct control *control)
{
        struct log_sink *sink = &control->loggers.sink;

        write_backlog(sink);
        if (sink->dropped && sink->way != SINK_NONE && tell_dropped(control))
                write_backlog(sink);
        if (waiting_size(sink))
                os_timer_start(control->os, &sink->retry, RETRY_AFTER_US);
}

static void on_retry(struct os_timer *timer)
{
        sink_flush(timer->arg);
}

static void sink_open(struct control *control, const struct control_options *options)
{
        struct log_sink *sink = &control->loggers.sink;

        sink->is_json = options->log_json;
        sink->way = choose_way(sink, options->log_fd);
        sink->retry = (struct os_timer){.fn = on_retry, .arg = control};
}

/* Whoever stops the server may wait for it to end, so a reader that sleeps is waited for only briefly. */
static void sink_close(struct log_sink *sink)
{
        struct pollfd poll_fd = {.fd = sink->fd, .events = POLLOUT};

        os_timer_stop(&sink->retry);
        write_backlog(sink);
        while (waiting_size(sink) && poll(&poll_fd, 1, CLOSE_WAIT_MS_MAX) == 1) {
                size_t before = waiting_size(sink);

                write_backlog(sink);
                if (waiting_size(sink) == before)
                        break;
        }
        drop_all(sink);
        buffer_fini(&sink->backlog);
        if (sink->owns_fd)
                close(sink->fd);
        sink->way = SINK_NONE;
}

/* ---- the loggers ---- */

/* The rendering waits until all watchers were told, so that the lines can be merged. */
static void on_facts(struct control_watcher *watcher)
{
        watcher->control->loggers.has_news = true;
}

static void logger_watch(struct control *control, enum subsystem subsystem)
{
        struct logger *logger = &control->loggers.all[subsystem];

        logger->watcher = (struct control_watcher){
                .on_facts = on_facts,
                .categories = (1u << CATEGORIES) - 1,
                .level = logger->level,
        };
        bus_set_wants(&logger->watcher, subsystem);
        bus_join(control, &logger->watcher, false);
}

static void tell_missed(struct control *control, enum subsystem subsystem)
{
        uint64_t missed = bus_take_missed(&control->loggers.all[subsystem].watcher);
        char what[FACT_TEXT_SIZE];
        struct fact fact;

        if (!missed)
                return;
        snprintf(what, sizeof what, "the logger of %s", subsystem_name(subsystem));
        bus_make_dropped(control, missed, what, &fact);
        add_line(control, &fact);
}

/* The logger whose next fact is the oldest, or NULL when none has one. */
static struct logger *find_first(struct control *control, uint64_t limit)
{
        struct logger *first = NULL;

        for (unsigned i = 0; i < SUBSYSTEMS; i++) {
                struct logger *logger = &control->loggers.all[i];

                if (!logger->watcher.control)
                        continue;
                if (bus_seek(&logger->watcher, limit) &&
                        (!first || logger->watcher.next_sequence < first->watcher.next_sequence))
                        first = logger;
                tell_missed(control, i);
        }
        return first;
}

void loggers_drain(struct control *control, uint64_t limit)
{
        struct logger *logger;
        struct fact fact;

        control->loggers.has_news = false;
        while ((logger = find_first(control, limit))) {
                bus_take_found(&logger->watcher, &fact);
                add_line(control, &fact);
        }
        sink_flush(control);
}

void loggers_open(struct control *control, const struct control_options *options)
{
        sink_open(control, options);
        for (unsigned i = 0; i < SUBSYSTEMS; i++) {
                control->loggers.all[i].level = options->log_level;
                if (control->loggers.sink.way != SINK_NONE)
                        logger_watch(control, i);
        }
}

void loggers_close(struct control *control)
{
        loggers_drain(control, control->stats.published);
        for (unsigned i = 0; i < SUBSYSTEMS; i++)
                control_unwatch(&control->loggers.all[i].watcher);
        sink_close(&control->loggers.sink);
}

/* What was published before the change is shown by the old level. */
void control_set_log_level(struct control *control, enum subsystem subsystem, enum log_level level)
{
        struct logger *logger = &control->loggers.all[subsystem];
        struct fact_payload payload = {.subsystem = (uint8_t)subsystem};

        assert((unsigned)subsystem < SUBSYSTEMS);
        assert((unsigned)level < LEVELS);
        if (logger->level == level)
                return;
        logger->level = level;
        if (logger->watcher.control) {
                loggers_drain(control, control->stats.published);
                control_unwatch(&logger->watcher);
                logger_watch(control, subsystem);
        }
        fact_set_text(&payload, "%s", log_level_name(level));
        control_publish(control, FACT_log_level_changed, &payload);
}

enum log_level control_log_level(const struct control *control, enum subsystem subsystem)
{
        assert((unsigned)subsystem < SUBSYSTEMS);
        return control->loggers.all[subsystem].level;
}
