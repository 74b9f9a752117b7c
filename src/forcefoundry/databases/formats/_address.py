"""Addresses of databases that a server keeps: shown without their passwords, wherever they are shown."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from urllib.parse import unquote

# A scheme has two letters or more, so a Windows drive is none. A Path has merged the two slashes already.
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):/{1,2}(?!/)")
# Up to the last @, as somebody may have written one, or a slash, into the password as it is: rather too much than it.
_PASSWORD = re.compile(r"(?<=:).*(?=@)|(?<=[?&]password=)[^&#]*|(?<=[?&]sslpassword=)[^&#]*")


@dataclass(frozen=True)
class Address:
    """Where a server keeps a database. As text it hides the password; `full` is what a client connects with."""

    full: str = field(repr=False)

    def __str__(self) -> str:
        scheme, rest = self.full.split("://", 1)
        return f"{scheme}://{_PASSWORD.sub('***', rest)}"

    def __repr__(self) -> str:
        return f"Address({str(self)!r})"

    def __truediv__(self, name: object) -> NoReturn:
        raise ValueError(
            f"database.files names {name}, but database.path is the address {self}, which holds no files. Set "
            "database.files=null."
        )

    def hidden_in(self, text: str) -> str:
        """`text` in one line, without this address's passwords, as they stand there and as they are meant."""
        for secret in _PASSWORD.findall(self.full.split("://", 1)[1]):
            for form in filter(None, (secret, unquote(secret))):
                text = text.replace(form, "***")
        return " ".join(text.split())


def place(path: Path | Address | str) -> Path | Address:
    """What `database.path` names: an address such as postgresql://user@host:5432/name, or a file or folder."""
    if isinstance(path, Address):
        return path
    scheme = _SCHEME.match(str(path))
    return Path(path) if scheme is None else Address(f"{scheme[1]}://{str(path)[scheme.end() :]}")
