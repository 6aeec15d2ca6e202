/* GET /tidemill/v1/images and /tidemill/v1/images/df: what `tidemill image list` and `df` show. */
#ifndef TIDEMILL_CORE_IMAGE_API_PRIV_H
#define TIDEMILL_CORE_IMAGE_API_PRIV_H

#include "registry/registry.h"
#include "store/store.h"

/* For a caller that was authorised as administrator. False: not ours. *listings counts the workers that read the registry: it is there until all are
 * done. */
bool image_api_handle(struct loop *loop, struct store *store, struct registry *registry, size_t *listings, struct http_exchange *exchange);

#endif
