/* All that webhooks are asked about one write.
 *
 *   MUTATING round 0: one after another, in the order of the index ──(something changed)──► settle ──► round 1: those that want to see changes
 *   CHECK             the object as it will be: defaults, admission and validation of ours
 *   VALIDATING        all at once; the write waits for every answer, and the first of them that refuses says why
 *
 * 1. Each webhook looks at the object as the ones before it have left it; its selectors do, too.
 * 2. A webhook that was not asked in round 0 is not asked in round 1; one is asked again only when a later one (or settling) changed the object.
 * 3. A failed call is a refusal, unless the webhook's failurePolicy is Ignore. What a webhook answers about the write itself always counts.
 * 4. `done` is never called before webhooks_ask has returned. When no call was needed there is no `done`: the write goes on at once.
 * 5. Webhook configurations and reviews are nobody's to be asked about: nobody could remove a webhook that denies everything. */
#include "api/webhook_priv.h"

#include "sys/sys.h"

#include <stdio.h>

enum stage { MUTATING, CHECK, VALIDATING, ENDED };

struct question {
    struct asking *asking;
    struct webhook *webhook; /* and a reference to its configuration */
    const struct kube_kind *as;
    struct webhook_call *call; /* on its way */
    char uid[37];
    bool asked, again;
    bool failed;
    struct api_failure *failure; /* of a validating one; in the asking's arena */
};

struct asking {
    struct list node;
    struct api *api; /* a reference */
    struct arena *arena;
    struct webhook_matter matter; /* its texts are copies */
    struct kube_object *object;   /* as it is now; a reference */
    struct question *questions;   /* mutating ones first */
    size_t count, mutating;
    enum stage stage;
    size_t at;
    unsigned round;
    bool changed;     /* in this round */
    bool starting;    /* webhooks_ask has not returned yet */
    unsigned waiting; /* calls of VALIDATING */
    int code;         /* of the end */
    struct api_failure failure;
};

static void advance(struct asking *asking);

static void asking_free(struct asking *asking) {
    if (!list_empty(&asking->node)) {
        list_remove(&asking->node);
        asking->api->webhooks->askings_count--;
    }
    for (size_t i = 0; i < asking->count; i++) {
        webhook_call_cancel(asking->questions[i].call);
        webhook_config_unref(asking->questions[i].webhook->config);
        kube_kind_unref(asking->questions[i].as);
    }
    kube_kind_unref(asking->matter.kind);
    kube_object_unref(asking->object);
    kube_object_unref(asking->matter.old);
    arena_free(asking->arena);
    struct api *api = asking->api;
    free(asking);
    api_unref(api);
}

static void end(struct asking *asking, int code) {
    asking->stage = ENDED;
    asking->code = code;
    if (asking->starting)
        return;
    const struct webhook_matter matter = asking->matter;
    if (!list_empty(&asking->node)) { /* what is done may ask again */
        list_remove(&asking->node);
        asking->api->webhooks->askings_count--;
    }
    matter.done(matter.userdata, code ? &asking->failure : NULL, asking->object);
    asking_free(asking);
}

/* --- selectors --- */

static bool is_empty(const struct kube_label_selector *selector) {
    return !selector || (!selector->match_labels.count && !selector->match_expressions.count);
}

static bool labels_match(const struct kube_label_selector *selector, const struct kube_object *object) {
    return object && kube_selector_matches(selector, &object->metadata->labels);
}

/* The labels of a document: by way of an object that bears them. */
static bool document_matches(const struct kube_label_selector *selector, const struct tree *document) {
    const struct tree *labels = tree_path(document, "metadata.labels");
    CLEANUP(kube_object_unrefp)
    struct kube_object *bearer = document && tree_find(document, "metadata") ? kube_object_new(&kube_kind_config_map) : NULL;
    for (size_t i = 0; bearer && i < tree_count(labels); i++)
        (void)kube_map_set(&bearer->metadata->labels, bearer->arena, labels->children->items[i].key.data,
                           tree_text_or(labels->children->items[i].value, ""));
    return labels_match(selector, bearer);
}

static bool object_matches(const struct asking *asking, const struct kube_label_selector *selector) {
    const struct webhook_matter *matter = &asking->matter;
    return is_empty(selector) || labels_match(selector, asking->object) || labels_match(selector, matter->old) ||
           document_matches(selector, matter->document) || document_matches(selector, matter->old_document);
}

/* 1 or 0; or the code. What is in no namespace is never left out. */
static int namespace_matches(struct asking *asking, const struct kube_label_selector *selector) {
    const struct webhook_matter *matter = &asking->matter;
    bool own = matter->kind == &kube_kind_namespace;
    const char *name = own ? matter->name : matter->namespace;
    if (is_empty(selector) || (!own && !matter->kind->namespaced))
        return 1;
    if (own && !*matter->subresource && asking->object)
        return labels_match(selector, asking->object);
    CLEANUP(kube_object_unrefp) struct kube_object *namespace = NULL;
    int code = api_stored_find(asking->api, &kube_kind_namespace, "", name, &namespace, &asking->failure);
    return code ? code : labels_match(selector, namespace);
}

static int concerns(struct asking *asking, const struct question *question) {
    if (!object_matches(asking, question->webhook->object_selector))
        return 0;
    return namespace_matches(asking, question->webhook->namespace_selector);
}

/* --- asking --- */

static int put_object(struct kube_object *object, const struct kube_kind *as, struct buffer *out) {
    CLEANUP(kube_object_unrefp) struct kube_object *view = NULL;
    int error = object ? kube_convert(object, as, &view) : 0;
    return error || !object ? error : kube_encode_json(view, out);
}

static void on_answer(void *userdata, const char *error, struct slice body);

static int send_question(struct asking *asking, struct question *question) {
    const struct webhook_matter *matter = &asking->matter;
    CLEANUP(buffer_deinit) struct buffer object = BUFFER_INIT(16 * MIB), old = BUFFER_INIT(16 * MIB), body = BUFFER_INIT(64 * MIB);
    int error = matter->document ? json_format(&object, matter->document) : asking->object ? put_object(asking->object, question->as, &object) : 0;
    if (!error)
        error = matter->old_document ? json_format(&old, matter->old_document) : put_object(matter->old, question->as, &old);
    sys_uuid(question->uid);
    const struct webhook_documents documents = {buffer_slice(&object), buffer_slice(&old)};
    if (!error)
        error = webhook_review_format(&body, question->webhook, matter, question->as, question->uid, &documents);
    if (!error)
        question->call = webhook_call_new(asking->api->webhooks, question->webhook, &body, on_answer, question);
    return question->call ? 0 : api_fail_no_memory(&asking->failure);
}

/* 0: it is asked, or (call NULL) need not be. */
static int ask(struct asking *asking, struct question *question) {
    int concerned = concerns(asking, question);
    if (concerned != 1)
        return concerned;
    if (asking->matter.dry_run && !question->webhook->quiet)
        return api_fail_bad_request(&asking->failure, "admission webhook \"%s\" does not support dry run", question->webhook->name);
    question->asked = true;
    return send_question(asking, question);
}

/* --- answers --- */

static int fail_call(struct webhook *webhook, const char *error, struct api_failure *failure) {
    webhook->seen.failures++;
    if (webhook->ignore)
        return 0;
    int code = api_fail(failure, 500, "InternalError", "Internal error occurred: failed calling webhook \"%s\": %s", webhook->name, error);
    diag_cause(&failure->diag, "", "", "failed calling webhook \"%s\": %s", webhook->name, error);
    return code;
}

static int fail_internal(struct api_failure *failure, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int fail_internal(struct api_failure *failure, const char *format, ...) {
    char why[DIAG_TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    int code = api_fail(failure, 500, "InternalError", "Internal error occurred: %s", why);
    diag_cause(&failure->diag, "", "", "%s", why);
    return code;
}

/* Warnings for the client, annotations for the audit log. */
static void pass_on(struct asking *asking, const struct webhook *webhook, const struct webhook_response *response) {
    struct request *reader = asking->matter.reader;
    if (!reader)
        return;
    for (size_t i = 0; i < response->warnings_count; i++) {
        const char *text = arena_dup(reader->arena, slice_head(slice_of(response->warnings[i]), 4000));
        if (text)
            VECTOR_PUSH(&reader->warnings, text);
    }
    for (size_t i = 0; i < tree_count(response->annotations) && response->annotations->type == TREE_MAP; i++) {
        CLEANUP(buffer_deinit) struct buffer pair = BUFFER_INIT(4 * KIB), key = BUFFER_INIT(KIB);
        const struct tree_entry *entry = &response->annotations->children->items[i];
        buffer_printf(&key, "%s/%s", webhook->name, entry->key.data);
        buffer_append_text(&pair, ",");
        json_format_string(&pair, buffer_slice(&key));
        buffer_append_text(&pair, ":");
        json_format_string(&pair, slice_of(tree_text_or(entry->value, "")));
        if (!buffer_error(&key) && !buffer_error(&pair))
            buffer_append_slice(&reader->audit.annotations, buffer_slice(&pair));
    }
}

/* What a webhook cannot change. */
static int restore(struct kube_object *object, const struct kube_object *before) {
    static const char *const members[] = {"uid",        "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds",
                                          "generation", "managedFields",     "namespace",         "resourceVersion"};
    int error = 0;
    for (size_t i = 0; i < ARRAY_LEN(members) && !error; i++)
        error = kube_copy_metadata_member(object, before, members[i]);
    if (!error && before->metadata->name && *before->metadata->name) /* another name would be another object */
        error = kube_copy_metadata_member(object, before, "name");
    return error;
}

/* The object with the patch upon it, as the webhook saw it and back. */
static int patched(struct question *question, const struct tree *patch, struct kube_object *object, struct kube_object **ret,
                   struct api_failure *failure) {
    CLEANUP(arena_freep) struct arena *arena = arena_new(TREE_BYTES_MAX);
    CLEANUP(kube_object_unrefp) struct kube_object *view = NULL, *decoded = NULL;
    struct diag diag = DIAG_INIT;
    struct tree *result = NULL;
    int error = arena ? kube_convert(object, question->as, &view) : -ENOMEM;
    struct tree *tree = error ? NULL : kube_encode_tree(view, arena);
    if (!tree)
        return api_fail_no_memory(failure);
    error = tree_json_patch(arena, tree, patch, &result, &diag);
    if (!error)
        error = kube_decode_tree(question->as, result, KUBE_LENIENT, &decoded, &diag);
    if (!error)
        error = kube_default(decoded);
    if (!error)
        error = api_view_of(object->kind, &decoded);
    if (!error)
        error = restore(decoded, object);
    if (error == -ENOMEM)
        return api_fail_no_memory(failure);
    if (error)
        return fail_internal(failure, "%s", diag.message);
    *ret = TAKE(decoded);
    return 0;
}

static int change(struct asking *asking, struct question *question, const struct tree *patch) {
    struct webhook *webhook = question->webhook;
    struct kube_object *object = NULL;
    if (!asking->object)
        return fail_internal(&asking->failure, "admission webhook \"%s\" attempted to modify the object, which is not supported for this operation",
                             webhook->name);
    int code = patched(question, patch, asking->object, &object, &asking->failure);
    if (code)
        return code;
    if (!kube_object_equal(object, asking->object)) {
        webhook->seen.changes++;
        asking->changed = true;
        for (size_t i = 0; i < asking->mutating; i++) {
            struct question *earlier = &asking->questions[i];
            earlier->again |= earlier != question && earlier->asked && earlier->webhook->reinvocable;
        }
    }
    kube_object_unref(asking->object);
    asking->object = object;
    return 0;
}

/* 0: go on. */
static int take_answer(struct asking *asking, struct question *question, const char *error, struct slice body, struct api_failure *failure) {
    struct webhook *webhook = question->webhook;
    struct webhook_response response;
    char why[WEBHOOK_ERROR_BYTES];
    if (error)
        return fail_call(webhook, error, failure);
    CLEANUP(arena_freep) struct arena *arena = arena_new(TREE_BYTES_MAX);
    int r = arena ? webhook_response_parse(arena, body, webhook, question->uid, &response, why) : -ENOMEM;
    if (r == -ENOMEM)
        return api_fail_no_memory(failure);
    if (r)
        return fail_call(webhook, why, failure);
    pass_on(asking, webhook, &response);
    if (!response.allowed) {
        webhook->seen.denials++;
        return webhook_fail_denied(failure, webhook->name, &response);
    }
    return response.patch ? change(asking, question, response.patch) : 0;
}

static void on_validated(struct asking *asking, struct question *question, const char *error, struct slice body) {
    struct api_failure failure;
    int code = take_answer(asking, question, error, body, &failure);
    if (code) {
        question->failed = true;
        question->failure = ARENA_NEW(asking->arena, struct api_failure);
        if (question->failure)
            *question->failure = failure;
    }
    if (--asking->waiting)
        return;
    for (size_t i = asking->mutating; i < asking->count; i++) {
        question = &asking->questions[i];
        if (!question->failed)
            continue;
        if (question->failure)
            asking->failure = *question->failure;
        else
            api_fail_no_memory(&asking->failure);
        end(asking, asking->failure.code);
        return;
    }
    end(asking, 0);
}

static void on_answer(void *userdata, const char *error, struct slice body) {
    struct question *question = userdata;
    struct asking *asking = question->asking;
    question->call = NULL;
    if (asking->stage == VALIDATING) {
        on_validated(asking, question, error, body);
        return;
    }
    int code = take_answer(asking, question, error, body, &asking->failure);
    asking->at++;
    if (code)
        end(asking, code);
    else
        advance(asking);
}

/* --- stages --- */

/* After a round that changed something: our own part of it again, which may change more. */
static int settle(struct asking *asking) {
    CLEANUP(kube_object_unrefp) struct kube_object *before = kube_object_copy(asking->object);
    if (!before)
        return api_fail_no_memory(&asking->failure);
    int code = asking->matter.settle ? asking->matter.settle(asking->matter.userdata, asking->object, &asking->failure) : 0;
    bool more = !code && !kube_object_equal(before, asking->object);
    for (size_t i = 0; i < asking->mutating && more; i++)
        asking->questions[i].again |= asking->questions[i].asked && asking->questions[i].webhook->reinvocable;
    return code;
}

/* Each step says how it goes on; only advance() ends, since the asking is freed with it. */
enum progress { GO_ON, WAIT, OVER };

static enum progress over(struct asking *asking, int code) {
    asking->code = code;
    return OVER;
}

static enum progress end_round(struct asking *asking) {
    int code = asking->changed ? settle(asking) : 0;
    if (code)
        return over(asking, code);
    asking->stage = asking->changed && asking->round == 0 ? MUTATING : CHECK;
    asking->at = 0;
    asking->round++;
    asking->changed = false;
    return GO_ON;
}

static enum progress mutate(struct asking *asking) {
    if (asking->at == asking->mutating)
        return end_round(asking);
    struct question *question = &asking->questions[asking->at];
    bool skipped = asking->round && !question->again;
    int code = skipped ? 0 : ask(asking, question);
    if (code)
        return over(asking, code);
    if (question->call)
        return WAIT;
    asking->at++;
    return GO_ON;
}

static enum progress check(struct asking *asking) {
    bool any = asking->count > asking->mutating; /* otherwise the write itself will check */
    int code = any && asking->object && asking->matter.check ? asking->matter.check(asking->matter.userdata, asking->object, &asking->failure) : 0;
    asking->stage = VALIDATING;
    return code ? over(asking, code) : GO_ON;
}

static enum progress validate(struct asking *asking) {
    for (size_t i = asking->mutating; i < asking->count; i++) {
        int code = ask(asking, &asking->questions[i]);
        if (code)
            return over(asking, code);
        asking->waiting += asking->questions[i].call != NULL;
    }
    return asking->waiting ? WAIT : over(asking, 0);
}

/* Until a call is on its way, or the end. */
static void advance(struct asking *asking) {
    static enum progress (*const stages[])(struct asking * asking) = {[MUTATING] = mutate, [CHECK] = check, [VALIDATING] = validate};
    enum progress progress;
    while ((progress = stages[asking->stage](asking)) == GO_ON)
        continue;
    if (progress == OVER)
        end(asking, asking->code);
}

/* --- the beginning and the end --- */

static bool is_exempt(const struct kube_kind *kind) {
    return kind->is_virtual || (!strcmp(kind->group, "admissionregistration.k8s.io"));
}

static void add_questions(struct asking *asking, bool mutating) {
    const struct webhooks *webhooks = asking->api->webhooks;
    const struct webhook_matter *matter = &asking->matter;
    for (size_t c = 0; c < webhooks->configs[mutating].count; c++) {
        struct webhook_config *config = webhooks->configs[mutating].items[c];
        for (size_t i = 0; i < config->count; i++) {
            const struct kube_kind *as;
            if (!webhook_concerns(&config->items[i], matter->operation, matter->kind, matter->subresource, &as))
                continue;
            config->references++;
            asking->questions[asking->count++] = (struct question){.asking = asking, .webhook = &config->items[i], .as = kube_kind_ref(as)};
        }
    }
}

static bool any_concerns(const struct webhooks *webhooks, const struct webhook_matter *matter, size_t *ret_max) {
    bool any = false;
    *ret_max = 0;
    for (int class = 0; class < 2; class ++)
        for (size_t c = 0; c < webhooks->configs[class].count; c++) {
            const struct webhook_config *config = webhooks->configs[class].items[c];
            *ret_max += config->count;
            for (size_t i = 0; i < config->count && !any; i++) {
                const struct kube_kind *as;
                any = webhook_concerns(&config->items[i], matter->operation, matter->kind, matter->subresource, &as);
            }
        }
    return any;
}

static struct asking *asking_new(struct api *api, const struct webhook_matter *given, size_t max) {
    struct asking *asking = calloc(1, sizeof *asking);
    struct arena *arena = asking ? arena_new(MIB) : NULL;
    struct question *questions = arena ? ARENA_ARRAY(arena, struct question, max) : NULL;
    if (!questions) {
        arena_free(arena);
        free(asking);
        return NULL;
    }
    *asking = (struct asking){.api = api, .arena = arena, .matter = *given, .questions = questions, .starting = true};
    list_init(&asking->node);
    struct webhook_matter *matter = &asking->matter;
    matter->subresource = arena_strdup(arena, given->subresource ? given->subresource : "");
    matter->namespace = arena_strdup(arena, given->namespace ? given->namespace : "");
    matter->name = arena_strdup(arena, given->name ? given->name : "");
    matter->options = given->options ? arena_strdup(arena, given->options) : NULL;
    matter->document = given->document ? tree_copy(arena, given->document) : NULL;
    matter->old_document = given->old_document ? tree_copy(arena, given->old_document) : NULL;
    matter->kind = kube_kind_ref(given->kind);
    matter->old = given->old ? kube_object_ref(given->old) : NULL;
    asking->object = given->object ? kube_object_ref(given->object) : NULL;
    api->references++;
    if (!matter->subresource || !matter->namespace || !matter->name || (given->options && !matter->options) ||
        (given->document && !matter->document) || (given->old_document && !matter->old_document)) {
        asking_free(asking);
        return NULL;
    }
    add_questions(asking, true);
    asking->mutating = asking->count;
    add_questions(asking, false);
    return asking;
}

int webhooks_ask(struct api *api, const struct webhook_matter *matter, struct api_failure *failure) {
    struct webhooks *webhooks = api->webhooks;
    struct api_failure unread;
    size_t max;
    failure = failure ? failure : &unread;
    if (is_exempt(matter->kind) || api->closed)
        return 0;
    if (webhooks_refresh(webhooks))
        return api_fail_no_memory(failure);
    if (!any_concerns(webhooks, matter, &max))
        return 0;
    if (webhooks->askings_count >= WEBHOOK_ASKINGS_MAX) {
        api_fail(failure, 429, "TooManyRequests", "too many writes wait for admission webhooks: please try again later");
        failure->retry_after_s = 1;
        return 429;
    }
    struct asking *asking = asking_new(api, matter, max);
    if (!asking)
        return api_fail_no_memory(failure);
    advance(asking);
    asking->starting = false;
    if (asking->stage != ENDED) {
        list_push(&webhooks->askings, &asking->node);
        webhooks->askings_count++;
        webhooks->asked++;
        return WEBHOOKS_ASKED;
    }
    int code = asking->code;
    if (code)
        *failure = asking->failure;
    asking_free(asking);
    return code;
}

void webhooks_askings_end(struct webhooks *webhooks) {
    while (!list_empty(&webhooks->askings)) {
        struct asking *asking = CONTAINER_OF(webhooks->askings.next, struct asking, node);
        end(asking, api_fail(&asking->failure, 503, "ServiceUnavailable", "the server is shutting down"));
    }
}

uint64_t api_writes_asked(const struct api *api) {
    return api->webhooks->asked;
}
