"""JSON in which an object has a key twice is refused, however it is written."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.http.bodies.json_document import parse_json

TEXTS = st.sampled_from(
    ["", "a", "b", "a:b", ":", "\\", '"', "{}", "é", "data:image/png;base64,AA"]
)
VALUES = st.none() | st.booleans() | st.integers(-9, 9) | TEXTS
NODES = st.recursive(
    VALUES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(st.tuples(TEXTS, inner), max_size=3).map(tuple)
    ),
    max_leaves=8,
)


def written(node: object, escape: bool) -> str:
    """Write a node. A tuple is an object of its pairs, with a key more than once or not."""
    if isinstance(node, tuple):
        pairs = (f"{written(key, escape)}: {written(value, escape)}" for key, value in node)
        return "{" + ", ".join(pairs) + "}"
    if isinstance(node, list):
        return "[" + ", ".join(written(each, escape) for each in node) + "]"
    if escape and isinstance(node, str):
        return '"' + "".join(f"\\u{ord(char):04x}" for char in node) + '"'
    return json.dumps(node, ensure_ascii=False)


def has_key_twice(node: object) -> bool:
    if isinstance(node, tuple):
        keys = [key for key, _ in node]
        return len(set(keys)) < len(keys) or any(has_key_twice(value) for _, value in node)
    return isinstance(node, list) and any(map(has_key_twice, node))


@settings(max_examples=200, deadline=None)
@given(NODES, st.booleans())
def test_a_key_twice_is_refused_and_nothing_else(node: object, escape: bool) -> None:
    body = written(node, escape).encode()
    if has_key_twice(node):
        with pytest.raises(ValueError, match="is given more than once in an object"):
            parse_json(body)
    else:
        assert parse_json(body) == json.loads(body)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"{} {}", b'"\xff"', b"[NaN]", b"[" * 3000, b"1" * 5000]
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(body)
