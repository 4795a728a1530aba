"""Endpoints behind which two nodes answer, for each family of rails: one is well, the other is not.

The other one is stuck, stays some blocks behind, or is on a branch of its own. What the first one reports is the
truth that a story is judged by.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, Self

from solders.keypair import Keypair

from railwatch_bitcoin.address import script_address
from railwatch_bitcoin.chains import BITCOIN_REGTEST
from tests.bitcoin.build import MadeBlock, Out, coinbase, p2pkh
from tests.nodes.bitcoin_node import BitcoinNode, Method
from tests.nodes.played import PlayedNode
from tests.nodes.solana_node import CHAIN_ID, Backend, SolanaEndpoint
from tests.nodes.turns import Choice
from tests.nodes.utxo_chain import UtxoChain, View

KINDS = ("stands still", "behind", "another branch")
BEHIND = 4
"""Blocks that a node behind is behind."""
FORKED = 3
"""Blocks below the tip at which the other branch begins; it is as long as the first one was then."""
AMOUNT = 5_000_000


class Balancer(Protocol):
    """What a story needs of a family's endpoint. Addresses are numbered, so that each family writes its own."""

    choice: Choice
    """Which requests the other node answers."""

    @property
    def rail(self) -> Mapping[str, Any]:
        """The rail's table, but for its name and its nodes."""

    @property
    def server(self) -> AbstractAsyncContextManager[Any]:
        """The endpoint, to be entered."""

    @property
    def table(self) -> Mapping[str, Any]:
        """The node's table."""

    def address(self, number: int) -> str:
        """Return a new address."""

    def pay(self, number: int) -> None:
        """Pay it `AMOUNT`, in the next block."""

    def mine(self) -> None:
        """One block more, on the node that is well."""

    def begin(self, kind: str, choice: Choice, stranger: int) -> None:
        """Let the other node answer from now on where ``choice`` says so; its own branch, if any, pays ``stranger``."""

    @property
    def head(self) -> tuple[int, str]:
        """Height and hash of the newest block that is true."""


class Utxo(BitcoinNode):
    """Bitcoin's family."""

    def __init__(self) -> None:
        self.utxo = UtxoChain(BITCOIN_REGTEST)
        super().__init__(View(self.utxo, lambda: self.utxo.line).methods)
        self._other: Mapping[str, Method] = {}
        self.choice: Choice = lambda _method, _peer: False
        self.rail = {
            "adapter": "bitcoin",
            "chain_id": BITCOIN_REGTEST.id,
            "start_height": 1,
            "options": {"mempool": False},
            "asset": [{"symbol": "BTC"}],
        }

    @property
    def server(self) -> Self:
        return self

    @property
    def table(self) -> Mapping[str, Any]:
        return {"rpc": self.url, "timeout": 5, "rest": False}

    def address(self, number: int) -> str:
        return str(script_address(p2pkh(10**6 + number), BITCOIN_REGTEST))

    def pay(self, number: int) -> None:
        self.utxo.pay(p2pkh(10**6 + number), AMOUNT)

    def mine(self) -> None:
        self.utxo.mine()

    def begin(self, kind: str, choice: Choice, stranger: int) -> None:
        still = list(self.utxo.line)
        if kind == "another branch":
            still = still[:-FORKED]
            for place in range(FORKED):
                outs = [Out(AMOUNT, p2pkh(10**6 + stranger))] if not place else [Out(9, p2pkh(place))]
                still.append(MadeBlock([coinbase(*outs, height=10**6 + place)], still[-1].hash, int(time.time())))

        def line() -> Sequence[MadeBlock]:
            return self.utxo.line[:-BEHIND] if kind == "behind" else still

        self._other, self.choice = View(self.utxo, line).methods, choice

    def _answering(self, method: str, peer: object) -> Mapping[str, Method]:
        return self._other if self.choice(method, peer) else self.methods

    @property
    def head(self) -> tuple[int, str]:
        return self.utxo.height, self.utxo.line[-1].hash


class Evm(PlayedNode):
    """EVM chains: ether, by the transactions and their traces."""

    def __init__(self) -> None:
        refused = (-32602, "this chain has no such tag")
        tags = {"safe": refused, "finalized": refused}
        errors = {"trace_block": False, "errors": {"eth_getBlockByNumber": tags}}
        super().__init__({"chain_id": 31337, "node": errors, "blocks": []})
        self._due: list[int] = []
        self.line: list[dict[str, Any]] = []
        for _ in range(360):
            self.mine()
        self.blocks = self.line
        self._other: Callable[[], list[dict[str, Any]]] = lambda: self.line
        self.choice: Choice = lambda _method, _peer: False
        self.rail = {
            "adapter": "evm",
            "chain_id": "eip155:31337",
            "start_height": 1,
            "asset": [{"symbol": "ETH"}],
        }

    @property
    def server(self) -> Self:
        return self

    @property
    def table(self) -> Mapping[str, Any]:
        return {"http": self.http, "timeout": 5}

    def address(self, number: int) -> str:
        return f"0x{10**6 + number:040x}"

    def pay(self, number: int) -> None:
        self._due.append(number)

    def mine(self) -> None:
        self.line = [*self.line, self._block(self.line, self._due, "1")]
        self._due = []

    def begin(self, kind: str, choice: Choice, stranger: int) -> None:
        still = self.line
        if kind == "another branch":
            still = still[:-FORKED]
            for place in range(FORKED):
                still = [*still, self._block(still, [] if place else [stranger], "2")]
        self._other, self.choice = lambda: self.line[:-BEHIND] if kind == "behind" else still, choice

    def take_turns(self, method: str, peer: object) -> None:
        self.blocks = self._other() if self.choice(method, peer) else self.line

    @property
    def head(self) -> tuple[int, str]:
        return self.line[-1]["number"], self.line[-1]["hash"]

    def _block(self, line: Sequence[dict[str, Any]], paid: Sequence[int], mark: str) -> dict[str, Any]:
        number = len(line)
        txs = [
            {
                "hash": f"0x{mark}{number:031x}{place:032x}",
                "from": "0x" + "55" * 20,
                "to": self.address(to),
                "value": hex(AMOUNT),
                "nonce": hex(number),
                "type": "0x2",
            }
            for place, to in enumerate(paid)
        ]
        return {
            "number": number,
            "hash": f"0x{mark}{number:063x}",
            "parent": line[-1]["hash"] if line else "0x" + "00" * 32,
            "time": int(time.time()),
            "txs": txs,
            "tree": [{"txHash": tx["hash"], "result": {**tx, "type": "CALL"}} for tx in txs],
        }


class Solana(SolanaEndpoint):
    """Solana: slots, each with a block."""

    def __init__(self) -> None:
        base = int(time.time()) - 300
        self.well = Backend(300, base=base)
        self.other = Backend(300, base=base, paid=self.well.paid)
        super().__init__([self.well])
        self.choice: Choice = lambda _method, _peer: False
        self._due: list[int] = []
        self._behind = False
        self.rail = {"adapter": "solana", "chain_id": CHAIN_ID, "start_height": 1, "asset": [{"symbol": "SOL"}]}

    @property
    def server(self) -> Self:
        return self

    @property
    def table(self) -> Mapping[str, Any]:
        return {"http": self.http, "timeout": 5}

    def address(self, number: int) -> str:
        return str(Keypair.from_seed(number.to_bytes(32, "big")).pubkey())

    def pay(self, number: int) -> None:
        self._due.append(number)

    def mine(self) -> None:
        if self._due:
            self.well.paid[self.well.slot + 1] = (self.address(self._due.pop()), AMOUNT)
        self.well.slot += 1
        if self._behind:
            self.other.slot = self.well.slot - BEHIND

    def begin(self, kind: str, choice: Choice, stranger: int) -> None:
        self.other.slot, self._behind = self.well.slot, kind == "behind"
        if kind == "another branch":
            first = self.well.slot - FORKED + 1
            self.other.fork = first
            kept = {slot: to for slot, to in self.well.paid.items() if slot < first}
            self.other.paid = {**kept, first: (self.address(stranger), AMOUNT)}
        self.choice = choice

    def choose(self, method: str, peer: object) -> Backend:
        return self.other if self.choice(method, peer) else self.well

    @property
    def head(self) -> tuple[int, str]:
        return self.well.slot, self.well.hash_of(self.well.slot)


FAMILIES: dict[str, type[Utxo] | type[Evm] | type[Solana]] = {"bitcoin": Utxo, "evm": Evm, "solana": Solana}
