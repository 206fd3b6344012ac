"""Audit a real server: on images like those that were certified, on corrupted ones, and its cost.

    python -m benchmarks.serving.audit --data cifar10
    python -m benchmarks.serving.audit --data cifar10 --rounds 7 --answers 0

In the first part each answer is audited. Test images are answered at the promises of the bundle,
and no promise must be found broken. Then the server answers images with noise, or blurred ones,
with `--on-broken safer`. Each promise must be found broken within 1,000 audits, and what answers in
the end must be within epsilon of full depth. In the second part servers with `--audit 1%` and
without audits answer 64 clients in a closed loop, in random order in each round, and one with
audits answers half of that rate. This needs a machine that does nothing else. Exit status 1 if a
goal is missed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.audit import BLUR, CLEAN, NOISE, SHIPPED, SOON, spoiled
from benchmarks.client import classify, counters, serving
from benchmarks.goals import Goal, print_goals
from benchmarks.serving.drift import pixels_of
from benchmarks.serving.generator.images import load_images
from benchmarks.serving.generator.load import Load
from benchmarks.serving.generator.outcomes import open_loop, poisson
from benchmarks.serving.generator.process import generator
from benchmarks.serving.revisions.checkouts import server_of
from benchmarks.serving.revisions.throughput import NEW, OLD, line, measure, ratios
from benchmarks.serving.servers.commands import cores
from benchmarks.serving.servers.processes import started
from exporter.bundle import read_bundle
from exporter.verify import Chain
from offramp.bundle.manifest import Manifest, read_manifest
from offramp.bundle.promises import Promise
from training.data.datasets import load_files
from training.data.images import File

CHUNK = 100  # answers between two looks at the metrics
CORRUPTED = 3000  # images of a kind
MOST = 2500  # corrupted answers in which a promise can climb its ladder; the others measure
LEAST_RATE, MOST_FLOPS = 0.98, 0.02
MOVED = ("broken", "safer", "full")


@dataclass(frozen=True, slots=True)
class Server:
    """A running server that audits all answers."""

    url: str

    def state(self, label: str) -> str:
        """Return the state of a promise."""
        name = f'offramp_promise_state{{budget="{label}",state='
        (found,) = [key for key, v in counters(self.url).items() if key.startswith(name) and v]
        return found.removeprefix(name).strip('"}')

    def audits(self, label: str) -> float:
        """Return the number of audits of a promise with a result."""
        name, budget = "offramp_audit_total", f'budget="{label}"'
        found = counters(self.url).items()
        return sum(value for key, value in found if key.startswith(name) and budget in key)

    def share_lost(self, files: Sequence[File], asked: str) -> float:
        """Return the share of answers that differ from full depth, the target of each file."""
        return 1 - float(
            np.mean([a.right[-1] for a in classify(self.url, files, {"promise": asked})])
        )


def files_of(bundle: Path, data: str, most: int) -> tuple[Manifest, dict[str, list[File]]]:
    """Return test images of each kind, with the class of full depth as the target."""
    manifest, graphs = read_bundle(bundle)
    files, chain = load_files(data, "test", manifest.labels), Chain(graphs)
    found = {}
    for kind, images in ((CLEAN, most), (NOISE, CORRUPTED), (BLUR, CORRUPTED)):
        encoded = [spoiled(file.encoded, k, kind) for k, file in enumerate(files[:images])]
        pixels = torch.from_numpy(np.stack([pixels_of(each) for each in encoded]))
        full = chain.run(pixels).classes[-1].tolist()
        found[kind] = [
            replace(file, encoded=image, target=target)
            for file, image, target in zip(files, encoded, full, strict=False)
        ]
    return manifest, found


def promises_of(manifest: Manifest) -> list[Promise]:
    """Return the promises about agreement."""
    assert manifest.promises is not None, "the bundle promises nothing"
    return [each for each in manifest.promises.offered if each.kind == "agreement"]


@contextmanager
def auditing(bundle: Path) -> Iterator[Server]:
    """Run a server that audits all answers and moves to safer points."""
    with serving(bundle, "--audit", "100%", "--on-broken", "safer") as url:
        yield Server(url)


def on_clean_images(
    bundle: Path, promises: Sequence[Promise], files: Sequence[File]
) -> Iterator[Goal]:
    """Answer images, an equal number at each promise."""
    parts = np.array_split(np.arange(len(files)), len(promises))
    with auditing(bundle) as server:
        for promise, part in zip(promises, parts, strict=True):
            own = [files[number] for number in part]
            lost = server.share_lost(own, str(promise.level))
            state, audits = server.state(promise.label), server.audits(promise.label)
            print(f"{promise.label}: {lost:.2%} of {len(own):,} answers differ, {state}")
            text = f"{promise.label}: no alarm on exchangeable images"
            yield Goal(text, f"{audits:,.0f} audits, {state}", state not in MOVED)


def on_corrupted_images(
    bundle: Path, kind: str, promises: Sequence[Promise], files: Mapping[str, Sequence[File]]
) -> Iterator[Goal]:
    """Answer clean images, then corrupted ones until no promise climbs any more."""
    with auditing(bundle) as server:
        for promise in promises:
            asked, label = str(promise.level), promise.label
            before = server.share_lost(files[CLEAN][:300], asked)
            start, first = server.audits(label), None
            for number in range(0, MOST, CHUNK):
                server.share_lost(files[kind][number : number + CHUNK], asked)
                if first is None and server.state(label) in MOVED:
                    first = server.audits(label) - start
            state = server.state(label)
            after = server.share_lost(files[kind][MOST:], asked)
            print(f"{label}, {kind}: {before:.2%} before, {after:.2%} with state {state}")
            text = f"{label}, {kind}: found broken within {SOON} audits"
            yield Goal(
                text, "never" if first is None else f"{first:.0f}", (first or SOON + 1) <= SOON
            )
            text = f"{label}, {kind}: {state} answers within epsilon {promise.epsilon:.1%}"
            yield Goal(text, f"{after:.2%}", after <= promise.epsilon)


def cost(bundle: Path, data: str, rounds: int, seconds: float) -> Iterator[Goal]:
    """Measure servers with and without audits, and the flops of audits at half of the rate."""
    manifest, here = read_manifest(bundle), Path(__file__).parents[2]
    sent = load_images(data, manifest)
    promise = max(promises_of(manifest), key=lambda each: each.mean_flops.value)
    paths = {promise.label: f"/classify?promise={str(promise.level).replace('%', '%25')}"}
    workers = (f"--workers={cores()}",)
    servers = [
        server_of(name, here, bundle, (*workers, *more), paths)
        for name, more in ((OLD, ()), (NEW, ("--audit=1%",)))
    ]
    logs = Path("results/audit/logs")
    with generator(sent.files) as load:
        rows = []
        for row in measure(servers, sent, load, rounds, seconds, logs):
            rows.append(row)
            print(line(row), flush=True)
        rate = float(np.median([row.rate for row in rows if row.server == OLD])) / 2
        with started(servers[1], sent.files[0], logs) as running:
            rng = np.random.default_rng(0)
            due = poisson(rate, seconds * rounds, rng)
            plan = open_loop(paths[promise.label], due, len(sent), rng)
            load.send(plan, Load(running.port, 256))
            found = counters(f"http://127.0.0.1:{running.port}")
    yield Goal(
        f"answers/s with audits of 1 % over those without >= {LEAST_RATE}",
        f"{np.median(ratios(rows)):.3f} [{min(ratios(rows)):.3f}, {max(ratios(rows)):.3f}]",
        float(np.median(ratios(rows))) >= LEAST_RATE,
    )
    extra, spent = (
        sum(value for key, value in found.items() if key.startswith(name))
        for name in ("offramp_audit_flops_total", "offramp_flops_spent_total")
    )
    audits = sum(value for key, value in found.items() if key.startswith("offramp_audit_total"))
    text = f"flops of audits over those of answers <= {MOST_FLOPS:.0%}"
    yield Goal(text, f"{extra / spent:.2%}, {audits:,.0f} audits", extra <= MOST_FLOPS * spent)


def main(words: Sequence[str] | None = None) -> int:
    """Run the parts and return 1 if a goal is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=SHIPPED, help=f"the bundle ({SHIPPED})")
    parser.add_argument("--data", required=True, help="images that the bundle was made with")
    parser.add_argument("--answers", type=int, default=10_000, help="clean answers, 0 to skip them")
    parser.add_argument("--rounds", type=int, default=0, help="rounds of the cost, 0 to skip it")
    parser.add_argument("--seconds", type=float, default=8.0, help="seconds of one measurement")
    arguments = parser.parse_args(words)
    goals: list[Goal] = []
    if arguments.answers:
        manifest, files = files_of(arguments.bundle, arguments.data, arguments.answers)
        promises = promises_of(manifest)
        goals += on_clean_images(arguments.bundle, promises, files[CLEAN])
        for kind in (NOISE, BLUR):
            goals += on_corrupted_images(arguments.bundle, kind, promises, files)
    if arguments.rounds:
        goals += cost(arguments.bundle, arguments.data, arguments.rounds, arguments.seconds)
    return print_goals(goals)


if __name__ == "__main__":
    sys.exit(main())
