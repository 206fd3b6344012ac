"""The body of an HTTP request, read no further than a replica would accept it."""

from __future__ import annotations

from fastapi import Request


async def read_body(request: Request, most: int) -> bytes:
    """Return the body of a request, or so much of a longer one that a replica refuses it.

    Args:
        request: Request whose body is not read yet.
        most: Largest body that replicas accept, in bytes.

    Returns:
        The whole body, or of a longer one its first parts, which are more than `most` bytes.
    """
    parts, size = list[bytes](), 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > most:
            break
    return b"".join(parts)
