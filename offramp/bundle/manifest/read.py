"""Read `manifest.json` of a bundle."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from offramp.bundle.errors import BundleError
from offramp.bundle.files import read_regular_file
from offramp.bundle.manifest.manifest import NEW_FORMAT, Manifest, format_for

MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 4 << 20


def read_manifest(folder: Path, *, promises: bool = True) -> Manifest:
    """Read and check `manifest.json` of a bundle.

    Args:
        folder: The bundle.
        promises: False to leave its promises out, which are then not checked.

    Raises:
        BundleError: The file is missing, not a regular file, too large, or not a manifest of this
            format.
    """
    path = folder / MANIFEST
    try:
        text = read_regular_file(path, MAX_MANIFEST_BYTES + 1)
        if len(text) > MAX_MANIFEST_BYTES:
            raise BundleError(path, f"larger than {MAX_MANIFEST_BYTES} bytes; not a manifest")
        return Manifest.model_validate_json(text if promises else _without_promises(text))
    except OSError as error:
        remedy = "a bundle is a folder that `offramp export` writes"
        raise BundleError(path, f"cannot be read ({error.strerror}); {remedy}") from error
    except ValidationError as error:
        raise BundleError(path, f"{_first_of(error)}; export the bundle again") from error


def _without_promises(text: bytes) -> bytes:
    """Return the text of a manifest without its promises. Other texts are returned as they are."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if isinstance(content, dict) and content.pop("promises", None) is not None:
        if content.get("format") == NEW_FORMAT:  # another one is refused
            content["format"] = format_for(content)
        return json.dumps(content).encode()
    return text


def _first_of(error: ValidationError) -> str:
    """Describe the first thing that is wrong, and the number of others."""
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"])) or "manifest"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{where}: {first['msg']}{more}"
