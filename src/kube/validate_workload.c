/* Deployments, replica sets and jobs: selector and template must fit, rolling updates must be able to move. */
#include "kube/validate_priv.h"

static void fail_labels(struct validator *validator, const struct kube_string_map *labels) {
    struct buffer text = BUFFER_INIT(4096);
    buffer_append_byte(&text, '{');
    for (size_t i = 0; i < labels->count; i++) {
        buffer_append_text(&text, i ? "," : "");
        json_format_string(&text, slice_of(labels->items[i].key));
        buffer_append_byte(&text, ':');
        json_format_string(&text, slice_of(labels->items[i].value));
    }
    buffer_append_byte(&text, '}');
    fail_value(validator, "template.metadata.labels", text.data ? text.data : "{}", "`selector` does not match template `labels`");
    buffer_deinit(&text);
}

static void check_selector(struct validator *validator, const struct kube_label_selector *selector, const struct kube_pod_template_spec *template) {
    if (!selector)
        return;
    if (selector->match_labels.count + selector->match_expressions.count == 0)
        fail_value(validator, "selector", "{}", "empty selector is invalid for deployment");
    else if (!kube_selector_matches(selector, &template->metadata.labels))
        fail_labels(validator, &template->metadata.labels);
}

/* Pods that are kept running restart always and have no deadline. */
static void check_running_template(struct validator *validator, const struct kube_pod_template_spec *template) {
    static const char *const supported[] = {"Always", NULL};
    if (template->spec.restart_policy && !kube_text_is(template->spec.restart_policy, "Always"))
        fail_supported(validator, "template.spec.restartPolicy", template->spec.restart_policy, supported);
    if (template->spec.active_deadline_seconds)
        fail_forbidden(validator, "template.spec.activeDeadlineSeconds", "activeDeadlineSeconds in ReplicaSet is not Supported");
}

void validate_deployment_spec(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_deployment_spec *spec = data;
    check_selector(validator, spec->selector, &spec->template);
    check_running_template(validator, &spec->template);
    if (spec->progress_deadline_seconds && *spec->progress_deadline_seconds <= spec->min_ready_seconds)
        fail_number(validator, "progressDeadlineSeconds", *spec->progress_deadline_seconds, "must be greater than minReadySeconds");
}

void validate_replica_set_spec(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_replica_set_spec *spec = data;
    check_selector(validator, spec->selector, &spec->template);
    check_running_template(validator, &spec->template);
}

/* True when it can be compared with zero. */
static bool check_share(struct validator *validator, const char *name, const struct kube_int_or_string *share, bool whole_max, int *ret) {
    *ret = -1;
    if (!share)
        return false;
    if (kube_int_or_percent(share, 100, true, ret) != 0) {
        fail_text(validator, name, share->text,
                  "a valid percent string must be a numeric string followed by an ending '%%' (e.g. '1%%',  or '93%%', regex used for validation is "
                  "'[0-9]+%%')");
        return false;
    }
    if (*ret < 0)
        fail_number(validator, name, *ret, "must be greater than or equal to 0");
    if (whole_max && share->is_string && *ret > 100)
        fail_text(validator, name, share->text, "must not be greater than 100%%");
    return *ret >= 0;
}

void validate_deployment_strategy(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_deployment_strategy *strategy = data;
    const struct kube_rolling_update_deployment *update = strategy->rolling_update;
    int unavailable = -1, surge = -1;
    if (kube_text_is(strategy->type, "Recreate") && update)
        fail_forbidden(validator, "rollingUpdate", "may not be specified when strategy `type` is 'Recreate'");
    if (!kube_text_is(strategy->type, "RollingUpdate"))
        return;
    if (!update) {
        fail_required(validator, "rollingUpdate", "this should be defaulted and never be nil");
        return;
    }
    bool both = check_share(validator, "rollingUpdate.maxUnavailable", update->max_unavailable, true, &unavailable);
    both = check_share(validator, "rollingUpdate.maxSurge", update->max_surge, false, &surge) && both;
    if (both && unavailable == 0 && surge == 0)
        fail_number(validator, "rollingUpdate.maxUnavailable", 0, "may not be 0 when `maxSurge` is 0");
}

static void check_job_restart(struct validator *validator, const char *policy) {
    static const char *const supported[] = {"OnFailure", "Never", NULL};
    if (kube_text_is(policy, "Always"))
        fail_required(validator, "template.spec.restartPolicy", "valid values: \"OnFailure\", \"Never\"");
    else if (!kube_text_is(policy, "OnFailure") && !kube_text_is(policy, "Never"))
        fail_supported(validator, "template.spec.restartPolicy", policy, supported);
}

void validate_job_spec(struct validator *validator, const void *data, const void *old) {
    const struct kube_job_spec *spec = data, *before = old;
    bool indexed = kube_text_is(spec->completion_mode, "Indexed");
    if (spec->selector && !kube_selector_matches(spec->selector, &spec->template.metadata.labels))
        fail_labels(validator, &spec->template.metadata.labels);
    check_job_restart(validator, spec->template.spec.restart_policy);
    if (indexed && !spec->completions)
        fail_required(validator, "completions", "when completion mode is Indexed");
    if (spec->backoff_limit_per_index && !indexed)
        fail_number(validator, "backoffLimitPerIndex", *spec->backoff_limit_per_index, "requires indexed completion mode");
    bool suspended = before && before->suspend && *before->suspend;
    if (before && !suspended && !kube_equal(&kube_pod_template_spec_type, &spec->template, &before->template))
        fail_value(validator, "template", "{…}", "field is immutable");
}
