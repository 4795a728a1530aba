"""Webhook endpoints and dead letters, for people."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from railwatch.ops.formatting import format_time, printable_text
from railwatch.store.read_models import Record


def render_endpoints(endpoints: list[Record]) -> RenderableType:
    """Return a table of endpoints, and the last failure of each that has had no success since."""
    if not endpoints:
        return Text("no endpoints; `railwatch deliver` creates them from [[webhook]] tables when it starts")
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("endpoint", overflow="fold")
    table.add_column("state")
    for name in ("unread", "pending", "dead", "accepted"):
        table.add_column(name, justify="right")
    table.add_column("last accepted", overflow="fold")
    for each in endpoints:
        numbers = (each["lag"], each["pending"], each["dead"], each["delivered"])
        table.add_row(
            printable_text(each["name"]),
            _state(each),
            *("-" if n is None else str(n) for n in numbers),
            format_time(each["last_delivered_at"]),
        )
    return Group(table, *(_trouble(each) for each in endpoints if _is_troubled(each)))


def _state(endpoint: Record) -> Text:
    if not endpoint["configured"]:
        return Text("not configured", "dim")
    if not endpoint["enabled"]:
        return Text("paused", "yellow")
    return Text("failing", "red") if _is_troubled(endpoint) else Text("ok", "green")


def _is_troubled(endpoint: Record) -> bool:
    failed, accepted = endpoint["last_failed_at"], endpoint["last_delivered_at"]
    return failed is not None and (accepted is None or failed > accepted)


def _trouble(endpoint: Record) -> Text:
    text = f"  {endpoint['name']}: {endpoint['last_failure']} (at {format_time(endpoint['last_failed_at'])})"
    return Text(printable_text(text), "yellow")


def render_dead(dead: list[Record]) -> RenderableType:
    """Return a table of dead letters: endpoint, event, order, attempts and the last failure."""
    if not dead:
        return Text("no dead letters")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("endpoint", "seq", "event", "merchant/order", "attempts", "last failure"):
        table.add_column(name, overflow="fold")
    for each in dead:
        order = f"{each['merchant_id']}/{each['order_id']}" if each["merchant_id"] is not None else "-"
        table.add_row(
            printable_text(each["endpoint"]),
            str(each["seq"]),
            printable_text(each["type"]),
            printable_text(order),
            str(each["attempts"]),
            printable_text(each["failure"]),
        )
    return table
