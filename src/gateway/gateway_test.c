/* The whole role in a process of its own, with its filter on (but under sanitizers, which need more than it allows): a false API server gives it
 * objects, a false application answers. */
#include "unit.h"

#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/gateway.h"
#include "http/http.h"
#include "loop/loop.h"
#include "sys/sys.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#else
#define SANITIZED false
#endif
#define TURNS_MAX 20000

#define LIST(group_version, kind, items)                                                                                                             \
    "{\"apiVersion\":\"" group_version "\",\"kind\":\"" kind "List\",\"metadata\":{\"resourceVersion\":\"10\"},\"items\":[" items "]}"
#define INGRESS                                                                                                                                      \
    "{\"metadata\":{\"name\":\"i\",\"namespace\":\"n\"},\"spec\":{\"rules\":[{\"host\":\"app.test\",\"http\":{\"paths\":[{\"path\":\"/"              \
    "\",\"pathType\":\"Prefix\","                                                                                                                    \
    "\"backend\":{\"service\":{\"name\":\"s\",\"port\":{\"number\":80}}}}]}}]}}"
#define SERVICE "{\"metadata\":{\"name\":\"s\",\"namespace\":\"n\"},\"spec\":{\"ports\":[{\"port\":80}]}}"

struct fixture {
    struct loop *loop;
    char folder[64], api_path[96], api_endpoint[112], metrics_path[96];
    int api_fd, http_fd, metrics_fd, backend_fd;
    int backend_port, http_port;
    struct sys_address http_address;
    struct http_server *api;
    struct http_exchange *slice_watch;
    pid_t pid;
};

static void slice_json(const struct fixture *f, char *text, size_t size, bool ready) {
    snprintf(text, size,
             "{\"apiVersion\":\"discovery.k8s.io/"
             "v1\",\"kind\":\"EndpointSlice\",\"metadata\":{\"name\":\"s-1\",\"namespace\":\"n\",\"resourceVersion\":\"%d\",\"labels\":{"
             "\"kubernetes.io/"
             "service-name\":\"s\"}},\"addressType\":\"IPv4\",\"ports\":[{\"port\":%d}],\"endpoints\":[{\"addresses\":[\"127.0.0.1\"],\"conditions\":"
             "{\"ready\":%s}}]}",
             ready ? 12 : 11, f->backend_port, ready ? "true" : "false");
}

static void on_watch_close(void *userdata, struct http_exchange *exchange, bool complete) {
    (void)complete;
    struct fixture *f = userdata;
    if (f->slice_watch == exchange)
        f->slice_watch = NULL;
}

static void on_request(void *userdata, struct http_exchange *exchange) {
    struct fixture *f = userdata;
    struct slice path = http_path(exchange);
    bool slices = slice_find(path, SLICE("endpointslices")) > 0;
    if (slice_find(http_query_text(exchange), SLICE("watch=")) >= 0) {
        http_on_close(exchange, on_watch_close, f);
        http_respond_begin(exchange, 200, "application/json", -1, NULL);
        if (slices)
            f->slice_watch = exchange;
        return;
    }
    char slice[600], list[800];
    slice_json(f, slice, sizeof slice, false);
    snprintf(list, sizeof list, LIST("discovery.k8s.io/v1", "EndpointSlice", "%s"), slice);
    const char *text = slices                                     ? list
                       : slice_find(path, SLICE("ingresses")) > 0 ? LIST("networking.k8s.io/v1", "Ingress", INGRESS)
                                                                  : LIST("v1", "Service", SERVICE);
    http_respond(exchange, 200, "application/json", slice_of(text), NULL);
}

static int listen_on(const char *text, struct sys_address *ret) {
    assert_int_equal(sys_address_parse(text, ret), 0);
    int fd = sys_listen(ret, 64, 0600);
    assert_true(fd >= 0);
    socklen_t len = sizeof ret->storage;
    assert_int_equal(getsockname(fd, (struct sockaddr *)&ret->storage, &len), 0);
    return fd;
}

static int listen_unix(const char *path) {
    struct sys_address address;
    char text[128];
    snprintf(text, sizeof text, "unix:%s", path);
    return listen_on(text, &address);
}

static int run_role(const struct fixture *f) {
    struct diag diag = DIAG_INIT;
    const struct gateway_options options = {.http_fds = &f->http_fd,
                                            .http_fds_count = 1,
                                            .metrics_fd = f->metrics_fd,
                                            .api_endpoint = f->api_endpoint,
                                            .no_sandbox = SANITIZED,
                                            .uid = 12345,
                                            .gid = 12345};
    if (chmod(f->folder, 0755) < 0 || chmod(f->api_path, 0666) < 0)
        return 2;
    int error = gateway_run(&options, &diag);
    if (error < 0)
        fprintf(stderr, "%s\n", diag.message);
    return error < 0;
}

static void setup(struct fixture *f) {
    struct sys_address backend;
    *f = (struct fixture){.folder = "/tmp/tidemill-gateway-XXXXXX"};
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->api_path, sizeof f->api_path, "%s/api.sock", f->folder);
    snprintf(f->api_endpoint, sizeof f->api_endpoint, "unix:%s", f->api_path);
    snprintf(f->metrics_path, sizeof f->metrics_path, "%s/gateway.sock", f->folder);
    f->api_fd = listen_unix(f->api_path);
    f->metrics_fd = listen_unix(f->metrics_path);
    f->http_fd = listen_on("127.0.0.1:0", &f->http_address);
    f->backend_fd = listen_on("127.0.0.1:0", &backend);
    f->backend_port = ntohs(((struct sockaddr_in *)(void *)&backend.storage)->sin_port);
    f->pid = fork();
    assert_true(f->pid >= 0);
    if (f->pid == 0)
        _exit(run_role(f));
    assert_int_equal(loop_new(&f->loop), 0);
    assert_int_equal(http_server_new(f->loop, f->api_fd, &(struct http_server_options){.handler = on_request, .userdata = f}, &f->api), 0);
}

static void teardown(struct fixture *f) {
    http_server_free(f->api);
    loop_free(f->loop);
    close(f->api_fd);
    close(f->metrics_fd);
    close(f->http_fd);
    close(f->backend_fd);
    unlink(f->api_path);
    unlink(f->metrics_path);
    rmdir(f->folder);
}

static int connect_to(const struct sys_address *address) {
    int fd = sys_connect(address);
    assert_true(fd >= 0);
    struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
    assert_int_equal(poll(&poll_fd, 1, 10000), 1);
    return fd;
}

static void put(int fd, const char *text) {
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void get_until(struct fixture *f, int fd, const char *part) {
    char text[8192] = "";
    size_t at = 0;
    for (int turns = 0; turns < TURNS_MAX; turns++) {
        ssize_t len = recv(fd, text + at, sizeof text - 1 - at, MSG_DONTWAIT);
        at += len > 0 ? (size_t)len : 0;
        text[at] = 0;
        if (strstr(text, part))
            return;
        if (len == 0)
            break;
        assert_int_equal(loop_turn(f->loop, 1), 0);
    }
    fail_msg("never came: %s; got: %s", part, text);
}

static int take_backend(struct fixture *f) {
    for (int turns = 0; turns < TURNS_MAX; turns++) {
        int fd = accept4(f->backend_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0)
            return fd;
        assert_int_equal(loop_turn(f->loop, 1), 0);
    }
    fail_msg("no connection to the backend");
    return -1;
}

static void ask_metrics(struct fixture *f, const char *part) {
    struct sys_address address;
    char text[128];
    snprintf(text, sizeof text, "unix:%s", f->metrics_path);
    assert_int_equal(sys_address_parse(text, &address), 0);
    int fd = connect_to(&address);
    put(fd, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    get_until(f, fd, part);
    close(fd);
}

UNIT_TEST(learns_serves_survives_core_and_drains) {
    struct fixture f;
    setup(&f);
    int client = connect_to(&f.http_address);
    put(client, "GET /hello HTTP/1.1\r\nHost: app.test\r\n\r\n"); /* before anything is known; then held: no endpoint is ready */
    for (int turns = 0; !f.slice_watch && turns < TURNS_MAX; turns++)
        assert_int_equal(loop_turn(f.loop, 1), 0);
    assert_non_null(f.slice_watch);
    char slice[600], event[700];
    slice_json(&f, slice, sizeof slice, true);
    snprintf(event, sizeof event, "{\"type\":\"MODIFIED\",\"object\":%s}\n", slice);
    assert_int_equal(http_write(f.slice_watch, slice_of(event)), 0);
    int backend = take_backend(&f);
    get_until(&f, backend, "GET /hello HTTP/1.1");
    put(backend, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    get_until(&f, client, "\r\n\r\nhi");
    ask_metrics(&f, "tidemill_gateway_service_endpoints_ready{namespace=\"n\",service=\"s\",port=\"80\"} 1\n");
    /* core goes away: the routes stay */
    http_server_free(TAKE(f.api));
    f.slice_watch = NULL;
    put(client, "GET /again HTTP/1.1\r\nHost: app.test\r\n\r\n");
    get_until(&f, backend, "GET /again");
    /* and the end does not cut what is in flight */
    assert_int_equal(kill(f.pid, SIGTERM), 0);
    put(backend, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nend");
    get_until(&f, client, "\r\n\r\nend");
    int status;
    assert_int_equal(waitpid(f.pid, &status, 0), f.pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    close(client);
    close(backend);
    teardown(&f);
}

UNIT_MAIN(UNIT(learns_serves_survives_core_and_drains))
