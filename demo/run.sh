#!/bin/sh
# The demo: a network that was trained on real data (demo/train.py) goes from PyTorch to the
# archive and on to Flax, and every layer is proven to compute the same. Exit status: validate's.
set -eu
cd "$(dirname "$0")/.."
nnferry=${NNFERRY:-build/nnferry}
out=build/demo
mkdir -p "$out"
run() {
    printf '$ nnferry %s\n' "$*"
    "$nnferry" "$@"
}
run convert demo/digits.pt -f -o "$out/digits.tar.zst"
run verify "$out/digits.tar.zst"
run convert "$out/digits.tar.zst" --to flax --map demo/digits.map -f -o "$out/digits.msgpack"
run validate demo/digits.pt "$out/digits.msgpack" --map demo/digits.map --level layer
