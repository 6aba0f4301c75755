# How zstd is built: every library file by hand, no build system; without the dictionary
# builder, the legacy formats and threads of its own.
files=$(cd "$SRC/lib" && ls common/*.c compress/*.c decompress/*.c)
case $ARCH in x86_64) files="$files decompress/huf_decompress_amd64.S" ;; esac
compile "$SRC/lib" "-DXXH_NAMESPACE=ZSTD_ -DZSTD_LEGACY_SUPPORT=0 -I$SRC/lib -I$SRC/lib/common" $files
archive libzstd.a
cp "$SRC/lib/zstd.h" "$SRC/lib/zstd_errors.h" "$OUT/include/"
# Its xxhash.h has XXH3 too, but hides it from zstd.
sed '/^#ifndef XXH_NO_XXH3$/{N;N;/# *define XXH_NO_XXH3\n#endif$/d}' "$SRC/lib/common/xxhash.h" >"$OUT/include/xxhash.h"
! grep -q 'define XXH_NO_XXH3' "$OUT/include/xxhash.h"
cp "$SRC/lib/common/zstd_deps.h" "$OUT/include/"
