/* Whose an unpacked layer is: of those whose image has a blob of it. */
#ifndef TIDEMILL_RUNTIME_LAYER_PROOF_H
#define TIDEMILL_RUNTIME_LAYER_PROOF_H

#include "base/base.h"

#define LAYER_PROOFS_MAX 8 /* further ones take the oldest's place */

/* It was unpacked from the blob with that digest ("sha256:…"), or that one was found to have the same content. 0; -ENOTSUP where it cannot be kept.
 */
int layer_prove(int folder, const char *digest);
/* Is that known? Of folders that have no proofs (of an earlier version, or where they cannot be kept) it is not asked. */
bool layer_is_proven(const char *path, const char *digest);

#endif
