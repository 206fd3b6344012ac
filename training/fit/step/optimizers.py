"""Optimizers and the learning-rate schedule.

Muon (Jordan et al., 2024) replaces the momentum of a weight matrix by the nearest
semi-orthogonal matrix, found by a Newton-Schulz iteration. It helps short schedules most.
torch's own Muon takes matrices only. This one also takes convolutions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from training.fit.step.parameter_groups import ParameterGroup
from training.recipes import OptimizerName, Schedule

MOMENTUM = "momentum_buffer"
SECOND_BETA = 0.999  # of AdamW


def newton_schulz(matrices: Tensor, steps: int = 3) -> Tensor:
    """Bring the singular values of [..., rows, columns] close to 1.

    The quintic's coefficients trade convergence for slope at 0 (Jordan et al., 2024).
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x: Tensor = matrices / (matrices.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(Optimizer):
    """SGD with Nesterov momentum and orthogonalised updates.

    Weights are kept at a norm of sqrt(out channels). Batch norm follows them, so their scale has no
    effect, and the learning rate is about the relative change in a step.

    Args:
        params: Weights of two or more dimensions, output dimension first.
        lr: Relative size of a step.
        momentum: Decay of the running sum of gradients.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, momentum: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override] # overloaded in torch's stubs
        """Update every weight that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, group["lr"], group["momentum"])

    def _update(self, weight: Tensor, lr: float, momentum: float) -> None:
        assert weight.grad is not None
        state = self.state[weight]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        running = state["momentum_buffer"].mul_(momentum).add_(weight.grad)
        gradient = weight.grad.add(running, alpha=momentum)
        rows = len(weight)
        weight.mul_(math.sqrt(rows) / weight.norm())
        update = newton_schulz(gradient.reshape(rows, -1))
        stretch = math.sqrt(max(1, rows / update.shape[1]))
        weight.add_(update.view_as(weight), alpha=-lr * stretch)


class Optimizers:
    """All optimizers of a run.

    Args:
        groups: Parameters to update, with peak learning rate and weight decay.
        kind: `sgd`: momentum and weight decay, as in the papers. `adamw`: Adam with decoupled
            weight decay. `muon`: Muon for convolutions, SGD with Nesterov momentum for the rest,
            and weight decay for matrices alone.
        muon_lr: Peak learning rate of Muon.
        momentum: Momentum of SGD and Muon, and the first beta of AdamW.
        clip_norm: Largest norm of the gradient of all parameters together (0: no limit).
    """

    def __init__(
        self,
        groups: Sequence[ParameterGroup],
        kind: OptimizerName,
        *,
        muon_lr: float,
        momentum: float,
        clip_norm: float = 0.0,
    ) -> None:
        self._parameters = [each for group in groups for each in group.parameters]
        self._clip_norm = clip_norm
        if kind == "muon":
            self._all = _muon(groups, muon_lr, momentum)
        else:
            self._all = [_of_torch(groups, kind, momentum)]
        self._peaks = [[group["lr"] for group in o.param_groups] for o in self._all]

    def step(self, factor: float) -> None:
        """Update all parameters once, with every learning rate at `factor` of its peak.

        The gradients are scaled first if their norm is too large.
        """
        if self._clip_norm:
            nn.utils.clip_grad_norm_(self._parameters, self._clip_norm)
        for optimizer, peaks in zip(self._all, self._peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * factor
            optimizer.step()

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for optimizer in self._all:
            optimizer.zero_grad()

    def state(self) -> dict[str, Tensor]:
        """Return every tensor of state, by the position of its optimizer and weight.

        A momentum has no name of its own: `0/3`. The others have: `0/3/exp_avg`.
        """
        return {
            f"{i}/{j}" if name == MOMENTUM else f"{i}/{j}/{name}": tensor
            for i, optimizer in enumerate(self._all)
            for j, state in optimizer.state_dict()["state"].items()
            for name, tensor in state.items()
        }

    def load(self, state: dict[str, Tensor]) -> None:
        """Restore the tensors that `state` returned.

        Raises:
            KeyError: A tensor belongs to no weight.
        """
        weights = self._weights()
        for key, tensor in state.items():
            i, j, *names = key.split("/")
            optimizer, weight = weights[f"{i}/{j}"]
            name = names[0] if names else MOMENTUM
            # AdamW counts steps on the CPU, in a tensor [] for each weight
            like = torch.empty_like(weight) if tensor.ndim else torch.empty_like(tensor)
            optimizer.state[weight][name] = like.copy_(tensor)

    def _weights(self) -> dict[str, tuple[Optimizer, Tensor]]:
        """Return each weight with its optimizer, by the positions of both."""
        return {
            f"{i}/{j}": (optimizer, weight)
            for i, optimizer in enumerate(self._all)
            for j, weight in enumerate(
                w for group in optimizer.param_groups for w in group["params"]
            )
        }


def _of_torch(groups: Sequence[ParameterGroup], kind: OptimizerName, momentum: float) -> Optimizer:
    """Build SGD or AdamW."""
    dicts = [{"params": g.parameters, "lr": g.lr, "weight_decay": g.weight_decay} for g in groups]
    if kind == "sgd":
        return torch.optim.SGD(dicts, momentum=momentum)
    return torch.optim.AdamW(dicts, betas=(momentum, SECOND_BETA))


def _muon(groups: Sequence[ParameterGroup], lr: float, momentum: float) -> list[Optimizer]:
    """Build Muon for convolutions, and SGD for all else: it decays matrices alone."""
    (group,) = groups
    by_dims = [
        {
            "params": [p for p in group.parameters if p.ndim == 2],
            "weight_decay": group.weight_decay,
        },
        {"params": [p for p in group.parameters if p.ndim not in (2, 4)], "weight_decay": 0.0},
    ]
    convolutions = [p for p in group.parameters if p.ndim == 4]
    rest = torch.optim.SGD(by_dims, group.lr, momentum, nesterov=momentum > 0)
    return [rest, Muon(convolutions, lr, momentum)] if convolutions else [rest]


def lr_factor(
    schedule: Schedule, progress: float, warmup: float, milestones: Sequence[float]
) -> float:
    """Return the share of the peak learning rate at `progress` in [0, 1) of the run.

    `linear` and `cosine` fall to 0. `multistep` drops tenfold at each milestone. All rise
    linearly during `warmup`, a share of the run.
    """
    if progress < warmup:
        return 0.1 + 0.9 * progress / warmup
    if schedule == "multistep":
        return 0.1 ** sum(progress >= at for at in milestones)
    remaining = (1 - progress) / (1 - warmup)
    return remaining if schedule == "linear" else 0.5 * (1 - math.cos(math.pi * remaining))
