"""The same weights and the same structures, in hippynn and here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from forcefoundry.interfaces.hippynn import MovedModel, read_hippynn
from tests.builders import batch
from tests.peers.hippynn_side import KINDS, cases
from tests.peers.peer import ask, database

pytestmark = pytest.mark.peers

DOUBLE = [name for name, case in cases().items() if case.get("dtype") != "float32"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every case as hippynn writes it."""
    folder = tmp_path_factory.mktemp("models")
    ask("models", folder)
    return folder


def predicted(moved: MovedModel, answers: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the moved model says of their structures."""
    model = moved.model
    columns = batch(
        database({name: answers[name] for name in ("Z", "R", "C") if name in answers}),
        names=[str(node.db_name) for node in model.inputs],
    )
    values = model(*(columns[str(node.db_name)] for node in model.inputs))
    return {str(node.db_name): value.numpy() for node, value in zip(model.outputs, values, strict=True)}


def both(folder: Path, **options: float) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What is said here and what was said there; forces of real atoms."""
    answers = dict(np.load(folder / "answers.npz"))
    found = predicted(read_hippynn(folder / "weights.pt", folder / "settings.yaml", **options), answers)
    assert not answers["forces"][answers["Z"] == 0].any()
    return found, answers | {"energy": answers["energy"][:, 0], "forces": answers["forces"][answers["Z"] > 0]}


@pytest.mark.parametrize("name", DOUBLE)
def test_energies_and_forces(name: str, written: Path) -> None:
    ours, theirs = both(written / name)
    np.testing.assert_allclose(ours["energy"], theirs["energy"], rtol=0, atol=1e-9)
    assert np.abs(ours["forces"] - theirs["forces"]).max() <= 1e-8 * np.abs(theirs["forces"]).max()


def test_single_precision(written: Path) -> None:
    ours, theirs = both(written / "float32")
    assert theirs["energy"].dtype == np.float32
    assert np.abs(ours["energy"] - theirs["energy"]).max() <= 1e-5 * np.abs(theirs["energy"]).max()
    assert np.abs(ours["forces"] - theirs["forces"]).max() <= 1e-4 * np.abs(theirs["forces"]).max()


@pytest.mark.parametrize("kind", KINDS)
def test_stress_has_their_sign_in_right_handed_cells_and_the_other_in_left_handed_ones(
    kind: str, written: Path
) -> None:
    ours, theirs = both(written / f"{kind}_periodic", stress_weight=1.0)
    hand = np.sign(np.linalg.det(theirs["C"]))
    assert set(hand) == {-1.0, 1.0}
    expected = hand[:, None, None] * theirs["stress"]
    assert np.abs(ours["stress"] - expected).max() <= 1e-8 * np.abs(expected).max()
