"""The page of the data card: whole, without anything from elsewhere, and drawn right by a real browser."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.card_drawing import count, drawn, number, spread
from pipeline.card_page import page
from tests.pipeline.card_room import bars, card

HOSTILE = '"><script>document.title="taken"</script><img src=x onerror=alert(1)>&amp;\u202e'
VOID = {"meta", "br", "line", "rect"}


class Read(HTMLParser):
    """Reads a page, and refuses tags that are not closed in their order."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def test_all_numbers_stand_on_the_page() -> None:
    read = Read(page(card(), "Data card: mine.xyz"))
    text = " ".join(read.text)
    for words in ("1\u202f242 structures came in", "2 quarantined", "1 rejected", "123\u202f456 atoms in those kept"):
        assert words in re.sub(r"(\d) +", r"\1 ", text)
    assert ["energy", "Bulk", "1\u202f239", "kcal/mol", "× 0.0433641", "eV"] in read.rows
    assert ["forces", "F", "1\u202f100", "eV/Å gradients", "× −1", "eV/Å"] in read.rows
    assert ["config_type", "structures", "train", "valid", "test", "held out"] in read.rows
    assert ["Bulk 0", "1\u202f000", "900", "2", "–", "–"] in read.rows
    assert ["all", "1\u202f239", "1\u202f200", "34", "0", "5"] in read.rows
    assert ["X1", "10\u202f000\u202f000", "1\u202f239", "1\u202f200", "–", "–", "–"] in read.rows
    assert ["/data/Bulk/1.xyz", "1", "ab" * 32] in read.rows
    assert ["the whole set", "the force Bulk", "212.4 eV/Å", "at most 31 <eV/Å>"] in read.rows
    assert ["b", "the force Bulk", "212.4 eV/Å", "at most 31 <eV/Å>", "Another."] in read.rows
    assert "2 set apart: python -m pipeline quarantine list" in text
    assert "40 found · 2 of 40 rows set apart" in text
    assert "1 found · warned of, kept" in text
    assert sum(tag == "svg" for tag, _ in read.tags) == 5


def test_nothing_comes_from_elsewhere_and_nothing_runs() -> None:
    for word in ("Bulk", HOSTILE):
        text = page(card(word=word), word)
        read = Read(text)
        assert {tag for tag, _ in read.tags} <= {
            *("html", "head", "meta", "title", "style", "body", "main", "section", "div", "h1", "h2", "p", "b", "i"),
            *("ul", "li", "table", "caption", "thead", "tbody", "tr", "th", "td", "details", "summary", "figure"),
            *("figcaption", "small", "span", "svg", "g", "rect", "line", "text", "desc"),
        }
        names = {name for _, attributes in read.tags for name in attributes}
        assert not [name for name in names if name.startswith("on") or name in ("src", "href", "style", "action")]
        assert not re.search(r"url\(|@import|https?:", text)
        assert word in " ".join(read.text)


@pytest.mark.parametrize(("n", "shown", "hidden"), [(1, 1, 0), (15, 15, 0), (16, 15, 1), (3000, 15, 485)])
def test_of_many_kinds_and_files_a_screen_is_shown_and_the_page_stays_small(n: int, shown: int, hidden: int) -> None:
    text = page(card(n, n_files=n, n_elements=min(n, 100)), "x")
    read = Read(text)
    kinds = [row[0] for row in read.rows if row[0].startswith("Bulk ")]
    assert kinds == [f"Bulk {at}" for at in range(shown + hidden)]
    assert (f"{count(n - shown)} kinds more" in text) == (n > shown)
    assert ("2\u202f500 of them are not shown" in text) == (n == 3000)
    assert (["all", "1\u202f239", "1\u202f200", "34", "0", "5"] in read.rows) == (n > 1)
    assert len(text) < 400_000


def test_what_people_decided_about_is_no_longer_told_to_be_set_apart() -> None:
    assert "40 found · decided about: accepted or rejected" in " ".join(
        Read(page(card() | {"quarantine": {}}, "x")).text
    )


def test_an_empty_card_is_a_page() -> None:
    empty = card(0, n_files=0, n_elements=0) | {"properties": {}, "histograms": {}, "findings": [], "quarantine": {}}
    text = " ".join(Read(page(empty, "x")).text)
    assert "Nothing was found." in text
    assert "How it is spread" not in text


@pytest.mark.parametrize(
    ("value", "width", "text"),
    [
        (0.0, None, "0"), (-0.0, None, "0"), (1234567.8, None, "1234568"), (-626.123456, None, "−626.1"),
        (-626.123456, 0.1, "−626.123"), (-9391.23456, 0.05, "−9391.2346"), (96.0, 84.0, "96"), (1e-7, 1.0, "1e−07"),
        (1e300, None, "1e+300"), (2e-300, 1e-300, "2e−300"), (12346.0, 1e6, "12346"),
    ],
)  # fmt: skip
def test_numbers_have_the_digits_that_tell_them_apart(value: float, width: float | None, text: str) -> None:
    assert number(value, width) == text


def test_what_is_not_drawn_is_told() -> None:
    made = bars(np.r_[np.random.default_rng(0).normal(0, 1, 5000), 1e4], "eV/Å")
    assert re.fullmatch(
        r"−\S+ to 10000 eV/Å, median \S+; 1 above \S+ not drawn", spread(made | {"below": 0, "above": 1})
    )
    assert spread(bars([1.2345] * 7, "Å")) == "1.234 Å in all 7"


def heights(svg: str) -> dict[str, float]:
    """The sum of the heights of all bars, by class."""
    summed: dict[str, float] = {}
    for kind, height in re.findall(r'<rect class="(\w+)"[^>]* height="([\d.]+)"', svg):
        summed[kind] = summed.get(kind, 0.0) + float(height)
    return summed


def test_bars_are_as_high_as_what_they_count() -> None:
    made = bars(np.random.default_rng(0).normal(0, 1, 3000))
    summed = heights(drawn("x", made))
    totals = {name: sum(bins) for name, bins in made["counts"].items()}
    whole = sum(summed.values())
    for name, total in totals.items():
        assert summed[name] / whole == pytest.approx(total / sum(totals.values()), rel=1e-3)
    most = max(map(sum, zip(*made["counts"].values(), strict=True)))
    assert f'<text class="most" x="6" y="12">{most}</text>' in drawn("x", made)


@pytest.mark.parametrize("values", [[1.0], [-9391.123] * 4, [0.0, 1e-9], [1e300, -1e300], [3.0, 4.0], [0.999, 1000.0]])
def test_odd_histograms_are_drawn_within_their_frame(values: list[float]) -> None:
    svg = drawn("x", bars(values))
    places = [float(x) for x in re.findall(r' x1?="(-?[\d.]+)"', svg)]
    assert all(0 <= x <= 360 for x in places)
    assert 1 <= len(re.findall('text-anchor="(?:middle|start|end)"', svg)) <= 12


MEASURED = """<script>
const found = {wide: document.documentElement.scrollWidth > innerWidth, cut: [], crossed: [], drawn: 0, paper: ""};
found.paper = getComputedStyle(document.body).backgroundColor;
for (const one of document.querySelectorAll("svg")) {
  const frame = one.getBoundingClientRect(), texts = [...one.querySelectorAll("text")];
  found.drawn += frame.width > 200 && frame.height > 80;
  const boxes = texts.map(text => text.getBoundingClientRect());
  boxes.forEach((a, at) => {
    if (a.left < frame.left - 1 || a.right > frame.right + 1 || a.top < frame.top - 1 || a.bottom > frame.bottom + 1)
      found.cut.push(texts[at].textContent);
    boxes.slice(at + 1).forEach((b, other) => {
      if (a.left < b.right && b.left < a.right && a.top + 2 < b.bottom - 2 && b.top + 2 < a.bottom - 2)
        found.crossed.push(texts[at].textContent + " and " + texts[at + 1 + other].textContent);
    });
  });
}
for (const one of document.querySelectorAll("th, td, p, li, figcaption, summary, h1, h2")) {
  const frame = one.closest(".wide") || document.body, box = one.getBoundingClientRect();
  if (box.width && !one.closest(".wide") && box.right > innerWidth + 1) found.cut.push(one.textContent);
}
document.title = JSON.stringify(found);
</script>"""


def in_browser(text: str, folder: Path, size: str, *more: str) -> Any:
    """What the page measures of itself, in a real browser without a window."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium is installed")
    (folder / "card.html").write_text(text.replace("</body>", f"{MEASURED}</body>"), encoding="utf-8")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    words = [f"--window-size={size}", "--dump-dom", *more, (folder / "card.html").as_uri()]
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=True, timeout=120)
    (title,) = re.findall(r"<title>(.*?)</title>\n<style>", done.stdout, re.S)
    return json.loads(title.replace("&quot;", '"').replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"))


@pytest.mark.parametrize("size", ["1300,2000", "420,2000"])
@pytest.mark.parametrize("kind", ["few", "many", "hostile"])
def test_a_real_browser_cuts_nothing_off_and_lets_no_words_cross(kind: str, size: str, tmp_path: Path) -> None:
    made = {"few": card(2), "many": card(900, "a_long_name_" * 6, 60, 90), "hostile": card(20, HOSTILE)}[kind]
    text = page(made, "Data card: mine.xyz").replace("<details>", "<details open>")
    seen = in_browser(text, tmp_path, size)
    assert seen.pop("paper") == "rgb(255, 255, 255)"
    assert seen == {"wide": False, "cut": [], "crossed": [], "drawn": 5}


def test_it_is_dark_where_that_is_asked_for(tmp_path: Path) -> None:
    seen = in_browser(page(card(), "x"), tmp_path, "1300,2000", "--blink-settings=preferredColorScheme=0")
    assert seen["paper"] == "rgb(20, 23, 26)"


def test_the_page_is_the_same_in_whatever_order_a_file_has_its_keys() -> None:
    made = card()
    again = json.loads(json.dumps(made, sort_keys=True))
    again["properties"] = made["properties"]  # whose order is that of the file
    again["histograms"] = {name: again["histograms"][name] for name in made["histograms"]}
    assert page(again, "x") == page(made, "x")


def test_a_page_changes_nothing_of_its_card() -> None:
    made = card()
    before = copy.deepcopy(made)
    assert page(made, "x") == page(made, "x")
    assert made == before
