/* A secret: bytes that are wiped when freed and that no format function takes. */
#ifndef TIDEMILL_BASE_SECRET_H
#define TIDEMILL_BASE_SECRET_H

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "base/slice.h"

struct secret;

/* Copies the bytes; NULL without memory. */
struct secret *secret_new(struct slice bytes);
void secret_free(struct secret *secret);
DEFINE_CLEANUP(struct secret, secret_free)
/* Borrowed, for handing to a protocol, never to a log. */
struct slice secret_reveal(const struct secret *secret);
/* In constant time for equal lengths. */
bool secret_equal(struct slice a, struct slice b);

#endif
