/* Certificate signing requests: who may say what about one (upstream: registry/certificates, admission CertificateApproval, CertificateSigning,
 * CertificateSubjectRestriction).
 *
 *   create            the request is read and checked; who asks is stamped into its spec by the server; the spec then never changes
 *   /approval         conditions, Approved and Denied among them, needs the verb `approve` on the signer
 *   /status           the certificate, and conditions but for decisions; needs the verb `sign` on the signer
 *
 * Signing itself is core's (it has the key), when control/certificate.c finds an approved request. */
#include "api/admission_priv.h"

#include <stdio.h>

#define GROUP "certificates.k8s.io"
#define CLIENT_SIGNER "kubernetes.io/kube-apiserver-client"
#define SECONDS_MIN 600

static const char *text(const char *value) {
    return value ? value : "";
}

/* --- create --- */

static int stamp(struct kube_object *object, const struct api_user *user) {
    struct kube_certificate_signing_request_spec *spec = &object->certificate_signing_request->spec;
    struct arena *arena = object->arena;
    size_t count = 0;
    while (user->groups[count])
        count++;
    spec->username = arena_strdup(arena, user->name);
    spec->uid = user->uid ? arena_strdup(arena, user->uid) : NULL;
    spec->groups = (struct kube_string_list){ARENA_ARRAY(arena, const char *, count + 1), count};
    spec->extra = (struct kube_strings_map){ARENA_ARRAY(arena, struct kube_strings_pair, user->extra.count + 1), user->extra.count};
    if (!spec->username || !spec->groups.items || !spec->extra.items)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++)
        if (!(spec->groups.items[i] = arena_strdup(arena, user->groups[i])))
            return -ENOMEM;
    for (size_t i = 0; i < user->extra.count; i++) {
        const struct kube_string_list *from = &user->extra.items[i].value;
        struct kube_strings_pair *to = &spec->extra.items[i];
        to->key = arena_strdup(arena, user->extra.items[i].key);
        to->value = (struct kube_string_list){ARENA_ARRAY(arena, const char *, from->count + 1), from->count};
        for (size_t j = 0; to->key && to->value.items && j < from->count; j++)
            to->value.items[j] = arena_strdup(arena, from->items[j]);
        if (!to->key || !to->value.items)
            return -ENOMEM;
    }
    return 0;
}

static int check_signer(const struct kube_object *object, struct api_failure *failure) {
    const char *signer = text(object->certificate_signing_request->spec.signer_name), *slash = strchr(signer, '/');
    if (!*signer)
        return api_fail_field(failure, object, "FieldValueRequired", "spec.signerName", "Required value");
    if (!slash || !slash[1] || !name_is_dns_subdomain(slice_make(signer, (size_t)(slash - signer))))
        return api_fail_field(failure, object, "FieldValueInvalid", "spec.signerName",
                              "Invalid value: \"%.200s\": must be a fully qualified domain and path of the form 'example.com/signer-name'", signer);
    if (!strcmp(signer, "kubernetes.io/legacy-unknown"))
        return api_fail_field(failure, object, "FieldValueInvalid", "spec.signerName",
                              "Invalid value: \"%s\": the legacy signerName is not allowed via this API version", signer);
    return 0;
}

static int check_usages(const struct kube_object *object, struct api_failure *failure) {
    static const char *const known[] = {"signing",
                                        "digital signature",
                                        "content commitment",
                                        "key encipherment",
                                        "key agreement",
                                        "data encipherment",
                                        "cert sign",
                                        "crl sign",
                                        "encipher only",
                                        "decipher only",
                                        "any",
                                        "server auth",
                                        "client auth",
                                        "code signing",
                                        "email protection",
                                        "s/mime",
                                        "ipsec end system",
                                        "ipsec tunnel",
                                        "ipsec user",
                                        "timestamping",
                                        "ocsp signing",
                                        "microsoft sgc",
                                        "netscape sgc"};
    const struct kube_string_list *usages = &object->certificate_signing_request->spec.usages;
    char field[60];
    if (!usages->count)
        return api_fail_field(failure, object, "FieldValueRequired", "spec.usages", "Required value");
    for (size_t i = 0; i < usages->count; i++) {
        size_t at = 0;
        while (at < ARRAY_LEN(known) && strcmp(known[at], usages->items[i]))
            at++;
        snprintf(field, sizeof field, "spec.usages[%zu]", i);
        if (at == ARRAY_LEN(known))
            return api_fail_field(failure, object, "FieldValueNotSupported", field, "Unsupported value: \"%.100s\"", usages->items[i]);
        for (size_t j = 0; j < i; j++)
            if (!strcmp(usages->items[j], usages->items[i]))
                return api_fail_field(failure, object, "FieldValueDuplicate", field, "Duplicate value: \"%.100s\"", usages->items[i]);
    }
    return 0;
}

static int check_request(const struct kube_object *object, struct api_failure *failure) {
    const struct kube_certificate_signing_request_spec *spec = &object->certificate_signing_request->spec;
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    struct csr csr;
    const char *why = "";
    int error = arena ? csr_parse(arena, spec->request, &csr, &why) : -ENOMEM;
    if (error == -ENOMEM)
        return api_fail_no_memory(failure);
    if (error)
        return api_fail_field(failure, object, "FieldValueInvalid", "spec.request", "Invalid value: %s", why);
    for (const char **organization = csr.organizations; *organization; organization++)
        if (!strcmp(*organization, "system:masters") && !strcmp(text(spec->signer_name), CLIENT_SIGNER))
            return api_fail_forbidden(failure, object->kind, object->metadata->name,
                                      "use of " CLIENT_SIGNER " signer with system:masters group is not allowed");
    return 0;
}

static int check_created(const struct admission *admission) {
    const struct kube_object *object = admission->object;
    const int32_t *seconds = object->certificate_signing_request->spec.expiration_seconds;
    int code = check_request(object, admission->failure);
    code = code ? code : check_signer(object, admission->failure);
    code = code ? code : check_usages(object, admission->failure);
    if (!code && seconds && *seconds < SECONDS_MIN)
        code = api_fail_field(admission->failure, object, "FieldValueInvalid", "spec.expirationSeconds",
                              "Invalid value: %d: may not specify a duration less than 600 seconds (10 minutes)", *seconds);
    return code;
}

/* --- update --- */

static bool is_decision(const struct kube_certificate_signing_request_condition *condition) {
    return !strcmp(text(condition->type), "Approved") || !strcmp(text(condition->type), "Denied");
}

typedef struct kube_certificate_signing_request_condition_array conditions;

static const struct kube_certificate_signing_request_condition *find(const conditions *list, const char *type) {
    for (size_t i = 0; i < list->count; i++)
        if (!strcmp(text(list->items[i].type), type))
            return &list->items[i];
    return NULL;
}

/* Decisions belong to /approval: one that /status names again stays as it was made (and check_conditions refuses more or fewer of them). */
static int keep_decisions(struct kube_object *object, const struct kube_object *old) {
    conditions *list = &object->certificate_signing_request->status.conditions;
    for (size_t i = 0; i < list->count; i++) {
        const struct kube_certificate_signing_request_condition *made =
            is_decision(&list->items[i]) ? find(&old->certificate_signing_request->status.conditions, list->items[i].type) : NULL;
        if (made && kube_copy(&kube_certificate_signing_request_condition_type, object->arena, made, &list->items[i]))
            return -ENOMEM;
    }
    return 0;
}

/* /approval writes conditions, and nothing else of the status. */
static int keep_certificate(struct kube_object *object, const struct kube_object *old) {
    struct slice certificate = old->certificate_signing_request->status.certificate;
    char *copy = certificate.len ? arena_dup(object->arena, certificate) : NULL;
    object->certificate_signing_request->status.certificate = slice_make(copy, copy ? certificate.len : 0);
    return certificate.len && !copy ? -ENOMEM : 0;
}

/* Times that the writer left out; a condition that only says again what it said keeps the time of its last transition. */
static void set_times(struct kube_object *object, const struct kube_object *old, int64_t now_ns) {
    conditions *list = &object->certificate_signing_request->status.conditions;
    const struct kube_time now = {.ns = now_ns / 1000000000 * 1000000000, .set = true};
    for (size_t i = 0; i < list->count; i++) {
        struct kube_certificate_signing_request_condition *at = &list->items[i];
        const struct kube_certificate_signing_request_condition *before =
            old ? find(&old->certificate_signing_request->status.conditions, text(at->type)) : NULL;
        if (!at->last_update_time.set)
            at->last_update_time = now;
        if (!at->last_transition_time.set)
            at->last_transition_time = before && !strcmp(text(before->status), text(at->status)) ? before->last_transition_time : now;
    }
}

static int check_condition(const struct kube_object *object, size_t index, struct api_failure *failure) {
    const conditions *list = &object->certificate_signing_request->status.conditions;
    const struct kube_certificate_signing_request_condition *at = &list->items[index];
    bool true_only = is_decision(at) || !strcmp(text(at->type), "Failed"), is_true = !strcmp(text(at->status), "True");
    char type[60], status[60];
    snprintf(type, sizeof type, "status.conditions[%zu].type", index);
    snprintf(status, sizeof status, "status.conditions[%zu].status", index);
    if (!*text(at->type))
        return api_fail_field(failure, object, "FieldValueRequired", type, "Required value");
    if (!*text(at->status))
        return api_fail_field(failure, object, "FieldValueRequired", status, "Required value");
    if (!is_true && (true_only || (strcmp(at->status, "False") && strcmp(at->status, "Unknown"))))
        return api_fail_field(failure, object, "FieldValueNotSupported", status, "Unsupported value: \"%.40s\": supported values: %s", at->status,
                              true_only ? "\"True\"" : "\"False\", \"True\", \"Unknown\"");
    for (size_t i = 0; i < index; i++) {
        if (is_decision(at) && is_decision(&list->items[i]) && strcmp(at->type, list->items[i].type))
            return api_fail_field(failure, object, "FieldValueInvalid", type,
                                  "Invalid value: \"%s\": Approved and Denied conditions are mutually exclusive", at->type);
        if (!strcmp(at->type, list->items[i].type))
            return api_fail_field(failure, object, "FieldValueDuplicate", type, "Duplicate value: \"%.100s\"", at->type);
    }
    return 0;
}

static int check_conditions(const struct kube_object *object, const struct kube_object *old, bool approval, struct api_failure *failure) {
    static const char *const kept[] = {"Approved", "Denied", "Failed"};
    const struct kube_certificate_signing_request_status *status = &object->certificate_signing_request->status,
                                                         *before = &old->certificate_signing_request->status;
    for (size_t i = 0; i < status->conditions.count; i++) {
        int code = check_condition(object, i, failure);
        if (code)
            return code;
        if (!approval && is_decision(&status->conditions.items[i]) && !find(&before->conditions, status->conditions.items[i].type))
            return api_fail_field(failure, object, "FieldValueForbidden", "status.conditions",
                                  "Forbidden: updates may not add a condition of type \"%s\"", status->conditions.items[i].type);
    }
    for (size_t i = 0; i < ARRAY_LEN(kept); i++)
        if (find(&before->conditions, kept[i]) && !find(&status->conditions, kept[i]))
            return api_fail_field(failure, object, "FieldValueForbidden", "status.conditions",
                                  "Forbidden: updates may not remove a condition of type \"%s\"", kept[i]);
    if (before->certificate.len && !slice_equal(before->certificate, status->certificate))
        return api_fail_field(failure, object, "FieldValueForbidden", "status.certificate",
                              "Forbidden: updates may not modify existing certificate content");
    return 0;
}

/* The verb on the signer itself or on all of its domain. */
static bool may(struct api *api, const struct api_user *user, const char *verb, const char *signer) {
    char domain[300];
    snprintf(domain, sizeof domain, "%.*s/*", (int)strcspn(signer, "/"), signer);
    const char *const names[] = {signer, domain};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const struct api_access access = {.verb = verb, .group = GROUP, .resource = "signers", .name = names[i]};
        if (api_authorize(api, user, &access, NULL))
            return true;
    }
    return false;
}

static int carry_spec(struct kube_object *object, const struct kube_object *old) {
    return kube_copy(&kube_certificate_signing_request_spec_type, object->arena, &old->certificate_signing_request->spec,
                     &object->certificate_signing_request->spec);
}

static int check_rights(const struct admission *admission) {
    const struct kube_object *object = admission->object, *old = admission->old;
    const struct kube_certificate_signing_request_status *status = &object->certificate_signing_request->status,
                                                         *before = &old->certificate_signing_request->status;
    const char *signer = text(old->certificate_signing_request->spec.signer_name);
    bool approves = !strcmp(admission->subresource, "approval");
    bool signs = !approves && (!slice_equal(status->certificate, before->certificate) ||
                               (find(&status->conditions, "Failed") && !find(&before->conditions, "Failed")));
    if (!admission->user || (!approves && !signs) || may(admission->api, admission->user, approves ? "approve" : "sign", signer))
        return 0;
    return api_fail_forbidden(admission->failure, object->kind, object->metadata->name, "user not permitted to %s requests with signerName \"%s\"",
                              approves ? "approve" : "sign", signer);
}

/* --- the plug-ins --- */

int admit_certificate(struct admission *admission) {
    struct kube_object *object = admission->object;
    int error = 0;
    if (admission->operation == ADMIT_CREATE)
        error = admission->user ? stamp(object, admission->user) : 0;
    else
        error = carry_spec(object, admission->old);
    if (!error && !strcmp(admission->subresource, "approval"))
        error = keep_certificate(object, admission->old);
    else if (!error && *admission->subresource)
        error = keep_decisions(object, admission->old);
    set_times(object, admission->old, loop_wall_ns(admission->api->loop));
    return error ? admission_no_memory(admission) : 0;
}

int admit_certificate_rights(struct admission *admission) {
    if (admission->operation == ADMIT_CREATE)
        return check_created(admission);
    int code = *admission->subresource ? check_rights(admission) : 0;
    return code ? code : check_conditions(admission->object, admission->old, !strcmp(admission->subresource, "approval"), admission->failure);
}
