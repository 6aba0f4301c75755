# How zlib is built: the stream coder only, without the gz* file functions.
compile "$SRC" "-DHAVE_UNISTD_H -DHAVE_HIDDEN -DNO_GZIP_FILES" \
    adler32.c compress.c crc32.c deflate.c infback.c inffast.c inflate.c inftrees.c \
    trees.c uncompr.c zutil.c
archive libz.a
cp "$SRC/zlib.h" "$SRC/zconf.h" "$OUT/include/"
