#!/bin/bash
# Builds the guests for one target into build/guests/TARGET/{include,lib}.
#
#   third_party/build.sh TARGET     x86_64-musl, aarch64-musl: for the program
#                                   x86_64-host, aarch64-host: for the sanitizers, on the host's libc
#
# Sources come from third_party/cache/src (third_party/sources.sh); nothing here needs
# a network. Each guest's build.sh is sourced with SRC, WORK, OUT, CC, AR, CFLAGS, ARCH
# and LIBC set, and with the two functions below.
set -euo pipefail
ROOT=$(cd "$(dirname "$0")/.." && pwd)
cd "$ROOT"
export LC_ALL=C

TARGET=$1
ARCH=${TARGET%-*}
LIBC=${TARGET#*-}
TRIPLET=$ARCH-linux-gnu
OUT=$ROOT/build/guests/$TARGET
export RANLIB=ranlib AR='ar'

third_party/toolchain.sh "$ARCH"
case $LIBC in
musl) CC=$ROOT/build/toolchain/$ARCH-musl-gcc ;;
host) CC=gcc ;;
*)
    echo "third_party/build.sh: unknown target $TARGET" >&2
    exit 1
    ;;
esac
if [ "$ARCH" != "$(uname -m)" ]; then
    AR=$TRIPLET-ar
    RANLIB=$TRIPLET-ranlib
fi
CFLAGS="-O3 -g0 -fno-strict-aliasing -ffunction-sections -fdata-sections -ffp-contract=off \
-fstack-protector-strong -ffile-prefix-map=$ROOT=. -Wno-all"

# compile DIR FLAGS FILE...: objects into WORK; two at a time.
compile() {
    local dir=$1 flags=$2
    shift 2
    printf '%s\n' "$@" | xargs -P 2 -I{} sh -c '
        out=$(echo "$1" | tr / _)
        cd "$2" && $3 -c "$1" -o "$4/${out%.*}.o"' sh {} "$dir" "$CC $CFLAGS $flags" "$WORK"
}

# archive NAME: WORK's objects, in a fixed order and without dates.
archive() {
    rm -f "$OUT/lib/$1"
    (cd "$WORK" && $AR rcDs "$OUT/lib/$1" ./*.o)
}

mkdir -p "$OUT/include" "$OUT/lib" build/src
for recipe in third_party/*/build.sh; do
    guest=$(basename "$(dirname "$recipe")")
    version=$(third_party/sources.sh version "$guest") || {
        echo "$guest: no accepted source in third_party/cache; run ./build.sh (or ./build.sh fetch)" >&2
        exit 1
    }
    # Built already from the same source by the same rules?
    key=$(cat third_party/build.sh third_party/toolchain.sh "third_party/$guest"/* | sha256sum)
    key="$version ${key%% *}"
    if [ "$(cat "$OUT/$guest.key" 2>/dev/null)" = "$key" ]; then
        continue
    fi
    SRC=$ROOT/build/src/$guest
    if [ "$(cat "$SRC.version" 2>/dev/null)" != "$version" ]; then
        third_party/sources.sh unpack "$guest" "$SRC"
        echo "$version" >"$SRC.version"
    fi
    WORK=$ROOT/build/guests/work/$TARGET/$guest
    rm -rf "$WORK"
    mkdir -p "$WORK"
    echo "  GUEST $guest $version ($TARGET)"
    # shellcheck disable=SC1090
    . "third_party/$guest/build.sh"
    echo "$key" >"$OUT/$guest.key"
done
touch "$OUT/stamp"
