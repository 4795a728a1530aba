"""Random payment histories over a random chain: what happens in them, and how a story is brought to live through it.

A tale is a list of things that happen: blocks, transfers in the mempool, losses, reorgs, time, and what people do.
"""

from dataclasses import dataclass, replace
from datetime import timedelta

from hypothesis import strategies as st

from railwatch.core.model import DelayLimits, Invoice
from railwatch.core.policy import Policy
from railwatch.rail.types import AssetId, Transfer
from tests.core.builders import COIN, TOKEN, UNKNOWN, destination, invoice, pay
from tests.core.story import Story

HORIZON = 6
LENGTH = st.integers(1, 16)
LINES = st.sampled_from(["one", "two", "two-token"])


@dataclass(frozen=True)
class Terms:
    """What the tale's invoices ask for, and whether the rail tells finality."""

    expires: int
    basis: str
    tolerance_bps: int
    policies: tuple[Policy, Policy]
    has_finality: bool

    def invoices(self) -> tuple[Invoice, Invoice]:
        common = {"expires": self.expires, "basis": self.basis, "tolerance_bps": self.tolerance_bps}
        one = invoice("one", 100, policy=self.policies[0], **common)  # type: ignore[arg-type]
        ways = (destination("two", 100, self.policies[1]), destination("two", 100, self.policies[0], TOKEN))
        for way in (*one.destinations, *ways):
            way.delay_limits = DelayLimits(stuck_after=timedelta(minutes=6), blind_after=timedelta(minutes=3))
        return one, invoice("two", 100, *ways, **common)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Tx:
    """One transaction. ``line``: where it pays; the asset may be another than was asked for."""

    name: str
    line: str
    amount: int
    asset: AssetId | None
    maturity: int

    def transfers(self, terms: Terms, rivals: tuple[str, ...] = ()) -> list[Transfer]:
        one, two = terms.invoices()
        ways = {"one": one.destinations[0], "two": two.destinations[0], "two-token": two.destinations[1]}
        way = ways[self.line]
        paid = pay(way, self.amount, self.name, asset=self.asset or way.asset, maturity=self.maturity, rivals=rivals)
        # Each transaction also pays the other invoice a little, as an exchange's batch does.
        other = ways["two" if self.line == "one" else "one"]
        return [paid, pay(other, 1, self.name, index="vout:1", maturity=self.maturity)] if self.amount == 30 else [paid]


Event = tuple[str, object]
Block = tuple[Tx, ...]

txs = st.builds(
    lambda n, line, amount, asset, maturity: Tx(f"tx{n}", line, amount, asset, maturity),
    st.integers(0, 10_000),
    LINES,
    st.sampled_from([100, 100, 100, 99, 101, 60, 40, 30, 200]),
    st.sampled_from([None, None, None, None, None, UNKNOWN, COIN]),
    st.sampled_from([1, 1, 1, 4]),
)
policies = st.sampled_from([Policy(1), Policy(2), Policy(3), Policy(HORIZON + 2), Policy(None), Policy(None, 2)])
all_terms = st.builds(
    Terms,
    st.sampled_from([3, 8, 15, 10_000]),
    st.sampled_from(["first_seen", "block_time", "confirmed"]),
    st.sampled_from([0, 0, 100]),
    st.tuples(policies, policies),
    st.booleans(),
)

quick = st.sampled_from([Policy(1), Policy(1), Policy(2), Policy(None)])
quick_terms = st.builds(
    Terms,
    st.sampled_from([3, 10_000, 10_000]),
    st.sampled_from(["first_seen", "block_time", "confirmed"]),
    st.sampled_from([0, 100]),
    st.tuples(quick, quick),
    st.booleans(),
)
"""Invoices that are soon paid, so that much can happen to them afterwards."""


@dataclass(frozen=True)
class Tale:
    """What happens, and what is canonical in the end. ``events`` name blocks by their content alone."""

    terms: Terms
    events: tuple[Event, ...]


@st.composite
def tales(
    draw: st.DrawFn,
    terms: st.SearchStrategy[Terms] = all_terms,
    acts: tuple[str, ...] = (),
    length: st.SearchStrategy[int] = LENGTH,
) -> Tale:
    """A history that a chain can really have: nothing is included twice, and nothing final is undone.

    ``acts``: what people do in between, to either invoice.
    """
    pool = {tx.name: tx for tx in draw(st.lists(txs, min_size=1, max_size=6, unique_by=lambda tx: tx.name))}
    chain: list[Block] = []
    pending: set[str] = set()
    dead: set[str] = set()
    highest = 0
    events: list[Event] = []

    def block() -> Block:
        free = sorted(set(pool) - {tx.name for each in chain for tx in each} - dead)
        names = draw(st.lists(st.sampled_from(free), max_size=2, unique=True)) if free else []
        content = tuple(pool[name] for name in names)
        chain.append(content)
        pending.difference_update(names)
        return content

    for _ in range(draw(length)):
        verbs = ["mine", "mine", "mine", "see", "drop", "replace", "bump", "reorg", "time", "blind", *acts]
        what = draw(st.sampled_from(verbs))
        mined = {tx.name for each in chain for tx in each}
        if what == "mine":
            events.append(("mine", block()))
        elif what == "see" and (free := sorted(set(pool) - mined - pending - dead)):
            name = draw(st.sampled_from(free))
            pending.add(name)
            events.append(("see", pool[name]))
        elif what == "drop" and pending:
            name = draw(st.sampled_from(sorted(pending)))
            pending.remove(name)
            events.append(("drop", name))
        elif what == "replace" and (loose := sorted(set(pool) - mined - dead)):
            name = draw(st.sampled_from(loose))  # pending, orphaned, dropped, or never heard of
            pending.discard(name)
            dead.add(name)
            events.append(("replace", name))
        elif what == "bump" and pending:
            name = draw(st.sampled_from(sorted(pending)))
            pending.remove(name)
            dead.add(name)
            bumped = replace(pool[name], name=f"{name}+")
            pool[bumped.name] = bumped
            pending.add(bumped.name)
            events.append(("bump", (name, bumped)))
        elif what == "reorg" and (deepest := min(len(chain), HORIZON - 1 - (highest - len(chain)))) > 0:
            depth = draw(st.integers(1, deepest))
            del chain[len(chain) - depth :]
            events.append(("reorg", (depth, tuple(block() for _ in range(depth + draw(st.integers(0, 2)))))))
        elif what == "time":
            events.append(("time", draw(st.sampled_from([1, 4, 30]))))
        elif what == "blind":
            events.append(("blind", draw(st.booleans())))
        elif what in acts:
            events.append((what, draw(st.sampled_from([0, 0, 1]))))
        highest = max(highest, len(chain))
    return Tale(draw(terms), tuple(events))


def content(terms: Terms, block: Block, backwards: bool = False) -> list[Transfer]:
    found = [transfer for tx in block for transfer in tx.transfers(terms)]
    return found[::-1] if backwards else found


def happen(story: Story, terms: Terms, what: str, about: object, backwards: bool) -> None:
    match what, about:
        case "mine", tuple() as block:
            story.mine(*content(terms, block, backwards))
        case "span", [*blocks]:
            story.span([content(terms, block, backwards) for block in blocks])
        case "see", Tx() as tx:
            story.sees(*tx.transfers(terms))
        case "drop", str() as name:
            story.drops(name)
        case "replace", str() as name:
            story.hears_of_rival(name, f"{name}-elsewhere")
        case "bump", (str() as name, Tx() as tx):
            story.sees(*tx.transfers(terms, rivals=(name,)))
        case "reorg", (int() as depth, tuple() as blocks):
            story.rewind(depth, [content(terms, block, backwards) for block in blocks])
        case "time", int() as minutes:
            story.passes(minutes)
        case "blind", bool() as blind:
            story.covered = (story.covered or story.now) if blind else None
    if story.has_finality and what != "blind":
        final = max(story.finalized, len(story.blocks) - HORIZON)
        if final > story.finalized:
            story.finalize(final)
