/* The version of the builder image: its tag. Raise it when the pod's script and the image must change together. */
#ifndef TIDEMILL_REGISTRY_BUILD_POD_PRIV_H
#define TIDEMILL_REGISTRY_BUILD_POD_PRIV_H

#include "registry/build_pod.h"

#define BUILDER_IMAGE_VERSION "1"

#endif
