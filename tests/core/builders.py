"""Small builders for the core's tests: assets, times, invoices, destinations and transfers."""

from datetime import UTC, datetime, timedelta

from railwatch.core.ids import derived_id
from railwatch.core.model import DelayLimits, Destination, Invoice, TimeBasis
from railwatch.core.policy import Policy
from railwatch.core.states import InvoiceState
from railwatch.rail.types import AssetId, Transfer

RAIL = "testnet"
COIN = AssetId("test:1/slip44:1")
TOKEN = AssetId("test:1/erc20:0xaa")
UNKNOWN = AssetId("test:1/erc20:0xff")
CONFIGURED = {COIN: 0, TOKEN: 0}


def minute(n: float) -> datetime:
    """``n`` minutes into the story."""
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=n)


def destination(
    name: str = "order",
    expected: int = 100,
    policy: Policy | None = None,
    asset: AssetId = COIN,
    rail: str = RAIL,
    watching: bool = True,
    delay_limits: DelayLimits | None = None,
) -> Destination:
    """One way to pay; its address is its id."""
    identity = derived_id(f"destination/{name}/{rail}/{asset}")
    return Destination(
        identity, rail, asset, expected, policy or Policy(1), watching, delay_limits=delay_limits or DelayLimits()
    )


def invoice(
    name: str = "order",
    expected: int = 100,
    *ways: Destination,
    policy: Policy | None = None,
    expires: float = 1_000,
    basis: TimeBasis = "first_seen",
    tolerance_bps: int = 0,
    state: InvoiceState = InvoiceState.CREATED,
) -> Invoice:
    """An invoice that is open for ``expires`` minutes, by default with one destination and one confirmation."""
    ways = ways or (destination(name, expected, policy),)
    identity = derived_id(f"invoice/{name}")
    times = (minute(0), minute(0), minute(expires))
    return Invoice(identity, state, *times, list(ways), time_basis=basis, tolerance_bps=tolerance_bps)


def pay(to: Invoice | Destination, amount: int, tx: str, *, index: str = "vout:0", **other: object) -> Transfer:
    """A transfer to an invoice's first destination, or to a given one."""
    way = to.destinations[0] if isinstance(to, Invoice) else to
    asset = other.pop("asset", way.asset)
    return Transfer(tx, index, way.id.bytes, asset, amount, None, **other)  # type: ignore[arg-type]
