#!/bin/bash
# A second build of the same files, in another folder, from the cache alone, in a network
# namespace without interfaces, gives the same binary.
# timeout: 1500
set -euo pipefail
cd "$(dirname "$0")/../.."
here=$PWD
there=$(mktemp -d)/a-folder-of-quite-another-name
trap 'rm -rf "${there%/*}"' EXIT
mkdir -p "$there/third_party"
python3 tests/lint/files.py '*' | tar -c -T - | tar -x -C "$there"
ln -s "$here/third_party/cache" "$there/third_party/cache"

# Without a network means without: not even loopback.
alone() {
    if [ "$(id -u)" = 0 ]; then unshare -n "$@"; else unshare -rn "$@"; fi
}
if alone true; then :; else
    echo "network namespaces are not allowed here"
    exit 77
fi
if alone sh -c 'grep -q -v -e "|" -e "lo:" /proc/net/dev'; then
    echo "the namespace has an interface"
    exit 1
fi
cd "$there"
TZ=Asia/Tokyo LC_ALL=C.UTF-8 alone nice ./build.sh --offline build
cmp build/nnferry "$here/build/nnferry"
sha256sum build/nnferry
echo "# cases 2 passed, 0 failed"
