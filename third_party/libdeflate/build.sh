# How libdeflate is built: every library file; it picks its SIMD code at run time.
files=$(cd "$SRC/lib" && ls -- *.c x86/*.c arm/*.c)
compile "$SRC/lib" "-I$SRC" $files
archive libdeflate.a
cp "$SRC/libdeflate.h" "$OUT/include/"
