/* Threads beside an event loop. */
#include <signal.h>

#include "sys/sys.h"

int sys_thread_start(pthread_t *ret, void *(*main)(void *), void *argument) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int r = -pthread_create(ret, NULL, main, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return r;
}
