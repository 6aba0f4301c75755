# How libgomp is built: gcc's own configure and make, libgomp alone, against musl.
# musl has pthread_setaffinity_np but no attribute for it, so libgomp's configure
# leaves thread affinity out and the library then talks on stderr whenever
# OMP_PROC_BIND or OMP_PLACES is set, as clusters do. our tools/gomp_affinity.[ch] give
# it the missing attribute; the sites' wish is honoured and nothing is printed.
# The host flavours use the compiler's own libgomp.
[ "$LIBC" = musl ] || return 0
own=tools/gomp_affinity
mkdir -p "$WORK/obj"
(
    cd "$WORK/obj" || exit 1
    "$SRC/libgomp/configure" --build="$(gcc -dumpmachine)" --host="$TRIPLET" --disable-shared \
        --enable-static --disable-multilib --disable-werror --with-gnu-ld \
        CC="$CC" AR="$AR" RANLIB="$RANLIB" FC=no GFORTRAN=no \
        CFLAGS="$CFLAGS" >configure.log 2>&1 ||
        { tail -20 configure.log >&2; exit 1; }
    make -s libgomp.la \
        CFLAGS="$CFLAGS -include $ROOT/$own.h -DHAVE_PTHREAD_AFFINITY_NP=1" >make.log 2>&1 || { tail -30 make.log >&2; exit 1; }
)
$CC $CFLAGS -std=c11 -D_GNU_SOURCE -c "$own.c" -o "$WORK/nnferry_affinity.o"
cp "$WORK/obj/.libs/libgomp.a" "$OUT/lib/libgomp.a"
$AR rDs "$OUT/lib/libgomp.a" "$WORK/nnferry_affinity.o" 2>/dev/null
cp "$WORK/obj/omp.h" "$OUT/include/"
