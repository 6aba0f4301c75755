#!/bin/bash
# Brings what nnferry needs on a Debian 12 or 13 machine (amd64 or arm64), builds it, tests it.
#
#   ./build.sh [--offline] [build|demo|test|fetch]
#
#   build    (default) install what is missing, bring the guests' sources, build build/nnferry
#   demo     build, then convert and validate the checkpoint that ships with the repository
#   test     build every flavour and run every test; the last line counts them
#   fetch    fill third_party/cache with all that these need (several GB, most of it the
#            frameworks of the interop tests)
#   --offline  use third_party/cache alone; no network is touched
#
# Packages are installed as root or through sudo. Everything else stays in this folder.
set -euo pipefail
cd "$(dirname "$0")"
ROOT=$PWD
# shellcheck source=third_party/apt.sh
. third_party/apt.sh

usage() {
    sed -n '4,11s/^# \{0,1\}//p' build.sh
}

die() {
    echo "build.sh: $*" >&2
    exit 1
}

# Packages of a set, from third_party/packages: one line per set, A|B means either.
packages_of() {
    local set
    for set in "$@"; do
        sed -n "s/^$set:[[:space:]]*//p" third_party/packages
    done | tr -s ' \n' '\n'
}

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Of the given names, those that apt can install; the command to ask apt comes first.
candidates() {
    local ask=$1
    shift
    "$ask" apt-cache policy "$@" 2>/dev/null |
        awk '/^[^ ]/ { p = $1; sub(/:$/, "", p) } /^  Candidate:/ && $2 != "(none)" { print p }'
}

# What to install for the sets SET...: of alternatives A|B the first that apt has, none
# where one is installed already (unless --all). The command to ask apt comes first.
to_install() {
    local ask=$1 all=$2 entry p choice have
    shift 2
    # shellcheck disable=SC2046
    have=" $(candidates "$ask" $(packages_of "$@" | tr '|' ' ') | tr '\n' ' ')"
    for entry in $(packages_of "$@"); do
        if [ "$all" != --all ] && any_installed "$entry"; then
            continue
        fi
        choice=${entry%%|*}
        for p in ${entry//|/ }; do
            case $have in *" $p "*)
                choice=$p
                break
                ;;
            esac
        done
        echo "$choice"
    done
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        env "$@"
    else
        command -v sudo >/dev/null || die "not root and no sudo; install first: $MISSING"
        sudo env "$@"
    fi
}

# Sets the apt that packages come from: the machine's own, or the cache as a local archive.
APT=(LC_ALL=C DEBIAN_FRONTEND=noninteractive)
apt_public() {
    env "${APT[@]}" "$@"
}

need_packages() {
    MISSING=""
    [ -n "$(for p in $(packages_of "$@"); do any_installed "$p" || echo "$p"; done)" ] || return 0
    if [ -n "${NNFERRY_OFFLINE-}" ]; then
        [ -f third_party/cache/debs/Packages ] ||
            die "--offline: packages are missing and third_party/cache/debs is empty; run ./build.sh fetch where there is a network"
        apt_configure "$ROOT/third_party/cache/debs"
        APT+=(APT_CONFIG="$APT_DIR/apt.conf")
        as_root "${APT[@]}" apt-get -q update >"$APT_DIR/update.log" 2>&1 || { cat "$APT_DIR/update.log" >&2; die "apt-get update failed"; }
    else
        mkdir -p build
        as_root "${APT[@]}" apt-get -q update >build/apt-update.log 2>&1 ||
            echo "build.sh: apt-get update had trouble (build/apt-update.log); going on" >&2
    fi
    MISSING=$(to_install apt_public --missing "$@" | tr '\n' ' ')
    echo "build.sh: installing $MISSING"
    # shellcheck disable=SC2086
    as_root "${APT[@]}" apt-get -q -y -o DPkg::Lock::Timeout=600 --no-install-recommends install $MISSING >build/apt-install.log 2>&1 || {
        tail -20 build/apt-install.log >&2
        die "cannot install: $MISSING"
    }
}

any_installed() {
    local p
    for p in ${1//|/ }; do
        ! installed "$p" || return 0
    done
    return 1
}

build() {
    need_packages build
    third_party/sources.sh fetch
    make -j"$(nproc)"
}

# Fills the cache with every package of every set and all they need, as if nothing at
# all were installed, so that it serves the barest machine of this distribution.
fetch_packages() {
    local debs=$ROOT/third_party/cache/debs names
    apt_update_once
    mkdir -p "$debs/partial"
    names=$(to_install apt_private --all build demo test)
    # shellcheck disable=SC2086
    apt_private apt-get -q -y --no-install-recommends --download-only -o Dir::State::status="$APT_DIR/empty" \
        -o Dir::Cache::archives="$debs" install $names >"$APT_DIR/packages.log" 2>&1 || {
        tail -20 "$APT_DIR/packages.log" >&2
        die "cannot download the packages"
    }
    rm -rf "$debs/partial" "$debs/lock"
    (cd "$debs" && dpkg-scanpackages --multiversion . >Packages.new 2>/dev/null && mv Packages.new Packages)
    echo "build.sh: $(grep -c '^Package:' "$debs/Packages") packages, $(du -sh "$debs" | cut -f1) in third_party/cache/debs"
}

# The Python packages of the interop tests, with all they need, as wheels.
fetch_wheels() {
    local wheels=third_party/cache/wheels list
    need_packages test
    mkdir -p "$wheels"
    [ -x build/fetch-venv/bin/pip ] || python3 -m venv build/fetch-venv
    # each list is an environment of its own: two versions of a package may be there
    for list in tests/interop/requirements*.txt; do
        build/fetch-venv/bin/pip -q download -d "$wheels" -r "$list" >build/wheels.log 2>&1 || {
            tail -20 build/wheels.log >&2
            die "cannot download the packages of $list"
        }
    done
    echo "build.sh: $(find "$wheels" -type f | wc -l) wheels, $(du -sh "$wheels" | cut -f1) in $wheels"
}

while [ $# -gt 0 ]; do
    case $1 in
    --offline) export NNFERRY_OFFLINE=1 ;;
    -h | --help)
        usage
        exit 0
        ;;
    build | demo | test | fetch)
        [ -z "${command-}" ] || die "one command at a time"
        command=$1
        ;;
    *)
        usage >&2
        exit 2
        ;;
    esac
    shift
done

case ${command-build} in
build) build ;;
demo)
    need_packages build demo
    build
    exec demo/run.sh
    ;;
test)
    need_packages build demo test
    build
    exec tests/run.py
    ;;
fetch)
    [ -z "${NNFERRY_OFFLINE-}" ] || die "fetch needs the network"
    need_packages build
    third_party/sources.sh fetch
    fetch_packages
    fetch_wheels
    ;;
esac
