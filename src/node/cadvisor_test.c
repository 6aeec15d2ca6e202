/* What is told of a pod, against a fake tree of control groups, v2 and v1. */
#include <fcntl.h>
#include <stdio.h>

#include "node/measure_priv.h"
#include "sys/sys.h"
#include "unit.h"

static void write_at(const char *root, const char *path, const char *text) {
    char full[300];
    snprintf(full, sizeof full, "%s/%s", root, path);
    *strrchr(full, '/') = 0;
    assert_int_equal(sys_mkdirs(full, 0755), 0);
    full[strlen(full)] = '/';
    assert_int_equal(sys_write_file_fast(AT_FDCWD, full, slice_of(text), 0644), 0);
}

struct file {
    const char *path, *text;
};
#define GROUP "t/pods/burstable/podu"

static const struct file v2[] = {
    {"cgroup.controllers", "cpu memory pids\n"},
    {GROUP "/id/cpu.stat", "usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\nnr_periods 10\nnr_throttled 4\nthrottled_usec 1500000\n"},
    {GROUP "/id/memory.current", "4096\n"},
    {GROUP "/id/memory.stat", "anon 1000\nfile 2000\ninactive_file 96\n"},
    {GROUP "/id/memory.events", "max 3\noom_kill 1\n"},
    {GROUP "/id/pids.current", "5\n"},
    {GROUP "/id/cgroup.procs", "11\n12\n"},
    {GROUP "/cpu.stat", "usage_usec 3000000\n"},
};
static const struct file v1[] = {
    {"cpu,cpuacct/cgroup.procs", ""},
    {"memory/cgroup.procs", ""},
    {"pids/cgroup.procs", ""},
    {"cpu,cpuacct/" GROUP "/id/cpuacct.usage", "2500000000\n"},
    {"cpu,cpuacct/" GROUP "/id/cpu.stat", "nr_periods 10\nnr_throttled 4\nthrottled_time 1500000000\n"},
    {"memory/" GROUP "/id/memory.usage_in_bytes", "4096\n"},
    {"memory/" GROUP "/id/memory.stat", "rss 1\ntotal_rss 1000\ntotal_cache 2000\ntotal_inactive_file 96\n"},
    {"memory/" GROUP "/id/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"},
    {"memory/" GROUP "/id/memory.failcnt", "3\n"},
    {"pids/" GROUP "/id/pids.current", "5\n"},
    {"pids/" GROUP "/id/cgroup.procs", "11\n12\n"},
    {"cpu,cpuacct/" GROUP "/cpuacct.usage", "3000000000\n"},
};

static void assert_line(const struct buffer *text, const char *line) {
    if (!text->data || !strstr(text->data, line))
        fail_msg("missing: %s\nin: %s", line, text->data ? text->data : "");
}

#define LABELS "container=\"c\",id=\"/t/pods/burstable/podu/id\",image=\"a\\\"b\",name=\"id\",namespace=\"n\",pod=\"p\""
#define POD_LABELS "container=\"\",id=\"/t/pods/burstable/podu\",image=\"\",name=\"\",namespace=\"n\",pod=\"p\""

static void check(struct node *node) {
    struct buffer text = BUFFER_INIT(MIB);
    assert_int_equal(cadvisor_format(node, &(struct query){0}, &text), 0);
    static const char *const lines[] = {
        "\ncontainer_cpu_usage_seconds_total{cpu=\"total\"," LABELS "} 2.5\n",
        "\ncontainer_cpu_usage_seconds_total{cpu=\"total\"," POD_LABELS "} 3\n",
        "\ncontainer_cpu_cfs_throttled_periods_total{" LABELS "} 4\n",
        "\ncontainer_cpu_cfs_throttled_seconds_total{" LABELS "} 1.5\n",
        "\ncontainer_memory_usage_bytes{" LABELS "} 4096\n",
        "\ncontainer_memory_working_set_bytes{" LABELS "} 4000\n",
        "\ncontainer_memory_rss{" LABELS "} 1000\n",
        "\ncontainer_memory_cache{" LABELS "} 2000\n",
        "\ncontainer_memory_failcnt{" LABELS "} 3\n",
        "\ncontainer_oom_events_total{" LABELS "} 1\n",
        "\ncontainer_threads{" LABELS "} 5\n",
        "\ncontainer_processes{" LABELS "} 2\n",
        "\ncontainer_start_time_seconds{" LABELS "} 7\n",
        "\ncontainer_spec_memory_limit_bytes{" LABELS "} 8388608\n",
        "\ncontainer_scrape_error 0\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        assert_line(&text, lines[i]);
    assert_null(strstr(text.data, "container_spec_cpu_quota{"));              /* it has none */
    assert_null(strstr(text.data, "container_network_receive_bytes_total{")); /* nor a network of its own */
    buffer_reset(&text);
    struct query_pair names[] = {
        {SLICE("name[]"), SLICE("container_oom_events_total")}, {SLICE("x"), SLICE("y")}, {SLICE("name[]"), SLICE("container_threads")}};
    assert_int_equal(cadvisor_format(node, &(struct query){names, ARRAY_LEN(names)}, &text), 0);
    assert_string_equal(text.data, "# HELP container_oom_events_total Count of out of memory events observed for the container\n"
                                   "# TYPE container_oom_events_total counter\ncontainer_oom_events_total{" LABELS "} 1\n"
                                   "# HELP container_threads Number of threads running inside the container\n"
                                   "# TYPE container_threads gauge\ncontainer_threads{" LABELS "} 5\n");
    buffer_reset(&text);
    assert_int_equal(resource_metrics_format(node, &text), 0);
    assert_line(&text, "\ncontainer_cpu_usage_seconds_total{container=\"c\",namespace=\"n\",pod=\"p\"} 2.5 ");
    assert_line(&text, "\npod_cpu_usage_seconds_total{namespace=\"n\",pod=\"p\"} 3 ");
    buffer_deinit(&text);
}

static void measure_tree(const struct file *files, size_t count) {
    static const struct node_options options = {.node_name = "n1"};
    char root[] = "/tmp/measure-XXXXXX";
    struct node *node = calloc(1, sizeof *node);
    struct pod *pod = calloc(1, sizeof *pod);
    struct unit *unit = calloc(1, sizeof *unit);
    assert_non_null(mkdtemp(root));
    for (size_t i = 0; i < count; i++)
        write_at(root, files[i].path, files[i].text);
    assert_int_equal(cgroups_detect(root, &node->cgroups, NULL), 0);
    assert_int_equal(loop_new(&node->loop), 0);
    node->options = &options;
    node->pods = map_new();
    snprintf(node->state_dir, sizeof node->state_dir, "%s", root);
    *unit = (struct unit){.pod = pod, .stage = UNIT_RUNNING, .started_ns = 7 * INT64_C(1000000000), .id = "id"};
    *pod = (struct pod){
        .node = node, .uid = "u", .namespace = "n", .name = "p", .stage = POD_ENDED, .group = "/" GROUP, .units = &unit, .units_count = 1};
    assert_int_equal(kube_decode_json(&kube_kind_pod,
                                      SLICE("{\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"a\\\"b\",\"resources\":{\"limits\":{\"memory\":"
                                            "\"8Mi\"}}}]}}"),
                                      KUBE_LENIENT, &pod->spec_object, NULL),
                     0);
    pod->resize.allocated = pod->spec_object;
    unit->spec = &pod->spec_object->pod->spec.containers.items[0];
    assert_int_equal(map_put(node->pods, slice_of(pod->uid), pod, NULL), 0);
    check(node);
    assert_int_equal(loop_turn(node->loop, 1000), 0); /* files were counted beside it */
    measure_stop(node);
    kube_object_unref(pod->spec_object);
    map_free(node->pods);
    loop_free(node->loop);
    free(unit);
    free(pod);
    free(node);
    assert_int_equal(sys_remove_tree(AT_FDCWD, root), 0);
}

UNIT_TEST(version_2_is_told_in_cadvisors_names) {
    measure_tree(v2, ARRAY_LEN(v2));
}
UNIT_TEST(version_1_is_told_in_cadvisors_names) {
    measure_tree(v1, ARRAY_LEN(v1));
}

UNIT_MAIN(UNIT(version_2_is_told_in_cadvisors_names), UNIT(version_1_is_told_in_cadvisors_names))
