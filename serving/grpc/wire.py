"""Split a message into its tensors and the rest, within bounds, before the rest is parsed.

Parsing makes an object for each item of a message. Two bytes can be an item, so that 16 MiB become
more than half a GiB. Here the fields are counted first. The tensors, which can be large, become
views of the message, and the parser never copies them.

Encoding: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from serving.http.oip.protocol import malformed

MAX_REST_BYTES = 1 << 16  # of a message without its tensors
SPARE_FIELDS = 512  # besides 4 for each image: outputs and parameters
VARINT, FIXED_64, BYTES, FIXED_32 = 0, 1, 2, 5  # types of a field on the wire
MAX_VARINT_BYTES = 10
# Numbers of fields: of a request, of its input, of the input's contents.
INPUTS, RAW_CONTENTS = 5, 7
CONTENTS = 5
BYTES_CONTENTS = 8


class Split(NamedTuple):
    """A message in parts.

    Attributes:
        rest: The message without its tensors.
        raw: The fields `raw_input_contents`.
        elements: The fields `bytes_contents` of all inputs.
    """

    rest: bytes
    raw: list[memoryview]
    elements: list[memoryview]


class _Field(NamedTuple):
    number: int
    type: int
    begin: int  # of the field
    start: int  # of its value
    end: int


def split(message: bytes, max_images: int) -> Split:
    """Split a `ModelInferRequest`.

    Args:
        message: The message.
        max_images: Largest number of images in one call.

    Raises:
        MalformedBodyError: It has too many fields, too large ones, or is no message.
    """
    return _Splitter(memoryview(message), 4 * max_images + SPARE_FIELDS).split()


class _Splitter:
    def __init__(self, view: memoryview, most_fields: int) -> None:
        self._view = view
        self._fields_left = most_fields
        self._most_fields = most_fields
        self._raw: list[memoryview] = []
        self._elements: list[memoryview] = []

    def split(self) -> Split:
        rest = bytearray()
        for field in self._fields(0, len(self._view)):
            if field.number == RAW_CONTENTS and field.type == BYTES:
                self._raw.append(self._view[field.start : field.end])
            elif field.number == INPUTS and field.type == BYTES:
                self._append(rest, INPUTS, self._without_elements(field, CONTENTS))
            else:
                self._keep(rest, field)
        return Split(bytes(rest), self._raw, self._elements)

    def _without_elements(self, parent: _Field, number: int) -> bytearray:
        """Return the value of an input, or of its contents, without the fields of its elements."""
        rest = bytearray()
        for field in self._fields(parent.start, parent.end):
            if field.number != number or field.type != BYTES:
                self._keep(rest, field)
            elif number == CONTENTS:
                self._append(rest, CONTENTS, self._without_elements(field, BYTES_CONTENTS))
            else:
                self._elements.append(self._view[field.start : field.end])
        return rest

    def _keep(self, rest: bytearray, field: _Field) -> None:
        _check_rest(len(rest) + field.end - field.begin)
        rest += self._view[field.begin : field.end]

    def _append(self, rest: bytearray, number: int, value: bytearray) -> None:
        _check_rest(len(rest) + len(value))
        rest += _varint(number << 3 | BYTES) + _varint(len(value)) + value

    def _fields(self, at: int, end: int) -> Iterator[_Field]:
        view = self._view
        while at < end:
            self._fields_left -= 1
            if self._fields_left < 0:
                raise malformed(f"the request has more than {self._most_fields} fields")
            begin = at
            tag, start = self._number(at, end)
            kind = tag & 7
            if kind == BYTES:
                size, start = self._number(start, end)
                at = start + size
            elif kind == VARINT:
                _, at = self._number(start, end)
            elif kind in (FIXED_64, FIXED_32):
                at = start + (8 if kind == FIXED_64 else 4)
            else:
                raise malformed("the request has a field of an unknown type")
            if at > end:
                raise malformed(f"a field of the request ends after its {len(view)} bytes")
            yield _Field(tag >> 3, kind, begin, start, at)

    def _number(self, at: int, end: int) -> tuple[int, int]:
        """Return a number of variable length, and where it ends."""
        number = 0
        for shift, byte in enumerate(self._view[at : min(end, at + MAX_VARINT_BYTES)]):
            number |= (byte & 0x7F) << 7 * shift
            if byte < 0x80:
                return number, at + shift + 1
        raise malformed("the request has a number without an end")


def _check_rest(size: int) -> None:
    if size > MAX_REST_BYTES:
        raise malformed(f"the request has more than {MAX_REST_BYTES} bytes besides its tensors")


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
