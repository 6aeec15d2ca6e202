/* Ownership of locals. `CLEANUP(x_freep) struct x *x = NULL;` frees at the end of the scope; `return TAKE(x);` hands it over.
 * DEFINE_CLEANUP(struct x, x_free) makes x_freep from x_free (which must accept NULL). */
#ifndef TIDEMILL_BASE_CLEANUP_H
#define TIDEMILL_BASE_CLEANUP_H

#include <stdlib.h>
#include <unistd.h>

#define CLEANUP(function) __attribute__((cleanup(function)))

#define TAKE(ptr)                                                                                                                                    \
    __extension__({                                                                                                                                  \
        __typeof__(ptr) taken_ = (ptr);                                                                                                              \
        (ptr) = NULL;                                                                                                                                \
        taken_;                                                                                                                                      \
    })
#define TAKE_FD(fd)                                                                                                                                  \
    __extension__({                                                                                                                                  \
        int taken_ = (fd);                                                                                                                           \
        (fd) = -1;                                                                                                                                   \
        taken_;                                                                                                                                      \
    })

#define DEFINE_CLEANUP(type, function)                                                                                                               \
    static inline __attribute__((unused)) void function##p(type **ptr) {                                                                             \
        function(*ptr);                                                                                                                              \
    }

static inline __attribute__((unused)) void freep(void *ptr) {
    free(*(void **)ptr);
}

/* Descriptors start at -1. */
static inline __attribute__((unused)) void fd_closep(int *fd) {
    if (*fd >= 0)
        close(*fd);
}

#endif
