"""Check unmodified clients of the Open Inference Protocol against a real server.

tritonclient (HTTP and gRPC) and KServe's clients (REST and gRPC) send images in every form that
they have. Their answers must equal those of the native API. They also cause an error of each kind,
and show its text. Then our load generator measures the native API and the protocol over HTTP, and
perf_analyzer both protocols, closed loop and Poisson. Exit status 1 if a check fails.

    make oip-check
    python -m benchmarks.serving.oip --bundle deploy/bundles/cifar10-msdnet --data cifar10

On Debian perf_analyzer needs: apt-get install libb64-0d
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from rich.progress import track

from benchmarks.serving.oip.doors import loads_of, rounds
from benchmarks.serving.oip.forms import JPEG, forms_of
from benchmarks.serving.oip.load import CONCURRENCY, Measured, Meter, PerfAnalyzer
from benchmarks.serving.servers.images import load_images
from benchmarks.serving.servers.processes import free_port
from offramp.bundle.manifest import Manifest, read_manifest
from serving.engine.budgets.points import default_budget
from serving.images.decoder import decode

ENVIRONMENT = Path(".venv-oip")  # made by `make oip-clients`
HOST = "127.0.0.1"
KEY = "a key for a check"
CLIENTS = ("triton_client", "kserve_client", "document")
CONNECTIONS = 8
MAX_PIXELS = 25_000_000
ROUNDS = 3
WARM_UP = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class Doors:
    """A server.

    Attributes:
        http: Address for HTTP, without a scheme.
        grpc: Address for gRPC.
        pid: Its process.
    """

    http: str
    grpc: str
    pid: int

    @property
    def ports(self) -> tuple[int, int]:
        """Return the ports for HTTP and gRPC."""
        return int(self.http.rpartition(":")[2]), int(self.grpc.rpartition(":")[2])


@contextmanager
def serving(bundle: Path, *options: str, **environment: str) -> Iterator[Doors]:
    """Serve a bundle over both protocols."""
    port = free_port()
    command = [sys.executable, "-m", "serving", "--bundle", str(bundle), "--port", "0"]
    command += ["--grpc-port", str(port), "--log-level", "info", *options]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=os.environ | environment
    ) as process:
        assert process.stderr is not None
        try:
            found = (re.search(r"at http://([^\s\"]+)", line) for line in process.stderr)
            match = next(each for each in found if each)
            httpx.get(f"http://{match[1]}/health/ready", timeout=60).raise_for_status()
            yield Doors(match[1], f"{HOST}:{port}", process.pid)
        finally:
            process.terminate()
            process.stderr.read()


def write_expected(doors: Doors, files: Sequence[bytes], folder: Path, manifest: Manifest) -> None:
    """Write the images and the answers of the native API, for the clients to compare with."""
    headers = {"Authorization": f"Bearer {KEY}"}
    with (
        httpx.Client(base_url=f"http://{doors.http}", timeout=60, headers=headers) as client,
        ThreadPoolExecutor(CONNECTIONS) as pool,
    ):
        responses = pool.map(lambda file: client.post("/classify", content=file), files)
        answers = [
            each.raise_for_status().json()["answers"][0]
            for each in track(responses, "native API", len(files), transient=True)
        ]
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "images").mkdir(parents=True)
    for number, file in enumerate(files):
        (folder / "images" / f"{number:05}").write_bytes(file)
    pixels = [decode(file, manifest.input, MAX_PIXELS) for file in files]
    np.save(folder / "pixels.npy", np.stack(pixels))
    names = {"model": manifest.name, "key": KEY, "answers": answers}
    (folder / "expected.json").write_text(json.dumps(names), encoding="utf-8")


def run_clients(doors: Doors, folder: Path) -> bool:
    """Run each client in their environment. Return whether all checks hold."""
    environment = os.environ | {"PYTHONPATH": str(Path.cwd()), "GRPC_VERBOSITY": "NONE"}
    hold = True
    for name in CLIENTS:
        command = [str(ENVIRONMENT / "bin" / "python"), "-m", f"benchmarks.serving.oip.{name}"]
        done = subprocess.run(
            [*command, str(folder), doors.http, doors.grpc], env=environment, check=False
        )
        hold &= done.returncode == 0
    return hold


def measure(
    doors: Doors, manifest: Manifest, files: Sequence[bytes], arguments: argparse.Namespace
) -> Iterator[Measured]:
    """Measure the native API and both protocols with the same images."""
    forms = forms_of(files, JPEG, manifest.input, default_budget(manifest))
    loads = loads_of(manifest.name, doors.ports, doors.pid, forms, CONCURRENCY)
    yield from rounds(loads, ROUNDS, arguments.seconds, WARM_UP)
    meter = Meter(doors.http, manifest.name, doors.pid)
    analyzer = PerfAnalyzer(ENVIRONMENT, meter, arguments.out, arguments.seconds)
    yield from analyzer.measure(doors.http, doors.grpc, files)


def main() -> int:
    """Run all checks and return 1 if one of them fails."""
    parser = argparse.ArgumentParser(description="Check clients of the Open Inference Protocol.")
    shipped = Path("deploy/bundles/cifar10-msdnet")
    parser.add_argument("--bundle", type=Path, default=shipped, help="folder of the bundle")
    parser.add_argument("--data", default="cifar10", help="hub name, parquet or folder of images")
    parser.add_argument("--images", type=int, default=1000, help="number of images to send")
    parser.add_argument("--out", type=Path, default=Path("results/oip"), help="folder for files")
    parser.add_argument("--seconds", type=float, default=5, help="length of a measurement")
    parser.add_argument("--load-only", action="store_true", help="measure, without the checks")
    arguments = parser.parse_args()
    manifest = read_manifest(arguments.bundle)
    files = load_images(arguments.data, manifest).files[: arguments.images]
    print(f"{manifest.name} {manifest.version}, {len(files):,} images", flush=True)
    hold = True
    if not arguments.load_only:
        with serving(arguments.bundle, OFFRAMP_API_KEY=KEY) as doors:
            write_expected(doors, files, arguments.out, manifest)
            hold = run_clients(doors, arguments.out)
    with serving(arguments.bundle) as doors:
        for measured in measure(doors, manifest, files, arguments):
            print(measured, flush=True)
            hold &= measured.answered
    print("every check holds" if hold else "NOT every check holds")
    return 0 if hold else 1


if __name__ == "__main__":
    sys.exit(main())
