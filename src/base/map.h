/* A hash map from bytes to pointers. Keys are copied; values are the caller's. Order of iteration is that of insertion (removals keep it). */
#ifndef TIDEMILL_BASE_MAP_H
#define TIDEMILL_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "base/slice.h"

struct map;

struct map *map_new(void);
/* Frees the map and its keys, not its values; NULL is fine. */
void map_free(struct map *map);
DEFINE_CLEANUP(struct map, map_free)
size_t map_count(const struct map *map);

/* Sets key to value (not NULL). *ret_old, when given, gets the value it replaced or NULL. 0 or -ENOMEM. */
int map_put(struct map *map, struct slice key, void *value, void **ret_old);
/* The value, or NULL. */
void *map_find(const struct map *map, struct slice key);
/* Removes the key and returns its value, or NULL when absent. */
void *map_remove(struct map *map, struct slice key);
/* Walks in order of insertion: `for (size_t at = 0; map_next(map, &at, &key, &value);)`. The map may lose the current entry meanwhile, and must not
 * gain any. */
bool map_next(const struct map *map, size_t *at, struct slice *ret_key, void **ret_value);

#endif
