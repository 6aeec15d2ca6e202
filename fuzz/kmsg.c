/* Records of /dev/kmsg. */
#include "runtime/runtime.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct kmsg_victim victim;
    if (kmsg_parse_oom(slice_make((const char *)data, size), &victim))
        ASSERT(victim.pid >= 0 && memchr(victim.name, 0, sizeof victim.name));
    return 0;
}
