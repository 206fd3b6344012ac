from __future__ import annotations

from pathlib import Path

import pytest

from serving.errors import UnknownModelError
from serving.models.folder import ModelFolder


def write(folder: Path, *paths: str) -> ModelFolder:
    for path in paths:
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(path)
    return ModelFolder(folder)


def test_versions_are_integers_with_a_manifest_and_the_newest_is_first(tmp_path: Path) -> None:
    models = write(
        tmp_path,
        *(f"cats/{version}/manifest.json" for version in ("1", "9", "10", "0", "01", "v2", "-1")),
        "cats/11/stage1.onnx",
        "cats/12/manifest.json.partial",
        "Dogs/1/manifest.json",
        "birds/1/manifest.json",
        "notes.txt",
    )
    (tmp_path / "empty").mkdir()
    assert models.names() == ["birds", "cats"]
    assert models.versions("cats") == ["10", "9", "1"]
    assert models.newest("cats") == "10"


def test_bundles_in_other_places_are_named(tmp_path: Path) -> None:
    paths = ("cats/1", "cats/v2", "cats/02", "cats/.3.copied", "Dogs/1", "birds", ".x/1", ".y")
    models = write(tmp_path, *(f"{path}/manifest.json" for path in paths))
    found = {str(path.relative_to(tmp_path)): reason for path, reason in models.not_served()}
    assert found.keys() == {"cats/v2", "cats/02", "Dogs/1", "birds"}
    assert "positive integer" in found["cats/02"]
    assert "name of a model" in found["Dogs/1"]
    assert "NAME/VERSION/manifest.json" in found["birds"]


@pytest.mark.parametrize("name", ["none", "../cats", "", "notes.txt"])
def test_a_model_that_is_not_there_has_no_version(name: str, tmp_path: Path) -> None:
    models = write(tmp_path, "cats/1/manifest.json", "notes.txt")
    assert models.versions(name) == []
    with pytest.raises(UnknownModelError, match="no version of"):
        models.newest(name)


def test_the_digest_changes_with_the_manifest(tmp_path: Path) -> None:
    models = write(tmp_path, "cats/1/manifest.json")
    before = models.digest("cats", "1")
    assert before == models.digest("cats", "1")
    models.of("cats", "1").write_text("other")
    assert models.digest("cats", "1") != before
    with pytest.raises(UnknownModelError, match="no version '2' of 'cats'"):
        models.digest("cats", "2")
