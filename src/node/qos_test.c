/* A pod's place among the others, against a fake tree of control groups (v2: the machine that runs this has what it has). */
#include <fcntl.h>
#include <stdio.h>

#include "node/node_priv.h"
#include "sys/sys.h"
#include "unit.h"

static struct node *node_of(char root[64]) {
    static const char *const folders[] = {"t/pods/burstable", "t/pods/besteffort/batch"};
    static const char *const files[] = {"cpu.weight", "cpu.idle", "cpu.max", "memory.max", "memory.swap.max", "pids.max", "memory.current"};
    static const char *const groups[] = {
        "t", "t/pods", "t/pods/burstable", "t/pods/besteffort", "t/pods/besteffort/batch", "t/pods/podg", "t/pods/burstable/podb"};
    struct node *node = calloc(1, sizeof *node);
    char path[200];
    snprintf(root, 64, "/tmp/qos-XXXXXX");
    assert_non_null(mkdtemp(root));
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        snprintf(path, sizeof path, "%s/%s", root, folders[i]);
        assert_int_equal(sys_mkdirs(path, 0755), 0);
    }
    snprintf(path, sizeof path, "%s/cgroup.controllers", root);
    assert_int_equal(sys_write_file_fast(AT_FDCWD, path, SLICE("cpu memory pids\n"), 0644), 0);
    for (size_t g = 0; g < ARRAY_LEN(groups); g++)
        for (size_t i = 0; i < ARRAY_LEN(files); i++) {
            snprintf(path, sizeof path, "%s/%s", root, groups[g]);
            assert_int_equal(sys_mkdirs(path, 0755), 0);
            snprintf(path, sizeof path, "%s/%s/%s", root, groups[g], files[i]);
            assert_int_equal(sys_write_file_fast(AT_FDCWD, path, SLICE(""), 0644), 0);
        }
    assert_int_equal(cgroups_detect(root, &node->cgroups, NULL), 0);
    snprintf(node->cgroup_root, sizeof node->cgroup_root, "/t");
    node->pods = map_new();
    return node;
}

static void free_node(struct node *node, const char *root) {
    assert_int_equal(sys_remove_tree(AT_FDCWD, root), 0);
    map_free(node->pods);
    free(node);
}

static int64_t number(const char *root, const char *path) {
    struct buffer text = BUFFER_INIT(64);
    char full[200];
    uint64_t value = 0;
    snprintf(full, sizeof full, "%s/%s", root, path);
    assert_int_equal(sys_read_file(AT_FDCWD, full, 63, &text), 0);
    struct slice rest = buffer_slice(&text);
    assert_int_equal(slice_parse_u64(slice_cut(&rest, ' '), INT64_MAX, &value), 0);
    buffer_deinit(&text);
    return (int64_t)value;
}

#define POD(uid, class, more, containers)                                                                                                            \
    "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"p\",\"namespace\":\"n\",\"uid\":\"" uid "\"},\"spec\":{" more                  \
    "\"containers\":[" containers "]},\"status\":{\"qosClass\":\"" class "\"}}"
#define CONTAINER(requests, limits) "{\"name\":\"c\",\"resources\":{\"requests\":{" requests "},\"limits\":{" limits "}}}"

static struct pod *pod_of(struct node *node, const char *json) {
    struct pod *pod = calloc(1, sizeof *pod);
    struct diag diag = DIAG_INIT;
    assert_int_equal(kube_decode_json(&kube_kind_pod, slice_of(json), KUBE_LENIENT, &pod->spec_object, &diag), 0);
    pod->node = node;
    pod->resize.allocated = pod->spec_object;
    pod->uid = pod->spec_object->metadata->uid;
    assert_int_equal(map_put(node->pods, slice_of(pod->uid), pod, NULL), 0);
    assert_int_equal(qos_place(pod), 0);
    return pod;
}

static void make_group(struct pod *pod) {
    struct cgroup_limits limits;
    qos_pod_limits(pod, &limits);
    assert_int_equal(cgroup_create(&pod->node->cgroups, pod->group, &limits), 0);
    pod->cgroup = POD_CGROUP_READY;
    qos_changed(pod->node);
}

static void free_pod(struct pod *pod) {
    map_remove(pod->node->pods, slice_of(pod->uid));
    kube_object_unref(pod->spec_object);
    free(pod);
}

UNIT_TEST(a_class_has_its_place) {
    static const struct {
        const char *json, *path;
    } cases[] = {
        {POD("g2", "Guaranteed", "", CONTAINER("", "")), "/t/pods/podg2"},
        {POD("b2", "Burstable", "", CONTAINER("", "")), "/t/pods/burstable/podb2"},
        {POD("e", "BestEffort", "", CONTAINER("", "")), "/t/pods/besteffort/pode"},
        {POD("j", "Burstable", "\"priorityClassName\":\"tidemill-batch\",", CONTAINER("", "")), "/t/pods/besteffort/batch/podj"},
        {POD("old", "Burstable", "", CONTAINER("", "")), "/t/podold"}, /* began under an earlier version */
    };
    char root[64], old[100];
    struct node *node = node_of(root);
    snprintf(old, sizeof old, "%s/t/podold", root);
    assert_int_equal(sys_mkdirs(old, 0755), 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct pod *pod = pod_of(node, cases[i].json);
        assert_string_equal(pod->group, cases[i].path);
        free_pod(pod);
    }
    free_node(node, root);
}

/* The group of burstable pods weighs what they asked for, and what they did not ask for is the memory of batch. */
UNIT_TEST(groups_follow_their_pods) {
    char root[64];
    struct node *node = node_of(root);
    struct diag diag = DIAG_INIT;
    assert_int_equal(qos_start(node, &diag), 0);
    assert_int_equal(number(root, "t/pods/memory.max"), allocatable_pods_memory());
    assert_int_equal(number(root, "t/pods/besteffort/batch/cpu.idle"), 1);
    struct pod *guaranteed =
        pod_of(node, POD("g", "Guaranteed", "", CONTAINER("\"cpu\":\"1\",\"memory\":\"64Mi\"", "\"cpu\":\"1\",\"memory\":\"64Mi\"")));
    struct pod *burstable =
        pod_of(node, POD("b", "Burstable", "\"overhead\":{\"cpu\":\"500m\"},", CONTAINER("\"cpu\":\"2\",\"memory\":\"32Mi\"", "")));
    make_group(guaranteed);
    assert_int_equal(number(root, "t/pods/burstable/cpu.weight"), 1);
    assert_int_equal(number(root, "t/pods/podg/cpu.weight"), cgroup_weight_of_shares(1024));
    assert_int_equal(number(root, "t/pods/podg/cpu.max"), 100000);
    assert_int_equal(number(root, "t/pods/podg/memory.max"), 64 << 20);
    make_group(burstable);
    assert_int_equal(number(root, "t/pods/burstable/cpu.weight"), cgroup_weight_of_shares(2560));
    assert_int_equal(number(root, "t/pods/burstable/podb/cpu.weight"), cgroup_weight_of_shares(2560)); /* overhead included */
    assert_int_equal(number(root, "t/pods/besteffort/batch/memory.max"), MAX(allocatable_pods_memory() - (96 << 20), allocatable_pods_memory() / 4));
    struct pod *greedy = pod_of(node, POD("b3", "Burstable", "", CONTAINER("\"memory\":\"8Ei\"", "")));
    greedy->cgroup = POD_CGROUP_READY;
    char bound[100];
    snprintf(bound, sizeof bound, "%s/t/pods/besteffort/batch/memory.max", root);
    assert_int_equal(truncate(bound, 0), 0); /* a number is written over the last one */
    burstable->cgroup = POD_CGROUP_NONE;
    qos_changed(node);
    assert_int_equal(number(root, "t/pods/besteffort/batch/memory.max"), allocatable_pods_memory() / 4);
    free_pod(guaranteed);
    free_pod(burstable);
    free_pod(greedy);
    free_node(node, root);
}

UNIT_TEST(limits_follow_the_container) {
    struct kube_quantity_pair limits[] = {
        {"cpu", {"500m", 500}}, {"hugepages-2Mi", {"4Mi", 4 * INT64_C(1048576) * 1000}}, {"memory", {"64Mi", 64 * INT64_C(1048576) * 1000}}};
    struct kube_quantity_pair requests[] = {{"cpu", {"250m", 250}}};
    struct kube_resource_requirements resources = {.limits = {limits, 3}, .requests = {requests, 1}};
    struct node node = {.cgroups = {.version = CGROUP_V2, .controllers = {"cpu", "memory", "pids"}, .controllers_count = 3}, .pods = map_new()};
    struct pod *pod = pod_of(&node, POD("u", "Burstable", "", CONTAINER("", "")));
    const struct unit unit = {.pod = pod};
    struct cgroup_limits ret;
    qos_container_limits(&unit, &resources, &ret);
    assert_int_equal(ret.cpu_shares, 256);
    assert_int_equal(ret.cpu_quota_us, 50000);
    assert_int_equal(ret.memory_bytes, 64 * 1048576);
    assert_int_equal(ret.hugepages_count, 1);
    assert_string_equal(ret.hugepages[0].size, "2MB");
    assert_true(ret.kill_all && ret.pids > 0);
    resources.requests.count = 0;
    qos_container_limits(&unit, &resources, &ret);
    assert_int_equal(ret.cpu_shares, 512); /* a limit alone is the request as well */
    resources.limits.count = 0;
    node.cgroups = (struct cgroups){.version = CGROUP_V1};
    qos_container_limits(&unit, &resources, &ret);
    assert_int_equal(ret.cpu_shares, 0);
    assert_int_equal(ret.cpu_quota_us, CGROUP_UNLIMITED);
    assert_int_equal(ret.memory_bytes, CGROUP_UNLIMITED);
    assert_true(!ret.kill_all && !ret.pids); /* nobody who could count them */
    free_pod(pod);
    map_free(node.pods);
}

/* KEP-2837: what the pod says counts for its group, and is seen by containers that say nothing. */
UNIT_TEST(a_pod_as_a_whole_has_limits) {
    struct node node = {.cgroups = {.version = CGROUP_V2, .controllers = {"cpu", "memory", "pids"}, .controllers_count = 3}, .pods = map_new()};
    struct pod *pod =
        pod_of(&node, POD("u", "Burstable",
                          "\"resources\":{\"requests\":{\"cpu\":\"1\"},\"limits\":{\"cpu\":\"2\",\"memory\":\"64Mi\",\"hugepages-2Mi\":\"4Mi\"}},",
                          CONTAINER("\"cpu\":\"100m\"", "\"memory\":\"16Mi\"")));
    const struct unit unit = {.pod = pod, .spec = &pod->spec_object->pod->spec.containers.items[0]};
    struct cgroup_limits ret;
    qos_pod_limits(pod, &ret);
    assert_true(ret.cpu_shares == 1024 && ret.cpu_quota_us == 200000 && ret.memory_bytes == 64 * 1048576);
    assert_true(ret.hugepages_count == 1 && ret.hugepages[0].bytes == 4 * 1048576);
    qos_container_limits(&unit, &unit.spec->resources, &ret);
    assert_true(ret.cpu_shares == 102 && ret.cpu_quota_us == 200000 && ret.memory_bytes == 16 * 1048576);
    free_pod(pod);
    map_free(node.pods);
}

UNIT_TEST(a_limit_of_the_pod_needs_one_of_each) {
    char root[64];
    struct node *node = node_of(root);
    struct cgroup_limits limits;
    struct pod *pod = pod_of(node, POD("x", "Burstable", "\"initContainers\":[" CONTAINER("", "\"cpu\":\"3\",\"memory\":\"1Mi\"") "],",
                                       CONTAINER("", "\"cpu\":\"1\",\"memory\":\"2Mi\"") "," CONTAINER("", "\"cpu\":\"1\"")));
    qos_pod_limits(pod, &limits);
    assert_int_equal(limits.cpu_quota_us, 300000);
    assert_int_equal(limits.memory_bytes, CGROUP_UNLIMITED);
    free_pod(pod);
    free_node(node, root);
}

UNIT_TEST(the_reserve_grows_slower_than_the_machine) {
    assert_int_equal(allocatable_reserve(512 << 20), (96 << 20) + (512 << 20) / 20);
    assert_int_equal(allocatable_reserve(256 << 20), 64 << 20); /* a quarter at most */
    assert_int_equal(allocatable_reserve(INT64_C(54) << 30), (96 << 20) + (INT64_C(4) << 30) / 20 + (INT64_C(1) << 30));
}

UNIT_MAIN(UNIT(a_class_has_its_place), UNIT(groups_follow_their_pods), UNIT(limits_follow_the_container), UNIT(a_pod_as_a_whole_has_limits),
          UNIT(a_limit_of_the_pod_needs_one_of_each), UNIT(the_reserve_grows_slower_than_the_machine))
