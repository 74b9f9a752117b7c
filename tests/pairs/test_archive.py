"""Archives and manifests: what their lists say must be what the shards say themselves."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from forcefoundry.databases.keys import keys_of
from forcefoundry.pairs.store.archive import restore_archive, write_archive
from forcefoundry.pairs.store.view import read_manifest, write_view
from tests.builders import database
from tests.pairs.store_room import CUTOFF, filled, shards_in, store_at


def test_an_archive_or_a_manifest_that_was_changed_by_hand_is_refused(tmp_path: Path) -> None:
    """Another cutoff beside the same shards would make wrong pairs right in the eyes of the store."""
    base = database(5)
    store = store_at(tmp_path / "store")
    filled(base, store)
    keys = keys_of(base.columns)
    write_view(store, keys, tmp_path / "view")
    with pytest.raises(ValueError, match=r"does not hold pairs within 6\.0 Å, as the list beside it says"):
        write_archive(store.shards_of(keys), 6.0, tmp_path / "archive")
    write_archive(store.shards_of(keys), CUTOFF, tmp_path / "archive")
    place = tmp_path / "archive" / "archive.json"
    place.write_text(place.read_text().replace(f'"cutoff": {CUTOFF}', '"cutoff": 7.0'))
    with pytest.raises(ValueError, match=r"does not hold pairs within 7\.0 Å"):
        restore_archive(tmp_path / "other", tmp_path / "archive")
    assert not shards_in(tmp_path / "other")


@pytest.mark.parametrize("text", ["[]", "nope", "{}", '{"format": 3, "contract": 1, "cutoff": 3.2}'])
def test_a_list_of_shards_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    for name in ("manifest.json", "archive.json"):
        (tmp_path / name).write_text(text)
        read = read_manifest if name == "manifest.json" else partial(restore_archive, tmp_path / "store")
        with pytest.raises(ValueError, match=f"{name} is no list of shards that can be read"):
            read(tmp_path)
