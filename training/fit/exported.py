"""The weights that a run exports, where they are not those that it trains.

They can be an exponential moving average over the steps, and those of the best epoch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from training.fit.checkpoint import Checkpoint, Epoch, new_network, under
from training.fit.early_stop import best_epoch
from training.fit.frozen import freeze
from training.networks.multi_exit import MultiExitNetwork
from training.recipes import Recipe

CURRENT = "current/"
AVERAGED = "averaged/"


@torch.no_grad()
def update_average(
    averaged: MultiExitNetwork, network: MultiExitNetwork, decay: float, steps: int
) -> None:
    """Move the averaged weights and running statistics towards those of the network.

    The decay rises with the number of steps to its value, so that the average soon forgets the
    first weights. Source: the `num_updates` of TensorFlow's ExponentialMovingAverage.

    Args:
        averaged: Network with the average.
        network: Network that is trained.
        decay: Share of the average that stays in a step, 0 to less than 1.
        steps: Number of steps so far.
    """
    share = 1 - min(decay, (1 + steps) / (10 + steps))
    pairs = zip(averaged.state_dict().values(), network.state_dict().values(), strict=True)
    for mean, value in pairs:
        if mean.is_floating_point():
            mean.lerp_(value, share)
        else:  # batch norm's count
            mean.copy_(value)


def on_device(network: MultiExitNetwork, device: torch.device) -> MultiExitNetwork:
    """Move a network to a device, with convolutions' weights in the order of channels last."""
    moved: MultiExitNetwork = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload] # not in torch's stubs
    return moved


class ExportedWeights:
    """The weights of a run to evaluate and to export.

    Args:
        network: Network that is trained.
        averaged: Network of the same form for the average, on the same device. `None`: no average.
        decay: Share of the average that stays in a step.
        keep_best: True to export the weights of the best epoch.
    """

    def __init__(
        self,
        network: MultiExitNetwork,
        averaged: MultiExitNetwork | None,
        decay: float,
        *,
        keep_best: bool,
    ) -> None:
        self._network, self._averaged, self._decay = network, averaged, decay
        self._keep_best = keep_best
        self._best: dict[str, Tensor] | None = None

    @property
    def networks(self) -> tuple[MultiExitNetwork, ...]:
        """Networks whose statistics differ among processes: the trained one, and the average."""
        return (self._network, self._averaged) if self._averaged else (self._network,)

    @property
    def evaluated(self) -> MultiExitNetwork:
        """Network to evaluate after an epoch."""
        return self.networks[-1]

    def after_step(self, steps: int) -> None:
        """Update the average after the step with this number."""
        if self._averaged:
            update_average(self._averaged, self._network, self._decay, steps)

    def after_epoch(self, epochs: Sequence[Epoch]) -> None:
        """Keep the weights if the last epoch is the best one."""
        if self._keep_best and best_epoch(epochs) is epochs[-1]:
            self._best = {name: t.clone() for name, t in self.evaluated.state_dict().items()}

    def weights(self) -> dict[str, Tensor]:
        """Return the weights to export, by name."""
        return self._best or self.evaluated.state_dict()

    def training_state(self) -> dict[str, Tensor]:
        """Return the weights that training needs and that are not exported."""
        state: dict[str, Tensor] = {}
        if self._averaged or self._best:
            state |= _named(CURRENT, self._network)
        if self._averaged and self._best:
            state |= _named(AVERAGED, self._averaged)
        return state

    def load(self, checkpoint: Checkpoint) -> None:
        """Restore all weights of a checkpoint.

        Raises:
            RuntimeError: They do not fit the network.
        """
        state, exported = checkpoint.training_state, checkpoint.weights
        self._network.load_state_dict(under(CURRENT, state) or exported)
        if self._averaged:
            self._averaged.load_state_dict(under(AVERAGED, state) or exported)
        self._best = exported if self._keep_best and checkpoint.progress.epochs else None


def exported_weights(recipe: Recipe, network: MultiExitNetwork, classes: int) -> ExportedWeights:
    """Build the exported weights of a run at its start.

    Args:
        recipe: Recipe of the run.
        network: Network that is trained, on the device of the run.
        classes: Number of labels.
    """
    averaged = None
    if recipe.ema:
        averaged = new_network(recipe, classes).eval()
        averaged.load_state_dict(network.state_dict())
        freeze(averaged, recipe)
        on_device(averaged, next(network.parameters()).device)
    return ExportedWeights(network, averaged, recipe.ema, keep_best=recipe.patience > 0)


def _named(prefix: str, network: MultiExitNetwork) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in network.state_dict().items()}
