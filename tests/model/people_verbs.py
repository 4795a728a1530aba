"""What services, people and consumers of the feed do."""

from contextlib import suppress
from decimal import Decimal

from railwatch.store.errors import Refused
from railwatch_fake import address
from tests.model.acts import Order, Purse
from tests.model.base import WorldBase, verb
from tests.model.patience import patiently
from tests.model.setting import (
    GOES_ON_WITHIN,
)


class PeopleVerbs(WorldBase):
    """Verbs of services and people."""

    @verb
    async def registers(
        self, *, amount: int, gold: bool = False, both: bool = False, expires: int = 3600, closes: int = 2_592_000,
        basis: str = "first_seen", finalized: bool = False, known: int | None = None, accept: int = 600,
        other: bool = False,
    ) -> None:  # fmt: skip
        """Register an invoice at a new address, or at one that was registered or paid before (``known``, -1: last).

        ``other``: it can be paid on the second rail as well, where there is one.
        """
        used = [*(order.address for order in self.acts.orders), *self.unregistered]
        at = used[known % len(used)] if known is not None and used else address.render(self.chain.new_key())
        symbols = ["COIN", "GOLD"] if both else ["GOLD"] if gold else ["COIN"]
        ways = [(self.sides[0], each) for each in symbols]
        ways += [(side, "COIN") for side in self.sides[1:] if other]
        self.named += 1
        request = {
            "merchant_id": "shop",
            "order_id": str(self.named),
            "expires_in": expires,
            "closes_in": closes,
            "time_basis": basis,
            "accept_before": accept,
            "destinations": [
                {"rail": side.name, "asset": each, "amount": amount, "address": at} for side, each in ways
            ],
        }
        if finalized and all(side.chain.rules.finality is not None for side, _ in ways):
            request["policy"] = {"finalized": True}
        made = await self.act("select railwatch.create_invoice($1)", request)
        if made is None:
            return
        if at in self.unregistered:
            self.unregistered.remove(at)
        row = await self.database.row("select * from railwatch.invoices where id = $1", made)
        assert row is not None
        asks = {side.gold if each == "GOLD" else side.coin: amount for side, each in ways}
        rows = await self.database.rows("select rail, policy from railwatch.destinations where invoice_id = $1", made)
        policies = {each["rail"]: each["policy"] for each in rows}
        self.acts.orders.append(
            Order(made, at, asks, row["created_at"], row["expires_at"], row["closes_at"], basis, accept, policies)
        )

    @verb
    async def holds(self, *, order: int) -> None:
        """Hold an invoice."""
        if (held := self.order(order)) is not None:
            await self.act("select railwatch.hold_invoice($1, actor => 'ann', reason => 'looks odd')", held.id)

    @verb
    async def releases(self, *, order: int) -> None:
        """Release an invoice."""
        if (held := self.order(order)) is not None:
            await self.act("select railwatch.release_invoice($1, actor => 'ann')", held.id)

    @verb
    async def cancels(self, *, order: int) -> None:
        """Cancel an invoice."""
        if (cancelled := self.order(order)) is not None:
            await self.act("select railwatch.cancel_invoice($1)", cancelled.id)

    @verb
    async def refunds(self, *, order: int, amount: int, gold: bool = False, rail: int = 0) -> None:
        """Record a refund, and note what of it was given back out of a settled order."""
        refunded = self.order(order)
        if refunded is None:
            return
        self.named += 1
        side = self.side(rail)
        asset = side.gold if gold else side.coin
        key = refunded.id, asset

        async def give_back() -> Purse:
            async with self.database.transaction() as connection:
                moment = await Purse.read(connection, refunded)
                await connection.fetchval(
                    "select railwatch.record_refund($1, $2, $3, actor => 'ann', rail => $4, asset => $5)",
                    refunded.id, Decimal(amount), f"back {self.named}", side.name, asset,
                )  # fmt: skip
                return moment

        with suppress(Refused):
            moment = await patiently(give_back)
            waived = self.acts.waived
            excess = moment.excess(asset, waived.get(key, 0))
            if excess >= 0 and any(moment.is_paid(each, waived.get((refunded.id, each), 0)) for each in refunded.asks):
                surplus = min(amount, excess)
                self.acts.surplus[key] = self.acts.surplus.get(key, 0) + surplus
                others = [each for each in refunded.asks if each != asset]
                if not any(moment.is_paid(each, waived.get((refunded.id, each), 0)) for each in others):
                    waived[key] = waived.get(key, 0) + amount - surplus

    @verb
    async def is_poisoned(self, *, order: int) -> None:
        """An invoice's row becomes such as nothing can load."""
        if (bad := self.order(order)) is not None:
            await self.database.value(
                "with spoilt as (update railwatch.destinations set policy = '[7]' where invoice_id = $1 returning 1) "
                "select count(*) from spoilt", bad.id,
            )  # fmt: skip

    @verb
    async def goes_on(self) -> None:
        """The rail is followed to its tip, whatever is wrong with one invoice. Raises AssertionError.

        A node that is stuck, or alone, is borne with for half a minute, so with one of those nothing is asked.
        """
        if self._in_trouble():
            return
        await self._waits(self._has_read_all, GOES_ON_WITHIN)
        if not await self._has_read_all():
            rails = await self.database.rows("select name, state, reason, cursor_height from railwatch.rails")
            raise AssertionError(f"a rail does not go on: {rails}; tips {[s.chain.tip.height for s in self.sides]}")
        self.raise_for_dead_daemons()

    @verb
    async def is_mended(self) -> None:
        """Every row is again as it was when it was made."""
        await self.mend()

    async def mend(self) -> None:
        """Write the policies that the orders began with over those that cannot be read."""
        for order in self.acts.orders:
            await self.database.value(
                "with written as (update railwatch.destinations set policy = $2::jsonb -> rail "
                "where invoice_id = $1 and jsonb_typeof(policy) = 'array' returning 1) select count(*) from written",
                order.id, order.policies,
            )  # fmt: skip

    @verb
    async def resolves(self, *, which: int) -> None:
        """A person resolves one of the open exceptions."""
        rows = await self.database.rows(
            "select id from railwatch.exceptions where resolved_at is null and kind <> 'content_mismatch' order by id"
        )
        if rows:
            call = "select railwatch.resolve_exception($1, actor => 'ann', resolution => 'seen to')"
            await self.act(call, rows[which % len(rows)]["id"])

    @verb
    async def is_read(self) -> None:
        """The consumers elsewhere read the feed."""
        for reader in self.readers:
            await reader.reads(self.database)

    @verb
    async def rescans(self, *, start: int, rail: int = 0) -> None:
        """Ask for a rescan from a height up to the cursor."""
        await self.act("select railwatch.request_rescan($1, $2)", self.side(rail).name, start)

    @verb
    async def gives_up_rescans(self) -> None:
        """A person cancels whatever rescan is on its way."""
        for row in await self.database.rows("select id from railwatch.rescans where finished_at is null"):
            await self.act("select railwatch.cancel_rescan($1, 'ann')", row["id"])
