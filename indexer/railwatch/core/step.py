"""One step over all the invoices that it touches: the chapters in their order, invoice by invoice."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from railwatch.core.aggregate import Book, Moment
from railwatch.core.lifecycle import count_small, look, lose, orphan, promote, reject, sight, tick
from railwatch.core.matching import (
    Candidate,
    Known,
    base_index,
    detection_id,
    match,
    paired,
    sighting,
    variant_index,
)
from railwatch.core.model import Coverage, Detection
from railwatch.rail.types import AssetId, Transfer


@dataclass(slots=True)
class News:
    """What a step brings to one invoice."""

    orphaned: list[UUID] = field(default_factory=list)
    lost: dict[UUID, str | None] = field(default_factory=dict)
    sightings: list[Detection] = field(default_factory=list)
    small: list[tuple[UUID, int]] = field(default_factory=list)
    """Destination and amount of transfers that are too small to move anything."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the store knows of a step's transactions.

    ``candidates``: who holds an address, by its key. ``known``: what was recorded before; it stays where it is, whoever
    holds the address now. ``rivals``: (invoice, detection) of what each displaced transaction had paid. ``orphaned``:
    detections whose inclusion the step takes back. ``origin``: the name that new ids derive from, if the rail has
    another one by now.
    """

    candidates: Mapping[bytes, Sequence[Candidate]]
    known: Iterable[Known]
    rivals: Mapping[str, Sequence[tuple[UUID, UUID]]]
    orphaned: Collection[UUID] = ()
    origin: str | None = None


def gather(
    transfers: Sequence[Transfer], rail: str, recorded: Recorded, configured: Mapping[AssetId, int], now: datetime
) -> dict[UUID, News]:
    """What transfers mean, by invoice. ``configured``: the assets, each with the least amount that moves anything."""
    news: defaultdict[UUID, News] = defaultdict(News)
    known: defaultdict[tuple[str, str], list[Known]] = defaultdict(list)
    for each in recorded.known:
        known[each.tx_id, base_index(each.tx_index)].append(each)
    same_as = paired(recorded.known, transfers)
    spoken_for = {each.detection_id for each in same_as.values()}
    for transfer in transfers:
        for displaced in transfer.rivals:
            for invoice, detection in recorded.rivals.get(displaced, ()):
                news[invoice].lost[detection] = transfer.tx_id
        if not transfer.amount:
            continue
        same = same_as.get((transfer.tx_id, transfer.tx_index))
        name = transfer.tx_index if same is None else base_index(same.tx_index)
        recorded_so = known.get((transfer.tx_id, name), ())
        before = [each for each in recorded_so if each is same or each.detection_id not in spoken_for]
        same = same or next((each for each in before if each.pays_like(transfer)), None)
        if not _displace(news, transfer, [each for each in before if each is not same], recorded.orphaned):
            continue
        if same is not None:
            kind = same.kind_of(transfer, rail, now)
            found = sighting(same.detection_id, transfer, rail, same.destination_id, kind, now)
            news[same.invoice_id].sightings.append(found)
        elif matched := match(transfer, rail, recorded.candidates.get(transfer.to, ()), configured, now):
            owner, kind = matched
            named = replace(transfer, tx_index=variant_index(transfer)) if recorded_so else transfer
            identity = detection_id(recorded.origin or rail, named.tx_id, named.tx_index)
            found = sighting(identity, named, rail, owner.destination_id, kind, now)
            _add(news[owner.invoice_id], found, configured)
    return dict(news)


def _displace(
    news: Mapping[UUID, News], transfer: Transfer, others: Iterable[Known], orphaned: Collection[UUID]
) -> bool:
    """End what the transaction was recorded to pay otherwise; False where that stands, so that it cannot pay this."""
    block_hash = transfer.block.hash if transfer.block else None
    standing = [each for each in others if each.block_hash is not None and each.detection_id not in orphaned]
    if any(each.excludes(block_hash) for each in standing):
        return False
    for each in standing:
        news[each.invoice_id].orphaned.append(each.detection_id)
    for each in others:
        news[each.invoice_id].lost.setdefault(each.detection_id, transfer.tx_id)
    return True


def _add(about: News, found: Detection, configured: Mapping[AssetId, int]) -> None:
    """Take in what was never recorded. What is below the asset's least amount is counted, once it is in a block."""
    if found.amount >= configured.get(found.asset, 0):
        about.sightings.append(found)
    elif found.block_hash is not None:
        about.small.append((found.destination_id, found.amount))


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
        if about.small:
            count_small(book, about.small)
        reject(book, moment)
        promote(book, moment)


def settle_clock(books: Sequence[Book], moment: Moment) -> None:
    """Let time pass for invoices whose window is over."""
    for book in books:
        tick(book, moment)


def look_at_cases(books: Sequence[Book], coverage: Coverage, now: datetime) -> None:
    """Compare exceptions with the facts, where only time or somebody outside has changed them."""
    for book in books:
        look(book, coverage, now)
