/* What the decoders (trees, protobuf) share. */
#ifndef TIDEMILL_KUBE_DECODE_PRIV_H
#define TIDEMILL_KUBE_DECODE_PRIV_H

#include "kube/path_priv.h"
#include "kube/schema_priv.h"

/* Parses and keeps the canonical text. 0, -EINVAL, -ENOMEM. */
int kube_quantity_set(struct kube_quantity *quantity, struct arena *arena, struct slice text);
/* Sorts pairs by key; of equal keys one stays. */
void kube_map_sort(const struct kube_field *field, struct kube_array *map);
/* "apps/v1" → "apps" and "v1"; "v1" → "" and "v1". */
void kube_api_version_cut(struct slice api_version, struct slice *ret_group, struct slice *ret_version);

/* A described type by its name on the wire; NULL: none. */
const struct kube_message *kube_message_find(struct slice api_version, struct slice kind);

#endif
