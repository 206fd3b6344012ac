"""Make a cascade of ONNX classifiers, and measure its stages and budgets in milliseconds.

    python -m benchmarks.cascade --files small.onnx large.onnx --data IMAGES --out FOLDER
        -- --size 160,224 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
    python -m benchmarks.cascade --bundle deploy/bundles/clothing-lite0 --small 160 --data IMAGES
        --out FOLDER

With `--bundle` the two networks are the last exit of a bundle at its own size and at a smaller one,
whose weights were not trained for that size: a check of the whole path, not of a good cascade.
What follows `--` are options of `offramp cascade`. FOLDER must not exist.

Times are of one thread and batches of one image, the least of several: of each file in ONNX
Runtime, and of each stage in the server's runtime, with the reduction of the image. A budget's time
is the sum over its exit shares.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import onnx
import onnxruntime as ort

from exporter.bundle import read_bundle
from exporter.cascade.__main__ import main as cascade
from offramp.bundle.graphs import EXIT_OUTPUTS, exit_outputs, join, without_head
from offramp.bundle.manifest import Manifest, OperatingPoint, read_manifest, stages_run
from serving.runtime.cpu import CpuRuntime

ROUNDS = 30


def classifier(bundle: Path, size: int) -> onnx.ModelProto:
    """Return the last exit of a bundle as one graph that reads images of this size."""
    _, graphs = read_bundle(bundle, promises=False)
    probabilities = exit_outputs(len(graphs), EXIT_OUTPUTS)[-1][0]
    model = without_head(join([graph.model for graph in graphs]), [probabilities])
    for axis in model.graph.input[0].type.tensor_type.shape.dim[1:3]:
        axis.dim_value = size
    del model.graph.value_info[:]
    return model


def least(run: Callable[[], object]) -> float:
    """Return the least milliseconds of several runs."""
    seconds = []
    for _ in range(ROUNDS):
        started = perf_counter()
        run()
        seconds.append(perf_counter() - started)
    return 1e3 * min(seconds)


def file_time(path: Path, size: int) -> float:
    """Return the milliseconds of an ONNX file for one image."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    shape = [1 if k == 0 else 3 if axis == 3 else size for k, axis in enumerate(image.shape)]
    dtypes = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32, "tensor(float16)": np.float16}
    pixels = np.full(shape, 1, dtypes[image.type])
    return least(lambda: session.run(None, {image.name: pixels}))


def stage_times(bundle: Path, manifest: Manifest) -> list[float]:
    """Return the milliseconds of each stage with its head, for one image."""
    runtime = CpuRuntime(bundle, manifest)
    size = manifest.input.height
    known = {"image": np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)}
    times = []
    for k in range(manifest.exits):
        times.append(least(partial(runtime.run, k, known)))
        known |= runtime.run(k, known).features
    return times


def report(bundle: Path, files: Sequence[Path]) -> None:
    """Print the times of files, stages, reduction and budgets."""
    manifest = read_manifest(bundle)
    times = stage_times(bundle, manifest)
    records = manifest.provenance.config["networks"]
    assert isinstance(records, list)
    for path, record in zip(files, records, strict=True):
        size = int(record["size"])
        print(f"{path.name}: {size} pixels, {file_time(path, size):.2f} ms in ONNX Runtime")
    for k, ms in enumerate(times, 1):
        print(f"stage {k}: {ms:.2f} ms, {manifest.stages[k - 1].flops / 1e6:.1f} M flops")
    for name, point in manifest.budgets.items():
        print(
            f"{name:8} {point.mean_flops.value / manifest.full_flops:6.1%} of the flops   "
            f"{mean_time(manifest, point, times):6.2f} ms   accuracy {point.accuracy.value:.2%}"
        )


def mean_time(manifest: Manifest, point: OperatingPoint, times: Sequence[float]) -> float:
    """Return the mean milliseconds of a budget from those of each stage."""
    asked = [threshold <= 1 for threshold in point.thresholds]
    ms = 0.0
    for k, share in enumerate(point.exit_shares):
        run = stages_run(manifest.firsts, [*asked[:k], True])
        ms += share.value * sum(time for time, runs in zip(times, run, strict=False) if runs)
    return ms


def files_of(bundle: Path, small: int, out: Path) -> tuple[list[Path], list[str]]:
    """Write the classifier of a bundle for two sizes. Return the files, and options for them."""
    own, classes = read_manifest(bundle, promises=False), out / "classes.txt"
    classes.write_text("\n".join(own.labels) + "\n", encoding="utf-8")
    files = [out / "small.onnx", out / "large.onnx"]
    for path, size in zip(files, (small, own.input.height), strict=True):
        onnx.save(classifier(bundle, size), path)
    options = ["--filter", own.input.filter, "--margin", str(own.input.margin)]
    return files, [*options, "--classes", str(classes)]


def build_parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=Path, nargs="+")
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--small", type=int, default=160)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    return parser


def main() -> int:
    """Make the cascade, time that, and print the times of what it is made of."""
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    options = build_parser().parse_args(words[:end])
    more, files = words[end + 1 :], options.files
    options.out.mkdir(parents=True)
    if options.bundle:
        files, of_bundle = files_of(options.bundle, options.small, options.out)
        more += of_bundle
    started = perf_counter()
    bundle = options.out / "bundle"
    code = cascade([*map(str, files), "--data", options.data, "--out", str(bundle), *more])
    if code == 0:
        print(f"offramp cascade took {perf_counter() - started:.0f} s")
        report(bundle, files)
    return code


if __name__ == "__main__":
    sys.exit(main())
