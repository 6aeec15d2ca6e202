/* Whether an unpacked layer still has what was unpacked. */
#ifndef TIDEMILL_RUNTIME_LAYER_SEAL_H
#define TIDEMILL_RUNTIME_LAYER_SEAL_H

#include "base/base.h"

#define LAYER_SEAL_BYTES 64

/* Writes down what the folder has. Walks all of it. Negative errno: it has no seal, and passes every check. */
int layer_seal(int folder);
/* 0 when it has just that, or has no seal; -EBADMSG when not; errno of reading. Walks all of it, and reads no file. */
int layer_check(int folder);

#endif
