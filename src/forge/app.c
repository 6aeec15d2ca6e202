/* Applications: a bare repository, a namespace of the same name, a token, and a record "forge/app/<name>".
 *
 * Creating goes repository → namespace → record, and the record decides whether the app exists: a crash before it leaves a folder that the next
 * attempt of the same name takes over. Deleting goes the other way round. The token is kept only as a digest; whoever lost it makes a new one. */
#include "forge/forge_priv.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>

#include "sys/sys.h"

#define GIT_TIMEOUT_MS 30000
#define KEY_PREFIX "forge/app/"
#define NAMESPACES "/api/v1/namespaces"

struct app_operation {
    struct operation base;
    struct forge_app *app; /* when creating: not in the map yet, owned */
    bool owned;
    char token[TOKEN_BYTES + 1];
};

struct forge_app *app_find(const struct forge *forge, struct slice name) {
    return map_find(forge->apps, name);
}

/* --- as JSON --- */

/* "http://git:TOKEN@host:port/app.git"; without a token, as one would show it. */
static char *remote_url(const struct forge *forge, struct arena *arena, const char *name, const char *token) {
    const char *base = forge->options.git_url ? forge->options.git_url : "";
    const char *host = strstr(base, "://");
    if (!token || !host)
        return arena_printf(arena, "%s/%s.git", base, name);
    return arena_printf(arena, "%.*s://git:%s@%s/%s.git", (int)(host - base), base, token, host + 3, name);
}

char *app_url(const struct forge_app *app, struct arena *arena) {
    const struct forge_options *options = &app->forge->options;
    return options->gateway_port == 80 || options->gateway_port == 0
               ? arena_printf(arena, "http://%s.%s", app->name, options->domain)
               : arena_printf(arena, "http://%s.%s:%d", app->name, options->domain, options->gateway_port);
}

struct tree *app_tree(struct forge_app *app, struct arena *arena) {
    char created[TIMESTAMP_BYTES];
    timestamp_format(app->created_ms * 1000000, created);
    struct tree *tree = tree_map(arena);
    if (!tree)
        return NULL;
    tree_set_text(arena, tree, "name", app->name);
    tree_set_text(arena, tree, "namespace", app->name);
    tree_set_text(arena, tree, "created", created);
    tree_set(arena, tree, SLICE("repository"), tree_text(arena, remote_url(app->forge, arena, app->name, NULL)));
    tree_set(arena, tree, SLICE("url"), tree_text(arena, app_url(app, arena)));
    struct tree *last = run_last_tree(app, arena);
    if (last)
        tree_set(arena, tree, SLICE("lastPipeline"), last);
    return tree;
}

static void answer_app(struct app_operation *operation, int status) {
    struct http_exchange *exchange = operation->base.exchange;
    if (!exchange)
        return;
    struct arena *arena = http_exchange_arena(exchange);
    struct tree *tree = app_tree(operation->app, arena);
    if (tree && operation->token[0]) {
        tree_set_text(arena, tree, "token", operation->token);
        tree_set(arena, tree, SLICE("remote"), tree_text(arena, remote_url(operation->base.forge, arena, operation->app->name, operation->token)));
    }
    respond_tree(exchange, status, tree);
}

/* --- records --- */

static int save(struct operation *operation, const struct forge_app *app, void (*on_done)(void *userdata, int error)) {
    char key[sizeof KEY_PREFIX + APP_NAME_MAX], value[256];
    snprintf(key, sizeof key, KEY_PREFIX "%s", app->name);
    snprintf(value, sizeof value, "{\"tokenDigest\":\"%s\",\"created\":%" PRId64 "}", app->token_digest, app->created_ms);
    return operation_put(operation, slice_of(key), slice_of(value), on_done);
}

static struct forge_app *app_new(struct forge *forge, struct slice name) {
    struct forge_app *app = calloc(1, sizeof *app);
    if (!app)
        return NULL;
    app->forge = forge;
    memcpy(app->name, name.data, name.len);
    app->pushed = true;
    return app;
}

struct loading {
    struct forge *forge;
    int error;
};

static bool load_one(void *userdata, struct slice key, struct slice value) {
    struct loading *loading = userdata;
    CLEANUP(arena_freep) struct arena *arena = arena_new(RECORD_BYTES_MAX);
    struct slice name = slice_from(key, sizeof KEY_PREFIX - 1);
    struct tree *tree = NULL;
    if (!arena || name.len > APP_NAME_MAX || json_parse(arena, value, NULL, &tree, NULL))
        return true;
    struct forge_app *app = app_new(loading->forge, name);
    if (!app || map_put(loading->forge->apps, name, app, NULL)) {
        free(app);
        loading->error = -ENOMEM;
        return false;
    }
    snprintf(app->token_digest, sizeof app->token_digest, "%s", tree_text_or(tree_find(tree, "tokenDigest"), ""));
    app->created_ms = tree_int_or(tree_find(tree, "created"), 0);
    return true;
}

int apps_load(struct forge *forge, struct diag *diag) {
    struct loading loading = {.forge = forge};
    forge->options.storage.list(forge->options.storage.userdata, SLICE(KEY_PREFIX), load_one, &loading);
    return loading.error ? diag_set(diag, loading.error, "no memory for the applications") : 0;
}

/* --- creating --- */

static void destroy(struct operation *base) {
    struct app_operation *operation = CONTAINER_OF(base, struct app_operation, base);
    if (operation->owned)
        free(operation->app);
    free(operation);
}

static struct app_operation *operation_new(struct forge *forge, struct http_exchange *exchange, struct forge_app *app, bool owned) {
    struct app_operation *operation = calloc(1, sizeof *operation);
    if (!operation)
        return NULL;
    operation->app = app;
    operation->owned = owned;
    operation_init(&operation->base, forge, exchange, destroy);
    return operation;
}

static void fail(struct app_operation *operation, int status, const char *what, const char *why) {
    if (operation->base.exchange)
        respond_message(operation->base.exchange, status, "%s: %s", what, why);
    operation_end(&operation->base);
}

static void on_created(void *userdata, int error) {
    struct app_operation *operation = userdata;
    if (!operation_written(&operation->base))
        return;
    struct forge *forge = operation->base.forge;
    if (!error)
        error = map_put(forge->apps, slice_of(operation->app->name), operation->app, NULL);
    if (error) {
        fail(operation, status_of_error(error), "the application could not be recorded", strerror(-error));
        return;
    }
    operation->owned = false;
    answer_app(operation, 201);
    operation_end(&operation->base);
}

static void record(struct app_operation *operation) {
    token_make(operation->token);
    token_digest(operation->token, operation->app->token_digest);
    operation->app->created_ms = forge_now_ms(operation->base.forge);
    int error = save(&operation->base, operation->app, on_created);
    if (error)
        fail(operation, status_of_error(error), "the application could not be recorded", strerror(-error));
}

/* A namespace of that name was there: ours to use, unless it is that of a deleted application, on its way out. */
static void on_existing(void *userdata, const struct http_answer *answer) {
    struct app_operation *operation = userdata;
    CLEANUP(arena_freep) struct arena *arena = arena_new(API_BODY_BYTES_MAX * 4);
    struct diag diag = DIAG_INIT;
    struct tree *tree = NULL;
    operation->base.request = NULL;
    if (!arena || client_check(answer, &diag) || json_parse(arena, answer->body, NULL, &tree, &diag))
        fail(operation, 503, "the namespace could not be created", diag.message);
    else if (tree_path(tree, "metadata.deletionTimestamp"))
        fail(operation, 409, "the namespace of that name is still ending", "try again in a moment");
    else
        record(operation);
}

static void on_namespace(void *userdata, const struct http_answer *answer) {
    struct app_operation *operation = userdata;
    struct diag diag = DIAG_INIT;
    char target[sizeof NAMESPACES "/" + APP_NAME_MAX];
    operation->base.request = NULL;
    int error = client_check(answer, &diag);
    if (error == 0) {
        record(operation);
        return;
    }
    snprintf(target, sizeof target, NAMESPACES "/%s", operation->app->name);
    if (error == -EEXIST)
        error = operation_request(&operation->base, "GET", target, NULL, (struct slice){0}, on_existing);
    if (error)
        fail(operation, 503, "the namespace could not be created", diag.message);
}

static void on_repository(void *userdata, int status, struct slice out, struct slice err) {
    (void)out;
    struct app_operation *operation = userdata;
    operation->base.command = NULL;
    if (status != 0) {
        struct diag diag = DIAG_INIT;
        diag_set(&diag, -EIO, "%.*s", SLICE_ARG(slice_head(slice_trim(err), 400)));
        fail(operation, 500, "the repository could not be made", status < 0 ? strerror(-status) : diag.message);
        return;
    }
    char body[256];
    snprintf(body, sizeof body,
             "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"%s\",\"labels\":{\"tidemill.dev/app\":\"%s\"}}}",
             operation->app->name, operation->app->name);
    int error = operation_request(&operation->base, "POST", NAMESPACES, "application/json", slice_of(body), on_namespace);
    if (error)
        fail(operation, 503, "the namespace could not be created", strerror(-error));
}

static bool is_reserved(struct slice name) {
    return slice_is(name, "default") || slice_starts(name, SLICE("kube-")) || slice_starts(name, SLICE("tidemill"));
}

static int check_name(const struct forge *forge, struct slice name, struct diag *diag) {
    if (!name_is_dns1035_label(name) || name.len > APP_NAME_MAX) {
        diag_set(diag, -EINVAL, "\"%.*s\" cannot be the name of an application", SLICE_ARG(slice_head(name, 100)));
        return diag_hint(diag, -EINVAL, "at most %d lower-case letters, digits and \"-\" are allowed; the first is a letter, the last is no \"-\"",
                         APP_NAME_MAX);
    }
    if (is_reserved(name))
        return diag_set(diag, -EINVAL, "the name \"%.*s\" is reserved", SLICE_ARG(name));
    if (app_find(forge, name))
        return diag_set(diag, -EEXIST, "the application \"%.*s\" exists already", SLICE_ARG(name));
    return map_count(forge->apps) >= APPS_MAX ? diag_set(diag, -EINVAL, "there are %d applications: no more are allowed", APPS_MAX) : 0;
}

void app_create(struct forge *forge, struct http_exchange *exchange, const char *name) {
    struct diag diag = DIAG_INIT;
    int error = check_name(forge, slice_of(name), &diag);
    if (error) {
        respond_diag(exchange, error == -EINVAL ? 422 : status_of_error(error), &diag);
        return;
    }
    struct forge_app *app = app_new(forge, slice_of(name));
    struct app_operation *operation = app ? operation_new(forge, exchange, app, true) : NULL;
    CLEANUP(freep) char *path = forge_path_new(forge, "repos/%s.git", name);
    if (!operation || !path) {
        if (!operation)
            free(app);
        respond_message(exchange, 503, "no memory");
        return;
    }
    const char *const argv[] = {"git", "init", "--quiet", "--bare", "--initial-branch=main", path, NULL};
    struct loop_command_options options = {.spawn = {.argv = argv}, .output_max = 64 * KIB, .timeout_ms = GIT_TIMEOUT_MS};
    error = operation_git(&operation->base, &options, on_repository);
    if (error)
        fail(operation, 500, "git could not be started", strerror(-error));
}

/* --- a new token, deleting --- */

static void on_token_saved(void *userdata, int error) {
    struct app_operation *operation = userdata;
    if (!operation_written(&operation->base))
        return;
    if (error) {
        fail(operation, status_of_error(error), "the token could not be recorded", strerror(-error));
        return;
    }
    answer_app(operation, 200);
    operation_end(&operation->base);
}

void app_new_token(struct forge_app *app, struct http_exchange *exchange) {
    struct app_operation *operation = operation_new(app->forge, exchange, app, false);
    if (!operation) {
        respond_message(exchange, 503, "no memory");
        return;
    }
    token_make(operation->token);
    token_digest(operation->token, app->token_digest);
    int error = save(&operation->base, app, on_token_saved);
    if (error)
        fail(operation, status_of_error(error), "the token could not be recorded", strerror(-error));
}

static void on_namespace_deleted(void *userdata, const struct http_answer *answer) {
    struct app_operation *operation = userdata;
    struct diag diag = DIAG_INIT;
    operation->base.request = NULL;
    int error = client_check(answer, &diag);
    if (error && error != -ENOENT) {
        fail(operation, 503, "the application is deleted, but its namespace is not", diag.message);
        return;
    }
    if (operation->base.exchange)
        respond_message(operation->base.exchange, 200, "deleted");
    operation_end(&operation->base);
}

static void on_deleted(void *userdata, int error) {
    struct app_operation *operation = userdata;
    if (!operation_written(&operation->base))
        return;
    struct forge *forge = operation->base.forge;
    struct forge_app *app = operation->app;
    if (error) {
        app->deleting = false;
        fail(operation, status_of_error(error), "the application could not be deleted", strerror(-error));
        return;
    }
    map_remove(forge->apps, slice_of(app->name));
    operation->owned = true; /* the operation is the last to use it */
    CLEANUP(freep) char *path = forge_path_new(forge, "repos/%s.git", app->name);
    if (path)
        sys_remove_tree(AT_FDCWD, path);
    char target[sizeof NAMESPACES "/" + APP_NAME_MAX];
    snprintf(target, sizeof target, NAMESPACES "/%s", app->name);
    error = operation_request(&operation->base, "DELETE", target, NULL, (struct slice){0}, on_namespace_deleted);
    if (error)
        fail(operation, 503, "the application is deleted, but its namespace is not", strerror(-error));
}

void app_delete(struct forge_app *app, struct http_exchange *exchange) {
    char key[sizeof KEY_PREFIX + APP_NAME_MAX];
    struct app_operation *operation = app->deleting ? NULL : operation_new(app->forge, exchange, app, false);
    if (!operation) {
        respond_message(exchange, app->deleting ? 409 : 503, app->deleting ? "the application is being deleted" : "no memory");
        return;
    }
    app->deleting = true;
    runs_forget_app(app);
    snprintf(key, sizeof key, KEY_PREFIX "%s", app->name);
    int error = operation_put(&operation->base, slice_of(key), (struct slice){0}, on_deleted);
    if (error)
        on_deleted(operation, error);
}
