/* Fault injection: a countdown that one call at a time reads. Tests set it and walk `after` upwards until nothing fails any more, which makes each
 * call fail in turn. Thread-local, so it is no shared state: what a worker thread does is not disturbed. */
#include "sys/sys_priv.h"

static _Thread_local int calls_left;
static _Thread_local int error_injected;

void sys_fault_set(int after, int error) {
    calls_left = after;
    error_injected = error;
}

int sys_fault_check(void) {
    if (calls_left == 0 || --calls_left > 0)
        return 0;
    return -error_injected;
}
