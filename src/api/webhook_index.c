/* The index of webhook configurations: who is to be asked about a write.
 *
 * 1. It holds references to the decoded objects of the store, sorted by name: the order in which mutating webhooks are asked, as upstream. What a
 * write costs is one comparison while there is no configuration, and otherwise a walk over their rules, which are few.
 * 2. It follows each committed write of a configuration before that write is answered: who has been told of it can count on it.
 * 3. When memory is missing for that, no write goes past until the configurations have been read again (webhooks_refresh): a webhook that is there
 * is never forgotten.
 * 4. Askings, calls and look-ups hold references to the configurations that they began with. */
#include "api/webhook_priv.h"

#include <stdio.h>

enum { VALIDATING, MUTATING };

static bool text_is(const char *text, const char *expected) {
    return text && !strcmp(text, expected);
}

/* --- configurations --- */

void webhook_config_unref(struct webhook_config *config) {
    if (!config || --config->references)
        return;
    for (size_t i = 0; i < config->count; i++) {
        webhook_link_unref(config->items[i].link);
        tls_context_unref(config->items[i].tls);
    }
    kube_object_unref(config->object);
    free(config->items);
    free(config);
}

static const char *review_version(const struct kube_string_list *versions) {
    for (size_t i = 0; i < versions->count; i++)
        if (text_is(versions->items[i], "v1") || text_is(versions->items[i], "v1beta1"))
            return versions->items[i];
    return "v1"; /* validation leaves none without */
}

/* What the two kinds have in common, which is all but one field. */
#define COMMON(given)                                                                                                                                \
    .name = (given)->name, .at = &(given)->client_config, .rules = &(given)->rules, .namespace_selector = (given)->namespace_selector,               \
    .object_selector = (given)->object_selector, .ignore = text_is((given)->failure_policy, "Ignore"),                                               \
    .exact = text_is((given)->match_policy, "Exact"),                                                                                                \
    .quiet = text_is((given)->side_effects, "None") || text_is((given)->side_effects, "NoneOnDryRun"),                                               \
    .timeout_ms = ((given)->timeout_seconds ? *(given)->timeout_seconds : 10) * 1000, .version = review_version(&(given)->admission_review_versions)

static struct webhook of_validating(const struct kube_validating_webhook *given) {
    return (struct webhook){COMMON(given)};
}

static struct webhook of_mutating(const struct kube_mutating_webhook *given) {
    return (struct webhook){COMMON(given), .mutating = true, .reinvocable = text_is(given->reinvocation_policy, "IfNeeded")};
}

static struct webhook_config *config_new(struct kube_object *object) {
    bool mutating = object->kind == &kube_kind_mutating_webhook_configuration;
    size_t count = mutating ? object->mutating_webhook_configuration->webhooks.count : object->validating_webhook_configuration->webhooks.count;
    struct webhook_config *config = calloc(1, sizeof *config);
    struct webhook *items = calloc(count + 1, sizeof *items);
    if (!config || !items) {
        free(config);
        free(items);
        return NULL;
    }
    *config = (struct webhook_config){.references = 1, .object = kube_object_ref(object), .items = items, .count = count};
    for (size_t i = 0; i < count; i++) {
        items[i] = mutating ? of_mutating(&object->mutating_webhook_configuration->webhooks.items[i])
                            : of_validating(&object->validating_webhook_configuration->webhooks.items[i]);
        items[i].config = config;
    }
    return config;
}

/* --- the index --- */

static int class_of(const struct kube_kind *kind) {
    if (kind == &kube_kind_mutating_webhook_configuration)
        return MUTATING;
    return kind == &kube_kind_validating_webhook_configuration ? VALIDATING : -1;
}

/* Where the name stands, or would. */
static size_t place_of(const struct webhooks *webhooks, int class, const char *name) {
    size_t at = 0;
    while (at < webhooks->configs[class].count && strcmp(webhooks->configs[class].items[at]->object->metadata->name, name) < 0)
        at++;
    return at;
}

static bool is_there(const struct webhooks *webhooks, int class, size_t at, const char *name) {
    return at < webhooks->configs[class].count && !strcmp(webhooks->configs[class].items[at]->object->metadata->name, name);
}

static void drop(struct webhooks *webhooks, int class, size_t at) {
    struct webhook_config *config = webhooks->configs[class].items[at];
    VECTOR_REMOVE(&webhooks->configs[class], at);
    webhook_config_unref(config);
}

static int put(struct webhooks *webhooks, int class, struct kube_object *object) {
    const char *name = object->metadata->name;
    size_t at = place_of(webhooks, class, name), count = webhooks->configs[class].count;
    struct webhook_config *config = config_new(object);
    if (!config)
        return -ENOMEM;
    if (is_there(webhooks, class, at, name)) {
        webhook_config_unref(webhooks->configs[class].items[at]);
        webhooks->configs[class].items[at] = config;
        return 0;
    }
    if (VECTOR_PUSH(&webhooks->configs[class], config)) {
        webhook_config_unref(config);
        return -ENOMEM;
    }
    struct webhook_config **items = webhooks->configs[class].items;
    memmove(&items[at + 1], &items[at], (count - at) * sizeof *items);
    items[at] = config;
    return 0;
}

void api_webhooks_note(struct api *api, struct kube_object *object, bool removed) {
    struct webhooks *webhooks = api->webhooks;
    int class = class_of(object->kind);
    if (class < 0)
        return;
    size_t at = place_of(webhooks, class, object->metadata->name);
    if (removed && is_there(webhooks, class, at, object->metadata->name))
        drop(webhooks, class, at);
    else if (!removed && put(webhooks, class, object))
        webhooks->stale = true;
}

static bool load_one(void *userdata, struct store_object *stored) {
    struct api *api = userdata;
    struct kube_object *object = api_decode(api, stored);
    if (!object)
        api->webhooks->stale = true;
    else
        api_webhooks_note(api, object, false);
    return !api->webhooks->stale;
}

int webhooks_refresh(struct webhooks *webhooks) {
    struct slice none = {NULL, 0};
    if (!webhooks->stale)
        return 0;
    webhooks->stale = false;
    store_list(webhooks->api->store, api_kind_slice(&kube_kind_mutating_webhook_configuration), none, none, none, load_one, webhooks->api);
    if (!webhooks->stale)
        store_list(webhooks->api->store, api_kind_slice(&kube_kind_validating_webhook_configuration), none, none, none, load_one, webhooks->api);
    return webhooks->stale ? -ENOMEM : 0;
}

int api_webhooks_start(struct api *api) {
    struct webhooks *webhooks = calloc(1, sizeof *webhooks);
    if (!webhooks)
        return -ENOMEM;
    webhooks->api = api;
    list_init(&webhooks->askings);
    webhooks_calls_start(webhooks);
    api->webhooks = webhooks;
    return 0;
}

void api_webhooks_load(struct api *api) {
    api->webhooks->stale = true;
    (void)webhooks_refresh(api->webhooks); /* else with the first write */
}

void api_webhooks_end(struct api *api) {
    struct webhooks *webhooks = api->webhooks;
    webhooks->closed = true;
    webhooks_askings_end(webhooks);
    webhooks_calls_end(webhooks);
    for (int class = 0; class < 2; class ++) {
        while (webhooks->configs[class].count)
            drop(webhooks, class, webhooks->configs[class].count - 1);
        VECTOR_DEINIT(&webhooks->configs[class]);
    }
}

/* --- who is concerned --- */

static bool has(const struct kube_string_list *list, const char *text) {
    return kube_strings_has(list, "*") || kube_strings_has(list, text);
}

/* "pods", "pods/status", "pods/…any", "*" (no subresources), "*" with any subresource. */
static bool names_resource(const struct kube_string_list *list, const char *plural, const char *subresource) {
    for (size_t i = 0; i < list->count; i++) {
        struct slice rest = slice_of(list->items[i]), resource = slice_cut(&rest, '/');
        if ((slice_is(resource, "*") || slice_is(resource, plural)) && (slice_is(rest, "*") || slice_equal(rest, slice_of(subresource))))
            return true;
    }
    return false;
}

static const char *operation_text(enum admission_operation operation) {
    return operation == ADMIT_CREATE ? "CREATE" : operation == ADMIT_UPDATE ? "UPDATE" : operation == ADMIT_DELETE ? "DELETE" : "CONNECT";
}

static bool fits(const struct kube_rule_with_operations *rule, enum admission_operation operation, const struct kube_kind *kind,
                 const char *subresource) {
    bool scope = !rule->scope || !strcmp(rule->scope, "*") || !strcmp(rule->scope, kind->namespaced ? "Namespaced" : "Cluster");
    return scope && has(&rule->operations, operation_text(operation)) && has(&rule->api_groups, kind->group) &&
           has(&rule->api_versions, kind->version) && names_resource(&rule->resources, kind->plural, subresource);
}

static bool any_fits(const struct webhook *webhook, enum admission_operation operation, const struct kube_kind *kind, const char *subresource) {
    for (size_t i = 0; i < webhook->rules->count; i++)
        if (fits(&webhook->rules->items[i], operation, kind, subresource))
            return true;
    return false;
}

/* The two show the same objects. */
static bool is_equivalent(const struct kube_kind *a, const struct kube_kind *b) {
    if (a->is_virtual || b->is_virtual || !a->custom != !b->custom)
        return false;
    return a->custom ? !strcmp(kube_kind_key(a), kube_kind_key(b)) : kube_kind_stored(a) == kube_kind_stored(b);
}

bool webhook_concerns(const struct webhook *webhook, enum admission_operation operation, const struct kube_kind *kind, const char *subresource,
                      const struct kube_kind **ret) {
    *ret = kind;
    if (any_fits(webhook, operation, kind, subresource))
        return true;
    for (size_t i = 0; i < kube_kinds_count() && !webhook->exact; i++) {
        *ret = kube_kind_at(i);
        if (*ret != kind && is_equivalent(*ret, kind) && any_fits(webhook, operation, *ret, subresource))
            return true;
    }
    return false;
}

/* --- what the configurations' owners are told --- */

int admit_webhooks(struct admission *admission) {
    const struct kube_object *object = admission->object;
    bool mutating = object->kind == &kube_kind_mutating_webhook_configuration;
    size_t count = mutating ? object->mutating_webhook_configuration->webhooks.count : object->validating_webhook_configuration->webhooks.count;
    for (size_t i = 0; i < count; i++) {
        const struct kube_match_condition_array *conditions = mutating
                                                                  ? &object->mutating_webhook_configuration->webhooks.items[i].match_conditions
                                                                  : &object->validating_webhook_configuration->webhooks.items[i].match_conditions;
        if (conditions->count)
            admission_warn(admission, "webhooks[%zu].matchConditions: conditions are not evaluated; the webhook is called whatever they say", i);
    }
    return 0;
}

/* --- metrics --- */

static void put_metric(const struct webhooks *webhooks, struct buffer *out, const char *name, const char *help, size_t offset, double scale) {
    buffer_printf(out, "# HELP tidemill_webhook_%s %s\n# TYPE tidemill_webhook_%s counter\n", name, help, name);
    for (int class = 0; class < 2; class ++)
        for (size_t c = 0; c < webhooks->configs[class].count; c++) {
            const struct webhook_config *config = webhooks->configs[class].items[c];
            for (size_t i = 0; i < config->count; i++) {
                uint64_t value;
                memcpy(&value, (const char *)&config->items[i].seen + offset, sizeof value);
                buffer_printf(out, "tidemill_webhook_%s{type=\"%s\",configuration=\"%s\",name=\"%s\"} %.15g\n", name,
                              class == MUTATING ? "admit" : "validating", config->object->metadata->name, config->items[i].name,
                              (double)value * scale);
            }
        }
}

void api_webhooks_metrics(const struct api *api, struct buffer *out) {
    static const struct {
        const char *name, *help;
        size_t offset; /* of the number within webhook.seen */
        double scale;
    } metrics[] = {
#define SEEN(member) offsetof(struct webhook, seen.member) - offsetof(struct webhook, seen)
        {"calls_total", "Calls of a webhook.", SEEN(calls), 1},
        {"failures_total", "Calls without a valid answer.", SEEN(failures), 1},
        {"denials_total", "Writes that a webhook denied.", SEEN(denials), 1},
        {"changes_total", "Writes that a webhook changed.", SEEN(changes), 1},
        {"seconds_total", "Time spent waiting for a webhook.", SEEN(ns), 1e-9},
#undef SEEN
    };
    const struct webhooks *webhooks = api->webhooks;
    buffer_printf(out,
                  "# HELP tidemill_webhook_writes_waiting Writes that wait for webhooks.\n# TYPE tidemill_webhook_writes_waiting gauge\n"
                  "tidemill_webhook_writes_waiting %zu\n",
                  webhooks->askings_count);
    for (size_t i = 0; i < ARRAY_LEN(metrics); i++)
        put_metric(webhooks, out, metrics[i].name, metrics[i].help, metrics[i].offset, metrics[i].scale);
}
