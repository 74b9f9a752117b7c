"""Reviews: what is written is read back, git merges two people's, and whatever is malformed is named with its line."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from forcefoundry.contract.checks import known_checks
from forcefoundry.contract.review_file import HEAD, can_be_accepted, entries, written
from forcefoundry.contract.reviews import Review, Reviews
from tests.outside import ROOT

ACCEPT = Review(
    "0" * 12, "accept", "shock: meant", "Ada", "2026-05-31", ("force_outlier", "close_atoms"), "a b.xyz", "frame 3"
)
REJECT = Review("f" * 12, "reject", "did not converge", "Bob", "2026-06-01", (), "run/b.xyz", "row 5")
LINE = "- {id: 'aaaaaaaaaaaa', verdict: accept, checks: [force_outlier], why: meant, by: Ada, date: 2026-05-31}\n"
TEXTS = st.text(min_size=1).map(lambda text: " ".join(text.encode("utf-8", "replace").decode().split())).filter(bool)


def test_reviews_are_a_line_each_in_the_order_of_their_ids(tmp_path: Path) -> None:
    Reviews([REJECT, ACCEPT]).write(tmp_path / "reviews.yaml")
    text = (tmp_path / "reviews.yaml").read_text(encoding="utf-8")
    assert text == HEAD + (
        "- {id: '000000000000', verdict: accept, checks: [force_outlier, close_atoms], file: a b.xyz, where: frame 3, "
        "why: 'shock: meant', by: Ada, date: 2026-05-31}\n"
        "- {id: ffffffffffff, verdict: reject, file: run/b.xyz, where: row 5, why: did not converge, by: Bob, "
        "date: 2026-06-01}\n"
    )
    assert [*Reviews.read(tmp_path / "reviews.yaml")] == [ACCEPT, REJECT]


def test_nothing_decided_is_the_file_that_the_repository_has(tmp_path: Path) -> None:
    Reviews().write(tmp_path / "reviews.yaml")
    assert len(Reviews.read(tmp_path / "reviews.yaml")) == len(Reviews.read(tmp_path / "absent.yaml")) == 0
    kept = (ROOT / "reviews.yaml").read_text(encoding="utf-8")
    assert kept.startswith((tmp_path / "reviews.yaml").read_text(encoding="utf-8"))


@given(
    st.lists(
        st.builds(
            Review,
            id=st.text("0123456789abcdef", min_size=12, max_size=12),
            verdict=st.just("accept"),
            why=TEXTS,
            by=TEXTS,
            date=st.dates().map(str),
            checks=st.lists(st.sampled_from([*filter(can_be_accepted, known_checks())]), min_size=1, unique=True).map(
                tuple
            ),
            file=st.just("") | TEXTS,
            where=st.just("") | TEXTS,
        ),
        unique_by=lambda one: one.id,
    )
)
def test_all_texts_come_back_and_take_one_line_each(reviews: list[Review]) -> None:
    text = written(reviews)
    assert [one for _, one in entries("reviews.yaml", text)] == reviews
    assert [line for line, _ in entries("reviews.yaml", text)] == list(range(3, 3 + len(reviews)))
    assert text.count("\n") == 2 + len(reviews)


def test_line_breaks_and_bytes_that_are_no_text_do_not_break_the_file(tmp_path: Path) -> None:
    odd = Review("1" * 12, "reject", "one\ntwo\u2028three", "Zoë", "2026-05-31", (), "a\udcff.xyz", "frame\t3")
    Reviews([odd]).write(tmp_path / "reviews.yaml")
    (back,) = Reviews.read(tmp_path / "reviews.yaml")
    assert (back.why, back.by, back.file, back.where) == ("one two three", "Zoë", "a\\udcff.xyz", "frame 3")


def test_what_reviews_say_of_rows() -> None:
    reviews = Reviews([ACCEPT, REJECT])
    assert reviews.accepted(ACCEPT.id, "force_outlier")
    assert not reviews.accepted(ACCEPT.id, "energy_outlier")
    assert not reviews.accepted(REJECT.id, "force_outlier")
    assert reviews.rejected(REJECT.id)
    assert not reviews.rejected(ACCEPT.id)
    assert not reviews.rejected("1" * 12)
    assert reviews.of("1" * 12) is None
    reviews.remove(ACCEPT.id)
    assert not reviews.accepted(ACCEPT.id, "force_outlier")


def test_a_second_acceptance_adds_and_another_verdict_replaces() -> None:
    reviews = Reviews([ACCEPT])
    reviews.add(Review(ACCEPT.id, "accept", "seen again", "Bob", "2026-06-01", ("energy_outlier", "close_atoms")))
    (joint,) = reviews
    assert joint.checks == ("force_outlier", "close_atoms", "energy_outlier")
    assert (joint.why, joint.by) == ("shock: meant; seen again", "Bob")
    reviews.add(Review(ACCEPT.id, "reject", "no", "Cyd", "2026-06-02"))
    assert [(one.verdict, one.checks) for one in reviews] == [("reject", ())]


def test_what_cannot_be_packed_cannot_be_accepted() -> None:
    assert not any(map(can_be_accepted, ("unreadable", "shape", "not_finite", "no_atoms", "no_element", "flat_cell")))
    assert all(map(can_be_accepted, ("force_outlier", "close_atoms", "energy_outlier", "schema", "unknown")))


MALFORMED = {
    LINE.replace("]", ""): "it is no YAML",
    f"{LINE.replace('}', '')}{LINE}": "it is no YAML",
    f"{LINE.replace(': meant', ': a: b')}{LINE}": "it is no YAML",
    "id: 1": "expected a list of entries",
    "text": "expected a list of entries",
    "- text": "an entry is 'text', expected one with id, verdict",
    "- [1, 2]": r"an entry is \[1, 2\], expected one with id",
    LINE + LINE.replace("accept, checks: [force_outlier]", "reject"): "line 4: .* and another entry of it has accept",
    LINE.replace("why: meant", "wy: meant"): "has 'wy', which is not known. Did you mean why",
    LINE.replace("why: meant", "reason: meant"): "has 'reason', which is not known. Known are id, verdict",
    LINE.replace("why: meant", "why: meant, why: not"): "says one thing twice",
    LINE.replace("why: meant, ", ""): "lacks why; it needs id, verdict, why, by, date",
    LINE.replace("why: meant", "why: ''"): "lacks why; it needs",
    LINE.replace("why: meant", "why: no"): "why is False, expected a text: put it in quotes",
    LINE.replace("why: meant", "why: 3"): "why is 3, expected a text: put it in quotes",
    LINE.replace("by: Ada", "by: [Ada]"): r"by is \['Ada'\], expected a text",
    LINE.replace("'aaaaaaaaaaaa'", "123456789012"): "id is 123456789012, expected a text: put it in quotes",
    LINE.replace("'aaaaaaaaaaaa'", "aaa"): "id is 'aaa', expected 12 digits and letters from a to f",
    LINE.replace("'aaaaaaaaaaaa'", "gggggggggggg"): "id is 'gggggggggggg', expected 12 digits",
    LINE.replace("verdict: accept", "verdict: keep"): "verdict is 'keep', expected accept or reject",
    LINE.replace("2026-05-31", "2026-05-45"): "holds what is no date",
    LINE.replace("2026-05-31", "yesterday"): "date is 'yesterday', expected one such as 2026-05-31",
    LINE.replace("2026-05-31", "2026-05-31 10:00:00"): "date is '2026-05-31T10:00:00', expected one such as",
    LINE.replace("[force_outlier]", "force_outlier"): "checks is 'force_outlier', expected a list of checks",
    LINE.replace("[force_outlier]", "[]"): r"checks is \[\], expected the checks it is accepted in spite of",
    LINE.replace("accept", "reject"): r"checks is \['force_outlier'\], expected none, since it is rejected",
    LINE.replace(
        "force_outlier", "force_outliers"
    ): "names 'force_outliers', which is no check. Did you mean force_out",
    LINE.replace("force_outlier", "xyz"): "names 'xyz', which is no check. Known are ",
    LINE.replace("force_outlier", "unreadable"): "in spite of unreadable, but no such row can be let in. Repair it",
    "\t- x": "it is no YAML",
    "- *nobody": "it is no YAML",
}


@pytest.mark.parametrize("text", MALFORMED)
def test_what_is_malformed_is_named_with_its_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "reviews.yaml"
    path.write_text(f"# a head\n\n{text}\n", encoding="utf-8")
    told = MALFORMED[text]
    with pytest.raises(ValueError, match=rf"reviews\.yaml, {told if told.startswith('line') else f'line 3: .*{told}'}"):
        Reviews.read(path)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "reviews.yaml").write_bytes(b"- \xff\n")
    with pytest.raises(ValueError, match=r"reviews\.yaml is no UTF-8 text .* at byte 2\)\. Restore it from git"):
        Reviews.read(tmp_path / "reviews.yaml")


def test_entries_written_by_hand_over_several_lines_are_read(tmp_path: Path) -> None:
    text = "".join(
        f"- {name}: {value}\n" if name == "id" else f"  {name}: {value}\n"
        for name, value in yaml.safe_load(LINE)[0].items()
    )
    (tmp_path / "reviews.yaml").write_text(text, encoding="utf-8")
    (back,) = Reviews.read(tmp_path / "reviews.yaml")
    assert (back.id, back.checks, back.date) == ("a" * 12, ("force_outlier",), "2026-05-31")


class TestMerged:
    """Two people decide on branches of their own, and git puts them together."""

    @pytest.fixture(autouse=True)
    def repository(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        for who in ("AUTHOR", "COMMITTER"):
            monkeypatch.setenv(f"GIT_{who}_NAME", "tester")
            monkeypatch.setenv(f"GIT_{who}_EMAIL", "tester@example.org")
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "none"))
        Path(".gitattributes").write_bytes((ROOT / ".gitattributes").read_bytes())
        self.git("init", "-q", "-b", "main")

    def git(self, *words: str) -> None:
        subprocess.run(["git", *words], check=True, capture_output=True)

    def decided(self, *reviews: Review) -> None:
        Reviews(reviews).write("reviews.yaml")
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "x", "--allow-empty")

    def merged(self, base: list[Review], ours: list[Review], theirs: list[Review]) -> list[Review]:
        self.decided(*base)
        self.git("checkout", "-q", "-b", "theirs")
        self.decided(*theirs)
        self.git("checkout", "-q", "main")
        self.decided(*ours)
        self.git("merge", "-q", "theirs", "-m", "both")
        return [*Reviews.read("reviews.yaml")]

    def test_first_decisions_of_two_people(self) -> None:
        assert self.merged([], [ACCEPT], [REJECT]) == [ACCEPT, REJECT]

    def test_many_decisions_that_look_alike_and_stand_side_by_side(self) -> None:
        alike = [Review(f"{at:012x}", "accept", "meant", "Ada", "2026-05-31", ("close_atoms",)) for at in range(40)]
        assert self.merged(alike[::4], [*alike[::4], *alike[1::4]], [*alike[::4], *alike[2::4], *alike[3::4]]) == alike

    def test_the_same_row_accepted_twice_holds_for_the_checks_of_both(self) -> None:
        again = Review(ACCEPT.id, "accept", "seen", "Bob", "2026-05-30", ("energy_outlier",))
        (joint,) = self.merged([REJECT], [REJECT, ACCEPT], [REJECT, again])[:1]
        assert set(joint.checks) == {"force_outlier", "close_atoms", "energy_outlier"}

    def test_a_row_that_one_accepts_and_one_rejects_is_told(self) -> None:
        against = Review(ACCEPT.id, "reject", "no", "Bob", "2026-05-30")
        with pytest.raises(ValueError, match=r"line 4: 000000000000 has the verdict .* and another entry of it has"):
            self.merged([], [ACCEPT], [against])

    def test_marks_of_an_undone_merge_are_told(self) -> None:
        Path(".gitattributes").unlink()
        with pytest.raises(subprocess.CalledProcessError):
            self.merged([], [ACCEPT], [REJECT])
        with pytest.raises(ValueError, match=r"line 3: git left a merge undone here \(<<<<<<< HEAD\)\. Take out its"):
            Reviews.read("reviews.yaml")
