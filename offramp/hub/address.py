"""The address of a bundle on the hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from offramp.errors import OfframpError

SCHEME = "hf:"
# As the hub names repositories. A revision is a branch, a tag or a commit.
_FORM = re.compile(r"([\w.-]{1,96}/[\w.-]{1,96})(?:@([\w./-]{1,256}))?", re.ASCII)


class HubError(OfframpError):
    """A bundle on the hub cannot be reached, read or written."""


class Address(NamedTuple):
    """The address of a bundle.

    Attributes:
        repository: `org/name`.
        revision: Branch, tag or commit.
    """

    repository: str
    revision: str = "main"

    def __str__(self) -> str:
        """Return the address as it is written."""
        end = "" if self.revision == "main" else f"@{self.revision}"
        return f"{SCHEME}//{self.repository}{end}"


def address_in(place: str | Path) -> Address | None:
    """Return the address that a place names. `None`: it is a folder.

    Args:
        place: A folder, or `hf://org/name@revision`. A `Path` of it has one slash.

    Raises:
        HubError: It begins as an address, and is not one.
    """
    scheme, colon, rest = str(place).partition(":")
    if scheme + colon != SCHEME:
        return None
    match = _FORM.fullmatch(rest.lstrip("/"))
    if match is None or ".." in rest:
        raise HubError(f"{place}: not an address on the hub, as hf://org/name or hf://org/name@v1")
    return Address(match[1], match[2] or "main")
