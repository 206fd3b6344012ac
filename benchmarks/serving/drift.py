"""Check that the drift alert fires on corrupted images and not on clean ones.

A real Prometheus with the shipped rules scrapes a real server. The server classifies the held-out
images that its bundle was calibrated on. Then it classifies the same images with Gaussian noise or
blur of CIFAR-10-C's highest severity (Hendrycks and Dietterich, 2019). Each image is sent once at
each budget, so the exit shares of all clean answers together equal the manifest's. Within a minute
they can differ. The alert must not fire on the clean images and must fire on the others. Plots the
series that Prometheus recorded. Exit status 1 if the alert is wrong.

    python -m benchmarks.serving.drift --data cifar10 --out docs/results/drift.png
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np

from benchmarks.client import serving
from benchmarks.corruptions import blurred, opened, png_of, with_noise
from deploy.check.prometheus import NO_SERVER, Prometheus, Series, scraping
from deploy.check.traffic import Call, Count, send
from exporter.recalibrate import own_files
from offramp.bundle.manifest import Manifest, read_manifest

mpl.use("Agg")
import matplotlib.pyplot as plt

BUNDLE = Path(__file__).parents[2] / "deploy" / "bundles" / "cifar10-msdnet"
BUDGETS = ("low", "medium")
NOISE, BLUR = 0.10, 1.0  # standard deviations: of full scale, of pixels
SELECTED = f'{{budget=~"{"|".join(BUDGETS)}"}}'
RECORDED = f"budget:offramp_exit_drift:rate10m{SELECTED}"
OWN = f"max by (budget) (offramp_exit_drift{SELECTED})"
ALERT = 'ALERTS{alertname="OfframpExitDrift",alertstate="firing"}'
PATIENCE = 240  # seconds, longest wait for the alert after the last image


@dataclass(frozen=True, slots=True)
class Times:
    """Start of the clean images, start of the corrupted ones, and end, in seconds since 1970."""

    clean: float
    corrupted: float
    end: float


def corrupt(encoded: bytes, number: int) -> bytes:
    """Add noise to an image, or blur it, in alternating pairs of numbers. Return a PNG."""
    image, noisy = opened(encoded), number // 2 % 2
    return png_of(with_noise(image, NOISE, number) if noisy else blurred(image, BLUR))


def calls(images: Sequence[bytes], requests: int, *, spoil: bool) -> Iterator[Call]:
    """Yield requests with the images in turn, repeated, at each budget in turn."""
    for number in range(requests):
        cycle, at = divmod(number, len(images))
        budget = BUDGETS[(at + cycle) % len(BUDGETS)]
        image = corrupt(images[at], at) if spoil else images[at]
        yield Call(image, {"budget": budget})


def distance(manifest: Manifest, count: Count) -> float:
    """Return the total variation distance of the exits taken from the manifest's.

    The largest over the budgets.
    """
    worst = 0.0
    for budget in BUDGETS:
        taken = [count.exits[budget, str(k)] for k in range(1, manifest.exits + 1)]
        stated = [share.value for share in manifest.budgets[budget].exit_shares]
        apart = np.abs(np.array(taken) / sum(taken) - stated).sum() / 2
        worst = max(worst, float(apart))
    return worst


def experiment(
    url: str, prometheus: Prometheus, images: Sequence[bytes], requests: int, rate: float
) -> Times:
    """Send clean images, then corrupted ones, then wait for the alert."""
    count, clean = Count(), time.time()
    send(url, calls(images, requests, spoil=False), rate, count)
    apart = distance(read_manifest(BUNDLE), count)
    print(f"{requests:,} clean answers: exits at a distance of {apart:.4f} from the manifest's")
    corrupted = time.time()
    send(url, calls(images, requests, spoil=True), rate, count)
    sent = time.time()
    while time.time() < sent + PATIENCE and "OfframpExitDrift" not in prometheus.firing():
        time.sleep(5)
    time.sleep(20)  # so that the plot shows the end
    assert count.statuses.keys() == {200}, count.statuses
    return Times(clean, corrupted, time.time())


def highest(series: Sequence[Series], start: float, end: float) -> float:
    """Return the highest finite value of series in [start, end], or NaN without one."""
    values = [
        value
        for one in series
        for at, value in zip(one.times, one.values, strict=True)
        if start <= at <= end and math.isfinite(value)
    ]
    return max(values, default=math.nan)


def verdict(prometheus: Prometheus, times: Times) -> bool:
    """Print drift and alert of both phases and return True if the alert is correct."""
    recorded = prometheus.between(RECORDED, times.clean, times.end, 5)
    own = prometheus.between(OWN, times.clean, times.end, 5)
    fired = [at for one in prometheus.between(ALERT, times.clean, times.end, 5) for at in one.times]
    for name, start, end in (
        ("clean", times.clean, times.corrupted),
        ("corrupted", times.corrupted, times.end),
    ):
        print(
            f"{name:10} drift at most {highest(recorded, start, end):.3f} over 10 minutes, "
            f"{highest(own, start, end):.3f} over 1000 answers; "
            f"alert {'fires' if any(start <= at < end for at in fired) else 'does not fire'}"
        )
    if fired:
        print(
            f"the alert fires {min(fired) - times.corrupted:.0f} s after the first corrupted image"
        )
    return bool(fired) and min(fired) > times.corrupted


def draw(prometheus: Prometheus, times: Times, out: Path) -> None:
    """Plot exit shares and drift over time, from the queries of dashboard and alert."""
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(9, 6), sharex=True, layout="constrained")
    shares = prometheus.between(
        'sum by (exit) (rate(offramp_exits_total{budget="medium"}[20s])) / '
        'scalar(sum(rate(offramp_exits_total{budget="medium"}[20s])))',
        *(times.clean + 20, times.end, 5),
    )
    shares.sort(key=lambda one: one.labels["exit"])
    minutes = [(at - times.clean) / 60 for at in shares[0].times]
    top.stackplot(
        minutes,
        [one.values for one in shares],
        labels=[f"exit {one.labels['exit']}" for one in shares],
        colors=plt.colormaps["viridis"](np.linspace(0.15, 0.95, len(shares))),
    )
    top.set(ylabel="share of answers, budget medium", ylim=(0, 1))
    top.legend(loc="lower left", ncols=len(shares))
    for name, expression, style in (
        ("10 minutes", f"max by (budget) ({RECORDED})", "-"),
        ("1000 answers", OWN, ":"),
    ):
        for k, one in enumerate(prometheus.between(expression, times.clean, times.end, 5)):
            at = [(t - times.clean) / 60 for t in one.times]
            label = f"{one.labels['budget']}, last {name}"
            bottom.plot(at, one.values, style, color=f"C{k}", label=label)
    bottom.axhline(0.1, color="red", linestyle="--", linewidth=1, label="alert above")
    for one in prometheus.between(f"max({ALERT})", times.clean, times.end, 5):
        start, end = ((at - times.clean) / 60 for at in (one.times[0], one.times[-1]))
        bottom.axvspan(start, end, color="red", alpha=0.12, label="alert fires")
    for axes in (top, bottom):
        axes.axvline((times.corrupted - times.clean) / 60, color="black", linewidth=1)
    top.set_title("images of the calibration, then with noise and blur (from the black line)")
    bottom.set(xlabel="minutes", ylabel="drift of exits", ylim=(0, None))
    bottom.legend(loc="upper left")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)


def build_parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = argparse.ArgumentParser(
        description="Check that the drift alert fires on corrupted images only."
    )
    parser.add_argument("--data", required=True, help="images that the bundle was made from")
    parser.add_argument(
        "--requests",
        type=int,
        default=10_000,
        help="number of clean requests, and of corrupted ones",
    )
    parser.add_argument("--rate", type=float, default=40, help="requests per second")
    parser.add_argument(
        "--folder", type=Path, help="folder for the recording; an existing one is plotted"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/results/drift.png"), help="plot")
    return parser


def main() -> int:
    """Run the experiment, or plot a recorded one, and return 1 if the alert is wrong."""
    arguments = build_parser().parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        recorded = folder / "times.json"
        if not recorded.exists():
            held_out = own_files(read_manifest(BUNDLE), arguments.data).held_out
            images = [file.encoded for file in held_out.files()]
            with serving(BUNDLE) as url, scraping(url, folder) as prometheus:
                times = experiment(url, prometheus, images, arguments.requests, arguments.rate)
            recorded.write_text(json.dumps(asdict(times)), encoding="utf-8")
            print(f"{len(images):,} held-out images, {arguments.requests:,} requests of each kind")
        with scraping(NO_SERVER, folder) as prometheus:
            times = Times(**json.loads(recorded.read_text(encoding="utf-8")))
            correct = verdict(prometheus, times)
            draw(prometheus, times, arguments.out)
    print("the alert is correct" if correct else "the alert is NOT correct")
    return 0 if correct else 1


if __name__ == "__main__":
    sys.exit(main())
