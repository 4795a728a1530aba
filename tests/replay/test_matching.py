"""Which recorded answer a request gets, and what happens where there is none."""

import json

import pytest

from railwatch.replay.calls import Request, joined, split_replies, with_ids
from railwatch.replay.matching import AnswerBook
from railwatch.replay.recording import ABANDONED, Http


def _exchange(at: float, *calls: str, result: str = "", failed: str | None = None, took: float = 0.1) -> Http:
    ids = list(range(len(calls)))
    replies = [{"jsonrpc": "2.0", "id": each, "result": f"{result}{at:g}"} for each in ids]
    body = json.dumps(replies if len(calls) > 1 else replies[0])
    asked: list[tuple[str, list[object]]] = [(call, []) for call in calls]
    return Http(at=at, took=took, node="node-1", calls=asked, ids=ids, status=200, body=body, failed=failed)


def _ask(book: AnswerBook, now: float, *calls: str) -> list[float] | None:
    found = book.find("node-1", "POST", "", Request([(call, []) for call in calls], list(range(len(calls)))), now)
    return None if found is None else [answer.at for answer in found]


def test_the_same_request_gets_its_answers_in_order_and_the_last_again() -> None:
    book = AnswerBook([_exchange(at, "head") for at in (0, 1, 2)])
    assert [_ask(book, now, "head") for now in (0, 1, 2, 2.5, 9)] == [[0], [1], [2], [2], [2]]


def test_an_answer_from_later_is_not_given_before_its_time() -> None:
    book = AnswerBook([_exchange(0, "head"), _exchange(60, "head")])
    assert [_ask(book, now, "head") for now in (0, 5, 30, 59, 61)] == [[0], [0], [0], [60], [60]]


def test_a_request_that_is_asked_less_often_skips_what_is_old() -> None:
    book = AnswerBook([_exchange(at, "head") for at in range(20)])
    assert [_ask(book, now, "head") for now in (0, 10, 11)] == [[0], [10], [11]]


def test_alternating_answers_within_one_moment_stay_apart() -> None:
    """As behind a balancer: the count decides, not the clock."""
    book = AnswerBook([_exchange(at / 1000, "head") for at in range(6)])
    assert [_ask(book, 0.001, "head") for _ in range(6)] == [[at / 1000] for at in range(6)]


def test_a_batch_is_answered_from_other_batches() -> None:
    book = AnswerBook([_exchange(0, "a", "b"), _exchange(1, "c")])
    assert _ask(book, 1, "b", "c") == [0, 1]
    assert _ask(book, 1, "a") == [0]


def test_what_was_never_asked_is_named() -> None:
    with pytest.raises(KeyError) as missing:
        _ask(AnswerBook([_exchange(0, "a")]), 1, "a", "b")
    assert missing.value.args == (("b", []),)


def test_what_was_given_up_is_never_answered() -> None:
    book = AnswerBook([_exchange(0, "a", failed=ABANDONED, took=0.01), _exchange(0, "b", failed=ABANDONED, took=9)])
    assert _ask(book, 0, "a") is None
    [answer] = book.find("node-1", "POST", "", Request([("b", [])], [0]), 0) or []
    assert answer.exchange.failed == ABANDONED


def test_objects_are_the_same_whatever_the_order_of_their_names() -> None:
    calls = [("eth_getLogs", [{"address": "0x1", "topics": []}])]
    book = AnswerBook(
        [Http(at=0, took=0, node="node-1", calls=calls, ids=[1], status=200, body='{"id":1,"result":[]}')]
    )
    assert book.find("node-1", "POST", "", Request([("eth_getLogs", [{"topics": [], "address": "0x1"}])], [5]), 0)


def test_ids_are_those_of_who_asks_and_the_rest_stays_as_it_came() -> None:
    body = b'[{"id":8,"result":{"x":1.50}},{"id":7,"error":{"code":-1}}]'
    replies = split_replies(body, [7, 8])
    assert replies is not None
    expected = b'[{"error":{"code":-1},"id":1},{"result":{"x":1.50},"id":2}]'
    assert json.loads(joined(replies, Request([], [1, 2], is_batch=True))) == json.loads(expected)
    assert b"1.50" in joined(replies, Request([], [1, 2], is_batch=True))
    assert with_ids(b'{"id":7,"error":"all of it"}', [7, 8], [1, 2]) == b'{"id":1,"error":"all of it"}'
    assert with_ids(b"<html>", [7], [1]) == b"<html>"
    assert split_replies(b'[{"id":7}]', [7, 8]) is None
