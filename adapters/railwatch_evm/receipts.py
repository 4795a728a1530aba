"""Receipts: whether a transaction succeeded, and the logs of blocks for which eth_getLogs gives none.

Some endpoints refuse eth_getLogs without an address, some clients number logs with gaps, and some never index a block
(HAZARDS E20, E21). A block's receipts are its logs too, and their number proves that none is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from railwatch.rail.again import ask_again
from railwatch.rail.jsonrpc import Call
from railwatch_evm import wire
from railwatch_evm.integrity import check_receipt, check_receipts
from railwatch_evm.responses import RpcResponse, read_each
from railwatch_evm.rpc import Rpc
from railwatch_evm.rpc_errors import Meaning
from railwatch_evm.wire import FullBlock, Header, Log, Receipt


@dataclass(slots=True)
class Receipts:
    """One node's receipts. ``one``: whether eth_getTransactionReceipt is served; else those of the block are asked."""

    rpc: Rpc
    one: bool = True
    _by_number: bool = False
    """Whether the node accepts only the block's number in eth_getBlockReceipts."""

    async def of(self, wanted: Sequence[tuple[str, str]]) -> list[Receipt]:
        """Return the receipts of (transaction, block hash), each checked to be that one. Raises `NotYet`."""
        return await ask_again(lambda: self._of(wanted)) if wanted else []

    async def _of(self, wanted: Sequence[tuple[str, str]]) -> list[Receipt]:
        if not self.one:
            return await self._of_blocks(wanted)
        answers = await self.rpc.batch([("eth_getTransactionReceipt", (tx_id,)) for tx_id, _ in wanted])
        return [
            check_receipt(tx_id, block_hash, answer.read(wire.receipt_decoder))
            for (tx_id, block_hash), answer in zip(wanted, answers, strict=True)
        ]

    async def _of_blocks(self, wanted: Sequence[tuple[str, str]]) -> list[Receipt]:
        """Return the same from all receipts of each block. Raises `NotYet` if one is missing."""
        hashes = list({block_hash: None for _, block_hash in wanted})
        answers = await self.rpc.batch([("eth_getBlockReceipts", (block_hash,)) for block_hash in hashes])
        found = {
            receipt.transaction_hash: receipt
            for answer in answers
            for receipt in await read_each(answer, wire.receipt_items)
        }
        return [check_receipt(tx_id, block_hash, found.get(tx_id)) for tx_id, block_hash in wanted]

    async def logs(self, blocks: Sequence[Header | FullBlock]) -> list[Log]:
        """All logs of the blocks, in order. Raises `RpcRejected`, `BlockGone`, and `NotYet` if any are missing."""
        wanted = [block for block in blocks if block.transactions]
        return await ask_again(lambda: self._logs(wanted)) if wanted else []

    async def _logs(self, blocks: Sequence[Header | FullBlock]) -> list[Log]:
        found: list[Log] = []
        for block, answer in zip(blocks, await self._whole(blocks), strict=True):
            receipts = await read_each(answer, wire.receipt_items)
            found += wire.lower_case(check_receipts(block, receipts))
        return found

    async def _whole(self, blocks: Sequence[Header | FullBlock]) -> list[RpcResponse]:
        """Return the answers of eth_getBlockReceipts, by hash, or by number where a node rejects hashes."""
        if not self._by_number:
            answers = await self.rpc.batch([_call(block.hash) for block in blocks])
            refused = [answer.error for answer in answers if answer.refused]
            if not any(each is not None and each.meaning is Meaning.OTHER for each in refused):
                return answers
        answers = await self.rpc.batch([_call(block.number) for block in blocks])
        self._by_number = not any(answer.refused for answer in answers)
        return answers


def _call(block: str) -> Call:
    return "eth_getBlockReceipts", (block,)
