/* DNS messages (RFC 1035, the OPT record of RFC 6891): queries as a server reads them, answers as it writes them. No I/O. */
#ifndef TIDEMILL_CODEC_DNS_H
#define TIDEMILL_CODEC_DNS_H

#include "base/base.h"

#define DNS_HEADER_BYTES 12
#define DNS_WIRE_NAME_BYTES_MAX 255
#define DNS_NAME_BYTES (4 * DNS_WIRE_NAME_BYTES_MAX) /* as text, NUL included: each byte may need an escape */
#define DNS_UDP_BYTES 512                            /* an answer over UDP to who says nothing else */
#define DNS_UDP_BYTES_MAX 1232                       /* … and to who allows more: never fragmented */
#define DNS_MESSAGE_BYTES_MAX 65535

enum dns_type {
    DNS_TYPE_A = 1,
    DNS_TYPE_CNAME = 5,
    DNS_TYPE_SOA = 6,
    DNS_TYPE_PTR = 12,
    DNS_TYPE_AAAA = 28,
    DNS_TYPE_SRV = 33,
    DNS_TYPE_OPT = 41,
    DNS_TYPE_IXFR = 251,
    DNS_TYPE_AXFR = 252,
    DNS_TYPE_ANY = 255,
};
enum dns_class { DNS_CLASS_IN = 1, DNS_CLASS_ANY = 255 };
enum dns_rcode {
    DNS_RCODE_NOERROR,
    DNS_RCODE_FORMERR,
    DNS_RCODE_SERVFAIL,
    DNS_RCODE_NXDOMAIN,
    DNS_RCODE_NOTIMP,
    DNS_RCODE_REFUSED,
    DNS_RCODE_BADVERS = 16, /* only with OPT */
};

struct dns_query {
    uint16_t id;
    uint8_t opcode;
    bool recursion_desired, checking_disabled, has_edns;
    char name[DNS_NAME_BYTES]; /* lower case, labels joined by dots, none at the end; bytes beside !-~ and dots and backslashes in labels as \DDD */
    uint16_t type, class;
    size_t question_end;  /* the question is message[DNS_HEADER_BYTES … question_end); 0: there is none to repeat */
    size_t udp_bytes_max; /* what an answer over UDP may take */
};
/* 0; DNS_RCODE_FORMERR, DNS_RCODE_NOTIMP or DNS_RCODE_BADVERS: answer with that (ret is filled as far as dns_format_answer needs it);
 * -EBADMSG: no query at all (too short, or an answer), say nothing. */
int dns_parse_query(struct slice message, struct dns_query *ret);

/* The name at *at; moves *at behind it. Pointers lead strictly backwards, so there is an end. -EBADMSG. */
int dns_parse_name(struct slice message, size_t *at, char ret[DNS_NAME_BYTES]);

struct dns_record {
    const char *name; /* as text; NULL: the question's */
    enum dns_type type;
    uint32_t ttl_s;
    uint32_t address;                /* A, host order */
    const char *target;              /* CNAME, PTR, SRV */
    uint16_t priority, weight, port; /* SRV */
};
struct dns_answer {
    enum dns_rcode rcode;
    bool authoritative;
    const struct dns_record *records;
    size_t records_count;
    const struct dns_record *additional; /* dropped when they do not fit */
    size_t additional_count;
    const char *soa_zone; /* for NXDOMAIN and for no data: the zone that says so; NULL: none */
    uint32_t soa_serial, negative_ttl_s;
};
/* Appends the answer, at most bytes_max long (DNS_UDP_BYTES at least): records that do not fit are left out and TC is set. `message` is what `query`
 * was parsed from. -EINVAL when a name in `answer` is no name; out is then as before. */
int dns_format_answer(struct slice message, const struct dns_query *query, const struct dns_answer *answer, size_t bytes_max, struct buffer *out);

/* Whether `message` answers the query `asked` (ids, QR, opcode, and the question byte for byte). */
bool dns_is_answer_to(struct slice message, struct slice asked);
/* Appends the head of `message` with TC set and its question alone: for answers that are too long for who asked. */
int dns_format_truncated(struct slice message, struct buffer *out);

#endif
