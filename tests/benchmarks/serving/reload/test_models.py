from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.serving.reload.models import NAME, SETS, WHAT, Versions, What
from offramp.bundle.errors import BundleError
from offramp.bundle.manifest import read_manifest
from serving.runtime.cpu import CpuRuntime
from tests.serving.small_bundle import write_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundle") / "testnet")


@pytest.mark.parametrize("what", WHAT)
def test_versions_differ_in_what_was_asked_for(bundle: Path, tmp_path: Path, what: What) -> None:
    versions = Versions(tmp_path, bundle)
    versions.changes = what
    for version in (1, 2):
        versions.write(version)
    one, two = (read_manifest(tmp_path / NAME / version) for version in "12")
    assert one.labels != two.labels
    for first, second in zip(one.stages, two.stages, strict=True):
        assert (first.sha256 == second.sha256) == (what == "manifest")
    CpuRuntime(tmp_path / NAME / "2", two)


def test_versions_near_each_other_have_other_weights(bundle: Path, tmp_path: Path) -> None:
    versions = Versions(tmp_path, bundle)
    versions.changes = "graphs"
    versions.prepare()
    for version in range(1, SETS + 2):
        versions.write(version)
    manifests = [read_manifest(tmp_path / NAME / str(n)) for n in range(1, SETS + 2)]
    assert len({each.stages for each in manifests[:SETS]}) == SETS
    assert manifests[-1].stages == manifests[0].stages


def test_a_corrupt_version_has_a_graph_of_other_bytes(bundle: Path, tmp_path: Path) -> None:
    Versions(tmp_path, bundle).write(3, corrupt=True)
    folder = tmp_path / NAME / "3"
    with pytest.raises(BundleError, match="sha256"):
        CpuRuntime(folder, read_manifest(folder))
