/* Cells of all kinds but pods, in the words of upstream's printers. */
#include "kube/cell_priv.h"

#include <ctype.h>

#define LISTED_MAX 3 /* of long lists, kubectl shows three and "+ 5 more..." */

CELL(age) {
    return tree_text(arena, cell_since(arena, object->metadata->creation_timestamp, now_ns));
}

CELL(service_cluster_ip) {
    const struct kube_service_spec *spec = &object->service->spec;
    return cell_text(arena, spec->cluster_ip ? spec->cluster_ip : spec->cluster_ips.count > 0 ? spec->cluster_ips.items[0] : NULL, "<none>");
}

CELL(service_external_ip) {
    const struct kube_service *service = object->service;
    struct buffer text = BUFFER_INIT(CELL_BYTES_MAX);
    bool balanced = kube_text_is(service->spec.type, "LoadBalancer");
    if (kube_text_is(service->spec.type, "ExternalName"))
        return cell_text(arena, service->spec.external_name, "");
    for (size_t i = 0; balanced && i < service->status.load_balancer.ingress.count; i++) {
        const struct kube_load_balancer_ingress *ingress = &service->status.load_balancer.ingress.items[i];
        cell_join(&text, ingress->ip ? ingress->ip : ingress->hostname);
    }
    for (size_t i = 0; i < service->spec.external_ips.count; i++)
        cell_join(&text, service->spec.external_ips.items[i]);
    return cell_take(arena, &text, balanced ? "<pending>" : "<none>");
}

CELL(service_ports) {
    const struct kube_service_spec *spec = &object->service->spec;
    struct buffer text = BUFFER_INIT(CELL_BYTES_MAX);
    for (size_t i = 0; i < spec->ports.count; i++) {
        const struct kube_service_port *port = &spec->ports.items[i];
        cell_join(&text, "");
        buffer_printf(&text, "%" PRId32, port->port);
        if (port->node_port > 0)
            buffer_printf(&text, ":%" PRId32, port->node_port);
        buffer_printf(&text, "/%s", kube_text_or(port->protocol, "TCP"));
    }
    return cell_take(arena, &text, "<none>");
}

CELL(service_selector) {
    struct buffer text = BUFFER_INIT(CELL_BYTES_MAX);
    cell_labels(&text, &object->service->spec.selector);
    return cell_take(arena, &text, "<none>");
}

CELL(data_count) {
    if (object->kind == &kube_kind_secret)
        return tree_int(arena, (int64_t)object->secret->data.count);
    return tree_int(arena, (int64_t)(object->config_map->data.count + object->config_map->binary_data.count));
}

CELL(secrets_count) {
    return tree_int(arena, (int64_t)object->service_account->secrets.count);
}

/* ---- nodes ---- */

CELL(node_status) {
    const struct kube_node *node = object->node;
    struct buffer text = BUFFER_INIT(CELL_BYTES_MAX);
    const char *ready = "Unknown";
    for (size_t i = 0; i < node->status.conditions.count; i++)
        if (kube_text_is(node->status.conditions.items[i].type, "Ready"))
            ready = kube_text_is(node->status.conditions.items[i].status, "True") ? "Ready" : "NotReady";
    cell_join(&text, ready);
    if (node->spec.unschedulable)
        cell_join(&text, "SchedulingDisabled");
    return cell_take(arena, &text, "");
}

CELL(node_roles) {
    const struct kube_string_map *labels = &object->metadata->labels;
    struct slice prefix = SLICE("node-role.kubernetes.io/");
    struct buffer text = BUFFER_INIT(CELL_BYTES_MAX);
    for (size_t i = 0; i < labels->count; i++) {
        if (slice_starts(slice_of(labels->items[i].key), prefix) && labels->items[i].key[prefix.len])
            cell_join(&text, labels->items[i].key + prefix.len);
        else if (strcmp(labels->items[i].key, "kubernetes.io/role") == 0 && labels->items[i].value[0])
            cell_join(&text, labels->items[i].value);
    }
    return cell_take(arena, &text, "<none>");
}

static struct tree *node_address(const struct kube_node *node, const char *type, struct arena *arena) {
    for (size_t i = 0; i < node->status.addresses.count; i++)
        if (kube_text_is(node->status.addresses.items[i].type, type))
            return cell_text(arena, node->status.addresses.items[i].address, "<none>");
    return tree_text(arena, "<none>");
}

CELL(node_internal_ip) {
    return node_address(object->node, "InternalIP", arena);
}
CELL(node_external_ip) {
    return node_address(object->node, "ExternalIP", arena);
}
CELL(node_os_image) {
    return cell_text(arena, object->node->status.node_info.os_image, "<unknown>");
}
CELL(node_kernel) {
    return cell_text(arena, object->node->status.node_info.kernel_version, "<unknown>");
}
CELL(node_runtime) {
    return cell_text(arena, object->node->status.node_info.container_runtime_version, "<unknown>");
}

/* ---- endpoints ---- */

CELL(endpoints) {
    const struct kube_endpoints *endpoints = object->endpoints;
    struct buffer text = BUFFER_INIT(CELL_BYTES_MAX);
    size_t count = 0;
    for (size_t i = 0; i < endpoints->subsets.count; i++) {
        const struct kube_endpoint_subset *subset = &endpoints->subsets.items[i];
        for (size_t j = 0; j < subset->addresses.count; j++)
            for (size_t k = 0; k < MAX(subset->ports.count, (size_t)1); k++, count++) {
                if (count >= LISTED_MAX)
                    continue;
                cell_join(&text, subset->addresses.items[j].ip);
                if (subset->ports.count > 0)
                    buffer_printf(&text, ":%" PRId32, subset->ports.items[k].port);
            }
    }
    if (count > LISTED_MAX)
        buffer_printf(&text, " + %zu more...", count - LISTED_MAX);
    return cell_take(arena, &text, "<none>");
}

CELL(slice_ports) {
    const struct kube_endpoint_slice *slice = object->endpoint_slice;
    struct buffer text = BUFFER_INIT(CELL_BYTES_MAX);
    for (size_t i = 0; i < slice->ports.count && i < LISTED_MAX; i++) {
        cell_join(&text, slice->ports.items[i].port ? "" : "*");
        if (slice->ports.items[i].port)
            buffer_printf(&text, "%" PRId32, *slice->ports.items[i].port);
    }
    if (slice->ports.count > LISTED_MAX)
        buffer_printf(&text, " + %zu more...", slice->ports.count - LISTED_MAX);
    return cell_take(arena, &text, "<unset>");
}

CELL(slice_endpoints) {
    const struct kube_endpoint_slice *slice = object->endpoint_slice;
    struct buffer text = BUFFER_INIT(CELL_BYTES_MAX);
    size_t count = 0;
    for (size_t i = 0; i < slice->endpoints.count; i++)
        for (size_t j = 0; j < slice->endpoints.items[i].addresses.count; j++, count++)
            if (count < LISTED_MAX)
                cell_join(&text, slice->endpoints.items[i].addresses.items[j]);
    if (count > LISTED_MAX)
        buffer_printf(&text, " + %zu more...", count - LISTED_MAX);
    return cell_take(arena, &text, "<unset>");
}

/* ---- events ---- */

static struct kube_time event_first(const struct kube_event *event) {
    return event->first_timestamp.set ? event->first_timestamp : event->event_time;
}

CELL(event_last_seen) {
    const struct kube_event *event = object->event;
    struct kube_time last = event->last_timestamp.set ? event->last_timestamp : event_first(event);
    return tree_text(arena, cell_since(arena, event->series ? event->series->last_observed_time : last, now_ns));
}
CELL(event_first_seen) {
    return tree_text(arena, cell_since(arena, event_first(object->event), now_ns));
}
CELL(event_count) {
    const struct kube_event *event = object->event;
    return tree_int(arena, event->series ? event->series->count : event->count ? event->count : 1);
}
CELL(event_object) {
    const struct kube_object_reference *involved = &object->event->involved_object;
    struct buffer text = BUFFER_INIT(CELL_BYTES_MAX);
    for (const char *c = kube_text_or(involved->kind, ""); *c; c++)
        buffer_append_byte(&text, (char)tolower((unsigned char)*c));
    if (involved->name)
        buffer_printf(&text, "/%s", involved->name);
    return cell_take(arena, &text, "");
}
CELL(event_source) {
    const struct kube_event *event = object->event;
    struct buffer text = BUFFER_INIT(CELL_BYTES_MAX);
    const char *component = kube_text_or(event->source.component, kube_text_or(event->reporting_component, ""));
    const char *host = kube_text_or(event->source.host, event->source.component ? "" : kube_text_or(event->reporting_instance, ""));
    buffer_append_text(&text, component);
    if (host[0])
        buffer_printf(&text, ", %s", host);
    return cell_take(arena, &text, "");
}
CELL(event_message) {
    struct slice message = slice_trim(slice_of(kube_text_or(object->event->message, "")));
    return tree_string(arena, message);
}

/* ---- workloads ---- */

CELL(container_names) {
    const struct kube_pod_spec *spec = kube_pod_spec_of(object);
    struct buffer text = BUFFER_INIT(CELL_BYTES_MAX);
    for (size_t i = 0; spec && i < spec->containers.count; i++)
        cell_join(&text, spec->containers.items[i].name);
    return cell_take(arena, &text, "");
}
CELL(container_images) {
    const struct kube_pod_spec *spec = kube_pod_spec_of(object);
    struct buffer text = BUFFER_INIT(CELL_BYTES_MAX);
    for (size_t i = 0; spec && i < spec->containers.count; i++)
        cell_join(&text, spec->containers.items[i].image);
    return cell_take(arena, &text, "");
}

static void join_requirement(struct buffer *text, const struct kube_label_selector_requirement *requirement) {
    const char *key = kube_text_or(requirement->key, "");
    if (kube_text_is(requirement->operator, "Exists")) {
        cell_join(text, key);
        return;
    }
    cell_join(text, kube_text_is(requirement->operator, "DoesNotExist") ? "!" : "");
    buffer_append_text(text, key);
    if (kube_text_is(requirement->operator, "DoesNotExist"))
        return;
    buffer_append_text(text, kube_text_is(requirement->operator, "In") ? " in (" : " notin (");
    for (size_t i = 0; i < requirement->values.count; i++)
        buffer_printf(text, "%s%s", i ? "," : "", requirement->values.items[i]);
    buffer_append_text(text, ")");
}

static struct tree *selector_cell(struct arena *arena, const struct kube_label_selector *selector) {
    struct buffer text = BUFFER_INIT(CELL_BYTES_MAX);
    if (selector)
        cell_labels(&text, &selector->match_labels);
    for (size_t i = 0; selector && i < selector->match_expressions.count; i++)
        join_requirement(&text, &selector->match_expressions.items[i]);
    return cell_take(arena, &text, "<none>");
}

static const struct kube_label_selector *selector_of(const struct kube_object *object) {
    if (object->kind == &kube_kind_deployment)
        return object->deployment->spec.selector;
    if (object->kind == &kube_kind_replica_set)
        return object->replica_set->spec.selector;
    if (object->kind == &kube_kind_daemon_set)
        return object->daemon_set->spec.selector;
    if (object->kind == &kube_kind_job)
        return object->job->spec.selector;
    return object->cron_job->spec.job_template.spec.selector;
}

CELL(label_selector) {
    struct buffer text = BUFFER_INIT(CELL_BYTES_MAX);
    if (object->kind != &kube_kind_replication_controller)
        return selector_cell(arena, selector_of(object));
    cell_labels(&text, &object->replication_controller->spec.selector);
    return cell_take(arena, &text, "<none>");
}
CELL(pod_selector) {
    return selector_cell(arena, &object->network_policy->spec.pod_selector);
}
CELL(template_labels) {
    struct buffer text = BUFFER_INIT(CELL_BYTES_MAX);
    cell_labels(&text, &object->pod_template->template.metadata.labels);
    return cell_take(arena, &text, "<none>");
}

CELL(stateful_set_ready) {
    const struct kube_stateful_set *set = object->stateful_set;
    return tree_printf(arena, "%" PRId32 "/%" PRId32, set->status.ready_replicas, set->spec.replicas ? *set->spec.replicas : 0);
}

CELL(daemon_node_selector) {
    struct buffer text = BUFFER_INIT(CELL_BYTES_MAX);
    cell_labels(&text, &object->daemon_set->spec.template.spec.node_selector);
    return cell_take(arena, &text, "<none>");
}

CELL(revision_controller) {
    const struct kube_owner_reference *owner = kube_controller_of(object->metadata);
    struct buffer text = BUFFER_INIT(CELL_BYTES_MAX);
    if (!owner)
        return tree_text(arena, "<none>");
    struct slice version = slice_of(owner->api_version), group = slice_cut(&version, '/');
    buffer_append_text(&text, kube_text_or(owner->kind, ""));
    if (version.data)
        buffer_printf(&text, ".%.*s", SLICE_ARG(group));
    for (size_t i = 0; i < text.len; i++)
        text.data[i] = (char)tolower((unsigned char)text.data[i]);
    buffer_printf(&text, "/%s", kube_text_or(owner->name, ""));
    return cell_take(arena, &text, "");
}

CELL(cron_zone) {
    return cell_text(arena, object->cron_job->spec.time_zone, "<none>");
}
CELL(cron_suspend) {
    const bool *suspend = object->cron_job->spec.suspend;
    return tree_text(arena, !suspend ? "<unset>" : *suspend ? "True" : "False");
}
CELL(cron_active) {
    return tree_int(arena, (int64_t)object->cron_job->status.active.count);
}
CELL(cron_last) {
    struct kube_time last = object->cron_job->status.last_schedule_time;
    return tree_text(arena, last.set ? cell_since(arena, last, now_ns) : "<none>");
}

CELL(deployment_ready) {
    const struct kube_deployment *deployment = object->deployment;
    struct buffer text = BUFFER_INIT(CELL_BYTES_MAX);
    buffer_printf(&text, "%" PRId32 "/%" PRId32, deployment->status.ready_replicas, deployment->spec.replicas ? *deployment->spec.replicas : 0);
    return cell_take(arena, &text, "");
}

CELL(job_status) {
    static const struct {
        const char *condition, *shown;
    } states[] = {{"Complete", "Complete"},
                  {"Failed", "Failed"},
                  {NULL, "Terminating"},
                  {"Suspended", "Suspended"},
                  {"FailureTarget", "FailureTarget"},
                  {"SuccessCriteriaMet", "SuccessCriteriaMet"}};
    const struct kube_job *job = object->job;
    for (size_t i = 0; i < ARRAY_LEN(states); i++) {
        if (!states[i].condition && job->metadata.deletion_timestamp.set)
            return tree_text(arena, states[i].shown);
        for (size_t j = 0; states[i].condition && j < job->status.conditions.count; j++)
            if (kube_text_is(job->status.conditions.items[j].type, states[i].condition) &&
                kube_text_is(job->status.conditions.items[j].status, "True"))
                return tree_text(arena, states[i].shown);
    }
    return tree_text(arena, "Running");
}

CELL(job_completions) {
    const struct kube_job *job = object->job;
    struct buffer text = BUFFER_INIT(CELL_BYTES_MAX);
    int32_t parallelism = job->spec.parallelism ? *job->spec.parallelism : 0;
    buffer_printf(&text, "%" PRId32 "/%" PRId32, job->status.succeeded, job->spec.completions ? *job->spec.completions : 1);
    if (!job->spec.completions && parallelism > 1)
        buffer_printf(&text, " of %" PRId32, parallelism);
    return cell_take(arena, &text, "");
}

CELL(job_duration) {
    const struct kube_job_status *status = &object->job->status;
    if (!status->start_time.set)
        return tree_text(arena, "");
    return tree_text(arena, cell_since(arena, status->start_time, status->completion_time.set ? status->completion_time.ns : now_ns));
}

/* ---- ingresses ---- */

CELL(ingress_class) {
    return cell_text(arena, object->ingress->spec.ingress_class_name, "<none>");
}

CELL(ingress_hosts) {
    const struct kube_ingress_spec *spec = &object->ingress->spec;
    struct buffer text = BUFFER_INIT(CELL_BYTES_MAX);
    size_t count = 0;
    for (size_t i = 0; i < spec->rules.count; i++)
        if (spec->rules.items[i].host && count++ < LISTED_MAX)
            cell_join(&text, spec->rules.items[i].host);
    if (count > LISTED_MAX)
        buffer_printf(&text, " + %zu more...", count - LISTED_MAX);
    return cell_take(arena, &text, "*");
}

CELL(ingress_address) {
    const struct kube_ingress_load_balancer_status *balancer = &object->ingress->status.load_balancer;
    struct buffer text = BUFFER_INIT(CELL_BYTES_MAX);
    for (size_t i = 0; i < balancer->ingress.count; i++)
        cell_join(&text, balancer->ingress.items[i].ip ? balancer->ingress.items[i].ip : balancer->ingress.items[i].hostname);
    return cell_take(arena, &text, "");
}

CELL(ingress_ports) {
    return tree_text(arena, object->ingress->spec.tls.count > 0 ? "80, 443" : "80");
}
