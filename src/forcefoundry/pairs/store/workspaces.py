"""Which workspaces use a store: noted there by `folders.register_workspace`, so that cleaning asks what they need."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from pathlib import Path

WORKSPACES = "workspaces"


@dataclass(frozen=True)
class Workspace:
    """A workspace as it was noted. note: the file that says so. folder: the workspace. host: its machine's name."""

    note: Path
    folder: Path
    host: str

    @property
    def is_here(self) -> bool:
        """Whether it was noted on this machine, where a folder that cannot be seen is gone."""
        return self.host == socket.gethostname()


def registered(root: Path | str) -> list[Workspace]:
    """The workspaces that are noted, by folder; a note that cannot be read is a ValueError that names it."""
    found = []
    for note in sorted((Path(root) / WORKSPACES).glob("*.json")):
        try:
            said = json.loads(note.read_text(encoding="utf-8"))
            found.append(Workspace(note, Path(said["path"]), str(said.get("host", socket.gethostname()))))
        except FileNotFoundError:
            continue  # another process has just removed it
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(
                f"{note} cannot be read, so that the workspace that it names is not known. Remove it: the workspace is "
                "noted again when it runs precompute_pairs."
            ) from None
    return sorted(found, key=lambda workspace: workspace.folder)
