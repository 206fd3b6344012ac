"""The bodies of requests for inference, each with one image.

All bodies of a load have JSON of the same length before their binary data, because one header
states it for all requests.
"""

from __future__ import annotations

import base64
import io
import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LENGTH = "Inference-Header-Content-Length"  # bytes of the JSON before binary data
BYTES = "BYTES"
DTYPES = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
DIGITS = 10  # of the size of binary data
PICTURE_SIDE = 224  # pixels of a random picture
LEVELS = 256
Tensor = NDArray[Any]


def random_pixels(count: int, height: int, width: int, rng: np.random.Generator) -> list[bytes]:
    """Return images of random pixels, each uint8 [height, width, 3]."""
    return [rng.integers(0, LEVELS, (height, width, 3), np.uint8).tobytes() for _ in range(count)]


def random_pictures(count: int, rng: np.random.Generator) -> list[bytes]:
    """Return files of random pictures, in JPEG."""
    side = PICTURE_SIDE // 8
    found = []
    for _ in range(count):
        coarse = rng.integers(0, LEVELS, (side, side, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(coarse).resize((PICTURE_SIDE, PICTURE_SIDE)).save(file, "JPEG")
        found.append(file.getvalue())
    return found


def random_tensors(
    count: int, datatype: str, shape: Sequence[int], rng: np.random.Generator
) -> list[Tensor]:
    """Return random tensors: numbers in [0, 1) of a floating datatype, else 0 or 1."""
    kind = np.dtype(DTYPES[datatype])
    values = rng.random((count, *shape))
    return [*(values if kind.kind == "f" else values.round()).astype(kind)]


def binary_body(name: str, datatype: str, shape: Sequence[int], data: bytes) -> tuple[bytes, int]:
    """Return a request with one binary input, and the length of its JSON in bytes."""
    size = f"{len(data):{DIGITS}}"
    head = json.dumps({"name": name, "shape": [*shape], "datatype": datatype})
    text = f'{{"inputs":[{head[:-1]},"parameters":{{"binary_data_size":{size}}}}}]}}'
    return text.encode() + data, len(text)


def element(file: bytes) -> bytes:
    """Return the binary form of a tensor BYTES with one element."""
    return struct.pack("<I", len(file)) + file


def json_body(name: str, datatype: str, shape: Sequence[int], values: Tensor | bytes) -> bytes:
    """Return a request in JSON, with numbers, or the base64 of a file."""
    data = (
        [base64.b64encode(values).decode()]
        if isinstance(values, bytes)
        else np.ravel(values).tolist()
    )
    tensor = {"name": name, "shape": [*shape], "datatype": datatype, "data": data}
    return json.dumps({"inputs": [tensor]}).encode()
