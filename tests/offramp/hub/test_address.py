from __future__ import annotations

from pathlib import Path

import pytest

from offramp.hub.address import Address, HubError, address_in


def test_an_address_has_a_repository_and_a_revision() -> None:
    assert address_in("hf://org/name") == Address("org/name", "main")
    assert address_in(Path("hf://org/name@v1")) == Address("org/name", "v1")
    assert str(Address("org/name")) == "hf://org/name"
    assert str(Address("org/name", "refs/pr/1")) == "hf://org/name@refs/pr/1"


@pytest.mark.parametrize("place", ["bundles/mine", "/bundles/mine", "hf", "./hf/org/name"])
def test_a_folder_is_no_address(place: str) -> None:
    assert address_in(place) is None


@pytest.mark.parametrize("place", ["hf://", "hf://name", "hf://a/b/c", "hf://a/../b", "hf://a/b@"])
def test_what_begins_as_an_address_and_is_none_is_refused(place: str) -> None:
    with pytest.raises(HubError, match="not an address"):
        address_in(place)
