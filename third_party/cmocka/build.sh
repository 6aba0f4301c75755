# How cmocka is built: one file. For unit tests only.
# Its header guesses uintptr_t unless told that <stdint.h> has it, and guesses wrong
# on aarch64 musl; the copy for our tests is told.
compile "$SRC/src" "-include stdint.h -D_UINTPTR_T -I$SRC/include -DHAVE_INTTYPES_H -DHAVE_SIGNAL_H \
    -DHAVE_STRINGS_H -DHAVE_MALLOC_H -DHAVE_GCC_THREAD_LOCAL_STORAGE -DHAVE_CLOCK_REALTIME \
    -DHAVE_STRUCT_TIMESPEC -DHAVE_SIGLONGJMP -DHAVE_STRSIGNAL" cmocka.c
archive libcmocka.a
{
    printf '#include <stdint.h>\n#ifndef _UINTPTR_T\n#define _UINTPTR_T\n#endif\n'
    cat "$SRC/include/cmocka.h"
} >"$OUT/include/cmocka.h"
