#!/usr/bin/env bash
# get-bitcoind.sh DEST: a bitcoind for regtest, at DEST/bin/bitcoind. A bitcoind on PATH is used as it is.
# Otherwise it is Debian's bitcoin-knots (derived from Bitcoin Core), unpacked outside the system's folders.
set -euo pipefail
DEST=${1:?get-bitcoind: give the folder to put it into}
if found=$(command -v bitcoind) && [ "$found" != "$(realpath -m "$DEST/bin/bitcoind")" ]; then
    "$found" -version | head -n 1
    mkdir -p "$DEST/bin"
    printf '#!/bin/sh\nexec "%s" "$@"\n' "$found" > "$DEST/bin/bitcoind.new"
    chmod 755 "$DEST/bin/bitcoind.new"
    mv "$DEST/bin/bitcoind.new" "$DEST/bin/bitcoind"
    exit 0
fi
"$(dirname "$0")/from-debian.sh" "$DEST" bitcoin-knots usr/bin/bitcoind "trixie trixie-backports" forky sid
