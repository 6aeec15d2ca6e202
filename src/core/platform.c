/* What makes the cluster a platform: the registry and the forge, wired to each other and to the rest of core. They know nothing of one another; every
 * crossing is here:
 *
 *   forge    → API      over the unix socket, like any other client
 *   forge    → store    its records, in the side table
 *   forge    → registry the pod that builds an image; a second tag for what was built
 *   forge    → retention a pipeline has ended, an application has an image
 *   registry → store    credentials for other registries, in the secrets that pods name
 *   registry → forge    may the bearer of this password push that repository? */
#include "core/image_api_priv.h"
#include "core/pull_secrets_priv.h"
#include "core/retention_priv.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "sys/sys.h"

struct platform {
    struct loop *loop;
    const struct core_options *core;
    struct store *store;
    struct arena *arena;
    struct registry *registry;
    struct client *client;
    struct forge *forge;
    struct retention *retention;
    size_t listings; /* workers that read the registry for the command line */
};

/* --- the forge's storage is the store's side table --- */

static int storage_put(void *userdata, struct slice key, struct slice value, void (*on_done)(void *userdata, int error), void *done_userdata) {
    return store_meta_put(userdata, key, value, on_done, done_userdata);
}

static struct slice storage_get(void *userdata, struct slice key) {
    return store_meta_get(userdata, key);
}

static void storage_list(void *userdata, struct slice prefix, bool (*each)(void *userdata, struct slice key, struct slice value),
                         void *each_userdata) {
    store_meta_list(userdata, prefix, each, each_userdata);
}

/* --- builds --- */

static int write_credentials(const struct platform *platform, struct arena *arena, const struct forge_build *build) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(16 * KIB);
    char *path = arena_printf(arena, "%s/auth.json", build->work_folder);
    int error =
        path ? docker_config_format(&text, platform->core->registry, build->user ? build->user : "build", slice_of(build->password)) : -ENOMEM;
    return error ? error : sys_write_file_fast(AT_FDCWD, path, buffer_slice(&text), 0600);
}

static char *build_pod_json(void *userdata, struct arena *arena, const struct forge_build *build, struct diag *diag) {
    struct platform *platform = userdata;
    int error = build->password ? write_credentials(platform, arena, build) : 0;
    if (error) {
        diag_set(diag, error, "cannot write the registry's credentials for the build: %s", strerror(-error));
        return NULL;
    }
    const struct build_options options = {
        .name = build->name,
        .namespace = build->namespace,
        .labels = build->labels,
        .work_folder = build->work_folder,
        .cache_folder = build->cache_folder,
        .dockerfile = build->dockerfile,
        .target = build->target,
        .image = build->image,
        .registry = platform->core->registry,
        .build_arguments = build->build_arguments,
    };
    char *json = registry_build_pod_json(arena, &options);
    if (!json)
        diag_set(diag, -ENOMEM, "the pod that would build the image is too large");
    return json;
}

static int image_tag(void *userdata, const char *repository, const char *tag, const char *new_tag) {
    struct platform *platform = userdata;
    struct content *content = registry_content(platform->registry);
    struct oci_digest digest;
    if (platform->retention)
        retention_note_build(platform->retention, repository);
    int error = content_get_tag(content, repository, tag, &digest);
    return error ? error : content_set_tag(content, repository, new_tag, &digest);
}

static void on_pipeline_end(void *userdata) {
    struct platform *platform = userdata;
    if (platform->retention)
        retention_soon(platform->retention);
}

/* --- who may push --- */

/* Everybody may pull: what reaches the registry at all is this host and its pods. Pushing needs a job's or build's token, or to be root or ourselves
 * on a unix socket. */
static enum registry_verdict authorize(void *userdata, const struct registry_access *access) {
    struct platform *platform = userdata;
    const struct http_peer *peer = access->peer;
    if (peer && peer->is_unix && (peer->uid == 0 || peer->uid == geteuid()))
        return REGISTRY_ALLOWED;
    bool named = access->password && *access->password;
    if (named && access->repository && platform->forge && forge_registry_allows(platform->forge, access->password, access->repository, access->write))
        return REGISTRY_ALLOWED;
    if (!access->write)
        return REGISTRY_ALLOWED;
    return named ? REGISTRY_DENIED : REGISTRY_UNAUTHORIZED;
}

static int pull_secrets(void *userdata, const char *namespace, const char *const *names, size_t count, struct docker_config *into,
                        struct buffer *missing) {
    struct platform *platform = userdata;
    return pull_secrets_read(platform->store, namespace, names, count, into, missing);
}

/* --- opening --- */

static int open_registry(struct platform *platform, struct loop *loop, struct diag *diag) {
    char *path = arena_printf(platform->arena, "%s/registry", platform->core->state);
    const struct registry_options options = {.path = path,
                                             .authorize = authorize,
                                             .sites_path = platform->core->registries,
                                             .credentials_path = platform->core->registry_auth,
                                             .pull_secrets = pull_secrets,
                                             .userdata = platform};
    int error = path ? registry_new(loop, &options, &platform->registry, diag) : -ENOMEM;
    if (error)
        return error;
    error = registry_ensure_builder_image(platform->registry);
    return error ? diag_set(diag, error, "cannot make the image that builds images: %s", strerror(-error)) : 0;
}

/* tidemill-job lies beside our own executable. */
static const char *helper_path(struct platform *platform) {
    if (platform->core->helper_path)
        return platform->core->helper_path;
    char path[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", path, sizeof path - 1);
    if (len <= 0)
        return NULL;
    path[len] = 0;
    char *slash = strrchr(path, '/');
    if (slash)
        *slash = 0;
    return arena_printf(platform->arena, "%s/tidemill-job", path);
}

static int open_forge(struct platform *platform, struct loop *loop, struct diag *diag) {
    const struct core_options *core = platform->core;
    struct arena *arena = platform->arena;
    const struct client_options client = {.endpoint = arena_printf(arena, "unix:%s/api.sock", core->run)};
    int error = client_new(loop, &client, &platform->client, diag);
    if (error)
        return error;
    const struct forge_options options = {
        .state = core->state,
        .client = platform->client,
        .storage = {.put = storage_put, .get = storage_get, .list = storage_list, .userdata = platform->store},
        .instance = core->instance,
        .helper_path = helper_path(platform),
        .job_socket = arena_printf(arena, "%s/job/job.sock", core->run),
        .git_url = core->git_url,
        .registry = core->registry,
        .domain = core->domain,
        .gateway_port = core->gateway_port,
        .build_pod_json = build_pod_json,
        .image_tag = image_tag,
        .on_pipeline_end = on_pipeline_end,
        .userdata = platform,
    };
    return forge_new(loop, &options, &platform->forge, diag);
}

static int open_retention(struct platform *platform, struct loop *loop, struct diag *diag) {
    const struct core_options *core = platform->core;
    const struct retention_options options = {
        .loop = loop,
        .store = platform->store,
        .registry = platform->registry,
        .forge = platform->forge,
        .client = platform->client,
        .state = core->state,
        .run = core->run,
        .node_name = core->node_name,
        .budget = {.high_percent = core->image_gc_high_percent, .low_percent = core->image_gc_low_percent, .age_ns_min = core->image_age_ns_min},
        .keep_images = core->keep_images,
    };
    return retention_new(&options, &platform->retention, diag);
}

int platform_new(struct loop *loop, const struct platform_options *options, struct platform **ret, struct diag *diag) {
    struct platform *platform = calloc(1, sizeof *platform);
    if (!platform)
        return -ENOMEM;
    platform->loop = loop;
    platform->core = options->core;
    platform->store = options->store;
    platform->arena = arena_new(256 * KIB);
    int error = platform->arena ? open_registry(platform, loop, diag) : -ENOMEM;
    error = error ? error : open_forge(platform, loop, diag);
    error = error ? error : open_retention(platform, loop, diag);
    if (error)
        platform_free(platform);
    else
        *ret = platform;
    return error;
}

void platform_free(struct platform *platform) {
    if (!platform)
        return;
    while (platform->listings && loop_turn(platform->loop, -1) >= 0)
        ;
    retention_free(platform->retention);
    platform->retention = NULL; /* a pipeline may end while the forge does */
    forge_free(platform->forge);
    client_free(platform->client);
    registry_free(platform->registry);
    arena_free(platform->arena);
    free(platform);
}

/* --- handlers --- */

void platform_handle_cli(void *userdata, struct http_exchange *exchange) {
    struct platform *platform = userdata;
    if (image_api_handle(platform->loop, platform->store, platform->registry, &platform->listings, exchange))
        return;
    if (!retention_handle(platform->retention, exchange))
        forge_handle_cli(platform->forge, exchange);
}

void platform_handle_git(void *userdata, struct http_exchange *exchange) {
    struct platform *platform = userdata;
    forge_handle_git(platform->forge, exchange);
}

void platform_handle_job(void *userdata, struct http_exchange *exchange) {
    struct platform *platform = userdata;
    forge_handle_job(platform->forge, exchange);
}

void platform_handle_registry(void *userdata, struct http_exchange *exchange) {
    struct platform *platform = userdata;
    registry_handle(platform->registry, exchange);
}

void platform_metrics(const struct platform *platform, struct buffer *out) {
    struct forge_statistics seen;
    if (!platform->forge)
        return;
    forge_statistics(platform->forge, &seen);
    buffer_printf(
        out,
        "# HELP tidemill_forge_apps Applications.\n# TYPE tidemill_forge_apps gauge\ntidemill_forge_apps %" PRIu64 "\n"
        "# HELP tidemill_forge_pipelines_total Pipelines started.\n# TYPE tidemill_forge_pipelines_total counter\ntidemill_forge_pipelines_total "
        "%" PRIu64 "\n"
        "# HELP tidemill_forge_jobs_running Jobs that run now.\n# TYPE tidemill_forge_jobs_running gauge\ntidemill_forge_jobs_running %" PRIu64 "\n"
        "# HELP tidemill_forge_builds_running Image builds that run now.\n# TYPE tidemill_forge_builds_running gauge\ntidemill_forge_builds_running "
        "%" PRIu64 "\n",
        seen.apps, seen.pipelines, seen.jobs_running, seen.builds_running);
}
