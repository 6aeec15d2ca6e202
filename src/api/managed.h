/* metadata.managedFields: who owns which fields. See managed.c. */
#ifndef TIDEMILL_API_MANAGED_H
#define TIDEMILL_API_MANAGED_H

#include "base/base.h"
#include "kube/kube.h"

/* An entry, known by its first four; none of them is NULL. */
struct managed_entry {
    const char *manager, *operation, *api_version, *subresource;
    struct kube_time time;
    const char *text; /* the set as fieldsV1; NULL: `set` holds it alone */
    bool parsed;
    struct kube_fieldset set;
};
struct managed {
    struct arena *arena;
    struct managed_entry *items; /* move when one is made */
    size_t count, capacity;
};

/* The entries of an object; texts are borrowed. -EINVAL: one makes no sense. */
int managed_read(const struct kube_object_meta *metadata, struct managed *managed);
/* Those that come with a write (NULL: none may), or if they are missing or make no sense, the stored ones (NULL: there are none). */
int managed_read_newest(const struct kube_object_meta *given, const struct kube_object_meta *old, struct managed *managed);
/* The entry of the same name; NULL when absent, or of make at the arena's limit. */
struct managed_entry *managed_find(struct managed *managed, const struct managed_entry *like);
struct managed_entry *managed_make(struct managed *managed, const struct managed_entry *like);
/* Makes `set` valid. */
int managed_parse(struct managed *managed, struct managed_entry *entry);
/* The fields belong to nobody but `keep` (NULL: to nobody). */
int managed_take(struct managed *managed, const struct managed_entry *keep, const struct kube_fieldset *fields);
/* Sorted, bounded and without empty ones, into the object. */
int managed_write(struct managed *managed, struct kube_object *object);
/* Takes out what a write through this door does not touch: status of the object itself, spec of its status. */
int managed_filter(struct arena *arena, const struct kube_kind *kind, const char *subresource, struct kube_fieldset *fields);
/* In which fields a version differs from the one before (NULL: there was none). */
int managed_changes(struct arena *arena, const struct kube_object *old, const struct kube_object *new, struct kube_fieldset *changed,
                    struct kube_fieldset *removed);

struct managed_writer {
    const char *manager, *subresource; /* never NULL */
    bool trusted;                      /* the entries that come with the object count */
};
/* Records an ordinary write of `object`, with defaults set, over `old` (NULL: a create). -ENOMEM. */
int managed_track(struct kube_object *object, const struct kube_object *old, const struct managed_writer *writer, int64_t now_ns);

#endif
