"""From the wire's dicts to the seam's values: pure, so that odd blocks can be tested without a node.

There are two kinds of bad input, because the daemon does different things next. An answer that is not whole or
has not the shape of an answer is the node's trouble, and heals: `RailUnavailable`. A whole block that holds something
this code cannot read is ours: going on would lose money without a word, so it is a `RailFault` with the block's hash.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from railwatch.rail import NO_RECIPIENT, AssetId, BlockRef, ChainId, RailFault, RailUnavailable, Transfer, Watches
from railwatch_fake.node import WireBlock, WireHeader, WireOutput, WireTx

TOKEN_NAMESPACE = "token"
NATIVE_ASSET = "slip44:1"
"""SLIP-44 keeps 1 for the coins of all test networks."""


def header(answer: WireHeader) -> BlockRef:
    """Return the block's name and place. Raises `RailUnavailable` for an answer of the wrong shape."""
    try:
        time = datetime.fromisoformat(answer["time"]).astimezone(UTC)
        return BlockRef(answer["height"], answer["hash"], answer["parent"], time)
    except (KeyError, TypeError, ValueError) as error:
        raise RailUnavailable(f"the node's answer is no header ({error!r}): {answer!r:.200}") from error


def block_transfers(answer: WireBlock, chain_id: ChainId, watches: Watches) -> list[Transfer]:
    """Return what the block pays to ``watches``, in chain order.

    Raises `RailUnavailable` for a block that is not whole, `RailFault` for one that cannot be read.
    """
    block = header(answer)
    if len(answer["txs"]) != answer["count"]:
        raise RailUnavailable(f"block {block.hash} has {answer['count']} transactions, but {len(answer['txs'])} came")
    return transfers(answer["txs"], block, chain_id, watches)


def transfers(txs: list[WireTx], block: BlockRef | None, chain_id: ChainId, watches: Watches) -> list[Transfer]:
    """Return what ``txs`` pay to ``watches``; ``block`` is None for the mempool. Raises `RailFault`."""
    try:
        # One question for all keys: asking the watch list in bulk is what keeps a block's cost flat
        # while the list grows to millions.
        watched = watches.hits({bytes.fromhex(out["to"]) for tx in txs for out in tx["outputs"]})
        return [transfer for tx in txs for transfer in _of_tx(tx, block, chain_id, watches, watched)]
    except (KeyError, TypeError, ValueError) as error:
        place = f"block {block.hash}" if block else "the mempool"
        raise RailFault(f"a transaction in {place} of {chain_id} cannot be read: {error!r}") from error


def _of_tx(
    tx: WireTx, block: BlockRef | None, chain_id: ChainId, watches: Watches, watched: set[bytes]
) -> Iterable[Transfer]:
    """Return the transaction's credits; without any, one to `NO_RECIPIENT` if it displaces a claimant."""
    common: dict[str, Any] = {
        "tx_id": tx["id"],
        "block": block,
        "spends": tuple(tx["spends"]),
        "rivals": _rivals(tx, watches),
        "maturity": tx["maturity"],
        "evidence": {"outputs": len(tx["outputs"]), "spends": tx["spends"][:8]},
    }
    found = [] if tx["failed"] else list(_credits(tx["outputs"], chain_id, watches, watched, common))
    if found or not common["rivals"]:
        return found
    # A failed transaction pays no one and appears only here: it has consumed its coins all the same.
    return [Transfer(tx_index="rival", to=NO_RECIPIENT, asset=_asset("", chain_id, watches), amount=0, **common)]


def _credits(
    outputs: list[WireOutput], chain_id: ChainId, watches: Watches, watched: set[bytes], common: dict[str, Any]
) -> Iterable[Transfer]:
    for place, out in enumerate(outputs):
        # Every amount is read, also unwatched ones: an unreadable block must not pass because
        # today's watch list happens to avoid the unreadable part.
        amount, to = int(out["amount"]), bytes.fromhex(out["to"])
        if amount == 0 or to not in watched or (not out["token"] and "" not in watches.assets):
            continue
        yield Transfer(
            # The place within the transaction, never within the block: it survives a reorg.
            tx_index=f"out:{place}",
            to=to,
            asset=_asset(out["token"], chain_id, watches),
            amount=amount,
            reference=out["reference"],
            raw=dict(out),
            **common,
        )


def _rivals(tx: WireTx, watches: Watches) -> tuple[str, ...]:
    """Return the other transactions among ``watches.spends`` that spend a coin which this one consumes."""
    claimed = {claimant for coin in tx["spends"] for claimant in watches.spends.get(coin, ())}
    return tuple(sorted(claimed - {tx["id"]}))


def _asset(token: str, chain_id: ChainId, watches: Watches) -> AssetId:
    """Return the configured asset, or the token's own id where it is not configured."""
    return watches.assets.get(token) or asset_id(chain_id, token)


def asset_id(chain_id: ChainId, token: str) -> AssetId:
    """CAIP-19 of a token, or of the native asset for ""."""
    return AssetId(f"{chain_id}/{TOKEN_NAMESPACE}:{token}" if token else f"{chain_id}/{NATIVE_ASSET}")


def token_of(asset: AssetId, chain_id: ChainId) -> str:
    """Return the contract of a configured token's id, or "" for the native asset."""
    return "" if asset == asset_id(chain_id, "") else asset.rsplit(":", 1)[1]
