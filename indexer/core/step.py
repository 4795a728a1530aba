"""One step over all the invoices that it touches: the chapters in their order, invoice by invoice."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from indexer.core.book import Book, Moment
from indexer.core.ledger import look, lose, orphan, promote, sight, tick
from indexer.core.matching import Candidate, detection_id, match, sighting
from indexer.core.model import Coverage, Detection
from indexer.core.states import Kind
from indexer.rail.types import AssetId, Transfer


@dataclass(slots=True)
class News:
    """What a step brings to one invoice."""

    orphaned: list[UUID] = field(default_factory=list)
    lost: dict[UUID, str | None] = field(default_factory=dict)
    sightings: list[Detection] = field(default_factory=list)


def identify(transfers: Iterable[Transfer], rail: str) -> list[tuple[UUID, Transfer]]:
    """Transfers with the ids of their detections."""
    return [(detection_id(rail, each.tx_id, each.tx_index), each) for each in transfers]


def gather(
    identified: Iterable[tuple[UUID, Transfer]],
    rail: str,
    candidates: Mapping[bytes, Sequence[Candidate]],
    known: Mapping[UUID, Candidate],
    rivals: Mapping[str, Sequence[tuple[UUID, UUID]]],
    configured: Collection[AssetId],
    now: datetime,
) -> dict[UUID, News]:
    """What transfers mean, by invoice.

    ``known``: who has a transfer that was recorded before; it stays there, whoever holds the address now. ``rivals``:
    (invoice, detection) of what each displaced transaction had paid.
    """
    news: defaultdict[UUID, News] = defaultdict(News)
    for identity, transfer in identified:
        for displaced in transfer.rivals:
            for invoice, detection in rivals.get(displaced, ()):
                news[invoice].lost[detection] = transfer.tx_id
        if not transfer.amount:
            continue
        owner = known.get(identity)
        found = (owner, Kind.PAYMENT) if owner else match(transfer, rail, candidates.get(transfer.to, ()), configured)
        if found is not None:
            news[found[0].invoice_id].sightings.append(sighting(identity, transfer, rail, *found, now))
    return dict(news)


def settle(books: Sequence[Book], news: Mapping[UUID, News], moment: Moment) -> None:
    """Write the step into the books. Losses come before sightings, and promotions last (see `ledger`)."""
    nothing = News()
    for book in books:
        about = news.get(book.invoice.id, nothing)
        if about.orphaned:
            orphan(book, about.orphaned, moment)
        if about.lost:
            lose(book, about.lost, moment)
        if about.sightings:
            sight(book, about.sightings, moment)
        promote(book, moment)


def settle_clock(books: Sequence[Book], moment: Moment) -> None:
    """Let time pass for invoices whose window is over."""
    for book in books:
        tick(book, moment)


def look_at_cases(books: Sequence[Book], coverage: Coverage, now: datetime) -> None:
    """Compare exceptions with the facts, where only time or somebody outside has changed them."""
    for book in books:
        look(book, coverage, now)
