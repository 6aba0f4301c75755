#!/bin/bash
# The guests' sources: finds them, checks them against third_party/*/pins, unpacks them.
#
#   third_party/sources.sh fetch            fill third_party/cache/src, from the network where needed
#   third_party/sources.sh unpack GUEST DIR check again and unpack into DIR (no network)
#   third_party/sources.sh version GUEST    print the version that a build would use
#
# A version is taken only if its pins file accepts every file of it. Of several accepted
# versions in the cache the newest is used.
set -euo pipefail
ROOT=$(cd "$(dirname "$0")/.." && pwd)
cd "$ROOT"
CACHE=third_party/cache/src
# shellcheck source=third_party/apt.sh
. third_party/apt.sh

die() {
    echo "third_party/sources.sh: $*" >&2
    exit 1
}

# The package that brings GUEST. libgomp must match the compiler's own calls.
package_of() {
    local p
    p=$(awk '$1 == "package" { print $2 }' "third_party/$1/pins")
    [ "$p" != gcc-source ] || p=gcc-$(gcc -dumpversion | cut -d. -f1)-source
    echo "$p"
}

# Source packages ("source") or packages that carry a source ("binary").
kind_of() {
    case $1 in libgomp | musl) echo binary ;; *) echo source ;; esac
}

# Whether GUEST is upstream's tarball alone ("take upstream" in its pins), without the
# distribution's packaging: where its patches do not touch the library.
upstream_only() {
    grep -q '^take upstream$' "third_party/$1/pins"
}

# "VERSION SHA-256 FILE" lines that the pins accept for GUEST's package.
accepted() {
    local files=.
    [ "$1" != libgomp ] || files="^$(package_of libgomp)_"
    awk -v files="$files" '$1 == "accept" && $4 ~ files { print $2, $3, $4 }' "third_party/$1/pins"
}

# Whether every file of GUEST's VERSION lies in the cache with the accepted hash.
complete() {
    local sum file version
    [ -n "$(accepted "$1" | awk -v v="$2" '$1 == v')" ] || return 1
    while read -r version sum file; do
        [ "$version" = "$2" ] || continue
        echo "$sum  $CACHE/$file" | sha256sum --check --status 2>/dev/null || return 1
    done < <(accepted "$1")
}

newest_first() {
    local sorted=() v i
    for v in "$@"; do
        for ((i = 0; i < ${#sorted[@]}; i++)); do
            dpkg --compare-versions "$v" gt "${sorted[i]}" && break
        done
        sorted=("${sorted[@]:0:i}" "$v" "${sorted[@]:i}")
    done
    [ ${#sorted[@]} -eq 0 ] || printf '%s\n' "${sorted[@]}"
}

# The newest accepted version of GUEST that the cache holds whole.
cached_version() {
    local v
    # shellcheck disable=SC2046
    for v in $(newest_first $(accepted "$1" | awk '{ print $1 }' | sort -u)); do
        if complete "$1" "$v"; then
            echo "$v"
            return 0
        fi
    done
    return 1
}

# "VERSION SHA-256 FILE" lines that the distribution offers for PACKAGE.
offered() {
    case $1 in
    source)
        apt_private apt-cache showsrc --only-source "$2" 2>/dev/null |
            awk '/^Version:/ { v = $2 } /^Checksums-Sha256:/ { on = 1; next } /^[^ ]/ { on = 0 }
                 on && $3 !~ /\.asc$/ { print v, $1, $3 }' | sort -u
        ;;
    binary)
        apt_private apt-cache show "$2" 2>/dev/null |
            awk '/^Version:/ { v = $2 } /^Filename:/ { n = split($2, part, "/"); f = part[n] }
                 /^SHA256:/ { print v, $2, f }' | sort -u
        ;;
    esac
}

fetch_guest() {
    local guest=$1 package kind versions v choice="" only=()
    if v=$(cached_version "$guest"); then
        echo "  $guest $v"
        return 0
    fi
    [ -z "${NNFERRY_OFFLINE-}" ] ||
        die "$guest: no accepted version in $CACHE; run ./build.sh fetch where there is a network"
    apt_update_once
    package=$(package_of "$guest")
    kind=$(kind_of "$guest")
    offered "$kind" "$package" >"$APT_DIR/offered"
    if upstream_only "$guest"; then
        only=(--tar-only)
        sed -i '/\.orig\.tar\./!d' "$APT_DIR/offered"
    fi
    [ -s "$APT_DIR/offered" ] || {
        cat "$APT_DIR/update.log" >&2
        die "$guest: this machine's package sources offer no $package"
    }
    versions=$(awk '{ print $1 }' "$APT_DIR/offered" | sort -u)
    # shellcheck disable=SC2086
    for v in $(newest_first $versions); do
        # Accepted means: every file offered for this version is in the pins.
        if [ -z "$(awk -v v="$v" '$1 == v' "$APT_DIR/offered" |
            grep -vxF -f <(accepted "$guest") || true)" ]; then
            choice=$v
            break
        fi
    done
    if [ -z "$choice" ]; then
        # shellcheck disable=SC2086
        {
            echo "$guest: none of the versions found is accepted by third_party/$guest/pins."
            echo "Found, from this machine's signed package lists:"
            sed 's/^/    /' "$APT_DIR/offered"
            echo "To accept one, read what changed in it, then add its lines to third_party/$guest/pins:"
            v=$(newest_first $versions | head -n 1)
            awk -v v="$v" '$1 == v { print "    accept", $0 }' "$APT_DIR/offered"
            echo "and run ./build.sh test."
        } >&2
        exit 1
    fi
    rm -rf "$APT_DIR/download"
    mkdir -p "$APT_DIR/download" "$CACHE"
    (
        cd "$APT_DIR/download"
        case $kind in
        source) apt_private apt-get -q source --download-only "${only[@]}" --only-source "$package=$choice" ;;
        binary) apt_private apt-get -q download "$package=$choice" ;;
        esac >"$APT_DIR/download.log" 2>&1
    ) || {
        cat "$APT_DIR/download.log" >&2
        die "$guest: cannot download $package $choice"
    }
    accepted "$guest" | while read -r v sum file; do
        [ "$v" = "$choice" ] || continue
        # apt writes an epoch's colon as %3a in package file names.
        [ -f "$APT_DIR/download/$file" ] || mv "$APT_DIR/download/${file//:/%3a}" "$APT_DIR/download/$file"
        echo "$sum  $APT_DIR/download/$file" | sha256sum --check --status || {
            echo "found    $(sha256sum <"$APT_DIR/download/$file") $file" >&2
            echo "accepted $sum" >&2
            die "$guest: $file is not the file that third_party/$guest/pins accepts"
        }
        mv "$APT_DIR/download/$file" "$CACHE/$file"
    done
    echo "  $guest $choice (downloaded)"
}

unpack_guest() {
    local guest=$1 dir=$2 version file name
    version=$(cached_version "$guest") ||
        die "$guest: no accepted version in $CACHE; run ./build.sh fetch"
    rm -rf "$dir"
    mkdir -p "$(dirname "$dir")"
    case $guest in
    libgomp)
        # The package holds gcc's tarball; libgomp needs a small part of it.
        file=$(accepted libgomp | awk -v v="$version" '$1 == v { print $3 }')
        name=$(package_of libgomp)
        name=${name%-source}
        mkdir -p "$dir"
        dpkg-deb --fsys-tarfile "$CACHE/$file" |
            tar -xO --wildcards "./usr/src/$name/gcc-*-dfsg.tar.xz" |
            tar -xJ -C "$dir" --strip-components=1 --wildcards --no-wildcards-match-slash \
                '*/libgomp' '*/config' '*/include' '*/gcc/BASE-VER' '*/config.sub' '*/config.guess' \
                '*/install-sh' '*/ltmain.sh' '*/missing' '*/mkinstalldirs' '*/depcomp' '*/compile' \
                '*/config-ml.in' '*/multilib.am' '*/move-if-change' '*/symlink-tree' '*/lt*.m4' '*/libtool*.m4'
        ;;
    musl)
        file=$(accepted musl | awk -v v="$version" '$1 == v { print $3 }')
        dpkg-deb -x "$CACHE/$file" "$dir"
        ;;
    *)
        if upstream_only "$guest"; then
            file=$(accepted "$guest" | awk -v v="$version" '$1 == v { print $3 }')
            mkdir -p "$dir"
            tar -xf "$CACHE/$file" -C "$dir" --strip-components=1
            return 0
        fi
        file=$(accepted "$guest" | awk -v v="$version" '$1 == v && $3 ~ /\.dsc$/ { print $3 }')
        # Hashes were checked just now, against more than the .dsc says of itself.
        dpkg-source --no-check -x "$CACHE/$file" "$dir" >/dev/null
        ;;
    esac
}

case ${1-} in
fetch)
    for pins in third_party/*/pins; do
        fetch_guest "$(basename "$(dirname "$pins")")"
    done
    ;;
unpack) unpack_guest "$2" "$3" ;;
version) cached_version "$2" ;;
*) die "usage: sources.sh fetch | unpack GUEST DIR | version GUEST" ;;
esac
