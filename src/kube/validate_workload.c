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

static void check_selector(struct validator *validator, const struct kube_label_selector *selector, const struct kube_pod_template_spec *template,
                           const char *whose) {
    if (!selector)
        return;
    if (selector->match_labels.count + selector->match_expressions.count == 0)
        fail_value(validator, "selector", "{}", "empty selector is invalid for %s", whose);
    else if (!kube_selector_matches(selector, &template->metadata.labels))
        fail_labels(validator, &template->metadata.labels);
}

/* Pods that are kept running restart always and have no deadline. */
static void check_running_template(struct validator *validator, const struct kube_pod_template_spec *template, const char *whose) {
    static const char *const supported[] = {"Always", NULL};
    if (template->spec.restart_policy && !kube_text_is(template->spec.restart_policy, "Always"))
        fail_supported(validator, "template.spec.restartPolicy", template->spec.restart_policy, supported);
    if (template->spec.active_deadline_seconds)
        fail_forbidden(validator, "template.spec.activeDeadlineSeconds", "activeDeadlineSeconds in %s is not Supported", whose);
}

void validate_deployment_spec(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_deployment_spec *spec = data;
    check_selector(validator, spec->selector, &spec->template, "deployment");
    check_running_template(validator, &spec->template, "ReplicaSet");
    if (spec->progress_deadline_seconds && *spec->progress_deadline_seconds <= spec->min_ready_seconds)
        fail_number(validator, "progressDeadlineSeconds", *spec->progress_deadline_seconds, "must be greater than minReadySeconds");
}

void validate_replica_set_spec(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_replica_set_spec *spec = data;
    check_selector(validator, spec->selector, &spec->template, "deployment");
    check_running_template(validator, &spec->template, "ReplicaSet");
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
    if (spec->pod_failure_policy && !kube_text_is(spec->template.spec.restart_policy, "Never"))
        fail_text(validator, "template.spec.restartPolicy", spec->template.spec.restart_policy,
                  "only \"Never\" is supported when podFailurePolicy is specified");
    bool suspended = before && before->suspend && *before->suspend;
    if (before && !suspended && !kube_equal(&kube_pod_template_spec_type, &spec->template, &before->template))
        fail_value(validator, "template", "{…}", "field is immutable");
}

/* ---- stateful and daemon sets, replication controllers ---- */

static const char fixed_set[] = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
                                "'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";

static void check_set_change(struct validator *validator, const struct kube_stateful_set_spec *spec, const struct kube_stateful_set_spec *before) {
    struct kube_stateful_set_spec allowed = *before; /* shallow: compared only */
    allowed.replicas = spec->replicas;
    allowed.ordinals = spec->ordinals;
    allowed.template = spec->template;
    allowed.update_strategy = spec->update_strategy;
    allowed.persistent_volume_claim_retention_policy = spec->persistent_volume_claim_retention_policy;
    allowed.min_ready_seconds = spec->min_ready_seconds;
    if (!kube_equal(&kube_stateful_set_spec_type, &allowed, spec))
        fail_forbidden(validator, NULL, "%s", fixed_set);
}

static void check_set_strategy(struct validator *validator, const struct kube_stateful_set_update_strategy *strategy) {
    bool rolling = kube_text_is(strategy->type, "RollingUpdate"), manual = kube_text_is(strategy->type, "OnDelete");
    if (!rolling && !manual)
        fail_text(validator, "updateStrategy", strategy->type, "must be 'RollingUpdate' or 'OnDelete'");
    if (manual && strategy->rolling_update)
        fail_value(validator, "updateStrategy.rollingUpdate", "{…}", "only allowed for updateStrategy 'RollingUpdate'");
    if (rolling && strategy->rolling_update && strategy->rolling_update->partition && *strategy->rolling_update->partition < 0)
        fail_number(validator, "updateStrategy.rollingUpdate.partition", *strategy->rolling_update->partition, "must be greater than or equal to 0");
}

void validate_stateful_set_spec(struct validator *validator, const void *data, const void *old) {
    const struct kube_stateful_set_spec *spec = data;
    if (!kube_text_is(spec->pod_management_policy, "OrderedReady") && !kube_text_is(spec->pod_management_policy, "Parallel"))
        fail_text(validator, "podManagementPolicy", spec->pod_management_policy, "must be 'OrderedReady' or 'Parallel'");
    check_set_strategy(validator, &spec->update_strategy);
    check_selector(validator, spec->selector, &spec->template, "statefulset");
    check_running_template(validator, &spec->template, "StatefulSet");
    if (spec->ordinals && spec->ordinals->start < 0)
        fail_number(validator, "ordinals.start", spec->ordinals->start, "must be greater than or equal to 0");
    if (old)
        check_set_change(validator, spec, old);
}

void validate_daemon_set_spec(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_daemon_set_spec *spec = data;
    const struct kube_rolling_update_daemon_set *rolling = spec->update_strategy.rolling_update;
    check_selector(validator, spec->selector, &spec->template, "daemonset");
    check_running_template(validator, &spec->template, "DaemonSet");
    if (!kube_text_is(spec->update_strategy.type, "RollingUpdate") || !rolling)
        return;
    int unavailable = -1, surge = -1;
    bool both = check_share(validator, "updateStrategy.rollingUpdate.maxUnavailable", rolling->max_unavailable, true, &unavailable);
    both = check_share(validator, "updateStrategy.rollingUpdate.maxSurge", rolling->max_surge, true, &surge) && both;
    if (both && unavailable > 0 && surge > 0)
        fail_number(validator, "updateStrategy.rollingUpdate.maxSurge", surge, "may not be set when maxUnavailable is non-zero");
    if (both && unavailable == 0 && surge == 0)
        fail_required(validator, "updateStrategy.rollingUpdate.maxUnavailable", "cannot be 0 when maxSurge is 0");
}

void validate_replication_controller_spec(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_replication_controller_spec *spec = data;
    if (spec->selector.count == 0)
        fail_required(validator, "selector", "");
    if (!spec->template)
        return;
    for (size_t i = 0; i < spec->selector.count; i++) {
        const char *value = kube_map_find(&spec->template->metadata.labels, spec->selector.items[i].key);
        if (value && strcmp(value, spec->selector.items[i].value) == 0)
            continue;
        fail_labels(validator, &spec->template->metadata.labels);
        break;
    }
    check_running_template(validator, spec->template, "ReplicationController");
}

/* ---- cron jobs ---- */

#define CRON_NAME_MAX 52 /* the jobs' names are eleven longer */

void validate_cron_job(struct validator *validator, const void *data, const void *old) {
    const struct kube_cron_job *job = data;
    if (!old && job->metadata.name && strlen(job->metadata.name) > CRON_NAME_MAX)
        fail_text(validator, "metadata.name", job->metadata.name, "must be no more than %d characters", CRON_NAME_MAX);
}

void validate_cron_job_spec(struct validator *validator, const void *data, const void *old) {
    const struct kube_cron_job_spec *spec = data, *before = old;
    struct cron cron;
    struct diag diag = DIAG_INIT;
    bool changed = !before || !kube_text_is(before->schedule, kube_text_or(spec->schedule, ""));
    if (spec->schedule && cron_parse(slice_of(spec->schedule), &cron, &diag) != 0)
        fail_text(validator, "schedule", spec->schedule, "%s", diag.message);
    else if (spec->schedule && changed && strstr(spec->schedule, "TZ"))
        fail_text(validator, "schedule", spec->schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
    if (spec->time_zone && !spec->time_zone[0])
        fail_text(validator, "timeZone", spec->time_zone, "timeZone must be nil or non-empty string");
    else if (spec->time_zone && (strcmp(spec->time_zone, "Local") == 0 || !zone_name_is_valid(slice_of(spec->time_zone))))
        fail_text(validator, "timeZone", spec->time_zone, "unknown time zone %s", spec->time_zone);
    if (spec->starting_deadline_seconds && *spec->starting_deadline_seconds < 0)
        fail_number(validator, "startingDeadlineSeconds", *spec->starting_deadline_seconds, "must be greater than or equal to 0");
}

/* ---- what failed pods mean to a job ---- */

static void check_exit_codes(struct validator *validator, const struct kube_pod_failure_policy_on_exit_codes_requirement *codes) {
    bool in = kube_text_is(codes->operator, "In");
    if (codes->values.count == 0)
        fail_value(validator, "onExitCodes.values", "[]", "at least one value is required");
    for (size_t i = 0; i < codes->values.count; i++) {
        size_t before = kube_path_push_field(&validator->path, "onExitCodes.values");
        kube_path_push_index(&validator->path, i);
        if (in && codes->values.items[i] == 0)
            fail_number(validator, NULL, 0, "must not be 0 for the In operator");
        kube_path_pop(&validator->path, before);
        if (i > 0 && codes->values.items[i] < codes->values.items[i - 1]) {
            fail_value(validator, "onExitCodes.values", "[…]", "must be ordered");
            return;
        }
    }
}

void validate_failure_rule(struct validator *validator, const void *data, const void *old) {
    (void)old;
    const struct kube_pod_failure_policy_rule *rule = data;
    if (!rule->action)
        fail_required(validator, "action", "valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]");
    if (rule->on_exit_codes)
        check_exit_codes(validator, rule->on_exit_codes);
    if (rule->on_exit_codes && rule->on_pod_conditions.count > 0)
        fail_value(validator, NULL, "{…}", "specifying both OnExitCodes and OnPodConditions is not supported");
    if (!rule->on_exit_codes && rule->on_pod_conditions.count == 0)
        fail_value(validator, NULL, "{…}", "specifying one of OnExitCodes and OnPodConditions is required");
}
