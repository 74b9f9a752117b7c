"""The quarantine's verbs as people type them, over a real quarantine in a workspace that git keeps."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
import yaml

from forcefoundry.contract.quarantine import Quarantine
from forcefoundry.contract.reviews import Review, Reviews
from pipeline.lifetime import one_run_at_a_time
from tests.contract.quarantine_room import IDS, RAW, columns, filled
from tests.outside import ROOT

PLACE = Path("artifacts/load/quarantine.sqlite")


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose last run set five rows apart."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORCEFOUNDRY_TRACEBACK", raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "no config"))
    git("init", "-q", "-b", "main")
    identify("Ada")
    filled(PLACE)
    Path(".gitignore").write_text("artifacts/\n.forcefoundry/\n", encoding="utf-8")
    Path(".gitattributes").write_bytes((ROOT / ".gitattributes").read_bytes())
    Reviews().write("reviews.yaml")
    commit()
    return tmp_path


def git(*words: str) -> str:
    return subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout


def identify(name: str) -> None:
    git("config", "user.name", name)
    git("config", "user.email", f"{name}@example.org")


def commit() -> None:
    git("add", "-A")
    git("commit", "-q", "-m", "x")


def typed(*words: str, code: int = 0) -> str:
    """What `python -m pipeline quarantine WORDS` prints, as a process of its own."""
    command = [sys.executable, "-m", "pipeline", "quarantine", *words]
    given = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=given, check=False, timeout=120)
    assert done.returncode == code, done
    assert (not done.stderr) == (code == 0)
    assert done.stderr.count("\n") == (code != 0)
    return done.stdout + done.stderr


def decided() -> dict[str, str]:
    """The column `decided` of the list, by id."""
    lines = typed("list").splitlines()
    start, stop = lines[0].index("decided"), lines[0].index("why")
    return {line[:12]: line[start:stop].strip() for line in lines[1:6]}


def test_the_list_says_where_what_for_and_what_was_decided() -> None:
    said = typed("list").splitlines()
    assert said[0].split() == ["id", "file", "place", "checks", "decided", "why"]
    assert said[1] == (
        f"{IDS[0]}  data/train.xyz  frame 17  force_outlier               to be decided   "
        "the force on atom 3 is 212.4 eV/Å, expected at most 31 eV/Å"
    )
    assert said[6:8] == [
        "5 rows: force_outlier 3, close_atoms 1, not_finite 1, unreadable 1",
        "3 to be decided; 2 to be repaired",
    ]
    assert [line[:12] for line in typed("list", "--check", "close_atoms").splitlines()[1:-3]] == [IDS[1]]
    assert [line[:12] for line in typed("list", "--file", "more.xyz").splitlines()[1:-3]] == IDS[2:]
    assert [line[:12] for line in typed("list", "--file", "data/train.xyz").splitlines()[1:-3]] == IDS[:2]


def test_show_gives_all_digits_and_the_bytes_of_what_cannot_be_read() -> None:
    said = typed("show", IDS[1][:4])
    assert said.startswith(f"{IDS[1]}   data/train.xyz, frame 18\ndecided   to be decided\n")
    assert "close_atoms: the distance is 212.4 eV/Å, expected at most 31 eV/Å. Look at the row.\n" in said
    assert all(repr(float(one)) in said for one in columns(1)["positions"].ravel())
    raw = typed("show", IDS[4])
    assert f"its bytes ({len(RAW)} that are known):" in raw
    assert r'H 0 0 \xff\x00"\x1b[31m' in raw


def test_an_acceptance_is_a_line_in_git_with_who_when_and_why_and_the_quarantine_is_untouched() -> None:
    before = PLACE.read_bytes()
    said = typed("accept", IDS[0][:6], "--why", "shocked\non purpose")
    assert said == "1 row accepted in reviews.yaml: commit it. It takes effect with the next run.\n"
    assert PLACE.read_bytes() == before
    assert git("status", "--porcelain") == " M reviews.yaml\n"
    added = [line for line in git("diff", "-U0").splitlines() if line.startswith("+-")]
    assert [yaml.safe_load(line[1:]) for line in added] == [
        [
            {
                "id": IDS[0],
                "verdict": "accept",
                "checks": ["force_outlier"],
                "file": "data/train.xyz",
                "where": "frame 17",
                "why": "shocked on purpose",
                "by": "Ada",
                "date": datetime.date.today(),
            }
        ]
    ]
    assert decided()[IDS[0]] == "accepted, with the next run"
    git("checkout", "reviews.yaml")  # git alone takes it back
    assert decided()[IDS[0]] == "to be decided"


def test_once_the_next_run_has_followed_the_list_says_so() -> None:
    typed("accept", IDS[0], "--why", "meant")
    typed("reject", IDS[1], "--why", "did not converge")
    filled(PLACE, {0: "accepted", 1: "rejected"})
    assert decided()[IDS[0]] == "accepted"
    assert decided()[IDS[1]] == "rejected"
    typed("undo", IDS[0][:5], IDS[1][:5])
    assert decided()[IDS[0]] == "no longer accepted, with the next run"
    assert decided()[IDS[1]] == "no longer rejected, with the next run"


def test_all_that_one_check_found_is_decided_at_once() -> None:
    said = typed("accept", "--all", "--check", "force_outlier", "--why", "a shock run")
    assert f"{IDS[1]} stays set apart for close_atoms: accept it in spite of that too" in said
    assert said.endswith("3 rows accepted in reviews.yaml: commit it. It takes effect with the next run.\n")
    assert decided() == {
        IDS[0]: "accepted, with the next run",
        IDS[1]: "accepted, but not for close_atoms",
        IDS[2]: "accepted, with the next run",
        IDS[3]: "to be repaired",
        IDS[4]: "to be repaired",
    }
    assert typed("accept", IDS[1], "--check", "close_atoms", "--why", "seen").count("\n") == 1
    assert decided()[IDS[1]] == "accepted, with the next run"
    again = typed("accept", "--all", "--check", "force_outlier", "--why", "x")
    assert again == "force_outlier found no row that is not decided about\n"
    passed = typed("accept", "--all", "--check", "not_finite", "--why", "x")
    assert passed == f"passed over, as they cannot be let in: {IDS[3]}\n"
    assert "1 row rejected" in typed("reject", "--all", "--check", "not_finite", "--why", "x")


def test_another_verdict_is_told() -> None:
    typed("accept", IDS[0], "--why", "meant")
    identify("Bob")
    said = typed("reject", IDS[0], "--why", "no")
    today = datetime.date.today().isoformat()
    assert said.startswith(f"{IDS[0]} was accepted before, by Ada on {today}: meant\n1 row rejected in reviews.yaml")
    assert "rejected by Bob" in typed("show", IDS[0])


def test_decisions_of_two_people_on_two_branches_both_hold() -> None:
    git("checkout", "-q", "-b", "bob")
    identify("Bob")
    typed("reject", IDS[0], "--why", "did not converge")
    typed("accept", IDS[2], "--why", "meant")
    commit()
    git("checkout", "-q", "main")
    identify("Ada")
    typed("accept", IDS[1], "--why", "meant")
    commit()
    git("merge", "-q", "bob", "-m", "both")
    assert decided() == {
        IDS[0]: "rejected, with the next run",
        IDS[1]: "accepted, with the next run",
        IDS[2]: "accepted, with the next run",
        IDS[3]: "to be repaired",
        IDS[4]: "to be repaired",
    }
    typed("undo", IDS[0], "--")  # writing it anew sorts it
    assert [one.id for one in Reviews.read("reviews.yaml")] == sorted(IDS[1:3])
    assert [line[7:19] for line in Path("reviews.yaml").read_text().splitlines()[2:]] == sorted(IDS[1:3])


def test_decisions_that_meet_no_row_any_more_are_told() -> None:
    old = Review("0123456789ab", "accept", "meant", "Ada", "2026-05-31", ("close_atoms",), "old.xyz", "frame 3")
    Reviews([old]).write("reviews.yaml")
    said = typed("list")
    assert "1 decision of reviews.yaml meets no row of the last run: such a row has changed or is gone" in said
    assert "0123456789ab  accepted  old.xyz, frame 3  meant" in said
    assert "reviews.yaml" not in typed("list", "--check", "close_atoms")
    assert typed("undo", "0123") == (
        "0123456789ab is no longer accepted: it was by Ada on 2026-05-31 (meant)\n"
        "Commit reviews.yaml: it takes effect with the next run.\n"
    )


def test_export_writes_what_could_be_read_to_the_last_bit() -> None:
    said = typed("export", "apart.xyz")
    assert said == (
        "4 rows in apart.xyz (`ase gui apart.xyz` shows them); left out, as it could not be read: 1 row "
        "(`show` prints the bytes)\n"
    )
    back = ase.io.read("apart.xyz", ":")
    assert [one.info["quarantine_id"] for one in back] == IDS[:4]
    for at in range(3):
        assert back[at].positions.tobytes() == columns(at)["positions"].tobytes()
        assert back[at].calc.results["forces"].tobytes() == columns(at)["forces"].tobytes()
    typed("export", "one.extxyz", "--check", "close_atoms")
    assert [one.info["quarantine_id"] for one in ase.io.read("one.extxyz", ":")] == [IDS[1]]
    with Quarantine.open(PLACE) as quarantine:
        assert np.isnan(back[3].positions[1, 2])
        assert back[3].info["quarantine_origin"] == "data/more.xyz, frame 4"
        assert len(list(quarantine)) == 5


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["list", "--check", "force_outlir"], "No row was set apart for 'force_outlir'. Did you mean force_outlier?"),
        (["list", "--file", "mor.xyz"], "No row of 'mor.xyz' was set apart. "),
        (
            ["show", "zzz"],
            "No row was set apart whose id begins with 'zzz'. `python -m pipeline quarantine list` shows",
        ),
        (["show", ""], "No row was set apart whose id begins with ''."),
        (["accept", IDS[0]], "the following arguments are required: --why."),
        (["accept", IDS[0], "--why", " "], "--why is empty: say why"),
        (["accept", "--why", "x"], "Say which rows to accept: an ID or more, or --all --check NAME."),
        (["accept", "--all", "--why", "x"], "--all goes with --check NAME and without an ID."),
        (["accept", IDS[0], "--all", "--check", "force_outlier", "--why", "x"], "--all goes with --check NAME and wit"),
        (["accept", IDS[3], "--why", "x"], "(data/more.xyz, frame 4) cannot be accepted: the position of atom 1"),
        (
            ["accept", IDS[0], "--check", "close_atoms", "--why", "x"],
            "was not found by close_atoms but by force_outlier",
        ),
        (
            ["reject", IDS[0], "--check", "force_outlier", "--why", "x"],
            "A row is rejected as a whole: leave out --check",
        ),
        (["undo", IDS[0]], "reviews.yaml decides about no row whose id begins with"),
        (["export", "rows.db"], "rows.db would be extended XYZ: give it a name that ends in .xyz or .extxyz."),
        (["lst"], "invalid choice: 'lst'"),
        ([], "the following arguments are required: list|show|accept|reject|undo|export."),
    ],
)
def test_what_cannot_be_is_one_line_and_changes_nothing(words: list[str], told: str) -> None:
    assert told in typed(*words, code=2)
    assert git("status", "--porcelain") == ""


def test_an_existing_file_is_not_overwritten() -> None:
    Path("mine.xyz").write_text("mine", encoding="utf-8")
    assert "mine.xyz is there already: give another name" in typed("export", "mine.xyz", code=2)
    assert Path("mine.xyz").read_text(encoding="utf-8") == "mine"


def test_beginnings_of_several_ids_are_told() -> None:
    with Quarantine.create(PLACE) as writer:
        for name in ("ab0000000000", "ab1111111111"):
            writer.add(name, "a.xyz", "frame 0", [], RAW)
    said = typed("show", "ab", code=2)
    assert "2 ids begin with 'ab': ab0000000000, ab1111111111. Give more of the one that you mean." in said


def test_a_row_that_was_rejected_and_is_not_found_wrong_is_let_in_by_undo() -> None:
    with Quarantine.create(PLACE) as writer:
        writer.add(IDS[0], "a.xyz", "frame 0", [], columns(0), "rejected")
    said = typed("accept", IDS[0], "--why", "x", code=2)
    assert f"{IDS[0]} is left out only because it was rejected: `undo {IDS[0]}` lets it in." in said


def test_malformed_reviews_are_named_with_their_line_and_left_alone() -> None:
    text = Path("reviews.yaml").read_text(encoding="utf-8") + "- {id: x}\n"
    Path("reviews.yaml").write_text(text, encoding="utf-8")
    for words in (["list"], ["accept", IDS[0], "--why", "x"], ["undo", IDS[0]]):
        assert "forcefoundry: reviews.yaml, line 3: an entry lacks verdict;" in typed(*words, code=2)
    assert Path("reviews.yaml").read_text(encoding="utf-8") == text


def test_decisions_wait_for_no_run_but_say_that_one_goes_on() -> None:
    with one_run_at_a_time():
        said = typed("accept", IDS[0], "--why", "x", code=2)
    assert "run" in said
    assert git("status", "--porcelain") == ""


def test_nothing_set_apart_and_no_run_yet() -> None:
    with Quarantine.create(PLACE):
        pass
    assert typed("list") == "Nothing was set apart by the last run.\n"
    assert "Nothing was set apart by the last run." in typed("list", "--check", "close_atoms", code=2)
    PLACE.unlink()
    assert "There is no quarantine at artifacts/load/quarantine.sqlite yet: run" in typed("list", code=1)


def test_long_rows_and_long_lists_are_cut_and_say_how_to_see_all() -> None:
    many = {**columns(0), "species": np.ones(100, dtype=np.int64), "positions": np.ones((100, 3)), "forces": None}
    with Quarantine.create(PLACE) as writer:
        for at in range(60):
            writer.add(f"{at:012x}", "a.xyz", f"frame {at}", [], many if not at else RAW)
    listed = typed("list").splitlines()
    assert len(listed) == 55
    assert listed[51] == "... and 10 more: --all shows them, --check NAME and --file NAME choose"
    assert len(typed("list", "--all").splitlines()) == 64
    assert typed("show", "000000000000").splitlines()[-1] == "... and 42 more lines: `export` writes all"
