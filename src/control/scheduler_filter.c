/* Whether a pod fits a node (upstream: the filter plugins, in their order; the first that refuses gives the reasons). A refusal that other pods cause
 * could be helped by their going; one that the node itself causes cannot. */
#include <stdio.h>

#include "control/scheduler_priv.h"

void verdict_add(struct verdict *verdict, const char *reason) {
    size_t i = 0;
    while (i < verdict->count && strcmp(verdict->reasons[i].text, reason) != 0)
        i++;
    if (i == ARRAY_LEN(verdict->reasons))
        return; /* the message is long enough */
    if (i == verdict->count)
        snprintf(verdict->reasons[verdict->count++].text, SCHEDULER_REASON_BYTES, "%s", reason);
    verdict->reasons[i].count++;
}

static enum fit refuse(struct verdict *verdict, enum fit fit, const char *reason) {
    verdict_add(verdict, reason);
    return fit;
}

static enum fit check_taints(const struct wish *wish, const struct host *host, struct verdict *verdict) {
    static const struct kube_taint unschedulable = {.key = "node.kubernetes.io/unschedulable", .effect = "NoSchedule"};
    const struct kube_node *node = host->object->node;
    if (node->spec.unschedulable && !pod_tolerates(wish->spec, &unschedulable))
        return refuse(verdict, FITS_NEVER, "node(s) were unschedulable");
    for (size_t i = 0; i < node->spec.taints.count; i++) {
        const struct kube_taint *taint = &node->spec.taints.items[i];
        if ((!text_is(taint->effect, "NoSchedule") && !text_is(taint->effect, "NoExecute")) || pod_tolerates(wish->spec, taint))
            continue;
        char text[SCHEDULER_REASON_BYTES];
        snprintf(text, sizeof text, "node(s) had untolerated taint {%.80s: %.63s}", taint->key ? taint->key : "", taint->value ? taint->value : "");
        return refuse(verdict, FITS_NEVER, text);
    }
    return FITS;
}

static enum fit check_node(const struct wish *wish, const struct host *host, struct verdict *verdict) {
    return pod_selects_node(wish->spec, host->object) ? FITS : refuse(verdict, FITS_NEVER, "node(s) didn't match Pod's node affinity/selector");
}

/* ---- ports of the host ---- */

static enum fit check_ports(const struct wish *wish, const struct host *host, struct verdict *verdict) {
    for (size_t k = 0; k < host->pods.count; k++)
        if (kube_host_ports_clash(wish->spec, &host->pods.items[k]->object->pod->spec))
            return refuse(verdict, FITS_NOT, "node(s) didn't have free ports for the requested pod ports");
    return FITS;
}

/* ---- resources ---- */

static enum fit check_resources(const struct snapshot *snapshot, const struct wish *wish, const struct host *host, struct verdict *verdict) {
    enum fit fit = FITS;
    if ((int64_t)host->pods.count >= host->pods_max)
        fit = refuse(verdict, FITS_NOT, "Too many pods");
    for (size_t i = 0; i < snapshot->resources_count; i++) {
        int64_t request = wish->occupant->requests_milli[i];
        if (request <= 0 || request <= host->allocatable_milli[i] - host->used_milli[i])
            continue;
        char text[SCHEDULER_REASON_BYTES];
        snprintf(text, sizeof text, "Insufficient %.150s", snapshot->resources[i]);
        fit = refuse(verdict, FITS_NOT, text);
    }
    return fit;
}

enum fit fits(struct snapshot *snapshot, const struct wish *wish, const struct host *host, struct verdict *verdict) {
    enum fit fit = check_taints(wish, host, verdict);
    if (fit == FITS)
        fit = check_node(wish, host, verdict);
    if (fit == FITS)
        fit = check_ports(wish, host, verdict);
    if (fit == FITS)
        fit = check_resources(snapshot, wish, host, verdict);
    if (fit == FITS)
        fit = claims_check(snapshot, wish, host, verdict);
    if (fit == FITS)
        fit = spread_check(snapshot, wish, host, verdict);
    return fit == FITS ? affinity_check(snapshot, wish, host, verdict) : fit;
}
