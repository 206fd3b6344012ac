"""Throughput and latency of the protocol by perf_analyzer, and of the native API beside it."""

from __future__ import annotations

import base64
import csv
import json
import os
import struct
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import httpx
import numpy as np

CONCURRENCY = 8
RATE = 20  # requests per second, Poisson
CUDA = "lib/python*/site-packages/nvidia/cuda_runtime/lib"  # has libcudart, which it links
IMAGES = 64  # different images in its input
PERCENTILE = 99


@dataclass(frozen=True, slots=True)
class Measured:
    """Result of a measurement.

    Attributes:
        name: Protocol and load.
        throughput: Answers per second.
        p99: 99th percentile of the latency, in milliseconds.
        answered: The measurement ended well.
    """

    name: str
    throughput: float
    p99: float
    answered: bool = True

    def __str__(self) -> str:
        """Return a line of a table."""
        if not self.answered:
            return f"{self.name:36} FAILED"
        return f"{self.name:36} {self.throughput:8.1f} answers/s   p99 {self.p99:7.1f} ms"


def measure_native(address: str, files: Sequence[bytes], seconds: float) -> Measured:
    """Send raw bodies to the native API from as many connections, closed loop."""
    until = perf_counter() + seconds
    with httpx.Client(base_url=f"http://{address}") as client:

        def send(start: int) -> list[float]:
            found, number = [], start
            while (begun := perf_counter()) < until:
                client.post("/classify", content=files[number % len(files)]).raise_for_status()
                found.append(perf_counter() - begun)
                number += CONCURRENCY
            return found

        with ThreadPoolExecutor(CONCURRENCY) as pool:
            times = [each for part in pool.map(send, range(CONCURRENCY)) for each in part]
    p99 = 1e3 * float(np.percentile(times, PERCENTILE))
    return Measured(f"native API, {CONCURRENCY} connections", len(times) / seconds, p99)


def measure_perf_analyzer(
    environment: Path,
    http: str,
    grpc: str,
    model: str,
    files: Sequence[bytes],
    folder: Path,
    seconds: float,
) -> Iterator[Measured]:
    """Measure both protocols, closed loop and at a Poisson rate.

    Args:
        environment: Environment that has perf_analyzer.
        http: Address for HTTP.
        grpc: Address for gRPC.
        model: Name of the model.
        files: Images to send.
        folder: Folder for its input and its results.
        seconds: Length of a window of a measurement.
    """
    data = folder / "perf_analyzer.json"
    data.write_text(json.dumps({"data": [_entry(file) for file in files[:IMAGES]]}))
    loads = {
        f"concurrency {CONCURRENCY}": [f"--concurrency-range={CONCURRENCY}"],
        f"Poisson {RATE}/s": [f"--request-rate-range={RATE}", "--request-distribution=poisson"],
    }
    for protocol, address in (("http", http), ("grpc", grpc)):
        for load, options in loads.items():
            name = f"perf_analyzer {protocol}, {load}"
            result = folder / "perf_analyzer.csv"
            result.unlink(missing_ok=True)
            command = [
                str(environment / "bin" / "perf_analyzer"),
                *("-m", model, "-u", address, "-i", protocol, "--input-data", str(data)),
                *("-f", str(result), f"--percentile={PERCENTILE}", "--stability-percentage=50"),
                f"--measurement-interval={round(1e3 * seconds)}",
                *options,
            ]
            yield _run(name, command, environment, result)


def _entry(file: bytes) -> dict[str, object]:
    """Return an image as input data. Each element has its length first."""
    element = struct.pack("<I", len(file)) + file
    return {"image": {"b64": base64.b64encode(element).decode()}}


def _run(name: str, command: list[str], environment: Path, result: Path) -> Measured:
    libraries = [*map(str, environment.glob(CUDA)), os.environ.get("LD_LIBRARY_PATH", "")]
    found = os.environ | {"LD_LIBRARY_PATH": ":".join(libraries)}
    done = subprocess.run(command, env=found, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not result.exists():
        print(done.stdout[-2000:], done.stderr[-2000:])
        return Measured(name, 0, 0, answered=False)
    with result.open(encoding="utf-8") as lines:
        row = next(csv.DictReader(lines))
    p99 = float(row[f"p{PERCENTILE} latency"]) / 1e3
    return Measured(name, float(row["Inferences/Second"]), p99)
