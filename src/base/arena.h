/* An arena: the memory of one unit of work (a request, a reconcile, a decoded object). Everything in it is freed at once. It has a limit: an
 * allocation beyond it returns NULL, which parsers report as "too large". Memory comes zeroed and aligned for any type. Not thread-safe. */
#ifndef TIDEMILL_BASE_ARENA_H
#define TIDEMILL_BASE_ARENA_H

#include <stdarg.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "base/slice.h"

struct arena;

/* An arena that hands out at most `bytes_max` bytes in all; NULL without memory. */
struct arena *arena_new(size_t bytes_max);
/* Frees the arena and everything in it; NULL is fine. */
void arena_free(struct arena *arena);
DEFINE_CLEANUP(struct arena, arena_free)
/* Forgets everything and keeps the first block for the next use. */
void arena_reset(struct arena *arena);
/* Bytes handed out so far. */
size_t arena_used(const struct arena *arena);

/* Zeroed memory; NULL at the limit or without memory. Size 0 gives a unique pointer. */
void *arena_alloc(struct arena *arena, size_t size);
/* As arena_alloc(count * size), checked for overflow. */
void *arena_array(struct arena *arena, size_t count, size_t size);
#define ARENA_NEW(arena, type) ((type *)arena_alloc((arena), sizeof(type)))
#define ARENA_ARRAY(arena, type, count) ((type *)arena_array((arena), (count), sizeof(type)))
/* NUL-terminated copies; NULL at the limit. */
char *arena_dup(struct arena *arena, struct slice bytes);
char *arena_strdup(struct arena *arena, const char *text);
char *arena_printf(struct arena *arena, const char *format, ...) __attribute__((format(printf, 2, 3)));
char *arena_vprintf(struct arena *arena, const char *format, va_list args);

#endif
