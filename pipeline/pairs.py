"""`python -m pipeline pairs WHAT`: looking after the pair cache of this machine.

The store knows its shards and nothing of git or DVC; who needs which shard, and where else its bytes may be, is found
out by `pipeline.references`.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import references
from pipeline.references import VIEW
from pipeline.steps.workspace import store_root

if TYPE_CHECKING:
    from forcefoundry.pairs import PairStore
    from forcefoundry.pairs.store.verifying import Damage

WHAT = {
    "verify": "read every shard and compare it with its name; exit code 1 if one is damaged",
    "stats": "say how much is in the cache",
    "repair": "put damaged shards right: from a copy, or by computing their pairs again",
    "gc": "remove shards that no workspace and no kept commit refers to",
    "archive": "write this workspace's shards compressed into a folder, or read them back",
}


def add_arguments(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """What may follow `python -m pipeline pairs`."""
    verbs = parser.add_subparsers(dest="what", required=True, metavar="|".join(WHAT))
    made = {what: verbs.add_parser(what, help=told, description=told) for what, told in WHAT.items()}
    made["gc"].add_argument("--dry-run", action="store_true", help="only say what would be removed")
    made["gc"].add_argument("--old-formats", action="store_true", help="also remove folders of other formats")
    made["gc"].add_argument(
        "--force", action="store_true", help="also what is younger than a day or may be referred to unseen"
    )
    made["archive"].add_argument("folder", metavar="FOLDER")
    made["archive"].add_argument("--restore", action="store_true", help="put FOLDER's shards into the cache")
    return parser


def do(given: argparse.Namespace) -> int:
    """Do what was asked for and give the exit code."""
    if given.what == "verify":
        return verify()
    if given.what == "stats":
        return stats()
    if given.what == "repair":
        return repair()
    if given.what == "gc":
        return gc(given.dry_run, given.old_formats, given.force)
    return restore(Path(given.folder)) if given.restore else archive(Path(given.folder))


def verify() -> int:
    """Hash every shard of the cache and every copy that a workspace has; 1 if one is damaged."""
    found = _look()
    for damage in found.all_damages():
        print(f"damaged: {damage.path}: {damage.reason}")
    print(found.summary())
    if found.all_damages():
        print("`python -m pipeline pairs repair` puts right what can be put right")
    return 1 if found.all_damages() else 0


def repair() -> int:
    """Put right what is damaged, in the cache first and then in the workspaces."""
    from forcefoundry.pairs.store.mending import repair as mend
    from forcefoundry.pairs.store.verifying import verify_copies

    found = _look()
    if not found.all_damages():
        print(found.summary())
        return 0
    for store, damages in found.damages:
        for mended in mend(store, damages, lambda name: found.elsewhere.get(name, []), references.structures):
            print(f"{'put right' if mended.right else 'set aside'}: {mended.path}: {mended.how}")
    # Looked at again: where a shard was set aside, the links to it still have its bytes.
    for damage in verify_copies(found.elsewhere, references.shards_here().values()):
        _mend_copy(damage, found.elsewhere)
    return 0


def stats() -> int:
    """Say how much there is within each cutoff, which workspaces use it, and what is of older formats."""
    from forcefoundry.pairs.store.folders import old_formats
    from forcefoundry.pairs.store.stats import stats as counted
    from forcefoundry.pairs.store.store import stores_below
    from forcefoundry.pairs.store.workspaces import registered

    for root in references.roots():
        print(f"store       {root}")
        for store in stores_below(root):
            one = counted(store)
            print(
                f"  {one.cutoff:g} Å".ljust(12)
                + f"{one.structures} structures, {one.pairs} pairs, {in_bytes(one.n_bytes)} in {one.shards} shards "
                f"({one.small} small), {one.bytes_a_pair:.2f} B/pair"
            )
        for workspace in registered(root):
            gone = "" if workspace.folder.is_dir() else " (gone)"
            print(f"workspace   {workspace.folder}{gone}")
        for name in old_formats(root):
            print(f"old format  {root / name} (`python -m pipeline pairs gc --old-formats` removes it)")
    return 0


def gc(dry_run: bool, formats: bool, force: bool) -> int:
    """Remove what nobody refers to; 1 if shards had to be kept since it cannot be known who refers to them."""
    return max(_gc(root, dry_run, formats, force) for root in references.roots())


def _gc(root: Path, dry_run: bool, formats: bool, force: bool) -> int:
    from forcefoundry.pairs.store.cleaning import YOUNG, remove, unused

    kept = references.kept(root)
    for gone in [*kept.gone, *(kept.away if force else [])]:
        print(f"workspace {gone.folder} is gone and {'would be' if dry_run else 'is'} forgotten")
        if not dry_run:
            gone.note.unlink(missing_ok=True)
    for told in kept.unknown:
        print(f"{'passed over' if force else 'not known'}: {told}")
    unsure = bool(kept.unknown) and not force
    if unsure:
        print(f"every shard of {root} is kept, for one may be referred to there: do what is said above, or add --force")
    found = list(unused(root, kept.names, 0.0 if force else YOUNG, formats))
    found = [one for one in found if not (unsure and one.what == "shard")]
    for one in found:
        print(f"{'would go' if dry_run else 'removed'}: {one.what} {one.path} ({in_bytes(one.n_bytes)})")
    linked = sum(one.n_bytes for one in found if one.linked)
    freed, failed = (sum(one.n_bytes for one in found) - linked, []) if dry_run else remove(found)
    for told in failed:
        print(told)
    would = "would be " if dry_run else ""
    beside = f"; {in_bytes(linked)} stay on disk under other names (DVC's cache, a workspace)" if linked else ""
    print(f"{in_bytes(freed)} {would}freed in {root}; {len(kept.names)} shards are referred to{beside}")
    return 1 if unsure or failed else 0


def archive(folder: Path) -> int:
    """Write this workspace's shards compressed into a folder."""
    from forcefoundry.pairs.store.archive import write_archive
    from forcefoundry.pairs.store.view import read_manifest

    manifest = read_manifest(VIEW)
    written = write_archive([VIEW / one["name"] for one in manifest["shards"]], manifest["cutoff"], folder)
    print(f"{written.shards} shards, {in_bytes(written.raw_bytes)}, are {in_bytes(written.n_bytes)} in {folder}")
    return 0


def restore(folder: Path) -> int:
    """Put the shards of an archive into the cache, uncompressed."""
    from forcefoundry.pairs.store.archive import restore_archive

    store, held = restore_archive(store_root(), folder)
    print(f"{held.shards} shards, {in_bytes(held.raw_bytes)}, are in {store.folder}")
    return 0


def in_bytes(count: int) -> str:
    """A number of bytes as people read it: 9.1 MB."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"


@dataclass
class _Looked:
    """What hashing everything gave.

    damages: by store. elsewhere: files outside the stores that should hold the bytes of shards, by name. copies: the
    damaged ones of these. right, total, n_bytes: shards of the stores, and the bytes of all that are right.
    """

    damages: list[tuple[PairStore, list[Damage]]] = field(default_factory=list)
    elsewhere: dict[str, list[Path]] = field(default_factory=dict)
    copies: list[Damage] = field(default_factory=list)
    right: int = 0
    total: int = 0
    n_bytes: int = 0
    n_copies: int = 0

    def all_damages(self) -> list[Damage]:
        return [*(damage for _, damages in self.damages for damage in damages), *self.copies]

    def summary(self) -> str:
        text = f"{self.right} of {self.total} shards verified, {in_bytes(self.n_bytes)}"
        if self.n_copies:
            text += f"; and {self.n_copies - len(self.copies)} of {self.n_copies} copies in workspaces and DVC's cache"
        return text


def _look() -> _Looked:
    from tqdm import tqdm

    from forcefoundry.pairs.store.verifying import verify as hashed
    from forcefoundry.pairs.store.verifying import verify_copies

    found = _Looked(elsewhere=references.elsewhere())
    sizes = {path: path.stat().st_size for path in references.shards_here().values()}
    with tqdm(total=sum(sizes.values()), desc="shards", unit="B", unit_scale=True, disable=None, leave=False) as bar:
        for store in references.stores():
            damages = hashed(store, lambda path: bar.update(sizes.get(path, 0)))
            if damages:
                found.damages.append((store, damages))
        copies: list[Path] = []
        found.copies = verify_copies(found.elsewhere, sizes, copies.append)
    damaged = {damage.path for _, damages in found.damages for damage in damages}
    found.right, found.total = len(sizes) - len(damaged), len(sizes)
    found.n_bytes = sum(size for path, size in sizes.items() if path not in damaged)
    found.n_copies = len(copies)
    return found


def _mend_copy(damage: Damage, elsewhere: dict[str, list[Path]]) -> None:
    """Put a copy outside the store right, or remove it: DVC fetches it again, or the step computes it again."""
    from forcefoundry.pairs.store.mending import put_right
    from forcefoundry.pairs.store.verifying import reason_of

    name = next(name for name, paths in elsewhere.items() if damage.path in paths)
    here = references.shards_here()
    for place in (*(here[one] for one in here if one[1] == name), *elsewhere[name]):
        if place.is_file() and reason_of(place, name) is None:
            mended = put_right(damage.path, place, f"its bytes were taken from {place}")
            print(f"put right: {mended.path}: {mended.how}")
            return
    for path in elsewhere[name]:
        if path.is_file() and path.samefile(damage.path) and path != damage.path:
            path.unlink()
    damage.path.unlink()
    print(f"removed: {damage.path}: nobody has its bytes. `dvc fetch` may bring them, else run precompute_pairs there")
