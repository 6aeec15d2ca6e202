/* Admission: what the server itself decides about a write. One plug-in is one file (admission_<noun>.c) and one or more lines in the table of
 * admission.c; it sees the whole picture in a struct admission. Reading order: this, admission.c, then the plug-ins. */
#ifndef TIDEMILL_API_ADMISSION_PRIV_H
#define TIDEMILL_API_ADMISSION_PRIV_H

#include "api/api_priv.h"

enum admission_operation { ADMIT_CREATE = 1, ADMIT_UPDATE = 2, ADMIT_DELETE = 4, ADMIT_CONNECT = 8 };

/* When a plug-in runs. Refusing plug-ins come after validation, so that what is malformed is told as such (422) before what is not allowed (403);
 * what is taken from a pool (addresses, ports, quota) comes last, when nothing can fail but the store. */
enum admission_phase { ADMIT_MUTATE, ADMIT_VALIDATE, ADMIT_TAKE };

struct admission {
    struct api *api;
    enum admission_operation operation;
    struct kube_object *object;    /* the new version, of a delete the one marked; only ADMIT_MUTATE changes it (and ADMIT_TAKE what it takes) */
    const struct kube_object *old; /* of an update and a delete */
    const struct api_user *user;   /* NULL: the platform itself */
    const char *subresource;       /* "" the object itself */
    bool dry_run;
    struct request *reader; /* gets the warnings; NULL: nobody reads them */
    struct api_failure *failure;
};

/* Runs the plug-ins of one phase, in their order: 0, or the code of the first that refuses. */
int api_admit(struct admission *admission, enum admission_phase phase);
/* After the store has accepted the write (in the same turn): what is accounted elsewhere. */
void api_admitted(struct admission *admission);

/* A Warning header of the answer. */
void admission_warn(struct admission *admission, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* `pods "web" is forbidden: …`; 403. */
int admission_forbid(struct admission *admission, const char *format, ...) __attribute__((format(printf, 2, 3)));
int admission_no_memory(struct admission *admission);
/* Calls each for the newest committed objects of a kind (namespace NULL: everywhere); false stops. */
void admission_list(struct admission *admission, const struct kube_kind *kind, const char *namespace,
                    bool (*each)(void *userdata, const struct kube_object *object), void *userdata);
/* *name becomes the name of the kind's default, if there is one: of those that bear one of the marks (annotations that say "true"; NULL at the end)
 * the newest, and of those that are as new the first by name. */
int admission_default_class(struct admission *admission, const struct kube_kind *kind, const char *const *marks, const char **name);
static inline bool text_equal(const char *a, const char *b) {
    return strcmp(a ? a : "", b ? b : "") == 0;
}

/* --- plug-ins --- */
int admit_lifecycle(struct admission *admission);
int admit_namespace(struct admission *admission);
int admit_limit_ranges(struct admission *admission);
int admit_limits(struct admission *admission);
int admit_service_account(struct admission *admission);
int admit_priority(struct admission *admission);
int admit_priority_class(struct admission *admission);
int admit_tolerations(struct admission *admission);
int admit_runtime_class(struct admission *admission);
int admit_pod(struct admission *admission);
int admit_pod_security(struct admission *admission);
int admit_pod_security_labels(struct admission *admission);
int admit_storage_class(struct admission *admission);
int admit_storage_finalizer(struct admission *admission);
int admit_resize(struct admission *admission);
int admit_ingress_class(struct admission *admission);
int admit_job(struct admission *admission);
int admit_secret(struct admission *admission);
int admit_service(struct admission *admission);
int admit_service_numbers(struct admission *admission);
int admit_certificate(struct admission *admission);
int admit_certificate_rights(struct admission *admission);
/* In authorize.c: nobody gives away what he has not. */
int admit_roles(struct admission *admission);
int admit_custom_definition(struct admission *admission);
int admit_custom_object(struct admission *admission);
int admit_policy(struct admission *admission);
int admit_cron_job(struct admission *admission);
int admit_api_service(struct admission *admission);
/* In webhook_index.c. */
int admit_webhooks(struct admission *admission);
int admit_quota(struct admission *admission);
void charge_quota(struct admission *admission);

#endif
