"""The laws of networks: whatever stands in conf/network keeps the symmetries of physics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from forcefoundry.build import cast
from forcefoundry.databases import Database
from forcefoundry.experiment.assembly import precompute_pairs
from forcefoundry.interfaces.model_folder import load_weights, save_weights
from tests.laws.rooms import CUTOFF, Potential, changed, columns, objective, options, structures

NETWORKS = [pytest.param(path, id=path.stem) for path in options("network")]
pytestmark = pytest.mark.parametrize("path", NETWORKS)


def close(found: np.ndarray, expected: np.ndarray, relative: float = 1e-11) -> None:
    """Within a tolerance, relative to the largest entry."""
    assert np.abs(found - expected).max() <= relative * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("reflected", [False, True])
def test_rotation_and_reflection(path: Path, reflected: bool) -> None:
    potential, base = Potential(objective(path)), structures()
    turn = Rotation.random(random_state=3).as_matrix() * (-1.0 if reflected else 1.0)
    energy, forces = potential(base)
    turned = changed(base, positions=base.columns["positions"] @ turn, cell=base.columns["cell"] @ turn)
    energy_turned, forces_turned = potential(turned)
    close(energy_turned, energy)
    close(forces_turned, forces @ turn)
    assert np.abs(forces).max() > 1e-3


def test_translation_also_by_lattice_vectors_atom_by_atom(path: Path) -> None:
    potential, base = Potential(objective(path)), structures()
    energy, forces = potential(base)
    rng = np.random.default_rng(1)
    system = np.repeat(np.arange(len(base)), base.columns["n_atoms"])
    moved = base.columns["positions"] + np.array([3.1, -20.7, 100.3])
    cells = np.where(base.columns["pbc"][:, :, None], base.columns["cell"], 0.0)
    moved += np.einsum("na,nab->nb", rng.integers(-3, 4, (len(system), 3)).astype(float), cells[system])
    energy_moved, forces_moved = potential(changed(base, positions=moved))
    close(energy_moved, energy)
    close(forces_moved, forces, 1e-10)


def test_permutation(path: Path) -> None:
    potential, base = Potential(objective(path)), structures()
    energy, forces = potential(base)
    rng = np.random.default_rng(2)
    order = np.concatenate([base.offsets[at] + rng.permutation(base.columns["n_atoms"][at]) for at in range(len(base))])
    assert (order != np.arange(len(order))).any()
    shuffled = changed(base, **{name: base.columns[name][order] for name in ("species", "positions", "forces")})
    energy_shuffled, forces_shuffled = potential(shuffled)
    close(energy_shuffled, energy)
    close(forces_shuffled, forces[order])


def test_forces_are_minus_the_derivative_of_the_energy(path: Path) -> None:
    potential, base = Potential(objective(path)), structures(3)
    _, forces = potential(base)
    step = 1e-3
    system = np.repeat(np.arange(len(base)), base.columns["n_atoms"])
    numeric = np.zeros_like(forces)
    for atom in range(len(forces)):
        for axis in range(3):
            energies = []
            for shift in (-2 * step, -step, step, 2 * step):
                moved = base.columns["positions"].copy()
                moved[atom, axis] += shift
                energies.append(potential(changed(base, positions=moved), [system[atom]])[0][0])
            numeric[atom, axis] = -(energies[0] - 8 * energies[1] + 8 * energies[2] - energies[3]) / (12 * step)
    close(numeric, forces, 1e-7)


def test_energy_and_first_derivative_are_continuous_at_the_cutoff(path: Path) -> None:
    potential = Potential(objective(path))
    rng = np.random.default_rng(4)
    near = np.concatenate([-np.logspace(-1, -8, 29), [0.0], np.logspace(-8, -1, 29)])
    lengths = CUTOFF + near
    # A third atom sees both, so that what reaches it through a neighbour is watched as well.
    positions = np.concatenate([[[0.0, 0, 0], [length, 0, 0], [2.1, 1.3, 0.4]] for length in lengths])
    n = len(lengths)
    base = columns(np.full(n, 3), positions, np.zeros((n, 3, 3)), np.zeros((n, 3), dtype=bool), rng)
    base = changed(base, species=np.tile([6, 8, 1], n))
    energy, forces = potential(base)
    forces = forces.reshape(n, 9)
    # The energy less its slope at the cutoff: 1e-8 Å to either side nothing but rounding may be left.
    bent = energy - energy[29] + forces[29, 3] * near
    assert np.abs(bent[28:31]).max() < 1e-11 * max(1.0, np.abs(energy).max() / 100)
    assert np.abs(forces[28:31] - forces[29]).max() < 1e-6
    slope = np.abs(forces - forces[29]).max(axis=1)
    assert (slope <= 1e-9 + 10.0 * np.abs(near)).all()


def test_nothing_is_felt_from_beyond_the_cutoff(path: Path) -> None:
    potential, base = Potential(objective(path)), structures(1)
    energy, forces = potential(base)
    far = base.columns["positions"][:2] + 100.0
    together = Database(
        {
            "n_atoms": base.columns["n_atoms"] + 2,
            "species": np.concatenate([base.columns["species"], [6, 6]]),
            "positions": np.concatenate([base.columns["positions"], far]),
            "cell": base.columns["cell"],
            "pbc": base.columns["pbc"],
            "energy": base.columns["energy"],
            "forces": np.zeros((len(forces) + 2, 3)),
        },
        base.splits,
    )
    pair = changed(structures(1, sizes=(2, 3)), species=np.array([6, 6]), positions=far)
    energy_pair, forces_pair = potential(pair)
    energy_both, forces_both = potential(together)
    close(energy_both, energy + energy_pair)
    close(forces_both, np.concatenate([forces, forces_pair]))


def test_a_batch_of_many_is_each_alone(path: Path) -> None:
    potential, base = Potential(objective(path)), structures(9)
    energy, forces = potential(base)
    for at in range(len(base)):
        energy_alone, forces_alone = potential(base, [at])
        close(energy_alone, energy[at : at + 1], 1e-12)
        close(forces_alone, forces[base.atoms(at)], 1e-12)


def test_one_atom_and_no_pairs(path: Path) -> None:
    potential = Potential(objective(path))
    rng = np.random.default_rng(5)
    alone = columns(np.array([1]), np.zeros((1, 3)), np.zeros((1, 3, 3)), np.zeros((1, 3), dtype=bool), rng)
    apart_ = columns(np.array([2]), np.diag([0.0, 90, 0])[:2], np.zeros((1, 3, 3)), np.zeros((1, 3), dtype=bool), rng)
    for base in (alone, apart_):
        energy, forces = potential(base)
        assert np.isfinite(energy).all()
        np.testing.assert_array_equal(forces, 0.0)
        packed = potential.batch(base)
        values = potential.modules.model.train()(*(packed[name] for name in potential.inputs))
        loss = potential.modules.loss(*values, *(packed[name] for name in potential.targets))[0]
        loss.backward()
        gradients = [w.grad for w in potential.modules.model.parameters() if w.grad is not None]
        assert gradients
        assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
    pair = changed(apart_, species=np.array([6, 6]))
    single = changed(alone, species=np.array([6]))
    close(potential(pair)[0], 2 * potential(single)[0])


def test_float32_is_near_float64(path: Path) -> None:
    exact, rounded = objective(path), objective(path)
    cast(rounded.network, torch.float32)
    cast(rounded.readout, torch.float32)
    base = structures()
    e0 = exact.readout.e0.detach().numpy()
    order = {z: at for at, z in enumerate(exact.network.species)}
    alone = np.array([sum(e0[order[z]] for z in base.columns["species"][base.atoms(s)]) for s in range(len(base))])
    (energy, forces), (energy32, forces32) = Potential(exact)(base), Potential(rounded)(base)
    close(energy32 - alone, energy - alone, 1e-4)  # what the network adds, not hidden behind E0
    close(forces32, forces, 1e-4)
    assert forces32.dtype == energy32.dtype == np.float64


def test_far_from_the_origin_float32_loses_nothing(path: Path) -> None:
    made = objective(path)
    cast(made.network, torch.float32)
    cast(made.readout, torch.float32)
    potential, base = Potential(made), structures()
    energy, forces = potential(base)
    energy_far, forces_far = potential(changed(base, positions=base.columns["positions"] + 1e5))
    close(energy_far, energy, 1e-5)
    close(forces_far, forces, 1e-4)


def test_saved_and_loaded_gives_the_same_bits(path: Path, tmp_path: Path) -> None:
    first, second, base = Potential(objective(path, seed=1)), Potential(objective(path, seed=2)), structures()
    expected = first(base)
    assert not np.array_equal(second(base)[0], expected[0])
    save_weights(tmp_path / "a.safetensors", first.modules.model)
    load_weights(tmp_path / "a.safetensors", second.modules.model)
    for found, wanted in zip(second(base), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    save_weights(tmp_path / "b.safetensors", second.modules.model)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_weights_that_do_not_fit_are_told(path: Path, tmp_path: Path) -> None:
    first, second = Potential(objective(path)), objective(path)
    cast(second.network, torch.float32)
    save_weights(tmp_path / "a.safetensors", first.modules.model)
    with pytest.raises(ValueError, match=r"a\.safetensors do not fit the model: moduledict\.network\..* differs"):
        load_weights(tmp_path / "a.safetensors", Potential(second).modules.model)
    with pytest.raises(FileNotFoundError, match="run the step that writes it first"):
        load_weights(tmp_path / "b.safetensors", first.modules.model)


def test_an_unknown_element_is_named(path: Path) -> None:
    potential, base = Potential(objective(path)), structures(1)
    packed = potential.batch(base)
    for number in (79, 0, -1, 200):
        packed["species"][1] = number
        with pytest.raises(ValueError, match=rf"does not know the elements with atomic numbers \[{number}\]"):
            potential.modules.model(*(packed[name] for name in potential.inputs))


def test_cached_pairs_change_no_bit(path: Path) -> None:
    made, base = objective(path), structures()
    fresh = Potential(made)
    expected = fresh(base)
    precompute_pairs(fresh.modules.model, base)
    for found, wanted in zip(Potential(made)(base), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_the_penalty_is_over_weights_of_the_network(path: Path) -> None:
    network = objective(path).network
    own = {id(weight) for weight in network.parameters()}
    penalised = network.penalised()
    assert penalised
    assert {id(weight) for weight in penalised} <= own
    assert all(weight.ndim >= 2 for weight in penalised)


def test_weights_and_inputs_have_first_and_second_derivatives(path: Path) -> None:
    """What a force loss needs: its gradient by the weights, against finite differences along one direction."""
    made = objective(path)
    potential, base = Potential(made), structures(3)
    packed = potential.batch(base)
    weights = [w for w in potential.modules.model.parameters() if w.requires_grad]

    def loss() -> torch.Tensor:
        values = potential.modules.model.train()(*(packed[name] for name in potential.inputs))
        return (values[1] ** 2).sum() + 1e-2 * ((values[0] - values[0].detach().round()) ** 2).sum()

    gradients = torch.autograd.grad(loss(), weights, allow_unused=True)
    generator = torch.Generator().manual_seed(0)
    directions = [torch.randn(w.shape, generator=generator, dtype=w.dtype) * 0.1 for w in weights]
    analytic = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True) if g is not None)
    step, values = 1e-4, []
    for shift in (-2, -1, 1, 2):
        with torch.no_grad():
            for w, d in zip(weights, directions, strict=True):
                w.add_(shift * step * d)
        values.append(float(loss().detach()))
        with torch.no_grad():
            for w, d in zip(weights, directions, strict=True):
                w.sub_(shift * step * d)
    numeric = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
    assert abs(numeric - analytic) <= 1e-6 * abs(analytic)
