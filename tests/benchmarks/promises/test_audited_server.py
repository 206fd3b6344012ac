from __future__ import annotations

import csv

from benchmarks.promises.audit import MOST_RUNS
from benchmarks.promises.audited_server import KIND
from tests.docs.documents import ROOT


def test_the_corrupted_images_break_each_promise_soon_in_most_runs() -> None:
    with (ROOT / "docs" / "results" / "audit.csv").open(encoding="utf-8") as file:
        soon = [float(row["soon"]) for row in csv.DictReader(file) if row["images"] == KIND]
    assert len(soon) == 3
    assert min(soon) >= MOST_RUNS
