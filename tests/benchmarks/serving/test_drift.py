"""Parts of the drift experiment that need no server."""

from __future__ import annotations

import io
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.serving.drift import BUDGETS, calls, corrupt, distance, highest
from deploy.check.prometheus import Series
from deploy.check.samples import BUNDLE, images
from deploy.check.traffic import Count
from offramp.bundle.manifest import read_manifest


def pixels(encoded: bytes) -> NDArray[np.float64]:
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"), dtype=float)


def test_images_are_blurred_or_noisy_in_turn() -> None:
    clean = images()[0]
    blurred, noisy = corrupt(clean, 0), corrupt(clean, 2)
    assert pixels(blurred).shape == pixels(clean).shape
    rough = [np.abs(np.diff(pixels(one), axis=0)).mean() for one in (blurred, clean, noisy)]
    assert rough == sorted(rough)
    noise = (pixels(noisy) - pixels(clean))[(pixels(clean) > 80) & (pixels(clean) < 175)]
    assert 20 < noise.std() < 30  # .1 of 255


def test_each_image_is_sent_at_each_budget() -> None:
    some = images()[:4]
    sent = [(some.index(call.image), call.query["budget"]) for call in calls(some, 8, spoil=False)]
    assert len(set(sent)) == 8
    spoilt = [call.image for call in islice(calls(some, 8, spoil=True), 8)]
    assert not set(spoilt) & set(some)


def test_exits_in_the_shares_of_the_manifest_have_distance_zero() -> None:
    manifest, count = read_manifest(BUNDLE), Count()
    for budget in BUDGETS:
        for k, share in enumerate(manifest.budgets[budget].exit_shares, 1):
            count.exits[budget, str(k)] = round(share.value * manifest.held_out.images)
    assert distance(manifest, count) < 1e-9
    count.exits["low", "1"] -= 500
    count.exits["low", "4"] += 500
    assert abs(distance(manifest, count) - 0.1) < 1e-9


def test_highest_is_the_largest_finite_value_in_an_interval() -> None:
    one = Series({}, (1.0, 2.0, 3.0, 4.0), (9.0, 0.5, float("nan"), 0.25))
    assert highest([one], 2, 4) == 0.5
