"""Pseudo-labels: the predictions of a frozen network at full depth, in place of labels.

Source: Lee, "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural
Networks" (ICML 2013 workshop). Here the network that predicts them is not trained.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from training.fit.features.batches import FeatureSets, StoredSet
from training.fit.features.layout import Layout
from training.networks.multi_exit import MultiExitNetwork

AT_ONCE = 256  # images


def with_pseudo_labels(sets: FeatureSets, network: MultiExitNetwork) -> FeatureSets:
    """Return the sets with the prediction of the last exit as the label of each image.

    Args:
        sets: Features of the images.
        network: Network with the kept head, in eval mode.
    """
    return replace(
        sets,
        train=_labelled(sets.train, sets.layout, network),
        held_out=_labelled(sets.held_out, sets.layout, network),
    )


@torch.inference_mode()
def _labelled(stored: StoredSet, layout: Layout, network: MultiExitNetwork) -> StoredSet:
    head, last = network.heads[-1], len(layout.shapes) - 1
    device = next(network.parameters()).device
    found = []
    for indices in torch.arange(len(stored)).split(AT_ONCE):
        rows = stored.select(indices).pixels.to(device)
        logits = head(layout.of_exit(last, rows).to(torch.float32))
        found.append(logits.argmax(dim=1).cpu())
    return replace(stored, targets=torch.cat(found))
