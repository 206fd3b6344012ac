from __future__ import annotations

import pytest

from offramp.bundle.manifest import TensorSpec, first_stages, stages_run


def test_a_stage_that_no_later_one_needs_features_before_begins_a_network() -> None:
    image, a, b, c = (TensorSpec(name=name, dtype="uint8", shape=(1,)) for name in "iabc")
    inputs = [[image], [a], [image], [image], [b, image], [c]]
    assert first_stages(inputs, [[a], [], [], [b], [c], []]) == (0, 2, 3)
    assert first_stages(inputs, [[a, b], [], [], [], [c], []]) == (0,)


@pytest.mark.parametrize(
    ("evaluated", "run"),
    [
        ("0001", "0001"),
        ("1001", "1001"),
        ("0011", "0111"),
        ("0101", "0101"),
        ("001", "011"),
        ("1", "1"),
    ],
)
def test_a_stage_runs_if_its_exit_or_a_later_one_of_its_network_is_evaluated(
    evaluated: str, run: str
) -> None:
    asked = [letter == "1" for letter in evaluated]
    assert "".join("01"[each] for each in stages_run((0, 1, 3), asked)) == run
