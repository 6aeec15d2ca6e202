/* Memory that is refused, in what a pod cannot be without: its volumes' files, its status, its record, the description of its containers. */
#include <fcntl.h>
#include <stdio.h>

#include "node/node_priv.h"
#include "sys/sys.h"

#include "faults.h"
#include "unit.h"

static char dir[] = "/tmp/tidemill-payload-XXXXXX";

static void show(const char *expected) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(KIB);
    char path[80];
    snprintf(path, sizeof path, "%s/key", dir);
    assert_int_equal(sys_read_file(AT_FDCWD, path, KIB - 1, &text), 0);
    if (expected)
        assert_true(slice_is(buffer_slice(&text), expected));
    assert_true(slice_is(buffer_slice(&text), "old") || slice_is(buffer_slice(&text), "new"));
}

static int write_key(const char *value) {
    struct payload payload = {.user = (uid_t)-1, .group = (gid_t)-1};
    bool changed;
    int r = payload_put(&payload, "key", slice_of(value), 0644);
    if (r == 0)
        r = payload_put(&payload, "folder/other", slice_of(value), 0644);
    if (r == 0)
        r = payload_write(dir, &payload, &changed);
    VECTOR_DEINIT(&payload);
    return r;
}

/* Who reads a volume sees what was there before, or what comes after, never a mixture and never nothing. */
static int replace(__attribute__((unused)) void *context) {
    faults_pause();
    assert_int_equal(write_key("old"), 0);
    faults_resume();
    int r = write_key("new");
    faults_pause();
    show(r == 0 ? "new" : NULL);
    faults_resume();
    return r;
}

UNIT_TEST(a_volume_is_never_half_written) {
    assert_non_null(mkdtemp(dir));
    TEST_FAULTS_ANY(replace, NULL);
    assert_int_equal(sys_remove_tree(AT_FDCWD, dir), 0);
}

/* --- a pod --- */

#define NS INT64_C(1000000000)
static const char pod_json[] =
    "{\"metadata\":{\"name\":\"p\",\"namespace\":\"n\",\"uid\":\"u-1\",\"labels\":{\"app\":\"web\"},\"generation\":3},\"spec\":{"
    "\"volumes\":[{\"name\":\"d\",\"emptyDir\":{}},{\"name\":\"h\",\"hostPath\":{\"path\":\"/tmp\"}}],"
    "\"initContainers\":[{\"name\":\"first\",\"image\":\"a:1\"},{\"name\":\"side\",\"image\":\"a:1\",\"restartPolicy\":\"Always\"}],"
    "\"containers\":[{\"name\":\"main\",\"image\":\"a:1\",\"command\":[\"/bin/program\",\"$(WHO)\"],\"workingDir\":\"/w\","
    "\"env\":[{\"name\":\"WHO\",\"value\":\"me\"},{\"name\":\"NAME\",\"valueFrom\":{\"fieldRef\":{\"fieldPath\":\"metadata.name\"}}},"
    "{\"name\":\"LABELS\",\"valueFrom\":{\"fieldRef\":{\"fieldPath\":\"metadata.labels['app']\"}}},"
    "{\"name\":\"CPU\",\"valueFrom\":{\"resourceFieldRef\":{\"resource\":\"limits.memory\"}}}],"
    "\"resources\":{\"requests\":{\"cpu\":\"100m\"},\"limits\":{\"memory\":\"64Mi\"}},"
    "\"volumeMounts\":[{\"name\":\"d\",\"mountPath\":\"/d\"},{\"name\":\"h\",\"mountPath\":\"/h\",\"readOnly\":true}],"
    "\"securityContext\":{\"runAsUser\":1000,\"capabilities\":{\"add\":[\"NET_ADMIN\"],\"drop\":[\"MKNOD\"]},\"seccompProfile\":{\"type\":"
    "\"Unconfined\"}}},"
    "{\"name\":\"next\",\"image\":\"a:1\"}]},\"status\":{\"qosClass\":\"Burstable\"}}";

static struct node *node;
static const struct node_options options = {.node_name = "node1"};

static struct node *make_node(void) {
    node = calloc(1, sizeof *node);
    assert_non_null(node);
    node->options = &options;
    snprintf(node->state_dir, sizeof node->state_dir, "%s", dir);
    snprintf(node->run_dir, sizeof node->run_dir, "%s", dir);
    snprintf(node->layers_dir, sizeof node->layers_dir, "%s/layers", dir);
    snprintf(node->cgroup_root, sizeof node->cgroup_root, "/t");
    snprintf(node->host_address, sizeof node->host_address, "192.0.2.1");
    assert_int_equal(loop_new(&node->loop), 0);
    node->pods = map_new();
    node->seccomp = map_new();
    return node;
}

static void free_node(void) {
    map_free(node->pods);
    map_free(node->seccomp);
    loop_free(node->loop);
    free(node);
}

static struct unit *make_unit(struct pod *pod, const struct kube_container *spec, bool is_init) {
    struct unit *unit = unit_new(pod, spec, is_init);
    assert_non_null(unit);
    pod->units[pod->units_count++] = unit;
    return unit;
}

/* One of each: done, running, running after a failure, waiting. */
static struct pod *make_pod(void) {
    struct pod *pod = calloc(1, sizeof *pod);
    assert_non_null(pod);
    assert_int_equal(kube_decode_json(&kube_kind_pod, slice_of(pod_json), KUBE_LENIENT, &pod->spec_object, NULL), 0);
    const struct kube_pod_spec *spec = &pod->spec_object->pod->spec;
    pod->node = node;
    pod->object = kube_object_ref(pod->spec_object);
    pod->resize.allocated = pod->spec_object;
    pod->uid = pod->spec_object->metadata->uid;
    pod->namespace = pod->spec_object->metadata->namespace;
    pod->name = pod->spec_object->metadata->name;
    pod->stage = POD_ACTIVE;
    pod->phase = "Pending";
    pod->start_time_ns = 100 * NS;
    pod->failed_grace_s = -1;
    snprintf(pod->net.address, sizeof pod->net.address, "10.0.0.7");
    snprintf(pod->group, sizeof pod->group, "/t/pods/burstable/podu-1");
    snprintf(pod->dir, sizeof pod->dir, "%s/pods/u-1", dir);
    pod->units = calloc(4, sizeof *pod->units);
    assert_non_null(pod->units);
    struct unit *first = make_unit(pod, &spec->init_containers.items[0], true), *side = make_unit(pod, &spec->init_containers.items[1], true);
    struct unit *main_unit = make_unit(pod, &spec->containers.items[0], false);
    make_unit(pod, &spec->containers.items[1], false);
    first->stage = UNIT_EXITED;
    first->current = (struct termination){.set = true, .reason = "Completed", .id = "1f", .started_ns = 101 * NS, .finished_ns = 102 * NS};
    side->stage = main_unit->stage = UNIT_RUNNING;
    side->started_ns = main_unit->started_ns = 103 * NS;
    side->started = side->ready = main_unit->started = true;
    snprintf(side->id, sizeof side->id, "2a");
    snprintf(main_unit->id, sizeof main_unit->id, "3a");
    main_unit->restart_count = 2;
    main_unit->has_run = true;
    main_unit->last = (struct termination){.set = true, .code = 3, .reason = "Error", .message = "it was \"late\"", .id = "3f"};
    return pod;
}

static void free_pod(struct pod *pod) {
    for (size_t i = 0; i < pod->units_count; i++) {
        image_unref(pod->units[i]->image);
        pod->units[i]->image = NULL;
        free(pod->units[i]);
    }
    free(pod->units);
    kube_object_unref(pod->object);
    kube_object_unref(pod->spec_object);
    free(pod);
}

/* --- what the API is told --- */

static struct buffer expected;

static int tell(void *context) {
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(MIB);
    int r = status_format(context, &out);
    if (r == 0)
        assert_true(slice_equal(buffer_slice(&out), buffer_slice(&expected)));
    return r;
}

UNIT_TEST(a_status_is_whole_or_not_told) {
    make_node();
    struct pod *pod = make_pod();
    expected = BUFFER_INIT(MIB);
    assert_int_equal(status_format(pod, &expected), 0);
    assert_true(slice_find(buffer_slice(&expected), SLICE("it was \\\"late\\\"")) > 0);
    assert_true(slice_find(buffer_slice(&expected), SLICE("tidemill://3a")) > 0);
    TEST_FAULTS(tell, pod);
    buffer_deinit(&expected);
    free_pod(pod);
    free_node();
}

/* --- what is on disk --- */

static int save_and_load(void *context) {
    struct pod *pod = context;
    int r = record_save(pod);
    if (r < 0)
        return r;
    faults_pause();
    struct pod *other = make_pod();
    struct unit *unit = other->units[2];
    unit->stage = UNIT_WAITING;
    unit->restart_count = 0;
    unit->last = (struct termination){.set = false};
    unit->post_starting = false;
    faults_resume();
    r = record_load(other);
    faults_pause();
    if (r == 0) {
        assert_int_equal(unit->stage, UNIT_RUNNING);
        assert_int_equal(unit->restart_count, 2);
        assert_true(unit->post_starting);
        assert_false(other->units[1]->post_starting);
        assert_string_equal(unit->last.message, "it was \"late\"");
    }
    free_pod(other);
    faults_resume();
    return r;
}

UNIT_TEST(a_record_is_read_as_it_was_written) {
    make_node();
    struct pod *pod = make_pod();
    pod->units[2]->post_starting = true;
    assert_int_equal(sys_mkdirs(pod->dir, 0700), 0);
    TEST_FAULTS(save_and_load, pod);
    free_pod(pod);
    free_node();
    assert_int_equal(sys_remove_tree(AT_FDCWD, dir), 0);
}

/* --- what a container is --- */

static int describe(void *context) {
    struct unit *unit = ((struct pod *)context)->units[2];
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(MIB);
    struct diag diag = DIAG_INIT;
    int r = spec_format(unit, &out, &diag);
    faults_pause();
    kube_object_unref(TAKE(unit->actuated));
    if (r == 0)
        assert_true(slice_equal(buffer_slice(&out), buffer_slice(&expected)));
    else
        assert_true(diag.message[0]);
    faults_resume();
    return r;
}

UNIT_TEST(a_container_is_described_wholly_or_not_at_all) {
    make_node();
    struct pod *pod = make_pod();
    struct unit *unit = pod->units[2];
    struct diag diag = DIAG_INIT;
    static const char *const folders[] = {"etc", "volumes/d", "containers/main/2"};
    char path[PATH_MAX];
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        snprintf(path, sizeof path, "%s/%s", pod->dir, folders[i]);
        assert_int_equal(sys_mkdirs(path, 0755), 0);
    }
    unit->image = image_new();
    assert_non_null(unit->image);
    assert_int_equal(
        image_parse_config(unit->image,
                           SLICE("{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{\"Env\":[\"PATH=/bin\"]},\"rootfs\":{\"type\":"
                                 "\"layers\",\"diff_ids\":[]}}"),
                           &diag),
        0);
    expected = BUFFER_INIT(MIB);
    if (spec_format(unit, &expected, &diag) < 0)
        fail_msg("%s", diag.message);
    kube_object_unref(TAKE(unit->actuated));
    assert_true(slice_find(buffer_slice(&expected), SLICE("\"/bin/program\",\"me\"")) > 0);
    assert_true(slice_find(buffer_slice(&expected), SLICE("LABELS=web")) > 0);
    TEST_FAULTS(describe, pod);
    buffer_deinit(&expected);
    free_pod(pod);
    free_node();
    assert_int_equal(sys_remove_tree(AT_FDCWD, dir), 0);
}

UNIT_MAIN(UNIT(a_volume_is_never_half_written), UNIT(a_status_is_whole_or_not_told), UNIT(a_record_is_read_as_it_was_written),
          UNIT(a_container_is_described_wholly_or_not_at_all))
