/* schemac HEADER TABLES FILE.idl… FILE.doc… : the schema compiler, a tool of the build. Files are replaced only when their content changes, so that
 * an edit of a comment in the IDL rebuilds nothing. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "schema_priv.h"

static int read_file(const char *path, struct buffer *out) {
    CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    for (;;) {
        int error = buffer_reserve(out, 64 * KIB);
        if (error)
            return error;
        ssize_t got = read(fd, out->data + out->len, 64 * KIB);
        if (got < 0)
            return -errno;
        if (got == 0)
            return 0;
        buffer_commit(out, (size_t)got);
    }
}

static int write_file(const char *path, const struct buffer *bytes) {
    CLEANUP(buffer_deinit) struct buffer old = BUFFER_INIT(SCHEMA_BYTES_MAX);
    if (read_file(path, &old) == 0 && slice_equal(buffer_slice(&old), buffer_slice(bytes)))
        return 0;
    CLEANUP(fd_closep) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return -errno;
    for (size_t at = 0; at < bytes->len;) {
        ssize_t wrote = write(fd, bytes->data + at, bytes->len - at);
        if (wrote < 0)
            return -errno;
        at += (size_t)wrote;
    }
    return 0;
}

static int compile(struct schema *schema, char **paths, int count, struct diag *diag) {
    for (int i = 2; i < count; i++) {
        CLEANUP(buffer_deinit) struct buffer text = BUFFER_INIT(SCHEMA_BYTES_MAX);
        int error = read_file(paths[i], &text);
        if (error) {
            diag_at(diag, paths[i], 0, 0);
            return diag_set(diag, error, "cannot be read: %s", strerror(-error));
        }
        bool docs = slice_ends(slice_of(paths[i]), SLICE(".doc"));
        error = docs ? schema_read_docs(schema, paths[i], buffer_slice(&text), diag) : schema_read(schema, paths[i], buffer_slice(&text), diag);
        if (error)
            return error;
    }
    int error = schema_resolve(schema, diag);
    if (error == 0)
        error = schema_resolve_docs(schema, diag);
    if (error)
        return error;
    CLEANUP(buffer_deinit) struct buffer header = BUFFER_INIT(SCHEMA_BYTES_MAX);
    CLEANUP(buffer_deinit) struct buffer tables = BUFFER_INIT(SCHEMA_BYTES_MAX);
    error = schema_write_header(schema, &header);
    if (error == 0)
        error = schema_write_tables(schema, &tables);
    if (error == 0)
        error = write_file(paths[0], &header);
    if (error == 0)
        error = write_file(paths[1], &tables);
    return error ? diag_set(diag, error, "output cannot be written: %s", strerror(-error)) : 0;
}

static void schema_deinit(struct schema *schema) {
    for (size_t i = 0; i < schema->types.count; i++)
        VECTOR_DEINIT(&schema->types.items[i]->fields);
    for (size_t i = 0; i < schema->kinds.count; i++) {
        VECTOR_DEINIT(&schema->kinds.items[i]->short_names);
        VECTOR_DEINIT(&schema->kinds.items[i]->categories);
        VECTOR_DEINIT(&schema->kinds.items[i]->columns);
    }
    VECTOR_DEINIT(&schema->types);
    VECTOR_DEINIT(&schema->kinds);
    VECTOR_DEINIT(&schema->docs);
    map_free(schema->docs_by_name);
    VECTOR_DEINIT(&schema->values);
    map_free(schema->types_by_name);
    map_free(schema->values_by_name);
    arena_free(schema->arena);
}

int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr, "usage: schemac HEADER TABLES FILE.idl... FILE.doc...\n");
        return 2;
    }
    struct schema schema = {.arena = arena_new(SCHEMA_BYTES_MAX), .types_by_name = map_new(), .values_by_name = map_new(), .docs_by_name = map_new()};
    struct diag diag = DIAG_INIT;
    int error = -ENOMEM;
    if (schema.arena && schema.types_by_name && schema.values_by_name && schema.docs_by_name)
        error = compile(&schema, argv + 1, argc - 1, &diag);
    if (error) {
        char text[2048];
        fprintf(stderr, "schemac: %s\n", diag.message[0] ? diag_format(&diag, text, sizeof text) : strerror(-error));
    }
    schema_deinit(&schema);
    return error ? 1 : 0;
}
