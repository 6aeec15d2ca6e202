#include <poll.h>
#include <stdio.h>

#include "sys/sys.h"

#include "unit.h"

UNIT_TEST(addresses_read_and_print) {
    static const struct {
        const char *text, *printed;
        int error;
    } cases[] = {
        {"127.0.0.1:8080", "127.0.0.1:8080", 0},
        {":80", "0.0.0.0:80", 0},
        {"[::1]:443", "[::1]:443", 0},
        {"unix:/a/b", "unix:/a/b", 0},
        {"127.0.0.1", NULL, -EINVAL},
        {"127.0.0.1:", NULL, -EINVAL},
        {"1.2.3.4:65536", NULL, -EINVAL},
        {"host:80", NULL, -EINVAL},
        {"[::1:443", NULL, -EINVAL},
        {"unix:", NULL, -EINVAL},
        {"::1:80", NULL, -EINVAL},
        {"", NULL, -EINVAL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct sys_address address;
        char text[200];
        assert_int_equal(sys_address_parse(cases[i].text, &address), cases[i].error);
        if (cases[i].printed)
            assert_string_equal(sys_address_format(&address, text, sizeof text), cases[i].printed);
    }
    char endless[300] = "unix:/";
    memset(endless + 6, 'x', 200);
    struct sys_address address;
    assert_int_equal(sys_address_parse(endless, &address), -ENAMETOOLONG);
}

UNIT_TEST(a_stale_unix_socket_is_replaced_and_a_living_one_is_not) {
    char path[] = "/tmp/tidemill-socket-XXXXXX", text[64];
    assert_non_null(mkdtemp(path));
    snprintf(text, sizeof text, "unix:%s/s", path);
    struct sys_address address;
    assert_int_equal(sys_address_parse(text, &address), 0);
    int stale = sys_listen(&address, 8, 0600);
    assert_true(stale >= 0);
    assert_int_equal(sys_listen(&address, 8, 0600), -EADDRINUSE);
    close(stale);
    CLEANUP(fd_closep) int listener = sys_listen(&address, 8, 0600);
    assert_true(listener >= 0);
    CLEANUP(fd_closep) int client = sys_connect(&address);
    assert_true(client >= 0);
    struct pollfd ready = {.fd = listener, .events = POLLIN};
    assert_int_equal(poll(&ready, 1, 10000), 1);
    CLEANUP(fd_closep) int accepted = accept(listener, NULL, NULL);
    uid_t uid = 12345;
    gid_t gid;
    pid_t pid = 0;
    assert_int_equal(sys_peer_credentials(accepted, &uid, &gid, &pid), 0);
    assert_int_equal(uid, getuid());
    assert_int_equal(pid, getpid());
    sys_tune_tcp(accepted);
    assert_int_equal(sys_remove_tree(-100 /* AT_FDCWD */, path), 0);
}

UNIT_TEST(listening_reports_what_failed) {
    struct sys_address address;
    assert_int_equal(sys_address_parse("127.0.0.1:0", &address), 0);
    for (int after = 1; after <= 2; after++) {
        sys_fault_set(after, EMFILE);
        assert_int_equal(sys_listen(&address, 8, 0), -EMFILE);
    }
    sys_fault_set(0, 0);
    CLEANUP(fd_closep) int fd = sys_listen(&address, 8, 0);
    assert_true(fd >= 0);
}

UNIT_MAIN(UNIT(addresses_read_and_print), UNIT(a_stale_unix_socket_is_replaced_and_a_living_one_is_not), UNIT(listening_reports_what_failed))
