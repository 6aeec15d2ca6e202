/* Events about pods, worded as kubelet words them, so that `kubectl describe` reads as people are used to.
 *
 * An event that repeats (same pod, container, reason, message) is counted up in the same object; what differs in its message only, and what comes too
 * often, is dealt with by correlate.c. One request at a time is under way for an event: what happens meanwhile is told with the next. An event that
 * is not there any more, or could not be told, is made anew with its count. The table of recent ones is bounded, the oldest falls out. Events are
 * best effort: when core does not answer, they are lost. */
#include "codec/codec.h"
#include "node/correlate_priv.h"
#include "node/node_priv.h"
#include "sys/sys.h"

#define EVENTS_MAX 512
#define MESSAGE_BYTES_MAX 1024
#define COMBINED "(combined from similar events): "

struct recent {
    struct node *node;
    char *key, *name, *namespace;
    char *lead;    /* its JSON as far as it never changes */
    char *message; /* the latest */
    int count;
    int64_t first_ns, last_ns;
    bool is_there, in_flight, is_dirty;
};
struct events {
    struct node *node;
    struct correlator *correlator;
    VECTOR(struct recent *) recent; /* the oldest first */
    uint64_t made;
};

int events_new(struct node *node, struct events **ret) {
    struct events *events = calloc(1, sizeof *events);
    int r = events ? correlator_new(&events->correlator) : -ENOMEM;
    if (r < 0) {
        free(events);
        return r;
    }
    events->node = node;
    *ret = events;
    return 0;
}

static void recent_free(struct recent *recent) {
    free(recent->key);
    free(recent->name);
    free(recent->namespace);
    free(recent->lead);
    free(recent->message);
    free(recent);
}

void events_free(struct events *events) {
    if (!events)
        return;
    for (size_t i = 0; i < events->recent.count; i++)
        recent_free(events->recent.items[i]);
    VECTOR_DEINIT(&events->recent);
    correlator_free(events->correlator);
    free(events);
}

static struct recent *find_recent(struct events *events, const char *key) {
    for (size_t i = 0; i < events->recent.count; i++)
        if (strcmp(events->recent.items[i]->key, key) == 0)
            return events->recent.items[i];
    return NULL;
}

/* False: all are being told at this moment. */
static bool make_room(struct events *events) {
    for (size_t i = 0; events->recent.count >= EVENTS_MAX && i < events->recent.count; i++)
        if (!events->recent.items[i]->in_flight) {
            recent_free(events->recent.items[i]);
            VECTOR_REMOVE(&events->recent, i);
        }
    return events->recent.count < EVENTS_MAX;
}

/* --- what is sent --- */

static void set_field(struct buffer *out, const char *name, const char *value, bool first) {
    buffer_printf(out, "%s\"%s\":", first ? "" : ",", name);
    json_format_string(out, slice_of(value ? value : ""));
}

/* What an event is about. */
struct subject {
    const char *kind, *namespace, *name, *uid, *resource_version;
    char field[200];
};

static void format_lead(const struct node *node, const struct subject *subject, const char *type, const char *reason, const struct recent *recent,
                        struct buffer *out) {
    buffer_append_text(out, "{\"apiVersion\":\"v1\",\"kind\":\"Event\",\"metadata\":{");
    set_field(out, "name", recent->name, true);
    set_field(out, "namespace", recent->namespace, false);
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
    buffer_append_byte(out, '}');
    set_field(out, "type", type, false);
    set_field(out, "reason", reason, false);
    set_field(out, "reportingComponent", "kubelet", false);
    set_field(out, "reportingInstance", node->options->node_name, false);
}

static struct recent *add_recent(struct node *node, const struct subject *subject, const char *type, const char *reason, const char *key) {
    CLEANUP(buffer_deinit) struct buffer lead = BUFFER_INIT(64 * KIB);
    struct events *events = node->events;
    struct recent *recent = make_room(events) ? calloc(1, sizeof *recent) : NULL;
    char name[300];
    if (!recent)
        return NULL;
    int64_t now_ns = loop_wall_ns(node->loop);
    snprintf(name, sizeof name, "%.230s.%016" PRIx64, subject->name, (uint64_t)now_ns + events->made++); /* time stands still within a turn */
    *recent = (struct recent){.node = node,
                              .key = strdup(key),
                              .name = strdup(name),
                              .namespace = strdup(*subject->namespace ? subject->namespace : "default"),
                              .first_ns = now_ns};
    if (recent->name && recent->namespace)
        format_lead(node, subject, type, reason, recent, &lead);
    recent->lead = buffer_error(&lead) ? NULL : slice_dup(buffer_slice(&lead));
    if (!recent->key || !recent->lead || VECTOR_PUSH(&events->recent, recent) < 0) {
        recent_free(recent);
        return NULL;
    }
    return recent;
}

static void format_change(const struct recent *recent, bool whole, struct buffer *out) {
    char time[TIMESTAMP_BYTES];
    timestamp_format(recent->last_ns, time);
    buffer_printf(out, "%s%s\"count\":%d,\"lastTimestamp\":\"%s\"", whole ? recent->lead : "{", whole ? "," : "", recent->count, time);
    set_field(out, "message", recent->message, false);
    timestamp_format(recent->first_ns, time);
    if (whole)
        set_field(out, "firstTimestamp", time, false);
    buffer_append_byte(out, '}');
}

static void send_recent(struct recent *recent);

static void on_answer(void *userdata, const struct http_answer *answer) {
    struct recent *recent = userdata;
    int r = client_check(answer, NULL);
    bool was_there = recent->is_there;
    recent->in_flight = false;
    recent->is_there = was_there ? r != -ENOENT : r == 0 || r == -EEXIST; /* made by a request whose answer was lost */
    if (recent->is_dirty || (was_there && !recent->is_there))
        send_recent(recent);
}

static void send_recent(struct recent *recent) {
    CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(64 * KIB);
    CLEANUP(arena_freep) struct arena *arena = arena_new(16 * KIB);
    bool is_there = recent->is_there;
    recent->is_dirty = recent->in_flight;
    const char *path = arena ? client_path(arena, &kube_kind_event, recent->namespace, is_there ? recent->name : NULL, NULL) : NULL;
    if (recent->in_flight || !path)
        return;
    format_change(recent, !is_there, &json);
    recent->in_flight =
        buffer_error(&json) == 0 && client_request(recent->node->client, is_there ? "PATCH" : "POST", path,
                                                   is_there ? "application/merge-patch+json" : NULL, buffer_slice(&json), on_answer, recent) == 0;
}

/* --- what happens --- */

/* Alike but for the message, and for which of the pod's containers it is about. */
static bool is_similar(struct events *events, const struct subject *subject, const char *type, const char *reason, const char *message,
                       int64_t now_ms) {
    char key[400];
    snprintf(key, sizeof key, "%s/%s/%s", subject->uid, type, reason);
    return correlate_is_similar(events->correlator, key, message, now_ms);
}

static void tell(struct node *node, const struct subject *subject, const char *type, const char *reason, const char *message) {
    struct events *events = node->events;
    char key[1800], combined[sizeof COMBINED + MESSAGE_BYTES_MAX];
    int64_t now_ms = loop_now_ns(node->loop) / 1000000;
    bool similar = is_similar(events, subject, type, reason, message, now_ms);
    snprintf(combined, sizeof combined, "%s%s", similar ? COMBINED : "", message);
    snprintf(key, sizeof key, "%s/%s/%s/%s/%s", subject->uid, subject->field, type, reason, similar ? COMBINED : message);
    struct recent *recent = find_recent(events, key);
    if (!recent)
        recent = add_recent(node, subject, type, reason, key);
    char *latest = recent ? strdup(combined) : NULL;
    if (!latest)
        return;
    free(recent->message);
    recent->message = latest;
    recent->count++;
    recent->last_ns = loop_wall_ns(node->loop);
    char source[300]; /* each container on its own: one that fails again and again silences no other */
    snprintf(source, sizeof source, "%s/%s", subject->uid, subject->field);
    if (correlate_may_tell(events->correlator, source, now_ms))
        send_recent(recent);
}

void event_pod(struct pod *pod, const struct unit *unit, const char *type, const char *reason, const char *format, ...) {
    const struct kube_object_meta *meta = (pod->object ? pod->object : pod->spec_object)->metadata;
    struct subject subject = {
        .kind = "Pod", .namespace = pod->namespace, .name = pod->name, .uid = pod->uid, .resource_version = meta->resource_version};
    char message[MESSAGE_BYTES_MAX];
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
    char message[MESSAGE_BYTES_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    if (node->client)
        tell(node, &subject, type, reason, message);
}
