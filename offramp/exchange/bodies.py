"""Bodies of requests with images."""

from __future__ import annotations

from typing import Any

import numpy as np

from offramp.inputs.images import Pixels, png_of

PIXELS = "application/vnd.offramp.uint8"
FILE = "application/octet-stream"
Sent = bytes | Pixels


def size_of(sent: Sent) -> int:
    """Return the number of bytes of an image."""
    return sent.nbytes if isinstance(sent, np.ndarray) else len(sent)


def body_of(images: list[Sent]) -> dict[str, Any]:
    """Return the body of a request as options of `httpx.Client.build_request`."""
    if all(isinstance(each, np.ndarray) for each in images):
        content = b"".join(np.ascontiguousarray(each).tobytes() for each in images)
        return {"content": content, "headers": {"Content-Type": PIXELS}}
    files = [each if isinstance(each, bytes) else png_of(each) for each in images]
    if len(files) == 1:
        return {"content": files[0], "headers": {"Content-Type": FILE}}
    return {"files": [("images", (str(i), file, FILE)) for i, file in enumerate(files, 1)]}
