"""RPC methods that send or try out a transaction."""

import base64
import binascii
import itertools
import secrets
from collections.abc import Mapping
from typing import Any

from solders.compute_budget import set_compute_unit_limit
from solders.errors import BincodeError
from solders.message import Message, from_bytes_versioned
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from railwatch_solana.dev.devnode.account_methods import AccountMethods
from railwatch_solana.dev.devnode.bank import inner_instructions, returned
from railwatch_solana.dev.devnode.chain import MAX_AGE
from railwatch_solana.dev.devnode.commands import Submit
from railwatch_solana.dev.devnode.errors import PREFLIGHT, SIGNATURE, RpcError, describe, invalid
from railwatch_solana.dev.devnode.guard import contained
from railwatch_solana.dev.devnode.method import Method, context
from railwatch_solana.dev.devnode.node import Node
from railwatch_solana.dev.devnode.params import (
    AccountConfig,
    Config,
    Params,
    SendConfig,
    SimulateConfig,
    block_hash,
    public_key,
    slot_of,
)
from railwatch_solana.dev.devnode.transaction import Incoming, from_text

LAMPORTS_PER_SIGNATURE = 5000
AIRDROP_UNITS = (1_000, 1_300_000)
"""An airdrop asks for compute units between these, for others each time: no two are the same transaction."""


class SendMethods:
    """Writes, by way of the transactions that wait."""

    def __init__(self, node: Node, accounts: AccountMethods) -> None:
        self._node, self._chain, self._accounts = node, node.chain, accounts
        low, high = AIRDROP_UNITS
        self._airdrops = itertools.count(secrets.randbelow(high - low))

    def table(self) -> Mapping[str, Method]:
        """Each method under its name on the wire."""
        return {
            "getFeeForMessage": self.fee,
            "getLatestBlockhash": self.latest_blockhash,
            "getRecentPrioritizationFees": lambda _: [],
            "isBlockhashValid": self.is_valid,
            "requestAirdrop": self.airdrop,
            "sendTransaction": self.send,
            "simulateTransaction": self.simulate,
        }

    def latest_blockhash(self, params: Params) -> dict[str, Any]:
        """Return the newest blockhash at the commitment."""
        slot = slot_of(self._chain, params.config(0, Config))
        block = self._chain.blocks[slot]
        return context(slot, {"blockhash": str(block.blockhash), "lastValidBlockHeight": block.height + MAX_AGE})

    def is_valid(self, params: Params) -> dict[str, Any]:
        """Whether a transaction with this blockhash could still land."""
        slot = slot_of(self._chain, params.config(1, Config))
        blockhash = block_hash(params.get(0, str))
        return context(slot, self._chain.hash_age(blockhash, slot) is not None)

    def fee(self, params: Params) -> dict[str, Any]:
        """Return the base fee, without what a priority adds."""
        slot = slot_of(self._chain, params.config(1, Config))
        try:
            raw = base64.b64decode(params.get(0, str), validate=True)
            with contained():
                message = from_bytes_versioned(raw)
        except (ValueError, binascii.Error, BincodeError) as error:
            raise invalid(f"invalid base64 encoding: {error}") from error
        valid = self._chain.hash_age(message.recent_blockhash, slot) is not None
        return context(slot, LAMPORTS_PER_SIGNATURE * message.header.num_required_signatures if valid else None)

    def send(self, params: Params) -> str:
        """Let a transaction wait for the next block; returns its signature."""
        config = params.config(1, SendConfig)
        incoming = self._incoming(params.get(0, str), config.encoding or "base58")
        signed = all(incoming.tx.verify_with_results())
        if not config.skip_preflight:
            if not signed:
                raise RpcError(SIGNATURE, "Transaction signature verification failure")
            # Preflight happens at the tip, yet a blockhash must be known at the wanted commitment, as on a real node.
            slot = self._chain.slot_at(config.preflight_commitment or config.commitment or "finalized")
            outcome = self._try(incoming, slot)
            if outcome["err"] is not None:
                raise RpcError(PREFLIGHT, f"Transaction simulation failed: {describe(outcome['err'])}", outcome)
        if signed:
            self._node.do(Submit(incoming.raw))
        return incoming.signature

    def simulate(self, params: Params) -> dict[str, Any]:
        """Try a transaction out, at the tip."""
        config = params.config(1, SimulateConfig)
        incoming = self._incoming(params.get(0, str), config.encoding or "base58")
        if config.sig_verify and config.replace_recent_blockhash:
            raise invalid("sigVerify may not be used with replaceRecentBlockhash")
        if config.sig_verify and not all(incoming.tx.verify_with_results()):
            raise RpcError(SIGNATURE, "Transaction signature verification failure")
        slot = slot_of(self._chain, config)
        return context(slot, self._try(incoming, slot, config))

    def airdrop(self, params: Params) -> str:
        """Lamports from the faucet, with the next block."""
        key, lamports = params.key(0), params.slot(1)
        bank, tip = self._node.bank, self._chain.tip
        low, high = AIRDROP_UNITS
        units = low + next(self._airdrops) % (high - low)
        gift = TransferParams(from_pubkey=bank.faucet.pubkey(), to_pubkey=key, lamports=lamports)
        steps = [set_compute_unit_limit(units), transfer(gift)]
        message = Message.new_with_blockhash(steps, bank.faucet.pubkey(), tip.blockhash)
        tx = VersionedTransaction(message, [bank.faucet])
        self._node.do(Submit(bytes(tx)))
        return str(tx.signatures[0])

    def _incoming(self, text: str, encoding: str) -> Incoming:
        return self._node.load(from_text(text, encoding))

    def _try(self, incoming: Incoming, slot: int, config: SimulateConfig | None = None) -> dict[str, Any]:
        config = config or SimulateConfig()
        outcome: dict[str, Any] = {
            "err": None,
            "logs": [],
            "accounts": None,
            "unitsConsumed": 0,
            "returnData": None,
            "innerInstructions": None,
            "replacementBlockhash": None,
            "loadedAccountsDataSize": 0,
        }
        if config.replace_recent_blockhash:
            block = self._chain.blocks[slot]
            outcome["replacementBlockhash"] = {
                "blockhash": str(block.blockhash),
                "lastValidBlockHeight": block.height + MAX_AGE,
            }
        elif self._chain.hash_age(incoming.tx.message.recent_blockhash, slot) is None:
            return outcome | {"err": "BlockhashNotFound"}
        if self._chain.was_used(incoming.signature):
            return outcome | {"err": "AlreadyProcessed"}
        return outcome | self._tried(incoming, config)

    def _tried(self, incoming: Incoming, config: SimulateConfig) -> dict[str, Any]:
        err, meta, after = self._node.bank.simulate(incoming)
        shown: dict[str, Any] = {"err": err, "logs": meta.logs(), "unitsConsumed": meta.compute_units_consumed()}
        data = returned(meta)
        if data is not None:
            shown["returnData"] = {"programId": str(data[0]), "data": [base64.b64encode(data[1]).decode(), "base64"]}
        if config.inner_instructions:
            shown["innerInstructions"] = inner_instructions(meta)
        if config.accounts is not None:
            wanted = AccountConfig(encoding=config.accounts.encoding)
            keys = [public_key(name) for name in config.accounts.addresses]
            tip = self._chain.processed
            shown["accounts"] = [
                self._accounts.show(self._would_be(key, after), wanted, "base64", tip) if err is None else None
                for key in keys
            ]
        return shown

    def _would_be(self, key: Pubkey, after: Mapping[Pubkey, Any]) -> Any:
        return after.get(key) or self._node.bank.account(key)
