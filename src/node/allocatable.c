/* What the machine has, and what of it pods may take together, so that the platform itself always has enough.
 *
 *   capacity − reserve              the limit of the group of all pods: the kernel keeps it
 *   capacity − reserve − threshold  what is told as allocatable: the scheduler keeps it; the threshold is where eviction begins
 *
 * The reserve is for the system, the platform and the page tables of a busy machine: a fixed part, and a part of the memory that shrinks as the
 * machine grows, but never more than a quarter. CPU is not reserved: weights see to it that everybody who needs some gets some (qos.c). */
#include <sys/statvfs.h>

#include "node/node_priv.h"
#include "sys/sys.h"

#define RESERVE_FIXED ((int64_t)(96 * MIB))
#define RESERVE_FIRST ((int64_t)(4 * GIB)) /* of this a twentieth, of the rest a fiftieth */
#define PIDS_PART 10                       /* what pods leave to others, one in ten */

int64_t allocatable_reserve(int64_t memory_bytes) {
    int64_t first = MIN(memory_bytes, RESERVE_FIRST), rest = memory_bytes - first;
    return MIN(RESERVE_FIXED + first / 20 + rest / 50, memory_bytes / 4);
}

int64_t allocatable_machine_memory(void) {
    return (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
}

int64_t allocatable_pods_memory(void) {
    int64_t machine = allocatable_machine_memory();
    return machine - allocatable_reserve(machine);
}

int64_t allocatable_memory(const struct node *node) {
    int64_t pods = allocatable_pods_memory();
    return pods - MIN(eviction_reserved_memory(node), pods / 2);
}

int64_t allocatable_disk(const struct node *node) {
    struct statvfs disk = {0};
    statvfs(node->state_dir, &disk);
    uint64_t bytes = (uint64_t)disk.f_blocks * disk.f_frsize;
    return (int64_t)(bytes - eviction_reserved_disk(node, bytes));
}

int64_t allocatable_cpu_milli(void) {
    return (int64_t)sysconf(_SC_NPROCESSORS_ONLN) * 1000;
}

static uint64_t read_number(const char *path) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(64);
    uint64_t value = 0;
    if (sys_read_file(AT_FDCWD, path, 63, &text) == 0)
        (void)slice_parse_u64(slice_trim(buffer_slice(&text)), INT64_MAX, &value);
    return value;
}

int64_t allocatable_machine_pids(void) {
    uint64_t pids = read_number("/proc/sys/kernel/pid_max"), threads = read_number("/proc/sys/kernel/threads-max");
    return (int64_t)(pids && threads ? MIN(pids, threads) : MAX(pids, threads));
}

int64_t allocatable_pids(void) {
    int64_t all = allocatable_machine_pids();
    return all - all / PIDS_PART;
}
