/* A reader's blocks: bytes of segment files, from the page cache at once or from the disk by the READ lane,
 * and the records in them, each verified before an event of it is shown. */
#include "persistence/reader.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "persistence/job.h"

/* A cold read. It may outlive its reader, and even its log when that is closed: then nobody looks at the
 * bytes. */
struct reader_read {
        struct job job;
        struct list link; /* in the log's */
        struct persistence *p;
        struct persistence_reader *reader; /* NULL: closed */
        struct log_segment *pinned;
        struct os_file *file;
        struct buffer bytes;
        size_t segment;
        uint64_t offset;
        size_t size;
        int result;
};

/* Books what the block takes. */
static void reader_account(struct persistence_reader *r)
{
        r->p->stats.reader_bytes += r->block.capacity - r->accounted;
        r->accounted = r->block.capacity;
}

/* The memory is taken here and not when the read is asked for, since there may be many waiting in the lane.
 */
static void read_run(struct job *job)
{
        struct reader_read *read = CONTAINER_OF(job, struct reader_read, job);
        size_t got = 0;

        buffer_reserve(&read->bytes, read->size);
        read->result = os_file_read(read->file, read->bytes.data, read->size, read->offset, &got);
        read->bytes.size = got;
}

static void read_finish(struct job *job)
{
        struct reader_read *read = CONTAINER_OF(job, struct reader_read, job);
        struct persistence_reader *r = read->reader;

        log_unpin(read->p, read->pinned);
        list_remove(&read->link);
        if (!r)
                return;
        r->read = NULL;
        r->read_result = read->result;
        buffer_fini(&r->block);
        r->block = read->bytes;
        read->bytes = (struct buffer){0};
        r->block_segment = read->segment;
        r->block_offset = read->offset;
        r->p->stats.read_bytes += r->block.size;
        reader_account(r);
        r->on_ready(r->arg);
}

static void read_release(struct job *job)
{
        struct reader_read *read = CONTAINER_OF(job, struct reader_read, job);

        buffer_fini(&read->bytes);
        free(read);
}

static void reader_read_cold(
        struct persistence_reader *r, size_t segment, struct os_file *file, uint64_t offset, size_t size)
{
        struct reader_read *read = MEMORY_NEW(struct reader_read);

        read->job = (struct job){.run = read_run, .finish = read_finish, .release = read_release};
        read->p = r->p;
        read->reader = r;
        list_add_last(&r->p->cold_reads, &read->link);
        read->pinned = r->p->segments[segment];
        read->pinned->pins++;
        read->file = file;
        read->segment = segment;
        read->offset = offset;
        read->size = size;
        buffer_fini(&r->block);
        reader_account(r);
        r->read = read;
        job_submit(r->p->os, OS_LANE_READ, &read->job);
}

void log_forget_readers(struct persistence *p)
{
        LIST_EACH_SAFE (at, &p->cold_reads) {
                struct reader_read *read = CONTAINER_OF(at, struct reader_read, link);

                if (read->reader)
                        read->reader->read = NULL;
                read->reader = NULL;
                job_settle(&read->job);
        }
        LIST_EACH_SAFE (at, &p->readers) {
                CONTAINER_OF(at, struct persistence_reader, link)->p = NULL;
                list_remove(at);
        }
}

static int reader_refuse(struct persistence_reader *r, size_t segment, uint64_t offset, const char *what)
{
        struct persistence *p = r->p;
        CLEANUP(text_freep)
        char *path = segment_path(p->log_path, p->segments[segment]->header.first_index, "seg");

        snprintf(r->problem, sizeof r->problem,
                "%s is damaged at offset %llu: %s. Restore it from a copy or from a peer", path,
                (unsigned long long)offset, what);
        r->is_corrupt = true;
        log_publish_text(p, FACT_corruption_found, offset, 0, strrchr(path, '/') + 1);
        return PERSISTENCE_CORRUPT;
}

int reader_corrupt(struct persistence_reader *r, size_t segment, uint64_t offset, const char *what)
{
        int result = reader_refuse(r, segment, offset, what);

        log_segment_damaged(r->p, r->p->segments[segment]);
        return result;
}

int reader_index_corrupt(struct persistence_reader *r, size_t segment)
{
        return reader_refuse(r, segment, SEGMENT_HEADER_SIZE, "its index file; it is being built anew");
}

static int reader_read_block(struct persistence_reader *r, size_t segment, uint64_t offset, size_t size)
{
        struct os_file *file;
        size_t got = 0;
        int result;

        result = log_segment_file(r->p, r->p->segments[segment], &file);
        if (result)
                return result > 0 ? reader_corrupt(r, segment, offset, "the file is missing") : result;
        if (r->block.capacity > READER_BLOCK_KEPT_MAX && size <= READER_BLOCK_KEPT_MAX)
                buffer_fini(&r->block);
        buffer_clear(&r->block);
        buffer_reserve(&r->block, size);
        reader_account(r);
        result = os_file_read_warm(file, r->block.data, size, offset, &got);
        if (result == OS_COLD) {
                if (r->on_ready) {
                        reader_read_cold(r, segment, file, offset, size);
                        return PERSISTENCE_WAIT;
                }
                result = os_file_read(file, r->block.data, size, offset, &got);
        }
        if (result == -EIO)
                return reader_corrupt(r, segment, offset, "it cannot be read");
        if (result)
                return fault_fold(result);
        r->block.size = got;
        r->block_segment = segment;
        r->block_offset = offset;
        r->p->stats.read_bytes += got;
        return 0;
}

bool reader_has(const struct persistence_reader *r, size_t segment, uint64_t offset, uint64_t need)
{
        return r->block_segment == segment && offset >= r->block_offset &&
               offset + need <= r->block_offset + r->block.size;
}

int reader_fill(struct persistence_reader *r, size_t segment, uint64_t offset, uint64_t need, uint64_t want)
{
        uint64_t end = r->p->segments[segment]->committed_end;
        int result;

        if (LIKELY(reader_has(r, segment, offset, need)))
                return 0;
        if (r->read_result) {
                result = r->read_result;
                r->read_result = 0;
                return result == -EIO ? reader_corrupt(r, segment, offset, "it cannot be read")
                                      : fault_fold(result);
        }
        if (offset >= end || need > end - offset)
                return reader_corrupt(r, segment, offset, "a record ends behind the log");
        result = reader_read_block(r, segment, offset, MIN(MAX(need, want), end - offset));
        if (result)
                return result;
        r->has_read = true;
        if (!reader_has(r, segment, offset, need))
                return reader_corrupt(r, segment, offset, "the file ends too early");
        return 0;
}

int reader_get_record(struct persistence_reader *r, size_t segment, uint64_t offset, uint64_t want)
{
        struct persistence *p = r->p;
        struct log_segment *s = p->segments[segment];
        struct reader_record *record = &r->record;
        const uint8_t *at;
        uint32_t seed = segment_seed(&s->header);
        uint64_t size, padding;
        int result;

        result = reader_fill(r, segment, offset, RECORD_HEADER_SIZE, want);
        if (result)
                return result;
        at = r->block.data + (offset - r->block_offset);
        if (record_header_decode(at, seed, &record->header) != 0)
                return reader_corrupt(r, segment, offset, "the header of a record");
        record->offset = offset;
        record->segment = segment;
        record->payload = BYTES_EMPTY;
        if (record->header.kind != RECORD_EVENTS)
                return 0;
        size = record_size(record->header.payload_size);
        result = reader_fill(r, segment, offset, size, want);
        if (result)
                return result;
        at = r->block.data + (offset - r->block_offset);
        record->payload = bytes_of(at + RECORD_HEADER_SIZE, record->header.payload_size);
        if (!p->skip_crc && record_payload_crc(seed, record->payload) != record->header.payload_crc)
                return reader_corrupt(r, segment, offset, "the events of a record");
        for (padding = RECORD_HEADER_SIZE + (uint64_t)record->header.payload_size; padding < size; padding++)
                if (at[padding])
                        return reader_corrupt(r, segment, offset, "the bytes behind a record are not zero");
        return 0;
}

int persistence_reader_open(struct persistence *p, const struct persistence_reader_options *options,
        struct persistence_reader **ret)
{
        struct persistence_reader *r = MEMORY_NEW(struct persistence_reader);

        r->p = p;
        r->mended_count = p->mended_count;
        list_add_last(&p->readers, &r->link);
        r->is_backward = options->is_backward;
        r->on_ready = options->on_ready;
        r->arg = options->arg;
        r->next = options->from;
        if (options->stream.size) {
                r->is_stream = true;
                r->name = memory_new(options->stream.size);
                memcpy(r->name, options->stream.data, options->stream.size);
                r->stream = (struct lookup_stream){
                        bytes_of(r->name, options->stream.size), index_hash(options->stream)};
                r->next = MIN(r->next, REVISION_MAX);
        }
        *ret = r;
        return 0;
}

/* As it was when it was opened, but at the event that is due. */
static void reader_begin_anew(struct persistence_reader *r)
{
        record_events_close(&r->events);
        r->is_in_record = false;
        r->is_placed = false;
        r->has_given = false;
        r->view_count = 0;
        r->chunk_count = 0;
        r->run_at = 0;
        r->run_count = 0;
        r->cursor = (struct lookup_cursor){0};
        buffer_fini(&r->block);
        reader_account(r);
}

/* A segment has another file since: nothing that the reader knows of the old one counts. */
static void reader_forget_file(struct persistence_reader *r)
{
        reader_begin_anew(r);
        r->mended_count = r->p->mended_count;
        r->read_result = 0;
        r->is_corrupt = false;
}

int persistence_reader_next(struct persistence_reader *r, struct event_view *ret)
{
        int result;

        if (r->read)
                return PERSISTENCE_WAIT;
        if (UNLIKELY(r->mended_count != r->p->mended_count))
                reader_forget_file(r);
        if (UNLIKELY(r->is_corrupt))
                return PERSISTENCE_CORRUPT;
        result = cursor_next(r, ret);
        /* One that waits for what comes next keeps little: there may be many. */
        if (result == PERSISTENCE_END && r->block.capacity > READER_BLOCK_IDLE_MAX) {
                buffer_fini(&r->block);
                reader_account(r);
        }
        return result;
}

void persistence_reader_ease(struct persistence_reader *r)
{
        if (r->read || r->p->stats.reader_bytes <= r->p->reader_bytes_max ||
                r->block.capacity <= READER_BLOCK_IDLE_MAX)
                return;
        reader_begin_anew(r);
}

const char *persistence_reader_problem(const struct persistence_reader *r)
{
        return r->problem;
}

void persistence_reader_close(struct persistence_reader **reader)
{
        struct persistence_reader *r = *reader;

        if (!r)
                return;
        if (r->read)
                r->read->reader = NULL;
        record_events_close(&r->events);
        buffer_fini(&r->block);
        if (r->p)
                reader_account(r);
        list_remove(&r->link);
        free(r->views);
        free(r->chunk);
        free(r->name);
        free(r);
        *reader = NULL;
}
