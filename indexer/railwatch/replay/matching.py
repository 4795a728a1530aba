"""Which recorded answer a request gets.

The same request gets its recorded answers one after the other, each not before the moment at which it was recorded. A
request that is asked more often than it was recorded gets the last one again, and one that is asked less often skips
those that are old. So an answer never comes from the future, and a daemon that polls at another pace sees the same
chain at the same moment.
"""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec

from railwatch.replay.calls import Reply, Request, split_replies
from railwatch.replay.recording import ABANDONED, Http

SLACK = 2.0
"""Seconds by which a replay may be ahead of the recording, or behind it, at the same request."""
SHORT = 1.0
"""Seconds. An exchange that was given up sooner says nothing of the node."""

Key: TypeAlias = tuple[str, str, str, bytes]
"""Node, verb, path, and the calls in a form that can be compared."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request, or of one call of it: ``reply`` is None where the exchange counts as a whole."""

    exchange: Http
    reply: Reply | None = None

    @property
    def at(self) -> float:
        """When it was asked for."""
        return self.exchange.at

    @property
    def came_at(self) -> float:
        """When it was there."""
        return self.exchange.at + self.exchange.took


@dataclass(slots=True)
class Answers:
    """All recorded answers to one request, in order, and how many have been given."""

    listed: list[Answer] = field(default_factory=list)
    given: int = 0

    def due(self, now: float) -> Answer:
        """Return the answer that `take` would return."""
        return self.listed[self._next(now)]

    def take(self, now: float) -> Answer:
        """Return the next answer for a request at ``now`` seconds."""
        place = self._next(now)
        self.given = max(self.given, place + 1)
        return self.listed[place]

    def _next(self, now: float) -> int:
        place = self.given
        if self._before(now - SLACK) > place:
            # Others were asked for meanwhile, and are old: the newest says how things are.
            place = self._before(now)
        if place >= len(self.listed) or (place > 0 and self.listed[place].at > now + SLACK):
            return place - 1
        return place

    def _before(self, moment: float) -> int:
        """Return the place of the last answer that was asked for until then; -1: there is none."""
        return bisect.bisect_right(self.listed, moment, key=lambda answer: answer.at) - 1


def key_of(node: str, verb: str, path: str, calls: Sequence[tuple[str, Any]]) -> Key:
    """Return what makes two requests the same. Objects are compared without regard to the order of their names."""
    return node, verb, path, msgspec.json.encode([[method, params] for method, params in calls], order="deterministic")


class AnswerBook:
    """Every exchange of a recording, found by what was asked."""

    def __init__(self, exchanges: Sequence[Http]) -> None:
        self._answers: dict[Key, Answers] = {}
        self._unanswered: set[Key] = set()
        for exchange in sorted(exchanges, key=lambda each: each.at):
            self._add(exchange)

    def find(self, node: str, verb: str, path: str, request: Request, now: float) -> list[Answer] | None:
        """Return the answer of the request as a whole, or one for each of its calls. None: there is none.

        A batch need not have been recorded as the same batch. Raises KeyError with the first call that the recording
        does not hold.
        """
        whole = key_of(node, verb, path, request.calls)
        if len(request.calls) <= 1:
            if whole in self._answers:
                return [self._answers[whole].take(now)]
            if whole in self._unanswered:
                return None
            raise KeyError(*(request.calls or [(verb, path)]))
        each = [key_of(node, verb, path, [call]) for call in request.calls]
        missing = [call for call, key in zip(request.calls, each, strict=True) if key not in self._answers]
        as_whole = self._answers.get(whole)
        if as_whole is not None and (missing or self._is_next(as_whole, self._answers[each[0]], now)):
            return [as_whole.take(now)]
        if not missing:
            return [self._answers[key].take(now) for key in each]
        if whole in self._unanswered:
            return None
        raise KeyError(missing[0])

    def _is_next(self, one: Answers, other: Answers, now: float) -> bool:
        """Whether the next of ``one`` comes before the next of ``other``, and was not given before."""
        if one.given >= len(one.listed):
            return other.given >= len(other.listed) and one.listed[-1].at > other.listed[-1].at
        return other.given >= len(other.listed) or one.due(now).at < other.due(now).at

    def _add(self, exchange: Http) -> None:
        place = (exchange.node, exchange.verb, exchange.path)
        whole = key_of(*place, exchange.calls)
        if exchange.failed == ABANDONED and exchange.took < SHORT:
            self._unanswered.update([whole, *(key_of(*place, [call]) for call in exchange.calls)])
            return
        replies = split_replies(exchange.content(), exchange.ids) if not exchange.failed and exchange.calls else None
        if replies is None or exchange.status >= 400:
            self._answers.setdefault(whole, Answers()).listed.append(Answer(exchange))
            return
        for call, reply in zip(exchange.calls, replies, strict=True):
            self._answers.setdefault(key_of(*place, [call]), Answers()).listed.append(Answer(exchange, reply))
