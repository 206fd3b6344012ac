import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from exporter.bundle import Naming, write_bundle
from exporter.errors import ExportError
from exporter.network.export import export_network, make_manifest
from exporter.report import save_figure, write_plot
from offramp.bundle.errors import BundleError
from offramp.bundle.manifest import Manifest, read_manifest
from offramp.bundle.stage_files import read_graph
from offramp.errors import UnwritableFileError
from tests.exporter.exported import checkpoint, export, held_out
from training.networks.flops import flops_to_exits

NAMING = Naming(name="tiny", version="7", dataset="some images")


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return make_manifest(checkpoint(), export(), NAMING, "max_softmax")


def test_serving_reads_the_bundle_that_is_written(tmp_path: Path, manifest: Manifest) -> None:
    write_bundle(tmp_path / "bundle", manifest, export())
    assert read_manifest(tmp_path / "bundle") == manifest
    for spec, graph in zip(manifest.stages, export().graphs, strict=True):
        assert read_graph(tmp_path / "bundle", spec) == graph.serialized()
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]
    assert "</svg>" in (tmp_path / "bundle" / "budgets.svg").read_text()


def test_an_existing_folder_is_not_overwritten(tmp_path: Path, manifest: Manifest) -> None:
    with pytest.raises(ExportError, match="exists"):
        write_bundle(tmp_path, manifest, export())


def test_a_bundle_without_room_leaves_nothing(tmp_path: Path, manifest: Manifest) -> None:
    code = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, code[1]))
    try:
        with pytest.raises(UnwritableFileError, match="bundle: cannot be written: File too large"):
            write_bundle(tmp_path / "bundle", manifest, export())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, code)
    assert not list(tmp_path.iterdir())


def test_a_plot_without_room_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(_: Figure, path: Path, **_options: Any) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", half)
    monkeypatch.setattr("exporter.report.budget_figure", lambda *_: Figure())
    plot = tmp_path / "budgets.svg"
    plot.write_text("before")
    writers: list[Callable[[], None]] = [
        lambda: write_plot(plot, None, None),  # type: ignore[arg-type] # not drawn
        lambda: save_figure(plot, Figure()),
    ]
    for write in writers:
        with pytest.raises(UnwritableFileError, match=r"budgets\.svg: cannot be written: No space"):
            write()
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [
        ("budgets.svg", "before")
    ]


def test_two_exports_to_one_folder_do_not_mix(
    tmp_path: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plot_while_another_export_writes(*arguments: Any) -> None:
        monkeypatch.undo()
        with pytest.raises(UnwritableFileError, match="bundle: another process writes it"):
            write_bundle(tmp_path / "bundle", manifest, export())
        write_plot(*arguments)

    monkeypatch.setattr("exporter.bundle.write_plot", plot_while_another_export_writes)
    write_bundle(tmp_path / "bundle", manifest, export())
    assert read_manifest(tmp_path / "bundle") == manifest
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


def test_the_manifest_states_the_measurements(manifest: Manifest) -> None:
    scored = export().scored
    assert manifest.held_out.images == len(held_out()) == 100
    assert [s.flops_to_exit for s in manifest.stages] == scored.flops.astype(int).tolist()
    assert [s.blockwise_flops_to_exit for s in manifest.stages] == list(
        flops_to_exits(checkpoint().network(), 32)
    )
    for point in manifest.budgets.values():
        evaluated = [threshold <= 1 for threshold in point.thresholds]
        by_exit = [manifest.flops_of(k, evaluated) for k in range(1, manifest.exits + 1)]
        shares = [share.value for share in point.exit_shares]
        assert point.mean_flops.value == pytest.approx(np.dot(shares, by_exit))
    assert manifest.budgets["full"].mean_flops.value == manifest.full_flops == scored.full_flops
    for stage, right, temperature in zip(
        manifest.stages, scored.right, export().temperatures, strict=True
    ):
        assert stage.accuracy.value == pytest.approx(right.mean())
        assert stage.temperature == temperature
    assert manifest.provenance.dataset == "some images"
    assert "data" not in manifest.provenance.config, "a path of the training machine"


@pytest.mark.parametrize("file", ["manifest.json", "stage_2.onnx"])
def test_the_error_for_a_changed_bundle_names_the_file(
    tmp_path: Path, manifest: Manifest, file: str
) -> None:
    write_bundle(tmp_path / "bundle", manifest, export())
    path = tmp_path / "bundle" / file
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BundleError, match=file):
        read_graph(tmp_path / "bundle", read_manifest(tmp_path / "bundle").stages[1])


def test_the_error_for_an_unknown_confidence_lists_the_known_ones() -> None:
    with pytest.raises(ExportError, match="max_softmax, margin"):
        export_network(checkpoint(), held_out(), "hunch", log=lambda _: None)
