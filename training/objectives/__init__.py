"""The objectives by name. To add one, add a file beside this one and a line in OBJECTIVES."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

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
from training.record import FrozenModel

__all__ = ["OBJECTIVES", "Objective", "build_objective"]


@dataclass(frozen=True, slots=True)
class ObjectiveEntry:
    """An entry of OBJECTIVES: the class of the options, and the class of the objective."""

    options: type[FrozenModel]
    build: Callable[[Any, MultiExitNetwork, float], Objective]


OBJECTIVES: Mapping[str, ObjectiveEntry] = {
    "joint": ObjectiveEntry(JointOptions, Joint),
    "equilibrium": ObjectiveEntry(EquilibriumOptions, Equilibrium),
    "distillation": ObjectiveEntry(DistillationOptions, Distillation),
    "block-dependent": ObjectiveEntry(BlockDependentOptions, BlockDependent),
    "pcgrad": ObjectiveEntry(PCGradOptions, PCGrad),
    "cagrad": ObjectiveEntry(CAGradOptions, CAGrad),
    "nash-mtl": ObjectiveEntry(NashMTLOptions, NashMTL),
    "meta-gf": ObjectiveEntry(MetaGFOptions, MetaGF),
}


def build_objective(
    name: str,
    options: Mapping[str, object],
    network: MultiExitNetwork,
    label_smoothing: float,
    weights: Tensor | None = None,
) -> Objective:
    """Build an objective for a network.

    Args:
        name: Name in OBJECTIVES.
        options: Fields of its options that differ from the defaults.
        network: Network to train.
        label_smoothing: Probability spread evenly over all labels, in [0, 1).
        weights: Weight of each class in the cross-entropies, float32 [classes]. `None`: equal.

    Raises:
        RecipeError: The objective is unknown, an option is unknown or out of range, a library that
            it needs is not installed, or it cannot measure the conflict of the network's surgery.
    """
    if name not in OBJECTIVES:
        raise RecipeError(f"objective: {name!r} is not one of {', '.join(OBJECTIVES)}")
    entry = OBJECTIVES[name]
    parsed = entry.options.parse(options, option="objective", name=name)
    objective = entry.build(parsed, network, label_smoothing)
    _check_conflict(name, objective)
    objective.class_weights = weights
    return objective


def _check_conflict(name: str, objective: Objective) -> None:
    """Check that the surgery can measure the conflict of gradients, if it does."""
    if objective.conflicts and not objective.one_backward:
        raise RecipeError(
            f"surgery_rule: conflict is measured in one backward pass, and {name} runs several; "
            "give --surgery-rule fixed, or an objective with one backward pass"
        )
