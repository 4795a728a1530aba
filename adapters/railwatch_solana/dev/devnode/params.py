"""The parameters of a request: a list whose tail may be missing, with objects in which null means not given."""

from typing import Any, Literal, TypeVar

import msgspec
from solders.hash import Hash, ParseHashError
from solders.pubkey import Pubkey
from solders.signature import Signature

from railwatch_solana.dev.devnode.chain import Chain, Commitment
from railwatch_solana.dev.devnode.errors import MIN_CONTEXT_SLOT, RpcError, invalid

T = TypeVar("T")
U64 = (1 << 64) - 1

Encoding = Literal["base58", "base64", "base64+zstd", "jsonParsed", "json"]
Details = Literal["full", "accounts", "signatures", "none"]


class Config(msgspec.Struct, rename="camel"):
    """What every object of options may say."""

    commitment: Commitment | None = None
    min_context_slot: int | None = None


class DataSlice(msgspec.Struct):
    """A part of an account's data."""

    offset: int
    length: int


class Memcmp(msgspec.Struct):
    """Bytes that an account's data must have at an offset."""

    offset: int
    bytes: str
    encoding: Literal["base58", "base64"] | None = None


class Filter(msgspec.Struct, rename="camel"):
    """One condition on an account."""

    data_size: int | None = None
    memcmp: Memcmp | None = None


class AccountConfig(Config, rename="camel"):
    """How accounts are shown."""

    encoding: Encoding | None = None
    data_slice: DataSlice | None = None
    filters: list[Filter] | None = None
    with_context: bool | None = None


class BlockConfig(Config, rename="camel"):
    """How blocks and transactions are shown."""

    encoding: Encoding | None = None
    transaction_details: Details | None = None
    rewards: bool | None = None
    show_rewards: bool | None = None
    max_supported_transaction_version: int | None = None

    @property
    def with_rewards(self) -> bool:
        """``blockSubscribe`` has another name for it than ``getBlock``."""
        return self.rewards is not False and self.show_rewards is not False


class HistoryConfig(Config, rename="camel"):
    """A page of an address's transactions, newest first."""

    before: str | None = None
    until: str | None = None
    limit: int | None = None


class SendConfig(Config, rename="camel"):
    """How a transaction is sent."""

    encoding: Encoding | None = None
    skip_preflight: bool | None = None
    preflight_commitment: Commitment | None = None
    max_retries: int | None = None


class SimulatedAccounts(msgspec.Struct):
    """Accounts to show as they would be."""

    addresses: list[str]
    encoding: Encoding | None = None


class SimulateConfig(Config, rename="camel"):
    """How a transaction is tried out."""

    encoding: Encoding | None = None
    sig_verify: bool | None = None
    replace_recent_blockhash: bool | None = None
    inner_instructions: bool | None = None
    accounts: SimulatedAccounts | None = None


class Params:
    """Positional parameters. Every getter raises `RpcError` (-32602) for what it cannot accept."""

    def __init__(self, given: Any) -> None:
        if given is None:
            given = []
        if not isinstance(given, list):
            raise invalid("Invalid params: expected an array")
        self._given: list[Any] = given

    def __len__(self) -> int:
        return len(self._given)

    def get(self, at: int, kind: type[T], default: T | None = None) -> T:
        """Return the parameter at ``at``; with a ``default``, it may be missing or null."""
        value = self._given[at] if at < len(self._given) else None
        if value is None:
            if default is None:
                raise invalid(f"Invalid params: missing parameter {at}")
            return default
        return converted(value, kind)

    def raw(self, at: int) -> Any:
        """Return the parameter as it came, None if it is missing."""
        return self._given[at] if at < len(self._given) else None

    def config(self, at: int, kind: type[T]) -> T:
        """Return the object of options at ``at``; a bare string is its encoding, as old clients send it."""
        value = self.raw(at)
        if value is None:
            return kind()
        return converted({"encoding": value} if isinstance(value, str) else value, kind)

    def slot(self, at: int, default: int | None = None) -> int:
        """Return a slot, a height or an amount: what a u64 can hold."""
        value = self.get(at, int, default)
        if not 0 <= value <= U64:
            raise invalid(f"Invalid params: invalid value: integer `{value}`, expected u64")
        return value

    def key(self, at: int) -> Pubkey:
        """Return a public key."""
        return public_key(self.get(at, str))


def converted(value: Any, kind: type[T]) -> T:
    """JSON to a type. Raises `RpcError`."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise invalid(f"Invalid params: {error}") from error


def public_key(text: str) -> Pubkey:
    """Base58 of 32 bytes. Raises `RpcError`."""
    try:
        return Pubkey.from_string(text)
    except ValueError as error:
        raise invalid("Invalid param: Invalid") from error


def signature(text: str) -> str:
    """Base58 of 64 bytes, in its one spelling. Raises `RpcError`."""
    try:
        return str(Signature.from_string(text))
    except ValueError as error:
        raise invalid("Invalid param: Invalid") from error


def block_hash(text: str) -> Hash:
    """Base58 of 32 bytes. Raises `RpcError`."""
    try:
        return Hash.from_string(text)
    except ParseHashError as error:
        raise invalid(f"Invalid param: {error}") from error


def slot_of(chain: Chain, config: Config, *, at_least_confirmed: bool = False) -> int:
    """Return the newest slot at the wanted commitment, by default finalized. Raises `RpcError`."""
    commitment: Commitment = config.commitment or "finalized"
    if at_least_confirmed and commitment == "processed":
        raise invalid("Method does not support commitment below `confirmed`")
    slot = chain.slot_at(commitment)
    if config.min_context_slot is not None and slot < config.min_context_slot:
        raise RpcError(MIN_CONTEXT_SLOT, "Minimum context slot has not been reached", {"contextSlot": slot})
    return slot
