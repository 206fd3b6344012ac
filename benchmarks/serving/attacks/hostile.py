"""Hostile requests among a load: images that are dear to decode, long queries and hang-ups."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from benchmarks.serving.attacks.images import attacks
from offramp.load.outcomes import HUNG_UP, NEVER, Mask, Outcomes, Plan

NAMES = 6000  # of a long query
USUAL, DEAR_IMAGE, LONG_QUERY = 0, 1, 2  # paths of a plan


@cache
def hostile_images() -> tuple[bytes, ...]:
    """Return the bodies of the attacks that send one image."""
    return tuple(images[0] for _, images in attacks() if len(images) == 1)


def with_hostile(
    plan: Plan, share: float, period: float, images: int, bodies: int, rng: np.random.Generator
) -> Plan:
    """Return a plan in which a share of the requests is hostile, in every second period.

    Each is one of `bodies + 2` kinds, in equal parts: a dear image without a deadline, a query of
    many names, a client that hangs up within its body.

    Args:
        plan: Requests of usual clients to one path, with the times at which they are due.
        share: Share of hostile requests, 0 to 1, in these periods.
        period: Seconds of a period. The first has no hostile requests.
        images: Number of usual images. The hostile bodies follow them in the generator.
        bodies: Number of hostile bodies.
        rng: Source of randomness.
    """
    assert plan.send is not None
    number = len(plan)
    hostile = (rng.random(number) < share) & (plan.send // period % 2 == 1)
    kind = np.where(hostile, rng.integers(bodies + 2, size=number), -1)
    is_image = (kind >= 0) & (kind < bodies)
    (usual,) = plan.paths
    long_query = usual + "".join(f"&a{i}=1" for i in range(NAMES))
    return replace(
        plan,
        paths=(usual, usual.partition("&deadline_ms")[0], long_query),
        path=np.select([is_image, kind == bodies], [DEAR_IMAGE, LONG_QUERY], USUAL),
        image=np.where(is_image, images + kind, plan.image),
        hang_up=np.where(kind == bodies + 1, 0.0, NEVER),
    )


def is_hostile(outcomes: Outcomes) -> Mask:
    """Return the mask [N] of the hostile requests of such a plan."""
    mask: Mask = (outcomes.path != USUAL) | (outcomes.status == HUNG_UP)
    return mask
