"""Splits: what is added moves nothing, groups stay whole, near duplicates stay together, a frozen split stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from forcefoundry.databases.splitting import SPLITS, assign, split_digest


def keys(n: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (n, 32), dtype=np.uint8)


def config(**split: Any) -> dict[str, Any]:
    group = split.pop("group", None)
    return {"files": None, "group": group, "split": {"seed": 0, "valid": 0.2, "test": 0.2} | split}


def test_added_data_move_nothing() -> None:
    whole, none = keys(400), [None] * 400
    near = np.array([[at, at - 7] for at in range(50, 400, 11)])
    for n in (60, 100, 399):
        few = assign(whole[:n], none[:n], none[:n], config(), near[near[:, 0] < n]).codes
        np.testing.assert_array_equal(few, assign(whole, none, none, config(), near).codes[:n])


def test_groups_are_kept_whole() -> None:
    groups = [f"molecule {at % 40}" for at in range(400)]
    codes = assign(keys(400), groups, [None] * 400, config(by="group", group="name")).codes
    assert all(len(set(codes[at::40].tolist())) == 1 for at in range(40))
    assert set(codes.tolist()) == {0, 1, 2}


def test_near_duplicates_follow_the_first_and_bridges_are_set_apart() -> None:
    whole, none = keys(100), [None] * 100
    alone = assign(whole, none, none, config()).codes
    train, test = int(np.flatnonzero(alone[:98] == 0)[0]), int(np.flatnonzero(alone[:98] == 2)[0])
    found = assign(whole, none, none, config(), np.array([[98, test], [99, test], [99, train]]))
    assert found.codes[98] == 2
    assert found.codes[99] == -1
    np.testing.assert_array_equal(found.bridging, [99])
    np.testing.assert_array_equal(found.codes[:98], alone[:98])


def test_a_frozen_split_that_changed_is_refused_with_both_hashes() -> None:
    whole, none = keys(100), [None] * 100
    digest = assign(whole, none, none, config()).report["digests"]["test"]
    kept = config(frozen={"test": digest})
    backwards = assign(whole[::-1], none, none, kept)
    assert split_digest(whole[::-1][backwards.codes == SPLITS.index("test")]) == digest
    more = np.concatenate([whole, keys(100, 1)])
    new = assign(more, none * 2, none * 2, config()).report["digests"]["test"]
    with pytest.raises(ValueError, match=f"frozen split 'test' changed.*{new}, expected {digest}"):
        assign(more, none * 2, none * 2, kept)


def test_a_column_gives_official_splits() -> None:
    given = ["test" if at % 3 == 0 else "train" for at in range(90)]
    codes = assign(keys(90), [None] * 90, given, config(column="part", test=0.0)).codes
    np.testing.assert_array_equal(codes == 2, np.arange(90) % 3 == 0)
    assert (codes == 1).any()


@pytest.mark.parametrize(
    ("changes", "given", "told"),
    [
        ({"by": "groups"}, None, "expected content or group"),
        ({"by": "group"}, None, "database.group is null"),
        ({"column": "part"}, "test", "Set database.split.test=0"),
        ({"column": "part"}, "tset", "Did you mean test"),
        ({"frozen": {"test": "abc"}}, None, "expected a sha256"),
        ({"frozen": {"tset": None}}, None, "Did you mean test"),
    ],
)
def test_what_cannot_be_is_told(changes: dict[str, Any], given: str | None, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        assign(keys(20), [None] * 20, [given] * 20, config(**changes))
