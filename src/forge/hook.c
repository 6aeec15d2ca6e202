/* What git's hooks ask while a push is under way. The hook is our helper program: it sends the ref updates it reads from its input and prints what we
 * answer, which git shows as `remote:` lines; our last line, "TIDEMILL-EXIT n", becomes its exit code.
 *
 *   POST /hook/v1/pre-receive?quarantine=NAME    may these refs move? Reads each new commit's pipeline file from git's quarantine and plans it; any
 * error refuses the push. POST /hook/v1/post-receive                   they have moved: starts a pipeline per branch or tag and streams the log of
 * the first.
 *
 * A hook that goes away (the client pressed Ctrl-C) changes nothing: the operation goes on without an exchange. */
#include "forge/forge_priv.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "sys/sys.h"

struct hook {
    struct operation base;
    char app[APP_NAME_MAX + 1];
    char quarantine[128]; /* empty: none */
    bool accepting;       /* pre-receive */
    struct ref_update updates[UPDATES_MAX];
    size_t count, at;
    uint64_t followed; /* id of the run whose log is streamed; 0: none yet */
};

static void destroy(struct operation *base) {
    free(CONTAINER_OF(base, struct hook, base));
}

static void say(struct hook *hook, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct hook *hook, const char *format, ...) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(16 * KIB);
    va_list args;
    va_start(args, format);
    buffer_vprintf(&text, format, args);
    va_end(args);
    if (hook->base.exchange)
        http_write(hook->base.exchange, buffer_slice(&text));
}

static void finish(struct hook *hook, int code) {
    say(hook, "TIDEMILL-EXIT %d\n", code);
    if (hook->base.exchange)
        http_respond_end(hook->base.exchange);
    operation_end(&hook->base);
}

static void say_diag(struct hook *hook, const struct diag *diag) {
    struct diag copy = *diag;
    char text[2048];
    copy.hint[0] = '\0';
    say(hook, "%s\n", diag_format(&copy, text, sizeof text));
    if (diag->hint[0])
        say(hook, "  hint: %s\n", diag->hint);
}

/* --- the default branch --- */

/* What HEAD names. The first push decides: when HEAD's branch does not exist, the pushed one takes its place. */
static void default_branch(struct hook *hook, const struct ref_update *update, char *ret, size_t size) {
    CLEANUP(buffer_deinit) struct buffer head = BUFFER_INIT(KIB);
    CLEANUP(freep) char *path = forge_path_new(hook->base.forge, "repos/%s.git/HEAD", hook->app);
    struct stat status;
    snprintf(ret, size, "main");
    if (!path || sys_read_file(AT_FDCWD, path, KIB, &head))
        return;
    struct slice ref = slice_trim(buffer_slice(&head));
    if (!slice_starts(ref, SLICE("ref: refs/heads/")))
        return;
    ref = slice_from(ref, sizeof "ref: " - 1);
    snprintf(ret, size, "%.*s", SLICE_ARG(slice_from(ref, sizeof "refs/heads/" - 1)));
    if (slice_is(ref, update->ref) || strncmp(update->ref, "refs/heads/", 11) != 0)
        return;
    CLEANUP(freep) char *loose = forge_path_new(hook->base.forge, "repos/%s.git/%.*s", hook->app, SLICE_ARG(ref));
    CLEANUP(freep) char *packed = forge_path_new(hook->base.forge, "repos/%s.git/packed-refs", hook->app);
    if (!loose || !packed || stat(loose, &status) == 0 || stat(packed, &status) == 0)
        return;
    snprintf(ret, size, "%s", ref_short(update->ref));
    if (hook->accepting)
        return;
    CLEANUP(buffer_deinit) struct buffer line = BUFFER_INIT(KIB);
    buffer_printf(&line, "ref: %s\n", update->ref);
    sys_write_file(AT_FDCWD, path, buffer_slice(&line), 0644);
}

/* --- one update after the other --- */

static void next(struct hook *hook);

static bool wants_skip(const struct commit *commit) {
    return strstr(commit->message, "[ci skip]") || strstr(commit->message, "[skip ci]");
}

static int check(struct hook *hook, const struct run_source *source, struct diag *diag) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(PIPELINE_ARENA_BYTES_MAX);
    struct prepared prepared;
    return arena ? run_prepare(hook->base.forge, source, arena, &prepared, diag) : diag_set(diag, -ENOMEM, "no memory");
}

static void start(struct hook *hook, struct run_source *source) {
    struct diag diag = DIAG_INIT;
    struct run *run = NULL;
    const char *name = ref_short(source->update->ref);
    if (wants_skip(source->commit)) {
        say(hook, "%s: the commit message asks for no pipeline\n", name);
        return;
    }
    int error = run_create(hook->base.forge, source, &run, &diag);
    if (error || !run) {
        say(hook, "%s: no pipeline was started\n", name);
        say_diag(hook, &diag);
    } else if (!hook->followed) {
        hook->followed = run->id;
    } else {
        say(hook, "%s: pipeline %" PRIu64 " started\n", name, run->id);
    }
}

static void on_commit(void *userdata, int error, const struct commit *commit, const struct diag *diag) {
    struct hook *hook = userdata;
    const struct ref_update *update = &hook->updates[hook->at];
    struct diag problem = *diag;
    char branch[256];
    default_branch(hook, update, branch, sizeof branch);
    struct run_source source = {.app = hook->app, .update = update, .commit = commit, .default_branch = branch, .id = hook->base.forge->next_run};
    if (!error && hook->accepting)
        error = check(hook, &source, &problem);
    else if (!error)
        start(hook, &source);
    if (error) {
        say(hook, "%s\n", hook->accepting ? "The pipeline is not valid; nothing was changed:" : "No pipeline was started:");
        say_diag(hook, &problem);
        if (hook->accepting) {
            finish(hook, 1);
            return;
        }
    }
    hook->at++;
    next(hook);
}

static void ending(void *userdata, struct buffer *out) {
    (void)userdata;
    buffer_append_text(out, "TIDEMILL-EXIT 0\n");
}

/* The exchange now belongs to the log. */
static void follow(struct hook *hook, struct run *run) {
    struct http_exchange *exchange = hook->base.exchange;
    const struct joblog_follow_options options = {.live = true, .ending = ending};
    CLEANUP(freep) char *path = forge_path_new(hook->base.forge, "logs/%" PRIu64 "/run.log", run->id);
    struct joblog *log = NULL;
    bool open = run->log != NULL;
    if (!exchange || !path || (!open && joblog_open(path, false, &log))) {
        finish(hook, 0);
        return;
    }
    log = open ? run->log : log;
    operation_end(&hook->base);
    if (joblog_follow(log, exchange, &options))
        http_respond_end(exchange);
    if (!open)
        joblog_unref(log);
}

static void next(struct hook *hook) {
    while (hook->at < hook->count && (!ref_starts_pipeline(&hook->updates[hook->at]) || sha_is_zero(slice_of(hook->updates[hook->at].new_sha))))
        hook->at++;
    struct forge_app *app = app_find(hook->base.forge, slice_of(hook->app));
    if (hook->at < hook->count && app) {
        int error = commit_read(app, hook->updates[hook->at].new_sha, hook->quarantine[0] ? hook->quarantine : NULL, on_commit, hook);
        if (!error)
            return;
        say(hook, "git could not be started: %s\n", strerror(-error));
        finish(hook, 1);
        return;
    }
    struct run *run = hook->followed ? run_find(hook->base.forge, hook->followed) : NULL;
    if (run)
        follow(hook, run);
    else
        finish(hook, 0);
}

/* --- the request --- */

/* "old new ref" lines, as git gives them to the hooks. */
static int read_updates(struct hook *hook, struct slice body) {
    while (body.len > 0) {
        struct slice line = slice_trim(slice_cut(&body, '\n'));
        if (line.len == 0)
            continue;
        struct slice old_sha = slice_cut(&line, ' '), new_sha = slice_cut(&line, ' ');
        struct ref_update *update = &hook->updates[hook->count];
        if (!sha_is_valid(old_sha) || !sha_is_valid(new_sha) || line.len == 0 || line.len >= sizeof update->ref)
            return -EINVAL;
        if (hook->count++ >= UPDATES_MAX - 1)
            return -E2BIG;
        snprintf(update->old_sha, sizeof update->old_sha, "%.*s", SLICE_ARG(old_sha));
        snprintf(update->new_sha, sizeof update->new_sha, "%.*s", SLICE_ARG(new_sha));
        snprintf(update->ref, sizeof update->ref, "%.*s", SLICE_ARG(line));
    }
    return 0;
}

static void on_body(void *userdata, struct http_exchange *exchange, struct slice body) {
    struct forge *forge = userdata;
    const struct push *push = push_find(forge, bearer_of(exchange));
    struct hook *hook = push ? calloc(1, sizeof *hook) : NULL;
    struct query query = {0};
    if (!hook) {
        respond_message(exchange, push ? 503 : 401, push ? "no memory" : "the push is over");
        return;
    }
    snprintf(hook->app, sizeof hook->app, "%s", push->app);
    hook->accepting = slice_is(http_path(exchange), "/hook/v1/pre-receive");
    if (query_parse(http_exchange_arena(exchange), http_query_text(exchange), &query) == 0 && query_find(&query, "quarantine"))
        snprintf(hook->quarantine, sizeof hook->quarantine, "%s", query_find(&query, "quarantine"));
    operation_init(&hook->base, forge, exchange, destroy);
    http_respond_begin(exchange, 200, "text/plain; charset=utf-8", -1, NULL);
    int error = read_updates(hook, body);
    if (error) {
        say(hook, error == -E2BIG ? "at most %d branches and tags can be pushed at once\n" : "the hook sent no valid list of updates\n",
            UPDATES_MAX - 1);
        finish(hook, 1);
        return;
    }
    next(hook);
}

void hook_handle(struct forge *forge, struct http_exchange *exchange) {
    struct slice path = http_path(exchange);
    if (!push_find(forge, bearer_of(exchange)))
        respond_message(exchange, 401, "a push's token is needed");
    else if (!slice_is(http_method(exchange), "POST") || (!slice_is(path, "/hook/v1/pre-receive") && !slice_is(path, "/hook/v1/post-receive")))
        respond_message(exchange, 404, "there is nothing at this path");
    else
        http_read_body(exchange, REQUEST_BODY_MAX, on_body, forge);
}
