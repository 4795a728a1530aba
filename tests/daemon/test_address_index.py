"""The watch index: a set that forgets nothing, in sixteen bytes an address."""

import secrets

from hypothesis import given, settings
from hypothesis import strategies as st

from railwatch.daemon.watch.address_index import AddressIndex


def test_it_finds_what_was_added_and_nothing_else() -> None:
    index = AddressIndex(8)
    watched = [secrets.token_bytes(20) for _ in range(5_000)]
    strangers = [secrets.token_bytes(20) for _ in range(5_000)]
    for key in watched:
        index.add(key)
    assert index.hits([*watched, *strangers]) == set(watched)
    assert len(index) == len(watched)


def test_an_address_costs_at_most_sixteen_bytes_however_the_index_grew() -> None:
    """The index is measured at every 16th addition. It never shrinks, so that bounds the fifteen before as well."""
    index = AddressIndex(8)
    for count in range(1, 60_001):
        index.add(count.to_bytes(20, "big"))
        if count >= 20_000 and count % 16 == 0:
            assert index.size_in_bytes / (count - 15) <= 16


def test_no_addition_moves_more_than_a_small_part_of_the_index() -> None:
    """The loop stands still while addresses are moved: of ten million, all at once would take as long as a lease."""
    for index in (AddressIndex(8), AddressIndex(100_000)):
        for count in range(100_000):
            index.add(count.to_bytes(20, "big"))
        largest = max(len(shard) for shard in index._shards)
        assert largest * 400 <= sum(len(shard) for shard in index._shards)


def test_adding_twice_counts_once() -> None:
    index = AddressIndex()
    index.add(b"a")
    index.add(b"a")
    assert len(index) == 1


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.lists(st.integers(0, 400), max_size=400))
def test_it_is_a_set_whatever_comes(numbers: list[int]) -> None:
    index, model = AddressIndex(1), set[bytes]()
    for number in numbers:
        key = number.to_bytes(2, "big")
        index.add(key)
        model.add(key)
        assert len(index) == len(model)
    assert index.hits(number.to_bytes(2, "big") for number in range(500)) == model
