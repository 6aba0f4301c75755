#!/bin/bash
# A private apt, sourced by the scripts here and by build.sh: the machine's own
# sources with their source packages switched on, and arm64 beside the native
# architecture. It keeps its lists under build/apt and changes nothing outside.

APT_DIR=$ROOT/build/apt

# Writes build/apt/apt.conf and its sources. $1, optional: a folder of packages to
# use instead of the machine's sources.
# shellcheck disable=SC2120
apt_configure() {
    local parts list f
    rm -rf "$APT_DIR/sources.list.d"
    mkdir -p "$APT_DIR/sources.list.d" "$APT_DIR/lists/partial" "$APT_DIR/cache/archives/partial"
    : >"$APT_DIR/empty"
    if [ $# -gt 0 ]; then
        echo "deb [trusted=yes] file:$1 ./" >"$APT_DIR/sources.list.d/local.list"
    else
        eval "$(env -u APT_CONFIG apt-config shell list Dir::Etc::sourcelist/f parts Dir::Etc::sourceparts/d)"
        # One-line style: each active deb line, and its deb-src twin.
        for f in "$list" "$parts"/*.list; do
            [ -f "$f" ] || continue
            sed -n -E '/^[[:space:]]*deb[[:space:]]/{p;s/deb/deb-src/;p}' "$f" \
                >"$APT_DIR/sources.list.d/$(basename "$f" .list).list"
        done
        # Stanza style: every stanza that offers packages offers sources too.
        for f in "$parts"/*.sources; do
            [ -f "$f" ] || continue
            sed -E 's/^Types:.*\bdeb\b.*/Types: deb deb-src/' "$f" \
                >"$APT_DIR/sources.list.d/$(basename "$f")"
        done
    fi
    {
        echo "Dir::Etc::SourceList \"/dev/null\";"
        echo "Dir::Etc::SourceParts \"$APT_DIR/sources.list.d\";"
        echo "Dir::State::Lists \"$APT_DIR/lists\";"
        echo "Dir::Cache \"$APT_DIR/cache\";"
        echo "APT::Sandbox::User \"root\";"
        echo "Acquire::Retries \"3\";"
        echo "Acquire::Languages \"none\";"
        echo "APT::Architectures { \"$(dpkg --print-architecture)\"; \"arm64\"; };"
    } >"$APT_DIR/apt.conf"
}

# Runs an apt tool under the private configuration.
apt_private() {
    env APT_CONFIG="$APT_DIR/apt.conf" LC_ALL=C "$@"
}

# Fetches the lists once per run. Third-party sources of the machine may lack source
# packages; what counts is whether the packages asked for are found afterwards.
apt_update_once() {
    [ -z "${APT_UPDATED-}" ] || return 0
    # shellcheck disable=SC2119
    apt_configure
    apt_private apt-get -q update >"$APT_DIR/update.log" 2>&1 || true
    APT_UPDATED=1
}
