"""The watch index: a set that forgets nothing, in sixteen bytes an address."""

import random
import secrets

from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.daemon.index import AddressIndex


def test_it_finds_what_was_added_and_nothing_else() -> None:
    index = AddressIndex(8)
    watched = [secrets.token_bytes(20) for _ in range(5_000)]
    strangers = [secrets.token_bytes(20) for _ in range(5_000)]
    for key in watched:
        index.add(key)
    assert index.hits([*watched, *strangers]) == set(watched)
    assert len(index) == len(watched)


def test_an_address_costs_at_most_sixteen_bytes_however_the_index_grew() -> None:
    index = AddressIndex(8)
    for count in range(1, 60_001):
        index.add(count.to_bytes(20, "big"))
        if count >= 2_000:
            assert index.size_in_bytes / count <= 16


def test_adding_twice_counts_once_and_discarding_a_stranger_counts_nothing() -> None:
    index = AddressIndex()
    index.add(b"a")
    index.add(b"a")
    index.discard(b"b")
    assert len(index) == 1


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40)), max_size=400))
def test_it_is_a_set_whatever_comes_and_goes(acts: list[tuple[bool, int]]) -> None:
    index, model = AddressIndex(1), set[bytes]()
    for adding, number in acts:
        key = number.to_bytes(2, "big")
        if adding:
            index.add(key)
            model.add(key)
        else:
            index.discard(key)
            model.discard(key)
        assert len(index) == len(model)
    assert index.hits(number.to_bytes(2, "big") for number in range(50)) == model


def test_churn_does_not_fill_it_with_what_is_gone() -> None:
    """A search ends at an empty slot; an index full of gone ones would have none."""
    index, chance = AddressIndex(100), random.Random(1)
    alive: list[bytes] = []
    for _ in range(20_000):
        alive.append(chance.randbytes(20))
        index.add(alive[-1])
        if len(alive) > 50:
            index.discard(alive.pop(0))
    assert index.hits(alive) == set(alive)
    assert index.size_in_bytes < 40_000
