/* What the scheduler asks of a node, asked again here: a pod whose author wrote nodeName has been seen by no scheduler, and two of them may want the
 * same port of the machine. Such a pod fails at once and says why; whoever owns it makes another.
 *
 * Only what other pods and the machine's size decide is looked at: the node's labels and taints are the API's, and not known here. */
#include "node/fitting_priv.h"

#include <inttypes.h>
#include <stdio.h>

static bool check_ports(const struct kube_pod *pod, const struct kube_pod *const *others, size_t count, struct fitting_refusal *ret) {
    for (size_t i = 0; i < count; i++)
        if (kube_host_ports_clash(&pod->spec, &others[i]->spec)) {
            *ret = (struct fitting_refusal){"NodePorts", "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"};
            return false;
        }
    return true;
}

static bool check_amount(const char *name, int64_t request, int64_t used, int64_t room, struct fitting_refusal *ret) {
    if (request <= 0 || request <= room - used)
        return true;
    snprintf(ret->reason, sizeof ret->reason, "OutOf%s", name);
    snprintf(ret->message, sizeof ret->message, "Node didn't have enough resource: %s, requested: %" PRId64 ", used: %" PRId64 ", capacity: %" PRId64,
             name, request, used, room);
    return false;
}

/* In the unit that is told: thousandths of CPU, whole bytes. */
static int64_t amount_of(const struct kube_pod *pod, struct arena *arena, const char *name, int64_t unit_milli) {
    struct kube_quantity_map requests = {.count = 0}, limits;
    if (kube_pod_resources_held(pod, arena, &requests, &limits))
        return 0;
    return kube_quantity_milli(&requests, name, 0) / unit_milli;
}

bool fitting_check(const struct kube_pod *pod, const struct kube_pod *const *others, size_t others_count, const struct fitting_room *room,
                   struct fitting_refusal *ret_refusal) {
    const struct {
        const char *name;
        int64_t unit_milli, room;
    } resources[] = {{"cpu", 1, room->cpu_milli}, {"memory", 1000, room->memory}, {"ephemeral-storage", 1000, room->disk}};
    CLEANUP(arena_freep) struct arena *arena = arena_new(16 * MIB);
    if (!check_amount("pods", 1, (int64_t)others_count, room->pods, ret_refusal))
        return false;
    for (size_t r = 0; arena && r < ARRAY_LEN(resources); r++) {
        int64_t request = amount_of(pod, arena, resources[r].name, resources[r].unit_milli), used = 0;
        for (size_t i = 0; request && i < others_count; i++)
            used += amount_of(others[i], arena, resources[r].name, resources[r].unit_milli);
        if (!check_amount(resources[r].name, request, used, resources[r].room, ret_refusal))
            return false;
    }
    return check_ports(pod, others, others_count, ret_refusal);
}
