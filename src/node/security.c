/* What a container may do, and as whom: Kubernetes' security contexts, the container's before the pod's.
 *
 * Seccomp is RuntimeDefault unless a profile or a privileged container says otherwise; a profile is compiled once and kept: the default by
 * capabilities (some add calls), one of <state>/seccomp by its file's time and size as well, so that an edited file counts for the next container.
 *
 * AppArmor: apparmor.c. SELinux options have no effect: no policy is known here. */
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "codec/codec.h"
#include "node/node_priv.h"
#include "sys/sys.h"

#define PROGRAMS_MAX 256

static const struct kube_pod_security_context *of_pod(const struct unit *unit) {
    return unit->pod->spec_object->pod->spec.security_context;
}

bool spec_is_privileged(const struct unit *unit) {
    const struct kube_security_context *security = unit->spec->security_context;
    return security && security->privileged && *security->privileged;
}

/* --- capabilities --- */

/* What this machine grants at all: a node in a container or a confined virtual machine may lack some, and crun fails on what it cannot give. */
static uint64_t possible_capabilities(void) {
    uint64_t possible = 0;
    for (unsigned long i = 0; i < 64; i++)
        if (prctl(PR_CAPBSET_READ, i, 0, 0, 0) == 1)
            possible |= UINT64_C(1) << i;
    return possible;
}

uint64_t security_capabilities(const struct unit *unit) {
    const struct kube_security_context *security = unit->spec->security_context;
    const struct kube_capabilities *wanted = security ? security->capabilities : NULL;
    uint64_t capabilities = spec_is_privileged(unit) ? BUNDLE_CAPABILITIES_ALL : BUNDLE_CAPABILITIES_DEFAULT;
    if (spec_is_privileged(unit))
        return capabilities & possible_capabilities();
    for (size_t i = 0; wanted && i < wanted->drop.count; i++)
        if (bundle_capability(slice_of(wanted->drop.items[i])) == BUNDLE_CAPABILITIES_ALL)
            capabilities = 0;
    for (size_t i = 0; wanted && i < wanted->add.count; i++)
        capabilities |= bundle_capability(slice_of(wanted->add.items[i]));
    for (size_t i = 0; wanted && i < wanted->drop.count; i++) {
        uint64_t drop = bundle_capability(slice_of(wanted->drop.items[i]));
        if (drop != BUNDLE_CAPABILITIES_ALL)
            capabilities &= ~drop;
    }
    return capabilities & possible_capabilities();
}

/* --- user and groups --- */

/* kubelet's three refusals. A name proves nothing: the image says what it stands for, so it is not even looked up. */
static int check_non_root(const struct unit *unit, const int64_t *run_as, struct diag *diag) {
    const struct kube_security_context *security = unit->spec->security_context;
    const struct kube_pod_security_context *pod = of_pod(unit);
    const bool *non_root = security && security->run_as_non_root ? security->run_as_non_root : pod ? pod->run_as_non_root : NULL;
    struct slice rest = slice_of(unit->image->user), user = slice_cut(&rest, ':');
    uint64_t number = 0;
    char where[700];
    snprintf(where, sizeof where, "(pod: \"%s_%s(%s)\", container: %s)", unit->pod->name, unit->pod->namespace, unit->pod->uid, unit->spec->name);
    if (!non_root || !*non_root)
        return 0;
    if (run_as)
        return *run_as ? 0 : diag_set(diag, -EPERM, "container's runAsUser breaks non-root policy %s", where);
    if (user.len && slice_parse_u64(user, UINT32_MAX - 1, &number) < 0)
        return diag_set(diag, -EPERM, "container has runAsNonRoot and image has non-numeric user (%.*s), cannot verify user is non-root %s",
                        SLICE_ARG(user), where);
    return number ? 0 : diag_set(diag, -EPERM, "container has runAsNonRoot and image will run as root %s", where);
}

/* In a user namespace there are no others. */
static int check_range(const struct unit *unit, const struct identity *identity, struct diag *diag) {
    uint32_t most = MAX(identity->uid, identity->gid);
    for (size_t i = 0; i < identity->groups_count; i++)
        most = MAX(most, identity->groups[i]);
    return !unit->pod->id_base || most < USERNS_IDS
               ? 0
               : diag_set(diag, -EINVAL, "user or group %" PRIu32 " is not among the %d of a pod with hostUsers: false", most, USERNS_IDS);
}

static void add_group(struct identity *identity, gid_t group) {
    if (!identity_has_group(identity, group) && identity->groups_count < ARRAY_LEN(identity->groups))
        identity->groups[identity->groups_count++] = group;
}

static void remember(struct unit *unit, const struct identity *identity) {
    struct unit_user *user = &unit->user;
    *user = (struct unit_user){.known = true, .uid = identity->uid, .gid = identity->gid, .groups = {identity->gid}, .groups_count = 1};
    for (size_t i = 0; i < identity->groups_count && user->groups_count < UNIT_GROUPS_MAX; i++)
        if (identity->groups[i] != identity->gid)
            user->groups[user->groups_count++] = identity->groups[i];
}

int security_user(struct unit *unit, struct arena *arena, const char *const *layers, struct identity *identity, struct diag *diag) {
    const struct kube_security_context *security = unit->spec->security_context;
    const struct kube_pod_security_context *pod = of_pod(unit);
    const int64_t *user = security && security->run_as_user ? security->run_as_user : pod ? pod->run_as_user : NULL;
    const int64_t *group = security && security->run_as_group ? security->run_as_group : pod ? pod->run_as_group : NULL;
    const char *text = user ? arena_printf(arena, "%" PRId64, *user) : unit->image->user;
    int r = text ? check_non_root(unit, user, diag) : -ENOMEM;
    if (r == 0)
        r = identity_resolve(layers, unit->image->layers_count, text, identity, diag);
    if (r < 0)
        return r;
    if (group)
        identity->gid = (gid_t)*group;
    if (pod && pod->supplemental_groups_policy && strcmp(pod->supplemental_groups_policy, "Strict") == 0)
        identity->groups_count = 0;     /* those of the image's /etc/group */
    add_group(identity, identity->gid); /* or who leaves it would get past what is denied to it (CVE-2022-36109) */
    for (size_t i = 0; pod && i < pod->supplemental_groups.count; i++)
        add_group(identity, (gid_t)pod->supplemental_groups.items[i]);
    if (pod && pod->fs_group)
        add_group(identity, (gid_t)*pod->fs_group);
    remember(unit, identity);
    return check_range(unit, identity, diag);
}

void security_adopt_user(struct unit *unit) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(64 * MIB);
    CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(BUNDLE_BYTES_MAX);
    char path[PATH_MAX + 16];
    struct tree *config = NULL;
    containers_bundle_path(unit->pod->node->containers, unit->id, path);
    snprintf(path + strlen(path), 16, "/config.json");
    if (!arena || sys_read_file(AT_FDCWD, path, BUNDLE_BYTES_MAX - 1, &json) < 0 ||
        json_parse(arena, buffer_slice(&json), &(struct json_options){.allow_duplicates = true}, &config, NULL) < 0)
        return;
    const struct tree *user = tree_path(config, "process.user"), *groups = tree_find(user, "additionalGids");
    struct identity identity = {.uid = (uid_t)tree_int_or(tree_find(user, "uid"), 0), .gid = (gid_t)tree_int_or(tree_find(user, "gid"), 0)};
    for (size_t i = 0; i < tree_count(groups); i++)
        add_group(&identity, (gid_t)tree_int_or(tree_at(groups, i), 0));
    remember(unit, &identity);
}

/* --- seccomp --- */

/* The program kept under `key`, or what was compiled now. */
static int keep(struct node *node, const char *key, struct buffer *program, const char **ret) {
    struct slice name;
    void *value;
    for (size_t at = 0; map_count(node->seccomp) >= PROGRAMS_MAX && map_next(node->seccomp, &at, &name, &value);)
        free(map_remove(node->seccomp, name)); /* profiles that were edited over and over */
    char *text = buffer_take(program);
    int r = text ? map_put(node->seccomp, slice_of(key), text, NULL) : -ENOMEM;
    if (r < 0)
        free(text);
    else
        *ret = text;
    return r;
}

static int default_program(struct node *node, uint64_t capabilities, const char **ret) {
    CLEANUP(buffer_deinit) struct buffer program = BUFFER_INIT(MIB);
    char key[24];
    snprintf(key, sizeof key, "%" PRIx64, capabilities);
    *ret = map_find(node->seccomp, slice_of(key));
    int r = *ret ? 0 : seccomp_program(capabilities, &program);
    return r < 0 || *ret ? r : keep(node, key, &program, ret);
}

static int compile_profile(struct node *node, int fd, uint64_t capabilities, const char *key, const char **ret, struct diag *diag) {
    CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(SECCOMP_PROFILE_BYTES_MAX + 1);
    CLEANUP(buffer_deinit) struct buffer program = BUFFER_INIT(MIB);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int r = sys_read_file(AT_FDCWD, path, SECCOMP_PROFILE_BYTES_MAX, &json);
    if (r == 0)
        r = seccomp_profile_program(buffer_slice(&json), capabilities, &program, diag);
    return r < 0 ? r : keep(node, key, &program, ret);
}

static int local_program(struct node *node, const char *name, uint64_t capabilities, const char **ret, struct diag *diag) {
    struct diag why = DIAG_INIT;
    char key[PATH_MAX + 80], folder[PATH_MAX];
    struct stat st;
    snprintf(folder, sizeof folder, "%s/seccomp", node->options->state_dir);
    CLEANUP(fd_closep) int root = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(fd_closep) int fd = root < 0 ? -errno : sys_open_beneath(root, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC, 0);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return diag_set(diag, -ENOENT, "cannot load seccomp profile \"%.500s/%.300s\": no such file or directory", folder, name);
    snprintf(key, sizeof key, "%s\n%" PRId64 ".%09ld %" PRId64 " %" PRIx64, name, (int64_t)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, (int64_t)st.st_size,
             capabilities);
    *ret = map_find(node->seccomp, slice_of(key));
    int r = *ret ? 0 : compile_profile(node, fd, capabilities, key, ret, &why);
    return r < 0
               ? diag_set(diag, r, "cannot load seccomp profile \"%.300s/%.200s\": %.400s", folder, name, why.message[0] ? why.message : strerror(-r))
               : 0;
}

int security_seccomp(const struct unit *unit, uint64_t capabilities, const char **ret, struct diag *diag) {
    const struct kube_security_context *security = unit->spec->security_context;
    const struct kube_pod_security_context *pod = of_pod(unit);
    const struct kube_seccomp_profile *profile = security && security->seccomp_profile ? security->seccomp_profile
                                                 : pod                                 ? pod->seccomp_profile
                                                                                       : NULL;
    const char *type = profile && profile->type ? profile->type : "RuntimeDefault";
    *ret = NULL;
    if (spec_is_privileged(unit) || strcmp(type, "Unconfined") == 0)
        return 0;
    if (strcmp(type, "Localhost") == 0)
        return local_program(unit->pod->node, profile->localhost_profile ? profile->localhost_profile : "", capabilities, ret, diag);
    int r = default_program(unit->pod->node, capabilities, ret);
    return r < 0 ? diag_set(diag, r, "cannot compile the seccomp profile: %s", strerror(-r)) : 0;
}

/* --- /proc --- */

/* Only in a user namespace: there what is seen is not the machine's to change. */
bool security_is_unmasked(const struct unit *unit) {
    const struct kube_security_context *security = unit->spec->security_context;
    const bool *host_users = unit->pod->spec_object->pod->spec.host_users;
    return security && security->proc_mount && strcmp(security->proc_mount, "Unmasked") == 0 && host_users && !*host_users;
}
