/* Which of the things that happen are told, and how (correlate.c): as client-go's correlator of events, which kubelet uses. Pure; times come from the
 * caller. */
#ifndef TIDEMILL_NODE_CORRELATE_PRIV_H
#define TIDEMILL_NODE_CORRELATE_PRIV_H

#include "base/base.h"

#define CORRELATE_SIMILAR 10 /* from so many different messages on, they are told together */
#define CORRELATE_SIMILAR_MS (600 * INT64_C(1000))
#define CORRELATE_BURST 25 /* of one subject; after that one in CORRELATE_REST_MS */
#define CORRELATE_REST_MS (300 * INT64_C(1000))

struct correlator;
int correlator_new(struct correlator **ret);
void correlator_free(struct correlator *correlator); /* NULL is fine */
/* What is alike but for its message (`key`) was told with so many others lately that this one is told together with them. */
bool correlate_is_similar(struct correlator *correlator, const char *key, const char *message, int64_t now_ms);
/* The subject has not been told of too often; counts as telling. */
bool correlate_may_tell(struct correlator *correlator, const char *subject, int64_t now_ms);

#endif
