/* ServiceAccount: every pod runs as an account that exists, "default" when it names none, and inherits the account's imagePullSecrets. */
#include "api/admission_priv.h"

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
    if (!code && copy_pull_secrets(object, &account->image_pull_secrets))
        code = admission_no_memory(admission);
    return code;
}
