/* Helpers within the folder. */
#ifndef TIDEMILL_KUBE_HELPERS_PRIV_H
#define TIDEMILL_KUBE_HELPERS_PRIV_H

#include "kube/schema_priv.h"

/* The {key, value} pair of any of the sorted maps, or NULL. */
void *kube_pair_find(const void *map, size_t pair_size, const char *key);
/* As above, inserted with a zero value when absent; NULL at the arena's limit. */
void *kube_pair_add(void *map, struct arena *arena, size_t pair_size, const char *key);
/* False for NULL. */
bool kube_text_is(const char *text, const char *expected);
static inline const char *kube_text_or(const char *text, const char *fallback) {
    return text ? text : fallback;
}

#endif
