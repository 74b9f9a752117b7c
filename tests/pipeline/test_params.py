"""conf/ composes, params.yaml is the same every time, and a mistyped word is told in one line with the nearest."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import params

CONF = Path(__file__).parents[2] / "conf"
OPTIONS = sorted(
    f"{file.parent.name}={file.stem}" for file in CONF.glob("*/*.yaml") if file.stem != "ase_db"
)  # ase_db is a form to fill in


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(CONF, tmp_path / "conf")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def own(folder: Path, **options: str) -> Path:
    """A folder of one's own configurations from GROUP__NAME="yaml" pairs."""
    for place, text in options.items():
        group, name = place.split("__")
        (folder / group).mkdir(parents=True, exist_ok=True)
        (folder / group / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


def test_default_has_a_section_for_each_group_and_one_cutoff() -> None:
    composed = params.compose()
    groups = {folder.name for folder in CONF.iterdir() if folder.is_dir()} - {"experiment"}
    assert set(composed) == groups
    assert composed["network"]["cutoff"] == composed["pairs"]["cutoff"]
    assert all(plot["_target_"].startswith("forcefoundry.plots.") for plot in composed["plots"])


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes(option: str) -> None:
    composed = params.compose([option])
    assert yaml.safe_load(yaml.safe_dump(composed)) == composed


def test_a_cutoff_reaches_the_network() -> None:
    composed = params.compose(["pairs.cutoff=6"])
    assert composed["network"]["cutoff"] == composed["pairs"]["cutoff"] == 6.0
    assert isinstance(composed["pairs"]["cutoff"], float)


@pytest.mark.parametrize("network", sorted(path.stem for path in (CONF / "network").glob("*.yaml")))
@pytest.mark.parametrize("experiment", sorted(path.stem for path in (CONF / "experiment").glob("*.yaml")))
def test_every_network_goes_with_every_experiment(network: str, experiment: str) -> None:
    plain, composed = (
        params.compose([f"network={network}"]),
        params.compose([f"network={network}", f"experiment={experiment}"]),
    )
    assert composed["network"] | {"cutoff": 0.0} == plain["network"] | {"cutoff": 0.0}
    assert composed["network"]["cutoff"] == composed["pairs"]["cutoff"]


def test_what_is_typed_beats_the_experiment_and_the_experiment_beats_the_defaults() -> None:
    default, experiment = params.compose(), params.compose(["experiment=cu_au"])
    assert experiment["network"] != default["network"]
    assert experiment["database"] == params.compose(["database=cu_au"])["database"]
    both = params.compose(["training.max_epochs=20", "experiment=cu_au"])
    assert both["training"]["max_epochs"] == 20
    assert both["network"] == experiment["network"]


def test_environment_names_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCEFOUNDRY_DATA", "/somewhere/data")
    assert params.compose(["experiment=mlearn_si"])["database"]["path"] == "/somewhere/data/mlearn"


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("training.max_epoch=3", "training.max_epoch is not a parameter. Did you mean training.max_epochs?"),
        ("max_epochs=3", "max_epochs is not a parameter. Did you mean training.max_epochs?"),
        ("training.schedule={kid:plateau}", "training.schedule.kid is not a parameter. Did you mean"),
        ("quux.x=1", "quux.x is not a parameter. The groups are database, "),
        ("netwrok=hipnn", "netwrok is not a parameter. Did you mean network?"),
        ("network=hipn", "network has no option 'hipn'. Did you mean hipnn?"),
        ("network=null", "network has no option 'null'."),
        ("network=hipnn/cu_ag", "network has no option 'hipnn/cu_ag'. Did you mean hipnn/cu_au?"),
        ("experiment=cu_ag", "experiment has no option 'cu_ag'. Did you mean cu_au?"),
        ("+experiment=cu_au", "write experiment=cu_au, without the plus"),
        ("+training.seed=3", "write training.seed=3, without the plus"),
        ("~network", "network is a group that every run needs"),
        ("~training.seed", "steps count on it: give it another value"),
        ("~training.gradient_clip", "steps count on it: write training.gradient_clip=null"),
        ("pairs.cutoff=-1", "pairs.cutoff is -1.0, but a cutoff is the distance in Å"),
        ("pairs.cutoff=0", "give a number above 0"),
        ("pairs.cutoff=nan", "give a number above 0"),
        ("pairs.cutoff=null", "pairs.cutoff takes a number, like 5.0; got null"),
        ("pairs.cutoff=wide", "pairs.cutoff takes a number, like 5.0; got wide"),
        ("network.cutoff=7", "set pairs.cutoff=7.0; the network follows it"),
        ("network.cutoff=4", "and the two are one: set pairs.cutoff=4.0; the network follows it"),
        ("training.max_epochs=null", "training.max_epochs takes a whole number, like 100; got null"),
        ("training.seed=null", "training.seed takes a whole number, like 0; got null"),
        ("++training.seed=null", "training.seed takes a whole number, like 0; got null"),
        ("training.seed=-1", "training.seed is -1, expected a whole number of 0 or more"),
        ("network.n_features=null", "network.n_features takes a whole number, like 20; got null"),
        ("network.soft_min=null", "network.soft_min takes a number, like 0.75; got null"),
        ("network.soft_min=[1,2]", "network.soft_min takes a number, like 0.75; got [1, 2]"),
        ("network.n_inner=wide", "network.n_inner takes a whole number, like 20; got wide"),
        ("network.species=[H,O]", "network.species is [H, O], expected atomic numbers and not symbols"),
        ("network.species=8", "network.species takes a list, like [1, 8]; got 8"),
        ("network.species=[]", "network.species is [], expected atomic numbers"),
        ("objective.l2=null", "objective.l2 takes a number, like 1e-06; got null"),
        ("hardware.threads=null", "hardware.threads takes a whole number, like 1; got null"),
        ("hardware.threads=0", "hardware.threads is 0, expected a whole number of 1 or more"),
        ("hardware.processes=0", "hardware.processes is 0, expected a whole number of 1 or more"),
        ("hardware.workers=-1", "hardware.workers is -1, expected a whole number of 0 or more"),
        ("training.max_atoms=0", "training.max_atoms is 0, expected a whole number of 1 or more"),
        ("training.max_pairs=many", "training.max_pairs takes a whole number, like 100000; got many"),
        ("database.split=null", "database.split is a section, got null"),
        ("database.split.held_out=null", "database.split.held_out takes a list, like ["),
        ("database.keys=null", "database.keys is a section, got null"),
        ("database.keys.energy=[a,b]", "database.keys.energy takes a word, like energy; got [a, b]"),
        ("database.group=[a]", "database.group takes a word, like name; got [a]"),
        ("database.files=a.xyz", "database.files is a section, got a.xyz"),
        ("database.path=null", "database.path takes a word, like artifacts/label/structures.db; got null"),
        ("database.path=", "database.path is empty, expected the file or folder of the structures"),
        ("database.path='~nobody-at-all/x.db'", "nothing here knows the home folder ~: write the whole path"),
        ("tracking.experiment=null", "tracking.experiment takes a word, like forcefoundry; got null"),
        ("tracking.experiment=", "tracking.experiment is empty, expected the name"),
        ("network=[]", "network is a group that every run needs"),
        ("training.batch_size=0", "a batch holds at least one structure"),
        ("training.max_epochs=3.5", "training.max_epochs takes a whole number, like"),
        ("objective.train_e0=2", "objective.train_e0 takes true or false, like false; got 2"),
        ("database.split.held_out=C6H6", "database.split.held_out takes a list"),
        ("training.seed=1,2", "several values to one run"),
        ("training", "cannot be read as KEY=VALUE"),
        ("=3", "cannot be read as KEY=VALUE"),
        ("a b=c", "cannot be read as KEY=VALUE"),
        ("training.best_by=${nope}", "'nope' not found"),
        ("database=ase_db", "database.path is not set: give database.path=..."),
    ],
)
def test_a_wrong_word_is_one_line_with_the_remedy(override: str, told: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        params.compose([override])
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_additions_follow_hydra() -> None:
    composed = params.compose(["+database.keys.stress=virial", "++training.seed=7"])
    assert composed["database"]["keys"]["stress"] == "virial"
    assert composed["training"]["seed"] == 7


def test_a_number_may_be_given_once_for_each_block() -> None:
    assert params.compose(["network.n_features=[40,20]"])["network"]["n_features"] == [40, 20]
    with pytest.raises(ValueError, match=r"network\.n_features takes a whole number"):
        params.compose(["network.n_features=[40,wide]"])


def test_what_is_null_may_become_anything() -> None:
    given = ["database.files={train: a.xyz, test: b.xyz}", "experiment=null", "network.species=[1,6]"]
    assert params.compose(given)["database"]["files"] == {"train": "a.xyz", "test": "b.xyz"}


@pytest.mark.parametrize(
    "name",
    [
        "training.max_atoms",
        "training.max_pairs",
        "training.gradient_clip",
        "training.averaging.decay",
        "training.averaging",
        "training.early_stopping.patience",
        "database.label",
        "database.group",
        "database.keys.energy",
        "network.species",
        "network.n_inner",
        "hardware.processes",
        "tracking.run_name",
    ],
)
def test_what_can_be_switched_off_takes_null(name: str) -> None:
    value: Any = params.compose([f"{name}=null"])
    for key in name.split("."):
        value = value[key]
    assert value is None


def test_a_run_may_have_no_plots() -> None:
    composed = params.compose(["plots=[]"])
    assert composed["plots"] == []
    assert composed.keys() == params.compose().keys()


def test_the_home_folder_is_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/it's me")
    assert params.compose(["database.path=~/x.db"])["database"]["path"] == "/home/it's me/x.db"
    assert params.compose(["database.path='~/x.db'"])["database"]["path"] == "/home/it's me/x.db"


def test_ones_own_configurations_lie_anywhere(tmp_path: Path) -> None:
    folder = own(
        tmp_path / "it's mine",
        network__mine="_target_: forcefoundry.networks.hipnn.HIPNN\ncutoff: ${pairs.cutoff}\n",
        experiment__mine="# @package _global_\ndefaults:\n  - override /network: mine\ntraining: {max_epochs: 3}\n",
    )
    composed = params.compose(["experiment=mine"], folder)
    assert composed["network"] == {"_target_": "forcefoundry.networks.hipnn.HIPNN", "cutoff": 5.0}
    assert composed["training"]["max_epochs"] == 3
    with pytest.raises(ValueError, match="network has no option 'mine'"):
        params.compose(["network=mine"])


def test_the_form_for_ones_own_database_takes_five_lines(tmp_path: Path) -> None:
    text = (CONF / "database" / "ase_db.yaml").read_text(encoding="utf-8").replace("???", "/data/my.db")
    folder = own(tmp_path / "mine", database__my_dft=text)
    assert params.compose(["database=my_dft"], folder)["database"]["path"] == "/data/my.db"


FORM = (CONF / "database" / "ase_db.yaml").read_text(encoding="utf-8").replace("???", "/data/my.db")
TRAINING = (CONF / "training" / "default.yaml").read_text(encoding="utf-8")
PAIRS = "finder: reference\ncutoff: 5\nsource: cache\n"


@pytest.mark.parametrize(
    ("place", "text", "told"),
    [
        ("database", FORM.replace("path:", "pth:"), "database.pth is not a parameter. Did you mean database.path?"),
        ("database", FORM.replace("label:", "# label:"), "database.label is missing: write it as the files in conf/"),
        ("database", FORM.replace("  valid:", "  # valid:"), "database.split.valid is missing"),
        (
            "database",
            FORM.replace("seed: 0", "seed: null"),
            "database.split.seed takes a whole number, like 0; got null",
        ),
        ("database", "", "database.path is missing"),
        (
            "training",
            TRAINING.replace("max_epochs: 100", "max_epochs: many"),
            "takes a whole number, like 100; got many",
        ),
        ("pairs", PAIRS.replace("source", "sourc"), "pairs.sourc is not a parameter. Did you mean pairs.source?"),
        ("hardware", "device: cpu\nthreads: 1\n", "hardware.processes is missing"),
        ("tracking", "experiment: mine\n", "tracking.run_name is missing"),
    ],
)
def test_ones_own_options_are_held_to_the_keys_of_ours(tmp_path: Path, place: str, text: str, told: str) -> None:
    folder = own(tmp_path / "mine", **{f"{place}__own": text})
    with pytest.raises(ValueError, match=r".") as caught:
        params.compose([f"{place}=own"], folder)
    assert str(caught.value).startswith(f"{folder}/{place}/own.yaml: ")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_ones_own_options_may_have_other_properties_and_whole_numbers(tmp_path: Path) -> None:
    folder = own(tmp_path / "mine", database__own=FORM.replace("  forces: null", "  virial: w"), pairs__own=PAIRS)
    composed = params.compose(["database=own", "pairs=own", "pairs.cutoff=5.5"], folder)
    assert composed["database"]["keys"] == {"energy": None, "virial": "w"}
    assert composed["network"]["cutoff"] == composed["pairs"]["cutoff"] == 5.5


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"experiment__bad": "# @package _global_\ntraining: {max_epoch: 3}\n"}, "experiment bad sets it"),
        ({"experiment__bad": "# @package _global_\ntraining: {max_epochs: many}\n"}, "takes a whole number"),
        ({"experiment__bad": "# @package _global_\ntraining: {max_epochs: [\n"}, "bad.yaml"),
        ({"experiment__bad": "", "network__hipnn": ""}, "would be hidden by conf/network/hipnn.yaml"),
    ],
)
def test_a_mistake_in_ones_own_file_is_told(tmp_path: Path, options: dict[str, str], told: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        params.compose(["experiment=bad"], own(tmp_path / "mine", **options))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_folders_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match="--config-dir nowhere is not a folder"):
        params.compose([], "nowhere")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"no conf/config\.yaml in .* start this from the repository's root"):
        params.compose()


def test_threads_compose_side_by_side() -> None:
    with ThreadPoolExecutor(4) as pool:
        cutoffs = list(pool.map(lambda i: params.compose([f"pairs.cutoff={3 + i}"])["network"]["cutoff"], range(6)))
    assert cutoffs == [3.0, 4.0, 5.0, 6.0, 7.0, 8.0]


def test_write_and_read_give_the_same_and_leave_an_equal_file_alone(tmp_path: Path) -> None:
    composed = params.compose(["database.split.held_out=['Å', CH3OH]", "objective.l2=1e-6"])
    path = tmp_path / "params.yaml"
    assert params.write(composed, path)
    before = path.stat()
    assert params.read(path) == composed
    assert not params.write(dict(reversed(composed.items())), path)
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert path.stat().st_ino == before.st_ino
    assert params.write({**composed, "hardware": {"device": "cpu"}}, path)
    assert path.read_text(encoding="utf-8").startswith("# Composed from conf/ by `python -m pipeline params`")


@pytest.mark.parametrize(
    ("content", "error", "told"),
    [
        (None, FileNotFoundError, "There is no params.yaml in"),
        ("pairs: [", ValueError, "not readable as YAML"),
        ("", ValueError, "has no section 'database'"),
        ({"pairs": {"cutoff": -1}}, ValueError, "pairs.cutoff is -1, but a cutoff is"),
    ],
)
def test_a_spoilt_params_file_is_told(content: Any, error: type[Exception], told: str) -> None:
    if isinstance(content, dict):
        params.write({**params.compose(), **content})
    elif content is not None:
        params.PARAMS.write_text(content, encoding="utf-8")
    with pytest.raises(error) as caught:
        params.read()
    assert told in str(caught.value)
