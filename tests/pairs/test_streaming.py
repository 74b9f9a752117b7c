"""The pairs of many structures take the memory of some, whatever their number."""

from __future__ import annotations

from pathlib import Path

from benchmarks import streaming


def test_memory_stays_where_it_is_however_many_structures_there_are(tmp_path: Path) -> None:
    """A million may take 500 MB above the interpreter; `python -m benchmarks.store` runs them, this a fiftieth."""
    found = streaming.measure(20_000, 6.0, tmp_path)
    assert found["pairs"] > 15_000_000
    # One shard and one piece take 140 MB; the full lists alone, as numbers, would take 700.
    assert found["above_imports_mb"] <= 250
    assert found["bytes_per_pair"] <= 2.3
