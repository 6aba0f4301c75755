#!/bin/sh
# The release binaries: static, without an interpreter, without anything to load, no
# executable stack, no path of the folder they were built in.
set -eu
cd "$(dirname "$0")/../.."
n=0
for binary in build/nnferry build/release-aarch64/nnferry; do
    if [ "$binary" != build/nnferry ] && [ "$(uname -m)" != x86_64 ]; then
        continue
    fi
    n=$((n + 1))
    file "$binary" | grep -q 'statically linked' || { file "$binary"; exit 1; }
    readelf -lW "$binary" >build/binary.lint
    if grep -E 'INTERP|DYNAMIC' build/binary.lint; then exit 1; fi
    grep -E 'GNU_STACK.* RW ' build/binary.lint >/dev/null || { echo "$binary: executable stack"; exit 1; }
    if grep -aF "$PWD" "$binary" >/dev/null; then
        echo "$binary: holds its build folder's path"
        exit 1
    fi
done
echo "$n binaries"
