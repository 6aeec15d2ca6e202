/* What tests of validation share: an object against the causes for which it is refused. */
#ifndef TIDEMILL_KUBE_VALIDATE_TESTING_PRIV_H
#define TIDEMILL_KUBE_VALIDATE_TESTING_PRIV_H

#include "kube/testing_priv.h"

#include <stdio.h>

/* The object, with defaults, must be refused with exactly these causes "field: message", one per line; none: it is good. */
static inline void check(const struct kube_kind *kind, const char *json, const char *old_json, const char *causes) {
    struct kube_object *object = object_from(kind, json), *old = old_json ? object_from(kind, old_json) : NULL;
    struct buffer got = BUFFER_INIT(64 * KIB);
    struct diag diag = DIAG_INIT;
    assert_int_equal(kube_default(object), 0);
    if (old)
        assert_int_equal(kube_default(old), 0);
    int error = kube_validate(object, old, &diag);
    for (int i = 0; i < MIN(diag.causes_count, DIAG_CAUSES_MAX); i++)
        buffer_printf(&got, "%s%s: %s", i ? "\n" : "", diag.causes[i].field, diag.causes[i].message);
    kube_object_unref(object);
    kube_object_unref(old);
    char text[16 * KIB];
    buffer_append_byte(&got, 0);
    snprintf(text, sizeof text, "%s", got.data);
    buffer_deinit(&got);
    assert_string_equal(text, causes);
    assert_int_equal(error, causes[0] ? -EINVAL : 0);
}

#endif
