#!/bin/sh
# Every shell script, read by shellcheck.
set -eu
cd "$(dirname "$0")/../.."
python3 tests/lint/files.py '*.sh' .ci/run >build/shell.list
# The guests' build.sh are sourced: their variables come from third_party/build.sh.
grep -v '^third_party/[^/]*/build\.sh$' build/shell.list | xargs shellcheck -x -e SC2016
grep '^third_party/[^/]*/build\.sh$' build/shell.list | xargs shellcheck -s bash \
    -e SC2154,SC2034,SC2046,SC2086
echo "$(wc -l <build/shell.list) scripts"
