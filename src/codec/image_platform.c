/* Choosing from an image index (OCI image spec, image-index.md). Variants are numbers behind a "v"; an absent one is the architecture's usual: v8 of
 * arm64, v7 of arm, v1 of amd64. */
#include "codec/image_platform.h"

#include <stdio.h>

#include "base/base.h"

static int variant_number(const struct image_platform *platform) {
    const char *text = platform->variant;
    if (text[0] == 'v' && text[1] >= '1' && text[1] <= '9' && !text[2])
        return text[1] - '0';
    if (*text)
        return -1;
    return strcmp(platform->architecture, "arm64") == 0 ? 8 : strcmp(platform->architecture, "arm") == 0 ? 7 : 1;
}

int image_platform_rank(const struct image_platform *wanted, const struct image_platform *offered) {
    if (!*offered->os && !*offered->architecture)
        return 1;
    if (strcmp(offered->os, wanted->os) != 0 || strcmp(offered->architecture, wanted->architecture) != 0)
        return 0;
    int mine = variant_number(wanted), theirs = variant_number(offered);
    if (theirs < 0 || mine < 0)
        return strcmp(wanted->variant, offered->variant) == 0 ? 100 : 0;
    return theirs <= mine ? 10 + theirs : 0;
}

int image_platform_parse(const char *from, char *text, struct image_platform *ret) {
    const char *parts[3] = {"linux", "", ""};
    int count = 0;
    if (strlen(from) >= IMAGE_PLATFORM_TEXT || !*from)
        return -EINVAL;
    memcpy(text, from, strlen(from) + 1);
    for (char *part = text; part; count++) {
        char *slash = strchr(part, '/');
        if (slash)
            *slash++ = 0;
        if (count == 3 || !*part)
            return -EINVAL;
        parts[count] = part;
        part = slash;
    }
    *ret = count == 1 ? (struct image_platform){"linux", parts[0], ""} : (struct image_platform){parts[0], parts[1], parts[2]};
    return 0;
}
