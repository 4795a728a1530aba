"""A whole block from its bytes: walked once, proven against its header, decoded only where something was found. Pure."""

from adapters.bitcoin.params import Chain
from adapters.bitcoin.wire import Header, Tx


class Block:
    """A block whose every byte was read, and whose transactions are those that its header commits to."""

    header: Header
    scripts: list[bytes]
    """The scripts of all outputs, in chain order."""
    coins: list[bytes]
    """What all inputs spend, in chain order: 36 bytes each, the coinbase's null outpoint first."""

    def __len__(self) -> int:
        """How many transactions."""
        raise NotImplementedError

    def tx(self, place: int) -> Tx:
        """The transaction at ``place``, decoded now."""
        raise NotImplementedError


def read_block(raw: bytes, chain: Chain, block_hash: str | None = None) -> Block:
    """The block. Raises ValueError saying why for anything but one whole block, or one other than ``block_hash``."""
    raise NotImplementedError
