"""What the data of a token account or a mint says, in SPL Token's layout, which Token-2022 extends at the end."""

import struct
from dataclasses import dataclass

import msgspec
from solders.account import Account
from solders.pubkey import Pubkey

TOKEN = Pubkey.from_string("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA")
TOKEN_2022 = Pubkey.from_string("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb")
PROGRAMS = {TOKEN: "spl-token", TOKEN_2022: "spl-token-2022"}
WRAPPED_SOL = Pubkey.from_string("So11111111111111111111111111111111111111112")

MINT_SIZE = 82
ACCOUNT_SIZE = 165
TYPE_AT = 165
"""Token-2022 writes here which of the two an extended account is: a mint is padded up to the size of an account."""
IS_MINT, IS_ACCOUNT = 1, 2
STATES = {1: "initialized", 2: "frozen"}


@dataclass(frozen=True, slots=True)
class TokenAccount:
    """An initialised token account; ``amount`` in base units."""

    mint: Pubkey
    owner: Pubkey
    amount: int
    state: str


@dataclass(frozen=True, slots=True)
class Mint:
    """An initialised mint; ``supply`` in base units."""

    decimals: int
    supply: int
    authority: Pubkey | None
    freeze_authority: Pubkey | None


class UiAmount(msgspec.Struct, rename="camel", frozen=True):
    """An amount as the node shows it. ``ui_amount`` is a float because the wire has one; no code computes with it."""

    amount: str
    decimals: int
    ui_amount: float | None
    ui_amount_string: str


def token_account(account: Account | None) -> TokenAccount | None:
    """Return the token account in ``account``, if that is what it is."""
    if account is None or account.owner not in PROGRAMS:
        return None
    data = account.data
    if len(data) < ACCOUNT_SIZE or (len(data) > ACCOUNT_SIZE and data[TYPE_AT] != IS_ACCOUNT):
        return None
    state = STATES.get(data[108])
    if state is None:
        return None
    (amount,) = struct.unpack_from("<Q", data, 64)
    return TokenAccount(Pubkey.from_bytes(data[:32]), Pubkey.from_bytes(data[32:64]), amount, state)


def mint(account: Account | None) -> Mint | None:
    """Return the mint in ``account``, if that is what it is."""
    if account is None or account.owner not in PROGRAMS:
        return None
    data = account.data
    if len(data) < MINT_SIZE or (len(data) > MINT_SIZE and (len(data) <= TYPE_AT or data[TYPE_AT] != IS_MINT)):
        return None
    if not data[45]:
        return None
    (supply,) = struct.unpack_from("<Q", data, 36)
    return Mint(data[44], supply, _optional(data, 0), _optional(data, 46))


def _optional(data: bytes, at: int) -> Pubkey | None:
    """Return a ``COption<Pubkey>``: four bytes of presence, then the key."""
    return Pubkey.from_bytes(data[at + 4 : at + 36]) if data[at] else None


def ui_amount(amount: int, decimals: int) -> UiAmount:
    """Return an amount in base units as the node shows it."""
    digits = str(amount).rjust(decimals + 1, "0")
    text = f"{digits[:-decimals]}.{digits[-decimals:]}".rstrip("0").rstrip(".") if decimals else digits
    return UiAmount(str(amount), decimals, amount / 10**decimals, text)
