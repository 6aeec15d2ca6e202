/* Which release an image name means, and which of the machine's apt sources serve it. */
#ifndef TIDEMILL_REGISTRY_SOURCES_PRIV_H
#define TIDEMILL_REGISTRY_SOURCES_PRIV_H

#include "base/base.h"

/* The codename for an image's name and tag ("debian", "12-slim" → "bookworm"), the machine's own release when the tag says nothing. -EINVAL with
 * diag. */
int sources_find_suite(const char *name, const char *tag, char ret[64], struct diag *diag);

#endif
