"""The objectives by name. A new one is a file beside this one and a line in OBJECTIVES."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from training.errors import RecipeError
from training.networks.multi_exit import MultiExitNetwork
from training.objectives.block_dependent import BlockDependent, BlockDependentOptions
from training.objectives.combined import (
    CAGrad,
    CAGradOptions,
    NashMTL,
    NashMTLOptions,
    PCGrad,
    PCGradOptions,
)
from training.objectives.distillation import Distillation, DistillationOptions
from training.objectives.equilibrium import Equilibrium, EquilibriumOptions
from training.objectives.joint import Joint, JointOptions
from training.objectives.meta_gf import MetaGF, MetaGFOptions
from training.objectives.objective import Objective
from training.record import Record

__all__ = ["OBJECTIVES", "Objective", "build_objective"]


@dataclass(frozen=True, slots=True)
class Kind:
    """An objective: the record of its options, and what builds it."""

    options: type[Record]
    build: Callable[[Any, MultiExitNetwork, float], Objective]


OBJECTIVES: Mapping[str, Kind] = {
    "joint": Kind(JointOptions, Joint),
    "equilibrium": Kind(EquilibriumOptions, Equilibrium),
    "distillation": Kind(DistillationOptions, Distillation),
    "block-dependent": Kind(BlockDependentOptions, BlockDependent),
    "pcgrad": Kind(PCGradOptions, PCGrad),
    "cagrad": Kind(CAGradOptions, CAGrad),
    "nash-mtl": Kind(NashMTLOptions, NashMTL),
    "meta-gf": Kind(MetaGFOptions, MetaGF),
}


def build_objective(
    name: str, options: Mapping[str, object], network: MultiExitNetwork, label_smoothing: float
) -> Objective:
    """Build an objective and hook it into the network.

    Args:
        name: a name in OBJECTIVES.
        options: fields of its options that differ from the defaults.
        network: what it trains.
        label_smoothing: mass spread evenly over all labels, in [0, 1).

    Raises:
        RecipeError: no such objective, an option is unknown or out of range, or a library that
            it needs is not installed.
    """
    if name not in OBJECTIVES:
        raise RecipeError(f"objective: {name!r} is not one of {', '.join(OBJECTIVES)}")
    kind = OBJECTIVES[name]
    return kind.build(kind.options.of(options, "objective", name), network, label_smoothing)
