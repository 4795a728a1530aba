"""BIP158's compact filters: does a block perhaps pay one of these scripts? Never a false no. Pure."""

from collections.abc import Sequence


def match_any(content: bytes, block_hash: str, scripts: Sequence[bytes]) -> bool:
    """Whether the basic filter ``content`` (as `getblockfilter` gives it) of a block matches any of ``scripts``.

    Raises ValueError for a filter that cannot be read.
    """
    raise NotImplementedError
