/* Connections through the API (exec, attach, forwarded ports, proxies) that webhooks are asked about first. They see what is in the query as
 * upstream's options: {"kind": "PodExecOptions", "command": ["sh"], "stdin": true, …}. The client waits meanwhile, and may have gone when they agree.
 */
#include "api/webhook_priv.h"

#include <stdio.h>

struct connecting {
    struct request *request;
    void (*serve)(struct request *request);
};

/* The query's fields that options have: switches, texts and a list. */
static int put_options(struct request *request, struct tree *options) {
    static const char *const switches[] = {"stdin", "stdout", "stderr", "tty"};
    struct arena *arena = request->arena;
    const char *container = api_request_query(request, "container");
    struct tree *command = NULL;
    int error = 0;
    for (size_t i = 0; i < ARRAY_LEN(switches) && !error; i++)
        if (api_request_flag(request, switches[i]))
            error = tree_set(arena, options, slice_of(switches[i]), tree_bool(arena, true));
    if (container && !error)
        error = tree_set_text(arena, options, "container", container);
    for (size_t i = 0; i < request->query.count && !error; i++) {
        if (!slice_is(request->query.items[i].key, "command"))
            continue;
        if (!command && (!(command = tree_list(arena)) || tree_set(arena, options, SLICE("command"), command)))
            return -ENOMEM;
        error = tree_push(arena, command, tree_string(arena, request->query.items[i].value));
    }
    if (request->route.rest.len && !error)
        error = tree_set(arena, options, SLICE("path"), tree_string(arena, request->route.rest));
    return error;
}

static struct tree *make_options(struct request *request, const char *kind) {
    struct tree *options = tree_map(request->arena);
    bool complete = options && !tree_set_text(request->arena, options, "kind", kind) && !tree_set_text(request->arena, options, "apiVersion", "v1") &&
                    !put_options(request, options);
    return complete ? options : NULL;
}

static void on_asked(void *userdata, const struct api_failure *refused, struct kube_object *object) {
    struct connecting *connecting = userdata;
    struct request *request = connecting->request;
    (void)object;
    if (refused)
        api_respond_failure(request, refused);
    else if (request->exchange)
        connecting->serve(request);
    api_request_release(request);
}

static int ask(struct request *request, const char *kind, struct connecting *connecting, struct api_failure *failure) {
    struct tree *options = connecting ? make_options(request, kind) : NULL;
    if (!options)
        return api_fail_no_memory(failure);
    const struct webhook_matter matter = {
        .operation = ADMIT_CONNECT,
        .kind = request->kind,
        .subresource = request->route.subresource,
        .namespace = request->route.namespace,
        .name = request->route.name,
        .user = &request->user,
        .reader = request,
        .document_version = "v1",
        .document_kind = kind,
        .document = options,
        .done = on_asked,
        .userdata = connecting,
    };
    return webhooks_ask(request->api, &matter, failure);
}

void api_connect(struct request *request, const char *options, void (*serve)(struct request *request)) {
    struct api_failure failure;
    struct connecting *connecting = ARENA_NEW(request->arena, struct connecting);
    if (connecting)
        *connecting = (struct connecting){request, serve};
    int code = webhooks_any(request->api) || !connecting ? ask(request, options, connecting, &failure) : 0;
    if (code == WEBHOOKS_ASKED)
        api_request_hold(request);
    else if (code)
        api_respond_failure(request, &failure);
    else
        serve(request);
}
