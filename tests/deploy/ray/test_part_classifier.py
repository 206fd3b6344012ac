"""The actor without Ray, compared with `offramp classify`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pyarrow.parquet import read_table

from deploy.ray.batch import BatchOptions, prepare
from deploy.ray.batch_check import differences
from deploy.ray.output_folder import OutputFolder
from deploy.ray.part_classifier import Job, PartClassifier
from offramp.commands.classify import main
from offramp.errors import OfframpError
from tests.offramp.pictures import DAMAGED, files, write_files, write_parquet


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    """A folder of images, and a parquet file. One image of each is damaged."""
    write_files(tmp_path / "images", 9)
    (tmp_path / "images" / "0004.png").write_bytes(DAMAGED)
    rows = write_parquet(tmp_path / "rows.parquet", [*files(5, seed=1), DAMAGED])
    return [tmp_path / "images", rows]


@contextmanager
def classifier(job: Job) -> Iterator[PartClassifier]:
    opened = PartClassifier(job)
    try:
        yield opened
    finally:
        opened.close()


def test_rows_are_those_of_offramp_classify(
    reject_bundle: Path, sources: list[Path], tmp_path: Path
) -> None:
    out, expected = tmp_path / "out", tmp_path / "expected.parquet"
    options = BatchOptions(
        paths=sources, bundle=reject_bundle, out=out, budget="low", reject=True, part_images=4
    )
    job, plan = prepare(options)
    parts = np.array(plan.parts, np.int64)
    with classifier(job) as actor:
        reports = actor({"part": parts[:3]}), actor({"part": parts[3:]})
    assert reports[0]["part"] == [0, 1, 2]
    assert reports[0]["images"] == [4, 4, 4]
    assert reports[1]["images"] == [3]
    assert [sum(report["failed"]) for report in reports] == [1, 1]
    assert f"{tmp_path}/images/0004.png: " in reports[0]["errors"][1]
    words = [*map(str, sources), "--bundle", str(reject_bundle), "--budget", "low", "--reject"]
    assert main([*words, "-o", str(expected)]) == 0
    assert differences(read_table(expected), read_table(out)) == []


def test_a_damaged_parquet_file_is_a_problem_of_its_part_only(
    bundle: Path, sources: list[Path], tmp_path: Path
) -> None:
    options = BatchOptions(paths=sources, bundle=bundle, out=tmp_path / "out", part_images=9)
    job, plan = prepare(options)
    content = sources[1].read_bytes()
    with classifier(job) as actor:
        sources[1].write_bytes(content[:40] + bytes(400) + content[440:])
        assert "rows.parquet" in actor.classify_part(1).problem
        write_parquet(sources[1], files(2))
        assert "has fewer rows than when it was listed" in actor.classify_part(1).problem
        assert actor.classify_part(0).failed == 1
        assert OutputFolder(job.out).missing(plan) == [1]
        sources[1].write_bytes(content)
        assert actor.classify_part(1).problem == ""


def test_an_actor_with_another_bundle_stops(
    bundle: Path, sources: list[Path], tmp_path: Path
) -> None:
    job, _ = prepare(BatchOptions(paths=sources, bundle=bundle, out=tmp_path / "out"))
    with pytest.raises(OfframpError, match="differs from the bundle that the run started with"):
        PartClassifier(replace(job, graphs=("0" * 64,)))
