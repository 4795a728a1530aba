"""RPC methods that no real node has: they make happen what a test or a demo wants to see."""

from collections.abc import Mapping
from typing import Any

import msgspec

from railwatch_solana.dev.devnode.commands import Commitments, Fork, Prune, Restore, Skip, Withhold
from railwatch_solana.dev.devnode.errors import LONG_TERM_SKIPPED, NOT_AVAILABLE, SKIPPED, STATUS_NOT_YET, invalid
from railwatch_solana.dev.devnode.method import Method
from railwatch_solana.dev.devnode.node import MOST, Node
from railwatch_solana.dev.devnode.params import Params

NULL = 0
"""Stands for an answer of null: so a real node answers when it has a block and cannot read it."""
CODES = (NOT_AVAILABLE, SKIPPED, LONG_TERM_SKIPPED, STATUS_NOT_YET, NULL)


class ForkConfig(msgspec.Struct):
    """What becomes of the transactions in the dropped blocks."""

    resubmit: bool | None = None


class LagConfig(msgspec.Struct, rename="camel"):
    """Blocks by which commitments lag behind."""

    confirm_lag: int | None = None
    root_lag: int | None = None


class WithholdConfig(msgspec.Struct):
    """How a block is denied."""

    code: int | None = None
    listed: bool | None = None


class Controls:
    """The controls, and whether blocks are being produced by the clock."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.paused = False

    def table(self) -> Mapping[str, Method]:
        """Each method under its name on the wire."""
        return {
            "devCommitments": self.commitments,
            "devFork": self.fork,
            "devPause": lambda _: self._pause(True),
            "devProduce": self.produce,
            "devPrune": self.prune,
            "devRestore": self.restore,
            "devResume": lambda _: self._pause(False),
            "devSkip": self.skip,
            "devState": self.state,
            "devWithhold": self.withhold,
        }

    def state(self, _: Params | None = None) -> dict[str, Any]:
        """Return the slots of the node."""
        chain = self._node.chain
        return {
            "processed": chain.processed,
            "confirmed": chain.confirmed,
            "finalized": chain.finalized,
            "nextSlot": chain.next_slot,
            "waiting": len(self._node.waiting),
            "paused": self.paused,
            "confirmLag": chain.confirm_lag,
            "rootLag": chain.root_lag,
            "faucet": str(self._node.bank.faucet.pubkey()),
        }

    def produce(self, params: Params) -> list[int]:
        """Blocks, the first with all that waits."""
        count = params.slot(0, 1)
        if not 1 <= count <= MOST:
            raise invalid(f"{count} is not between 1 and {MOST}")
        return [self._node.produce().slot for _ in range(count)]

    def skip(self, params: Params) -> int:
        """Slots without a block."""
        self._node.do(Skip(params.slot(0, 1)))
        return self._node.chain.next_slot

    def fork(self, params: Params) -> dict[str, Any]:
        """Remove the newest blocks, as if they had never existed."""
        depth, config = params.slot(0), params.config(1, ForkConfig)
        chain = self._node.chain
        dropped = [chain.blocks[slot] for slot in chain.slots[-depth:]] if depth else []
        self._node.do(Fork(depth, config.resubmit is not False))
        return {
            "dropped": [block.slot for block in dropped],
            "signatures": [landed.signature for block in dropped for landed in block.landed],
            "tip": chain.processed,
        }

    def commitments(self, params: Params) -> dict[str, Any]:
        """How far commitments lag behind from now on."""
        config = params.config(0, LagConfig)
        for lag in (config.confirm_lag, config.root_lag):
            if lag is not None and not 0 <= lag <= MOST:
                raise invalid(f"{lag} is not between 0 and {MOST}")
        self._node.do(Commitments(config.confirm_lag, config.root_lag))
        return self.state()

    def withhold(self, params: Params) -> None:
        """Withhold a block that this node has."""
        slot, config = params.slot(0), params.config(1, WithholdConfig)
        code = NOT_AVAILABLE if config.code is None else config.code
        if code not in CODES:
            raise invalid(f"{code} is none of {', '.join(map(str, CODES))}")
        self._node.do(Withhold(slot, code, config.listed is not False))

    def restore(self, params: Params) -> None:
        """Serve a withheld block again."""
        self._node.do(Restore(None if params.raw(0) is None else params.slot(0)))

    def prune(self, params: Params) -> int:
        """Blocks that this node has no more."""
        self._node.do(Prune(params.slot(0)))
        return self._node.chain.first

    def _pause(self, paused: bool) -> bool:
        self.paused = paused
        return paused
