/* Metadata of roots, label selectors, and the kinds that hold data: config maps, secrets, events. */
#include "kube/validate_priv.h"

#include <stdio.h>

#define DATA_BYTES_MAX MIB /* of all values of a config map or secret together, as upstream */

static const char *name_format(const struct kube_kind *kind) {
    if (kind == &kube_kind_service)
        return "dns1035-label";
    if (!strcmp(kind->group, "rbac.authorization.k8s.io") || kind == &kube_kind_certificate_signing_request)
        return "path-segment";
    return kind == &kube_kind_namespace || kind == &kube_kind_stateful_set ? "dns-label" : "dns-subdomain";
}

static void check_name(struct validator *validator, const struct kube_object_meta *metadata) {
    const char *format = name_format(validator->object->kind);
    const char *prefix = metadata->generate_name;
    if (prefix && !metadata->name) {
        size_t len = strlen(prefix);
        while (len > 0 && prefix[len - 1] == '-') /* the suffix follows */
            len--;
        const char *wrong = format_check(format, slice_make(prefix, len));
        if (wrong)
            fail_text(validator, "generateName", prefix, "%s", wrong);
        return;
    }
    if (!metadata->name) {
        fail_required(validator, "name", "name or generateName is required");
        return;
    }
    const char *wrong = format_check(format, slice_of(metadata->name));
    if (wrong)
        fail_text(validator, "name", metadata->name, "%s", wrong);
}

static void check_namespace(struct validator *validator, const struct kube_object_meta *metadata) {
    if (!validator->object->kind->namespaced) {
        if (metadata->namespace)
            fail_forbidden(validator, "namespace", "not allowed on this type");
        return;
    }
    if (!metadata->namespace) {
        fail_required(validator, "namespace", "");
        return;
    }
    const char *wrong = format_check("dns-label", slice_of(metadata->namespace));
    if (wrong)
        fail_text(validator, "namespace", metadata->namespace, "%s", wrong);
}

static void check_owners(struct validator *validator, const struct kube_object_meta *metadata) {
    size_t controllers = 0;
    for (size_t i = 0; i < metadata->owner_references.count; i++)
        controllers += metadata->owner_references.items[i].controller && *metadata->owner_references.items[i].controller;
    if (controllers > 1)
        fail_value(validator, "ownerReferences", "[…]", "Only one reference can have Controller set to true. Found %zu", controllers);
}

static void check_unchanged(struct validator *validator, const char *name, const char *value, const char *old) {
    if (old && strcmp(kube_text_or(value, ""), old) != 0)
        fail_text(validator, name, value, "field is immutable");
}

static bool holds(const struct kube_string_list *list, const char *text) {
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->items[i], text) == 0)
            return true;
    return false;
}

/* Of an object that is being deleted. */
static void check_no_new_finalizers(struct validator *validator, const struct kube_string_list *finalizers, const struct kube_string_list *before) {
    char found[400] = "";
    for (size_t i = 0; i < finalizers->count; i++)
        if (!holds(before, finalizers->items[i]))
            snprintf(found + strlen(found), sizeof found - strlen(found), "%s\"%.100s\"", *found ? ", " : "", finalizers->items[i]);
    if (*found)
        fail_forbidden(validator, "finalizers", "no new finalizers can be added if the object is being deleted, found new finalizers []string{%s}",
                       found);
}

void validate_metadata(struct validator *validator, const void *data, const void *old) {
    const struct kube_object_meta *metadata = data, *before = old;
    check_name(validator, metadata);
    check_namespace(validator, metadata);
    check_owners(validator, metadata);
    for (size_t i = 0; i < metadata->finalizers.count; i++) {
        const char *wrong = format_check("qualified-name", slice_of(metadata->finalizers.items[i]));
        if (wrong)
            fail_text(validator, "finalizers", metadata->finalizers.items[i], "%s", wrong);
    }
    if (!before)
        return;
    check_unchanged(validator, "name", metadata->name, before->name);
    check_unchanged(validator, "namespace", metadata->namespace, before->namespace);
    check_unchanged(validator, "uid", metadata->uid, before->uid);
    if (before->deletion_timestamp.set)
        check_no_new_finalizers(validator, &metadata->finalizers, &before->finalizers);
}

void validate_label_requirement(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_label_selector_requirement *requirement = data;
    bool set = kube_text_is(requirement->operator, "In") || kube_text_is(requirement->operator, "NotIn");
    bool unary = kube_text_is(requirement->operator, "Exists") || kube_text_is(requirement->operator, "DoesNotExist");
    if (set && requirement->values.count == 0)
        fail_required(validator, "values", "must be specified when `operator` is 'In' or 'NotIn'");
    if (unary && requirement->values.count > 0)
        fail_forbidden(validator, "values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
    if (!requirement->operator)
        fail_text(validator, "operator", "", "not a valid selector operator");
    for (size_t i = 0; i < requirement->values.count; i++) {
        const char *wrong = format_check("label-value", slice_of(requirement->values.items[i]));
        if (wrong)
            fail_text(validator, "values", requirement->values.items[i], "%s", wrong);
    }
}

static void check_key(struct validator *validator, const char *field, const char *key) {
    const char *wrong = format_check("config-key", slice_of(key));
    size_t before = kube_path_push_field(&validator->path, field);
    kube_path_push_key(&validator->path, key);
    if (wrong)
        fail_text(validator, NULL, key, "%s", wrong);
    kube_path_pop(&validator->path, before);
}

static const char frozen[] = "field is immutable when `immutable` is set";

void validate_config_map(struct validator *validator, const void *data, const void *old) {
    const struct kube_config_map *map = data, *before = old;
    size_t total = 0;
    for (size_t i = 0; i < map->data.count; i++) {
        check_key(validator, "data", map->data.items[i].key);
        if (kube_pair_find(&map->binary_data, sizeof *map->binary_data.items, map->data.items[i].key))
            fail_text(validator, "data", map->data.items[i].key, "duplicate of key present in binaryData");
        total += strlen(map->data.items[i].value);
    }
    for (size_t i = 0; i < map->binary_data.count; i++) {
        check_key(validator, "binaryData", map->binary_data.items[i].key);
        total += map->binary_data.items[i].value.len;
    }
    if (total > DATA_BYTES_MAX)
        fail_long(validator, NULL, DATA_BYTES_MAX);
    if (!before || !before->immutable || !*before->immutable)
        return;
    if (!map->immutable || !*map->immutable)
        fail_forbidden(validator, "immutable", "%s", frozen);
    if (!kube_field_equal(kube_field_find(&kube_config_map_type, SLICE("data")), &map->data, &before->data))
        fail_forbidden(validator, "data", "%s", frozen);
    if (!kube_field_equal(kube_field_find(&kube_config_map_type, SLICE("binaryData")), &map->binary_data, &before->binary_data))
        fail_forbidden(validator, "binaryData", "%s", frozen);
}

static void check_secret_keys(struct validator *validator, const struct kube_secret *secret) {
    static const struct {
        const char *type;
        const char *keys[2];
    } rules[] = {{"kubernetes.io/tls", {"tls.crt", "tls.key"}},
                 {"kubernetes.io/dockerconfigjson", {".dockerconfigjson", NULL}},
                 {"kubernetes.io/dockercfg", {".dockercfg", NULL}},
                 {"kubernetes.io/ssh-auth", {"ssh-privatekey", NULL}}};
    for (size_t i = 0; i < ARRAY_LEN(rules); i++)
        for (size_t k = 0; kube_text_is(secret->type, rules[i].type) && k < 2 && rules[i].keys[k]; k++) {
            if (kube_pair_find(&secret->data, sizeof *secret->data.items, rules[i].keys[k]))
                continue;
            size_t before = kube_path_push_field(&validator->path, "data");
            kube_path_push_key(&validator->path, rules[i].keys[k]);
            fail_required(validator, NULL, "");
            kube_path_pop(&validator->path, before);
        }
    if (kube_text_is(secret->type, "kubernetes.io/service-account-token") &&
        !kube_map_find(&secret->metadata.annotations, "kubernetes.io/service-account.name"))
        fail_required(validator, "metadata.annotations[kubernetes.io/service-account.name]", "");
}

void validate_secret(struct validator *validator, const void *data, const void *old) {
    const struct kube_secret *secret = data, *before = old;
    size_t total = 0;
    for (size_t i = 0; i < secret->data.count; i++) {
        check_key(validator, "data", secret->data.items[i].key);
        total += secret->data.items[i].value.len;
    }
    if (total > DATA_BYTES_MAX)
        fail_long(validator, "data", DATA_BYTES_MAX);
    check_secret_keys(validator, secret);
    if (!before || !before->immutable || !*before->immutable)
        return;
    if (!secret->immutable || !*secret->immutable)
        fail_forbidden(validator, "immutable", "%s", frozen);
    if (!kube_field_equal(kube_field_find(&kube_secret_type, SLICE("data")), &secret->data, &before->data))
        fail_forbidden(validator, "data", "%s", frozen);
}

void validate_event(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_event *event = data;
    const char *involved = event->involved_object.namespace;
    if (involved ? !kube_text_is(event->metadata.namespace, involved) : !kube_text_is(event->metadata.namespace, "default"))
        fail_text(validator, "involvedObject.namespace", involved, "does not match event.namespace");
}
