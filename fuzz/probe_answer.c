/* What a probed program answers: where it redirects to, and gRPC's health. Checked besides memory: a resolved URL is one that can be asked for. */
#include <stdint.h>

#include "codec/codec.h"
#include "runtime/probe_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct slice text = slice_make(bytes, size);
    struct probe_url from, url;
    uint64_t status;
    bool absolute;
    (void)grpc_health_parse(text, &status);
    ASSERT(probe_url_make(true, "10.0.0.1", 8443, "/a/b?c", &from) == 0);
    for (int i = 0; i < 3 && probe_url_resolve(&from, text, &url, &absolute) == 0; i++) {
        ASSERT(url.target[0] == '/' && url.host[0] && url.port);
        for (const char *at = url.target; *at; at++)
            ASSERT(*at > ' ' && *at <= '~' && *at != '#');
        ASSERT(absolute || (strcmp(url.host, from.host) == 0 && url.port == from.port));
        from = url;
    }
    return 0;
}
