from pathlib import Path

import pytest

from benchmarks.training.reject import main
from exporter.bundle import Naming, write_bundle
from exporter.network.export import make_manifest
from tests.exporter.conftest import one_registry
from tests.exporter.exported import checkpoint, export
from tests.offramp.pictures import write_files
from tests.training.samples import PARQUET

__all__ = ["one_registry"]


def test_areas_of_each_score_and_the_shares_of_each_exit_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    naming = Naming(name="tiny", version="7", dataset="some images")
    exported = export(smaller=True)
    manifest = make_manifest(checkpoint(smaller=True), exported, naming, "max_softmax")
    write_bundle(tmp_path / "bundle", manifest, exported)
    write_files(tmp_path / "others", 20)
    options = ["--data", str(PARQUET), "--others", str(tmp_path / "others")]
    main(["--bundle", str(tmp_path / "bundle"), *options])
    lines = capsys.readouterr().out.splitlines()
    assert "100 held-out images against 20 other photos" in lines[1]
    assert [line.split()[0] for line in lines[2:5]] == ["energy", "max_logit", "confidence"]
    assert sum("AUROC" in line for line in lines[5:]) == manifest.exits
