"""What people decided about rows that were set apart: a file of its own in git, so that a decision has an author.

An entry holds for a content, by its id, never for a place in a file: once the row changes, nobody has decided.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from forcefoundry.contract.review_file import Review, can_be_accepted, entries, written
from forcefoundry.files import written_whole

__all__ = ["Review", "Reviews", "can_be_accepted"]


class Reviews:
    """All decisions, in the order of their ids."""

    def __init__(self, entries: Iterable[Review] = ()):
        self._by_id: dict[str, Review] = {}
        for entry in entries:
            self.add(entry)

    @classmethod
    def read(cls, path: Path | str) -> Reviews:
        """Read a file of reviews; where there is none, nothing was decided.

        Raises:
            ValueError: for a malformed file, with the line of the entry and what to do.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except FileNotFoundError:
            return cls()
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path} is no UTF-8 text ({error.reason} at byte {error.start}). Restore it from git."
            ) from None
        reviews = cls()
        for line, entry in entries(str(path), text):
            known = reviews.of(entry.id)
            if known is not None and known.verdict != entry.verdict:
                raise ValueError(
                    f"{path}, line {line}: {entry.id} has the verdict {entry.verdict}, and another entry of it has "
                    f"{known.verdict}. Keep one of the two."
                )
            reviews.add(entry)
        return reviews

    def write(self, path: Path | str) -> None:
        """Write the file anew; equal reviews give equal bytes."""
        with written_whole(path) as draft:
            draft.write_text(written(self), encoding="utf-8")

    def __iter__(self) -> Iterator[Review]:
        return iter(sorted(self._by_id.values(), key=lambda entry: entry.id))

    def __len__(self) -> int:
        return len(self._by_id)

    def of(self, row_id: str) -> Review | None:
        """What was decided about a content, or None."""
        return self._by_id.get(row_id)

    def accepted(self, row_id: str, check: str) -> bool:
        """Whether a content is to come in although this check finds it wrong."""
        entry = self._by_id.get(row_id)
        return entry is not None and entry.verdict == "accept" and check in entry.checks

    def rejected(self, row_id: str) -> bool:
        """Whether a content is to be left out, whatever any check finds."""
        entry = self._by_id.get(row_id)
        return entry is not None and entry.verdict == "reject"

    def add(self, entry: Review) -> None:
        """Take a decision in. Two acceptances of one content hold for the checks of both; else the later one counts."""
        known = self._by_id.get(entry.id)
        if known is not None and known.verdict == entry.verdict == "accept":
            why = known.why if entry.why == known.why else f"{known.why}; {entry.why}"
            checks = tuple(dict.fromkeys((*known.checks, *entry.checks)))
            entry = replace(entry, why=why, checks=checks)
        self._by_id[entry.id] = entry

    def remove(self, row_id: str) -> None:
        """Forget a decision; KeyError if there is none."""
        del self._by_id[row_id]
