"""The command, run as a user runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.design.__main__ import main
from offramp.bundle.manifest import read_manifest
from tests.exporter.cascade.cascades import NORMAL
from tests.exporter.cascade.classifiers import Classifier


def test_networks_are_measured_and_a_chain_becomes_a_bundle(
    photos: Path, networks: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot, out = tmp_path / "design.svg", tmp_path / "chain"
    words = ["--data", str(photos), "--runs", *map(str, networks[:2]), "--within", "50", *NORMAL]
    assert main([*words, "--plot", str(plot), "--out", str(out), "--promises", "null"]) == 0
    shown = capsys.readouterr().out
    for row in ("small.onnx ", "two exit 1 ", "two exit 2 ", " > ", "ONNX Runtime"):
        assert row in shown
    assert "proposed: " in shown
    assert "budget=" in shown
    assert "small.onnx" in plot.read_text()
    manifest = read_manifest(out)
    assert manifest.priced_in == "ms"
    names = [each.name for each in networks]
    proposed = shown.partition("proposed: ")[2].partition(",")[0]
    recorded = manifest.provenance.config["networks"]
    assert isinstance(recorded, list)
    assert len(recorded) == proposed.count(">") + 1
    assert any(name in proposed for name in names)


def test_without_out_only_the_plot_is_written(
    photos: Path, networks: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot = tmp_path / "new" / "design.png"
    words = [str(networks[0]), "--data", str(photos), *NORMAL]
    assert main([*words, "--plot", str(plot), "--at", "100ms"]) == 0
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert "proposed: small.onnx, " in capsys.readouterr().out
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [plot]


def test_the_proposal_keeps_what_a_network_that_was_left_out_states(
    photos: Path, tmp_path: Path
) -> None:
    """Only the network that is dear and often wrong states the order of the labels."""
    mixed = ("red", "blue", "green")
    good = Classifier(size=16, labels=mixed).write(tmp_path / "good.onnx")
    poor = Classifier(size=32, labels=mixed, noise=2, stated=("names", str(list(mixed))))
    words = [str(poor.write(tmp_path / "poor.onnx")), str(good), "--data", str(photos), *NORMAL]
    words += ["--price", "flops", "--plot", str(tmp_path / "design.svg"), "--promises", "null"]
    assert main([*words, "--out", str(tmp_path / "chain")]) == 0
    manifest = read_manifest(tmp_path / "chain")
    assert (manifest.exits, manifest.input.height, manifest.labels) == (1, 16, mixed)
    assert manifest.stages[0].accuracy.value > 0.6


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--within", "1", "--at", "5ms"], "--within and --at exclude each other"),
        (["--plot", "design.txt"], "--plot: the name must end in .svg or .png"),
        (["--at", "0ms"], "at"),
        (["--at", "soon"], "at"),
    ],
)
def test_wrong_options_are_refused(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["a.onnx", "--data", "photos", *words]) == 2
    assert says in capsys.readouterr().err


def test_a_plot_that_cannot_be_written_is_refused_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    words = ["a.onnx", "--data", "photos", "--plot", str(tmp_path / "file" / "design.svg")]
    assert main(words) == 1
    assert "--plot: " in capsys.readouterr().err


def test_a_time_that_is_too_short_is_refused(
    photos: Path, networks: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(networks[0]), "--data", str(photos), *NORMAL, "--at", "0.00001ms"]
    assert main([*words, "--plot", str(tmp_path / "design.svg")]) == 1
    assert "--at: the cheapest network takes" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
