/* Jobs: by what their pods are found. */
#include "api/admission_priv.h"
#include "sys/sys.h"

#include <stdio.h>
#include <unistd.h>

/* A job's pods are found by its uid: the selector and the template's labels are the server's, unless the user says manualSelector. */
int admit_job(struct admission *admission) {
    struct kube_object *object = admission->object;
    struct kube_job_spec *spec = &object->job->spec;
    if ((spec->manual_selector && *spec->manual_selector) || !object->metadata->name)
        return 0;
    const char *uid = object->metadata->uid, *name = object->metadata->name;
    if (!spec->selector && !(spec->selector = ARENA_NEW(object->arena, struct kube_label_selector)))
        return admission_no_memory(admission);
    struct kube_string_map *labels = &spec->template.metadata.labels;
    const char *pairs[][2] = {
        {"controller-uid", uid}, {"batch.kubernetes.io/controller-uid", uid}, {"job-name", name}, {"batch.kubernetes.io/job-name", name}};
    int error = kube_map_set(&spec->selector->match_labels, object->arena, "batch.kubernetes.io/controller-uid", uid);
    for (size_t i = 0; i < ARRAY_LEN(pairs) && !error; i++)
        error = kube_map_set(labels, object->arena, pairs[i][0], pairs[i][1]);
    return error ? admission_no_memory(admission) : 0;
}

/* A time zone that this machine does not know; one that it knew once may stay. */
int admit_cron_job(struct admission *admission) {
    const char *zone = admission->object->cron_job->spec.time_zone;
    char path[300];
    if (!zone || strcmp(zone, "UTC") == 0 || !zone_name_is_valid(slice_of(zone)) ||
        (admission->old && text_equal(admission->old->cron_job->spec.time_zone, zone)))
        return 0;
    snprintf(path, sizeof path, "%s/%s", SYS_ZONES_FOLDER, zone);
    if (access(path, R_OK) == 0)
        return 0;
    return api_fail_field(admission->failure, admission->object, "FieldValueInvalid", "spec.timeZone", "Invalid value: \"%s\": unknown time zone %s",
                          zone, zone);
}
