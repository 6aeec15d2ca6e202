#include "base/base.h"

int vector_grow(void *items_ptr, size_t count, size_t *capacity, size_t item_size) {
    if (count < *capacity)
        return 0;
    void **items = items_ptr;
    size_t grown = *capacity ? *capacity * 2 : 4;
    size_t bytes;
    if (__builtin_mul_overflow(grown, item_size, &bytes))
        return -ENOMEM;
    void *memory = realloc(*items, bytes);
    if (!memory)
        return -ENOMEM;
    *items = memory;
    *capacity = grown;
    return 0;
}
