/* A seccomp profile that somebody wrote: whatever it says, it compiles or is refused with words. */
#include "runtime/seccomp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct buffer program = BUFFER_INIT(MIB);
    struct diag diag = DIAG_INIT;
    int r = seccomp_profile_program(slice_make((const char *)data, size), 0xff, &program, &diag);
    ASSERT(r != -EINVAL || diag.message[0]);
    ASSERT(r < 0 || program.len > 0);
    buffer_deinit(&program);
    return 0;
}
