/* What this machine is called by those who make software for several: GOARCH and variant, as container images name platforms. */
#include <sys/utsname.h>

#include "base/base.h"
#include "sys/sys.h"

const char *sys_architecture(const char **ret_variant) {
    static const struct {
        const char *machine, *architecture, *variant;
    } table[] = {{"x86_64", "amd64", ""}, {"aarch64", "arm64", "v8"},    {"armv8l", "arm", "v8"},    {"armv7l", "arm", "v7"},
                 {"armv6l", "arm", "v6"}, {"i686", "386", ""},           {"riscv64", "riscv64", ""}, {"ppc64le", "ppc64le", ""},
                 {"s390x", "s390x", ""},  {"loongarch64", "loong64", ""}};
    struct utsname name;
    size_t found = 0;
    for (size_t i = 0; uname(&name) == 0 && i < ARRAY_LEN(table); i++)
        if (strcmp(name.machine, table[i].machine) == 0)
            found = i;
    if (ret_variant)
        *ret_variant = table[found].variant;
    return table[found].architecture;
}
