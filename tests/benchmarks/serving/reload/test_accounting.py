from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.serving.reload.accounting import main
from tests.serving.small_bundle import write_bundle


def test_every_request_over_three_models_is_accounted_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundles = [write_bundle(tmp_path / str(seed), seed) for seed in (7, 8)]
    main(["--bundle", str(bundles[0]), "--other", str(bundles[1]), "--calls", "150",
          "--part", "150", "--rate", "200", "--workers", "1"])  # fmt: skip
    printed = capsys.readouterr().out
    for goal in (
        "every change ends as it has to",
        "clients and metrics count the same",
        "requests for versions that are not loaded are all counted",
        "slots in use, queue after each part: 0",
        "answers equal the evaluation of the version that they name: 0 of",
    ):
        assert f"met      {goal}" in printed, printed
