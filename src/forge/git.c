/* git's smart HTTP protocol, by `git http-backend` (CGI, RFC 3875): we check who asks and what for, git does the rest.
 *
 * Invariants
 * 1. Only the three smart requests are passed on; the repository's name was checked and found before it becomes part of PATH_INFO.
 * 2. Bodies are streamed both ways; the slower side holds the faster one back.
 * 3. A client that goes away (Ctrl-C) after it sent everything does not stop git: refs and hooks finish, the pipeline starts. One that goes away
 * before is an aborted push: git sees the end of its input and leaves the repository as it was. */
#include "forge/forge_priv.h"

#include <stdio.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include "forge/program_priv.h"

#define CGI_HEAD_BYTES_MAX (16 * KIB)
#define INPUT_PENDING_MAX (1 * MIB)
#define OUTPUT_PENDING_MAX (1 * MIB)
#define CGI_FIELDS_MAX 16
#define PUSH_BYTES_FREE_MIN (16 * MIB) /* git's own words on a full disk ("unpacker error") help nobody */

static void push_free(struct push *push) {
    list_remove(&push->node);
    program_free(push->program);
    buffer_deinit(&push->head);
    free(push);
}

void pushes_free(struct forge *forge) {
    while (!list_empty(&forge->pushes))
        push_free(CONTAINER_OF(forge->pushes.next, struct push, node));
}

struct push *push_find(const struct forge *forge, struct slice token) {
    LIST_FOREACH(it, &forge->pushes) {
        struct push *push = CONTAINER_OF(it, struct push, node);
        if (secret_equal(token, slice_of(push->token)))
            return push;
    }
    return NULL;
}

/* --- from git to the client --- */

static void on_exchange_close(void *userdata, struct http_exchange *exchange, bool complete) {
    (void)exchange;
    (void)complete;
    struct push *push = userdata;
    push->exchange = NULL;
    if (!push->program) {
        push_free(push);
        return;
    }
    if (!push->body_done)
        program_close_input(push->program);
    program_resume(push->program);
}

static void on_drained(void *userdata, struct http_exchange *exchange) {
    (void)exchange;
    struct push *push = userdata;
    if (push->program)
        program_resume(push->program);
}

/* "Status: 403 Forbidden", "Content-Type: …": up to the empty line. */
static void begin_response(struct push *push, struct slice head) {
    struct arena *arena = http_exchange_arena(push->exchange);
    struct http_field fields[CGI_FIELDS_MAX + 1] = {{NULL, NULL}};
    const char *content_type = NULL;
    size_t count = 0;
    uint64_t status = 200;
    while (head.len > 0) {
        struct slice line = slice_trim(slice_cut(&head, '\n'));
        struct slice name = slice_cut(&line, ':');
        line = slice_trim(line);
        if (slice_equal_nocase(name, SLICE("Status")))
            slice_parse_u64(slice_head(line, 3), 599, &status);
        else if (slice_equal_nocase(name, SLICE("Content-Type")))
            content_type = arena_dup(arena, line);
        else if (name.len > 0 && count < CGI_FIELDS_MAX && !slice_equal_nocase(name, SLICE("Content-Length")))
            fields[count++] = (struct http_field){arena_dup(arena, name), arena_dup(arena, line)};
    }
    fields[count] = (struct http_field){NULL, NULL};
    http_respond_begin(push->exchange, (int)status, content_type ? content_type : "text/plain", -1, fields);
}

static struct slice after_head(struct slice text, size_t *ret_head_len) {
    ptrdiff_t end = slice_find(text, SLICE("\r\n\r\n"));
    size_t gap = 4;
    if (end < 0) {
        end = slice_find(text, SLICE("\n\n"));
        gap = 2;
    }
    *ret_head_len = end < 0 ? 0 : (size_t)end;
    return end < 0 ? (struct slice){0} : slice_from(text, (size_t)end + gap);
}

static bool on_output(void *userdata, struct slice output) {
    struct push *push = userdata;
    if (!push->exchange)
        return true; /* read on, so that git and its hooks can finish */
    if (!push->head_done) {
        size_t head_len = 0;
        if (buffer_append_slice(&push->head, output)) {
            http_abort(push->exchange);
            return true;
        }
        struct slice rest = after_head(buffer_slice(&push->head), &head_len);
        if (head_len == 0)
            return true;
        push->head_done = true;
        begin_response(push, slice_head(buffer_slice(&push->head), head_len));
        if (push->exchange && rest.len > 0)
            http_write(push->exchange, rest);
        buffer_deinit(&push->head);
    } else if (http_write(push->exchange, output) == -ENOBUFS) {
        http_abort(push->exchange);
    }
    if (!push->exchange || http_write_pending(push->exchange) < OUTPUT_PENDING_MAX)
        return true;
    http_on_drained(push->exchange, on_drained, push);
    return false;
}

/* The push goes with the exchange, whose on_close may come at once. */
static void on_end(void *userdata, int status) {
    (void)status;
    struct push *push = userdata;
    program_free(TAKE(push->program));
    if (!push->exchange)
        push_free(push);
    else if (push->head_done)
        http_respond_end(push->exchange);
    else
        http_respond_text(push->exchange, 500, "git ended without an answer\n");
}

/* --- from the client to git --- */

static void on_input_taken(void *userdata) {
    struct push *push = userdata;
    if (push->exchange && !push->body_done)
        http_resume_body(push->exchange);
}

static void on_body(void *userdata, struct http_exchange *exchange, struct slice data) {
    struct push *push = userdata;
    if (data.len == 0)
        push->body_done = true;
    if (!push->program) /* git has ended before it read everything */
        return;
    if (data.len == 0) {
        program_close_input(push->program);
        return;
    }
    if (program_write(push->program, data)) {
        http_abort(exchange);
        return;
    }
    if (program_input_pending(push->program) > INPUT_PENDING_MAX)
        http_pause_body(exchange);
}

static const char *const *cgi_environment(struct push *push, struct slice path, const char *user) {
    struct forge *forge = push->forge;
    struct http_exchange *exchange = push->exchange;
    struct arena *arena = http_exchange_arena(exchange);
    const char *extra[16];
    size_t count = 0;
    const struct {
        const char *format;
        struct slice value;
    } values[] = {
        {"GIT_PROJECT_ROOT=%.*s/repos", slice_of(forge->folder)},
        {"GIT_HTTP_EXPORT_ALL=1", {0}},
        {"PATH_INFO=%.*s", path},
        {"QUERY_STRING=%.*s", http_query_text(exchange)},
        {"REQUEST_METHOD=%.*s", http_method(exchange)},
        {"CONTENT_TYPE=%.*s", http_header(exchange, "Content-Type")},
        {"HTTP_CONTENT_ENCODING=%.*s", http_header(exchange, "Content-Encoding")},
        {"GIT_PROTOCOL=%.*s", http_header(exchange, "Git-Protocol")},
        {"REMOTE_USER=%.*s", slice_of(user)},
        {"REMOTE_ADDR=%.*s", slice_of(http_exchange_peer(exchange)->address)},
        {"TIDEMILL_HOOK_SOCKET=%.*s", slice_of(forge->options.job_socket)},
        {"TIDEMILL_HOOK_TOKEN=%.*s", slice_of(push->token)},
        {"TIDEMILL_APP=%.*s", slice_of(push->app)},
    };
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        if (!(extra[count++] = arena_printf(arena, values[i].format, SLICE_ARG(values[i].value))))
            return NULL;
    }
    struct slice length = http_header(exchange, "Content-Length");
    if (length.len > 0)
        extra[count++] = arena_printf(arena, "CONTENT_LENGTH=%.*s", SLICE_ARG(length));
    extra[count] = NULL;
    return git_environment(forge, arena, extra);
}

static void serve(struct forge *forge, struct http_exchange *exchange, const struct forge_app *app, struct slice path, const char *user) {
    static const char *const argv[] = {"git", "http-backend", NULL};
    static const struct program_handlers handlers = {.on_output = on_output, .on_input_taken = on_input_taken, .on_end = on_end};
    struct push *push = calloc(1, sizeof *push);
    if (!push) {
        http_respond_text(exchange, 503, "no memory\n");
        return;
    }
    *push = (struct push){.forge = forge, .exchange = exchange, .head = BUFFER_INIT(CGI_HEAD_BYTES_MAX)};
    snprintf(push->app, sizeof push->app, "%s", app->name);
    token_make(push->token);
    list_push(&forge->pushes, &push->node);
    const struct program_options options = {.argv = argv, .envp = cgi_environment(push, path, user), .has_input = true};
    int error = options.envp ? program_start(forge->loop, &options, &handlers, push, &push->program) : -ENOMEM;
    if (error) {
        push_free(push);
        http_respond_text(exchange, 500, "git could not be started: %s\n", strerror(-error));
        return;
    }
    http_on_close(exchange, on_exchange_close, push);
    http_stream_body(exchange, on_body, push);
}

/* --- who asks, and for what --- */

static int ask_for_password(struct http_exchange *exchange) {
    static const struct http_field fields[] = {{"WWW-Authenticate", "Basic realm=\"tidemill\""}, {NULL, NULL}};
    http_respond(exchange, 401, "text/plain", SLICE("the application's token is needed as password\n"), fields);
    return -EACCES;
}

static int authenticate(struct http_exchange *exchange, const struct forge_app *app, const char **ret_user) {
    struct slice header = http_header(exchange, "Authorization");
    struct slice scheme = slice_cut(&header, ' ');
    CLEANUP(buffer_deinit) struct buffer decoded = BUFFER_INIT(KIB);
    if (!slice_equal_nocase(scheme, SLICE("Basic")) || base64_decode(&decoded, slice_trim(header)))
        return ask_for_password(exchange);
    struct slice password = buffer_slice(&decoded);
    struct slice user = slice_cut(&password, ':');
    bool known = app && token_matches(password, app->token_digest) && slice_index(user, '\0') < 0;
    *ret_user = known ? arena_dup(http_exchange_arena(exchange), user.len ? user : SLICE("git")) : NULL;
    return *ret_user ? 0 : ask_for_password(exchange);
}

/* The three requests of the smart protocol. */
static bool is_smart(const struct http_exchange *exchange, struct slice rest) {
    struct slice method = http_method(exchange), query = http_query_text(exchange);
    if (slice_is(rest, "info/refs"))
        return slice_is(method, "GET") && (slice_is(query, "service=git-upload-pack") || slice_is(query, "service=git-receive-pack"));
    return slice_is(method, "POST") && (slice_is(rest, "git-upload-pack") || slice_is(rest, "git-receive-pack"));
}

static bool lacks_room(const struct forge *forge, struct http_exchange *exchange) {
    struct statvfs space;
    bool is_push = slice_is(http_query_text(exchange), "service=git-receive-pack");
    return is_push && statvfs(forge->folder, &space) == 0 && (uint64_t)space.f_bavail * space.f_frsize < PUSH_BYTES_FREE_MIN;
}

void forge_handle_git(void *userdata, struct http_exchange *exchange) {
    struct forge *forge = userdata;
    struct slice path = http_path(exchange), rest = slice_from(path, 1);
    struct slice repository = slice_cut(&rest, '/');
    const char *user = NULL;
    if (!slice_ends(repository, SLICE(".git"))) {
        http_respond_text(exchange, 404, "there is no repository here: the address is <application>.git\n");
        return;
    }
    struct forge_app *app = app_find(forge, slice_head(repository, repository.len - 4));
    if (authenticate(exchange, app, &user))
        return;
    if (app->deleting || !is_smart(exchange, rest))
        http_respond_text(exchange, app->deleting ? 404 : 403, "git 1.6.6 or later is needed: only the smart HTTP protocol is served\n");
    else if (lacks_room(forge, exchange))
        http_respond_text(exchange, 507, "the platform's disk is full: nothing can be pushed until some space is freed\n");
    else {
        app->pushed = app->pushed || slice_is(rest, "git-receive-pack");
        serve(forge, exchange, app, path, user);
    }
}
