"""From findings to what becomes of each row: kept, set apart, or left out for good, as policies and reviews say."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from forcefoundry.contract.checks import known_checks
from forcefoundry.contract.findings import Finding, Origins, Setting, placed
from forcefoundry.contract.gathered import Gathered
from forcefoundry.contract.intake import KeptFault
from forcefoundry.contract.measures import Measures
from forcefoundry.contract.quarantine import QuarantineWriter
from forcefoundry.contract.reviews import Reviews
from forcefoundry.contract.row_ids import Ids, copies_apart, row_ids
from forcefoundry.databases.mapped import pieces

Ints = NDArray[np.int64]

_ATOMS_AT_ONCE = 200_000


def judged(measures: Measures, settings: Mapping[str, Setting], numbers: Ints, after: bool) -> Iterator[Finding]:
    """What the checks find that need no splits, or (`after`) those that do; rows by their number among all."""
    for name, check in known_checks().items():
        setting = settings[name]
        if check.find is None or check.after_splits != after or setting.policy == "off":
            continue
        for found in check.find(measures, setting.options):
            yield _renumbered(found, numbers)


def _renumbered(found: Finding, numbers: Ints) -> Finding:
    row = None if found.row is None else int(numbers[found.row])
    other = None if found.other is None else int(numbers[found.other])
    return replace(found, row=row, other=other)


class ContractError(ValueError):
    """What was found ends the run. `findings` are all that there are, of rows that come from `origins`."""

    def __init__(self, message: str, findings: Sequence[Finding], origins: Origins):
        super().__init__(message)
        self.findings, self.origins = findings, origins


@dataclass
class Verdicts:
    """What becomes of rows, by their numbers among all that came in.

    Attributes:
        findings: all, in the order in which they were made.
        faults: those of rows that are no structures, or whose label is wrong.
        ids: of the rows that something was found of.
    """

    gathered: Gathered
    settings: Mapping[str, Setting]
    reviews: Reviews
    findings: list[Finding] = field(default_factory=list)
    faults: dict[int, KeptFault] = field(default_factory=dict)
    ids: dict[int, str] = field(default_factory=dict)
    rejected: set[int] = field(default_factory=set)
    _apart: dict[int, list[Finding]] = field(default_factory=lambda: defaultdict(list))

    def add_faults(self) -> None:
        """Take in what was found while rows were read."""
        for number, fault in self.gathered.faults():
            self.faults.setdefault(number, fault)
            found = Finding(fault.check, number, fault.what, fault.got, fault.expected, fault.remedy)
            self._note(found)
        ids = copies_apart(np.array([fault.id for fault in self.faults.values()], dtype="S12"))
        self.ids |= {number: one.decode() for number, one in zip(self.faults, ids, strict=True)}

    def add(self, findings: Iterable[Finding], keys: NDArray[np.uint8]) -> None:
        """Take in what checks found; keys: (m, 32) of all structures."""
        new = list(findings)
        for found in new:
            self._note(found)
        self._name({found.row for found in new if found.row is not None}, keys)

    def _note(self, found: Finding) -> None:
        found = placed(found, self.gathered.origins)
        self.findings.append(found)
        if found.row is not None and self.settings[found.check].policy == "quarantine":
            self._apart[found.row].append(found)

    def reject(self, keys: NDArray[np.uint8]) -> None:
        """Leave out what reviews reject, whatever checks find."""
        wanted = {entry.id for entry in self.reviews if entry.verdict == "reject"}
        if wanted - set(self.ids.values()):
            self._name({int(number) for number in self.gathered.number}, keys)
        self.rejected = {number for number, one in self.ids.items() if one in wanted}

    def _name(self, rows: set[int], keys: NDArray[np.uint8]) -> None:
        """Give ids to rows; those of equal content are told apart among all that have it."""
        gathered = self.gathered
        unnamed = np.array(sorted(rows - self.ids.keys()), dtype=np.int64)
        if not len(unnamed):
            return
        whole = np.ascontiguousarray(keys).view("V32").ravel()
        asked = np.searchsorted(gathered.number, unnamed)
        alike = np.flatnonzero(np.isin(whole, whole[asked]))
        ids: list[Ids] = []
        for part in pieces(alike, np.diff(gathered.columns.offsets), _ATOMS_AT_ONCE):
            columns = {name: gathered.columns.take(name, part) for name in gathered.columns}
            ids.append(row_ids(columns, keys[part]))
        for at, one in zip(alike.tolist(), copies_apart(np.concatenate(ids)), strict=True):
            self.ids.setdefault(int(gathered.number[at]), one.decode())

    def apart(self) -> dict[int, list[Finding]]:
        """The rows that are set apart, with what was found of each and no review accepts."""
        found = {}
        for row, findings in self._apart.items():
            left = [one for one in findings if not self._accepted(row, one.check)]
            if left and row not in self.rejected:
                found[row] = left
        return found

    def out(self) -> Ints:
        """The numbers of the rows that do not come in, ascending."""
        return np.array(sorted({*self.apart(), *self.rejected}), dtype=np.int64)

    def errors(self) -> list[Finding]:
        """What ends the run."""
        return [
            found
            for found in self.findings
            if self.settings[found.check].policy == "error"
            and (found.row is None or not (found.row in self.rejected or self._accepted(found.row, found.check)))
        ]

    def check(self) -> None:
        """End the run if a finding's policy says so."""
        errors = self.errors()
        if errors:
            first, origins = errors[0], self.gathered.origins
            more = f" ({len(errors) - 1} more such findings)" if len(errors) > 1 else ""
            raise ContractError(f"{first.told(origins.of(first.row))}{more} [{first.check}]", self.findings, origins)

    def check_share(self) -> None:
        """End the run if most rows would be set apart: then it is the set that is wrong, or a threshold, and no row."""
        apart = self.apart()
        if len(apart) * 2 > self.gathered.n_rows:
            checks = Counter(check for found in apart.values() for check in {one.check for one in found})
            check, count = checks.most_common(1)[0]
            self.refuse(
                f"{len(apart)} of {self.gathered.n_rows} rows would be set apart, {count} of them for {check}: look at "
                f"the units, signs and keys of the set, or set contract.{check}.policy=warn."
            )

    def refuse(self, why: str) -> NoReturn:
        """End the run, with the first reason for which a row was set apart."""
        origins = self.gathered.origins
        for row, found in self.apart().items():
            why += f" The first is set apart for {found[0].check}: {found[0].told(origins.of(row))}"
            break
        raise ContractError(why, self.findings, origins)

    def _accepted(self, row: int, check: str) -> bool:
        return row in self.ids and self.reviews.accepted(self.ids[row], check)

    def write(self, writer: QuarantineWriter) -> None:
        """Put the rows that are set apart, rejected or accepted into a quarantine, in their order."""
        gathered, apart, origins = self.gathered, self.apart(), self.gathered.origins
        for number in sorted({*self._apart, *self.rejected}):
            state = "rejected" if number in self.rejected else "quarantined" if number in apart else "accepted"
            writer.add(
                self.ids[number],
                origins.files[origins.file[number]],
                gathered.place(number),
                self._apart.get(number, []),
                self._content(number),
                state,
            )

    def _content(self, number: int) -> Any:
        fault = self.faults.get(number)
        if fault is not None:
            return fault.text if fault.text is not None else fault.raw
        at = np.searchsorted(self.gathered.number, [number])
        columns = {name: self.gathered.columns.take(name, at) for name in self.gathered.columns}
        row: dict[str, Any] = {name: values for name, values in columns.items() if name != "n_atoms"}
        shard, place = self.gathered.shards[self.gathered.piece[at[0]]], int(self.gathered.row[at[0]])
        kind = shard.beside.column("kind")[place].as_py()
        return row if kind is None else row | {"config_type": kind}
