/* The index of roles and bindings (RBAC, rbac.authorization.k8s.io/v1).
 *
 * A request is allowed when one rule of one role that is bound to the user or one of its groups allows it. Walking all bindings for each request
 * would cost more the larger the cluster, so bindings are found by subject:
 *
 *     subject ("u" user, "g" group) + namespace of the binding ("" of a ClusterRoleBinding)  →  the grants to it
 *     kind + namespace + name                                                                →  the object
 *
 * so that a decision is two look-ups per group and user name, one per binding found, and a walk over short lists of strings: microseconds.
 *
 * 1. The index holds references to the decoded objects of the store: nothing is copied but keys.
 * 2. It changes with every committed write of one of the four kinds, before that write is answered: who has been given a right can use it at once,
 *    and one that is taken away is gone with the answer.
 * 3. A service account as subject is indexed as the user name it has (system:serviceaccount:NAMESPACE:NAME); without a namespace it is of the
 *    binding's own.
 * 4. Removing never allocates: a right cannot survive its removal for want of memory. */
#include "api/rbac_priv.h"

#include <stdio.h>

#define KEY_BYTES_MAX 1024 /* longer subjects and names are not indexed: nobody bears them, see api/auth.c */

struct grants {
    VECTOR(struct rbac_grant) list;
};
struct rbac {
    struct map *objects; /* struct kube_object */
    struct map *grants;  /* struct grants */
};

struct key {
    char bytes[KEY_BYTES_MAX];
    size_t len; /* 0: too long */
};

static struct slice key_slice(const struct key *key) {
    return slice_make(key->bytes, key->len);
}

static void key_set(struct key *key, char class, const char *a, const char *b) {
    size_t a_len = strlen(a), b_len = strlen(b);
    key->len = 0;
    if (a_len + b_len + 2 > sizeof key->bytes)
        return;
    key->bytes[0] = class;
    memcpy(key->bytes + 1, a, a_len);
    key->bytes[1 + a_len] = '\0';
    memcpy(key->bytes + 2 + a_len, b, b_len);
    key->len = a_len + b_len + 2;
}

static const char *text(const char *value) {
    return value ? value : "";
}

/* --- objects --- */

enum class { NO_CLASS = 0, ROLE = 'r', CLUSTER_ROLE = 'R', BINDING = 'b', CLUSTER_BINDING = 'B' };

static enum class class_of(const struct kube_kind *kind) { static const struct {const struct kube_kind * kind; enum class class;}
classes[] = {{&kube_kind_role, ROLE},
             {&kube_kind_cluster_role, CLUSTER_ROLE},
             {&kube_kind_role_binding, BINDING},
             {&kube_kind_cluster_role_binding, CLUSTER_BINDING}};
for (size_t i = 0; i < ARRAY_LEN(classes); i++)
    if (classes[i].kind == kind)
        return classes[i].class;
return NO_CLASS;
}

static void object_key(struct key *key, const struct kube_object *object) {
    key_set(key, (char)class_of(object->kind), text(object->metadata->name), text(object->metadata->namespace));
}

/* Both kinds of binding have the same fields. */
static const struct kube_subject_array *subjects_of(const struct kube_object *binding) {
    return binding->kind == &kube_kind_role_binding ? &binding->role_binding->subjects : &binding->cluster_role_binding->subjects;
}

static const struct kube_role_ref *ref_of(const struct kube_object *binding) {
    return binding->kind == &kube_kind_role_binding ? &binding->role_binding->role_ref : &binding->cluster_role_binding->role_ref;
}

/* --- subjects --- */

/* False for a subject that nobody can be. */
static bool subject_key(struct key *key, const struct kube_subject *subject, const char *binding_namespace) {
    const char *kind = text(subject->kind), *name = text(subject->name);
    if (!strcmp(kind, "ServiceAccount")) {
        const char *namespace = subject->namespace && *subject->namespace ? subject->namespace : binding_namespace;
        char user[400];
        if (!*namespace || (size_t)snprintf(user, sizeof user, "system:serviceaccount:%s:%s", namespace, name) >= sizeof user)
            return false;
        key_set(key, 'u', user, binding_namespace);
    } else if (!strcmp(kind, "User") || !strcmp(kind, "Group")) {
        key_set(key, *kind == 'U' ? 'u' : 'g', name, binding_namespace);
    } else {
        return false;
    }
    return key->len > 0;
}

static int add_grant(struct rbac *rbac, const struct key *key, const struct kube_object *binding, size_t subject) {
    struct grants *grants = map_find(rbac->grants, key_slice(key));
    if (!grants) {
        grants = calloc(1, sizeof *grants);
        if (!grants || map_put(rbac->grants, key_slice(key), grants, NULL)) {
            free(grants);
            return -ENOMEM;
        }
    }
    if (grants->list.count && grants->list.items[grants->list.count - 1].binding == binding)
        return 0; /* a subject that is named twice */
    const struct rbac_grant grant = {binding, subject};
    return VECTOR_PUSH(&grants->list, grant);
}

static int add_grants(struct rbac *rbac, const struct kube_object *binding) {
    const struct kube_subject_array *subjects = subjects_of(binding);
    struct key key;
    int error = 0;
    for (size_t i = 0; i < subjects->count && !error; i++)
        if (subject_key(&key, &subjects->items[i], text(binding->metadata->namespace)))
            error = add_grant(rbac, &key, binding, i);
    return error;
}

static void drop_grants(struct rbac *rbac, const struct kube_object *binding) {
    const struct kube_subject_array *subjects = subjects_of(binding);
    struct key key;
    for (size_t i = 0; i < subjects->count; i++) {
        if (!subject_key(&key, &subjects->items[i], text(binding->metadata->namespace)))
            continue;
        struct grants *grants = map_find(rbac->grants, key_slice(&key));
        for (size_t j = grants ? grants->list.count : 0; j-- > 0;)
            if (grants->list.items[j].binding == binding)
                VECTOR_REMOVE(&grants->list, j);
        if (grants && !grants->list.count) {
            map_remove(rbac->grants, key_slice(&key));
            VECTOR_DEINIT(&grants->list);
            free(grants);
        }
    }
}

/* --- the index --- */

struct rbac *rbac_new(void) {
    struct rbac *rbac = calloc(1, sizeof *rbac);
    if (!rbac)
        return NULL;
    rbac->objects = map_new();
    rbac->grants = map_new();
    if (rbac->objects && rbac->grants)
        return rbac;
    rbac_free(rbac);
    return NULL;
}

void rbac_free(struct rbac *rbac) {
    struct slice key;
    void *value;
    if (!rbac)
        return;
    for (size_t at = 0; rbac->grants && map_next(rbac->grants, &at, &key, &value);) {
        struct grants *grants = value;
        VECTOR_DEINIT(&grants->list);
        free(grants);
    }
    for (size_t at = 0; rbac->objects && map_next(rbac->objects, &at, &key, &value);)
        kube_object_unref(value);
    if (rbac->grants)
        map_free(rbac->grants);
    if (rbac->objects)
        map_free(rbac->objects);
    free(rbac);
}

static void drop(struct rbac *rbac, const struct key *key) {
    struct kube_object *old = map_remove(rbac->objects, key_slice(key));
    if (!old)
        return;
    if (class_of(old->kind) == BINDING || class_of(old->kind) == CLUSTER_BINDING)
        drop_grants(rbac, old);
    kube_object_unref(old);
}

int rbac_put(struct rbac *rbac, struct kube_object *object) {
    enum class class = class_of(object->kind);
    struct key key;
    if (class == NO_CLASS)
        return 0;
    object_key(&key, object);
    if (!key.len)
        return 0;
    drop(rbac, &key);
    if (map_put(rbac->objects, key_slice(&key), object, NULL))
        return -ENOMEM;
    kube_object_ref(object);
    return class == BINDING || class == CLUSTER_BINDING ? add_grants(rbac, object) : 0;
}

void rbac_remove(struct rbac *rbac, const struct kube_object *object) {
    struct key key;
    if (class_of(object->kind) == NO_CLASS)
        return;
    object_key(&key, object);
    if (key.len)
        drop(rbac, &key);
}

/* --- asking --- */

const struct kube_policy_rule_array *rbac_rules(const struct rbac *rbac, const struct kube_role_ref *ref, const char *namespace) {
    struct key key;
    bool cluster = !strcmp(text(ref->kind), "ClusterRole");
    if (!cluster && (strcmp(text(ref->kind), "Role") || !*text(namespace)))
        return NULL;
    key_set(&key, cluster ? CLUSTER_ROLE : ROLE, text(ref->name), cluster ? "" : namespace);
    const struct kube_object *role = key.len ? map_find(rbac->objects, key_slice(&key)) : NULL;
    if (!role)
        return NULL;
    return cluster ? &role->cluster_role->rules : &role->role->rules;
}

static bool visit_key(const struct rbac *rbac, const struct key *key, rbac_visit_fn *visit, void *userdata) {
    const struct grants *grants = key->len ? map_find(rbac->grants, key_slice(key)) : NULL;
    for (size_t i = 0; grants && i < grants->list.count; i++) {
        const struct rbac_grant *grant = &grants->list.items[i];
        const struct kube_policy_rule_array *rules = rbac_rules(rbac, ref_of(grant->binding), text(grant->binding->metadata->namespace));
        if (!rules && !visit(userdata, grant, NULL))
            return false;
        for (size_t j = 0; rules && j < rules->count; j++)
            if (!visit(userdata, grant, &rules->items[j]))
                return false;
    }
    return true;
}

static bool visit_in(const struct rbac *rbac, const struct api_user *user, const char *namespace, rbac_visit_fn *visit, void *userdata) {
    struct key key;
    key_set(&key, 'u', user->name, namespace);
    if (!visit_key(rbac, &key, visit, userdata))
        return false;
    for (size_t i = 0; user->groups[i]; i++) {
        key_set(&key, 'g', user->groups[i], namespace);
        if (!visit_key(rbac, &key, visit, userdata))
            return false;
    }
    return true;
}

bool rbac_visit(const struct rbac *rbac, const struct api_user *user, const char *namespace, rbac_visit_fn *visit, void *userdata) {
    if (!visit_in(rbac, user, "", visit, userdata))
        return false;
    return !namespace || !*namespace || visit_in(rbac, user, namespace, visit, userdata);
}

static bool path_matches(const struct kube_string_list *patterns, const char *path) {
    for (size_t i = 0; i < patterns->count; i++) {
        struct slice pattern = slice_of(patterns->items[i]);
        if (slice_ends(pattern, SLICE("*")) ? slice_starts(slice_of(path), slice_head(pattern, pattern.len - 1)) : slice_is(pattern, path))
            return true;
    }
    return false;
}

/* "pods", "pods/log", "*", and "*" + "/scale" for the subresource of whatever. */
static bool resource_matches(const struct kube_string_list *resources, const char *resource, const char *subresource) {
    size_t len = strlen(resource);
    for (size_t i = 0; i < resources->count; i++) {
        const char *item = resources->items[i];
        if (!strcmp(item, "*"))
            return true;
        if (!*subresource ? !strcmp(item, resource) : !strncmp(item, resource, len) && item[len] == '/' && !strcmp(item + len + 1, subresource))
            return true;
        if (*subresource && !strncmp(item, "*/", 2) && !strcmp(item + 2, subresource))
            return true;
    }
    return false;
}

bool rbac_rule_allows(const struct kube_policy_rule *rule, const struct api_access *access) {
    if (!rbac_list_covers(&rule->verbs, access->verb))
        return false;
    if (access->path)
        return path_matches(&rule->non_resource_urls, access->path);
    return rbac_list_covers(&rule->api_groups, text(access->group)) &&
           resource_matches(&rule->resources, text(access->resource), text(access->subresource)) &&
           (!rule->resource_names.count || kube_strings_has(&rule->resource_names, text(access->name)));
}

void rbac_describe(const struct rbac_grant *grant, char *ret, size_t size) {
    const struct kube_object *binding = grant->binding;
    const struct kube_role_ref *ref = ref_of(binding);
    const struct kube_subject *subject = &subjects_of(binding)->items[grant->subject];
    const char *namespace = text(binding->metadata->namespace);
    bool account = !strcmp(text(subject->kind), "ServiceAccount");
    snprintf(ret, size, "%s \"%.253s%s%s\" of %s \"%.253s\" to %s \"%.253s%s%s\"", binding->kind->kind, text(binding->metadata->name),
             *namespace ? "/" : "", namespace, text(ref->kind), text(ref->name), text(subject->kind), text(subject->name), account ? "/" : "",
             !account                                    ? ""
             : subject->namespace && *subject->namespace ? subject->namespace
                                                         : namespace);
}
