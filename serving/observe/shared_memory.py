"""Memory that the workers of a server share, or that one process has to itself."""

from __future__ import annotations

import mmap
import os
from pathlib import Path


def mapped_memory(file: Path | None, size: int) -> memoryview[int]:
    """So many bytes of a file, zeros where nobody wrote; without a file, of this process alone."""
    if file is None or size == 0:
        return memoryview(bytearray(size))
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.ftruncate(descriptor, size)  # the first worker's; no change for others
        return memoryview(mmap.mmap(descriptor, size))
    finally:
        os.close(descriptor)
