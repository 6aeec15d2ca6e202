/* What comes out of gzip, zstd and plain files, whole and damaged. */
#include "runtime/inflate.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "http/http.h"
#include "unit.h"

#define TEXT_BYTES (5 * MIB) /* more than the ring holds */

static char text[TEXT_BYTES];

static void fill_text(void) {
    uint32_t state = 1;
    for (size_t i = 0; i < sizeof text; i++) {
        state = state * 1664525 + 1013904223;
        text[i] = (char)('a' + (state >> 29)); /* compresses to some three bits a letter */
    }
}

static void append_gzip(struct buffer *out, struct slice bytes) {
    static unsigned char packed[2 * TEXT_BYTES];
    z_stream stream = {
        .next_in = (unsigned char *)(uintptr_t)bytes.data, .avail_in = (unsigned)bytes.len, .next_out = packed, .avail_out = sizeof packed};
    assert_int_equal(deflateInit2(&stream, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    buffer_append(out, packed, stream.total_out);
    deflateEnd(&stream);
}

static void append_zstd(struct buffer *out, struct slice bytes) {
    static char packed[2 * TEXT_BYTES];
    size_t len = ZSTD_compress(packed, sizeof packed, bytes.data, bytes.len, 3);
    assert_false(ZSTD_isError(len));
    buffer_append(out, packed, len);
}

/* 0 when `in` gives exactly `expected`, and the digest of all of `in`. */
static int read_all(struct slice in, struct slice expected, char *message, size_t size) {
    int fd = memfd_create("inflate", MFD_CLOEXEC);
    const void *bytes;
    char hex[65], wanted[65];
    size_t total = 0;
    ssize_t n;
    struct inflate *inflate = NULL;
    assert_int_equal(write(fd, in.data ? in.data : "", in.len), in.len);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    assert_int_equal(inflate_new(fd, NULL, NULL, &inflate), 0);
    while ((n = inflate_read(inflate, &bytes)) > 0) {
        assert_true(total + (size_t)n <= expected.len);
        assert_memory_equal(bytes, expected.data + total, (size_t)n);
        total += (size_t)n;
    }
    if (n == 0) {
        assert_int_equal(total, expected.len);
        inflate_digest(inflate, hex);
        digest_sha256_hex(in, wanted);
        assert_string_equal(hex, wanted);
    }
    snprintf(message, size, "%s", n < 0 ? inflate_error(inflate) : "");
    inflate_free(inflate);
    close(fd);
    return (int)n;
}

static void expect(struct slice in, struct slice expected, int result, const char *words) {
    char message[200];
    assert_int_equal(read_all(in, expected, message, sizeof message), result);
    if (!strstr(message, words))
        fail_msg("\"%s\" does not say \"%s\"", message, words);
}

UNIT_TEST(every_form_comes_out_whole) {
    CLEANUP(buffer_deinit) struct buffer in = BUFFER_INIT(4 * TEXT_BYTES);
    struct slice all = slice_make(text, sizeof text), none = slice_make("", 0);
    fill_text();
    expect(none, none, 0, "");
    expect(all, all, 0, "");
    append_gzip(&in, slice_head(all, 1000000));
    append_gzip(&in, none); /* members may be empty */
    append_gzip(&in, slice_from(all, 1000000));
    expect(buffer_slice(&in), all, 0, "");
    buffer_append(&in, "\0\0\0garbage", 10); /* padding of some tape */
    expect(buffer_slice(&in), all, 0, "");
    buffer_reset(&in);
    append_zstd(&in, slice_head(all, 3));
    append_zstd(&in, slice_from(all, 3));
    expect(buffer_slice(&in), all, 0, "");
    expect(SLICE("\x1f"), SLICE("\x1f"), -EBADMSG, "ends too early"); /* it could be gzip alone */
}

/* As a tool makes it that flushes, without a checksum: nothing follows the last block, of which the decoder may still have much to give. */
static void append_zstd_in_pieces(struct buffer *out, struct slice bytes, size_t piece_len) {
    static char packed[2 * TEXT_BYTES];
    ZSTD_outBuffer to = {packed, sizeof packed, 0};
    ZSTD_CStream *stream = ZSTD_createCStream();
    assert_non_null(stream);
    assert_false(ZSTD_isError(ZSTD_CCtx_setParameter(stream, ZSTD_c_checksumFlag, 0)));
    for (struct slice rest = bytes; rest.len;) {
        ZSTD_inBuffer from = {rest.data, MIN(rest.len, piece_len), 0};
        rest = slice_from(rest, from.size);
        assert_int_equal(ZSTD_compressStream2(stream, &to, &from, rest.len ? ZSTD_e_flush : ZSTD_e_end), 0);
    }
    ZSTD_freeCStream(stream);
    buffer_append(out, packed, to.pos);
}

UNIT_TEST(a_frame_may_end_with_its_last_block) {
    CLEANUP(buffer_deinit) struct buffer in = BUFFER_INIT(4 * TEXT_BYTES);
    fill_text();
    for (size_t len = 1; len <= 8; len++) {
        struct slice bytes = slice_head(slice_make(text, sizeof text), len * 100 * KIB);
        buffer_reset(&in);
        append_zstd_in_pieces(&in, bytes, 100 * KIB);
        expect(buffer_slice(&in), bytes, 0, "");
        expect(slice_head(buffer_slice(&in), in.len - 1), bytes, -EBADMSG, "ends too early");
    }
}

UNIT_TEST(damage_is_told) {
    CLEANUP(buffer_deinit) struct buffer gzip = BUFFER_INIT(4 * TEXT_BYTES), zstd = BUFFER_INIT(4 * TEXT_BYTES);
    struct slice all = slice_make(text, sizeof text);
    fill_text();
    append_gzip(&gzip, all);
    append_zstd(&zstd, all);
    expect(slice_head(buffer_slice(&gzip), gzip.len - 1), all, -EBADMSG, "ends too early");
    expect(slice_head(buffer_slice(&gzip), 5), all, -EBADMSG, "ends too early");
    expect(slice_head(buffer_slice(&zstd), zstd.len - 1), all, -EBADMSG, "ends too early");
    gzip.data[gzip.len - 6] ^= 1; /* the checksum */
    expect(buffer_slice(&gzip), all, -EBADMSG, "damaged");
    zstd.data[4] ^= 0x08; /* a reserved bit */
    expect(buffer_slice(&zstd), all, -EBADMSG, "");
}

UNIT_TEST(who_takes_no_more_may_go) {
    CLEANUP(buffer_deinit) struct buffer in = BUFFER_INIT(4 * TEXT_BYTES);
    const void *bytes;
    fill_text();
    append_gzip(&in, slice_make(text, sizeof text));
    for (int reads = 0; reads < 3; reads++) {
        int fd = memfd_create("inflate", MFD_CLOEXEC);
        struct inflate *inflate = NULL;
        assert_int_equal(pwrite(fd, in.data, in.len, 0), in.len);
        assert_int_equal(inflate_new(fd, NULL, NULL, &inflate), 0);
        for (int i = 0; i < reads; i++)
            assert_true(inflate_read(inflate, &bytes) > 0);
        inflate_free(inflate); /* the ring is full */
        close(fd);
    }
}

UNIT_MAIN(UNIT(every_form_comes_out_whole), UNIT(a_frame_may_end_with_its_last_block), UNIT(damage_is_told), UNIT(who_takes_no_more_may_go))
