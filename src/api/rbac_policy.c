/* The roles and bindings that every cluster has, as data: those that upstream's tools, charts and documents take for granted, and the platform's own
 * (tidemill:…), which are what its parts may do. rbac_bootstrap.c writes them.
 *
 * A rule is a line `VERBS GROUPS RESOURCES [NAMES]`, lists by comma, "-" for the core group; or `VERBS PATHS` when it begins with a slash. Verbs have
 * three short forms: read, write, and readwrite for both. */
#include "api/rbac_bootstrap_priv.h"

#define EVENTS "create,patch,update -,events.k8s.io events\n"
#define LEASE(holder) "create coordination.k8s.io leases\nget,update coordination.k8s.io leases " holder "\n"
#define REVIEWS "create authentication.k8s.io tokenreviews\ncreate authorization.k8s.io subjectaccessreviews\n"
#define APPROVER(signer) "approve certificates.k8s.io signers kubernetes.io/" signer "\n"

const struct rbac_policy_role rbac_policy_roles[] = {
    /* --- for people: by namespace through a RoleBinding, or everywhere --- */
    {.name = "cluster-admin", .rules = "* * *\n* *\n"},
    {.name = "admin", .aggregates = "admin", .rules = ""},
    {.name = "edit", .aggregates = "edit", .aggregated_to = "admin", .rules = ""},
    {.name = "view", .aggregates = "view", .aggregated_to = "edit", .rules = ""},
    {.name = "system:aggregate-to-admin",
     .aggregated_to = "admin",
     .rules = "create authorization.k8s.io localsubjectaccessreviews\n"
              "readwrite rbac.authorization.k8s.io rolebindings,roles\n"},
    {.name = "system:aggregate-to-edit",
     .aggregated_to = "edit",
     .rules = "read - pods/attach,pods/exec,pods/portforward,pods/proxy,secrets,services/proxy\n"
              "impersonate - serviceaccounts\n"
              "write - pods,pods/attach,pods/exec,pods/portforward,pods/proxy\n"
              "create - pods/eviction\n"
              "write - configmaps,events,persistentvolumeclaims,replicationcontrollers,replicationcontrollers/scale,secrets,serviceaccounts,services,"
              "services/proxy\n"
              "create - serviceaccounts/token\n"
              "write apps daemonsets,deployments,deployments/rollback,deployments/scale,replicasets,replicasets/scale,statefulsets,"
              "statefulsets/scale\n"
              "write autoscaling horizontalpodautoscalers\n"
              "write batch cronjobs,jobs\n"
              "write extensions "
              "daemonsets,deployments,deployments/rollback,deployments/scale,ingresses,networkpolicies,replicasets,replicasets/"
              "scale,replicationcontrollers/scale\n"
              "write policy poddisruptionbudgets\n"
              "write networking.k8s.io ingresses,networkpolicies\n"
              "readwrite coordination.k8s.io leases\n"},
    {.name = "system:aggregate-to-view",
     .aggregated_to = "view",
     .rules = "read - configmaps,endpoints,persistentvolumeclaims,persistentvolumeclaims/status,pods,replicationcontrollers,"
              "replicationcontrollers/scale,serviceaccounts,services,services/status\n"
              "read - bindings,events,limitranges,namespaces/status,pods/log,pods/status,replicationcontrollers/status,resourcequotas,"
              "resourcequotas/status\n"
              "read - namespaces\n"
              "read discovery.k8s.io endpointslices\n"
              "read apps controllerrevisions,daemonsets,daemonsets/status,deployments,deployments/scale,deployments/status,replicasets,"
              "replicasets/scale,replicasets/status,statefulsets,statefulsets/scale,statefulsets/status\n"
              "read autoscaling horizontalpodautoscalers,horizontalpodautoscalers/status\n"
              "read batch cronjobs,cronjobs/status,jobs,jobs/status\n"
              "read extensions daemonsets,daemonsets/status,deployments,deployments/scale,deployments/status,ingresses,ingresses/status,"
              "networkpolicies,replicasets,replicasets/scale,replicasets/status,replicationcontrollers/scale\n"
              "read policy poddisruptionbudgets,poddisruptionbudgets/status\n"
              "read networking.k8s.io ingresses,ingresses/status,networkpolicies\n"},
    /* --- for everybody --- */
    {.name = "system:basic-user",
     .rules = "create authorization.k8s.io selfsubjectaccessreviews,selfsubjectrulesreviews\ncreate authentication.k8s.io selfsubjectreviews\n"},
    {.name = "system:discovery", .rules = "get /api,/api/*,/apis,/apis/*,/healthz,/livez,/openapi,/openapi/*,/readyz,/version,/version/\n"},
    {.name = "system:public-info-viewer", .rules = "get /healthz,/livez,/readyz,/version,/version/\n"},
    {.name = "system:service-account-issuer-discovery", .rules = "get /.well-known/openid-configuration,/openid/v1/jwks\n"},
    {.name = "system:monitoring", .rules = "get /healthz,/healthz/*,/livez,/livez/*,/metrics,/metrics/slis,/readyz,/readyz/*\n"},
    /* --- for parts of a cluster --- */
    {.name = "system:auth-delegator", .rules = REVIEWS},
    {.name = "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
     .rules = "create certificates.k8s.io certificatesigningrequests/nodeclient\n"},
    {.name = "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
     .rules = "create certificates.k8s.io certificatesigningrequests/selfnodeclient\n"},
    {.name = "system:certificates.k8s.io:kube-apiserver-client-approver", .rules = APPROVER("kube-apiserver-client")},
    {.name = "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver", .rules = APPROVER("kube-apiserver-client-kubelet")},
    {.name = "system:certificates.k8s.io:kubelet-serving-approver", .rules = APPROVER("kubelet-serving")},
    {.name = "system:certificates.k8s.io:legacy-unknown-approver", .rules = APPROVER("legacy-unknown")},
    {.name = "system:heapster", .rules = "read - events,namespaces,nodes,pods\nread extensions deployments\n"},
    {.name = "system:kube-aggregator", .rules = "read - endpoints,services\n"},
    {.name = "system:kube-controller-manager",
     .rules =
         EVENTS LEASE("kube-controller-manager") "create - secrets,serviceaccounts\n"
                                                 "delete - secrets\n"
                                                 "get - configmaps,namespaces,secrets,serviceaccounts\n"
                                                 "update - secrets,serviceaccounts\n" REVIEWS "list,watch * *\ncreate - serviceaccounts/token\n"},
    {.name = "system:kube-dns", .rules = "list,watch - endpoints,services\n"},
    {.name = "system:kube-scheduler",
     .rules = EVENTS LEASE("kube-scheduler") "read - nodes\n"
                                             "delete,get,list,watch - pods\n"
                                             "create - bindings,pods/binding\n"
                                             "patch,update - pods/status\n"
                                             "read - replicationcontrollers,services\n"
                                             "read apps,extensions replicasets\n"
                                             "read apps statefulsets\n"
                                             "read policy poddisruptionbudgets\n"
                                             "read - persistentvolumeclaims,persistentvolumes\n" REVIEWS "read storage.k8s.io csinodes\n"
                                             "read - namespaces\n"
                                             "read storage.k8s.io csidrivers\n"
                                             "read storage.k8s.io csistoragecapacities\n"},
    {.name = "system:kubelet-api-admin", .rules = "read - nodes\nproxy - nodes\n* - nodes/log,nodes/metrics,nodes/proxy,nodes/stats\n"},
    {.name = "system:node",
     .rules = "create authentication.k8s.io tokenreviews\n"
              "create authorization.k8s.io localsubjectaccessreviews,subjectaccessreviews\n"
              "read - services\n"
              "create,get,list,watch - nodes\n"
              "patch,update - nodes/status\n"
              "patch,update - nodes\n"
              "create,patch,update - events\n"
              "read - pods\n"
              "create,delete - pods\n"
              "patch,update - pods/status\n"
              "create - pods/eviction\n"
              "read - configmaps,secrets\n"
              "get - persistentvolumeclaims,persistentvolumes\n"
              "get - endpoints\n"
              "create,get,list,watch certificates.k8s.io certificatesigningrequests\n"
              "create,delete,get,patch,update coordination.k8s.io leases\n"
              "get storage.k8s.io volumeattachments\n"
              "create - serviceaccounts/token\n"
              "get,patch,update - persistentvolumeclaims/status\n"
              "read storage.k8s.io csidrivers\n"
              "create,delete,get,patch,update storage.k8s.io csinodes\n"
              "read node.k8s.io runtimeclasses\n"},
    {.name = "system:node-bootstrapper", .rules = "create,get,list,watch certificates.k8s.io certificatesigningrequests\n"},
    {.name = "system:node-problem-detector", .rules = "get - nodes\npatch - nodes/status\n" EVENTS},
    {.name = "system:node-proxier", .rules = "list,watch - endpoints,services\nread - nodes\n" EVENTS "list,watch discovery.k8s.io endpointslices\n"},
    {.name = "system:persistent-volume-provisioner",
     .rules = "create,delete,get,list,watch - persistentvolumes\n"
              "get,list,update,watch - persistentvolumeclaims\n"
              "read storage.k8s.io storageclasses\n"
              "watch - events\n" EVENTS},
    {.name = "system:volume-scheduler",
     .rules = "get,list,patch,update,watch - persistentvolumes\n"
              "read storage.k8s.io storageclasses\n"
              "get,list,patch,update,watch - persistentvolumeclaims\n"},
    /* --- the platform's own parts --- */
    {.name = "tidemill:platform",
     .rules = "read * *\n"
              "* -,apps,batch,autoscaling,networking.k8s.io,discovery.k8s.io,policy,coordination.k8s.io,events.k8s.io *\n"
              "* *\n"},
    {.name = "tidemill:gateway",
     .rules = "read networking.k8s.io ingresses,ingressclasses\nread discovery.k8s.io endpointslices\nread - services,endpoints,pods,nodes\n"},
    {.name = NULL},
};

/* Roles of upstream's controllers: each is bound to the service account of that name in kube-system. */
const struct rbac_policy_role rbac_policy_controllers[] = {
    {.name = "attachdetach-controller",
     .rules =
         "list,watch - persistentvolumeclaims,persistentvolumes\n"
         "read - nodes\npatch,update - nodes/status\nlist,watch - pods\n" EVENTS "create,delete,get,list,watch storage.k8s.io volumeattachments\n"
         "read storage.k8s.io csidrivers\nread storage.k8s.io csinodes\n"},
    {.name = "certificate-controller",
     .rules = "delete,get,list,watch certificates.k8s.io certificatesigningrequests\n"
              "update certificates.k8s.io certificatesigningrequests/approval,certificatesigningrequests/status\n"
              "approve certificates.k8s.io signers kubernetes.io/kube-apiserver-client-kubelet\n"
              "sign certificates.k8s.io signers kubernetes.io/kube-apiserver-client,kubernetes.io/kube-apiserver-client-kubelet,"
              "kubernetes.io/kubelet-serving,kubernetes.io/legacy-unknown\n"
              "create authorization.k8s.io subjectaccessreviews\n" EVENTS},
    {.name = "clusterrole-aggregation-controller", .rules = "escalate,get,list,patch,update,watch rbac.authorization.k8s.io clusterroles\n"},
    {.name = "cronjob-controller",
     .rules = "get,list,update,watch batch cronjobs\ncreate,delete,get,list,patch,update,watch batch jobs\nupdate batch cronjobs/status\n"
              "update batch cronjobs/finalizers\ndelete,list,watch - pods\n" EVENTS},
    {.name = "daemon-set-controller",
     .rules = "read apps,extensions daemonsets\nupdate apps,extensions daemonsets/status\nupdate apps,extensions daemonsets/finalizers\n"
              "list,watch - nodes\ncreate,delete,list,patch,watch - pods\ncreate - pods/binding\n"
              "create,delete,get,list,patch,update,watch apps controllerrevisions\n" EVENTS},
    {.name = "deployment-controller",
     .rules = "get,list,update,watch apps,extensions deployments\nupdate apps,extensions deployments/status\n"
              "update apps,extensions deployments/finalizers\ncreate,delete,get,list,patch,update,watch apps,extensions replicasets\n"
              "get,list,update,watch - pods\n" EVENTS},
    {.name = "disruption-controller",
     .rules = "read apps,extensions deployments\nread apps,extensions replicasets\nread - replicationcontrollers\nread policy poddisruptionbudgets\n"
              "read apps statefulsets\nupdate policy poddisruptionbudgets/status\npatch,update - pods/status\nget * */scale\n" EVENTS},
    {.name = "endpoint-controller",
     .rules = "read - pods,services\ncreate,delete,get,list,update,watch - endpoints\ncreate - endpoints/restricted\n" EVENTS},
    {.name = "endpointslice-controller",
     .rules =
         "read - nodes,pods,services\nupdate - services/finalizers\ncreate,delete,get,list,update,watch discovery.k8s.io endpointslices\n" EVENTS},
    {.name = "endpointslicemirroring-controller",
     .rules = "read - endpoints,services\nupdate - services/finalizers\nupdate - endpoints/finalizers\n"
              "create,delete,get,list,update,watch discovery.k8s.io endpointslices\n" EVENTS},
    {.name = "ephemeral-volume-controller",
     .rules = "read - pods\nupdate - pods/finalizers\ncreate,get,list,watch - persistentvolumeclaims\n" EVENTS},
    {.name = "expand-controller",
     .rules =
         "get,list,patch,update,watch - persistentvolumes\npatch,update - persistentvolumeclaims/status\nread - persistentvolumeclaims\n" EVENTS},
    {.name = "generic-garbage-collector", .rules = "delete,get,list,patch,update,watch * *\n" EVENTS},
    {.name = "horizontal-pod-autoscaler",
     .rules = "read autoscaling horizontalpodautoscalers\nupdate autoscaling horizontalpodautoscalers/status\nget,update * */scale\n"
              "list,watch - pods\nlist,watch metrics.k8s.io pods\nread custom.metrics.k8s.io *\nread external.metrics.k8s.io *\n" EVENTS},
    {.name = "job-controller",
     .rules = "get,list,patch,update,watch batch jobs\nupdate batch jobs/status\nupdate batch jobs/finalizers\n"
              "create,delete,list,patch,watch - pods\n" EVENTS},
    {.name = "legacy-service-account-token-cleaner",
     .rules = "get - configmaps kube-apiserver-legacy-service-account-token-tracking\ndelete,patch - secrets\n"},
    {.name = "namespace-controller",
     .rules = "delete,get,list,watch - namespaces\nupdate - namespaces/finalize,namespaces/status\ndelete,deletecollection,get,list,watch * *\n"},
    {.name = "node-controller",
     .rules = "delete,get,list,patch,update,watch - nodes\npatch,update - nodes/status\npatch,update - pods/status\n"
              "delete,get,list,watch - pods\n" EVENTS},
    {.name = "persistent-volume-binder",
     .rules = "create,delete,get,list,update,watch - persistentvolumes\nupdate - persistentvolumes/status\n"
              "get,list,update,watch - persistentvolumeclaims\nupdate - persistentvolumeclaims/status\ncreate,delete,get,list,watch - pods\n"
              "read storage.k8s.io storageclasses\nlist,watch - nodes\n" EVENTS "watch - events\n"},
    {.name = "pod-garbage-collector", .rules = "delete,list,watch - pods\nread - nodes\npatch - pods/status\n"},
    {.name = "pv-protection-controller", .rules = "get,list,update,watch - persistentvolumes\n" EVENTS},
    {.name = "pvc-protection-controller", .rules = "get,list,update,watch - persistentvolumeclaims\nread - pods\n" EVENTS},
    {.name = "replicaset-controller",
     .rules = "get,list,update,watch apps,extensions replicasets\nupdate apps,extensions replicasets/status\n"
              "update apps,extensions replicasets/finalizers\ncreate,delete,list,patch,watch - pods\n" EVENTS},
    {.name = "replication-controller",
     .rules = "get,list,update,watch - replicationcontrollers\nupdate - replicationcontrollers/status\n"
              "update - replicationcontrollers/finalizers\ncreate,delete,list,patch,watch - pods\n" EVENTS},
    {.name = "resourcequota-controller", .rules = "list,watch * *\nupdate - resourcequotas/status\n" EVENTS},
    {.name = "root-ca-cert-publisher", .rules = "create,update - configmaps\n" EVENTS},
    {.name = "route-controller", .rules = "list,watch - nodes\npatch - nodes/status\n" EVENTS},
    {.name = "service-account-controller", .rules = "create - serviceaccounts\n" EVENTS},
    {.name = "service-cidrs-controller",
     .rules = "get,list,patch,update,watch networking.k8s.io servicecidrs\npatch,update networking.k8s.io servicecidrs/finalizers\n"
              "patch,update networking.k8s.io servicecidrs/status\nread networking.k8s.io ipaddresses\n" EVENTS},
    {.name = "service-controller", .rules = "read - services\npatch,update - services/status\nlist,watch - nodes\n" EVENTS},
    {.name = "statefulset-controller",
     .rules = "list,watch - pods\nread apps statefulsets\nupdate apps statefulsets/status\nupdate apps statefulsets/finalizers\n"
              "create,delete,get,patch,update - pods\ncreate,delete,get,list,patch,update,watch apps controllerrevisions\n"
              "create,get,list,watch - persistentvolumeclaims\ndelete,update - persistentvolumeclaims\nupdate - pods/finalizers\n" EVENTS},
    {.name = "ttl-after-finished-controller", .rules = "delete,get,list,watch batch jobs\n" EVENTS},
    {.name = "ttl-controller", .rules = "list,patch,update,watch - nodes\n" EVENTS},
    {.name = "validatingadmissionpolicy-status-controller",
     .rules = "read admissionregistration.k8s.io validatingadmissionpolicies\n"
              "get,patch,update admissionregistration.k8s.io validatingadmissionpolicies/status\n" EVENTS},
    {.name = NULL},
};

/* Roles within a namespace; subjects as below, bound by a RoleBinding of the same name when there is one. */
const struct rbac_policy_role rbac_policy_namespaced[] = {
    {.name = "extension-apiserver-authentication-reader",
     .namespace = "kube-system",
     .rules = "read - configmaps extension-apiserver-authentication\n"},
    {.name = "system::leader-locking-kube-controller-manager",
     .namespace = "kube-system",
     .subject = "user system:kube-controller-manager",
     .rules = "watch - configmaps\nget,update - configmaps kube-controller-manager\n"},
    {.name = "system::leader-locking-kube-scheduler",
     .namespace = "kube-system",
     .subject = "user system:kube-scheduler",
     .rules = "watch - configmaps\nget,update - configmaps kube-scheduler\n"},
    {.name = NULL},
};

/* A subject is `user NAME`, `group NAME` or `account NAME` (of kube-system); several by ";". A binding is named as its role. */
const struct rbac_policy_binding rbac_policy_bindings[] = {
    {"cluster-admin", "group system:masters"},
    {"system:monitoring", "group system:monitoring"},
    {"system:discovery", "group system:authenticated"},
    {"system:basic-user", "group system:authenticated"},
    {"system:public-info-viewer", "group system:authenticated;group system:unauthenticated"},
    {"system:service-account-issuer-discovery", "group system:serviceaccounts"},
    {"system:node-proxier", "user system:kube-proxy"},
    {"system:kube-controller-manager", "user system:kube-controller-manager"},
    {"system:kube-dns", "account kube-dns"},
    {"system:kube-scheduler", "user system:kube-scheduler"},
    {"system:volume-scheduler", "user system:kube-scheduler"},
    {"tidemill:platform", "group system:tidemill"},
    {"tidemill:gateway", "group system:gateway"},
    {NULL, NULL},
};
