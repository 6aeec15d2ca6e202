/* DNS: queries from pods, answers from name servers. What is accepted is answered, and the answer is one to it and within the limit. */
#include "codec/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_answer(struct slice message, const struct dns_query *query, enum dns_rcode rcode, size_t bytes_max) {
    struct dns_record records[40];
    for (size_t i = 0; i < ARRAY_LEN(records); i++)
        records[i] = (struct dns_record){.type = DNS_TYPE_SRV, .target = "a.b.svc.cluster.local"};
    const struct dns_answer answer = {
        .rcode = rcode, .records = records, .records_count = rcode ? 0 : ARRAY_LEN(records), .soa_zone = "cluster.local"};
    CLEANUP(buffer_deinit) struct buffer out = BUFFER_INIT(DNS_MESSAGE_BYTES_MAX);
    ASSERT(dns_format_answer(message, query, &answer, bytes_max, &out) == 0);
    ASSERT(out.len <= bytes_max);
    ASSERT(!query->question_end || dns_is_answer_to(buffer_slice(&out), message));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice message = slice_make(data, size);
    struct dns_query query;
    char name[DNS_NAME_BYTES];
    CLEANUP(buffer_deinit) struct buffer cut = BUFFER_INIT(DNS_MESSAGE_BYTES_MAX);
    int r = dns_parse_query(message, &query);
    if (r >= 0) {
        check_answer(message, &query, (enum dns_rcode)r, DNS_UDP_BYTES);
        check_answer(message, &query, (enum dns_rcode)r, query.udp_bytes_max);
    }
    for (size_t at = 0; at < size; at++) {
        size_t end = at;
        if (dns_parse_name(message, &end, name) == 0)
            ASSERT(end > at && end <= size && strlen(name) < sizeof name);
    }
    if (dns_format_truncated(message, &cut) == 0)
        ASSERT(cut.len <= size);
    dns_is_answer_to(message, message);
    return 0;
}
