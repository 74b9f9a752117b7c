"""`python -m pipeline inspect FILE` as people type it, on the real sets; and what it saves is read by the loader."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import ase.db
import ase.io
import numpy as np
import pytest
import yaml

from forcefoundry.contract.door import bring_in
from forcefoundry.databases.formats import read_rows
from pipeline import __main__ as door
from pipeline.environment import OUR_LOGGERS
from tests.databases.formats import writers
from tests.outside import ROOT, data, files
from tests.pipeline.crystals import crystals

SAMPLE = (
    "acac/train_300K.xyz",
    "h2co/h2co_B3LYP_cc-pVDZ_4001.npz",
    "mlearn/Si_train.xyz",
    "nbmotaw/MoTa_Test.xyz",
    "rmd17/rmd17_ethanol_train_01.npz",
    "solvent_xtb/solvent_xtb_train_200.xyz",
)
"""One of each kind; the others are looked at by the slow tests."""


Say = Callable[..., str]


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORCEFOUNDRY_TRACEBACK", raising=False)
    for name in ("PREFECT_HOME", "MLFLOW_TRACKING_URI"):  # set by the door for its own process; not to outlive a test
        monkeypatch.setenv(name, str(tmp_path / name))
    yield
    for name in OUR_LOGGERS:  # the door's handler writes to the terminal of this test alone
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture
def verb(capsys: pytest.CaptureFixture[str]) -> Say:
    """What `python -m pipeline WORDS` prints, and that what goes wrong is one line."""

    def say(*words: object, code: int = 0) -> str:
        capsys.readouterr()
        got = door.main([*map(str, words)])
        said = capsys.readouterr()
        assert got == code, said
        assert code == 0 or (said.out, said.err.count("\n")) == ("", 1)
        return said.out + said.err

    return say


@pytest.fixture
def typed(verb: Say) -> Say:
    """What `python -m pipeline inspect WORDS` prints."""
    return partial(verb, "inspect")


def every(chosen: bool) -> list[Any]:
    """All files of the outside sets that are in the sample, or are not."""
    suffixes = (".xyz", ".npz")
    found = files(
        data(),
        "*/*",
        lambda path: path.suffix in suffixes and (str(path.relative_to(data())) in SAMPLE) == chosen,
    )
    return (
        found
        if chosen
        else [pytest.param(*one.values, id=one.id, marks=[*one.marks, pytest.mark.slow]) for one in found]
    )


def lines(said: str, head: str) -> list[str]:
    """The lines beside a heading."""
    block = re.search(rf"^{head:<10}(.*\n(?: {{10}}.*\n)*)", said, re.M)
    return [] if block is None else [line.strip() for line in block[1].splitlines()]


def cells(said: str, head: str) -> list[list[str]]:
    return [re.split(r" {3,}", line) for line in lines(said, head)]


@pytest.mark.parametrize("path", [*every(True), *every(False)])
def test_what_a_real_file_holds_is_said_and_what_is_proposed_reads_it(path: Path, typed: Say, verb: Say) -> None:
    said = typed(path, "--write", "mine")
    rows = [atoms for _, atoms in read_rows("npz" if path.suffix == ".npz" else "extxyz", path)]
    numbers = sorted({int(z) for atoms in rows for z in atoms.numbers})
    counts = " ".join(lines(said, "rows")[0].replace("\u202f", "").split())
    assert counts.startswith(f"{len(rows)} structures {sum(map(len, rows))} atoms, ")
    symbols = [ase.data.chemical_symbols[z] for z in numbers]
    assert re.search(rf"in each {' '.join(symbols)} (open|periodic)", counts)
    keys = {cell[0]: cell for cell in cells(said, "keys")[1:]}
    carried = {
        key for atoms in rows for key in [*atoms.info, *atoms.arrays, *(atoms.calc.results if atoms.calc else {})]
    } - {"numbers", "positions"}
    assert set(keys) == carried
    assert {cell[0] for cell in cells(said, "units")} >= {"length", "energy"}
    assert [cell[0] for cell in cells(said, "ranges")][1] == "energy, eV/atom"
    assert lines(said, "suspect")
    assert not lines(said, "wrong")
    assert "conf/database/mine.yaml written: `python -m pipeline params database=mine`, then" in said

    assert verb("params", "database=mine") == "params.yaml written\n"
    config = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))["database"]
    assert Path(config["path"]) == path
    if len(rows) < 40:  # too few for shares of a tenth to have members
        config["split"] |= {"valid": 0.3, "test": 0.0}
    if config["isolated_atoms"] == "keep_out" and all(len(atoms) == 1 for atoms in rows):
        return
    summary = bring_in(config, None, "loaded")
    assert summary["rows"]["in"] == len(rows)
    assert summary["rows"]["quarantined"] <= 0.2 * len(rows)
    for name, key in config["keys"].items():
        assert summary["properties"][name]["key"] == key


def of(name: str) -> Path:
    path = data() / name
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    return path


def proposal(said: str) -> dict[str, Any]:
    """What is proposed."""
    found: dict[str, Any] = yaml.safe_load(said.partition("\nproposed\n")[2].partition("\n\nSave it")[0])
    return found


@pytest.mark.parametrize("molecule", ["aspirin", "benzene", "ethanol"])
def test_rmd17_is_in_kcal_by_its_electrons_and_the_noisy_labels_are_not_taken(typed: Say, molecule: str) -> None:
    said = typed(of(f"rmd17/rmd17_{molecule}_train_01.npz"))
    (evidence,) = [cell[2] for cell in cells(said, "units") if cell[:2] == ["energy", "kcal/mol"]]
    assert re.fullmatch(
        r"totals are 6\d\d\.?\d* × what all electrons of the atoms have in Hartree, which is 627\.5 kcal/mol", evidence
    )
    made = proposal(said)
    assert made["units"]["energy"] == "kcal/mol"
    assert made["keys"] == {"energy": "energies", "forces": "forces"}
    assert f"# energy: kcal/mol: {evidence}\n" in said
    assert {"old_energies", "old_forces"} <= {cell[0] for cell in cells(said, "keys")}
    assert [cell[1] for cell in cells(said, "labels")[1:3]] == ["energies", "forces"]


def test_solvent_xtb_has_its_own_keys_and_isolated_atoms(typed: Say) -> None:
    said = typed(of("solvent_xtb/solvent_xtb_train_200.xyz"))
    assert "3 of them are isolated atoms, which are kept out of all splits" in lines(said, "rows")
    assert proposal(said)["keys"] == {"energy": "energy_xtb", "forces": "forces_xtb"}
    assert lines(said, "kinds") == ["IsolatedAtom 3; 200 rows have no config_type"]
    assert "isolated_atoms would take them from the 3 rows of isolated atoms\ne0: null" in said
    assert {"Comp", "molID"} <= {cell[0] for cell in cells(said, "keys")}


def test_nbmotaw_is_read_by_its_reference_keys(typed: Say) -> None:
    said = typed(of("nbmotaw/Ta_Elastic.xyz"))
    assert proposal(said)["keys"] == {"energy": "REF_energy", "forces": "REF_forces", "stress": "REF_stress"}
    assert next(c for c in cells(said, "keys") if c[0] == "REF_stress")[:4] == ["REF_stress", "info", "121", "3 × 3"]


def test_acacs_idle_lattice_is_told_and_its_digits_are_shown(typed: Say) -> None:
    said = typed(of("acac/train_300K.xyz"))
    assert "500 with a cell that counts for nothing, since pbc is F" in lines(said, "rows")[0]
    (energy,) = [cell for cell in cells(said, "ranges") if cell[0] == "energy, eV/atom"]
    assert len(set(energy[1:])) == 3  # the lowest, the median and the highest differ in what is shown
    assert proposal(said)["units"]["energy"] is None
    assert ["energy", "eV"] in [cell[:2] for cell in cells(said, "units")]


def test_silicons_surfaces_without_stress_are_seen(typed: Say) -> None:
    said = typed(of("mlearn/Si_train.xyz"))
    assert ["stress", "stress", "202 of 214", "–"] in cells(said, "labels")
    assert "stress in rows of 'Surface' is absent from 12 of 12" in said
    assert proposal(said)["group"] == "config_type"


def test_formaldehydes_dipole_is_left_to_people_with_a_hint(typed: Say) -> None:
    said = typed(of("h2co/h2co_B3LYP_cc-pVDZ_4001.npz"))
    (dipole,) = [cell for cell in cells(said, "units") if cell[0] == "dipole"]
    assert dipole[1] == "unclear"
    assert "half of the lengths are above 0.169, which as e·Å would be 0.813 Debye" in dipole[2]
    assert proposal(said)["units"]["dipole"] is None
    assert f"# dipole: unclear: {dipole[2]}\nunits:" in said


def test_a_key_of_ones_own_is_hinted_at_and_then_taken(typed: Say, verb: Say) -> None:
    rows = writers.drawn(30)
    for row in rows:
        row.info["my_dft_energy"] = row.calc.results.pop("energy")
        row.arrays["gradients"] = row.calc.results.pop("forces")
        row.calc = None
    ase.io.write("rows.xyz", rows, format="extxyz")
    said = typed("rows.xyz")
    assert "not found: energy (is it my_dft_energy? Then say energy=my_dft_energy), " in said
    assert "forces (is it gradients? Then say forces=gradients), stress" in said
    said = typed("rows.xyz", "energy=my_dft_energy", "--write", "my_configs/database/mine.yaml")
    assert ["energy", "my_dft_energy", "30 of 30", "–"] in cells(said, "labels")
    assert (
        "my_configs/database/mine.yaml written: `python -m pipeline params --config-dir my_configs database=mine`"
        in said
    )
    verb("params", "--config-dir", "my_configs", "database=mine")
    assert "energy=my_dft_energy" in typed("rows.xyz", "--rows", "5")


@pytest.mark.parametrize("name", ["ase_db", "ase_lmdb", "hdf5", "ase_folder"])
def test_other_formats_are_told_by_their_contents(typed: Say, name: str) -> None:
    suffix = {"ase_db": "db", "ase_lmdb": "aselmdb", "hdf5": "h5", "ase_folder": "d"}[name]
    path = vars(writers)[f"write_{name}"](Path(f"rows.{suffix}"), writers.drawn())
    said = typed(path)
    assert lines(said, "file")[0].startswith(f"{path}   {name} (it ")
    assert lines(said, "rows")[0].startswith("24 structures   84 atoms, 1 to 6 in each   H C O   open")
    assert proposal(said)["format"] == name
    assert typed(path, "--format", name).splitlines()[0].endswith(f"{name} (as you say)")


def test_a_file_that_is_wrong_in_places_is_told_row_by_row(typed: Say) -> None:
    rows = writers.drawn(30)
    rows[3].positions[0] = np.nan
    rows[5].info["molecule"] = "\x1b[31mred"
    ase.io.write("rows.xyz", rows, format="extxyz")
    said = typed("rows.xyz")
    assert lines(said, "wrong")[0] == "1 rows cannot be taken as they are"
    assert lines(said, "wrong")[1].startswith("frame 3: the position of atom 0 is [nan, nan, nan], expected finite")
    assert "\x1b" not in said


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["gone.xyz"], 1, "gone.xyz does not exist: give a file or folder of structures."),
        (
            ["what.dat"],
            2,
            "What format what.dat has cannot be told from its beginning or its name. Say it with --format",
        ),
        (["what.dat", "--format", "extxy"], 2, "database.format is 'extxy', which is not known. Did you mean extxyz?"),
        (["rows.xyz", "energi=x"], 2, "'energi' is no property of rows. Did you mean energy?"),
        (["rows.xyz", "energy"], 2, "'energy' is not PROPERTY=KEY, such as energy=my_energy."),
        (
            ["rows.xyz", "energy=enrgy"],
            2,
            "No row carries the key 'enrgy' that database.keys.energy names. Did you mean",
        ),
        (["rows.xyz", "--rows", "0"], 2, "--rows is 0: give a number of rows above 0."),
        (
            ["rows.xyz", "--write", "a b"],
            2,
            "--write a b: give a name of letters, digits, _ and -, or a path that ends",
        ),
        (
            ["rows.xyz", "--write", "ase_db"],
            2,
            "conf/database/ase_db.yaml is there already: give another name, or --force",
        ),
        (["bad.xyz"], 2, "bad.xyz holds no structure that can be looked at; frame 0: cannot be read as extended XYZ"),
        ([], 2, "the following arguments are required: FILE"),
    ],
)
def test_what_cannot_be_is_one_line(typed: Say, words: list[str], code: int, told: str) -> None:
    ase.io.write("rows.xyz", writers.drawn(5), format="extxyz")
    Path("what.dat").write_bytes(b"what is this")
    Path("bad.xyz").write_text("3\n\nH 0 0 0\n", encoding="utf-8")
    form = Path("conf/database/ase_db.yaml").read_bytes()
    assert told in typed(*words, code=code)
    assert Path("conf/database/ase_db.yaml").read_bytes() == form


def test_what_keeps_rows_out_is_told_before_what_is_only_warned_of(typed: Say) -> None:
    rows = crystals(40, "bulk")
    rows[11].positions[1] = rows[11].positions[0] + 0.3
    ase.io.write("rows.xyz", [*rows, rows[3], rows[4]], format="extxyz")
    heads = [line.partition(":")[0] for line in lines(typed("rows.xyz"), "suspect")]
    checks = [head for head in heads if re.fullmatch(r"\w+ \([\w ]+\)", head)]
    assert checks[0] == "close_atoms (set apart)"
    assert checks[-1] == "exact_duplicate (warned of)"


def test_only_so_many_rows_are_looked_at_and_that_is_said(typed: Say) -> None:
    ase.io.write("rows.xyz", writers.drawn(24), format="extxyz")
    said = typed("rows.xyz", "--rows", "10")
    assert lines(said, "rows")[1] == "only the first 10 rows were looked at (31 atoms)"
    assert "# Proposed after a look at 10 rows of rows.xyz: read it before you run it." in said


def test_a_path_with_signs_that_mean_something_comes_back(typed: Say, verb: Say) -> None:
    odd = Path("odd ${here}: #1 'x'")
    odd.mkdir()
    ase.io.write(odd / "rows.xyz", writers.drawn(40), format="extxyz")
    typed(odd / "rows.xyz", "--write", "odd")
    verb("params", "database=odd")
    config = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))["database"]
    assert config["path"] == str(odd / "rows.xyz")


def test_what_is_saved_is_not_written_over_unless_forced(typed: Say) -> None:
    ase.io.write("rows.xyz", writers.drawn(40), format="extxyz")
    typed("rows.xyz", "--write", "mine")
    first = Path("conf/database/mine.yaml").read_text(encoding="utf-8")
    assert "is there already" in typed("rows.xyz", "energy=energy", "--rows", "3", "--write", "mine", code=2)
    assert Path("conf/database/mine.yaml").read_text(encoding="utf-8") == first
    typed("rows.xyz", "--rows", "3", "--write", "mine", "--force")
    assert "after a look at 3 rows" in Path("conf/database/mine.yaml").read_text(encoding="utf-8")


def test_outside_a_workspace_it_says_where_to_start(typed: Say) -> None:
    shutil.rmtree("conf")
    ase.io.write("rows.xyz", writers.drawn(5), format="extxyz")
    assert "start this from the repository's root" in typed("rows.xyz", code=1)


def test_it_is_a_process_of_its_own_that_says_the_same(typed: Say) -> None:
    ase.io.write("rows.xyz", writers.drawn(12), format="extxyz")
    command = [sys.executable, "-m", "pipeline", "inspect"]
    given: Any = {"capture_output": True, "text": True, "check": False, "env": {**os.environ, "PYTHONPATH": str(ROOT)}}
    done = subprocess.run([*command, "rows.xyz"], timeout=120, **given)
    assert (done.returncode, done.stdout, done.stderr) == (0, typed("rows.xyz"), "")
    done = subprocess.run([*command, "gone.xyz"], timeout=120, **given)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "forcefoundry: gone.xyz does not exist: give a file or folder of structures.\n"


def test_proposals_have_every_key_that_such_files_have(typed: Say) -> None:
    ase.io.write("rows.xyz", writers.drawn(5), format="extxyz")
    made, form = proposal(typed("rows.xyz")), yaml.safe_load(Path("conf/database/ase_db.yaml").read_text())
    assert list(made) == list(form)
    assert made["split"] == form["split"]
    with ase.db.connect("rows.db") as database:
        database.write(writers.drawn(1)[0])
    assert list(proposal(typed("rows.db"))) == list(form)
