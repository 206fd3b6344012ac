"""The Huffman code of HPACK (RFC 7541, appendix B): decoding four bits at a time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

# Bits of the code of each byte, then of the end, in base 36. The code is canonical: codes of the
# same length are consecutive numbers.
LENGTHS = (
    "dnsssssssoussussssssssusssssssss6aacd68baa8b8666555666666678f6cad677777777777777777777"
    "77878djde6f56565666577666567655677777fbedskmkkmmmnmnnnnnonoomnonnnnlmnmnnomlkmmnnlnmmo"
    "lmnnllmlnmnnkmmmnmmnqqkjmnmpqqqrrqopjlqrrqrollqqsrrrkoklmllnmmppooqnqrqqrrrrrsrrrrrqu"
)
END = 256  # symbol that a string never has
MAX_BITS = 30
Node = list["Node | int | None"]
Step = tuple[int, int]  # next state, and the byte that ends here or -1. State -1: an error


class HuffmanError(ValueError):
    """Bytes are not of the code."""


def decode(data: bytes) -> bytes:
    """Return the decoded bytes.

    Raises:
        HuffmanError: The end is in the string, or the padding is wrong.
    """
    steps, padding = _machine()
    state, decoded = 0, bytearray()
    for byte in data:
        for nibble in (byte >> 4, byte & 15):
            state, symbol = steps[state][nibble]
            if symbol >= 0:
                decoded.append(symbol)
            elif state < 0:
                raise HuffmanError("the end of the code is in a string")
    if state not in padding:
        raise HuffmanError("a string is not padded by ones")
    return bytes(decoded)


@cache
def codes() -> Sequence[tuple[int, int]]:
    """Return the code of each symbol and its number of bits."""
    lengths = [int(each, 36) for each in LENGTHS]
    found, code = [(0, 0)] * len(lengths), 0
    for bits in range(1, MAX_BITS + 1):
        for symbol, length in enumerate(lengths):
            if length == bits:
                found[symbol] = code, bits
                code += 1
        code <<= 1
    return found


@cache
def _machine() -> tuple[list[list[Step]], frozenset[int]]:
    """Return the steps of each state by four bits, and the states that padding can end in."""
    root: Node = [None, None]
    nodes = [root]
    for symbol, (code, bits) in enumerate(codes()):
        node = root
        for bit in range(bits - 1, 0, -1):
            side = code >> bit & 1
            below = node[side]
            if below is None:
                below = node[side] = [None, None]
                nodes.append(below)
            assert isinstance(below, list)
            node = below
        node[code & 1] = symbol
    numbers = {id(node): number for number, node in enumerate(nodes)}
    steps = [[_step(node, nibble, root, numbers) for nibble in range(16)] for node in nodes]
    padding, node = {0}, root
    for _ in range(7):  # fewer than eight ones
        below = node[1]
        assert isinstance(below, list)
        node = below
        padding.add(numbers[id(node)])
    return steps, frozenset(padding)


def _step(node: Node, nibble: int, root: Node, numbers: dict[int, int]) -> Step:
    """Return the step of a state. The shortest code has five bits, so at most one byte ends."""
    symbol = -1
    for bit in (3, 2, 1, 0):
        below = node[nibble >> bit & 1]
        if isinstance(below, int):
            if below == END:
                return -1, -1
            symbol, below = below, root
        assert below is not None
        node = below
    return numbers[id(node)], symbol
