"""From logs to token transfers: match first, decode after. Pure.

Ten thousand logs are compared with the watched addresses in one call on bare keys, and only what hits becomes numbers
and objects; nearly every block holds nothing of ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from railwatch.rail import AssetId, BlockRef, ChainId, RailUnavailable, Transfer, Watches
from railwatch.rail.decoding import printable, read_hex, read_quantity
from railwatch_evm.chains import moved_by_precompile, native_faces
from railwatch_evm.wire import Log

TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
"""keccak256("Transfer(address,address,uint256)"), of ERC-20 and ERC-721 alike."""
PADDING = "0x" + "0" * 24

Order = tuple[int, int, int, int]
"""Where a credit is in the chain: height, the transaction's position, ether before tokens, the place within."""
OrderedTransfer = tuple[Order, Transfer]


@dataclass(frozen=True, slots=True)
class DecodeContext:
    """What decoding needs to know in addition to the content: whose chain, which node, which addresses are watched."""

    chain_id: ChainId
    node: str
    watches: Watches

    def token(self, contract: str) -> AssetId:
        """Return a contract's asset: the configured one, else its own id, which the daemon calls unsupported (E6)."""
        configured = self.watches.assets.get("" if contract in moved_by_precompile(self.chain_id) else contract)
        return configured or AssetId(f"{self.chain_id}/erc20:{contract}")

    @property
    def native(self) -> AssetId | None:
        """The chain's own asset, if it is configured."""
        return self.watches.assets.get("")

    @property
    def silent(self) -> frozenset[str]:
        """The contracts whose logs are no token's: the native asset has a source of its own (E5, E27)."""
        faces = native_faces(self.chain_id)
        return faces if self.native is None else faces - moved_by_precompile(self.chain_id)


Matched = tuple[int, Log, bytes]
"""An ERC-20 transfer: its place among the logs, the log, and the recipient's key."""


def match_logs(logs: Sequence[Log], context: DecodeContext) -> list[Matched]:
    """Return the ERC-20 transfers to watched addresses. Raises as `shape_logs`."""
    return watched_logs(shape_logs(logs, context.silent), context)


def watched_logs(shaped: Sequence[Matched], context: DecodeContext) -> list[Matched]:
    """Those whose recipient is watched: the one step that needs the watches, which belong to the loop."""
    watched = context.watches.hits([key for _, _, key in shaped])
    return [each for each in shaped if each[2] in watched] if watched else []


def shape_logs(logs: Sequence[Log], silent: frozenset[str]) -> list[Matched]:
    """Return the logs that are ERC-20 transfers, to any recipient.

    Those of the ``silent`` contracts are none (`DecodeContext.silent`). Raises `RailUnavailable` with the block's hash
    for a topic that is not hex.
    """
    shaped = [(place, log) for place, log in enumerate(logs) if _is_transfer(log) and log.address.lower() not in silent]
    try:
        keys = [bytes.fromhex(log.topics[2][26:]) for _, log in shaped]
    except ValueError as error:
        broken = next(log for _, log in shaped if not _is_hex(log.topics[2][2:]))
        raise RailUnavailable(
            f"block {printable(broken.block_hash, 80)} cannot be decoded: a topic is no hex"
        ) from error
    return [(place, log, key) for (place, log), key in zip(shaped, keys, strict=True)]


def _is_transfer(log: Log) -> bool:
    """ERC-20's Transfer: three topics and 32 bytes of data (E8). ERC-721 has four topics and no data."""
    topics = log.topics
    return (
        len(topics) == 3
        and topics[0] == TRANSFER
        and log.data is not None
        and len(log.data) == 66
        and len(topics[2]) == 66
        and topics[2].startswith(PADDING)
        and not log.removed
    )


def token_transfers(
    logs: Sequence[Log], blocks: Mapping[str, BlockRef], context: DecodeContext
) -> list[OrderedTransfer]:
    """Token transfers to watched addresses. ``logs`` are all logs of each transaction that they hold one of, in order.

    That is what makes a log's position within its receipt countable without the receipt (HAZARDS, "Identity").
    """
    return place_logs(match_logs(logs, context), logs, blocks, context)


def place_logs(
    found: Sequence[Matched], logs: Sequence[Log], blocks: Mapping[str, BlockRef], context: DecodeContext
) -> list[OrderedTransfer]:
    """Return the token transfers that were ``found`` among ``logs``. Raises `RailUnavailable` as `place_log`."""
    positions = _positions(logs) if found else []
    placed = (place_log(log, positions[place], key, blocks[log.block_hash], context) for place, log, key in found)
    return [each for each in placed if each is not None]


def _positions(logs: Sequence[Log]) -> list[int]:
    """For each log, how many of the same receipt come before it: a transaction's logs are adjacent."""
    positions: list[int] = []
    tx_id, block, position = "", "", 0
    for log in logs:
        if log.transaction_hash == tx_id and log.block_hash == block:
            position += 1
        else:
            tx_id, block, position = log.transaction_hash, log.block_hash, 0
        positions.append(position)
    return positions


def place_log(log: Log, position: int, key: bytes, block: BlockRef, context: DecodeContext) -> OrderedTransfer | None:
    """One matched log as a transfer; None if it moves nothing, which is how addresses are poisoned (E11).

    Raises `RailUnavailable` with the block's hash for numbers that are none.
    """
    what = f"block {block.hash} cannot be decoded: a log of {printable(log.transaction_hash, 80)}"
    tx_id, contract = read_hex(log.transaction_hash, 32, what), read_hex(log.address, 20, what)
    amount, index = read_quantity(log.data or "", what), read_quantity(log.log_index, what)
    at = read_quantity(log.transaction_index, what)
    sender = "0x" + read_hex(log.topics[1], 32, what)[26:]
    if amount == 0:
        return None
    evidence = {"from": sender, "log_index": index, "node": context.node, "source": "log", "contract": contract}
    asset = context.token(contract)
    raw = {"address": log.address, "topics": log.topics, "data": log.data}
    transfer = Transfer(tx_id, f"log:{position}", key, asset, amount, block, evidence=evidence, raw=raw)
    return (block.height, at, 1, position), transfer


def _is_hex(text: str) -> bool:
    try:
        bytes.fromhex(text)
    except ValueError:
        return False
    return True
