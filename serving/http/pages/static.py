"""Responses for pages and their files: a strict content security policy, and an ETag.

A page runs scripts and styles from its own server only, never inline. It asks no other
host, and no other page can frame it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import PurePath

from starlette.responses import Response

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
HEADERS: Mapping[str, str] = {
    "cache-control": "no-cache",  # kept, and compared by the ETag: the next version shows at once
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
}
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
FOLDERS = ("web", "models")
MAX_VALIDATORS = 64  # of one request, compared with the ETag


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file in memory.

    Attributes:
        content: Body of the response.
        media_type: Content type with the character set.
        etag: Strong validator: a hash of the content, equal in all workers.
    """

    content: bytes
    media_type: str
    etag: str = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha256(self.content).hexdigest()[:32]
        object.__setattr__(self, "etag", f'"{digest}"')

    def response(self, if_none_match: str) -> Response:
        """Return the file, or 304 without a body if the client has it already.

        Args:
            if_none_match: Header of this name, or an empty string.
        """
        headers = {**HEADERS, "etag": self.etag}
        if self._is_known(if_none_match):
            return Response(status_code=304, headers=headers)
        return Response(self.content, headers=headers, media_type=self.media_type)

    def _is_known(self, if_none_match: str) -> bool:
        known = [each.strip().removeprefix("W/") for each in if_none_match.split(",")]
        return self.etag in known[:MAX_VALIDATORS] or known == ["*"]


def load_files() -> dict[str, StaticFile]:
    """Read all files of `FOLDERS`, by name."""
    return {
        each.name: StaticFile(each.read_bytes(), TYPES[PurePath(each.name).suffix])
        for folder in FOLDERS
        for each in (files(__package__) / folder).iterdir()
    }
