/* Files of a data directory with bytes changed and every sum put right again, so that the fields behind the
 * sums are reached: segments, index files, the id window's checkpoint, the vote, node.json and store.json
 * (G13, G14). Whatever they say: an open that ends, with an outcome and never with a fault, and then reads of
 * every kind, entries for other nodes, an append, sealing, verify and a second open, none of which reads
 * outside, spins, or finds the state of the log impossible. */
#include <jansson.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/crc32c.h"
#include "base/memory.h"
#include "os/os_sim.h"
#include "persistence/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
        FILES_MAX = 64,
        EDIT_SIZE = 4,
        EDITS_MAX = 8,
        ENTRIES = 70,
        STREAMS = 5,
        STEPS_MAX = 100000,
        LIST_MAX = 1000
};

struct kept_file {
        char path[256];
        struct buffer bytes;
};
static struct kept_file files[FILES_MAX]; /* of the directory before it is changed */
static unsigned file_count;
static char log_path[128];

static void require(bool holds)
{
        if (!holds)
                abort();
}

/* ---- the directory as it was made ---- */

static void append(struct persistence *p, uint64_t i, uint64_t revisions[STREAMS])
{
        struct persistence_entry e = {.index = persistence_last_index(p) + 1,
                .term = 1 + i / 20,
                .kind = i % 9 == 8   ? RECORD_CONFIGURATION
                        : i % 7 == 6 ? RECORD_BARRIER
                                     : RECORD_EVENTS,
                .first_position = persistence_appended_position(p)};
        struct record_events_writer w;
        struct buffer payload = {0};
        char name[32];
        unsigned k;

        if (e.kind == RECORD_EVENTS) {
                e.event_count = 1 + (uint32_t)i % 3;
                record_events_begin(&w, &payload, 1000 + i);
                for (k = 0; k < e.event_count; k++) {
                        unsigned stream = (unsigned)(i + k) % STREAMS;
                        struct event_draft draft = {
                                .type = k ? BYTES_LITERAL("Paid") : BYTES_LITERAL("Placed"),
                                .data = BYTES_LITERAL("some data of this event, and then some more of it")};

                        draft.id.bytes[0] = (uint8_t)i;
                        draft.id.bytes[1] = (uint8_t)k;
                        snprintf(name, sizeof name, "order-%u", stream);
                        record_events_add(&w, bytes_of_string(name), revisions[stream]++, &draft);
                }
                record_events_end(&w);
        } else if (e.kind == RECORD_CONFIGURATION) {
                buffer_add_string(&payload, "members");
        }
        e.payload = buffer_bytes(&payload);
        persistence_append(p, &e);
        buffer_fini(&payload);
}

static struct persistence_options options_of(struct os *os, struct persistence_node *node)
{
        return (struct persistence_options){.os = os,
                .node = node,
                .store_name = "default",
                .segment_size = 4096 + 5000,
                .cache_size = MIB};
}

static void keep(struct os *os, const char *path)
{
        struct kept_file *f = &files[file_count];

        snprintf(f->path, sizeof f->path, "%s", path);
        require(os_read_whole(os, path, 64 * MIB, &f->bytes) == 0);
        file_count++;
}

static int keep_each(void *arg, const char *name, bool is_dir)
{
        char path[256];

        snprintf(path, sizeof path, "%s/%.60s", log_path, name);
        if (!is_dir && strcmp(name, "spare") != 0)
                keep(arg, path);
        return 0;
}

static void make_files(void)
{
        uint64_t revisions[STREAMS] = {0}, i;
        struct persistence_node *node;
        struct persistence_options o;
        struct persistence *p;
        char path[256];
        struct os *os;

        require(os_sim_new(1, &os) == 0);
        require(persistence_node_open(os, "/data", false, &node) == 0);
        o = options_of(os, node);
        require(persistence_open(&o, &p) == 0);
        persistence_start(p);
        for (i = 0; i < ENTRIES; i++) {
                append(p, i, revisions);
                persistence_write(p, true, NULL, NULL);
                if (i < ENTRIES - 6)
                        persistence_commit(p, persistence_last_index(p));
                os_sim_run_for(os, 100000);
        }
        require(persistence_save_vote(p, 9, 1) == 0);
        snprintf(path, sizeof path, "%s", persistence_store_path(p));
        snprintf(log_path, sizeof log_path, "%.100s/log", path);
        persistence_close(&p);
        persistence_node_close(&node);
        require(os_dir_list(os, log_path, keep_each, os) == 0);
        keep(os, "/data/node.json");
        snprintf(log_path + strlen(path), sizeof log_path - strlen(path), "/vote");
        keep(os, log_path);
        snprintf(log_path + strlen(path), sizeof log_path - strlen(path), "/store.json");
        keep(os, log_path);
        snprintf(log_path + strlen(path), sizeof log_path - strlen(path), "/log");
        os_sim_run_for(os, 5 * 1000 * 1000);
        os_free(&os);
        require(file_count > 8);
}

/* ---- sums ---- */

static void mend(struct buffer *b, size_t from, size_t size, size_t at)
{
        if (from <= b->size && size <= b->size - from && at + 4 <= b->size)
                put_u32(b->data + at, crc32c(0, b->data + from, size));
}

/* By the places that the records had: sums of a changed size are right for what stood there. */
static void mend_segment(const struct kept_file *f, struct buffer *b)
{
        struct segment_header h;
        size_t at = SEGMENT_HEADER_SIZE;
        uint32_t seed;

        mend(b, 0, SEGMENT_HEADER_SIZE - 4, SEGMENT_HEADER_SIZE - 4);
        if (segment_header_decode(b->data, &h) != 0)
                return;
        seed = segment_seed(&h);
        while (at + RECORD_HEADER_SIZE <= b->size && f->bytes.data[at + 5] == RECORD_FORMAT) {
                uint32_t size = get_u32(f->bytes.data + at);

                put_u32(b->data + at + 12,
                        record_payload_crc(seed, bytes_of(b->data + at + RECORD_HEADER_SIZE, size)));
                put_u32(b->data + at + 8, 0);
                put_u32(b->data + at + 8, crc32c(seed, b->data + at, RECORD_HEADER_SIZE));
                at += record_size(size);
        }
}

static void mend_index(const struct kept_file *f, struct buffer *b)
{
        size_t footer = b->size - INDEX_FOOTER_SIZE, i, k;

        for (i = 0; i < INDEX_SECTIONS; i++) {
                const uint8_t *section = f->bytes.data + footer + 120 + i * 24;
                size_t at = get_u64(section), size = get_u64(section + 8);
                bool has_blocks = i == INDEX_STREAMS || i == INDEX_CATEGORIES || i == INDEX_TYPES;

                if (i == INDEX_ENTRIES)
                        for (k = 0; k + INDEX_BLOCK_SIZE <= size; k += INDEX_BLOCK_SIZE)
                                mend(b, at + k, INDEX_BLOCK_SIZE - 4, at + k + INDEX_BLOCK_SIZE - 4);
                else if (has_blocks) /* one of each is enough here */
                        mend(b, at + 4, size - 4, at);
                else if (size)
                        mend(b, at, size, footer + 120 + i * 24 + 20);
        }
        mend(b, 0, INDEX_HEADER_SIZE - 4, INDEX_HEADER_SIZE - 4);
        mend(b, footer, INDEX_FOOTER_SIZE - 4, b->size - 4);
}

static void mend_json(struct buffer *b)
{
        json_t *object = json_loadb((const char *)b->data, b->size, JSON_REJECT_DUPLICATES, NULL);
        char sum[9], *text;

        if (json_is_object(object)) {
                json_object_del(object, "crc32c");
                text = json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS);
                snprintf(sum, sizeof sum, "%08x", crc32c(0, text, strlen(text)));
                free(text);
                json_object_set_new(object, "crc32c", json_string(sum));
                text = json_dumps(object, JSON_SORT_KEYS);
                buffer_clear(b);
                buffer_add_string(b, text);
                free(text);
        }
        json_decref(object);
}

static void mend_file(const struct kept_file *f, struct buffer *b)
{
        const char *end = strrchr(f->path, '.');

        if (!end) {
                mend(b, 0, 4092, 4092);
                mend(b, 4096, 4092, 4096 + 4092);
        } else if (strcmp(end, ".seg") == 0) {
                mend_segment(f, b);
        } else if (strcmp(end, ".idx") == 0) {
                mend_index(f, b);
        } else if (strcmp(end, ".ids") == 0) {
                mend(b, 0, b->size - 4, b->size - 4);
        } else {
                mend_json(b);
        }
}

/* ---- what is changed ---- */

/* Four bytes an edit: where to count from, place (2), value. */
static void edit(struct buffer *b, const uint8_t *e)
{
        size_t place = get_u16(e + 1), at;

        switch (e[0] % 4) {
        case 0:
                at = place % 160;
                break;
        case 1: /* from the end */
                at = b->size - 1 - place % MIN(b->size, INDEX_FOOTER_SIZE);
                break;
        case 2: /* behind a segment's header: records */
                at = SEGMENT_HEADER_SIZE + place;
                break;
        default:
                at = place;
        }
        at %= b->size;
        b->data[at] = e[0] & 0x80 ? b->data[at] ^ (uint8_t)(1u << e[3] % 8) : e[3];
}

static void lay_out(struct os *os, const uint8_t *data, size_t size)
{
        struct kept_file *changed = &files[data[0] % file_count];
        char path[256];
        unsigned i;

        require(os_dir_make(os, log_path) == 0);
        snprintf(path, sizeof path, "%.*s/quarantine", (int)(strlen(log_path) - 4), log_path);
        require(os_dir_make(os, path) == 0);
        for (i = 0; i < file_count; i++) {
                struct buffer b = {0};
                size_t at;

                buffer_add_bytes(&b, buffer_bytes(&files[i].bytes));
                if (&files[i] == changed) {
                        for (at = 1; at + EDIT_SIZE <= size && at < EDITS_MAX * EDIT_SIZE; at += EDIT_SIZE)
                                edit(&b, data + at);
                        mend_file(changed, &b);
                }
                require(os_replace_whole(os, files[i].path, buffer_bytes(&b)) == 0);
                buffer_fini(&b);
        }
}

/* ---- what is done with it ---- */

static void read_with(struct persistence *p, struct bytes stream, bool is_backward)
{
        struct persistence_reader_options o = {
                .stream = stream, .is_backward = is_backward, .from = is_backward ? UINT64_MAX : 0};
        struct persistence_reader *r;
        struct event_view e;
        unsigned steps = 0;

        require(persistence_reader_open(p, &o, &r) == 0);
        while (persistence_reader_next(r, &e) == 0)
                require(++steps < STEPS_MAX);
        persistence_reader_close(&r);
}

static bool each_name(void *arg, struct bytes name, uint64_t event_count)
{
        (void)arg;
        (void)event_count;
        require(name.size > 0);
        return true;
}

static void on_fetched(void *arg, int result, const struct persistence_entries *entries)
{
        uint64_t *next = arg;

        require(result >= 0);
        if (!result)
                require(entries->count > 0 && entries->entries[0].index == *next);
        *next = result ? *next + 1 : *next + entries->count;
}

static void send_entries(struct os *os, struct persistence *p)
{
        uint64_t last = persistence_last_index(p), index, next, term;
        struct persistence_entries run;
        struct record_chain chain;

        for (index = 1; index <= last; index++) {
                if (persistence_entries_read(p, index, last, 1 + (unsigned)index % 9, 400, &run) == 0)
                        require(run.count > 0 && run.entries[0].index == index);
                require(persistence_entry_mark(p, index, &term, &chain) >= 0);
        }
        for (next = 1; next <= last;) {
                uint64_t before = next;

                persistence_fetch(p, next, last, 700, on_fetched, &next);
                while (next == before)
                        require(os_sim_step(os));
        }
}

static void use(struct os *os, struct persistence *p)
{
        struct persistence_verify verify = {0};
        uint64_t problems, last = persistence_last_index(p);
        struct persistence_entry barrier = {.index = last + 1, .term = INT64_MAX, .kind = RECORD_BARRIER};
        struct persistence_head head;
        enum persistence_names what;
        int r;

        persistence_start(p);
        persistence_commit(p, last);
        /* Events that cannot be read behind right sums end the process: no disk does that. */
        if (atomic_load(&p->has_failed))
                return;
        barrier.first_position = persistence_appended_position(p);
        persistence_append(p, &barrier);
        persistence_write(p, true, NULL, NULL);
        if (!atomic_load(&p->has_failed))
                persistence_commit(p, last + 1);
        os_sim_run_for(os, 3 * 1000 * 1000);
        if (atomic_load(&p->has_failed))
                return;
        send_entries(os, p);
        r = persistence_stream_head(p, BYTES_LITERAL("order-1"), &head);
        require(r >= 0);
        read_with(p, BYTES_EMPTY, false);
        read_with(p, BYTES_EMPTY, true);
        read_with(p, BYTES_LITERAL("order-1"), false);
        read_with(p, BYTES_LITERAL("order-2"), true);
        for (what = NAMES_STREAMS; what <= NAMES_TYPES; what++)
                require(persistence_list(p, what, BYTES_EMPTY, BYTES_EMPTY, LIST_MAX, each_name, NULL) >= 0);
        require(persistence_verify(p, &verify, &problems) == 0);
}

static void live(struct os *os, bool is_second)
{
        struct persistence_node *node;
        struct persistence_options o;
        struct persistence *p;
        int r = persistence_node_open(os, "/data", false, &node);

        require(r >= 0);
        if (r)
                return;
        o = options_of(os, node);
        r = persistence_open(&o, &p);
        require(r >= 0);
        if (r == 0) {
                if (!is_second)
                        use(os, p);
                persistence_close(&p);
        }
        persistence_node_close(&node);
        os_sim_run_for(os, 3 * 1000 * 1000);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct os *os;

        if (file_count == 0)
                make_files();
        if (size < 1 + EDIT_SIZE)
                return 0;
        require(os_sim_new(2, &os) == 0);
        lay_out(os, data, size);
        live(os, false);
        live(os, true);
        os_free(&os);
        return 0;
}
