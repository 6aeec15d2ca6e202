/* A pod's state on disk, so that a node killed at any instruction knows afterwards what it had under way.
 *
 *   <state>/pods/<uid>/pod.json     the object as it was taken on
 *   <state>/pods/<uid>/allocated.json  while the node has not granted what pod.json asks for: the object as it was granted (resize.c)
 *   <state>/pods/<uid>/record.json  per container: stage, id, restart count, times, last exits; replaced by rename on every change
 * Written without fsync, which would hold up every start: after a crash of the process the page cache is still there, and after one of the machine no
 * container is; a file that is empty then is a damaged one, its pod begins anew. */
#include <dirent.h>
#include <sys/stat.h>

#include "codec/codec.h"
#include "node/node_priv.h"
#include "sys/sys.h"

#define POD_BYTES_MAX (4 * MIB)

static const char *const stage_names[] = {"waiting", "waiting", "creating", "starting", "running", "exited"};

static void format_termination(struct buffer *out, const char *name, const struct termination *end) {
    if (!end->set)
        return;
    buffer_printf(out, ",\"%s\":{\"code\":%d,\"started\":%" PRId64 ",\"finished\":%" PRId64 ",\"id\":\"%s\",\"reason\":", name, end->code,
                  end->started_ns, end->finished_ns, end->id);
    json_format_string(out, slice_of(end->reason));
    buffer_append_text(out, ",\"message\":");
    json_format_string(out, slice_of(end->message));
    buffer_append_byte(out, '}');
}

int record_save(struct pod *pod) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(RECORD_BYTES_MAX);
    char path[PATH_MAX];
    buffer_printf(&out,
                  "{\"startTime\":%" PRId64
                  ",\"active\":%s,\"ended\":\"%s\",\"address\":\"%s\",\"address6\":\"%s\",\"failedReason\":\"%s\",\"failedGrace\":%" PRId64
                  ",\"disrupted\":%" PRId64 ",\"resizing\":%s,\"users\":%u,\"failedMessage\":",
                  pod->start_time_ns, pod->stage == POD_ACTIVE ? "true" : "false", pod->stage == POD_ENDED ? pod->phase : "", pod->net.address,
                  pod->net.address6, pod->failed_reason, pod->failed_grace_s, pod->is_disrupted ? pod->disrupted_ns : 0,
                  pod->resize.in_progress ? "true" : "false", (unsigned)pod->id_base);
    json_format_string(&out, slice_of(pod->failed_message));
    buffer_append_text(&out, ",\"units\":{");
    for (size_t i = 0; i < pod->units_count; i++) {
        const struct unit *unit = pod->units[i];
        buffer_append_text(&out, i ? "," : "");
        json_format_string(&out, slice_of(unit->spec->name));
        buffer_printf(&out,
                      ":{\"stage\":\"%s\",\"id\":\"%s\",\"restarts\":%d,\"hasRun\":%s,\"started\":%s,\"ready\":%s,\"startedAt\":%" PRId64
                      ",\"backoff\":%" PRId64 ",\"imageID\":\"%s\"",
                      stage_names[unit->stage], unit->id, unit->restart_count, unit->has_run ? "true" : "false", unit->started ? "true" : "false",
                      unit->ready ? "true" : "false", unit->started_ns, unit->backoff.delay_ms, unit->image_id);
        if (unit->post_starting)
            buffer_append_text(&out, ",\"postStarting\":true");
        format_termination(&out, "current", &unit->current);
        format_termination(&out, "last", &unit->last);
        buffer_append_byte(&out, '}');
    }
    buffer_append_text(&out, "}}\n");
    snprintf(path, sizeof path, "%s/record.json", pod->dir);
    int r = buffer_error(&out) ? buffer_error(&out) : sys_write_file_fast(AT_FDCWD, path, buffer_slice(&out), 0600);
    if (r < 0)
        log_error("cannot write %s: %s", path, strerror(-r));
    return r;
}

int record_save_spec(const struct pod *pod) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(POD_BYTES_MAX);
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/pod.json", pod->dir);
    int r = sys_mkdirs(pod->dir, 0700);
    if (r == 0)
        r = kube_encode_json(pod->spec_object, &out);
    return r < 0 ? r : sys_write_file_fast(AT_FDCWD, path, buffer_slice(&out), 0600);
}

static void load_termination(const struct tree *tree, struct termination *ret) {
    if (!tree)
        return;
    ret->set = true;
    ret->code = (int)tree_int_or(tree_find(tree, "code"), 0);
    ret->started_ns = tree_int_or(tree_find(tree, "started"), 0);
    ret->finished_ns = tree_int_or(tree_find(tree, "finished"), 0);
    snprintf(ret->id, sizeof ret->id, "%s", tree_text_or(tree_find(tree, "id"), ""));
    snprintf(ret->reason, sizeof ret->reason, "%s", tree_text_or(tree_find(tree, "reason"), ""));
    snprintf(ret->message, sizeof ret->message, "%s", tree_text_or(tree_find(tree, "message"), ""));
}

static void load_unit(const struct tree *tree, struct unit *unit) {
    const char *stage = tree_text_or(tree_find(tree, "stage"), "waiting");
    for (size_t i = 0; i < ARRAY_LEN(stage_names); i++)
        if (i != UNIT_PULLING && strcmp(stage, stage_names[i]) == 0)
            unit->stage = (enum unit_stage)i;
    unit->post_starting = unit->stage == UNIT_RUNNING && tree_bool_or(tree_find(tree, "postStarting"), false);
    const char *id = tree_text_or(tree_find(tree, "id"), "");
    if (strspn(id, "0123456789abcdef") == strlen(id)) /* it becomes part of paths */
        snprintf(unit->id, sizeof unit->id, "%s", id);
    snprintf(unit->image_id, sizeof unit->image_id, "%s", tree_text_or(tree_find(tree, "imageID"), ""));
    unit->restart_count = (int)tree_int_or(tree_find(tree, "restarts"), 0);
    unit->has_run = tree_bool_or(tree_find(tree, "hasRun"), false);
    unit->started = tree_bool_or(tree_find(tree, "started"), false);
    unit->ready = tree_bool_or(tree_find(tree, "ready"), false);
    unit->started_ns = tree_int_or(tree_find(tree, "startedAt"), 0);
    unit->backoff.delay_ms = tree_int_or(tree_find(tree, "backoff"), 0);
    load_termination(tree_find(tree, "current"), &unit->current);
    load_termination(tree_find(tree, "last"), &unit->last);
}

int record_load(struct pod *pod) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(RECORD_BYTES_MAX + 1);
    CLEANUP(arena_freep) struct arena *arena = arena_new(8 * RECORD_BYTES_MAX);
    struct tree *root = NULL;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/record.json", pod->dir);
    int r = arena ? sys_read_file(AT_FDCWD, path, RECORD_BYTES_MAX, &text) : -ENOMEM;
    if (r == 0)
        r = json_parse(arena, buffer_slice(&text), &(struct json_options){.allow_duplicates = true}, &root, NULL);
    if (r < 0)
        return r;
    pod->start_time_ns = tree_int_or(tree_find(root, "startTime"), pod->start_time_ns);
    const char *ended = tree_text_or(tree_find(root, "ended"), "");
    snprintf(pod->net.address, sizeof pod->net.address, "%s", tree_text_or(tree_find(root, "address"), ""));
    snprintf(pod->net.address6, sizeof pod->net.address6, "%s", tree_text_or(tree_find(root, "address6"), ""));
    snprintf(pod->failed_reason, sizeof pod->failed_reason, "%s", tree_text_or(tree_find(root, "failedReason"), ""));
    if (pod->failed_reason[0])
        snprintf(pod->failed_message, sizeof pod->failed_message, "%s", tree_text_or(tree_find(root, "failedMessage"), POD_DEADLINE_MESSAGE));
    pod->failed_grace_s = tree_int_or(tree_find(root, "failedGrace"), -1);
    pod->resize.in_progress = tree_bool_or(tree_find(root, "resizing"), false);
    pod->disrupted_ns = tree_int_or(tree_find(root, "disrupted"), 0);
    pod->id_base = (uid_t)tree_int_or(tree_find(root, "users"), 0);
    pod->is_disrupted = pod->disrupted_ns != 0;
    if (tree_bool_or(tree_find(root, "active"), false))
        pod->stage = POD_ACTIVE;
    if (*ended) {
        pod->stage = POD_ENDED;
        pod->phase = strcmp(ended, "Failed") == 0 ? "Failed" : "Succeeded";
        pod->network_ready = true;
    }
    for (size_t i = 0; i < pod->units_count; i++) {
        const struct tree *unit = tree_find(tree_find(root, "units"), pod->units[i]->spec->name);
        if (unit)
            load_unit(unit, pod->units[i]);
    }
    return 0;
}

/* A pod whose files cannot be read: its volumes and logs stay for the case that the API knows it (strays.c). */
static void forget(const struct node *node, const char *uid) {
    static const char *const names[] = {"record.json", "status.json", "pod.json"};
    char path[PATH_MAX];
    struct stat st;
    snprintf(path, sizeof path, "%s/pods/%s", node->state_dir, uid);
    if (lstat(path, &st) == 0 && !S_ISDIR(st.st_mode))
        unlink(path);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(path, sizeof path, "%s/pods/%s/%s", node->state_dir, uid, names[i]);
        sys_remove_tree(AT_FDCWD, path);
    }
}

static void load_pod(struct node *node, const char *uid) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(POD_BYTES_MAX + 1);
    struct kube_object *object = NULL;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/pods/%s/pod.json", node->state_dir, uid);
    int r = sys_read_file(AT_FDCWD, path, POD_BYTES_MAX, &text);
    if (r == 0)
        r = kube_decode_json(&kube_kind_pod, buffer_slice(&text), KUBE_LENIENT, &object, NULL);
    if (r == 0 && (!object->metadata->uid || strcmp(object->metadata->uid, uid) != 0))
        r = -EBADMSG;
    if (r == 0)
        r = pod_add(node, object, true);
    kube_object_unref(object);
    if (r == 0)
        return;
    log_warning("cannot take over pod %s (%s): its containers end, and begin anew when the API still knows it", uid, strerror(-r));
    forget(node, uid);
}

int record_load_all(struct node *node) {
    char path[PATH_MAX];
    VECTOR(char *) uids = {0};
    snprintf(path, sizeof path, "%s/pods", node->state_dir);
    int r = sys_mkdirs(path, 0700);
    DIR *dir = r == 0 ? opendir(path) : NULL;
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        char *uid = entry->d_name[0] == '.' ? NULL : strdup(entry->d_name);
        if (uid && VECTOR_PUSH(&uids, uid) < 0)
            free(uid);
    }
    if (dir)
        closedir(dir);
    for (size_t i = 0; i < uids.count; i++) {
        load_pod(node, uids.items[i]);
        free(uids.items[i]);
    }
    VECTOR_DEINIT(&uids);
    return r;
}

/* The folder goes last: as long as it is there, the rest is known to be its. */
void record_remove(struct pod *pod) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/logs/%s_%s_%s", pod->node->state_dir, pod->namespace, pod->name, pod->uid);
    trash_put(pod->node, path);
    trash_put(pod->node, pod->dir);
}
