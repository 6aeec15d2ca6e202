/* The whole role as a process: starts, answers, is killed with -9 right after an acknowledged write, starts again, and has lost nothing. */
#include "unit.h"

#include "client/client.h"
#include "core/core.h"
#include "http/http.h"
#include "sys/sys.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS 60
#define PATIENCE_S 60

struct fixture {
    char folder[64];
    char api_address[64];
    int api_fd, unix_fd;
    pid_t pid;
};

struct reply {
    bool done;
    int error, status;
    char body[4096];
};

static int listen_at(const char *text) {
    struct sys_address address;
    assert_int_equal(sys_address_parse(text, &address), 0);
    int fd = sys_listen(&address, 16, 0600);
    assert_true(fd >= 0);
    return fd;
}

static void start(struct fixture *fixture) {
    fflush(NULL);
    fixture->pid = fork();
    assert_true(fixture->pid >= 0);
    if (fixture->pid)
        return;
    log_setup("core", LOG_ERROR);
    const struct core_options options = {
        .instance = "test",
        .state = fixture->folder,
        .run = fixture->folder,
        .version = "0",
        .node_name = "n1",
        .api_fd = fixture->api_fd,
        .api_unix_fd = fixture->unix_fd,
        .registry_fd = -1,
        .api_pods_fd = -1,
        .registry_pods_fd = -1,
        .git_fd = -1,
        .job_fd = -1,
        .api_address = fixture->api_address,
        .bridge_address = "10.88.0.1",
        .service_range = "10.96.0.0/16",
        .registry = "127.0.0.1:1",
        .git_url = "http://127.0.0.1:1",
        .domain = "localhost",
        .gateway_port = 80,
        .gateway_uid = (uid_t)-1,
        .node_silence_ms = 100,
        .image_gc_high_percent = 100,
        .image_gc_low_percent = 100,
        .helper_path = "/bin/true",
    };
    struct diag diag = DIAG_INIT;
    char text[1024];
    int error = core_run(&options, &diag);
    if (error)
        fprintf(stderr, "core: %s\n", diag_format(&diag, text, sizeof text));
    fflush(NULL);
    _exit(error ? 1 : 0);
}

static int stop(struct fixture *fixture, int signal) {
    int status = 0;
    assert_int_equal(kill(fixture->pid, signal), 0);
    assert_int_equal(waitpid(fixture->pid, &status, 0), fixture->pid);
    fixture->pid = 0;
    return status;
}

static int setup(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    char path[128];
    snprintf(fixture->folder, sizeof fixture->folder, "/tmp/tidemill-core-XXXXXX");
    assert_non_null(mkdtemp(fixture->folder));
    snprintf(path, sizeof path, "%s/job", fixture->folder);
    assert_int_equal(sys_mkdirs(path, 0755), 0);
    snprintf(path, sizeof path, "unix:%s/api.sock", fixture->folder);
    fixture->unix_fd = listen_at(path);
    fixture->api_fd = listen_at("127.0.0.1:0");
    struct sys_address bound = {.len = sizeof bound.storage};
    assert_int_equal(getsockname(fixture->api_fd, (struct sockaddr *)(void *)&bound.storage, &bound.len), 0);
    sys_address_format(&bound, fixture->api_address, sizeof fixture->api_address);
    *state = fixture;
    return 0;
}

static int teardown(void **state) {
    struct fixture *fixture = *state;
    if (fixture->pid)
        stop(fixture, SIGKILL);
    close(fixture->api_fd);
    close(fixture->unix_fd);
    sys_remove_tree(AT_FDCWD, fixture->folder);
    free(fixture);
    return 0;
}

static void on_answer(void *userdata, const struct http_answer *answer) {
    struct reply *reply = userdata;
    reply->done = true;
    reply->error = answer->error;
    reply->status = answer->status;
    snprintf(reply->body, sizeof reply->body, "%.*s", SLICE_ARG(answer->body));
}

/* One request with a loop and client of its own: the process may be another each time. */
static struct reply ask(const struct client_options *options, const char *method, const char *target, const char *body) {
    struct loop *loop = NULL;
    struct client *client = NULL;
    struct diag diag = DIAG_INIT;
    struct reply reply = {.done = false};
    assert_int_equal(loop_new(&loop), 0);
    assert_int_equal(client_new(loop, options, &client, &diag), 0);
    assert_int_equal(client_request(client, method, target, NULL, slice_of(body), on_answer, &reply), 0);
    while (!reply.done)
        assert_int_equal(loop_turn(loop, 1000), 0);
    client_free(client);
    loop_free(loop);
    return reply;
}

static struct reply ask_unix(const struct fixture *fixture, const char *method, const char *target, const char *body) {
    char endpoint[128];
    snprintf(endpoint, sizeof endpoint, "unix:%s/api.sock", fixture->folder);
    const struct client_options options = {.endpoint = endpoint};
    struct reply reply = ask(&options, method, target, body);
    assert_int_equal(reply.error, 0);
    return reply;
}

/* Once more, a moment later? A busy machine is given time, and is not kept busy by asking. */
static bool is_patient(int64_t begun_ns) {
    (void)usleep(1000);
    return sys_monotonic_ns() - begun_ns < PATIENCE_S * INT64_C(1000000000);
}

static void wait_ready(const struct fixture *fixture) {
    for (int64_t begun_ns = sys_monotonic_ns(); is_patient(begun_ns);)
        if (ask_unix(fixture, "GET", "/readyz", NULL).status == 200)
            return;
    fail_msg("core did not become ready");
}

UNIT_TEST(loses_nothing_when_killed) {
    struct fixture *fixture = *state;
    for (int i = 0; i < ROUNDS; i++) {
        char body[200], target[200];
        start(fixture);
        wait_ready(fixture);
        if (i > 0) {
            snprintf(target, sizeof target, "/api/v1/namespaces/default/configmaps/c%d", i - 1);
            assert_int_equal(ask_unix(fixture, "GET", target, NULL).status, 200);
        }
        snprintf(body, sizeof body, "{\"metadata\":{\"name\":\"c%d\"}}", i);
        assert_int_equal(ask_unix(fixture, "POST", "/api/v1/namespaces/default/configmaps", body).status, 201);
        assert_true(WIFSIGNALED(stop(fixture, SIGKILL)));
    }
}

UNIT_TEST(stops_cleanly_and_keeps_its_authority) {
    struct fixture *fixture = *state;
    char path[128];
    CLEANUP(buffer_deinit) struct buffer first = BUFFER_INIT(MIB), second = BUFFER_INIT(MIB), kubeconfig = BUFFER_INIT(MIB), again = BUFFER_INIT(MIB);
    start(fixture);
    wait_ready(fixture);
    int status = stop(fixture, SIGTERM);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    snprintf(path, sizeof path, "%s/pki/ca.crt", fixture->folder);
    assert_int_equal(sys_read_file(AT_FDCWD, path, MIB, &first), 0);
    snprintf(path, sizeof path, "%s/kubeconfig", fixture->folder);
    assert_int_equal(sys_read_file(AT_FDCWD, path, MIB, &kubeconfig), 0);
    struct stat stat_of;
    assert_int_equal(stat(path, &stat_of), 0);
    assert_int_equal(stat_of.st_mode & 0777, 0600);
    start(fixture);
    wait_ready(fixture);
    assert_int_equal(sys_read_file(AT_FDCWD, path, MIB, &again), 0);
    snprintf(path, sizeof path, "%s/pki/ca.crt", fixture->folder);
    assert_int_equal(sys_read_file(AT_FDCWD, path, MIB, &second), 0);
    assert_true(slice_equal(buffer_slice(&first), buffer_slice(&second)));
    assert_true(slice_equal(buffer_slice(&kubeconfig), buffer_slice(&again)));
}

UNIT_TEST(admits_the_kubeconfig_over_tls) {
    struct fixture *fixture = *state;
    char path[128];
    start(fixture);
    wait_ready(fixture);
    struct loop *loop = NULL;
    struct client *client = NULL;
    struct diag diag = DIAG_INIT;
    struct reply reply = {.done = false};
    assert_int_equal(loop_new(&loop), 0);
    snprintf(path, sizeof path, "%s/kubeconfig", fixture->folder);
    assert_int_equal(client_new_kubeconfig(loop, path, &client, &diag), 0);
    assert_int_equal(client_request(client, "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", NULL, SLICE("{}"), on_answer, &reply), 0);
    while (!reply.done)
        assert_int_equal(loop_turn(loop, 1000), 0);
    client_free(client);
    loop_free(loop);
    assert_int_equal(reply.error, 0);
    assert_int_equal(reply.status, 201);
    assert_non_null(strstr(reply.body, "system:masters"));
}

UNIT_TEST(refuses_a_second_core) {
    struct fixture *fixture = *state;
    start(fixture);
    wait_ready(fixture);
    pid_t first = fixture->pid;
    start(fixture);
    int status = 0;
    assert_int_equal(waitpid(fixture->pid, &status, 0), fixture->pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    fixture->pid = first;
    assert_int_equal(ask_unix(fixture, "GET", "/readyz", NULL).status, 200);
}

UNIT_TEST(runs_controllers) {
    struct fixture *fixture = *state;
    start(fixture);
    wait_ready(fixture);
    const char *deployment =
        "{\"metadata\":{\"name\":\"web\"},\"spec\":{\"replicas\":2,\"selector\":{\"matchLabels\":{\"app\":\"web\"}},"
        "\"template\":{\"metadata\":{\"labels\":{\"app\":\"web\"}},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"x\"}]}}}}";
    assert_int_equal(ask_unix(fixture, "POST", "/apis/apps/v1/namespaces/default/deployments", deployment).status, 201);
    for (int64_t begun_ns = sys_monotonic_ns(); is_patient(begun_ns);) {
        struct reply reply = ask_unix(fixture, "GET", "/apis/apps/v1/namespaces/default/deployments/web", NULL);
        if (strstr(reply.body, "\"unavailableReplicas\":2"))
            return;
    }
    fail_msg("the deployment's pods did not appear");
}

/* A node that answers once, and then neither speaks nor goes. */
UNIT_TEST(a_node_that_hangs_is_lost) {
    struct fixture *fixture = *state;
    char path[128], request[4096];
    start(fixture);
    wait_ready(fixture);
    const char *node = "{\"metadata\":{\"name\":\"n1\"},\"status\":{\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]}}";
    assert_int_equal(ask_unix(fixture, "POST", "/api/v1/nodes", node).status, 201);
    snprintf(path, sizeof path, "unix:%s/node.sock", fixture->folder);
    CLEANUP(fd_closep) int listen_fd = listen_at(path);
    assert_int_equal(sys_set_nonblocking(listen_fd, false), 0);
    CLEANUP(fd_closep) int fd = accept(listen_fd, NULL, NULL);
    assert_true(recv(fd, request, sizeof request, 0) > 0);
    struct slice answer = SLICE("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nalive\n\r\n");
    assert_int_equal(sys_write_all(fd, answer), 0);
    for (int64_t begun_ns = sys_monotonic_ns(); is_patient(begun_ns);)
        if (strstr(ask_unix(fixture, "GET", "/api/v1/nodes/n1", NULL).body, "Kubelet stopped posting node status."))
            return;
    fail_msg("the node that hangs was not missed");
}

#define WITH_CORE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {WITH_CORE(loses_nothing_when_killed),
                                       WITH_CORE(stops_cleanly_and_keeps_its_authority),
                                       WITH_CORE(admits_the_kubeconfig_over_tls),
                                       WITH_CORE(refuses_a_second_core),
                                       WITH_CORE(runs_controllers),
                                       WITH_CORE(a_node_that_hangs_is_lost)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
