/* A probe that says something else each time, or a container that fails every few seconds, must not fill the store. Two rules, in this order:
 *
 * 1. Similar ones (same subject, type and reason) with CORRELATE_SIMILAR different messages, none more than CORRELATE_SIMILAR_MS after the one
 * before, become one event that shows the latest message. The messages known last go on being counted each for itself.
 * 2. Each subject (a container; upstream: the pod) has a budget of CORRELATE_BURST, which fills up by one in CORRELATE_REST_MS. What exceeds it is
 * counted, and told with the next.
 *
 * Both tables are bounded; who was not heard of for the longest time is forgotten first, and begins anew. */
#include "node/correlate_priv.h"

#define ENTRIES_MAX 512

struct entry {
    char *key;
    int64_t last_ms;
    int64_t credit_ms;                    /* of a budget */
    uint64_t messages[CORRELATE_SIMILAR]; /* hashes of similar ones, the oldest first */
    size_t count;
};
typedef VECTOR(struct entry) entries;

struct correlator {
    entries similar, budgets;
};

int correlator_new(struct correlator **ret) {
    *ret = calloc(1, sizeof **ret);
    return *ret ? 0 : -ENOMEM;
}

static void entries_deinit(entries *list) {
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i].key);
    VECTOR_DEINIT(list);
}

void correlator_free(struct correlator *correlator) {
    if (!correlator)
        return;
    entries_deinit(&correlator->similar);
    entries_deinit(&correlator->budgets);
    free(correlator);
}

static void forget_oldest(entries *list) {
    size_t oldest = 0;
    for (size_t i = 1; i < list->count; i++)
        if (list->items[i].last_ms < list->items[oldest].last_ms)
            oldest = i;
    free(list->items[oldest].key);
    VECTOR_REMOVE(list, oldest);
}

/* NULL: no memory. */
static struct entry *find_or_add(entries *list, const char *key, const struct entry *fresh) {
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->items[i].key, key) == 0)
            return &list->items[i];
    if (list->count == ENTRIES_MAX)
        forget_oldest(list);
    struct entry entry = *fresh;
    entry.key = strdup(key);
    if (!entry.key || VECTOR_PUSH(list, entry) < 0) {
        free(entry.key);
        return NULL;
    }
    return &list->items[list->count - 1];
}

static bool knows(const struct entry *entry, uint64_t message) {
    for (size_t i = 0; i < entry->count; i++)
        if (entry->messages[i] == message)
            return true;
    return false;
}

bool correlate_is_similar(struct correlator *correlator, const char *key, const char *message, int64_t now_ms) {
    uint64_t hash = slice_hash(slice_of(message));
    struct entry *entry = find_or_add(&correlator->similar, key, &(struct entry){.last_ms = now_ms});
    if (!entry)
        return false;
    if (now_ms - entry->last_ms > CORRELATE_SIMILAR_MS)
        entry->count = 0;
    entry->last_ms = now_ms;
    if (!knows(entry, hash))
        entry->messages[entry->count++] = hash;
    if (entry->count < CORRELATE_SIMILAR)
        return false;
    memmove(entry->messages, entry->messages + 1, --entry->count * sizeof *entry->messages);
    return true;
}

bool correlate_may_tell(struct correlator *correlator, const char *subject, int64_t now_ms) {
    const int64_t full_ms = CORRELATE_BURST * CORRELATE_REST_MS;
    struct entry *entry = find_or_add(&correlator->budgets, subject, &(struct entry){.last_ms = now_ms, .credit_ms = full_ms});
    if (!entry)
        return false;
    entry->credit_ms = MIN(full_ms, entry->credit_ms + (now_ms - entry->last_ms));
    entry->last_ms = now_ms;
    if (entry->credit_ms < CORRELATE_REST_MS)
        return false;
    entry->credit_ms -= CORRELATE_REST_MS;
    return true;
}
