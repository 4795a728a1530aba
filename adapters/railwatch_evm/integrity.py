"""Proof that content is whole: the cursor may pass a block only if nothing of it can be missing. Pure.

A node that knows a block and has not indexed it answers with no logs, null receipts or an empty trace, and none of
these is an error (HAZARDS E20). Each check here turns such an answer into `NotYet`, or into `BlockGone` where it
belongs to another branch.
"""

from collections.abc import Mapping, Sequence

from eth_hash.auto import keccak

from railwatch.rail import BlockGone, BlockRef, NotYet, RailUnavailable
from railwatch.rail.decoding import printable, read_quantity
from railwatch_evm.bloom import bloom_of
from railwatch_evm.traces import Trace
from railwatch_evm.wire import FullBlock, Header, Log, Receipt, has_bloom

Headers = Mapping[str, Header | FullBlock]
"""Blocks by hash."""


def check_link(parent: BlockRef, blocks: Sequence[BlockRef]) -> None:
    """Each block is the child of the one before it, the first of ``parent``. Raises `BlockGone`."""
    for block in blocks:
        if block.height != parent.height + 1 or block.parent != parent.hash:
            raise BlockGone(f"block {block.height} {block.hash} is not built on {parent.height} {parent.hash}")
        parent = block


def check_branch(headers: Headers, logs: Sequence[Log]) -> set[str]:
    """Return the hashes of the blocks that ``logs`` are in. Raises `BlockGone` if one is not among ``headers``.

    Raises `NotYet` for a log that is called removed: its block is canonical, so that the two answers contradict.
    """
    seen = {log.block_hash for log in logs}
    if strangers := seen - headers.keys():
        raise BlockGone(f"logs of block {printable(min(strangers), 80)}, which is not of this branch")
    if removed := next((log for log in logs if log.removed), None):
        raise NotYet(f"block {removed.block_hash}: a log is called removed, and its block is on the chain")
    return seen


def check_once(logs: Sequence[Log]) -> None:
    """No log is there twice: its place in the receipt is counted, so the second one would be another payment.

    Gateways that ask several nodes and merge their answers give such lists. Raises `NotYet`.
    """
    if len({(log.transaction_hash, log.log_index) for log in logs}) < len(logs):
        raise NotYet(f"block {logs[0].block_hash} or a later one: a log is listed twice")


def check_logs(headers: Headers, logs: Sequence[Log]) -> list[str]:
    """Return the blocks (by hash) whose bloom says that they have logs, and that have none among ``logs``.

    ``logs`` are all logs of these blocks, in order. A bloom is only ever set by logs, so a set bloom without logs is no
    false positive. Raises `BlockGone` for a log of another branch, `NotYet` for a gap.
    """
    seen = check_branch(headers, logs)
    last, block, restarted = -1, "", False
    for log in logs:
        if log.block_hash != block:
            last, block = -1, log.block_hash
        index = _next_index(log, last)
        restarted = restarted or index <= last
        last = index
    if restarted:
        check_once(logs)
    return [each for each, header in headers.items() if each not in seen and has_bloom(header)]


def _next_index(log: Log, last: int) -> int:
    """Return the log's index if it follows ``last``. Some chains append system logs that start again at 0."""
    try:
        index = read_quantity(log.log_index, "a log's index")
    except RailUnavailable as error:
        raise RailUnavailable(f"block {printable(log.block_hash, 80)} cannot be decoded: {error}") from error
    if index not in (last + 1, 0):
        raise NotYet(f"block {log.block_hash}: log {index} follows {last}, so logs are missing")
    return index


def check_bloom(header: Header | FullBlock, logs: Sequence[Log]) -> None:
    """All logs of one block account for every bit of its bloom. Raises `NotYet` if some are missing.

    A chain that keeps no blooms, or full ones, has none that could accuse it. What this cannot see is a
    missing log that repeats another's contract and topics; no node is known to cut a single block's answer.
    """
    if not has_bloom(header):
        return
    try:
        items = {bytes.fromhex(text[2:]) for log in logs for text in (log.address, *log.topics)}
        missing = int(header.logs_bloom, 16) & ~bloom_of(items)
    except ValueError as error:
        raise RailUnavailable(f"block {header.hash} cannot be decoded: {printable(error)}") from error
    if missing:
        raise NotYet(f"block {header.hash}: its bloom speaks of more than the {len(logs)} logs given")


class PartlyTraced(NotYet):
    """Some transactions of a block have their traces, and the others none: ``frames`` are all of the former."""

    def __init__(self, words: str, frames: Sequence[Trace]) -> None:
        super().__init__(words)
        self.frames = frames


def check_traces(header: Header | FullBlock, traces: Sequence[Trace]) -> None:
    """Every transaction of the block has its root frame, in order, and no frame is of another block.

    Raises `BlockGone` for another branch's frames (trace_block asks by height), `NotYet` for missing ones, and
    `PartlyTraced` where those that are there can be distinguished.
    """
    if strangers := {trace.block_hash for trace in traces} - {None, header.hash}:
        raise BlockGone(f"a trace of block {printable(strangers.pop(), 80)}, and {header.hash} was asked for")
    # Only a root has no address, and a block reward has no transaction.
    traced = [trace.transaction_hash for trace in traces if not trace.trace_address and trace.transaction_hash]
    expected = tx_ids(header)
    if traced != expected and [*traced, *system_transaction(header)] != expected:
        words = f"block {header.hash}: traces of {len(traced)} transactions, not of its {len(header.transactions)}"
        # In the block's order, and each once: the rest is what the node leaves out.
        if traced and [tx_id for tx_id in expected if tx_id in set(traced)] == traced:
            raise PartlyTraced(words, [trace for trace in traces if trace.transaction_hash])
        raise NotYet(words)


def system_transaction(header: Header | FullBlock) -> list[str]:
    """Return the hash of bor's state-sync transaction, if the block ends with one: bor lists it without a trace.

    It moves nothing, and its hash is derived from the block's (bor, GetDerivedBorTxHash): it cannot be forged.
    """
    ids = tx_ids(header)
    try:
        name = b"matic-bor-receipt-" + int(header.number, 16).to_bytes(8, "big") + bytes.fromhex(header.hash[2:])
    except (ValueError, OverflowError):
        return []
    return ids[-1:] if ids[-1:] == ["0x" + keccak(name).hex()] else []


def tx_ids(header: Header | FullBlock) -> list[str]:
    """Return the hashes of a block's transactions, in order."""
    return [each if isinstance(each, str) else each.hash for each in header.transactions]


def check_receipts(header: Header | FullBlock, receipts: Sequence[Receipt]) -> list[Log]:
    """Return the logs of all transactions of a block, by its receipts.

    Raises `BlockGone`, and `NotYet` if any are missing.
    """
    if strangers := {receipt.block_hash.lower() for receipt in receipts} - {header.hash}:
        raise BlockGone(f"receipts of block {printable(strangers.pop(), 80)}, and {header.hash} was asked for")
    given = [receipt.transaction_hash.lower() for receipt in receipts]
    expected = tx_ids(header)
    if given != expected and [*given, *system_transaction(header)] != expected:
        raise NotYet(f"block {header.hash}: receipts of {len(given)} transactions, not of its {len(expected)}")
    logs = [log for receipt in receipts for log in receipt.logs or ()]
    check_branch({header.hash: header}, logs)
    check_once(logs)
    check_bloom(header, logs)
    return logs


def arranged(headers: Headers, logs: list[Log]) -> list[Log]:
    """Return the logs in the order of their blocks and indices, where no index is there twice; else as they are.

    Gateways that merge the answers of several nodes do not sort them.
    """
    place = {each: at for at, each in enumerate(headers)}
    try:
        order = [(place[log.block_hash], read_quantity(log.log_index, "a log's index")) for log in logs]
    except (KeyError, RailUnavailable):
        return logs
    if len(set(order)) < len(order):
        return logs
    return [log for _, log in sorted(zip(order, logs, strict=True), key=lambda each: each[0])]


def check_receipt(tx_id: str, block_hash: str, receipt: Receipt | None) -> Receipt:
    """Return the receipt itself, of this transaction in this block. Raises `NotYet` (go-ethereum#28992)."""
    if receipt is None:
        raise NotYet(f"block {block_hash}: no receipt yet for {tx_id}")
    if receipt.block_hash.lower() != block_hash or receipt.transaction_hash.lower() != tx_id:
        raise NotYet(f"block {block_hash}: the receipt of {tx_id} belongs to {printable(receipt.block_hash, 80)}")
    return receipt
