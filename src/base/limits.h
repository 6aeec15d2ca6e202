/* Every maximum of the program, in one place. Bytes unless the name says otherwise. */
#ifndef TIDEMILL_BASE_LIMITS_H
#define TIDEMILL_BASE_LIMITS_H

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

/* HTTP */
#define HTTP_HEAD_BYTES_MAX (64 * KIB)    /* request line and headers together */
#define HTTP_HEADERS_MAX 100              /* header fields of one message */
#define HTTP_TARGET_BYTES_MAX (48 * KIB)  /* the request target: long commands of kubectl exec are in it */
#define HTTP_ANSWER_BYTES_MAX (257 * MIB) /* one answer given as a whole, with its head and what was queued before */
#define HTTP_OUTPUT_BYTES_MAX (4 * MIB)   /* bytes queued for one connection before it counts as too slow */

/* Disk: what the platform keeps is bounded, see core/retention.c */
#define BUILD_CACHE_BYTES_MAX (5 * GIB) /* buildah's layers; beyond it, or beyond the next, it begins anew */
#define BUILD_CACHE_PERCENT_MAX 20      /* of the file system */
#define DISK_FREE_BYTES_MIN (256 * MIB) /* with less than this or the next left, everything dispensable goes at once */
#define DISK_FREE_PERCENT_MIN 5
#define IMAGES_KEPT_DEFAULT 10 /* builds per application, beside those in use */
#define IMAGES_KEPT_MAX 1000

/* Documents */
#define API_BODY_BYTES_MAX (3 * MIB)      /* a Kubernetes request body, as upstream */
#define API_DEPTH_MAX 500                 /* nesting of one object; what wraps it, a list or a watch's event, is still read by all */
#define JSON_DEPTH_MAX 512                /* nesting of JSON and YAML */
#define TREE_BYTES_MAX (64 * MIB)         /* memory of one parsed document */
#define YAML_ALIASES_EXPANDED_MAX 10000   /* nodes copied by aliases in one document: against billion laughs */
#define YAML_ANCHORS_MAX 1000             /* in one document */
#define YAML_DIRECTIVES_MAX 1000          /* lines that begin with %: the parser looks through them for each */
#define KUBE_LIST_STRUCTS_MAX 5000        /* containers, ports, rules: validation looks for doubles in pairs */
#define OBJECT_ARENA_BYTES_MAX (64 * MIB) /* one decoded object */

#endif
