/* Import: events from lines of JSON, exactly once however often it is interrupted.
 *
 * A batch of lines is one atomic append over all streams they name, in the order of the lines, and carries
 * one event more: how far the import has come, in a stream of its own (`$nilo-import-NAME`) with the revision
 * of the last such event expected. So progress and events are written together or not at all, for any number
 * of events and without trusting the window of event ids. An import that starts reads the newest of them and
 * passes over the lines before it; a batch whose outcome is unknown is looked up in the same place.
 *
 * The name is the file's with a sum of its first line, so that a file is known again when it has grown; the
 * sum of everything that was imported tells that the lines passed over are the same ones. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/json_out.h"
#include "base/memory.h"
#include "cli/command.h"

enum {
        READ_SIZE = 1 << 20,
        LINE_SIZE_MAX = 32 << 20, /* an event has 16 MiB at most, somewhat more in base64 */
        BATCH_EVENTS_DEFAULT = 2000,
        BATCH_EVENTS_MAX = 50000,
        BATCH_SIZE_MAX = 4 << 20, /* a batch ends behind the line that exceeds it */
        BATCH_STREAMS_MAX = 999,  /* one append has 1000, one of them is the import's own */
        STREAM_SLOTS = 4096,
        NAME_SIZE_MAX = 200,
        WAIT_MS_MIN = 100,
        WAIT_MS_MAX = 2000,
        WAIT_MS_TOTAL = 60000, /* for a server that does not answer */
};
static_assert(STREAM_SLOTS >= 4 * BATCH_STREAMS_MAX, "counting streams stays short");

/* How far the import is. */
struct place {
        uint64_t lines;
        uint64_t size; /* bytes */
        uint64_t events;
        uint64_t sum; /* CRC-32C of those bytes */
};

struct import {
        const struct cli_line *line;
        struct nilo_client *client;
        /* input */
        const char *file; /* as people name it */
        int fd;
        uint64_t file_size; /* 0: unknown */
        struct buffer input;
        size_t input_used;
        bool is_at_end;
        /* progress */
        char stream[NAME_SIZE_MAX + 32];
        int64_t revision;    /* of the newest event there; -1: none */
        struct place stored; /* what it says */
        struct place read;   /* up to the batch's end */
        struct progress progress;
        /* the batch */
        struct buffer batch;
        uint64_t batch_events;
        uint64_t batch_events_max;
        uint64_t streams[STREAM_SLOTS]; /* sums of the names in it; 0: free */
        unsigned stream_count;
        uint64_t known; /* events that were there already, by their ids */
};

/* ---- input ---- */

static int fill(struct import *im)
{
        ssize_t n;

        buffer_consume(&im->input, im->input_used);
        im->input_used = 0;
        buffer_reserve(&im->input, READ_SIZE);
        do
                n = read(im->fd, im->input.data + im->input.size, READ_SIZE);
        while (n < 0 && errno == EINTR && !cli_is_interrupted());
        if (n < 0 && errno != EINTR)
                return cli_problem(cli_exit_of_errno(errno), "%s: %s", im->file, strerror(errno));
        im->is_at_end = n == 0;
        im->input.size += n > 0 ? (size_t)n : 0;
        return CLI_OK;
}

/* The next line with its end, valid until the next call; empty at the end of the input, and when interrupted.
 */
static int next_line(struct import *im, struct bytes *ret)
{
        size_t searched = 0;

        *ret = BYTES_EMPTY;
        for (;;) {
                const uint8_t *start = im->input.data + im->input_used;
                size_t size = im->input.size - im->input_used;
                const uint8_t *end = size > searched ? memchr(start + searched, '\n', size - searched) : NULL;
                int code;

                if (end || (im->is_at_end && size)) {
                        *ret = bytes_of(start, end ? (size_t)(end - start) + 1 : size);
                        im->input_used += ret->size;
                        return CLI_OK;
                }
                if (im->is_at_end || cli_is_interrupted())
                        return CLI_OK;
                if (size > LINE_SIZE_MAX)
                        return cli_problem(CLI_USAGE, "%s: line %" PRIu64 " is longer than %d MiB", im->file,
                                im->read.lines + 1, LINE_SIZE_MAX >> 20);
                searched = size;
                code = fill(im);
                if (code)
                        return code;
        }
}

static void pass(struct place *p, struct bytes line)
{
        p->lines++;
        p->size += line.size;
        p->sum = crc32c((uint32_t)p->sum, line.data, line.size);
}

static bool is_blank(struct bytes line)
{
        for (size_t i = 0; i < line.size; i++)
                if (!memchr(" \t\r\n", line.data[i], 4))
                        return false;
        return true;
}

static int open_input(struct import *im)
{
        struct stat info;

        im->file = im->line->argument_count ? im->line->arguments[0] : "-";
        im->fd = STDIN_FILENO;
        if (strcmp(im->file, "-") != 0)
                im->fd = open(im->file, O_RDONLY | O_CLOEXEC);
        else
                im->file = "standard input";
        if (im->fd < 0)
                return cli_problem(cli_exit_of_errno(errno), "%s: %s", im->file, strerror(errno));
        if (fstat(im->fd, &info) == 0 && S_ISREG(info.st_mode))
                im->file_size = (uint64_t)info.st_size;
        return CLI_OK;
}

/* ---- where it was ---- */

static void name_stream(struct import *im, struct bytes first_line)
{
        const char *name = cli_value(im->line, "name");
        const char *slash = strrchr(im->file, '/');

        if (name)
                snprintf(im->stream, sizeof im->stream, "$nilo-import-%.*s", NAME_SIZE_MAX, name);
        else
                snprintf(im->stream, sizeof im->stream, "$nilo-import-%.*s-%08x", NAME_SIZE_MAX,
                        im->fd == STDIN_FILENO ? "stdin"
                        : slash                ? slash + 1
                                               : im->file,
                        crc32c(0, first_line.data, first_line.size));
}

static bool on_place(void *arg, const char *json, size_t size)
{
        struct import *im = arg;
        struct place p;
        uint64_t revision;
        const char *data;
        size_t data_size;

        if (nilo_json_number(json, size, "revision", &revision) &&
                nilo_json_field(json, size, "data", &data, &data_size) &&
                nilo_json_number(data, data_size, "lines", &p.lines) &&
                nilo_json_number(data, data_size, "bytes", &p.size) &&
                nilo_json_number(data, data_size, "events", &p.events) &&
                nilo_json_number(data, data_size, "crc32c", &p.sum)) {
                im->stored = p;
                im->revision = (int64_t)revision;
        }
        return false;
}

static enum nilo_result read_place(struct import *im)
{
        /* An older place, of a node that lags, would import twice. */
        struct nilo_read_options newest = {.stream = im->stream,
                .is_backward = true,
                .from_end = true,
                .limit = 1,
                .consistency = NILO_LINEARIZABLE};
        enum nilo_result result = nilo_client_read(im->client, &newest, on_place, im);

        return result == NILO_NOT_FOUND ? NILO_OK : result;
}

static bool has_same_lines(const struct place *a, const struct place *b)
{
        return a->lines == b->lines && a->size == b->size && a->sum == b->sum;
}

/* Passes over what was imported before; `first` is the first line. */
static int go_on(struct import *im, struct bytes first)
{
        struct bytes line = first;
        enum nilo_result result;
        int code = CLI_OK;

        name_stream(im, first);
        result = read_place(im);
        if (result)
                return cli_failed(im->client, result);
        /* The first line is read again: its bytes are still in front. */
        im->input_used -= first.size;
        while (!code && im->read.lines < im->stored.lines && !cli_is_interrupted()) {
                code = next_line(im, &line);
                if (!line.size)
                        break;
                pass(&im->read, line);
        }
        if (code || cli_is_interrupted())
                return code;
        if (!has_same_lines(&im->read, &im->stored))
                return cli_problem(CLI_CONFLICT,
                        "%s: its first %" PRIu64
                        " lines are not those that were imported before under this name\n"
                        "      To import it as another one, choose a name: nilo import --name NAME %s",
                        im->file, im->stored.lines, im->line->argument_count ? im->line->arguments[0] : "");
        im->read.events = im->stored.events;
        if (im->stored.lines)
                cli_remark(im->line, "%s: %" PRIu64 " lines were imported before: going on behind them",
                        im->file, im->stored.lines);
        return CLI_OK;
}

/* ---- the batch ---- */

/* Counts the streams of the batch. Names that differ in spelling only count twice, which is harmless. */
static void count_stream(struct import *im, const char *name, size_t size)
{
        uint64_t sum = (uint64_t)crc32c(0, name, size) << 32 | crc32c(1, name, size) | 1;
        size_t slot = (sum >> 32) % STREAM_SLOTS;

        while (im->streams[slot] && im->streams[slot] != sum)
                slot = (slot + 1) % STREAM_SLOTS;
        im->stream_count += !im->streams[slot];
        im->streams[slot] = sum;
}

static void begin_batch(struct import *im)
{
        buffer_clear(&im->batch);
        memset(im->streams, 0, sizeof im->streams);
        im->stream_count = 0;
        im->batch_events = 0;
}

static bool is_text(const char *json, size_t size, const char *name, const char **ret, size_t *ret_size)
{
        return nilo_json_field(json, size, name, ret, ret_size) && *ret_size > 2 && **ret == '"';
}

/* Adds a line to the batch, or says what is wrong with it. */
static int add_line(struct import *im, struct bytes line)
{
        const char *json = (const char *)line.data;
        const char *stream;
        const char *type;
        size_t stream_size;
        size_t type_size;
        const char *wrong = NULL;

        if (!nilo_json_is_valid(json, line.size))
                wrong = "this is no JSON";
        else if (!is_text(json, line.size, "stream", &stream, &stream_size))
                wrong = "an event needs the name of its stream: "
                        "{\"stream\":\"order-42\",\"type\":\"OrderPlaced\",\"data\":{}}";
        else if (!is_text(json, line.size, "type", &type, &type_size))
                wrong = "an event needs a type: "
                        "{\"stream\":\"order-42\",\"type\":\"OrderPlaced\",\"data\":{}}";
        if (wrong)
                return cli_problem(
                        CLI_USAGE, "%s: line %" PRIu64 ": %s", im->file, im->read.lines + 1, wrong);
        count_stream(im, stream, stream_size);
        buffer_add_bytes(&im->batch, line);
        if (line.data[line.size - 1] != '\n')
                buffer_add_u8(&im->batch, '\n');
        im->batch_events++;
        im->read.events++;
        return CLI_OK;
}

/* Gathers lines up to a limit or the end of the input. What was gathered before a bad line is imported first.
 */
static int gather(struct import *im)
{
        int code = CLI_OK;

        begin_batch(im);
        while (im->batch_events < im->batch_events_max && im->batch.size < BATCH_SIZE_MAX &&
                im->stream_count < BATCH_STREAMS_MAX) {
                struct bytes line;

                code = next_line(im, &line);
                if (!code && line.size && !is_blank(line))
                        code = add_line(im, line);
                if (code || !line.size)
                        break;
                pass(&im->read, line);
        }
        return code;
}

/* The event that says how far the import is when this batch is in. */
static void add_place(struct import *im, struct buffer *to)
{
        struct json_out j = {.out = to};

        json_object_begin(&j);
        json_field_string(&j, "stream", im->stream);
        json_key(&j, "expect");
        if (im->revision < 0)
                json_text(&j, "none");
        else
                json_i64(&j, im->revision);
        json_field_string(&j, "type", "$nilo-import");
        json_key(&j, "data");
        json_object_begin(&j);
        json_field_u64(&j, "lines", im->read.lines);
        json_field_u64(&j, "bytes", im->read.size);
        json_field_u64(&j, "events", im->read.events);
        json_field_u64(&j, "crc32c", im->read.sum);
        json_object_end(&j);
        json_object_end(&j);
        buffer_add_u8(to, '\n');
}

static enum nilo_result post(struct import *im, const void *lines, size_t size, char **ret_body)
{
        static const char *const headers[] = {"Content-Type: application/x-ndjson", NULL};

        return nilo_client_send(im->client, "POST", "/v1/append", headers, lines, size, ret_body);
}

/* ---- sending ---- */

static void wait_ms(unsigned ms)
{
        struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

        nanosleep(&t, NULL);
}

/* True for what may be otherwise in a moment. */
static bool is_passing(enum nilo_result result)
{
        return result == NILO_UNKNOWN || result == NILO_UNAVAILABLE || result == NILO_BUSY;
}

/* Waits until the server tells how far the import is. */
static enum nilo_result look_again(struct import *im)
{
        unsigned wait = WAIT_MS_MIN;
        unsigned waited = 0;
        enum nilo_result result;

        cli_remark(im->line, "%s; trying again", nilo_client_problem(im->client));
        do {
                wait_ms(wait);
                waited += wait;
                wait = MIN(wait * 2, (unsigned)WAIT_MS_MAX);
                result = read_place(im);
        } while (is_passing(result) && waited < WAIT_MS_TOTAL && !cli_is_interrupted());
        return result;
}

static int failed(struct import *im, enum nilo_result result, uint64_t first_line)
{
        if (is_passing(result))
                return cli_failed(im->client, result);
        return cli_problem(cli_exit_of(result), "%s: lines %" PRIu64 " to %" PRIu64 ": %s", im->file,
                first_line, im->read.lines,
                *nilo_client_problem(im->client) ? nilo_client_problem(im->client)
                                                 : "these events do not fit what is stored");
}

/* Events whose ids are known go one by one: those that are there already are passed over, the others are
 * written. */
static enum nilo_result send_singly(struct import *im)
{
        struct bytes left = buffer_bytes(&im->batch);
        struct buffer place = {0};
        uint64_t known = 0;
        enum nilo_result result = NILO_OK;

        while (!result && left.size) {
                const uint8_t *end = memchr(left.data, '\n', left.size);
                size_t size = (size_t)(end - left.data) + 1;
                char *body = NULL;
                const char *value;
                size_t value_size;

                result = post(im, left.data, size, &body);
                if (!result && nilo_json_field(body, strlen(body), "duplicate", &value, &value_size) &&
                        *value == 't')
                        known++;
                free(body);
                left = bytes_of(left.data + size, left.size - size);
        }
        if (!result) {
                add_place(im, &place);
                result = post(im, place.data, place.size, NULL);
                buffer_fini(&place);
        }
        im->known += result ? 0 : known;
        return result;
}

/* True if every event of the batch names its id, so that sending one again is safe. */
static bool has_ids(const struct import *im)
{
        struct bytes left = buffer_bytes(&im->batch);

        while (left.size) {
                const uint8_t *end = memchr(left.data, '\n', left.size);
                size_t size = (size_t)(end - left.data) + 1;
                const char *value;
                size_t value_size;

                if (!nilo_json_field((const char *)left.data, size, "id", &value, &value_size))
                        return false;
                left = bytes_of(left.data + size, left.size - size);
        }
        return true;
}

/* After a conflict: was it the import's own stream that has moved, or are some of the events known by their
 * ids? */
static enum nilo_result look_after_conflict(struct import *im, int64_t revision, bool *goes_singly)
{
        char *why = memory_copy_string(nilo_client_problem(im->client));
        enum nilo_result result = read_place(im);

        if (is_passing(result))
                result = look_again(im);
        if (!result && im->revision == revision && (*goes_singly || !has_ids(im))) {
                cli_remark(im->line, "the store refused: %s", why);
                result = NILO_CONFLICT;
        }
        *goes_singly = *goes_singly || (!result && im->revision == revision);
        free(why);
        return result;
}

/* Sends the batch until it is certainly in, or certainly not. */
static int send_batch(struct import *im)
{
        uint64_t first_line = im->stored.lines + 1;
        bool goes_singly = false;

        for (;;) {
                int64_t revision = im->revision;
                enum nilo_result result;

                if (goes_singly) {
                        result = send_singly(im);
                } else {
                        size_t size = im->batch.size;

                        add_place(im, &im->batch);
                        result = post(im, im->batch.data, im->batch.size, NULL);
                        im->batch.size = size;
                }
                if (!result) {
                        /* A stream that was deleted once does not begin at 0. */
                        if (revision >= 0 || read_place(im))
                                im->revision++;
                        im->stored = im->read;
                        return CLI_OK;
                }
                if (!is_passing(result) && result != NILO_CONFLICT)
                        return failed(im, result, first_line);
                result = result == NILO_CONFLICT ? look_after_conflict(im, revision, &goes_singly)
                                                 : look_again(im);
                if (result)
                        return failed(im, result, first_line);
                if (im->revision == revision)
                        continue; /* it is not in */
                if (has_same_lines(&im->stored, &im->read))
                        return CLI_OK; /* it is in: only the answer was lost */
                return cli_problem(CLI_CONFLICT,
                        "%s: another import of it is running\n      Wait for its end; then the same command "
                        "goes on.",
                        im->file);
        }
}

static void summarize(const struct import *im, uint64_t events_before)
{
        uint64_t events = im->stored.events - events_before - im->known;
        char imported[CLI_SIZE_TEXT];
        char known[CLI_SIZE_TEXT];

        if (im->line->is_json) {
                struct buffer out = {0};
                struct json_out j = {.out = &out};

                json_object_begin(&j);
                json_field_u64(&j, "imported", events);
                json_field_u64(&j, "known", im->known);
                json_field_u64(&j, "imported_before", events_before);
                json_field_u64(&j, "lines", im->stored.lines);
                json_object_end(&j);
                cli_print_line((const char *)out.data, out.size);
                buffer_fini(&out);
                return;
        }
        cli_format_count(events, imported);
        printf("%s events imported", imported);
        cli_format_count(im->known, known);
        if (im->known)
                printf(", %s were there already", known);
        cli_format_count(events_before, known);
        if (events_before)
                printf(", %s had been imported before", known);
        putchar('\n');
}

static int run(struct import *im)
{
        struct bytes first;
        uint64_t events_before;
        uint64_t size_before;
        int code = next_line(im, &first);
        int wrong = CLI_OK; /* of the input: what stands before is imported first */

        if (!code && first.size)
                code = go_on(im, first);
        if (code)
                return code;
        events_before = im->stored.events;
        size_before = im->stored.size;
        progress_begin(&im->progress, im->line, "import", "events",
                im->file_size > size_before ? im->file_size - size_before : 0);
        while (!code && !wrong && !cli_is_interrupted()) {
                wrong = gather(im);
                if (!im->batch_events)
                        break;
                code = send_batch(im);
                progress_at(&im->progress, im->stored.size - size_before, im->stored.events - events_before);
        }
        progress_end(&im->progress);
        code = code ? code : wrong;
        if (!code && cli_is_interrupted())
                code = cli_problem(CLI_UNEXPECTED, "stopped");
        if (code)
                cli_remark(im->line,
                        "%" PRIu64 " lines of %s are imported: the same command goes on behind them",
                        im->stored.lines, im->file);
        else
                summarize(im, events_before);
        return code;
}

int command_import(const struct cli_line *line)
{
        struct import *im = MEMORY_NEW(struct import);
        int code = CLI_OK;

        im->line = line;
        im->fd = -1;
        im->revision = -1;
        if (!cli_number_of(line, "batch", BATCH_EVENTS_DEFAULT, &im->batch_events_max))
                code = CLI_USAGE;
        else if (!im->batch_events_max || im->batch_events_max > BATCH_EVENTS_MAX)
                code = cli_problem(CLI_USAGE, "--batch: 1 to %d", BATCH_EVENTS_MAX);
        if (!code) {
                im->client = cli_client(line);
                code = im->client ? CLI_OK : CLI_USAGE;
        }
        if (!code)
                code = open_input(im);
        if (!code) {
                /* A batch under way is ended, not cut off: a second Ctrl-C does that, and is as safe. */
                cli_catch_interrupt(NULL);
                code = run(im);
        }
        if (im->fd > STDIN_FILENO)
                close(im->fd);
        nilo_client_close(&im->client);
        buffer_fini(&im->input);
        buffer_fini(&im->batch);
        free(im);
        return code;
}
