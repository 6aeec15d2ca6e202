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

/* Clients may write year 1: half of what ns holds, so that differences can still be taken. */
static inline struct kube_time kube_time_far(int64_t us) {
    return (struct kube_time){.ns = us < 0 ? INT64_MIN / 2 : INT64_MAX / 2, .far_us = us, .set = true};
}
static inline void kube_time_format(const struct kube_time *time, bool micro, char ret[TIMESTAMP_BYTES]) {
    if (time->far_us)
        timestamp_format_far(time->far_us, micro, ret);
    else if (micro)
        timestamp_format_micro(time->ns, ret);
    else
        timestamp_format(time->ns, ret);
}

#endif
