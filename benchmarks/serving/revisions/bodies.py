"""Bodies of `POST /classify` in each content type, valid and malformed."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from benchmarks.serving.offline import pixels
from benchmarks.serving.revisions.files import readable_files, unreadable_files
from benchmarks.serving.revisions.request import Request, classify
from offramp.bundle.manifest import Manifest

JSON, PIXELS = "application/json", "application/vnd.offramp.uint8"
BOUNDARY = "b0undary"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
MOST_IMAGES = 16  # of one request, by the server's default
MOST_BYTES = 16 << 20  # of one body, by the server's default


def multipart(files: Sequence[bytes], *, name: str = "images", last: bool = True) -> bytes:
    """Return files as a multipart form, without its last boundary if `last` is False."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{i}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n".encode()
        + file
        + b"\r\n"
        for i, file in enumerate(files)
    ]
    return b"".join(parts) + (f"--{BOUNDARY}--\r\n".encode() if last else b"")


def json_base64(files: Sequence[bytes]) -> bytes:
    """Return files as JSON with base64."""
    return json.dumps({"images": [base64.b64encode(file).decode() for file in files]}).encode()


def raw_pixels(files: Sequence[bytes], manifest: Manifest) -> bytes:
    """Return the pixels of files, uint8 [N, H, W, 3] in C order, at the size of the manifest."""
    return pixels(files, manifest).tobytes()


def readable_bodies(files: Sequence[bytes], manifest: Manifest) -> list[Request]:
    """Return one request for each way to send an image."""
    jpeg, types = files[0], ("image/jpeg", "image/png", "application/octet-stream", "text/plain")
    made = [classify(f"JPEG as {content_type}", jpeg, content_type) for content_type in types]
    made += [classify("JPEG without a content type", jpeg, None)]
    made += [classify(name, file, "image/*") for name, file in readable_files(jpeg).items()]
    made += [
        classify("form of 16 images", multipart(files[:MOST_IMAGES]), FORM),
        classify("JSON of 16 images", json_base64(files[:MOST_IMAGES]), JSON),
        classify("pixels of 16 images", raw_pixels(files[:MOST_IMAGES], manifest), PIXELS),
        classify("form, another field", multipart(files[:2], name="photo"), FORM),
        classify("JSON with a charset", json_base64(files[:2]), "Application/JSON; charset=utf-8"),
        classify("form of all formats", multipart([*readable_files(jpeg).values()][-16:]), FORM),
    ]
    return [*made, replace(classify("JPEG in chunks", jpeg), chunked=True)]


def malformed_bodies(files: Sequence[bytes], manifest: Manifest) -> list[Request]:
    """Return requests with bodies that the server must refuse."""
    unreadable = unreadable_files(files[0])
    made = [classify(name, file) for name, file in unreadable.items()]
    made += [classify(f"JSON: {name}", body, JSON) for name, body in _malformed_json(files).items()]
    made += [classify(f"form: {name}", body, FORM) for name, body in _malformed_form(files).items()]
    made += [
        classify("form without a boundary", multipart(files[:1]), "multipart/form-data"),
        classify("form with another boundary", multipart(files[:1]), FORM + "x"),
        classify("form called multipart/mixed", multipart(files[:1]), "multipart/mixed"),
        classify("JPEG as JSON", files[0], JSON),
        classify("JPEG as a form", files[0], FORM),
        classify("JPEG as pixels", files[0], PIXELS),
        classify("JSON as JPEG", json_base64(files[:1])),
    ]
    image = raw_pixels(files[:1], manifest)
    for name, body in {
        "no bytes": b"",
        "a byte short": image[:-1],
        "a byte more": image + b"\0",
        "17 images": image * (MOST_IMAGES + 1),
    }.items():
        made.append(classify(f"pixels: {name}", body, PIXELS))
    return [*made, classify("too large body", files[0].ljust(MOST_BYTES + 1, b"\0"))]


def _malformed_json(files: Sequence[bytes]) -> Mapping[str, bytes]:
    return {
        "no bytes": b"",
        "text": b"hello",
        "broken off": json_base64(files[:1])[:-2],
        "a list": b"[]",
        "null": b"null",
        "no images": b'{"images": []}',
        "a text for the list": b'{"images": "AAAA"}',
        "a number": b'{"images": [1]}',
        "no base64": b'{"images": ["!!!"]}',
        "an empty image": b'{"images": [""]}',
        "another field": b'{"images": ["AAAA"], "budget": "low"}',
        "no field": b"{}",
        "no UTF-8": b'{"images": ["\xff"]}',
        "17 images": json_base64([files[0]] * (MOST_IMAGES + 1)),
        "second image unreadable": json_base64([files[0], b"?", files[1]]),
    }


def _malformed_form(files: Sequence[bytes]) -> Mapping[str, bytes]:
    option = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="budget"\r\n\r\nlow\r\n'
    return {
        "no bytes": b"",
        "no parts": multipart([]),
        "broken off": multipart(files[:2], last=False),
        "a field that is not a file": option.encode() + multipart(files[:1]),
        "17 images": multipart([files[0]] * (MOST_IMAGES + 1)),
        "empty file": multipart([files[0], b""]),
        "second image unreadable": multipart([files[0], b"?", files[1]]),
        "third image too large": multipart(
            [*files[:2], unreadable_files(files[0])["too large PNG"]]
        ),
    }
