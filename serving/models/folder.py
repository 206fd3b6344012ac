"""A folder of models: `NAME/VERSION/manifest.json`, where a version is a positive integer.

A version exists once its manifest is there, so copy the graphs first and rename the manifest into
place last. The folder is read only when a load is asked for. Nothing polls it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from offramp.bundle.errors import BundleError
from offramp.bundle.files import read_regular_file
from offramp.bundle.manifest import MANIFEST, MAX_MANIFEST_BYTES
from serving.errors import UnknownModelError
from serving.models.catalog import Entry

NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")  # as the name in a manifest
VERSION = re.compile(r"[1-9][0-9]{0,17}")


class ModelFolder:
    """A folder of models.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        """Return the names of all models that have a version, sorted.

        Raises:
            OSError: The folder, or that of a model, cannot be read.
        """
        found = [each.name for each in self.path.iterdir() if NAME.fullmatch(each.name)]
        return sorted(name for name in found if self._versions(name))

    def versions(self, name: str) -> list[str]:
        """Return the versions of a model, the newest first. Empty if there is no such model."""
        try:
            return self._versions(name) if NAME.fullmatch(name) else []
        except OSError:
            return []

    def _versions(self, name: str) -> list[str]:
        try:
            found = [each.name for each in (self.path / name).iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        there = [v for v in found if VERSION.fullmatch(v) and self.of(name, v).is_file()]
        return sorted(there, key=int, reverse=True)

    def not_served(self) -> Iterator[tuple[Path, str]]:
        """Yield each folder of a bundle whose place is not that of a version, with the reason.

        Raises:
            OSError: The folder cannot be read.
        """
        for manifest in sorted(self.path.glob(f"[!.]*/{MANIFEST}")):
            yield manifest.parent, f"a version is in NAME/VERSION/{MANIFEST}"
        for manifest in sorted(self.path.glob(f"[!.]*/[!.]*/{MANIFEST}")):
            folder = manifest.parent
            if not NAME.fullmatch(folder.parent.name):
                yield folder, f"the name of a model has the form {NAME.pattern}"
            elif not VERSION.fullmatch(folder.name):
                yield folder, "a version is a positive integer without zeros before it"

    def newest(self, name: str) -> str:
        """Return the newest version of a model.

        Raises:
            UnknownModelError: The folder has no version of it.
        """
        versions = self.versions(name)
        if not versions:
            raise UnknownModelError(f"the folder of models has no version of {name[:64]!r}")
        return versions[0]

    def of(self, name: str, version: str) -> Path:
        """Return the manifest of a version."""
        return self.path / name / version / MANIFEST

    def unchanged(self, entry: Entry) -> Path:
        """Return the folder of a version. Its manifest must be the one that was planned.

        Raises:
            UnknownModelError: There is no such version.
            BundleError: The manifest cannot be read, or changed.
        """
        path = self.of(entry.name, entry.version)
        if self.digest(entry.name, entry.version) != entry.digest:
            raise BundleError(path, "changed while it was being loaded; load it again")
        return path.parent

    def digest(self, name: str, version: str) -> str:
        """Return the sha256 of a manifest, which has those of all graphs.

        Raises:
            UnknownModelError: There is no such version.
            BundleError: The manifest cannot be read.
        """
        if version not in self.versions(name):
            text = f"the folder of models has no version {version[:64]!r} of {name[:64]!r}"
            raise UnknownModelError(text)
        path = self.of(name, version)
        try:
            return hashlib.sha256(read_regular_file(path, MAX_MANIFEST_BYTES + 1)).hexdigest()
        except OSError as error:
            raise BundleError(path, f"cannot be read ({error.strerror})") from error
