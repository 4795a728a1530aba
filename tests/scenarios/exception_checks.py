"""Open and resolved exceptions of an invoice, a person's resolution, and time that is set back."""

from railwatch_fake import node_of
from tests.scenarios.daemon_harness import DaemonHarness, Placed


async def cases(stage: DaemonHarness, invoice: Placed) -> list[tuple[str, int, str | None]]:
    """(kind, round, resolution) of all rows, oldest first."""
    rows = await stage.database.rows(
        "select kind, round, resolution from railwatch.exceptions where invoice_id = $1 order by opened_at, round",
        invoice.id,
    )
    return [(row["kind"], row["round"], row["resolution"]) for row in rows]


async def wait_for_open(stage: DaemonHarness, invoice: Placed, *kinds: str) -> None:
    """Wait until exactly those are open."""

    async def is_so() -> bool:
        return await stage.open_cases(invoice) == set(kinds)

    await stage.until(is_so, lambda: stage.open_cases(invoice))


async def resolve(stage: DaemonHarness, invoice: Placed, kind: str) -> None:
    """A person's word, as `resolve_exception` puts it in."""
    await stage.database.value(
        "update railwatch.exceptions set resolved_at = now(), resolution = 'settled by ann', owner = 'ann' "
        "where invoice_id = $1 and kind = $2 and resolved_at is null",
        invoice.id,
        kind,
    )


async def age(stage: DaemonHarness, invoice: Placed, interval: str = "3 hours") -> None:
    """The invoice has been as it is for so long."""
    await stage.database.value(
        f"update railwatch.invoices set state_since = now() - interval '{interval}' where id = $1", invoice.id
    )


async def blind(stage: DaemonHarness, name: str | None = None) -> None:
    """The rail's node is away, and has been for an hour, which all invoices have lived through."""
    node_of(name or stage.chain.name).down = True
    await stage.rail_is("stalled", name)
    await stage.database.value(
        "update railwatch.rails set covered_until = now() - interval '1 hour' where name = $1", name or stage.chain.name
    )
    await stage.database.value("update railwatch.invoices set created_at = created_at - interval '1 hour'")
