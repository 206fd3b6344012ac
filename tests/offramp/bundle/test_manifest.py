from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from offramp.bundle.errors import BundleError
from offramp.bundle.manifest import (
    Manifest,
    PretrainedWeights,
    TensorSpec,
    first_stages,
    read_manifest,
    stages_run,
)
from offramp.bundle.stage_files import read_graph
from offramp.bundle.values import Estimate


def test_a_bundle_is_read_and_its_graphs_have_the_right_hash(bundle: Path) -> None:
    manifest = read_manifest(bundle)
    assert manifest.exits == 4
    assert all(len(read_graph(bundle, stage)) > 1000 for stage in manifest.stages)


def test_flops_are_those_of_the_stages_and_the_heads_that_run(manifest: Manifest) -> None:
    no_heads, all_heads = [False] * 4, [True] * 4
    assert [manifest.flops_of(k, all_heads) for k in (1, 2, 3, 4)] == [100e3, 250e3, 430e3, 700e3]
    assert [manifest.flops_of(k, no_heads) for k in (1, 2, 3, 4)] == [100e3, 240e3, 400e3, 640e3]
    assert manifest.flops_of(3, [False, True, False, False]) == 420e3
    assert manifest.full_flops == 640e3


def test_a_stage_that_no_later_one_needs_features_before_begins_a_network() -> None:
    image, a, b, c = (TensorSpec(name=name, dtype="uint8", shape=(1,)) for name in "iabc")
    inputs = [[image], [a], [image], [image], [b, image], [c]]
    assert first_stages(inputs, [[a], [], [], [b], [c], []]) == (0, 2, 3)
    assert first_stages(inputs, [[a, b], [], [], [], [c], []]) == (0,)


@pytest.mark.parametrize(
    ("evaluated", "run"),
    [
        ("0001", "0001"),
        ("1001", "1001"),
        ("0011", "0111"),
        ("0101", "0101"),
        ("001", "011"),
        ("1", "1"),
    ],
)
def test_a_stage_runs_if_its_exit_or_a_later_one_of_its_network_is_evaluated(
    evaluated: str, run: str
) -> None:
    asked = [letter == "1" for letter in evaluated]
    assert "".join("01"[each] for each in stages_run((0, 1, 3), asked)) == run


def test_an_estimate_includes_its_bounds() -> None:
    estimate = Estimate(value=0.5, low=0.4, high=0.6)
    assert estimate.within(0.4)
    assert not estimate.within(0.39)


def test_a_folder_without_a_manifest_is_not_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json.*python -m exporter"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m.pop("labels"), "labels"),
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


def test_a_graph_with_a_wrong_hash_is_refused_by_name(damaged: Path, manifest: Manifest) -> None:
    path = damaged / "stage2.onnx"
    graph = bytearray(path.read_bytes())
    graph[len(graph) // 2] ^= 1
    path.write_bytes(graph)
    with pytest.raises(BundleError, match=r"stage2\.onnx: its sha256"):
        read_graph(damaged, manifest.stages[1])


def test_a_missing_graph_is_refused_by_name(damaged: Path, manifest: Manifest) -> None:
    (damaged / "stage3.onnx").unlink()
    with pytest.raises(BundleError, match=r"stage3\.onnx: cannot be read"):
        read_graph(damaged, manifest.stages[2])


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
