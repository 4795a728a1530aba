"""What goes wrong with nodes: trouble, lies, and answers that contradict each other."""

import functools
from dataclasses import replace

from railwatch_fake import FakeNode
from tests.model.acts import Dispute
from tests.model.base import WorldBase, verb
from tests.model.setting import (
    GOES_ON_WITHIN,
    RAIL,
)
from tests.model.side import Side


class NodeVerbs(WorldBase):
    """Verbs of nodes."""

    @verb
    async def troubles(self, *, node: int, kind: str, size: int = 1, rail: int = 0) -> None:
        """A node lags, is down, hangs, is slow, or stays on an old branch (only where others are the majority)."""
        if (side := self.side(rail)) is not self.sides[0]:
            self._trouble(side.node(node), kind, size)
            return
        node %= self.setting.nodes
        if self.lying is not None and (self._honest_away() or node == self.lying):
            return
        if self.lying is not None and kind in ("down", "hang") and self.setting.nodes == 2:
            return  # Of two nodes the one that is left decides alone.
        if kind == "pin" and self.setting.nodes > 1 and self._is_first_liar():
            if self._honest_away(but=node):
                return  # Of three nodes one is left that is right, and it is no majority beside this one.
            self.lying, self.lied = node, True
            self.node(node).pin(self.chain.tip.hash)
        self._trouble(self.node(node), kind, size)

    def _trouble(self, troubled: FakeNode, kind: str, size: int) -> None:
        match kind:
            case "lag":
                troubled.lag, self.lagged = size, True
            case "down":
                troubled.down = True
            case "hang":
                troubled.hangs = True
            case "slow":
                troubled.latency = 0.004 * size
            case "restart":
                troubled.restart()

    @verb
    async def lies(self, *, node: int, order: int, back: int = 0, blocks: int = 10, early: bool = False) -> None:
        """A node makes up blocks of its own, the first with a payment, on the tip or ``back`` blocks below.

        ``early``: it also calls its newest block final.
        """
        paid = self.order(order)
        if self.setting.nodes < 2 or paid is None or not self._is_first_liar() or self._honest_away(but=node):
            return
        self.lying, self.lied = node % self.setting.nodes, True
        liar, amount = self.node(self.lying), sum(paid.asks.values())
        coin = self.sides[0].coin
        if back:
            liar.pin(self.chain.line[max(0, len(self.chain.line) - 1 - back)].hash)
        liar.make_up(blocks, self.output(paid.address, amount, coin not in paid.asks))
        if early and self.chain.rules.finality is not None:
            liar.finality = 0

    @verb
    async def others_retell(self) -> None:
        """Whoever did not tell of the newest order's payments, not final yet, tells other amounts from now on."""
        if self.setting.nodes < 2 or self._in_trouble() or (paid := self.order(0)) is None:
            return
        told = await self.database.rows(
            "select id, tx_id, evidence ->> 'node' as node from railwatch.detections where invoice_id = $1 "
            "and rail = $2 and kind = 'payment' and state in ('included', 'confirmed') and looked_at_block is null",
            paid.id, RAIL,
        )  # fmt: skip
        if not told:
            return
        for number in range(self.setting.nodes):
            if told[0]["node"] != f"node{number}":
                self.lying, self.lied = number, True
                for row in told:
                    tx = self.chain.txs[row["tx_id"]]
                    outputs = tuple(replace(out, amount=out.amount + 1) for out in tx.outputs)
                    self.node(number).retold[tx.id] = replace(tx, outputs=outputs)
        self.contradicted = [row["id"] for row in told if row["node"] == told[0]["node"]]

    @verb
    async def judges(self, *, verdict: str | None) -> None:
        """A person looks at what the second look found, and decides, or not (``verdict`` None).

        Raises AssertionError where it found nothing.
        """
        for each in self.contradicted:
            found = (
                "select id from railwatch.exceptions "
                "where kind = 'content_mismatch' and detection_id = $1 and ended_at is null"
            )
            await self._waits(functools.partial(self.database.value, found, each), GOES_ON_WITHIN)
            row = await self.database.row("select * from railwatch.detections where id = $1", each)
            case = await self.database.value(found, each)
            assert row is not None
            if case is None or row["state"] == "final":
                raise AssertionError(f"no second look found what another node tells of {row['tx_id'][:8]}: {row}")
            if verdict is not None:
                call = "select railwatch.resolve_exception($1, actor => 'ann', resolution => 'looked', verdict => $2)"
                await self.act(call, case, verdict)
            key = row["tx_id"], row["tx_index"].split("@")[0], row["block_hash"]
            self.acts.disputed[key] = Dispute(row["state"], verdict)
        self.contradicted = []

    def _is_first_liar(self) -> bool:
        return self.lying is None

    def _honest_away(self, but: int = -1) -> bool:
        """Whether an honest node does not answer: beside a lie, no more than a minority may be away."""
        return any(
            self.node(number).down or self.node(number).hangs
            for number in range(self.setting.nodes)
            if number not in (self.lying, but % self.setting.nodes)
        )

    @verb
    async def heals(self, *, node: int | None = None) -> None:
        """A node, or each of them on every rail, is well again."""
        self.heal(node)

    def heal(self, node: int | None = None) -> None:
        """Let a node, or each of them on every rail, be well."""
        for side in self.sides:
            for number in range(side.nodes):
                if node is None or number == node % side.nodes:
                    self._heal(side, number)

    def _heal(self, side: Side, number: int) -> None:
        healed = side.node(number)
        healed.down = healed.hangs = False
        healed.lag, healed.latency, healed.finality = 0, 0.0, None
        if side is self.sides[0] and self.lying == number:
            self.lying = None
        healed.retold.clear()
        healed.pin(None)
