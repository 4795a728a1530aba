"""`railwatch status` for people: one line for each rail, open work and readers."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from railwatch.ops.formatting import STYLES, format_age, format_time, printable_text
from railwatch.store.read_models import Record, Status


def render_status(status: Status) -> RenderableType:
    """Return the page, readable at 80 columns."""
    return Group(_rails(status.rails), *_reasons(status.rails), Text(), *_rest(status))


def _rails(rails: list[Record]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("rail", overflow="fold", max_width=20)
    for name in ("state", "cursor", "behind", "finalized", "changed"):
        table.add_column(name, justify="left" if name == "state" else "right", no_wrap=True)
    for rail in rails:
        state = shown_state(rail)
        numbers = (rail["cursor_height"], rail["behind"], rail["finalized_height"])
        table.add_row(
            printable_text(rail["name"]),
            Text(state, STYLES.get(state, "dim")),
            *("-" if each is None else str(each) for each in numbers),
            f"{format_age(rail['age'])} ago",
        )
    return table


def shown_state(rail: Record) -> str:
    """Return a rail's state, or `disabled` or `not followed` if no daemon updates its row."""
    if not rail["enabled"]:
        return "disabled"
    return str(rail["state"]) if rail["holder"] is not None or rail["state"] == "halted" else "not followed"


def _reasons(rails: list[Record]) -> Iterator[Text]:
    for rail in rails:
        if rail["reason"] and rail["enabled"]:
            yield Text(f"  {printable_text(rail['name'])}: {printable_text(rail['reason'])}", "yellow")
        if shown_state(rail) == "not followed":
            name = printable_text(rail["name"])
            yield Text(f"  {name}: no daemon follows it (it was {rail['state']}); start one: railwatch run", "yellow")


def quarantine_lines(invoice: Record, name: str) -> Iterator[Text]:
    """Return why the daemon cannot process an invoice, and the number of deferred transfers."""
    yield Text(
        f"  {name} cannot be processed on {printable_text(invoice['rail'])} since {format_time(invoice['since'])} UTC:",
        "red",
    )
    yield Text(f"    {printable_text(invoice['reason'])}")
    yield Text(
        f"    {invoice['deferred']} transfers deferred; retried {invoice['tries']} times, next at "
        f"{format_time(invoice['retry_at'])}; see docs/runbooks/exception-processing-failed.md"
    )


def _rest(status: Status) -> Iterator[Text]:
    watched = ", ".join(f"{count} {state}" for state, count in status.invoices.items()) or "none"
    yield Text.assemble(("invoices watched  ", "bold"), watched)
    if status.exceptions:
        kinds = [(f"{each['count']} {each['kind']}", STYLES.get(each["severity"], "")) for each in status.exceptions]
        yield Text.assemble(("exceptions open   ", "bold"), Text(", ").join(Text(*each) for each in kinds))
    else:
        yield Text.assemble(("exceptions open   ", "bold"), "none")
    if status.quarantine:
        yield Text.assemble(("in quarantine     ", "bold"), (f"{len(status.quarantine)}, see below", "red"))
    yield Text.assemble(("feed              ", "bold"), f"at {status.last_seq}")
    for each in status.consumers:
        yield Text(f"  {printable_text(each['name'])} acknowledged {each['position']}, {each['lag']} behind")
    for invoice in status.quarantine:
        yield from quarantine_lines(invoice, printable_text(f"{invoice['merchant_id']}/{invoice['order_id']}"))
    for each in status.rescans:
        until = "its head" if each["to_height"] is None else each["to_height"]
        yield Text(f"  rescan {each['id']} of {printable_text(each['rail'])}: at {each['next_height']}, until {until}")
        if each["error"] is not None:
            yield Text(f"    fails, retried {each['tries']} times: {printable_text(each['error'])}", "yellow")
