"""Random lives of a node next to a model that is nothing but numbers: forks, restarts and commitments agree with it."""

import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from solders.keypair import Keypair
from solders.message import Message
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from railwatch_solana.dev.devnode.chain import Commitment
from railwatch_solana.dev.devnode.commands import Commitments, Fork, Prune, Skip, Submit
from railwatch_solana.dev.devnode.ledger import Ledger
from railwatch_solana.dev.devnode.node import Node, Settings

SETTINGS = Settings(confirm_lag=1, root_lag=3, start_slot=10)
LEVELS: tuple[Commitment, ...] = ("processed", "confirmed", "finalized")
START, FEE, RENT = 1_000_000_000, 5_000, 890_880
Balances = dict[Pubkey, int]


@dataclass(frozen=True)
class Payment:
    """A transaction and what it means."""

    raw: bytes
    payer: Pubkey
    to: Pubkey
    amount: int


@dataclass
class Model:
    """What each block left behind, by slot; the last one is the tip."""

    after: list[tuple[int, Balances]]
    waiting: list[Payment] = field(default_factory=list)
    blocks: dict[int, list[Payment]] = field(default_factory=dict)

    def produce(self, slot: int) -> None:
        """The rules of a transfer, in full: fee, funds, and what must be left or put into an account."""
        now, landed = dict(self.after[-1][1]), []
        for payment in self.waiting:
            have = now.get(payment.payer, 0)
            # The fee's payer must be able to keep existing, or end.
            if have < FEE or 0 < have - FEE < RENT:
                continue
            landed.append(payment)
            now[payment.payer] = have - FEE
            left = have - FEE - payment.amount
            there = now.get(payment.to, 0) + payment.amount
            if payment.to != payment.payer and left >= 0 and (left == 0 or left >= RENT) and (there >= RENT):
                now[payment.payer], now[payment.to] = left, there
        self.after.append((slot, now))
        self.blocks[slot], self.waiting = landed, []

    def fork(self, depth: int, *, resubmit: bool) -> None:
        dropped = [self.blocks.pop(slot) for slot, _ in self.after[-depth:]]
        del self.after[-depth:]
        if resubmit:
            self.waiting = [payment for block in dropped for payment in block] + self.waiting

    def at(self, slot: int) -> Balances:
        return next(balances for reached, balances in reversed(self.after) if reached <= slot)


class Life:
    """A node and its model, led through the same steps."""

    def __init__(self, node: Node, chance: random.Random) -> None:
        self.node, self.chance = node, chance
        self.keys = [Keypair.from_seed(chance.randbytes(32)) for _ in range(5)]
        self.base = node.chain.tip.blockhash
        faucet = node.bank.faucet
        for key in self.keys[:3]:
            node.do(Submit(self.signed(faucet, key.pubkey(), START)))
        node.produce()
        started = {key.pubkey(): START for key in self.keys[:3]}
        self.model = Model([(node.chain.processed, started)])
        node.do(Commitments(0, 0))
        node.do(Commitments(1, 3))

    def signed(self, payer: Keypair, to: Pubkey, amount: int) -> bytes:
        """On the first blockhash, so that forks leave it valid."""
        step = transfer(TransferParams(from_pubkey=payer.pubkey(), to_pubkey=to, lamports=amount))
        return bytes(VersionedTransaction(Message.new_with_blockhash([step], payer.pubkey(), self.base), [payer]))

    def pay(self) -> None:
        payer, to = self.chance.sample(self.keys, 2)
        have = self.model.after[-1][1].get(payer.pubkey(), 0)
        # Everything, all but a little, more than there is, too little to exist, or some.
        amounts = (have - FEE, have - FEE - RENT, have - FEE - 1, have, 5, RENT, self.chance.randrange(RENT, START))
        amount = max(self.chance.choice(amounts), 1) + self.chance.randrange(3)
        raw = self.signed(payer, to.pubkey(), amount)
        if raw not in {payment.raw for payment in self.everything()}:
            self.node.do(Submit(raw))
            self.model.waiting.append(Payment(raw, payer.pubkey(), to.pubkey(), amount))

    def everything(self) -> list[Payment]:
        return [*self.model.waiting, *(payment for block in self.model.blocks.values() for payment in block)]

    def produce(self) -> None:
        self.model.produce(self.node.produce().slot)

    def skip(self) -> None:
        self.node.do(Skip(self.chance.randint(1, 3)))

    def fork(self) -> None:
        chain = self.node.chain
        most = len(chain.between(chain.finalized + 1, chain.processed))
        if most:
            depth, resubmit = self.chance.randint(1, most), self.chance.random() < 0.6
            self.node.do(Fork(depth, resubmit))
            self.model.fork(depth, resubmit=resubmit)

    def prune(self) -> None:
        self.node.do(Prune(self.chance.randint(0, self.node.chain.finalized)))

    def step(self) -> None:
        ways = (self.pay, self.produce, self.skip, self.fork, self.prune)
        self.chance.choices(ways, weights=(10, 6, 1, 2, 1))[0]()
        self.agrees(self.node)

    def agrees(self, node: Node) -> None:
        """Balances at every commitment, what landed in every block, and what waits."""
        for level in LEVELS:
            slot = node.chain.slot_at(level)
            expected = self.model.at(slot)
            for key in self.keys:
                account = node.account_at(key.pubkey(), slot)
                assert (account.lamports if account else 0) == expected.get(key.pubkey(), 0), (level, slot)
        for slot, payments in self.model.blocks.items():
            if slot >= node.chain.first:
                landed = [one.incoming.raw for one in node.chain.blocks[slot].landed]
                assert landed == [payment.raw for payment in payments], slot
        assert node.waiting == [payment.raw for payment in self.model.waiting]
        assert node.chain.processed == self.model.after[-1][0]


@pytest.mark.parametrize("seed", range(30))
def test_a_random_life_agrees_with_its_model_and_so_does_the_node_that_rises_from_its_ledger(
    seed: int, tmp_path: Path
) -> None:
    with Ledger(tmp_path) as ledger:
        life = Life(ledger.rise(SETTINGS), random.Random(seed))
        for _ in range(80):
            life.step()
    with Ledger(tmp_path) as ledger:
        node = ledger.rise(SETTINGS)
        life.agrees(node)
        assert {slot: block.blockhash for slot, block in node.chain.blocks.items()} == {
            slot: block.blockhash for slot, block in life.node.chain.blocks.items()
        }
        life.node = node
        for _ in range(20):
            life.step()
