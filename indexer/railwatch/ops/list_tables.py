"""Lists for people: invoices, exceptions and rescans. `explain` accepts the name in each row."""

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from railwatch.ops.formatting import STYLES, format_amount, format_time, printable_text
from railwatch.store.read_models import Record


def render_invoices(invoices: list[Record]) -> RenderableType:
    """Return a table of merchant and order, state and times; an exclamation mark for open exceptions."""
    if not invoices:
        return Text("no invoices")
    table = _table("merchant/order", "state", "", "registered", "window to")
    for each in invoices:
        table.add_row(
            printable_text(f"{each['merchant_id']}/{each['order_id']}"),
            Text(each["state"], STYLES.get(each["state"], "")),
            Text("!" * bool(each["exceptions"]), "red"),
            format_time(each["created_at"]),
            format_time(each["expires_at"]),
        )
    return table


def render_exceptions(exceptions: list[Record]) -> RenderableType:
    """Return a table of the first digits of the id, kind, severity, invoice and time."""
    if not exceptions:
        return Text("no exceptions")
    table = _table("id", "exception", "severity", "merchant/order", "invoice is", "opened", "holds")
    for each in exceptions:
        table.add_row(
            str(each["id"])[:8],
            each["kind"] + ("" if each["resolved_at"] is None else " (resolved)"),
            Text(each["severity"], STYLES.get(each["severity"], "")),
            printable_text(f"{each['merchant_id']}/{each['order_id']}"),
            Text(each["invoice_state"], STYLES.get(each["invoice_state"], "")),
            format_time(each["opened_at"]),
            "" if each["asset"] is None else f"{each['transfers']}: {format_amount(each, 'amount')}",
        )
    return table


def render_rescans(rescans: list[Record]) -> RenderableType:
    """Return a table of rescans, open ones first: range, progress, outcome and error."""
    if not rescans:
        return Text("no rescans")
    table = _table("id", "rail", "from", "to", "next", "found", "is", "why")
    for rescan in rescans:
        table.add_row(
            str(rescan["id"]),
            printable_text(rescan["rail"]),
            str(rescan["from_height"]),
            "head" if rescan["to_height"] is None else str(rescan["to_height"]),
            str(rescan["next_height"]),
            str(rescan["found"]),
            rescan["outcome"],
            printable_text(rescan["error"] or ""),
        )
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, overflow="fold")
    return table
