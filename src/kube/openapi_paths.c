/* The paths of OpenAPI documents: which requests there are, with the operation names that generated clients carry in their function names
 * (listAppsV1NamespacedDeployment), and with what kubectl looks for: x-kubernetes-group-version-kind, the parameters fieldValidation and dryRun of
 * PATCH, and the content types of its body: where a strategic merge patch is listed, kubectl computes one from the schemas. */
#include "kube/openapi_priv.h"

enum parameters {
    PARAMETERS_LIST = 1,
    PARAMETERS_WRITE = 2, /* create, update, patch */
    PARAMETERS_FORCE = 4,
    PARAMETERS_DELETE = 8,
};
enum body { BODY_NONE, BODY_KIND, BODY_PATCH, BODY_DELETE_OPTIONS };
enum answer { ANSWER_KIND, ANSWER_LIST, ANSWER_STATUS };

/* What can be asked of a collection or of an object. */
static const struct call {
    unsigned verb;
    bool named; /* of one object */
    const char *method, *action;
    const char *id; /* first word of the operation's name */
    const char *description;
    unsigned parameters;
    enum body body;
    enum answer answer;
    const char *codes[4];
} calls[] = {
    {KUBE_VERB_LIST, false, "get", "list", "list", "Lists or watches", PARAMETERS_LIST, BODY_NONE, ANSWER_LIST, {"200"}},
    {KUBE_VERB_CREATE, false, "post", "post", "create", "Creates", PARAMETERS_WRITE, BODY_KIND, ANSWER_KIND, {"200", "201", "202"}},
    {KUBE_VERB_DELETECOLLECTION,
     false,
     "delete",
     "deletecollection",
     "delete",
     "Deletes those that match of",
     PARAMETERS_LIST | PARAMETERS_DELETE,
     BODY_DELETE_OPTIONS,
     ANSWER_STATUS,
     {"200"}},
    {KUBE_VERB_GET, true, "get", "get", "read", "Reads", 0, BODY_NONE, ANSWER_KIND, {"200"}},
    {KUBE_VERB_UPDATE, true, "put", "put", "replace", "Replaces", PARAMETERS_WRITE, BODY_KIND, ANSWER_KIND, {"200", "201"}},
    {KUBE_VERB_PATCH,
     true,
     "patch",
     "patch",
     "patch",
     "Changes parts of",
     PARAMETERS_WRITE | PARAMETERS_FORCE,
     BODY_PATCH,
     ANSWER_KIND,
     {"200", "201"}},
    {KUBE_VERB_DELETE, true, "delete", "delete", "delete", "Deletes", PARAMETERS_DELETE, BODY_DELETE_OPTIONS, ANSWER_STATUS, {"200", "202"}},
};

static const struct parameter {
    unsigned set;
    const char *name, *type, *description;
} parameters[] = {
    {PARAMETERS_LIST, "allowWatchBookmarks", "boolean", "Whether a watch also sends events that only tell how far it has come."},
    {PARAMETERS_LIST, "continue", "string", "The token of an earlier answer that was cut at its limit: where to continue."},
    {PARAMETERS_LIST, "fieldSelector", "string", "Only objects whose fields are like this, for example metadata.name=web."},
    {PARAMETERS_LIST, "labelSelector", "string", "Only objects whose labels are like this, for example app=web,tier!=cache."},
    {PARAMETERS_LIST, "limit", "integer", "At most so many objects in one answer."},
    {PARAMETERS_LIST, "resourceVersion", "string", "How new the answer must be, or where the watch begins."},
    {PARAMETERS_LIST, "resourceVersionMatch", "string", "How resourceVersion is meant: Exact or NotOlderThan."},
    {PARAMETERS_LIST, "sendInitialEvents", "boolean", "Whether a watch begins with what there is already."},
    {PARAMETERS_LIST, "timeoutSeconds", "integer", "Ends the request after so many seconds."},
    {PARAMETERS_LIST, "watch", "boolean", "Sends changes as they happen instead of a list."},
    {PARAMETERS_WRITE | PARAMETERS_DELETE, "dryRun", "string", "All: everything is checked and answered, and nothing is kept."},
    {PARAMETERS_WRITE, "fieldManager", "string", "Who makes the change: the name under which the fields are owned."},
    {PARAMETERS_WRITE, "fieldValidation", "string", "What unknown and repeated fields mean: Ignore, Warn or Strict."},
    {PARAMETERS_FORCE, "force", "boolean", "Whether an apply takes fields that others own."},
    {PARAMETERS_DELETE, "gracePeriodSeconds", "integer", "How long the object has to end; 0: at once."},
    {PARAMETERS_DELETE, "orphanDependents", "boolean", "Deprecated: use propagationPolicy."},
    {PARAMETERS_DELETE, "propagationPolicy", "string", "What becomes of dependents: Orphan, Background or Foreground."},
};

static const char *const patch_types[] = {"application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json",
                                          "application/strategic-merge-patch+json"};

/* One operation about to be written. */
struct operation {
    const struct kube_kind *kind;
    const struct kube_subresource *sub; /* NULL: the object itself */
    const struct call *call;
    bool all_namespaces; /* the collection across namespaces */
};

/* --- names --- */

/* "rbac.authorization.k8s.io" → "RbacAuthorization"; the core group is "Core". */
static void put_group_word(struct buffer *out, const char *group, bool capital) {
    struct slice rest = slice_of(*group ? group : "core");
    if (slice_ends(rest, SLICE(".k8s.io")))
        rest.len -= strlen(".k8s.io");
    for (size_t i = 0; i < rest.len; i++) {
        char c = rest.data[i];
        if (c == '.' || c == '-')
            continue;
        bool first = i == 0 ? capital : rest.data[i - 1] == '.' || rest.data[i - 1] == '-';
        buffer_append_byte(out, first && c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c);
    }
}

static void put_capital(struct buffer *out, const char *word) {
    if (*word)
        buffer_append_byte(out, *word >= 'a' && *word <= 'z' ? (char)(*word - 'a' + 'A') : *word);
    if (*word)
        buffer_append_text(out, word + 1);
}

static void put_id(struct openapi *openapi, const struct operation *operation) {
    const struct kube_kind *kind = operation->kind;
    const struct kube_subresource *sub = operation->sub;
    bool connect = sub && sub->connect;
    struct buffer *out = openapi->out;
    openapi_key(openapi, "operationId");
    buffer_append_byte(out, '"');
    buffer_append_text(out, connect ? "connect" : operation->call->id);
    put_group_word(out, kind->group, true);
    put_capital(out, kind->version);
    if (connect)
        put_capital(out, operation->call->method);
    if (operation->call->verb == KUBE_VERB_DELETECOLLECTION)
        buffer_append_text(out, "Collection");
    if (kind->namespaced && !operation->all_namespaces)
        buffer_append_text(out, "Namespaced");
    buffer_append_text(out, kind->kind);
    if (sub)
        put_capital(out, sub->name);
    if (operation->all_namespaces)
        buffer_append_text(out, "ForAllNamespaces");
    buffer_append_byte(out, '"');
}

static void put_tags(struct openapi *openapi, const char *group, const char *version) {
    openapi_key(openapi, "tags");
    buffer_append_text(openapi->out, "[\"");
    put_group_word(openapi->out, group, false);
    buffer_printf(openapi->out, "_%s\"]", version);
}

/* --- parameters --- */

static void put_parameter(struct openapi *openapi, const char *in, const char *name, const char *type, const char *description) {
    openapi_open(openapi, '{');
    openapi_text(openapi, "name", name);
    openapi_text(openapi, "in", in);
    if (description)
        openapi_text(openapi, "description", description);
    if (!strcmp(in, "path"))
        buffer_append_text(openapi->out, ",\"required\":true");
    if (openapi->v2)
        buffer_printf(openapi->out, ",\"type\":\"%s\",\"uniqueItems\":true}", type);
    else
        buffer_printf(openapi->out, ",\"schema\":{\"type\":\"%s\",\"uniqueItems\":true}}", type);
}

/* The options of a connection or of a log are parameters too. */
static void put_options(struct openapi *openapi, const struct kube_type *options) {
    static const char *const types[] = {[KUBE_FORM_STRING] = "string",
                                        [KUBE_FORM_BOOL] = "boolean",
                                        [KUBE_FORM_INT32] = "integer",
                                        [KUBE_FORM_INT64] = "integer",
                                        [KUBE_FORM_TIME] = "string"};
    for (size_t i = 0; i < options->fields_count; i++)
        put_parameter(openapi, "query", options->fields[i].name, types[options->fields[i].form], openapi_doc(options, i + 1));
}

static void ref_of_answer(struct openapi *openapi, const struct operation *operation, enum answer answer) {
    if (answer == ANSWER_STATUS)
        openapi_ref_type(openapi, &kube_status_type);
    else if (answer == ANSWER_LIST)
        openapi_ref_kind(openapi, operation->kind, "List");
    else if (operation->sub && operation->sub->type)
        openapi_ref_type(openapi, operation->sub->type);
    else
        openapi_ref_kind(openapi, operation->kind, "");
}

static void ref_of_body(struct openapi *openapi, const struct operation *operation) {
    if (operation->call->body == BODY_PATCH)
        openapi_ref_plain(openapi, OPENAPI_PATCH);
    else if (operation->call->body == BODY_DELETE_OPTIONS)
        openapi_ref_type(openapi, &kube_delete_options_type);
    else
        ref_of_answer(openapi, operation, ANSWER_KIND);
}

static void put_body_parameter(struct openapi *openapi, const struct operation *operation) {
    openapi_open(openapi, '{');
    buffer_append_text(openapi->out, "\"name\":\"body\",\"in\":\"body\"");
    if (operation->call->body != BODY_DELETE_OPTIONS)
        buffer_append_text(openapi->out, ",\"required\":true");
    openapi_key(openapi, "schema");
    openapi_open(openapi, '{');
    ref_of_body(openapi, operation);
    buffer_append_text(openapi->out, "}}");
}

static bool has_body(const struct operation *operation) {
    return operation->call->body != BODY_NONE && !(operation->sub && operation->sub->connect);
}

static void put_parameters(struct openapi *openapi, const struct operation *operation) {
    openapi_key(openapi, "parameters");
    openapi_open(openapi, '[');
    if (openapi->v2 && has_body(operation))
        put_body_parameter(openapi, operation);
    for (size_t i = 0; i < ARRAY_LEN(parameters); i++)
        if (!(operation->sub && operation->sub->connect) && (parameters[i].set & operation->call->parameters))
            put_parameter(openapi, "query", parameters[i].name, parameters[i].type, parameters[i].description);
    if (operation->sub && operation->sub->options)
        put_options(openapi, operation->sub->options);
    openapi_close(openapi, ']');
}

/* kubectl makes a strategic patch of whatever is said to take one. */
static bool is_taken(const struct operation *operation, const char *type) {
    return !operation->kind->custom || strcmp(type, "application/strategic-merge-patch+json") != 0;
}

static void put_body(struct openapi *openapi, const struct operation *operation) {
    static const char *const any[] = {"*/*"};
    bool patch = operation->call->body == BODY_PATCH;
    const char *const *types = patch ? patch_types : any;
    openapi_key(openapi, "requestBody");
    openapi_open(openapi, '{');
    openapi_key(openapi, "content");
    openapi_open(openapi, '{');
    for (size_t i = 0; i < (patch ? ARRAY_LEN(patch_types) : 1); i++) {
        if (!is_taken(operation, types[i]))
            continue;
        openapi_key(openapi, types[i]);
        buffer_append_text(openapi->out, "{\"schema\":{");
        ref_of_body(openapi, operation);
        buffer_append_text(openapi->out, "}}");
    }
    openapi_close(openapi, '}');
    if (operation->call->body != BODY_DELETE_OPTIONS)
        buffer_append_text(openapi->out, ",\"required\":true");
    openapi_close(openapi, '}');
}

/* v2 says at the operation what it takes and gives. */
static void put_forms(struct openapi *openapi, const struct operation *operation) {
    bool patch = operation->call->body == BODY_PATCH && has_body(operation);
    openapi_key(openapi, "consumes");
    openapi_open(openapi, '[');
    for (size_t i = 0; patch && i < ARRAY_LEN(patch_types); i++) {
        if (!is_taken(operation, patch_types[i]))
            continue;
        openapi_next(openapi);
        buffer_printf(openapi->out, "\"%s\"", patch_types[i]);
    }
    buffer_append_text(openapi->out, patch ? "]" : "\"*/*\"]");
    openapi_key(openapi, "produces");
    buffer_append_text(openapi->out, operation->sub && operation->sub->connect ? "[\"*/*\"]" : "[\"application/json\"]");
    buffer_append_text(openapi->out, ",\"schemes\":[\"https\"]");
}

/* --- answers --- */

static void put_answer_content(struct openapi *openapi, const struct operation *operation) {
    bool text = operation->sub && (operation->sub->connect || operation->sub->options);
    if (openapi->v2) {
        openapi_key(openapi, "schema");
        openapi_open(openapi, '{');
        if (text)
            openapi_text(openapi, "type", "string");
        else
            ref_of_answer(openapi, operation, operation->call->answer);
        openapi_close(openapi, '}');
        return;
    }
    buffer_append_text(openapi->out, text ? ",\"content\":{\"text/plain\":{\"schema\":{" : ",\"content\":{\"application/json\":{\"schema\":{");
    if (text)
        openapi_text(openapi, "type", "string");
    else
        ref_of_answer(openapi, operation, operation->call->answer);
    buffer_append_text(openapi->out, "}}}");
}

static void put_answers(struct openapi *openapi, const struct operation *operation) {
    static const struct { const char *code, *description; } words[] = {{"200", "OK"}, {"201", "Created"}, {"202", "Accepted"}};
    openapi_key(openapi, "responses");
    openapi_open(openapi, '{');
    for (size_t i = 0; i < ARRAY_LEN(operation->call->codes) && operation->call->codes[i]; i++) {
        openapi_key(openapi, operation->call->codes[i]);
        openapi_open(openapi, '{');
        for (size_t j = 0; j < ARRAY_LEN(words); j++)
            if (!strcmp(words[j].code, operation->call->codes[i]))
                openapi_text(openapi, "description", words[j].description);
        put_answer_content(openapi, operation);
        openapi_close(openapi, '}');
    }
    buffer_append_text(openapi->out, ",\"401\":{\"description\":\"Unauthorized\"}}");
}

/* --- operations and paths --- */

static void put_operation(struct openapi *openapi, const struct operation *operation) {
    const struct kube_kind *kind = operation->kind;
    const struct kube_subresource *sub = operation->sub;
    openapi_key(openapi, operation->call->method);
    openapi_open(openapi, '{');
    put_tags(openapi, kind->group, kind->version);
    openapi_key(openapi, "description");
    buffer_printf(openapi->out, "\"%s %s%s of kind %s.\"", operation->call->description, sub ? sub->name : "objects", sub ? " of an object" : "",
                  kind->kind);
    put_id(openapi, operation);
    if (openapi->v2)
        put_forms(openapi, operation);
    put_parameters(openapi, operation);
    if (!openapi->v2 && has_body(operation))
        put_body(openapi, operation);
    put_answers(openapi, operation);
    openapi_text(openapi, "x-kubernetes-action", sub && sub->connect ? "connect" : operation->call->action);
    if (sub)
        openapi_gvk(openapi, sub->kind_group, sub->kind_version, sub->kind, false);
    else
        openapi_gvk(openapi, kind->group, kind->version, kind->kind, false);
    openapi_close(openapi, '}');
}

/* The path up to the collection. */
static void open_path(struct openapi *openapi, const struct kube_kind *kind, bool all_namespaces, bool named, const char *subresource) {
    openapi_next(openapi);
    buffer_printf(openapi->out, "\"%s%s%s/%s%s%s%s\":{", *kind->group ? "/apis/" : "/api/", kind->api_version,
                  kind->namespaced && !all_namespaces ? "/namespaces/{namespace}" : "", kind->plural, named ? "/{name}" : "", subresource ? "/" : "",
                  subresource ? subresource : "");
}

static void close_path(struct openapi *openapi, const struct kube_kind *kind, bool all_namespaces, bool named) {
    openapi_key(openapi, "parameters");
    openapi_open(openapi, '[');
    if (named)
        put_parameter(openapi, "path", "name", "string", "The object's name.");
    if (kind->namespaced && !all_namespaces)
        put_parameter(openapi, "path", "namespace", "string", "The object's namespace.");
    put_parameter(openapi, "query", "pretty", "string", "true: the answer is indented.");
    buffer_append_text(openapi->out, "]}");
}

static void put_path(struct openapi *openapi, const struct kube_kind *kind, const struct kube_subresource *sub, bool named) {
    unsigned verbs = sub ? sub->verbs : kube_kind_verbs(kind);
    bool any = false;
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        /* A subresource is created by a POST to its object's path. */
        bool fits = sub ? calls[i].named || calls[i].verb == KUBE_VERB_CREATE : calls[i].named == named;
        if (!fits || !(calls[i].verb & verbs))
            continue;
        if (!any)
            open_path(openapi, kind, false, named, sub ? sub->name : NULL);
        any = true;
        put_operation(openapi, &(struct operation){.kind = kind, .sub = sub, .call = &calls[i]});
    }
    if (any)
        close_path(openapi, kind, false, named);
}

void openapi_paths_of_kind(struct openapi *openapi, const struct kube_kind *kind) {
    put_path(openapi, kind, NULL, false);
    put_path(openapi, kind, NULL, true);
    struct kube_subresource sub;
    for (size_t i = 0; kube_subresource_at(kind, i, &sub); i++)
        put_path(openapi, kind, &sub, true);
    if (!kind->namespaced || !(kube_kind_verbs(kind) & KUBE_VERB_LIST))
        return;
    open_path(openapi, kind, true, false, NULL);
    put_operation(openapi, &(struct operation){.kind = kind, .call = &calls[0], .all_namespaces = true});
    close_path(openapi, kind, true, false);
}

void openapi_path_of_resources(struct openapi *openapi, const char *group, const char *version) {
    openapi_next(openapi);
    buffer_printf(openapi->out, "\"%s%s%s%s/\":{\"get\":{", *group ? "/apis/" : "/api/", group, *group ? "/" : "", version);
    put_tags(openapi, group, version);
    openapi_text(openapi, "description", "Lists the resources there are.");
    openapi_key(openapi, "operationId");
    buffer_append_text(openapi->out, "\"get");
    put_group_word(openapi->out, group, true);
    put_capital(openapi->out, version);
    buffer_append_text(openapi->out, "APIResources\"");
    if (openapi->v2)
        buffer_append_text(openapi->out, ",\"consumes\":[\"application/json\"],\"produces\":[\"application/json\"],\"schemes\":[\"https\"]");
    buffer_append_text(openapi->out, openapi->v2 ? ",\"responses\":{\"200\":{\"description\":\"OK\",\"schema\":{"
                                                 : ",\"responses\":{\"200\":{\"description\":\"OK\",\"content\":{\"application/json\":{\"schema\":{");
    openapi_ref_type(openapi, &kube_api_resource_list_type);
    buffer_append_text(openapi->out,
                       openapi->v2 ? "}},\"401\":{\"description\":\"Unauthorized\"}}}}" : "}}}},\"401\":{\"description\":\"Unauthorized\"}}}}");
}
