"""Processor time of a full Bitcoin block: read, proven and matched against a million watched scripts."""

import json
import random
import time
from collections.abc import Callable

from railwatch.daemon.watch.address_index import AddressIndex
from railwatch.daemon.watch.watchlist import IndexedWatches
from railwatch.rail import AssetId, BlockRef
from railwatch_bitcoin.block import read_block
from railwatch_bitcoin.chains import BITCOIN
from railwatch_bitcoin.decode import DecodeContext, block_transfers
from tests.bench.report import Row, median
from tests.bitcoin.build import In, MadeBlock, MadeTx, Out, coin, coinbase, data, p2pkh, p2sh, p2tr, p2wpkh, p2wsh

TXS, MILLION = 2_000, 1_000_000
BUDGET = 25.0
OURS = 10
CLAIMS = 1_000
"""Coins that live detections claim; none is in the block, but each of its inputs must be compared."""


def rows() -> list[Row]:
    """One row: what a block costs beyond turning the node's hexadecimal answer into bytes, which is the floor."""
    made = block_of(TXS)
    raw, block_hash = made.raw, made.hash
    answer = json.dumps({"result": raw.hex()})
    index = AddressIndex(MILLION)
    chance = random.Random(2)
    for _ in range(MILLION - OURS):
        index.add(b"\x00\x14" + chance.randbytes(20))
    for tx in made.txs[1 : OURS + 1]:
        index.add(tx.outs[0].script)
    watches = IndexedWatches(index, {"": AssetId("native")})
    for number in range(CLAIMS):
        watches.spends.add(coin(10**7 + number), "f" * 64)
    context = DecodeContext(BITCOIN, "bench", watches)
    ref = BlockRef(1, block_hash, made.parent, read_block(raw, BITCOIN).header.time)

    def ours() -> int:
        return len(block_transfers(read_block(raw, BITCOIN, block_hash), ref, context))

    found = ours()
    if found < OURS:
        raise AssertionError(f"{found} of {OURS} payments were found")
    spent, floor = milliseconds(ours), milliseconds(lambda: bytes.fromhex(json.loads(answer)["result"]))
    name = f"a Bitcoin block of {TXS:,} txs ({len(raw) / 1e6:.1f} MB) against 1M scripts: read, prove, match"
    return [Row(name, f"{spent:.1f} ms CPU", f"{floor:.1f} ms (JSON and hex)", f"{BUDGET:.0f} ms CPU", spent <= BUDGET)]


def milliseconds(act: Callable[[], object], times: int = 25) -> float:
    """Processor time of one ``act``: the median of some."""
    spent = []
    for _ in range(times):
        before = time.process_time()
        act()
        spent.append((time.process_time() - before) * 1e3)
    return median(spent)


def block_of(txs: int) -> MadeBlock:
    """A block as they come: most transactions small, some batches, consolidations and inscriptions."""
    chance = random.Random(1)
    made = [coinbase(Out(312_500_000, p2pkh(0)), Out(0, data(b"\xaa\x21\xa9\xed" + bytes(32))))]
    made += [_tx(number, chance) for number in range(1, txs)]
    return MadeBlock(made)


def _tx(number: int, chance: random.Random) -> MadeTx:
    ins = chance.choices((1, 2, 3, 5, 20, 60), (62, 20, 9, 6, 2.5, 0.5))[0]
    outs = chance.choices((1, 2, 3, 8, 40), (22, 66, 7, 4, 1))[0]
    kinds = chance.choices((p2wpkh, p2tr, p2pkh, p2sh, p2wsh), (45, 25, 14, 10, 6), k=outs)
    paid = [
        Out(chance.randrange(600, 10**9), kind(chance.randbytes(32 if kind in (p2tr, p2wsh) else 20))) for kind in kinds
    ]
    if chance.random() < 0.1:
        paid.append(Out(0, data(chance.randbytes(32))))
    return MadeTx([_in(number * 100 + place, chance) for place in range(ins)], paid)


def _in(tag: int, chance: random.Random) -> In:
    kind = chance.choices(("key", "root", "legacy", "multisig", "inscription"), (48, 22, 18, 9, 3))[0]
    if kind == "legacy":
        return In(coin(tag, tag % 3), chance.randbytes(107))
    stacks = {
        "key": (72, 33),
        "root": (64,),
        "multisig": (0, 71, 72, 105),
        "inscription": (64, chance.randrange(150, 3_000), 33),
    }
    return In(coin(tag, tag % 3), witness=[chance.randbytes(size) for size in stacks[kind]], sequence=0xFFFFFFFD)
