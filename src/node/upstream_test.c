/* resolv.conf's forms, and questions to a name server of our own on loopback (as root: port 53). */
#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>

#include "codec/codec.h"
#include "node/nameserver_priv.h"
#include "unit.h"

#define QUESTION                                                                                                                                     \
    "\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07"                                                                                                   \
    "Example\x03org\x00\x00\x01\x00\x01"
static const char asked[] = "\x12\x34" QUESTION;

/* --- resolv.conf --- */

static void expect_plan(const struct kube_pod_spec *spec, const char *nameserver, bool keep_loopback, const char *want) {
    static const char host_text[] =
        "# made by hand\nnameserver 127.0.0.53\nnameserver\t192.0.2.53 \nsearch old.example\nsearch lan.example .\noptions "
        "edns0 ndots:1\nsortlist x";
    CLEANUP(arena_freep) struct arena *arena = arena_new(MIB);
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(MIB);
    struct resolv host, resolv;
    assert_int_equal(resolv_parse(SLICE(host_text), keep_loopback, arena, &host), 0);
    assert_int_equal(resolv_plan(spec, "team", &host, nameserver, arena, &resolv), 0);
    assert_int_equal(resolv_format(&resolv, &out), 0);
    assert_string_equal(out.data, want);
}

UNIT_TEST(resolv_conf_follows_policy_and_configuration) {
#define CLUSTER_SEARCH "search team.svc.cluster.local svc.cluster.local cluster.local lan.example"
    static const char cluster[] = "nameserver 10.88.0.1\n" CLUSTER_SEARCH "\noptions ndots:5\n";
    static const char host[] = "nameserver 192.0.2.53\nsearch lan.example\noptions edns0 ndots:1\n";
    const char *nameservers[] = {"192.0.2.1"}, *searches[] = {"corp.example", "lan.example"};
    struct kube_pod_dns_config_option options[] = {{"ndots", "2"}, {"rotate", NULL}};
    struct kube_pod_dns_config config = {.nameservers = {nameservers, 1}, .searches = {searches, 2}, .options = {options, 2}};
    expect_plan(&(struct kube_pod_spec){0}, "10.88.0.1", false, cluster);
    expect_plan(&(struct kube_pod_spec){.dns_policy = "ClusterFirst"}, "10.88.0.1", false, cluster);
    expect_plan(&(struct kube_pod_spec){.dns_policy = "ClusterFirst"}, NULL, false, host);
    expect_plan(&(struct kube_pod_spec){.dns_policy = "Default"}, "10.88.0.1", false, host);
    expect_plan(&(struct kube_pod_spec){.dns_policy = "ClusterFirst", .host_network = true}, "10.88.0.1", true,
                "nameserver 127.0.0.53\nnameserver 192.0.2.53\nsearch lan.example\noptions edns0 ndots:1\n");
    expect_plan(&(struct kube_pod_spec){.dns_policy = "ClusterFirstWithHostNet", .host_network = true}, "10.88.0.1", true, cluster);
    expect_plan(&(struct kube_pod_spec){.dns_policy = "None", .dns_config = &config}, "10.88.0.1", false,
                "nameserver 192.0.2.1\nsearch corp.example lan.example\noptions ndots:2 rotate\n");
    expect_plan(&(struct kube_pod_spec){.dns_config = &config}, "10.88.0.1", false,
                "nameserver 10.88.0.1\nnameserver 192.0.2.1\n" CLUSTER_SEARCH " corp.example\noptions ndots:2 rotate\n");
}

/* --- upstream --- */

struct fixture {
    struct loop *loop;
    struct upstream *upstream;
    char path[64];
    int fd; /* the name server's */
    unsigned answers;
    size_t len;
    char bytes[512];
};

static void on_answer(void *userdata, struct slice bytes) {
    struct fixture *fixture = userdata;
    fixture->answers++;
    fixture->len = bytes.len;
    assert_true(bytes.len <= sizeof fixture->bytes);
    if (bytes.len)
        memcpy(fixture->bytes, bytes.data, bytes.len);
}

static int serve(const char *text, int type) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(53)};
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0), on = 1;
    assert_int_equal(inet_pton(AF_INET, text, &address.sin_addr), 1);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_true(type == SOCK_DGRAM || listen(fd, 1) == 0);
    return fd;
}

static void setup(struct fixture *fixture, const char *resolv) {
    *fixture = (struct fixture){.path = "/tmp/tidemill-upstream-XXXXXX", .fd = -1};
    int fd = mkstemp(fixture->path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(sys_write_file_fast(AT_FDCWD, fixture->path, slice_of(resolv), 0600), 0);
    assert_int_equal(loop_new(&fixture->loop), 0);
    assert_int_equal(upstream_new(fixture->loop, fixture->path, "10.88.0.1", &fixture->upstream), 0);
}

static void teardown(struct fixture *fixture) {
    upstream_free(fixture->upstream);
    loop_free(fixture->loop);
    unlink(fixture->path);
    fd_closep(&fixture->fd);
}

static int ask(struct fixture *fixture, bool tcp, struct upstream_request **ret) {
    return upstream_ask(fixture->upstream, SLICE(asked), tcp, on_answer, fixture, ret);
}

static void wait_for_answers(struct fixture *fixture, unsigned count) {
    while (fixture->answers < count)
        assert_int_equal(loop_turn(fixture->loop, -1), 0);
}

UNIT_TEST(takes_the_right_answer_only) {
    struct fixture fixture;
    struct upstream_request *request;
    struct sockaddr_in peer;
    socklen_t peer_len = sizeof peer;
    char bytes[512];
    setup(&fixture, "nameserver 10.88.0.1\nnameserver 127.0.165.52\nnameserver 127.0.165.53\n"); /* ourselves, refused, there */
    fixture.fd = serve("127.0.165.53", SOCK_DGRAM);
    assert_int_equal(ask(&fixture, false, &request), 0);
    struct pollfd ready = {.fd = fixture.fd, .events = POLLIN};
    while (poll(&ready, 1, 0) == 0)
        assert_int_equal(loop_turn(fixture.loop, -1), 0);
    ssize_t len = recvfrom(fixture.fd, bytes, sizeof bytes, 0, (struct sockaddr *)&peer, &peer_len);
    assert_int_equal(len, sizeof asked - 1);
    assert_memory_equal(bytes + 2, QUESTION, sizeof QUESTION - 1);
    bytes[2] |= (char)0x80;
    for (int wrong = 0; wrong < 3; wrong++) { /* the id, the letters' case, then none */
        size_t at = wrong == 0 ? 0 : 13;
        bytes[at] ^= (char)(wrong == 2 ? 0 : 0x20);
        assert_int_equal(sendto(fixture.fd, bytes, (size_t)len, 0, (struct sockaddr *)&peer, peer_len), len);
        bytes[at] ^= (char)(wrong == 2 ? 0 : 0x20);
    }
    wait_for_answers(&fixture, 1);
    assert_int_equal(fixture.len, len);
    bytes[0] = 0x12;
    bytes[1] = 0x34;
    assert_memory_equal(fixture.bytes, bytes, (size_t)len);
    teardown(&fixture);
}

UNIT_TEST(asks_over_tcp) {
    struct fixture fixture;
    struct upstream_request *request;
    char bytes[512];
    setup(&fixture, "nameserver 127.0.165.53\n");
    fixture.fd = serve("127.0.165.53", SOCK_STREAM);
    assert_int_equal(ask(&fixture, true, &request), 0);
    CLEANUP(fd_closep) int peer = accept4(fixture.fd, NULL, NULL, SOCK_CLOEXEC);
    assert_true(peer >= 0);
    assert_int_equal(loop_turn(fixture.loop, -1), 0); /* connected: sends */
    assert_int_equal(recv(peer, bytes, 2 + sizeof asked - 1, MSG_WAITALL), 2 + sizeof asked - 1);
    assert_int_equal(bytes[1], sizeof asked - 1);
    bytes[4] |= (char)0x80;
    assert_int_equal(send(peer, bytes, 5, 0), 5);
    assert_int_equal(loop_turn(fixture.loop, -1), 0);
    assert_int_equal(fixture.answers, 0);
    assert_int_equal(send(peer, bytes + 5, 2 + sizeof asked - 1 - 5, 0), 2 + sizeof asked - 1 - 5);
    wait_for_answers(&fixture, 1);
    assert_memory_equal(fixture.bytes, "\x12\x34\x81", 3);
    teardown(&fixture);
}

UNIT_TEST(says_when_nobody_answers) {
    struct fixture fixture;
    struct upstream_request *request;
    setup(&fixture, "nameserver 10.88.0.1\n");
    assert_int_equal(ask(&fixture, false, &request), -EHOSTUNREACH); /* ourselves only */
    assert_int_equal(sys_write_file_fast(AT_FDCWD, fixture.path, SLICE("nameserver 127.0.165.52\n"), 0600), 0);
    assert_int_equal(ask(&fixture, false, &request), 0); /* the file was read again */
    wait_for_answers(&fixture, 1);
    assert_int_equal(fixture.len, 0);
    teardown(&fixture);
}

UNIT_TEST(has_a_limit) {
    struct fixture fixture;
    struct upstream_request *requests[UPSTREAM_REQUESTS_MAX], *more;
    setup(&fixture, "nameserver 127.0.165.53\n");
    fixture.fd = serve("127.0.165.53", SOCK_DGRAM);
    for (size_t i = 0; i < UPSTREAM_REQUESTS_MAX; i++)
        assert_int_equal(ask(&fixture, false, &requests[i]), 0);
    assert_int_equal(ask(&fixture, false, &more), -EBUSY);
    upstream_cancel(requests[7]);
    assert_int_equal(ask(&fixture, false, &more), 0);
    assert_int_equal(fixture.answers, 0);
    teardown(&fixture); /* frees what is under way */
}

UNIT_MAIN(UNIT(resolv_conf_follows_policy_and_configuration), UNIT(takes_the_right_answer_only), UNIT(asks_over_tcp), UNIT(says_when_nobody_answers),
          UNIT(has_a_limit))
