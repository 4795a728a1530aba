"""A node that serves blocks of real shape as fast as they are asked for: no machine behind it, only bytes.

``python -m tests.bench.solana_replay TXS`` prints ``ready URL BYTES``. ``benchTip`` sets the newest slot, ``benchPace``
lets it rise by one every so many seconds. Every thirteenth slot is skipped. All blocks have the same transactions.
"""

import asyncio
import hashlib
import json
import random
import sys
import time
from typing import Any

from aiohttp import web
from solders.pubkey import Pubkey

VOTE_SHARE, FAILED_SHARE = 0.45, 0.2
"""Of all transactions, and of those that are no votes."""
KEYS, TOKENS = 15, 4
"""Accounts of a transaction, and how many of them hold tokens, as seen on mainnet in the middle."""
HOT = 400
"""Programs, pools and makers that are in transaction after transaction; half of all accounts."""
FINALIZED_LAG = 31
VOTE = "Vote111111111111111111111111111111111111111"
PROGRAM = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"


def transactions(count: int, seed: int = 1) -> list[dict[str, Any]]:
    """As `getBlock` returns them with ``transactionDetails: accounts``."""
    chance = random.Random(seed)
    hot = [_key(chance) for _ in range(HOT)]
    return [_vote(chance) if chance.random() < VOTE_SHARE else _swap(chance, hot) for _ in range(count)]


def _key(chance: random.Random) -> str:
    return str(Pubkey.from_bytes(chance.randbytes(32)))


def _swap(chance: random.Random, hot: list[str]) -> dict[str, Any]:
    """What most of the others are: an exchange of tokens by way of some pools; or an attempt at one."""
    keys = [_key(chance) if place == 0 or chance.random() < 0.5 else chance.choice(hot) for place in range(KEYS)]
    before = [chance.randrange(10**6, 10**11) for _ in keys]
    failed = chance.random() < FAILED_SHARE
    after = [before[0] - 5000, *before[1:]]
    if not failed:
        for place in chance.sample(range(1, KEYS), 4):
            after[place] += chance.choice((-1, 1)) * chance.randrange(1, 10**6)
    owners = [
        (place, chance.choice(hot), chance.choice((keys[0], chance.choice(hot)))) for place in range(2, 2 + TOKENS)
    ]
    held = [[_held(*owner, chance.randrange(10**12)) for owner in owners] for _ in range(2)]
    err = {"InstructionError": [2, {"Custom": 6001}]} if failed else None
    return _tx(chance, keys, before, after, held, err)


def _vote(chance: random.Random) -> dict[str, Any]:
    balance = chance.randrange(10**9, 10**12)
    keys = [_key(chance), _key(chance), VOTE]
    return _tx(chance, keys, [balance, balance, 1], [balance - 5000, balance, 1], [[], []], None)


def _tx(
    chance: random.Random, keys: list[str], before: list[int], after: list[int], held: list[list[Any]], err: Any
) -> dict[str, Any]:
    named = [
        {"pubkey": key, "signer": not at, "source": "transaction", "writable": at < 9} for at, key in enumerate(keys)
    ]
    signature = _key(chance) + _key(chance)
    meta = {
        "err": err,
        "fee": 5000,
        "postBalances": after,
        "postTokenBalances": held[1],
        "preBalances": before,
        "preTokenBalances": held[0],
        "status": {"Ok": None} if err is None else {"Err": err},
    }
    return {"meta": meta, "transaction": {"accountKeys": named, "signatures": [signature[:88]]}, "version": 0}


def _held(account: int, mint: str, owner: str, amount: int) -> dict[str, Any]:
    shown = {"amount": str(amount), "decimals": 6, "uiAmount": amount / 1e6, "uiAmountString": str(amount / 1e6)}
    return {"accountIndex": account, "mint": mint, "owner": owner, "programId": PROGRAM, "uiTokenAmount": shown}


class Replay:
    """Slots, and what is in all of them."""

    def __init__(self, count: int) -> None:
        self._body = b',"transactions":' + json.dumps(transactions(count), separators=(",", ":")).encode() + b"}"
        self._tip, self._pace, self._since = 100, 0.0, time.monotonic()

    @property
    def size(self) -> int:
        """Bytes of a block."""
        return len(self._body)

    def answer(self, call: dict[str, Any]) -> bytes:
        """One reply."""
        result = self._result(call["method"], call.get("params") or [])
        if result is None:
            error = {"code": -32007, "message": "Slot was skipped, or missing due to ledger jump"}
            return json.dumps({"jsonrpc": "2.0", "id": call["id"], "error": error}).encode()
        return b'{"jsonrpc":"2.0","id":%d,"result":%s}' % (call["id"], result)

    def _result(self, method: str, params: list[Any]) -> bytes | None:
        if method == "getBlock":
            return self._block(params[0], bare=params[1]["transactionDetails"] == "none")
        result: Any
        match method:
            case "getGenesisHash":
                result = _hash(0)
            case "getHealth":
                result = "ok"
            case "getSlot":
                result = self._slot(0)
            case "getLatestBlockhash":
                slot = self._slot(FINALIZED_LAG if params[0]["commitment"] == "finalized" else 0)
                result = {"context": {"slot": slot}, "value": {"blockhash": _hash(slot), "lastValidBlockHeight": 0}}
            case "getBlocks":
                result = [slot for slot in range(params[0], min(params[1], self._slot(0)) + 1) if _has_block(slot)]
            case "getTokenAccountsByOwner":
                result = {"context": {"slot": self._slot(0)}, "value": []}
            case "getAccountInfo":
                result = {"context": {"slot": self._slot(0)}, "value": None}
            case "getSignaturesForAddress":
                result = []
            case "benchTip":
                self._tip, self._pace = params[0], 0.0
                result = self._tip
            case "benchPace":
                self._tip, self._pace, self._since = self._slot(0), params[0], time.monotonic()
                result = self._tip
            case _:
                result = 0
        return json.dumps(result).encode()

    def _slot(self, lag: int) -> int:
        slot = self._tip - lag
        if self._pace:
            slot += int((time.monotonic() - self._since) / self._pace)
        return slot if _has_block(slot) else slot - 1

    def _block(self, slot: int, *, bare: bool) -> bytes | None:
        if not _has_block(slot) or slot > self._slot(0):
            return None
        parent = max(slot - 1 if _has_block(slot - 1) else slot - 2, 0)
        head = {
            "blockHeight": slot,
            "blockTime": int(time.time()),
            "blockhash": _hash(slot),
            "parentSlot": parent,
            "previousBlockhash": _hash(parent),
        }
        text = json.dumps(head).encode()
        return text if bare else text[:-1] + self._body


def _has_block(slot: int) -> bool:
    return slot == 0 or slot % 13 != 0


def _hash(slot: int) -> str:
    return str(Pubkey.from_bytes(hashlib.sha256(b"%d" % slot).digest()))


def genesis() -> str:
    """The replay's genesis hash."""
    return _hash(0)


async def main(count: int) -> None:
    """Serve until ended."""
    replay = Replay(count)

    async def serve(request: web.Request) -> web.Response:
        calls = json.loads(await request.read())
        if isinstance(calls, dict):
            return web.Response(body=replay.answer(calls), content_type="application/json")
        replies = b",".join(replay.answer(call) for call in calls)
        return web.Response(body=b"[" + replies + b"]", content_type="application/json")

    app = web.Application()
    app.router.add_post("/", serve)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"ready http://127.0.0.1:{runner.addresses[0][1]} {replay.size}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
