#include "base/base.h"

#include <stdio.h>

void buffer_deinit(struct buffer *buffer) {
    free(buffer->data);
    *buffer = BUFFER_INIT(buffer->bytes_max);
}

void buffer_reset(struct buffer *buffer) {
    buffer->len = 0;
    buffer->error = 0;
    if (buffer->data)
        buffer->data[0] = '\0';
}

void buffer_release(struct buffer *buffer) {
    if (buffer->len == 0)
        buffer_deinit(buffer);
}

static int fail(struct buffer *buffer, int error) {
    buffer->error = error;
    return error;
}

int buffer_reserve(struct buffer *buffer, size_t len) {
    if (buffer->error)
        return buffer->error;
    if (len > buffer->bytes_max || buffer->len > buffer->bytes_max - len)
        return fail(buffer, -EMSGSIZE);
    size_t needed = buffer->len + len + 1;
    if (needed <= buffer->capacity)
        return 0;
    size_t capacity = MAX(buffer->capacity * 2, (size_t)64);
    capacity = MAX(MIN(capacity, buffer->bytes_max + 1), needed);
    char *grown = realloc(buffer->data, capacity);
    if (!grown)
        return fail(buffer, -ENOMEM);
    if (!buffer->data)
        grown[0] = '\0';
    buffer->data = grown;
    buffer->capacity = capacity;
    return 0;
}

void buffer_commit(struct buffer *buffer, size_t len) {
    ASSERT(buffer->len + len < buffer->capacity);
    buffer->len += len;
    buffer->data[buffer->len] = '\0';
}

int buffer_append(struct buffer *buffer, const void *bytes, size_t len) {
    int r = buffer_reserve(buffer, len);
    if (r < 0)
        return r;
    if (len)
        memcpy(buffer->data + buffer->len, bytes, len);
    buffer_commit(buffer, len);
    return 0;
}

int buffer_append_slice(struct buffer *buffer, struct slice bytes) {
    return buffer_append(buffer, bytes.data, bytes.len);
}

int buffer_append_text(struct buffer *buffer, const char *text) {
    return buffer_append(buffer, text, strlen(text));
}

int buffer_append_byte(struct buffer *buffer, char byte) {
    return buffer_append(buffer, &byte, 1);
}

int buffer_vprintf(struct buffer *buffer, const char *format, va_list args) {
    va_list again;
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    int r = len < 0 ? fail(buffer, -EINVAL) : buffer_reserve(buffer, (size_t)len);
    if (r == 0) {
        vsnprintf(buffer->data + buffer->len, (size_t)len + 1, format, again);
        buffer_commit(buffer, (size_t)len);
    }
    va_end(again);
    return r;
}

int buffer_printf(struct buffer *buffer, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int r = buffer_vprintf(buffer, format, args);
    va_end(args);
    return r;
}

void buffer_consume(struct buffer *buffer, size_t len) {
    ASSERT(len <= buffer->len);
    if (len == 0)
        return;
    memmove(buffer->data, buffer->data + len, buffer->len - len + 1);
    buffer->len -= len;
}

void buffer_truncate(struct buffer *buffer, size_t len) {
    ASSERT(len <= buffer->len);
    buffer->len = len;
    if (buffer->data)
        buffer->data[len] = '\0';
}

char *buffer_take(struct buffer *buffer) {
    if (buffer->error || buffer_reserve(buffer, 0) < 0)
        return NULL;
    char *bytes = buffer->data;
    *buffer = BUFFER_INIT(buffer->bytes_max);
    return bytes;
}
