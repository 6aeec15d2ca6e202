/* Writes the roles and bindings of rbac_policy.c at every start, as upstream's API server does:
 *
 *   missing                              created
 *   there, autoupdate not "false"        what is missing of rules, subjects and labels is added; what someone added stays
 *   there, autoupdate "false"            left alone
 *
 * An aggregated role's rules are its controller's (control/cluster_role.c); here only its selector is given. So a start writes nothing when nothing
 * is missing. */
#include "api/rbac_bootstrap_priv.h"

#include <stdio.h>

#define GROUP "rbac.authorization.k8s.io"
#define AUTOUPDATE "rbac.authorization.kubernetes.io/autoupdate"
#define OBJECT_BYTES_MAX (64 * KIB)

/* --- a table's line as JSON --- */

static void put_list(struct buffer *out, const char *key, struct slice list) {
    buffer_printf(out, ",\"%s\":[", key);
    for (bool first = true; list.data; first = false) {
        struct slice item = slice_cut(&list, ',');
        buffer_append_text(out, first ? "" : ",");
        json_format_string(out, slice_is(item, "-") ? SLICE("") : item);
    }
    buffer_append_text(out, "]");
}

static struct slice long_form(struct slice verbs) {
    static const char *const forms[][2] = {{"read", "get,list,watch"},
                                           {"write", "create,delete,deletecollection,patch,update"},
                                           {"readwrite", "create,delete,deletecollection,get,list,patch,update,watch"}};
    for (size_t i = 0; i < ARRAY_LEN(forms); i++)
        if (slice_is(verbs, forms[i][0]))
            return slice_of(forms[i][1]);
    return verbs;
}

static void put_rule(struct buffer *out, struct slice line) {
    struct slice verbs = slice_cut(&line, ' '), second = slice_cut(&line, ' ');
    size_t begin = out->len;
    put_list(out, "verbs", long_form(verbs));
    if (!line.data) {
        put_list(out, "nonResourceURLs", second);
    } else {
        put_list(out, "apiGroups", second);
        put_list(out, "resources", slice_cut(&line, ' '));
        if (line.data)
            put_list(out, "resourceNames", line);
    }
    if (!buffer_error(out))
        out->data[begin] = '{'; /* in place of the first comma */
    buffer_append_text(out, "}");
}

static void put_rules(struct buffer *out, const char *lines) {
    struct slice rest = slice_of(lines);
    buffer_append_text(out, ",\"rules\":[");
    for (bool first = true; rest.len; first = false) {
        buffer_append_text(out, first ? "" : ",");
        put_rule(out, slice_cut(&rest, '\n'));
    }
    buffer_append_text(out, "]");
}

static void put_metadata(struct buffer *out, const char *name, const char *namespace, const char *aggregated_to) {
    buffer_printf(out, "{\"metadata\":{\"name\":\"%s\"", name);
    if (namespace)
        buffer_printf(out, ",\"namespace\":\"%s\"", namespace);
    buffer_append_text(out, ",\"labels\":{\"kubernetes.io/bootstrapping\":\"rbac-defaults\"");
    if (aggregated_to)
        buffer_printf(out, ",\"" GROUP "/aggregate-to-%s\":\"true\"", aggregated_to);
    buffer_append_text(out, "},\"annotations\":{\"" AUTOUPDATE "\":\"true\"}}");
}

static void put_subjects(struct buffer *out, struct slice subjects) {
    buffer_append_text(out, ",\"subjects\":[");
    for (bool first = true; subjects.data; first = false) {
        struct slice name = slice_cut(&subjects, ';'), class = slice_cut(&name, ' ');
        bool account = slice_is(class, "account");
        buffer_printf(out, "%s{\"kind\":\"%s\",%s,\"name\":\"%.*s\"}", first ? "" : ",",
                      account                   ? "ServiceAccount"
                      : slice_is(class, "user") ? "User"
                                                : "Group",
                      account ? "\"namespace\":\"kube-system\"" : "\"apiGroup\":\"" GROUP "\"", SLICE_ARG(name));
    }
    buffer_append_text(out, "]");
}

static struct kube_object *decode(const struct kube_kind *kind, const struct buffer *text) {
    struct kube_object *object = NULL;
    struct diag diag = DIAG_INIT;
    int error = buffer_error(text) ? buffer_error(text) : kube_decode_json(kind, buffer_slice(text), KUBE_LENIENT, &object, &diag);
    ASSERT(error == 0 || error == -ENOMEM);
    return object;
}

static struct kube_object *make_role(const struct rbac_policy_role *role, const char *prefix) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(OBJECT_BYTES_MAX);
    char name[128];
    snprintf(name, sizeof name, "%s%s", prefix, role->name);
    put_metadata(&text, name, role->namespace, role->aggregated_to);
    put_rules(&text, role->rules);
    if (role->aggregates)
        buffer_printf(&text, ",\"aggregationRule\":{\"clusterRoleSelectors\":[{\"matchLabels\":{\"" GROUP "/aggregate-to-%s\":\"true\"}}]}",
                      role->aggregates);
    buffer_append_text(&text, "}");
    return decode(role->namespace ? &kube_kind_role : &kube_kind_cluster_role, &text);
}

static struct kube_object *make_binding(const char *role, const char *namespace, const char *subjects) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(OBJECT_BYTES_MAX);
    put_metadata(&text, role, namespace, NULL);
    put_subjects(&text, slice_of(subjects));
    buffer_printf(&text, ",\"roleRef\":{\"apiGroup\":\"" GROUP "\",\"kind\":\"%s\",\"name\":\"%s\"}}", namespace ? "Role" : "ClusterRole", role);
    return decode(namespace ? &kube_kind_role_binding : &kube_kind_cluster_role_binding, &text);
}

/* --- what is missing of an object that is there --- */

static const struct kube_type *item_type(const struct kube_kind *kind) {
    return kind == &kube_kind_role || kind == &kube_kind_cluster_role ? &kube_policy_rule_type : &kube_subject_type;
}

/* Rules of a role, subjects of a binding: both arrays of structs. */
struct items {
    void *items;
    size_t count;
};

static struct items *items_of(struct kube_object *object) {
    if (object->kind == &kube_kind_role)
        return (struct items *)(void *)&object->role->rules;
    if (object->kind == &kube_kind_cluster_role)
        return (struct items *)(void *)&object->cluster_role->rules;
    if (object->kind == &kube_kind_role_binding)
        return (struct items *)(void *)&object->role_binding->subjects;
    return (struct items *)(void *)&object->cluster_role_binding->subjects;
}

static size_t item_size(const struct kube_kind *kind) {
    return item_type(kind) == &kube_policy_rule_type ? sizeof(struct kube_policy_rule) : sizeof(struct kube_subject);
}

static bool has_item(const struct kube_kind *kind, const struct items *items, const void *item) {
    for (size_t i = 0; i < items->count; i++)
        if (kube_equal(item_type(kind), (const char *)items->items + i * item_size(kind), item))
            return true;
    return false;
}

/* Appends to `object`, a copy of what is stored, what it lacks; *ret_added tells whether that was anything. */
static int add_items(struct kube_object *object, struct kube_object *wanted, bool *ret_added) {
    const struct kube_kind *kind = object->kind;
    struct items *have = items_of(object), *want = items_of(wanted);
    size_t size = item_size(kind);
    char *all = arena_array(object->arena, have->count + want->count, size);
    if (!all)
        return -ENOMEM;
    if (have->count)
        memcpy(all, have->items, have->count * size);
    size_t count = have->count;
    for (size_t i = 0; i < want->count; i++) {
        const char *item = (const char *)want->items + i * size;
        if (has_item(kind, have, item))
            continue;
        int error = kube_copy(item_type(kind), object->arena, item, all + count * size);
        if (error)
            return error;
        count++;
        *ret_added = true;
    }
    have->items = all;
    have->count = count;
    return 0;
}

static int add_labels(struct kube_object *object, const struct kube_object *wanted, bool *ret_added) {
    const struct kube_string_map *labels = &wanted->metadata->labels;
    int error = 0;
    for (size_t i = 0; i < labels->count && !error; i++) {
        const char *have = kube_map_find(&object->metadata->labels, labels->items[i].key);
        if (have && !strcmp(have, labels->items[i].value))
            continue;
        error = kube_map_set(&object->metadata->labels, object->arena, labels->items[i].key, labels->items[i].value);
        *ret_added = true;
    }
    return error;
}

static void complete(struct api *api, struct kube_object *stored, struct kube_object *wanted) {
    const char *update = kube_map_find(&stored->metadata->annotations, AUTOUPDATE);
    bool added = false, aggregated = wanted->kind == &kube_kind_cluster_role && wanted->cluster_role->aggregation_rule;
    if (update && !strcmp(update, "false"))
        return;
    CLEANUP(kube_object_unrefp) struct kube_object *object = kube_object_copy(stored);
    if (!object || add_labels(object, wanted, &added) || (!aggregated && add_items(object, wanted, &added)) || !added)
        return;
    kube_object_ref(object);
    static const struct write_options options = {.unasked = true};
    if (!api_write_update(api, object, &options, NULL, NULL, NULL))
        api_rbac_note(api, object, false);
}

/* The index takes it in at once: nothing is served before this is durable (api->bootstrapping), but the platform's own parts ask early. */
static void settle(struct api *api, struct kube_object *given) {
    CLEANUP(kube_object_unrefp) struct kube_object *wanted = given;
    if (!wanted)
        return;
    CLEANUP(kube_object_unrefp)
    struct kube_object *stored = api_stored_get(api, wanted->kind, wanted->metadata->namespace, wanted->metadata->name);
    if (stored) {
        complete(api, stored, wanted);
        return;
    }
    api_bootstrap_create(api, kube_object_ref(wanted));
    api_rbac_note(api, wanted, false);
}

void api_rbac_bootstrap(struct api *api) {
    for (const struct rbac_policy_role *role = rbac_policy_roles; role->name; role++)
        settle(api, make_role(role, ""));
    for (const struct rbac_policy_binding *binding = rbac_policy_bindings; binding->role; binding++)
        settle(api, make_binding(binding->role, NULL, binding->subjects));
    for (const struct rbac_policy_role *role = rbac_policy_controllers; role->name; role++) {
        char name[128], subject[128];
        snprintf(name, sizeof name, "system:controller:%s", role->name);
        snprintf(subject, sizeof subject, "account %s", role->name);
        settle(api, make_role(role, "system:controller:"));
        settle(api, make_binding(name, NULL, subject));
    }
    for (const struct rbac_policy_role *role = rbac_policy_namespaced; role->name; role++) {
        settle(api, make_role(role, ""));
        if (role->subject)
            settle(api, make_binding(role->name, role->namespace, role->subject));
    }
}
