"""The command, run as a user runs it."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from exporter.bundle import read_bundle
from exporter.cascade.__main__ import main
from exporter.cascade.networks.reduction import reduce_images
from exporter.errors import ExportError
from exporter.recalibrate import own_files
from exporter.stages.runner import Chain
from offramp.bundle.manifest import read_manifest
from tests.exporter.cascade.cascades import LARGE, NORMAL, SIZE, SMALL, make, two_exits
from tests.exporter.cascade.classifiers import LABELS, Classifier, pictures, write_pictures

WITHOUT_TORCH = """
import sys
from importlib.abc import MetaPathFinder

class Blocked(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "datasets", "onnxscript"):
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocked())
from offramp.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_two_files_become_a_bundle_without_torch(photos: Path, tmp_path: Path) -> None:
    mixed = ("red", "blue", "green")
    other = replace(SMALL, labels=mixed, stated=("names", str(dict(enumerate(mixed)))))
    small = other.write(tmp_path / "small.onnx")
    (tmp_path / "classes.txt").write_text("blue\ngreen\nred\n")
    large = replace(LARGE, dynamic_size=True).write(tmp_path / "large.onnx")
    words = ["cascade", str(small), str(large), "--data", str(photos), "--size", "16,32"]
    words += ["--out", str(tmp_path / "bundle"), "--dataset", "colours", *NORMAL]
    words += ["--classes", str(tmp_path / "classes.txt")]
    command = [sys.executable, "-c", WITHOUT_TORCH, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    manifest, graphs = read_bundle(tmp_path / "bundle")
    assert manifest.labels == LABELS
    pixels, _ = pictures(9, 32)
    theirs = other.probabilities(reduce_images(pixels, 16, "bilinear")).argmax(axis=1)
    assert [LABELS[k] for k in Chain(graphs).run(pixels).classes[0]] == [mixed[k] for k in theirs]
    assert (manifest.exits, manifest.firsts, manifest.input.height) == (2, (0, 1), 32)
    assert manifest.full_flops == manifest.stages[1].flops
    assert (manifest.format, manifest.solved_for) == (3, "agreement")
    assert manifest.budgets["full"].mean_flops.value == manifest.full_flops
    assert manifest.held_out.source == "colours, train"
    assert (tmp_path / "bundle" / "budgets.svg").exists()
    assert "warning: only 30 held-out images" in done.stdout
    assert f"{large}: 32 pixels" in done.stdout
    assert "promise 99%" in done.stdout


def test_each_stage_gives_the_answers_of_its_file(cascade: Path) -> None:
    manifest, graphs = read_bundle(cascade)
    pixels, _ = pictures(20, 32, seed=5)
    found = Chain(graphs).run(pixels).probabilities
    middle = Chain(two_exits()).run(reduce_images(pixels, SIZE, "bilinear")).probabilities
    small = SMALL.probabilities(reduce_images(pixels, 16, "bilinear"))
    expected = [small, *middle, LARGE.probabilities(pixels)]
    for stage, actual, one in zip(manifest.stages, found, expected, strict=True):
        cooled = one ** (1 / stage.temperature)
        assert np.abs(actual - cooled / cooled.sum(axis=1, keepdims=True)).max() < 1e-4


def test_flops_are_those_of_the_networks_that_run(cascade: Path) -> None:
    manifest, graphs = read_bundle(cascade)
    small, first, second, large = (graph.flops for graph in graphs)
    head = graphs[1].head_flops
    assert manifest.firsts == (0, 1, 3)
    assert 0 < head < first
    none = [False] * 4
    assert [manifest.flops_of(k, none) for k in (1, 2, 3, 4)] == [
        small, first, first - head + second, large
    ]  # fmt: skip
    assert manifest.flops_of(4, [True, True, False, True]) == small + first + large
    assert manifest.flops_of(4, [False, False, True, True]) == first - head + second + large
    for point in [*manifest.budgets.values(), *manifest.curve]:
        asked = [threshold <= 1 for threshold in point.thresholds]
        shares = [share.value for share in point.exit_shares]
        costs = [manifest.flops_of(k, asked) for k in (1, 2, 3, 4)]
        assert point.mean_flops.value == pytest.approx(np.dot(shares, costs))


def test_going_on_is_priced_in_milliseconds_of_this_machine(
    photos: Path, networks: list[Path], tmp_path: Path
) -> None:
    bundle = make(tmp_path / "bundle", photos, networks[:2], *NORMAL, "--price", "ms")
    manifest = read_manifest(bundle)
    assert (manifest.priced_in, manifest.format) == ("ms", 3)
    assert manifest.times is not None
    assert [len(stage.with_head) for stage in manifest.times.stages] == [2, 2, 2]
    assert manifest.budgets["full"].mean_flops.value == manifest.full_flops


def test_a_wrong_order_of_the_labels_is_noticed(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    networks = [SMALL.write(tmp_path / "small.onnx"), LARGE.write(tmp_path / "large.onnx")]
    (tmp_path / "classes.txt").write_text("green\nred\nblue\n")
    make(
        tmp_path / "bundle",
        photos,
        networks[::-1],
        *["--classes", str(tmp_path / "classes.txt"), "--promises", "null", *NORMAL],
    )
    shown = capsys.readouterr().out
    assert f"warning: {networks[1]} is right as rarely as by chance" in shown
    assert f"warning: {networks[0]} is cheaper than the one before" in shown


def refusal(capsys: pytest.CaptureFixture[str], data: Path, out: Path, *words: str) -> str:
    """Return why the command refuses, with exit code 1 and without a bundle."""
    assert main([*words, "--data", str(data), "--out", str(out)]) == 1
    assert not out.exists()
    return capsys.readouterr().err


def test_wrong_networks_and_options_are_refused(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def network(name: str, classifier: Classifier) -> str:
        return str(classifier.write(tmp_path / f"{name}.onnx"))

    def refused(*words: str) -> str:
        return refusal(capsys, photos, tmp_path / "bundle", *words)

    small, large = network("small", SMALL), network("large", LARGE)
    dynamic = network("dynamic", replace(SMALL, dynamic_size=True))
    pixels = network("pixels", replace(SMALL, dtype="uint8", layout="nhwc"))
    more = network("more", replace(SMALL, labels=(*LABELS, "black")))
    (tmp_path / "text.onnx").write_text("no network")
    text = str(tmp_path / "text.onnx")
    assert "text.onnx: is not an ONNX file" in refused(text, large, *NORMAL)
    assert "NETWORKS: " in (folder := refused(str(tmp_path), large, *NORMAL))
    assert "manifest.json: cannot be read" in folder
    assert "more.onnx: answers with 4 classes" in refused(more, large, *NORMAL)
    assert "--size states them" in refused(dynamic, large, *NORMAL)
    assert "large.onnx reads images of 32 pixels only" in refused(
        small, large, "--size", "16,24", *NORMAL
    )
    assert "--size: has 3 values for 2 networks" in refused(small, large, "--size", "8,16,32")
    assert "--size: big is not a list" in refused(small, large, "--size", "big")
    assert "small.onnx: reads float32 [N, 3, H, W], not uint8 pixels" in refused(small, large)
    assert "no network reads floats" in refused(pixels, pixels, *NORMAL)
    assert "--mean: 1,2 is not one number" in refused(small, large, "--mean", "1,2", "--std", "1")
    assert "--mean: 1e999 is not one number" in refused(
        small, large, "--mean", "1e999", "--std", "1"
    )
    assert "--std: must be above 0" in refused(small, large, "--mean", "0", "--std", "0")
    assert "--mean: has 3 values for 2 networks" in refused(
        small, large, *["--mean", "0"] * 3, "--std", "1/255"
    )
    assert "small.onnx gives logits, not probabilities" in refused(
        small, large, "--outputs", "probabilities", *NORMAL
    )
    assert "large.onnx gives probabilities, not logits" in refused(
        small, large, "--outputs", "logits", *NORMAL
    )
    assert "--outputs: both is not logits" in refused(small, large, "--outputs", "both", *NORMAL)
    assert "has no split 'test', only train" in refused(small, large, "--split", "test", *NORMAL)


def test_labels_that_do_not_fit_are_refused(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def network(name: str, stated: str | None, count: int = 3) -> str:
        labels = (*LABELS, "black")[:count]
        given = None if stated is None else ("names", stated)
        return str(replace(SMALL, labels=labels, stated=given).write(tmp_path / f"{name}.onnx"))

    def refused(*words: str) -> str:
        return refusal(capsys, photos, tmp_path / "bundle", *words, *NORMAL)

    def classes(text: str) -> list[str]:
        (tmp_path / "classes.txt").write_text(text)
        return ["--classes", str(tmp_path / "classes.txt")]

    plain, cats = network("plain", None), network("cats", "['cat', 'dog', 'red']")
    known = network("known", "['blue', 'green', 'red', 'black']", 4)
    assert "the label 'blue' is none of the networks' labels" in refused(plain, cats)
    assert "plain.onnx: answers with 3 classes, and there are 4" in refused(plain, known)
    assert "cats.onnx: has no label 'blue'" in refused(cats, plain, *classes("blue\ngreen\nred"))
    assert "known.onnx: has the label 'black'" in refused(
        plain, known, *classes("blue\ngreen\nred")
    )
    twice = network("twice", "['blue', 'green', 'red', 'red']", 4)
    assert "twice.onnx: states the label 'red' twice" in refused(twice, twice)
    assert "has 1 labels" in refused(plain, plain, *classes("blue\n"))
    assert "has the label 'red' twice" in refused(plain, plain, *classes("red\nred\nblue"))


def test_a_batch_that_cannot_be_freed_is_refused(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = replace(SMALL, batch=2).model()
    model.graph.node[-1].output[0] = "before"
    bias = np.ones((2, 3), np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(bias, "bias"))
    model.graph.node.append(onnx.helper.make_node("Add", ["before", "bias"], ["answer"]))
    onnx.save(model, tmp_path / "small.onnx")
    words = [str(tmp_path / "small.onnx"), str(LARGE.write(tmp_path / "large.onnx")), *NORMAL]
    assert "was exported for batches of 2, and cannot be made to take others" in refusal(
        capsys, photos, tmp_path / "bundle", *words
    )


def test_damaged_images_are_refused(
    tmp_path: Path, networks: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_pictures(tmp_path / "photos", 6)
    picture = next(data.glob("red/*.png"))
    picture.write_bytes(picture.read_bytes()[:100])
    words = [*map(str, networks), *NORMAL]
    assert "--data: 1 of 6 images cannot be decoded" in refusal(
        capsys, data, tmp_path / "bundle", *words
    )


def test_a_bundle_that_resizes_otherwise_is_refused(
    photos: Path, networks: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*words: str) -> str:
        return refusal(capsys, photos, tmp_path / "bundle", *map(str, networks), *NORMAL, *words)

    assert "brings images to its size with --filter bilinear" in refused("--filter", "bicubic")
    assert "--confidence: " in refused("--confidence", "margin")


def test_usage_errors_have_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["one.onnx", "--data", "d", "--out", "o"]) == 2
    assert main(["one.onnx", "two.onnx", "--out", "o"]) == 2
    assert "--data: a value is required" in capsys.readouterr().err


def test_the_images_that_a_cascade_was_trained_on_are_not_known(cascade: Path) -> None:
    with pytest.raises(ExportError, match="is a cascade of networks that were trained elsewhere"):
        own_files(read_manifest(cascade), "cifar10")
