"""Hostile bodies for the native API: JSON and forms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.serving.attacks.inference import Request

JSON = "application/json"
FORM = "multipart/form-data; boundary=B"
FILE = b'Content-Disposition: form-data; name="images"; filename="a"\r\n\r\n'
FIELD = b'Content-Disposition: form-data; name="a"\r\n\r\n'


@dataclass(frozen=True, slots=True)
class Attack:
    """A request.

    Attributes:
        kind: Content type.
        body: Function from a size in bytes to a body of about this size.
        request: A request of the inference protocol. `None`: of `POST /classify`.
    """

    kind: str
    body: Callable[[int], bytes]
    request: Request | None = None


def _list(item: bytes) -> Callable[[int], bytes]:
    return lambda size: b'{"images":[' + (item + b",") * (size // (len(item) + 1)) + item + b"]}"


def _text(piece: bytes) -> Callable[[int], bytes]:
    return lambda size: b'{"images":["' + piece * (size // len(piece)) + b'"]}'


def _parts(head: bytes) -> Callable[[int], bytes]:
    part = b"--B\r\n" + head + b"x\r\n"
    return lambda size: part * (size // len(part)) + b"--B--\r\n"


def _field(charset: str) -> Attack:
    return Attack(
        f"{FORM}; charset={charset}",
        lambda size: b"--B\r\n" + FIELD + b"a" * size + b"\r\n--B--\r\n",
    )


NATIVE: Mapping[str, Attack] = {
    "json: numbers": Attack(JSON, _list(b"1")),
    "json: empty strings": Attack(JSON, _list(b'""')),
    "json: empty objects": Attack(JSON, _list(b"{}")),
    "json: depth": Attack(JSON, lambda size: b"[" * size),
    "json: keys": Attack(
        JSON, lambda size: b"{" + b",".join(b'"%d":1' % i for i in range(size // 10)) + b"}"
    ),
    "json: escapes": Attack(JSON, _text(b"\\u0041")),
    "json: line ends": Attack(JSON, _text(b"\\r\\n")),
    "json: wide characters": Attack(JSON, _text("😀".encode())),
    "json: base64 of no image": Attack(JSON, _text(b"QUJD")),
    "form: charset punycode": _field("punycode"),
    "form: charset idna": _field("idna"),
    "form: charset utf-7": _field("utf-7"),
    "form: files": Attack(FORM, _parts(FILE)),
    "form: fields": Attack(FORM, _parts(FIELD)),
    "form: headers of a part": Attack(FORM, lambda size: b"--B\r\n" + b"a:b\r\n" * (size // 5)),
    "form: a long header": Attack(FORM, lambda size: b"--B\r\na: " + b"b" * size),
    "form: almost boundaries": Attack(
        FORM, lambda size: b"--B\r\n" + FILE + b"\r\n--BX" * (size // 6) + b"\r\n--B--\r\n"
    ),
}
