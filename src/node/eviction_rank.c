/* Who goes first, and what is said about it (upstream: pkg/kubelet/eviction/helpers.go).
 *
 *   memory, disk, inodes   those that use more than they asked for ─► the lowest priority ─► the most above what was asked for
 *   processes              the lowest priority ─► the most processes
 *
 * One thing is not upstream's: a pod whose end would not be noticed stays. There, when something else than pods fills the disk, one pod after the
 * other goes and nothing is won; on a machine that is the whole cluster that would be the outage that eviction is to prevent. Noticed means a
 * hundredth of what is lacking. */
#include "node/pressure_priv.h"

#include <stdio.h>
#include <stdlib.h>

#include "codec/codec.h"

#define HELP_PART 100

/* True before false. */
static int compare_flags(bool a, bool b) {
    return (int)b - (int)a;
}
static int compare_numbers(int64_t a, int64_t b) {
    return (a > b) - (a < b);
}

static int compare_by_usage(const void *left, const void *right) {
    const struct eviction_candidate *a = left, *b = right;
    int order = compare_flags(!a->is_known, !b->is_known);
    if (order == 0 && a->is_known)
        order = compare_flags(a->usage > a->request, b->usage > b->request);
    order = order ? order : compare_numbers(a->priority, b->priority);
    order = order ? order : compare_numbers(b->usage - b->request, a->usage - a->request);
    return order ? order : strcmp(a->uid, b->uid);
}

static int compare_by_priority(const void *left, const void *right) {
    const struct eviction_candidate *a = left, *b = right;
    int order = compare_numbers(a->priority, b->priority);
    order = order ? order : compare_numbers(b->usage, a->usage);
    return order ? order : strcmp(a->uid, b->uid);
}

void eviction_rank(enum pressure_signal signal, struct eviction_candidate *candidates, size_t count) {
    if (count)
        qsort(candidates, count, sizeof *candidates, signal == SIGNAL_PID_AVAILABLE ? compare_by_priority : compare_by_usage);
}

bool eviction_helps(const struct eviction_candidate *candidate, int64_t lacking) {
    return !candidate->is_known || candidate->usage >= MAX(lacking / HELP_PART, 1);
}

/* As a resource.Quantity shows itself: bytes with Ki, Mi, … when they are a whole number of those. */
static const char *amount(int64_t value, bool binary, char text[64]) {
    quantity_format(MIN(value, INT64_MAX / 1000) * 1000, binary, text);
    return text;
}

void eviction_message(const struct pressure_threshold *threshold, const struct pressure_observation *observation, const struct eviction_usage *usages,
                      size_t count, char *ret, size_t size) {
    const char *resource = pressure_resource(threshold->signal);
    bool binary = strcmp(resource, "memory") == 0 || strcmp(resource, "ephemeral-storage") == 0;
    char first[64], second[64];
    int len =
        snprintf(ret, size, "The node was low on resource: %s. Threshold quantity: %s, available: %s. ", resource,
                 amount(pressure_quantity(&threshold->value, observation->capacity), binary, first), amount(observation->available, binary, second));
    for (size_t i = 0; i < count && len >= 0 && (size_t)len < size; i++)
        if (binary && usages[i].usage > usages[i].request)
            len += snprintf(ret + len, size - (size_t)len, "Container %s was using %s, request is %s, has larger consumption of %s. ",
                            usages[i].container, amount(usages[i].usage, binary, first), amount(usages[i].request, binary, second), resource);
}
