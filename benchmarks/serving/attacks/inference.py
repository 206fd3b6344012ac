"""Hostile requests of the Open Inference Protocol, over HTTP and gRPC. See `bodies`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from offramp.load.bodies import element

INFER = "/inference.GRPCInferenceService/ModelInfer"
NUMBER, FIELD = 0, 2  # types of a field of a message
NAME, PARAMETERS, INPUTS, OUTPUTS, RAW = 1, 4, 5, 6, 7  # fields of a request
CONTENTS, ELEMENTS = 5, 8  # of an input, of its contents
IMAGES = 1 << 20  # elements that a shape states
Body = Callable[[int], bytes]


class Request(NamedTuple):
    """A request for inference.

    Attributes:
        body: Function from a size in bytes to a body of about this size. In a message the model is
            `MODEL`.
        binary: Function from a body to the bytes of its JSON, if binary data follow.
        grpc: The body is a message of gRPC.
    """

    body: Body
    binary: Callable[[bytes], int] | None = None
    grpc: bool = False


def _tensor(datatype: str, shape: str, data: Body) -> Body:
    head = f'{{"inputs":[{{"name":"image","datatype":"{datatype}","shape":{shape},"data":'
    return lambda size: head.encode() + data(size) + b"}]}"


def _repeated(begin: bytes, unit: bytes, end: bytes) -> Body:
    return lambda size: begin + unit * (size // len(unit)) + end


def _elements(size: int) -> bytes:
    """Return a binary tensor of empty elements."""
    count = size // 4
    tensor = (
        f'{{"inputs":[{{"name":"image","datatype":"BYTES","shape":[{count}],'
        f'"parameters":{{"binary_data_size":{4 * count}}}}}]}}'
    )
    return tensor.encode() + bytes(4 * count)


def field(number: int, value: bytes) -> bytes:
    """Return a field of a message."""
    return _varint(number << 3 | FIELD) + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    more = b""
    while number > 0x7F:
        more += bytes([number & 0x7F | 0x80])
        number >>= 7
    return more + bytes([number])


def _message(unit: bytes) -> Request:
    return Request(_repeated(field(NAME, b"MODEL"), unit, b""), grpc=True)


def _input(contents: bytes, raw: Body) -> Request:
    """Return a message with an input BYTES of many elements, and what follows it."""
    head = field(1, b"image") + field(2, b"BYTES") + _varint(3 << 3) + _varint(IMAGES) + contents
    return Request(lambda size: field(NAME, b"MODEL") + field(INPUTS, head) + raw(size), grpc=True)


def _contents(size: int) -> bytes:
    return field(INPUTS, field(CONTENTS, field(ELEMENTS, b"") * (size // 2)))


REQUESTS: Mapping[str, Request] = {
    "protocol: numbers": Request(_tensor("UINT8", "[1,32,32,3]", _repeated(b"[", b"1,", b"1]"))),
    "protocol: lists": Request(_tensor("UINT8", "[1,32,32,3]", _repeated(b"[", b"[],", b"[]]"))),
    "protocol: depth": Request(_tensor("UINT8", "[1,32,32,3]", _repeated(b"", b"[", b""))),
    "protocol: a long shape": Request(_repeated(b'{"inputs":[{"shape":[', b"1,", b"1]}]}")),
    "protocol: inputs": Request(_repeated(b'{"inputs":[', b"{},", b"{}]}")),
    "protocol: outputs": Request(_repeated(b'{"outputs":[', b"{},", b"{}]}")),
    "protocol: escapes": Request(_tensor("BYTES", "[1]", _repeated(b'["', b"\\u0041", b'"]'))),
    "protocol: base64 of no image": Request(
        _tensor("BYTES", "[1]", _repeated(b'["', b"QUJD", b'"]'))
    ),
    "protocol: JSON before binary data": Request(
        _repeated(b'{"inputs":[', b"{},", b"{}]}x"), lambda body: len(body) - 1
    ),
    "protocol: empty elements": Request(_elements, lambda body: body.index(b"]}") + 2),
    "gRPC: inputs": _message(field(INPUTS, b"")),
    "gRPC: parameters": _message(field(PARAMETERS, b"")),
    "gRPC: outputs": _message(field(OUTPUTS, b"")),
    "gRPC: unknown fields": _message(_varint(15 << 3 | NUMBER) + b"\x01"),
    "gRPC: tensors": _message(field(RAW, b"")),
    "gRPC: empty elements": _input(b"", lambda size: field(RAW, bytes(4 * (size // 4)))),
    "gRPC: empty elements of contents": _input(b"", _contents),
    "gRPC: a number without an end": Request(_repeated(b"", b"\xff", b""), grpc=True),
}


def files_message(model: str, files: Sequence[bytes]) -> bytes:
    """Return a message with image files."""
    head = field(1, b"image") + field(2, b"BYTES") + _varint(3 << 3) + _varint(len(files))
    raw = b"".join(map(element, files))
    return field(NAME, model.encode()) + field(INPUTS, head) + field(RAW, raw)


def send_message(port: int, message: bytes, seconds: float) -> str:
    """Send a message by gRPC, and return the name of the status."""
    import grpc  # late: only these attacks need it

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            channel.unary_unary(INFER)(message, timeout=seconds, wait_for_ready=True)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"
