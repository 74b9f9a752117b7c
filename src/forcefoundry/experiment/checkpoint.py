"""The state of an interrupted training run, whole or absent."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from forcefoundry.files import written_whole


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a state of tensors and plain values; a kill at any moment leaves this or the one before."""
    # Serialised in memory first: torch's own writer reports a full disk as a RuntimeError without a cause.
    content = io.BytesIO()
    torch.save(state, content)
    with written_whole(path) as draft:
        draft.write_bytes(content.getbuffer())


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Read a state, or None where there is none. Only tensors and plain values are loaded, never code."""
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state
