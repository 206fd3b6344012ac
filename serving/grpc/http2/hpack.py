"""Headers: of requests compressed by HPACK (RFC 7541), of responses without a table.

The headers of a client's requests are equal but for few. After the first request they are a block
of indexes, which is decoded once.
"""

from __future__ import annotations

from collections import deque

from serving.grpc.http2 import huffman
from serving.grpc.http2.frames import (
    COMPRESSION_ERROR,
    ENHANCE_YOUR_CALM,
    ConnectionFailedError,
)

Field = tuple[bytes, bytes]
MAX_LIST_BYTES = 16 << 10  # of the headers of a request, by the protocol's count
FIELD_BYTES = 32  # that the protocol adds for each header
TABLE_BYTES = 4096  # of the dynamic table, the default of the protocol
CACHED, MAX_CACHED_BYTES = 32, 512  # blocks, and bytes of one
MAX_SHIFT = 28
STATIC: tuple[Field, ...] = tuple(
    (name, value)
    for line in """
    :authority|:method GET|:method POST|:path /|:path /index.html|:scheme http|:scheme https
    :status 200|:status 204|:status 206|:status 304|:status 400|:status 404|:status 500
    accept-charset|accept-encoding gzip, deflate|accept-language|accept-ranges|accept
    access-control-allow-origin|age|allow|authorization|cache-control|content-disposition
    content-encoding|content-language|content-length|content-location|content-range|content-type
    cookie|date|etag|expect|expires|from|host|if-match|if-modified-since|if-none-match|if-range
    if-unmodified-since|last-modified|link|location|max-forwards|proxy-authenticate
    proxy-authorization|range|referer|refresh|retry-after|server|set-cookie
    strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate
    """.splitlines()
    for entry in line.strip().split("|")
    if entry
    for name, _, value in (entry.encode().partition(b" "),)
)


class HeaderDecoder:
    """Decodes the blocks of a connection, in their order."""

    def __init__(self) -> None:
        self._table: deque[Field] = deque()  # the newest first
        self._bytes = 0
        self._max_bytes = TABLE_BYTES
        self._cached: dict[bytes, tuple[Field, ...]] = {}

    def decode(self, block: bytes) -> tuple[Field, ...]:
        """Return the headers of a block. Equal blocks can have the same tuple.

        Raises:
            ConnectionFailedError: The block is not of the encoding, or exceeds a bound.
        """
        found = self._cached.get(block)
        if found is not None:
            return found
        changes = self._max_bytes, self._bytes, len(self._table)
        fields, changed = self._parse(block)
        if changed or changes != (self._max_bytes, self._bytes, len(self._table)):
            self._cached.clear()
        elif len(block) <= MAX_CACHED_BYTES:
            if len(self._cached) >= CACHED:
                self._cached.clear()
            self._cached[block] = fields
        return fields

    def _parse(self, block: bytes) -> tuple[tuple[Field, ...], bool]:
        """Return the headers, and whether an entry was added to the table."""
        fields, at, size, added = list[Field](), 0, 0, False
        while at < len(block):
            first = block[at]
            if first & 0x80:
                index, at = self._integer(block, at, 7)
                field = self._entry(index)
            elif first & 0xE0 == 0x20:
                at = self._resize(block, at, fields)
                continue
            else:
                field, at = self._literal(block, at, 6 if first & 0x40 else 4)
                if first & 0x40:
                    added = True
                    self._add(field)
            size += len(field[0]) + len(field[1]) + FIELD_BYTES
            if size > MAX_LIST_BYTES:
                text = f"the metadata have more than {MAX_LIST_BYTES} bytes"
                raise ConnectionFailedError(ENHANCE_YOUR_CALM, text)
            fields.append(field)
        return tuple(fields), added

    def _literal(self, block: bytes, at: int, bits: int) -> tuple[Field, int]:
        index, at = self._integer(block, at, bits)
        if index:
            name = self._entry(index)[0]
        else:
            name, at = self._string(block, at)
        value, at = self._string(block, at)
        return (name, value), at

    def _resize(self, block: bytes, at: int, fields: list[Field]) -> int:
        size, at = self._integer(block, at, 5)
        if size > TABLE_BYTES or fields:
            raise _wrong("a size of the table that is not allowed")
        self._max_bytes = size
        self._evict(0)
        return at

    def _add(self, field: Field) -> None:
        size = len(field[0]) + len(field[1]) + FIELD_BYTES
        self._evict(size)
        if size <= self._max_bytes:
            self._table.appendleft(field)
            self._bytes += size

    def _evict(self, size: int) -> None:
        """Remove the oldest entries, until there is room for another one of this size."""
        while self._table and self._bytes + size > self._max_bytes:
            name, value = self._table.pop()
            self._bytes -= len(name) + len(value) + FIELD_BYTES

    def _entry(self, index: int) -> Field:
        if 0 < index <= len(STATIC):
            return STATIC[index - 1]
        if not 0 < index <= len(STATIC) + len(self._table):
            raise _wrong("an index that is not in the table")
        return self._table[index - len(STATIC) - 1]

    def _string(self, block: bytes, at: int) -> tuple[bytes, int]:
        coded = at < len(block) and block[at] & 0x80
        size, at = self._integer(block, at, 7)
        end = at + size
        if end > len(block):
            raise _wrong("a string that ends after its block")
        if not coded:
            return block[at:end], end
        try:
            return huffman.decode(block[at:end]), end
        except huffman.HuffmanError as error:
            raise _wrong(str(error)) from error

    @staticmethod
    def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
        """Return an integer whose first byte has so many bits of it, and where it ends."""
        if at >= len(block):
            raise _wrong("a block that ends within a header")
        most = (1 << bits) - 1
        number = block[at] & most
        if number < most:
            return number, at + 1
        for shift in range(0, MAX_SHIFT, 7):
            at += 1
            if at >= len(block):
                break
            number += (block[at] & 0x7F) << shift
            if block[at] < 0x80:
                return number, at + 1
        raise _wrong("an integer without an end")


def encode(name: bytes, value: bytes) -> bytes:
    """Return a header as bytes. The client's table stays empty."""
    return b"\0" + _length(name) + name + _length(value) + value


def _length(text: bytes) -> bytes:
    if (size := len(text)) < 0x7F:
        return bytes((size,))
    size -= 0x7F
    encoded = bytearray(b"\x7f")
    while size > 0x7F:
        encoded.append(size & 0x7F | 0x80)
        size >>= 7
    encoded.append(size)
    return bytes(encoded)


def _wrong(text: str) -> ConnectionFailedError:
    return ConnectionFailedError(COMPRESSION_ERROR, f"the headers have {text}")
