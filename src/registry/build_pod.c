/* The pod that builds an image.
 *
 * What it sees: the builder image (links and configuration), the host's /usr and /etc/ssl read-only, its work folder read-only (the context as a tar,
 * credentials that push this one image), and the cache folder. Not: the platform's state, its sockets, other builds' contexts, service account
 * tokens.
 *
 * Who writes a Dockerfile is a stranger to the other applications and to the machine, and buildah's own walls are thin: RUN steps run in a chroot,
 * and Debian 12's buildah lets `RUN --mount` see the pod around it (CVE-2024-1753, CVE-2024-9675). So buildah runs as root of a user namespace, which
 * is nobody outside (100000…165535); steps may not chroot(2); the pod's root is read-only; and the cache is the application's own. What a step can
 * reach at most is its own build: the context, the token for pushing this image, the layers of the same application.
 *
 * What the pod may do, found by taking privileges away until builds failed (buildah 1.28, chroot isolation, overlay storage on ext4): the
 * capabilities that a container has by default, of which SETUID and SETGID make the namespace's map, and SYS_ADMIN, since some kernels let nobody
 * else make a user namespace; it is gone when the namespace is entered. Within, buildah mounts, so the profiles of seccomp and AppArmor are
 * Unconfined.
 *
 * buildah's whole state is /var/lib/containers, a folder of the host that outlives the pod: layers, so that unchanged steps are not run again
 * (--layers), and the cache of which layers the registry has in which compressed form, without which every push would compress the base image again.
 *
 * Since 1.34 buildah does not begin without netavark, which Debian 13 only recommends; but steps use the pod's network, and nothing runs it. So
 * something stands in its place. And it looks into /root for settings, whatever HOME says, and
 * would pivot_root(2) halfway, where we allow a step no chroot(2) afterwards.
 *
 * A short name (FROM debian:12) is looked up in the platform's registry first, then at docker.io. The address reaches the configuration through the
 * environment; what a person typed (image, arguments, Dockerfile) reaches buildah as arguments and never the shell's text. */
#include "registry/build_pod_priv.h"

#include "codec/codec.h"
#include "registry/oci.h"

#define DEADLINE_S_DEFAULT 3600
#define ARGUMENTS_MAX 200

/* $REGISTRY and $IMAGE come from the environment; the positional parameters are further options of `buildah build`. The first half runs as the pod's
 * root and makes ready what the second half, in the user namespace, could not reach. */
static const char script[] = "chown 100000:100000 /var/lib/containers /context /run\n"
                             "if [ -f /work/auth.json ]; then install -o 100000 -g 100000 -m 0600 /work/auth.json /run/auth.json; fi\n"
                             "exec unshare --user --mount --map-users=100000,0,65536 --map-groups=100000,0,65536 --setuid 0 --setgid 0 "
                             "/bin/sh -euc \"$INSIDE\" build \"$@\" < /work/context.tar\n";
static const char script_inside[] =
    "printf 'unqualified-search-registries = [\"%s\", \"docker.io\"]\\nshort-name-mode = \"permissive\"\\n\\n"
    "[[registry]]\\nlocation = \"%s\"\\ninsecure = true\\n' \"$REGISTRY\" \"$REGISTRY\" > /run/registries.conf\n"
    "export CONTAINERS_REGISTRIES_CONF=/run/registries.conf\n"
    "if [ -f /run/auth.json ]; then export REGISTRY_AUTH_FILE=/run/auth.json; fi\n"
    "mount -t tmpfs none /root\n"
    "mkdir -p /run/helpers\n"
    "ln -s /usr/bin/true /run/helpers/netavark\n"
    "printf '[engine]\\nhelper_binaries_dir = [\"/run/helpers\"]\\n' > /run/containers.conf\n"
    "export CONTAINERS_CONF_OVERRIDE=/run/containers.conf BUILDAH_NOPIVOT=true\n"
    "mkdir -p /var/lib/containers/tmp\n"
    "tar -x -C /context --no-same-owner\n"
    "exec < /dev/null\n"
    "buildah build --isolation chroot --cap-drop CAP_SYS_CHROOT --layers --format oci -t \"$REGISTRY/$IMAGE\" \"$@\" /context\n"
    "buildah push --quiet \"$REGISTRY/$IMAGE\" \"docker://$REGISTRY/$IMAGE\"\n"
    "echo \"Pushed $IMAGE\"\n";

/* A document under construction: nodes that could not be made are NULL and turn up in `error`. */
struct maker {
    struct arena *arena;
    int error;
};

static struct tree *map(struct maker *maker, struct tree *parent, const char *key) {
    struct tree *node = tree_map(maker->arena);
    int r = !parent ? (node ? 0 : -ENOMEM) : key ? tree_set(maker->arena, parent, slice_of(key), node) : tree_push(maker->arena, parent, node);
    maker->error = maker->error ? maker->error : r;
    return node;
}

static struct tree *list(struct maker *maker, struct tree *parent, const char *key) {
    struct tree *node = tree_list(maker->arena);
    int r = parent ? tree_set(maker->arena, parent, slice_of(key), node) : -ENOMEM;
    maker->error = maker->error ? maker->error : r;
    return node;
}

static void text(struct maker *maker, struct tree *parent, const char *key, const char *value) {
    int r = parent ? tree_set_text(maker->arena, parent, key, value) : -ENOMEM;
    maker->error = maker->error ? maker->error : r;
}

static void flag(struct maker *maker, struct tree *parent, const char *key, bool value) {
    int r = parent ? tree_set(maker->arena, parent, slice_of(key), tree_bool(maker->arena, value)) : -ENOMEM;
    maker->error = maker->error ? maker->error : r;
}

static void number(struct maker *maker, struct tree *parent, const char *key, int64_t value) {
    int r = parent ? tree_set(maker->arena, parent, slice_of(key), tree_int(maker->arena, value)) : -ENOMEM;
    maker->error = maker->error ? maker->error : r;
}

static void push(struct maker *maker, struct tree *parent, const char *value) {
    int r = parent ? tree_push(maker->arena, parent, tree_text(maker->arena, value)) : -ENOMEM;
    maker->error = maker->error ? maker->error : r;
}

/* --- parts --- */

static void add_labels(struct maker *maker, struct tree *metadata, const char *const *labels) {
    struct tree *node = map(maker, metadata, "labels");
    text(maker, node, "app.kubernetes.io/managed-by", "tidemill");
    for (size_t i = 0; labels && labels[i]; i++) {
        struct slice value = slice_of(labels[i]);
        struct slice key = slice_cut(&value, '=');
        char *key_text = arena_dup(maker->arena, key), *value_text = arena_dup(maker->arena, value);
        if (key_text && value_text)
            text(maker, node, key_text, value_text);
    }
}

static void add_command(struct maker *maker, struct tree *container, const struct build_options *options) {
    struct tree *command = list(maker, container, "command");
    struct tree *arguments = list(maker, container, "args");
    static const char *const shell[] = {"/bin/sh", "-euc", script, "build"};
    for (size_t i = 0; i < ARRAY_LEN(shell); i++)
        push(maker, command, shell[i]);
    const char *dockerfile = arena_printf(maker->arena, "/context/%s", options->dockerfile ? options->dockerfile : "Dockerfile");
    push(maker, arguments, "-f");
    push(maker, arguments, dockerfile ? dockerfile : "");
    if (options->target) {
        push(maker, arguments, "--target");
        push(maker, arguments, options->target);
    }
    for (size_t i = 0; i < ARGUMENTS_MAX && options->build_arguments && options->build_arguments[i]; i++) {
        push(maker, arguments, "--build-arg");
        push(maker, arguments, options->build_arguments[i]);
    }
}

static void add_environment(struct maker *maker, struct tree *container, const struct build_options *options) {
    const struct {
        const char *name, *value;
    } variables[] = {
        {"PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
        {"HOME", "/run"},
        {"TMPDIR", "/var/lib/containers/tmp"},
        {"REGISTRY", options->registry},
        {"IMAGE", options->image},
        {"INSIDE", script_inside},
        {"INSIDE", script_inside},
    };
    struct tree *environment = list(maker, container, "env");
    for (size_t i = 0; i < ARRAY_LEN(variables); i++) {
        struct tree *variable = map(maker, environment, NULL);
        text(maker, variable, "name", variables[i].name);
        text(maker, variable, "value", variables[i].value);
    }
}

static void add_security(struct maker *maker, struct tree *container) {
    static const char *const capabilities[] = {"CHOWN",   "DAC_OVERRIDE", "FOWNER",     "FSETID",           "KILL",     "SETFCAP", "SETGID",
                                               "SETPCAP", "SETUID",       "SYS_CHROOT", "NET_BIND_SERVICE", "SYS_ADMIN"};
    struct tree *security = map(maker, container, "securityContext");
    flag(maker, security, "privileged", false);
    flag(maker, security, "readOnlyRootFilesystem", true);
    number(maker, security, "runAsUser", 0);
    text(maker, map(maker, security, "seccompProfile"), "type", "Unconfined");
    text(maker, map(maker, security, "appArmorProfile"), "type", "Unconfined");
    struct tree *sets = map(maker, security, "capabilities");
    push(maker, list(maker, sets, "drop"), "ALL");
    struct tree *add = list(maker, sets, "add");
    for (size_t i = 0; i < ARRAY_LEN(capabilities); i++)
        push(maker, add, capabilities[i]);
}

static void add_folder_mounts(struct maker *maker, struct tree *volumes, struct tree *targets) {
    static const struct {
        const char *name, *target;
    } mounts[] = {{"context", "/context"}, {"run", "/run"}, {"tmp", "/tmp"}, {"var-tmp", "/var/tmp"}, {"var-cache", "/var/cache"}};
    for (size_t i = 0; i < ARRAY_LEN(mounts); i++) {
        struct tree *volume = map(maker, volumes, NULL), *target = map(maker, targets, NULL);
        text(maker, volume, "name", mounts[i].name);
        map(maker, volume, "emptyDir");
        text(maker, target, "name", mounts[i].name);
        text(maker, target, "mountPath", mounts[i].target);
    }
}

static void add_mounts(struct maker *maker, struct tree *spec, struct tree *container, const struct build_options *options) {
    const struct {
        const char *name, *host, *type, *target;
        bool read_only;
    } mounts[] = {
        {"usr", "/usr", "Directory", "/usr", true},
        {"ssl", "/etc/ssl", "", "/etc/ssl", true},
        {"work", options->work_folder, "Directory", "/work", true},
        {"cache", options->cache_folder, "DirectoryOrCreate", "/var/lib/containers", false},
    };
    struct tree *volumes = list(maker, spec, "volumes");
    struct tree *targets = list(maker, container, "volumeMounts");
    for (size_t i = 0; i < ARRAY_LEN(mounts); i++) {
        struct tree *volume = map(maker, volumes, NULL);
        text(maker, volume, "name", mounts[i].name);
        struct tree *host = map(maker, volume, "hostPath");
        text(maker, host, "path", mounts[i].host);
        text(maker, host, "type", mounts[i].type);
        struct tree *target = map(maker, targets, NULL);
        text(maker, target, "name", mounts[i].name);
        text(maker, target, "mountPath", mounts[i].target);
        flag(maker, target, "readOnly", mounts[i].read_only);
    }
    add_folder_mounts(maker, volumes, targets);
}

static void add_resources(struct maker *maker, struct tree *container, const struct build_options *options) {
    struct tree *resources = map(maker, container, "resources");
    struct tree *limits = map(maker, resources, "limits");
    struct tree *requests = map(maker, resources, "requests");
    text(maker, limits, "cpu", options->cpu_limit ? options->cpu_limit : "2");
    text(maker, limits, "memory", options->memory_limit ? options->memory_limit : "1Gi");
    text(maker, requests, "cpu", "10m"); /* builds take what is left over */
    text(maker, requests, "memory", "32Mi");
}

char *registry_build_pod_json(struct arena *arena, const struct build_options *options) {
    struct maker maker = {.arena = arena};
    struct tree *pod = map(&maker, NULL, NULL);
    text(&maker, pod, "apiVersion", "v1");
    text(&maker, pod, "kind", "Pod");
    struct tree *metadata = map(&maker, pod, "metadata");
    text(&maker, metadata, "name", options->name);
    text(&maker, metadata, "namespace", options->namespace);
    add_labels(&maker, metadata, options->labels);
    struct tree *spec = map(&maker, pod, "spec");
    text(&maker, spec, "restartPolicy", "Never");
    text(&maker, spec, "priorityClassName", "tidemill-batch"); /* what services do not want */
    flag(&maker, spec, "automountServiceAccountToken", false);
    flag(&maker, spec, "enableServiceLinks", false);
    number(&maker, spec, "terminationGracePeriodSeconds", 2);
    number(&maker, spec, "activeDeadlineSeconds", options->deadline_s ? options->deadline_s : DEADLINE_S_DEFAULT);
    struct tree *container = map(&maker, list(&maker, spec, "containers"), NULL);
    text(&maker, container, "name", "build");
    text(&maker, container, "image", options->builder_image ? options->builder_image : BUILDER_IMAGE_NAME ":" BUILDER_IMAGE_VERSION);
    add_command(&maker, container, options);
    add_environment(&maker, container, options);
    add_resources(&maker, container, options);
    add_security(&maker, container);
    add_mounts(&maker, spec, container, options);
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(MIB);
    if (maker.error || json_format(&out, pod) < 0)
        return NULL;
    return arena_dup(arena, buffer_slice(&out));
}
