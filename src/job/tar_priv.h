/* The 512-byte block that starts each entry. */
#ifndef TIDEMILL_JOB_TAR_PRIV_H
#define TIDEMILL_JOB_TAR_PRIV_H

#include "job/tar.h"

#define TAR_BLOCK 512

struct tar_header {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100], magic[6], version[2], user[32], group[32],
        device_major[8], device_minor[8], prefix[155], padding[12];
};
_Static_assert(sizeof(struct tar_header) == TAR_BLOCK, "a tar header is one block");

/* The sum of all bytes with the checksum field counted as blanks. */
unsigned tar_checksum(const struct tar_header *header);

#endif
