"""The server of a folder of models, and what is sent to it."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.serving.servers.processes import PORT, Server
from offramp.bundle.manifest import read_manifest

KEY = "the admin key of a benchmark"
IMAGES = 64


def images_of(bundle: Path) -> list[bytes]:
    """Return JPEGs of noise, of the size that the bundle takes."""
    size, rng = read_manifest(bundle).input, np.random.default_rng(0)
    files = []
    for _ in range(IMAGES):
        coarse = rng.integers(0, 256, (4, 4, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(coarse).resize((size.width, size.height)).save(file, "JPEG")
        files.append(file.getvalue())
    return files


def server_of(models: Path, key: Path, path: str, *options: str) -> Server:
    """Return the server of a folder of models, which keeps the version before each change.

    Args:
        models: The folder.
        key: File for the admin key, which is written.
        path: Path that answers once the server is ready.
        options: Further options.
    """
    key.write_text(KEY, encoding="ascii")
    command = [sys.executable, "-m", "serving", "--models", str(models), "--port", PORT]
    command += ["--admin-key-file", str(key), "--keep-previous", "--log-level", "warning"]
    return Server("offramp", [*command, *options], {"default": path})
