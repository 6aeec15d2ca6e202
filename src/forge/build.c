/* Builds of images: a pod that core's callback describes, one at a time because they share buildah's storage (and the machine is small); the others
 * wait in order.
 *
 * A build has a folder of its own with the context, and a token that allows pushing its application's repository while it runs. Both go with it. */
#include "forge/forge_priv.h"

#include <fcntl.h>
#include <stdio.h>

#include "sys/sys.h"

#define BUILD_ARENA_BYTES_MAX (1 * MIB)
#define NAME_BYTES 64
#define TAG_BYTES_MAX 128

struct build {
    struct list node; /* in forge->builds */
    struct forge *forge;
    struct arena *arena;
    const char *folder;
    struct build_request request; /* texts in the arena */
    char name[NAME_BYTES];
    char token[TOKEN_BYTES + 1];
    struct work_handlers handlers;
    void *userdata;
    struct podrun *pod;
    bool started;
    struct loop_defer failing;
};

static void start_next(struct forge *forge);

char *build_folder_new(struct forge *forge, struct arena *arena) {
    char *folder = forge_path(forge, arena, "builds/%" PRIu64, forge->next_build++);
    return folder && sys_mkdirs(folder, 0700) == 0 ? folder : NULL;
}

static void free_build(struct build *build) {
    list_remove(&build->node);
    loop_defer_cancel(&build->failing);
    sys_remove_tree(AT_FDCWD, build->folder);
    arena_free(build->arena);
    free(build);
}

void build_cancel(struct build *build) {
    if (!build)
        return;
    struct forge *forge = build->forge;
    podrun_kill(build->pod);
    free_build(build);
    if (!forge->closing)
        start_next(forge);
}

static void say(struct build *build, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct build *build, const char *format, ...) {
    char line[1024];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    build->handlers.on_output(build->userdata, slice_make(line, (size_t)MIN(MAX(len, 0), (int)sizeof line - 1)));
}

static void end(struct build *build, int exit_code) {
    struct forge *forge = build->forge;
    struct work_handlers handlers = build->handlers;
    void *userdata = build->userdata;
    free_build(build);
    handlers.on_done(userdata, exit_code);
    start_next(forge);
}

static void on_failing(void *userdata) {
    end(userdata, 1);
}

/* The tag `latest` follows every successful build. */
static void tag_latest(struct build *build) {
    const struct forge_options *options = &build->forge->options;
    const struct build_request *request = &build->request;
    int error = options->image_tag ? options->image_tag(options->userdata, request->app, request->tag, "latest") : 0;
    if (error)
        say(build, "note: the tag latest could not be set: %s\n", strerror(-error));
    say(build, "built %s/%s:%s\n", options->registry, request->app, request->tag);
}

static void on_output(void *userdata, struct slice output) {
    struct build *build = userdata;
    build->handlers.on_output(build->userdata, output);
}

static void on_pod_end(void *userdata, const struct podrun_end *pod_end) {
    struct build *build = userdata;
    build->pod = NULL;
    if (pod_end->reason)
        say(build, "the build failed: %s\n", pod_end->reason);
    else if (pod_end->exit_code != 0)
        say(build, "the build failed with exit code %d\n", pod_end->exit_code);
    else
        tag_latest(build);
    end(build, pod_end->reason || pod_end->exit_code < 0 ? 1 : pod_end->exit_code);
}

static int start_pod(struct build *build, struct diag *diag) {
    static const struct podrun_handlers handlers = {.on_output = on_output, .on_end = on_pod_end};
    const struct forge_options *options = &build->forge->options;
    const struct build_request *request = &build->request;
    const char *const labels[] = {"app.kubernetes.io/managed-by=tidemill", arena_printf(build->arena, "tidemill.dev/app=%s", request->app),
                                  "tidemill.dev/build=true", NULL};
    const struct forge_build described = {.name = build->name,
                                          .namespace = FORGE_NAMESPACE,
                                          .labels = labels,
                                          .work_folder = build->folder,
                                          .cache_folder = forge_path(build->forge, build->arena, "cache/%s", request->app),
                                          .dockerfile = request->dockerfile,
                                          .target = request->target,
                                          .image = arena_printf(build->arena, "%s:%s", request->app, request->tag),
                                          .build_arguments = request->build_arguments,
                                          .user = "build",
                                          .password = build->token};
    if (!options->build_pod_json)
        return diag_set(diag, -ENOSYS, "this platform builds no images");
    char *json =
        labels[1] && described.cache_folder && described.image ? options->build_pod_json(options->userdata, build->arena, &described, diag) : NULL;
    if (!json)
        return diag->message[0] ? -EINVAL : diag_set(diag, -ENOMEM, "no memory for the build's pod");
    const struct podrun_options pod = {.name = build->name, .json = slice_of(json)};
    int error = podrun_start(build->forge, &pod, &handlers, build, &build->pod);
    return error ? diag_set(diag, error, "the build's pod could not be started: %s", strerror(-error)) : 0;
}

static void start_next(struct forge *forge) {
    if (list_empty(&forge->builds))
        return;
    struct build *build = CONTAINER_OF(forge->builds.next, struct build, node);
    struct diag diag = DIAG_INIT;
    if (build->started)
        return;
    build->started = true;
    if (start_pod(build, &diag)) {
        say(build, "the build failed: %s\n", diag.message);
        loop_defer_schedule(&build->failing);
    }
}

static bool is_tag(const char *tag) {
    size_t len = strlen(tag);
    for (size_t i = 0; i < len; i++) {
        char c = tag[i];
        bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
        if (!word && (i == 0 || (c != '.' && c != '-')))
            return false;
    }
    return len > 0 && len <= TAG_BYTES_MAX;
}

static int copy_request(struct build *build, const char *folder, const struct build_request *request) {
    struct build_request *own = &build->request;
    size_t count = 0;
    while (request->build_arguments && request->build_arguments[count])
        count++;
    const char **arguments = ARENA_ARRAY(build->arena, const char *, count + 1);
    build->folder = arena_strdup(build->arena, folder);
    own->app = arena_strdup(build->arena, request->app);
    own->tag = arena_strdup(build->arena, request->tag);
    own->dockerfile = request->dockerfile ? arena_strdup(build->arena, request->dockerfile) : NULL;
    own->target = request->target ? arena_strdup(build->arena, request->target) : NULL;
    own->build_arguments = arguments;
    bool good = arguments && build->folder && own->app && own->tag && !own->dockerfile == !request->dockerfile && !own->target == !request->target;
    for (size_t i = 0; good && i < count; i++)
        good = (arguments[i] = arena_strdup(build->arena, request->build_arguments[i])) != NULL;
    return good ? 0 : -ENOMEM;
}

int build_start(struct forge *forge, const char *folder, const struct build_request *request, const struct work_handlers *handlers, void *userdata,
                struct build **ret) {
    if (!is_tag(request->tag))
        return -EINVAL;
    struct build *build = calloc(1, sizeof *build);
    if (!build || !(build->arena = arena_new(BUILD_ARENA_BYTES_MAX)) || copy_request(build, folder, request)) {
        if (build)
            arena_free(build->arena);
        free(build);
        return -ENOMEM;
    }
    const char *id = strrchr(folder, '/');
    build->forge = forge;
    build->handlers = *handlers;
    build->userdata = userdata;
    snprintf(build->name, sizeof build->name, "build-%s", id ? id + 1 : folder);
    token_make(build->token);
    loop_defer_init(&build->failing, forge->loop, on_failing, build);
    list_push(&forge->builds, &build->node);
    *ret = build;
    if (forge->builds.next != &build->node)
        say(build, "another image is being built: this one waits\n");
    start_next(forge);
    return 0;
}

bool build_token_allows(const struct forge *forge, struct slice token, const char *repository) {
    LIST_FOREACH(it, &forge->builds) {
        const struct build *build = CONTAINER_OF(it, struct build, node);
        if (secret_equal(token, slice_of(build->token)))
            return !repository || strcmp(repository, build->request.app) == 0;
    }
    return false;
}
