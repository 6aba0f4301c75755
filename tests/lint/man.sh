#!/bin/sh
# Manual pages: mdoc that mandoc finds nothing to say about.
set -eu
cd "$(dirname "$0")/../.."
set -- man/*.[1-8]
[ -f "$1" ] || { echo "no manual pages"; exit 1; }
mandoc -Tlint -Wwarning "$@"
echo "$# pages"
