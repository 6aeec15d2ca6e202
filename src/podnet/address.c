/* The address table of one range.
 *
 * Invariants: no address twice; never the network's own, the first (the bridge), nor the last (broadcast); an address that was given back is handed
 * out again only after all others were, since caches (ARP, a client's connection pool, endpoints not yet updated) may still name it. */
#include "podnet/address_priv.h"

#include <arpa/inet.h>
#include <stdio.h>

int address_cidr_parse(const char *text, uint32_t *ret_network, uint32_t *ret_mask) {
    struct slice rest = slice_of(text);
    struct slice host = slice_cut(&rest, '/');
    char address[INET_ADDRSTRLEN];
    struct in_addr parsed;
    uint64_t prefix;
    if (host.len >= sizeof address || slice_parse_u64(rest, 28, &prefix) < 0 || prefix < 8)
        return -EINVAL;
    snprintf(address, sizeof address, "%.*s", SLICE_ARG(host));
    if (inet_pton(AF_INET, address, &parsed) != 1)
        return -EINVAL;
    uint32_t mask = UINT32_MAX << (32 - prefix);
    if (ntohl(parsed.s_addr) & ~mask)
        return -EINVAL;
    *ret_network = ntohl(parsed.s_addr);
    *ret_mask = mask;
    return 0;
}

void address_text(uint32_t address, char ret[16]) {
    snprintf(ret, 16, "%u.%u.%u.%u", address >> 24, address >> 16 & 255, address >> 8 & 255, address & 255);
}

int addresses_init(struct addresses *addresses, const char *cidr) {
    *addresses = (struct addresses){0};
    int r = address_cidr_parse(cidr, &addresses->network, &addresses->mask);
    addresses->last = addresses->network + 1;
    return r;
}

void addresses_deinit(struct addresses *addresses) {
    VECTOR_DEINIT(&addresses->entries);
}

static bool is_usable(const struct addresses *addresses, uint32_t address) {
    return (address & addresses->mask) == addresses->network && address > addresses->network + 1 &&
           address != (addresses->network | ~addresses->mask);
}

static bool is_taken(const struct addresses *addresses, uint32_t address) {
    for (size_t i = 0; i < addresses->entries.count; i++)
        if (addresses->entries.items[i].address == address)
            return true;
    return false;
}

bool addresses_find(const struct addresses *addresses, const char *uid, uint32_t *ret) {
    for (size_t i = 0; i < addresses->entries.count; i++) {
        if (strcmp(addresses->entries.items[i].uid, uid) != 0)
            continue;
        *ret = addresses->entries.items[i].address;
        return true;
    }
    return false;
}

static int add(struct addresses *addresses, const char *uid, uint32_t address) {
    struct address_entry entry = {.address = address};
    if (strlen(uid) >= sizeof entry.uid)
        return -EINVAL;
    memcpy(entry.uid, uid, strlen(uid) + 1);
    return VECTOR_PUSH(&addresses->entries, entry);
}

void addresses_claim(struct addresses *addresses, const char *uid, const char *text) {
    struct in_addr parsed;
    if (inet_pton(AF_INET, text, &parsed) == 1 && is_usable(addresses, ntohl(parsed.s_addr)) && !is_taken(addresses, ntohl(parsed.s_addr)))
        (void)add(addresses, uid, ntohl(parsed.s_addr));
}

int addresses_take(struct addresses *addresses, const char *uid, uint32_t *ret) {
    if (addresses_find(addresses, uid, ret))
        return 0;
    uint32_t size = ~addresses->mask + 1;
    for (uint32_t step = 1; step <= size; step++) {
        uint32_t address = addresses->network + (addresses->last - addresses->network + step) % size;
        if (!is_usable(addresses, address) || is_taken(addresses, address))
            continue;
        int r = add(addresses, uid, address);
        if (r < 0)
            return r;
        addresses->last = address;
        *ret = address;
        return 0;
    }
    return -ENOSPC;
}

int addresses_rename(struct addresses *addresses, const char *uid, const char *to) {
    if (strlen(to) >= UID_BYTES_MAX)
        return -EINVAL;
    for (size_t i = 0; i < addresses->entries.count; i++) {
        if (strcmp(addresses->entries.items[i].uid, uid) != 0)
            continue;
        memcpy(addresses->entries.items[i].uid, to, strlen(to) + 1);
        return 0;
    }
    return -ENOENT;
}

void addresses_give(struct addresses *addresses, const char *uid) {
    for (size_t i = 0; i < addresses->entries.count; i++) {
        if (strcmp(addresses->entries.items[i].uid, uid) != 0)
            continue;
        VECTOR_REMOVE(&addresses->entries, i);
        return;
    }
}

int addresses_format(const struct addresses *addresses, struct buffer *out) {
    char text[16];
    address_text(addresses->last, text);
    buffer_printf(out, "%s last\n", text);
    for (size_t i = 0; i < addresses->entries.count; i++) {
        address_text(addresses->entries.items[i].address, text);
        buffer_printf(out, "%s %s\n", text, addresses->entries.items[i].uid);
    }
    return buffer_error(out);
}

int addresses_parse(struct addresses *addresses, struct slice text) {
    for (struct slice rest = text; rest.data;) {
        struct slice line = slice_trim(slice_cut(&rest, '\n'));
        struct slice field = slice_cut(&line, ' ');
        char address[INET_ADDRSTRLEN], uid[UID_BYTES_MAX];
        struct in_addr parsed;
        uint32_t other;
        if (field.len >= sizeof address || line.len == 0 || line.len >= sizeof uid)
            continue;
        snprintf(address, sizeof address, "%.*s", SLICE_ARG(field));
        snprintf(uid, sizeof uid, "%.*s", SLICE_ARG(line));
        if (inet_pton(AF_INET, address, &parsed) != 1 || !is_usable(addresses, ntohl(parsed.s_addr)))
            continue;
        if (strcmp(uid, "last") == 0) {
            addresses->last = ntohl(parsed.s_addr);
            continue;
        }
        if (is_taken(addresses, ntohl(parsed.s_addr)) || addresses_find(addresses, uid, &other) || strlen(uid) != line.len)
            continue;
        int r = add(addresses, uid, ntohl(parsed.s_addr));
        if (r < 0)
            return r;
    }
    return 0;
}
