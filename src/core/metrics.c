/* What /metrics says about the process and the store. Read from /proc when asked: nothing is counted twice. */
#include "core/core_priv.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "sys/sys.h"

static void put(struct buffer *out, const char *name, const char *type, const char *help, double value) {
    buffer_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s ", name, help, name, type, name);
    json_format_double(out, value);
    buffer_append_text(out, "\n");
}

static double resident_bytes(void) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(4 * KIB);
    if (sys_read_file(AT_FDCWD, "/proc/self/statm", 4 * KIB, &text))
        return 0;
    struct slice rest = buffer_slice(&text);
    slice_cut(&rest, ' ');
    uint64_t pages = 0;
    if (slice_parse_u64(slice_cut(&rest, ' '), UINT64_MAX, &pages))
        return 0;
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static double open_descriptors(void) {
    DIR *folder = opendir("/proc/self/fd");
    double count = -3; /* ".", ".." and the folder itself */
    if (!folder)
        return 0;
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

static double cpu_seconds(void) {
    struct timespec used;
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used))
        return 0;
    return (double)used.tv_sec + (double)used.tv_nsec / 1e9;
}

void metrics_append(struct store *store, struct buffer *out) {
    struct store_statistics seen;
    store_statistics(store, &seen);
    put(out, "process_cpu_seconds_total", "counter", "CPU time of this process.", cpu_seconds());
    put(out, "process_resident_memory_bytes", "gauge", "Resident memory of this process.", resident_bytes());
    put(out, "process_open_fds", "gauge", "Open file descriptors of this process.", open_descriptors());
    put(out, "tidemill_store_commits_total", "counter", "Commits to disk.", (double)seen.commits);
    put(out, "tidemill_store_writes_total", "counter", "Writes of objects; several may share a commit.", (double)seen.writes);
    put(out, "tidemill_store_objects", "gauge", "Objects.", (double)seen.objects);
    put(out, "tidemill_store_bytes", "gauge", "Bytes of all objects.", (double)seen.bytes);
    put(out, "tidemill_store_watches", "gauge", "Watches on the store.", (double)seen.watches);
    put(out, "tidemill_store_revision", "counter", "The newest revision.", (double)store_revision(store));
}
