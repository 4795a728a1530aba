"""Addresses as people write them: EIP-55 in, 20 bytes out, and back."""

import re

from railwatch.rail import Address, AssetSpec, BadAddress, RailSettings
from railwatch_evm.chains import native_faces

RESERVED = 0x10000
"""Addresses below it are precompiles and the system contracts of some chains; no key exists for them."""
BURN = frozenset(
    {
        0xDEAD << 144,
        0xDEAD000000000000000042069420694206942069,
        0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFE,
        0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF,
    }
)
"""Where people burn; the last two are the system's own (EIP-4788, EIP-7708), and all ones."""

_HEX = re.compile(r"[0-9a-fA-F]{40}")


def parse_address(text: str) -> Address:
    """Return the 20 raw bytes, and the EIP-55 form. Raises `BadAddress` with the reason.

    EIP-55 hides a checksum in the case of the letters, so mixed case must match it; all-lower and all-upper carry none
    and are accepted, as every wallet does.
    """
    body = _body(text.strip())
    key = bytes.fromhex(body)
    display = checksum_address(key)
    if body not in (body.lower(), body.upper(), display[2:]):
        raise BadAddress(
            f"{text.strip()} has a wrong EIP-55 checksum, so a character is mistyped: "
            f"copy it again (if it is meant to be {display}, write it so)"
        )
    return Address(key, display)


def burn_refusal(address: Address) -> str | None:
    """Return why a payment to ``address`` could never be spent, or None.

    The zero address, the precompiles and system contracts (all below 0x10000), 0xdead, and the system's own.
    """
    number = int.from_bytes(address.key, "big")
    if number >= RESERVED and number not in BURN:
        return None
    return f"{address.text} has no owner: a payment to it is destroyed. Give an address of the merchant's wallet"


def check_contract(rail: RailSettings, spec: AssetSpec) -> None:
    """Check a configured contract as an invoice's address is. Raises ValueError, naming the asset."""
    if spec.contract is None:
        return
    try:
        key = parse_address(spec.contract).key
    except BadAddress as error:
        raise ValueError(f"rail {rail.name}: contract of {spec.symbol}: {error}") from error
    if "0x" + key.hex() in native_faces(rail.chain_id):
        raise ValueError(
            f"rail {rail.name}: {spec.symbol} at {spec.contract} is the chain's own asset: leave out its contract"
        )


def checksum_address(key: bytes) -> str:
    """Return the display form of 20 bytes: the hash of the lower-case text says which letters are upper case."""
    # Imported here because registering a rail must stay cheap; this is the light backend, not the whole of web3.
    from eth_hash.auto import keccak

    text = key.hex()
    digest = keccak(text.encode()).hex()
    return "0x" + "".join(char.upper() if nibble >= "8" else char for char, nibble in zip(text, digest, strict=False))


def _body(text: str) -> str:
    """Return the 40 hex digits after 0x. Raises `BadAddress`."""
    if not text.startswith(("0x", "0X")):
        raise BadAddress(f"{text[:80]!r} is no EVM address: it must start with 0x")
    body = text[2:]
    if len(body) != 40:
        raise BadAddress(f"{text[:80]!r} is no EVM address: it has {len(body)} characters after 0x instead of 40")
    if not _HEX.fullmatch(body):
        raise BadAddress(f"{text!r} is no EVM address: only 0-9 and a-f may follow 0x")
    return body
