/* A growing byte buffer with a maximum. Append functions return 0, or -ENOMEM without memory, or -EMSGSIZE at the maximum; after either the buffer is
 * *failed*: further appends do nothing and return the same, so a writer may append freely and check once with buffer_error().
 * data is NUL-terminated whenever it is not NULL (the NUL is not counted in len). */
#ifndef TIDEMILL_BASE_BUFFER_H
#define TIDEMILL_BASE_BUFFER_H

#include <stdarg.h>
#include <stddef.h>

#include "base/slice.h"

struct buffer {
    char *data;
    size_t len;
    size_t capacity;
    size_t bytes_max;
    int error;
};

/* Caller's storage; allocates nothing until the first append. */
#define BUFFER_INIT(max) ((struct buffer){.bytes_max = (max)})
static inline void buffer_init(struct buffer *buffer, size_t bytes_max) {
    *buffer = BUFFER_INIT(bytes_max);
}
/* Frees the bytes; usable as CLEANUP(buffer_deinit). */
void buffer_deinit(struct buffer *buffer);
/* Empty again, error cleared, memory kept. */
void buffer_reset(struct buffer *buffer);
/* Frees the memory when empty: idle connections hold none. */
void buffer_release(struct buffer *buffer);

int buffer_append(struct buffer *buffer, const void *bytes, size_t len);
int buffer_append_slice(struct buffer *buffer, struct slice bytes);
int buffer_append_text(struct buffer *buffer, const char *text);
int buffer_append_byte(struct buffer *buffer, char byte);
int buffer_printf(struct buffer *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));
int buffer_vprintf(struct buffer *buffer, const char *format, va_list args);
/* Room for `len` more bytes at data + len, to be filled by the caller and then counted with buffer_commit(). */
int buffer_reserve(struct buffer *buffer, size_t len);
void buffer_commit(struct buffer *buffer, size_t len);
/* Drops `len` bytes from the front (moves the rest). */
void buffer_consume(struct buffer *buffer, size_t len);
void buffer_truncate(struct buffer *buffer, size_t len);

static inline int buffer_error(const struct buffer *buffer) {
    return buffer->error;
}
static inline struct slice buffer_slice(const struct buffer *buffer) {
    return (struct slice){buffer->data, buffer->len};
}
/* Hands the bytes to the caller (free()), leaves the buffer empty. NULL when failed; an empty buffer gives an empty string. */
char *buffer_take(struct buffer *buffer);

#endif
