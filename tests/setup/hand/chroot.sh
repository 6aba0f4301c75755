#!/bin/bash
# By hand, as root: an empty Debian, where nnferry is built from nothing.
#
#   tests/setup/hand/chroot.sh SUITE DIR [online|offline] [COMMAND]
#
# SUITE is bookworm or trixie, DIR is made anew, COMMAND (default build) goes to build.sh.
# online takes packages from the machine's own mirror; offline copies third_party/cache
# (filled by ./build.sh fetch on such a machine) and runs without any network.
set -euo pipefail
root=$(cd "$(dirname "$0")/../../.." && pwd)
suite=$1 dir=$2 mode=${3-online} command=${4-build}
[ "$(id -u)" = 0 ] || { echo "needs root"; exit 1; }
# In a mount namespace of its own: what is mounted here ends with the script.
[ -n "${CHROOT_PRIVATE-}" ] || CHROOT_PRIVATE=1 exec unshare --mount --propagation private "$0" "$@"
[ ! -e "$dir" ] || { echo "$dir exists"; exit 1; }
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | sort -u | grep -v security | head -n 1)
debootstrap --variant=minbase "$suite" "$dir" "$mirror"
mkdir "$dir/nnferry"
(cd "$root" && python3 tests/lint/files.py '*' | tar -c -T -) | tar -x -C "$dir/nnferry"
cp /etc/resolv.conf "$dir/etc/resolv.conf"
# What the machine itself needs to reach its mirror.
for f in /etc/apt/apt.conf.d/*proxy* /etc/apt/apt.conf; do
    [ ! -f "$f" ] || cp "$f" "$dir/etc/apt/apt.conf.d/"
done
mount --bind /proc "$dir/proc"
mount --rbind /dev "$dir/dev"
mount --rbind /sys "$dir/sys" # OpenCL drivers look at the processor there
run=(env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb)
case $mode in
online) "${run[@]}" chroot "$dir" /nnferry/build.sh "$command" ;;
offline)
    mkdir -p "$dir/nnferry/third_party/cache"
    cp -rL "$root/third_party/cache/." "$dir/nnferry/third_party/cache/"
    "${run[@]}" unshare -n chroot "$dir" /nnferry/build.sh --offline "$command"
    ;;
esac
