from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from offramp.bundle.errors import BundleError
from serving.errors import ModelLoadError, StageError, UnknownModelError
from serving.models.catalog import Trial
from serving.models.folder import ModelFolder
from serving.models.planner import Planner, Wish, refusal


@pytest.fixture
def planner(tmp_path: Path) -> Planner:
    for path in ("cats/1", "cats/2", "dogs/1"):
        (tmp_path / path).mkdir(parents=True)
        (tmp_path / path / "manifest.json").write_text(path)
    return Planner(ModelFolder(tmp_path), keep_previous=False)


def test_it_starts_with_the_newest_version_of_each_model(planner: Planner) -> None:
    found = {(each.name, each.version) for each in planner.start().entries()}
    assert found == {("cats", "2"), ("dogs", "1")}


def test_it_does_not_start_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="has no model"):
        Planner(ModelFolder(tmp_path), keep_previous=False).start()
    with pytest.raises(BundleError, match="cannot be read"):
        Planner(ModelFolder(tmp_path / "none"), keep_previous=False).start()


def test_a_bundle_in_another_place_is_logged(
    planner: Planner, caplog: pytest.LogCaptureFixture
) -> None:
    catalog = planner.start()
    assert not caplog.messages
    planner.folder.of("cats", "v3").parent.mkdir()
    planner.folder.of("cats", "v3").write_text("cats")
    assert planner.changed(catalog) == []
    (message,) = caplog.messages
    assert "cats/v3 is not served: a version is a positive integer" in message


def test_what_changed_in_the_folder_is_found(planner: Planner) -> None:
    catalog = planner.start()
    assert planner.changed(catalog) == []
    folder = planner.folder
    folder.of("cats", "2").write_text("other")
    shutil.rmtree(folder.path / "dogs")
    (folder.path / "birds" / "1").mkdir(parents=True)
    folder.of("birds", "1").write_text("birds")
    wishes = planner.changed(catalog)
    assert wishes == [Wish("dogs", unload=True), Wish("birds", "1"), Wish("cats", "2")]
    for wish in wishes:
        catalog = planner.propose(catalog, wish)
    assert planner.changed(catalog) == []


def test_a_model_with_a_folder_that_cannot_be_read_is_not_unloaded(
    planner: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog, read = planner.start(), Path.iterdir

    def fail(path: Path) -> Iterator[Path]:
        if path.name == "cats":
            raise OSError(errno.ESTALE, "Stale file handle", str(path))
        return read(path)

    monkeypatch.setattr(Path, "iterdir", fail)
    for plan in (planner.start, lambda: planner.changed(catalog)):
        with pytest.raises(BundleError, match=r"cats: cannot be read \(Stale file handle\)"):
            plan()
    assert planner.folder.versions("cats") == []


def test_an_older_version_can_be_asked_for(planner: Planner) -> None:
    back = planner.propose(planner.start(), Wish("cats", "1"))
    assert [each.version for each in back.models["cats"]] == ["1"]


@pytest.mark.parametrize(
    "wish", [Wish("cats", "3"), Wish("birds"), Wish("birds", unload=True), Wish("../cats")]
)
def test_what_is_not_there_is_refused_and_not_noted(planner: Planner, wish: Wish) -> None:
    catalog = planner.start()
    with pytest.raises(UnknownModelError) as caught:
        planner.propose(catalog, wish)
    assert planner.noting(catalog, wish, caught.value) is catalog
    assert refusal(wish, caught.value) is caught.value


def test_the_reason_of_a_failure_is_noted(planner: Planner) -> None:
    catalog, error = planner.start(), StageError("no probabilities")
    noted = planner.noting(catalog, Wish("cats"), error)
    assert noted.failures == {("cats", "2"): "no probabilities"}
    assert noted.models == catalog.models
    told = refusal(Wish("cats"), error)
    assert isinstance(told, ModelLoadError)
    assert str(told) == "load cats failed, and what served before still does: no probabilities"


def test_a_canary_needs_another_version_that_answers(planner: Planner) -> None:
    catalog = planner.start()
    tried = planner.propose(catalog, Wish("cats", "1", share=0.1))
    assert [each.version for each in tried.models["cats"]] == ["2", "1"]
    assert planner.changed(tried) == []
    for wish in (Wish("cats", "2", share=0.1), Wish("dogs", share=0.1)):
        with pytest.raises(ModelLoadError, match="no other version") as caught:
            planner.propose(catalog, wish)
        assert planner.noting(catalog, wish, caught.value) is catalog


def test_a_shadow_answers_nothing_from_the_start_on(planner: Planner) -> None:
    folder, shadows = planner.folder, {"cats": ("2", 0.05)}
    catalog = Planner(folder, keep_previous=False, shadows=shadows).start()
    assert [each.version for each in catalog.models["cats"]] == ["1", "2"]
    assert catalog.shadows == {"cats": Trial("2", 0.05)}
    wish = Wish("cats", "2", share=0.05, shadow=True)
    assert str(wish) == "load cats version 2 as a shadow of 0.05 of the requests"
    folder.of("cats", "2").write_text("other")
    assert planner.changed(catalog) == [wish]  # it is tried anew, and does not answer
    ended = planner.propose(catalog, Wish("cats", "1"))
    assert ended.shadows == {}


@pytest.mark.parametrize(
    ("shadows", "error"),
    [
        ({"cats": ("3", 0.05)}, UnknownModelError),
        ({"birds": ("1", 0.05)}, UnknownModelError),
        ({"dogs": ("1", 0.05)}, ModelLoadError),
    ],
)
def test_it_does_not_start_without_a_shadow_and_a_version_that_answers(
    planner: Planner, shadows: dict[str, tuple[str, float]], error: type[Exception]
) -> None:
    with pytest.raises(error):
        Planner(planner.folder, keep_previous=False, shadows=shadows).start()
