"""The node: a chain, a bank and the transactions that wait, changed by commands and by nothing else."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from solders.account import Account
from solders.pubkey import Pubkey

from railwatch_solana.dev.devnode.bank import Bank
from railwatch_solana.dev.devnode.block import Block
from railwatch_solana.dev.devnode.chain import Chain, Commitment
from railwatch_solana.dev.devnode.commands import (
    AnyCommand,
    Commitments,
    Fork,
    Produce,
    Prune,
    Restore,
    Skip,
    Submit,
    Withhold,
)
from railwatch_solana.dev.devnode.errors import INTERNAL, RpcError, invalid
from railwatch_solana.dev.devnode.guard import Panicked
from railwatch_solana.dev.devnode.transaction import Incoming, load

WAITING_MAX = 50_000
MOST = 10_000
"""Slots or blocks that one command may make, and slots that may be withheld."""


class Settings(msgspec.Struct, frozen=True):
    """What a chain begins with; ``time`` in unix seconds, lags in blocks, ``keep`` in blocks or 0 to prune nothing."""

    seed: str = "railwatch"
    start_slot: int = 0
    confirm_lag: int = 1
    root_lag: int = 31
    keep: int = 0
    time: int = 0


@dataclass(frozen=True, slots=True)
class Withheld:
    """How the node denies a block that it has."""

    code: int
    listed: bool


Listener = Callable[[Commitment, Block], None]


class Node:
    """State that obeys. Calls are synchronous, so each request sees whole blocks only."""

    def __init__(self, settings: Settings, record: Callable[[AnyCommand], None] | None = None) -> None:
        self._record = record
        self._keep = settings.keep
        self.bank = Bank(settings.seed)
        self.chain = Chain(settings.seed, settings.start_slot, settings.time, settings.confirm_lag, settings.root_lag)
        self.waiting: list[bytes] = []
        self.withheld: dict[int, Withheld] = {}
        self.listeners: list[Listener] = []
        self._set_time(self.chain.tip)

    def do(self, command: AnyCommand) -> None:
        """Apply a command and keep it. Raises `RpcError` if it cannot be done, and then nothing has changed."""
        self.apply(command)
        if self._record is not None:
            self._record(command)

    def apply(self, command: AnyCommand) -> None:
        """Apply a command that is not to be kept: one that was read from the ledger."""
        match command:
            case Submit(raw):
                self._submit(raw)
            case Produce(when, blockhash):
                self._produce(when, blockhash)
            case Skip(count):
                self.chain.next_slot += _count(count)
            case Fork(depth, resubmit):
                self._fork(depth, resubmit)
            case Commitments(confirm_lag, root_lag):
                self._commitments(confirm_lag, root_lag)
            case Withhold(slot, code, listed):
                if len(self.withheld) >= MOST:
                    raise invalid(f"{MOST} slots are withheld already")
                self.withheld[slot] = Withheld(code, listed)
            case Restore(slot):
                self.withheld = {at: how for at, how in self.withheld.items() if slot is not None and at != slot}
            case Prune(below):
                self.chain.prune(below)

    def produce(self) -> Block:
        """Produce a block of all waiting transactions; the ledger keeps it under its hash."""
        when = int(time.time())
        self._produce(when, "")
        block = self.chain.tip
        if self._record is not None:
            self._record(Produce(when, str(block.blockhash)))
        return block

    def load(self, raw: bytes) -> Incoming:
        """Return a transaction with its keys as the tables at the tip have them. Raises `RpcError`."""
        return load(raw, self.bank.account)

    def account_at(self, key: Pubkey, slot: int) -> Account | None:
        """Return an account as of the block at ``slot``, which is not below the finalized one."""
        for block in self.chain.above(slot):
            if key in block.before:
                return block.before[key]
        return self.bank.account(key)

    def owned_at(self, program: Pubkey, slot: int) -> list[tuple[Pubkey, Account]]:
        """Return the accounts that a program owned then, in the order of their keys."""
        now = dict(self.bank.owned_by(program))
        changed = {key for block in self.chain.above(slot) for key in block.before}
        found = {key: account for key, account in now.items() if key not in changed}
        for key in changed:
            account = self.account_at(key, slot)
            if account is not None and account.owner == program:
                found[key] = account
        return sorted(found.items(), key=lambda item: bytes(item[0]))

    def _submit(self, raw: bytes) -> None:
        if len(self.waiting) >= WAITING_MAX:
            raise RpcError(INTERNAL, f"{WAITING_MAX} transactions wait already: produce a block first")
        self.waiting.append(raw)

    def _produce(self, when: int, expected: str) -> None:
        chain = self.chain
        block = chain.open(when)
        self._set_time(block)
        waiting, self.waiting = self.waiting, []
        hashes = chain.recent_hashes()
        for raw in waiting:
            try:
                incoming = self.load(raw)
                if incoming.tx.message.recent_blockhash not in hashes or chain.was_used(incoming.signature):
                    continue
                landed = self.bank.execute(incoming, block)
            except (RpcError, Panicked):
                # A leader drops what it cannot execute; the sender learns it by waiting in vain.
                continue
            if landed is not None:
                chain.note(block, landed)
        chain.close(block)
        if expected and str(block.blockhash) != expected:
            raise ValueError(f"slot {block.slot} came out as {block.blockhash}, the ledger says {expected}")
        self._notify("processed", block)
        self._advance()

    def _fork(self, depth: int, resubmit: bool) -> None:
        dropped = self.chain.drop(depth)
        for block in dropped:
            self.bank.undo(block)
        self._set_time(self.chain.tip)
        if resubmit:
            again = [landed.incoming.raw for block in reversed(dropped) for landed in block.landed]
            self.waiting[:0] = again

    def _commitments(self, confirm_lag: int | None, root_lag: int | None) -> None:
        chain = self.chain
        if confirm_lag is not None:
            chain.confirm_lag = confirm_lag
        if root_lag is not None:
            chain.root_lag = root_lag
        self._advance()

    def _advance(self) -> None:
        confirmed, finalized = self.chain.advance()
        for block in confirmed:
            self._notify("confirmed", block)
        for block in finalized:
            self._notify("finalized", block)
            # Finalized is never undone and never asked below, so its undo log has served.
            block.before, block.after = {}, {}
        if self._keep and finalized:
            kept = self.chain.between(0, self.chain.finalized)[-self._keep :]
            self.chain.prune(kept[0])

    def _set_time(self, block: Block) -> None:
        self.bank.set_time(block.slot, block.time, self.chain.slot_hashes(block.slot))

    def _notify(self, commitment: Commitment, block: Block) -> None:
        for listener in self.listeners:
            listener(commitment, block)


def _count(count: int) -> int:
    if not 1 <= count <= MOST:
        raise invalid(f"{count} is not between 1 and {MOST}")
    return count
