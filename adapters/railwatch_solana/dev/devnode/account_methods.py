"""RPC methods about accounts, balances and tokens, at each commitment."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import msgspec
from solders.account import Account
from solders.pubkey import Pubkey

from railwatch_solana.dev.devnode import base58
from railwatch_solana.dev.devnode.errors import invalid
from railwatch_solana.dev.devnode.method import Method, context
from railwatch_solana.dev.devnode.node import Node
from railwatch_solana.dev.devnode.params import (
    AccountConfig,
    Config,
    Encoding,
    Filter,
    Params,
    converted,
    public_key,
    slot_of,
)
from railwatch_solana.dev.devnode.show_account import show_account
from railwatch_solana.dev.devnode.tokens import PROGRAMS, Mint, mint, token_account, ui_amount

KEYS_MAX = 100
SIZE_MAX = 10 * 1024 * 1024


class TokenFilter(msgspec.Struct, rename="camel"):
    """Which token accounts: of one mint, or of one token program."""

    mint: str | None = None
    program_id: str | None = None


class AccountMethods:
    """Reads of the bank."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def table(self) -> Mapping[str, Method]:
        """Each method under its name on the wire."""
        return {
            "getAccountInfo": self.account,
            "getBalance": self.balance,
            "getMinimumBalanceForRentExemption": self.rent,
            "getMultipleAccounts": self.accounts,
            "getProgramAccounts": self.of_program,
            "getTokenAccountBalance": self.token_balance,
            "getTokenAccountsByOwner": self.of_owner,
            "getTokenSupply": self.supply,
        }

    def show(
        self, account: Account | None, config: AccountConfig, default: Encoding, slot: int
    ) -> dict[str, Any] | None:
        """Return an account as JSON, as of a slot."""
        return show_account(account, config, default, lambda key: self._node.account_at(key, slot))

    def rent(self, params: Params) -> int:
        """Lamports that an account of this size must hold."""
        size = params.slot(0)
        if size > SIZE_MAX:
            raise invalid(f"Invalid params: no account is larger than {SIZE_MAX} bytes")
        return self._node.bank.rent_minimum(size)

    def balance(self, params: Params) -> dict[str, Any]:
        """Lamports of a key; 0 if there is no account."""
        slot = slot_of(self._node.chain, params.config(1, Config))
        account = self._node.account_at(params.key(0), slot)
        return context(slot, account.lamports if account else 0)

    def account(self, params: Params) -> dict[str, Any]:
        """One account, by default in base58."""
        config = params.config(1, AccountConfig)
        slot = slot_of(self._node.chain, config)
        return context(slot, self.show(self._node.account_at(params.key(0), slot), config, "base58", slot))

    def accounts(self, params: Params) -> dict[str, Any]:
        """Several accounts, in the order asked for."""
        names, config = converted(params.raw(0), list[str]), params.config(1, AccountConfig)
        if len(names) > KEYS_MAX:
            raise invalid(f"Too many inputs provided; max {KEYS_MAX}")
        slot = slot_of(self._node.chain, config)
        keys = [public_key(name) for name in names]
        return context(slot, [self.show(self._node.account_at(key, slot), config, "base64", slot) for key in keys])

    def of_program(self, params: Params) -> Any:
        """Return the accounts of a program that pass every filter."""
        program, config = params.key(0), params.config(1, AccountConfig)
        slot = slot_of(self._node.chain, config)
        filters = config.filters or []
        found = [
            (key, account)
            for key, account in self._node.owned_at(program, slot)
            if all(_passes(account.data, one) for one in filters)
        ]
        shown = self._keyed(found, config, "base58", slot)
        return context(slot, shown) if config.with_context else shown

    def of_owner(self, params: Params) -> dict[str, Any]:
        """Return the token accounts of an owner."""
        owner, wanted = params.key(0), params.get(1, TokenFilter)
        config = params.config(2, AccountConfig)
        slot = slot_of(self._node.chain, config)
        of = public_key(wanted.mint) if wanted.mint else None
        if of is None and wanted.program_id is None:
            raise invalid("Invalid params: a token account filter names a mint or a programId")
        programs = [public_key(wanted.program_id)] if wanted.program_id else list(PROGRAMS)
        if any(program not in PROGRAMS for program in programs):
            raise invalid("Invalid param: unrecognized Token program id")
        found = []
        for program in programs:
            for key, account in self._node.owned_at(program, slot):
                held = token_account(account)
                if held is not None and held.owner == owner and of in (None, held.mint):
                    found.append((key, account))
        return context(slot, self._keyed(found, config, "base64", slot))

    def _keyed(
        self, found: list[tuple[Pubkey, Account]], config: AccountConfig, default: Encoding, slot: int
    ) -> list[dict[str, Any]]:
        return [{"pubkey": str(key), "account": self.show(account, config, default, slot)} for key, account in found]

    def token_balance(self, params: Params) -> dict[str, Any]:
        """Return what a token account holds."""
        slot = slot_of(self._node.chain, params.config(1, Config))
        account = self._node.account_at(params.key(0), slot)
        if account is None:
            raise invalid("Invalid param: could not find account")
        held = token_account(account)
        if held is None:
            raise invalid("Invalid param: not a Token account")
        return context(slot, ui_amount(held.amount, self._mint(held.mint, slot).decimals))

    def supply(self, params: Params) -> dict[str, Any]:
        """Return what exists of a token."""
        slot = slot_of(self._node.chain, params.config(1, Config))
        of = self._mint(params.key(0), slot)
        return context(slot, ui_amount(of.supply, of.decimals))

    def _mint(self, key: Pubkey, slot: int) -> Mint:
        of = mint(self._node.account_at(key, slot))
        if of is None:
            raise invalid("Invalid param: could not find mint")
        return of


def _passes(data: bytes, one: Filter) -> bool:
    if one.data_size is not None and len(data) != one.data_size:
        return False
    if one.memcmp is None:
        return True
    text, at = one.memcmp.bytes, one.memcmp.offset
    try:
        wanted = (
            base64.b64decode(text, validate=True) if one.memcmp.encoding == "base64" else base58.decode(text[:1000])
        )
    except (ValueError, binascii.Error) as error:
        raise invalid(f"Invalid param: {error}") from error
    return data[at : at + len(wanted)] == wanted
