/* What fails again and again is tried ever more rarely (upstream: client-go's flowcontrol.Backoff). Kept in memory: after a restart everything gets
 * one try at once. A clock that jumps back makes nobody wait longer than the delay. */
#include "control/control_priv.h"

#define DELAY_FIRST_NS NS_PER_S
#define DELAY_MAX_NS (900 * NS_PER_S)
#define ENTRIES_MAX 10000

struct entry {
    int64_t failed_ns, delay_ns;
};

int backoffs_init(struct backoffs *backoffs) {
    backoffs->entries = map_new();
    return backoffs->entries ? 0 : -ENOMEM;
}

void backoffs_deinit(struct backoffs *backoffs) {
    void *value;
    for (size_t at = 0; backoffs->entries && map_next(backoffs->entries, &at, NULL, &value);)
        free(value);
    map_free(backoffs->entries);
    backoffs->entries = NULL;
}

int64_t backoffs_left_ns(const struct backoffs *backoffs, const char *key, int64_t wall_ns) {
    const struct entry *entry = map_find(backoffs->entries, slice_of(key));
    return entry ? MAX(0, MIN(entry->failed_ns, wall_ns) + entry->delay_ns - wall_ns) : 0;
}

static bool is_over(const struct entry *entry, int64_t wall_ns) {
    return wall_ns - entry->failed_ns > 2 * DELAY_MAX_NS;
}

static void sweep(struct backoffs *backoffs, int64_t wall_ns) {
    struct slice key;
    void *value;
    for (size_t at = 0; map_next(backoffs->entries, &at, &key, &value);)
        if (is_over(value, wall_ns) || map_count(backoffs->entries) > ENTRIES_MAX)
            free(map_remove(backoffs->entries, key));
}

int backoffs_add(struct backoffs *backoffs, const char *key, int64_t wall_ns) {
    sweep(backoffs, wall_ns);
    struct entry *entry = map_find(backoffs->entries, slice_of(key));
    if (!entry) {
        entry = calloc(1, sizeof *entry);
        if (!entry || map_put(backoffs->entries, slice_of(key), entry, NULL) < 0) {
            free(entry);
            return -ENOMEM;
        }
    }
    entry->failed_ns = wall_ns;
    entry->delay_ns = entry->delay_ns ? MIN(2 * entry->delay_ns, DELAY_MAX_NS) : DELAY_FIRST_NS;
    return 0;
}
