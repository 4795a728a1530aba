"""Addresses as people write them: Base58Check, Bech32(m) and CashAddr in, an output script out, and back. Pure.

The key is the script itself, because that is what blocks hold and what the chains of the family have in common.
"""

from collections.abc import Iterable

from railwatch.rail import Address, BadAddress
from railwatch_bitcoin import base58, bech32, cashaddr
from railwatch_bitcoin.cashaddr import CashKind
from railwatch_bitcoin.chains import CHAINS, Chain

HASH_SIZE, LONG_HASH_SIZE = 20, 32
MWEB_VERSIONS = (8, 9)
"""Witness versions that Litecoin keeps for MWEB's own balance and for peg-ins: no one's address (LIP3)."""


def parse_address(text: str, chain: Chain) -> Address:
    """Return the output script that pays ``text`` (the key), and its canonical form.

    Raises `BadAddress` with the reason.
    """
    text = text.strip()
    try:
        script = _script(text, chain)
    except ValueError as error:
        raise BadAddress(f"{text[:120]!r} is no {chain.name} address: {error}") from error
    return Address(script, script_address(script, chain) or text)


def script_address(script: bytes, chain: Chain) -> str | None:
    """Return the address that ``script`` pays; None for keys, bare multisig, data and odd scripts."""
    size = len(script)
    if size == 25 and script[:3] == b"\x76\xa9\x14" and script[23:] == b"\x88\xac":
        return _hash_address(CashKind.P2PKH, script[3:23], chain)
    if size == 23 and script[:2] == b"\xa9\x14" and script[22:] == b"\x87":
        return _hash_address(CashKind.P2SH, script[2:22], chain)
    if chain.cash_prefix:
        is_long = chain.cash_tokens and size == 35 and script[:2] == b"\xaa\x20" and script[34:] == b"\x87"
        return cashaddr.encode(chain.cash_prefix, CashKind.P2SH, script[2:34]) if is_long else None
    program = witness_program(script) if chain.hrp else None
    return bech32.encode(chain.hrp, *program) if chain.hrp and program else None


def witness_program(script: bytes) -> tuple[int, bytes] | None:
    """(version, program) of a script of BIP141's form: a number from 0 to 16, then one push of 2 to 40 bytes."""
    if not 4 <= len(script) <= 42 or script[1] != len(script) - 2:
        return None
    if script[0] == 0:
        return (0, script[2:]) if len(script) in (22, 34) else None
    return (script[0] - 0x50, script[2:]) if 0x51 <= script[0] <= 0x60 else None


def _script(text: str, chain: Chain) -> bytes:
    if not text.isascii() or not text:
        raise ValueError("it is empty" if not text else "it holds characters that no address has")
    if chain.cash_prefix and (":" in text or text[0].lower() in "qpzr"):
        return _from_cash(text, chain, chain.cash_prefix)
    if ":" in text or "?" in text:
        scheme = text.lower().partition(":")[0]
        others = [each for each in CHAINS if each.cash_prefix == scheme]
        reason = (
            f"it is an address of {_names(others)}" if others else "it is a payment request: give its address alone"
        )
        raise ValueError(reason)
    prefix, _, body = text.lower().rpartition("1")
    if any(prefix in (each.hrp, each.mweb_hrp) for each in CHAINS) or _looks_like_bech32(text, prefix, body):
        return _from_bech32(text, prefix, chain)
    return _from_base58(text, chain)


def _looks_like_bech32(text: str, prefix: str, body: str) -> bool:
    """Whether it has the form of that code, so that its prefix and not its alphabet is what is strange."""
    one_case = text in (text.lower(), text.upper())
    return one_case and prefix.isalpha() and len(body) > bech32.CHECKSUM_SIZE and set(body) <= set(bech32.CHARSET)


def _from_bech32(text: str, prefix: str, chain: Chain) -> bytes:
    if any(prefix == each.mweb_hrp for each in CHAINS):
        raise ValueError("it is an MWEB address, and payments to those are not visible on the chain: use another kind")
    if prefix != chain.hrp:
        others = [each for each in CHAINS if each.hrp == prefix]
        raise ValueError(
            f"it is an address of {_names(others)}" if others else f"no chain here has the prefix {prefix!r}"
        )
    _, version, program = bech32.decode(text)
    if chain.mweb_hrp and version in MWEB_VERSIONS:
        raise ValueError(f"witness version {version} belongs to MWEB itself, and cannot be paid")
    return bytes((version and 0x50 + version, len(program))) + program


def _from_base58(text: str, chain: Chain) -> bytes:
    payload = base58.decode(text)
    version, digest = payload[0], payload[1:]
    if version != chain.p2pkh and version not in chain.p2sh:
        others = [each for each in CHAINS if version in (each.p2pkh, *each.p2sh)]
        whose = f"it is an address of {_names(others)}" if others else f"no known chain uses the version byte {version}"
        raise ValueError(whose)
    kind = CashKind.P2PKH if version == chain.p2pkh else CashKind.P2SH
    if len(digest) not in _sizes(kind, chain):
        raise ValueError(f"it holds {len(digest)} bytes instead of {HASH_SIZE}")
    return _hash_script(kind, digest)


def _sizes(kind: CashKind, chain: Chain) -> tuple[int, ...]:
    """Bytes that a hash of this kind may have. Bitcoin Cash knows P2SH with 32 since 2023 (CHIP-2022-05)."""
    return (HASH_SIZE, LONG_HASH_SIZE) if chain.cash_tokens and kind is CashKind.P2SH else (HASH_SIZE,)


def _from_cash(text: str, chain: Chain, prefix: str) -> bytes:
    kind, digest = cashaddr.decode(text, prefix)
    if kind in (CashKind.TOKEN_P2PKH, CashKind.TOKEN_P2SH) and not chain.cash_tokens:
        raise ValueError("its kind says that the wallet knows tokens, and this chain has none")
    plain = CashKind.P2PKH if kind in (CashKind.P2PKH, CashKind.TOKEN_P2PKH) else CashKind.P2SH
    if len(digest) not in _sizes(plain, chain):
        raise ValueError(f"it holds a hash of {len(digest)} bytes, which no script asks for")
    return _hash_script(plain, digest)


def _hash_script(kind: CashKind, digest: bytes) -> bytes:
    if kind is CashKind.P2PKH:
        return b"\x76\xa9\x14" + digest + b"\x88\xac"
    return (b"\xa9\x14" if len(digest) == HASH_SIZE else b"\xaa\x20") + digest + b"\x87"


def _hash_address(kind: CashKind, digest: bytes, chain: Chain) -> str:
    if chain.cash_prefix:
        return cashaddr.encode(chain.cash_prefix, kind, digest)
    return base58.encode(bytes((chain.p2pkh if kind is CashKind.P2PKH else chain.p2sh[0],)) + digest)


def _names(chains: Iterable[Chain]) -> str:
    return " or ".join(chain.name for chain in chains)
