"""A feature map of which some channels are stopped.

A FeatureMap stands in for a tensor wherever torch takes one (the `__torch_function__`
protocol), so networks are written as ever. `F.conv2d` and `F.linear` skip what is stopped (see
`skipping`), concatenation of channels and means over the image remember it, and whatever else
reads a map gets it masked: right, but with nothing saved. Of a tensor's own methods a map has
`mean` alone, so what meets one is written `torch.flatten(x, 1)`, not `x.flatten(1)`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from training.surgery.gradient_views import Span, cut, means, stop
from training.surgery.partial_backward import Convolution, Linear, Live, read

Run = Tensor | int


@dataclass(frozen=True, slots=True, eq=False)
class FeatureMap:
    """Channels, live and stopped.

    Args:
        values: what readers see, [N, C, ...]; takes no gradient itself.
        runs: the channels in order: neighbours that are live as the tensor [N, width, ...] that
            takes their gradient, neighbours that are stopped as their number.
    """

    values: Tensor
    runs: tuple[Run, ...]

    @property
    def shape(self) -> torch.Size:
        """[N, C, ...]."""
        return self.values.shape

    def mean(self, *args: Any, **kwargs: Any) -> Tensor | FeatureMap:  # noqa: ANN401
        """`torch.mean`: a map of means unless it is over the channels."""
        made: Tensor | FeatureMap = torch.mean(self, *args, **kwargs)  # type: ignore[call-overload] # takes what mean does
        return made

    @property
    def spans(self) -> tuple[Span, ...]:
        """First channel and end of each run."""
        ends = tuple(accumulate(_width(run) for run in self.runs))
        return tuple(zip((0, *ends), ends, strict=False))

    def live(self) -> Live:
        """The live channels alone."""
        found = [
            (span, run)
            for span, run in zip(self.spans, self.runs, strict=True)
            if isinstance(run, Tensor)
        ]
        return Live(tuple(span for span, _ in found), tuple(run for _, run in found))

    def masked(self) -> Tensor:
        """A plain tensor of the same values, [N, C, ...], that stops the same channels."""
        live = self.live()
        return stop(self.values, live.spans, live.tensors)

    def zeroed(self, start: int, end: int) -> FeatureMap:
        """The same map with zeros for the values of its stopped channels `start` to `end`."""
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
    ) -> Any:  # noqa: ANN401 (whatever func returns)
        """`func` with maps among its arguments."""
        reader = _READERS.get(func)
        named = kwargs or {}
        made = reader(*args, **named) if reader else None
        if made is None:
            return func(*_plain(args), **{name: _plain(v) for name, v in named.items()})
        return made


class Parts(NamedTuple):
    """Features thrice: as they came, live in the first channels alone, and in the rest alone."""

    whole: Tensor | FeatureMap
    first: Tensor | FeatureMap
    rest: Tensor | FeatureMap


def part(features: Tensor | FeatureMap, k: int) -> Parts:
    """Part features [N, C, ...] at channel k.

    Values stay, and so does what is stopped in `features`. Who reads `whole` rather than
    `features` saves the backward pass an addition.
    """
    channels, given = features.shape[1], _as_map(features)
    pieces = [_cut(run, k - start) for (start, _), run in zip(given.spans, given.runs, strict=True)]
    whole, first, rest = ([run for piece in pieces for run in piece[i]] for i in range(3))
    return Parts(
        _of_runs(given.values, whole),
        _of_runs(given.values, [*first, channels - k]),
        _of_runs(given.values, [k, *rest]),
    )


def _of_runs(values: Tensor, runs: Sequence[Run]) -> Tensor | FeatureMap:
    """A map, or the tensor itself where all of its channels are live."""
    match _merged(runs):
        case (Tensor() as alone,):
            return alone
        case merged:
            return FeatureMap(values, merged)


def _as_map(features: Tensor | FeatureMap) -> FeatureMap:
    if isinstance(features, FeatureMap):
        return features
    return FeatureMap(features.detach(), (features,))


def _plain(argument: Any) -> Any:  # noqa: ANN401 (any argument of a torch function)
    if isinstance(argument, FeatureMap):
        return argument.masked()
    if isinstance(argument, list | tuple):
        return type(argument)(_plain(item) for item in argument)
    return argument


def _width(run: Run) -> int:
    return run if isinstance(run, int) else run.shape[1]


def _cut(run: Run, k: int) -> tuple[Sequence[Run], Sequence[Run], Sequence[Run]]:
    """A run, what of it is before its channel k, and what is not."""
    width = _width(run)
    if k <= 0:
        return (run,), (), (run,)
    if k >= width:
        return (run,), (run,), ()
    if isinstance(run, int):
        return (run,), (k,), (width - k,)
    whole, first, rest = cut(run, k)
    return (whole,), (first,), (rest,)


def _merged(runs: Sequence[Run]) -> tuple[Run, ...]:
    """The same runs without empty ones, and with neighbours that are stopped as one."""
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
    input: FeatureMap,  # noqa: A002 (torch's name, which a caller may use)
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
    return read(layer, input.values, input.live(), weight, bias)


def _pair(number: Sequence[int] | int) -> tuple[int, int]:
    height, width = (number, number) if isinstance(number, int) else number
    return height, width


def _linear(
    input: FeatureMap,  # noqa: A002
    weight: Tensor,
    bias: Tensor | None = None,
) -> Tensor | None:
    if len(input.shape) != 2:
        return None  # the last dimension, which it reads, is not the channels
    return read(Linear(), input.values, input.live(), weight, bias)


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


# Readers that know of stopped channels; they give None where they cannot make use of it.
_READERS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.cat: _cat,
    F.conv2d: _conv2d,
    F.linear: _linear,
    torch.mean: _mean,
}
