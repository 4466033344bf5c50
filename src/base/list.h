/* Doubly linked list through a field of the element. A head and a lone element point at themselves. */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include "base/macros.h"

struct list {
        struct list *next;
        struct list *previous;
};

static inline void list_init(struct list *l)
{
        l->next = l;
        l->previous = l;
}

static inline bool list_is_empty(const struct list *head)
{
        return head->next == head;
}

static inline void list_add_last(struct list *head, struct list *element)
{
        element->previous = head->previous;
        element->next = head;
        head->previous->next = element;
        head->previous = element;
}

static inline void list_add_first(struct list *head, struct list *element)
{
        list_add_last(head->next, element);
}

/* The element is a lone one afterwards, so removing it twice is harmless. */
static inline void list_remove(struct list *element)
{
        element->previous->next = element->next;
        element->next->previous = element->previous;
        list_init(element);
}

#define LIST_EACH(at, head) for (struct list *at = (head)->next; at != (head); at = at->next)

/* The body may remove `at`. */
#define LIST_EACH_SAFE(at, head)                                                                             \
        for (struct list *at = (head)->next, *at##_next = at->next; at != (head);                            \
                at = at##_next, at##_next = at->next)

#endif
