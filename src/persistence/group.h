/* A group: the records that one write and one sync make durable together. */
#ifndef PERSISTENCE_GROUP_H
#define PERSISTENCE_GROUP_H

#include "persistence/log.h"

struct group_record {
        struct record_header header; /* sums, chain and watermark are filled in when it is written */
        size_t at;                   /* in the group's bytes */
        uint64_t write_id;
};

/* What goes to one segment. */
struct group_part {
        struct log_segment *segment;
        bool starts_segment; /* its file is made first */
        uint64_t offset;     /* in the file */
        size_t at;           /* in the group's bytes */
        size_t size;
        uint32_t first_record;
        uint32_t record_count;
};

struct log_group {
        struct job job;
        struct list link; /* in_flight, then retained */
        struct persistence *p;
        struct buffer bytes;
        struct group_record *records;
        uint32_t record_count;
        uint32_t record_capacity;
        struct group_part *parts;
        uint32_t part_count;
        uint64_t first_index; /* of entries; first > last: only a watermark */
        uint64_t last_index;
        uint64_t synced_through;
        bool is_watermark; /* ours: nobody waits for it */
        bool is_on_lane;   /* its job is still the lane's */
        bool is_done;      /* written and finished */
        persistence_written *done;
        void *arg;
        int result;
        uint64_t sync_us;
        uint64_t sync_us_max;
        unsigned syncs;
};

struct log_group *group_new(struct persistence *p);
void group_free(struct log_group *group);
/* Adds a record behind the others, at the place in the log that the segment's end says. */
void group_add(struct log_group *group, struct log_segment *segment, bool starts_segment,
        const struct record_header *h, struct bytes payload, uint64_t write_id);
/* Removes the entries from `index` on, with the parts that become empty. */
void group_cut(struct log_group *group, uint64_t index);
/* The group of a list that holds the index, or NULL. */
const struct log_group *group_find(const struct list *groups, uint64_t index);
/* Writes what is gathered plus nothing else; see persistence_write. */
void group_submit(struct persistence *p, struct log_group *group, bool on_this_thread);
/* Writes a watermark record when the log's end does not say yet that it is durable. */
void group_write_watermark(struct persistence *p, bool on_this_thread);
/* A finished group leaves memory once it is committed, or when too much is kept. */
void group_drop_committed(struct persistence *p);
void group_drop_all(struct persistence *p);

#endif
