/* Time zones: the files of the IANA database (TZif, RFC 9636), and the civil times that they make of instants. All seconds are since 1970, UTC.
 * A zone NULL is UTC. */
#ifndef TIDEMILL_CODEC_ZONE_H
#define TIDEMILL_CODEC_ZONE_H

#include "base/base.h"

#define ZONE_FILE_BYTES_MAX (64 * KIB)
#define ZONE_NAME_BYTES_MAX 64

struct zone;
/* The bytes of a TZif file of version 2 or later. -EINVAL when it is none, -ENOMEM. */
int zone_parse(struct slice bytes, struct zone **ret);
void zone_free(struct zone *zone); /* NULL is fine */
DEFINE_CLEANUP(struct zone, zone_free)

/* "Europe/Berlin": may it be the name of a zone, that is a path beneath the database's folder? */
bool zone_name_is_valid(struct slice name);

/* Seconds east of UTC at an instant. */
int32_t zone_offset(const struct zone *zone, int64_t utc_s);

struct civil {
    int64_t year;
    int month, day; /* from 1 */
    int hour, minute, second;
    int weekday; /* 0: Sunday; of no account to zone_instant */
};
void zone_civil(const struct zone *zone, int64_t utc_s, struct civil *ret);
/* Fields out of range carry over (month 13 is January). Of a time that a clock skips or shows twice, the instant is the one that Go's time.Date
 * gives. */
int64_t zone_instant(const struct zone *zone, const struct civil *civil);

#endif
