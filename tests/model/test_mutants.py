"""Each planted defect still has its place; `make mutants` plants them."""

import pytest

from tests.model.mutants import MUTANTS, ROOT, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_s_place_occurs_as_often_as_it_says(mutant: Mutant) -> None:
    assert (ROOT / mutant.path).read_text().count(mutant.old) == mutant.places
