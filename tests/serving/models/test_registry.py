from __future__ import annotations

import pytest

from serving.errors import UnknownModelError
from serving.models.catalog import Trial
from serving.models.registry import Registry

CATS = {"2": "cats two", "1": "cats one"}


def test_the_first_version_answers_and_the_others_are_pinned() -> None:
    registry = Registry({"cats": CATS})
    assert registry.find("cats") == registry.find_default() == "cats two"
    assert registry.find("cats", "1") == registry.find_default("1") == "cats one"
    assert list(registry.every()) == ["cats two", "cats one"]
    assert list(registry.answering()) == ["cats two"]


@pytest.mark.parametrize(("name", "version"), [("dogs", ""), ("cats", "3"), ("", "1")])
def test_a_model_that_is_not_loaded_is_named(name: str, version: str) -> None:
    registry = Registry({"cats": CATS})
    assert registry.get(name, version) is None
    with pytest.raises(UnknownModelError, match="'cats' version '2' and '1'"):
        registry.find(name, version)


def test_of_several_models_only_a_named_one_is_the_default() -> None:
    both = {"cats": CATS, "dogs": {"1": "dogs one"}}
    with pytest.raises(UnknownModelError, match="name a model"):
        Registry(both).find_default()
    named = Registry(both, "dogs")
    assert named.find_default() == "dogs one"
    named.swap({"cats": CATS})
    assert named.default == ""
    with pytest.raises(UnknownModelError, match="no model"):
        Registry[str]({}).find_default()


def test_a_swap_returns_what_is_dropped_and_reports_what_is_new() -> None:
    registry, seen = Registry({"cats": CATS}), list[str]()
    registry.watch(seen.append)
    assert seen == ["cats two", "cats one"]
    three = "cats three"
    assert registry.swap({"cats": {"3": three, "2": CATS["2"]}}) == ["cats one"]
    assert seen == ["cats two", "cats one", three]


def test_an_error_names_a_few_models_only() -> None:
    registry = Registry({f"m{number}": {"1": number} for number in range(20)})
    with pytest.raises(UnknownModelError, match="'m15' version '1' and 4 more"):
        registry.find("x" * 1000)


def test_a_canary_answers_its_share_and_a_request_id_has_one_version() -> None:
    registry = Registry({"cats": CATS})
    assert registry.version_for("cats", b"") == ""
    registry.swap(registry.table, {"cats": Trial("1", 0.05)})
    assert registry.version_for("dogs", b"x") == ""
    ids = [str(number).encode() for number in range(20_000)]
    drawn = [registry.version_for("cats", each) for each in ids]
    assert drawn == [registry.version_for("cats", each) for each in ids]
    assert abs(drawn.count("1") / len(ids) - 0.05) < 0.01
    without_id = [registry.version_for("cats", b"") for _ in ids]
    assert abs(without_id.count("1") / len(ids) - 0.05) < 0.01
    registry.swap(registry.table, {"cats": Trial("1", 0.5)}, {"dogs": Trial("1", 1)})
    assert (registry.canaries["cats"].share, [*registry.shadows]) == (0.5, ["dogs"])
    more = [registry.version_for("cats", each) for each in ids]
    assert all(new == "1" for old, new in zip(drawn, more, strict=True) if old == "1")
