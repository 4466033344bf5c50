/* Bytes of events that were read ahead. Many share a block, since they come and go in nearly the same order:
 * an event costs a copy and no call of the allocator. A block goes when nothing in it is needed any more. */
#include <stdlib.h>

#include "base/memory.h"
#include "emitter/delivery.h"

struct payload_block {
        struct list link;
        uint32_t capacity; /* of `data` */
        uint32_t used;
        uint32_t live; /* payloads in it */
        uint8_t data[] __attribute__((aligned(8)));
};

void payloads_init(struct payloads *p)
{
        *p = (struct payloads){0};
        list_init(&p->blocks);
}

static void block_free(struct payloads *p, struct payload_block *b)
{
        if (p->current == b)
                p->current = NULL;
        list_remove(&b->link);
        p->size -= sizeof *b + b->capacity;
        free(b);
}

void payloads_fini(struct payloads *p)
{
        LIST_EACH_SAFE (at, &p->blocks)
                block_free(p, CONTAINER_OF(at, struct payload_block, link));
        assert(p->size == 0);
}

static uint64_t view_size(const struct event_view *v)
{
        return v->stream.size + v->type.size + v->data.size + v->metadata.size + v->tags.size;
}

uint64_t payload_size_of(const struct store_read_item *item)
{
        uint64_t size = sizeof(struct payload);

        if (item->has_event)
                size += view_size(&item->event);
        if (item->has_link)
                size += view_size(&item->link);
        return align_up(size, 8);
}

static void put(struct bytes *b, uint8_t **at)
{
        if (!b->size) {
                *b = BYTES_EMPTY;
                return;
        }
        memcpy(*at, b->data, b->size);
        b->data = *at;
        *at += b->size;
}

static void put_view(struct event_view *v, uint8_t **at)
{
        put(&v->stream, at);
        put(&v->type, at);
        put(&v->data, at);
        put(&v->metadata, at);
        put(&v->tags, at);
}

struct payload *payload_new(struct payloads *p, const struct store_read_item *item)
{
        uint64_t size = payload_size_of(item);
        struct payload_block *b = p->current;
        struct payload *payload;
        uint8_t *at;

        assert(size <= UINT32_MAX);
        if (!b || b->capacity - b->used < size) {
                uint32_t capacity = (uint32_t)MAX(size, (uint64_t)PAYLOAD_BLOCK_SIZE - sizeof *b);

                b = memory_new(sizeof *b + capacity);
                b->capacity = capacity;
                list_add_last(&p->blocks, &b->link);
                p->size += sizeof *b + capacity;
                p->current = b;
        }
        payload = (struct payload *)(void *)(b->data + b->used);
        b->used += (uint32_t)size;
        b->live++;
        payload->block = b;
        payload->size = (uint32_t)size;
        payload->item = *item;
        at = (uint8_t *)(payload + 1);
        if (item->has_event)
                put_view(&payload->item.event, &at);
        if (item->has_link)
                put_view(&payload->item.link, &at);
        return payload;
}

void payload_free(struct payloads *p, struct payload **payload)
{
        struct payload_block *b;

        if (!*payload)
                return;
        b = (*payload)->block;
        *payload = NULL;
        assert(b->live > 0);
        b->live--;
        if (b->live)
                return;
        if (b == p->current && b->capacity <= PAYLOAD_BLOCK_SIZE)
                b->used = 0; /* the next ones go here: a pool that keeps up uses one block */
        else
                block_free(p, b);
}

static void move(struct bytes *b, const uint8_t *from, uint8_t *to)
{
        if (b->size)
                b->data = to + (b->data - from);
}

static void move_view(struct event_view *v, const uint8_t *from, uint8_t *to)
{
        move(&v->stream, from, to);
        move(&v->type, from, to);
        move(&v->data, from, to);
        move(&v->metadata, from, to);
        move(&v->tags, from, to);
}

const struct store_read_item *payload_copy(const struct payload *payload, void *to)
{
        struct payload *copy = to;

        memcpy(to, payload, payload->size);
        copy->block = NULL;
        if (copy->item.has_event)
                move_view(&copy->item.event, (const uint8_t *)payload, to);
        if (copy->item.has_link)
                move_view(&copy->item.link, (const uint8_t *)payload, to);
        return &copy->item;
}
