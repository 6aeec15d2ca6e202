/* What the server itself decides about an object beyond defaults and validation of its fields: a table of plug-ins, in their order, by kind. Every
 * write passes here, those of controllers as those over HTTP.
 *
 *   defaults → ADMIT_MUTATE → validation of fields → ADMIT_VALIDATE → ADMIT_TAKE → store → api_admitted
 *
 * 1. All of it happens in one turn of the loop and looks at the newest accepted state, so that what is checked is still so when it is written.
 * 2. A plug-in that takes something (an address, a port) marks it; whoever then fails gives it back (api_numbers_…, in write.c).
 * 3. The order is that of Kubernetes' own plug-ins; a line that does not fit the kind, the operation or the subresource costs a comparison. */
#include "api/admission_priv.h"

#include <stdarg.h>
#include <stdio.h>

#define CREATE_UPDATE (ADMIT_CREATE | ADMIT_UPDATE)

static const struct plugin {
    enum admission_phase phase;
    const struct kube_kind *kind; /* NULL: any */
    unsigned operations;
    const char *subresource; /* NULL: the object itself only */
    int (*admit)(struct admission *admission);
} plugins[] = {
    {ADMIT_MUTATE, NULL, ADMIT_CREATE, NULL, admit_lifecycle},
    {ADMIT_MUTATE, &kube_kind_namespace, CREATE_UPDATE, NULL, admit_namespace},
    {ADMIT_MUTATE, &kube_kind_pod, ADMIT_CREATE, NULL, admit_limit_ranges},
    {ADMIT_MUTATE, &kube_kind_pod, ADMIT_CREATE, NULL, admit_service_account},
    {ADMIT_MUTATE, &kube_kind_pod, ADMIT_CREATE, NULL, admit_priority},
    {ADMIT_MUTATE, &kube_kind_pod, ADMIT_CREATE, NULL, admit_tolerations},
    {ADMIT_MUTATE, &kube_kind_persistent_volume_claim, ADMIT_CREATE, NULL, admit_storage_class},
    {ADMIT_MUTATE, &kube_kind_persistent_volume_claim, ADMIT_CREATE, NULL, admit_storage_finalizer},
    {ADMIT_MUTATE, &kube_kind_persistent_volume, ADMIT_CREATE, NULL, admit_storage_finalizer},
    {ADMIT_MUTATE, &kube_kind_pod, ADMIT_CREATE, NULL, admit_runtime_class},
    {ADMIT_MUTATE, &kube_kind_ingress, ADMIT_CREATE, NULL, admit_ingress_class},
    {ADMIT_MUTATE, &kube_kind_pod, ADMIT_CREATE, NULL, admit_pod},
    {ADMIT_MUTATE, &kube_kind_job, ADMIT_CREATE, NULL, admit_job},
    {ADMIT_MUTATE, &kube_kind_secret, CREATE_UPDATE, NULL, admit_secret},
    {ADMIT_MUTATE, &kube_kind_service, CREATE_UPDATE, NULL, admit_service},
    {ADMIT_MUTATE, &kube_kind_certificate_signing_request, CREATE_UPDATE, NULL, admit_certificate},
    {ADMIT_MUTATE, &kube_kind_certificate_signing_request, ADMIT_UPDATE, "status", admit_certificate},
    {ADMIT_MUTATE, &kube_kind_certificate_signing_request, ADMIT_UPDATE, "approval", admit_certificate},
    {ADMIT_VALIDATE, &kube_kind_certificate_signing_request, CREATE_UPDATE, NULL, admit_certificate_rights},
    {ADMIT_VALIDATE, &kube_kind_certificate_signing_request, ADMIT_UPDATE, "status", admit_certificate_rights},
    {ADMIT_VALIDATE, &kube_kind_certificate_signing_request, ADMIT_UPDATE, "approval", admit_certificate_rights},
    {ADMIT_VALIDATE, &kube_kind_role, CREATE_UPDATE, NULL, admit_roles},
    {ADMIT_VALIDATE, &kube_kind_cluster_role, CREATE_UPDATE, NULL, admit_roles},
    {ADMIT_VALIDATE, &kube_kind_role_binding, CREATE_UPDATE, NULL, admit_roles},
    {ADMIT_VALIDATE, &kube_kind_cluster_role_binding, CREATE_UPDATE, NULL, admit_roles},
    {ADMIT_MUTATE, &kube_kind_custom_resource_definition, CREATE_UPDATE, NULL, admit_custom_definition},
    {ADMIT_MUTATE, NULL, ADMIT_CREATE, NULL, admit_custom_object},
    {ADMIT_VALIDATE, &kube_kind_pod, ADMIT_CREATE, NULL, admit_limits},
    {ADMIT_VALIDATE, &kube_kind_pod, ADMIT_UPDATE, "resize", admit_limits},
    {ADMIT_VALIDATE, &kube_kind_persistent_volume_claim, CREATE_UPDATE, NULL, admit_limits},
    {ADMIT_VALIDATE, &kube_kind_namespace, CREATE_UPDATE, NULL, admit_pod_security_labels},
    {ADMIT_VALIDATE, NULL, CREATE_UPDATE, NULL, admit_pod_security},
    {ADMIT_VALIDATE, &kube_kind_pod, ADMIT_UPDATE, "ephemeralcontainers", admit_pod_security},
    {ADMIT_VALIDATE, &kube_kind_priority_class, CREATE_UPDATE, NULL, admit_priority_class},
    {ADMIT_VALIDATE, &kube_kind_persistent_volume_claim, ADMIT_UPDATE, NULL, admit_resize},
    {ADMIT_VALIDATE, &kube_kind_validating_admission_policy, CREATE_UPDATE, NULL, admit_policy},
    {ADMIT_VALIDATE, &kube_kind_cron_job, CREATE_UPDATE, NULL, admit_cron_job},
    {ADMIT_VALIDATE, &kube_kind_api_service, CREATE_UPDATE, NULL, admit_api_service},
    {ADMIT_VALIDATE, &kube_kind_mutating_webhook_configuration, CREATE_UPDATE, NULL, admit_webhooks},
    {ADMIT_VALIDATE, &kube_kind_validating_webhook_configuration, CREATE_UPDATE, NULL, admit_webhooks},
    {ADMIT_VALIDATE, NULL, CREATE_UPDATE, NULL, admit_quota},
    {ADMIT_VALIDATE, &kube_kind_pod, ADMIT_UPDATE, "resize", admit_quota},
    {ADMIT_TAKE, &kube_kind_service, CREATE_UPDATE, NULL, admit_service_numbers},
};

static bool fits(const struct plugin *plugin, const struct admission *admission, enum admission_phase phase) {
    return plugin->phase == phase && (!plugin->kind || plugin->kind == admission->object->kind) && plugin->operations & admission->operation &&
           text_equal(plugin->subresource, admission->subresource);
}

int api_admit(struct admission *admission, enum admission_phase phase) {
    for (size_t i = 0; i < ARRAY_LEN(plugins); i++) {
        int code = fits(&plugins[i], admission, phase) ? plugins[i].admit(admission) : 0;
        if (code)
            return code;
    }
    return 0;
}

void api_admitted(struct admission *admission) {
    if (admission->operation != ADMIT_DELETE && (text_equal(admission->subresource, "") || text_equal(admission->subresource, "resize")))
        charge_quota(admission);
}

/* --- for plug-ins --- */

void admission_warn(struct admission *admission, const char *format, ...) {
    if (!admission->reader)
        return;
    va_list args;
    va_start(args, format);
    const char *text = arena_vprintf(admission->reader->arena, format, args);
    va_end(args);
    for (size_t i = 0; text && i < admission->reader->warnings.count; i++)
        if (!strcmp(admission->reader->warnings.items[i], text))
            return; /* a write that webhooks are asked about is checked more than once */
    if (text)
        VECTOR_PUSH(&admission->reader->warnings, text);
}

int admission_forbid(struct admission *admission, const char *format, ...) {
    char why[3800];
    const struct kube_object_meta *metadata = admission->object->metadata;
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    return api_fail_forbidden(admission->failure, admission->object->kind, metadata->name ? metadata->name : metadata->generate_name, "%s", why);
}

int admission_no_memory(struct admission *admission) {
    return api_fail_no_memory(admission->failure);
}

struct walk {
    struct api *api;
    bool (*each)(void *userdata, const struct kube_object *object);
    void *userdata;
};

static bool walk_one(void *userdata, struct store_object *stored) {
    const struct walk *walk = userdata;
    const struct kube_object *object = api_decode(walk->api, stored);
    return object ? walk->each(walk->userdata, object) : true;
}

void admission_list(struct admission *admission, const struct kube_kind *kind, const char *namespace,
                    bool (*each)(void *userdata, const struct kube_object *object), void *userdata) {
    struct walk walk = {admission->api, each, userdata};
    struct slice none = {NULL, 0};
    store_list(admission->api->store, api_kind_slice(kind), namespace ? slice_of(namespace) : none, none, none, walk_one, &walk);
}

struct default_class {
    const char *const *marks;
    const struct kube_object *newest; /* borrowed within the turn */
};

static bool keep_newest(void *userdata, const struct kube_object *object) {
    struct default_class *wanted = userdata;
    bool is_default = false;
    for (const char *const *mark = wanted->marks; *mark; mark++)
        is_default |= text_equal(kube_map_find(&object->metadata->annotations, *mark), "true");
    if (is_default && (!wanted->newest || object->metadata->creation_timestamp.ns > wanted->newest->metadata->creation_timestamp.ns))
        wanted->newest = object;
    return true;
}

int admission_default_class(struct admission *admission, const struct kube_kind *kind, const char *const *marks, const char **name) {
    struct default_class wanted = {.marks = marks};
    admission_list(admission, kind, NULL, keep_newest, &wanted);
    if (wanted.newest && !(*name = arena_strdup(admission->object->arena, wanted.newest->metadata->name)))
        return admission_no_memory(admission);
    return 0;
}
