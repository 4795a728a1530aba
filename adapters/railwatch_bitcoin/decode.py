"""From blocks and waiting transactions to transfers: match first, decode after. Pure.

A transaction claims the coins it spends and, as long as they are not settled, those that its ancestors spend: what
replaces an ancestor replaces it too. The claims of live detections come back as ``Watches.spends``, and a transaction
that spends a claimed coin displaces its claimants.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from railwatch.rail import NO_RECIPIENT, AssetId, BlockRef, Transfer, Watches
from railwatch_bitcoin.address import script_address
from railwatch_bitcoin.block import Block
from railwatch_bitcoin.chains import Chain
from railwatch_bitcoin.encoding import outpoint
from railwatch_bitcoin.wire import Tx, TxKind

OWN_CLAIMS = 1_000
"""Inputs of one transaction that are claimed: more than any payment has, less than a block can hold."""
CLAIMS = 100
"""Claims of a transaction's ancestors that are searched for: four times what nodes relay as a chain."""
SHOWN_INPUTS = 8

Parent = Callable[[str], Tx | None]
"""Finds an ancestor that is in no earlier block, by transaction id; None for what is settled or not known."""


@dataclass(frozen=True, slots=True)
class DecodeContext:
    """What decoding needs to know in addition to the content: whose chain, which node, which addresses are watched."""

    chain: Chain
    node: str
    watches: Watches

    @property
    def native(self) -> AssetId:
        """The chain's own coin, under its configured id where there is one."""
        return self.watches.assets.get("") or AssetId(f"{self.chain.id}/{self.chain.native_asset}")


def block_transfers(block: Block, ref: BlockRef, context: DecodeContext) -> list[Transfer]:
    """Every credit to a watched script, and every transaction that displaces a claimant, in chain order."""
    watched = context.watches.hits(block.scripts)
    places = {block.payer(at) for at, script in enumerate(block.scripts) if script in watched} if watched else set()
    places |= _conflicting(block, context.watches)
    return [
        transfer for place in sorted(places) for transfer in _of_tx(block.tx(place), ref, block.find, watched, context)
    ]


def pending_transfers(txs: Sequence[Tx], parent: Parent, context: DecodeContext) -> list[Transfer]:
    """Return the same for unconfirmed transactions, in order. ``parent`` finds their unconfirmed ancestors."""
    watched = context.watches.hits(output.script for tx in txs for output in tx.outputs)
    return [transfer for tx in txs for transfer in _of_tx(tx, None, parent, watched, context)]


def claims(tx: Tx, parent: Parent) -> tuple[str, ...]:
    """Return the coins that ``tx`` claims: its own first, then its parents', then theirs; bounded.

    An ancestor is only reached through a coin that is claimed already. So a transaction that sees one of its coins
    among the claims finds one of its outputs there too, and recognises an ancestor.
    """
    found = dict.fromkeys(tx.inputs[:OWN_CLAIMS])
    limit = len(found) + CLAIMS
    queue = deque(found)
    seen: set[str] = set()
    while queue and len(found) < limit:
        ancestor_id = queue.popleft().partition(":")[0]
        if ancestor_id in seen:
            continue
        seen.add(ancestor_id)
        ancestor = parent(ancestor_id)
        fresh = [coin for coin in ancestor.inputs if coin not in found] if ancestor else []
        fresh = fresh[: limit - len(found)]
        found.update(dict.fromkeys(fresh))
        queue.extend(fresh)
    return tuple(found)


def displaced(tx: Tx, watches: Watches) -> tuple[str, ...]:
    """Return the claimants that ``tx`` displaces: those that claim a coin of it, without itself and its descendants.

    Who claims one of its own outputs descends from it, and claims its coins for that reason only.
    """
    spends = watches.spends
    rivals = {claimant for coin in tx.inputs for claimant in spends.get(coin, ())} - {tx.id}
    if rivals:
        rivals -= {heir for place in range(len(tx.outputs)) for heir in spends.get(f"{tx.id}:{place}", ())}
    return tuple(sorted(rivals))


def _conflicting(block: Block, watches: Watches) -> set[int]:
    """Return the indexes of transactions that spend a claimed coin."""
    spends = watches.spends
    if not spends:
        return set()
    return {block.spender(at) for at, coin in enumerate(block.coins) if outpoint(coin) in spends}


def _of_tx(
    tx: Tx, block: BlockRef | None, parent: Parent, watched: set[bytes], context: DecodeContext
) -> Iterable[Transfer]:
    """Return the transaction's credits; without any, one to `NO_RECIPIENT` if it displaces a claimant."""
    paid = list(_credits(tx, watched)) if "" in context.watches.assets else []
    rivals = displaced(tx, context.watches)
    if not paid and not rivals:
        return []
    common: dict[str, Any] = {
        "tx_id": tx.id,
        "asset": context.native,
        "block": block,
        "spends": claims(tx, parent),
        "rivals": rivals,
        "maturity": _maturity(tx, context.chain),
    }
    facts = _facts(tx, context)
    if not paid:
        return [Transfer(tx_index="rival", to=NO_RECIPIENT, amount=0, evidence=facts, **common)]
    return [
        Transfer(
            tx_index=f"vout:{vout}",
            to=script,
            amount=amount,
            evidence={**facts, "vout": vout, **_place_facts(script, token, context.chain)},
            **common,
        )
        for vout, script, amount, token in paid
    ]


def _credits(tx: Tx, watched: set[bytes]) -> Iterator[tuple[int, bytes, int, str | None]]:
    """(vout, script, amount, token) of each output to a watched script that moves anything.

    A HogEx's first output is what MWEB holds, carried on from block to block (B12): it is no payment.
    """
    for vout, output in enumerate(tx.outputs):
        carried = tx.kind is TxKind.HOGEX and vout == 0
        if output.amount and output.script in watched and not carried:
            yield vout, output.script, output.amount, output.token


def _maturity(tx: Tx, chain: Chain) -> int:
    """B7: the least depth at which what the transaction pays may be spent, and may count."""
    if tx.kind is TxKind.COINBASE:
        return chain.coinbase_maturity
    return chain.pegout_maturity if tx.kind is TxKind.HOGEX else 1


def _facts(tx: Tx, context: DecodeContext) -> dict[str, Any]:
    return {
        "node": context.node,
        "kind": tx.kind.value,
        "size": tx.size,
        "replaceable": tx.replaceable,
        "input_count": len(tx.inputs),
        "inputs": list(islice(tx.inputs, SHOWN_INPUTS)),
    }


def _place_facts(script: bytes, token: str | None, chain: Chain) -> dict[str, Any]:
    facts = {"address": script_address(script, chain), "token": token}
    return {name: value for name, value in facts.items() if value is not None}
