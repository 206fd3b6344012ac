"""The servers that are compared, as commands: ours, and its peers where they are installed."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.serving.generator.connection import HOST
from benchmarks.serving.peers.settings import BATCH, BUNDLE, GRAPH, WAIT_MS, WORKERS
from benchmarks.serving.servers.processes import PORT, Server

OURS, NAIVE, BARE = "offramp", "naive", "bare"
EQUAL = "equal"  # as a budget's name
ENVIRONMENTS = Path(".venv-peers")  # as `make bench-peers` makes them
PEERS = "benchmarks.serving.peers."
FULL = {"full": "/classify"}
V1 = {"full": "/v1/models/classifier:predict"}  # KServe's own protocol
V2 = {"full": "/v2/models/classifier/infer"}  # the open inference protocol
RAW = {"Inference-Header-Content-Length": "0"}  # Triton: the body is the one input


@dataclass(frozen=True, slots=True)
class Target:
    """What is served.

    Args:
        bundle: folder.
        graph: the same network at full depth, as one file.
        budgets: that the bundle names.
        equal: the budget that is as accurate as full depth.
    """

    bundle: Path
    graph: Path
    budgets: tuple[str, ...]
    equal: str

    @property
    def asked(self) -> dict[str, str]:
        """What to ask for, by the name of a budget or `EQUAL`."""
        return {name: name for name in self.budgets} | {EQUAL: self.equal}

    def paths(self, endpoint: str) -> dict[str, str]:
        """The path of each."""
        return {name: f"{endpoint}?budget={budget}" for name, budget in self.asked.items()}


@dataclass(frozen=True, slots=True)
class _Peer:
    """A full-depth server in an environment of its own.

    Args:
        package: that it needs, and the environment's name.
        command: after the environment's `bin/`.
        batch: most images in a batch; what was fastest here.
        wait_ms: for a batch to fill.
        listens_everywhere: only for a network namespace of our own.
        paths: of each budget.
        headers: that its requests need.
    """

    package: str
    command: Sequence[str]
    batch: int = 1
    wait_ms: int = 0
    listens_everywhere: bool = False
    paths: Mapping[str, str] = field(default_factory=lambda: FULL)
    headers: Mapping[str, str] = field(default_factory=dict)


def _module(name: str, *options: str) -> tuple[str, ...]:
    return ("python", "-m", PEERS + name, *options)


FULL_DEPTH: Mapping[str, _Peer] = {
    "litserve": _Peer("litserve", _module("litserve_server", PORT), batch=8, wait_ms=2),
    "mosec": _Peer(
        "mosec",
        _module("mosec_server", "--address", HOST, "--port", PORT, "--timeout", "60000"),
        batch=16,
        wait_ms=2,
    ),
    "bentoml": _Peer(
        "bentoml",
        ("bentoml", "serve", f"{PEERS}bentoml_server:Classifier", "--host", HOST, "--port", PORT),
    ),
    "ray": _Peer("ray", _module("ray_server", PORT), batch=8, wait_ms=2, listens_everywhere=True),
    "mlserver": _Peer("mlserver", _module("mlserver_server", PORT)),
    "kserve": _Peer("kserve", _module("kserve_server", PORT), listens_everywhere=True, paths=V1),
    "triton": _Peer(
        "nvidia-pytriton", _module("triton_server", PORT), batch=8, paths=V2, headers=RAW
    ),
}
FULL_DEPTH_NAMES = (*FULL_DEPTH, "fastapi")


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0))


def ours(target: Target, *options: str) -> Server:
    """Our server, as its peers with a worker a core, unless the options say otherwise."""
    command = [sys.executable, "-m", "serving", "--bundle", str(target.bundle), "--port", PORT]
    if not any(option.startswith("--workers") for option in options):
        options = (f"--workers={cores()}", *options)
    command += ["--log-level", "warning", *options]
    return Server(OURS, command, target.paths("/classify"))


def _environment(target: Target, peer: _Peer) -> dict[str, str]:
    """Also: no telemetry, and no pool of threads behind one another's back."""
    return {
        BUNDLE: str(target.bundle.resolve()),
        GRAPH: str(target.graph.resolve()),
        WORKERS: str(cores()),
        BATCH: str(peer.batch),
        WAIT_MS: str(peer.wait_ms),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path.cwd()),
        "BENTOML_DO_NOT_TRACK": "True",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # 15 by default
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120",
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "120",
    }


def _plain(target: Target, name: str, paths: Mapping[str, str], module: str = "plain") -> Server:
    command = [sys.executable, "-m", PEERS + module, PORT]
    return Server(name, command, paths, _environment(target, _Peer("fastapi", ())))


def peers(target: Target, *, isolated: bool) -> list[Server]:
    """All that can be started here.

    Args:
        target: what is served.
        isolated: whether there is no network but loopback.
    """
    found = [
        _plain(target, "fastapi", FULL),
        _plain(target, NAIVE, target.paths("/staged")),
        _plain(target, BARE, {EQUAL: "/classify"}, "bare"),  # to be saturated, no more
    ]
    for name, peer in FULL_DEPTH.items():
        folder = ENVIRONMENTS / peer.package / "bin"
        if folder.is_dir() and (isolated or not peer.listens_everywhere):
            command = [str(folder.resolve() / peer.command[0]), *peer.command[1:]]
            environment = _environment(target, peer)
            found.append(Server(name, command, peer.paths, environment, peer.headers))
    return found
