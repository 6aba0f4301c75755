# How jansson is built: its two configured headers are written here, since every target
# (Linux, 64 bit, gcc or clang) gives the same answers.
mkdir -p "$WORK/inc"
sed -e 's/@json_inline@/inline/' -e 's/@json_have_long_long@/1/' \
    -e 's/@json_have_localeconv@/1/' -e 's/@json_have_atomic_builtins@/1/' \
    -e 's/@json_have_sync_builtins@/1/' "$SRC/src/jansson_config.h.in" >"$WORK/inc/jansson_config.h"
if grep -q '^#define.*@' "$WORK/inc/jansson_config.h"; then
    echo "jansson_config.h.in asks for a value that is not known here" >&2
    exit 1
fi
for have in HAVE_STDINT_H HAVE_UNISTD_H HAVE_FCNTL_H HAVE_SCHED_H HAVE_SYS_STAT_H HAVE_SYS_TIME_H \
    HAVE_SYS_TYPES_H HAVE_SYS_PARAM_H HAVE_ENDIAN_H HAVE_OPEN HAVE_CLOSE HAVE_READ HAVE_GETPID \
    HAVE_GETTIMEOFDAY HAVE_LOCALECONV HAVE_STRTOLL HAVE_SNPRINTF HAVE_SCHED_YIELD \
    HAVE_ATOMIC_BUILTINS HAVE_SYNC_BUILTINS USE_URANDOM; do
    echo "#define $have 1"
done >"$WORK/inc/jansson_private_config.h"
echo "#define INITIAL_HASHTABLE_ORDER 3" >>"$WORK/inc/jansson_private_config.h"
compile "$SRC/src" "-I$WORK/inc -DHAVE_CONFIG_H" $(cd "$SRC/src" && ls -- *.c)
archive libjansson.a
cp "$SRC/src/jansson.h" "$WORK/inc/jansson_config.h" "$OUT/include/"
