#ifndef TIDEMILL_RUNTIME_SECCOMP_PRIV_H
#define TIDEMILL_RUNTIME_SECCOMP_PRIV_H

#include "base/base.h"

/* Appends the BPF of a libseccomp context in base64. */
int seccomp_export(void *context, struct buffer *out);

#endif
