"""The data card as one page of HTML that needs nothing else: no script, no font and no picture from elsewhere.

Whatever comes out of a file (names, keys, config_types, texts of findings) is escaped where it is put in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from pipeline.card_drawing import count, drawn, in_order, split_class, spread

_SHOWN, _MOST = 15, 500
"""Rows of a table that grows with the data (config_types, files): those that are seen at once, and those there are."""

_TITLES = {
    "energy_per_atom": "Energy an atom",
    "energy_above_atoms": "Energy an atom, a fitted E0 taken off",
    "force_components": "Components of the forces",
    "rms_force": "Forces of a structure, root mean square",
    "max_force": "Largest force of a structure",
    "distance": "Distance of the two nearest atoms",
    "pairs_per_atom": "Pairs an atom, mean of a structure",
    "n_atoms": "Atoms of a structure",
    "volume_per_atom": "Volume an atom, periodic structures",
    "pressure": "A third of the trace of the stress, tension positive",
}

_WORDS = {"error": "ends the run", "quarantine": "decided about: accepted or rejected", "warn": "warned of, kept"}
"""What followed from a finding by its policy; of rows that are set apart how many they are."""

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c2024; --soft: #5a636d; --line: #d9dee3; --head: #f3f5f7;
  --train: #3b6fb0; --valid: #d48a11; --test: #2f8f5b; --held: #8a56b0; --none: #8b949e; --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171a; --ink: #e6e9ec; --soft: #9aa4ae; --line: #343b42; --head: #1e2327;
    --train: #6f9fd8; --valid: #e0a844; --test: #5cb98a; --held: #b48ad6; --none: #7b858f; --bad: #f2877f; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1.5rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
p { margin: .3rem 0; } .soft, figcaption small { color: var(--soft); }
.numbers { display: flex; flex-wrap: wrap; gap: .4rem 2.4rem; margin: 1rem 0 0; padding: 0; list-style: none; }
.numbers b { display: block; font-size: 1.5rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .92rem; }
caption { text-align: left; color: var(--soft); padding-bottom: .3rem; }
th, td { padding: .25rem .8rem .25rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
td { max-width: 30rem; min-width: 4.5em; overflow-wrap: anywhere; } td.n { min-width: 0; } td.file { max-width: none; }
tr.all td { font-weight: 600; border-bottom: 0; }
.row { display: flex; flex-wrap: wrap; gap: 0 4rem; align-items: flex-start; } .row section { min-width: 0; }
th { font-weight: 600; } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.file { font-family: ui-monospace, monospace; font-size: .85em; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1.4rem 1.8rem; }
figure { margin: 0; display: flex; flex-direction: column; }
figcaption { font-size: .92rem; } figcaption small { display: block; }
svg { width: 100%; height: auto; display: block; margin-top: auto; padding-top: .3rem; }
svg text { fill: var(--soft); font-size: 10.5px; }
.axis { stroke: var(--soft); stroke-width: 1; }
rect.train, i.train { fill: var(--train); background: var(--train); }
rect.valid, i.valid { fill: var(--valid); background: var(--valid); }
rect.test, i.test { fill: var(--test); background: var(--test); }
rect.held, i.held { fill: var(--held); background: var(--held); }
rect.none, i.none { fill: var(--none); background: var(--none); }
.legend i { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin: 0 .35em 0 1em; }
.legend span:first-child i { margin-left: 0; }
details { border-top: 1px solid var(--line); padding: .4rem 0; } summary { cursor: pointer; }
summary b { font-weight: 600; } .bad { color: var(--bad); }
"""


def page(card: Mapping[str, Any], title: str) -> str:
    """The page of a card; `title` says of what."""
    parts = [
        f"<h1>{escape(title)}</h1>",
        _numbers(card),
        f'<div class="row">\n{_properties(card)}\n{_counts(card)}\n{_species(card)}\n</div>',
        _histograms(card),
        _findings(card),
        _files(card),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def _numbers(card: Mapping[str, Any]) -> str:
    rows = card["rows"]
    told = [(rows["in"], "structures came in"), *((rows[name], name) for name in ("kept", "quarantined", "rejected"))]
    told.append((card["atoms"], "atoms in those kept"))
    items = "".join(f"<li><b>{count(n)}</b>{words}</li>" for n, words in told)
    periodic = ", ".join(f"{count(n)} {escape(name)}" for name, n in card["periodicity"].items())
    return f'<ul class="numbers">{items}</ul>\n<p class="soft">{periodic}</p>'


def _properties(card: Mapping[str, Any]) -> str:
    rows = []
    for name, found in card["properties"].items():
        read = " ".join(str(part) for part in (found.get("unit_read"), found.get("sign")) if part)
        factor = found.get("factor", 1.0)
        done = "as it is" if factor == 1.0 else f"× {factor:.10g}".replace("-", "−")
        rows.append([name, found["key"], count(found["count"]), read, done, found["unit"]])
    heads = ["property", "key", ">rows", "read as", "factor", "unit"]
    return _section("Labels", _table("What was read, and what was done to it", heads, rows)) if rows else ""


def _counts(card: Mapping[str, Any]) -> str:
    splits = in_order(card["splits"])
    rows = [[one["config_type"], *_by_split(one, splits)] for one in card["counts"]]
    heads = ["config_type", ">structures", *(f">{_split(name)}" for name in splits)]
    whole = ["all", count(card["rows"]["kept"]), *(count(card["splits"][name]) for name in splits)]
    return _section("Splits and kinds", _long_table("Structures kept", heads, rows, "kinds", whole))


def _species(card: Mapping[str, Any]) -> str:
    splits = in_order(card["splits"])
    rows = [[one["symbol"], count(one["atoms"]), *_by_split(one, splits)] for one in card["species"]]
    heads = ["element", ">atoms", ">structures", *(f">{_split(name)}" for name in splits)]
    return _section("Elements", _long_table("Atoms, and the structures that have them", heads, rows, "elements"))


def _histograms(card: Mapping[str, Any]) -> str:
    made = card["histograms"]
    names = [*(name for name in _TITLES if name in made), *(name for name in made if name not in _TITLES)]
    figures = []
    for name in names:
        title = _TITLES.get(name, name)
        caption = f"<figcaption>{escape(title)}<small>{escape(spread(made[name]))}</small></figcaption>"
        figures.append(f"<figure>{caption}{drawn(title, made[name])}</figure>")
    if not figures:
        return ""
    legend = "".join(
        f'<span><i class="{split_class(name)}"></i>{escape(_split(name))}</span>' for name in in_order(card["splits"])
    )
    return _section("How it is spread", f'<p class="legend">{legend}</p><div class="grid">{"".join(figures)}</div>')


def _findings(card: Mapping[str, Any]) -> str:
    blocks = "".join(_found(one, card["quarantine"].get(one["check"], 0)) for one in card["findings"])
    apart = card["rows"]["quarantined"]
    told = f"{count(apart)} set apart: python -m pipeline quarantine list shows them, and how to decide about them"
    words = f'<p class="soft">{told}</p>' if apart else ""
    return _section("Findings", words + (blocks or "<p>Nothing was found.</p>"))


def _found(of_check: Mapping[str, Any], apart: int) -> str:
    """What one check found: how many, what follows, and the first of them behind a line to click on."""
    first, n = of_check["first"], of_check["count"]
    words = _WORDS.get(of_check.get("policy") or "", "")
    words = f"{count(apart)} of {count(of_check['rows'])} rows set apart" if apart else words
    remedies = {one["remedy"] for one in first}
    names = ["what", "got", "expected", *(["remedy"] if len(remedies) > 1 else [])]
    rows = [[one["where"] or "the whole set", *(one[name] for name in names)] for one in first]
    heads = ["where", *("what to do" if name == "remedy" else name for name in names)]
    caption = f"The first {len(first)} of {count(n)}" if n > len(first) else "All"
    remedy = f"<p>{escape(next(iter(remedies)))}</p>" if len(remedies) == 1 else ""
    told = f"<b>{escape(of_check['check'])}</b> {count(n)} found{' · ' + escape(words) if words else ''}"
    return f"<details><summary>{told}</summary>{remedy}{_table(caption, heads, rows)}</details>"


def _files(card: Mapping[str, Any]) -> str:
    rows = [[one["file"], count(one["rows"]), one["sha256"] or "–"] for one in card["files"]]
    return _section("Files", _long_table("Where the rows came from", ["~file", ">rows", "~sha256"], rows, "files"))


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>"


def _long_table(
    caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]], what: str, whole: Sequence[str] = ()
) -> str:
    """A table of which a screen is shown, and the rest, as far as a page can hold it, behind a line to click on.

    `whole` is its last row where there are several.
    """
    table = _table(caption, heads, rows[:_SHOWN], whole if len(rows) > 1 else ())
    rest, beyond = rows[_SHOWN:_MOST], len(rows) - _MOST
    if rest:
        more = _table(f"{count(beyond)} of them are not shown" if beyond > 0 else "", heads, rest)
        table += f"<details><summary>{count(len(rows) - _SHOWN)} {what} more</summary>{more}</details>"
    return table


def _table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[object]], whole: Sequence[object] = ()) -> str:
    """A table; a heading that begins with > is that of numbers, with ~ that of names which may break anywhere.

    `whole` is a last row, that of all.
    """
    classes = [' class="n"' if head[0] == ">" else ' class="file"' if head[0] == "~" else "" for head in heads]
    top = "".join(
        f'<th scope="col"{kind}>{escape(head.lstrip(">~"))}</th>' for kind, head in zip(classes, heads, strict=True)
    )
    body = "".join(f"<tr>{_cells(row, classes)}</tr>" for row in rows)
    last = f'<tr class="all">{_cells(whole, classes)}</tr>' if whole else ""
    return (
        f'<div class="wide"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}{last}</tbody></table></div>"
    )


def _cells(row: Sequence[object], classes: Sequence[str]) -> str:
    return "".join(f"<td{kind}>{escape(str(cell))}</td>" for kind, cell in zip(classes, row, strict=True))


def _by_split(one: Mapping[str, Any], splits: Sequence[str]) -> list[str]:
    numbers = [one["splits"].get(name) for name in splits]
    return [count(one["rows"]), *(count(n) if n else "–" for n in numbers)]


def _split(name: str) -> str:
    return name.replace("_", " ")
