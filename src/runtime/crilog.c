/* The CRI log format as kubelet reads it: TIMESTAMP ' ' ("stdout" | "stderr") ' ' TAGS ' ' TEXT; tags are separated by ':', the first is "P"
 * (partial) or "F" (full). */
#include "runtime/crilog.h"

#include "codec/codec.h"

int crilog_parse(struct slice line, struct crilog_line *ret) {
    struct slice rest = line;
    struct slice time = slice_cut(&rest, ' '), stream = slice_cut(&rest, ' '), tags = slice_cut(&rest, ' ');
    struct slice tag = slice_cut(&tags, ':');
    struct crilog_line parsed = {.stream = slice_is(stream, "stderr") ? 2 : 1, .is_partial = slice_is(tag, "P"), .text = rest};
    if (!rest.data || (parsed.stream == 1 && !slice_is(stream, "stdout")) || (!parsed.is_partial && !slice_is(tag, "F")))
        return -EINVAL;
    if (timestamp_parse(time, &parsed.ns) < 0)
        return -EINVAL;
    *ret = parsed;
    return 0;
}
