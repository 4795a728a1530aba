"""One step over all the invoices that it touches: the chapters in their order, invoice by invoice."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from indexer.core.ledger import Book, Moment, lose, orphan, promote, sight, tick
from indexer.core.matching import Candidate, match, sighting
from indexer.core.model import Detection
from indexer.rail.types import AssetId, Transfer


@dataclass(slots=True)
class News:
    """What a step brings to one invoice."""

    orphaned: list[UUID] = field(default_factory=list)
    lost: dict[UUID, str | None] = field(default_factory=dict)
    sightings: list[Detection] = field(default_factory=list)


def gather(
    transfers: Iterable[Transfer],
    rail: str,
    candidates: Mapping[bytes, Sequence[Candidate]],
    rivals: Mapping[str, Sequence[tuple[UUID, UUID]]],
    configured: Collection[AssetId],
    now: datetime,
) -> dict[UUID, News]:
    """What transfers mean, by invoice. ``rivals``: (invoice, detection) of what each displaced transaction had paid."""
    news: defaultdict[UUID, News] = defaultdict(News)
    for transfer in transfers:
        for displaced in transfer.rivals:
            for invoice, detection in rivals.get(displaced, ()):
                news[invoice].lost[detection] = transfer.tx_id
        found = match(transfer, rail, candidates.get(transfer.to, ()), configured) if transfer.amount else None
        if found is not None:
            owner, kind = found
            news[owner.invoice_id].sightings.append(sighting(transfer, rail, owner, kind, now))
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
