"""Blocks as a node would report them, written by hand: what no program on a development node would do."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from solders.keypair import Keypair

from railwatch.conformance import WatchSet
from railwatch.rail import AssetId, ChainId, Transfer
from railwatch_solana.address import key_of
from railwatch_solana.decode import DecodeContext, block_transfers
from railwatch_solana.wire import Block, block_ref

CHAIN = ChainId("solana:story")
NATIVE = AssetId(f"{CHAIN}/slip44:501")
MINT, OTHER_MINT = str(Keypair().pubkey()), str(Keypair().pubkey())
TOKEN = AssetId(f"{CHAIN}/token:{MINT}")
PROGRAM, PROGRAM_2022 = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA", "TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb"
SHOP, PAYER, STRANGER = (str(Keypair().pubkey()) for _ in range(3))


def held(
    account: int, amount: object, *, owner: str = SHOP, mint: str = MINT, program: str = PROGRAM
) -> dict[str, Any]:
    """Return an entry of the token balances, whose ``uiAmount`` differs on purpose: no code may read it."""
    shown = {"amount": str(amount), "decimals": 6, "uiAmount": 12345.6, "uiAmountString": "12345.6"}
    return {"accountIndex": account, "mint": mint, "owner": owner, "programId": program, "uiTokenAmount": shown}


def tx(
    keys: Sequence[str],
    before: Sequence[int],
    after: Sequence[int],
    *,
    pre: Sequence[Mapping[str, Any]] = (),
    post: Sequence[Mapping[str, Any]] = (),
    err: object = None,
    version: object = "legacy",
    signature: str = "signature",
) -> dict[str, Any]:
    """Return a transaction, with its balances."""
    named = [{"pubkey": key, "signer": False, "source": "transaction", "writable": True} for key in keys]
    meta = {
        "err": err,
        "fee": 5000,
        "status": {"Ok": None},
        "preBalances": list(before),
        "postBalances": list(after),
        "preTokenBalances": list(pre),
        "postTokenBalances": list(post),
    }
    return {"transaction": {"signatures": [signature], "accountKeys": named}, "meta": meta, "version": version}


def block(*transactions: Mapping[str, Any]) -> dict[str, Any]:
    """Return a block of slot 7 with these."""
    return {
        "blockhash": "hash",
        "previousBlockhash": "parent",
        "parentSlot": 6,
        "blockTime": 1_700_000_000,
        "blockHeight": 5,
        "transactions": list(transactions),
    }


def transfers_of(
    *transactions: Mapping[str, Any], watched: Sequence[str] = (SHOP,), native: bool = True
) -> list[Transfer]:
    """Return what such a block pays to those watches."""
    assets = {MINT: TOKEN, **({"": NATIVE} if native else {})}
    watches = WatchSet(frozenset(key_of(each) for each in watched), assets)
    decoded = msgspec.json.decode(msgspec.json.encode(block(*transactions)), type=Block)
    return block_transfers(decoded, block_ref(7, decoded), DecodeContext(CHAIN, "node", watches))


def credits(*transactions: Mapping[str, Any], watched: Sequence[str] = (SHOP,)) -> list[tuple[str, AssetId, int]]:
    """(tx_index, asset, amount) of what it says."""
    return [(each.tx_index, each.asset, each.amount) for each in transfers_of(*transactions, watched=watched)]
