"""Subscriptions: what each connection wants to hear, and what a block means to it at each commitment."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from solders.pubkey import Pubkey

from railwatch_solana.dev.devnode.block import Block
from railwatch_solana.dev.devnode.chain import Commitment
from railwatch_solana.dev.devnode.errors import RpcError, invalid
from railwatch_solana.dev.devnode.method import Method, context
from railwatch_solana.dev.devnode.node import Node
from railwatch_solana.dev.devnode.params import (
    AccountConfig,
    BlockConfig,
    Config,
    Params,
    converted,
    public_key,
    signature,
)
from railwatch_solana.dev.devnode.rpc import Rpc
from railwatch_solana.dev.devnode.show_block import show_block

LEVELS: Mapping[Commitment, int] = {"processed": 0, "confirmed": 1, "finalized": 2}
SUBSCRIPTIONS_MAX = 10_000

Heard = Callable[[Block], Iterator[Any]]


@dataclass(frozen=True, slots=True)
class Subscription:
    """``heard`` turns a block that reached ``commitment`` into notifications; ``once`` ends it with the first."""

    kind: str
    commitment: Commitment
    heard: Heard
    once: bool = False


class Subscriber:
    """One connection's subscriptions. ``send`` takes an encoded message and must not wait."""

    def __init__(self, node: Node, rpc: Rpc, send: Callable[[bytes], None], numbers: Iterator[int]) -> None:
        self._node, self._rpc, self._send, self._numbers = node, rpc, send, numbers
        self._open: dict[int, Subscription] = {}
        self._late: list[Callable[[], None]] = []
        subscribers = {
            "account": self._account,
            "block": self._block,
            "logs": self._logs,
            "program": self._program,
            "root": lambda _: Subscription("root", "finalized", lambda block: iter([block.slot])),
            "signature": self._signature,
            "slot": lambda _: Subscription("slot", "processed", self._slot_heard),
        }
        self.methods: dict[str, Method] = {f"{kind}Unsubscribe": self._unsubscribe for kind in subscribers}
        for kind, make in subscribers.items():
            self.methods[f"{kind}Subscribe"] = self._subscribing(make)

    def notify(self, commitment: Commitment, block: Block) -> None:
        """Note that a block has reached a commitment."""
        for number, one in list(self._open.items()):
            if one.commitment != commitment:
                continue
            for result in one.heard(block):
                self._notify(number, one, result)

    def after_answer(self) -> None:
        """Send what a new subscription already knows: it must follow the answer with the subscription's number."""
        late, self._late = self._late, []
        for send in late:
            send()

    def _notify(self, number: int, one: Subscription, result: Any) -> None:
        if one.once:
            self._open.pop(number, None)
        params = {"result": result, "subscription": number}
        self._send(msgspec.json.encode({"jsonrpc": "2.0", "method": f"{one.kind}Notification", "params": params}))

    def _subscribing(self, make: Callable[[Params], Subscription]) -> Method:
        def subscribe(params: Params) -> int:
            if len(self._open) >= SUBSCRIPTIONS_MAX:
                raise invalid("Too many subscriptions")
            one, number = make(params), next(self._numbers)
            self._open[number] = one
            if one.once:
                self._late.append(lambda: self._tell_past(number, one, params))
            return number

        return subscribe

    def _unsubscribe(self, params: Params) -> bool:
        if self._open.pop(params.slot(0), None) is None:
            raise invalid("Invalid subscription id.")
        return True

    def _slot_heard(self, block: Block) -> Iterator[Any]:
        yield {"slot": block.slot, "parent": block.parent, "root": self._node.chain.finalized}

    def _account(self, params: Params) -> Subscription:
        key, config = params.key(0), params.config(1, AccountConfig)

        def heard(block: Block) -> Iterator[Any]:
            if key in block.after:
                yield context(block.slot, self._shown(block, key, config))

        return Subscription("account", config.commitment or "finalized", heard)

    def _program(self, params: Params) -> Subscription:
        program, config = params.key(0), params.config(1, AccountConfig)

        def heard(block: Block) -> Iterator[Any]:
            for key, account in block.after.items():
                if account is not None and account.owner == program:
                    yield context(block.slot, {"pubkey": str(key), "account": self._shown(block, key, config)})

        return Subscription("program", config.commitment or "finalized", heard)

    def _shown(self, block: Block, key: Pubkey, config: AccountConfig) -> dict[str, Any]:
        shown = self._rpc.accounts.show(block.after[key], config, "base58", block.slot)
        gone = {"lamports": 0, "data": ["", config.encoding or "base58"], "owner": str(Pubkey.default())}
        return shown or gone | {"executable": False, "rentEpoch": 0, "space": 0}

    def _logs(self, params: Params) -> Subscription:
        wanted, config = params.raw(0), params.config(1, Config)
        mentions = None if wanted in ("all", "allWithVotes") else _mentioned(wanted, "mentions")

        def heard(block: Block) -> Iterator[Any]:
            for landed in block.landed:
                if mentions is None or mentions in landed.incoming.keys:
                    value = {"signature": landed.signature, "err": landed.meta.err, "logs": landed.meta.logs}
                    yield context(block.slot, value)

        return Subscription("logs", config.commitment or "finalized", heard)

    def _block(self, params: Params) -> Subscription:
        wanted, config = params.raw(0), params.config(1, BlockConfig)
        if config.commitment == "processed":
            raise invalid("Method does not support commitment below `confirmed`")
        mentions = None if wanted == "all" else _mentioned(wanted, "mentionsAccountOrProgram")

        def heard(block: Block) -> Iterator[Any]:
            landed = [one for one in block.landed if mentions is None or mentions in one.incoming.keys]
            part = Block(block.slot, block.parent, block.height, block.blockhash, block.previous, block.time, landed)
            try:
                value: dict[str, Any] = {"slot": block.slot, "err": None, "block": show_block(part, config)}
            except RpcError:
                value = {"slot": block.slot, "err": "UnsupportedTransactionVersion", "block": None}
            yield context(block.slot, value)

        return Subscription("block", config.commitment or "finalized", heard)

    def _signature(self, params: Params) -> Subscription:
        name, config = signature(params.get(0, str)), params.config(1, Config)

        def heard(block: Block) -> Iterator[Any]:
            for landed in block.landed:
                if landed.signature == name:
                    yield context(block.slot, {"err": landed.meta.err})

        return Subscription("signature", config.commitment or "finalized", heard, once=True)

    def _tell_past(self, number: int, one: Subscription, params: Params) -> None:
        """Notify at once of a signature that has already reached its commitment."""
        status = self._rpc.history.status(signature(params.get(0, str)))
        if (
            status is not None
            and LEVELS[status["confirmationStatus"]] >= LEVELS[one.commitment]
            and number in self._open
        ):
            self._notify(number, one, context(status["slot"], {"err": status["err"]}))


def _mentioned(wanted: Any, name: str) -> Pubkey:
    """Return the one key that a filter names, alone or in a list. Raises `RpcError`."""
    named = converted(wanted, dict[str, str | list[str]]).get(name)
    if isinstance(named, list):
        if len(named) != 1:
            raise invalid("Invalid Request: Only 1 address supported")
        named = named[0]
    if named is None:
        raise invalid(f"Invalid params: expected a filter with {name}")
    return public_key(named)
