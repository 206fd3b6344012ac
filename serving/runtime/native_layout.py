"""Stages in the layout that ONNX Runtime computes in on this CPU.

On a CPU, ONNX Runtime keeps the channels of an image in blocks as wide as the vector registers
(NCHWc). If a bundle's graphs are optimised one by one, features change into that layout and back
at every stage boundary. Here all graphs are joined, optimised as one, and cut again, so that
features stay in blocks. This happens on the serving machine at every start, in less than a second.

In either layout there is one more graph, for requests that evaluate the last exit only:
the whole network without its earlier heads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from offramp.bundle.graphs import exit_outputs, join, without_head
from offramp.bundle.manifest import TensorSpec, first_stages
from serving.runtime.base import Tensors
from serving.runtime.native_network import NOISE, LayoutError, optimise_network
from serving.runtime.ready_graphs import ReadyGraphs
from serving.runtime.session import open_session, providers_of
from serving.runtime.stage import Loaded, Stage, Stages, exit_probabilities

TOLERANCE = 1e-5  # of a probability; 0 on all machines tried so far
log = logging.getLogger(__name__)
Probabilities = Sequence[NDArray[np.float32]]


def portable_stages(loaded: Sequence[Loaded]) -> Stages:
    """Return the stages as they are, and the whole network as one graph."""
    stages = [each.with_trunk() for each in loaded]
    names, last = stages[0].exit, networks(loaded)[-1]
    images = _noise(stages)

    def whole_network() -> Stage:
        outputs = exit_outputs(len(last), names)[-1]
        graph = without_head(join([each.model for each in last], names), outputs)
        session = open_session(Path("all stages"), graph, providers_of("cpu", 0))
        return Stage(session, None, stages[0].inputs, (), outputs)

    def last_exit() -> Probabilities:
        return exit_probabilities(stages, images)[-1:]

    made = None if len(last) == 1 else _whole_network(whole_network, last_exit, images)
    return Stages(stages, made)


def networks(loaded: Sequence[Loaded]) -> list[Sequence[Loaded]]:
    """Return the stages of each network: of a cascade several, otherwise one."""
    stages = [each.stage for each in loaded]
    firsts = first_stages([each.inputs for each in stages], [each.features for each in stages])
    return [loaded[start:end] for start, end in pairwise([*firsts, len(loaded)])]


def optimize_stages(
    loaded: Sequence[Loaded], like: Stages | None = None
) -> tuple[Stages, ReadyGraphs]:
    """Optimise stages together for this CPU.

    All sessions of a network use the same weights. The networks of a cascade are optimised one by
    one. Together, they would hand values on that each can compute from the image.

    Args:
        loaded: All stages of a bundle, on the CPU.
        like: Stages of graphs with other weights, whose features have the same shapes.

    Returns:
        The stages, and the whole network as one graph. Then the graphs that they run.

    Raises:
        LayoutError: Their outputs differ from those of the portable stages.
        CutError, OSError, ValueError: The stages cannot be made.
    """
    portable = [each.stage for each in loaded]
    images = _noise(portable)
    known = {} if like is None else _specs_of(like)
    optimised = [
        optimise_network(each, images, k, known) for k, each in enumerate(networks(loaded))
    ]
    *others, last = optimised
    stages = ReadyGraphs([*others, replace(last, whole=None)]).open()
    found = exit_probabilities(stages.each, images)
    _check_equal(found, exit_probabilities(portable, images))
    if (whole := last.whole) is None:
        return stages, ReadyGraphs(optimised)
    weights = dict(zip(last.weights, stages.each[-1].weights, strict=True))
    whole_network = _whole_network(lambda: whole.open(weights), lambda: found[-1:], images)
    if whole_network is None:
        last = replace(last, whole=None)
    return replace(stages, whole_network=whole_network), ReadyGraphs([*others, last])


def _whole_network(
    make: Callable[[], Stage], last_exit: Callable[[], Probabilities], images: Tensors
) -> Stage | None:
    """Return all stages as one graph, or `None` if it is not available or has other outputs."""
    try:
        whole_network = make()
        _check_equal(exit_probabilities([whole_network], images), last_exit())
    except Exception as error:  # noqa: BLE001 (after any error the stages still work)
        log.warning("all stages in one graph are not available, they run one by one: %s", error)
        return None
    return whole_network


def _noise(stages: Sequence[Stage]) -> Tensors:
    (image,) = stages[0].inputs
    rng = np.random.default_rng(0)
    return {image.name: rng.integers(0, 256, (NOISE, *image.shape), dtype=np.uint8)}


def _specs_of(stages: Stages) -> dict[str, TensorSpec]:
    return {spec.name: spec for stage in stages.each for spec in stage.features}


def _check_equal(found: Probabilities, expected: Probabilities) -> None:
    """Raise LayoutError if probabilities differ by more than the tolerance."""
    for k, (one, other) in enumerate(zip(found, expected, strict=True), 1):
        difference = float(np.abs(one - other).max())
        if not difference <= TOLERANCE:  # in this form NaN fails too
            raise LayoutError(f"exit {k} differs by {difference:.1e}")
