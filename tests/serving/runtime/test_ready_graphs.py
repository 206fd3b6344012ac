"""Graphs that are made once, and run by sessions on sealed memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offramp.bundle.manifest import Manifest
from serving.runtime.cpu import CpuRuntime, make_ready
from serving.runtime.ready_graphs import ReadyGraphs, UnsealedError, read_graphs, write_graphs
from tests.serving.engines import MakeImages


@pytest.fixture
def memory() -> Iterator[int]:
    made = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    yield made
    os.close(made)


def file_of(memory: int) -> Path:
    return Path(f"/proc/self/fd/{memory}")


def outputs(runtime: CpuRuntime, images: MakeImages) -> list[Any]:
    """Return the probabilities and the confidence of every exit, and of the whole network."""
    known: dict[str, Any] = {"image": images(5, 3)}
    found = [runtime.run_whole(known)]
    for stage in range(len(runtime.inputs)):
        found.append(runtime.run(stage, known))
        known |= runtime.run(stage, known, head=False).features
    return [(each.probabilities, each.confidence) for each in found]


def test_answers_are_equal_to_the_bit(
    bundle: Path, manifest: Manifest, memory: int, images: MakeImages
) -> None:
    graphs = make_ready(bundle, manifest, "native")
    assert graphs is not None
    write_graphs(graphs, memory)
    missing = bundle / "is not read"
    runtime = CpuRuntime(missing, manifest, ready=read_graphs(file_of(memory)))
    own = CpuRuntime(bundle, manifest)
    assert not runtime.warm
    assert (runtime.structure, runtime.inputs) == (own.structure, own.inputs)
    for one, other in zip(outputs(runtime, images), outputs(own, images), strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


def test_graphs_of_another_bundle_are_not_used(
    bundle: Path, manifest: Manifest, images: MakeImages
) -> None:
    runtime = CpuRuntime(bundle, manifest, ready=ReadyGraphs([], key="another"))
    assert len(outputs(runtime, images)) == 1 + manifest.exits


def test_there_are_none_in_the_portable_layout(bundle: Path, manifest: Manifest) -> None:
    assert make_ready(bundle, manifest, "portable") is None


def test_what_was_written_cannot_be_changed(memory: int) -> None:
    write_graphs(ReadyGraphs([], "structure", "key"), memory)
    for change in (lambda: os.pwrite(memory, b"?", 0), lambda: os.truncate(memory, 1)):
        with pytest.raises(PermissionError):
            change()
    assert read_graphs(file_of(memory)) == ReadyGraphs([], "structure", "key")


def test_memory_that_can_be_changed_is_refused(memory: int, tmp_path: Path) -> None:
    os.write(memory, bytes(100))
    (tmp_path / "file").write_bytes(bytes(100))
    with pytest.raises(UnsealedError):
        read_graphs(file_of(memory))
    with pytest.raises(OSError, match="Invalid argument"):
        read_graphs(tmp_path / "file")
