"""A feature map in which the gradient of some channels is stopped.

A FeatureMap takes the place of a tensor in torch's functions (the `__torch_function__`
protocol), so networks need no special code. `F.conv2d` and `F.linear` skip stopped channels (see
`partial_backward`). Concatenation of channels and means over the image keep track of them. Every
other function gets a masked tensor: the result is correct, but no work is saved. The only tensor
method of a map is `mean`, so a layer that can read one calls `torch.flatten(x, 1)`, not
`x.flatten(1)`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from training.surgery.gradient_views import Span, means, split_views, stop_gradient
from training.surgery.partial_backward import Convolution, Linear, LiveChannels, apply_layer

Run = Tensor | int


@dataclass(frozen=True, slots=True, eq=False)
class FeatureMap:
    """Features with live channels, which take a gradient, and stopped channels, which do not.

    Args:
        values: Values of all channels, [N, C, ...], detached.
        runs: Runs of neighbouring channels, in order. A live run is the tensor [N, width, ...]
            that takes its gradient. A stopped run is its number of channels.
    """

    values: Tensor
    runs: tuple[Run, ...]

    @property
    def shape(self) -> torch.Size:
        """Shape of the values, [N, C, ...]."""
        return self.values.shape

    def mean(self, *args: Any, **kwargs: Any) -> Tensor | FeatureMap:  # noqa: ANN401
        """Call `torch.mean`. The result is a map unless the mean is over channels or images."""
        made: Tensor | FeatureMap = torch.mean(self, *args, **kwargs)  # type: ignore[call-overload] # the arguments of torch.mean
        return made

    @property
    def spans(self) -> tuple[Span, ...]:
        """First channel and end of each run, end excluded."""
        ends = tuple(accumulate(_width(run) for run in self.runs))
        return tuple(zip((0, *ends), ends, strict=False))

    def live(self) -> LiveChannels:
        """Return the live channels alone."""
        found = [
            (span, run)
            for span, run in zip(self.spans, self.runs, strict=True)
            if isinstance(run, Tensor)
        ]
        return LiveChannels(tuple(span for span, _ in found), tuple(run for _, run in found))

    def masked(self) -> Tensor:
        """Return a plain tensor [N, C, ...] of the same values that stops the same channels."""
        live = self.live()
        return stop_gradient(self.values, live.spans, live.tensors)

    def zeroed(self, start: int, end: int) -> FeatureMap:
        """Return the map with 0 for the values of the stopped channels `start` to `end`."""
        values = torch.empty_like(self.values)
        values[:, :start], values[:, end:] = self.values[:, :start], self.values[:, end:]
        values[:, start:end] = 0
        return FeatureMap(values, self.runs)

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        _types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 (the result of any torch function)
        """Call `func`, which has maps among its arguments."""
        reader = _READERS.get(func)
        named = kwargs or {}
        made = reader(*args, **named) if reader else None
        if made is None:
            return func(*_plain(args), **{name: _plain(v) for name, v in named.items()})
        return made


class ChannelSplit(NamedTuple):
    """The same features three times: unchanged, only the first channels live, only the rest."""

    whole: Tensor | FeatureMap
    first: Tensor | FeatureMap
    rest: Tensor | FeatureMap


def split_channels(features: Tensor | FeatureMap, k: int) -> ChannelSplit:
    """Split features [N, C, ...] at channel k.

    Values do not change, and channels that are stopped in `features` stay stopped. Reading `whole`
    in place of `features` saves an addition in the backward pass.
    """
    channels, given = features.shape[1], _as_map(features)
    pieces = [
        _split_run(run, k - start) for (start, _), run in zip(given.spans, given.runs, strict=True)
    ]
    whole, first, rest = ([run for piece in pieces for run in piece[i]] for i in range(3))
    return ChannelSplit(
        _from_runs(given.values, whole),
        _from_runs(given.values, [*first, channels - k]),
        _from_runs(given.values, [k, *rest]),
    )


def _from_runs(values: Tensor, runs: Sequence[Run]) -> Tensor | FeatureMap:
    """Return a map, or the tensor itself where all of its channels are live."""
    match _merged(runs):
        case (Tensor() as alone,):
            return alone
        case merged:
            return FeatureMap(values, merged)


def _as_map(features: Tensor | FeatureMap) -> FeatureMap:
    if isinstance(features, FeatureMap):
        return features
    return FeatureMap(features.detach(), (features,))


def _plain(argument: Any) -> Any:  # noqa: ANN401 (an argument of any torch function)
    if isinstance(argument, FeatureMap):
        return argument.masked()
    if isinstance(argument, list | tuple):
        return type(argument)(_plain(item) for item in argument)
    return argument


def _width(run: Run) -> int:
    return run if isinstance(run, int) else run.shape[1]


def _split_run(run: Run, k: int) -> tuple[Sequence[Run], Sequence[Run], Sequence[Run]]:
    """Return a run, its part before channel k, and its part from channel k on."""
    width = _width(run)
    if k <= 0:
        return (run,), (), (run,)
    if k >= width:
        return (run,), (run,), ()
    if isinstance(run, int):
        return (run,), (k,), (width - k,)
    whole, first, rest = split_views(run, k)
    return (whole,), (first,), (rest,)


def _merged(runs: Sequence[Run]) -> tuple[Run, ...]:
    """Drop empty runs and join stopped neighbours."""
    merged: list[Run] = []
    for run in runs:
        if isinstance(run, Tensor):
            merged.append(run)
        elif merged and isinstance(merged[-1], int):
            merged[-1] += run
        elif run:
            merged.append(run)
    return tuple(merged)


def _cat(
    tensors: Sequence[Tensor | FeatureMap],
    dim: int = 0,
    **other: Any,  # noqa: ANN401
) -> FeatureMap | None:
    maps = [_as_map(tensor) for tensor in tensors]
    if other or dim not in (1, 1 - len(maps[0].shape)):
        return None
    values = torch.cat([one.values for one in maps], dim=1)
    return FeatureMap(values, _merged([run for one in maps for run in one.runs]))


def _conv2d(
    input: FeatureMap,  # noqa: A002 (torch's name, which a caller can use)
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] | int = 1,
    padding: Sequence[int] | int | str = 0,
    dilation: Sequence[int] | int = 1,
    groups: int = 1,
) -> Tensor | None:
    if groups != 1 or isinstance(padding, str):
        return None
    layer = Convolution(_pair(stride), _pair(padding), _pair(dilation))
    return apply_layer(layer, input.values, input.live(), weight, bias)


def _pair(number: Sequence[int] | int) -> tuple[int, int]:
    height, width = (number, number) if isinstance(number, int) else number
    return height, width


def _linear(
    input: FeatureMap,  # noqa: A002
    weight: Tensor,
    bias: Tensor | None = None,
) -> Tensor | None:
    if len(input.shape) != 2:
        return None  # a linear layer reads the last dimension, which is not the channels here
    return apply_layer(Linear(), input.values, input.live(), weight, bias)


def _mean(
    input: FeatureMap,  # noqa: A002
    dim: Sequence[int] | int | None = None,
    **other: Any,  # noqa: ANN401
) -> FeatureMap | None:
    dims = (dim,) if isinstance(dim, int) else tuple(dim or ())
    if other or not dims or min(d % len(input.shape) for d in dims) < 2:
        return None
    values, live = input.values.mean(dims), input.live()
    found = iter(means(values, live.spans, live.tensors, dims))
    runs = tuple(run if isinstance(run, int) else next(found) for run in input.runs)
    return FeatureMap(values, runs)


# Functions that handle stopped channels. They return None for arguments that they do not support.
_READERS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.cat: _cat,
    F.conv2d: _conv2d,
    F.linear: _linear,
    torch.mean: _mean,
}
