/* An intrusive doubly linked list with a head: embed `struct list node`, reach the object with CONTAINER_OF. */
#ifndef TIDEMILL_BASE_LIST_H
#define TIDEMILL_BASE_LIST_H

#include <stdbool.h>

struct list {
    struct list *next;
    struct list *prev;
};

static inline void list_init(struct list *head) {
    head->next = head->prev = head;
}
static inline bool list_empty(const struct list *head) {
    return head->next == head;
}
/* Appends at the tail. */
static inline void list_push(struct list *head, struct list *node) {
    node->prev = head->prev;
    node->next = head;
    head->prev->next = node;
    head->prev = node;
}
static inline void list_push_front(struct list *head, struct list *node) {
    list_push(head->next, node);
}
/* Unlinks and leaves the node linked to itself, so that removing twice is harmless. */
static inline void list_remove(struct list *node) {
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}
/* The first node unlinked, or NULL. */
static inline struct list *list_pop(struct list *head) {
    struct list *node = head->next;
    if (node == head)
        return 0;
    list_remove(node);
    return node;
}

/* The body may remove `it`. */
#define LIST_FOREACH(it, head) for (struct list *it = (head)->next, *it##_next = it->next; it != (head); it = it##_next, it##_next = it->next)

#endif
