"""Draw what every exit says about a few photos, and where each of them is answered.

Each column is a photo. Below it, a bar for each exit: the confidence of its answer, with the
threshold of the budget as a line. Exits after the answer did not run, and their bars are missing.

    python -m benchmarks.showcase docs/photos/shirt.jpg docs/photos/hat.jpg --out docs/showcase.png
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageOps

from offramp import Answer, Classifier

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TAKEN, PASSED = "#1b7f5c", "#9aa5b1"  # colours of the exit that answers, and of those before it


def draw_photo(axes: Axes, path: Path) -> None:
    """Draw a photo upright, without axes."""
    with Image.open(path) as image:
        axes.imshow(ImageOps.exif_transpose(image).convert("RGB"))
    axes.set_axis_off()


def draw_exits(axes: Axes, answer: Answer) -> None:
    """Draw the confidence of each exit that ran, and its threshold."""
    assert answer.explain is not None
    for opinion in answer.explain:
        taken = opinion.exit == answer.exit
        axes.barh(opinion.exit, opinion.confidence, color=TAKEN if taken else PASSED, height=0.7)
        axes.text(0.02, opinion.exit, f"{opinion.label} {opinion.confidence:.2f}", va="center")
        if opinion.exit < answer.exits:
            edge = (opinion.exit - 0.45, opinion.exit + 0.45)
            axes.vlines(min(opinion.threshold, 1.0), *edge, color="black", linewidth=1.5)
    for number in range(answer.exit + 1, answer.exits + 1):
        axes.text(0.02, number, "not run", va="center", color="grey", style="italic")
    exits = range(1, answer.exits + 1)
    axes.set(xlim=(0, 1), ylim=(answer.exits + 0.6, 0.4), yticks=exits, xlabel="confidence")
    axes.set_yticklabels([f"exit {number}" for number in exits])
    axes.set_title(f"{answer.label}, {100 * answer.flops_share:.0f} % of the flops")


def draw(paths: Sequence[Path], answers: Sequence[Answer], out: Path) -> None:
    """Write the figure of photos and their answers."""
    import matplotlib as mpl  # slow to import

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        2,
        len(paths),
        figsize=(4 * len(paths), 5.4),
        layout="constrained",
        squeeze=False,
        height_ratios=(1.6, 1),
    )
    for (upper, lower), path, answer in zip(axes.T, paths, answers, strict=True):
        draw_photo(upper, path)
        draw_exits(lower, answer)
    figure.savefig(out, dpi=110)
    plt.close(figure)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.showcase", description=__doc__)
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--bundle", type=Path, default=Path("deploy/bundles/clothing-lite0"))
    parser.add_argument("--budget", default="high")
    parser.add_argument("--out", type=Path, required=True, help="PNG file")
    options = parser.parse_args()
    with Classifier.open(options.bundle) as classifier:
        answers = classifier.classify(options.photos, budget=options.budget, explain=True)
    draw(options.photos, answers, options.out)
    for path, answer in zip(options.photos, answers, strict=True):
        print(f"{path}: {answer.label} {answer.probability:.2f}, exit {answer.exit}")


if __name__ == "__main__":
    main()
