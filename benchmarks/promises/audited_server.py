"""Audit a real server: on images like those that were certified, on corrupted ones, and its cost.

    python -m benchmarks.promises.audited_server --data cifar10
    python -m benchmarks.promises.audited_server --data cifar10 --rounds 7 --answers 0

In the first part each answer is audited. Test images are answered at the promises of the bundle,
and no promise must be found broken. Then the server answers images with noise, with
`--on-broken safer`. Each promise must be found broken within 1,000 audits, and what answers in
the end must be within epsilon of full depth. In the second part servers with `--audit 1%` and
without audits answer 64 clients in a closed loop, in random order in each round, and one with
audits answers half of that rate. This needs a machine that does nothing else. Exit status 1 if a
goal is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

from benchmarks.client import counters, serving
from benchmarks.goals import Goal, print_goals
from benchmarks.promises.alarms import SOON
from benchmarks.promises.audit import NOISE, SHIPPED, spoiled
from benchmarks.serving.revisions.checkouts import server_of
from benchmarks.serving.revisions.throughput import NEW, OLD, line, measure, ratios
from benchmarks.serving.servers.commands import cores
from benchmarks.serving.servers.images import load_images
from benchmarks.serving.servers.processes import started
from offramp.bundle.manifest import Manifest, read_manifest
from offramp.bundle.promises import Promise
from offramp.load.outcomes import open_loop, poisson
from offramp.load.process import generator
from offramp.load.sender import Load

CHUNK = 100  # answers between two looks at the metrics
BEFORE, MOST = 300, 4000  # clean answers, then corrupted ones at most, of a promise
SETTLED = 2000  # answers without a change after which a promise climbs no more
MEASURED = 500  # corrupted answers that are then compared with full depth
CONCURRENCY = 16
LEAST_RATE, MOST_FLOPS = 0.98, 0.02
MOVED = ("broken", "safer", "full")


@dataclass(frozen=True, slots=True)
class Server:
    """A running server that audits all answers."""

    url: str

    def state(self, label: str) -> str:
        """Return the state of a promise."""
        name = f'offramp_promise_state{{budget="{label}",state='
        found = counters(self.url).items()
        (key,) = [key for key, value in found if key.startswith(name) and value]
        return key.removeprefix(name).strip('"}')

    def audits(self, label: str) -> float:
        """Return the number of audits of a promise with a result."""
        name, budget = "offramp_audit_total", f'budget="{label}"'
        found = counters(self.url).items()
        return sum(value for key, value in found if key.startswith(name) and budget in key)

    def point(self, label: str) -> tuple[str, float]:
        """Return the state of a promise and the audits at its point, which begin anew at a move."""
        return self.state(label), counters(self.url)[f'offramp_promise_audits{{budget="{label}"}}']

    def classes(self, images: Sequence[bytes], query: Mapping[str, str]) -> list[int]:
        """Classify each image by a call of its own, and return the classes."""
        return asyncio.run(self._classes(images, query))

    async def _classes(self, images: Sequence[bytes], query: Mapping[str, str]) -> list[int]:
        permits = asyncio.Semaphore(CONCURRENCY)
        async with httpx.AsyncClient(base_url=self.url, timeout=60) as client:

            async def send(image: bytes) -> int:
                async with permits:
                    response = await client.post("/classify", params=query, content=image)
                index: int = response.raise_for_status().json()["answers"][0]["index"]
                return index

            return await asyncio.gather(*map(send, images))


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
    bundle: Path, promises: Sequence[Promise], images: Sequence[bytes], answers: int
) -> Iterator[Goal]:
    """Answer test images, an equal number at each promise."""
    each = answers // len(promises)
    with auditing(bundle) as server:
        for number, promise in enumerate(promises):
            own = [images[k % len(images)] for k in range(number * each, (number + 1) * each)]
            server.classes(own, {"promise": str(promise.level)})
            state, audits = server.state(promise.label), server.audits(promise.label)
            text = f"{promise.label}: no alarm in {len(own):,} answers on clean images"
            yield Goal(text, f"{audits:,.0f} audits, {state}", state not in MOVED)


def on_noise(bundle: Path, promises: Sequence[Promise], images: Sequence[bytes]) -> Iterator[Goal]:
    """Answer clean images, then images with noise until no promise climbs any more."""
    corrupted = [spoiled(image, k, NOISE) for k, image in enumerate(images[: MOST + MEASURED])]
    with auditing(bundle) as server:
        for promise in promises:
            query, label = {"promise": str(promise.level)}, promise.label
            server.classes(images[-BEFORE:], query)
            start, first, audits = server.audits(label), None, 0.0
            for number in range(0, MOST, CHUNK):
                server.classes(corrupted[number : number + CHUNK], query)
                state, audits = server.point(label)
                if first is None and state in MOVED:
                    first = server.audits(label) - start
                if state == "full" or (state in MOVED and audits >= SETTLED):
                    break
            measured = corrupted[MOST:]
            pairs = zip(
                server.classes(measured, query),
                server.classes(measured, {"budget": "full"}),
                strict=True,
            )
            lost = float(np.mean([one != full for one, full in pairs]))
            text = f"{label}, noise: found broken within {SOON} audits"
            soon = first is not None and first <= SOON
            yield Goal(text, "never" if first is None else f"{first:.0f}", soon)
            text = f"{label}, noise: in the end at most {promise.epsilon:.0%} differ"
            yield Goal(text, f"{lost:.2%}, {server.state(label)}", lost <= promise.epsilon)


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
        manifest = read_manifest(arguments.bundle)
        promises, images = promises_of(manifest), load_images(arguments.data, manifest).files
        goals += on_clean_images(arguments.bundle, promises, images, arguments.answers)
        goals += on_noise(arguments.bundle, promises, images)
    if arguments.rounds:
        goals += cost(arguments.bundle, arguments.data, arguments.rounds, arguments.seconds)
    return print_goals(goals)


if __name__ == "__main__":
    sys.exit(main())
