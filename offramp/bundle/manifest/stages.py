"""The stages of a bundle: their tensors, costs, and which of them run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from offramp.bundle.values import Estimate, FrozenRecord


class TensorSpec(FrozenRecord):
    """A tensor of a stage graph. `shape` is without the batch axis."""

    name: str = Field(min_length=1)
    dtype: Literal["uint8", "float32", "float16"]
    shape: tuple[Annotated[int, Field(gt=0)], ...]

    @property
    def nbytes(self) -> int:
        """Return the bytes of one request's tensor."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


class StageSpec(FrozenRecord):
    """A stage: its graph, and the cost and accuracy of its exit.

    A stage reads the image, or features of any earlier stages. Each part of the network is in the
    first stage with an exit that needs it. Beside its features the graph has the outputs
    `probabilities` [N, classes], `confidence` [N] and, if `reject` needs it, `score` [N]. The head
    is the part that only this exit needs. A stage without features, as the last one, is all head.
    Stages that share no features are different networks of a cascade.
    """

    file: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*\.onnx$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    inputs: tuple[TensorSpec, ...] = Field(min_length=1)
    features: tuple[TensorSpec, ...]
    flops: int = Field(gt=0, description="of this stage with its head")
    head_flops: int = Field(
        ge=0, description="of its head, which does not run if no request needs this exit"
    )
    flops_to_exit: int = Field(gt=0, description="of all stages up to here with their heads")
    blockwise_flops_to_exit: int = Field(
        gt=0,
        description="the papers' count, in which a stage is whole blocks; not the flops that run",
    )
    parameters: int = Field(ge=0)
    temperature: float = Field(gt=0)
    accuracy: Estimate


Specs = Sequence[Sequence[TensorSpec]]


def first_stages(inputs: Specs, features: Specs) -> tuple[int, ...]:
    """Return the first stage of each network, from 0: of a cascade several, otherwise one.

    No stage from there on reads a feature of a stage before.

    Args:
        inputs: Tensors that each stage reads.
        features: Tensors that each stage gives to later ones.
    """
    maker = {spec.name: k for k, specs in enumerate(features) for spec in specs}
    inside: set[int] = set()
    for k, specs in enumerate(inputs):
        for spec in specs:
            inside.update(range(maker.get(spec.name, k) + 1, k + 1))
    return tuple(k for k in range(len(inputs)) if k not in inside)


def stages_run(firsts: Sequence[int], evaluated: Sequence[bool]) -> tuple[bool, ...]:
    """Return for each stage whether it runs: its exit or a later one of its network is evaluated.

    Args:
        firsts: The result of `first_stages`.
        evaluated: For each exit, whether it is evaluated.
    """
    run: list[bool] = []
    for k in reversed(range(len(evaluated))):
        later = bool(run) and run[-1] and k + 1 not in firsts
        run.append(evaluated[k] or later)
    return tuple(reversed(run))
