"""Transactions as wallets and exchanges make them, for the simulator and the demo. Nothing of the adapter uses this."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

from solders.address_lookup_table_account import AddressLookupTableAccount, derive_lookup_table_address
from solders.compute_budget import set_compute_unit_limit
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import Message, MessageV0, MessageV1, TransactionConfig
from solders.pubkey import Pubkey
from solders.system_program import CreateAccountParams, TransferParams, create_account, transfer
from solders.transaction import VersionedTransaction
from spl.token import instructions as token
from spl.token import models
from spl.token.constants import ASSOCIATED_TOKEN_PROGRAM_ID, TOKEN_2022_PROGRAM_ID, TOKEN_PROGRAM_ID

__all__ = ["LEGACY", "TOKEN_2022_PROGRAM_ID", "TOKEN_PROGRAM_ID", "Mint", "Wallet"]

LEGACY = "legacy"
UNITS = 300_000
LOOKUP_TABLES = Pubkey.from_string("AddressLookupTab1e1111111111111111111111111")
SYSTEM = Pubkey.default()
ACCOUNT_BYTES, MINT_BYTES, FEE_MINT_BYTES = 165, 82, 278
"""Sizes of a token account, of a mint, and of a Token-2022 mint that charges for transfers."""


@dataclass(frozen=True, slots=True)
class Mint:
    """A token, and the program that it belongs to. ``fee_bps``: what a transfer costs its recipient (Token-2022)."""

    key: Pubkey
    program: Pubkey = TOKEN_PROGRAM_ID
    decimals: int = 6
    fee_bps: int = 0

    def account_of(self, owner: Pubkey) -> Pubkey:
        """Return the owner's associated token account."""
        return token.get_associated_token_address(owner, self.key, self.program)


@dataclass(slots=True)
class Wallet:
    """A payer: makes instructions, and signs what is made of them."""

    key: Keypair = field(default_factory=Keypair)
    _numbers: "count[int]" = field(default_factory=count)

    @property
    def address(self) -> Pubkey:
        """The payer's own."""
        return self.key.pubkey()

    # Instructions

    def sol(self, to: Pubkey, lamports: int) -> Instruction:
        """Return a plain transfer by the system program."""
        return transfer(TransferParams(from_pubkey=self.address, to_pubkey=to, lamports=lamports))

    def tokens(self, mint: Mint, owner: Pubkey, amount: int) -> list[Instruction]:
        """Return a transfer to the owner's associated account, created if it is missing, as wallets do."""
        return [self.open_account(mint, owner), self.tokens_into(mint, mint.account_of(owner), amount)]

    def open_account(self, mint: Mint, owner: Pubkey) -> Instruction:
        """Make the owner's associated account, unless it exists; we pay its rent."""
        return token.create_idempotent_associated_token_account(self.address, owner, mint.key, mint.program)

    def tokens_into(self, mint: Mint, account: Pubkey, amount: int) -> Instruction:
        """Return a transfer from our associated account into a token account."""
        return token.transfer_checked(
            models.TransferCheckedParams(
                program_id=mint.program,
                source=mint.account_of(self.address),
                mint=mint.key,
                dest=account,
                owner=self.address,
                amount=amount,
                decimals=mint.decimals,
            )
        )

    def auxiliary_account(self, mint: Mint, owner: Pubkey, account: Pubkey, rent: int) -> list[Instruction]:
        """Make a token account that is not the associated one; its key has to sign as well (HAZARDS S6)."""
        return [
            self._create(account, rent, ACCOUNT_BYTES, mint.program),
            token.initialize_account3(
                models.InitializeAccount3Params(program_id=mint.program, account=account, mint=mint.key, owner=owner)
            ),
        ]

    def mint(self, mint: Mint, rent: int, supply: int) -> list[Instruction]:
        """Make a mint, and mint its supply to ourselves; the mint's key has to sign as well."""
        size = FEE_MINT_BYTES if mint.fee_bps else MINT_BYTES
        made = [self._create(mint.key, rent, size, mint.program)]
        if mint.fee_bps:
            made.append(
                token.initialize_transfer_fee_config(
                    models.InitializeTransferFeeConfigParams(
                        program_id=mint.program,
                        mint=mint.key,
                        transfer_fee_config_authority=self.address,
                        withdraw_withheld_authority=self.address,
                        transfer_fee_basis_points=mint.fee_bps,
                        maximum_fee=2**63,
                    )
                )
            )
        made.append(
            token.initialize_mint2(
                models.InitializeMint2Params(
                    decimals=mint.decimals, program_id=mint.program, mint=mint.key, mint_authority=self.address
                )
            )
        )
        return [*made, self.open_account(mint, self.address), self.more(mint, supply)]

    def more(self, mint: Mint, amount: int) -> Instruction:
        """Mint some more to ourselves."""
        return token.mint_to(
            models.MintToParams(
                program_id=mint.program,
                mint=mint.key,
                dest=mint.account_of(self.address),
                mint_authority=self.address,
                amount=amount,
            )
        )

    def wrap(self, wrapped: Mint, owner: Pubkey, lamports: int) -> list[Instruction]:
        """Give wrapped SOL: lamports into the owner's account of it, and have them counted as tokens (HAZARDS S9)."""
        account = wrapped.account_of(owner)
        sync = token.sync_native(models.SyncNativeParams(program_id=wrapped.program, account=account))
        return [self.open_account(wrapped, owner), self.sol(account, lamports), sync]

    def close(self, mint: Mint, account: Pubkey, to: Pubkey) -> Instruction:
        """Close an account of ours: all its lamports go to ``to``, and no transfer is among the instructions."""
        return token.close_account(
            models.CloseAccountParams(program_id=mint.program, account=account, dest=to, owner=self.address)
        )

    def recover_nested(self, outer: Mint, inner: Mint, wallet: Pubkey) -> Instruction:
        """Move tokens out of an associated account of an associated account: by inner instructions only."""
        owner = outer.account_of(wallet)
        metas = [
            AccountMeta(inner.account_of(owner), is_signer=False, is_writable=True),
            AccountMeta(inner.key, is_signer=False, is_writable=False),
            AccountMeta(inner.account_of(wallet), is_signer=False, is_writable=True),
            AccountMeta(owner, is_signer=False, is_writable=False),
            AccountMeta(outer.key, is_signer=False, is_writable=False),
            AccountMeta(wallet, is_signer=True, is_writable=True),
            AccountMeta(inner.program, is_signer=False, is_writable=False),
        ]
        return Instruction(ASSOCIATED_TOKEN_PROGRAM_ID, b"\x02", metas)

    def lookup_table(self, slot: int, keys: Sequence[Pubkey]) -> tuple[AddressLookupTableAccount, list[Instruction]]:
        """Return a lookup table of ``keys``, and how to make it at a recent ``slot``.

        It serves from the next block on.
        """
        table, bump = derive_lookup_table_address(self.address, slot)
        metas = [
            AccountMeta(table, is_signer=False, is_writable=True),
            AccountMeta(self.address, is_signer=True, is_writable=False),
            AccountMeta(self.address, is_signer=True, is_writable=True),
            AccountMeta(SYSTEM, is_signer=False, is_writable=False),
        ]
        create = (0).to_bytes(4, "little") + slot.to_bytes(8, "little") + bytes([bump])
        extend = (2).to_bytes(4, "little") + len(keys).to_bytes(8, "little") + b"".join(map(bytes, keys))
        made = [Instruction(LOOKUP_TABLES, data, metas) for data in (create, extend)]
        return AddressLookupTableAccount(table, list(keys)), made

    def _create(self, key: Pubkey, rent: int, size: int, program: Pubkey) -> Instruction:
        return create_account(
            CreateAccountParams(from_pubkey=self.address, to_pubkey=key, lamports=rent, space=size, owner=program)
        )

    # Transactions

    def sign(
        self,
        instructions: Sequence[Instruction],
        blockhash: Hash,
        *signers: Keypair,
        version: str | int = LEGACY,
        tables: Sequence[AddressLookupTableAccount] = (),
        payer: Keypair | None = None,
    ) -> VersionedTransaction:
        """Return a transaction that we pay for, unless ``payer`` does.

        Each asks for another number of compute units: two equal payments would else be one transaction.
        """
        units, pays = UNITS + next(self._numbers), payer or self.key
        if version == 1:
            config = TransactionConfig(compute_unit_limit=units)
            return VersionedTransaction(
                MessageV1.try_compile(pays.pubkey(), instructions, blockhash, config), [pays, *signers]
            )
        limited = [set_compute_unit_limit(units), *instructions]
        if version == 0:
            return VersionedTransaction(
                MessageV0.try_compile(pays.pubkey(), limited, list(tables), blockhash), [pays, *signers]
            )
        return VersionedTransaction(Message.new_with_blockhash(limited, pays.pubkey(), blockhash), [pays, *signers])
