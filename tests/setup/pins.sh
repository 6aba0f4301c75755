#!/bin/bash
# The guests' sources are taken only if the pins accept them: a changed file, an unknown
# version and an empty cache each stop the build and say so.
set -euo pipefail
cd "$(dirname "$0")/../.."
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
mkdir -p "$copy/third_party/cache/src" "$copy/build"
cp -r third_party/*.sh "$copy/third_party/"
for pins in third_party/*/pins; do cp -r "$(dirname "$pins")" "$copy/third_party/"; done
cp -l third_party/cache/src/* "$copy/third_party/cache/src/" 2>/dev/null ||
    cp third_party/cache/src/* "$copy/third_party/cache/src/"
export NNFERRY_OFFLINE=1
n=0

refused() { # NAME TEXT: fetch must fail and say TEXT
    if "$copy/third_party/sources.sh" fetch >"$copy/out" 2>&1; then
        cat "$copy/out"
        echo "$1: was taken"
        exit 1
    fi
    grep -q "$2" "$copy/out" || {
        cat "$copy/out"
        echo "$1: does not say: $2"
        exit 1
    }
    n=$((n + 1))
}

"$copy/third_party/sources.sh" fetch >/dev/null
n=$((n + 1))

# One byte of one file changed.
file=$(cd "$copy/third_party/cache/src" && ls jansson_*.orig.tar.gz)
cp "$copy/third_party/cache/src/$file" "$copy/good"
rm "$copy/third_party/cache/src/$file"
{ head -c 1000 "$copy/good"; printf 'X'; tail -c +1002 "$copy/good"; } >"$copy/third_party/cache/src/$file"
refused changed-file "jansson: no accepted version"
if "$copy/third_party/sources.sh" unpack jansson "$copy/unpacked" 2>/dev/null; then
    echo "unpack took a changed file"
    exit 1
fi
n=$((n + 1))
cp --remove-destination "$copy/good" "$copy/third_party/cache/src/$file"

# A version the pins do not know.
sed -i '/^accept/d' "$copy/third_party/zlib/pins"
refused unknown-version "zlib: no accepted version"
cp third_party/zlib/pins "$copy/third_party/zlib/pins"

# A file missing.
rm "$copy/third_party/cache/src/"libzstd_*.dsc
refused missing-file "zstd: no accepted version"
echo "# cases $n passed, 0 failed"
