/* The program of enter/, as bytes within this one: it can be neither missing nor of another version. Its memory file is sealed: whoever comes upon it
 * from within a container, through /proc/<pid>/exe, cannot change what the next command is entered with (CVE-2019-5736). */
#include <fcntl.h>

#include "runtime/enter.h"
#include "runtime/program.h"
#include "sys/sys.h"

__asm__(".section .rodata.enter_image, \"a\"\n"
        ".balign 16\n"
        "enter_image_begin:\n"
        "\t.incbin \"" ENTER_PROGRAM "\"\n"
        "enter_image_end:\n"
        "\t.byte 0\n"
        ".previous\n");
extern const char enter_image_begin[], enter_image_end[];

int enter_load(void) {
    CLEANUP(fd_closep) int fd = program_open_memory("tidemill-enter");
    if (fd < 0)
        return fd;
    int r = sys_write_all(fd, slice_make(enter_image_begin, (size_t)(enter_image_end - enter_image_begin)));
    if (r < 0)
        return r;
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
        return -errno;
    return TAKE_FD(fd);
}
