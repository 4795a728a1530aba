"""Each planted defect still has its place; `make mutants` plants them."""

import re

import pytest

from tests.model.mutants import MUTANTS, ROOT, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_s_place_occurs_as_often_as_it_says(mutant: Mutant) -> None:
    assert (ROOT / mutant.path).read_text().count(mutant.old) == mutant.places


@pytest.mark.parametrize(
    "mutant", [each for each in MUTANTS if "/schema/" in each.path], ids=lambda mutant: mutant.name
)
def test_no_later_text_replaces_a_mutant(mutant: Mutant) -> None:
    place = ROOT / mutant.path
    before = place.read_text().partition(mutant.old)[0]
    name = re.findall(r"create (?:or replace )?function (railwatch\.\w+)", before)[-1]
    others = [path for path in place.parents[1].rglob("*.sql") if path != place]
    assert [path.name for path in others if re.search(rf"function {re.escape(name)}\(", path.read_text())] == []
