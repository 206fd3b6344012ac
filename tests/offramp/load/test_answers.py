from __future__ import annotations

import json

import pytest

from offramp.errors import TransportError
from offramp.load.answers import read_answer
from offramp.load.outcomes import BUDGET, DEADLINE


def test_an_answer_has_class_exit_flops_and_probability() -> None:
    answer = {"index": 3, "exit": 2, "flops": 10, "probability": 0.5, "deadline_hit": True}
    assert read_answer(200, json.dumps({"answers": [answer]}).encode()) == (3, 2, 10, 0.5, DEADLINE)
    assert read_answer(429, b"busy")[:3] == (-1, -1, -1)
    assert read_answer(429, b"busy")[4] == BUDGET


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"answers": []}', b"3", b"\xff"])
def test_a_success_that_is_no_answer_is_named(body: bytes) -> None:
    with pytest.raises(TransportError, match="no answer of Offramp"):
        read_answer(200, body)
