/* Shared by spdy.c and its constant. */
#ifndef TIDEMILL_CODEC_SPDY_PRIV_H
#define TIDEMILL_CODEC_SPDY_PRIV_H

#define SPDY_DICTIONARY_BYTES 1423
extern const char spdy_dictionary[SPDY_DICTIONARY_BYTES + 1];

#endif
