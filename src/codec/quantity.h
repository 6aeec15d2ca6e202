/* Kubernetes quantities: "500m", "1.5", "64Mi", "1e3". Canonical form as upstream (resource.Quantity.String). */
#ifndef TIDEMILL_CODEC_QUANTITY_H
#define TIDEMILL_CODEC_QUANTITY_H

#include "base/base.h"

/* The value in thousandths, rounded up; -EINVAL when it is no quantity; saturates at INT64_MAX/INT64_MIN. */
int quantity_parse_milli(struct slice text, int64_t *ret);
/* The value in whole units, rounded up. */
int quantity_parse(struct slice text, int64_t *ret);
/* Upstream's canonical text ("0.5" → "500m", "1024Ki" → "1Mi"), at most 63 bytes and NUL. -EINVAL when it is no quantity. */
int quantity_canonical(struct slice text, char ret[64]);
/* The canonical text of thousandths; binary: with Ki, Mi, … when it is a whole number of them. */
void quantity_format(int64_t milli, bool binary, char ret[64]);

#endif
