/* HTTP/1.1 over the loop: server, client, TLS, WebSocket, certificates. One include for all. See README.md. */
#ifndef TIDEMILL_HTTP_H
#define TIDEMILL_HTTP_H

#include "http/client.h"
#include "http/http2.h"
#include "http/jwt.h"
#include "http/pki.h"
#include "http/server.h"
#include "http/tls.h"
#include "http/websocket.h"

#endif
