/* From a container of the API to an OCI bundle: what is inherited from image, pod and container, in this order, and Kubernetes' defaults. What a
 * container may do is decided in security.c. */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "node/node_priv.h"
#include "sys/sys.h"

#define SPEC_ARENA_BYTES_MAX (32 * MIB)
#define MOUNTS_MAX 256
#define DEVICES_MAX 256

/* --- process --- */

/* The layers' folders, highest first. */
static const char **layer_paths(const struct unit *unit, struct arena *arena) {
    const struct image *image = unit->image;
    const char **paths = ARENA_ARRAY(arena, const char *, image->layers_count + 1);
    for (size_t i = 0; paths && i < image->layers_count; i++) {
        paths[i] = arena_printf(arena, "%s/%s", unit->pod->node->layers_dir, image->layers[image->layers_count - 1 - i].chain_id + 7);
        if (!paths[i])
            return NULL;
    }
    return paths;
}

static int add_expanded(struct arena *arena, const struct kube_string_list *list, const char *const *env, const char **args, size_t *count) {
    for (size_t i = 0; i < list->count; i++) {
        args[*count] = environment_expand(arena, list->items[i] ? list->items[i] : "", env);
        if (!args[(*count)++])
            return -ENOMEM;
    }
    return 0;
}

/* command replaces the entry point and, when given alone, the image's arguments too. */
static int build_args(const struct unit *unit, struct arena *arena, const char *const *env, const char *const **ret, struct diag *diag) {
    const struct kube_container *spec = unit->spec;
    const struct image *image = unit->image;
    size_t count = 0;
    const char **args = ARENA_ARRAY(arena, const char *, spec->command.count + spec->args.count + image->entrypoint.count + image->command.count + 1);
    int r = args ? add_expanded(arena, &spec->command, env, args, &count) : -ENOMEM;
    for (size_t i = 0; r == 0 && spec->command.count == 0 && i < image->entrypoint.count; i++)
        args[count++] = image->entrypoint.items[i];
    if (r == 0)
        r = add_expanded(arena, &spec->args, env, args, &count);
    for (size_t i = 0; r == 0 && spec->command.count == 0 && spec->args.count == 0 && i < image->command.count; i++)
        args[count++] = image->command.items[i];
    if (r == 0 && count == 0)
        return diag_set(diag, -EINVAL, "no command specified");
    *ret = (const char *const *)args;
    return r;
}

static const char *const *with_home(struct arena *arena, const char *const *env, const char *home) {
    size_t count = 0;
    for (; env[count]; count++)
        if (strncmp(env[count], "HOME=", 5) == 0)
            return env;
    const char **all = ARENA_ARRAY(arena, const char *, count + 2);
    if (!all)
        return NULL;
    memcpy(all, env, count * sizeof *env);
    all[count] = arena_printf(arena, "HOME=%s", home);
    return all[count] ? (const char *const *)all : NULL;
}

static int build_process(struct unit *unit, struct arena *arena, struct bundle_process *ret, struct diag *diag) {
    const struct kube_security_context *security = unit->spec->security_context;
    const char **layers = layer_paths(unit, arena);
    struct identity *identity = ARENA_NEW(arena, struct identity);
    const char *const *env = NULL;
    struct bundle_process process = {.cwd = unit->spec->working_dir ? unit->spec->working_dir : unit->image->working_dir,
                                     .terminal = unit->spec->tty};
    if (!layers || !identity)
        return -ENOMEM;
    int r = security_user(unit, arena, layers, identity, diag);
    if (r == 0)
        r = environment_build(unit, arena, &env, diag);
    if (r < 0)
        return r;
    process.env = with_home(arena, env, identity->home);
    if (!process.env)
        return -ENOMEM;
    process.uid = identity->uid;
    process.gid = identity->gid;
    process.groups = identity->groups;
    process.groups_count = identity->groups_count;
    process.capabilities = security_capabilities(unit);
    process.no_new_privileges = security && security->allow_privilege_escalation && !*security->allow_privilege_escalation;
    process.has_oom_score_adj = true;
    process.oom_score_adj = qos_oom_score(unit);
    r = apparmor_profile(unit, &process.apparmor_profile, diag);
    if (r == 0)
        *ret = process;
    return r;
}

/* --- mounts and devices --- */

static int compare_mounts(const void *a, const void *b) {
    const struct bundle_mount *one = a, *two = b;
    return strcmp(one->destination, two->destination); /* a folder sorts before what is inside it */
}

static int add_mount(struct bundle *bundle, struct bundle_mount *mounts, const char *source, const char *destination, bool read_only) {
    if (bundle->mounts_count == MOUNTS_MAX)
        return -E2BIG;
    for (size_t i = 0; i < bundle->mounts_count; i++)
        if (strcmp(mounts[i].destination, destination) == 0)
            return 0; /* the pod's own volume comes before ours */
    mounts[bundle->mounts_count++] = (struct bundle_mount){.source = source, .destination = destination, .read_only = read_only};
    return 0;
}

static int add_own_mounts(const struct unit *unit, struct arena *arena, struct bundle *bundle, struct bundle_mount *mounts) {
    static const char *const names[] = {"hosts", "hostname", "resolv.conf"};
    const char *message = unit->spec->termination_message_path ? unit->spec->termination_message_path : "/dev/termination-log";
    int r = volumes_write_etc(unit->pod); /* a container that begins again must not fail of a file that was damaged since */
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(names); i++) {
        const char *source = arena_printf(arena, "%s/etc/%s", unit->pod->dir, names[i]), *target = arena_printf(arena, "/etc/%s", names[i]);
        r = source && target ? add_mount(bundle, mounts, source, target, false) : -ENOMEM;
    }
    const char *source = arena_printf(arena, "%s/containers/%s/%d/termination-log", unit->pod->dir, unit->spec->name, unit->restart_count);
    if (r == 0)
        r = source ? sys_write_file_fast(AT_FDCWD, source, SLICE(""), 0666) : -ENOMEM;
    if (r == 0 && chmod(source, 0666) < 0)
        r = -errno;
    if (r == 0 && unit->pod->id_base && chown(source, unit->pod->id_base, unit->pod->id_base) < 0)
        r = -errno;
    return r < 0 || *message != '/' ? r : add_mount(bundle, mounts, source, message, false);
}

/* A privileged container sees the host's devices, but for terminals and those every container has. */
static bool is_seen_device(const struct dirent *entry, const struct stat *st) {
    static const char *const own[] = {"null", "zero", "full", "random", "urandom", "tty", "console", "ptmx"};
    bool skip = strncmp(entry->d_name, "tty", 3) == 0 || strncmp(entry->d_name, "vcs", 3) == 0;
    for (size_t i = 0; i < ARRAY_LEN(own); i++)
        skip = skip || strcmp(entry->d_name, own[i]) == 0;
    return !skip && (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode));
}

/* With users of its own it gets no devices made, whose owner its root would be, but is shown the host's, as far as everybody may write to them. */
static int add_shown_devices(struct arena *arena, struct bundle *bundle, struct bundle_mount *mounts) {
    static const char *const options[] = {"bind", "rprivate", "nosuid", "noexec", NULL};
    int r = 0;
    DIR *dir = opendir("/dev");
    for (struct dirent *entry; dir && r == 0 && (entry = readdir(dir));) {
        struct stat st;
        size_t before = bundle->mounts_count;
        if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !is_seen_device(entry, &st) || !(st.st_mode & 0002))
            continue;
        const char *path = arena_printf(arena, "/dev/%s", entry->d_name);
        r = path ? add_mount(bundle, mounts, path, path, false) : -ENOMEM;
        if (r == 0 && bundle->mounts_count > before)
            mounts[before].options = options;
    }
    if (dir)
        closedir(dir);
    return r;
}

static int build_mounts(const struct unit *unit, struct arena *arena, struct bundle *bundle, struct diag *diag) {
    struct bundle_mount *mounts = ARENA_ARRAY(arena, struct bundle_mount, MOUNTS_MAX);
    size_t wanted = unit->spec->volume_mounts.count;
    int r = !mounts ? -ENOMEM : wanted > MOUNTS_MAX ? -E2BIG : 0;
    for (; r == 0 && bundle->mounts_count < wanted; bundle->mounts_count++)
        r = mounting_describe(unit, bundle->mounts_count, bundle->process.env, arena, &mounts[bundle->mounts_count], diag);
    if (r == 0)
        r = add_own_mounts(unit, arena, bundle, mounts);
    if (r == 0 && unit->pod->id_base && spec_is_privileged(unit))
        r = add_shown_devices(arena, bundle, mounts);
    if (r == 0)
        qsort(mounts, bundle->mounts_count, sizeof *mounts, compare_mounts);
    bundle->mounts = mounts;
    bundle->propagation = mounting_propagation(unit);
    return r;
}

static int add_devices(struct arena *arena, struct bundle *bundle) {
    struct bundle_device *devices = ARENA_ARRAY(arena, struct bundle_device, DEVICES_MAX);
    DIR *dir = opendir("/dev");
    for (struct dirent *entry; devices && dir && (entry = readdir(dir)) && bundle->devices_count < DEVICES_MAX;) {
        struct stat st;
        if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !is_seen_device(entry, &st))
            continue;
        devices[bundle->devices_count++] = (struct bundle_device){.path = arena_printf(arena, "/dev/%s", entry->d_name),
                                                                  .type = S_ISCHR(st.st_mode) ? 'c' : 'b',
                                                                  .major = major(st.st_rdev),
                                                                  .minor = minor(st.st_rdev),
                                                                  .mode = st.st_mode & 0777,
                                                                  .uid = st.st_uid,
                                                                  .gid = st.st_gid};
    }
    if (dir)
        closedir(dir);
    bundle->devices = devices;
    return devices ? 0 : -ENOMEM;
}

/* --- the whole --- */

static void on_pause_exit(void *userdata, __attribute__((unused)) pid_t pid, __attribute__((unused)) int status) {
    struct pod *pod = userdata;
    loop_child_free(TAKE(pod->pause)); /* it took all containers along; the next one that starts begins another */
}

static int start_pause(struct pod *pod, const char *group, pid_t *ret) {
    char users[PATH_MAX];
    const char *join[PIDNS_JOIN_MAX + 1];
    size_t count = 0;
    if (pod->net.network[0])
        join[count++] = pod->net.network;
    join[count++] = pod->net.ipc;
    join[count++] = pod->net.uts;
    userns_path(pod, USERNS_USER, users);
    if (pod->id_base)
        join[count++] = users;
    join[count] = NULL;
    return pidns_start(&pod->node->cgroups, group, join, ret);
}

/* The namespace that all containers of the pod share is there, or is made now. */
static int ensure_shared_processes(struct pod *pod, pid_t *ret, struct diag *diag) {
    char path[QOS_PATH_BYTES];
    qos_pause_path(pod, path);
    *ret = pidns_find(&pod->node->cgroups, path);
    if (*ret > 0)
        return 0;
    int r = start_pause(pod, path, ret);
    if (r == 0) {
        loop_child_free(TAKE(pod->pause));
        r = loop_child_new(pod->node->loop, *ret, on_pause_exit, pod, &pod->pause);
    }
    return r < 0 ? diag_set(diag, r, "cannot make the PID namespace that the pod shares: %s", strerror(-r)) : 0;
}

/* An ephemeral container may look into another one: it is in its PID namespace. In a pod that shares its processes all are in one. */
static int choose_pid_namespace(struct unit *unit, struct arena *arena, struct bundle *bundle, struct diag *diag) {
    const struct kube_pod_spec *spec = &unit->pod->spec_object->pod->spec;
    bool is_shared = spec->share_process_namespace && *spec->share_process_namespace;
    pid_t pid = 0;
    bundle->host_pid = spec->host_pid;
    if (spec->host_pid || (!is_shared && !unit->target))
        return 0;
    const struct unit *target = is_shared ? NULL : pod_unit(unit->pod, unit->target);
    if (target && target->stage == UNIT_RUNNING && target->container)
        pid = container_pid(target->container);
    int r = is_shared ? ensure_shared_processes(unit->pod, &pid, diag) : 0;
    if (r == 0 && pid <= 0)
        r = diag_set(diag, -ESRCH, "unable to find target container %s", unit->target);
    if (r < 0)
        return r;
    bundle->pid_namespace = arena_printf(arena, "/proc/%d/ns/pid", (int)pid);
    return bundle->pid_namespace ? 0 : -ENOMEM;
}

static int enter_user_namespace(const struct pod *pod, struct arena *arena, struct bundle *bundle) {
    char paths[3][PATH_MAX];
    if (!pod->id_base)
        return 0;
    for (int i = 0; i < 3; i++)
        userns_path(pod, (enum userns_file)i, paths[i]);
    bundle->id_base = pod->id_base;
    bundle->user_namespace = arena_strdup(arena, paths[USERNS_USER]);
    bundle->sysfs = arena_strdup(arena, paths[USERNS_SYSFS]);
    bundle->mqueue = arena_strdup(arena, paths[USERNS_MQUEUE]);
    return bundle->user_namespace && bundle->sysfs && bundle->mqueue ? 0 : -ENOMEM;
}

static int build(struct unit *unit, struct arena *arena, struct bundle *bundle, struct diag *diag) {
    struct pod *pod = unit->pod;
    const struct kube_pod_spec *spec = &pod->spec_object->pod->spec;
    const struct kube_security_context *security = unit->spec->security_context;
    int r = build_process(unit, arena, &bundle->process, diag);
    if (r == 0)
        r = build_args(unit, arena, bundle->process.env, &bundle->process.args, diag);
    if (r == 0)
        r = build_mounts(unit, arena, bundle, diag);
    if (r < 0)
        return r;
    bundle->rootfs = "rootfs";
    bundle->privileged = spec_is_privileged(unit);
    bundle->read_only_rootfs = security && security->read_only_root_filesystem && *security->read_only_root_filesystem;
    bundle->network_namespace = spec->host_network ? NULL : pod->net.network;
    bundle->ipc_namespace = spec->host_ipc ? NULL : pod->net.ipc;
    bundle->uts_namespace = spec->host_network ? NULL : pod->net.uts; /* the host's name too */
    r = choose_pid_namespace(unit, arena, bundle, diag);
    if (r < 0)
        return r;
    bundle->cgroup_path = arena_printf(arena, "%s/%s", pod->group, unit->id);
    qos_container_limits(unit, resize_allocated(unit), &bundle->limits);
    resize_begin(unit);
    bundle->unmasked = security_is_unmasked(unit);
    r = enter_user_namespace(pod, arena, bundle);
    if (r < 0)
        return r;
    if (!bundle->cgroup_path)
        return -ENOMEM;
    r = security_seccomp(unit, bundle->process.capabilities, &bundle->seccomp_program, diag);
    return r < 0 || !bundle->privileged || pod->id_base ? r : add_devices(arena, bundle);
}

int spec_format(struct unit *unit, struct buffer *out, struct diag *diag) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(SPEC_ARENA_BYTES_MAX);
    struct bundle bundle = {.rootfs = NULL};
    int r = arena ? build(unit, arena, &bundle, diag) : -ENOMEM;
    if (r == 0)
        r = bundle_format(&bundle, out);
    return r < 0 && !diag->message[0] ? diag_set(diag, r, "cannot describe the container: %s", strerror(-r)) : r;
}
