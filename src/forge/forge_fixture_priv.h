/* What the forge's test stands on: a Kubernetes API of a few lines with a node that runs each job pod's helper as a local process, servers for git,
 * the command line and the job socket, storage in memory, and git itself. Everything lies in one temporary folder. */
#ifndef TIDEMILL_FORGE_FIXTURE_PRIV_H
#define TIDEMILL_FORGE_FIXTURE_PRIV_H

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "forge/forge_priv.h"
#include "forge/program_priv.h"
#include "sys/sys.h"

#include "unit.h"

#define WAIT_FOR(fixture, condition)                                                                                                                 \
    do {                                                                                                                                             \
        while (!(condition))                                                                                                                         \
            assert_int_equal(loop_turn((fixture)->loop, 1000), 0);                                                                                   \
    } while (0)

struct object {
    char *collection, *name;
    struct tree *tree; /* NULL: deleted */
};

/* A container of the pretended node. */
struct container {
    struct fixture *fixture;
    char *name;
    struct program *program;
    struct buffer log;
    struct http_exchange *follower;
    bool over;
};

struct watcher {
    char *collection;
    struct http_exchange *exchange;
};

struct pending_put {
    void (*on_done)(void *userdata, int error);
    void *userdata;
};

struct fixture {
    struct loop *loop;
    struct arena *arena;
    char folder[40];
    struct http_server *servers[4];
    int listeners[4];
    char endpoints[4][160];
    struct client *client;
    struct http_client *cli;
    struct forge *forge;
    struct forge_options options;
    /* the cluster */
    VECTOR(struct object) objects;
    VECTOR(struct watcher) watchers;
    VECTOR(struct container *) containers;
    int64_t version;
    bool image_missing; /* pods stay with ErrImagePull */
    bool rollouts_hang; /* deployments never become available */
    int builds;
    char tagged[100];
    /* storage */
    struct map *records;
    VECTOR(struct pending_put) puts;
    struct loop_defer putting;
    /* results of what is waited for */
    bool done;
    int status;
    struct buffer out;
};

enum { SERVER_API, SERVER_GIT, SERVER_CLI, SERVER_JOB };

/* --- the cluster --- */

static inline void fixture_notify(struct fixture *fixture, const char *type, const struct object *object, struct tree *tree) {
    struct buffer line = BUFFER_INIT(MIB);
    buffer_printf(&line, "{\"type\":\"%s\",\"object\":", type);
    json_format(&line, tree);
    buffer_append_text(&line, "}\n");
    for (size_t i = 0; i < fixture->watchers.count; i++)
        if (strcmp(fixture->watchers.items[i].collection, object->collection) == 0)
            http_write(fixture->watchers.items[i].exchange, buffer_slice(&line));
    buffer_deinit(&line);
}

static inline void fixture_changed(struct fixture *fixture, struct object *object, const char *type) {
    char version[24];
    snprintf(version, sizeof version, "%" PRId64, ++fixture->version);
    tree_set_text(fixture->arena, tree_find(object->tree, "metadata"), "resourceVersion", version);
    fixture_notify(fixture, type, object, object->tree);
}

static inline struct object *fixture_find(struct fixture *fixture, const char *collection, const char *name) {
    for (size_t i = 0; i < fixture->objects.count; i++) {
        struct object *object = &fixture->objects.items[i];
        if (object->tree && strcmp(object->collection, collection) == 0 && strcmp(object->name, name) == 0)
            return object;
    }
    return NULL;
}

static inline struct tree *fixture_json(struct fixture *fixture, const char *text) {
    struct tree *tree = NULL;
    assert_int_equal(json_parse(fixture->arena, slice_of(text), NULL, &tree, NULL), 0);
    return tree;
}

static inline void fixture_pod_status(struct fixture *fixture, const char *name, const char *phase, const char *state) {
    struct object *object = fixture_find(fixture, "/api/v1/namespaces/tidemill-ci/pods", name);
    if (!object)
        return;
    char *text =
        arena_printf(fixture->arena, "{\"phase\":\"%s\",\"containerStatuses\":[{\"name\":\"job\",\"restartCount\":0,\"state\":%s}]}", phase, state);
    tree_set(fixture->arena, object->tree, SLICE("status"), fixture_json(fixture, text));
    fixture_changed(fixture, object, "MODIFIED");
}

static inline bool container_on_output(void *userdata, struct slice output) {
    struct container *container = userdata;
    buffer_append_slice(&container->log, output);
    if (container->follower)
        http_write(container->follower, output);
    return true;
}

static inline void container_end(struct container *container, int code) {
    char *state = arena_printf(container->fixture->arena, "{\"terminated\":{\"exitCode\":%d,\"reason\":\"%s\"}}", code, code ? "Error" : "Completed");
    container->over = true;
    fixture_pod_status(container->fixture, container->name, code ? "Failed" : "Succeeded", state);
    if (container->follower)
        http_respond_end(container->follower);
}

static inline void container_on_end(void *userdata, int status) {
    struct container *container = userdata;
    program_free(TAKE(container->program));
    container_end(container, WIFEXITED(status) ? WEXITSTATUS(status) : 137);
}

/* The helper with the pod's environment; only the paths are those of this machine. A build's pod has no job token: it "builds" by looking for the
 * context. */
static inline void fixture_run_pod(struct fixture *fixture, struct object *object) {
    static const struct program_handlers handlers = {.on_output = container_on_output, .on_end = container_on_end};
    const struct tree *spec = tree_at(tree_path(object->tree, "spec.containers"), 0), *env = tree_find(spec, "env");
    struct container *container = calloc(1, sizeof *container);
    *container = (struct container){.fixture = fixture, .name = object->name, .log = BUFFER_INIT(8 * MIB)};
    VECTOR_PUSH(&fixture->containers, container);
    if (fixture->image_missing) {
        fixture_pod_status(fixture, object->name, "Pending", "{\"waiting\":{\"reason\":\"ErrImagePull\",\"message\":\"no such image\"}}");
        return;
    }
    fixture_pod_status(fixture, object->name, "Running", "{\"running\":{}}");
    if (!env) {
        struct stat status;
        const char *context = tree_text_or(tree_find(spec, "workingDir"), "");
        bool there = stat(arena_printf(fixture->arena, "%s/context.tar", context), &status) == 0 && status.st_size > 0;
        fixture->builds++;
        container_on_output(container, there ? SLICE("STEP 1/1: FROM scratch\n") : SLICE("no context\n"));
        container_end(container, there ? 0 : 1);
        return;
    }
    const char *envp[200];
    size_t count = 0;
    for (size_t i = 0; i < tree_count(env) && count < 190; i++) {
        const char *name = tree_text_or(tree_find(tree_at(env, i), "name"), ""), *value = tree_text_or(tree_find(tree_at(env, i), "value"), "");
        if (strcmp(name, "TIDEMILL_JOB_SOCKET") == 0)
            value = fixture->options.job_socket;
        if (strcmp(name, "CI_PROJECT_DIR") == 0) {
            value = arena_printf(fixture->arena, "%s/builds/%s", fixture->folder, object->name);
            sys_mkdirs(value, 0755);
        }
        envp[count++] = arena_printf(fixture->arena, "%s=%s", name, value);
    }
    envp[count++] = "PATH=/usr/bin:/bin";
    envp[count++] = "ASAN_OPTIONS=detect_leaks=0";
    envp[count] = NULL;
    const char *const argv[] = {TIDEMILL_JOB_PATH, "run", NULL};
    const struct program_options options = {.argv = argv, .envp = envp};
    assert_int_equal(program_start(fixture->loop, &options, &handlers, container, &container->program), 0);
}

/* Every change of a deployment is rolled out at once. */
static inline void fixture_roll_out(struct fixture *fixture, struct object *object) {
    struct tree *metadata = tree_find(object->tree, "metadata");
    int64_t generation = tree_int_or(tree_find(metadata, "generation"), 0) + 1, replicas = tree_int_or(tree_path(object->tree, "spec.replicas"), 1);
    tree_set(fixture->arena, metadata, SLICE("generation"), tree_int(fixture->arena, generation));
    char *status =
        arena_printf(fixture->arena, "{\"observedGeneration\":%" PRId64 ",\"replicas\":%d,\"updatedReplicas\":%d,\"availableReplicas\":%d}",
                     generation, (int)replicas, (int)replicas, fixture->rollouts_hang ? 0 : (int)replicas);
    tree_set(fixture->arena, object->tree, SLICE("status"), fixture_json(fixture, status));
}

static inline void respond_object(struct http_exchange *exchange, int status, const struct tree *tree) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(8 * MIB);
    json_format(&text, tree);
    http_respond(exchange, status, "application/json", buffer_slice(&text), NULL);
}

static inline void respond_failure(struct http_exchange *exchange, int code, const char *reason, const char *message) {
    char text[500];
    snprintf(text, sizeof text, "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"status\":\"Failure\",\"reason\":\"%s\",\"message\":\"%s\",\"code\":%d}",
             reason, message, code);
    http_respond(exchange, code, "application/json", slice_of(text), NULL);
}

static inline void fixture_on_post(void *userdata, struct http_exchange *exchange, struct slice body) {
    struct fixture *fixture = userdata;
    struct tree *tree = NULL;
    assert_int_equal(json_parse(fixture->arena, body, NULL, &tree, NULL), 0);
    char *collection = arena_dup(fixture->arena, http_path(exchange));
    const char *name = tree_text_or(tree_path(tree, "metadata.name"), "");
    if (fixture_find(fixture, collection, name)) {
        respond_failure(exchange, 409, "AlreadyExists", "it exists already");
        return;
    }
    struct object object = {.collection = collection, .name = arena_strdup(fixture->arena, name), .tree = tree};
    VECTOR_PUSH(&fixture->objects, object);
    struct object *added = &fixture->objects.items[fixture->objects.count - 1];
    char uid[37], created[TIMESTAMP_BYTES];
    sys_uuid(uid);
    timestamp_format(sys_wall_ns(), created);
    tree_set_text(fixture->arena, tree_find(tree, "metadata"), "uid", uid);
    tree_set_text(fixture->arena, tree_find(tree, "metadata"), "creationTimestamp", created);
    if (strstr(collection, "/deployments"))
        fixture_roll_out(fixture, added);
    fixture_changed(fixture, added, "ADDED");
    respond_object(exchange, 201, tree);
    if (strstr(collection, "/pods"))
        fixture_run_pod(fixture, added);
}

static inline void split_path(struct fixture *fixture, struct http_exchange *exchange, char **ret_collection, char **ret_name) {
    char *path = arena_dup(fixture->arena, http_path(exchange)), *slash = strrchr(path, '/');
    *slash = '\0';
    *ret_collection = path;
    *ret_name = slash + 1;
}

static inline void fixture_on_patch(void *userdata, struct http_exchange *exchange, struct slice body) {
    struct fixture *fixture = userdata;
    char *collection, *name;
    struct tree *patch = NULL;
    assert_int_equal(json_parse(fixture->arena, body, NULL, &patch, NULL), 0);
    assert_true(slice_is(http_header(exchange, "Content-Type"), "application/merge-patch+json"));
    split_path(fixture, exchange, &collection, &name);
    struct object *object = fixture_find(fixture, collection, name);
    assert_non_null(object);
    struct tree *merged = tree_merge_patch(fixture->arena, object->tree, patch);
    if (!tree_equal(merged, object->tree)) {
        object->tree = tree_copy(fixture->arena, merged);
        if (strstr(collection, "/deployments"))
            fixture_roll_out(fixture, object);
        fixture_changed(fixture, object, "MODIFIED");
    }
    respond_object(exchange, 200, object->tree);
}

static inline void fixture_on_watch_close(void *userdata, struct http_exchange *exchange, bool complete) {
    (void)complete;
    struct fixture *fixture = userdata;
    for (size_t i = fixture->watchers.count; i-- > 0;)
        if (fixture->watchers.items[i].exchange == exchange)
            VECTOR_REMOVE(&fixture->watchers, i);
    for (size_t i = 0; i < fixture->containers.count; i++)
        if (fixture->containers.items[i]->follower == exchange)
            fixture->containers.items[i]->follower = NULL;
}

static inline void fixture_list(struct fixture *fixture, struct http_exchange *exchange, const char *collection) {
    struct tree *list = fixture_json(fixture, "{\"metadata\":{},\"items\":[]}");
    for (size_t i = 0; i < fixture->objects.count; i++)
        if (fixture->objects.items[i].tree && strcmp(fixture->objects.items[i].collection, collection) == 0)
            tree_push(fixture->arena, tree_find(list, "items"), fixture->objects.items[i].tree);
    tree_set_text(fixture->arena, tree_find(list, "metadata"), "resourceVersion", arena_printf(fixture->arena, "%" PRId64, fixture->version));
    respond_object(exchange, 200, list);
}

static inline void fixture_log(struct fixture *fixture, struct http_exchange *exchange, char *pods) {
    char *name = strrchr(pods, '/') + 1;
    for (size_t i = fixture->containers.count; i-- > 0;) {
        struct container *container = fixture->containers.items[i];
        if (strcmp(container->name, name) != 0)
            continue;
        http_respond_begin(exchange, 200, "text/plain", -1, NULL);
        http_write(exchange, buffer_slice(&container->log));
        if (container->over) {
            http_respond_end(exchange);
            return;
        }
        container->follower = exchange;
        http_on_close(exchange, fixture_on_watch_close, fixture);
        return;
    }
    respond_failure(exchange, 404, "NotFound", "no such pod");
}

static inline void fixture_get(struct fixture *fixture, struct http_exchange *exchange) {
    static const char *const plurals[] = {"pods", "deployments", "services", "ingresses", "configmaps"};
    char *collection, *name;
    split_path(fixture, exchange, &collection, &name);
    for (size_t i = 0; i < ARRAY_LEN(plurals); i++) {
        if (strcmp(name, plurals[i]) != 0)
            continue;
        collection = arena_dup(fixture->arena, http_path(exchange));
        if (slice_find(http_query_text(exchange), SLICE("watch=true")) < 0) {
            fixture_list(fixture, exchange, collection);
            return;
        }
        const struct watcher watcher = {.collection = collection, .exchange = exchange};
        VECTOR_PUSH(&fixture->watchers, watcher);
        http_on_close(exchange, fixture_on_watch_close, fixture);
        http_respond_begin(exchange, 200, "application/json", -1, NULL);
        return;
    }
    struct object *object = fixture_find(fixture, collection, name);
    if (strcmp(name, "log") == 0)
        fixture_log(fixture, exchange, collection);
    else if (object)
        respond_object(exchange, 200, object->tree);
    else
        respond_failure(exchange, 404, "NotFound", "not found");
}

static inline void fixture_delete(struct fixture *fixture, struct http_exchange *exchange) {
    char *collection, *name;
    split_path(fixture, exchange, &collection, &name);
    struct object *object = fixture_find(fixture, collection, name);
    if (!object) {
        respond_failure(exchange, 404, "NotFound", "not found");
        return;
    }
    respond_object(exchange, 200, object->tree);
    fixture_notify(fixture, "DELETED", object, object->tree);
    object->tree = NULL;
    for (size_t i = 0; i < fixture->containers.count; i++)
        if (strcmp(fixture->containers.items[i]->name, name) == 0)
            program_free(TAKE(fixture->containers.items[i]->program));
}

static inline void fixture_api(void *userdata, struct http_exchange *exchange) {
    struct slice method = http_method(exchange);
    if (slice_is(method, "POST"))
        http_read_body(exchange, 8 * MIB, fixture_on_post, userdata);
    else if (slice_is(method, "PATCH"))
        http_read_body(exchange, 8 * MIB, fixture_on_patch, userdata);
    else if (slice_is(method, "DELETE"))
        fixture_delete(userdata, exchange);
    else
        fixture_get(userdata, exchange);
}

/* --- storage in memory, durable "later" --- */

static inline void storage_flush(void *userdata) {
    struct fixture *fixture = userdata;
    for (size_t i = 0; i < fixture->puts.count; i++) { /* a callback may put again */
        struct pending_put put = fixture->puts.items[i];
        put.on_done(put.userdata, 0);
    }
    fixture->puts.count = 0;
}

static inline int storage_put(void *userdata, struct slice key, struct slice value, void (*on_done)(void *userdata, int error), void *done_userdata) {
    struct fixture *fixture = userdata;
    void *old = value.data ? NULL : map_remove(fixture->records, key);
    if (value.data)
        map_put(fixture->records, key, slice_dup(value), &old);
    free(old);
    const struct pending_put put = {.on_done = on_done, .userdata = done_userdata};
    VECTOR_PUSH(&fixture->puts, put);
    loop_defer_schedule(&fixture->putting);
    return 0;
}

static inline struct slice storage_get(void *userdata, struct slice key) {
    struct fixture *fixture = userdata;
    return slice_of(map_find(fixture->records, key));
}

static inline void storage_list(void *userdata, struct slice prefix, bool (*each)(void *userdata, struct slice key, struct slice value),
                                void *each_userdata) {
    struct fixture *fixture = userdata;
    struct slice key;
    void *value;
    for (size_t at = 0; map_next(fixture->records, &at, &key, &value);)
        if (slice_starts(key, prefix) && !each(each_userdata, key, slice_of(value)))
            return;
}

/* --- builds --- */

static inline char *fixture_build_pod(void *userdata, struct arena *arena, const struct forge_build *build, struct diag *diag) {
    struct fixture *fixture = userdata;
    (void)diag;
    assert_true(forge_registry_allows(fixture->forge, build->password, "site", true));
    assert_false(forge_registry_allows(fixture->forge, build->password, "other", true));
    return arena_printf(arena,
                        "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"%s\",\"namespace\":\"%s\"},\"spec\":{\"containers\":[{"
                        "\"name\":\"job\",\"image\":\"x\",\"workingDir\":\"%s\"}]}}",
                        build->name, build->namespace, build->work_folder);
}

static inline int fixture_image_tag(void *userdata, const char *repository, const char *tag, const char *new_tag) {
    struct fixture *fixture = userdata;
    snprintf(fixture->tagged, sizeof fixture->tagged, "%s:%s=%s", repository, tag, new_tag);
    return 0;
}

/* --- putting it together --- */

static inline void fixture_cli_handler(void *userdata, struct http_exchange *exchange) {
    forge_handle_cli(((struct fixture *)userdata)->forge, exchange);
}
static inline void fixture_git_handler(void *userdata, struct http_exchange *exchange) {
    forge_handle_git(((struct fixture *)userdata)->forge, exchange);
}
static inline void fixture_job_handler(void *userdata, struct http_exchange *exchange) {
    forge_handle_job(((struct fixture *)userdata)->forge, exchange);
}

static inline void fixture_serve(struct fixture *fixture, int which, const char *address, http_handler_fn *handler) {
    struct sys_address parsed;
    assert_int_equal(sys_address_parse(address, &parsed), 0);
    fixture->listeners[which] = sys_listen(&parsed, 64, 0600);
    assert_true(fixture->listeners[which] >= 0);
    parsed.len = sizeof parsed.storage;
    getsockname(fixture->listeners[which], (struct sockaddr *)&parsed.storage, &parsed.len);
    sys_address_format(&parsed, fixture->endpoints[which], sizeof fixture->endpoints[which]);
    const struct http_server_options options = {.handler = handler, .userdata = fixture};
    assert_int_equal(http_server_new(fixture->loop, fixture->listeners[which], &options, &fixture->servers[which]), 0);
}

static inline void fixture_start_forge(struct fixture *fixture) {
    struct diag diag = DIAG_INIT;
    const struct client_options client = {.endpoint = fixture->endpoints[SERVER_API]};
    assert_int_equal(client_new(fixture->loop, &client, &fixture->client, &diag), 0);
    fixture->options.client = fixture->client;
    if (forge_new(fixture->loop, &fixture->options, &fixture->forge, &diag))
        fail_msg("forge_new: %s", diag.message);
}

static inline void fixture_begin(struct fixture *fixture) {
    char text[200];
    *fixture = (struct fixture){.folder = "/tmp/tidemill-forge-XXXXXX", .out = BUFFER_INIT(16 * MIB)};
    assert_int_equal(loop_new(&fixture->loop), 0);
    fixture->arena = arena_new(256 * MIB);
    fixture->records = map_new();
    assert_non_null(mkdtemp(fixture->folder));
    loop_defer_init(&fixture->putting, fixture->loop, storage_flush, fixture);
    snprintf(text, sizeof text, "unix:%s/api.sock", fixture->folder);
    fixture_serve(fixture, SERVER_API, text, fixture_api);
    fixture_serve(fixture, SERVER_GIT, "127.0.0.1:0", fixture_git_handler);
    snprintf(text, sizeof text, "unix:%s/cli.sock", fixture->folder);
    fixture_serve(fixture, SERVER_CLI, text, fixture_cli_handler);
    sys_mkdirs(arena_printf(fixture->arena, "%s/job", fixture->folder), 0755);
    snprintf(text, sizeof text, "unix:%s/job/job.sock", fixture->folder);
    fixture_serve(fixture, SERVER_JOB, text, fixture_job_handler);
    const struct http_client_options cli = {.endpoint = fixture->endpoints[SERVER_CLI]};
    assert_int_equal(http_client_new(fixture->loop, &cli, &fixture->cli), 0);
    fixture->options = (struct forge_options){
        .state = fixture->folder,
        .storage = {.put = storage_put, .get = storage_get, .list = storage_list, .userdata = fixture},
        .instance = "test",
        .helper_path = TIDEMILL_JOB_PATH,
        .job_socket = arena_printf(fixture->arena, "%s/job/job.sock", fixture->folder),
        .git_url = arena_printf(fixture->arena, "http://%s", fixture->endpoints[SERVER_GIT]),
        .registry = "10.0.0.1:5000",
        .domain = "localhost",
        .gateway_port = 8080,
        .build_pod_json = fixture_build_pod,
        .image_tag = fixture_image_tag,
        .userdata = fixture,
    };
    fixture_start_forge(fixture);
}

static inline void fixture_stop_forge(struct fixture *fixture) {
    forge_free(TAKE(fixture->forge));
    client_free(TAKE(fixture->client));
}

static inline void fixture_end(struct fixture *fixture) {
    http_client_free(fixture->cli);
    for (size_t i = 0; i < ARRAY_LEN(fixture->servers); i++) {
        if (i == SERVER_API)
            continue;
        http_server_free(fixture->servers[i]);
        close(fixture->listeners[i]);
    }
    fixture_stop_forge(fixture);
    http_server_free(fixture->servers[SERVER_API]);
    close(fixture->listeners[SERVER_API]);
    for (size_t i = 0; i < fixture->containers.count; i++) {
        program_free(fixture->containers.items[i]->program);
        buffer_deinit(&fixture->containers.items[i]->log);
        free(fixture->containers.items[i]);
    }
    storage_flush(fixture);
    loop_defer_cancel(&fixture->putting);
    struct slice key;
    void *value;
    for (size_t at = 0; map_next(fixture->records, &at, &key, &value);)
        free(value);
    map_free(fixture->records);
    VECTOR_DEINIT(&fixture->containers);
    VECTOR_DEINIT(&fixture->objects);
    VECTOR_DEINIT(&fixture->watchers);
    VECTOR_DEINIT(&fixture->puts);
    buffer_deinit(&fixture->out);
    arena_free(fixture->arena);
    loop_free(fixture->loop);
    sys_remove_tree(AT_FDCWD, fixture->folder);
}

/* --- asking --- */

static inline void fixture_on_answer(void *userdata, const struct http_answer *answer) {
    struct fixture *fixture = userdata;
    fixture->status = answer->error ? answer->error : answer->status;
    buffer_append_slice(&fixture->out, answer->body);
    fixture->done = true;
}

/* One request of the command line; the status, and the body in fixture->out. */
static inline int fixture_ask(struct fixture *fixture, const char *method, const char *target, const char *body) {
    const struct http_request_options options = {
        .method = method, .target = target, .content_type = body ? "application/json" : NULL, .body = slice_of(body)};
    fixture->done = false;
    buffer_reset(&fixture->out);
    buffer_append_text(&fixture->out, "");
    assert_int_equal(http_client_send(fixture->cli, &options, fixture_on_answer, fixture, NULL), 0);
    WAIT_FOR(fixture, fixture->done);
    return fixture->status;
}

static inline struct tree *fixture_answer(struct fixture *fixture) {
    return fixture_json(fixture, fixture->out.data);
}

static inline void fixture_on_git(void *userdata, int status, struct slice out, struct slice err) {
    struct fixture *fixture = userdata;
    fixture->status = status < 0 ? status : WEXITSTATUS(status);
    buffer_append_slice(&fixture->out, out);
    buffer_append_slice(&fixture->out, err);
    fixture->done = true;
}

static inline void fixture_git_begin(struct fixture *fixture, const char *const *argv, struct loop_command **ret) {
    const char *const envp[] = {"PATH=/usr/bin:/bin",
                                arena_printf(fixture->arena, "HOME=%s", fixture->folder),
                                "GIT_CONFIG_NOSYSTEM=1",
                                "GIT_TERMINAL_PROMPT=0",
                                "LANG=C.UTF-8",
                                "GIT_AUTHOR_NAME=A B",
                                "GIT_AUTHOR_EMAIL=a@b",
                                "GIT_COMMITTER_NAME=A",
                                "GIT_COMMITTER_EMAIL=a@b",
                                NULL};
    const struct loop_command_options options = {.spawn = {.argv = argv,
                                                           .envp = envp,
                                                           .cwd = arena_printf(fixture->arena, "%s/work", fixture->folder),
                                                           .stdin_fd = -1,
                                                           .stdout_fd = -1,
                                                           .stderr_fd = -1,
                                                           .new_session = true},
                                                 .output_max = 8 * MIB};
    sys_mkdirs(options.spawn.cwd, 0755);
    fixture->done = false;
    buffer_reset(&fixture->out);
    buffer_append_text(&fixture->out, "");
    assert_int_equal(loop_command_run(fixture->loop, &options, fixture_on_git, fixture, ret), 0);
}

/* git in the working copy; the exit code, and its output in fixture->out. */
#define GIT(fixture, ...) fixture_git((fixture), (const char *const[]){"git", __VA_ARGS__, NULL})
static inline int fixture_git(struct fixture *fixture, const char *const *argv) {
    struct loop_command *command = NULL;
    fixture_git_begin(fixture, argv, &command);
    WAIT_FOR(fixture, fixture->done);
    return fixture->status;
}

static inline void fixture_write(struct fixture *fixture, const char *path, const char *text) {
    char *full = arena_printf(fixture->arena, "%s/work/%s", fixture->folder, path);
    char *folder = arena_dup(fixture->arena, slice_make(full, (size_t)(strrchr(full, '/') - full)));
    sys_mkdirs(folder, 0755);
    assert_int_equal(sys_write_file_fast(AT_FDCWD, full, slice_of(text), 0644), 0);
}

/* Creates the app "site" and a working copy whose remote it is. */
static inline void fixture_create_app(struct fixture *fixture) {
    assert_int_equal(fixture_ask(fixture, "POST", "/tidemill/v1/apps", "{\"name\":\"site\"}"), 201);
    char *remote = arena_strdup(fixture->arena, tree_text_or(tree_find(fixture_answer(fixture), "remote"), ""));
    assert_int_equal(GIT(fixture, "init", "-q", "-b", "main"), 0);
    assert_int_equal(GIT(fixture, "remote", "add", "origin", remote), 0);
}

static inline int fixture_push(struct fixture *fixture, const char *message) {
    assert_int_equal(GIT(fixture, "add", "-A"), 0);
    assert_int_equal(GIT(fixture, "commit", "-q", "--allow-empty", "-m", message), 0);
    return GIT(fixture, "push", "-q", "origin", "HEAD");
}

static inline void assert_says(const struct fixture *fixture, const char *text) {
    if (!strstr(fixture->out.data, text))
        fail_msg("\"%s\" was expected in:\n%s", text, fixture->out.data);
}

#endif
