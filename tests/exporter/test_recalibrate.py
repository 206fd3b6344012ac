from pathlib import Path

import numpy as np
import pytest

from exporter.bundle import Naming, read_bundle, write_bundle
from exporter.errors import ExportError
from exporter.network.export import make_manifest
from exporter.recalibrate import images_for, recalibrate
from exporter.stages.runner import Chain
from tests.exporter.exported import checkpoint, export, held_out
from tests.offramp.pictures import write_files
from tests.training.samples import LABELS
from training.data.images import Images
from training.evaluation.thresholds import fit_temperature


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    naming = Naming(name="tiny", version="7", dataset="some images")
    write_bundle(folder, make_manifest(checkpoint(), export(), naming, "max_softmax"), export())
    return folder


def other_images() -> Images:
    """Return darker images."""
    images = held_out()
    return Images(images.pixels[20:] // 3, images.targets[20:])


def test_the_same_images_change_nothing(bundle: Path) -> None:
    manifest, graphs = read_bundle(bundle)
    again, _ = recalibrate(manifest, graphs, held_out(), "some images", log=lambda _: None)
    for new, old in zip(again.stages, manifest.stages, strict=True):
        assert new.temperature == pytest.approx(old.temperature, rel=1e-5)
    update = {"created": manifest.created, "stages": manifest.stages}
    assert again.budgets["full"] == manifest.budgets["full"]
    assert again.model_copy(update=update).provenance == manifest.provenance


def test_other_images_give_other_temperatures_and_budgets(bundle: Path, tmp_path: Path) -> None:
    manifest, graphs = read_bundle(bundle)
    images = other_images()
    new, measured = recalibrate(manifest, graphs, images, "darker", log=lambda _: None)
    write_bundle(tmp_path / "new", new, measured)
    read, written = read_bundle(tmp_path / "new")
    assert read == new
    assert (new.held_out.images, new.held_out.source) == (80, "darker")
    assert new.full_flops == manifest.full_flops
    probabilities = Chain(written).run(images.pixels).probabilities
    for output, stage in zip(probabilities, new.stages, strict=True):
        refitted = fit_temperature(np.log(output), images.targets.numpy())
        # fitting again changes nothing, unless a poor network puts the temperature at its bound
        assert refitted == pytest.approx(1, abs=1e-3) or stage.temperature == pytest.approx(20)
        right = output.argmax(1) == images.targets.numpy()
        assert stage.accuracy.value == pytest.approx(right.mean())


def test_the_error_for_a_damaged_bundle_names_its_file(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"--bundle: .*manifest\.json: cannot be read"):
        read_bundle(tmp_path)


def test_images_are_loaded_at_the_bundles_input_size(bundle: Path) -> None:
    manifest, _ = read_bundle(bundle)
    parquet = Path(__file__).parents[1] / "data" / "cifar10-500.parquet"
    labels = manifest.model_copy(update={"labels": LABELS})
    assert images_for(labels, str(parquet), "train").pixels.shape == (500, 32, 32, 3)
    odd = manifest.model_copy(
        update={"input": manifest.input.model_copy(update={"fit": "stretch"})}
    )
    with pytest.raises(ExportError, match="resizes images in a way that is not supported"):
        images_for(odd, str(parquet), "train")


def test_images_of_a_table_are_in_random_order_and_what_is_left_out_is_named(
    bundle: Path, tmp_path: Path
) -> None:
    manifest, _ = read_bundle(bundle)
    labels = LABELS[:5]
    rows = [f"{path},{labels[i % 5]}" for i, path in enumerate(write_files(tmp_path, 50))]
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["file,label", *rows, "missing.png,cat"]), encoding="utf-8")
    said: list[str] = []
    known = manifest.model_copy(update={"labels": labels})
    images = images_for(known, str(table), "train", log=said.append)
    assert len(set(images.targets[::5].tolist())) > 1  # a fold of a cross-fit
    assert said == [
        "  left out: 1",
        "    missing.png (line 52) cannot be opened: No such file or directory",
    ]
