"""The header field of an API key, as the server and all clients take it."""

from __future__ import annotations

from offramp.errors import UsageError

WHITE_SPACE = " \t\r\n"  # at both ends of a key, which HTTP removes from a header as well
KEY_CHARACTERS = frozenset(map(chr, range(0x20, 0x7F)))  # that each client can send in a header


def plain_key(text: str) -> str | None:
    """Return a key without white space at both ends, or `None` if no client can send it."""
    key = text.strip(WHITE_SPACE)
    return key if key and KEY_CHARACTERS.issuperset(key) else None


def authorization(key: str | None) -> dict[str, str]:
    """Return the header field for an API key, or none without a key.

    White space at both ends is left out, such as the line end of a file.

    Raises:
        UsageError: No client can send the key.
    """
    if not key:
        return {}
    text = plain_key(key)
    if text is None:
        raise UsageError(
            "the API key has a control character, one outside ASCII, or white space alone, which "
            "no server accepts; check it (`api_key`, --api-key or OFFRAMP_API_KEY)"
        )
    return {"Authorization": f"Bearer {text}"}
