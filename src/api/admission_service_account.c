/* ServiceAccount: every pod runs as an account that exists, "default" when it names none, and inherits the account's imagePullSecrets. Unless the pod
 * or the account does not want it, its token comes with the cluster's authority and the pod's namespace as a projected volume that every container
 * finds where client libraries look. */
#include "api/admission_priv.h"

#include "sys/sys.h"

#define MOUNT_PATH "/var/run/secrets/kubernetes.io/serviceaccount"

#define ENFORCE "kubernetes.io/enforce-mountable-secrets"

static bool has_name(const struct kube_local_object_reference_array *list, const char *name) {
    for (size_t i = 0; i < list->count; i++)
        if (text_equal(list->items[i].name, name))
            return true;
    return false;
}

static bool may_mount(const struct kube_service_account *account, const char *name) {
    for (size_t i = 0; i < account->secrets.count; i++)
        if (text_equal(account->secrets.items[i].name, name))
            return true;
    return false;
}

/* Of an account that says so: only the secrets it names. */
static int check_secrets(struct admission *admission, const struct kube_service_account *account) {
    const struct kube_pod_spec *spec = &admission->object->pod->spec;
    const char *of = account->metadata.name;
    for (size_t i = 0; i < spec->volumes.count; i++) {
        const struct kube_secret_volume_source *secret = spec->volumes.items[i].secret;
        if (secret && !may_mount(account, secret->secret_name))
            return admission_forbid(admission,
                                    "volume with secret.secretName=\"%s\" is not allowed because service account %s does not reference that secret",
                                    secret->secret_name, of);
    }
    const struct kube_container_array *const lists[] = {&spec->init_containers, &spec->containers};
    for (size_t l = 0; l < ARRAY_LEN(lists); l++)
        for (size_t i = 0; i < lists[l]->count; i++) {
            const struct kube_container *container = &lists[l]->items[i];
            for (size_t e = 0; e < container->env.count; e++) {
                const struct kube_env_var *variable = &container->env.items[e];
                const struct kube_secret_key_selector *key = variable->value_from ? variable->value_from->secret_key_ref : NULL;
                if (key && !may_mount(account, key->name))
                    return admission_forbid(admission,
                                            "%s %s with envVar %s referencing secret.secretName=\"%s\" is not allowed because service account %s "
                                            "does not reference that secret",
                                            l ? "container" : "init container", container->name, variable->name, key->name, of);
            }
        }
    for (size_t i = 0; i < spec->image_pull_secrets.count; i++)
        if (!has_name(&account->image_pull_secrets, spec->image_pull_secrets.items[i].name))
            return admission_forbid(
                admission, "imagePullSecrets[%zu].name=\"%s\" is not allowed because service account %s does not reference that imagePullSecret", i,
                spec->image_pull_secrets.items[i].name, of);
    return 0;
}

static int copy_pull_secrets(struct kube_object *object, const struct kube_local_object_reference_array *from) {
    struct kube_local_object_reference_array *to = &object->pod->spec.image_pull_secrets;
    if (to->count || !from->count)
        return 0;
    to->items = ARENA_ARRAY(object->arena, struct kube_local_object_reference, from->count);
    if (!to->items)
        return -ENOMEM;
    to->count = from->count;
    for (size_t i = 0; i < from->count; i++)
        if (kube_copy(&kube_local_object_reference_type, object->arena, &from->items[i], &to->items[i]))
            return -ENOMEM;
    return 0;
}

/* --- the token's volume --- */

static bool wants_token(const struct kube_pod_spec *spec, const struct kube_service_account *account) {
    const bool *own = spec->automount_service_account_token, *of = account->automount_service_account_token;
    return own ? *own : !of || *of;
}

/* As upstream: the odd second tells that it was admission who asked. */
static const char volume_json[] =
    "{\"defaultMode\":420,\"sources\":[{\"serviceAccountToken\":{\"expirationSeconds\":3607,\"path\":\"token\"}},"
    "{\"configMap\":{\"name\":\"kube-root-ca.crt\",\"items\":[{\"key\":\"ca.crt\",\"path\":\"ca.crt\"}]}},"
    "{\"downwardAPI\":{\"items\":[{\"path\":\"namespace\",\"fieldRef\":{\"apiVersion\":\"v1\",\"fieldPath\":\"metadata.namespace\"}}]}}]}";

static int add_volume(struct kube_object *object, const char *name) {
    struct kube_volume_array *list = &object->pod->spec.volumes;
    struct kube_volume *items = ARENA_ARRAY(object->arena, struct kube_volume, list->count + 1);
    struct tree *tree = NULL;
    struct diag diag = DIAG_INIT;
    if (!items || json_parse(object->arena, SLICE(volume_json), NULL, &tree, &diag))
        return -ENOMEM;
    if (list->count)
        memcpy(items, list->items, list->count * sizeof *items);
    struct kube_volume *added = &items[list->count];
    added->name = name;
    added->projected = ARENA_NEW(object->arena, struct kube_projected_volume_source);
    if (!added->projected || kube_decode_part(&kube_projected_volume_source_type, tree, object->arena, added->projected, &diag))
        return -ENOMEM;
    *list = (struct kube_volume_array){items, list->count + 1};
    return 0;
}

static bool mounts_at(const struct kube_container *container, const char *path) {
    for (size_t i = 0; i < container->volume_mounts.count; i++)
        if (text_equal(container->volume_mounts.items[i].mount_path, path))
            return true;
    return false;
}

static int add_mount(struct kube_object *object, struct kube_container *container, const char *volume) {
    struct kube_volume_mount_array *list = &container->volume_mounts;
    struct kube_volume_mount *items = ARENA_ARRAY(object->arena, struct kube_volume_mount, list->count + 1);
    if (!items)
        return -ENOMEM;
    if (list->count)
        memcpy(items, list->items, list->count * sizeof *items);
    items[list->count] = (struct kube_volume_mount){.name = volume, .read_only = true, .mount_path = MOUNT_PATH};
    *list = (struct kube_volume_mount_array){items, list->count + 1};
    return 0;
}

static int mount_token(struct kube_object *object) {
    struct kube_pod_spec *spec = &object->pod->spec;
    struct kube_container_array *const lists[] = {&spec->init_containers, &spec->containers};
    const char *volume = NULL;
    char suffix[6];
    for (size_t i = 0; i < spec->volumes.count && !volume; i++)
        if (slice_starts(slice_of(spec->volumes.items[i].name), SLICE("kube-api-access-")))
            volume = spec->volumes.items[i].name;
    bool there = volume != NULL, used = false;
    sys_random_name(suffix, sizeof suffix - 1);
    if (!there && !(volume = arena_printf(object->arena, "kube-api-access-%s", suffix)))
        return -ENOMEM;
    for (size_t l = 0; l < ARRAY_LEN(lists); l++)
        for (size_t i = 0; i < lists[l]->count; i++) {
            if (mounts_at(&lists[l]->items[i], MOUNT_PATH))
                continue;
            used = true;
            if (add_mount(object, &lists[l]->items[i], volume))
                return -ENOMEM;
        }
    return used && !there ? add_volume(object, volume) : 0;
}

int admit_service_account(struct admission *admission) {
    struct kube_object *object = admission->object;
    struct kube_pod_spec *spec = &object->pod->spec;
    if (!spec->service_account_name || !*spec->service_account_name)
        spec->service_account_name = "default";
    spec->service_account = spec->service_account_name;
    CLEANUP(kube_object_unrefp) struct kube_object *found = NULL;
    const char *namespace = object->metadata->namespace, *name = spec->service_account_name;
    int code = api_stored_find(admission->api, &kube_kind_service_account, namespace, name, &found, admission->failure);
    if (code == 404)
        return admission_forbid(admission, "error looking up service account %s/%s: serviceaccount \"%s\" not found", namespace, name, name);
    if (code)
        return code;
    const struct kube_service_account *account = found->service_account;
    const char *enforce = kube_map_find(&account->metadata.annotations, ENFORCE);
    if (enforce && !strcmp(enforce, "true"))
        code = check_secrets(admission, account);
    if (!code && wants_token(spec, account) && mount_token(object))
        code = admission_no_memory(admission);
    if (!code && copy_pull_secrets(object, &account->image_pull_secrets))
        code = admission_no_memory(admission);
    return code;
}
