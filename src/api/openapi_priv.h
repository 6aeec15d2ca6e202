/* What api keeps of OpenAPI documents, see openapi.c. */
#ifndef TIDEMILL_API_OPENAPI_PRIV_H
#define TIDEMILL_API_OPENAPI_PRIV_H

#include "base/base.h"
#include "loop/loop.h"

#define API_OPENAPI_IDLE_MS (10 * 60 * 1000)
#define OPENAPI_FORMS 2

enum openapi_form { OPENAPI_FORM_JSON, OPENAPI_FORM_V2, OPENAPI_FORM_V3 };

struct openapi_packed {
    char *data; /* gzip; NULL: not made, or dropped */
    size_t len;
};
/* One document. */
struct openapi_entry {
    char *group, *version;                       /* NULL: v2 */
    bool custom;                                 /* changes with the kinds there are */
    char hash[65];                               /* "": not made yet */
    struct openapi_packed packed[OPENAPI_FORMS]; /* JSON, protobuf */
};
struct openapi_cache {
    uint64_t generation; /* of the kinds the entries were made for; 0: none */
    VECTOR(struct openapi_entry) entries;
    struct loop_timer idle;
};

#endif
