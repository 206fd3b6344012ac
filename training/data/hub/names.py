"""Names of data sets on the Hugging Face hub, told from paths."""

from __future__ import annotations

import re
from pathlib import Path

from offramp.data.records import printable
from training.errors import DataError

NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
FILES = re.compile(r"\.(csv|tsv|jsonl?|ndjson|parquet|zip|tar|gz|tgz|7z|rar|png|jpe?g)")


def hub_name(source: str) -> str | None:
    """Return the sentence that says that a source is taken for a name on the hub.

    Returns:
        `None` if the source is a file or folder.

    Raises:
        DataError: There is no such file or folder, and it cannot be a name on the hub.
    """
    path = Path(source)
    if path.exists() or path.is_symlink():
        return None
    if not NAME.fullmatch(source) or FILES.fullmatch(path.suffix.lower()):
        raise DataError(f"data: there is no file or folder {printable(source)}")
    folder, _, name = source.partition("/")
    if name and Path(folder).is_dir():
        raise DataError(f"data: there is no file or folder {source}, only a folder {folder}")
    return (
        f"data: there is no file or folder {source}, so this is taken as a name on the Hugging "
        "Face hub"
    )
