/* Repositories stay small: `git gc --auto` for those that were pushed to, one after the other, niced and with one thread, when core finds it a good
 * moment. git decides whether there is anything to do, and asks for nothing most of the time. receive-pack's own gc is off (forge.c): it would run
 * beside the push's pipeline, several at once and unbounded. Killing it is harmless: git replaces packs by rename. */
#include "forge/forge_priv.h"

#include <stdio.h>

#define GC_TIMEOUT_MS (15 * 60 * 1000)

struct cleaning {
    struct operation base;
};

static void destroy(struct operation *operation) {
    struct cleaning *cleaning = CONTAINER_OF(operation, struct cleaning, base);
    cleaning->base.forge->cleaning = false;
    free(cleaning);
}

static struct forge_app *find_pushed(const struct forge *forge) {
    struct slice key;
    void *value;
    for (size_t at = 0; map_next(forge->apps, &at, &key, &value);) {
        struct forge_app *app = value;
        if (app->pushed && !app->deleting)
            return app;
    }
    return NULL;
}

static void clean_next(struct cleaning *cleaning);

/* Whatever became of it: the next push asks again. */
static void on_done(void *userdata, int status, struct slice out, struct slice err) {
    (void)status;
    (void)out;
    (void)err;
    struct cleaning *cleaning = userdata;
    cleaning->base.command = NULL;
    clean_next(cleaning);
}

static void clean_next(struct cleaning *cleaning) {
    struct forge *forge = cleaning->base.forge;
    struct forge_app *app = find_pushed(forge);
    CLEANUP(freep) char *path = app ? forge_path_new(forge, "repos/%s.git", app->name) : NULL;
    const char *const argv[] = {
        "nice", "-n",     "19",      "git", "-C", path, "-c", "gc.autoDetach=false", "-c", "pack.threads=1", "-c", "pack.windowMemory=32m",
        "gc",   "--auto", "--quiet", NULL};
    struct loop_command_options options = {.spawn = {.argv = argv}, .output_max = KIB, .timeout_ms = GC_TIMEOUT_MS};
    if (app)
        app->pushed = false;
    if (!path || operation_git(&cleaning->base, &options, on_done))
        operation_end(&cleaning->base);
}

void forge_clean(struct forge *forge) {
    if (forge->cleaning || forge->closing || !find_pushed(forge))
        return;
    struct cleaning *cleaning = calloc(1, sizeof *cleaning);
    if (!cleaning)
        return;
    operation_init(&cleaning->base, forge, NULL, destroy);
    forge->cleaning = true;
    clean_next(cleaning);
}

/* --- what core asks before it removes images --- */

bool forge_has_app(const struct forge *forge, const char *name) {
    return app_find(forge, slice_of(name)) != NULL;
}

bool forge_awaits_image(const struct forge *forge, const char *repository, const char *tag) {
    for (size_t i = 0; i < forge->runs.count; i++) {
        const struct run *run = forge->runs.items[i];
        char own[9];
        snprintf(own, sizeof own, "%.8s", run->sha);
        if (!job_status_is_final(run->state.status) && strcmp(run->app, repository) == 0 && strcmp(own, tag) == 0)
            return true;
    }
    return false;
}
