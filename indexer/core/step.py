"""One step over all the invoices that it touches: the chapters in their order, invoice by invoice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from indexer.core.ledger import Book, Moment, lose, orphan, promote, sight, tick
from indexer.core.model import Detection


@dataclass(slots=True)
class News:
    """What a step brings to one invoice."""

    orphaned: list[UUID] = field(default_factory=list)
    lost: dict[UUID, str | None] = field(default_factory=dict)
    sightings: list[Detection] = field(default_factory=list)


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
