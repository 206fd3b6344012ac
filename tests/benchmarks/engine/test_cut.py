import numpy as np
import pytest

from benchmarks.engine.cut import BLOCKS, NATIVE, Times, goals, main
from tests.exporter.conftest import one_registry
from training.recipes import RECIPES

__all__ = ["one_registry"]


def times(chain: list[float], stages: list[list[float]], trunks: list[list[float]]) -> Times:
    whole = np.full(len(chain), 10.0)
    seconds = {BLOCKS: np.array(chain) * 2, NATIVE: np.array(chain)}
    by_stage = {BLOCKS: 2 * np.array(stages), NATIVE: np.array(stages)}
    return Times(whole, seconds, by_stage, np.array(trunks))


def test_ratios_and_times_to_exits() -> None:
    found = times([10.4, 10.3, 12.0], [[4.0, 7.0]] * 3, [[3.0, 7.0]] * 3)
    assert found.ratio(NATIVE) == 1.04
    assert found.to_exit(BLOCKS).tolist() == [8.0, 22.0]
    assert found.to_exit_without_heads().tolist() == [4.0, 10.0], "a skipped head costs nothing"


def test_the_goal_uses_the_worst_batch_size() -> None:
    good = times([10.4] * 3, [[4.0, 7.0]] * 3, [[3.0, 7.0]] * 3)
    bad = times([11.0] * 3, [[4.0, 7.0]] * 3, [[3.0, 7.0]] * 3)
    (goal,) = goals({"net": {1: good, 4: bad}})
    assert (goal.figure, goal.met) == ("1.100", False)
    assert goals({"net": {1: good}})[0].met


def test_the_command_measures_the_first_exits_of_the_shipped_network(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = RECIPES["cifar-compact"]  # whose export takes twice as long with all four exits
    fewer = recipe.model_copy(update={"shape": {**recipe.shape, "exits": 2}})
    monkeypatch.setitem(RECIPES, "cifar-compact", fewer)
    command = ["cut", "--networks", "cifar-compact", "--batches", "1", "--rounds", "1"]
    monkeypatch.setattr("sys.argv", command)
    assert main() in (0, 1)
    printed = capsys.readouterr().out
    assert "11.65" in printed, "million flops to exit 1, block by block"
    assert " 7.52" in printed, "and by need"
