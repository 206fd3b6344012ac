"""Plot and summarize a bundle: accuracy against flops of its curve, budgets and exits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from offramp.bundle.manifest import Manifest, OperatingPoint
from offramp.bundle.reject import Reject, RejectBudget, RejectExit
from offramp.bundle.values import Estimate
from offramp.writing import replaced
from training.evaluation.budgeted import crossfit, paper_procedure
from training.evaluation.evaluate import Scored

mpl.use("agg")


def budget_figure(manifest: Manifest, scored: Scored) -> Figure:
    """Plot accuracy against mean flops on the held-out images, with the named budgets marked.

    Below it is agreement with full depth, with the certified promises, if the manifest states it.
    All curves are cross-fitted: thresholds are measured on images that they were not solved on.
    """
    agreement = _measure(manifest) == "accuracy" and manifest.solved_for is not None
    figure = Figure(figsize=(7, 7.5 if agreement else 4.5), layout="constrained")
    rows = figure.subplots(1 + agreement, sharex=True, squeeze=False)[:, 0]
    _plot_accuracy(rows[0], manifest, scored)
    rows[0].set(
        ylabel=f"{_measure(manifest)}, %",
        title=f"{manifest.name} {manifest.version}: {manifest.held_out.images:,} held-out images",
    )
    if agreement:
        _plot_agreement(rows[1], manifest)
    for axes in rows:
        axes.margins(x=0.08)
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right")
    rows[-1].set_xlabel("mean flops for one image, millions of multiply-adds")
    return figure


def _measure(manifest: Manifest) -> str:
    return "agreement" if manifest.held_out.labels == "pseudo" else "accuracy"


def _plot_accuracy(axes: Axes, manifest: Manifest, scored: Scored) -> None:
    baseline = crossfit(scored, paper_procedure)
    axes.plot(
        baseline.flops / 1e6,
        100 * baseline.accuracy,
        color="0.6",
        label="thresholds by the MSDNet procedure",
    )
    solved = "on the path" if manifest.solved_for else "by direct optimum"
    _plot_curve(axes, [(p, p.accuracy) for p in manifest.curve], f"thresholds {solved}")
    no_heads = [False] * manifest.exits  # no earlier head is evaluated
    axes.plot(
        [manifest.flops_of(k, no_heads) / 1e6 for k in range(1, manifest.exits + 1)],
        [100 * s.accuracy.value for s in manifest.stages],
        linestyle="none",
        marker="x",
        color="C3",
        label="one exit for every image",
    )
    _mark(axes, {name: (p, p.accuracy) for name, p in manifest.budgets.items()})


def _plot_agreement(axes: Axes, manifest: Manifest) -> None:
    known = [(p, p.agreement) for p in manifest.curve if p.agreement is not None]
    _plot_curve(axes, known, "agreement")
    marked = {n: (p, p.agreement) for n, p in manifest.budgets.items() if p.agreement is not None}
    _mark(axes, marked)
    offered = manifest.promises.offered if manifest.promises else ()
    promised = [each for each in offered if each.kind == "agreement"]
    if promised:
        axes.plot(
            [each.mean_flops.value / 1e6 for each in promised],
            [100 * (1 - each.epsilon) for each in promised],
            linestyle="none",
            marker="^",
            color="C2",
            label="certified: at least",
        )
    axes.set_ylabel("agreement with full depth, %")


def _plot_curve(axes: Axes, points: Sequence[tuple[OperatingPoint, Estimate]], label: str) -> None:
    axes.plot(
        [point.mean_flops.value / 1e6 for point, _ in points],
        [100 * estimate.value for _, estimate in points],
        color="C0",
        marker=".",
        markersize=4,
        label=label,
    )


def _mark(axes: Axes, points: Mapping[str, tuple[OperatingPoint, Estimate]]) -> None:
    """Mark budgets by name. Those at one place have one mark."""
    places: dict[tuple[float, float], list[str]] = {}
    for name, (point, estimate) in points.items():
        place = (point.mean_flops.value / 1e6, 100 * estimate.value)
        places.setdefault(place, []).append(name)
    for (x, y), names in places.items():
        axes.plot(x, y, marker="o", color="C1", markersize=8, zorder=3)
        axes.annotate(", ".join(names), (x, y), xytext=(6, -14), textcoords="offset points")


def save_figure(path: Path, figure: Figure) -> None:
    """Write a figure to a file, in the format of its suffix.

    Raises:
        UnwritableFileError: The file cannot be written. It is as it was.
    """
    metadata = {"Date": None} if path.suffix == ".svg" else None
    with replaced(path) as partial:
        figure.savefig(partial, format=path.suffix[1:], dpi=150, metadata=metadata)


def write_plot(path: Path, manifest: Manifest, scored: Scored) -> None:
    """Draw the plot of a bundle to a file, as `save_figure` does."""
    save_figure(path, budget_figure(manifest, scored))


def summary(manifest: Manifest) -> list[str]:
    """Return one line of text for each exit and each named budget."""
    lines = [f"{manifest.name} {manifest.version}, on {manifest.held_out.images:,} images"]
    accuracy = _measure(manifest)
    if accuracy == "agreement":
        lines[0] += " without labels: agreement is that with the last exit"
    if manifest.solved_for is not None:
        lines.append(
            f"  operating points on one path, solved for {manifest.solved_for}; confidence: "
            f"{manifest.confidence}"
        )
    for k, stage in enumerate(manifest.stages, 1):
        lines.append(
            f"  exit {k}   {stage.flops_to_exit / 1e6:7.1f} M flops "
            f"(block by block {stage.blockwise_flops_to_exit / 1e6:.1f})   "
            f"{accuracy} {100 * stage.accuracy.value:5.2f} %   temperature {stage.temperature:.3f}"
        )
    for name, point in manifest.budgets.items():
        shares = " ".join(f"{100 * share.value:4.1f}" for share in point.exit_shares)
        lines.append(
            f"  {name:7} {point.mean_flops.value / 1e6:6.1f} M flops   "
            f"{accuracy} {100 * point.accuracy.value:5.2f} %   {_agreement(point, accuracy)}"
            f"exits taken, %: {shares}"
        )
    return lines + (reject_lines(manifest.reject) if manifest.reject else [])


def _agreement(point: OperatingPoint, accuracy: str) -> str:
    if point.agreement is None or accuracy == "agreement":
        return ""
    return f"agreement {100 * point.agreement.value:6.2f} %   "


def reject_lines(reject: Reject) -> list[str]:
    """Return lines of text on what the record does, at each exit and each named budget."""
    title = (
        f"  reject: {reject.score} of the exit taken, at most {100 * reject.false_reject:g} % of "
        f"the held-out images, against {reject.images:,} photos of other things ({reject.source})"
    )
    lines = [title]
    for k, each in enumerate(reject.exits, 1):
        area = each.auroc
        lines.append(
            f"  exit {k}   AUROC {area.value:.3f} [{area.low:.3f}, {area.high:.3f}]   "
            f"{_shares(each)}"
        )
    return lines + [f"  {name:7} {_shares(each)}" for name, each in reject.budgets.items()]


def _shares(each: RejectExit | RejectBudget) -> str:
    return (
        f"rejects {100 * each.false_reject:4.1f} % of the held-out images, "
        f"{100 * each.caught:4.1f} % of the photos of other things"
    )
