#!/bin/sh
# Renders the manual pages as plain text, for reading where there is no man(1).
#
#   tools/mantext.sh OUT
set -eu
export LC_ALL=C
out=$1
rm -rf "$out"
mkdir -p "$out"
for page in man/*.[1-8]; do
    [ -f "$page" ] || continue
    # Bold and underlined are letter, backspace, letter. The system named in the footer is
    # ours, so that every machine renders the same bytes.
    mandoc -Tascii -Owidth=78 -Ios=nnferry "$page" | sed "s/.$(printf '\b')//g" >"$out/${page##*/}"
done
