/* The program of enter/, as bytes within this one: it can be neither missing nor of another version. Its memory file is sealed: whoever comes upon it
 * from within a container, through /proc/<pid>/exe, cannot change what the next command is entered with (CVE-2019-5736). */
#include "runtime/enter.h"
#include "runtime/program.h"

__asm__(".section .rodata.enter_image, \"a\"\n"
        ".balign 16\n"
        "enter_image_begin:\n"
        "\t.incbin \"" ENTER_PROGRAM "\"\n"
        "enter_image_end:\n"
        "\t.byte 0\n"
        ".previous\n");
extern const char enter_image_begin[], enter_image_end[];

int enter_load(void) {
    return program_seal("tidemill-enter", slice_make(enter_image_begin, (size_t)(enter_image_end - enter_image_begin)));
}
