/* Log lines in CRI format. */
#include "runtime/runtime.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct crilog_line line;
    for (struct slice rest = slice_make(data, size); rest.data;) {
        struct slice text = slice_cut(&rest, '\n');
        if (crilog_parse(text, &line) == 0) {
            ASSERT(line.stream == 1 || line.stream == 2);
            ASSERT(line.text.len == 0 || (line.text.data >= text.data && line.text.data + line.text.len == text.data + text.len));
        }
    }
    return 0;
}
