/* metrics.k8s.io/v1beta1: what nodes and pods use now (kubectl top). Nothing is stored: the node is asked (its /stats/summary), and each of its
 * readings becomes a NodeMetrics or PodMetrics, as metrics-server does: CPU in billionths of a core, memory (working set) in kibibytes. A pod that
 * the store does not have (any more) is left out, so labels can be selected by. */
#include "api/api_priv.h"

#define USAGE_VERSION "metrics.k8s.io/v1beta1"

bool api_is_usage(const struct request *request) {
    const struct api_route *route = &request->route;
    return !strcmp(route->group, "metrics.k8s.io") && !strcmp(route->version, "v1beta1");
}

static bool is_of_nodes(const struct request *request) {
    return !strcmp(request->route.plural, "nodes");
}

static const struct kube_kind *measured_kind(const struct request *request) {
    return is_of_nodes(request) ? &kube_kind_node : &kube_kind_pod;
}

/* --- answers --- */

static void put_usage(struct buffer *out, const struct tree *reading) {
    int64_t cpu = tree_int_or(tree_path(reading, "cpu.usageNanoCores"), 0), memory = tree_int_or(tree_path(reading, "memory.workingSetBytes"), 0);
    buffer_printf(out, "\"usage\":{\"cpu\":\"%" PRId64 "n\",\"memory\":\"%" PRId64 "Ki\"}", cpu, memory / KIB);
}

static void put_head(struct buffer *out, const struct request *request, const struct kube_object *object, const struct tree *reading) {
    const struct kube_object_meta *metadata = object->metadata;
    const char *time = tree_text_or(tree_path(reading, "cpu.time"), "");
    const struct tree *window = tree_path(reading, "cpu.windowSeconds");
    buffer_printf(out, "{\"kind\":\"%s\",\"apiVersion\":\"" USAGE_VERSION "\",\"metadata\":{\"name\":\"%s\"",
                  is_of_nodes(request) ? "NodeMetrics" : "PodMetrics", metadata->name);
    if (object->kind->namespaced)
        buffer_printf(out, ",\"namespace\":\"%s\"", metadata->namespace);
    buffer_printf(out, ",\"creationTimestamp\":\"%s\"", time);
    for (size_t i = 0; i < metadata->labels.count; i++) {
        buffer_append_text(out, i ? "," : ",\"labels\":{");
        json_format_string(out, slice_of(metadata->labels.items[i].key));
        buffer_append_byte(out, ':');
        json_format_string(out, slice_of(metadata->labels.items[i].value));
    }
    buffer_printf(out, "%s},\"timestamp\":\"%s\",\"window\":\"", metadata->labels.count ? "}" : "", time);
    if (window)
        json_format(out, window);
    buffer_append_text(out, "s\",");
}

static void put_item(struct buffer *out, const struct request *request, const struct kube_object *object, const struct tree *reading) {
    put_head(out, request, object, reading);
    if (is_of_nodes(request)) {
        put_usage(out, reading);
        buffer_append_byte(out, '}');
        return;
    }
    const struct tree *containers = tree_find(reading, "containers");
    buffer_append_text(out, "\"containers\":[");
    for (size_t i = 0; i < tree_count(containers); i++) {
        buffer_printf(out, "%s{\"name\":\"%s\",", i ? "," : "", tree_text_or(tree_find(tree_at(containers, i), "name"), ""));
        put_usage(out, tree_at(containers, i));
        buffer_append_byte(out, '}');
    }
    buffer_append_text(out, "]}");
}

struct usage_answer {
    struct request *request;
    struct selection selection;
    struct buffer items;
    size_t count;
};

/* The object that a reading is of, when it is asked for; a reference, or NULL. */
static struct kube_object *wanted(const struct usage_answer *answer, const struct tree *reading) {
    const struct request *request = answer->request;
    const char *namespace = tree_text_or(tree_path(reading, "podRef.namespace"), "");
    const char *name = tree_text_or(tree_path(reading, is_of_nodes(request) ? "nodeName" : "podRef.name"), "");
    if ((*request->route.name && strcmp(request->route.name, name)) || (*request->route.namespace && strcmp(request->route.namespace, namespace)))
        return NULL;
    struct kube_object *object = api_stored_get(request->api, measured_kind(request), namespace, name);
    bool matches = object && (!answer->selection.labels || kube_selector_match(answer->selection.labels, &object->metadata->labels)) &&
                   (!answer->selection.fields || kube_field_selector_match(answer->selection.fields, object));
    if (matches)
        return object;
    kube_object_unref(object);
    return NULL;
}

static void add(struct usage_answer *answer, const struct tree *reading) {
    CLEANUP(kube_object_unrefp) struct kube_object *object = wanted(answer, reading);
    if (!object)
        return;
    if (answer->count++)
        buffer_append_byte(&answer->items, ',');
    put_item(&answer->items, answer->request, object, reading);
}

static void respond(struct usage_answer *answer) {
    struct request *request = answer->request;
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(API_ANSWER_BYTES_MAX);
    struct api_failure failure;
    if (*request->route.name && !answer->count) {
        api_fail(&failure, 404, "NotFound", "%s.metrics.k8s.io \"%s\" not found", request->route.plural, request->route.name);
        api_respond_failure(request, &failure);
        return;
    }
    if (*request->route.name) {
        buffer_append_slice(&out, buffer_slice(&answer->items));
        buffer_append_byte(&out, '\n');
    } else {
        buffer_printf(&out, "{\"kind\":\"%sMetricsList\",\"apiVersion\":\"" USAGE_VERSION "\",\"metadata\":{},\"items\":[",
                      is_of_nodes(request) ? "Node" : "Pod");
        buffer_append_slice(&out, buffer_slice(&answer->items));
        buffer_append_text(&out, "]}\n");
    }
    if (buffer_error(&answer->items) || buffer_error(&out)) {
        api_fail_no_memory(&failure);
        api_respond_failure(request, &failure);
        return;
    }
    api_respond_json(request, 200, buffer_slice(&out));
}

/* --- asking the node --- */

static void on_summary(void *userdata, const struct http_answer *answer) {
    struct usage_answer *usage = userdata;
    struct request *request = usage->request;
    struct tree *summary = NULL;
    if (request->exchange && (answer->error || answer->status != 200)) {
        api_respond_node_lost(request, answer->error ? answer->error : -EPROTO);
    } else if (request->exchange && json_parse(request->arena, answer->body, NULL, &summary, NULL)) {
        api_respond_node_lost(request, -EBADMSG);
    } else if (request->exchange) {
        const struct tree *pods = tree_find(summary, "pods");
        if (is_of_nodes(request))
            add(usage, tree_find(summary, "node"));
        for (size_t i = 0; !is_of_nodes(request) && i < tree_count(pods); i++)
            add(usage, tree_at(pods, i));
        respond(usage);
    }
    buffer_deinit(&usage->items);
    free(usage);
    api_request_release(request);
}

static bool is_known(const struct request *request) {
    const struct api_route *route = &request->route;
    bool nodes = is_of_nodes(request), pods = !strcmp(route->plural, "pods");
    return (nodes || pods) && !*route->subresource && !(nodes && *route->namespace) && !(pods && *route->name && !*route->namespace);
}

void api_serve_usage(struct request *request) {
    struct api *api = request->api;
    struct api_failure failure;
    if (!is_known(request)) {
        api_respond_unknown_path(request);
        return;
    }
    struct usage_answer *usage = calloc(1, sizeof *usage);
    request->kind = measured_kind(request);
    int code = 0;
    if (strcmp(request->verb, "get") && strcmp(request->verb, "list"))
        code = api_fail(&failure, 405, "MethodNotAllowed", "the server does not allow this method on the requested resource");
    else if (!usage)
        code = api_fail_no_memory(&failure);
    else if (!api_node_client(api))
        code = api_fail(&failure, 503, "ServiceUnavailable", "this API server has no node to ask");
    else
        code = api_selection_of_request(request, &usage->selection, &failure);
    if (!code) {
        usage->request = request;
        buffer_init(&usage->items, API_ANSWER_BYTES_MAX);
        api_request_hold(request);
        const struct http_request_options options = {.method = "GET", .target = "/stats/summary?only_cpu_and_memory=true"};
        if (!http_client_send(api->node, &options, on_summary, usage, NULL))
            return;
        api_request_release(request);
        code = api_fail_no_memory(&failure);
    }
    free(usage);
    api_respond_failure(request, &failure);
}
