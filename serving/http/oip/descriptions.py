"""Descriptions of server and model as JSON data. gRPC sends the same fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import offramp
from offramp.bundle.manifest import Manifest
from serving.errors import MalformedBodyError, NotReadyError, UnknownModelError
from serving.http.context import ServerContext
from serving.http.oip.protocol import BYTES, FP32, IMAGE, INT64, OUTPUTS, PROBABILITIES
from serving.observe.metrics import Metrics

SERVER = "offramp"
READY = "READY"  # state of a version that takes requests
EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "statistics",
)
CONFIG_TYPES = {BYTES: "TYPE_STRING", INT64: "TYPE_INT64", FP32: "TYPE_FP32"}
PLATFORM = "offramp_onnx"
ANSWERED = ("answered", "deadline", "degraded")  # outcomes of requests with an answer
Data = dict[str, Any]


class Descriptions:
    """Describes the server and the model of a context."""

    def __init__(self, context: ServerContext) -> None:
        self._manifest = context.manifest
        self._metrics = context.metrics
        self._engine = context.engine
        self._max_images = context.max_images
        self.server = server_metadata()
        self.model = _metadata(context.manifest)

    @property
    def name(self) -> str:
        """Return the name of the model."""
        return self._manifest.name

    @property
    def version(self) -> str:
        """Return the version of the model."""
        return self._manifest.version

    def check_name(self, name: str, version: str = "") -> None:
        """Check that the server has this model. An empty version is any.

        Raises:
            UnknownModelError: It has not.
        """
        if name != self.name or version not in ("", self.version):
            asked = f"{name[:64]!r}" + (f" version {version[:64]!r}" if version else "")
            raise UnknownModelError(
                f"there is no model {asked}; this server has {self.name!r} version {self.version!r}"
            )

    def check_ready(self) -> None:
        """Check that requests are taken.

        Raises:
            NotReadyError: They are not. The text is the reason.
        """
        if self._engine.refusal is not None:
            raise NotReadyError(self._engine.refusal)

    def config(self) -> Data:
        """Return the configuration of the model, as Triton describes one."""
        return _config(self._manifest, self._max_images)

    def index(self) -> list[Data]:
        """Return the index of the repository: the model, with its state."""
        refusal = self._engine.refusal
        state = READY if refusal is None else "UNAVAILABLE"
        entry = {"name": self.name, "version": self.version, "state": state}
        return [entry | {"reason": refusal or ""}]

    def statistics(self) -> Data:
        """Return the statistics of the model, from the metrics of all workers."""
        return {"model_stats": [{"name": self.name, "version": self.version}
                                | _statistics(self._metrics, self._manifest)]}  # fmt: skip


def chosen_rows(index: list[Data], body: Mapping[str, object]) -> list[Data]:
    """Return the rows of an index that a body asks for: all, or those that are ready.

    Raises:
        MalformedBodyError: Its field `ready` is not a boolean.
    """
    ready = body.get("ready", False)
    if not isinstance(ready, bool):
        raise MalformedBodyError("ready: neither true nor false")
    return [row for row in index if row["state"] == READY or not ready]


def server_metadata() -> Data:
    """Return the description of the server."""
    return {"name": SERVER, "version": offramp.__version__, "extensions": list(EXTENSIONS)}


def _metadata(manifest: Manifest) -> Data:
    shapes: dict[str, Sequence[int]] = {PROBABILITIES: (-1, len(manifest.labels))}
    return {
        "name": manifest.name,
        "versions": [manifest.version],
        "platform": PLATFORM,
        # Pixels, UINT8 [N, height, width, 3], are taken too. Metadata can name one datatype.
        "inputs": [{"name": IMAGE, "datatype": BYTES, "shape": [-1, 1]}],
        "outputs": [
            {"name": name, "datatype": datatype, "shape": list(shapes.get(name, (-1,)))}
            for name, datatype in OUTPUTS.items()
        ],
    }


def _config(manifest: Manifest, max_images: int) -> Data:
    return {
        "name": manifest.name,
        "platform": PLATFORM,
        "backend": SERVER,
        "max_batch_size": max_images,
        "input": [{"name": IMAGE, "data_type": CONFIG_TYPES[BYTES], "dims": [1]}],
        "output": [
            {"name": name, "data_type": CONFIG_TYPES[datatype]}
            | (
                {"dims": [len(manifest.labels)]}
                if name == PROBABILITIES
                else {"dims": [1], "reshape": {"shape": []}}  # a number for each image
            )
            for name, datatype in OUTPUTS.items()
        ],
        "dynamic_batching": {},
    }


def _statistics(metrics: Metrics, manifest: Manifest) -> Data:
    totals = _Totals(metrics)
    answered = sum(totals("requests_total", outcome=each) for each in ANSWERED)
    failed = totals("requests_total") - answered
    begins = [str(first + 1) for first in manifest.firsts]  # of a cascade, a network can be skipped
    batches = sum(totals("batch_size_count", stage=each) for each in (*begins, "all"))

    def part(name: str) -> Data:
        # perf_analyzer stops unless all parts have the same count.
        return _duration(answered, totals("request_part_seconds_sum", part=name))

    return {
        "inference_count": int(answered),
        "execution_count": int(batches),
        "inference_stats": {
            "success": _duration(answered, totals("request_seconds_sum")),
            "fail": _duration(failed),
            "queue": part("queue"),
            "compute_input": part("decode"),
            "compute_infer": part("compute"),
            "compute_output": _duration(answered),
            "cache_hit": _duration(0),
            "cache_miss": _duration(0),
        },
        "batch_stats": [],
    }


def _duration(count: float, seconds: float = 0.0) -> Data:
    return {"count": int(count), "ns": int(seconds * 1e9)}


class _Totals:
    """Sums of the samples of one scrape."""

    def __init__(self, metrics: Metrics) -> None:
        self._samples = [each for metric in metrics.registry.collect() for each in metric.samples]

    def __call__(self, name: str, **labels: str) -> float:
        return sum(
            each.value
            for each in self._samples
            if each.name == f"offramp_{name}" and labels.items() <= each.labels.items()
        )
