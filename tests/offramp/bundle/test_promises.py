from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offramp.bundle.errors import BundleError
from offramp.bundle.manifest import Manifest, read_manifest
from offramp.bundle.promises import Level, Promises, parse_level

Change = Callable[[dict[str, Any]], object]


def record(bundle: Path) -> Promises:
    promises = read_manifest(bundle).promises
    assert promises is not None
    return promises


def changed(damaged: Path, promise_bundle: Path, change: Change) -> Path:
    """Give a copy of the bundle a changed manifest with promises."""
    manifest = json.loads((promise_bundle / "manifest.json").read_text())
    change(manifest)
    (damaged / "manifest.json").write_text(json.dumps(manifest))
    return damaged


def test_promises_are_read_and_written_again(promise_bundle: Path) -> None:
    manifest = read_manifest(promise_bundle)
    assert (manifest.format, len(record(promise_bundle).offered)) == (3, 3)
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest


def test_a_manifest_without_promises_is_written_in_format_2(manifest: Manifest) -> None:
    written = json.loads(manifest.model_dump_json())
    assert written["format"] == 2
    assert "promises" not in written


def test_promises_set_the_format_and_their_removal_restores_it(promise_bundle: Path) -> None:
    manifest = read_manifest(promise_bundle)
    without = manifest.with_promises(None)
    assert (without.format, without.promises) == (2, None)
    assert without.with_promises(manifest.promises) == manifest


@pytest.mark.parametrize("text", ["[" * 100_000, '{"format": 4, "promises": {}}'])
def test_a_manifest_of_no_known_format_is_refused_without_its_promises_too(
    damaged: Path, text: str
) -> None:
    (damaged / "manifest.json").write_text(text)
    with pytest.raises(
        BundleError, match=r"manifest\.json: (format: Input should be 2|manifest: )"
    ):
        read_manifest(damaged, promises=False)


def offered(position: int, **changes: object) -> Change:
    return lambda manifest: manifest["promises"]["offered"][position].update(changes)


def of_record(**changes: object) -> Change:
    return lambda manifest: manifest["promises"].update(changes)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (offered(0, losses=35), "promises: Value error, 99%: 35 losses in 4,000 images do not"),
        (offered(0, epsilon=0.006), "99.4%: 20 losses in 4,000 images do not support it"),
        (of_record(certified=2500), "99%: 20 losses in 2,500 images do not support it"),
        (of_record(delta=1e-9), "do not support it (p-value 0.000349, above 1e-09 / 3)"),
        (of_record(at_once=2), "at_once: 2 is fewer than the promises"),
        (offered(0, losses=4001), "99%: more losses than images"),
        (of_record(certified=10**9), "promises.certified: Input should be less than or equal to"),
        (of_record(offered=[]), "promises.offered: Tuple should have at least 1 item"),
        (of_record(graphs=["0" * 64] * 4), "promises.graphs: certified on other graphs"),
        (offered(0, name="low"), "promises.offered: low is the name of a budget too"),
        (offered(1, name="safe"), "offered: safe is there twice"),
        (offered(1, epsilon=0.01, losses=9), "offered: 99% is there twice"),
        (offered(0, thresholds=[0.5, 0.0]), "99%: needs one threshold and one share for each exit"),
        (offered(0, thresholds=[0.5] * 4), "99%: the last threshold must be 0"),
        (lambda manifest: manifest.update(format=2), "promises: needs format 3"),
    ],
)
def test_promises_that_their_figures_do_not_support_are_refused(
    damaged: Path, promise_bundle: Path, change: Change, problem: str
) -> None:
    with pytest.raises(BundleError, match=re.escape(problem)):
        read_manifest(changed(damaged, promise_bundle, change))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"losses": 60, "gains": 40}, None),
        ({"losses": 60, "gains": 10}, "accuracy:2%: 60 losses in 4,000 images do not support it"),
        ({"losses": 60, "gains": 3990}, "accuracy:2%: no test of 60 losses and 3990 gains in 4000"),
        ({"losses": 10}, "accuracy:2%: gains are of the kind accuracy, which needs them"),
        ({"kind": "harm", "losses": 10, "gains": 0}, "harm:2%: gains are of the kind accuracy"),
    ],
)
def test_a_promise_of_accuracy_is_supported_by_losses_and_gains(
    damaged: Path, promise_bundle: Path, changes: dict[str, Any], problem: str | None
) -> None:
    bundle = changed(damaged, promise_bundle, offered(2, **{"kind": "accuracy"} | changes))
    if problem is None:
        assert record(bundle).offered[2].label == "promise-accuracy-2"
    else:
        with pytest.raises(BundleError, match=re.escape(problem)):
            read_manifest(bundle)


def by_exit(*pairs: tuple[int, int]) -> Change:
    """Promise the first level at each exit, with these losses and images of the exits."""
    exits = [{"losses": losses, "images": images} for losses, images in pairs]
    changes = {"kind": "exit", "name": None, "thresholds": [0.5, 0.5, 0.5, 0.0]}
    return offered(0, **changes, losses=sum(k for k, _ in pairs), by_exit=exits)


def test_a_promise_at_each_exit_is_supported_by_the_losses_of_each(
    damaged: Path, promise_bundle: Path
) -> None:
    good = changed(damaged, promise_bundle, by_exit((3, 1500), (2, 1000), (0, 600)))
    promise = record(good).offered[0]
    assert str(promise.level) == "exit:99%"
    assert promise.label == "promise-exit-99"


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "exit", "name": None, "thresholds": [0.5, 2.0, 0.5, 0.0]},  # exit 2 is closed
        {},  # not of the kind exit
    ],
)
def test_losses_of_exits_at_which_no_image_can_leave_are_refused(
    damaged: Path, promise_bundle: Path, changes: dict[str, Any]
) -> None:
    exits = [{"losses": k, "images": n} for k, n in ((3, 1500), (17, 17), (0, 600))]
    change = offered(0, by_exit=exits, losses=20, **changes)
    with pytest.raises(BundleError, match="99%: by_exit does not add up"):
        read_manifest(changed(damaged, promise_bundle, change))


@pytest.mark.parametrize(
    ("exits", "problem"),
    [
        (((3, 1500), (9, 1000), (0, 600)), "exit:99%: 12 losses in 4,000 images do not support it"),
        (((3, 1500), (2, 1000), (0, 0)), "exit:99%: 5 losses in 4,000 images do not support it"),
        (((3, 3000), (2, 1000), (0, 600)), "exit:99%: by_exit does not add up"),
        (((3, 1500), (2, 1000)), "exit:99%: by_exit does not add up"),
    ],
)
def test_losses_by_exit_that_do_not_support_a_promise_are_refused(
    damaged: Path, promise_bundle: Path, exits: tuple[tuple[int, int], ...], problem: str
) -> None:
    with pytest.raises(BundleError, match=re.escape(problem)):
        read_manifest(changed(damaged, promise_bundle, by_exit(*exits)))


def test_a_refused_promise_names_the_command_that_certifies(
    damaged: Path, promise_bundle: Path
) -> None:
    with pytest.raises(BundleError, match="offramp certify makes promises for this bundle"):
        read_manifest(changed(damaged, promise_bundle, offered(0, losses=35)))


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("99%", Level("agreement", 0.01)),
        ("98.5%", Level("agreement", 0.015)),
        ("harm:0.5%", Level("harm", 0.005)),
        ("exit:98%", Level("exit", 0.02)),
        ("accuracy:1%", Level("accuracy", 0.01)),
    ],
)
def test_levels_are_parsed_and_written_alike(text: str, level: Level) -> None:
    assert parse_level(text) == level
    assert str(level) == text


@given(
    st.decimals(min_value="0.000001", max_value="99.999999", places=6),
    st.sampled_from(["", "harm:", "exit:", "accuracy:"]),
)
def test_every_level_survives_its_text(share: Any, kind: str) -> None:
    level = parse_level(f"{kind}{share}%")
    assert parse_level(str(level)) == level
    assert 0 < level.epsilon < 1


@pytest.mark.parametrize("text", ["", "99", "100%", "0%", "harm:0%", "-1%", "harm", "1e1%", "٩٩%"])
def test_other_texts_are_no_levels(text: str) -> None:
    with pytest.raises(ValueError, match="a share of answers that agree with full depth"):
        parse_level(text)


def test_agreement_implies_less_agreement_and_harm() -> None:
    assert Level("agreement", 0.01).holds(Level("agreement", 0.02))
    assert Level("agreement", 0.01).holds(Level("harm", 0.01))
    assert not Level("harm", 0.01).holds(Level("agreement", 0.02))
    assert not Level("agreement", 0.02).holds(Level("agreement", 0.01))
    assert Level("exit", 0.01).holds(Level("agreement", 0.01))
    assert not Level("agreement", 0.01).holds(Level("exit", 0.01))
    assert Level("harm", 0.01).holds(Level("accuracy", 0.01))
    assert not Level("accuracy", 0.01).holds(Level("harm", 0.02))


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("99%", "99%"),
        ("98%", "99%"),
        ("94%", "95%"),
        ("harm:2%", "harm:2%"),
        ("harm:1%", "99%"),
        ("99.5%", None),
        ("harm:0.5%", None),
        ("accuracy:2%", "harm:2%"),
    ],
)
def test_the_cheapest_promise_that_holds_a_level_is_found(
    promise_bundle: Path, asked: str, found: str | None
) -> None:
    promise = record(promise_bundle).cheapest(parse_level(asked))
    assert (promise and str(promise.level)) == found


def test_promises_have_labels_and_can_have_names(promise_bundle: Path) -> None:
    promises = record(promise_bundle)
    labels = ["promise-99", "promise-95", "promise-harm-2"]
    assert [each.label for each in promises.offered] == labels
    assert promises.named("safe") == promises.offered[0]
    assert promises.named("unsafe") is None
