/* From a container's config.json and a command's arguments to what the program of enter/ reads. */
#include "runtime/enter_request.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <stdio.h>
#include <sys/resource.h>

#include "codec/codec.h"
#include "runtime/bundle.h"
#include "runtime/enter_priv.h"
#include "sys/sys.h"

#define SECCOMP_MAX 32768 /* BPF_MAXINSNS is 4096; what is longer fails in the kernel */

static const struct {
    const char *name;
    int resource;
} rlimit_names[] = {
    {"RLIMIT_AS", RLIMIT_AS},           {"RLIMIT_CORE", RLIMIT_CORE},         {"RLIMIT_CPU", RLIMIT_CPU},
    {"RLIMIT_DATA", RLIMIT_DATA},       {"RLIMIT_FSIZE", RLIMIT_FSIZE},       {"RLIMIT_LOCKS", RLIMIT_LOCKS},
    {"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK}, {"RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE}, {"RLIMIT_NICE", RLIMIT_NICE},
    {"RLIMIT_NOFILE", RLIMIT_NOFILE},   {"RLIMIT_NPROC", RLIMIT_NPROC},       {"RLIMIT_RSS", RLIMIT_RSS},
    {"RLIMIT_RTPRIO", RLIMIT_RTPRIO},   {"RLIMIT_RTTIME", RLIMIT_RTTIME},     {"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING},
    {"RLIMIT_STACK", RLIMIT_STACK},
};

static int rlimit_resource(const char *name) {
    for (size_t i = 0; i < ARRAY_LEN(rlimit_names); i++)
        if (strcmp(rlimit_names[i].name, name) == 0)
            return rlimit_names[i].resource;
    return -1;
}

static uint64_t capabilities_of(const struct tree *process, const char *set) {
    const struct tree *list = tree_find(tree_find(process, "capabilities"), set);
    uint64_t bits = 0;
    for (size_t i = 0; i < tree_count(list); i++)
        bits |= bundle_capability(slice_of(tree_text_or(tree_at(list, i), "")));
    return bits;
}

static void add_text(struct buffer *out, const char *text) {
    buffer_append(out, text, strlen(text) + 1);
}

static uint32_t add_texts(struct buffer *out, const struct tree *list) {
    for (size_t i = 0; i < tree_count(list); i++)
        add_text(out, tree_text_or(tree_at(list, i), ""));
    return (uint32_t)tree_count(list);
}

static uint32_t add_rlimits(struct buffer *out, const struct tree *list) {
    uint32_t count = 0;
    for (size_t i = 0; i < tree_count(list); i++) {
        const struct tree *from = tree_at(list, i);
        int resource = rlimit_resource(tree_text_or(tree_find(from, "type"), ""));
        const struct enter_rlimit limit = {.soft = (uint64_t)tree_int_or(tree_find(from, "soft"), -1),
                                           .hard = (uint64_t)tree_int_or(tree_find(from, "hard"), -1),
                                           .resource = (uint32_t)resource};
        if (resource < 0)
            continue;
        buffer_append(out, &limit, sizeof limit);
        count++;
    }
    return count;
}

static uint32_t add_groups(struct buffer *out, const struct tree *list) {
    for (size_t i = 0; i < tree_count(list); i++) {
        uint32_t group = (uint32_t)tree_int_or(tree_at(list, i), 0);
        buffer_append(out, &group, sizeof group);
    }
    return (uint32_t)tree_count(list);
}

/* The program as it was compiled for crun. -EBADMSG when it is no whole number of instructions. */
static int add_seccomp(struct buffer *out, const struct tree *root, uint32_t *ret_count) {
    const struct tree *text = tree_find(tree_find(root, "annotations"), "run.oci.seccomp_bpf_data");
    size_t before = out->len;
    int r = text ? base64_decode(out, slice_of(tree_text_or(text, ""))) : 0;
    size_t bytes = out->len - before;
    if (r == 0 && (bytes % sizeof(struct sock_filter) || bytes / sizeof(struct sock_filter) > SECCOMP_MAX))
        r = -EBADMSG;
    *ret_count = (uint32_t)(bytes / sizeof(struct sock_filter));
    return r;
}

struct groups {
    struct buffer *out;
    uint32_t count;
};
static void on_cgroup(void *userdata, const char *folder) {
    struct groups *groups = userdata;
    buffer_append_text(groups->out, folder);
    add_text(groups->out, "/cgroup.procs");
    groups->count++;
}

static void fill_header(struct enter_request *request, const struct tree *process) {
    const struct tree *user = tree_find(process, "user"), *score = tree_find(process, "oomScoreAdj");
    request->user = (uint32_t)tree_int_or(tree_find(user, "uid"), 0);
    request->group = (uint32_t)tree_int_or(tree_find(user, "gid"), 0);
    request->bounding = capabilities_of(process, "bounding");
    request->effective = capabilities_of(process, "effective");
    request->permitted = capabilities_of(process, "permitted");
    request->inheritable = capabilities_of(process, "inheritable");
    request->ambient = capabilities_of(process, "ambient");
    request->oom_score = (int32_t)tree_int_or(score, 0);
    request->flags |= (score ? ENTER_HAS_OOM_SCORE : 0) | (tree_bool_or(tree_find(process, "noNewPrivileges"), false) ? ENTER_NO_NEW_PRIVILEGES : 0);
}

static int fill(const struct enter_source *source, const struct tree *root, struct buffer *out) {
    const struct tree *process = tree_find(root, "process"), *args = tree_find(process, "args");
    struct enter_request request = {.magic = ENTER_MAGIC, .pid = (int32_t)source->pid, .flags = source->terminal ? ENTER_NEEDS_TERMINAL : 0};
    struct groups groups = {.out = out};
    if (!process || !args)
        return -EBADMSG;
    fill_header(&request, process);
    buffer_append(out, &request, sizeof request);
    request.rlimits_count = add_rlimits(out, tree_find(process, "rlimits"));
    request.groups_count = add_groups(out, tree_path(process, "user.additionalGids"));
    int r = add_seccomp(out, root, &request.seccomp_count);
    if (r < 0)
        return r;
    add_text(out, tree_text_or(tree_find(process, "cwd"), "/"));
    add_text(out, tree_text_or(tree_find(process, "apparmorProfile"), ""));
    cgroup_folders(source->cgroups, source->cgroup_path, on_cgroup, &groups);
    request.cgroups_count = groups.count;
    for (; source->args[request.args_count]; request.args_count++)
        add_text(out, source->args[request.args_count]);
    request.env_count = add_texts(out, tree_find(process, "env"));
    if (buffer_error(out))
        return buffer_error(out);
    memcpy(out->data, &request, sizeof request);
    return request.args_count ? 0 : -EINVAL;
}

int enter_request_format(const struct enter_source *source, struct slice config_json, struct buffer *out) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(4 * BUNDLE_BYTES_MAX);
    struct tree *root = NULL;
    int r = arena ? json_parse(arena, config_json, &(struct json_options){.allow_duplicates = false}, &root, NULL) : -ENOMEM;
    return r < 0 ? r : fill(source, root, out);
}

const char *enter_request_folder(struct slice bytes) {
    struct enter_request request;
    memcpy(&request, bytes.data, sizeof request);
    return bytes.data + sizeof request + request.rlimits_count * sizeof(struct enter_rlimit) + request.groups_count * sizeof(uint32_t) +
           request.seccomp_count * sizeof(struct sock_filter);
}

/* --- what went wrong, in runc's words, which people look up --- */

static const char *const step_texts[] = {
    [ENTER_STEP_NONE] = "the process that was to run it was killed",
    [ENTER_STEP_CGROUP] = "error adding the process to the container's cgroup: %s",
    [ENTER_STEP_OOM_SCORE] = "error setting oom_score_adj: %s",
    [ENTER_STEP_NAMESPACES] = "error joining the container's namespaces: %s",
    [ENTER_STEP_FORK] = "error creating the process: %s",
    [ENTER_STEP_RLIMITS] = "error setting rlimits: %s",
    [ENTER_STEP_TERMINAL] = "error opening a terminal beneath /dev/pts: %s",
    [ENTER_STEP_APPARMOR] = "unable to apply apparmor profile: %s",
    [ENTER_STEP_FOLDER] = "chdir to cwd (\"%s\") set in config.json failed: %s",
    [ENTER_STEP_FOLDER_OUTSIDE] =
        "current working directory is outside of container mount namespace root -- possible container breakout detected: %s",
    [ENTER_STEP_USER] = "setting the user and groups failed: %s",
    [ENTER_STEP_CAPABILITIES] = "setting capabilities failed: %s",
    [ENTER_STEP_SECCOMP] = "unable to load the seccomp filter: %s",
    [ENTER_STEP_SEARCH] = "exec: \"%s\": executable file not found in $PATH",
    [ENTER_STEP_LOOK] = "exec: \"%s\": %s",
    [ENTER_STEP_EXEC] = "exec %s: %s",
};

/* Go writes errors in lower case. */
static void error_text(int error, char *ret, size_t size) {
    snprintf(ret, size, "%s", strerror(error));
    if (*ret >= 'A' && *ret <= 'Z' && ret[1] >= 'a')
        *ret = (char)(*ret - 'A' + 'a');
}

int enter_explain(enum enter_step step, int error, const char *folder, const char *program, char *ret, size_t size) {
    char why[128], look[512], text[1024];
    error_text(error, why, sizeof why);
    snprintf(look, sizeof look, error == EACCES || error == EISDIR ? "%s%s" : "stat %s: %s", error == EACCES || error == EISDIR ? "" : program, why);
    if (step >= ARRAY_LEN(step_texts))
        step = ENTER_STEP_NONE;
    const char *first = step == ENTER_STEP_FOLDER   ? folder
                        : step >= ENTER_STEP_SEARCH ? program
                                                    : why,
               *second = step == ENTER_STEP_LOOK ? look : why;
    snprintf(text, sizeof text, step_texts[step], first, second);
    snprintf(ret, size, "OCI runtime exec failed: exec failed: unable to start container process: %s: unknown", text);
    bool is_missing = error == ENOENT && (step == ENTER_STEP_SEARCH || step == ENTER_STEP_LOOK);
    return is_missing ? 127 : 126;
}
