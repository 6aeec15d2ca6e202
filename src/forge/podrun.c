/* One pod from creation to its end, with its log: what jobs and builds run in.
 *
 *   creating ──► waiting ──► running (log streams) ──► terminal ──► log complete ──► on_end, pod deleted
 *
 * Invariants
 * 1. on_end comes exactly once unless podrun_kill or podrun_detach was called; the podrun is freed behind it.
 * 2. What the informer says is the truth about the pod; requests only cause changes. A pod that disappears ends the podrun.
 * 3. The log is read by one streaming request; when it breaks, a new one starts from the beginning and skips what is known: containers of these pods
 * never restart.
 * 4. Nothing waits for ever: a terminal pod whose log does not end is ended after LOG_GRACE_MS; an image that cannot be pulled ends the podrun. How
 * long a pod may run is the caller's to limit. */
#include "forge/forge_priv.h"

#include <stdio.h>

#define CREATE_TRIES_MAX 12
#define RETRY_MS 200
#define RETRY_MS_MAX 5000
#define LOG_GRACE_MS 5000
#define POD_NAME_MAX 63
#define REASON_BYTES 320
#define PODS_PATH "/api/v1/namespaces/" FORGE_NAMESPACE "/pods"

struct podrun {
    struct list node;
    struct forge *forge;
    char name[POD_NAME_MAX + 1];
    char *json; /* NULL: created, or adopted */
    size_t json_len;
    struct podrun_handlers handlers;
    void *userdata;
    struct http_request *request, *log_request;
    struct loop_timer timer;
    int tries;
    int64_t log_known, log_at; /* bytes handed on; bytes of this request so far */
    bool log_ok, log_done, started, terminal, ending;
    int exit_code;
    char reason[REASON_BYTES]; /* empty: none */
};

static void free_podrun(struct podrun *podrun) {
    list_remove(&podrun->node);
    loop_timer_cancel(&podrun->timer);
    http_request_cancel(podrun->request);
    http_request_cancel(podrun->log_request);
    free(podrun->json);
    free(podrun);
}

/* --- deleting pods --- */

static void destroy_operation(struct operation *operation) {
    free(operation);
}

static void on_deleted(void *userdata, const struct http_answer *answer) {
    (void)answer; /* what stays behind is found at the next start */
    struct operation *operation = userdata;
    operation->request = NULL;
    operation_end(operation);
}

static void delete_pod(struct forge *forge, const char *name) {
    char target[sizeof PODS_PATH + POD_NAME_MAX + 40];
    struct operation *operation = forge->closing ? NULL : calloc(1, sizeof *operation);
    if (!operation)
        return;
    snprintf(target, sizeof target, PODS_PATH "/%s?gracePeriodSeconds=0", name);
    operation_init(operation, forge, NULL, destroy_operation);
    if (operation_request(operation, "DELETE", target, NULL, (struct slice){0}, on_deleted))
        operation_end(operation);
}

void podrun_detach(struct podrun *podrun) {
    if (podrun)
        free_podrun(podrun);
}

void podrun_kill(struct podrun *podrun) {
    if (!podrun)
        return;
    delete_pod(podrun->forge, podrun->name);
    free_podrun(podrun);
}

static void finish(struct podrun *podrun) {
    const struct podrun_end end = {.started = podrun->started, .exit_code = podrun->exit_code, .reason = podrun->reason[0] ? podrun->reason : NULL};
    struct podrun_handlers handlers = podrun->handlers;
    podrun->ending = true;
    handlers.on_end(podrun->userdata, &end);
    podrun_kill(podrun);
}

/* From a timer, so that it never happens inside the caller's own call. */
static void finish_soon(struct podrun *podrun, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void finish_soon(struct podrun *podrun, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(podrun->reason, sizeof podrun->reason, format, args);
    va_end(args);
    podrun->exit_code = -1;
    podrun->terminal = podrun->log_done = true;
    loop_timer_set(&podrun->timer, 0);
}

/* --- the log --- */

static void on_log_head(void *userdata, const struct http_answer *head) {
    struct podrun *podrun = userdata;
    podrun->log_ok = head->status == 200;
    podrun->log_at = 0;
}

static void on_log_data(void *userdata, struct slice data) {
    struct podrun *podrun = userdata;
    if (!podrun->log_ok)
        return;
    int64_t known = MAX(podrun->log_known - podrun->log_at, 0);
    podrun->log_at += (int64_t)data.len;
    struct slice fresh = slice_from(data, (size_t)known);
    podrun->log_known += (int64_t)fresh.len;
    if (fresh.len > 0)
        podrun->handlers.on_output(podrun->userdata, fresh);
}

static void on_log_end(void *userdata, int error) {
    struct podrun *podrun = userdata;
    podrun->log_request = NULL;
    podrun->log_done = podrun->log_ok && !error;
    if (podrun->terminal && podrun->log_done)
        finish(podrun);
    else if (!podrun->log_done)
        loop_timer_set(&podrun->timer, RETRY_MS);
}

static void follow_log(struct podrun *podrun) {
    static const struct http_stream_handlers handlers = {.on_head = on_log_head, .on_data = on_log_data, .on_end = on_log_end};
    char target[sizeof PODS_PATH + POD_NAME_MAX + 40];
    if (podrun->log_request || podrun->log_done)
        return;
    snprintf(target, sizeof target, PODS_PATH "/%s/log?follow=true", podrun->name);
    const struct http_request_options options = {.method = "GET", .target = target};
    podrun->log_ok = false;
    if (http_client_stream(client_http(podrun->forge->options.client), &options, &handlers, podrun, &podrun->log_request))
        loop_timer_set(&podrun->timer, RETRY_MS);
}

/* --- what the informer tells --- */

static const struct kube_container_state *container_state(const struct kube_pod *pod) {
    static const struct kube_container_state none = {0};
    return pod->status.container_statuses.count ? &pod->status.container_statuses.items[0].state : &none;
}

static bool cannot_start(const char *reason) {
    static const char *const reasons[] = {"ErrImagePull",      "ImagePullBackOff",           "InvalidImageName",
                                          "ErrImageNeverPull", "CreateContainerConfigError", "CreateContainerError",
                                          "RunContainerError"};
    for (size_t i = 0; reason && i < ARRAY_LEN(reasons); i++)
        if (strcmp(reason, reasons[i]) == 0)
            return true;
    return false;
}

static void note_end(struct podrun *podrun, const struct kube_pod *pod, const struct kube_container_state *state) {
    bool succeeded = strcmp(pod->status.phase, "Succeeded") == 0;
    podrun->terminal = true;
    podrun->exit_code = state->terminated ? state->terminated->exit_code : succeeded ? 0 : -1;
    const char *reason = pod->status.reason;
    if (!reason && state->terminated && state->terminated->reason && strcmp(state->terminated->reason, "OOMKilled") == 0)
        reason = "it needed more memory than its limit (OOMKilled)";
    if (!reason && podrun->exit_code < 0)
        reason = "its container could not run";
    const char *message = pod->status.message                                         ? pod->status.message
                          : !succeeded && state->terminated && podrun->exit_code != 0 ? state->terminated->message
                                                                                      : NULL;
    if (!succeeded && reason)
        snprintf(podrun->reason, sizeof podrun->reason, "%s%s%s", reason, message ? ": " : "", message ? message : "");
}

static void look(struct podrun *podrun, const struct kube_pod *pod) {
    const struct kube_container_state *state = container_state(pod);
    const char *phase = pod->status.phase ? pod->status.phase : "";
    if (podrun->terminal || podrun->ending)
        return;
    if (state->waiting && cannot_start(state->waiting->reason)) {
        finish_soon(podrun, "%s: %s", state->waiting->reason,
                    state->waiting->message ? state->waiting->message : "the container could not be started");
        return;
    }
    if (!podrun->started && (state->running || state->terminated)) {
        podrun->started = true;
        if (podrun->handlers.on_running)
            podrun->handlers.on_running(podrun->userdata);
        follow_log(podrun);
    }
    if (strcmp(phase, "Succeeded") != 0 && strcmp(phase, "Failed") != 0)
        return;
    note_end(podrun, pod, state);
    loop_timer_set(&podrun->timer, podrun->log_done || !podrun->started ? 0 : LOG_GRACE_MS);
}

static struct podrun *find(const struct forge *forge, const char *name) {
    LIST_FOREACH(it, &forge->podruns) {
        struct podrun *podrun = CONTAINER_OF(it, struct podrun, node);
        if (strcmp(podrun->name, name) == 0)
            return podrun;
    }
    return NULL;
}

static void on_pod(void *userdata, enum informer_event event, struct kube_object *object, struct kube_object *old) {
    (void)old;
    struct forge *forge = userdata;
    struct podrun *podrun = find(forge, object->metadata->name);
    if (!podrun || podrun->json)
        return; /* somebody else's, or the one before with the same name */
    if (event != INFORMER_DELETED)
        look(podrun, object->pod);
    else if (!podrun->terminal)
        finish_soon(podrun, "its pod was deleted");
}

/* --- creating --- */

static void create(struct podrun *podrun);

static void on_created(void *userdata, const struct http_answer *answer) {
    struct podrun *podrun = userdata;
    struct diag diag = DIAG_INIT;
    podrun->request = NULL;
    int error = client_check(answer, &diag);
    if (error && error != -EEXIST && (answer->error || answer->status >= 500) && podrun->tries < CREATE_TRIES_MAX) {
        loop_timer_set(&podrun->timer, MIN(RETRY_MS << podrun->tries, RETRY_MS_MAX));
        return;
    }
    free(TAKE(podrun->json));
    if (error && error != -EEXIST) {
        finish_soon(podrun, "its pod could not be created: %s", diag.message);
        return;
    }
    struct kube_object *object = informer_find(podrun->forge->pods, FORGE_NAMESPACE, podrun->name);
    if (object)
        look(podrun, object->pod);
}

static void create(struct podrun *podrun) {
    const struct http_request_options options = {
        .method = "POST", .target = PODS_PATH, .content_type = "application/json", .body = slice_make(podrun->json, podrun->json_len)};
    podrun->tries++;
    if (http_client_send(client_http(podrun->forge->options.client), &options, on_created, podrun, &podrun->request))
        loop_timer_set(&podrun->timer, RETRY_MS);
}

static void on_timer(void *userdata) {
    struct podrun *podrun = userdata;
    if (podrun->terminal)
        finish(podrun);
    else if (podrun->json && !podrun->request)
        create(podrun);
    else if (podrun->started)
        follow_log(podrun);
}

static void adopt(struct podrun *podrun) {
    struct kube_object *object = podrun->forge->pods ? informer_find(podrun->forge->pods, FORGE_NAMESPACE, podrun->name) : NULL;
    if (object)
        look(podrun, object->pod);
    else
        finish_soon(podrun, "its pod was gone when the platform started again");
}

int podrun_start(struct forge *forge, const struct podrun_options *options, const struct podrun_handlers *handlers, void *userdata,
                 struct podrun **ret) {
    struct podrun *podrun = calloc(1, sizeof *podrun);
    if (!podrun)
        return -ENOMEM;
    *podrun =
        (struct podrun){.forge = forge, .handlers = *handlers, .userdata = userdata, .log_known = options->log_offset, .json_len = options->json.len};
    snprintf(podrun->name, sizeof podrun->name, "%s", options->name);
    loop_timer_init(&podrun->timer, forge->loop, on_timer, podrun);
    list_push(&forge->podruns, &podrun->node);
    if (options->json.data && !(podrun->json = slice_dup(options->json))) {
        free_podrun(podrun);
        return -ENOMEM;
    }
    *ret = podrun;
    if (podrun->json)
        create(podrun);
    else
        adopt(podrun);
    return 0;
}

/* --- start and end --- */

/* Pods that nobody waits for: left by a crash between a job's end and the deletion, or of builds that were cut off. */
static void delete_leftovers(struct forge *forge) {
    struct kube_object *object;
    for (size_t at = 0; (object = informer_next(forge->pods, &at));)
        if (!object->metadata->deletion_timestamp.set && !find(forge, object->metadata->name))
            delete_pod(forge, object->metadata->name);
}

static void on_namespace(void *userdata, const struct http_answer *answer) {
    (void)answer; /* exists already, or the creation of pods will tell */
    struct operation *operation = userdata;
    struct forge *forge = operation->forge;
    operation->request = NULL;
    operation_end(operation);
    forge->on_ready(forge);
    delete_leftovers(forge);
}

static void on_synced(void *userdata) {
    static const char body[] = "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"" FORGE_NAMESPACE "\"}}";
    struct forge *forge = userdata;
    struct operation *operation = calloc(1, sizeof *operation);
    if (!operation)
        return;
    operation_init(operation, forge, NULL, destroy_operation);
    if (operation_request(operation, "POST", "/api/v1/namespaces", "application/json", slice_of(body), on_namespace))
        operation_end(operation);
}

int podruns_watch(struct forge *forge, void (*on_ready)(struct forge *forge)) {
    const struct informer_options options = {.namespace = FORGE_NAMESPACE, .on_event = on_pod, .on_synced = on_synced, .userdata = forge};
    forge->on_ready = on_ready;
    return informer_new(forge->options.client, &kube_kind_pod, &options, &forge->pods);
}

void podruns_free(struct forge *forge) {
    while (!list_empty(&forge->podruns))
        free_podrun(CONTAINER_OF(forge->podruns.next, struct podrun, node));
    informer_free(TAKE(forge->pods));
}
