"""What the tables must say, worked out from the chain alone and as simply as possible: no cursor, no history."""

from dataclasses import dataclass, field
from typing import Any

from railwatch_fake import FakeChain, address
from tests.scenarios.daemon_harness import DaemonHarness, Placed


@dataclass(slots=True)
class Paid:
    """What one address has been sent on the present chain."""

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


@dataclass(frozen=True, slots=True)
class Decided:
    """What people decided about an invoice, as the feed has it."""

    closed: str | None
    """`cancelled` or `refunded`; no fact of the chain undoes that."""
    held: bool
    sold: bool
    """The feed once had it as paid."""
    refunded: int


async def decided(stage: DaemonHarness, invoice: Placed) -> Decided:
    """Read from the feed and the refunds, not from the invoice."""
    states = [state for state, _ in await stage.path(invoice)]
    given_back = "select coalesce(sum(amount), 0) from railwatch.refunds where invoice_id = $1"
    return Decided(
        closed=next((state for state in reversed(states) if state in ("cancelled", "refunded")), None),
        held=states[-1] == "flagged",
        sold=not {"paid", "overpaid", "late_paid"}.isdisjoint(states),
        refunded=int(await stage.database.value(given_back, invoice.id)),
    )


async def came_after_the_end(stage: DaemonHarness, invoice: Placed) -> set[tuple[str, str]]:
    """Transfers that were new, or had been given up and were back, after the invoice was closed for good."""
    rows = await stage.database.rows(
        """
        select distinct x.tx_id, x.tx_index
        from railwatch.transitions t join railwatch.detections x on x.id = t.subject_id
        where t.invoice_id = $1 and coalesce(t.from_state, 'dropped') in ('dropped', 'replaced')
          and t.to_state in ('pending', 'included', 'final')
          and t.seq > (select min(c.seq) from railwatch.transitions c where c.invoice_id = t.invoice_id
                       and c.subject = 'invoice' and c.to_state in ('cancelled', 'refunded'))""",
        invoice.id,
    )
    return {(row["tx_id"], row["tx_index"]) for row in rows}


def alarms_of(paid: Paid, counted: str, what: Decided, unexpected: set[tuple[str, str]]) -> set[tuple[str, str | None]]:
    """(kind, transaction) of what must be open, held or not: about money that is gone, and unexpected money."""
    alarms: set[tuple[str, str | None]] = {("unexpected_payment", tx) for tx, _ in unexpected & set(paid.in_block)}
    sold = what.sold and what.closed != "refunded" and counted not in ("paid", "overpaid")
    if sold or sum(amount for _, _, amount in paid.in_block.values()) < what.refunded:
        alarms.add(("reversed", None))
    return alarms


def without(paid: Paid, some: set[tuple[str, str]]) -> Paid:
    """The same, but for some transfers."""
    return Paid(
        {key: value for key, value in paid.in_block.items() if key not in some},
        {key: value for key, value in paid.waiting.items() if key not in some},
    )


async def check(stage: DaemonHarness, placed: dict[Placed, int], chain: FakeChain | None = None) -> None:
    """Compare everything that was emitted about ``placed`` (invoice: amount asked for) with the chain."""
    chain = chain or stage.chain
    wrong: list[Any] = []
    rows = await stage.database.rows("select * from railwatch.detections")
    for invoice, expected in placed.items():
        paid = paid_to(chain, invoice.address)
        ours = [row for row in rows if row["invoice_id"] == invoice.id]
        emitted = {
            (row["tx_id"], row["tx_index"]): (row["block_height"], row["block_hash"], int(row["amount"]))
            for row in ours
            if row["state"] in ("included", "confirmed", "final")
        }
        pending = {(row["tx_id"], row["tx_index"]): int(row["amount"]) for row in ours if row["state"] == "pending"}
        state = await stage.state(invoice)
        what = await decided(stage, invoice)
        unexpected = await came_after_the_end(stage, invoice)
        kinds = {(row["tx_id"], row["tx_index"]) for row in ours if row["kind"] == "unexpected"}
        counted = state_of(without(paid, unexpected), chain.tip.height, expected, stage.confirmations)
        should = "flagged" if what.held else what.closed or counted
        if (emitted, pending, state) != (paid.in_block, paid.waiting, should):
            wrong.append((invoice.address, state, should, emitted, paid.in_block, pending, paid.waiting))
        if kinds != unexpected:
            wrong.append((invoice.address, kinds, unexpected, what))
        alarms, opened = alarms_of(paid, counted, what, unexpected), await open_exceptions(stage, invoice)
        opened = {each for each in opened if each[0] == "reversed" or each in alarms}
        if opened != alarms:
            wrong.append((invoice.address, opened, alarms, what, counted))
    assert not wrong, wrong
    await stage.audit()


async def open_exceptions(stage: DaemonHarness, invoice: Placed) -> set[tuple[str, str | None]]:
    """(kind, transaction) of exceptions that have not ended."""
    rows = await stage.database.rows(
        "select e.kind, x.tx_id from railwatch.exceptions e "
        "left join railwatch.exception_transfers t on t.exception_id = e.id and t.left_at is null "
        "left join railwatch.detections x on x.id = coalesce(t.detection_id, e.detection_id) "
        "where e.invoice_id = $1 and e.ended_at is null",
        invoice.id,
    )
    return {(row["kind"], row["tx_id"]) for row in rows}


async def settles(stage: DaemonHarness, placed: dict[Placed, int], chain: FakeChain | None = None) -> None:
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
