/* Shorthands of the tests of custom kinds: a definition around a schema, installed for the time of a test. */
#ifndef TIDEMILL_KUBE_CUSTOM_TESTING_PRIV_H
#define TIDEMILL_KUBE_CUSTOM_TESTING_PRIV_H

#include <stdio.h>

#include "kube/testing_priv.h"

#define WIDGETS                                                                                                                                      \
    "{'metadata':{'name':'widgets.example.com'},'spec':{'group':'example.com','scope':'Namespaced','names':{'plural':'widgets','singular':'widget'," \
    "'kind':'Widget','listKind':'WidgetList','shortNames':['wg'],'categories':['all']},'versions':["

/* The definition of widgets.example.com whose version v1 (served, stored) has this schema; `more` follows in the version (",'subresources':…"). */
static inline char *widgets_from(struct arena *arena, const char *schema, const char *more) {
    return arena_printf(arena, WIDGETS "{'name':'v1','served':true,'storage':true,'schema':{'openAPIV3Schema':%s}%s}]}}", schema, more);
}

static inline int widgets_install(struct arena *arena, const char *quoted) {
    struct kube_custom_set *set = NULL;
    struct diag diag = DIAG_INIT;
    int error = kube_custom_compile(tree_from(arena, quoted), &set, &diag);
    if (error == 0 && (error = kube_custom_install(set)) != 0)
        kube_custom_set_free(set);
    return error;
}

static inline const struct kube_kind *widget(const char *version) {
    return kube_custom_version(SLICE("example.com"), slice_of(version), SLICE("widgets"));
}

static inline void widgets_remove(void) {
    kube_custom_remove(SLICE("example.com"), SLICE("widgets"));
}

#endif
