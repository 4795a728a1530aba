"""A ledger in lines for people: the same text each time, whatever the terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

Record = Mapping[str, Any]


def render_ledger(ledger: Record) -> str:
    """Return the ledger of `railwatch.store.ledger.read_ledger` as text that ends with a line break."""
    return "\n".join([*_rail(ledger["rail"]), *(line for each in ledger["invoices"] for line in _invoice(each))]) + "\n"


def _rail(rail: Record | None) -> Iterator[str]:
    if rail is None:
        return
    reason = f": {rail['reason']}" if rail["reason"] else ""
    yield f"rail {rail['name']} ({rail['chain_id']}) {rail['state']}{reason}"
    yield f"  cursor {rail['cursor_height']} {rail['cursor_hash']}, finalized {_or_none(rail['finalized_height'])}"


def _invoice(invoice: Record) -> Iterator[str]:
    yield ""
    yield f"invoice {invoice['merchant_id']}/{invoice['order_id']}: {invoice['state']}"
    for each in invoice["destinations"]:
        amounts = (
            f"expected {each['expected_amount']}, seen {each['seen_amount']}, confirmed {each['confirmed_amount']}"
        )
        late = f", late {each['late_amount']}" if each["late_amount"] != "0" else ""
        why = f" ({each['watch_error']})" if each["watch_error"] else ""
        yield f"  to {each['address']} {each['asset']} {each['watch_state']}{why}: {amounts}{late}"
    for each in invoice["transitions"]:
        block = "" if each["block_height"] is None else f" block {each['block_height']}"
        tx = "" if each["tx_id"] is None else f" {each['tx_id']}"
        begun = "" if each["from_state"] is None else f"{each['from_state']} -> "
        yield f"  {each['at']:10.3f} s  {each['subject']} {begun}{each['to_state']} ({each['reason']}){block}{tx}"
    for each in invoice["detections"]:
        what = f"{each['amount']} {each['asset']} {each['kind']} {each['state']}"
        yield f"  transfer {each['tx_id']} {each['tx_index']}: {what}, block {_or_none(each['block_height'])}"
    for each in invoice["exceptions"]:
        end = "open" if each["resolved_at"] is None else f"resolved: {each['resolution']}"
        yield f"  exception {each['kind']} ({each['severity']}) {end}"


def _or_none(value: Any) -> str:
    return "none" if value is None else str(value)
