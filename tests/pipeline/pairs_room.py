"""A workspace that holds pairs, for tests of the verbs that look after them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from forcefoundry.databases import Database
from forcefoundry.databases.keys import keys_of
from forcefoundry.pairs.store.folders import register_workspace
from forcefoundry.pairs.store.view import write_view
from pipeline import __main__ as door
from pipeline.references import VIEW
from tests.pairs.store_room import filled, store_at


@dataclass
class Room:
    """A workspace with columns, a view, DVC's cache and a git repository, all made without DVC."""

    folder: Path
    store: Path

    def use(self, base: Database) -> None:
        """As the steps load and precompute_pairs and `dvc commit` leave it."""
        base.save(self.folder / "artifacts/load/columns")
        filled(base, store_at(self.store))
        write_view(store_at(self.store), keys_of(base.columns), self.folder / VIEW)
        register_workspace(self.store, self.folder)
        entries = [{"md5": self.cached(path), "relpath": path.name} for path in sorted((self.folder / VIEW).iterdir())]
        listing = self.folder / "listing"
        listing.unlink(missing_ok=True)  # its name in the cache keeps what was written before
        listing.write_text(json.dumps(entries))
        out = {"path": str(VIEW), "md5": self.cached(listing, ".dir")}
        lock = {"stages": {"precompute_pairs": {"cmd": "x", "outs": [out]}}}
        (self.folder / "dvc.lock").write_text(yaml.safe_dump(lock))

    def cached(self, path: Path, suffix: str = "") -> str:
        """Link a file into DVC's cache; gives its md5."""
        md5 = hashlib.md5(path.read_bytes()).hexdigest() + suffix
        place = self.folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, place)
        return md5

    def commit(self, *names: str) -> None:
        """Commit dvc.lock."""
        identity = ("-c", "user.name=tester", "-c", "user.email=tester@example.org", "-c", "commit.gpgsign=false")
        commands = [["init", "-q"], ["add", "dvc.lock"], [*identity, "commit", "-q", "-m", "x"]]
        for words in [*commands, *(["tag", name] for name in names)]:
            subprocess.run(["git", *words], cwd=self.folder, check=True)

    def names(self) -> set[str]:
        return {path.name for path in (self.folder / VIEW).glob("*.arrow")}


def typed(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    """What a verb prints."""
    capsys.readouterr()
    got = door.main(["pairs", *words])
    said = capsys.readouterr()
    assert got == code, said
    return said.out + said.err


def damage(path: Path, content: bytes | None = None) -> bytes:
    """Change a byte of a read-only file in its place, or all of it; gives what was there."""
    right = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(right[:500] + bytes([right[500] ^ 8]) + right[501:] if content is None else content)
    path.chmod(0o444)
    return right
