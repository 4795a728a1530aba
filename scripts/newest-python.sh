#!/usr/bin/env bash
# Print the newest supported Python above 3.11 that this machine has. Fail if it has none.
set -euo pipefail
for version in 3.13 3.12; do
    for python in "python$version" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/"python$version"; do
        # A shim of pyenv exists even where it starts nothing.
        if "$python" -c '' 2>/dev/null; then command -v "$python"; exit; fi
    done
done
echo "No Python 3.12 or 3.13 here: install one, such as with apt or pyenv." >&2
exit 1
