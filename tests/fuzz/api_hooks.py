"""Hooks of schemathesis: requests that are valid by the schema get a content that is possible.

A schema cannot say that bytes are an image, that lengths are multiples, or that two parameters
exclude each other. Requests that are invalid by the schema are sent as they are generated.
"""

from __future__ import annotations

import base64
import os
import zlib
from pathlib import Path
from typing import Any

import schemathesis

IMAGES = [path.read_bytes() for path in sorted(Path(os.environ["OFFRAMP_FUZZ_IMAGES"]).iterdir())]
BUDGETS = ("low", "medium", "full", "40%", "100%", "0.7M", "1.5g")
PROMISES = ("99%", "95%", "90.5%", "harm:2%", "harm:20%")
NAME, VERSION = "testnet", "1"  # of the test's bundle
PIXELS = "application/vnd.offramp.uint8"
PIXEL_BYTES = 32 * 32 * 3  # of one image of the test's bundle
LONG_MS = 60_000  # a deadline that is always kept


@schemathesis.hook
def before_call(_: object, case: Any, options: dict[str, Any]) -> None:
    """Make a valid request possible for the model of the test's bundle.

    Bytes are given as `options` of the call, because schemathesis takes a changed body of bytes for
    an invalid one.
    """
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if case.query:
        case.query = _possible(dict(case.query))
    if case.path_parameters:
        case.path_parameters = {"name": NAME}
    if case.path.endswith("/classify/pixels") or case.media_type == PIXELS:
        options["data"] = bytes(PIXEL_BYTES * max(1, len(_data(case.body)) // PIXEL_BYTES))
    elif isinstance(case.body, dict):
        images = [_image(each, number) for number, each in enumerate(case.body["images"])]
        if case.media_type == "application/json":
            case.body = {**case.body, "images": [_text(image) for image in images]}
        else:
            options["files"] = [("images", ("a file", image)) for image in images]
    elif case.media_type:
        options["data"] = _image(case.body, 0)


def _possible(query: dict[str, Any]) -> dict[str, Any]:
    if "budget" in query:
        query["budget"] = BUDGETS[_number(query["budget"]) % len(BUDGETS)]
        query.pop("min_confidence", None)
    if "promise" in query:
        query["promise"] = PROMISES[_number(query["promise"]) % len(PROMISES)]
        query.pop("min_confidence", None)
        query.pop("budget", None)  # it can be too low for the promise
    if "version" in query:
        query["version"] = VERSION
    if "deadline_ms" in query:
        query["deadline_ms"] = LONG_MS + _number(query["deadline_ms"]) % LONG_MS
    return query


def _number(value: object) -> int:
    return zlib.crc32(repr(value).encode())


def _data(value: object) -> bytes:
    data = getattr(value, "data", value)
    return data if isinstance(data, bytes) else str(data).encode()


def _image(value: object, position: int) -> bytes:
    return IMAGES[(zlib.crc32(_data(value)) + position) % len(IMAGES)]


def _text(image: bytes) -> str:
    """Return base64, in one of several forms."""
    text = base64.b64encode(image).decode()
    forms = (text, base64.encodebytes(image).decode(), f"data:image/png;base64,{text}")
    return forms[zlib.crc32(image) % len(forms)]
