/* What pods ask for and hold, the class that follows, and what of it a running pod may change. */
#include "kube/helpers_priv.h"

#include "unit.h"

#define POD(more, containers, status)                                                                                                                \
    "{\"metadata\":{\"name\":\"p\",\"namespace\":\"n\"},\"spec\":{" more "\"containers\":[" containers "]}" status "}"
#define CONTAINER(name, requests, limits)                                                                                                            \
    "{\"name\":\"" name                                                                                                                              \
    "\",\"image\":\"i\",\"terminationMessagePolicy\":\"File\",\"imagePullPolicy\":\"Always\",\"resources\":{\"requests\":{" requests                 \
    "},\"limits\":{" limits "}}}"

static struct kube_object *pod_of(const char *json) {
    struct kube_object *object = NULL;
    struct diag diag = DIAG_INIT;
    assert_int_equal(kube_decode_json(&kube_kind_pod, slice_of(json), KUBE_LENIENT, &object, &diag), 0);
    assert_int_equal(kube_default(object), 0);
    return object;
}

static void check_class(const char *json, const char *expected) {
    struct kube_object *pod = pod_of(json);
    assert_string_equal(kube_pod_qos_class(&pod->pod->spec), expected);
    kube_object_unref(pod);
}

UNIT_TEST(classes_follow_requests_and_limits) {
    check_class(POD("", CONTAINER("c", "", ""), ""), "BestEffort");
    check_class(POD("", CONTAINER("c", "\"cpu\":\"1\"", ""), ""), "Burstable");
    check_class(POD("", CONTAINER("c", "", "\"cpu\":\"1\",\"memory\":\"1Mi\""), ""), "Guaranteed");
    check_class(POD("", CONTAINER("c", "", "\"cpu\":\"1\",\"memory\":\"1Mi\"") "," CONTAINER("d", "", ""), ""), "Burstable");
    check_class(POD("\"initContainers\":[" CONTAINER("i", "", "") "],", CONTAINER("c", "", "\"cpu\":\"1\",\"memory\":\"1Mi\""), ""), "Burstable");
}

#define WHOLE(requests, limits) "\"resources\":{\"requests\":{" requests "},\"limits\":{" limits "}},"

static void check_sum(const char *json, int64_t cpu_milli, int64_t memory, int64_t disk) {
    struct kube_object *pod = pod_of(json);
    struct arena *arena = arena_new(MIB);
    struct kube_quantity_map requests, limits;
    assert_int_equal(kube_pod_resources(&pod->pod->spec, arena, &requests, &limits), 0);
    assert_int_equal(kube_quantity_milli(&requests, "cpu", 0), cpu_milli);
    assert_int_equal(kube_quantity_milli(&requests, "memory", 0), memory * 1000);
    assert_int_equal(kube_quantity_milli(&requests, "ephemeral-storage", 0), disk * 1000);
    arena_free(arena);
    kube_object_unref(pod);
}

UNIT_TEST(what_a_pod_says_as_a_whole_counts) {
    check_class(POD(WHOLE("", "\"cpu\":\"1\",\"memory\":\"1Mi\""), CONTAINER("c", "", ""), ""), "Guaranteed");
    check_class(POD(WHOLE("\"cpu\":\"1\"", ""), CONTAINER("c", "", "\"cpu\":\"1\",\"memory\":\"1Mi\""), ""), "Burstable");
    check_class(POD(WHOLE("\"ephemeral-storage\":\"1\"", ""), CONTAINER("c", "", ""), ""), "BestEffort");
    /* Requests that it does not say are its containers', or else its limits. */
    check_sum(POD(WHOLE("\"cpu\":\"3\"", ""), CONTAINER("c", "\"cpu\":\"1\",\"memory\":\"5\",\"ephemeral-storage\":\"7\"", ""), ""), 3000, 5, 7);
    check_sum(POD(WHOLE("", "\"cpu\":\"2\",\"memory\":\"9\""), CONTAINER("c", "\"cpu\":\"1\"", ""), ""), 1000, 9, 0);
}

#define STATUS(condition, allocated)                                                                                                                 \
    ",\"status\":{\"conditions\":[{\"type\":\"PodResizePending\",\"status\":\"True\",\"reason\":\"" condition                                        \
    "\"}],\"containerStatuses\":[{\"name\":\"c\",\"resources\":{\"requests\":{\"cpu\":\"" allocated                                                  \
    "\"}},\"allocatedResources\":{\"cpu\":\"" allocated "\"}}]}"

static void check_held(const char *json, int64_t expected_milli) {
    struct kube_object *pod = pod_of(json);
    struct arena *arena = arena_new(MIB);
    struct kube_quantity_map requests, limits;
    assert_int_equal(kube_pod_resources_held(pod->pod, arena, &requests, &limits), 0);
    assert_int_equal(kube_quantity_milli(&requests, "cpu", 0), expected_milli);
    arena_free(arena);
    kube_object_unref(pod);
}

UNIT_TEST(a_resize_counts_with_the_larger_of_both) {
    check_held(POD("", CONTAINER("c", "\"cpu\":\"200m\"", ""), ""), 200);
    check_held(POD("", CONTAINER("c", "\"cpu\":\"200m\"", ""), STATUS("Deferred", "100m")), 200);
    check_held(POD("", CONTAINER("c", "\"cpu\":\"200m\"", ""), STATUS("Deferred", "300m")), 300);
    check_held(POD("", CONTAINER("c", "\"cpu\":\"200m\"", ""), STATUS("Infeasible", "100m")), 100);
    check_held(POD("\"initContainers\":[" CONTAINER("i", "\"cpu\":\"1\"", "") "],", CONTAINER("c", "\"cpu\":\"200m\"", ""), STATUS("Deferred", "2")),
               2000);
}

static void check_resize(const char *to, const char *from, const char *expected) {
    struct kube_object *now = pod_of(to), *before = pod_of(from);
    struct diag diag = DIAG_INIT;
    before->pod->status.qos_class = kube_pod_qos_class(&before->pod->spec);
    int r = kube_validate_resize(now, before, &diag);
    assert_int_equal(r, *expected ? -EINVAL : 0);
    if (*expected && !strstr(diag.message, expected))
        fail_msg("%s: not in: %s", expected, diag.message);
    kube_object_unref(now);
    kube_object_unref(before);
}

UNIT_TEST(what_a_running_pod_may_change) {
    const char *old =
        POD("\"initContainers\":[" CONTAINER("i", "\"cpu\":\"1\"", "") "],", CONTAINER("c", "\"cpu\":\"200m\",\"memory\":\"1Mi\"", ""), "");
#define NEW(init, container) POD("\"initContainers\":[" init "],", container, "")
#define INIT CONTAINER("i", "\"cpu\":\"1\"", "")
    check_resize(NEW(INIT, CONTAINER("c", "\"cpu\":\"300m\",\"memory\":\"2Mi\"", "\"memory\":\"3Mi\"")), old, "");
    check_resize(NEW(INIT, CONTAINER("c", "\"cpu\":\"300m\"", "")), old,
                 "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed");
    check_resize(NEW(INIT, CONTAINER("d", "\"cpu\":\"200m\",\"memory\":\"1Mi\"", "")), old,
                 "spec.containers[0].name: Forbidden: containers may not be renamed or reordered on resize");
    check_resize(NEW(INIT, CONTAINER("c", "\"cpu\":\"200m\",\"memory\":\"1Mi\"", "") "," CONTAINER("d", "", "")), old,
                 "spec.containers: Forbidden: containers may not be added or removed on resize");
    check_resize(NEW(CONTAINER("i", "\"cpu\":\"2\"", ""), CONTAINER("c", "\"cpu\":\"200m\",\"memory\":\"1Mi\"", "")), old,
                 "spec.initContainers[0].resources: Forbidden: resources for non-sidecar init containers are immutable");
    check_resize(NEW(INIT, CONTAINER("c", "\"cpu\":\"200m\",\"memory\":\"1Mi\",\"ephemeral-storage\":\"1\"", "")), old,
                 "spec: Forbidden: only cpu and memory resources are mutable");
    check_resize(POD("", CONTAINER("c", "\"cpu\":\"1\"", ""), ""), POD("", CONTAINER("c", "", ""), ""),
                 "spec: Invalid value: \"BestEffort\": Pod QOS Class may not change as a result of resizing");
#define LEVEL WHOLE("\"cpu\":\"2\"", "")
    check_resize(POD(LEVEL, CONTAINER("c", "\"cpu\":\"3\"", ""), ""), POD(LEVEL, CONTAINER("c", "\"cpu\":\"1\"", ""), ""),
                 "spec: Forbidden: pods with pod-level resources cannot be resized");
}

UNIT_MAIN(UNIT(classes_follow_requests_and_limits), UNIT(what_a_pod_says_as_a_whole_counts), UNIT(a_resize_counts_with_the_larger_of_both),
          UNIT(what_a_running_pod_may_change))
