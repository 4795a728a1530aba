"""A story's shop: it registers through `create_invoice`, as every service does, and knows only what the feed says."""

import asyncio
from dataclasses import dataclass

from railwatch.demo.feed import Feed
from railwatch.demo.scenario_run import ScenarioRun
from railwatch.rail.demo import DemoError, RailDemo
from railwatch.store.database import Database
from railwatch.store.errors import Refused
from railwatch.store.invoices import create_invoice, watch_states

MERCHANT = "demo"
LOOK_SECONDS = 0.02


@dataclass(slots=True)
class StoryShop:
    """`railwatch.rail.demo.Shop` for one run. The runner bounds its time."""

    database: Database
    feed: Feed
    demo: RailDemo
    telling: ScenarioRun
    _waited_for: int = 0

    async def invoice(self, address: str, asset: str, amount: int, *, expires_in: int = 3600) -> None:
        """Register, and wait until the address is watched."""
        request = {
            "merchant_id": MERCHANT,
            "order_id": f"{self.telling.rail}: {self.telling.scenario.name}",
            "expires_in": expires_in,
            "destinations": [
                {"rail": self.telling.rail, "asset": asset, "address": address, "amount": str(amount)},
            ],
        }
        try:
            self.telling.invoice = await create_invoice(self.database, request)
        except Refused as refused:
            raise DemoError(f"create_invoice refused: {refused}") from refused
        self.telling.address = address
        await self.feed.join(self.telling, self.demo)
        await self._watched()

    async def wait_for_state(self, state: str) -> None:
        """Wait for ``state`` among the lines that have not been waited for yet."""
        await self.feed.until(lambda: self._find(state) is not None or self.telling.diverged)
        found = self._find(state)
        if found is None:
            raise DemoError(f'waited for "{state}", and the feed has other transitions')
        self._waited_for = found + 1

    async def ends(self) -> None:
        """Wait until all is as expected, or never can be."""
        await self.feed.until(lambda: self.telling.agrees or self.telling.diverged)

    def _find(self, state: str) -> int | None:
        lines = range(self._waited_for, len(self.telling.path))
        return next((place for place in lines if self.telling.path[place].split(" ")[0] == state), None)

    async def _watched(self) -> None:
        """Poll until the address is watched, as a checkout does. That lasts about a second."""
        assert self.telling.invoice is not None
        while True:
            [row] = await watch_states(self.database, self.telling.invoice)
            if row["watch_state"] == "rejected":
                raise DemoError(f"{row['address']} was rejected: {row['watch_error']}")
            if row["watch_state"] != "registered":
                return
            await asyncio.sleep(LOOK_SECONDS)
