"""Compare parameters and flops of every exit with the published figures.

For each exit of the papers' networks, the table has parameters and flops of this exit alone and
with all earlier heads, in both conventions of `training.networks.flops`. The references are
published figures or figures measured on the authors' released classes. The exit status is 1 if any
figure differs.

The DFS README's table of ResNet-18 is not a reference. Its parameters omit the linear layer. Its
flops (169.62, 300.22, 431.05, 559.75 M) come from a counter that is not in the released code, .8
to 2.7 % above ours.

    python -m benchmarks.training.model_tables
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from benchmarks.goals import Goal, print_goals
from training.networks.backbones import build_network
from training.networks.flops import flop_costs, parameter_costs
from training.recipes import RECIPES

MILLION = 1_000_000
COLUMNS = (
    "parameters alone",
    "parameters",
    "products alone",
    "products",
    "papers' alone",
    "papers'",
)


@dataclass(frozen=True, slots=True)
class Model:
    """A network of the papers.

    Attributes:
        title: Title of the table.
        backbone: Name of the backbone.
        shape: Options of the backbone.
        classes: Number of classes.
        size: Height and width of the image, in pixels.
        known: Reference figures by column, one for each exit, in millions. `None` is unknown. All
            given digits are compared.
    """

    title: str
    backbone: str
    shape: Mapping[str, object]
    classes: int
    size: int
    known: Mapping[str, Sequence[str | None]]


MODELS = (
    Model(
        "MSDNet, CIFAR-100",
        "msdnet",
        {},
        classes=100,
        size=32,
        known={
            "parameters alone": (
                *("0.898996", "1.306484", "1.590740", "2.022228"),
                *("2.502868", "2.865108", "3.521748"),
            ),
            "parameters": (
                *("0.898996", "1.835992", "2.797212", "3.758208"),
                *("4.915812", "6.102472", "7.362348"),
            ),
            "products alone": ("56.03", "93.91", "139.19", "175.37", "217.84", "255.06", "289.93"),
            "products": ("56.03", "100.41", "154.56", "197.23", "248.56", "297.00", "339.55"),
            "papers'": (
                *("56.426084", "100.998344", "155.310892", "198.097296"),
                *("249.534452", "298.051160", "340.640956"),
            ),
        },
    ),
    Model(
        "MSDNet, ImageNet (the finer scales of the last layer feed nothing, but are counted)",
        "msdnet",
        RECIPES["imagenet-paper"].shape,
        classes=1000,
        size=224,
        known={
            "parameters": ("4.239", "8.772", "13.073", "16.748", "23.958440"),
            "products": ("337.21", "681.65", "1003.66", "1249.63", "1355.61"),
            "papers'": ("339.90", "685.46", "1008.16", "1254.47", "1360.53"),
        },
    ),
    Model(
        "ResNet-18, CIFAR-100",
        "resnet18",
        {},
        classes=100,
        size=32,
        known={
            "parameters alone": ("0.479652", "1.017508", "3.166372", "11.220132"),
            "parameters": ("0.479652", "1.347336", "3.838316", "12.283344"),
            "products alone": ("165.16", "295.79", "426.64", "555.47"),
            "products": ("165.16", "308.19", "447.85", "582.12"),
        },
    ),
    Model(
        "VGG-7, CIFAR-100",
        "vgg",
        {},
        classes=100,
        size=32,
        # half of 305.71, from torch's counter on the released network
        known={"products": (*[None] * 5, "152.85")},
    ),
    Model("VGG-16, ImageNet", "vgg", {"convolutions": (2, 2, 3, 3, 3)}, 1000, 224, known={}),
    Model("ViT-tiny, ImageNet", "vit", {}, 1000, 224, known={}),
)


def computed(model: Model) -> dict[str, tuple[int, ...]]:
    """Compute every column, one entry for each exit."""
    with torch.device("meta"):  # only shapes are needed
        network = build_network(model.backbone, model.shape, model.classes)
    parameters = parameter_costs(network)
    products = flop_costs(network, model.size)
    papers = flop_costs(network, model.size, "papers")
    costs = (parameters, products, papers)
    return dict(zip(COLUMNS, (x for c in costs for x in (c.alone, c.cumulative)), strict=True))


def differs(value: int, known: str) -> bool:
    """Return True if a number differs from the reference, in millions, in any given digit."""
    return f"{value / MILLION:.{len(known.partition('.')[2])}f}" != known


def differences(model: Model, found: Mapping[str, Sequence[int]]) -> Iterator[str]:
    """Describe each difference from the references."""
    for column, values in model.known.items():
        for k, (value, known) in enumerate(zip(found[column], values, strict=True), 1):
            if known is not None and differs(value, known):
                yield f"exit {k}, {column}: {value / MILLION:.6f} M, reference is {known} M"


def print_table(model: Model, found: Mapping[str, Sequence[int]]) -> None:
    """Print one line for each exit. `=` marks figures that equal their reference."""
    print(f"\n{model.title}")
    print("exit" + "".join(f"{column:>18}" for column in COLUMNS))
    for k in range(len(found["products"])):
        cells = []
        for column in COLUMNS:
            known = model.known[column][k] if column in model.known else None
            equal = known is not None and not differs(found[column][k], known)
            cells.append(f"{found[column][k] / MILLION:>16.6f} {'=' if equal else ' '}")
        print(f"{k + 1:4}" + "".join(cells))


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables and return the exit status, 1 if a figure differs."""
    argparse.ArgumentParser(
        description="Compare parameters and flops of every exit with the published figures."
    ).parse_args(argv)
    print(
        "In millions. alone: with this exit's head only. Otherwise with all earlier heads.\n"
        "products: multiply-adds of convolutions and matrix products. papers': the MSDNet and DFS\n"
        "papers' count, with ReLU, pools and biases. = : equal to the reference in every digit."
    )
    differing = []
    for model in MODELS:
        found = computed(model)
        print_table(model, found)
        differing += [f"{model.title}: {text}" for text in differences(model, found)]
    print("\n" + "\n".join(differing))
    count = sum(
        k is not None for model in MODELS for column in model.known.values() for k in column
    )
    text = "parameters and flops equal the published figures in every digit"
    return print_goals([Goal(text, f"{count - len(differing)} of {count}", not differing)])


if __name__ == "__main__":
    sys.exit(main())
