"""The command `offramp certify`, run as a user runs it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exporter.bundle import Naming, write_bundle
from exporter.certify.__main__ import main
from exporter.network.export import make_manifest
from exporter.promises.certificate import Certified, certify
from offramp.bundle.manifest import read_manifest
from tests.exporter.exported import checkpoint, export
from tests.offramp.pictures import DAMAGED
from tests.serving.promise_bundle import write_promise_bundle
from tests.serving.small_bundle import png, random_images
from tests.training.samples import PARQUET

IMAGES = 130  # 59 without a loss certify 95 % alone, and half of the images certify


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write photos into folders of two depths, without labels, and a damaged one."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "more").mkdir()
    for number, image in enumerate(random_images(IMAGES, seed=5)):
        place = folder / "more" if number % 2 else folder
        (place / f"{number}.png").write_bytes(png(image))
    (folder / "broken.jpg").write_bytes(DAMAGED)
    return folder


@pytest.fixture(scope="module")
def promising(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_promise_bundle(tmp_path_factory.mktemp("bundles") / "testnet")


@pytest.fixture
def bundle(promising: Path, tmp_path: Path) -> Path:
    return shutil.copytree(promising, tmp_path / "bundle")


def manifest_text(bundle: Path) -> str:
    return (bundle / "manifest.json").read_text()


def test_photos_without_labels_certify_a_bundle(
    bundle: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = read_manifest(bundle)
    options = ["--bundle", str(bundle), "--data", str(photos)]
    assert main([*options, "--promises", "95%", "--delta", "0.04"]) == 0
    after = read_manifest(bundle)
    assert after.with_promises(before.promises) == before
    assert after.promises is not None
    assert [str(each.level) for each in after.promises.offered] == ["95%"]
    assert (after.promises.tuned, after.promises.certified) == (65, 65)
    assert (after.promises.delta, after.promises.at_once) == (0.04, 1)
    assert after.promises.source == photos.name
    output = capsys.readouterr().out
    assert "promise 95%" in output
    assert "left out: " in output
    assert "broken.jpg" in output


def test_what_the_photos_cannot_certify_is_left_out_with_the_number_it_takes(
    bundle: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--bundle", str(bundle), "--data", str(photos)]
    assert main([*options, "--promises", "90%,99%"]) == 0
    promises = read_manifest(bundle).promises
    assert promises is not None
    assert [str(each.level) for each in promises.offered] == ["90%"]
    assert "promise 99%       cannot be certified on 130 images" in capsys.readouterr().out


def test_a_bundle_whose_promises_were_refused_can_be_certified_again(
    bundle: Path, photos: Path
) -> None:
    manifest = json.loads(manifest_text(bundle))
    manifest["promises"]["offered"][0]["losses"] = 1000
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    assert main(["--bundle", str(bundle), "--data", str(photos), "--promises", "90%"]) == 0
    assert read_manifest(bundle).promises is not None


def test_a_bundle_that_was_replaced_while_it_was_certified_stays(
    bundle: Path,
    photos: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = json.dumps({**json.loads(manifest_text(bundle)), "version": "2"})

    def replace_meanwhile(*arguments: Any) -> Certified:
        (bundle / "manifest.json").write_text(other)
        return certify(*arguments)

    monkeypatch.setattr("exporter.certify.run.certify", replace_meanwhile)
    assert main(["--bundle", str(bundle), "--data", str(photos), "--promises", "90%"]) == 1
    assert "--bundle: " in (error := capsys.readouterr().err)
    assert "was replaced meanwhile" in error
    assert manifest_text(bundle) == other


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([], 1, "130 images certify no promise; give more images, or promise less"),
        (["--promises", "100%"], 1, "--promises: '100%' is not a share of answers"),
        (["--promises", "9%,9%"], 1, "--promises: give each once"),
        (["--promises", "harm:5%", "--data", "/no/such"], 1, "--promises: harm needs labels"),
        (["--promises", "accuracy:5%"], 1, "--promises: accuracy needs labels"),
        (["--delta", "1"], 2, "--delta"),
        (["--data", "/no/such"], 1, "data: there is no file or folder /no/such"),
    ],
)
def test_a_refusal_is_one_line_and_changes_nothing(
    bundle: Path,
    photos: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    says: str,
) -> None:
    before = manifest_text(bundle)
    data = [] if "--data" in arguments else ["--data", str(photos)]
    assert main(["--bundle", str(bundle), *data, *arguments]) == code
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert says in error
    assert manifest_text(bundle) == before


def test_photos_that_cannot_be_brought_to_the_size_as_the_server_does_certify_nothing(
    bundle: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads(manifest_text(bundle))
    manifest["input"]["fit"] = "stretch"
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    assert main(["--bundle", str(bundle), "--data", str(photos), "--promises", "90%"]) == 1
    assert "--bundle: it resizes images in a way" in capsys.readouterr().err


def test_held_out_images_certify_harm_by_their_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    naming = Naming(name="tiny", version="1", dataset="some images")
    bundle = tmp_path / "bundle"
    write_bundle(bundle, make_manifest(checkpoint(), export(), naming, "max_softmax"), export())
    options = ["--bundle", str(bundle), "--data", str(PARQUET), "--held-out"]
    assert "certified" not in (bundle / "budgets.svg").read_text()
    assert main([*options, "--promises", "70%,harm:30%"]) == 0
    assert "certified" in (bundle / "budgets.svg").read_text()
    promises = read_manifest(bundle).promises
    assert promises is not None
    assert [str(each.level) for each in promises.offered] == ["70%", "harm:30%"]
    assert (promises.tuned, promises.certified) == (50, 50)
    assert "temperatures of this bundle were fitted on these images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda manifest: manifest["labels"].reverse(), "has other classes than the bundle"),
        (lambda manifest: manifest["held_out"].update(images=99), "this is not its data set"),
        (
            lambda manifest: manifest["stages"][0]["accuracy"].update(value=0.9, low=0.5, high=1),
            "these are not the images that the bundle was made with",
        ),
    ],
)
def test_held_out_images_of_another_data_set_are_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[dict[str, Any]], None],
    says: str,
) -> None:
    naming = Naming(name="tiny", version="1", dataset="some images")
    bundle = tmp_path / "bundle"
    write_bundle(bundle, make_manifest(checkpoint(), export(), naming, "max_softmax"), export())
    manifest = json.loads(manifest_text(bundle))
    change(manifest)
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    options = ["--bundle", str(bundle), "--data", str(PARQUET), "--held-out"]
    assert main([*options, "--promises", "70%"]) == 1
    assert says in capsys.readouterr().err
