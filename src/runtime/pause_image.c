/* The program of pause/, as bytes within this one. */
#include "runtime/pidns_priv.h"
#include "runtime/program.h"

__asm__(".section .rodata.pause_image, \"a\"\n"
        ".balign 16\n"
        "pause_image_begin:\n"
        "\t.incbin \"" PAUSE_PROGRAM "\"\n"
        "pause_image_end:\n"
        "\t.byte 0\n"
        ".previous\n");
extern const char pause_image_begin[], pause_image_end[];

int pause_load(void) {
    return program_seal("tidemill-pause", slice_make(pause_image_begin, (size_t)(pause_image_end - pause_image_begin)));
}
