"""The laws of networks on structures that hypothesis draws: any size, any boundaries, cells smaller than the cutoff."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from forcefoundry.batches import Packer
from forcefoundry.build import build, seeded
from forcefoundry.databases import Database, from_padded
from forcefoundry.experiment.assembly import assemble_for_training
from forcefoundry.objectives import energy_and_forces
from forcefoundry.pairs.reference import ReferenceFinder
from tests.builders import apart
from tests.laws.rooms import CUTOFF, SPECIES, options, plain

NETWORKS = [pytest.param(path, id=path.stem) for path in options("network")]
pytestmark = pytest.mark.parametrize("path", NETWORKS)
EXAMPLES = settings(max_examples=25)

_MADE: dict[tuple[Path, int], Judge] = {}


class Judge:
    """A network with energies, forces and stresses, made once for each option."""

    def __init__(self, path: Path, n_species: int = len(SPECIES)):
        species = SPECIES if n_species == len(SPECIES) else list(range(1, n_species + 1))
        with seeded(0):
            made = energy_and_forces(build(plain(path), species=species), stress_weight=1.0)
            with torch.no_grad():
                assert made.readout.e0 is not None
                made.readout.e0.copy_(-10.0 * torch.arange(1, n_species + 1))
        (self.model, _, _), info = assemble_for_training(made.train_loss, made.validation_losses)
        self.inputs = info["inputs"]
        assert [node.name for node in self.model.outputs] == ["energy", "forces", "stress"]

    def __call__(self, base: Database) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Energies (S,), forces (N, 3) and stresses (S, 3, 3)."""
        packed = Packer(base, self.inputs).pack(np.arange(len(base)))
        energy, forces, stress = self.model.eval()(*packed.values())
        return energy.numpy(), forces.numpy(), stress.numpy()


def judge(path: Path, n_species: int = len(SPECIES)) -> Judge:
    """The judge of an option."""
    if (path, n_species) not in _MADE:
        _MADE[path, n_species] = Judge(path, n_species)
    return _MADE[path, n_species]


@st.composite
def drawn(draw: st.DrawFn, periodic: bool | None = None) -> Database:
    """One to three structures of one to seven atoms; each direction is periodic or not, atoms lie in any cell."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    counts = draw(st.lists(st.integers(1, 7), min_size=1, max_size=3))
    pbc = np.array([draw(st.tuples(*[st.booleans()] * 3)) if periodic is None else [periodic] * 3 for _ in counts])
    lengths = [draw(st.floats(3.0, 8.0)) for _ in counts]
    cells = np.array([np.eye(3) * length + rng.normal(0, 0.5, (3, 3)) for length in lengths])
    positions = []
    for at, count in enumerate(counts):
        inside = apart(rng, count, 4.5, 1.0) if not pbc[at].any() else _lattice_apart(rng, count, cells[at], pbc[at])
        far = np.where(pbc[at], rng.integers(-2, 3, (count, 3)), 0)
        positions.append(inside + far @ cells[at])
    return Database(
        {
            "n_atoms": np.array(counts),
            "species": rng.choice(np.array(SPECIES), sum(counts)),
            "positions": np.concatenate(positions),
            "cell": np.where(pbc[:, :, None], cells, 0.0),
            "pbc": pbc,
        }
    )


def _lattice_apart(rng: np.random.Generator, count: int, cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """Positions no two of which, nor of whose images, are nearer than 1 Å; the cell grows where there is no room."""
    images = np.stack(np.meshgrid(*[[-1, 0, 1] if p else [0] for p in pbc], indexing="ij"), -1).reshape(-1, 3)
    while True:
        for _ in range(50):
            positions = rng.random((count, 3)) @ cell
            D = positions[None, :, None] - positions[:, None, None] + images @ cell
            distance = np.linalg.norm(D, axis=-1) + 9.0 * (
                np.eye(count)[:, :, None] * (images == 0).all(axis=1)[None, None, :]
            )
            if distance.min() > 1.0:
                return np.asarray(positions)
        cell *= 1.2


def close(found: np.ndarray, expected: np.ndarray, relative: float) -> None:
    """Within a tolerance, relative to the largest entry; what is no number on one side is none on the other."""
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    scale = max(1.0, float(np.nanmax(np.abs(expected), initial=0.0)))
    assert float(np.nanmax(np.abs(found - expected), initial=0.0)) <= relative * scale


def clear_of_the_cutoff(base: Database, by: float) -> bool:
    """Whether no pair's distance lies within ``by`` (Å) of the cutoff."""
    columns = base.columns
    whole = [columns[name] for name in ("positions", "cell", "pbc")]
    short, long = (len(ReferenceFinder()(*whole, cutoff, base.offsets).i) for cutoff in (CUTOFF - by, CUTOFF + by))
    return short == long


@given(base=drawn(), seed=st.integers(0, 2**32 - 1))
@EXAMPLES
def test_turned_mirrored_moved_rewrapped_and_reordered(path: Path, base: Database, seed: int) -> None:
    rng = np.random.default_rng(seed)
    turn = Rotation.random(random_state=rng).as_matrix() * rng.choice([-1.0, 1.0])
    energy, forces, stress = judge(path)(base)
    columns = base.columns
    system = np.repeat(np.arange(len(base)), columns["n_atoms"])
    order = np.concatenate([base.offsets[at] + rng.permutation(columns["n_atoms"][at]) for at in range(len(base))])
    whole = np.where(columns["pbc"][system], rng.integers(-2, 3, (len(system), 3)), 0).astype(float)
    moved = columns["positions"] + np.einsum("na,nab->nb", whole, columns["cell"][system]) + rng.normal(0, 5.0, 3)
    changed = Database(
        {
            **columns,
            "positions": (moved @ turn)[order],
            "species": columns["species"][order],
            "cell": columns["cell"] @ turn,
        }
    )
    energy_, forces_, stress_ = judge(path)(changed)
    close(energy_, energy, 1e-11)
    close(forces_, (forces @ turn)[order], 1e-9)
    close(stress_, turn.T @ stress @ turn, 1e-9)


@given(base=drawn())
@EXAMPLES
def test_a_batch_of_many_is_each_alone(path: Path, base: Database) -> None:
    energy, forces, stress = judge(path)(base)
    for at in range(len(base)):
        atoms = base.atoms(at)
        alone = Database(
            {name: v[atoms] if name in ("species", "positions") else v[at : at + 1] for name, v in base.columns.items()}
        )
        energy_, forces_, stress_ = judge(path)(alone)
        close(energy_, energy[at : at + 1], 1e-12)
        close(forces_, forces[atoms], 1e-11)
        close(stress_, stress[at : at + 1], 1e-11)


@given(base=drawn(), seed=st.integers(0, 2**32 - 1))
@EXAMPLES
def test_padding_changes_nothing_wherever_it_stands(path: Path, base: Database, seed: int) -> None:
    rng = np.random.default_rng(seed)
    width = int(base.columns["n_atoms"].max()) + int(rng.integers(0, 4))
    species, positions = np.zeros((len(base), width), dtype=int), rng.normal(0, 1, (len(base), width, 3))
    for at in range(len(base)):
        places = np.sort(rng.permutation(width)[: base.columns["n_atoms"][at]])
        species[at, places] = base.columns["species"][base.atoms(at)]
        positions[at, places] = base.columns["positions"][base.atoms(at)]
    boundaries = {name: base.columns[name] for name in ("cell", "pbc")}
    padded = from_padded({"species": species, "positions": positions, **boundaries})
    for found, expected in zip(judge(path)(padded), judge(path)(base), strict=True):
        np.testing.assert_array_equal(found, expected)


@given(base=drawn(), seed=st.integers(0, 2**32 - 1))
@EXAMPLES
def test_forces_and_stress_are_the_slopes_of_the_energy(path: Path, base: Database, seed: int) -> None:
    rng = np.random.default_rng(seed)
    columns, system = base.columns, np.repeat(np.arange(len(base)), base.columns["n_atoms"])
    direction = rng.normal(0, 1, columns["positions"].shape)
    direction /= np.linalg.norm(direction)
    strain = rng.normal(0, 1, (len(base), 3, 3))
    strain /= np.linalg.norm(strain, axis=(1, 2), keepdims=True)
    # Å, and the strain that moves a pair at the cutoff about as far. HIP-NN-TS rounds a cusp within 1e-3, and
    # every network's curvature jumps at the cutoff: differences that reach across either are no slopes.
    step, strain_step = 5e-5, 1e-5
    assume(clear_of_the_cutoff(base, 5 * step))
    _, forces, stress = judge(path)(base)

    def slope(moved: Database, other: Database, twice: Database, opposite: Database, step: float) -> np.ndarray:
        a, b, c, d = (judge(path)(entry)[0] for entry in (moved, other, twice, opposite))
        return (8 * (a - b) - (c - d)) / (12 * step)

    def shifted(by: float) -> Database:
        return Database({**columns, "positions": columns["positions"] + by * direction})

    def strained(by: float) -> Database:
        form = np.eye(3) + by * strain
        positions = np.einsum("na,nab->nb", columns["positions"], form[system])
        return Database({**columns, "positions": positions, "cell": columns["cell"] @ form})

    numeric = slope(shifted(step), shifted(-step), shifted(2 * step), shifted(-2 * step), step)
    analytic = np.bincount(system, -(forces * direction).sum(axis=1), len(base))
    close(numeric, analytic, 1e-7)
    step = strain_step
    numeric = slope(strained(step), strained(-step), strained(2 * step), strained(-2 * step), step)
    periodic = columns["pbc"].all(axis=1)
    volume = np.where(periodic, np.abs(np.linalg.det(columns["cell"])), 1.0)
    analytic = (stress * strain).sum(axis=(1, 2)) * volume
    close(numeric[periodic], analytic[periodic], 1e-6)
    assert np.isnan(stress[~periodic]).all()


@given(base=drawn())
@EXAMPLES
def test_two_species_of_ninety(path: Path, base: Database) -> None:
    species = np.where(base.columns["species"] > 6, 79, 29)
    energy, forces, stress = judge(path, 90)(Database({**base.columns, "species": species}))
    assert np.isfinite(energy).all()
    assert np.isfinite(forces).all()
    assert (np.isfinite(stress).all(axis=(1, 2)) == base.columns["pbc"].all(axis=1)).all()
