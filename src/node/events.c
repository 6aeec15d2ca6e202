/* Events about pods, worded as kubelet words them, so that `kubectl describe` reads as people are used to.
 *
 * An event that repeats (same pod, container, reason, message) is counted up in the same object, at most every REPEAT_MS; the table of recent ones is
 * bounded, the oldest fall out. Events are best effort: when core does not answer, they are lost. */
#include "codec/codec.h"
#include "node/node_priv.h"
#include "sys/sys.h"

#define EVENTS_MAX 512
#define REPEAT_MS 10000

struct recent {
    char *key, *name, *namespace;
    int count;
    int64_t sent_ms;
};
struct events {
    struct node *node;
    VECTOR(struct recent) recent; /* the oldest first */
};

int events_new(struct node *node, struct events **ret) {
    struct events *events = calloc(1, sizeof *events);
    if (!events)
        return -ENOMEM;
    events->node = node;
    *ret = events;
    return 0;
}

static void recent_deinit(struct recent *recent) {
    free(recent->key);
    free(recent->name);
    free(recent->namespace);
}

void events_free(struct events *events) {
    if (!events)
        return;
    for (size_t i = 0; i < events->recent.count; i++)
        recent_deinit(&events->recent.items[i]);
    VECTOR_DEINIT(&events->recent);
    free(events);
}

static struct recent *find_recent(struct events *events, const char *key) {
    for (size_t i = 0; i < events->recent.count; i++)
        if (strcmp(events->recent.items[i].key, key) == 0)
            return &events->recent.items[i];
    return NULL;
}

static struct recent *add_recent(struct events *events, const char *key, const char *name, const char *namespace) {
    struct recent recent = {.key = strdup(key), .name = strdup(name), .namespace = strdup(namespace), .count = 1};
    if (events->recent.count == EVENTS_MAX) {
        recent_deinit(&events->recent.items[0]);
        VECTOR_REMOVE(&events->recent, 0);
    }
    if (!recent.key || !recent.name || !recent.namespace || VECTOR_PUSH(&events->recent, recent) < 0) {
        recent_deinit(&recent);
        return NULL;
    }
    return &events->recent.items[events->recent.count - 1];
}

static void on_answer(__attribute__((unused)) void *userdata, __attribute__((unused)) const struct http_answer *answer) {
}

static void set_field(struct buffer *out, const char *name, const char *value, bool first) {
    buffer_printf(out, "%s\"%s\":", first ? "" : ",", name);
    json_format_string(out, slice_of(value ? value : ""));
}

/* What an event is about. */
struct subject {
    const char *kind, *namespace, *name, *uid, *resource_version;
    char field[200];
};

static void format_event(const struct node *node, const struct subject *subject, const char *type, const char *reason, const char *message,
                         const char *name, struct buffer *out) {
    char time[TIMESTAMP_BYTES];
    timestamp_format(loop_wall_ns(node->loop), time);
    buffer_append_text(out, "{\"apiVersion\":\"v1\",\"kind\":\"Event\",\"metadata\":{");
    set_field(out, "name", name, true);
    set_field(out, "namespace", *subject->namespace ? subject->namespace : "default", false);
    buffer_append_text(out, "},\"involvedObject\":{\"apiVersion\":\"v1\"");
    set_field(out, "kind", subject->kind, false);
    set_field(out, "name", subject->name, false);
    if (*subject->namespace)
        set_field(out, "namespace", subject->namespace, false);
    set_field(out, "uid", subject->uid, false);
    if (subject->resource_version)
        set_field(out, "resourceVersion", subject->resource_version, false);
    if (subject->field[0])
        set_field(out, "fieldPath", subject->field, false);
    buffer_append_text(out, "},\"source\":{\"component\":\"kubelet\"");
    set_field(out, "host", node->options->node_name, false);
    buffer_append_text(out, "},\"count\":1");
    set_field(out, "type", type, false);
    set_field(out, "reason", reason, false);
    set_field(out, "message", message, false);
    set_field(out, "firstTimestamp", time, false);
    set_field(out, "lastTimestamp", time, false);
    set_field(out, "reportingComponent", "kubelet", false);
    set_field(out, "reportingInstance", node->options->node_name, false);
    buffer_append_byte(out, '}');
}

static void send_new(struct node *node, const struct subject *subject, const char *type, const char *reason, const char *message, const char *key) {
    CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(64 * KIB);
    CLEANUP(arena_freep) struct arena *arena = arena_new(16 * KIB);
    const char *namespace = *subject->namespace ? subject->namespace : "default";
    char name[300];
    snprintf(name, sizeof name, "%.230s.%016" PRIx64, subject->name, (uint64_t)loop_wall_ns(node->loop) + node->events->recent.count);
    struct recent *recent = add_recent(node->events, key, name, namespace);
    const char *path = arena ? client_path(arena, &kube_kind_event, namespace, NULL, NULL) : NULL;
    if (!recent || !path)
        return;
    recent->sent_ms = loop_now_ns(node->loop) / 1000000;
    format_event(node, subject, type, reason, message, name, &json);
    if (buffer_error(&json) == 0)
        client_request(node->client, "POST", path, NULL, buffer_slice(&json), on_answer, NULL);
}

static void send_again(struct node *node, struct recent *recent) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(16 * KIB);
    char body[200], time[TIMESTAMP_BYTES];
    int64_t now_ms = loop_now_ns(node->loop) / 1000000;
    recent->count++;
    if (now_ms - recent->sent_ms < REPEAT_MS)
        return;
    recent->sent_ms = now_ms;
    timestamp_format(loop_wall_ns(node->loop), time);
    snprintf(body, sizeof body, "{\"count\":%d,\"lastTimestamp\":\"%s\"}", recent->count, time);
    const char *path = arena ? client_path(arena, &kube_kind_event, recent->namespace, recent->name, NULL) : NULL;
    if (path)
        client_request(node->client, "PATCH", path, "application/merge-patch+json", slice_of(body), on_answer, NULL);
}

static void tell(struct node *node, const struct subject *subject, const char *type, const char *reason, const char *message) {
    char key[1800];
    snprintf(key, sizeof key, "%s/%s/%s/%s", subject->uid, subject->field, reason, message);
    struct recent *recent = find_recent(node->events, key);
    if (recent)
        send_again(node, recent);
    else
        send_new(node, subject, type, reason, message, key);
}

void event_pod(struct pod *pod, const struct unit *unit, const char *type, const char *reason, const char *format, ...) {
    const struct kube_object_meta *meta = (pod->object ? pod->object : pod->spec_object)->metadata;
    struct subject subject = {
        .kind = "Pod", .namespace = pod->namespace, .name = pod->name, .uid = pod->uid, .resource_version = meta->resource_version};
    char message[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    if (pod->orphan || !pod->node->client)
        return;
    const char *list = !unit ? "" : unit->is_init ? "initContainers" : unit->is_ephemeral ? "ephemeralContainers" : "containers";
    if (unit)
        snprintf(subject.field, sizeof subject.field, "spec.%s{%s}", list, unit->spec->name);
    tell(pod->node, &subject, type, reason, message);
}

/* As kubelet does it, the uid is the node's name. */
void event_node(struct node *node, const char *type, const char *reason, const char *format, ...) {
    const char *name = node->options->node_name;
    const struct subject subject = {.kind = "Node", .namespace = "", .name = name, .uid = name};
    char message[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    if (node->client)
        tell(node, &subject, type, reason, message);
}
