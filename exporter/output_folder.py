"""Place and names of a bundle, known before anything slow is imported or read."""

from __future__ import annotations

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from exporter.errors import ExportError
from offramp.bundle.values import Name, Version
from offramp.writing import check_folder


def check_place(folder: Path) -> None:
    """Check that a bundle can be written here. Nothing is written.

    Raises:
        ExportError: The path exists already.
        UnwritableFileError: The folder cannot be made.
    """
    if folder.exists() or folder.is_symlink():
        raise ExportError(f"--out: {folder} exists; choose another folder or remove it first")
    check_folder(folder, "--out")


def check_name(name: str | None, version: str | None) -> None:
    """Check the name and version of a model. `None`: a default, which is valid.

    Raises:
        ExportError: One of them is not valid.
    """
    for option, kind, given in (("name", Name, name), ("version", Version, version)):
        try:
            TypeAdapter(kind).validate_python("default" if given is None else given)
        except ValidationError as error:
            text = error.errors(include_url=False)[0]["msg"]
            raise ExportError(f"--{option}: {text}") from error


def data_name(source: str | Path) -> str:
    """Return the default name of a data set in a manifest: that of its file or folder.

    Args:
        source: Path, which can be `.`, or name on a hub.
    """
    return Path(source).absolute().name


def check_file(path: Path, option: str, kind: str) -> None:
    """Check that a file exists. Its content is checked when it is read.

    Raises:
        ExportError: It does not exist, or is a folder.
    """
    if not path.is_file():
        raise ExportError(f"{option}: {path} is not a file; give {kind}")
