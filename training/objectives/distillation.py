"""Self-distillation: the last exit teaches the others.

Source: Zhang et al., "Be Your Own Teacher" (ICCV 2019), section 3, with the constants of the
DFS paper's released code: the cross-entropy against the teacher's softened probabilities is
not multiplied by temperature^2, and the hint is the distance over the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor, nn

from training.networks.multi_exit import MultiExitNetwork
from training.objectives.objective import Objective
from training.record import Record
from training.surgery.feature_map import FeatureMap


class DistillationOptions(Record):
    """How much the last exit's word counts."""

    share: float = Field(
        0.3, ge=0, le=1, description="of an early exit's loss that is against the teacher"
    )
    temperature: PositiveFloat = Field(3.0, description="that softens both in that part")
    hint: NonNegativeFloat = Field(
        0.03, description="weight of the distance to the teacher's features (0: without)"
    )


class Distillation(Objective):
    """Early exit: (1 - share) * CE + share * KD + hint * |A(h) - h_last|; last exit: CE.

    h is what an exit's linear layer reads, [N, width], before the dropout that may precede it; A
    is a linear layer for each early exit, trained along and thrown away.
    """

    def __init__(
        self, options: DistillationOptions, network: MultiExitNetwork, label_smoothing: float
    ) -> None:
        super().__init__(network, label_smoothing)
        self.options = options
        self._read: list[Tensor | None] = [None] * self.exits
        readers = [_last_linear(head) for head in network.heads]
        hinted = readers[:-1] if options.hint else []
        width = readers[-1].in_features
        self.adapters = nn.ModuleList(nn.Linear(one.in_features, width) for one in hinted)
        for k, head in enumerate(network.heads if hinted else []):
            _first_reader(head).register_forward_pre_hook(self._keeper(k))

    def forward(self, logits: Sequence[Tensor], targets: Tensor) -> Tensor:
        """See Objective."""
        losses = self.cross_entropies(logits, targets)
        share = self.options.share
        teacher = (logits[-1].detach().float() / self.options.temperature).softmax(dim=1)
        taught = torch.stack([self._divergence(one, teacher) for one in logits[:-1]])
        early = (1 - share) * losses[:-1] + share * taught
        if len(self.adapters):
            early = early + self.options.hint * self._distances()
        return torch.cat([early, losses[-1:]])

    def _divergence(self, logits: Tensor, teacher: Tensor) -> Tensor:
        return F.cross_entropy(logits.float() / self.options.temperature, teacher)

    def _distances(self) -> Tensor:
        kept = [one for one in self._read if one is not None]
        assert len(kept) == self.exits
        last = kept[-1].detach().float()
        pairs = zip(self.adapters, kept[:-1], strict=True)
        return torch.stack([(adapt(read).float() - last).norm() for adapt, read in pairs])

    def _keeper(self, k: int) -> Callable[[nn.Module, tuple[Tensor | FeatureMap]], None]:
        def keep(_module: nn.Module, given: tuple[Tensor | FeatureMap]) -> None:
            (read,) = given
            self._read[k] = read.masked() if isinstance(read, FeatureMap) else read

        return keep


def _first_reader(head: nn.Module) -> nn.Module:
    """What first reads the features: the last linear layer, or the dropout right before it."""
    leaves = [module for module in head.modules() if not list(module.children())]
    linear = leaves.index(_last_linear(head))
    before = leaves[linear - 1] if linear else None
    return before if isinstance(before, nn.Dropout) else leaves[linear]


def _last_linear(head: nn.Module) -> nn.Linear:
    *_, last = (module for module in head.modules() if isinstance(module, nn.Linear))
    return last
