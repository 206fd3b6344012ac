"""Throughput and latency as perf_analyzer measures them, and the CPU time of a server."""

from __future__ import annotations

import base64
import csv
import json
import os
import struct
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.goals import spread
from benchmarks.serving.servers.processes import usage

CONCURRENCY = 16
RATE = 20  # requests per second, Poisson
CUDA = "lib/python*/site-packages/nvidia/cuda_runtime/lib"  # has libcudart, which it links
IMAGES = 64  # different images in its input
PERCENTILE = 99
TINY = 1e-9  # of a measurement that failed
STABLE = 999  # percent by which its windows can differ: the check is that it runs


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


def table(
    kind: str,
    other: str,
    found: Mapping[str, Sequence[Measured]],
    against: Callable[[str], Sequence[Measured]],
) -> list[str]:
    """Return a table of measurements by name, with ratios to others, round by round.

    Args:
        kind: Heading of the names.
        other: Heading of what the ratios are to.
        found: Measurements of all rounds, by name.
        against: Function from a name to the measurements that its ratios are to.
    """
    lines = [
        f"| {kind} | answers/s | of {other} | CPU ms per answer | {other} / it | p99 ms |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, each in found.items():
        pairs = [*zip(each, against(name), strict=True)]
        cells = (
            spread([m.throughput for m in each], 0),
            spread([m.throughput / max(o.throughput, TINY) for m, o in pairs], 2),
            spread([m.cpu for m in each], 3),
            spread([o.cpu / max(m.cpu, TINY) for m, o in pairs], 2),
            spread([m.p99 for m in each], 1),
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


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
        data = self.write([entry(file) for file in files[:IMAGES]])
        loads = {
            f"concurrency {CONCURRENCY}": [f"--concurrency-range={CONCURRENCY}"],
            f"Poisson {RATE}/s": [f"--request-rate-range={RATE}", "--request-distribution=poisson"],
        }
        for protocol, address in (("http", http), ("grpc", grpc)):
            common = ["-u", address, "-i", protocol, "--input-data", str(data)]
            for load, options in loads.items():
                yield self.run(f"perf_analyzer {protocol}, {load}", [*common, *options])

    def write(self, entries: Sequence[object]) -> Path:
        """Write input data, an entry for each request, and return the file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "perf_analyzer.json"
        path.write_text(json.dumps({"data": entries}), encoding="utf-8")
        return path

    def run(self, name: str, options: Sequence[str]) -> Measured:
        """Measure once, with these options."""
        self.folder.mkdir(parents=True, exist_ok=True)
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


def entry(file: bytes) -> dict[str, object]:
    """Return an image as input data. Each element has its length first."""
    element = struct.pack("<I", len(file)) + file
    return {"image": {"b64": base64.b64encode(element).decode()}}
