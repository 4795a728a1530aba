"""Mine on a development node: ``python -m railwatch_bitcoin.dev.auto_miner URL COOKIE ADDRESS START``.

bitcoind of regtest finds no block by itself, as anvil can. This program waits for the file START to appear, and then
makes a block every `BLOCK_SECONDS`, rewarded to ADDRESS, for as long as it lives. It imports nothing, to start at once.
"""

import base64
import json
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

BLOCK_SECONDS = 2.0
LOOK_SECONDS = 0.2
CALL_SECONDS = 30.0


def mine_forever(url: str, cookie: Path, address: str, start: Path) -> None:
    """Never return. Wait for a node that is down."""
    while not start.exists():
        time.sleep(LOOK_SECONDS)
    while True:
        try:
            mine(url, cookie, address)
        except OSError as away:
            print(f"no block: {away}", flush=True)
        time.sleep(BLOCK_SECONDS)


def mine(url: str, cookie: Path, address: str) -> None:
    """One block. Raises OSError."""
    body = json.dumps({"id": 0, "method": "generatetoaddress", "params": [1, address]}).encode()
    secret = base64.b64encode(cookie.read_bytes()).decode()
    request = urllib.request.Request(url, body, {"Authorization": f"Basic {secret}"})
    with urllib.request.urlopen(request, timeout=CALL_SECONDS) as answer:
        answer.read()


if __name__ == "__main__":
    mine_forever(sys.argv[1], Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
