/* Kinds of which nothing is stored: their objects are made up when they are asked for. One function per kind lists them all; get, Tables and lists
 * follow from it. They are read only, and cannot be watched. */
#include "api/api_priv.h"

/* Calls put for each object until it fails. */
typedef int put_object_fn(void *userdata, const struct kube_object *object);

struct put_target {
    struct request *request;
    struct buffer *out;
    size_t count;
};

/* ---- component statuses: what clusters of several programs say of them; here one process is all of them, and it answers ---- */

static int each_component(put_object_fn *put, void *userdata) {
    static const char *const components[][2] = {{"scheduler", "ok"}, {"controller-manager", "ok"}, {"etcd-0", "ok"}};
    int error = 0;
    for (size_t i = 0; i < ARRAY_LEN(components) && error == 0; i++) {
        CLEANUP(kube_object_unrefp) struct kube_object *object = kube_object_new(&kube_kind_component_status);
        struct kube_component_condition condition = {.type = "Healthy", .status = "True", .message = components[i][1]};
        if (!object)
            return -ENOMEM;
        object->metadata->name = components[i][0];
        object->component_status->conditions.items = &condition;
        object->component_status->conditions.count = 1;
        error = put(userdata, object);
    }
    return error;
}

static const struct {
    const struct kube_kind *kind;
    int (*each)(put_object_fn *put, void *userdata);
} kinds[] = {{&kube_kind_component_status, each_component}};

/* ---- answers ---- */

static int put_row(struct put_target *target, const struct kube_object *object, struct slice json) {
    struct tree *cells = kube_table_row(object, target->request->arena, loop_wall_ns(target->request->api->loop));
    if (!cells)
        return -ENOMEM;
    buffer_append_text(target->out, "{\"cells\":");
    json_format(target->out, cells);
    buffer_append_text(target->out, ",\"object\":");
    buffer_append_slice(target->out, json);
    return buffer_append_text(target->out, "}");
}

static int put_object(void *userdata, const struct kube_object *object) {
    struct put_target *target = userdata;
    CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(MIB);
    const char *wanted = target->request->route.name;
    if (*wanted && strcmp(wanted, object->metadata->name))
        return 0;
    int error = kube_encode_json(object, &json);
    if (error)
        return error;
    buffer_append_text(target->out, target->count++ ? "," : "");
    return !api_is_table(target->request) ? buffer_append_slice(target->out, buffer_slice(&json))
                                                : put_row(target, object, buffer_slice(&json));
}

static void put_head(struct request *request, struct buffer *out) {
    const struct kube_kind *kind = request->kind;
    if (api_is_table(request))
        api_table_begin(request, kind, store_revision(request->api->store), NULL, out);
    else if (!*request->route.name)
        buffer_printf(out, "{\"kind\":\"%sList\",\"apiVersion\":\"%s\",\"metadata\":{},\"items\":[", kind->kind, kube_kind_api_version(kind));
}

void api_serve_virtual(struct request *request) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(API_ANSWER_BYTES_MAX);
    struct put_target target = {.request = request, .out = &out};
    struct api_failure failure;
    bool named = *request->route.name;
    int code = 0;
    if (strcmp(request->verb, named ? "get" : "list"))
        code = api_fail(&failure, 405, "MethodNotAllowed", "the server does not allow this method on the requested resource");
    put_head(request, &out);
    for (size_t i = 0; i < ARRAY_LEN(kinds) && !code; i++)
        if (kinds[i].kind == request->kind && kinds[i].each(put_object, &target))
            code = api_fail_no_memory(&failure);
    if (!code && named && !target.count)
        code = api_fail_not_found(&failure, request->kind, request->route.name);
    if (api_is_table(request))
        api_table_end(&out);
    else
        buffer_append_text(&out, named ? "\n" : "]}\n");
    if (!code && buffer_error(&out))
        code = api_fail_no_memory(&failure);
    if (code)
        api_respond_failure(request, &failure);
    else
        api_respond_json(request, 200, buffer_slice(&out));
}
