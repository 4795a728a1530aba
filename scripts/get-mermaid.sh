#!/usr/bin/env bash
# get-mermaid.sh DEST: the script that draws the site's diagrams, at DEST/mermaid.min.js, so that a reader's browser fetches nothing.
# The pinned npm package is packed (no script of it runs), its hash is compared, and one file of it is kept.
set -euo pipefail
DEST=$1
PACKAGE=mermaid@11.17.2
SHA512=57a2b70bc101744b0f1595d228c25eea9a50384371b87011afd1af1d7e21878ee501b84c443f6a7f8a042bb2e869143150b31af34feab798073bbdda0a578106

mkdir -p "$DEST"
command -v npm >/dev/null || {
    echo "get-mermaid: there is no npm; the site shows diagrams as text" >&2
    exit 1
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$work" && npm pack --silent "$PACKAGE" >/dev/null)
archive=$(ls "$work"/*.tgz)
echo "$SHA512  $archive" | sha512sum --check --quiet || {
    echo "get-mermaid: $PACKAGE is not the file that was pinned; nothing was installed" >&2
    exit 1
}
tar -xzf "$archive" -C "$work" package/dist/mermaid.min.js package/LICENSE
install -m 644 "$work/package/LICENSE" "$DEST/mermaid.LICENSE"
install -m 644 "$work/package/dist/mermaid.min.js" "$DEST/mermaid.min.js"
