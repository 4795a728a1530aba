"""A whole block from its bytes: walked once, proven against its header, decoded where something was found. Pure."""

from bisect import bisect_right
from collections.abc import Sequence
from hashlib import sha256

from railwatch_bitcoin.chains import Chain
from railwatch_bitcoin.encoding import compact_size
from railwatch_bitcoin.tokens import split_token
from railwatch_bitcoin.wire import (
    HEADER_SIZE,
    NULL_OUTPOINT,
    Header,
    Tx,
    TxExtent,
    build_tx,
    parse_header,
    scan_tx,
)

AUXPOW_VERSION = 0x100
"""The bit of a header's version that announces another chain's proof (Dogecoin Core, primitives/pureheader.h)."""


class Block:
    """A block whose every byte was read, and whose transactions are those that its header commits to."""

    def __init__(self, raw: bytes, header: Header, chain: Chain) -> None:
        self.header = header
        self.coins: list[bytes] = []
        """What all inputs spend, in chain order: 36 bytes each, the coinbase's null outpoint first."""
        self._raw, self._chain = raw, chain
        self._scripts: list[bytes] = []
        self._extents: list[TxExtent] = []
        self._first_coins: list[int] = []
        self._first_scripts: list[int] = []
        self._places: dict[bytes, int] | None = None
        self._walk(_skip_proof(raw, header) if chain.auxpow else HEADER_SIZE)
        self.scripts = [split_token(each)[1] for each in self._scripts] if chain.cash_tokens else self._scripts
        """The scripts of all outputs, in chain order, without CashToken prefixes."""

    def __len__(self) -> int:
        """How many transactions."""
        return len(self._extents)

    def tx(self, place: int) -> Tx:
        """Return the transaction at ``place``, decoded now."""
        coin, script = self._first_coins[place], self._first_scripts[place]
        last = place + 1 == len(self)
        coins = self.coins[coin : None if last else self._first_coins[place + 1]]
        scripts = self._scripts[script : None if last else self._first_scripts[place + 1]]
        return build_tx(self._raw, self._extents[place], coins, scripts, self._chain)

    def find(self, tx_id: str) -> Tx | None:
        """Return the transaction of that id, if it is in this block."""
        if self._places is None:
            self._places = {extent.hash: place for place, extent in enumerate(self._extents)}
        place = self._places.get(bytes.fromhex(tx_id)[::-1])
        return None if place is None else self.tx(place)

    def payer(self, script: int) -> int:
        """Return the place of the transaction with the output whose script is ``scripts[script]``."""
        return bisect_right(self._first_scripts, script) - 1

    def spender(self, coin: int) -> int:
        """Return the place of the transaction with the input that spends ``coins[coin]``."""
        return bisect_right(self._first_coins, coin) - 1

    def _walk(self, at: int) -> None:
        raw, coins, scripts, extents = self._raw, self.coins, self._scripts, self._extents
        count, at = compact_size(raw, at)
        for _ in range(count):
            self._first_coins.append(len(coins))
            self._first_scripts.append(len(scripts))
            extent = scan_tx(raw, at, coins, scripts)
            extents.append(extent)
            at = extent.end
        if not coins or coins[0] != NULL_OUTPOINT:
            raise ValueError("the first transaction is no coinbase")
        if extents[-1].hogex and self._chain.mweb_hrp:
            at = _skip_mweb(raw, at)
        if at != len(raw):
            raise ValueError(f"the block has {at} bytes, but {len(raw)} came")
        self._prove([extent.hash for extent in extents])

    def _prove(self, hashes: list[bytes]) -> None:
        """Compare with the header, and refuse a block that has a transaction twice.

        A tree can be made to hold its last leaves twice and keep its root (CVE-2012-2459).
        """
        if len(set(hashes)) != len(hashes):
            raise ValueError("a transaction is in the block twice")
        if merkle_root(hashes) != self.header.merkle_root:
            raise ValueError("the transactions are not those that the header commits to")


def read_block(raw: bytes, chain: Chain, block_hash: str | None = None) -> Block:
    """Return the block. Raises ValueError for anything but one whole block whose hash is ``block_hash``."""
    header = parse_header(raw)
    if block_hash is not None and header.hash != block_hash:
        raise ValueError(f"these are the bytes of block {header.hash}, not of {block_hash}")
    try:
        return Block(raw, header, chain)
    except IndexError:
        raise ValueError(f"block {header.hash} ends before its time, after {len(raw)} bytes") from None
    except ValueError as error:
        raise ValueError(f"block {header.hash} cannot be read: {error}") from error


def merkle_root(hashes: Sequence[bytes]) -> bytes:
    """Return the root of the tree over at least one hash; a level of odd length repeats its last."""
    level = list(hashes)
    while len(level) > 1:
        if len(level) % 2:
            level.append(level[-1])
        pairs = zip(level[::2], level[1::2], strict=True)
        level = [sha256(sha256(left + right).digest()).digest() for left, right in pairs]
    return level[0]


def _skip_proof(raw: bytes, header: Header) -> int:
    """Return the index after a merge-mined block's proof.

    The proof is the parent's coinbase and block hash, two Merkle branches with the indexes of their leaves, and the
    parent's header.
    """
    if not header.version & AUXPOW_VERSION:
        return HEADER_SIZE
    at = scan_tx(raw, HEADER_SIZE, [], []).end + 32
    for _ in range(2):
        length, at = compact_size(raw, at)
        at += length * 32 + 4
    return at + HEADER_SIZE


def _skip_mweb(raw: bytes, at: int) -> int:
    """Return the end of the extension block, if there is one.

    It reaches to the last byte: its content is veiled, and its
    proof is not in the header's Merkle root."""
    return len(raw) if raw[at] else at + 1
