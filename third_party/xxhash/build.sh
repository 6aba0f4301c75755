# How xxhash is built: not at all; its header is compiled into the one file that includes it.
cp "$SRC/xxhash.h" "$OUT/include/"
