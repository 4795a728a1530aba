"""A block of the development chain, the transactions in it, and the records that undo it."""

from dataclasses import dataclass, field
from typing import Any

import msgspec
from solders.account import Account
from solders.hash import Hash
from solders.pubkey import Pubkey

from railwatch_solana.dev.devnode.tokens import UiAmount
from railwatch_solana.dev.devnode.transaction import Incoming


class TokenBalance(msgspec.Struct, rename="camel", frozen=True):
    """What a token account held before or after a transaction."""

    account_index: int
    mint: str
    owner: str
    program_id: str
    ui_token_amount: UiAmount


class InnerInstruction(msgspec.Struct, rename="camel", frozen=True):
    """An instruction that a program called; ``data`` is base58."""

    program_id_index: int
    accounts: list[int]
    data: str
    stack_height: int | None


class InnerInstructions(msgspec.Struct, frozen=True):
    """All that the instruction at ``index`` called."""

    index: int
    instructions: list[InnerInstruction]


@dataclass(frozen=True, slots=True)
class Meta:
    """What a transaction did. ``err`` is JSON or None; lamports are ints; ``returned`` is (program, data)."""

    err: Any
    fee: int
    pre_balances: list[int]
    post_balances: list[int]
    pre_tokens: list[TokenBalance]
    post_tokens: list[TokenBalance]
    inner: list[InnerInstructions]
    logs: list[str]
    units: int
    returned: tuple[Pubkey, bytes] | None


@dataclass(frozen=True, slots=True)
class Landed:
    """A transaction that is in a block, whether it succeeded or failed."""

    incoming: Incoming
    meta: Meta

    @property
    def signature(self) -> str:
        """Its first signature, which is its name."""
        return self.incoming.signature


@dataclass(slots=True)
class Block:
    """One produced slot. ``before`` and ``after`` hold each changed account; they are emptied once it is finalized."""

    slot: int
    parent: int
    height: int
    blockhash: Hash
    previous: Hash
    time: int
    landed: list[Landed] = field(default_factory=list)
    before: dict[Pubkey, Account | None] = field(default_factory=dict)
    after: dict[Pubkey, Account | None] = field(default_factory=dict)
