"""Throughput and latency of the protocol and of the native API."""

from __future__ import annotations

import base64
import csv
import json
import os
import struct
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

from benchmarks.serving.servers.processes import usage
from offramp.load.outcomes import BUDGET, OK, Plan
from offramp.load.sender import Load, send

CONCURRENCY = 16
RATE = 20  # requests per second, Poisson
CUDA = "lib/python*/site-packages/nvidia/cuda_runtime/lib"  # has libcudart, which it links
IMAGES = 64  # different images in its input
PERCENTILE = 99
STABLE = 999  # percent by which its windows can differ: the check is that it runs
MOST_RATE = 10_000  # answers per second that a plan is made for
UNREAD = (-1, -1, -1, np.nan, BUDGET)  # in the place of an answer: the statuses suffice
ROUNDS = 3  # of each form of HTTP, interleaved
DIGITS = 8  # of a size in JSON, so that every request has JSON of the same length


@dataclass(frozen=True, slots=True)
class Measured:
    """Result of a measurement.

    Attributes:
        name: Protocol and load.
        throughput: Answers per second.
        p99: 99th percentile of the latency, in milliseconds.
        cpu: CPU time of the server for an answer, in milliseconds.
        answered: The measurement ended well.
    """

    name: str
    throughput: float
    p99: float
    cpu: float
    answered: bool = True

    def __str__(self) -> str:
        """Return a line of a table."""
        if not self.answered:
            return f"{self.name:36} FAILED"
        return (
            f"{self.name:36} {self.throughput:8.1f} answers/s   p99 {self.p99:7.1f} ms   "
            f"CPU {self.cpu:6.3f} ms an answer"
        )


@dataclass(frozen=True, slots=True)
class Meter:
    """CPU time and answers of a server.

    Attributes:
        address: Its address for HTTP.
        model: Name of the model.
        pid: Its process.
    """

    address: str
    model: str
    pid: int

    def read(self) -> tuple[float, int]:
        """Return the CPU seconds and the number of answers so far."""
        stats = httpx.get(f"http://{self.address}/v2/models/{self.model}/stats", timeout=60)
        return usage(self.pid).cpu, stats.json()["model_stats"][0]["inference_count"]

    def since(self, before: tuple[float, int]) -> float:
        """Return the CPU milliseconds for an answer since an earlier `read`."""
        cpu, answers = self.read()
        return 1e3 * (cpu - before[0]) / max(1, answers - before[1])


def measure_http(meter: Meter, files: Sequence[bytes], seconds: float) -> Iterator[Measured]:
    """Send raw bodies to the native API and binary tensors to the protocol, closed loop.

    Args:
        meter: The server.
        files: Images to send.
        seconds: Length of a measurement.
    """
    port = int(meter.address.rpartition(":")[2])
    path = f"/v2/models/{meter.model}/infer"
    tensors = [_binary(file) for file in files]
    length = {"Inference-Header-Content-Length": str(tensors[0].index(b"}]}") + 3)}
    binary = {"Content-Type": "application/octet-stream", **length}
    for _ in range(ROUNDS):
        load = Load(port, CONCURRENCY, seconds)
        yield _closed_loop("native API", "/classify", files, load, meter)
        load = Load(port, CONCURRENCY, seconds, binary)
        yield _closed_loop("HTTP, binary", path, tensors, load, meter)


def _binary(file: bytes) -> bytes:
    """Return a request with a binary tensor, whose outputs are binary too."""
    size = f"{len(file) + 4:{DIGITS}}"
    json_ = (
        '{"parameters":{"binary_data_output":true},"inputs":[{"name":"image","shape":[1],'
        f'"datatype":"BYTES","parameters":{{"binary_data_size":{size}}}}}]}}'
    )
    return json_.encode() + struct.pack("<I", len(file)) + file


def _closed_loop(
    name: str, path: str, bodies: Sequence[bytes], load: Load, meter: Meter
) -> Measured:
    count = round(MOST_RATE * load.seconds)
    plan = Plan((path,), np.zeros(count, np.int64), np.arange(count) % len(bodies))
    before = meter.read()
    report = send(bodies, plan, load, lambda *_: UNREAD)
    found = report.outcomes
    times = 1e3 * (found.done - found.sent)
    p99 = float(np.percentile(times, PERCENTILE))
    name = f"{name}, {CONCURRENCY} connections"
    right = bool((found.status == OK).all())
    return Measured(name, len(times) / report.wall, p99, meter.since(before), right)


@dataclass(frozen=True, slots=True)
class PerfAnalyzer:
    """perf_analyzer with its options.

    Attributes:
        environment: Environment that has it.
        meter: The server.
        folder: Folder for its input and its results.
        seconds: Length of a window of a measurement.
    """

    environment: Path
    meter: Meter
    folder: Path
    seconds: float

    def measure(self, http: str, grpc: str, files: Sequence[bytes]) -> Iterator[Measured]:
        """Measure both protocols, closed loop and at a Poisson rate.

        Args:
            http: Address for HTTP.
            grpc: Address for gRPC.
            files: Images to send.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        data = self.folder / "perf_analyzer.json"
        entries = {"data": [_entry(file) for file in files[:IMAGES]]}
        data.write_text(json.dumps(entries), encoding="utf-8")
        loads = {
            f"concurrency {CONCURRENCY}": [f"--concurrency-range={CONCURRENCY}"],
            f"Poisson {RATE}/s": [f"--request-rate-range={RATE}", "--request-distribution=poisson"],
        }
        for protocol, address in (("http", http), ("grpc", grpc)):
            common = ["-u", address, "-i", protocol, "--input-data", str(data)]
            for load, options in loads.items():
                yield self._run(f"perf_analyzer {protocol}, {load}", [*common, *options])

    def _run(self, name: str, options: list[str]) -> Measured:
        result = self.folder / "perf_analyzer.csv"
        result.unlink(missing_ok=True)
        command = [
            str(self.environment / "bin" / "perf_analyzer"),
            *("-m", self.meter.model, "-f", str(result), f"--percentile={PERCENTILE}"),
            f"--measurement-interval={round(1e3 * self.seconds)}",
            f"--stability-percentage={STABLE}",
            *options,
        ]
        libraries = [*map(str, self.environment.glob(CUDA)), os.environ.get("LD_LIBRARY_PATH", "")]
        found = os.environ | {"LD_LIBRARY_PATH": ":".join(libraries)}
        before = self.meter.read()
        done = subprocess.run(command, env=found, capture_output=True, text=True, check=False)
        if done.returncode != 0 or not result.exists():
            print(done.stdout[-2000:], done.stderr[-2000:])
            return Measured(name, 0, 0, 0, answered=False)
        with result.open(encoding="utf-8") as lines:
            row = next(csv.DictReader(lines))
        p99 = float(row[f"p{PERCENTILE} latency"]) / 1e3
        return Measured(name, float(row["Inferences/Second"]), p99, self.meter.since(before))


def _entry(file: bytes) -> dict[str, object]:
    """Return an image as input data. Each element has its length first."""
    element = struct.pack("<I", len(file)) + file
    return {"image": {"b64": base64.b64encode(element).decode()}}
