"""The number of code groups of a lossless WebP stream (VP8L), before it is decoded.

Such a stream can have a group of five prefix codes for each block of 4 x 4 pixels. A group takes 20
bits of the file, and a decoder makes tables of 5.7 kB or more of it. The number of groups is known
only behind the images that transforms use, so these are walked over: their prefix codes are read,
and their pixels are not.

Source: RFC 9649, section 3, and `vp8l_dec.c` of libwebp.
"""

from __future__ import annotations

from typing import NamedTuple

from offramp.images.errors import CostlyFileError, DamagedFileError

SIGNATURE = 0x2F
# Bytes of a group: five pointers and a table of 64 packed codes, and tables with entries of 4
# bytes. The last are the most entries of `kTableSize`, by the bits of the colour cache.
_GROUP, _ENTRY = 640, 4
_ENTRIES = (2954, 2956, 2958, 2962, 2970, 2986, 3018, 3082, 3212, 3468, 3980, 5004)
_LENGTH_ORDER = (17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
_REPEATS = {16: (2, 3), 17: (3, 3), 18: (7, 11)}  # symbol: bits, and least number
_LITERALS, _LENGTHS, _DISTANCES = 256, 24, 40
_PREDICTOR, _CROSS_COLOUR, _SUBTRACT_GREEN, _INDEXING = range(4)
_ENDED = "this lossless WebP is cut off or damaged"


class Code(NamedTuple):
    """A prefix code: for the next bits, those of `mask`, a symbol times 16 plus its length."""

    mask: int
    table: list[int]


class Budget:
    """The pixels of small images that are walked over, for all streams of a file.

    libwebp writes at most 2,600 blocks for groups and for each transform, or blocks of at least
    16 x 16 pixels.
    """

    def __init__(self, area: int) -> None:
        self._pixels = self.of(area)

    @staticmethod
    def of(area: int) -> int:
        """Return the pixels that are walked over for an image of `area` pixels."""
        return 8192 + area // 64

    def take(self, pixels: int) -> None:
        """Use some of the pixels.

        Raises:
            CostlyFileError: There are not so many.
        """
        self._pixels -= pixels
        if self._pixels < 0:
            raise CostlyFileError("its blocks are smaller than encoders make them; save it again")


def table_bytes(stream: bytes, width: int, height: int, budget: Budget) -> int:
    """Return the most bytes of the tables of a stream, which begins behind its size.

    Raises:
        DamagedFileError: The stream is cut off or damaged before its pixels.
        CostlyFileError: It has more and smaller blocks than encoders make.
    """
    return _Stream(stream, budget).table_bytes(width, height)


class _Stream:
    """A VP8L stream, read from its lowest bit on."""

    def __init__(self, content: bytes, budget: Budget) -> None:
        self._content = content
        self._end = 8 * len(content)
        self._budget = budget
        self._at = 0

    def table_bytes(self, width: int, height: int) -> int:
        seen: set[int] = set()
        while self._bits(1):
            kind = self._bits(2)
            if kind in seen:
                raise DamagedFileError(_ENDED)
            seen.add(kind)
            width = self._transform(kind, width, height)
        cache = self._cache_bits()
        groups = 1
        if self._bits(1):
            across, down = self._blocks(width, height)
            groups = min(self._walk(across, down) + 1, across * down)
        return groups * (_GROUP + _ENTRY * _ENTRIES[cache])

    def _transform(self, kind: int, width: int, height: int) -> int:
        """Walk over a transform, and return the width of the image that is stored."""
        if kind == _INDEXING:
            colours = self._bits(8) + 1
            self._walk(colours, 1)
            packed = 3 if colours <= 2 else 2 if colours <= 4 else 1 if colours <= 16 else 0
            return _divided(width, packed)
        if kind != _SUBTRACT_GREEN:
            self._walk(*self._blocks(width, height))
        return width

    def _blocks(self, width: int, height: int) -> tuple[int, int]:
        size = self._bits(3) + 2
        return _divided(width, size), _divided(height, size)

    def _cache_bits(self) -> int:
        if not self._bits(1):
            return 0
        bits = self._bits(4)
        if not 1 <= bits <= 11:
            raise DamagedFileError(_ENDED)
        return bits

    def _bits(self, number: int) -> int:
        at = self._at
        word = int.from_bytes(self._content[at >> 3 : (at >> 3) + 4], "little") >> (at & 7)
        self._at = at + number
        if self._at > self._end:
            raise DamagedFileError(_ENDED)
        return word & ((1 << number) - 1)

    def _walk(self, width: int, height: int) -> int:
        """Walk over an image, and return the largest of its values of red and green, 16 bits."""
        self._budget.take(width * height)
        cache = self._cache_bits()
        green = _LITERALS + _LENGTHS + (1 << cache if cache else 0)
        codes = [self._code(symbols) for symbols in (green, *(_LITERALS,) * 3, _DISTANCES)]
        if not any(code.mask for code in codes[:4]) and codes[0].table[0] >> 4 < _LITERALS:
            return codes[1].table[0] >> 4 << 8 | codes[0].table[0] >> 4  # pixels without a bit
        return self._symbols(width * height, *codes)

    def _symbols(
        self, pixels: int, green: Code, red: Code, blue: Code, alpha: Code, far: Code
    ) -> int:
        """Read the symbols of an image, and return the largest value of red and green."""
        content, at, end, largest = self._content, self._at, self._end, 0
        (mask, table), constant = green, not (red.mask | blue.mask | alpha.mask)
        high = red.table[0] >> 4 << 8
        while pixels > 0 and at <= end:
            word = int.from_bytes(content[at >> 3 : (at >> 3) + 9], "little") >> (at & 7)
            found = table[word & mask]
            used, symbol = found & 15, found >> 4
            pixels -= 1
            if symbol < _LITERALS:
                if not constant:
                    found = red.table[word >> used & red.mask]
                    high = found >> 4 << 8
                    used += found & 15
                    used += blue.table[word >> used & blue.mask] & 15
                    used += alpha.table[word >> used & alpha.mask] & 15
                largest = max(largest, high | symbol)
            elif symbol < _LITERALS + _LENGTHS:
                copied, extra = _copied(symbol - _LITERALS, word >> used)
                pixels -= copied - 1
                used += extra
                found = far.table[word >> used & far.mask]
                used += (found & 15) + _extra_bits(found >> 4)
            at += used
        self._at = at
        if at > end:
            raise DamagedFileError(_ENDED)
        return largest

    def _code(self, symbols: int) -> Code:
        lengths = [0] * max(symbols, _LITERALS)
        if self._bits(1):
            second = self._bits(1)
            lengths[self._bits(8 if self._bits(1) else 1)] = 1
            if second:
                lengths[self._bits(8)] = 1
            return _prefix_code(lengths[:symbols])
        number = self._bits(4) + 4
        own = [0] * len(_LENGTH_ORDER)
        for symbol in _LENGTH_ORDER[:number]:
            own[symbol] = self._bits(3)
        return _prefix_code(self._lengths(_prefix_code(own), symbols))

    def _lengths(self, code: Code, symbols: int) -> list[int]:
        """Read the lengths of the symbols of a code."""
        most = symbols
        if self._bits(1):
            most = 2 + self._bits(2 + 2 * self._bits(3))
        lengths: list[int] = []
        previous = 8
        while len(lengths) < symbols and most:
            most -= 1
            found = code.table[self._peek() & code.mask]
            self._bits(found & 15)
            symbol = found >> 4
            if symbol in _REPEATS:
                bits, least = _REPEATS[symbol]
                lengths += [previous if symbol == 16 else 0] * (self._bits(bits) + least)
            else:
                lengths.append(symbol)
                previous = symbol or previous
        if len(lengths) > symbols:
            raise DamagedFileError(_ENDED)
        return lengths

    def _peek(self) -> int:
        return int.from_bytes(self._content[self._at >> 3 : (self._at >> 3) + 3], "little") >> (
            self._at & 7
        )


def _divided(side: int, bits: int) -> int:
    return (side + (1 << bits) - 1) >> bits


def _extra_bits(symbol: int) -> int:
    return 0 if symbol < 4 else (symbol - 2) >> 1


def _copied(symbol: int, word: int) -> tuple[int, int]:
    """Return the number of pixels that a symbol copies, and its extra bits."""
    if symbol < 4:
        return symbol + 1, 0
    extra = _extra_bits(symbol)
    return ((2 + (symbol & 1)) << extra) + (word & ((1 << extra) - 1)) + 1, extra


def _prefix_code(lengths: list[int]) -> Code:
    """Return the code with these lengths of its symbols, the first bit the lowest."""
    used = sorted((length, symbol) for symbol, length in enumerate(lengths) if length)
    if len(used) == 1:
        return Code(0, [used[0][1] << 4])
    if sum(1 << 15 - length for length, _ in used) != 1 << 15:
        raise DamagedFileError(_ENDED)
    longest = used[-1][0]
    table = [0] * (1 << longest)
    word = before = 0
    for length, symbol in used:
        word <<= length - before
        start = int(f"{word:0{length}b}"[::-1], 2)
        table[start :: 1 << length] = [symbol << 4 | length] * (1 << longest - length)
        word, before = word + 1, length
    return Code((1 << longest) - 1, table)
