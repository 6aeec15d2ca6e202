/* The uncompressed bytes of a blob: gzip (also of several members), zstd (also of several frames) or plain, told by its first bytes. A thread of its
 * own reads, digests and decompresses ahead of whoever takes the bytes. */
#ifndef TIDEMILL_RUNTIME_INFLATE_H
#define TIDEMILL_RUNTIME_INFLATE_H

#include "base/base.h"

struct inflate;
/* Called on its thread at the end of what the file has: 1: there may be more by now, 0: that was all; negative errno ends it. It waits for a moment
 * at most. */
typedef int inflate_more_fn(void *userdata, int fd);
/* Reads fd from where it stands; borrowed until inflate_free. more: of a file that still grows; may be NULL. -ENOMEM, -EAGAIN (no thread). */
int inflate_new(int fd, inflate_more_fn *more, void *userdata, struct inflate **ret);
/* Ends the thread, whether all was read or not. NULL is fine. */
void inflate_free(struct inflate *inflate);
DEFINE_CLEANUP(struct inflate, inflate_free)
/* The next bytes, valid until the next call: their count; 0 at the end; -EBADMSG with inflate_error() for what is damaged; errno of reading. */
ssize_t inflate_read(struct inflate *inflate, const void **ret_bytes);
/* Of the last -EBADMSG. */
const char *inflate_error(const struct inflate *inflate);
/* After the end: SHA-256 of the file as it is, what follows its compressed stream included. */
void inflate_digest(struct inflate *inflate, char ret[65]);

#endif
