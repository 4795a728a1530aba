"""What people decide among random payment histories: a hold hides the state, and nothing else.

The invariants:

1. What a hold hides goes on beneath it. After the release everything is as if it had never been: states, sums, and
   what each transfer is. Only the window does not close under a hold, since closing is something that is told.
2. Once `cancelled` or `refunded` was told, nothing that comes new is a payment, held or not, and it counts nowhere.
3. `reversed` stands exactly while an invoice that was told to be settled lacks its money, or while more was given back
   than is in blocks. No hold delays it, none keeps it, and none closes it.
4. `settled_at` is set exactly when the invoice was told to be settled.
"""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from railwatch.core.assessment import accepted_range
from railwatch.core.model import Invoice, Refunded
from railwatch.core.states import MANUAL_END, REMOVED, SETTLED_STATES, DetectionState, InvoiceState, Kind
from railwatch.rail.types import AssetId
from tests.core import directed
from tests.core.directed import also
from tests.core.manual_ops_model import cancel, hold, refund, release
from tests.core.model_settings import model_settings
from tests.core.story import Story
from tests.core.tale_outcomes import check_feed, met_at, oracle, outcome
from tests.core.tales import Tale, happen, quick_terms, tales
from tests.core.tellings import Telling, tell_until_none_is_missing


def give_back_some(story: Story, about: Invoice) -> bool:
    """Refund a part of what came: the surplus, a broken cup, or money that does not settle the order yet."""
    return refund(story, about, amount=40)


ACTS = {"hold": hold, "release": release, "cancel": cancel, "refund": refund, "some": give_back_some}
REFUND = ("hold", "release", "hold", "release", "cancel", "refund", "refund", "some", "some")
CANCEL = ("hold", "release", "hold", "release", "cancel")
LENGTH = st.integers(1, 30)
DIRECTED = directed.HELD | directed.REFUNDED


class Decided(Telling):
    """Writes down what was new to an invoice that had been closed, from the feed and the chain alone."""

    def __init__(self, *invoices: Invoice, has_finality: bool) -> None:
        super().__init__(*invoices, has_finality=has_finality)
        self.known: dict[object, DetectionState] = {}
        self.closed: set[object] = set()
        self.unexpected: set[tuple[str, str]] = set()

    def was_told(self, about: Invoice, *states: InvoiceState) -> bool:
        return any(line.to_state in states for line in self.lines(about))

    def remember(self) -> None:
        super().remember()
        for identity, known in self.detections.items():
            for each in known.values():
                before = self.known.get(each.id)
                is_new = before is None or (before in REMOVED and each.live)
                if is_new and identity in self.closed:
                    self.unexpected.add((each.tx_id, each.tx_index))
                self.known[each.id] = each.state
        self.closed = {each.id for each in self.invoices.values() if self.was_told(each, *MANUAL_END)}

    def has_its_money(self, about: Invoice) -> bool:
        """Whether enough payments are as deep as their policy asks, in time or late."""
        for way in about.destinations:
            deep = 0
            for block in self.blocks:
                for each in self.content[block.hash]:
                    if each.to == way.id.bytes and each.asset == way.asset and not self._is_unexpected(each):
                        deep += each.amount if met_at(self, way.policy, block, each) is not None else 0
            least = accepted_range(way.expected, about.tolerance_bps)[0]
            refunded = about.refunded.get((self.rail, way.asset), Refunded(0))
            if deep >= least and self.counted(about, way.asset) - refunded.amount >= least - refunded.waived:
                return True
        return False

    def counted(self, about: Invoice, asset: AssetId) -> int:
        """All of the asset that came to the invoice and is deep enough; a block is enough for what is no payment."""
        ways = {way.id.bytes: way for way in about.destinations}
        deep = 0
        for block in self.blocks:
            for each in self.content[block.hash]:
                way = ways.get(each.to)
                if way is not None and each.asset == asset:
                    if way.asset == asset and not self._is_unexpected(each):
                        is_deep = met_at(self, way.policy, block, each) is not None
                    else:
                        is_deep = block.height + each.maturity <= len(self.blocks)
                    deep += each.amount if is_deep else 0
        return deep

    def _is_unexpected(self, transfer: object) -> bool:
        return (transfer.tx_id, transfer.tx_index) in self.unexpected  # type: ignore[attr-defined]

    def lacks_what_was_given_back(self, about: Invoice) -> bool:
        ways = {way.id.bytes for way in about.destinations}
        inside: dict[AssetId, int] = {}
        for block in self.blocks:
            for each in self.content[block.hash]:
                if each.to in ways:
                    inside[each.asset] = inside.get(each.asset, 0) + each.amount
        return any(inside.get(asset, 0) < refunded.amount for (_, asset), refunded in about.refunded.items())

    def check_decisions(self) -> None:
        for identity, each in self.invoices.items():
            assert (each.settled_at is not None) is self.was_told(each, *SETTLED_STATES)
            if identity in self.closed:
                assert each.state in MANUAL_END | {InvoiceState.FLAGGED}
            sold = each.settled_at is not None and not self.was_told(each, InvoiceState.REFUNDED)
            reversal = (sold and not self.has_its_money(each)) or self.lacks_what_was_given_back(each)
            rows = [row for row in self.cases[identity] if not row.ended]
            assert ("reversed" in {row.kind for row in rows}) is reversal
            told = {about for about, kind in self.members[identity] if kind == "unexpected_payment"}
            for transfer in self.detections[identity].values():
                new = (transfer.tx_id, transfer.tx_index) in self.unexpected
                assert (transfer.kind is Kind.UNEXPECTED) <= new
                assert (transfer.kind is Kind.PAYMENT) <= (not new)
                if transfer.kind is Kind.UNEXPECTED and transfer.block_height is not None and transfer.live:
                    assert transfer.id in told


def tell(tale: Tale, *, without: tuple[str, ...] = ()) -> Decided:
    """As it happened; in the end nobody looks away, and whatever is held is released."""
    story = Decided(*tale.terms.invoices(), has_finality=tale.terms.has_finality)
    for what, about in tale.events:
        if what in ACTS and what not in without:
            ACTS[what](story, list(story.invoices.values())[int(str(about))])
        elif what not in ACTS:
            happen(story, tale.terms, what, about, backwards=False)
        story.remember()
        story.looks_at_cases()
        story.check_cases()
        story.check_decisions()
    story.covered = None
    story.look_at_the_clock()
    for each in story.invoices.values():
        release(story, each)
    story.check_cases()
    story.check_decisions()
    return story


@model_settings(examples=300)
@also(DIRECTED.values())
@given(tale=tales(quick_terms, REFUND, LENGTH))
def test_whatever_is_decided_the_alarms_and_the_sums_are_those_of_the_chain(tale):
    story = tell(tale)
    sums = oracle(story, tale.terms, story.unexpected)
    for each in story.invoices.values():
        for way in each.destinations:
            assert (way.seen, way.confirmed, way.late) == sums[way.id]
    check_feed(story)


HIDDEN = {"underpaid", "overpaid", "stuck_confirming"}
"""Read from the state: a hold joins two occurrences into one, and starts a wait anew."""


def occurrences(story: Decided) -> set[object]:
    """Every exception that ever opened, but for those that a hold hides, and money that came after an expiry."""
    found: set[object] = set()
    for identity, rows in story.cases.items():
        for row in rows:
            at = story.detections[identity].get(row.detection_id) if row.detection_id else None
            after_expiry = row.kind == "unexpected_payment" and at and at.invoice_end_state is InvoiceState.EXPIRED
            if row.kind not in {*HIDDEN, "detection_delayed", "reversed"} and not after_expiry:
                found.add((row.kind, row.detection_id, row.occurrence))
    return found


@model_settings(examples=300)
@also(directed.HELD.values())
@given(tale=tales(quick_terms, CANCEL, LENGTH))
def test_after_a_release_everything_is_as_if_it_had_never_been_held(tale):
    story, plain = tell(tale), tell(tale, without=("hold", "release"))
    assert outcome(story) == outcome(plain)
    assert occurrences(story) == occurrences(plain)


def reached_by(tale: Tale) -> set[object]:
    """Every move of an invoice's state, and every exception that was told, with the state that the invoice was in."""
    story = tell(tale)
    reached: set[object] = set()
    for each in story.invoices.values():
        reached.update(pairwise("settled" if state in SETTLED_STATES else state for state in story.states(each)))
        state = "created"
        for line in (line for line in story.feed if line.invoice_id == each.id):
            state = line.to_state if line.subject == "invoice" else state
            if line.subject == "exception":
                reached.add(f"{state}: {line.reason} {line.to_state}")
    return reached


@pytest.mark.parametrize("name", DIRECTED)
def test_a_directed_tale_decides_what_it_is_told_for(name):
    assert name in reached_by(DIRECTED[name])


def test_random_tales_decide_everything_else():
    """The model would prove nothing about what its tales never come to."""
    decided = {"settled", "created", "cancelled", "refunded"}
    missing = {("flagged", each) for each in decided} | {(each, "flagged") for each in decided - {"created"}}
    missing |= {"flagged: reversed open", "flagged: reversed resolved", "flagged: double_spend open"}
    missing |= {"flagged: unexpected_payment open", "refunded: reversed open", "refunded: reversed resolved"}
    tell_until_none_is_missing(tales(quick_terms, REFUND, LENGTH), missing - DIRECTED.keys(), reached_by)
