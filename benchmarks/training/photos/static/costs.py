"""Flops and milliseconds of each stage of a trained network, as ONNX graphs on this machine."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from exporter.network.stage_graphs import export_stages
from exporter.network.stage_modules import split
from exporter.stages.graph import cut_by_need
from exporter.stages.times import measure_times
from training.evaluation.evaluate import Floats, Scored
from training.fit.checkpoint import load_checkpoint
from training.networks.confidence import CONFIDENCES


@dataclass(frozen=True, slots=True)
class StageCosts:
    """Costs of each stage with its head, and of its head alone, [stages] each.

    Attributes:
        flops: Multiply-adds.
        head_flops: Multiply-adds of the heads.
        ms: Milliseconds of CPU time for one image with one thread.
        head_ms: Milliseconds of the heads.
    """

    flops: Floats
    head_flops: Floats
    ms: Floats
    head_ms: Floats


@dataclass(frozen=True, slots=True)
class Answers:
    """The same answers to a set of images, with costs in flops and in milliseconds."""

    flops: Scored
    ms: Scored


def stage_costs(checkpoint: Path) -> StageCosts:
    """Export the stages of a checkpoint, and measure them."""
    # torch warns of each torchvision operator that it does not find
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    loaded = load_checkpoint(checkpoint)
    modules = split(loaded.network(), CONFIDENCES["max_softmax"])
    graphs = cut_by_need(export_stages(modules, loaded.progress.recipe.size))
    times = measure_times(graphs).stages
    ms = np.array([stage.with_head[0] for stage in times])
    trunks = np.array([stage.without_head[0] for stage in times])
    return StageCosts(
        np.array([graph.flops for graph in graphs], np.float64),
        np.array([graph.head_flops for graph in graphs], np.float64),
        ms,
        np.maximum(ms - trunks, 0),
    )


def with_costs(scored: Scored, costs: StageCosts) -> Answers:
    """Return the answers of a network with its costs. A head costs nothing where it is off."""
    return Answers(
        replace(scored, flops=np.cumsum(costs.flops), heads=costs.head_flops),
        replace(scored, flops=np.cumsum(costs.ms), heads=costs.head_ms),
    )


def joined(first: Answers, second: Answers) -> Answers:
    """Return the answers of two networks one after the other, each from the image."""
    return Answers(_joined(first.flops, second.flops), _joined(first.ms, second.ms))


def _joined(first: Scored, second: Scored) -> Scored:
    assert first.heads is not None
    assert second.heads is not None
    exits = len(first.flops)
    return Scored(
        np.concatenate([first.confidence, second.confidence]),
        np.concatenate([first.right, second.right]),
        np.concatenate([first.flops, first.flops[-1] + second.flops]),
        np.concatenate([first.heads, second.heads]),
        (*first.firsts, *(exits + start for start in second.firsts)),
    )
