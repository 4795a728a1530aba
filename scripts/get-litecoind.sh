#!/usr/bin/env bash
# get-litecoind.sh DEST: a litecoind for regtest, at DEST/bin/litecoind. One on PATH, or of an installed package, is
# used as it is. Otherwise it is Debian's litecoind, unpacked outside the system's folders.
set -euo pipefail
DEST=${1:?get-litecoind: give the folder to put it into}
if found=$(PATH="$PATH:/usr/lib/litecoin" command -v litecoind) && [ "$found" != "$(realpath -m "$DEST/bin/litecoind")" ]; then
    "$found" -version | head -n 1
    mkdir -p "$DEST/bin"
    printf '#!/bin/sh\nexec "%s" "$@"\n' "$found" > "$DEST/bin/litecoind.new"
    chmod 755 "$DEST/bin/litecoind.new"
    mv "$DEST/bin/litecoind.new" "$DEST/bin/litecoind"
    exit 0
fi
"$(dirname "$0")/from-debian.sh" "$DEST" litecoind usr/lib/litecoin/litecoind bookworm sid
