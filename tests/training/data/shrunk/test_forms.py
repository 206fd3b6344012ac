from __future__ import annotations

from training.data.shrunk.forms import stored_side


def test_the_stored_side_allows_the_narrowest_part_at_full_resolution() -> None:
    side = stored_side(224, 0.7)
    assert side == 308
    narrowest = side * (0.7 * 3 / 4) ** 0.5
    assert 223 < narrowest < 225
