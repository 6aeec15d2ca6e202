/* What discovery and OpenAPI say beyond the types: verbs, subresources, and the order of group versions. */
#include "kube/schema_priv.h"

static uint64_t generation = 1;

void kube_kinds_changed(void) {
    generation++;
}

uint64_t kube_kinds_generation(void) {
    return generation;
}

/* --- verbs and subresources --- */

#define VERBS_ALL                                                                                                                                    \
    (KUBE_VERB_CREATE | KUBE_VERB_DELETE | KUBE_VERB_DELETECOLLECTION | KUBE_VERB_GET | KUBE_VERB_LIST | KUBE_VERB_PATCH | KUBE_VERB_UPDATE |        \
     KUBE_VERB_WATCH)
#define VERBS_PART (KUBE_VERB_GET | KUBE_VERB_PATCH | KUBE_VERB_UPDATE)
#define VERBS_PROXY (KUBE_VERB_CREATE | KUBE_VERB_DELETE | KUBE_VERB_GET | KUBE_VERB_PATCH | KUBE_VERB_UPDATE)
#define VERBS_STREAM (KUBE_VERB_CREATE | KUBE_VERB_GET)

#define REVIEW(in_group, name, plural_name, singular_name, in_namespace, type_of)                                                                    \
    {                                                                                                                                                \
        .group = in_group, .version = "v1", .api_version = in_group "/v1", .kind = name, .plural = plural_name, .singular = singular_name,           \
        .namespaced = in_namespace, .type = type_of                                                                                                  \
    }
static const struct kube_kind reviews[] = {
    REVIEW("authentication.k8s.io", "SelfSubjectReview", "selfsubjectreviews", "selfsubjectreview", false, &kube_self_subject_review_type),
    REVIEW("authentication.k8s.io", "TokenReview", "tokenreviews", "tokenreview", false, &kube_token_review_type),
    REVIEW("authorization.k8s.io", "LocalSubjectAccessReview", "localsubjectaccessreviews", "localsubjectaccessreview", true,
           &kube_local_subject_access_review_type),
    REVIEW("authorization.k8s.io", "SelfSubjectAccessReview", "selfsubjectaccessreviews", "selfsubjectaccessreview", false,
           &kube_self_subject_access_review_type),
    REVIEW("authorization.k8s.io", "SelfSubjectRulesReview", "selfsubjectrulesreviews", "selfsubjectrulesreview", false,
           &kube_self_subject_rules_review_type),
    REVIEW("authorization.k8s.io", "SubjectAccessReview", "subjectaccessreviews", "subjectaccessreview", false, &kube_subject_access_review_type),
};

const struct kube_kind *kube_review_at(size_t index) {
    return index < ARRAY_LEN(reviews) ? &reviews[index] : NULL;
}

unsigned kube_kind_verbs(const struct kube_kind *kind) {
    if (kind >= reviews && kind < reviews + ARRAY_LEN(reviews))
        return KUBE_VERB_CREATE;
    if (kind->is_virtual)
        return KUBE_VERB_GET | KUBE_VERB_LIST;
    /* Upstream does not offer to empty the cluster in one request. */
    bool is_namespace = !*kind->group && !strcmp(kind->plural, "namespaces");
    return is_namespace ? VERBS_ALL & ~(unsigned)KUBE_VERB_DELETECOLLECTION : VERBS_ALL;
}

static const struct kube_subresource subresources[] = {
    {"", "pods", "attach", "", "v1", "PodAttachOptions", NULL, VERBS_STREAM, &kube_pod_attach_options_type, true},
    {"", "pods", "binding", "", "v1", "Binding", &kube_binding_type, KUBE_VERB_CREATE, NULL, false},
    {"", "pods", "ephemeralcontainers", "", "v1", "Pod", NULL, VERBS_PART, NULL, false},
    {"", "pods", "eviction", "policy", "v1", "Eviction", &kube_eviction_type, KUBE_VERB_CREATE, NULL, false},
    {"", "pods", "exec", "", "v1", "PodExecOptions", NULL, VERBS_STREAM, &kube_pod_exec_options_type, true},
    {"", "pods", "log", "", "v1", "Pod", NULL, KUBE_VERB_GET, &kube_pod_log_options_type, false},
    {"", "pods", "portforward", "", "v1", "PodPortForwardOptions", NULL, VERBS_STREAM, &kube_pod_port_forward_options_type, true},
    {"", "pods", "proxy", "", "v1", "PodProxyOptions", NULL, VERBS_PROXY, &kube_pod_proxy_options_type, true},
    {"", "pods", "resize", "", "v1", "Pod", NULL, VERBS_PART, NULL, false},
    {"", "services", "proxy", "", "v1", "ServiceProxyOptions", NULL, VERBS_PROXY, &kube_service_proxy_options_type, true},
    {"", "nodes", "proxy", "", "v1", "NodeProxyOptions", NULL, VERBS_PROXY, &kube_node_proxy_options_type, true},
    {"", "namespaces", "finalize", "", "v1", "Namespace", NULL, KUBE_VERB_UPDATE, NULL, false},
    {"certificates.k8s.io", "certificatesigningrequests", "approval", "certificates.k8s.io", "v1", "CertificateSigningRequest", NULL, VERBS_PART,
     NULL, false},
    {"", "serviceaccounts", "token", "authentication.k8s.io", "v1", "TokenRequest", &kube_token_request_type, KUBE_VERB_CREATE, NULL, false},
};

bool kube_subresource_at(const struct kube_kind *kind, size_t index, struct kube_subresource *ret) {
    if (kind->has_status && index-- == 0) {
        *ret = (struct kube_subresource){kind->group, kind->plural, "status", kind->group, kind->version, kind->kind, NULL, VERBS_PART, NULL, false};
        return true;
    }
    if (kind->has_scale && index-- == 0) {
        *ret = (struct kube_subresource){kind->group, kind->plural, "scale", "autoscaling", "v1", "Scale", &kube_scale_type, VERBS_PART, NULL, false};
        return true;
    }
    for (size_t i = 0; i < ARRAY_LEN(subresources); i++)
        if (!strcmp(subresources[i].group, kind->group) && !strcmp(subresources[i].plural, kind->plural) && index-- == 0) {
            *ret = subresources[i];
            return true;
        }
    return false;
}

/* --- the order of group versions --- */

/* Highest first; what is not named here is a custom group: those stand between, by name. */
static const struct {
    const char *group;
    int priority;
} priorities[] = {
    {"", 18000},
    {"apiregistration.k8s.io", 18000},
    {"apps", 17800},
    {"events.k8s.io", 17750},
    {"authentication.k8s.io", 17700},
    {"authorization.k8s.io", 17600},
    {"autoscaling", 17500},
    {"batch", 17400},
    {"certificates.k8s.io", 17300},
    {"networking.k8s.io", 17200},
    {"policy", 17100},
    {"rbac.authorization.k8s.io", 17000},
    {"storage.k8s.io", 16800},
    {"admissionregistration.k8s.io", 16700},
    {"apiextensions.k8s.io", 16700},
    {"scheduling.k8s.io", 16600},
    {"coordination.k8s.io", 16500},
    {"node.k8s.io", 16300},
    {"discovery.k8s.io", 16200},
    {"flowcontrol.apiserver.k8s.io", 16100},
    {"metrics.k8s.io", 100},
};
#define PRIORITY_CUSTOM 1000

static int priority_of(const char *group) {
    for (size_t i = 0; i < ARRAY_LEN(priorities); i++)
        if (!strcmp(priorities[i].group, group))
            return priorities[i].priority;
    return PRIORITY_CUSTOM;
}

static uint64_t read_number(struct slice *text) {
    size_t digits = 0;
    while (digits < text->len && text->data[digits] >= '0' && text->data[digits] <= '9')
        digits++;
    uint64_t number = 0;
    if (!digits || slice_parse_u64(slice_make(text->data, digits), UINT64_MAX, &number) != 0)
        return 0;
    *text = slice_from(*text, digits);
    return number;
}

/* Of v2, v1, v1beta2: how stable, major, minor. All 0 for what is no such name. */
static void read_version(const char *version, uint64_t ret[3]) {
    static const struct {
        const char *word;
        uint64_t rank;
    } stages[] = {{"alpha", 1}, {"beta", 2}};
    struct slice rest = slice_of(version);
    memset(ret, 0, 3 * sizeof *ret);
    if (!slice_starts(rest, SLICE("v")))
        return;
    rest = slice_from(rest, 1);
    uint64_t major = read_number(&rest), minor = 0, rank = rest.len ? 0 : 3;
    for (size_t i = 0; i < ARRAY_LEN(stages) && rest.len; i++) {
        if (!slice_starts(rest, slice_of(stages[i].word)))
            continue;
        rest = slice_from(rest, strlen(stages[i].word));
        minor = read_number(&rest);
        rank = minor && !rest.len ? stages[i].rank : 0;
        break;
    }
    if (!major || !rank)
        return;
    ret[0] = rank;
    ret[1] = major;
    ret[2] = minor;
}

/* v2 before v1 before v1beta2 before v1beta1 before v1alpha1 before other names, as Kubernetes orders versions. */
static int compare_versions(const char *a, const char *b) {
    uint64_t left[3], right[3];
    read_version(a, left);
    read_version(b, right);
    for (size_t i = 0; i < ARRAY_LEN(left); i++)
        if (left[i] != right[i])
            return left[i] > right[i] ? -1 : 1;
    return strcmp(a, b);
}

static int compare(const void *left, const void *right) {
    const struct kube_group_version *a = left, *b = right;
    int first = priority_of(a->group), second = priority_of(b->group), names = strcmp(a->group, b->group);
    if (first != second)
        return first > second ? -1 : 1;
    return names ? names : compare_versions(a->version, b->version);
}

static size_t add_version(struct kube_group_version *items, size_t count, const struct kube_kind *kind) {
    for (size_t i = 0; i < count; i++)
        if (!strcmp(items[i].group, kind->group) && !strcmp(items[i].version, kind->version))
            return count;
    items[count] = (struct kube_group_version){kind->group, kind->version};
    return count + 1;
}

int kube_group_versions(struct kube_group_version **ret, size_t *ret_count) {
    size_t count = 0;
    struct kube_group_version *items = calloc(kube_kinds_count() + ARRAY_LEN(reviews), sizeof *items);
    if (!items)
        return -ENOMEM;
    for (size_t i = 0; i < kube_kinds_count(); i++)
        count = add_version(items, count, kube_kind_at(i));
    for (size_t i = 0; i < ARRAY_LEN(reviews); i++)
        count = add_version(items, count, &reviews[i]);
    qsort(items, count, sizeof *items, compare);
    *ret = items;
    *ret_count = count;
    return 0;
}
