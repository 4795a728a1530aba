"""The machine: accounts, and execution by the real SVM and its programs, one transaction at a time, undone by block."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from solders.account import Account
from solders.clock import Clock
from solders.hash import Hash
from solders.keypair import Keypair
from solders.litesvm import LiteSVM
from solders.pubkey import Pubkey
from solders.transaction_metadata import FailedTransactionMetadata, TransactionMetadata

from railwatch_solana.dev.devnode import base58
from railwatch_solana.dev.devnode.block import Block, InnerInstruction, InnerInstructions, Landed, Meta, TokenBalance
from railwatch_solana.dev.devnode.guard import Panicked, contained
from railwatch_solana.dev.devnode.tokens import MINT_SIZE, TOKEN, WRAPPED_SOL, mint, token_account, ui_amount
from railwatch_solana.dev.devnode.transaction import Incoming

SYSTEM = Pubkey.default()
FAUCET_LAMPORTS = 500_000_000 * 10**9
FEES_ONLY = ("InvalidProgramForExecution", "ProgramAccountNotFound", "MaxLoadedAccountsDataSizeExceeded")
"""Errors of loading: nothing runs, but the transaction lands and pays (SIMD-0082)."""
WRAPPED_SOL_MINT = bytes(44) + bytes([9, 1]) + bytes(36)
"""A mint without authorities: 9 decimals, initialised. Clusters begin with it, and LiteSVM does not."""
Accounts = Mapping[Pubkey, Account | None]


class Bank:
    """All accounts at the tip. The machine checks neither blockhashes nor signatures: the node has done so."""

    def __init__(self, seed: str) -> None:
        self._svm = LiteSVM().with_blockhash_check(False).with_transaction_history(0).with_sigverify(False)
        self.faucet = Keypair.from_seed(hashlib.sha256(f"faucet:{seed}".encode()).digest())
        self._svm.set_account(self.faucet.pubkey(), Account(FAUCET_LAMPORTS, b"", SYSTEM))
        self._svm.set_account(WRAPPED_SOL, Account(self.rent_minimum(MINT_SIZE), WRAPPED_SOL_MINT, TOKEN))

    def account(self, key: Pubkey) -> Account | None:
        """Return the account at the tip."""
        return self._svm.get_account(key)

    def owned_by(self, program: Pubkey) -> list[tuple[Pubkey, Account]]:
        """Every account that belongs to a program, at the tip."""
        return self._svm.get_program_accounts(program)

    def rent_minimum(self, size: int) -> int:
        """Lamports that an account of this size needs to exist."""
        return self._svm.minimum_balance_for_rent_exemption(size)

    def set_time(self, slot: int, time: int, hashes: Sequence[tuple[int, Hash]]) -> None:
        """Return what programs see: the slot, its unix time, and the hashes of earlier slots, newest first."""
        self._svm.set_clock(Clock(slot, 0, 0, 1, time))
        self._svm.set_slot_hashes(hashes)

    def execute(self, incoming: Incoming, block: Block) -> Landed | None:
        """Run it in ``block``, which records what changes. None if it cannot land, because no account can pay its fee.

        Raises `Panicked`, and then nothing has changed.
        """
        keys, payer = incoming.keys, incoming.payer
        before = {key: self.account(key) for key in keys}
        pre_tokens = self._token_balances(keys, before)
        try:
            ran = self._paid_and_run(incoming)
        except Panicked:
            self._put(payer, before[payer])
            raise
        if ran is None:
            self._put(payer, before[payer])
            return None
        after = {key: self.account(key) for key in keys}
        for key in keys:
            if before[key] != after[key]:
                block.before.setdefault(key, before[key])
                block.after[key] = after[key]
        meta, err = ran
        done = Meta(
            err=err,
            fee=meta.fee() + incoming.priority_fee,
            pre_balances=_lamports(keys, before),
            post_balances=_lamports(keys, after),
            pre_tokens=pre_tokens,
            post_tokens=self._token_balances(keys, after),
            inner=inner_instructions(meta),
            logs=meta.logs(),
            units=meta.compute_units_consumed(),
            returned=returned(meta),
        )
        return Landed(incoming, done)

    def _paid_and_run(self, incoming: Incoming) -> tuple[TransactionMetadata, Any] | None:
        """Return the machine's report and the error; None if the transaction, its priority fee paid, cannot land."""
        if not self._charge(incoming.payer, incoming.priority_fee):
            return None
        prepaid = self.account(incoming.payer)
        with contained():
            meta, err = _outcome(self._svm.send_transaction(incoming.tx))
        # An error without a fee came before execution: of loading, which costs, or of what a leader checks first.
        if err is not None and self.account(incoming.payer) == prepaid:
            if err not in FEES_ONLY:
                return None
            self._charge(incoming.payer, meta.fee())
        return meta, err

    def simulate(self, incoming: Incoming) -> tuple[Any, TransactionMetadata, dict[Pubkey, Account]]:
        """Return what a transaction would do now: its error or None, the report, and the accounts afterwards.

        Raises `Panicked`.
        """
        payer = self.account(incoming.payer)
        self._charge(incoming.payer, incoming.priority_fee)
        try:
            with contained():
                result = self._svm.simulate_transaction(incoming.tx)
        finally:
            self._put(incoming.payer, payer)
        if isinstance(result, FailedTransactionMetadata):
            meta, err = _outcome(result)
            return err, meta, {}
        return None, result.meta(), dict(result.post_accounts())

    def undo(self, block: Block) -> None:
        """Put back every account that ``block`` changed. Only the newest block can be undone."""
        for key, account in block.before.items():
            self._put(key, account)

    def _put(self, key: Pubkey, account: Account | None) -> None:
        # An account without lamports does not exist: the machine removes it.
        self._svm.set_account(key, account or Account(0, b"", SYSTEM))

    def _charge(self, payer: Pubkey, fee: int) -> bool:
        """Charge a fee that the machine does not charge; return False if the payer does not have it."""
        if not fee:
            return True
        account = self.account(payer)
        if account is None or account.lamports < fee:
            return False
        left = account.lamports - fee
        self._put(payer, Account(left, account.data, account.owner, account.executable, account.rent_epoch))
        return True

    def _token_balances(self, keys: Sequence[Pubkey], accounts: Accounts) -> list[TokenBalance]:
        found = []
        for index, key in enumerate(keys):
            account = accounts[key]
            held = token_account(account)
            if account is None or held is None:
                continue
            of = mint(accounts.get(held.mint) or self.account(held.mint))
            if of is not None:
                shown = ui_amount(held.amount, of.decimals)
                if not held.amount:
                    # The real node keeps a zero in a way that equals nothing; only blocks show it so.
                    shown = msgspec.structs.replace(shown, ui_amount=None)
                found.append(TokenBalance(index, str(held.mint), str(held.owner), str(account.owner), shown))
        return found


def _outcome(result: TransactionMetadata | FailedTransactionMetadata) -> tuple[TransactionMetadata, Any]:
    """Return the machine's report, and its error as JSON: solders' typed errors lack some names."""
    if isinstance(result, FailedTransactionMetadata):
        return result.meta(), msgspec.json.decode(result.to_json())["err"]
    return result, None


def _lamports(keys: Iterable[Pubkey], accounts: Accounts) -> list[int]:
    return [account.lamports if (account := accounts[key]) else 0 for key in keys]


def inner_instructions(meta: TransactionMetadata) -> list[InnerInstructions]:
    """Return the calls between programs, for each instruction that made any."""
    found = []
    for index, calls in enumerate(meta.inner_instructions()):
        if calls:
            found.append(InnerInstructions(index, [_inner(call) for call in calls]))
    return found


def _inner(call: Any) -> InnerInstruction:
    done = call.instruction()
    return InnerInstruction(
        done.program_id_index, list(done.accounts), base58.encode(bytes(done.data)), call.stack_height()
    )


def returned(meta: TransactionMetadata) -> tuple[Pubkey, bytes] | None:
    """Return the return data and the program that set it, if any did."""
    data = meta.return_data()
    return (data.program_id, bytes(data.data)) if data.data else None
