"""Give the exits of a bundle a score, and its manifest the record `reject`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from exporter.bundle import Export, stage_specs
from exporter.reject.fit import (
    CrossFit,
    Scores,
    auroc_interval,
    best_score,
    cross_fit,
    thresholds,
)
from exporter.reject.graphs import SCORES, LogitScore, with_score
from exporter.reject.photos import Photos
from exporter.stages.graph import CONFIDENCE, StageGraph
from exporter.stages.runner import Chain
from offramp.bundle.manifest import Manifest
from offramp.bundle.reject import Reject, RejectBudget, RejectExit, ScoreName
from training.evaluation.evaluate import exits_taken

DROPPED = "the new bundle rejects nothing: --reject PHOTOS fits it again"
Mask = NDArray[np.bool_]
# The same scores in torch, of logits divided by the temperature, [..., classes].
TORCH_SCORES: Mapping[LogitScore, Callable[[Tensor], Tensor]] = {
    "energy": lambda logits: logits.logsumexp(-1),
    "max_logit": lambda logits: logits.amax(-1),
}


@dataclass(frozen=True, slots=True)
class Measured:
    """Scores of two sets of images, and the confidences of both.

    Attributes:
        scores: Scores of every exit, by name of the score.
        inside: Confidence of every exit on held-out images, [exits, N].
        outside: Confidence of every exit on photos of other things, [exits, M].
    """

    scores: Mapping[ScoreName, Scores]
    inside: NDArray[np.float32]
    outside: NDArray[np.float32]


def measure(graphs: Sequence[StageGraph], held_out: Tensor, others: Tensor) -> Measured:
    """Run a chain of stages on held-out images and photos of other things.

    Args:
        graphs: The stages, without a score.
        held_out: Images of the classes, uint8 [N, H, W, 3].
        others: Photos of other things, uint8 [M, H, W, 3].
    """
    names = {kind: f"score/{kind}" for kind in SCORES}
    for kind, name in names.items():
        graphs = [with_score(graph, kind, name) for graph in graphs]
    chain, outputs = Chain(graphs), (*names.values(), CONFIDENCE)
    *inside, sure_inside = chain.outputs(held_out, outputs)
    *outside, sure_outside = chain.outputs(others, outputs)
    found = zip(names, inside, outside, strict=True)
    scores: dict[ScoreName, Scores] = {kind: Scores(one, other) for kind, one, other in found} | {
        "confidence": Scores(sure_inside, sure_outside)
    }
    return Measured(scores, sure_inside, sure_outside)


def fit_record(measured: Measured, manifest: Manifest, photos: Photos, rate: float) -> Reject:
    """Choose the best score, fit a threshold for each exit, and state what they do.

    Args:
        measured: Result of `measure`.
        manifest: Manifest with the budgets of the same graphs.
        photos: The photos of other things.
        rate: Share of the held-out images that an exit can reject.
    """
    score = best_score(measured.scores)
    scores, crossed = measured.scores[score], cross_fit(measured.scores, rate)
    fitted = thresholds(scores, rate)
    caught = scores.outside < fitted[:, None]
    return Reject(
        score=score,
        exits=_exits(fitted, crossed, caught),
        budgets=_budgets(manifest, measured, crossed.rejected, caught),
        false_reject=rate,
        images=len(photos.pixels),
        source=photos.source,
    )


def _exits(fitted: NDArray[np.floating], crossed: CrossFit, caught: Mask) -> tuple[RejectExit, ...]:
    counts = crossed.rejected.shape[1], caught.shape[1]
    return tuple(
        RejectExit(
            threshold=float(threshold),
            auroc=auroc_interval(float(area), *counts),
            false_reject=float(wrongly.mean()),
            caught=float(rightly.mean()),
        )
        for threshold, area, wrongly, rightly in zip(
            fitted, crossed.aurocs, crossed.rejected, caught, strict=True
        )
    )


def _budgets(
    manifest: Manifest, measured: Measured, rejected: Mask, caught: Mask
) -> dict[str, RejectBudget]:
    found = {}
    for name, point in manifest.budgets.items():
        leave = np.array(point.thresholds)
        inside, outside = (exits_taken(each, leave) for each in (measured.inside, measured.outside))
        found[name] = RejectBudget(
            false_reject=float(rejected[inside, np.arange(len(inside))].mean()),
            caught=float(caught[outside, np.arange(len(outside))].mean()),
        )
    return found


def add_reject(
    manifest: Manifest,
    export: Export,
    held_out: Tensor,
    photos: Photos,
    rate: float,
    log: Callable[[str], None],
) -> tuple[Manifest, Export]:
    """Return the manifest with the record `reject`, and the export with the score in its graphs.

    If the confidence is the best score, the graphs stay as they are.

    Args:
        manifest: Manifest of the export.
        export: Stages without a score.
        held_out: Images of the classes, uint8 [N, H, W, 3], that the network was not trained on.
        photos: Photos of other things.
        rate: Share of the held-out images that an exit can reject.
        log: Callback for progress messages.

    Raises:
        ExportError: The graphs have no softmax.
    """
    log(f"fitting when to reject on {len(photos.pixels):,} photos of other things")
    for reason in photos.damaged:
        log(f"left out: {reason}")
    record = fit_record(measure(export.graphs, held_out, photos.pixels), manifest, photos, rate)
    manifest = manifest.model_copy(update={"reject": record})
    if record.score == "confidence":
        return manifest, export
    scored = replace(export, graphs=[with_score(graph, record.score) for graph in export.graphs])
    return manifest.model_copy(update={"stages": stage_specs(scored)}), scored
