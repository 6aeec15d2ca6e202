/* What a scraped application says must not hurt the monitor. */
#include "codec/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct promtext parser;
    struct promtext_sample sample;
    struct diag diag = DIAG_INIT;
    promtext_init(&parser, slice_make(data, size));
    while (promtext_next(&parser, &sample, &diag) == PROMTEXT_SAMPLE) {
        ASSERT(promtext_is_metric_name(sample.name));
        for (size_t i = 0; i < sample.labels_count; i++)
            ASSERT(promtext_is_label_name(sample.labels[i].name));
    }
    return 0;
}
