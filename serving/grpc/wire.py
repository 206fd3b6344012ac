"""Split a message into its tensors and the rest, within bounds, before the rest is parsed.

Parsing makes an object for each item of a message. Two bytes can be an item, so that 16 MiB become
more than half a GiB. Here the fields are counted first. The tensors, which can be large, become
views of the message, and the parser never copies them.

Encoding: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from typing import NamedTuple

from serving.http.oip.protocol import malformed

MAX_REST_BYTES = 1 << 16  # of a message without its tensors
SPARE_FIELDS = 512  # besides 4 for each image: outputs and parameters
VARINT, FIXED_64, BYTES, FIXED_32 = 0, 1, 2, 5  # types of a field on the wire
MAX_VARINT_BYTES = 10
# Tags of fields: of a request, of its input, of the input's contents.
ID, INPUTS, RAW_CONTENTS = 3 << 3 | BYTES, 5 << 3 | BYTES, 7 << 3 | BYTES
CONTENTS = 5 << 3 | BYTES
BYTES_CONTENTS = 8 << 3 | BYTES
Field = tuple[int, int, int, int]  # tag, begin of the field, begin of its value, end


class Split(NamedTuple):
    """A message in parts.

    Attributes:
        rest: The message without its id and its tensors.
        id: Its id.
        raw: The fields `raw_input_contents`.
        elements: The fields `bytes_contents` of all inputs.
    """

    rest: bytes
    id: bytes
    raw: list[memoryview]
    elements: list[memoryview]


def split(message: bytes | memoryview, max_images: int) -> Split:
    """Split a `ModelInferRequest`.

    Args:
        message: The message.
        max_images: Largest number of images in one call.

    Raises:
        MalformedBodyError: It has too many fields, too large ones, or is no message.
    """
    return _Splitter(message, 4 * max_images + SPARE_FIELDS).split()


class _Splitter:
    def __init__(self, message: bytes | memoryview, most_fields: int) -> None:
        self._data = message
        self._view = memoryview(message)
        self._fields_left = most_fields
        self._most_fields = most_fields
        self._elements: list[memoryview] = []

    def split(self) -> Split:
        raw, name, rest = [], b"", bytearray()
        kept = 0  # begin of the fields that are kept as they are
        for tag, begin, start, end in self._fields(0, len(self._data)):
            if tag == RAW_CONTENTS:
                raw.append(self._view[start:end])
            elif tag == ID:
                name = bytes(self._view[start:end])
            elif tag == INPUTS and (changed := self._without(start, end, CONTENTS)) is not None:
                self._add(rest, self._view[kept:begin])
                self._add(rest, length_delimited(INPUTS, changed))
                kept = end
                continue
            else:
                continue
            self._add(rest, self._view[kept:begin])
            kept = end
        self._add(rest, self._view[kept:])
        return Split(bytes(rest), name, raw, self._elements)

    def _without(self, start: int, end: int, removed: int) -> bytes | None:
        """Return the value of an input, or of its contents, without its elements.

        `None`: it has none.
        """
        fields = self._fields(start, end)
        if not any(field[0] == removed for field in fields):
            return None
        rest = bytearray()
        for tag, begin, at, stop in fields:
            if tag != removed:
                self._add(rest, self._view[begin:stop])
            elif tag == CONTENTS:
                changed = self._without(at, stop, BYTES_CONTENTS)
                value = self._view[at:stop] if changed is None else changed
                self._add(rest, length_delimited(CONTENTS, value))
            else:
                self._elements.append(self._view[at:stop])
        return bytes(rest)

    @staticmethod
    def _add(rest: bytearray, part: bytes | memoryview) -> None:
        if len(rest) + len(part) > MAX_REST_BYTES:
            raise malformed(f"the request has more than {MAX_REST_BYTES} bytes besides its tensors")
        rest += part

    def _fields(self, at: int, end: int) -> list[Field]:
        """Return the fields between two positions. They are counted before they are made."""
        data, found = self._data, list[Field]()
        while at < end:
            if len(found) == self._fields_left:
                raise malformed(f"the request has more than {self._most_fields} fields")
            begin, tag = at, data[at]
            at += 1
            if tag >= 0x80:
                tag, at = self._number(begin, end)
            kind, start = tag & 7, at
            if kind == BYTES:
                if at < end and data[at] < 0x80:
                    size, start = data[at], at + 1
                else:
                    size, start = self._number(at, end)
                at = start + size
            else:
                at = self._end_of_number(kind, at, end)
            if at > end:
                raise malformed(f"a field of the request ends after its {len(data)} bytes")
            found.append((tag, begin, start, at))
        self._fields_left -= len(found)
        return found

    def _end_of_number(self, kind: int, at: int, end: int) -> int:
        if kind == VARINT:
            return self._number(at, end)[1]
        if kind in (FIXED_64, FIXED_32):
            return at + (8 if kind == FIXED_64 else 4)
        raise malformed("the request has a field of an unknown type")

    def _number(self, at: int, end: int) -> tuple[int, int]:
        """Return a number of variable length, and where it ends."""
        number = 0
        for shift, byte in enumerate(self._view[at : min(end, at + MAX_VARINT_BYTES)]):
            number |= (byte & 0x7F) << 7 * shift
            if byte < 0x80:
                return number, at + shift + 1
        raise malformed("the request has a number without an end")


def length_delimited(tag: int, value: bytes | memoryview) -> bytes:
    """Return a field of bytes. The tag is below 128."""
    size = len(value)
    if size < 0x80:
        return b"".join((bytes((tag, size)), value))
    encoded = bytearray((tag,))
    while size > 0x7F:
        encoded.append(size & 0x7F | 0x80)
        size >>= 7
    encoded.append(size)
    return b"".join((encoded, value))
