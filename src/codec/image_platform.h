/* Platforms of container images: which entry of an index is for which machine. */
#ifndef TIDEMILL_CODEC_IMAGE_PLATFORM_H
#define TIDEMILL_CODEC_IMAGE_PLATFORM_H

/* "" where an index says nothing. */
struct image_platform {
    const char *os, *architecture, *variant;
};
/* How well what is offered suits who wants it: 0 not at all; of several, the highest is the best. A machine runs what was made for an older variant
 * of it (arm v6 on v7), never the other way; an entry without a platform suits least of all. */
int image_platform_rank(const struct image_platform *wanted, const struct image_platform *offered);
/* "linux/arm64", "linux/arm/v7", or "arm64": into the parts, which are copied to text (IMAGE_PLATFORM_TEXT bytes). -EINVAL. */
#define IMAGE_PLATFORM_TEXT 64
int image_platform_parse(const char *from, char *text, struct image_platform *ret);

#endif
