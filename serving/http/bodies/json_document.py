"""Parse JSON, and refuse an object with the same key twice, of which a parser keeps only the last.

Each key has a colon after it, and no key is lost if the colons in the text are those of the keys
and strings that were parsed. Only otherwise is the text parsed again, by a slower parser.
"""

from __future__ import annotations

import json

import orjson


def parse_json(body: bytes) -> object:
    """Return the document in a body.

    Raises:
        ValueError: It is not JSON, or an object has a key twice. The text says which.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        reason = error.msg  # the error has a copy of the body, so it is not kept
    else:
        if b"\\" not in body and body.count(b":") == _colons(document):
            return document
        json.loads(body, object_pairs_hook=_unique)
        return document
    raise ValueError(reason)


def _colons(value: object) -> int:
    """Return at most the number of colons in the text of a value without escapes.

    Lists are counted only if they begin with an object or a string, so that pixels cost no time.
    """
    if isinstance(value, str):
        return value.count(":")
    if isinstance(value, dict):
        return sum(1 + name.count(":") + _colons(each) for name, each in value.items())
    if isinstance(value, list) and value and isinstance(value[0], dict | str):
        return sum(map(_colons, value))
    return 0


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise ValueError(f"{twice[:64]!a} is given more than once in an object")
    return found
