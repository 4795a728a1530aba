"""Makes transactions and blocks for a development chain, byte by byte. Pure, and of no use anywhere else.

Nothing is signed: the simulator's money is under scripts that need no signature, as P2WSH, which nodes relay like
any other. So a payment costs one question, no wallet has to run, and a transaction's id is known
before it is sent. Blocks are made whole, so that a node meets another branch in one piece, as it does in earnest:
`invalidateblock` would show a shorter chain, and its transactions back in the mempool, in between.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import scrypt, sha256

REWARD_SCRIPT = b"\x51"
"""OP_1: locks what blocks reward, until it is split."""
SPENDABLE_SCRIPT = b"\x52"
"""OP_2, which is as true: locks coins that are ready to be spent."""

REPLACEABLE = 0xFFFFFFFD
"""BIP125."""
FEE_RATE = 10
"""Base units a byte, ten times of what nodes relay."""


@dataclass(frozen=True, slots=True)
class Coin:
    """An output of ours. ``script`` is `REWARD_SCRIPT` or `SPENDABLE_SCRIPT`."""

    tx_id: str
    vout: int
    amount: int
    script: bytes = SPENDABLE_SCRIPT


@dataclass(frozen=True, slots=True)
class Tx:
    """A transaction in full: ``raw`` in hex, ``wtx_id`` with its witness (equal to ``tx_id`` where it has none)."""

    tx_id: str
    wtx_id: str
    raw: str


@dataclass(frozen=True, slots=True)
class Block:
    """A block in full: ``raw`` in hex."""

    hash: str
    raw: str


def p2wsh_script(script: bytes) -> bytes:
    """Return the output script (P2WSH) of a witness script."""
    return b"\x00\x20" + sha256(script).digest()


def fee_of(inputs: int, outputs: int) -> int:
    """Return the fee that a transaction of this size offers."""
    return FEE_RATE * (12 + 55 * inputs + 43 * outputs)


def make_tx(coins: Sequence[Coin], outputs: Sequence[tuple[bytes, int]], sequence: int = REPLACEABLE) -> Tx:
    """Spend ``coins`` to ``outputs`` (script, amount); what is missing in their sum is the fee."""
    inputs = b"".join(
        txid_bytes(coin.tx_id) + coin.vout.to_bytes(4, "little") + b"\x00" + sequence.to_bytes(4, "little")
        for coin in coins
    )
    body = compact(len(coins)) + inputs + _outputs(outputs)
    witness = b"".join(b"\x01" + compact(len(coin.script)) + coin.script for coin in coins)
    return _tx(body, witness)


def make_block(parent: str, height: int, time: int, bits: str, txs: Sequence[Tx], *, by_scrypt: bool = False) -> Block:
    """Return a block that a regtest node accepts. A reward of 0 makes it unique.

    ``bits`` in hex as nodes report it. ``by_scrypt``: the proof of work is Litecoin's.
    """
    commitment = double_sha(merkle_root([bytes(32), *(txid_bytes(tx.wtx_id) for tx in txs)]) + bytes(32))
    claims = [(b"\x6a\x10" + secrets.token_bytes(16), 0), (b"\x6a\x24\xaa\x21\xa9\xed" + commitment, 0)]
    script = _push_height(height) + b"\x00"
    coinbase = _tx(
        compact(1) + bytes(32) + b"\xff" * 4 + compact(len(script)) + script + b"\xff" * 4 + _outputs(claims),
        b"\x01\x20" + bytes(32),
    )
    header = (
        (0x20000000).to_bytes(4, "little")
        + txid_bytes(parent)
        + merkle_root([txid_bytes(tx.tx_id) for tx in (coinbase, *txs)])
        + time.to_bytes(4, "little")
        + bytes.fromhex(bits)[::-1]
    )
    header = _work(header, by_scrypt)
    content = coinbase.raw + "".join(tx.raw for tx in txs)
    return Block(double_sha(header)[::-1].hex(), (header + compact(1 + len(txs))).hex() + content)


def _work(header: bytes, by_scrypt: bool) -> bytes:
    """Return the header with a nonce. On regtest every other nonce is valid: the highest bit has to be 0."""
    nonce = 0
    while True:
        whole = header + nonce.to_bytes(4, "little")
        proof = scrypt(whole, salt=whole, n=1024, r=1, p=1, dklen=32) if by_scrypt else double_sha(whole)
        if proof[31] < 0x7F:
            return whole
        nonce += 1


def _tx(body: bytes, witness: bytes) -> Tx:
    """From inputs and outputs, and the inputs' witnesses."""
    version, lock_time = (2).to_bytes(4, "little"), bytes(4)
    whole = version + b"\x00\x01" + body + witness + lock_time
    return Tx(double_sha(version + body + lock_time)[::-1].hex(), double_sha(whole)[::-1].hex(), whole.hex())


def _outputs(outputs: Sequence[tuple[bytes, int]]) -> bytes:
    each = (amount.to_bytes(8, "little") + compact(len(script)) + script for script, amount in outputs)
    return compact(len(outputs)) + b"".join(each)


def _push_height(height: int) -> bytes:
    """BIP34: the height as a minimal push of a signed number."""
    if height <= 16:
        return bytes([0x50 + height])
    number = height.to_bytes(height.bit_length() // 8 + 1, "little")
    return bytes([len(number)]) + number


def merkle_root(leaves: list[bytes]) -> bytes:
    """Pairs are hashed until one is left; the last of an odd number is its own partner."""
    while len(leaves) > 1:
        if len(leaves) % 2:
            leaves = [*leaves, leaves[-1]]
        leaves = [double_sha(left + right) for left, right in zip(leaves[::2], leaves[1::2], strict=True)]
    return leaves[0]


def compact(number: int) -> bytes:
    """CompactSize, up to four bytes."""
    if number < 0xFD:
        return bytes([number])
    return b"\xfd" + number.to_bytes(2, "little") if number < 0x10000 else b"\xfe" + number.to_bytes(4, "little")


def txid_bytes(text: str) -> bytes:
    """Return a hash in wire order, the reverse of the order that people write."""
    return bytes.fromhex(text)[::-1]


def double_sha(data: bytes) -> bytes:
    """SHA-256, twice."""
    return sha256(sha256(data).digest()).digest()
