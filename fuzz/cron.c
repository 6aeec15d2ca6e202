/* A schedule that somebody writes, in a zone whose file is somebody's: the next time is later, and found. Input: the schedule, NUL, the zone's file.
 */
#include "codec/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice rest = slice_make(data, size), schedule = slice_cut(&rest, '\0');
    CLEANUP(zone_freep) struct zone *zone = NULL;
    struct diag diag = DIAG_INIT;
    struct cron cron;
    int r = zone_parse(rest, &zone);
    ASSERT(r == 0 || r == -EINVAL || r == -ENOMEM);
    if (cron_parse(schedule, &cron, &diag) < 0)
        return 0;
    for (int64_t at_s = 1774746000, i = 0; i < 8; i++) {
        int64_t next_s = cron_next(&cron, zone, at_s);
        ASSERT(next_s > at_s);
        if (next_s == CRON_NEVER)
            break;
        at_s = next_s;
    }
    return 0;
}
