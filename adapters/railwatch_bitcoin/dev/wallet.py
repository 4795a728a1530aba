"""The simulator's money: coins that no two payments share, what they left over, and what was made of which."""

import secrets
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from railwatch_bitcoin.dev.cluster import RegtestCluster
from railwatch_bitcoin.dev.node_process import NodeError
from railwatch_bitcoin.dev.tx_builder import SPENDABLE_SCRIPT, Coin, Tx, fee_of, make_tx, p2wsh_script

Kind = Literal["p2pkh", "p2sh", "p2wpkh", "p2wsh", "p2tr"]
KINDS: tuple[Kind, ...] = ("p2pkh", "p2sh", "p2wpkh", "p2wsh", "p2tr")

REPLACEMENT = 50_000
"""What a rival offers on top of the fee that it has to beat, descendants included."""
DUST = 1_000
"""Change below it is left to the miner."""


@dataclass(frozen=True, slots=True)
class BuiltTx:
    """A transaction of ours, and what a rival of it needs."""

    tx: Tx
    coins: tuple[Coin, ...]
    outputs: tuple[tuple[bytes, int], ...]
    """(script, amount); the last one of a payment is its change."""

    @property
    def paid(self) -> int:
        """All outputs together; what the coins hold beyond it is the fee."""
        return sum(amount for _, amount in self.outputs)


class TestWallet:
    """Makes transactions and sends none. ``coins`` are ready to be spent; outputs are (script, amount)."""

    def __init__(self, fleet: RegtestCluster) -> None:
        self.coins: deque[Coin] = deque()
        self._fleet = fleet
        self._change: list[Coin] = []
        self._made: dict[str, BuiltTx] = {}

    def fill(self, coins: Iterable[Coin]) -> None:
        """Put coins in that are in a block."""
        self.coins.extend(coins)

    async def spend(self, outputs: Sequence[tuple[bytes, int]]) -> Tx:
        """Return a transaction with these outputs and change. Raises `NodeError` if there is no money left."""
        paid = sum(amount for _, amount in outputs)
        coins: list[Coin] = []
        while (left := sum(coin.amount for coin in coins) - paid - fee_of(len(coins), len(outputs) + 1)) < 0:
            if not self.coins:
                await self._collect_change()
            coins.append(self.coins.popleft())
        if left < DUST:
            return self.make(coins, outputs)
        tx = self.make(coins, [*outputs, (p2wsh_script(SPENDABLE_SCRIPT), left)])
        self._change.append(Coin(tx.tx_id, len(outputs), left))
        return tx

    def make(self, coins: Sequence[Coin], outputs: Sequence[tuple[bytes, int]]) -> Tx:
        """Return a transaction of exactly these inputs and outputs, and remember it."""
        tx = make_tx(coins, outputs)
        self._made[tx.tx_id] = BuiltTx(tx, tuple(coins), tuple(outputs))
        return tx

    def made(self, tx_id: str) -> BuiltTx:
        """Return one of our transactions, whatever its state. Raises `NodeError` if it is not ours."""
        if tx_id not in self._made:
            raise NodeError(f"{tx_id} was not sent by this simulator, which cannot spend its coins")
        return self._made[tx_id]

    def rival(self, tx_id: str) -> Tx:
        """Return a transaction that spends the same coins to a stranger, for a higher fee."""
        old = self.made(tx_id)
        return self.make(old.coins, [(random_script("p2wpkh"), old.paid - REPLACEMENT)])

    def bumped(self, tx_id: str) -> Tx:
        """Return the same payment with a higher fee, paid from its change."""
        old = self.made(tx_id)
        script, change = old.outputs[-1]
        return self.make(old.coins, [*old.outputs[:-1], (script, change - REPLACEMENT)])

    async def _collect_change(self) -> None:
        """Collect the change of payments, as far as it is in blocks."""
        found = await self._fleet.batch([("gettxout", (coin.tx_id, coin.vout)) for coin in self._change])
        ready = [coin for coin, at in zip(self._change, found, strict=True) if at and at["confirmations"]]
        if not ready:
            raise NodeError("all coins are spent, and no change is in a block: mine one")
        self.fill(ready)
        self._change = [coin for coin in self._change if coin not in ready]


def random_script(kind: Kind) -> bytes:
    """Return the output script of an address without a known key."""
    short, long = secrets.token_bytes(20), secrets.token_bytes(32)
    return {
        "p2pkh": b"\x76\xa9\x14" + short + b"\x88\xac",
        "p2sh": b"\xa9\x14" + short + b"\x87",
        "p2wpkh": b"\x00\x14" + short,
        "p2wsh": b"\x00\x20" + long,
        "p2tr": b"\x51\x20" + long,
    }[kind]
