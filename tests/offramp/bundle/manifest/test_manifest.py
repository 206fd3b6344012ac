from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from offramp.bundle.errors import BundleError
from offramp.bundle.manifest import Manifest, PretrainedWeights, read_manifest


def test_flops_are_those_of_the_stages_and_the_heads_that_run(manifest: Manifest) -> None:
    no_heads, all_heads = [False] * 4, [True] * 4
    assert [manifest.flops_of(k, all_heads) for k in (1, 2, 3, 4)] == [100e3, 250e3, 430e3, 700e3]
    assert [manifest.flops_of(k, no_heads) for k in (1, 2, 3, 4)] == [100e3, 240e3, 400e3, 640e3]
    assert manifest.flops_of(3, [False, True, False, False]) == 420e3
    assert manifest.full_stage_flops == (90_000, 130_000, 150_000, 270_000)
    assert manifest.full_flops == 640e3


def test_a_folder_without_a_manifest_is_not_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json.*offramp export"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m.pop("labels"), "labels"),
        (lambda m: m["labels"].append("class3"), "labels: Value error, 'class3' is there twice"),
        (lambda m: m.update(format=1), "format: Input should be 2"),
        (lambda m: m.update(surprise=1), "surprise"),
        (
            lambda m: m["stages"][0]["features"].pop(),
            "stage 2 reads b1.coarse, which no earlier stage",
        ),
        (
            lambda m: m["stages"][0]["features"][1].update(shape=[8, 4, 4]),
            "stage 2 reads b1.coarse",
        ),
        (lambda m: m["stages"][3]["inputs"].pop(0), "no stage reads b3.fine"),
        (
            lambda m: m["stages"][1]["features"].append(m["stages"][0]["features"][0]),
            "stage 2 gives b1.fine, as an earlier stage does",
        ),
        (lambda m: m["stages"][1].update(flops_to_exit=1), "stage 2: its flops do not add up"),
        (lambda m: m["stages"][1].update(head_flops=10**6), "stage 2: its flops do not add up"),
        (lambda m: m["stages"][0].update(file="../../etc/passwd"), "stages.0.file"),
        (lambda m: m["budgets"]["low"]["thresholds"].pop(), "budget low"),
        (lambda m: m["budgets"]["low"]["thresholds"].__setitem__(3, 0.5), "last threshold"),
        (lambda m: m["curve"].reverse(), "order"),
        (
            lambda m: m["stages"][3]["features"].append(
                {**m["stages"][0]["inputs"][0], "name": "x"}
            ),
            "no stage reads x",
        ),
    ],
)
def test_an_inconsistent_manifest_is_refused_with_the_reason(
    damaged: Path, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    path = damaged / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(BundleError) as caught:
        read_manifest(damaged)
    assert str(path) in str(caught.value)
    assert says in str(caught.value)


def test_fields_that_older_versions_do_not_know_are_written_only_where_they_say_something(
    manifest: Manifest,
) -> None:
    weights = PretrainedWeights(source="a file", licence="CC0-1.0", sha256="0" * 64)
    other = manifest.model_copy(
        update={
            "input": manifest.input.model_copy(update={"margin": 0.875}),
            "provenance": manifest.provenance.model_copy(update={"weights": weights}),
        }
    )
    plain, full = (json.loads(each.model_dump_json()) for each in (manifest, other))
    assert "margin" not in plain["input"]
    assert "weights" not in plain["provenance"]
    assert full["input"]["margin"] == 0.875
    assert full["provenance"]["weights"] == weights.model_dump()
    assert set(full["provenance"]["weights"]) == {"source", "licence", "sha256"}
    assert Manifest.model_validate(plain) == manifest
    assert Manifest.model_validate(full) == other
