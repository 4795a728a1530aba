"""How many blocks to ask for: by growth until a refusal, or by the weight of the last blocks."""

from railwatch.rail.batch_sizer import BatchSizer, FittedBatches, GrowingBatches


def widths(sizer: BatchSizer, *answers: int) -> list[int]:
    """Return the width before each answer of so many bytes."""
    seen = []
    for size in answers:
        seen.append(sizer.width)
        sizer.answered(sizer.width, size)
    return seen


def test_it_doubles_and_after_a_refusal_grows_by_an_eighth() -> None:
    sizer = GrowingBatches(width=16, most=64, size_max=8_000)
    assert widths(sizer, 10, 10, 10) == [16, 32, 64]
    sizer.refused(64)
    assert widths(sizer, 10, 10) == [32, 36]


def test_a_large_answer_halves_it_and_a_middling_one_leaves_it() -> None:
    sizer = GrowingBatches(width=16, most=64, size_max=8_000)
    assert widths(sizer, 9_000, 4_000, 4_000) == [16, 8, 8]


def test_it_fits_the_weight_and_widens_fourfold_at_most() -> None:
    sizer = FittedBatches(most=200, size_wanted=1_000)
    assert widths(sizer, 1, 4, 16, 64, 2_000) == [1, 4, 16, 66, 200]
    assert sizer.width == 100


def test_a_refusal_quarters_a_fitted_width() -> None:
    sizer = FittedBatches(most=200, size_wanted=1_000)
    assert widths(sizer, 1, 4, 16) == [1, 4, 16]
    assert sizer.width == 66
    sizer.refused(66)
    assert sizer.width == 16
