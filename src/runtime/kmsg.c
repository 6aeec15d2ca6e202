/* Records of /dev/kmsg (Documentation/ABI/testing/dev-kmsg): "<facility and level>,<sequence>,<time>,<flags>[,…];<text>\n". What processes write
 * there has another facility than the kernel's, 0: nobody can make up a victim. A process may call itself anything, ")" included: the name ends at
 * the last one before " total-vm:". */
#include "runtime/kmsg.h"

#define LEVELS 8

bool kmsg_parse_oom(struct slice record, struct kmsg_victim *ret) {
    static const char lead[] = "Out of memory: Killed process ";
    struct slice head = slice_cut(&record, ';');
    uint64_t facility, pid;
    if (!record.data || slice_parse_u64(slice_cut(&head, ','), UINT64_MAX, &facility) < 0 || facility >= LEVELS)
        return false;
    struct slice text = slice_cut(&record, '\n');
    ptrdiff_t end = slice_find(text, SLICE(") total-vm:"));
    if (!slice_starts(text, slice_of(lead)) || end < 0)
        return false;
    for (ptrdiff_t next; (next = slice_find(slice_from(text, (size_t)end + 1), SLICE(") total-vm:"))) >= 0;)
        end += next + 1;
    text = slice_from(slice_head(text, (size_t)end), sizeof lead - 1);
    if (slice_parse_u64(slice_cut(&text, ' '), INT32_MAX, &pid) < 0 || !slice_starts(text, SLICE("(")))
        return false;
    text = slice_from(text, 1);
    *ret = (struct kmsg_victim){.pid = (pid_t)pid};
    for (size_t i = 0; i < text.len && i + 1 < sizeof ret->name; i++)
        ret->name[i] = (char)(text.data[i] >= ' ' && text.data[i] < 127 ? text.data[i] : '?');
    return true;
}
