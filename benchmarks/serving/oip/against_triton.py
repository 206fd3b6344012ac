"""Compare with Triton's Python backend by perf_analyzer, Triton's own load tool.

    make bench-peers oip-clients
    python -m benchmarks.serving.oip.against_triton --data cifar10

Triton serves the same network at full depth, in one graph, and decodes with the same code. Ours
answers at full depth, at the cheapest budget that is as accurate, and at `medium`. Both have one
worker for each core. perf_analyzer sets parameters over gRPC only. Over HTTP each of these budgets
is the default of a copy of the bundle, with a server of its own. Rounds are interleaved. Exit
status 1: a goal is missed.
"""

from __future__ import annotations

import argparse
import base64
import json
import math
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from benchmarks.goals import Goal, print_goals, spread
from benchmarks.serving.oip.__main__ import ENVIRONMENT
from benchmarks.serving.oip.load import IMAGES, TINY, Measured, Meter, PerfAnalyzer, entry, table
from benchmarks.serving.peers.settings import FILE
from benchmarks.serving.peers.triton_server import NAME as TRITON_MODEL
from benchmarks.serving.servers.commands import FULL_DEPTH, ours, peers
from benchmarks.serving.servers.processes import Server, free_port, started
from benchmarks.serving.servers.subject import Subject, parser, read_subject
from offramp.bundle.manifest.read import MANIFEST
from offramp.load.connection import HOST
from serving.engine.budgets.points import default_budget

TRITON = "triton"
FULL_GOAL, EQUAL_GOAL = 1.0, 2.0
Cases = dict[str, tuple[PerfAnalyzer, list[str]]]  # tool and options, by the name of a case


@dataclass(frozen=True, slots=True)
class Tool:
    """perf_analyzer, for any server.

    Attributes:
        folder: Folder for its files.
        seconds: Length of a window of a measurement.
        concurrency: Requests under way.
    """

    folder: Path
    seconds: float
    concurrency: int

    def of(self, name: str, model: str, port: int, pid: int) -> PerfAnalyzer:
        """Return the tool for a server."""
        meter = Meter(f"{HOST}:{port}", model, pid)
        return PerfAnalyzer(ENVIRONMENT, meter, self.folder / name, self.seconds)

    def options(self, protocol: str, port: int, data: Path, *more: str) -> list[str]:
        """Return the options of a case."""
        concurrency = f"--concurrency-range={self.concurrency}"
        common = ["-u", f"{HOST}:{port}", "-i", protocol, "--input-data", str(data), concurrency]
        return [*common, *more]


def raw_entry(file: bytes) -> dict[str, object]:
    """Return an image as input data of Triton's model: its bytes, of which it has the shape."""
    content = {"b64": base64.b64encode(file).decode()}
    return {FILE: {"content": content, "shape": [len(file)]}}


@contextmanager
def both(subject: Subject, tool: Tool) -> Iterator[Cases]:
    """Start Triton and our server, and yield the cases to measure.

    Raises:
        SystemExit: Triton is not installed.
    """
    found = [each for each in peers(subject.target, isolated=False) if each.name == TRITON]
    if not found:
        raise SystemExit(f"make .venv-peers/{FULL_DEPTH[TRITON].package}/.ready installs Triton")
    files = subject.sent.files[:IMAGES]
    triton_port, our_port = free_port(), free_port()
    triton = replace(found[0], command=[*found[0].command, str(triton_port)])
    server = ours(subject.target, f"--grpc-port={our_port}", *subject.options)
    with ExitStack() as stack:

        def start(each: Server) -> tuple[int, int]:
            running = stack.enter_context(started(each, files[0], subject.out / "logs"))
            return running.port, running.pid

        port, pid = start(triton)
        theirs = tool.of(TRITON, TRITON_MODEL, port, pid)
        raw = theirs.write([raw_entry(file) for file in files])
        cases: Cases = {
            "Triton, HTTP, full": (theirs, tool.options("http", port, raw)),
            "Triton, gRPC, full": (theirs, tool.options("grpc", triton_port, raw)),
        }
        port, pid = start(server)
        own = tool.of("offramp", subject.manifest.name, port, pid)
        data = own.write([entry(file) for file in files])
        for name, budget in budgets_of(subject).items():
            parameter = f"--request-parameter=budget:{budget}:string"
            options = tool.options("grpc", our_port, data, parameter)
            cases[f"offramp, gRPC, {name}"] = own, options
            bundle = with_default(subject, budget, subject.out / "oip" / f"bundle-{name}")
            port, pid = start(ours(replace(subject.target, bundle=bundle), *subject.options))
            alone = tool.of(f"offramp-{name}", subject.manifest.name, port, pid)
            cases[f"offramp, HTTP, {name}"] = alone, tool.options("http", port, data)
        yield cases


def budgets_of(subject: Subject) -> dict[str, str]:
    """Return the budgets to ask for, by the name of their case."""
    medium = default_budget(subject.manifest)
    return {"full": "full", "equal": subject.target.equal, "medium": medium}


def with_default(subject: Subject, budget: str, folder: Path) -> Path:
    """Write a copy of the bundle whose default is a named budget or a point of the curve."""
    shutil.copytree(subject.target.bundle, folder, dirs_exist_ok=True)
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    named = manifest["budgets"]
    point = named.get(budget) or next(
        each for each in manifest["curve"] if math.ceil(each["mean_flops"]["value"]) == int(budget)
    )
    named["medium"] = point
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def goals(found: dict[str, list[Measured]]) -> list[Goal]:
    """Compare the throughput of our server with that of Triton, round by round."""

    def goal(ours_: str, theirs: str, least: float) -> Goal:
        pairs = zip(found[ours_], found[theirs], strict=True)
        ratios = [mine.throughput / max(other.throughput, TINY) for mine, other in pairs]
        answered = all(each.answered for name in (ours_, theirs) for each in found[name])
        text = f"{ours_} / {theirs} >= {least:g}"
        return Goal(text, spread(ratios, 2), answered and median(ratios) >= least)

    return [
        goal("offramp, gRPC, full", "Triton, gRPC, full", FULL_GOAL),
        goal("offramp, gRPC, equal", "Triton, gRPC, full", EQUAL_GOAL),
        goal("offramp, HTTP, full", "Triton, HTTP, full", FULL_GOAL),
        goal("offramp, HTTP, equal", "Triton, HTTP, full", EQUAL_GOAL),
    ]


def on_triton(case: str) -> str:
    """Return the name of Triton's case over the same protocol."""
    return f"Triton, {case.split(', ')[1]}, full"


def main() -> int:
    """Measure, print a table, and return 1 if a goal is missed."""
    made: argparse.ArgumentParser = parser("Compare with Triton by perf_analyzer.")
    made.add_argument("--rounds", type=int, default=5, help="number of rounds")
    made.add_argument("--seconds", type=float, default=5, help="length of a window")
    made.add_argument("--concurrency", type=int, default=32, help="requests under way")
    arguments = made.parse_args()
    subject = read_subject(arguments)
    tool = Tool(subject.out / "oip", arguments.seconds, arguments.concurrency)
    with both(subject, tool) as cases:
        found: dict[str, list[Measured]] = {name: [] for name in cases}
        for _ in range(arguments.rounds):
            for name, (analyzer, options) in cases.items():
                found[name].append(analyzer.run(name, options))
                print(found[name][-1], file=sys.stderr, flush=True)
    equal = f"equal: {subject.target.equal} flops, perf_analyzer, {arguments.concurrency} requests"
    print(f"{subject.manifest.name}, {equal}")
    print("\n".join(table("case", "Triton", found, lambda case: found[on_triton(case)])))
    return print_goals(goals(found))


if __name__ == "__main__":
    sys.exit(main())
