from __future__ import annotations

import httpx
import pytest

from offramp.exchange.retries import Retries


@pytest.mark.parametrize("attempt", [10, 1000, 1100, 100_000])
def test_a_retry_after_many_others_sleeps_for_the_bound(attempt: int) -> None:
    assert Retries(1_000_000, 0.5).seconds(attempt, httpx.Response(503)) == 0.5
