/* The options of writes (CreateOptions, UpdateOptions, PatchOptions, DeleteOptions), as they stand in the query: checked as upstream checks them, all
 * faults in one answer. */
#include "api/api_priv.h"

#include <stdio.h>

#define FIELD_MANAGER_BYTES_MAX 128

static void check_manager(const char *manager, struct diag *diag) {
    size_t len = strlen(manager);
    if (len > FIELD_MANAGER_BYTES_MAX)
        diag_cause(diag, "FieldValueTooLong", "fieldManager", "Too long: may not be more than %d bytes", FIELD_MANAGER_BYTES_MAX);
    for (size_t i = 0; i < len; i++) {
        unsigned char byte = (unsigned char)manager[i];
        if (byte >= ' ' && byte != 0x7f)
            continue;
        diag_cause(diag, "FieldValueInvalid", "fieldManager", "Invalid value: \"%.100s\": invalid character U+%04X (at position %zu)", manager, byte,
                   i);
        return;
    }
}

static bool is_one_of(const char *text, const char *const *values) {
    for (; *values; values++)
        if (!strcmp(text, *values))
            return true;
    return false;
}

static void check_dry_run(const char *value, struct diag *diag) {
    if (value && *value && strcmp(value, "All"))
        diag_cause(diag, "FieldValueNotSupported", "dryRun", "Unsupported value: []string{\"%.100s\"}: supported values: \"All\"", value);
}

static int fail(const char *kind, const struct diag *diag, struct api_failure *failure) {
    char text[sizeof failure->message - 100] = "";
    int count = MIN(diag->causes_count, DIAG_CAUSES_MAX);
    if (!count)
        return 0;
    for (int i = 0; i < count; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s: %s", i ? ", " : "", diag->causes[i].field, diag->causes[i].message);
    api_fail(failure, 422, "Invalid", "%s.meta.k8s.io \"\" is invalid: %s%s%s", kind, count > 1 ? "[" : "", text, count > 1 ? "]" : "");
    if (failure) {
        snprintf(failure->resource, sizeof failure->resource, "%s", kind);
        snprintf(failure->group, sizeof failure->group, "meta.k8s.io");
        failure->diag = *diag;
    }
    return 422;
}

int api_check_options(const struct request *request, const char *kind, bool apply, struct api_failure *failure) {
    static const char *const validations[] = {"", "Ignore", "Strict", "Warn", NULL};
    struct diag diag = DIAG_INIT;
    const char *manager = api_request_query(request, "fieldManager"), *validation = api_request_query(request, "fieldValidation");
    bool patch = !strcmp(kind, "PatchOptions");
    if (patch && !apply && api_request_query(request, "force"))
        diag_cause(&diag, "FieldValueForbidden", "force", "Forbidden: may not be specified for non-apply patch");
    if (apply && (!manager || !*manager))
        diag_cause(&diag, "FieldValueRequired", "fieldManager", "Required value: is required for apply patch");
    check_manager(manager ? manager : "", &diag);
    check_dry_run(api_request_query(request, "dryRun"), &diag);
    if (validation && !is_one_of(validation, validations))
        diag_cause(&diag, "FieldValueNotSupported", "fieldValidation",
                   "Unsupported value: \"%.100s\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"", validation);
    return fail(kind, &diag, failure);
}

int api_check_delete_options(const char *propagation, bool orphan_dependents, const char *dry_run, struct api_failure *failure) {
    static const char *const policies[] = {"Foreground", "Background", "Orphan", NULL};
    struct diag diag = DIAG_INIT;
    if (orphan_dependents && propagation)
        diag_cause(&diag, "FieldValueInvalid", "propagationPolicy",
                   "Invalid value: \"%.100s\": orphanDependents and deletionPropagation cannot be both set", propagation);
    if (propagation && !is_one_of(propagation, policies))
        diag_cause(&diag, "FieldValueNotSupported", "propagationPolicy",
                   "Unsupported value: \"%.100s\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\"", propagation);
    check_dry_run(dry_run, &diag);
    return fail("DeleteOptions", &diag, failure);
}

static void forbid_match(struct diag *diag, const char *why) {
    diag_cause(diag, "FieldValueForbidden", "resourceVersionMatch", "Forbidden: %s", why);
}

static void check_list_match(const struct request *request, const char *match, struct diag *diag) {
    const char *version = api_request_query(request, "resourceVersion"), *token = api_request_query(request, "continue");
    if (!version || !*version)
        forbid_match(diag, "resourceVersionMatch is forbidden unless resourceVersion is provided");
    if (token && *token)
        forbid_match(diag, "resourceVersionMatch is forbidden when continue is provided");
    if (strcmp(match, "Exact") && strcmp(match, "NotOlderThan"))
        diag_cause(diag, "FieldValueNotSupported", "resourceVersionMatch",
                   "Unsupported value: \"%.100s\": supported values: \"Exact\", \"NotOlderThan\", \"\"", match);
    if (!strcmp(match, "Exact") && version && !strcmp(version, "0"))
        forbid_match(diag, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
}

static void check_watch_match(const char *match, bool initial, struct diag *diag) {
    if (initial && strcmp(match, "NotOlderThan"))
        forbid_match(diag, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
    if (*match && !initial)
        forbid_match(diag, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided");
    if (*match && strcmp(match, "NotOlderThan"))
        diag_cause(diag, "FieldValueNotSupported", "resourceVersionMatch", "Unsupported value: \"%.100s\": supported values: \"NotOlderThan\"",
                   match);
}

static int check_numbers(const struct request *request, struct api_failure *failure) {
    static const char *const names[] = {"limit", "timeoutSeconds"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const char *text = api_request_query(request, names[i]);
        int64_t number;
        int error = text && *text ? slice_parse_i64(slice_of(text), &number) : 0;
        if (error)
            return api_fail_bad_request(failure, "strconv.ParseInt: parsing \"%.64s\": %s", text,
                                        error == -ERANGE ? "value out of range" : "invalid syntax");
    }
    return 0;
}

int api_check_list_options(const struct request *request, struct api_failure *failure) {
    struct diag diag = DIAG_INIT;
    int code = check_numbers(request, failure);
    if (code)
        return code;
    const char *given = api_request_query(request, "resourceVersionMatch"), *match = given ? given : "";
    bool initial = api_request_query(request, "sendInitialEvents") != NULL;
    if (!strcmp(request->verb, "watch"))
        check_watch_match(match, initial, &diag);
    else if (*match)
        check_list_match(request, match, &diag);
    if (initial && strcmp(request->verb, "watch") != 0)
        diag_cause(&diag, "FieldValueForbidden", "sendInitialEvents", "Forbidden: sendInitialEvents is forbidden for list");
    return fail("ListOptions", &diag, failure);
}
