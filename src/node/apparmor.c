/* AppArmor, where the kernel has it: the fence behind all others.
 *
 * Our profile is within the program, so that it can be neither missing nor of another version; at the node's start the distribution's apparmor_parser
 * compiles it and gives it to the kernel, as other runtimes do. What was loaded is kept in <run>, which a reboot empties as it empties the kernel:
 * the next start finds that nothing is to do, and an upgraded one that there is.
 *
 * 1. A profile of that name that somebody else loaded is theirs to have written, and stays.
 * 2. No pod waits for it or is refused because it cannot be loaded: then the machine is as one without AppArmor, which the log says. Only who asks
 * for a profile by name, RuntimeDefault too, does not run without.
 * 3. Where the kernel has no AppArmor, a pod that asks for a profile is rejected for good; where it has, but not the profile, creating the container
 * is tried again and again, so that somebody can load it: both as with kubelet. */
#include <sys/stat.h>

#include "node/node_priv.h"
#include "sys/sys.h"

#define DEFAULT_PROFILE "tidemill-default"
#define ANNOTATION "container.apparmor.security.beta.kubernetes.io/"
#define LOAD_MS 60000
#define TURN_MS 1000

__asm__(".section .rodata.apparmor_profile, \"a\"\n"
        "apparmor_profile_begin:\n"
        "\t.incbin \"" APPARMOR_PROFILE "\"\n"
        "apparmor_profile_end:\n"
        "\t.byte 0\n"
        ".previous\n");
extern const char apparmor_profile_begin[], apparmor_profile_end[];

/* --- the kernel --- */

static bool kernel_has_apparmor(void) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(64);
    return sys_read_file(AT_FDCWD, "/sys/module/apparmor/parameters/enabled", 16, &text) == 0 && slice_starts(buffer_slice(&text), SLICE("Y"));
}

static bool is_loaded(const char *profile) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(MIB + 1);
    size_t len = strlen(profile);
    if (sys_read_file(AT_FDCWD, "/sys/kernel/security/apparmor/profiles", MIB, &text) < 0)
        return false;
    for (struct slice rest = buffer_slice(&text); rest.data;) {
        struct slice line = slice_cut(&rest, '\n');
        if (slice_starts(line, slice_of(profile)) && slice_starts(slice_from(line, len), SLICE(" (")))
            return true;
    }
    return false;
}

/* --- our profile --- */

struct loading {
    bool done;
    char why[400]; /* "": it is loaded */
};

static void on_loaded(void *userdata, int status, struct slice out, struct slice err) {
    struct loading *loading = userdata;
    (void)out;
    loading->done = true;
    err = slice_trim(err);
    if (status == -ENOENT)
        snprintf(loading->why, sizeof loading->why, "the program apparmor_parser is not installed (apt-get install apparmor)");
    else if (status < 0)
        snprintf(loading->why, sizeof loading->why, "%s", strerror(-status));
    else if (status != 0)
        snprintf(loading->why, sizeof loading->why, "apparmor_parser: %.*s", SLICE_ARG(err));
}

/* Nothing else is on the loop yet: it turns for this alone. */
static void load(struct node *node, const char *path, struct loading *loading) {
    const char *const argv[] = {"apparmor_parser", "--replace", "--skip-cache", path, NULL};
    const struct loop_command_options options = {.spawn = {.argv = argv}, .output_max = 4096, .timeout_ms = LOAD_MS};
    int r = loop_command_run(node->loop, &options, on_loaded, loading, NULL);
    while (r == 0 && !loading->done)
        r = loop_turn(node->loop, TURN_MS);
    if (r < 0)
        snprintf(loading->why, sizeof loading->why, "%s", strerror(-r));
}

void apparmor_start(struct node *node) {
    CLEANUP(buffer_deinit) struct buffer before = BUFFER_INIT(MIB);
    struct slice text = slice_make(apparmor_profile_begin, (size_t)(apparmor_profile_end - apparmor_profile_begin));
    struct loading loading = {0};
    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/apparmor", node->run_dir);
    if (!kernel_has_apparmor())
        return;
    bool ours = sys_read_file(AT_FDCWD, path, MIB - 1, &before) == 0;
    if (is_loaded(DEFAULT_PROFILE) && (!ours || slice_equal(buffer_slice(&before), text)))
        return;
    int r = sys_write_file_fast(AT_FDCWD, path, text, 0600);
    if (r < 0)
        snprintf(loading.why, sizeof loading.why, "cannot write %.300s: %s", path, strerror(-r));
    else
        load(node, path, &loading);
    if (!loading.why[0])
        return;
    unlink(path);
    log_warning("AppArmor does not confine containers that do not name a profile: %s", loading.why);
}

/* --- what a pod asks for --- */

static const struct kube_pod_security_context *of_pod(const struct unit *unit) {
    return unit->pod->spec_object->pod->spec.security_context;
}

/* "RuntimeDefault", "Unconfined", "Localhost" with its name, or NULL when nobody said anything. */
static const char *wanted(const struct unit *unit, const char **ret_name) {
    const struct kube_security_context *security = unit->spec->security_context;
    const struct kube_app_armor_profile *profile = security && security->app_armor_profile ? security->app_armor_profile
                                                   : of_pod(unit)                          ? of_pod(unit)->app_armor_profile
                                                                                           : NULL;
    char key[sizeof ANNOTATION + 64];
    *ret_name = profile && profile->localhost_profile ? profile->localhost_profile : "";
    if (profile)
        return profile->type;
    snprintf(key, sizeof key, ANNOTATION "%s", unit->spec->name);
    const char *old = kube_map_find(&unit->pod->spec_object->metadata->annotations, key);
    if (!old || !*old || strcmp(old, "unconfined") == 0) /* who wants less asks by the field, which admission looks at */
        return NULL;
    if (strncmp(old, "localhost/", 10) != 0)
        return "RuntimeDefault";
    *ret_name = old + 10;
    return "Localhost";
}

static bool asks(const char *type) {
    return type && strcmp(type, "Unconfined") != 0;
}

bool apparmor_admits(struct pod *pod) {
    bool has = kernel_has_apparmor();
    for (size_t i = 0; !has && i < pod->units_count; i++) {
        const char *name;
        if (!asks(wanted(pod->units[i], &name)))
            continue;
        snprintf(pod->failed_reason, sizeof pod->failed_reason, "AppArmor");
        snprintf(pod->failed_message, sizeof pod->failed_message, "Pod was rejected: Cannot enforce AppArmor: AppArmor is not enabled on the host");
        event_pod(pod, NULL, "Warning", "AppArmor", "%s", strstr(pod->failed_message, "Cannot"));
        return false;
    }
    return true;
}

int apparmor_profile(const struct unit *unit, const char **ret, struct diag *diag) {
    const char *name, *type = wanted(unit, &name);
    *ret = NULL;
    if ((type && !asks(type)) || (!type && spec_is_privileged(unit)) || !kernel_has_apparmor())
        return 0;
    if (!type || strcmp(type, "Localhost") != 0)
        name = DEFAULT_PROFILE;
    if (is_loaded(name))
        *ret = name;
    else if (type)
        return diag_set(diag, -ENOENT, "failed to get container spec opts: failed to generate apparmor spec opts: apparmor profile not found %s",
                        name);
    return 0;
}
