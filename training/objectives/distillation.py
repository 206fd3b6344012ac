"""Self-distillation: the last exit, or all exits together, teach the exits.

Source: Zhang et al., "Be Your Own Teacher" (ICCV 2019), section 3, with the constants of the
released code of the DFS paper. There the cross-entropy against the teacher's softened
probabilities is not multiplied by temperature^2, and the hint is a distance over the whole batch.

With `scaled` it is multiplied, as in Hinton et al., "Distilling the Knowledge in a Neural Network"
(2015), section 2, so that the size of the teacher's gradient does not depend on the temperature.
With `ramp` the teacher's share rises from 0, because a teacher that is not trained teaches noise.

With teacher `ensemble` the mean of all exits' logits teaches every exit, the last one included.
Source: Lee and Lee, "Students are the Best Teacher: Exit-Ensemble Distillation with Multi-Exits"
(arXiv 2104.00299).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from offramp.bounds import NonNegativeFloat, PositiveFloat
from training.errors import RecipeError
from training.networks.multi_exit import MultiExitNetwork
from training.objectives.objective import Objective
from training.record import FrozenModel
from training.surgery.feature_map import FeatureMap


class DistillationOptions(FrozenModel):
    """Weights of the teacher in the losses of the early exits."""

    share: float = Field(
        0.3, ge=0, le=1, description="share of the teacher's term in the loss of an exit it teaches"
    )
    teacher: Literal["last", "ensemble"] = Field(
        "last",
        description="the last exit, which teaches the others, or the mean of all exits' logits, "
        "which teaches all",
    )
    temperature: PositiveFloat = Field(
        3.0, description="temperature of teacher and early exit in the teacher's term"
    )
    hint: NonNegativeFloat = Field(
        0.03, description="weight of the distance to the last exit's features (0: no hint)"
    )
    hint_per_image: bool = Field(
        default=False,
        description="average the hint's distance over images, instead of one distance of the batch",
    )
    scaled: bool = Field(default=False, description="multiply the teacher's term by temperature^2")
    ramp: float = Field(
        0.0,
        ge=0,
        le=1,
        description="fraction of the run in which the teacher's share rises from 0, 0 to 1",
    )


class Distillation(Objective):
    """Losses (1 - share) * CE + share * KD + hint * |A(h) - h_last|, and CE for the last exit.

    With teacher `ensemble` the last exit has the loss (1 - share) * CE + share * KD.

    h is the input [N, width] of an exit's linear layer, before a dropout in front of it. A is a
    linear layer for each early exit. It is trained with the network and not exported.

    KD is the cross-entropy against the teacher's softened probabilities, times temperature^2 with
    `scaled`. No gradient reaches the teacher through it.

    With a hint, forward hooks on the heads read h. They change no value and no gradient.

    Raises:
        RecipeError: There is a hint, and a head has no linear layer.
    """

    risen: Tensor

    def __init__(
        self, options: DistillationOptions, network: MultiExitNetwork, label_smoothing: float
    ) -> None:
        super().__init__(network, label_smoothing)
        self.options = options
        # a tensor, so that a compiled step is not compiled again when it changes
        self.register_buffer("risen", torch.zeros(()), persistent=False)
        self._linear_inputs: list[Tensor | None] = [None] * self.exits
        self.adapters = nn.ModuleList()
        if options.hint and self.exits > 1:
            self._add_hint(network)

    def _add_hint(self, network: MultiExitNetwork) -> None:
        *early, last = (_last_linear(head, k) for k, head in enumerate(network.heads, 1))
        for linear in early:
            self.adapters.append(nn.Linear(linear.in_features, last.in_features))
        for k, (head, linear) in enumerate(zip(network.heads, [*early, last], strict=True)):
            _first_reader(head, linear).register_forward_pre_hook(self._input_hook(k))

    def forward(self, logits: Sequence[Tensor], targets: Tensor) -> Tensor:
        """See Objective."""
        losses = self.cross_entropies(logits, targets)
        share = self._share()
        taught, teacher = self._teacher(logits)
        if not taught:  # a single exit
            return losses
        distilled = torch.stack([self._divergence(one, teacher) for one in logits[:taught]])
        mixed = torch.cat([(1 - share) * losses[:taught] + share * distilled, losses[taught:]])
        if len(self.adapters):
            hinted = mixed[:-1] + self.options.hint * self.distances()
            mixed = torch.cat([hinted, mixed[-1:]])
        return mixed

    def _teacher(self, logits: Sequence[Tensor]) -> tuple[int, Tensor]:
        """Return the number of exits that are taught, and the probabilities that teach them."""
        taught, teacher = self.exits - 1, logits[-1].detach().float()
        if self.options.teacher == "ensemble":
            taught, teacher = self.exits, torch.stack(list(logits)).detach().float().mean(dim=0)
        return taught, (teacher / self.options.temperature).softmax(dim=1)

    def start_step(self, share_done: float) -> None:
        """See Objective."""
        if self.options.ramp:
            self.risen.fill_(min(1.0, share_done / self.options.ramp))

    def _share(self) -> float | Tensor:
        """Return the teacher's share in this step."""
        return self.options.share * self.risen if self.options.ramp else self.options.share

    def _divergence(self, logits: Tensor, teacher: Tensor) -> Tensor:
        temperature = self.options.temperature
        found = F.cross_entropy(logits.float() / temperature, teacher)
        return found * temperature**2 if self.options.scaled else found

    def distances(self) -> Tensor:
        """Compute |A(h) - h_last| of each early exit in the last forward pass, [exits - 1].

        It is one distance of the whole batch, or the mean of those of the images.
        """
        inputs = [one for one in self._linear_inputs if one is not None]
        assert len(inputs) == self.exits
        last = inputs[-1].detach().float()
        pairs = zip(self.adapters, inputs[:-1], strict=True)
        apart = [adapt(h).float() - last for adapt, h in pairs]
        if self.options.hint_per_image:
            return torch.stack([one.norm(dim=1).mean() for one in apart])
        return torch.stack([one.norm() for one in apart])

    def _input_hook(self, k: int) -> Callable[[nn.Module, tuple[Tensor | FeatureMap]], None]:
        def hook(_module: nn.Module, args: tuple[Tensor | FeatureMap]) -> None:
            (h,) = args
            self._linear_inputs[k] = h.masked() if isinstance(h, FeatureMap) else h

        return hook


def _first_reader(head: nn.Module, linear: nn.Linear) -> nn.Module:
    """Return the first module that reads h: the last linear layer, or the dropout before it."""
    leaves = [module for module in head.modules() if not list(module.children())]
    place = leaves.index(linear)
    before = leaves[place - 1] if place else None
    return before if isinstance(before, nn.Dropout) else linear


def _last_linear(head: nn.Module, k: int) -> nn.Linear:
    linears = [module for module in head.modules() if isinstance(module, nn.Linear)]
    if not linears:
        raise RecipeError(f"objective.hint: the head of exit {k} has no linear layer; give 0")
    return linears[-1]
