"""Measure the compute time of each stage on this machine."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from time import thread_time

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto

from exporter.stages.graph import IMAGE, StageGraph
from offramp.bundle.graphs import without_head
from offramp.bundle.values import MeasuredTimes, TimesOfStage
from training.evaluation.evaluate import Floats

BATCHES = (1, 8)  # images
RUNS = 10  # of each stage and batch, of which the median counts
Tensors = Mapping[str, NDArray[np.generic]]
Sessions = tuple[ort.InferenceSession, ort.InferenceSession | None]  # with its head, without it


def measure_times(
    graphs: Sequence[StageGraph], clock: Callable[[], float] = thread_time
) -> MeasuredTimes:
    """Run each stage on noise, by one thread, with its head and without.

    A stage without features is all head and takes no time without it.

    Args:
        graphs: The stages, in their order.
        clock: Clock in seconds. CPU time is the same where other work runs.
    """
    sessions = [_sessions(graph) for graph in graphs]
    noise = np.random.default_rng(0)
    shape = graphs[0].inputs[0].shape
    columns = [
        list(_seconds(sessions, noise.integers(0, 256, (batch, *shape), np.uint8), clock))
        for batch in BATCHES
    ]
    stages = zip(*columns, strict=True)
    return MeasuredTimes(
        machine=machine(),
        threads=1,
        runs=RUNS,
        batches=BATCHES,
        stages=tuple(
            TimesOfStage(
                with_head=tuple(_milliseconds(whole) for whole, _ in each),
                without_head=tuple(_milliseconds(trunk) for _, trunk in each),
            )
            for each in stages
        ),
    )


def _seconds(
    sessions: Sequence[Sessions], images: NDArray[np.uint8], clock: Callable[[], float]
) -> Iterator[tuple[float, float]]:
    """Run each stage on a batch of images, and yield its seconds with its head and without."""
    known: dict[str, NDArray[np.generic]] = {IMAGE: images}
    for whole, trunk in sessions:
        seconds, outputs = _timed(whole, known, clock)
        yield seconds, _timed(trunk, known, clock)[0] if trunk else 0.0
        known |= outputs


def machine() -> str:
    """Return the processor of this machine, and the version of ONNX Runtime."""
    model = platform.processor() or platform.machine()
    path = Path("/proc/cpuinfo")
    if path.exists():
        lines = (line.partition(":") for line in path.read_text(encoding="utf-8").splitlines())
        names = (value.strip() for key, _, value in lines if key.strip() == "model name")
        model = next(names, model)
    return f"{model}, ONNX Runtime {ort.__version__}"


def prices(times: MeasuredTimes) -> Floats:
    """Return the milliseconds of one image to each exit, with all heads on the way, [exits]."""
    to_exit: Floats = np.cumsum([stage.with_head[0] for stage in times.stages])
    return to_exit


def _milliseconds(seconds: float) -> float:
    return round(1e3 * seconds, 4)


def _sessions(graph: StageGraph) -> Sessions:
    features = [spec.name for spec in graph.features]
    trunk = _session(without_head(graph.model, features)) if features else None
    return _session(graph.model), trunk


def _session(model: ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    data = model.SerializeToString()
    return ort.InferenceSession(data, options, ["CPUExecutionProvider"])


def _timed(
    session: ort.InferenceSession, known: Tensors, clock: Callable[[], float]
) -> tuple[float, dict[str, NDArray[np.generic]]]:
    """Return the median seconds of a run, and its outputs by name."""
    names = [output.name for output in session.get_outputs()]
    run = partial(
        session.run, names, {each.name: known[each.name] for each in session.get_inputs()}
    )
    outputs, seconds = run(), []
    for _ in range(RUNS):
        started = clock()
        run()
        seconds.append(clock() - started)
    return median(seconds), dict(zip(names, outputs, strict=True))
