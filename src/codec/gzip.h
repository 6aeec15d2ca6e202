/* gzip (RFC 1952), one way. */
#ifndef TIDEMILL_CODEC_GZIP_H
#define TIDEMILL_CODEC_GZIP_H

#include "base/base.h"

/* Appends `plain`, compressed. Blocks for about 20 ms a megabyte: for a worker thread. -ENOMEM, or the buffer's error. */
int gzip_encode(struct slice plain, struct buffer *out);

#endif
