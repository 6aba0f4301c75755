#!/bin/bash
# Makes build/toolchain/ARCH-musl-gcc: gcc for ARCH that compiles and links against musl.
#
#   third_party/toolchain.sh x86_64 | aarch64
#
# The native one is the distribution's musl-gcc. The cross one runs the distribution's
# cross gcc with the same specs, on the musl-dev package of the other architecture
# unpacked under build/. Both see the kernel's headers (linux, asm, asm-generic), which
# musl does not bring, after every other folder.
set -euo pipefail
ROOT=$(cd "$(dirname "$0")/.." && pwd)
cd "$ROOT"
ARCH=$1
DIR=$ROOT/build/toolchain
CC=$DIR/$ARCH-musl-gcc
[ ! -x "$CC" ] || exit 0
mkdir -p "$DIR/$ARCH-kernel"

if [ "$ARCH" = "$(uname -m)" ]; then
    kernel=/usr/include
    asm=/usr/include/$ARCH-linux-gnu/asm
    real='musl-gcc'
else
    kernel=/usr/$ARCH-linux-gnu/include
    asm=$kernel/asm
    third_party/sources.sh unpack musl "$DIR/$ARCH-musl"
    musl=$DIR/$ARCH-musl/usr
    # The specs of the native wrapper, pointed at the unpacked folders.
    sed -e "s|/usr/include/$(uname -m)-linux-musl|$musl/include/$ARCH-linux-musl|g" \
        -e "s|/usr/lib/$(uname -m)-linux-musl|$musl/lib/$ARCH-linux-musl|g" \
        -e "s|ld-musl-$(uname -m)|ld-musl-$ARCH|g" \
        "/usr/lib/$(uname -m)-linux-musl/musl-gcc.specs" >"$DIR/$ARCH-musl.specs"
    real="$ARCH-linux-gnu-gcc"
fi
for h in "$kernel/linux" "$asm" "$kernel/asm-generic"; do
    [ -d "$h" ] || {
        echo "third_party/toolchain.sh: no kernel headers at $h" >&2
        exit 1
    }
    ln -sfn "$h" "$DIR/$ARCH-kernel/$(basename "$h")"
done
{
    echo "#!/bin/sh"
    if [ "$real" = musl-gcc ]; then
        echo "exec musl-gcc \"\$@\" -idirafter '$DIR/$ARCH-kernel'"
    else
        echo "exec $real \"\$@\" -specs '$DIR/$ARCH-musl.specs' -idirafter '$DIR/$ARCH-kernel'"
    fi
} >"$CC.new"
chmod +x "$CC.new"
mv "$CC.new" "$CC"
