"""Audit a real server: on images like those that were certified, on corrupted ones, and its cost.

    python -m benchmarks.promises.audited_server --data cifar10
    python -m benchmarks.promises.audited_server --data cifar10 --rounds 7 --answers 0

In the first part each answer is audited. Test images are answered at the promises of the bundle,
and no promise must be found broken, neither then nor in other orders of the same results. The
flops of these audits give the cost of auditing 1 %. Then the server answers images with noise, with
`--on-broken safer`. Each promise must be found broken within 1,000 audits, and what answers in the
end must be within epsilon of full depth. In the second part servers with
`--audit 1%` and without audits answer 64 clients in a closed loop, in random order in each round.
This needs a machine that does nothing else. Exit status 1 if a goal is missed.
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
from benchmarks.goals import Goal, print_goals, spread
from benchmarks.promises.alarms import SOON
from benchmarks.promises.audit import MOST_RUNS, has_alarm, spoiled
from benchmarks.promises.audit_cost import SHARE, SHIPPED, Cost
from benchmarks.serving.revisions.checkouts import server_of
from benchmarks.serving.revisions.throughput import NEW, OLD, line, measure, ratios
from benchmarks.serving.servers.images import load_images
from exporter.promises.certificate import SAFE_LEVEL
from offramp.bundle.manifest import Manifest, read_manifest
from offramp.cores import cores
from offramp.load.process import generator
from serving.audit.standing import AuditedPromise
from serving.engine.background.ladder import ladders

CHUNK = 100  # answers between two looks at the metrics
BEFORE, MOST = 300, 4000  # clean answers, then corrupted ones at most, of a promise
SETTLED = 2000  # audits without a change after which a promise moves no more
KIND = "noise 0.2"  # breaks the promises of the shipped bundle most clearly: see audit.csv
ORDERS = 200  # of the results on clean images
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

    def total(self, name: str, label: str, further: str = "") -> float:
        """Return the sum of a counter over the series of a promise, with a further label."""
        parts = (f"offramp_{name}_total{{", f'budget="{label}"', further)
        found = counters(self.url).items()
        return sum(value for key, value in found if all(part in key for part in parts))

    def audits(self, label: str) -> float:
        """Return the number of audits of a promise with a result."""
        return self.total("audit", label)

    def cost(self, label: str, full: int) -> Cost:
        """Return the mean flops of an audit of a promise, and of an answer."""
        audit = self.total("audit_flops", label) / self.audits(label)
        answer = self.total("flops_spent", label) / self.total("exits", label)
        return Cost(audit, answer, full)

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


def judged(manifest: Manifest) -> list[AuditedPromise]:
    """Return the promises that audits can break, those about agreement."""
    assert manifest.promises is not None, "the bundle promises nothing"
    return [each.promise for each in ladders(manifest, "safer") if each.promise.judged]


def asked(promise: AuditedPromise) -> dict[str, str]:
    """Return the query that asks for a promise."""
    return {"promise": promise.ladder[0]}


@contextmanager
def auditing(bundle: Path) -> Iterator[Server]:
    """Run a server that audits all answers and moves to safer points."""
    with serving(bundle, "--audit", "100%", "--on-broken", "safer") as url:
        yield Server(url)


def on_clean_images(bundle: Path, images: Sequence[bytes], answers: int) -> Iterator[Goal]:
    """Answer test images, an equal number at each promise."""
    manifest = read_manifest(bundle)
    promises = judged(manifest)
    each = answers // len(promises)
    with auditing(bundle) as server:
        for number, promise in enumerate(promises):
            own = [images[k % len(images)] for k in range(number * each, (number + 1) * each)]
            server.classes(own, asked(promise))
            label = promise.label
            state, audits = server.state(label), int(server.audits(label))
            text = f"{label}: no alarm in {len(own):,} answers on clean images"
            yield Goal(text, f"{audits:,} audits, {state}", state not in MOVED)
            losses = int(server.total("audit", label, 'agrees="false"'))
            yield in_other_orders(promise, audits, losses)
            cost = server.cost(label, manifest.full_flops)
            print(f"{label}: audits of {SHARE:.0%} take {shares_of(cost)}", flush=True)
            if promise.ladder[0] == str(SAFE_LEVEL):
                text = f"{label}: audits of {SHARE:.0%} take at most {MOST_FLOPS:.0%} of all flops"
                yield Goal(text, f"{cost.of_all:.2%}", cost.of_all <= MOST_FLOPS)


def in_other_orders(promise: AuditedPromise, audits: int, losses: int) -> Goal:
    """Return the goal for random orders of the results, on which alarms depend."""
    rng = np.random.default_rng(0)
    found = np.arange(audits) < losses
    quiet = 1 - np.mean([has_alarm(rng.permutation(found), promise) for _ in range(ORDERS)])
    text = f"{promise.label}: no alarm in at least {MOST_RUNS:.0%} of {ORDERS} orders of them"
    return Goal(text, f"{quiet:.1%}, {losses} disagree", bool(quiet >= MOST_RUNS))


def shares_of(cost: Cost) -> str:
    """Return a cost as text."""
    return (
        f"{cost.of_all:.2%} of all flops, {cost.of_answers:.2%} of those of answers, "
        f"{cost.of_full:.2%} of those of full depth"
    )


def on_spoiled_images(bundle: Path, images: Sequence[bytes], kind: str) -> Iterator[Goal]:
    """Answer clean images, then those of a kind until no promise moves any more."""
    corrupted = [spoiled(image, k, kind) for k, image in enumerate(images[: MOST + MEASURED])]
    with auditing(bundle) as server:
        for promise in judged(read_manifest(bundle)):
            server.classes(images[-BEFORE:], asked(promise))
            first = audits_to_alarm(server, promise, corrupted[:MOST])
            measured = corrupted[MOST:]
            pairs = zip(
                server.classes(measured, asked(promise)),
                server.classes(measured, {"budget": "full"}),
                strict=True,
            )
            lost = float(np.mean([one != full for one, full in pairs]))
            text = f"{promise.label}, {kind}: found broken within {SOON} audits"
            soon = first is not None and first <= SOON
            yield Goal(text, "never" if first is None else f"{first:.0f}", soon)
            text = f"{promise.label}, {kind}: in the end at most {promise.epsilon:.0%} differ"
            figure = f"{lost:.2%}, {server.state(promise.label)}"
            yield Goal(text, figure, lost <= promise.epsilon)


def audits_to_alarm(
    server: Server, promise: AuditedPromise, images: Sequence[bytes]
) -> float | None:
    """Send images until the promise moves no more. Return the audits to the first alarm."""
    label, start, first = promise.label, server.audits(promise.label), None
    for number in range(0, len(images), CHUNK):
        server.classes(images[number : number + CHUNK], asked(promise))
        state, audits = server.point(label)
        if first is None and state in MOVED:
            first = server.audits(label) - start
        if state in MOVED and audits >= SETTLED:
            break
    return first


def rate_goal(bundle: Path, data: str, rounds: int, seconds: float) -> Goal:
    """Measure the answers/s of servers with and without audits."""
    manifest, here = read_manifest(bundle), Path(__file__).parents[2]
    sent = load_images(data, manifest)
    promise = judged(manifest)[0]
    paths = {promise.label: f"/classify?promise={promise.ladder[0].replace('%', '%25')}"}
    workers = (f"--workers={cores()}",)
    servers = [
        server_of(name, here, bundle, (*workers, *more), paths)
        for name, more in ((OLD, ()), (NEW, ("--audit=1%",)))
    ]
    rows = []
    with generator(sent.files) as load:
        for row in measure(servers, sent, load, rounds, seconds, Path("results/audit/logs")):
            rows.append(row)
            print(line(row), flush=True)
    found = ratios(rows)
    text = f"answers/s with audits of 1 % over those without >= {LEAST_RATE}"
    return Goal(text, spread(found), float(np.median(found)) >= LEAST_RATE)


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
    return print_goals(goals(parser.parse_args(words)))


def goals(arguments: argparse.Namespace) -> Iterator[Goal]:
    """Yield the goals of the parts that are asked for."""
    bundle: Path = arguments.bundle
    if arguments.answers:
        images = load_images(arguments.data, read_manifest(bundle)).files
        yield from on_clean_images(bundle, images, arguments.answers)
        yield from on_spoiled_images(bundle, images, KIND)
    if arguments.rounds:
        yield rate_goal(bundle, arguments.data, arguments.rounds, arguments.seconds)


if __name__ == "__main__":
    sys.exit(main())
