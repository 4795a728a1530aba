"""A subscription to a node's ZMQ publisher: `hashblock` and `sequence`, counted by topic.

A block wakes the daemon. A mempool change goes to the mirror of the mempool, as long as no message is missing. `rawtx`
is not subscribed to where there is `sequence`: it repeats every transaction of every block, two thousand messages just
when the daemon asks for the block itself.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import msgspec
import zmq
import zmq.asyncio

from railwatch.rail import RailUnavailable
from railwatch.rail.push import PushListener
from railwatch.rail.refusals import LOCKED_OUT
from railwatch.rail.transport import Subscriber, open_subscriber
from railwatch_bitcoin.mempool import Mempool, MempoolEvent
from railwatch_bitcoin.options import BitcoinOptions
from railwatch_bitcoin.rpc import Rpc, text_decoder

BLOCK, SEQUENCE, TX = TOPICS = b"hashblock", b"sequence", b"rawtx"

CHANGE_SIZE = 41
"""A message of `sequence` about the mempool: id, label, and the number of the change in eight bytes."""

QUEUE, LARGE_QUEUE = 10_000, 100
"""Messages that wait for us at most, small ones and whole transactions; what comes beyond shows as a gap."""

SMALL, LARGE_MESSAGE_BYTES = 1_000, 8_000_000
"""Bytes of a message at most: a hash and some numbers, or a transaction (twice as large as any can be). A publisher
that sends more is disconnected by ZMQ itself, and then seen to be silent."""

DRAIN = 500
"""Messages that are read at once, before the loop gets a turn."""

FIRST_SILENCE, SILENCE = 0.3, 2.0
"""Seconds without a message after which the head is asked for over RPC; twice in a row, and it moved, is a stall."""

HEARTBEAT_MS = 5_000


class Published(msgspec.Struct):
    """One line of `getzmqnotifications`."""

    type: str


_published = msgspec.json.Decoder(list[Published])


@dataclass(slots=True)
class ZmqBatch:
    """What some messages said: the mempool's changes, whether they were counted, whether there is more to it."""

    more: bool = False
    counted: bool = False
    changes: list[MempoolEvent] = field(default_factory=list)


class SequenceTracker:
    """Each of our topics counts its messages, in 32 bits, from 0 at each start of the node."""

    def __init__(self) -> None:
        self._last: dict[bytes, int] = {}

    def gap(self, topic: bytes, number: bytes) -> bool:
        """Whether something is missing before this message: a lost one, or a restart that hid some.

        A subscription is to all that begins like its topic (zmq_setsockopt(3), ZMQ_SUBSCRIBE): a node could go on for
        ever with new topics. Of such a one nothing is kept, and it counts as a gap.
        """
        if topic not in TOPICS:
            return True
        count = int.from_bytes(number, "little")
        last, self._last[topic] = self._last.get(topic), count
        return last is not None and count != (last + 1) & 0xFFFFFFFF


class Subscription:
    """A subscription to ``topics`` at a node's ``endpoints`` (`railwatch.rail.transport.Subscriber`).

    Raises `zmq.ZMQError` for an endpoint that cannot be.
    """

    def __init__(self, endpoints: Sequence[str], topics: Sequence[bytes], proxy: str | None = None) -> None:
        self._context = zmq.asyncio.Context()
        try:
            self._socket = socket = self._context.socket(zmq.SUB)
            self._bare: zmq.Socket[bytes] = zmq.Socket.shadow(socket)
            large = TX in topics
            socket.set(zmq.RCVHWM, LARGE_QUEUE if large else QUEUE)
            socket.set(zmq.MAXMSGSIZE, LARGE_MESSAGE_BYTES if large else SMALL)
            socket.set(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
            if any("[" in endpoint for endpoint in endpoints):
                socket.set(zmq.IPV6, 1)
            if proxy is not None:
                socket.set(zmq.SOCKS_PROXY, urlsplit(proxy).netloc.rpartition("@")[2].encode())
            for topic in topics:
                socket.subscribe(topic)
            for endpoint in endpoints:
                socket.connect(endpoint)
        except BaseException:
            self.close()
            raise

    async def poll(self, seconds: float) -> bool:
        """Wait until a message is there, for at most ``seconds``."""
        return bool(await self._socket.poll(seconds * 1000))

    def receive(self) -> list[bytes] | None:
        """Return the next message's parts; None: none is there."""
        try:
            return self._bare.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None

    def close(self) -> None:
        """Close the sockets, with the messages in them."""
        self._context.destroy(linger=0)


class ZmqSubscriber:
    """Follows one node's messages (`railwatch.rail.push.Follow`)."""

    def __init__(self, node: BitcoinOptions, rpc: Rpc, mempool: Mempool) -> None:
        self._endpoints, self._name, self._proxy = node.zmq, node.name, node.options.proxy
        self._rpc, self._mempool = rpc, mempool

    async def follow(self, listener: PushListener) -> RailUnavailable:
        """Ring at whatever may concern us, until the chain moves and nothing is pushed; says so."""
        topics = await self._topics()
        subscription: Subscriber | None = None
        try:
            subscription = open_subscriber(
                self._endpoints[0], lambda: Subscription(self._endpoints, topics, self._proxy)
            )
            return await self._listen(subscription, listener)
        except zmq.ZMQError as error:
            return RailUnavailable(f"{self._name}: ZMQ failed: {error}")
        finally:
            self._mempool.push_attached = False
            self._mempool.invalidate()
            if subscription is not None:
                subscription.close()

    async def _topics(self) -> tuple[bytes, ...]:
        """Return what to subscribe to, by what the node publishes. Raises `RailUnavailable` if it publishes no blocks.

        A node that cannot say (Dogecoin Core 1.14, a whitelist) is listened to for all: what it does not publish does
        not come, and if nothing comes the head's moving shows it (HAZARDS B20).
        """
        answer = await self._rpc.call("getzmqnotifications")
        refusal = answer.error
        if refusal is not None and (not refusal.passes or refusal.code in LOCKED_OUT):
            return TOPICS
        published = {each.type for each in answer.read(_published)}
        if "pubhashblock" not in published:
            raise RailUnavailable(f"{self._name}: it does not publish hashblock (its own setting zmqpubhashblock)")
        return (BLOCK, SEQUENCE) if "pubsequence" in published else (BLOCK, TX)

    async def _listen(self, subscription: Subscriber, listener: PushListener) -> RailUnavailable:
        counters = SequenceTracker()
        head: str | None = await self._head()
        patience, suspected = FIRST_SILENCE, False
        while True:
            if await subscription.poll(patience):
                head, patience, suspected = None, SILENCE, False
                if await self._matters(_drain(subscription, counters)):
                    listener.on_push()
                await asyncio.sleep(0)
                continue
            seen, head = head, await self._head()
            if seen is not None and head != seen:
                if suspected:
                    return RailUnavailable(f"{self._name}: ZMQ is silent, and the head moved to {head}")
                # Its push may be on its way, or have come before the subscription: check, and check twice.
                listener.on_push()
                suspected = patience == SILENCE
                head = seen if suspected else head
            patience = SILENCE

    async def _matters(self, messages: ZmqBatch) -> bool:
        """Return True if any message may change the next poll. Bodies are read at once: they are wanted next."""
        if messages.more:
            self._mempool.invalidate()
        try:
            return await self._mempool.follow(messages.changes) or messages.more
        except RailUnavailable:
            # The poll that this wakes asks the node itself.
            self._mempool.invalidate()
            return True
        finally:
            # Only now: what was lost before the node accepted the subscription leaves no gap.
            self._mempool.push_attached |= messages.counted

    async def _head(self) -> str:
        return (await self._rpc.call("getbestblockhash")).read(text_decoder)


def _drain(subscription: Subscriber, counters: SequenceTracker) -> ZmqBatch:
    """Return the waiting messages, up to a bound, and whether more than mempool changes happened."""
    heard = ZmqBatch()
    for _ in range(DRAIN):
        parts = subscription.receive()
        if parts is None:
            break
        topic, body, number = parts if len(parts) == 3 else (b"", b"", b"")
        heard.more |= counters.gap(topic, number)
        heard.counted |= topic == SEQUENCE
        label = body[32:33]
        if topic != SEQUENCE or label not in (b"A", b"R") or len(body) != CHANGE_SIZE:
            heard.more = True
        else:
            heard.changes.append(MempoolEvent(body[:32].hex(), label == b"A", int.from_bytes(body[33:], "little")))
    return heard
