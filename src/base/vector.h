/* A growing array of any type: `VECTOR(struct job *) jobs = {0};` then VECTOR_PUSH(&jobs, job) (0, or -ENOMEM), jobs.items[i], jobs.count,
 * VECTOR_DEINIT(&jobs). */
#ifndef TIDEMILL_BASE_VECTOR_H
#define TIDEMILL_BASE_VECTOR_H

#include <stddef.h>
#include <stdlib.h>

#define VECTOR(type)                                                                                                                                 \
    struct {                                                                                                                                         \
        type *items;                                                                                                                                 \
        size_t count;                                                                                                                                \
        size_t capacity;                                                                                                                             \
    }

/* Makes room for one more; 0 or -ENOMEM. */
int vector_grow(void *items_ptr, size_t count, size_t *capacity, size_t item_size);

#define VECTOR_PUSH(v, item)                                                                                                                         \
    __extension__({                                                                                                                                  \
        int pushed_ = vector_grow(&(v)->items, (v)->count, &(v)->capacity, sizeof *(v)->items);                                                      \
        if (pushed_ == 0)                                                                                                                            \
            (v)->items[(v)->count++] = (item);                                                                                                       \
        pushed_;                                                                                                                                     \
    })
/* Removes item i, keeping the order. */
#define VECTOR_REMOVE(v, i)                                                                                                                          \
    do {                                                                                                                                             \
        size_t at_ = (i);                                                                                                                            \
        memmove(&(v)->items[at_], &(v)->items[at_ + 1], ((v)->count - at_ - 1) * sizeof *(v)->items);                                                \
        (v)->count--;                                                                                                                                \
    } while (0)
#define VECTOR_DEINIT(v)                                                                                                                             \
    do {                                                                                                                                             \
        free((v)->items);                                                                                                                            \
        (v)->items = NULL;                                                                                                                           \
        (v)->count = (v)->capacity = 0;                                                                                                              \
    } while (0)

#endif
