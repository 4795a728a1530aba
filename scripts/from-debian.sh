#!/usr/bin/env bash
# from-debian.sh DEST PACKAGE PROGRAM SUITES: one program of a Debian package at DEST/bin/NAME, outside the system's folders.
# PROGRAM is its path in the package; each of SUITES, in quotes, is tried in turn: the last word of it holds the package,
# the words before it what that one builds on. Nothing is installed, nothing is run as root, and apt's own solver and
# signatures decide what comes: with libraries of its own, a newer program runs on an older system.
# The mirror is the one that this machine's apt uses.
set -euo pipefail
usage="from-debian: give DEST PACKAGE PROGRAM and at least one suite"
DEST=$(realpath -m "${1:?$usage}") PACKAGE=${2:?$usage} PROGRAM=${3:?$usage}
shift 3
NAME=$(basename "$PROGRAM")
KEYS=/usr/share/keyrings/debian-archive-keyring.gpg

fail() { echo "$NAME: $*; put a $NAME on PATH and run this again" >&2; exit 1; }

[ "$(uname -sm)" = "Linux x86_64" ] || fail "it can be had here for Linux x86_64 only, and this is $(uname -sm)"
for needed in apt-get dpkg-deb; do
    command -v $needed >/dev/null || fail "it comes from a Debian package, and there is no $needed here"
done
[ -r $KEYS ] || fail "Debian's keys are not at $KEYS, so nothing from there could be trusted"
MIRROR=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m1 '/debian/\?$' || true)}
[ -n "$MIRROR" ] || fail "this machine's apt names no Debian mirror (DEBIAN_MIRROR may name one)"

mkdir -p "$(dirname "$DEST")"
WORK=$(mktemp -d "$DEST.XXXXXX")
trap 'rm -rf "$WORK"' EXIT

# apt within $WORK: its own lists, an empty status (so that every library counts as missing), no sandbox user.
in_work() {
    local command=$1
    shift
    "$command" -qq -o Dir::Etc::SourceList="$WORK/sources.list" -o Dir::Etc::SourceParts=- \
        -o Dir::State::Lists="$WORK/lists" -o Dir::State::Status="$WORK/status" -o Dir::State::extended_states="$WORK/ext" \
        -o Dir::Cache="$WORK/cache" -o APT::Sandbox::User="$(id -un)" -o Acquire::Languages=none -o Acquire::Retries=2 \
        -o Acquire::http::Timeout=30 -o APT::Architecture=amd64 -o APT::Architectures=amd64 "$@"
}

unpack() { # SUITE...
    local suite=${!#} each libraries
    rm -rf "${WORK:?}"/* && mkdir -p "$WORK"/lists/partial "$WORK"/cache/archives/partial "$WORK"/debs "$WORK"/root "$WORK"/bin
    : > "$WORK/status"
    for each in "$@"; do echo "deb [arch=amd64 signed-by=$KEYS] $MIRROR $each main"; done > "$WORK/sources.list"
    in_work apt-get update || return 1
    libraries=$(in_work apt-get --simulate --no-install-recommends install "$PACKAGE/$suite" 2>/dev/null \
        | awk '/^Inst lib/ {print $2}') || return 1
    # shellcheck disable=SC2086 (a list of names)
    (cd "$WORK/debs" && in_work apt-get download "$PACKAGE/$suite" $libraries) || return 1
    for each in "$WORK"/debs/*.deb; do dpkg-deb -x "$each" "$WORK/root" || return 1; done
    [ -x "$WORK/root/$PROGRAM" ] || { echo "$NAME: $PACKAGE of $suite has no $PROGRAM" >&2; return 1; }
}

wrap() {
    local libraries=lib/x86_64-linux-gnu
    # Older suites keep libc, and with it the loader, outside of /usr.
    local loader
    loader=$(cd "$WORK/root" && find usr/$libraries lib -name ld-linux-x86-64.so.2 -path "*$libraries*" -print -quit 2>/dev/null) || true
    cat > "$WORK/bin/$NAME" <<WRAPPER
#!/bin/sh
# Debian's $PACKAGE with the libraries that it was built for, by their own loader.
here=\$(dirname "\$(dirname "\$(readlink -f "\$0")")")/root
exec "\$here/$loader" --library-path "\$here/usr/$libraries:\$here/$libraries" --argv0 "$NAME" "\$here/$PROGRAM" "\$@"
WRAPPER
    chmod 755 "$WORK/bin/$NAME"
}

for suites in "$@"; do
    # shellcheck disable=SC2086 (words are suites)
    unpack $suites || continue
    wrap
    version=$(HOME="$WORK" "$WORK/bin/$NAME" -version | head -n 1) || continue
    (cd "$WORK/debs" && sha256sum -- *.deb) > "$WORK/packages.sha256"
    rm -rf "${WORK:?}"/{debs,lists,cache,status,ext,sources.list} "$WORK"/root/usr/share/{doc,man,locale,info,lintian}
    chmod 755 "$WORK"
    # The old folder is renamed before it is removed: a node that runs keeps its files, and no moment lacks them all.
    if [ -e "$DEST" ]; then mv "$DEST" "$WORK.old"; fi
    mv "$WORK" "$DEST" && rm -rf "$WORK.old"
    echo "$version, from Debian's $PACKAGE (${suites##* })"
    exit 0
done
fail "none of these Debian suites brought one that runs: $(printf '"%s" ' "$@")"
