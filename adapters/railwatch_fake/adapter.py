"""The reference adapter: each method of the seam over a fake node, with nothing that a real one would not also need.

Read it together with `README.md`. What every rail needs is here: identity at each connection, one way to ask, the
seam's errors, a scan that proves its lineage. What is the rail's own is in `decode`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeVar

from railwatch.rail import (
    Ability,
    Address,
    AssetId,
    BlockGone,
    BlockRef,
    ChainId,
    Heads,
    NotKept,
    RailUnavailable,
    Scanned,
    Span,
    Traits,
    Transfer,
    Watches,
)
from railwatch.rail.boundary import only_rail_errors
from railwatch.rail.served import Served
from railwatch_fake import address, decode
from railwatch_fake.chain import Rules
from railwatch_fake.methods import METHODS
from railwatch_fake.node import FakeNode, NotServed, Pruned, WireBlock

T = TypeVar("T")


class FakeAdapter:
    """One fake node, asked and answering (`railwatch.rail.RailAdapter`).

    ``chain_id`` is what the operator configured; the node has to be that chain. ``timeout`` bounds each call in
    seconds; ``silence`` bounds how long no push is believed to mean that nothing happened.
    """

    def __init__(self, node: FakeNode, chain_id: ChainId, *, timeout: float = 1.0, silence: float = 30.0) -> None:
        self.chain_id = chain_id
        self.traits = traits_of(node.chain.rules)
        self._served = Served(METHODS)
        self._node = node
        self._timeout = timeout
        self._silence = silence
        self._open = False
        self._session: int | None = None
        self._changed = asyncio.Event()

    @only_rail_errors
    async def __aenter__(self) -> Self:
        """Connect and verify identity. Raises `RailUnavailable` if the node is down or on another chain."""
        self._open = True
        try:
            await self._learn()
        except BaseException:
            # `async with` does not call the exit of what it could not enter, not even when it was cancelled there.
            self._close()
            raise
        if self._changed.set not in self._node.subscribers:
            self._node.subscribers.append(self._changed.set)
        return self

    @only_rail_errors
    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the node, and wake a task that waits for it."""
        self._close()

    def parse_address(self, text: str) -> Address:
        """Canonical key and display form, or `BadAddress`."""
        return address.parse(text)

    @only_rail_errors
    async def heads(self) -> Heads:
        """Return the node's three heads from one answer: three requests could meet two branches."""
        answer = await self._ask(self._node.heads)
        safe, finalized = answer["safe"], answer["finalized"]
        return Heads(
            latest=decode.header(answer["latest"]),
            safe=decode.header(safe) if safe else None,
            finalized=decode.header(finalized) if finalized else None,
        )

    @only_rail_errors
    async def block_at(self, height: int) -> BlockRef:
        """Return the canonical block at ``height`` or the nearest below; `BlockGone` above the head."""
        answer = await self._ask(lambda: self._node.header_at(height))
        if answer is None:
            raise BlockGone(f"{self.chain_id} has no block at height {height} yet")
        return decode.header(answer)

    @only_rail_errors
    async def scan(self, span: Span, watches: Watches) -> Scanned:
        """Every transfer of the span, or `BlockGone`: the lineage is proven before anything is said."""
        answers = await self._walk(span)
        found = [transfer for answer in answers for transfer in decode.block_transfers(answer, self.chain_id, watches)]
        blocks = [decode.header(answer) for answer in answers]
        if span.sparse:
            blocks = _sparse(blocks, found)
        return Scanned(blocks=blocks, transfers=found, method="blocks")

    @only_rail_errors
    async def pending(self, watches: Watches) -> Sequence[Transfer]:
        """All of the mempool that concerns ``watches``, each time anew."""
        if not self.traits.has_pending:
            return []
        return decode.transfers(await self._ask(self._node.mempool), None, self.chain_id, watches)

    @only_rail_errors
    async def wait_for_change(self) -> None:
        """Return at the next push, or at once if one came since the last wait.

        Raises `RailUnavailable` when the node cannot push, has been silent for too long, or was disconnected meanwhile.
        """
        if not self._open or not self._node.pushes:
            raise RailUnavailable(f"the node of {self.chain_id} pushes nothing")
        try:
            async with asyncio.timeout(self._silence):
                await self._changed.wait()
        except TimeoutError:
            raise RailUnavailable(f"the node of {self.chain_id} was silent for {self._silence:g} s") from None
        if not self._open:
            raise RailUnavailable(f"the adapter of {self.chain_id} was closed")
        self._changed.clear()

    @only_rail_errors
    async def balances(self, keys: Sequence[bytes], asset: AssetId, at: BlockRef) -> Mapping[bytes, int]:
        """`railwatch.rail.SupportsBalances`. Raises `BlockGone` where the node has no state of that block."""
        token = decode.token_of(asset, self.chain_id)
        digits_of = await self._ask(lambda: self._node.balance([key.hex() for key in keys], token, at.hash))
        if digits_of is None:
            raise BlockGone(f"the node of {self.chain_id} has no state of block {at.hash} at {at.height}")
        return {key: int(digits) for key, digits in zip(keys, digits_of, strict=True)}

    @only_rail_errors
    async def abilities(self) -> Sequence[Ability]:
        """`railwatch.rail.SupportsAbilities`: what the node serves of `railwatch_fake.methods`."""
        return self._served.table()

    # The rest

    async def _learn(self) -> None:
        """Ask for each method once. Raises `MethodsMissing` for what is needed, and `RailUnavailable` if it is down."""
        node = self._node
        questions: dict[str, Callable[[], Awaitable[Any]]] = {
            "identify": node.identify,
            "heads": node.heads,
            "header_at": lambda: node.header_at(0),
            "block": lambda: node.block(""),
            "mempool": node.mempool,
            "balance": lambda: node.balance([], "", ""),
        }
        self._served = Served(METHODS)
        for method in METHODS:
            try:
                await self._ask(questions[method.name])
                self._served.note(method.name, True)
            except RailUnavailable as error:
                if not isinstance(error.__cause__, NotServed):
                    raise
                self._served.note(method.name, False, str(error))
        self._served.require(f"the node of {self.chain_id}")
        served = traits_of(node.chain.rules)
        self.traits = replace(
            served,
            has_pending=served.has_pending and self._served.serves("mempool"),
            can_balance=served.can_balance and self._served.serves("balance"),
        )

    async def _walk(self, span: Span) -> list[WireBlock]:
        """Return the blocks of the span, oldest first, each fetched by hash from ``upto`` back to ``after``.

        Going back by parent hashes needs no trust in heights: a reorg in the middle of the walk cannot mix two
        branches, and heights that the chain skips need no thought.
        """
        answers: list[WireBlock] = []
        wanted = span.upto.hash
        while wanted != span.after.hash:
            answer = await self._block(wanted) if wanted else None
            if answer is None or answer["height"] <= span.after.height:
                raise BlockGone(f"{span.after.hash} at {span.after.height} is no ancestor of {span.upto.hash}")
            answers.append(answer)
            wanted = answer["parent"]
        # Canonical is asked last: asked first, it could have ceased to be so while the blocks were fetched.
        if (await self.block_at(span.upto.height)).hash != span.upto.hash:
            raise BlockGone(f"{span.upto.hash} at {span.upto.height} is not canonical")
        return answers[::-1]

    async def _block(self, block_hash: str) -> WireBlock:
        """Return the block of this hash. Raises `BlockGone` where the node does not know it."""
        answer = await self._ask(lambda: self._node.block(block_hash))
        if answer is None:
            raise BlockGone(f"the node of {self.chain_id} knows no block {block_hash}")
        if decode.header(answer).hash != block_hash:
            raise RailUnavailable(f"asked for block {block_hash}, the node gave {answer['hash']}")
        return answer

    async def _ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """Put one question: bounded in time, to a node whose identity is known, failing only in the seam's words."""
        if not self._open:
            raise RailUnavailable(f"the adapter of {self.chain_id} is not open")
        try:
            async with asyncio.timeout(self._timeout):
                if self._session != self._node.session:
                    await self._verify()
                return await question()
        except TimeoutError:
            raise RailUnavailable(f"the node of {self.chain_id} gave no answer in {self._timeout:g} s") from None
        except NotServed as refused:
            raise RailUnavailable(str(refused)) from refused
        except Pruned as gone:
            raise NotKept(str(gone), gone.first) from gone
        except ConnectionError as error:
            self._session = None
            raise RailUnavailable(str(error)) from error

    async def _verify(self) -> None:
        """Compare chain ids; at each new connection, because behind an endpoint anything can change (HAZARDS E23)."""
        session = self._node.session
        chain_id = await self._node.identify()
        if chain_id != self.chain_id:
            raise RailUnavailable(f"the node is {chain_id}, and the rail is configured as {self.chain_id}")
        self._session = session

    def _close(self) -> None:
        self._open = False
        self._session = None
        if self._changed.set in self._node.subscribers:
            self._node.subscribers.remove(self._changed.set)
        self._changed.set()


def traits_of(rules: Rules) -> Traits:
    """Return what a chain of these rules can and cannot do."""
    return Traits(
        family="fake",
        native_asset=decode.NATIVE_ASSET,
        native_decimals=8,
        token_namespace=decode.TOKEN_NAMESPACE if rules.tokens else None,
        fold_case=True,
        span_max=rules.span_max,
        lookback=rules.lookback,
        horizon=rules.horizon,
        has_pending=rules.mempool,
        has_finalized=rules.finality is not None,
        can_balance=rules.balances,
        has_references=True,
    )


def _sparse(blocks: list[BlockRef], found: list[Transfer]) -> list[BlockRef]:
    """Only what a sparse span must hold: the blocks with transfers, and the last."""
    telling = {transfer.block for transfer in found}
    return [block for block in blocks if block in telling or block is blocks[-1]]
