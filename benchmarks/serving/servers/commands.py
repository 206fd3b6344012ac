"""Commands of the compared servers: ours, and its peers where they are installed."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.serving.peers.settings import BATCH, BUNDLE, GRAPH, WAIT_MS, WORKERS
from benchmarks.serving.servers.processes import PORT, Server
from offramp.cores import cores
from offramp.load.connection import HOST

OURS, NAIVE, BARE = "offramp", "naive", "bare"
EQUAL = "equal"  # name of the budget that is as accurate as full depth
ENVIRONMENTS = Path(".venv-peers")  # made by `make bench-peers`
PEERS = "benchmarks.serving.peers."
FULL = {"full": "/classify"}
V1 = {"full": "/v1/models/classifier:predict"}  # KServe's own protocol
V2 = {"full": "/v2/models/classifier/infer"}  # Open Inference Protocol
RAW = {"Inference-Header-Content-Length": "0"}  # Triton: the body is the only input


@dataclass(frozen=True, slots=True)
class Target:
    """Model to serve.

    Attributes:
        bundle: Folder of the bundle.
        graph: File of the same network at full depth, in one graph.
        budgets: Names of the bundle's budgets.
        equal: Budget that is as accurate as full depth.
    """

    bundle: Path
    graph: Path
    budgets: tuple[str, ...]
    equal: str

    @property
    def budget_values(self) -> dict[str, str]:
        """Value of the parameter `budget`, by the name of a budget or `EQUAL`."""
        return {name: name for name in self.budgets} | {EQUAL: self.equal}

    def paths(self, endpoint: str) -> dict[str, str]:
        """Return the path and query of each budget."""
        return {name: f"{endpoint}?budget={budget}" for name, budget in self.budget_values.items()}


@dataclass(frozen=True, slots=True)
class _Peer:
    """Full-depth server in an environment of its own.

    Attributes:
        package: Package of the server, and name of its environment.
        command: Command in the `bin/` of the environment.
        batch: Most images in a batch, the fastest setting here.
        wait_ms: Longest wait for a batch to fill, in milliseconds.
        listens_everywhere: True if it binds to all addresses: it needs an isolated network.
        paths: Path and query of each budget.
        headers: Header fields that its requests need.
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


def ours(target: Target, *options: str) -> Server:
    """Return our server. Like its peers it has one worker per core, unless options differ."""
    command = [sys.executable, "-m", "serving", "--bundle", str(target.bundle), "--port", PORT]
    if not any(option.startswith("--workers") for option in options):
        options = (f"--workers={cores()}", *options)
    command += ["--log-level", "warning", *options]
    return Server(OURS, command, target.paths("/classify"))


def _environment(target: Target, peer: _Peer) -> dict[str, str]:
    """Return the variables of a peer. They also disable telemetry and extra thread pools."""
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
    """Return the peers that can run here.

    Args:
        target: Model to serve.
        isolated: True if loopback is the only network.
    """
    found = [
        _plain(target, "fastapi", FULL),
        _plain(target, NAIVE, target.paths("/staged")),
        _plain(target, BARE, {EQUAL: "/classify"}, "bare"),  # measured at saturation only
    ]
    for name, peer in FULL_DEPTH.items():
        folder = ENVIRONMENTS / peer.package / "bin"
        if folder.is_dir() and (isolated or not peer.listens_everywhere):
            command = [str(folder.resolve() / peer.command[0]), *peer.command[1:]]
            environment = _environment(target, peer)
            found.append(Server(name, command, peer.paths, environment, peer.headers))
    return found
