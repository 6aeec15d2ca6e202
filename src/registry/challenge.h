/* How a registry wants to be asked: the WWW-Authenticate headers of its 401 (RFC 9110, 11.6.1). Pure. */
#ifndef TIDEMILL_REGISTRY_CHALLENGE_H
#define TIDEMILL_REGISTRY_CHALLENGE_H

#include "base/base.h"

struct challenges {
    bool basic;
    bool bearer;
    /* of Bearer; "" when absent */
    char realm[1024], service[256], scope[1024];
};
/* Adds what one header says: it may hold several challenges, and there may be several headers. Of two Bearer challenges the first counts. What cannot
 * be understood, or is too long, is passed over. */
void challenges_read(struct slice header, struct challenges *into);

#endif
