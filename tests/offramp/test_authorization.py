from __future__ import annotations

import pytest

from offramp.authorization import authorization
from offramp.errors import UsageError


@pytest.mark.parametrize("key", ["s3 cret", " s3 cret\n", "\ts3 cret\r\n"])
def test_a_key_is_sent_without_white_space_at_its_ends(key: str) -> None:
    assert authorization(key) == {"Authorization": "Bearer s3 cret"}


def test_without_a_key_there_is_no_header() -> None:
    assert authorization(None) == authorization("") == {}


@pytest.mark.parametrize("key", ["se\ncret", "secr\u00e9t", "\n", "a\x7f"])
def test_a_key_that_cannot_be_sent_is_not_shown(key: str) -> None:
    with pytest.raises(UsageError, match="--api-key or OFFRAMP_API_KEY") as caught:
        authorization(key)
    assert key.strip() not in str(caught.value) or not key.strip()
