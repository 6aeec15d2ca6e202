/* Cron schedules: "30 2 * * mon-fri", "@hourly", "@every 1h30m". */
#ifndef TIDEMILL_CODEC_CRON_H
#define TIDEMILL_CODEC_CRON_H

#include "codec/zone.h"

#define CRON_NEVER INT64_MAX

struct cron {
    int64_t every_s;                                 /* 0: by the fields below */
    uint64_t minutes, hours, days, months, weekdays; /* a bit for each value */
    bool any_day, any_weekday;                       /* "*": days are then chosen by the other field alone; otherwise either suffices */
};
/* -EINVAL with diag: what github.com/robfig/cron, which upstream reads schedules with, says. */
int cron_parse(struct slice text, struct cron *ret, struct diag *diag);
/* The first time after this one, in seconds since 1970; CRON_NEVER when there is none within five years ("0 0 30 2 *"). */
int64_t cron_next(const struct cron *cron, const struct zone *zone, int64_t after_s);

#endif
