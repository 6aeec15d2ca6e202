/* DNS messages. Queries come from pods, answers that are passed on from name servers: nothing in them is believed.
 *
 * 1. A name is read with a budget of 255 bytes on the wire, and each pointer must lead before the place where the run of labels that holds it began:
 *    so reading ends, and no byte is read twice by one name.
 * 2. A query has exactly one question, nothing in the answer and authority sections, at most one OPT (in the additional section, at the root), and
 * ends where its last record ends. Everything else is FORMERR. Other additional records (TSIG, cookies' kin) are skipped.
 * 3. An answer repeats the question byte for byte: resolvers that randomise the case of letters compare it.
 * 4. An answer is whole records up to the limit, and the room for OPT is set aside first.
 * Names written here are not compressed but for the question's (a pointer to offset 12): answers are short. */
#include "codec/dns.h"

#include <stdio.h>

#define QUESTION_TAIL_BYTES 4
#define OPT_BYTES 11
#define ADDITIONAL_MAX 8
#define FLAG_QR 0x8000u
#define FLAG_AA 0x0400u
#define FLAG_TC 0x0200u
#define FLAG_RD 0x0100u
#define FLAG_RA 0x0080u
#define FLAG_CD 0x0010u
#define OPCODE(flags) (((flags) >> 11) & 15u)

static uint8_t byte_at(struct slice message, size_t at) {
    return (uint8_t)message.data[at];
}
static uint16_t u16_at(struct slice message, size_t at) {
    return (uint16_t)(byte_at(message, at) << 8 | byte_at(message, at + 1));
}
static bool has(struct slice message, size_t at, size_t len) {
    return at <= message.len && message.len - at >= len;
}

/* --- reading --- */

/* `used` never exceeds DNS_NAME_BYTES: each byte of the wire takes at most four. */
static size_t add_label(struct slice label, size_t used, char *out) {
    if (used)
        out[used++] = '.';
    for (size_t i = 0; i < label.len; i++) {
        unsigned char byte = (unsigned char)label.data[i];
        if (byte >= 'A' && byte <= 'Z')
            byte = (unsigned char)(byte - 'A' + 'a');
        if (byte > ' ' && byte <= '~' && byte != '.' && byte != '\\') {
            out[used++] = (char)byte;
            continue;
        }
        out[used++] = '\\';
        out[used++] = (char)('0' + byte / 100);
        out[used++] = (char)('0' + byte / 10 % 10);
        out[used++] = (char)('0' + byte % 10);
    }
    return used;
}

int dns_parse_name(struct slice message, size_t *at, char ret[DNS_NAME_BYTES]) {
    size_t here = *at, run = *at, end = 0, wire = 1, used = 0;
    for (;;) {
        if (!has(message, here, 1))
            return -EBADMSG;
        size_t len = byte_at(message, here);
        if (len >= 0xc0) {
            if (!has(message, here, 2))
                return -EBADMSG;
            size_t target = u16_at(message, here) & 0x3fffu;
            if (target < DNS_HEADER_BYTES || target >= run)
                return -EBADMSG;
            end = end ? end : here + 2;
            here = run = target;
            continue;
        }
        wire += len + 1;
        if (len > 63 || wire > DNS_WIRE_NAME_BYTES_MAX + 1 || !has(message, here + 1, len))
            return -EBADMSG;
        if (len == 0)
            break;
        used = add_label(slice_make(message.data + here + 1, len), used, ret);
        here += len + 1;
    }
    ret[used] = 0;
    *at = end ? end : here + 1;
    return 0;
}

/* Additional records: OPT, and others that are skipped. */
static int parse_additional(struct slice message, size_t *at, struct dns_query *ret) {
    char name[DNS_NAME_BYTES];
    if (dns_parse_name(message, at, name) < 0 || !has(message, *at, 10) || !has(message, *at + 10, u16_at(message, *at + 8)))
        return DNS_RCODE_FORMERR;
    size_t fields = *at;
    *at += (size_t)10 + u16_at(message, fields + 8);
    if (u16_at(message, fields) != DNS_TYPE_OPT)
        return 0;
    if (ret->has_edns || *name)
        return DNS_RCODE_FORMERR;
    ret->has_edns = true;
    ret->udp_bytes_max = MIN(MAX((size_t)u16_at(message, fields + 2), (size_t)DNS_UDP_BYTES), (size_t)DNS_UDP_BYTES_MAX);
    return byte_at(message, fields + 5) == 0 ? 0 : DNS_RCODE_BADVERS;
}

static int parse_question(struct slice message, struct dns_query *ret) {
    size_t at = DNS_HEADER_BYTES;
    if (u16_at(message, 4) != 1 || u16_at(message, 6) || u16_at(message, 8) || u16_at(message, 10) > ADDITIONAL_MAX)
        return DNS_RCODE_FORMERR;
    if (dns_parse_name(message, &at, ret->name) < 0 || !has(message, at, QUESTION_TAIL_BYTES))
        return DNS_RCODE_FORMERR;
    ret->type = u16_at(message, at);
    ret->class = u16_at(message, at + 2);
    ret->question_end = at + QUESTION_TAIL_BYTES;
    return 0;
}

int dns_parse_query(struct slice message, struct dns_query *ret) {
    *ret = (struct dns_query){.udp_bytes_max = DNS_UDP_BYTES};
    if (message.len < DNS_HEADER_BYTES || message.len > DNS_MESSAGE_BYTES_MAX)
        return -EBADMSG;
    unsigned flags = u16_at(message, 2);
    if (flags & FLAG_QR)
        return -EBADMSG;
    ret->id = u16_at(message, 0);
    ret->opcode = (uint8_t)OPCODE(flags);
    ret->recursion_desired = flags & FLAG_RD;
    ret->checking_disabled = flags & FLAG_CD;
    if (ret->opcode != 0)
        return DNS_RCODE_NOTIMP;
    int r = parse_question(message, ret);
    size_t at = ret->question_end;
    for (unsigned i = 0, count = u16_at(message, 10); r == 0 && i < count; i++)
        r = parse_additional(message, &at, ret);
    return r == 0 && at != message.len ? DNS_RCODE_FORMERR : r;
}

bool dns_is_answer_to(struct slice message, struct slice asked) {
    size_t at = DNS_HEADER_BYTES;
    char name[DNS_NAME_BYTES];
    if (message.len < DNS_HEADER_BYTES || asked.len < DNS_HEADER_BYTES || u16_at(message, 0) != u16_at(asked, 0))
        return false;
    if (!(u16_at(message, 2) & FLAG_QR) || OPCODE(u16_at(message, 2)) != OPCODE(u16_at(asked, 2)) || u16_at(message, 4) != 1)
        return false;
    if (dns_parse_name(asked, &at, name) < 0 || !has(asked, at, QUESTION_TAIL_BYTES))
        return false;
    size_t len = at + QUESTION_TAIL_BYTES - DNS_HEADER_BYTES;
    return has(message, DNS_HEADER_BYTES, len) && memcmp(message.data + DNS_HEADER_BYTES, asked.data + DNS_HEADER_BYTES, len) == 0;
}

/* --- writing --- */

static void put_u16(struct buffer *out, unsigned value) {
    const char bytes[] = {(char)(value >> 8), (char)value};
    buffer_append(out, bytes, sizeof bytes);
}
static void put_u32(struct buffer *out, uint32_t value) {
    put_u16(out, value >> 16);
    put_u16(out, value & 0xffff);
}
static void set_u16(struct buffer *out, size_t at, unsigned value) {
    out->data[at] = (char)(value >> 8);
    out->data[at + 1] = (char)value;
}

/* Text without escapes: ours are names of Kubernetes. */
static int put_name(struct buffer *out, const char *name) {
    size_t wire = 1;
    for (struct slice rest = slice_of(name); rest.len;) {
        struct slice label = slice_cut(&rest, '.');
        wire += label.len + 1;
        if (label.len == 0 || label.len > 63 || wire > DNS_WIRE_NAME_BYTES_MAX)
            return -EINVAL;
        buffer_append_byte(out, (char)label.len);
        buffer_append_slice(out, label);
    }
    buffer_append_byte(out, 0);
    return buffer_error(out);
}

static int put_data(struct buffer *out, const struct dns_record *record) {
    if (record->type == DNS_TYPE_A) {
        put_u32(out, record->address);
        return buffer_error(out);
    }
    if (record->type == DNS_TYPE_SRV) {
        put_u16(out, record->priority);
        put_u16(out, record->weight);
        put_u16(out, record->port);
    }
    return put_name(out, record->target);
}

static int put_soa(struct buffer *out, const struct dns_answer *answer) {
    buffer_append(out, "\2ns", 3);
    int r = put_name(out, answer->soa_zone);
    buffer_append(out, "\12hostmaster", 11);
    put_name(out, answer->soa_zone);
    put_u32(out, answer->soa_serial);
    put_u32(out, 7200); /* refresh, retry, expire: nobody transfers this zone */
    put_u32(out, 1800);
    put_u32(out, 86400);
    put_u32(out, answer->negative_ttl_s);
    return r < 0 ? r : buffer_error(out);
}

/* One record, whole or not at all; -EMSGSIZE when it would end behind `end`. */
static int put_record(struct buffer *out, const struct dns_record *record, const struct dns_answer *soa, size_t end) {
    size_t begin = out->len;
    int r = 0;
    if (record->name)
        r = put_name(out, record->name);
    else
        put_u16(out, 0xc000 | DNS_HEADER_BYTES);
    put_u16(out, record->type);
    put_u16(out, DNS_CLASS_IN);
    put_u32(out, record->ttl_s);
    put_u16(out, 0);
    size_t data = out->len;
    if (r == 0)
        r = soa ? put_soa(out, soa) : put_data(out, record);
    if (r == 0)
        r = buffer_error(out);
    if (r == 0 && out->len > end)
        r = -EMSGSIZE;
    if (r < 0)
        buffer_truncate(out, begin);
    else
        set_u16(out, data - 2, (unsigned)(out->len - data));
    return r;
}

static int put_records(struct buffer *out, const struct dns_record *records, size_t count, size_t end, unsigned *ret_count) {
    int r = 0;
    for (*ret_count = 0; *ret_count < count; (*ret_count)++)
        if ((r = put_record(out, &records[*ret_count], NULL, end)) < 0)
            break;
    return r;
}

static void put_opt(struct buffer *out, enum dns_rcode rcode) {
    buffer_append_byte(out, 0);
    put_u16(out, DNS_TYPE_OPT);
    put_u16(out, DNS_UDP_BYTES_MAX);
    put_u32(out, (uint32_t)rcode >> 4 << 24);
    put_u16(out, 0);
}

static int put_sections(const struct dns_query *query, const struct dns_answer *answer, size_t begin, size_t end, struct buffer *out) {
    const struct dns_record soa = {.name = answer->soa_zone, .type = DNS_TYPE_SOA, .ttl_s = answer->negative_ttl_s};
    unsigned answers, authorities = 0, additional = 0;
    int r = put_records(out, answer->records, answer->records_count, end, &answers);
    bool truncated = r == -EMSGSIZE && !buffer_error(out);
    if (r == 0 && answer->soa_zone && (r = put_record(out, &soa, answer, end)) == 0)
        authorities = 1;
    if (r == 0)
        r = put_records(out, answer->additional, answer->additional_count, end, &additional);
    if (r < 0 && (r != -EMSGSIZE || buffer_error(out)))
        return r;
    if (query->has_edns) {
        put_opt(out, answer->rcode);
        additional++;
    }
    if (truncated)
        set_u16(out, begin + 2, (unsigned)(((uint8_t)out->data[begin + 2] << 8 | (uint8_t)out->data[begin + 3]) | FLAG_TC));
    set_u16(out, begin + 6, answers);
    set_u16(out, begin + 8, authorities);
    set_u16(out, begin + 10, additional);
    return buffer_error(out);
}

int dns_format_answer(struct slice message, const struct dns_query *query, const struct dns_answer *answer, size_t bytes_max, struct buffer *out) {
    size_t begin = out->len, end = begin + MAX(bytes_max, (size_t)DNS_UDP_BYTES) - (query->has_edns ? OPT_BYTES : 0);
    unsigned flags = FLAG_QR | FLAG_RA | (unsigned)query->opcode << 11 | ((unsigned)answer->rcode & 15u);
    if (buffer_error(out))
        return buffer_error(out);
    flags |= (answer->authoritative ? FLAG_AA : 0) | (query->recursion_desired ? FLAG_RD : 0) | (query->checking_disabled ? FLAG_CD : 0);
    put_u16(out, query->id);
    put_u16(out, flags);
    put_u16(out, query->question_end ? 1 : 0);
    put_u16(out, 0);
    put_u32(out, 0);
    if (query->question_end)
        buffer_append(out, message.data + DNS_HEADER_BYTES, query->question_end - DNS_HEADER_BYTES);
    int r = buffer_error(out);
    if (r == 0)
        r = put_sections(query, answer, begin, end, out);
    if (r < 0 && !buffer_error(out))
        buffer_truncate(out, begin);
    return r;
}

int dns_format_truncated(struct slice message, struct buffer *out) {
    size_t begin = out->len, at = DNS_HEADER_BYTES;
    char name[DNS_NAME_BYTES];
    if (message.len < DNS_HEADER_BYTES || dns_parse_name(message, &at, name) < 0 || !has(message, at, QUESTION_TAIL_BYTES))
        return -EBADMSG;
    buffer_append_slice(out, slice_head(message, at + QUESTION_TAIL_BYTES));
    if (buffer_error(out))
        return buffer_error(out);
    set_u16(out, begin + 2, u16_at(message, 2) | FLAG_TC);
    set_u16(out, begin + 4, 1);
    memset(out->data + begin + 6, 0, 6);
    return 0;
}
