/* PodSecurity: a namespace's labels say which of the Pod Security Standards its pods must keep (enforce) and of which the user is warned (warn). Pods
 * are refused; what makes pods (a Deployment, …) is only warned of, since its pods may be made otherwise. A namespace whose labels become stricter
 * warns of the pods that run in it. `audit` is checked for being well-formed; there is no audit log that it could go to yet. */
#include "api/admission_priv.h"
#include "api/pod_security_priv.h"

#include <limits.h>
#include <stdio.h>

#define PREFIX "pod-security.kubernetes.io/"
#define TEXT_BYTES_MAX (32 * KIB)
#define PODS_CHECKED_MAX 3000 /* of a namespace, as upstream */
#define WARNINGS_MAX 64       /* kinds of violations that are told apart */

enum mode { MODE_ENFORCE, MODE_AUDIT, MODE_WARN, MODES };
static const char *const modes[MODES] = {"enforce", "audit", "warn"};

/* --- labels --- */

static bool parse_level(const char *text, enum pod_security_level *ret) {
    static const char *const names[] = {"privileged", "baseline", "restricted"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(text, names[i]))
            continue;
        *ret = (enum pod_security_level)i;
        return true;
    }
    return false;
}

static bool parse_version(const char *text, int *ret) {
    uint64_t minor;
    *ret = POD_SECURITY_LATEST;
    if (!strcmp(text, "latest"))
        return true;
    struct slice number = slice_starts(slice_of(text), SLICE("v1.")) ? slice_from(slice_of(text), 3) : slice_of("");
    if (!number.len || (number.len > 1 && number.data[0] == '0') || slice_parse_u64(number, 9999, &minor))
        return false;
    *ret = (int)minor;
    return true;
}

struct policies {
    struct pod_security_policy of[MODES];
    char wrong[4 * DIAG_TEXT_MAX]; /* "metadata.labels[…]: Invalid value: …, …"; empty: none */
    size_t wrong_count;
    struct diag causes;
};

static void note_wrong(struct policies *policies, const char *label, const char *value, const char *what) {
    char field[200], message[DIAG_TEXT_MAX];
    snprintf(field, sizeof field, "metadata.labels[%s]", label);
    snprintf(message, sizeof message, "Invalid value: \"%s\": %s", value, what);
    diag_cause(&policies->causes, "FieldValueInvalid", field, "%s", message);
    size_t at = strlen(policies->wrong);
    snprintf(policies->wrong + at, sizeof policies->wrong - at, "%s%s: %s", policies->wrong_count++ ? ", " : "", field, message);
}

/* A label that cannot be read enforces the strictest, and neither audits nor warns. */
static void read_policies(const struct kube_object_meta *namespace, struct policies *ret) {
    char label[80];
    bool good[MODES], given[MODES], version_given[MODES];
    *ret = (struct policies){.causes = DIAG_INIT};
    for (int mode = 0; mode < MODES; mode++) {
        struct pod_security_policy *policy = &ret->of[mode];
        *policy = (struct pod_security_policy){LEVEL_PRIVILEGED, POD_SECURITY_LATEST};
        snprintf(label, sizeof label, PREFIX "%s", modes[mode]);
        const char *level = kube_map_find(&namespace->labels, label);
        given[mode] = level != NULL;
        good[mode] = level && parse_level(level, &policy->level);
        if (level && !good[mode]) {
            note_wrong(ret, label, level, "must be one of privileged, baseline, restricted");
            policy->level = mode == MODE_ENFORCE ? LEVEL_RESTRICTED : LEVEL_PRIVILEGED;
        }
        snprintf(label, sizeof label, PREFIX "%s-version", modes[mode]);
        const char *version = kube_map_find(&namespace->labels, label);
        version_given[mode] = version != NULL;
        if (version && !parse_version(version, &policy->minor))
            note_wrong(ret, label, version, "must be \"latest\" or \"v1.x\"");
    }
    /* Whoever enforces is warned of the same, unless the labels say otherwise. */
    if (!given[MODE_WARN] && good[MODE_ENFORCE] && ret->of[MODE_ENFORCE].level > ret->of[MODE_WARN].level) {
        ret->of[MODE_WARN].level = ret->of[MODE_ENFORCE].level;
        if (!version_given[MODE_WARN])
            ret->of[MODE_WARN].minor = ret->of[MODE_ENFORCE].minor;
    }
}

/* --- namespaces --- */

struct violation {
    char *reasons;
    const char *pod;
    size_t count;
};

struct survey {
    const struct pod_security_policy *policy;
    struct arena *arena;
    struct violation violations[WARNINGS_MAX];
    size_t count, pods, pods_checked;
};

static bool look_at(void *userdata, const struct kube_object *pod) {
    struct survey *survey = userdata;
    CLEANUP(buffer_deinit) struct buffer reasons = BUFFER_INIT(TEXT_BYTES_MAX);
    if (survey->pods++ >= PODS_CHECKED_MAX)
        return true;
    survey->pods_checked++;
    pod_security_check(survey->policy, pod->metadata, &pod->pod->spec, false, &reasons);
    if (!reasons.len)
        return true;
    size_t i = 0;
    while (i < survey->count && strcmp(survey->violations[i].reasons, reasons.data))
        i++;
    if (i == WARNINGS_MAX)
        return true;
    struct violation *violation = &survey->violations[i];
    if (i == survey->count) {
        *violation = (struct violation){arena_strdup(survey->arena, reasons.data), pod->metadata->name, 0};
        if (!violation->reasons)
            return false;
        survey->count++;
    }
    if (strcmp(pod->metadata->name, violation->pod) < 0)
        violation->pod = pod->metadata->name;
    violation->count++;
    return true;
}

static int by_pod(const void *a, const void *b) {
    const struct violation *left = a, *right = b;
    return strcmp(left->pod, right->pod);
}

static void warn_of_pods(struct admission *admission, const struct pod_security_policy *policy) {
    const char *namespace = admission->object->metadata->name;
    char text[40];
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    struct survey *survey = arena ? ARENA_NEW(arena, struct survey) : NULL;
    if (!survey || !admission->reader)
        return;
    survey->policy = policy;
    survey->arena = arena;
    admission_list(admission, &kube_kind_pod, namespace, look_at, survey);
    if (survey->pods_checked < survey->pods)
        admission_warn(admission, "new PodSecurity enforce level only checked against the first %zu of %zu existing pods", survey->pods_checked,
                       survey->pods);
    pod_security_format(policy, text);
    if (survey->count)
        admission_warn(admission, "existing pods in namespace \"%s\" violate the new PodSecurity enforce level \"%s\"", namespace, text);
    qsort(survey->violations, survey->count, sizeof *survey->violations, by_pod);
    for (size_t i = 0; i < survey->count; i++) {
        const struct violation *it = &survey->violations[i];
        if (it->count == 1)
            admission_warn(admission, "%s: %s", it->pod, it->reasons);
        else if (it->count == 2)
            admission_warn(admission, "%s (and 1 other pod): %s", it->pod, it->reasons);
        else
            admission_warn(admission, "%s (and %zu other pods): %s", it->pod, it->count - 1, it->reasons);
    }
}

static int refuse_labels(struct admission *admission, const struct policies *policies) {
    bool many = policies->wrong_count > 1;
    const char *name = admission->object->metadata->name;
    int code =
        api_fail(admission->failure, 422, "Invalid", "Namespace \"%s\" is invalid: %s%s%s", name, many ? "[" : "", policies->wrong, many ? "]" : "");
    if (admission->failure) {
        snprintf(admission->failure->resource, sizeof admission->failure->resource, "Namespace");
        snprintf(admission->failure->name, sizeof admission->failure->name, "%s", name);
        admission->failure->diag = policies->causes;
    }
    return code;
}

int admit_pod_security_labels(struct admission *admission) {
    struct policies now, before;
    read_policies(admission->object->metadata, &now);
    if (admission->operation == ADMIT_CREATE)
        return now.wrong_count ? refuse_labels(admission, &now) : 0;
    read_policies(admission->old->metadata, &before);
    if (now.wrong_count && strcmp(now.wrong, before.wrong))
        return refuse_labels(admission, &now);
    const struct pod_security_policy *policy = &now.of[MODE_ENFORCE], *was = &before.of[MODE_ENFORCE];
    bool relaxed = policy->minor == was->minor && policy->level <= was->level;
    if (policy->level != LEVEL_PRIVILEGED && !relaxed)
        warn_of_pods(admission, policy);
    return 0;
}

/* --- pods and what makes them --- */

static bool has_other_image(const struct kube_container_array *now, const struct kube_container_array *before) {
    if (now->count != before->count)
        return true;
    for (size_t i = 0; i < now->count; i++)
        if (!text_equal(now->items[i].image, before->items[i].image))
            return true;
    return false;
}

/* Of an update: whether anything changes that the standards look at. */
static bool is_significant(const struct kube_pod_spec *now, const struct kube_pod_spec *before) {
    const struct kube_ephemeral_container_array *extra = &now->ephemeral_containers;
    return has_other_image(&now->containers, &before->containers) || has_other_image(&now->init_containers, &before->init_containers) ||
           extra->count != before->ephemeral_containers.count;
}

static const struct kube_object_meta *pod_metadata(const struct kube_object *object) {
    static const struct kube_object_meta none;
    return object->kind == &kube_kind_pod ? object->metadata : &none; /* a template's annotations matter for versions of long ago only */
}

static int check_policies(struct admission *admission, const struct policies *policies, const struct kube_pod_spec *spec) {
    const struct kube_object *object = admission->object;
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(TEXT_BYTES_MAX);
    char policy[40];
    if (object->kind == &kube_kind_pod) {
        pod_security_check(&policies->of[MODE_ENFORCE], pod_metadata(object), spec, true, &text);
        pod_security_format(&policies->of[MODE_ENFORCE], policy);
        if (text.len)
            return admission_forbid(admission, "violates PodSecurity \"%s\": %s", policy, text.data);
    }
    if (!admission->reader)
        return 0;
    pod_security_check(&policies->of[MODE_WARN], pod_metadata(object), spec, true, &text);
    pod_security_format(&policies->of[MODE_WARN], policy);
    if (text.len)
        admission_warn(admission, "would violate PodSecurity \"%s\": %s", policy, text.data);
    return 0;
}

int admit_pod_security(struct admission *admission) {
    const struct kube_object *object = admission->object;
    const struct kube_pod_spec *spec = kube_pod_spec_of(object);
    if (!spec || (object->kind != &kube_kind_pod && !admission->reader))
        return 0;
    if (object->kind == &kube_kind_pod && admission->old && !is_significant(spec, &admission->old->pod->spec))
        return 0;
    CLEANUP(kube_object_unrefp) struct kube_object *namespace = NULL;
    int code = api_stored_find(admission->api, &kube_kind_namespace, "", object->metadata->namespace, &namespace, admission->failure);
    if (code)
        return code;
    struct policies policies;
    read_policies(namespace->metadata, &policies);
    return check_policies(admission, &policies, spec);
}
