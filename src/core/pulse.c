/* Is the node's process there? Upstream's nodes write a lease every ten seconds and are missed after forty; here core and node are on one machine,
 * and a process that ends is seen by the connection that it held: core asks the node's socket for an answer that never ends (GET /alive). In it the
 * node says a word every fifteen seconds, so that one that hangs is missed as well. Nothing of it is written; when it was last heard of is told to
 * who reads its lease or its conditions (api's heartbeat.c).
 *
 *   HELD ──(the connection breaks)──► MISSED ──(asked again in vain for GRACE_MS)──► LOST: core writes the conditions in the node's place
 *     │▲                                 │                                             ▲│
 *     │└─────────(an answer)─────────────┴──(an answer; the node writes them itself)───┼┘
 *     └───────────────────────────(nothing heard for SILENCE_MS)───────────────────────┘
 *
 * While it is missed it is asked again every RETRY_MS, and while it is lost too. */
#include "core/core_priv.h"

#include <limits.h>
#include <stdio.h>

#include "sys/sys.h"

#define GRACE_MS 10000
#define SILENCE_MS 35000
#define RETRY_MS 1000
#define ANSWER_MS 5000 /* the supervisor holds the socket, so a connection alone says nothing */

struct pulse {
    struct loop *loop;
    struct store *store;
    struct api *api;
    const char *node_name;
    struct http_client *client;
    struct http_request *request;
    struct loop_timer retry, grace, silence;
    int64_t silence_ms;
    int64_t heard_ns; /* by the clock on the wall; 0: never */
    bool is_held, is_lost;
};

static void ask(struct pulse *pulse);

static void set_condition(struct kube_node_condition *condition, int64_t wall_ns) {
    static const char *const types[] = {"Ready", "MemoryPressure", "DiskPressure", "PIDPressure"};
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (!condition->type || strcmp(condition->type, types[i]) != 0 || strcmp(condition->status, "Unknown") == 0)
            continue;
        condition->status = "Unknown";
        condition->reason = "NodeStatusUnknown";
        condition->message = "Kubelet stopped posting node status.";
        condition->last_transition_time = (struct kube_time){.ns = wall_ns - wall_ns % 1000000000, .set = true};
    }
}

/* Refused by a race with another writer: the next look writes it. */
static void tell_lost(struct pulse *pulse) {
    CLEANUP(store_object_unrefp)
    struct store_object *stored = store_get(pulse->store, slice_of(kube_kind_key(&kube_kind_node)), slice_of(""), slice_of(pulse->node_name));
    const struct kube_object *object = stored ? api_decode(pulse->api, stored) : NULL;
    struct kube_object *copy = object ? kube_object_copy(object) : NULL;
    struct api_failure failure;
    if (!copy)
        return;
    for (size_t i = 0; i < copy->node->status.conditions.count; i++)
        set_condition(&copy->node->status.conditions.items[i], loop_wall_ns(pulse->loop));
    if (kube_equal(&kube_node_status_type, &copy->node->status, &object->node->status)) {
        kube_object_unref(copy);
        return;
    }
    log_warning("the node %s does not answer: its conditions are unknown", pulse->node_name);
    if (api_update_status(pulse->api, copy, NULL, NULL, &failure))
        log_warning("cannot write the conditions of node %s: %s", pulse->node_name, failure.message);
}

static void on_grace(void *userdata) {
    struct pulse *pulse = userdata;
    pulse->is_lost = true;
    tell_lost(pulse);
}

static void miss(struct pulse *pulse) {
    pulse->request = NULL;
    loop_timer_cancel(&pulse->silence);
    if (pulse->is_lost)
        tell_lost(pulse); /* in case that it was not written */
    else if (!loop_timer_is_set(&pulse->grace))
        loop_timer_set(&pulse->grace, GRACE_MS);
    pulse->is_held = false;
    loop_timer_set(&pulse->retry, RETRY_MS);
}

static void hear(struct pulse *pulse) {
    pulse->heard_ns = loop_wall_ns(pulse->loop);
    loop_timer_set(&pulse->silence, pulse->silence_ms);
}

/* It hangs. The time that a missing one is given is over already. */
static void on_silence(void *userdata) {
    struct pulse *pulse = userdata;
    http_request_cancel(TAKE(pulse->request));
    loop_timer_cancel(&pulse->grace);
    pulse->is_lost = true;
    miss(pulse);
}

static void on_head(void *userdata, const struct http_answer *head) {
    struct pulse *pulse = userdata;
    pulse->is_held = head->status == 200;
    if (!pulse->is_held)
        return;
    hear(pulse);
    pulse->is_lost = false;
    loop_timer_cancel(&pulse->grace);
}

static void on_data(void *userdata, struct slice data) {
    (void)data;
    hear(userdata);
}

static void on_end(void *userdata, int error) {
    (void)error;
    miss(userdata);
}

static void ask(struct pulse *pulse) {
    static const struct http_stream_handlers handlers = {.on_head = on_head, .on_data = on_data, .on_end = on_end};
    const struct http_request_options options = {.method = "GET", .target = "/alive", .timeout_ms = ANSWER_MS};
    if (http_client_stream(pulse->client, &options, &handlers, pulse, &pulse->request) < 0)
        miss(pulse);
}

static void on_retry(void *userdata) {
    ask(userdata);
}

int pulse_new(const struct pulse_options *options, struct pulse **ret) {
    struct pulse *pulse = calloc(1, sizeof *pulse);
    char endpoint[PATH_MAX];
    if (!pulse)
        return -ENOMEM;
    *pulse = (struct pulse){.loop = options->loop, .store = options->store, .api = options->api, .node_name = options->node_name};
    pulse->silence_ms = options->silence_ms ? options->silence_ms : SILENCE_MS;
    loop_timer_init(&pulse->retry, pulse->loop, on_retry, pulse);
    loop_timer_init(&pulse->grace, pulse->loop, on_grace, pulse);
    loop_timer_init(&pulse->silence, pulse->loop, on_silence, pulse);
    snprintf(endpoint, sizeof endpoint, "unix:%s/node.sock", options->run);
    const struct http_client_options client = {.endpoint = endpoint, .connections_max = 1};
    int error = http_client_new(pulse->loop, &client, &pulse->client);
    if (error) {
        pulse_free(pulse);
        return error;
    }
    ask(pulse);
    *ret = pulse;
    return 0;
}

int64_t pulse_heard_ns(const struct pulse *pulse, const char *node_name) {
    return pulse && strcmp(node_name, pulse->node_name) == 0 ? pulse->heard_ns : 0;
}

void pulse_free(struct pulse *pulse) {
    if (!pulse)
        return;
    http_request_cancel(pulse->request);
    http_client_free(pulse->client);
    loop_timer_cancel(&pulse->retry);
    loop_timer_cancel(&pulse->grace);
    loop_timer_cancel(&pulse->silence);
    free(pulse);
}
