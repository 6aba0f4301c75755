#!/bin/sh
# clang-tidy, with the checks of .clang-tidy, over every source of this machine's kind.
# timeout: 1800
set -eu
cd "$(dirname "$0")/../.."
guests=build/guests/$(uname -m)-host/include
python3 tests/lint/files.py 'src/*.c' | grep -v -e '^src/worker/' \
    -e '_avx2\.c$' -e '_avx512\.c$' -e '_neon\.c$' >build/tidy.list
[ -s build/tidy.list ]
xargs -P "$(nproc)" -n 4 sh -c '
    guests=$0
    clang-tidy --quiet --warnings-as-errors="*" "$@" -- -std=c11 -D_GNU_SOURCE -Isrc -I. \
        -isystem "$guests" -DNNFERRY_VERSION=\"0\" -fopenmp 2>&1 |
        grep -v -e "warnings generated" -e "^Suppressed" -e "^Use -header-filter" >"build/tidy.$$" || true
    cat "build/tidy.$$"
    ! grep -q -e "error:" -e "warning:" "build/tidy.$$" || { rm "build/tidy.$$"; exit 1; }
    rm "build/tidy.$$"
' "$guests" <build/tidy.list
echo "$(wc -l <build/tidy.list) files"
