/* As root: what pods can do on a real bridge, and what they cannot. */
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/if_ether.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <netpacket/packet.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "podnet/podnet_fixture_priv.h"
#include "podnet/podnet_priv.h"
#include "sys/sys.h"
#include "unit.h"

static char dir[64], namespaces[128];
static struct podnet *podnet;
static struct podnet_pod one, two;

static void open_podnet(const char *cidr6, size_t pool) {
    const struct podnet_options options = {.instance = "podu",
                                           .cidr = "10.208.0.0/24",
                                           .cidr6 = cidr6,
                                           .pool = pool,
                                           .service_cidr = "10.207.0.0/24",
                                           .state_dir = dir,
                                           .namespace_dir = namespaces};
    struct diag diag = DIAG_INIT;
    if (podnet_new(&options, &podnet, &diag) < 0)
        fail_msg("%s", diag.message);
    assert_null(podnet_note(podnet, 0));
}

static int setup(void **state) {
    struct diag diag = DIAG_INIT;
    (void)state;
    if (geteuid() != 0)
        fail_msg("these tests make network namespaces: run them as root");
    snprintf(dir, sizeof dir, "/tmp/podu-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(namespaces, sizeof namespaces, "%s/ns", dir);
    open_podnet("fd00:208::/64", 0);
    assert_int_equal(podnet_add(podnet, &(struct podnet_sandbox){.uid = "uid-1", .hostname = "one"}, &one, &diag), 0);
    assert_int_equal(podnet_add(podnet, &(struct podnet_sandbox){.uid = "uid-2", .hostname = "two"}, &two, &diag), 0);
    return 0;
}

static void remove_pod(void *userdata, const char *uid) {
    podnet_remove(userdata, uid);
}

static int teardown(void **state) {
    (void)state;
    podnet_list(podnet, remove_pod, podnet);
    podnet_remove_all(podnet);
    podnet_free(podnet);
    sys_remove_tree(AT_FDCWD, dir);
    return 0;
}

UNIT_TEST(pods_have_two_addresses) {
    char target[96];
    assert_string_equal(one.address, "10.208.0.2");
    assert_string_equal(one.address6, "fd00:208::2");
    pid_t server = serve(&two, AF_INET6);
    snprintf(target, sizeof target, "[%s]:8080", two.address6);
    assert_int_equal(in_pod(&one, dial, target), 0);
    assert_int_equal(in_pod(NULL, dial, target), 0);
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
}

static int shout(const char *target) {
    static const char bytes[1000];
    struct sys_address address;
    if (sys_address_parse(target, &address) < 0)
        return 98;
    int fd = socket(address.storage.ss_family, SOCK_DGRAM, 0);
    for (int i = 0; i < 100; i++) /* that nobody listens is told to few of them */
        (void)!sendto(fd, bytes, sizeof bytes, 0, (struct sockaddr *)&address.storage, address.len);
    return 0;
}

UNIT_TEST(traffic_is_counted_as_the_pod_sees_it) {
    struct podnet_traffic before, after;
    const struct podnet_pod on_host = {.address = ""};
    assert_int_equal(podnet_traffic(podnet, &one, &before), 0);
    assert_int_equal(in_pod(&two, shout, "10.208.0.2:9"), 0);
    assert_int_equal(podnet_traffic(podnet, &one, &after), 0);
    assert_true(after.rx_bytes >= before.rx_bytes + 100000 && after.rx_packets >= before.rx_packets + 100);
    assert_true(after.tx_bytes < before.tx_bytes + 50000);
    assert_int_equal(podnet_traffic(podnet, &on_host, &after), -ENODEV);
}

UNIT_TEST(ports_of_the_machine_lead_to_pods) {
    const struct podnet_host_port ports[] = {
        {.host_address = "", .host_port = 32201, .port = 8080, .address = two.address, .address6 = two.address6},
        {.host_address = "127.0.0.1", .host_port = 32202, .port = 8080, .address = two.address, .address6 = ""},
        {.host_address = "", .host_port = 32201, .port = 9, .address = one.address, .address6 = one.address6},
        {.host_address = "::", .host_port = 0, .port = 8080, .address = "; flush ruleset", .address6 = "; flush ruleset"},
        {.protocol = PODNET_SCTP, .host_address = "10.208.0.1", .host_port = 32203, .port = 8080, .address = two.address, .address6 = ""},
    };
    struct diag diag = DIAG_INIT;
    pid_t server = serve(&two, AF_INET6);
    if (podnet_set_services(podnet, NULL, 0, ports, ARRAY_LEN(ports), &diag) < 0)
        fail_msg("%s", diag.message);
    assert_int_equal(in_pod(NULL, dial, "127.0.0.1:32201"), 0);
    assert_int_equal(in_pod(NULL, dial, "10.208.0.1:32201"), 0);
    assert_int_equal(in_pod(&one, dial, "10.208.0.1:32201"), 0);
    assert_int_equal(in_pod(&two, dial, "10.208.0.1:32201"), 0); /* to itself */
    assert_int_equal(in_pod(NULL, dial, "[fd00:208::1]:32201"), 0);
    assert_int_equal(in_pod(&one, dial, "[fd00:208::1]:32201"), 0);
    assert_int_equal(in_pod(NULL, dial, "127.0.0.1:32202"), 0);
    assert_int_equal(in_pod(NULL, dial, "10.208.0.1:32202"), ECONNREFUSED);
    assert_int_equal(podnet_set_services(podnet, NULL, 0, NULL, 0, &diag), 0);
    assert_int_equal(in_pod(NULL, dial, "10.208.0.1:32201"), ECONNREFUSED);
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
}

/* --- the guard --- */

static uint16_t checksum(const void *bytes, size_t len) {
    uint32_t sum = 0;
    for (size_t i = 0; i + 1 < len; i += 2)
        sum += (uint32_t)(((const unsigned char *)bytes)[i] << 8 | ((const unsigned char *)bytes)[i + 1]);
    sum = (sum & 0xffff) + (sum >> 16);
    return htons((uint16_t) ~(sum + (sum >> 16)));
}

static uint32_t wire(const char *address) {
    struct in_addr parsed;
    return inet_pton(AF_INET, address, &parsed) == 1 ? parsed.s_addr : 0;
}

/* A whole frame out of eth0, from one to two. */
static int send_frame(const unsigned char source[6], uint16_t type, const void *payload, size_t len) {
    unsigned char frame[1500], mac[6];
    struct sockaddr_ll link = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex("eth0"), .sll_halen = 6};
    int fd = socket(AF_PACKET, SOCK_RAW, 0);
    podnet_mac(ntohl(wire(two.address)), mac);
    memcpy(frame, mac, 6);
    memcpy(frame + 6, source, 6);
    frame[12] = (unsigned char)(type >> 8);
    frame[13] = (unsigned char)type;
    memcpy(frame + 14, payload, len);
    return sendto(fd, frame, 14 + len, 0, (struct sockaddr *)&link, sizeof link) < 0 ? errno : 0;
}

/* "a datagram to two's port 9999, from this address" with the sender's own hardware address, or that of two. */
static int send_datagram(const char *from, bool with_mac_of_two, char word) {
    struct packet {
        struct iphdr ip;
        struct udphdr udp;
        char word;
    } __attribute__((packed)) packet = {
        .ip = {.version = 4, .ihl = 5, .tot_len = htons(29), .ttl = 9, .protocol = IPPROTO_UDP, .saddr = wire(from), .daddr = wire(two.address)},
        .udp = {.source = htons(9), .dest = htons(9999), .len = htons(9)},
        .word = word};
    unsigned char mac[6];
    packet.ip.check = checksum(&packet.ip, sizeof packet.ip);
    podnet_mac(ntohl(wire(with_mac_of_two ? "10.208.0.77" : one.address)), mac);
    return send_frame(mac, ETHERTYPE_IP, &packet, sizeof packet);
}

static int send_lies(const char *argument) {
    struct ether_arp arp = {.ea_hdr = {.ar_hrd = htons(1), .ar_pro = htons(ETHERTYPE_IP), .ar_hln = 6, .ar_pln = 4, .ar_op = htons(ARPOP_REPLY)}};
    uint32_t gateway = wire("10.208.0.1"), target = wire(two.address);
    unsigned char mac[6];
    (void)argument;
    podnet_mac(ntohl(wire(one.address)), mac);
    memcpy(arp.arp_sha, mac, 6);
    memcpy(arp.arp_spa, &gateway, 4);
    memcpy(arp.arp_tpa, &target, 4);
    int r = send_frame(mac, ETHERTYPE_ARP, &arp, sizeof arp); /* "I am the gateway" */
    if (r == 0)
        r = send_datagram("10.208.0.1", false, 'l');
    if (r == 0)
        r = send_datagram("10.208.0.77", false, 'l');
    if (r == 0)
        r = send_datagram(one.address, true, 'l');
    return r ? r : send_datagram(one.address, false, 't');
}

static int listen_9999(void) {
    struct sys_address address;
    int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC), net = open(two.network, O_RDONLY | O_CLOEXEC);
    assert_int_equal(sys_address_parse(":9999", &address), 0);
    assert_int_equal(setns(net, CLONE_NEWNET), 0);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address.storage, address.len), 0);
    assert_int_equal(setns(home, CLONE_NEWNET), 0);
    close(home);
    close(net);
    return fd;
}

static int believes_the_gateway(const char *argument) {
    struct buffer text = BUFFER_INIT(64 * KIB);
    unsigned char mac[6];
    char lie[32];
    (void)argument;
    podnet_mac(ntohl(wire(one.address)), mac);
    snprintf(lie, sizeof lie, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
    if (sys_read_file(AT_FDCWD, "/proc/net/arp", 64 * KIB - 1, &text) < 0)
        return 98;
    for (struct slice rest = buffer_slice(&text); rest.data;) {
        struct slice line = slice_cut(&rest, '\n');
        if (slice_starts(line, SLICE("10.208.0.1 ")))
            return slice_find(line, slice_of(lie)) < 0 ? 0 : 1;
    }
    return 97; /* it must have known it before, or the lie would not have been noted either */
}

/* What comes first is the truth: nothing of what was sent before arrived. */
UNIT_TEST(a_pod_cannot_pose_as_another) {
    char word = 0;
    struct timeval patience = {.tv_sec = 10};
    int fd = listen_9999();
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    assert_int_equal(in_pod(&two, dial, "10.208.0.1:1"), ECONNREFUSED); /* now it knows the gateway */
    assert_int_equal(in_pod(&one, send_lies, NULL), 0);
    assert_int_equal(recv(fd, &word, 1, 0), 1);
    assert_int_equal(word, 't');
    assert_int_equal(in_pod(&two, believes_the_gateway, NULL), 0);
    close(fd);
}

/* --- the pool --- */

static int has_hostname(const char *name) {
    char own[65] = "";
    return gethostname(own, sizeof own) == 0 && strcmp(own, name) == 0 ? 0 : 1;
}

static void count_pod(void *userdata, const char *uid) {
    (void)uid;
    ++*(size_t *)userdata;
}

static size_t folders(const char *prefix) {
    size_t count = 0;
    DIR *list = opendir(namespaces);
    for (struct dirent *entry; (entry = readdir(list));)
        count += strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
    closedir(list);
    return count;
}

UNIT_TEST(namespaces_are_ready_before_they_are_needed) {
    struct diag diag = DIAG_INIT;
    struct podnet_pod pod = {.address = ""}, same = {.address = ""};
    size_t pods = 0;
    podnet_free(podnet);
    open_podnet("fd00:208::/64", 2);
    assert_int_equal(podnet_pool_fill(podnet), 1);
    assert_int_equal(podnet_pool_fill(podnet), 0);
    assert_int_equal(folders(POOL_PREFIX), 2);
    podnet_list(podnet, count_pod, &pods);
    assert_int_equal(pods, 2);
    podnet_free(podnet);
    open_podnet("fd00:208::/64", 2); /* the next process finds them */
    assert_false(podnet_pool_wants(podnet));
    assert_int_equal(podnet_add(podnet, &(struct podnet_sandbox){.uid = "uid-3", .hostname = "three"}, &pod, &diag), 0);
    assert_int_equal(folders(POOL_PREFIX), 1);
    assert_true(podnet_pool_wants(podnet));
    assert_int_equal(in_pod(&pod, has_hostname, "three"), 0);
    pid_t server = serve(&pod, AF_INET6);
    char target[96];
    snprintf(target, sizeof target, "%s:8080", pod.address);
    assert_int_equal(in_pod(&one, dial, target), 0);
    snprintf(target, sizeof target, "[%s]:8080", pod.address6);
    assert_int_equal(in_pod(&one, dial, target), 0);
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    podnet_free(podnet);
    open_podnet("none", 2); /* what was made for another configuration goes; a pod stays what it was */
    assert_int_equal(folders(POOL_PREFIX), 0);
    assert_int_equal(podnet_add(podnet, &(struct podnet_sandbox){.uid = "uid-3", .hostname = "three"}, &same, &diag), 0);
    assert_string_equal(same.address, pod.address);
    assert_string_equal(same.address6, "");
    assert_int_equal(podnet_remove(podnet, "uid-3"), 0);
}

/* --- settings --- */

static int has_range(const char *expected) {
    struct buffer text = BUFFER_INIT(256);
    return sys_read_file(AT_FDCWD, "/proc/sys/net/ipv4/ip_local_port_range", 255, &text) == 0 && strstr(text.data, expected) ? 0 : 1;
}
static int has_forced(const char *expected) {
    struct buffer text = BUFFER_INIT(256);
    return sys_read_file(AT_FDCWD, "/proc/sys/kernel/shm_rmid_forced", 255, &text) == 0 && strstr(text.data, expected) ? 0 : 1;
}

UNIT_TEST(settings_are_the_pods_own) {
    assert_int_equal(podnet_set_sysctl(podnet, &one, "net.ipv4.ip_local_port_range", "2000 2999"), 0);
    assert_int_equal(podnet_set_sysctl(podnet, &one, "kernel/shm_rmid_forced", "1"), 0);
    assert_int_equal(in_pod(&one, has_range, "2999"), 0);
    assert_int_equal(in_pod(&two, has_range, "2999"), 1);
    assert_int_equal(in_pod(&one, has_forced, "1"), 0);
    assert_int_equal(in_pod(NULL, has_forced, "0"), 0);
    assert_int_equal(podnet_set_sysctl(podnet, &one, "net.ipv4.no_such_thing", "1"), -ENOENT);
    assert_int_equal(podnet_set_sysctl(podnet, &one, "net/../kernel/hostname", "x"), -EINVAL);
}

/* --- users of its own --- */

/* A process in a user namespace whose root is 700000 outside. */
static pid_t other_users(char path[64]) {
    static const char *const names[] = {"uid_map", "gid_map"};
    int ready[2];
    char byte, map[64];
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        (void)!write(ready[1], "x", unshare(CLONE_NEWUSER) == 0);
        for (;;)
            pause();
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(map, sizeof map, "/proc/%d/%s", (int)pid, names[i]);
        assert_int_equal(sys_write_existing(AT_FDCWD, map, SLICE("0 700000 65536")), 0);
    }
    close(ready[0]);
    close(ready[1]);
    snprintf(path, 64, "/proc/%d/ns/user", (int)pid);
    return pid;
}

/* As root in there: a bit for each thing that works. */
static int try_all(const char *users) {
    const struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x0a630001)};
    struct ifreq request = {.ifr_name = "lo"};
    struct buffer text = BUFFER_INIT(256);
    int fd = open(users, O_RDONLY | O_CLOEXEC);
    if (setns(fd, CLONE_NEWUSER) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
        return 98;
    memcpy(&request.ifr_addr, &address, sizeof address);
    int raw = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), link = socket(AF_INET, SOCK_DGRAM, 0);
    bool range = sys_read_file(AT_FDCWD, "/proc/sys/net/ipv4/ping_group_range", 255, &text) == 0 && strcmp(text.data, "7\t65535\n") == 0;
    return (raw >= 0 ? 1 : 0) | (ioctl(link, SIOCSIFADDR, &request) == 0 ? 2 : 0) |
           (sys_write_existing(AT_FDCWD, "/proc/sys/net/ipv4/ip_local_port_range", SLICE("3000 3999")) == 0 ? 4 : 0) | (range ? 8 : 0) |
           (sethostname("mine", 4) == 0 ? 16 : 0);
}

UNIT_TEST(the_root_of_its_users_rules_its_network) {
    struct diag diag = DIAG_INIT;
    struct podnet_pod pod = {.address = ""}, same = {.address = ""};
    char users[64], target[96];
    pid_t holder = other_users(users);
    const struct podnet_sandbox sandbox = {.uid = "uid-4", .hostname = "four", .user_namespace = users};
    if (podnet_add(podnet, &sandbox, &pod, &diag) < 0)
        fail_msg("%s", diag.message);
    assert_int_equal(prctl(PR_GET_DUMPABLE), 1);
    assert_int_equal(in_pod(&pod, has_hostname, "four"), 0);
    assert_int_equal(podnet_set_sysctl(podnet, &pod, "net.ipv4.ping_group_range", "7 65535"), 0);
    assert_int_equal(podnet_set_sysctl(podnet, &pod, "net.ipv4.no_such_thing", "1"), -ENOENT);
    assert_int_equal(podnet_set_sysctl(podnet, &pod, "kernel.shm_rmid_forced", "1"), 0);
    assert_int_equal(in_pod(&pod, has_forced, "1"), 0);
    assert_int_equal(in_pod(NULL, has_forced, "0"), 0);
    pid_t server = serve(&pod, AF_INET6);
    snprintf(target, sizeof target, "%s:8080", pod.address);
    assert_int_equal(in_pod(&one, dial, target), 0);
    int fd = podnet_connect(podnet, &pod, 8080);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(in_pod(&pod, try_all, users), 31);
    assert_int_equal(in_pod(&two, try_all, users), 0); /* not another's */
    assert_int_equal(podnet_add(podnet, &sandbox, &same, &diag), 0);
    assert_string_equal(same.address, pod.address);
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    assert_int_equal(podnet_remove(podnet, "uid-4"), 0);
    kill(holder, SIGKILL);
    waitpid(holder, NULL, 0);
    assert_int_equal(podnet_add(podnet, &sandbox, &same, &diag), -ENOENT); /* there is no such user namespace: nothing stays */
    assert_int_equal(podnet_remove(podnet, "uid-4"), 0);
    assert_int_equal(folders("uid-4"), 0);
}

/* --- pure --- */

UNIT_TEST(ranges_of_ipv6) {
    static const char *const bad[] = {"", "fd00::", "fd00::/7", "fd00::/113", "fd00::1/64", "x/64", "fd00::/", "fd00::/64x", "10.0.0.0/16"};
    struct range6 range, other;
    char text[64];
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(range6_parse(bad[i], &range), -EINVAL);
    assert_int_equal(range6_parse("fd00:1:2::/64", &range), 0);
    range6_text(&range, text);
    assert_string_equal(text, "fd00:1:2::/64");
    struct in6_addr address = range6_at(&range, 0x0102);
    inet_ntop(AF_INET6, &address, text, sizeof text);
    assert_string_equal(text, "fd00:1:2::102");
    range6_local(SLICE("a"), &range);
    range6_local(SLICE("b"), &other);
    assert_int_equal(range.network.s6_addr[0], 0xfd);
    assert_int_equal(range.prefix, 64);
    assert_true(memcmp(&range.network, &other.network, sizeof range.network) != 0);
    address = address6_link_local((const unsigned char[]){0x02, 0x74, 10, 0, 0, 5});
    inet_ntop(AF_INET6, &address, text, sizeof text);
    assert_string_equal(text, "fe80::74:aff:fe00:5");
}

int main(void) {
    const struct CMUnitTest tests[] = {UNIT(pods_have_two_addresses),
                                       UNIT(traffic_is_counted_as_the_pod_sees_it),
                                       UNIT(ports_of_the_machine_lead_to_pods),
                                       UNIT(a_pod_cannot_pose_as_another),
                                       UNIT(settings_are_the_pods_own),
                                       UNIT(the_root_of_its_users_rules_its_network),
                                       UNIT(ranges_of_ipv6),
                                       UNIT(namespaces_are_ready_before_they_are_needed)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
