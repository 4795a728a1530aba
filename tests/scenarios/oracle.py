"""What the tables must say, worked out from the chain alone and as simply as possible: no cursor, no history."""

from dataclasses import dataclass, field
from typing import Any

from adapters.fake import FakeChain, address
from tests.scenarios.stage import Placed, Stage


@dataclass(slots=True)
class Paid:
    """What one address has been sent, as the chain stands."""

    in_block: dict[tuple[str, str], tuple[int, str, int]] = field(default_factory=dict)
    """(tx, output) -> height, hash, amount."""
    waiting: dict[tuple[str, str], int] = field(default_factory=dict)


def paid_to(chain: FakeChain, text: str) -> Paid:
    """Every live credit of the native asset to an address."""
    key, paid = address.parse(text).key, Paid()
    for block in chain.line:
        for tx in block.txs:
            for place, out in enumerate(tx.outputs):
                if out.to == key and not out.token and not tx.failed:
                    paid.in_block[tx.id, f"out:{place}"] = (block.height, block.hash, out.amount)
    if chain.rules.mempool:
        for tx in chain.waiting.values():
            for place, out in enumerate(tx.outputs):
                if out.to == key and not out.token and not tx.failed:
                    paid.waiting[tx.id, f"out:{place}"] = out.amount
    return paid


def state_of(paid: Paid, tip: int, expected: int, confirmations: int) -> str:
    """The state of an invoice whose window is open."""
    deep = sum(amount for height, _, amount in paid.in_block.values() if tip - height + 1 >= confirmations)
    if deep >= expected:
        return "overpaid" if deep > expected else "paid"
    if sum(amount for _, _, amount in paid.in_block.values()) + sum(paid.waiting.values()) > deep:
        return "confirming" if paid.in_block else "detected"
    return "underpaid" if deep else "created"


async def check(stage: Stage, placed: dict[Placed, int], chain: FakeChain | None = None) -> None:
    """Compare everything that was told about ``placed`` (invoice: amount asked for) with the chain."""
    chain = chain or stage.chain
    wrong: list[Any] = []
    rows = await stage.database.rows("select * from railwatch.detections")
    for invoice, expected in placed.items():
        paid = paid_to(chain, invoice.address)
        ours = [row for row in rows if row["invoice_id"] == invoice.id]
        told = {
            (row["tx_id"], row["tx_index"]): (row["block_height"], row["block_hash"], int(row["amount"]))
            for row in ours
            if row["state"] in ("included", "confirmed", "final")
        }
        pending = {(row["tx_id"], row["tx_index"]): int(row["amount"]) for row in ours if row["state"] == "pending"}
        state = await stage.state(invoice)
        should = state_of(paid, chain.tip.height, expected, stage.confirmations)
        if (told, pending, state) != (paid.in_block, paid.waiting, should):
            wrong.append((invoice.address, state, should, told, paid.in_block, pending, paid.waiting))
    assert not wrong, wrong
    await stage.audit()


async def settles(stage: Stage, placed: dict[Placed, int], chain: FakeChain | None = None) -> None:
    """Wait until everything is as the chain says; what the mempool holds may take a poll."""
    await stage.all_taken_in()
    await stage.follows()

    async def is_exact() -> bool:
        try:
            await check(stage, placed, chain)
        except AssertionError:
            return False
        return True

    try:
        await stage.until(is_exact)
    except AssertionError:
        await check(stage, placed, chain)
        raise
