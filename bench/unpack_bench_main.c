/* What bench/unpack.py measures: one layer's way from its blob to a folder on disk, digests compared, as the node does it.
 *   unpack_bench_main BLOB SHA256 DIFF_SHA256 FOLDER     prints seconds on the wall, and of processor time */
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/layer.h"
#include "sys/sys.h"

static double processor_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

int main(int argc, char **argv) {
    struct diag diag = DIAG_INIT;
    if (argc != 5 || mkdir(argv[4], 0755) < 0)
        return 2;
    int blob = open(argv[1], O_RDONLY | O_CLOEXEC), root = open(argv[4], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (blob < 0 || root < 0)
        return 2;
    int64_t began_ns = sys_monotonic_ns();
    const struct layer_options options = {.root_fd = root, .keep_owner = geteuid() == 0};
    int r = layer_apply_blob(blob, argv[2], argv[3], &options, &diag);
    if (r < 0) {
        fprintf(stderr, "%s\n", diag.message);
        return 1;
    }
    double written = (double)(sys_monotonic_ns() - began_ns) / 1e9;
    syncfs(root);
    printf("%.3f %.3f %.3f\n", written, processor_seconds(), (double)(sys_monotonic_ns() - began_ns) / 1e9);
    return 0;
}
