/* The address table: which pod has which address. Pure; the text form is what is stored. */
#ifndef TIDEMILL_PODNET_ADDRESS_PRIV_H
#define TIDEMILL_PODNET_ADDRESS_PRIV_H

#include "base/base.h"

#define UID_BYTES_MAX 64

struct address_entry {
    uint32_t address; /* host order */
    char uid[UID_BYTES_MAX];
};
struct addresses {
    uint32_t network, mask;
    uint32_t last; /* handed out last: the search goes on behind it */
    VECTOR(struct address_entry) entries;
};
/* "10.88.0.0/16"; -EINVAL unless the prefix is 8 to 28 and host bits are zero. */
int address_cidr_parse(const char *text, uint32_t *ret_network, uint32_t *ret_mask);
int addresses_init(struct addresses *addresses, const char *cidr);
void addresses_deinit(struct addresses *addresses);
/* The pod's address, a new one if it has none. -ENOSPC. */
/* The address that it had, should the table have been lost; without effect when it is another's by now. */
void addresses_claim(struct addresses *addresses, const char *uid, const char *text);
int addresses_take(struct addresses *addresses, const char *uid, uint32_t *ret);
bool addresses_find(const struct addresses *addresses, const char *uid, uint32_t *ret);
/* The address of `uid` is now that of `to`; -ENOENT, -EINVAL when the new name is too long. */
int addresses_rename(struct addresses *addresses, const char *uid, const char *to);
/* Absent is fine. */
void addresses_give(struct addresses *addresses, const char *uid);
int addresses_format(const struct addresses *addresses, struct buffer *out);
/* Lines that make no sense (a damaged file, another range) are dropped: their pods get new addresses. */
int addresses_parse(struct addresses *addresses, struct slice text);
void address_text(uint32_t address, char ret[16]);

#endif
