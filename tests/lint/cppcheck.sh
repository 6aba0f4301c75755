#!/bin/sh
# cppcheck over src/; a deliberate exception is a comment in the source (cppcheck-suppress).
# timeout: 1200
set -eu
cd "$(dirname "$0")/../.."
mkdir -p build/cppcheck
cppcheck --quiet --error-exitcode=1 --std=c11 --enable=warning,portability,performance \
    --inline-suppr --suppress=missingIncludeSystem --suppress=unmatchedSuppression \
    --suppress=unknownMacro --suppress=normalCheckLevelMaxBranches --cppcheck-build-dir=build/cppcheck \
    -j "$(nproc)" -D_GNU_SOURCE -DNNFERRY_VERSION='"0"' -D__GNUC__=12 -D__x86_64__ -Isrc -I. src
