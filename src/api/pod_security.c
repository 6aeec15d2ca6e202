/* The Pod Security Standards as Kubernetes words them: one function per check, in a table with the versions of Kubernetes in which each holds. Checks
 * of the baseline come first, each part in the order of the checks' names; a restricted check may stand in for a baseline one. */
#include "api/pod_security_priv.h"

#include <limits.h>
#include <stdio.h>

#define TEXTS_MAX 128       /* names in one sentence; those beyond are not named */
#define SERVER_MINOR_MAX 32 /* newer versions mean the newest there is */
#define SENTENCE_BYTES_MAX (16 * KIB)

struct texts {
    const char *items[TEXTS_MAX];
    size_t count;
};

struct check {
    const struct kube_object_meta *metadata;
    const struct kube_pod_spec *spec;
    int minor;
    struct buffer *out;  /* the details */
    const char *reason;  /* the function sets it when the pod violates the check */
    bool pod;            /* the pod itself is at fault */
    struct texts names;  /* of the containers at fault */
    struct texts values; /* that are wrong, in order, each once */
};

/* What the checks look at of each kind of container. */
struct view {
    const char *name;
    const struct kube_security_context *security; /* NULL: none */
    const struct kube_container_port_array *ports;
};

static size_t count_views(const struct kube_pod_spec *spec) {
    return spec->init_containers.count + spec->containers.count + spec->ephemeral_containers.count;
}

static struct view view_at(const struct kube_pod_spec *spec, size_t i) {
    const struct kube_container *container = NULL;
    if (i < spec->init_containers.count)
        container = &spec->init_containers.items[i];
    else if (i < spec->init_containers.count + spec->containers.count)
        container = &spec->containers.items[i - spec->init_containers.count];
    if (container)
        return (struct view){container->name, container->security_context, &container->ports};
    const struct kube_ephemeral_container *last = &spec->ephemeral_containers.items[i - spec->init_containers.count - spec->containers.count];
    return (struct view){last->name, last->security_context, &last->ports};
}

/* --- sentences --- */

static void add_text(struct texts *texts, const char *text) {
    if (texts->count < TEXTS_MAX)
        texts->items[texts->count++] = text ? text : "";
}

static void add_once(struct texts *texts, const char *text) {
    size_t at = 0;
    while (at < texts->count && strcmp(texts->items[at], text) < 0)
        at++;
    if ((at < texts->count && !strcmp(texts->items[at], text)) || texts->count == TEXTS_MAX)
        return;
    memmove(&texts->items[at + 1], &texts->items[at], (texts->count - at) * sizeof *texts->items);
    texts->items[at] = text;
    texts->count++;
}

static const char *plural(size_t count, const char *one, const char *many) {
    return count == 1 ? one : many;
}

static void put_quoted(struct buffer *out, const struct texts *texts) {
    for (size_t i = 0; i < texts->count; i++)
        buffer_printf(out, "%s\"%s\"", i ? ", " : "", texts->items[i]);
}

static void put_plain(struct buffer *out, const struct texts *texts) {
    for (size_t i = 0; i < texts->count; i++)
        buffer_printf(out, "%s%s", i ? ", " : "", texts->items[i]);
}

static void put_containers(struct check *check) {
    buffer_printf(check->out, "%s ", plural(check->names.count, "container", "containers"));
    put_quoted(check->out, &check->names);
}

/* `pod and containers "a", "b"` */
static void put_setters(struct check *check) {
    if (check->pod)
        buffer_append_text(check->out, "pod");
    if (check->pod && check->names.count)
        buffer_append_text(check->out, " and ");
    if (check->names.count)
        put_containers(check);
}

static bool is_true(const bool *value) {
    return value && *value;
}

static bool is_one_of(const char *text, const char *const *list) {
    for (size_t i = 0; list[i]; i++)
        if (!strcmp(text ? text : "", list[i]))
            return true;
    return false;
}

static bool is_windows(const struct kube_pod_spec *spec) {
    return spec->os && spec->os->name && !strcmp(spec->os->name, "windows");
}

/* --- baseline --- */

static void look_at_app_armor(struct check *check, const struct kube_app_armor_profile *profile, bool pod, const char *name) {
    static const char *const allowed[] = {"RuntimeDefault", "Localhost", NULL};
    if (!profile || is_one_of(profile->type, allowed))
        return;
    check->pod = check->pod || pod;
    if (!pod)
        add_text(&check->names, name);
    add_once(&check->values, profile->type ? profile->type : "");
}

static bool is_bad_app_armor(const struct kube_string_pair *pair) {
    const char *value = pair->value ? pair->value : "";
    return slice_starts(slice_of(pair->key), SLICE("container.apparmor.security.beta.kubernetes.io/")) && *value &&
           strcmp(value, "runtime/default") && !slice_starts(slice_of(value), SLICE("localhost/"));
}

static void check_app_armor(struct check *check) {
    const struct kube_pod_security_context *security = check->spec->security_context;
    const struct kube_string_map *annotations = &check->metadata->annotations;
    size_t bad = 0, total;
    look_at_app_armor(check, security ? security->app_armor_profile : NULL, true, NULL);
    for (size_t i = 0; i < count_views(check->spec); i++) {
        struct view view = view_at(check->spec, i);
        look_at_app_armor(check, view.security ? view.security->app_armor_profile : NULL, false, view.name);
    }
    for (size_t i = 0; i < annotations->count; i++)
        bad += is_bad_app_armor(&annotations->items[i]);
    total = check->values.count + bad;
    if (!total)
        return;
    check->reason = plural(total, "forbidden AppArmor profile", "forbidden AppArmor profiles");
    put_setters(check);
    if (bad)
        buffer_printf(check->out, "%s%s", check->pod || check->names.count ? " and " : "", plural(bad, "annotation", "annotations"));
    buffer_append_text(check->out, " must not set AppArmor profile type to ");
    put_quoted(check->out, &check->values);
    for (size_t i = 0, shown = check->values.count; i < annotations->count; i++)
        if (is_bad_app_armor(&annotations->items[i]))
            buffer_printf(check->out, "%s\"%s=\"%s\"\"", shown++ ? ", " : "", annotations->items[i].key, annotations->items[i].value);
}

static void check_capabilities(struct check *check) {
    static const char *const allowed[] = {"AUDIT_WRITE",      "CHOWN",   "DAC_OVERRIDE", "FOWNER",  "FSETID", "KILL",       "MKNOD",
                                          "NET_BIND_SERVICE", "SETFCAP", "SETGID",       "SETPCAP", "SETUID", "SYS_CHROOT", NULL};
    for (size_t i = 0; i < count_views(check->spec); i++) {
        struct view view = view_at(check->spec, i);
        const struct kube_capabilities *capabilities = view.security ? view.security->capabilities : NULL;
        bool bad = false;
        for (size_t c = 0; capabilities && c < capabilities->add.count; c++) {
            if (is_one_of(capabilities->add.items[c], allowed))
                continue;
            bad = true;
            add_once(&check->values, capabilities->add.items[c]);
        }
        if (bad)
            add_text(&check->names, view.name);
    }
    if (!check->names.count)
        return;
    check->reason = "non-default capabilities";
    put_containers(check);
    buffer_append_text(check->out, " must not include ");
    put_quoted(check->out, &check->values);
    buffer_append_text(check->out, " in securityContext.capabilities.add");
}

static void check_host_namespaces(struct check *check) {
    if (check->spec->host_network)
        add_text(&check->values, "hostNetwork=true");
    if (check->spec->host_pid)
        add_text(&check->values, "hostPID=true");
    if (check->spec->host_ipc)
        add_text(&check->values, "hostIPC=true");
    if (!check->values.count)
        return;
    check->reason = "host namespaces";
    put_plain(check->out, &check->values);
}

static void check_host_paths(struct check *check) {
    for (size_t i = 0; i < check->spec->volumes.count; i++)
        if (check->spec->volumes.items[i].host_path)
            add_text(&check->names, check->spec->volumes.items[i].name);
    if (!check->names.count)
        return;
    check->reason = "hostPath volumes";
    buffer_printf(check->out, "%s ", plural(check->names.count, "volume", "volumes"));
    put_quoted(check->out, &check->names);
}

static void check_host_ports(struct check *check) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(64 * KIB);
    for (size_t i = 0; arena && i < count_views(check->spec); i++) {
        struct view view = view_at(check->spec, i);
        bool bad = false;
        for (size_t p = 0; p < view.ports->count; p++) {
            const char *text = view.ports->items[p].host_port ? arena_printf(arena, "%d", view.ports->items[p].host_port) : NULL;
            bad = bad || view.ports->items[p].host_port;
            if (text)
                add_once(&check->values, text);
        }
        if (bad)
            add_text(&check->names, view.name);
    }
    if (!check->names.count)
        return;
    check->reason = "hostPort";
    put_containers(check);
    buffer_printf(check->out, " %s %s ", plural(check->names.count, "uses", "use"), plural(check->values.count, "hostPort", "hostPorts"));
    put_plain(check->out, &check->values);
}

static void check_privileged(struct check *check) {
    for (size_t i = 0; i < count_views(check->spec); i++) {
        struct view view = view_at(check->spec, i);
        if (view.security && is_true(view.security->privileged))
            add_text(&check->names, view.name);
    }
    if (!check->names.count)
        return;
    check->reason = "privileged";
    put_containers(check);
    buffer_append_text(check->out, " must not set securityContext.privileged=true");
}

static void check_proc_mount(struct check *check) {
    for (size_t i = 0; i < count_views(check->spec); i++) {
        struct view view = view_at(check->spec, i);
        const char *mount = view.security ? view.security->proc_mount : NULL;
        if (!mount || !strcmp(mount, "Default"))
            continue;
        add_text(&check->names, view.name);
        add_once(&check->values, mount);
    }
    if (!check->names.count)
        return;
    check->reason = "procMount";
    put_containers(check);
    buffer_append_text(check->out, " must not set securityContext.procMount to ");
    put_quoted(check->out, &check->values);
}

struct selinux {
    bool user, role;
};

static bool is_bad_selinux(struct check *check, const struct kube_se_linux_options *options, struct selinux *seen) {
    static const char *const allowed[] = {"", "container_t", "container_init_t", "container_kvm_t", NULL};
    const char *type = options && options->type ? options->type : "";
    if (!options)
        return false;
    bool engine = check->minor >= 31 && !strcmp(type, "container_engine_t"), bad_type = !engine && !is_one_of(type, allowed);
    bool user = options->user && *options->user, role = options->role && *options->role;
    if (bad_type)
        add_once(&check->values, type);
    seen->user = seen->user || user;
    seen->role = seen->role || role;
    return bad_type || user || role;
}

static void check_selinux(struct check *check) {
    const struct kube_pod_security_context *security = check->spec->security_context;
    struct selinux seen = {false, false};
    check->pod = is_bad_selinux(check, security ? security->se_linux_options : NULL, &seen);
    for (size_t i = 0; i < count_views(check->spec); i++) {
        struct view view = view_at(check->spec, i);
        if (is_bad_selinux(check, view.security ? view.security->se_linux_options : NULL, &seen))
            add_text(&check->names, view.name);
    }
    if (!check->pod && !check->names.count)
        return;
    check->reason = "seLinuxOptions";
    put_setters(check);
    buffer_append_text(check->out, " set forbidden securityContext.seLinuxOptions: ");
    if (check->values.count) {
        buffer_printf(check->out, "%s ", plural(check->values.count, "type", "types"));
        put_quoted(check->out, &check->values);
    }
    if (seen.user)
        buffer_printf(check->out, "%suser may not be set", check->values.count ? "; " : "");
    if (seen.role)
        buffer_printf(check->out, "%srole may not be set", check->values.count || seen.user ? "; " : "");
}

/* Whether a profile is set and good; one that is set and bad is noted. */
static bool note_seccomp(struct check *check, const struct kube_seccomp_profile *profile, bool pod, const char *name) {
    static const char *const allowed[] = {"Localhost", "RuntimeDefault", NULL};
    if (!profile)
        return false;
    if (is_one_of(profile->type, allowed))
        return true;
    check->pod = check->pod || pod;
    if (!pod)
        add_text(&check->names, name);
    add_once(&check->values, profile->type ? profile->type : "");
    return false;
}

static void check_seccomp_profile(struct check *check, bool required) {
    const struct kube_pod_security_context *security = check->spec->security_context;
    struct texts unset = {.count = 0};
    bool pod = note_seccomp(check, security ? security->seccomp_profile : NULL, true, NULL);
    for (size_t i = 0; i < count_views(check->spec); i++) {
        struct view view = view_at(check->spec, i);
        const struct kube_seccomp_profile *profile = view.security ? view.security->seccomp_profile : NULL;
        note_seccomp(check, profile, false, view.name);
        if (!profile && !pod)
            add_text(&unset, view.name);
    }
    if (check->pod || check->names.count) {
        check->reason = "seccompProfile";
        put_setters(check);
        buffer_append_text(check->out, " must not set securityContext.seccompProfile.type to ");
        put_quoted(check->out, &check->values);
    } else if (required && unset.count) {
        check->reason = "seccompProfile";
        check->names = unset;
        buffer_append_text(check->out, "pod or ");
        put_containers(check);
        buffer_append_text(check->out, " must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"");
    }
}

/* Before the field there were annotations. */
static void check_seccomp_annotations(struct check *check) {
    const struct kube_string_map *annotations = &check->metadata->annotations;
    size_t count = 0;
    CLEANUP(buffer_deinit) struct buffer list = BUFFER_INIT(SENTENCE_BYTES_MAX);
    for (size_t i = 0; i < annotations->count; i++) {
        struct slice key = slice_of(annotations->items[i].key), value = slice_of(annotations->items[i].value);
        bool concerned =
            slice_is(key, "seccomp.security.alpha.kubernetes.io/pod") || slice_starts(key, SLICE("container.seccomp.security.alpha.kubernetes.io/"));
        bool good = slice_is(value, "runtime/default") || slice_is(value, "docker/default") || slice_starts(value, SLICE("localhost/"));
        if (concerned && !good)
            buffer_printf(&list, "%s%s=\"%s\"", count++ ? ", " : "", annotations->items[i].key, annotations->items[i].value);
    }
    if (!count)
        return;
    check->reason = "seccompProfile";
    buffer_printf(check->out, "forbidden %s %s", plural(count, "annotation", "annotations"), list.data ? list.data : "");
}

static void check_seccomp_baseline(struct check *check) {
    if (check->minor >= 19)
        check_seccomp_profile(check, false);
    else
        check_seccomp_annotations(check);
}

static void check_sysctls(struct check *check) {
    static const struct {
        const char *name;
        int since;
    } allowed[] = {
        {"kernel.shm_rmid_forced", 0},
        {"net.ipv4.ip_local_port_range", 0},
        {"net.ipv4.tcp_syncookies", 0},
        {"net.ipv4.ping_group_range", 0},
        {"net.ipv4.ip_unprivileged_port_start", 0},
        {"net.ipv4.ip_local_reserved_ports", 27},
        {"net.ipv4.tcp_keepalive_time", 29},
        {"net.ipv4.tcp_fin_timeout", 29},
        {"net.ipv4.tcp_keepalive_intvl", 29},
        {"net.ipv4.tcp_keepalive_probes", 29},
        {"net.ipv4.tcp_rmem", 32},
        {"net.ipv4.tcp_wmem", 32},
    };
    const struct kube_pod_security_context *security = check->spec->security_context;
    for (size_t i = 0; security && i < security->sysctls.count; i++) {
        bool good = false;
        for (size_t k = 0; k < ARRAY_LEN(allowed) && !good; k++)
            good = check->minor >= allowed[k].since && !strcmp(allowed[k].name, security->sysctls.items[i].name);
        if (!good)
            add_text(&check->values, security->sysctls.items[i].name);
    }
    if (!check->values.count)
        return;
    check->reason = "forbidden sysctls";
    put_plain(check->out, &check->values);
}

static void check_host_process(struct check *check) {
    const struct kube_pod_security_context *security = check->spec->security_context;
    check->pod = security && security->windows_options && is_true(security->windows_options->host_process);
    for (size_t i = 0; i < count_views(check->spec); i++) {
        struct view view = view_at(check->spec, i);
        if (view.security && view.security->windows_options && is_true(view.security->windows_options->host_process))
            add_text(&check->names, view.name);
    }
    if (!check->pod && !check->names.count)
        return;
    check->reason = "hostProcess";
    put_setters(check);
    buffer_append_text(check->out, " must not set securityContext.windowsOptions.hostProcess=true");
}

/* --- restricted --- */

static void check_escalation(struct check *check) {
    for (size_t i = 0; i < count_views(check->spec); i++) {
        struct view view = view_at(check->spec, i);
        if (!view.security || !view.security->allow_privilege_escalation || *view.security->allow_privilege_escalation)
            add_text(&check->names, view.name);
    }
    if (!check->names.count || (check->minor >= 25 && is_windows(check->spec)))
        return;
    check->reason = "allowPrivilegeEscalation != false";
    put_containers(check);
    buffer_append_text(check->out, " must set securityContext.allowPrivilegeEscalation=false");
}

static void check_no_capabilities(struct check *check) {
    struct texts keeping = {.count = 0};
    for (size_t i = 0; i < count_views(check->spec); i++) {
        struct view view = view_at(check->spec, i);
        const struct kube_capabilities *capabilities = view.security ? view.security->capabilities : NULL;
        bool dropped = false, bad = false;
        for (size_t c = 0; capabilities && c < capabilities->drop.count; c++)
            dropped = dropped || !strcmp(capabilities->drop.items[c], "ALL");
        for (size_t c = 0; capabilities && c < capabilities->add.count; c++) {
            if (!strcmp(capabilities->add.items[c], "NET_BIND_SERVICE"))
                continue;
            bad = true;
            add_once(&check->values, capabilities->add.items[c]);
        }
        if (!dropped)
            add_text(&keeping, view.name);
        if (bad)
            add_text(&check->names, view.name);
    }
    if ((!keeping.count && !check->names.count) || (check->minor >= 25 && is_windows(check->spec)))
        return;
    check->reason = "unrestricted capabilities";
    if (keeping.count) {
        buffer_printf(check->out, "%s ", plural(keeping.count, "container", "containers"));
        put_quoted(check->out, &keeping);
        buffer_append_text(check->out, " must set securityContext.capabilities.drop=[\"ALL\"]");
    }
    if (check->names.count) {
        buffer_append_text(check->out, keeping.count ? "; " : "");
        put_containers(check);
        buffer_append_text(check->out, " must not include ");
        put_quoted(check->out, &check->values);
        buffer_append_text(check->out, " in securityContext.capabilities.add");
    }
}

/* The kind of a volume that is not among the restricted ones; NULL: it is. */
static const char *restricted_type(const struct kube_volume *volume) {
    const void *const good[] = {volume->config_map, volume->csi,   volume->downward_api, volume->empty_dir,
                                volume->ephemeral,  volume->image, volume->projected,    volume->persistent_volume_claim,
                                volume->secret};
    const struct {
        const void *source;
        const char *name;
    } bad[] = {
        {volume->host_path, "hostPath"},
        {volume->gce_persistent_disk, "gcePersistentDisk"},
        {volume->aws_elastic_block_store, "awsElasticBlockStore"},
        {volume->git_repo, "gitRepo"},
        {volume->nfs, "nfs"},
        {volume->iscsi, "iscsi"},
        {volume->glusterfs, "glusterfs"},
        {volume->rbd, "rbd"},
        {volume->flex_volume, "flexVolume"},
        {volume->cinder, "cinder"},
        {volume->cephfs, "cephfs"},
        {volume->flocker, "flocker"},
        {volume->fc, "fc"},
        {volume->azure_file, "azureFile"},
        {volume->vsphere_volume, "vsphereVolume"},
        {volume->quobyte, "quobyte"},
        {volume->azure_disk, "azureDisk"},
        {volume->photon_persistent_disk, "photonPersistentDisk"},
        {volume->portworx_volume, "portworxVolume"},
        {volume->scale_io, "scaleIO"},
        {volume->storageos, "storageos"},
    };
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        if (good[i])
            return NULL;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (bad[i].source)
            return bad[i].name;
    return "unknown";
}

static void check_volumes(struct check *check) {
    for (size_t i = 0; i < check->spec->volumes.count; i++) {
        const char *type = restricted_type(&check->spec->volumes.items[i]);
        if (!type)
            continue;
        add_text(&check->names, check->spec->volumes.items[i].name);
        add_once(&check->values, type);
    }
    size_t count = check->names.count;
    if (!count)
        return;
    check->reason = "restricted volume types";
    buffer_printf(check->out, "%s ", plural(count, "volume", "volumes"));
    put_quoted(check->out, &check->names);
    buffer_printf(check->out, " %s %s ", plural(count, "uses", "use"),
                  plural(check->values.count, "restricted volume type", "restricted volume types"));
    put_quoted(check->out, &check->values);
}

static void check_non_root(struct check *check) {
    const struct kube_pod_security_context *security = check->spec->security_context;
    const bool *pod = security ? security->run_as_non_root : NULL;
    struct texts unset = {.count = 0};
    check->pod = pod && !*pod;
    for (size_t i = 0; i < count_views(check->spec); i++) {
        struct view view = view_at(check->spec, i);
        const bool *own = view.security ? view.security->run_as_non_root : NULL;
        if (own && !*own)
            add_text(&check->names, view.name);
        else if (!own && !is_true(pod))
            add_text(&unset, view.name);
    }
    if (check->pod || check->names.count) {
        put_setters(check);
        buffer_append_text(check->out, " must not set securityContext.runAsNonRoot=false");
    } else if (unset.count) {
        check->names = unset;
        buffer_append_text(check->out, "pod or ");
        put_containers(check);
        buffer_append_text(check->out, " must set securityContext.runAsNonRoot=true");
    }
    if (check->pod || check->names.count)
        check->reason = "runAsNonRoot != true";
}

static void check_user(struct check *check) {
    const struct kube_pod_security_context *security = check->spec->security_context;
    check->pod = security && security->run_as_user && *security->run_as_user == 0;
    for (size_t i = 0; i < count_views(check->spec); i++) {
        struct view view = view_at(check->spec, i);
        if (view.security && view.security->run_as_user && *view.security->run_as_user == 0)
            add_text(&check->names, view.name);
    }
    if (!check->pod && !check->names.count)
        return;
    check->reason = "runAsUser=0";
    put_setters(check);
    buffer_append_text(check->out, " must not set runAsUser=0");
}

static void check_seccomp_restricted(struct check *check) {
    check_seccomp_profile(check, !(check->minor >= 25 && is_windows(check->spec)));
}

/* --- the table --- */

static const struct {
    enum pod_security_level level;
    int since;      /* the minor version it begins with */
    int superseded; /* the minor version from which a restricted check stands in for it; INT_MAX: never */
    void (*run)(struct check *check);
} checks[] = {
    {LEVEL_BASELINE, 0, INT_MAX, check_app_armor},
    {LEVEL_BASELINE, 0, 22, check_capabilities},
    {LEVEL_BASELINE, 0, INT_MAX, check_host_namespaces},
    {LEVEL_BASELINE, 0, 0, check_host_paths},
    {LEVEL_BASELINE, 0, INT_MAX, check_host_ports},
    {LEVEL_BASELINE, 0, INT_MAX, check_privileged},
    {LEVEL_BASELINE, 0, INT_MAX, check_proc_mount},
    {LEVEL_BASELINE, 0, INT_MAX, check_selinux},
    {LEVEL_BASELINE, 0, 19, check_seccomp_baseline},
    {LEVEL_BASELINE, 0, INT_MAX, check_sysctls},
    {LEVEL_BASELINE, 0, INT_MAX, check_host_process},
    {LEVEL_RESTRICTED, 8, INT_MAX, check_escalation},
    {LEVEL_RESTRICTED, 22, INT_MAX, check_no_capabilities},
    {LEVEL_RESTRICTED, 0, INT_MAX, check_volumes},
    {LEVEL_RESTRICTED, 0, INT_MAX, check_non_root},
    {LEVEL_RESTRICTED, 23, INT_MAX, check_user},
    {LEVEL_RESTRICTED, 19, INT_MAX, check_seccomp_restricted},
};

void pod_security_format(const struct pod_security_policy *policy, char ret[40]) {
    static const char *const names[] = {"privileged", "baseline", "restricted"};
    if (policy->minor == POD_SECURITY_LATEST)
        snprintf(ret, 40, "%s:latest", names[policy->level]);
    else
        snprintf(ret, 40, "%s:v1.%d", names[policy->level], policy->minor);
}

void pod_security_check(const struct pod_security_policy *policy, const struct kube_object_meta *metadata, const struct kube_pod_spec *spec,
                        bool details, struct buffer *out) {
    int minor = MIN(policy->minor, SERVER_MINOR_MAX);
    for (size_t i = 0; i < ARRAY_LEN(checks); i++) {
        bool superseded = policy->level == LEVEL_RESTRICTED && minor >= checks[i].superseded;
        if (checks[i].level > policy->level || minor < checks[i].since || superseded)
            continue;
        CLEANUP(buffer_deinit) struct buffer detail = BUFFER_INIT(SENTENCE_BYTES_MAX);
        struct check check = {.metadata = metadata, .spec = spec, .minor = minor, .out = &detail};
        checks[i].run(&check);
        if (!check.reason)
            continue;
        buffer_printf(out, "%s%s", out->len ? ", " : "", check.reason);
        if (details && detail.len)
            buffer_printf(out, " (%s)", detail.data);
    }
}
