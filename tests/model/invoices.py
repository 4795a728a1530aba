"""What an invoice must be at the end of a story: its transfers, sums, state and exceptions."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from railwatch.store.database import Row
from railwatch_fake import address
from tests.model.acts import Order
from tests.model.feed import kind_then
from tests.model.setting import LATE_BLOCKS, RAIL
from tests.model.tables import IN_BLOCK, LIVE, SETTLED, SLACK, STICKY, Tables
from tests.model.transfers import dispute_about
from tests.model.truth import LEAST, Credit
from tests.model.world import World

OF_THE_MONEY = frozenset({"wrong_asset", "wrong_network", "unsupported_asset", "late"})
"""Exceptions about a transfer that has come, besides `unexpected_payment`."""

ENDS = SETTLED | STICKY | {"flagged"}

COVERED_AT_ONCE = SLACK
"""After the end of a window that no late block can still be in: coverage is extended as soon as one has run out."""

COVERED_WITHIN = LATE_BLOCKS + timedelta(seconds=10) + SLACK
"""After the end of one that waits for late blocks: it ends in the coverage that is extended every ten seconds.
The contract names no time for an expiry, only what it waits for."""


@dataclass(slots=True)
class Sums:
    """What arrived at one destination."""

    seen: int = 0
    confirmed: int = 0
    late: int = 0
    late_confirmed: int = 0
    in_block: bool = False


@dataclass(frozen=True, slots=True)
class Net:
    """What came of one asset and what was given back: of that more than was asked, and by choice, while it was paid."""

    came: int
    refunded: int
    surplus: int
    waived: int

    @property
    def owed(self) -> int:
        """What was given back before the order was settled, so that the order asks for it again."""
        return self.refunded - self.surplus - self.waived

    def pays(self, asked: int, arrived: int) -> bool:
        """Whether the merchant was paid, and has it."""
        return arrived >= asked and (not self.refunded or self.came - self.refunded >= asked - self.waived)


@dataclass
class Expected:
    """One invoice, as it must be."""

    world: World
    tables: Tables
    order: Order
    wrong: list[str] = field(default_factory=list)

    def differences(self) -> list[str]:
        """Return what is told otherwise."""
        invoice = self.tables.invoices.get(self.order.id)
        if invoice is None:
            return [f"invoice {self.order.id} is lost"]
        self.credits = {credit.key: credit for side in self.world.sides for credit in side.truth.credits()}
        self.ways = {row["id"]: row for row in self.tables.destinations[self.order.id]}
        if any(row["watch_state"] == "rejected" for row in self.ways.values()):
            return []
        self.rows = [row for row in self.tables.detections.get(self.order.id, ()) if row["state"] in LIVE]
        self.lines = self.tables.told[self.order.id]
        self.states = [line["to_state"] for line in self.lines if line["subject"] == "invoice"]
        for row in self.rows:
            self._check_detection(row)
        sums = self._add_up()
        self._check_sums(sums)
        counted = self._state(sums)
        closed = next((state for state in reversed(self.states) if state in STICKY), None)
        held = self.states[-1] == "flagged"
        expected = "flagged" if held else closed or counted
        if invoice["state"] != expected:
            self._say(f"is {invoice['state']}, must be {expected}; path {self.states}, {sums}, {self._net()}")
        self._check_exceptions(sums, counted, closed, held)
        self._check_small()
        return self.wrong

    def _say(self, what: str) -> None:
        number = self.world.acts.orders.index(self.order)
        self.wrong.append(f"invoice #{number} {self.order.address[5:13]}: {what}")

    def _credit(self, row: Row) -> Credit | None:
        return self.credits.get((row["tx_id"], row["tx_index"].split("@")[0]))

    # One detection

    def _check_detection(self, row: Row) -> None:
        credit = self._credit(row)
        if credit is None:
            return  # `inclusion_differences` says so
        name = f"{row['tx_id'][:8]} {row['tx_index']}"
        if row["kind"] not in self._kinds(row, credit):
            self._say(f"{name} is of kind {row['kind']}, must be one of {sorted(self._kinds(row, credit))}")
        depth = self._depth_state(row, credit) if credit.block is not None else "pending"
        if row["state"] != depth and not self._is_contradicted(row, depth):
            self._say(f"{name} is {row['state']}, must be {depth}")
        if row["kind"] == "payment" and row["in_time"] not in self._timely(row, credit):
            self._say(
                f"{name} has in_time {row['in_time']}, must be {self._timely(row, credit)}; {row['first_seen_at']}"
            )

    def _is_contradicted(self, row: Row, depth: str) -> bool:
        """A second look at another node may differ where a node has lied: then a person decides about what is final."""
        return depth == "final" and row["state"] == "confirmed" and row["second_look"] == "mismatch" and self.world.lied

    def _kinds(self, row: Row, credit: Credit) -> set[str]:
        if self.world.side_of(credit.rail).asset(credit.out.token) not in self.order.asks:
            wrong = "wrong_asset" if credit.rail in self.order.policies else "wrong_network"
            maybe = self.world.acts.was_without_gold and credit.rail == RAIL and credit.out.token
            return {wrong, "unsupported_asset"} if maybe else {wrong}
        if self._came_after_the_end(row) or self._was_unexpected_at_the_end(row):
            return {"unexpected"}
        first = min(
            (line for line in self.lines if line["subject_id"] == row["id"]), key=lambda line: line["seq"], default=None
        )
        if first is None or first["block_hash"] is None:
            return {"payment"}  # It waited when the invoice was there already.
        if (block := credit.block) is None:
            return {"payment", "unexpected"}  # It waits again, and is what the block was that it was in.
        tip = self.ways[row["destination_id"]]["tip_at_creation"]
        if tip is not None and block.height > tip:
            return {"payment"}
        return {"unexpected"} if block.time < self._accepts_from() else {"payment"}

    def _accepts_from(self) -> datetime:
        """An address that had another invoice before brings nothing that is older than this one."""
        orders = self.world.acts.orders
        if any(each.address == self.order.address for each in orders[: orders.index(self.order)]):
            return self.order.created_at
        return self.order.created_at - timedelta(seconds=self.order.accept_before)

    def _came_after_the_end(self, row: Row) -> bool:
        """Whether the transfer was new, or had been given up and was back, after the invoice was closed for good."""
        ends = [line["seq"] for line in self.lines if line["subject"] == "invoice" and line["to_state"] in STICKY]
        return bool(ends) and any(
            line["seq"] > ends[0]
            for line in self.lines
            if line["subject_id"] == row["id"]
            and line["from_state"] in (None, "dropped", "replaced")
            and line["to_state"] in ("pending", "included", "final")
        )

    def _was_unexpected_at_the_end(self, row: Row) -> bool:
        """Return True if the transfer was no payment when the invoice was closed: no later block makes it one."""
        ends = [line for line in self.lines if line["subject"] == "invoice" and line["to_state"] in STICKY]
        own = [line for line in self.lines if line["subject_id"] == row["id"]]
        before = [line for line in own if ends and line["seq"] < ends[0]["seq"]]
        return bool(before) and kind_then(self.tables, before[-1]) == "unexpected"

    def _is_deep(self, row: Row, credit: Credit) -> bool:
        assert credit.block is not None
        dispute = dispute_about(self.world, credit)
        if dispute is not None and dispute.verdict is None:
            return dispute.state == "confirmed"  # It stays what it was, until a person has decided.
        chain, height = self.world.side_of(credit.rail).chain, credit.block.height
        policy = self.order.policies[credit.rail] if row["kind"] == "payment" else {"confirmations": 1}
        maturity = credit.tx.maturity
        if policy.get("finalized"):
            finality = chain.rules.finality or 0
            return height + max(policy.get("plus", 0), maturity - 1) <= chain.tip.height - finality
        return chain.tip.height - height + 1 >= max(int(policy["confirmations"]), maturity)

    def _depth_state(self, row: Row, credit: Credit) -> str:
        assert credit.block is not None
        if not self._is_deep(row, credit):
            return "included"
        if (dispute := dispute_about(self.world, credit)) is not None and dispute.verdict is None:
            return "confirmed"
        side = self.world.side_of(credit.rail)
        deep = side.chain.tip.height - credit.block.height + 1
        return "final" if deep >= side.final_depth else "confirmed"

    def _timely(self, row: Row, credit: Credit) -> set[bool]:
        expires = self.order.expires_at
        if self.order.time_basis == "block_time":
            if credit.block:
                return {credit.block.time <= expires}
            left = expires - self.world.clock.now()  # The present stands for the block's time, until it is looked at.
            return {left > timedelta()} if abs(left) > SLACK else {True, False}
        if self.order.time_basis == "confirmed":
            # Its policy was met after its block came, at a moment that depends on how far the daemon had come.
            if self.world.clock.now() <= expires - SLACK:
                return {True}
            return {False} if credit.block is not None and credit.block.time > expires else {True, False}
        earliest = self.world.side_of(credit.rail).truth.sent_at.get(
            credit.tx.id, datetime.min.replace(tzinfo=expires.tzinfo)
        )
        latest = credit.block.time if credit.block else self.world.clock.now()
        if latest <= expires - SLACK:
            return {True}
        if earliest > expires + SLACK:
            return {False}
        return {bool(row["first_seen_at"] <= expires)}

    # The sums and the state

    def _add_up(self) -> dict[UUID, Sums]:
        sums = {identity: Sums() for identity in self.ways}
        for row in self.rows:
            credit = self._credit(row)
            if row["kind"] != "payment" or credit is None:
                continue
            each, amount = sums[row["destination_id"]], credit.out.amount
            counted = amount if credit.block is not None and self._is_deep(row, credit) else 0
            each.in_block |= credit.block is not None
            if row["in_time"]:
                each.seen += amount
                each.confirmed += counted
            else:
                each.late += amount
                each.late_confirmed += counted
        return sums

    def _check_sums(self, sums: Mapping[UUID, Sums]) -> None:
        for identity, each in sums.items():
            way = self.ways[identity]
            told = tuple(int(way[name]) for name in ("seen_amount", "confirmed_amount", "late_amount"))
            if told != (each.seen, each.confirmed, each.late):
                self._say(f"sums are {told}, must be {each}")

    def _check_small(self) -> None:
        """What is below the least amount is counted where it was sent, once for each block that showed it at least.

        Not where several invoices had the address, for then each counts its own; nor once the invoice is closed, nor
        what nobody had promised to see: a look-back and a rescan count nothing, for what they show was counted before.
        """
        orders = [each for each in self.world.acts.orders if each.address == self.order.address]
        is_closed = self.tables.invoices[self.order.id]["closed_at"] is not None
        since = self.world.acts.watched_at.get((self.order.id, RAIL))
        if len(orders) > 1 or is_closed or since is None:
            return
        key = address.parse(self.order.address).key
        small = [each.out.amount for each in self.world.truth.by_address().get(key, ())
                 if each.block and each.block.height > since and each.out.amount < LEAST]  # fmt: skip
        counted = sum(way["small_count"] for way in self.ways.values())
        amount = sum(int(way["small_amount"]) for way in self.ways.values())
        if counted < len(small) or amount < sum(small):
            self._say(f"{len(small)} small transfers of {sum(small)} came; counted: {counted} of {amount}")
        shown = self.world.truth.small.get(key, 0)
        if counted > shown:
            self._say(f"{counted} small transfers are counted, and {shown} were ever in a block")

    def _net(self) -> dict[str, Net]:
        """What was confirmed of each asset, whatever its kind, and what was given back of it."""
        acts, came = self.world.acts, defaultdict[str, int](int)
        for row in self.rows:
            credit = self._credit(row)
            if credit is not None and credit.block is not None and self._is_deep(row, credit):
                came[row["asset"]] += credit.out.amount
        return {
            asset: Net(
                came[asset],
                self.tables.refunded.get((self.order.id, asset), 0),
                acts.surplus.get((self.order.id, asset), 0),
                acts.waived.get((self.order.id, asset), 0),
            )
            for asset in self.order.asks
        }

    def _state(self, sums: Mapping[UUID, Sums]) -> str:
        """The state that the money decides, or the clock."""
        nets = self._net()
        ways = [(self.order.asks[asset], nets[asset], each) for asset, each in self._by_asset(sums)]
        met = [each.confirmed - asked - net.owed for asked, net, each in ways if net.pays(asked, each.confirmed)]
        if met:
            return "overpaid" if max(met) > 0 else "paid"
        if any(net.pays(asked, each.confirmed + each.late_confirmed) for asked, net, each in ways):
            return "late_paid"
        if any(
            each.seen > each.confirmed or (each.late > each.late_confirmed and each.seen + each.late >= asked)
            for asked, _, each in ways
        ):
            return "confirming" if any(each.in_block for _, _, each in ways) else "detected"
        if any(each.confirmed for _, _, each in ways):
            return "underpaid"
        over = self.world.clock.now() - self.order.expires_at
        sides = [self.world.side_of(rail) for rail in self.order.policies]
        is_shown_first = self.order.time_basis == "first_seen" and all(side.chain.rules.mempool for side in sides)
        if -SLACK < over < (COVERED_AT_ONCE if is_shown_first else COVERED_WITHIN) and self.states[-1] in (
            "created",
            "expired",
        ):
            return str(self.states[-1])
        return "expired" if over > SLACK else "created"

    def _by_asset(self, sums: Mapping[UUID, Sums]) -> list[tuple[str, Sums]]:
        return [(self.ways[identity]["asset"], each) for identity, each in sums.items()]

    # Exceptions

    def _check_exceptions(self, sums: Mapping[UUID, Sums], counted: str, closed: str | None, held: bool) -> None:
        standing = {(row["kind"], row["detection_id"]) for row in self.tables.standing.get(self.order.id, ())}
        sold = bool(SETTLED & set(self.states)) and closed != "refunded" and counted not in SETTLED
        arrived: defaultdict[str, int] = defaultdict(int)
        for row in self.rows:
            if row["state"] in IN_BLOCK and (credit := self._credit(row)) is not None:
                arrived[row["asset"]] += credit.out.amount
        short = any(
            refunded > arrived[asset]
            for (invoice, asset), refunded in self.tables.refunded.items()
            if invoice == self.order.id
        )
        if (("reversed", None) in standing) != (sold or short):
            self._say(f"reversed stands: {('reversed', None) in standing}, must: {sold or short}; path {self.states}")
        for row in self.rows:
            self._check_unexpected(row, standing)
            self._check_mismatch(row, standing)
            self._check_own_kind(row, standing)
        used = [each for each in sums.values() if each.seen or each.late]
        if (("mixed_destinations", None) in standing) != (len(used) > 1):
            self._say(f"mixed_destinations stands: {('mixed_destinations', None) in standing}, must: {len(used) > 1}")
        for state in ("underpaid", "overpaid"):
            if state == "underpaid" and closed is None and counted in ("detected", "confirming"):
                continue  # It stays open while a top-up is on its way, unless somebody has resolved it.
            if not held and ((state, None) in standing) != (closed is None and counted == state):
                self._say(f"{state} stands: {(state, None) in standing}, and the state must be {closed or counted}")

    def _check_unexpected(self, row: Row, standing: set[tuple[str, UUID | None]]) -> None:
        stands = ("unexpected_payment", row["id"]) in standing
        if row["kind"] == "unexpected" and row["state"] in IN_BLOCK and not stands:
            self._say(f"{row['tx_id'][:8]} is unexpected, and no exception says so")
        if row["kind"] == "payment" and row["in_time"] and stands and not self._had_ended(row):
            self._say(f"{row['tx_id'][:8]} came in time, and an exception calls it unexpected")

    def _check_own_kind(self, row: Row, standing: set[tuple[str, UUID | None]]) -> None:
        """Money that nobody asked for, and money that came late, is an exception while it is in a block."""
        name = "late" if row["kind"] == "payment" and row["in_time"] is False else row["kind"]
        if name in OF_THE_MONEY and row["state"] in IN_BLOCK and (name, row["id"]) not in standing:
            self._say(f"{row['tx_id'][:8]} is {name}, and no exception says so")
        for other in OF_THE_MONEY - {name}:
            if (other, row["id"]) in standing and not self._is_resolved(other, row):
                self._say(f"{row['tx_id'][:8]} is {name}, and an exception says {other}")

    def _is_resolved(self, kind: str, row: Row) -> bool:
        """What a person decided about money that has come holds, whatever becomes of it."""
        return any(
            (each["kind"], each["detection_id"], each["resolved"]) == (kind, row["id"], True)
            for each in self.tables.standing.get(self.order.id, ())
        )

    def _check_mismatch(self, row: Row, standing: set[tuple[str, UUID | None]]) -> None:
        """What another node tells otherwise stands until a person decides; and it takes a lie to bring it about."""
        stands = ("content_mismatch", row["id"]) in standing
        credit = self._credit(row)
        dispute = dispute_about(self.world, credit) if credit is not None else None
        must = dispute is not None and dispute.verdict is None
        # Beside a lie that the story did not follow up, the second look itself may have met another block.
        if must != stands and (must or dispute is not None or not self.world.lied):
            self._say(f"content_mismatch of {row['tx_id'][:8]} stands: {stands}, must: {must}; {dispute}")

    def _had_ended(self, row: Row) -> bool:
        """Return True if the invoice was settled or closed before the transfer came, or closed while it was gone."""
        lines = [line for line in self.lines if line["subject_id"] == row["id"]]
        first = min((line["seq"] for line in lines), default=0)
        ends = [line for line in self.lines if line["subject"] == "invoice" and line["to_state"] in ENDS]
        gone = [end for end in ends if end["to_state"] in STICKY and self._was_gone(lines, end["seq"])]
        return any(end["seq"] < first for end in ends) or bool(gone)

    def _was_gone(self, lines: Sequence[Row], seq: int) -> bool:
        """Return True if a reorg had taken a transfer away, by its ``lines``, when the feed was at ``seq``."""
        before = [line for line in lines if line["seq"] < seq]
        return bool(before) and before[-1]["to_state"] not in {*IN_BLOCK, "pending"}
