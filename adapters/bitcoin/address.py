"""Addresses as people write them: Base58Check, Bech32(m) and CashAddr in, an output script out, and back. Pure."""

from adapters.bitcoin.params import Chain
from indexer.rail import Address


def parse_address(text: str, chain: Chain) -> Address:
    """The output script that pays ``text`` (the key), and its canonical form. Raises `BadAddress` with the reason."""
    raise NotImplementedError


def script_address(script: bytes, chain: Chain) -> str | None:
    """The address that ``script`` pays; None for scripts that have none (public keys, bare multisig, data, odd ones)."""
    raise NotImplementedError
