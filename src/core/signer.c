/* What needs the authority's keys, for the controllers: the certificate of an approved signing request, the token of a service account's secret. An
 * object comes in as the controller wants it written, and goes out complete.
 *
 * Each signer has its own idea of whom it vouches for (upstream: pkg/controller/certificates/signer, apis/certificates/helpers):
 *
 *   kube-apiserver-client            a user: any subject; client usages
 *   kube-apiserver-client-kubelet    a node as a client: O=system:nodes, CN=system:node:…, no other names; client usages
 *   kubelet-serving                  a node as a server: the same subject, DNS names or addresses; server usages
 *
 * What does not fit gets the condition Failed, with the reason. */
#include "core/core_priv.h"

#include <stdio.h>

#define DURATION_S (INT64_C(365) * 86400) /* of a certificate whose request names none; never more */
#define BEGIN_EARLIER_S 300
#define CLIENT_USAGES (CSR_CLIENT_AUTH | CSR_DIGITAL_SIGNATURE | CSR_KEY_ENCIPHERMENT)
#define SERVER_USAGES (CSR_SERVER_AUTH | CSR_DIGITAL_SIGNATURE | CSR_KEY_ENCIPHERMENT)

static const struct profile {
    const char *signer;
    unsigned usages, needed; /* which may be asked for, and must be */
    bool node, named;        /* the subject is a node's; it has DNS names or addresses (otherwise: of a node's none at all) */
} profiles[] = {
    {"kubernetes.io/kube-apiserver-client", CLIENT_USAGES, CSR_CLIENT_AUTH, false, false},
    {"kubernetes.io/kube-apiserver-client-kubelet", CLIENT_USAGES, CSR_CLIENT_AUTH, true, false},
    {"kubernetes.io/kubelet-serving", SERVER_USAGES, CSR_SERVER_AUTH, true, true},
};

static const struct profile *profile_of(const char *signer) {
    for (size_t i = 0; i < ARRAY_LEN(profiles); i++)
        if (signer && !strcmp(profiles[i].signer, signer))
            return &profiles[i];
    return NULL;
}

/* --- certificates --- */

/* NULL: it fits; otherwise why not. */
static const char *check_usages(const struct profile *profile, const struct kube_string_list *usages, unsigned *ret) {
    static const struct {
        const char *name;
        enum csr_usage bit;
    } names[] = {{"client auth", CSR_CLIENT_AUTH},
                 {"server auth", CSR_SERVER_AUTH},
                 {"digital signature", CSR_DIGITAL_SIGNATURE},
                 {"key encipherment", CSR_KEY_ENCIPHERMENT}};
    *ret = 0;
    for (size_t i = 0; i < usages->count; i++) {
        unsigned bit = 0;
        for (size_t j = 0; j < ARRAY_LEN(names); j++)
            if (!strcmp(names[j].name, usages->items[i]))
                bit = names[j].bit;
        if (!(bit & profile->usages))
            return "the usages are not those that this signer signs";
        *ret |= bit;
    }
    return (*ret & profile->needed) == profile->needed ? NULL : "the usages are not those that this signer signs";
}

static const char *check_names(const struct profile *profile, const struct csr *csr) {
    bool nodes = csr->organizations[0] && !strcmp(csr->organizations[0], "system:nodes") && !csr->organizations[1];
    if (!profile->node)
        return *csr->common_name ? NULL : "the subject has no common name: it would be nobody's certificate";
    if (!nodes)
        return "subject organization is not system:nodes";
    if (strncmp(csr->common_name, "system:node:", 12) != 0)
        return "subject common name does not begin with system:node:";
    if (csr->emails[0])
        return "Email subjectAltNames are not allowed";
    if (csr->uris[0])
        return "URI subjectAltNames are not allowed";
    if (profile->named)
        return csr->dns_names[0] || csr->ip_addresses[0] ? NULL : "DNS or IP subjectAltName is required";
    if (csr->dns_names[0])
        return "DNS subjectAltNames are not allowed";
    return csr->ip_addresses[0] ? "IP subjectAltNames are not allowed" : NULL;
}

static int fail(struct kube_object *object, const char *why, int64_t now_s) {
    struct kube_certificate_signing_request_condition_array *list = &object->certificate_signing_request->status.conditions;
    struct kube_certificate_signing_request_condition *items =
        ARENA_ARRAY(object->arena, struct kube_certificate_signing_request_condition, list->count + 1);
    const struct kube_time now = {.ns = now_s * 1000000000, .set = true};
    if (!items)
        return -ENOMEM;
    if (list->count)
        memcpy(items, list->items, list->count * sizeof *items);
    items[list->count] = (struct kube_certificate_signing_request_condition){.type = "Failed",
                                                                             .status = "True",
                                                                             .reason = "SignerValidationFailure",
                                                                             .message = arena_strdup(object->arena, why),
                                                                             .last_update_time = now,
                                                                             .last_transition_time = now};
    list->items = items;
    list->count++;
    return 0;
}

static int sign_request(const struct identity *identity, struct kube_object *object, int64_t now_s) {
    struct kube_certificate_signing_request *request = object->certificate_signing_request;
    const struct profile *profile = profile_of(request->spec.signer_name);
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    CLEANUP(freep) char *pem = NULL;
    struct csr csr;
    const char *why = NULL;
    unsigned usages = 0;
    if (!profile)
        return -EINVAL;
    int error = arena ? csr_parse(arena, request->spec.request, &csr, &why) : -ENOMEM;
    if (error == -ENOMEM)
        return error;
    if (!error)
        why = check_names(profile, &csr);
    if (!error && !why)
        why = check_usages(profile, &request->spec.usages, &usages);
    if (why)
        return fail(object, why, now_s);
    int64_t seconds = request->spec.expiration_seconds ? MIN(*request->spec.expiration_seconds, DURATION_S) : DURATION_S;
    const struct csr_signing signing = {.usages = usages, .begin_s = now_s - BEGIN_EARLIER_S, .end_s = now_s + seconds};
    error = csr_sign(identity_pair(identity), request->spec.request, &signing, &pem);
    if (error)
        return error == -ENOMEM ? error : fail(object, "the request could not be signed", now_s);
    char *copy = arena_strdup(object->arena, pem);
    request->status.certificate = slice_of(copy);
    return copy ? 0 : -ENOMEM;
}

/* --- tokens --- */

static int set_data(struct kube_object *secret, const char *const keys[3], const struct slice values[3]) {
    struct kube_bytes_map *data = &secret->secret->data;
    struct kube_bytes_pair *items = ARENA_ARRAY(secret->arena, struct kube_bytes_pair, data->count + 3);
    size_t count = 0, from = 0;
    if (!items)
        return -ENOMEM;
    for (size_t i = 0; i < 3; i++) { /* both are in order of keys */
        while (from < data->count && strcmp(data->items[from].key, keys[i]) < 0)
            items[count++] = data->items[from++];
        if (from < data->count && !strcmp(data->items[from].key, keys[i]))
            from++;
        char *copy = arena_dup(secret->arena, values[i]);
        if (!copy)
            return -ENOMEM;
        items[count++] = (struct kube_bytes_pair){keys[i], slice_make(copy, values[i].len)};
    }
    while (from < data->count)
        items[count++] = data->items[from++];
    *data = (struct kube_bytes_map){items, count};
    return 0;
}

static int fill_secret(const struct identity *identity, struct api *api, struct kube_object *secret) {
    static const char *const keys[] = {"ca.crt", "namespace", "token"};
    const char *name = kube_map_find(&secret->metadata->annotations, "kubernetes.io/service-account.name");
    CLEANUP(kube_object_unrefp)
    struct kube_object *account = name ? api_get(api, &kube_kind_service_account, secret->metadata->namespace, name) : NULL;
    CLEANUP(buffer_deinit) struct buffer token = BUFFER_INIT(JWT_BYTES_MAX);
    if (!account)
        return -ENOENT;
    int error = api_account_token(api, account, secret, &token);
    const struct slice values[] = {slice_of(identity_authority(identity)), slice_of(secret->metadata->namespace), buffer_slice(&token)};
    return error ? error : set_data(secret, keys, values);
}

int signer_complete(const struct identity *identity, struct api *api, struct kube_object *object, int64_t now_s) {
    if (object->kind == &kube_kind_certificate_signing_request)
        return sign_request(identity, object, now_s);
    ASSERT(object->kind == &kube_kind_secret);
    return fill_secret(identity, api, object);
}
