/* Which pods that name their node themselves are refused, and what they are told. */
#include "node/fitting_priv.h"
#include "unit.h"

static struct kube_object *pod_of(const char *container) {
    CLEANUP(buffer_deinit) struct buffer json = BUFFER_INIT(KIB);
    struct kube_object *object = NULL;
    struct diag diag = DIAG_INIT;
    buffer_printf(&json, "{\"metadata\":{\"name\":\"p\",\"namespace\":\"n\"},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\",%s}]}}",
                  container);
    assert_int_equal(kube_decode_json(&kube_kind_pod, buffer_slice(&json), KUBE_LENIENT, &object, &diag), 0);
    return object;
}

static void check(const char *container, const char *other, const char *reason, const char *message) {
    static const struct fitting_room room = {.cpu_milli = 2000, .memory = 1000, .disk = 1000, .pods = 2};
    struct kube_object *pod = pod_of(container), *there = pod_of(other);
    const struct kube_pod *others[] = {there->pod};
    struct fitting_refusal refusal = {"", ""};
    assert_int_equal(fitting_check(pod->pod, others, 1, &room, &refusal), !*reason);
    assert_string_equal(refusal.reason, reason);
    assert_string_equal(refusal.message, message);
    kube_object_unref(pod);
    kube_object_unref(there);
}

#define PORT(port) "\"ports\":[{\"containerPort\":1," port "}]"
#define ASKS(what) "\"resources\":{\"requests\":{" what "}}"
#define TAKEN "NodePorts", "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"

UNIT_TEST(two_pods_do_not_share_a_port_of_the_machine) {
    check(PORT("\"hostPort\":80"), PORT("\"hostPort\":80"), TAKEN);
    check(PORT("\"hostPort\":80,\"hostIP\":\"10.0.0.1\""), PORT("\"hostPort\":80"), TAKEN);
    check(PORT("\"hostPort\":80,\"hostIP\":\"10.0.0.1\""), PORT("\"hostPort\":80,\"hostIP\":\"10.0.0.2\""), "", "");
    check(PORT("\"hostPort\":80,\"protocol\":\"UDP\""), PORT("\"hostPort\":80"), "", "");
    check(PORT("\"name\":\"x\""), PORT("\"name\":\"x\""), "", "");
}

UNIT_TEST(what_is_used_up_is_refused) {
    check(ASKS("\"cpu\":\"1500m\""), ASKS("\"cpu\":\"600m\""), "OutOfcpu",
          "Node didn't have enough resource: cpu, requested: 1500, used: 600, capacity: 2000");
    check(ASKS("\"memory\":\"401\""), ASKS("\"memory\":\"600\""), "OutOfmemory",
          "Node didn't have enough resource: memory, requested: 401, used: 600, capacity: 1000");
    check(ASKS("\"ephemeral-storage\":\"1k\""), ASKS("\"ephemeral-storage\":\"1\""), "OutOfephemeral-storage",
          "Node didn't have enough resource: ephemeral-storage, requested: 1000, used: 1, capacity: 1000");
    check(ASKS("\"memory\":\"400\""), ASKS("\"memory\":\"600\""), "", "");
    check(ASKS(""), ASKS("\"memory\":\"6000\""), "", ""); /* who asks for nothing takes nothing from anybody */
}

UNIT_TEST(so_many_and_no_more) {
    struct kube_object *pod = pod_of(ASKS(""));
    const struct kube_pod *others[] = {pod->pod, pod->pod};
    struct fitting_refusal refusal = {"", ""};
    assert_false(fitting_check(pod->pod, others, 2, &(struct fitting_room){.pods = 2}, &refusal));
    assert_string_equal(refusal.reason, "OutOfpods");
    assert_true(fitting_check(pod->pod, others, 1, &(struct fitting_room){.pods = 2}, &refusal));
    kube_object_unref(pod);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(two_pods_do_not_share_a_port_of_the_machine), cmocka_unit_test(what_is_used_up_is_refused),
                                       cmocka_unit_test(so_many_and_no_more)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
