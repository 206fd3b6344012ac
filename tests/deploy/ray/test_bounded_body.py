"""The ingress reads no more of a body than a replica accepts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi import Request

from deploy.ray.bounded_body import read_body


@pytest.mark.parametrize(("most", "read"), [(30, 3), (29, 3), (19, 2), (5, 1)])
def test_a_body_is_read_until_it_is_too_large(most: int, read: int) -> None:
    received = 0

    async def receive() -> dict[str, Any]:
        nonlocal received
        received += 1
        return {"type": "http.request", "body": b"x" * 10, "more_body": received < 3}

    body = asyncio.run(read_body(Request({"type": "http"}, receive), most))
    assert body == b"x" * 10 * read
    assert received == read
