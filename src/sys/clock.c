/* Clock, boot and random bytes. Logic never calls these: it is given `now`. getrandom cannot fail once the kernel's pool is filled, which blocks at
 * boot only. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>
#include <time.h>

#include "sys/sys.h"

static int64_t read_clock(clockid_t clock) {
    struct timespec now;
    int r = clock_gettime(clock, &now);
    ASSERT(r == 0);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t sys_monotonic_ns(void) {
    return read_clock(CLOCK_MONOTONIC);
}

int64_t sys_wall_ns(void) {
    return read_clock(CLOCK_REALTIME);
}

void sys_boot_id(char ret[37]) {
    CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(64);
    *ret = '\0';
    if (sys_read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 63, &text) == 0)
        snprintf(ret, 37, "%.*s", SLICE_ARG(slice_trim(buffer_slice(&text))));
}

void sys_random(void *bytes, size_t len) {
    char *at = bytes;
    while (len > 0) {
        ssize_t n = getrandom(at, len, 0);
        ASSERT(n > 0 || errno == EINTR);
        if (n > 0) {
            at += n;
            len -= (size_t)n;
        }
    }
}

void sys_uuid(char ret[37]) {
    uint8_t b[16];
    sys_random(b, sizeof b);
    b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
    b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
    snprintf(ret, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8],
             b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

/* 27 letters: bytes from 243 (9 × 27) up are thrown away, so that all letters are equally likely. */
void sys_random_name(char *ret, size_t len) {
    static const char letters[] = "bcdfghjklmnpqrstvwxz2456789";
    size_t have = 0;
    while (have < len) {
        uint8_t bytes[32];
        sys_random(bytes, sizeof bytes);
        for (size_t i = 0; i < sizeof bytes && have < len; i++)
            if (bytes[i] < 243)
                ret[have++] = letters[bytes[i] % 27];
    }
    ret[len] = '\0';
}
