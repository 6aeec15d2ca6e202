/* Private to client/. */
#ifndef TIDEMILL_CLIENT_INFORMER_PRIV_H
#define TIDEMILL_CLIENT_INFORMER_PRIV_H

#include "client/client.h"

struct loop *client_loop(struct client *client);

#endif
