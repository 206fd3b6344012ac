"""Plans with hostile requests."""

from __future__ import annotations

import numpy as np

from benchmarks.serving.attacks.hostile import hostile_images, is_hostile, with_hostile
from offramp.load.outcomes import HUNG_UP, NEVER, OK, Outcomes, Plan, open_loop

IMAGES, BODIES, PERIOD = 10, 4, 100.0


def outcomes_of(plan: Plan) -> Outcomes:
    """Return outcomes in which a server answers everything at once."""
    assert plan.send is not None
    assert plan.hang_up is not None
    status = np.where(plan.hang_up < NEVER, HUNG_UP, OK)
    nothing = np.zeros(len(plan), np.int64)
    return Outcomes(
        plan.path, plan.image, plan.send, plan.send, plan.send, status, nothing, nothing, nothing,
        plan.send, nothing,
    )  # fmt: skip


def test_a_share_of_the_requests_is_hostile_in_all_kinds() -> None:
    rng = np.random.default_rng(0)
    usual = open_loop("/classify?budget=low", np.arange(20_000.0), IMAGES, rng)
    plan = with_hostile(usual, 0.05, PERIOD, IMAGES, BODIES, rng)
    mask = is_hostile(outcomes_of(plan))
    assert plan.send is not None
    assert plan.send is usual.send
    in_turn = plan.send // PERIOD % 2 == 1
    assert 0.045 < mask[in_turn].mean() < 0.055
    assert not mask[~in_turn].any()
    assert np.array_equal(plan.image[~mask], usual.image[~mask])
    assert set(plan.image[mask].tolist()) >= {IMAGES + i for i in range(BODIES)}
    assert plan.image.max() == IMAGES + BODIES - 1
    assert plan.hang_up is not None
    assert 0.1 < (plan.hang_up[mask] == 0).mean() < 0.25
    assert len(plan.paths[2]) > 40_000


def test_without_a_share_none_is_hostile() -> None:
    rng = np.random.default_rng(0)
    plan = with_hostile(
        open_loop("/classify", np.arange(9.0), IMAGES, rng), 0, PERIOD, IMAGES, BODIES, rng
    )
    assert not is_hostile(outcomes_of(plan)).any()


def test_hostile_images_are_small_to_send() -> None:
    assert all(100 < len(image) < 2_000_000 for image in hostile_images())
