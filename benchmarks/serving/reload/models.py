"""A folder with many versions of one bundle, each with labels that name it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

NAME = "model"


class Versions:
    """Writes versions of a bundle into a folder of models.

    Args:
        folder: The folder.
        bundle: The bundle to copy.
        name: Name of the model.
    """

    def __init__(self, folder: Path, bundle: Path, name: str = NAME) -> None:
        self._folder = folder / name
        self._name = name
        self._bundle = bundle
        self._document = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))

    def write(self, version: int, *, corrupt: bool = False) -> None:
        """Write a version. Its manifest comes last. A corrupt one has a graph of other bytes."""
        folder = self._folder / str(version)
        folder.mkdir(parents=True)
        for stage in self._document["stages"]:
            shutil.copyfile(self._bundle / stage["file"], folder / stage["file"])
        if corrupt:
            with (folder / self._document["stages"][-1]["file"]).open("ab") as graph:
                graph.write(b"?")
        labels = [f"{self._name}@{version}:{label}" for label in self._document["labels"]]
        partial = folder / "manifest.json.partial"
        partial.write_text(json.dumps(self._document | {"labels": labels}), encoding="utf-8")
        partial.rename(folder / "manifest.json")

    def remove(self, version: int) -> None:
        """Remove a version."""
        shutil.rmtree(self._folder / str(version))
