"""When a transfer counts, and when it is final. Depths are inclusive: the including block is 1."""

import pytest

from railwatch.core.policy import Policy, Progress, Threshold, finality_threshold


@pytest.mark.parametrize(
    "text",
    [{"confirmations": 1}, {"confirmations": 6}, {"finalized": True, "plus": 0}, {"finalized": True, "plus": 15}],
)
def test_a_policy_is_written_the_way_it_is_read(text):
    assert Policy.from_json(text).to_json() == text


def test_finalized_may_omit_plus():
    assert Policy.from_json({"finalized": True}) == Policy(None, plus=0)


def test_zero_confirmations_never_pay():
    assert Policy.from_json({"confirmations": 0}) == Policy(1)


@pytest.mark.parametrize(("confirmations", "met"), [(1, 100), (2, 101), (6, 105)])
def test_the_including_block_is_the_first_confirmation(confirmations, met):
    assert Policy(confirmations).threshold(100) == Threshold("depth", met)


@pytest.mark.parametrize(("plus", "met"), [(0, 100), (15, 115)])
def test_finality_and_a_margin_are_counted_in_the_finalized_height(plus, met):
    assert Policy(None, plus).threshold(100) == Threshold("finalized", met)


def test_maturity_is_a_floor_under_every_policy():
    assert Policy(6).threshold(100, maturity=100) == Threshold("depth", 199)
    assert Policy(120).threshold(100, maturity=100) == Threshold("depth", 219)
    assert Policy(None, 15).threshold(100, maturity=100) == Threshold("finalized", 199)
    assert Policy(None, 128).threshold(100, maturity=100) == Threshold("finalized", 228)


@pytest.mark.parametrize(
    ("due", "cursor", "finalized", "reached"),
    [
        (Threshold("depth", 105), 104, 104, False),
        (Threshold("depth", 105), 105, -1, True),
        (Threshold("finalized", 105), 200, 104, False),
        (Threshold("finalized", 105), 105, 105, True),
    ],
)
def test_a_due_height_is_reached_inclusively_on_its_own_basis(due, cursor, finalized, reached):
    assert Progress(cursor, finalized).has_reached(due) is reached


def test_without_finality_the_horizon_is_final():
    assert finality_threshold(Policy(6).threshold(100), 100, horizon=50, has_finality=False) == Threshold("depth", 149)


def test_without_finality_a_policy_deeper_than_the_horizon_comes_first():
    assert finality_threshold(Policy(60).threshold(100), 100, horizon=50, has_finality=False) == Threshold("depth", 159)


def test_with_finality_its_own_block_must_be_final():
    assert finality_threshold(Policy(6).threshold(100), 100, horizon=50, has_finality=True) == Threshold(
        "finalized", 100
    )


def test_with_finality_a_margin_beyond_it_is_waited_for():
    met = Policy(None, 15).threshold(100)
    assert finality_threshold(met, 100, horizon=50, has_finality=True) == met
