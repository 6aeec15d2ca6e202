/* The forge as a whole: start and end, what all its parts use, and the way requests take.
 *
 * Everything under <state>/forge:
 *   repos/<app>.git       bare repositories          logs/<run>/…          logs of runs and their jobs, pipeline.yml: the file as it was
 *   hooks/                links to the helper        artifacts/<run>/…     one tar per job
 *   helper/               the helper, as jobs see it builds/<id>/, cache/  contexts of builds, buildah's storage
 *
 * Invariants
 * 1. Nothing typed by a person becomes part of a path before it was checked: app names are DNS labels, object ids hexadecimal, job names are only
 * used by their index.
 * 2. What runs asynchronously is an operation, a podrun, a program or a follower; forge_free ends all of them, and no callback comes afterwards. */
#include "forge/forge_priv.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "sys/sys.h"

#define HELPER_BYTES_MAX (32 * MIB)
#define OPTIONS_BYTES_MAX (64 * KIB)
#define ANSWER_BYTES_MAX (16 * MIB)
#define NS_PER_MS 1000000

/* --- small things --- */

char *forge_path(const struct forge *forge, struct arena *arena, const char *format, ...) {
    va_list args;
    va_start(args, format);
    char *rest = arena_vprintf(arena, format, args);
    va_end(args);
    return rest ? arena_printf(arena, "%s/%s", forge->folder, rest) : NULL;
}

char *forge_path_new(const struct forge *forge, const char *format, ...) {
    struct buffer path = BUFFER_INIT(4096);
    va_list args;
    buffer_printf(&path, "%s/", forge->folder);
    va_start(args, format);
    buffer_vprintf(&path, format, args);
    va_end(args);
    return buffer_take(&path);
}

int64_t forge_now_ms(const struct forge *forge) {
    return loop_wall_ns(forge->loop) / NS_PER_MS;
}

void token_make(char ret[TOKEN_BYTES + 1]) {
    sys_random_name(ret, TOKEN_BYTES);
}

void token_digest(const char *token, char ret[DIGEST_BYTES]) {
    digest_sha256_hex(slice_of(token), ret);
}

bool token_matches(struct slice token, const char *digest) {
    char own[DIGEST_BYTES];
    if (token.len == 0 || !digest[0])
        return false;
    digest_sha256_hex(token, own);
    return secret_equal(slice_of(own), slice_of(digest));
}

struct slice bearer_of(const struct http_exchange *exchange) {
    struct slice header = http_header(exchange, "Authorization");
    struct slice scheme = slice_cut(&header, ' ');
    return slice_equal_nocase(scheme, SLICE("Bearer")) ? slice_trim(header) : (struct slice){0};
}

int status_of_error(int error) {
    static const struct {
        int error, status;
    } table[] = {{-EINVAL, 400}, {-ENOENT, 404}, {-EEXIST, 409},       {-EBUSY, 409}, {-EPERM, 403},
                 {-EACCES, 403}, {-EAGAIN, 503}, {-ECONNREFUSED, 503}, {-ENOSPC, 507}};
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (table[i].error == error)
            return table[i].status;
    return 500;
}

void respond_tree(struct http_exchange *exchange, int status, const struct tree *tree) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(ANSWER_BYTES_MAX);
    if (!tree || json_format(&text, tree) || buffer_append_byte(&text, '\n'))
        http_respond_text(exchange, 500, "the answer is too large\n");
    else
        http_respond(exchange, status, "application/json", buffer_slice(&text), NULL);
}

void respond_diag(struct http_exchange *exchange, int status, const struct diag *diag) {
    struct arena *arena = http_exchange_arena(exchange);
    struct tree *tree = tree_map(arena);
    if (tree) {
        tree_set_text(arena, tree, "message", diag->message);
        if (diag->hint[0])
            tree_set_text(arena, tree, "hint", diag->hint);
        tree_set(arena, tree, SLICE("code"), tree_int(arena, status));
    }
    respond_tree(exchange, status, tree);
}

void respond_message(struct http_exchange *exchange, int status, const char *format, ...) {
    struct diag diag = DIAG_INIT;
    va_list args;
    va_start(args, format);
    vsnprintf(diag.message, sizeof diag.message, format, args);
    va_end(args);
    respond_diag(exchange, status, &diag);
}

/* Only what git needs: no configuration of the machine or a user, no terminal, English messages. */
const char *const *git_environment(struct forge *forge, struct arena *arena, const char *const *extra) {
    const char *own[] = {"PATH=/usr/local/bin:/usr/bin:/bin",
                         "LANG=C.UTF-8",
                         "GIT_CONFIG_NOSYSTEM=1",
                         "GIT_TERMINAL_PROMPT=0",
                         arena_printf(arena, "HOME=%s", forge->folder),
                         "GIT_CONFIG_COUNT=7",
                         "GIT_CONFIG_KEY_0=safe.directory",
                         "GIT_CONFIG_VALUE_0=*",
                         "GIT_CONFIG_KEY_1=core.hooksPath",
                         arena_printf(arena, "GIT_CONFIG_VALUE_1=%s/hooks", forge->folder),
                         "GIT_CONFIG_KEY_2=receive.fsckObjects",
                         "GIT_CONFIG_VALUE_2=true",
                         "GIT_CONFIG_KEY_3=receive.maxInputSize",
                         "GIT_CONFIG_VALUE_3=1g",
                         "GIT_CONFIG_KEY_4=receive.advertisePushOptions",
                         "GIT_CONFIG_VALUE_4=true",
                         "GIT_CONFIG_KEY_5=uploadpack.allowFilter",
                         "GIT_CONFIG_VALUE_5=true",
                         "GIT_CONFIG_KEY_6=receive.autogc",
                         "GIT_CONFIG_VALUE_6=false"};
    size_t count = 0;
    while (extra && extra[count])
        count++;
    const char **all = ARENA_ARRAY(arena, const char *, ARRAY_LEN(own) + count + 1);
    if (!all || !own[4] || !own[9])
        return NULL;
    memcpy(all, own, sizeof own);
    if (count)
        memcpy(all + ARRAY_LEN(own), extra, count * sizeof *extra);
    return all;
}

/* --- operations --- */

static void on_exchange_close(void *userdata, struct http_exchange *exchange, bool complete) {
    (void)exchange;
    (void)complete;
    struct operation *operation = userdata;
    operation->exchange = NULL;
}

void operation_init(struct operation *operation, struct forge *forge, struct http_exchange *exchange, void (*destroy)(struct operation *operation)) {
    operation->forge = forge;
    operation->exchange = exchange;
    operation->destroy = destroy;
    list_push(&forge->operations, &operation->node);
    if (exchange)
        http_on_close(exchange, on_exchange_close, operation);
}

static void ignore_close(void *userdata, struct http_exchange *exchange, bool complete) {
    (void)userdata;
    (void)exchange;
    (void)complete;
}

void operation_end(struct operation *operation) {
    list_remove(&operation->node);
    http_request_cancel(TAKE(operation->request));
    if (operation->command)
        loop_command_cancel(TAKE(operation->command));
    if (operation->exchange) /* its end no longer concerns us */
        http_on_close(operation->exchange, ignore_close, NULL);
    operation->exchange = NULL;
    operation->orphaned = operation->writing;
    if (!operation->writing)
        operation->destroy(operation);
}

int operation_put(struct operation *operation, struct slice key, struct slice value, void (*on_done)(void *userdata, int error)) {
    const struct forge_storage *storage = &operation->forge->options.storage;
    operation->writing = true;
    int error = storage->put(storage->userdata, key, value, on_done, operation);
    if (error)
        operation->writing = false;
    return error;
}

bool operation_written(struct operation *operation) {
    operation->writing = false;
    if (!operation->orphaned)
        return true;
    operation->destroy(operation);
    return false;
}

int operation_request(struct operation *operation, const char *method, const char *target, const char *content_type, struct slice body,
                      http_answer_fn *on_answer) {
    static const struct http_field fields[] = {{"Accept", "application/json"}, {NULL, NULL}};
    const struct http_request_options options = {
        .method = method, .target = target, .content_type = content_type, .body = body, .fields = fields, .body_max = ANSWER_BYTES_MAX};
    return http_client_send(client_http(operation->forge->options.client), &options, on_answer, operation, &operation->request);
}

int operation_git(struct operation *operation, struct loop_command_options *options, loop_command_fn *on_done) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(OPTIONS_BYTES_MAX);
    if (!arena)
        return -ENOMEM;
    options->spawn.envp = git_environment(operation->forge, arena, options->spawn.envp);
    options->spawn.stdin_fd = options->spawn.stdout_fd = options->spawn.stderr_fd = -1;
    options->spawn.die_with_parent = true;
    return options->spawn.envp ? loop_command_run(operation->forge->loop, options, on_done, operation, &operation->command) : -ENOMEM;
}

/* --- start and end --- */

static int copy_options(struct forge *forge, const struct forge_options *options) {
    struct forge_options *own = &forge->options;
    *own = *options;
    own->default_image = options->default_image ? options->default_image : "debian:12";
    own->job_cpu_limit = options->job_cpu_limit ? options->job_cpu_limit : "1";
    own->job_memory_limit = options->job_memory_limit ? options->job_memory_limit : "512Mi";
    const char **texts[] = {&own->state,    &own->instance, &own->helper_path,   &own->job_socket,    &own->git_url,
                            &own->registry, &own->domain,   &own->default_image, &own->job_cpu_limit, &own->job_memory_limit};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        if (*texts[i] && !(*texts[i] = arena_strdup(forge->arena, *texts[i])))
            return -ENOMEM;
    }
    forge->folder = arena_printf(forge->arena, "%s/forge", own->state);
    return forge->folder ? 0 : -ENOMEM;
}

/* Writes the helper unless it is there already: on a full disk, a start must not fail for what need not be written. */
static int write_helper(const char *path, struct slice program) {
    CLEANUP(buffer_deinit) struct buffer present = BUFFER_INIT(HELPER_BYTES_MAX);
    if (sys_read_file(AT_FDCWD, path, HELPER_BYTES_MAX, &present) == 0 && slice_equal(buffer_slice(&present), program))
        return 0;
    return sys_write_file_fast(AT_FDCWD, path, program, 0755);
}

/* The helper is copied: job pods see one folder that holds it and nothing else, and an upgrade of the platform replaces it as a whole. */
static int install_helper(struct forge *forge, struct diag *diag) {
    CLEANUP(buffer_deinit) struct buffer program = BUFFER_INIT(HELPER_BYTES_MAX);
    CLEANUP(freep) char *path = forge_path_new(forge, "helper/tidemill-job");
    CLEANUP(freep) char *link = forge_path_new(forge, "helper/tidemill");
    if (!path || !link)
        return -ENOMEM;
    int error = sys_read_file(AT_FDCWD, forge->options.helper_path, HELPER_BYTES_MAX, &program);
    if (error)
        return diag_set(diag, error, "cannot read the job helper %s: %s", forge->options.helper_path, strerror(-error));
    error = write_helper(path, buffer_slice(&program));
    if (!error && symlink("tidemill-job", link) < 0 && errno != EEXIST)
        error = -errno;
    static const char *const hooks[] = {"pre-receive", "post-receive"};
    for (size_t i = 0; !error && i < ARRAY_LEN(hooks); i++) {
        CLEANUP(freep) char *hook = forge_path_new(forge, "hooks/%s", hooks[i]);
        if (!hook || (symlink("../helper/tidemill-job", hook) < 0 && errno != EEXIST))
            error = hook ? -errno : -ENOMEM;
    }
    return error ? diag_set(diag, error, "cannot install the job helper beneath %s: %s", forge->folder, strerror(-error)) : 0;
}

static int make_folders(struct forge *forge, struct diag *diag) {
    static const char *const names[] = {"repos", "hooks", "helper", "logs", "artifacts", "builds", "cache"};
    int error = 0;
    for (size_t i = 0; !error && i < ARRAY_LEN(names); i++) {
        CLEANUP(freep) char *path = forge_path_new(forge, "%s", names[i]);
        if (path && strcmp(names[i], "builds") == 0) {
            sys_remove_tree(AT_FDCWD, path); /* no build outlives us; each makes its folder with its parents, so a full disk is no matter here */
            continue;
        }
        error = path ? sys_mkdirs(path, strcmp(names[i], "helper") == 0 ? 0755 : 0750) : -ENOMEM;
        if (error)
            diag_set(diag, error, "cannot make the folder %s: %s", path ? path : names[i], strerror(-error));
    }
    return error;
}

static int start(struct forge *forge, const struct forge_options *options, struct diag *diag) {
    forge->arena = arena_new(OPTIONS_BYTES_MAX);
    forge->apps = map_new();
    if (!forge->arena || !forge->apps)
        return diag_set(diag, -ENOMEM, "no memory");
    int error = copy_options(forge, options);
    if (!error)
        error = make_folders(forge, diag);
    if (!error && forge->options.helper_path)
        error = install_helper(forge, diag);
    if (!error)
        error = apps_load(forge, diag);
    if (!error)
        error = runs_load(forge, diag);
    return error;
}

int forge_new(struct loop *loop, const struct forge_options *options, struct forge **ret, struct diag *diag) {
    struct forge *forge = calloc(1, sizeof *forge);
    if (!forge)
        return diag_set(diag, -ENOMEM, "no memory");
    forge->loop = loop;
    list_init(&forge->podruns);
    list_init(&forge->builds);
    list_init(&forge->pushes);
    list_init(&forge->operations);
    int error = start(forge, options, diag);
    if (error) {
        forge_free(forge);
        return error;
    }
    *ret = forge;
    return 0;
}

void forge_free(struct forge *forge) {
    if (!forge)
        return;
    forge->closing = true;
    pushes_free(forge);
    while (!list_empty(&forge->operations))
        operation_end(CONTAINER_OF(forge->operations.next, struct operation, node));
    runs_free(forge);
    podruns_free(forge);
    struct slice key;
    void *app;
    for (size_t at = 0; forge->apps && map_next(forge->apps, &at, &key, &app);)
        free(app);
    map_free(forge->apps);
    arena_free(forge->arena);
    free(forge);
}

void forge_handle_job(void *userdata, struct http_exchange *exchange) {
    struct forge *forge = userdata;
    struct slice path = http_path(exchange);
    if (slice_starts(path, SLICE("/hook/v1/")))
        hook_handle(forge, exchange);
    else if (slice_starts(path, SLICE("/job/v1/")))
        job_handle(forge, exchange);
    else
        respond_message(exchange, 404, "there is nothing at this path");
}
