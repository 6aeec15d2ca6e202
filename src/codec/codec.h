/* Pure formats: no I/O, no clock. One include for all. */
#ifndef TIDEMILL_CODEC_H
#define TIDEMILL_CODEC_H

#include "codec/cron.h"
#include "codec/dns.h"
#include "codec/gzip.h"
#include "codec/html_links.h"
#include "codec/http1.h"
#include "codec/json.h"
#include "codec/image_platform.h"
#include "codec/promtext.h"
#include "codec/quantity.h"
#include "codec/spdy.h"
#include "codec/text.h"
#include "codec/timestamp.h"
#include "codec/tree.h"
#include "codec/websocket.h"
#include "codec/yaml.h"
#include "codec/zone.h"

#endif
