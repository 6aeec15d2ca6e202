/* The kernel's word about memory that is out. */
#include "runtime/kmsg.h"
#include "unit.h"

static void check(const char *record, const char *name, pid_t pid) {
    struct kmsg_victim victim = {.pid = -1};
    assert_int_equal(kmsg_parse_oom(slice_of(record), &victim), name != NULL);
    assert_int_equal(victim.pid, pid);
    if (name)
        assert_string_equal(victim.name, name);
}

UNIT_TEST(knows_a_victim_of_the_machine) {
    check(
        "3,1234,567890,-;Out of memory: Killed process 4242 (mysqld) total-vm:1kB, anon-rss:2kB, UID:0 pgtables:40kB oom_score_adj:0\n SUBSYSTEM=x\n",
        "mysqld", 4242);
    check("3,1,1,-;Out of memory: Killed process 7 (a) total-vm:) total-vm:1kB\n", "a) total-vm:", 7);
    check("3,1,1,-;Out of memory: Killed process 7 (tab\\x09) total-vm:1kB", "tab\\x09", 7);
    check("3,1,1,-;Memory cgroup out of memory: Killed process 7 (a) total-vm:1kB\n", NULL, -1);
    check("12,1,1,-;Out of memory: Killed process 7 (made up) total-vm:1kB\n", NULL, -1); /* written by a process */
    check("3,1,1,-;Out of memory: Killed process x (a) total-vm:1kB\n", NULL, -1);
    check("3,1,1,-;Out of memory: Killed process 7\n", NULL, -1);
    check("", NULL, -1);
}

UNIT_MAIN(UNIT(knows_a_victim_of_the_machine))
