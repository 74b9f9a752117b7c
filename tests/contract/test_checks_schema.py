"""What a set says of itself, and rows that are otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from forcefoundry.contract.checks.schema import QUANTITIES
from tests.contract.finding import N, atom, crystals, found, measured, rows


def test_nothing_is_found_where_nothing_is_said() -> None:
    assert rows("schema", crystals()) == []
    assert rows("schema", crystals(), species=["Cu", "Au"], ranges={"n_atoms": [32, 32]}) == []


def test_elements_that_are_not_allowed_are_named() -> None:
    columns = crystals()
    columns["species"][atom(3, 1)], columns["species"][atom(3, 2)] = 79, 47
    (one,) = found("schema", columns, species=["Cu"])
    assert (one.row, one.got) == (3, "Ag and Au")
    assert one.expected == "Cu alone (database.schema.species)"
    assert rows("schema", columns, species=["Cu", "Ag"]) == [3]
    assert len(rows("schema", columns, species=["Ag", "Au"])) == N


@pytest.mark.parametrize("name", QUANTITIES)
def test_each_quantity_has_its_range(name: str) -> None:
    measures = measured(crystals())
    values = QUANTITIES[name][0](measures)
    least, most = float(values.min()), float(values.max())
    assert rows("schema", measures, ranges={name: [least, most]}) == []
    assert rows("schema", measures, ranges={name: [None, None]}) == []
    if least < most:
        above = rows("schema", measures, ranges={name: [None, (least + most) / 2]})
        below = rows("schema", measures, ranges={name: [(least + most) / 2, None]})
        assert sorted([*above, *below]) == list(range(N))  # type: ignore[type-var]
    (first, *_) = found("schema", measures, ranges={name: [most + 1, most + 2]})
    assert f"(database.schema.ranges.{name})" in first.expected


def test_what_a_row_does_not_have_is_in_every_range() -> None:
    columns = crystals()
    columns["energy"][5] = np.nan
    columns["pbc"][6] = False
    ranges = {"energy": [-1e6, 1e6], "volume": [0, 1e6]}
    assert rows("schema", columns, ranges=ranges) == []


def test_a_row_may_be_outside_of_two_ranges() -> None:
    columns = crystals()
    columns["energy"][5] = 1.0
    told = found("schema", columns, ranges={"energy": [None, 0], "energy_per_atom": [-10, 0]})
    assert [one.row for one in told] == [5, 5]
    assert [one.got for one in told] == ["1 eV", "0.03125 eV/atom"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"species": ["Cuu"]}, r"names 'Cuu', which is no element\. Did you mean Cu"),
        ({"species": ["X"]}, "names 'X', which is no element"),
        ({"species": [False]}, "in quotes"),
        ({"ranges": {"max_forces": [0, 1]}}, "Did you mean max_force"),
        ({"ranges": {"xyz": [0, 1]}}, "Known are n_atoms"),
        ({"ranges": {"energy": [1, 0]}}, r"ranges\.energy is \[1, 0\], expected two numbers"),
        ({"ranges": {"energy": 5}}, "expected two numbers in eV"),
        ({"ranges": {"n_atoms": ["a", "b"]}}, "expected two numbers in atoms"),
        ({"ranges": {"energy": [float("nan"), 1]}}, "expected two numbers"),
    ],
)
def test_what_is_no_schema_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        found("schema", crystals(), **options)
